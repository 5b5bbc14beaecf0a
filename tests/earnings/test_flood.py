"""However many ask a hub: it seals, grants leases and answers probes. Held connections stand for slow requests, so nothing rests on time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from domain import errors, wire
from earnings import book, leases, limits, queries
from earnings.web import api, guard
from kit import places, runtime
from tests import certificates
from tests.earnings import factory, hub, test_leases, test_tls

GUESTS = 150


@asynccontextmanager
async def held(take: Callable[[], AbstractAsyncContextManager[book.Connection]]) -> AsyncIterator[None]:
    """Every connection of a pool is taken."""
    async with AsyncExitStack() as stack:
        for _ in range(book.READERS):
            await stack.enter_async_context(take())
        yield


@asynccontextmanager
async def guests(h: hub.Hub) -> AsyncIterator[list[asyncio.Task[int]]]:
    """In want of a connection, as many as there are places for; the others have been sent away."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=GUESTS)) as session:

        async def ask() -> int:
            async with session.get(h.url + "/status") as response:
                await response.read()
                return response.status

        asked = [asyncio.create_task(ask()) for _ in range(GUESTS)]
        try:

            async def full() -> bool | None:
                return True if sum(task.done() for task in asked) >= GUESTS - guard.MAX_IN_FLIGHT.each else None

            await hub.until(full)
            yield asked
        finally:
            await asyncio.gather(*asked)


async def test_a_hub_seals_and_grants_leases_while_guests_hold_every_connection_for_them(
    tmp_path: Path, opened: list[book.Book]
) -> None:
    (made,) = factory.frames(1)
    async with hub.running(tmp_path) as h:
        async with AsyncExitStack() as stack:
            waiting = await stack.enter_async_context(guests_beside(h, opened[0]))
            for agent in factory.AGENTS[:3]:
                assert (await h.attest(agent, made))[0] == 200
            await h.deliver(made, factory.AGENTS[0])
            await hub.until(lambda: _sealed(opened[0]))
            asker = test_leases.Asker(h, runtime.SystemClock())
            assert (await asker.ask("acquire", test_leases.A))[0] == 200
            for path in ("/healthz", "/readyz", "/metrics"):
                assert (await h.get(path, token=None))[0] == 200
            assert not all(task.done() for task in waiting), "they still wait"
        assert {task.result() for task in waiting} == {200, 503}


@asynccontextmanager
async def guests_beside(h: hub.Hub, the_book: book.Book) -> AsyncIterator[list[asyncio.Task[int]]]:
    """Guests who wait until this ends."""
    async with AsyncExitStack() as stack:
        holding = AsyncExitStack()
        await holding.enter_async_context(held(the_book.look))
        waiting = await stack.enter_async_context(guests(h))
        stack.push_async_callback(holding.aclose)  # before the guests are waited for
        yield waiting


async def _sealed(the_book: book.Book) -> bool | None:
    async with the_book.read() as c:
        return True if await queries.last_seal(c) else None


async def test_no_page_reads_on_the_connections_of_the_sealer(tmp_path: Path, opened: list[book.Book]) -> None:
    made = factory.frames(1)[0]
    async with hub.running(tmp_path) as h:
        await h.seal(made)
        root, digest = (f"0x{value.hex()}" for value in (made.header.body_root, made.digest))
        stream = f"0x{factory.stream().id().hex()}"
        async with held(opened[0].read):
            for path in (
                "/", "/status", "/readyz", "/metrics", "/v1/streams", f"/v1/streams/{stream}/frames", f"/v1/statements/{digest}",
                f"/v1/bodies/{root}", f"/v1/proofs/{digest}/0x{'00' * 32}", f"/v1/receipts/{factory.address(factory.AGENTS[0])}",
            ):  # fmt: skip
                async with asyncio.timeout(20):
                    status, _ = await h.get(path)
                assert status in (200, 404), (path, status)


# --- bodies on their way


