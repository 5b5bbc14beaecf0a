"""A hub whose PostgreSQL recovers, is full, or takes no writes: it waits, says so, and goes on by itself."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from domain import errors
from earnings import book
from tests.earnings import factory, hub
from tests.store import postgres

DEPLOYMENT = factory.document().digest()
FRAMES = factory.frames(2)
READ_ONLY = "ALTER ROLE hub SET default_transaction_read_only = on"
WRITABLE = "ALTER ROLE hub RESET default_transaction_read_only"


@pytest.fixture
async def store(postgres_server: postgres.Server) -> AsyncIterator[str]:
    """A hub's database, whose role owns no server."""
    address = postgres_server.empty()
    postgres_server.sql("DROP ROLE IF EXISTS hub", "CREATE ROLE hub LOGIN", "ALTER SCHEMA public OWNER TO hub")
    yield address.replace("//stakeside@", "//hub@")
    postgres_server.sql("DROP SCHEMA public CASCADE; CREATE SCHEMA public", "DROP ROLE hub")


async def _refused(opened: book.Book) -> list[str]:
    """What each way into the book says."""
    said: list[str] = []
    for way in (opened.write, opened.read, opened.look, opened.probe):
        with pytest.raises(errors.Transient) as caught:
            async with way() as c:
                await c.execute(sa.text("SELECT 1"))
        said.append(str(caught.value))
    return said


async def _readiness(h: hub.Hub) -> tuple[int, list[str]]:
    status, found = await h.get("/readyz", token=None)
    return status, found["reasons"]


async def _ready(h: hub.Hub) -> bool | None:
    return True if await _readiness(h) == (200, []) else None


async def test_every_way_into_a_database_that_has_no_room_for_connections_is_tried_again(
    store: str, postgres_server: postgres.Server
) -> None:
    opened = await book.open_book(store, deployment=DEPLOYMENT)
    postgres_server.sql("ALTER ROLE hub CONNECTION LIMIT 0")
    postgres_server.cut()
    for way in (opened.write, opened.read, opened.look, opened.probe):  # each finds its connection cut
        with pytest.raises(errors.Transient):
            async with way() as c:
                await c.execute(sa.text("SELECT 1"))
    assert all("too many connections" in text for text in await _refused(opened))
    with pytest.raises(errors.Transient, match="too many connections"):
        await book.look(store)
    await opened.close()


@pytest.mark.parametrize(
    "state", ["08006", "40001", "40P01", "53100", "53200", "53300", "55P03", "57014", "57P01", "57P03"]
)
async def test_what_passes_is_waited_for_in_whatever_language_the_server_says_it(store: str, state: str) -> None:
    opened = await book.open_book(store, deployment=DEPLOYMENT)
    for way in (opened.write, opened.read):
        with pytest.raises(errors.Transient, match="leider nicht"):
            async with way() as c:
                await c.execute(
                    sa.text(f"DO $$ BEGIN RAISE EXCEPTION 'leider nicht' USING ERRCODE = '{state}'; END $$")
                )
    await opened.close()


@pytest.mark.slow
async def test_a_hub_says_that_its_database_recovers_and_goes_on_by_itself(
    tmp_path: Path, store: str, postgres_server: postgres.Server
) -> None:
    async with hub.running(tmp_path, store=store) as h:
        await h.seal(FRAMES[0])
        with postgres_server.recovering():

            async def told() -> bool | None:
                status, reasons = await _readiness(h)
                assert status == 503
                return True if any("the database system is" in reason for reason in reasons) else None

            await hub.until(told)
            for agent in factory.AGENTS[:4]:  # more than the failures that latch a service
                status, answer = await h.attest(agent, FRAMES[1])
                assert status == 503, answer
            with pytest.raises(errors.Transient, match="the database system is"):
                await book.open_book(store, deployment=DEPLOYMENT)

        async def taken() -> bool | None:
            return True if (await h.attest(factory.AGENTS[0], FRAMES[1]))[0] == 200 else None

        await hub.until(taken)
        await h.seal(FRAMES[1])
        await hub.until(lambda: _ready(h))


async def test_a_hub_before_a_database_that_takes_no_writes_is_not_ready_and_says_so_until_it_does(
    tmp_path: Path, store: str, postgres_server: postgres.Server
) -> None:
    async with hub.running(tmp_path, store=store) as h:
        await h.seal(FRAMES[0])
        postgres_server.sql(READ_ONLY)
        postgres_server.cut()

        async def told() -> bool | None:
            return True if (await _readiness(h))[1] == [book.READ_ONLY] else None

        await hub.until(told)
        status, problem = await h.attest(factory.AGENTS[0], FRAMES[1])
        assert status == 503, problem
        postgres_server.sql(WRITABLE)  # for new connections: those of the hub stay what they are
        await h.seal(FRAMES[1])
        await hub.until(lambda: _ready(h))


async def test_a_start_before_a_database_that_takes_no_writes_ends_with_its_reason(
    tmp_path: Path, store: str, postgres_server: postgres.Server
) -> None:
    async with hub.running(tmp_path, store=store):
        pass
    postgres_server.sql(READ_ONLY)
    with pytest.raises(errors.Transient, match="takes no writes now"):
        async with hub.running(tmp_path, store=store):
            pass


async def test_a_start_with_a_role_that_may_not_come_in_names_the_setting(
    store: str, postgres_server: postgres.Server
) -> None:
    postgres_server.sql("ALTER ROLE hub NOLOGIN")
    for ask in (book.open_book(store, deployment=DEPLOYMENT), book.look(store)):
        with pytest.raises(errors.StoreError, match=r"hub\.store") as caught:
            await ask
        assert "not permitted to log in" in str(caught.value)
