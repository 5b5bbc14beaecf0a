"""However many guests there are: stages, probes and people go on. Held connections stand for slow requests, so nothing rests on time."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from agent.web import people, routes, server
from kit import databases, places
from store import book
from tests.web import conftest, test_authorization
from tests.web.conftest import Answer, World

GUESTS = 150


@asynccontextmanager
async def held(take: Callable[[], AbstractAsyncContextManager[book.Connection]]) -> AsyncIterator[None]:
    """Every connection of a pool is taken."""
    async with AsyncExitStack() as stack:
        for _ in range(databases.READERS):
            await stack.enter_async_context(take())
        yield


async def flood(world: World, stack: AsyncExitStack) -> list[asyncio.Task[Answer]]:
    """Guests in want of a connection, as many as there are places for; the others have been sent away."""
    asked = [asyncio.create_task(world.ask("GET", "/v1/intents?limit=200")) for _ in range(GUESTS)]
    stack.push_async_callback(asyncio.gather, *asked, return_exceptions=True)
    async with asyncio.timeout(60):
        while sum(task.done() for task in asked) < GUESTS - people.IN_FLIGHT.each:
            await asyncio.sleep(0.01)
    return asked


@pytest.fixture
async def crowded(tmp_path: Path) -> AsyncIterator[World]:
    """Room for the client to have them all at once."""
    async with conftest.serving(tmp_path, connections=GUESTS + 20) as world:
        await world.fill()
        yield world


async def test_a_stage_reads_while_every_connection_for_people_is_taken_and_guests_wait(crowded: World) -> None:
    async with AsyncExitStack() as stack, asyncio.timeout(60):
        async with held(crowded.book.look):
            asked = await flood(crowded, stack)
            async with held(crowded.book.read), crowded.book.write() as c:
                assert c is not None
            assert not all(task.done() for task in asked)
        assert sorted({answer.status for answer in await asyncio.gather(*asked)}) == [200, 503]


async def test_guests_beyond_the_places_are_told_to_come_back(crowded: World) -> None:
    async with AsyncExitStack() as stack, held(crowded.book.look):
        asked = await flood(crowded, stack)
        turned_away = [task.result() for task in asked if task.done()]
        assert {(answer.status, answer.headers.get("Retry-After")) for answer in turned_away} == {(503, "1")}
        assert len(turned_away) == GUESTS - people.IN_FLIGHT.each


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/login"])
async def test_probes_and_the_way_in_are_answered_while_guests_wait(crowded: World, path: str) -> None:
    async with AsyncExitStack() as stack, held(crowded.book.look):
        await flood(crowded, stack)
        answers = await asyncio.wait_for(asyncio.gather(*(crowded.ask("GET", path) for _ in range(10))), 60)
        assert {answer.status for answer in answers} <= ({200} if path != "/readyz" else {200, 503})
        assert not any(answer.headers.get("Retry-After") for answer in answers)


async def test_who_has_a_token_finds_a_place_among_guests(crowded: World) -> None:
    await crowded.person("olga", "operator")
    async with AsyncExitStack() as stack:
        async with held(crowded.book.look):
            await flood(crowded, stack)
            hers = asyncio.create_task(crowded.ask("POST", "/v1/pause", by="olga", body={"reason": "a crowd"}))
        assert (await asyncio.wait_for(hers, 60)).status == 200


async def test_no_route_reads_on_the_connections_of_the_stages(world: World) -> None:
    """Every GET there is, while the stages hold theirs."""
    await world.fill()
    await world.person("ada", "admin", "proposer")
    async with held(world.book.read):
        for path in (
            "/", "/intents", "/propose", "/commands", "/people", "/status", "/readyz", "/metrics", "/v1/intents", "/v1/commands",
            "/v1/latches", "/v1/gaps", "/v1/events", "/v1/frames", f"/v1/statements/0x{'00' * 32}", f"/v1/intents/0x{'00' * 32}",
            "/v1/principals", "/v1/whoami", "/v1/policy",
        ):  # fmt: skip
            answer = await asyncio.wait_for(world.ask("GET", path, by="ada"), 60)
            assert answer.status in (200, 404), (path, answer.status)


async def test_many_probes_share_a_look(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = 0
    real = world.book.probe

    @asynccontextmanager
    async def counted() -> AsyncIterator[book.Connection]:
        nonlocal looks
        looks += 1
        async with real() as c:
            yield c

    monkeypatch.setattr(world.book, "probe", counted)
    answering = server.Web(world.live(), world.meters)
    await asyncio.gather(*(answering.probed() for _ in range(50)))
    assert looks == 2  # of the one that was alone, and of all that came meanwhile
    await answering.probed()
    assert looks == 3


async def test_a_latch_that_was_set_before_the_probe_is_in_its_answer(world: World) -> None:
    await world.fill()
    first = asyncio.create_task(world.ask("GET", "/readyz"))
    await world.latch("somebody must look")
    assert b"somebody must look" in (await world.ask("GET", "/readyz")).body
    await first


def test_those_who_can_be_known_have_places_that_strangers_cannot_take() -> None:
    slots = places.Slots(places.Bounds(total=4, addresses=3, each=2))
    with (
        slots.take("a", known=False) as one,
        slots.take("a", known=False) as two,
        slots.take("a", known=False) as three,
    ):
        assert (one, two, three) == (True, True, False)
        with slots.take("b", known=False) as four, slots.take("c", known=False) as five:
            assert (four, five) == (True, False)
            with slots.take("b", known=True) as six, slots.take("b", known=True) as seven:
                assert (six, seven, slots.running) == (True, False, 4)
    assert slots.running == 0


@pytest.mark.parametrize("made_up", [True, False], ids=["with invented tokens", "without tokens"])
async def test_a_stranger_who_is_slow_at_the_door_keeps_nobody_out(tmp_path: Path, *, made_up: bool) -> None:
    """Unfinished sign-ins from one address, with what looks like a token: whoever has a good one, and all others, go on."""
    async with conftest.serving(tmp_path, connections=200) as world:
        await world.person("olga", "operator")
        parts = urlsplit(world.url)
        async with AsyncExitStack() as stack:
            for number in range(people.IN_FLIGHT.total):
                _, writer = await asyncio.open_connection(parts.hostname, parts.port)
                stack.callback(writer.close)
                token = f"Authorization: Bearer stk_{number:043d}\r\n" if made_up else ""
                head = f"POST /v1/session HTTP/1.1\r\nHost: {parts.netloc}\r\nOrigin: http://{parts.netloc}\r\n{token}"
                writer.write(f"{head}Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{{".encode())
                await writer.drain()
            paused = await world.ask("POST", "/v1/pause", by="olga", body={"reason": "a stranger"})
            assert (paused.status, (await world.ask("GET", "/status")).status) == (200, 200)


async def test_sign_ins_that_never_end_keep_no_browser_out(tmp_path: Path) -> None:
    """Many times what the book serves at once, all from the browser's own address; and what a foreign page sends is not waited for."""
    async with conftest.serving(tmp_path, connections=10) as world:
        await world.person("olga", "operator")
        parts = urlsplit(world.url)
        async with AsyncExitStack() as stack, asyncio.timeout(60):

            async def begin(origin: str) -> asyncio.StreamReader:
                reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
                stack.callback(writer.close)
                head = f"POST /v1/session HTTP/1.1\r\nHost: {parts.netloc}\r\nOrigin: {origin}\r\n"
                writer.write(f"{head}Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{{".encode())
                await writer.drain()
                return reader

            for _ in range(3 * people.LOOKED_UP.total):
                await begin(f"http://{parts.netloc}")
            assert (await (await begin("http://elsewhere.example")).readline()).startswith(b"HTTP/1.1 403")
            assert await world.sign_in("olga")