@asynccontextmanager
async def unfinished(
    h: hub.Hub, path: str, count: int, *, addresses: Sequence[str] = ("127.0.0.1",)
) -> AsyncIterator[list[asyncio.StreamReader]]:
    """Bodies that never end, each at the hub before the next one comes."""
    async with AsyncExitStack() as stack:
        readers: list[asyncio.StreamReader] = []
        for number in range(1, count + 1):
            source = addresses[number % len(addresses)]
            reader, writer = await asyncio.open_connection("127.0.0.1", h.port, local_addr=(source, 0))
            stack.callback(writer.close)
            writer.write(f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n{{".encode())
            await writer.drain()
            readers.append(reader)
            least = min(number, SMALL.each)

            async def there(least: int = least) -> bool | None:
                return True if await h.metric("stakeside_hub_http_requests_in_flight") >= least else None

            await hub.until(there)
        yield readers


SMALL = guard.Reading(total=8, each=6, bytes_total=1 << 20, bytes_each=1 << 20)


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "SAID", SMALL)
    monkeypatch.setattr(api, "CHUNKS", SMALL)
    monkeypatch.setattr(guard, "MAX_IN_FLIGHT", places.Bounds(total=6, addresses=4, each=2))
    monkeypatch.setattr(guard, "BODY_GRACE_S", 60.0)  # it is not time that makes room


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("path", ["/v1/leases", "/v1/attestations"])
async def test_slow_bodies_from_one_address_keep_out_no_agent_not_even_of_that_address(
    tmp_path: Path, path: str
) -> None:
    made = factory.frames(1)[0]
    async with hub.running(tmp_path) as h, unfinished(h, path, 9) as readers:
        asker = test_leases.Asker(h, runtime.SystemClock())
        assert (await asker.ask("acquire", test_leases.A))[0] == 200
        await h.seal(made)
        async with asyncio.timeout(20):
            assert (await readers[0].read(100)).startswith(b"HTTP/1.1 503 "), "the one that came first made room"


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("addresses", [("127.0.0.1",), ("127.0.0.2", "127.0.0.3")])
async def test_slow_uploads_keep_no_body_from_coming_not_even_from_their_address(
    tmp_path: Path, addresses: tuple[str, ...]
) -> None:
    made = factory.frames(1)[0]
    async with hub.running(tmp_path) as h:
        for agent in factory.AGENTS[:3]:
            assert (await h.attest(agent, made))[0] == 200
        path = f"/v1/bodies/0x{made.header.body_root.hex()}"

        async def asked() -> bool | None:
            return True if (await h.post(path, b"{"))[0] == 400 else None

        await hub.until(asked)
        async with unfinished(h, path, SMALL.each, addresses=addresses):
            assert set(await h.upload(made)) == {202}
            await h.sealed(made)


async def test_who_uploads_with_a_certificate_is_not_among_strangers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = certificates.Authority(tmp_path)
    made = factory.frames(1)[0]
    shown = test_tls.client(ours, ours.issue("agent", "agent-1"))
    monkeypatch.setattr(api, "CHUNKS", guard.Reading(total=1, each=1, bytes_total=0, bytes_each=0))
    async with hub.running(tmp_path, context=test_tls.mutual(ours)) as h:
        root = f"0x{made.header.body_root.hex()}"

        async def post(path: str, value: object) -> int:
            async with h.session.post(h.url + path, data=wire.encode(value), ssl=shown) as response:
                return response.status

        for agent in factory.AGENTS[:3]:
            assert await post("/v1/attestations", factory.attestation(agent, made)) == 200

        async def taken() -> bool | None:
            found = {await post(f"/v1/bodies/{root}", chunk) for chunk in made.chunks()}
            assert 503 not in found
            return True if found == {202} else None

        await hub.until(taken)


class _Sender:
    """A body whose parts come when the test says so."""

    def __init__(self, arrivals: guard.Arrivals, source: str) -> None:
        self.content_length, self.content = None, self
        self._parts: asyncio.Queue[bytes] = asyncio.Queue()
        self.task = asyncio.create_task(self._run(arrivals, source))

    async def _run(self, arrivals: guard.Arrivals, source: str) -> int | None:
        """How long it was; None when it was ended."""
        try:
            return len(await arrivals.read(self, source=source, known=False, max_bytes=1 << 20))  # type: ignore[arg-type]
        except errors.Transient:
            return None

    async def send(self, size: int) -> None:
        self._parts.put_nowait(bytes(size))
        await settled()

    async def iter_chunked(self, _size: int) -> AsyncIterator[bytes]:
        while part := await self._parts.get():
            yield part


async def settled() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.mark.parametrize("others", ["addr:ours", "addr:theirs"])
async def test_what_is_held_of_bodies_is_bounded_and_the_slowest_makes_room(others: str) -> None:
    now_s = 0.0
    bounds = guard.Reading(total=8, each=6, bytes_total=1_000_000, bytes_each=900_000)
    arrivals = guard.Arrivals(bounds, clock=lambda: now_s)
    fast = _Sender(arrivals, "addr:ours")
    await fast.send(100_000)
    slow = [_Sender(arrivals, others) for _ in range(4)]
    for sender in slow:
        await sender.send(100_000)
    now_s = 1.0
    for _ in range(7):
        await fast.send(100_000)
    assert arrivals._bytes <= bounds.bytes_total  # pyright: ignore[reportPrivateUsage]
    assert sum(sender.task.done() for sender in slow) == (3 if others == "addr:ours" else 2), "no more than it takes"
    await fast.send(0)
    assert await fast.task == 800_000
    for sender in slow:
        await sender.send(0)
    assert [await sender.task for sender in slow if sender.task.done()].count(None) in (2, 3)
    assert not arrivals._bytes and not arrivals._held and not arrivals._open  # pyright: ignore[reportPrivateUsage]


async def test_who_keeps_beginning_uploads_does_not_end_one_that_comes_fast() -> None:
    now_s = 0.0
    arrivals = guard.Arrivals(
        guard.Reading(total=8, each=6, bytes_total=1 << 20, bytes_each=1 << 20), clock=lambda: now_s
    )
    fast = _Sender(arrivals, "addr:a")
    others: list[_Sender] = []
    for _ in range(20):
        now_s += 0.25
        await fast.send(40_000)
        others.append(_Sender(arrivals, "addr:a"))
        await settled()
    await fast.send(0)
    assert await fast.task == 800_000
    assert sum(sender.task.done() for sender in others) == 15
    for sender in others:
        await sender.send(0)


@pytest.mark.usefixtures("few")
async def test_who_shows_a_token_or_a_certificate_is_not_ended_for_others(tmp_path: Path) -> None:
    arrivals = guard.Arrivals()
    seen: dict[str, Any] = {}

    class Body:
        def __init__(self, *parts: bytes, done: bool) -> None:
            self.content_length, self.content = None, self
            self._parts, self._done = parts, done

        async def iter_chunked(self, _size: int) -> AsyncIterator[bytes]:
            for part in self._parts:
                yield part
            if not self._done:
                await asyncio.Event().wait()

    async def read(name: str, body: Body, *, source: str, known: bool = False) -> None:
        try:
            seen[name] = await arrivals.read(body, source=source, known=known, max_bytes=100)  # type: ignore[arg-type]
        except errors.Transient as error:
            seen[name] = type(error).__name__

    tasks = [asyncio.create_task(read("hers", Body(b"{", done=False), source="token:hers", known=True))]
    for source in ("addr:a", "addr:b"):
        for number in range(SMALL.each):
            tasks.append(asyncio.create_task(read(f"{source} {number}", Body(b"{", done=False), source=source)))
            await asyncio.sleep(0)
    await read("whole", Body(b"{", b"}", done=True), source="addr:c")

    async def ended() -> bool | None:
        return True if len(seen) == 6 else None

    await hub.until(ended)
    assert seen.pop("whole") == b"{}"
    assert seen == dict.fromkeys(["addr:a 0", "addr:a 1", "addr:a 2", "addr:b 0", "addr:b 1"], "Transient"), (
        "of who has most"
    )
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await read("later", Body(b"{}", done=True), source="addr:a")
    assert not arrivals._open and not arrivals._count  # pyright: ignore[reportPrivateUsage]


@pytest.mark.usefixtures("few")
async def test_an_agent_with_a_certificate_is_known_by_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = certificates.Authority(tmp_path)
    told: list[bool] = []
    real = guard.Arrivals.read

    async def noted(self: guard.Arrivals, request: Any, *, known: bool, **others: Any) -> bytes:
        told.append(known)
        return await real(self, request, known=known, **others)

    monkeypatch.setattr(guard.Arrivals, "read", noted)
    shown = test_tls.client(ours, ours.issue("agent", "agent-1"))
    async with hub.running(tmp_path, context=test_tls.mutual(ours)) as h:
        async with h.session.post(h.url + "/v1/leases", data=b"{}", ssl=shown) as response:
            assert response.status == 400
    async with hub.running(tmp_path, context=test_tls.tls.server(ours.issue("hub"))) as h:
        async with h.session.post(h.url + "/v1/leases", data=b"{}", ssl=test_tls.client(ours)) as response:
            assert response.status == 400
    assert told == [True, False]


async def test_a_listed_account_is_granted_its_lease_whatever_strangers_at_its_address_ask_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "RATE", limits.Rate(per_s=1, burst=3))
    clock = runtime.SystemClock()
    async with hub.running(tmp_path, accounts=frozenset({test_leases.ACCOUNT.address})) as h:
        strangers = test_leases.Asker(h, clock, key=factory.key(8))
        for _ in range(10):
            assert (await strangers.refused("acquire", test_leases.A))[0] in (403, 429)
        assert await test_leases.Asker(h, clock).token("acquire", test_leases.A)
