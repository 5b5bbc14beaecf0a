"""A real hub for tests: its own server on a free port and its own SQLite file."""

from __future__ import annotations

import asyncio
import hashlib
import io
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import msgspec

from domain import deployment, hashing, wire
from earnings import app, limits, sealing
from kit import runtime, tls
from signers import keys
from tests.earnings import factory

T = TypeVar("T")
DEADLINE_S = 20.0
STORE = ""
"""Where hubs of this test keep their book instead of a file of their own; the fixture `database` sets it."""
FAST = limits.Rate(per_s=1_000_000, burst=1_000_000)


class Hub:
    def __init__(self, session: aiohttp.ClientSession, port: int, stop: asyncio.Event, *, scheme: str = "http") -> None:
        self.port = port
        self.health_port = 0
        self.url = f"{scheme}://127.0.0.1:{port}"
        self.session = session
        self.stop = stop

    async def post(self, path: str, value: object, *, token: str | None = None) -> tuple[int, Any]:
        """Status and parsed answer."""
        data = value if isinstance(value, bytes) else wire.encode(value)
        async with self.session.post(self.url + path, data=io.BytesIO(data), headers=_auth(token)) as response:
            body = await response.read()
            return response.status, msgspec.json.decode(body) if body else None

    async def get(self, path: str, *, token: str | None = factory.TOKEN, **headers: str) -> tuple[int, Any]:
        async with self.session.get(self.url + path, headers=_auth(token) | headers) as response:
            body = await response.read()
            parsed = msgspec.json.decode(body) if response.content_type.endswith("json") and body else body
            return response.status, parsed

    async def attest(self, of: keys.LocalKey, made: factory.Frame, **kw: str) -> tuple[int, Any]:
        return await self.post("/v1/attestations", factory.attestation(of, made, **kw))

    async def replace(
        self, of: keys.LocalKey, old: factory.Frame, new: factory.Frame, *, ballot: int = 1
    ) -> tuple[int, Any]:
        return await self.post("/v1/replacements", factory.replacement(of, old, new, ballot=ballot))

    async def upload(self, made: factory.Frame) -> list[int]:
        root = hashing.hex0x(made.header.body_root)
        return [(await self.post(f"/v1/bodies/{root}", chunk))[0] for chunk in made.chunks()]

    async def wanted(self, of: keys.LocalKey) -> list[str]:
        return (await self.get(f"/v1/wanted?attester={factory.address(of)}"))[1]["wanted"]

    async def seal(self, made: factory.Frame, agents: list[keys.LocalKey] | None = None) -> None:
        """k votes, the body when asked, and wait."""
        for agent in agents or factory.AGENTS[:3]:
            status, answer = await self.attest(agent, made)
            assert status == 200, answer
        await self.deliver(made, (agents or factory.AGENTS)[0])
        await self.sealed(made)

    async def deliver(self, made: factory.Frame, of: keys.LocalKey) -> None:
        root = hashing.hex0x(made.header.body_root)

        async def asked() -> bool | None:
            for agent in [of, *factory.AGENTS]:
                if root in await self.wanted(agent):
                    return True
            return None

        await until(asked)
        assert set(await self.upload(made)) == {202}

    async def sealed(self, made: factory.Frame) -> dict[str, Any]:
        async def certified() -> dict[str, Any] | None:
            status, answer = await self.get(f"/v1/statements/{hashing.hex0x(made.digest)}")
            return answer if status == 200 else None

        return await until(certified)

    async def frame(self, sequence: int, stream: deployment.Stream | None = None) -> dict[str, Any]:
        where = hashing.hex0x((stream or factory.stream()).id())
        found = (await self.get(f"/v1/streams/{where}/frames?from={sequence}&limit=1"))[1]["frames"]
        return found[0] if found else {}

    async def metric(self, line: str) -> float:
        """The value after `line` on /metrics."""
        text = (await self.get("/metrics"))[1].decode()
        for row in text.splitlines():
            if row.startswith(line + " "):
                return float(row.rpartition(" ")[2])
        return 0.0


def _auth(token: str | None) -> dict[str, str]:
    return {} if token is None else {"Authorization": f"Bearer {token}"}


async def until(condition: Callable[[], Awaitable[T | None]], *, deadline_s: float | None = None) -> T:
    """The first answer that is not None."""
    async with asyncio.timeout(deadline_s or DEADLINE_S):
        while (found := await condition()) is None:
            await asyncio.sleep(0.01)
        return found


@asynccontextmanager
async def running(
    folder: Path,
    document: deployment.Document | None = None,
    *,
    keys_: tuple[keys.LocalKey, ...] = (factory.HUB,),
    rate: limits.Rate = FAST,
    caps: tuple[sealing.Cap, ...] = (),
    accounts: frozenset[bytes] | None = None,
    reread: Callable[[], deployment.Document] | None = None,
    store: str | None = None,
    clock: runtime.Clock | None = None,
    context: tls.Context | None = None,
    health_port: int | None = None,
    hosts: tuple[str, ...] = (),
) -> AsyncIterator[Hub]:
    tokens = folder / "tokens"
    tokens.write_text(f"# who may read\ntest:{hashlib.sha256(factory.TOKEN.encode()).hexdigest()}\n")
    listening: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    stop = asyncio.Event()
    probes: list[int] = []
    arguments = app.Arguments(
        name="test hub",
        store=store or STORE or f"sqlite:///{folder / 'hub.db'}",
        document=document or factory.document(),
        chain_id=factory.CHAIN,
        keys=keys_,
        tokens_file=tokens,
        rate=rate,
        caps=caps,
        accounts=accounts,
        reread=reread,
        clock=clock or runtime.SystemClock(),
        tls=context,
        health_port=health_port,
        health_listening=probes.append,
        hosts=hosts,
    )
    task = asyncio.create_task(app.serve(arguments, stop=stop, listening=listening.set_result))
    try:
        await asyncio.wait([task, listening], return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as session:
            started = Hub(session, listening.result(), stop, scheme="http" if context is None else "https")
            started.health_port = probes[0] if probes else 0
            yield started
    finally:
        stop.set()
        listening.cancel()
        await asyncio.gather(task, return_exceptions=False)