async def test_a_sign_in_looks_into_the_book_only_when_there_is_a_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(people, "LOOKED_UP", places.Bounds(total=0, addresses=0, each=0))
    async with conftest.serving(tmp_path, connections=10) as world:
        answer = await world.ask("POST", "/v1/session", origin="self", body={"token": "stk_" + "A" * 43})
    assert (answer.status, answer.headers["Retry-After"]) == (503, "1")


def no_place(slots: places.Slots, source: str, *, known: bool) -> bool:
    return False


FORMS = [route for route in test_authorization.TABLE if route.method == "POST"]


@pytest.mark.parametrize("route", FORMS, ids=[route.path for route in FORMS])
async def test_the_way_back_from_a_form_that_found_no_place_is_a_page(
    world: World, monkeypatch: pytest.MonkeyPatch, route: routes.Route
) -> None:
    """Not the form's own address, which sends nothing again and answers no GET."""
    await world.person("ada", *conftest.ROLES)
    id_ = (await world.propose("ada")).json["id"]
    cookie = await world.sign_in("ada")
    path = test_authorization.filled(route).replace("0x" + "ab" * 32, id_)
    with monkeypatch.context() as crowd:
        crowd.setattr(places.Slots, "_free", no_place)
        busy = await world.ask("POST", path, cookie=cookie, origin="self", form={})
    assert (busy.status, busy.headers["Retry-After"]) == (503, "1")
    back = re.findall(r'href="([^"]*)">Back<', busy.body.decode())
    assert len(back) == 1
    found = await world.ask("GET", back[0], cookie=cookie)
    assert (found.status, found.headers["Content-Type"].partition(";")[0]) == (200, "text/html"), back
    at = re.findall(r'<main[^>]* data-at="([^"]*)"', busy.body.decode())
    assert at == back


async def test_the_way_back_from_a_page_that_found_no_place_is_that_page(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places.Slots, "_free", no_place)
    busy = await world.ask("GET", "/intents?after=x")
    assert busy.status == 503 and b'href="/intents">Back<' in busy.body
