"""A hub whose database went back: nobody is given what another one may hold, and whoever the hub remembers goes on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa

from domain import errors
from earnings import book, leases, setbacks, tables
from kit import runtime
from tests.earnings import factory, hub
from tests.earnings.test_leases import HOUR_S, A, Asker, B, C, WallClock
from tests.store import postgres

LATELY = (503, "restored lately")
HELD_OVER = 10**9
"""Far more tokens than a test takes."""
_LOST = (tables.lease, tables.lease_seen, tables.meta)


async def _kept(the_book: book.Book) -> Callable[[], Awaitable[None]]:
    """Puts the leases back to what they are now, as a failover to a replica does that was behind."""
    async with the_book.write() as c:
        rows = [(table, [dict(row) for row in (await c.execute(sa.select(table))).mappings()]) for table in _LOST]

    async def back() -> None:
        async with the_book.write() as c:
            for table, values in rows:
                await c.execute(table.delete())
                if values:
                    await c.execute(table.insert(), values)

    return back


@pytest.mark.usefixtures("database")
async def test_a_lease_that_the_database_forgot_is_not_given_to_another_holder(
    tmp_path: Path, opened: list[book.Book]
) -> None:
    clock = WallClock()
    async with hub.running(tmp_path, clock=clock) as h:
        asker = Asker(h, clock)
        back = await _kept(opened[0])
        token = await asker.token("acquire", A)
        await back()
        assert await asker.refused("acquire", B) == LATELY
        assert await asker.token("renew", A, last_token=token) == token, "the hub remembers it"
        assert await Asker(h, clock, key=factory.key(8)).refused("acquire", C) == LATELY, "other hubs may have, too"
        clock.passed_s += HOUR_S + 1
        assert await asker.token("acquire", B) > token + HELD_OVER
        assert await asker.refused("acquire", A, last_token=token) == (409, "lease held"), "it waits once"


@pytest.mark.usefixtures("database")
async def test_an_account_that_changed_hands_does_not_change_back_with_the_database(
    tmp_path: Path, opened: list[book.Book]
) -> None:
    clock = WallClock()
    async with hub.running(tmp_path, clock=clock) as h:
        asker = Asker(h, clock)
        first = await asker.token("acquire", A)
        back = await _kept(opened[0])
        await asker.token("release", A, last_token=first)
        second = await asker.token("acquire", B)
        await back()
        assert await asker.refused("renew", A, last_token=first) == (409, "lease held")
        assert await asker.refused("acquire", A, last_token=first) == LATELY
        assert await asker.token("renew", B, last_token=second) == second
        clock.passed_s += HOUR_S + 1
        assert await asker.token("acquire", A, last_token=first) > second + HELD_OVER


async def test_what_one_hub_remembers_another_one_waits_for(
    tmp_path: Path, opened: list[book.Book], postgres_server: postgres.Server
) -> None:
    """Each writes what it remembers again, whoever finds it first."""
    clock, store = WallClock(), postgres_server.empty()
    async with two(tmp_path, store, clock) as (one, two_):
        mine, other = Asker(one, clock), Asker(two_, clock, key=factory.key(8))
        back = await _kept(opened[0])
        at_two = await other.token("acquire", B)
        at_one = await mine.token("acquire", A)
        await back()
        assert await mine.refused("acquire", C) == LATELY
        assert await other.refused("acquire", C) == LATELY
        assert await other.token("renew", B, last_token=at_two) == at_two
        assert await mine.token("renew", A, last_token=at_one) == at_one
        clock.passed_s += HOUR_S + 1
        assert await other.token("acquire", C) > at_one + HELD_OVER


@asynccontextmanager
async def two(folder: Path, store: str, clock: runtime.Clock) -> AsyncIterator[tuple[hub.Hub, hub.Hub]]:
    for name in "ab":
        (folder / name).mkdir()
    async with (
        hub.running(folder / "a", store=store, clock=clock) as one,
        hub.running(folder / "b", store=store, clock=clock) as other,
    ):
        yield one, other


async def test_what_is_written_again_and_not_committed_is_written_again_later(
    tmp_path: Path, opened: list[book.Book], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = WallClock()
    async with hub.running(tmp_path, clock=clock) as h:
        asker, others = Asker(h, clock), Asker(h, clock, key=factory.key(8))
        back = await _kept(opened[0])
        token = await asker.token("acquire", A)
        await back()

        def full(*_: object, **__: object) -> None:
            raise errors.Transient("the database is away")

        with monkeypatch.context() as broken:
            broken.setattr(leases, "decide", full)
            assert await others.refused("renew", C, last_token=1) == (503, "Unavailable")
        assert await others.refused("acquire", C) == LATELY
        async with opened[0].read() as c:
            assert await c.scalar(sa.select(tables.lease.c.token).where(tables.lease.c.holder == A)) == token


@pytest.mark.slow
async def test_a_hub_that_fails_over_to_a_replica_that_was_behind_gives_nothing_twice(tmp_path: Path) -> None:
    """A PostgreSQL of its own, lost and replaced under the hub; then the hub starts anew and remembers nothing."""
    pytest.importorskip("asyncpg", reason="POSTGRESQL IS NOT TESTED: asyncpg is not installed")
    try:
        server = postgres.Server()
    except postgres.Missing as why:
        pytest.skip(f"POSTGRESQL IS NOT TESTED: {why}")
    clock, store = WallClock(), server.address("postgres")

    async def answered(asker: Asker, holder: bytes) -> tuple[int, str]:
        async def once() -> tuple[int, str] | None:
            found = await asker.refused("acquire", holder)
            return None if found[1] == "Unavailable" else found

        return await hub.until(once)

    try:
        async with hub.running(tmp_path, store=store, clock=clock):
            pass
        server.replicate()
        async with hub.running(tmp_path, store=store, clock=clock) as h:
            asker = Asker(h, clock)
            token = await asker.token("acquire", A)
            server.fail_over()
            assert await answered(asker, B) == LATELY
            assert await asker.token("renew", A, last_token=token) == token
            clock.passed_s += HOUR_S + 1
            assert await asker.token("acquire", B) > token + HELD_OVER
        server.replicate()
        async with hub.running(tmp_path, store=store, clock=clock) as h:
            await Asker(h, clock, key=factory.key(8)).token("acquire", A)
        server.fail_over()
        async with hub.running(tmp_path, store=store, clock=clock) as h:
            asker = Asker(h, clock, key=factory.key(8))
            assert await answered(asker, B) == LATELY, "the timeline tells it"
    finally:
        server.stop()


async def test_a_database_that_tells_no_timeline_is_no_error(
    tmp_path: Path, postgres_server: postgres.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(setbacks, "NOW", "SELECT no_such_function()")
    async with hub.running(tmp_path, store=postgres_server.empty()) as h:
        assert await Asker(h, runtime.SystemClock()).token("acquire", A)


@pytest.mark.parametrize("hidden", ["SELECT no_such_function()", "SELECT pg_walfile_name(NULL::pg_lsn)"])
async def test_a_timeline_that_can_be_read_no_more_is_another_one_once(
    tmp_path: Path,
    opened: list[book.Book],
    postgres_server: postgres.Server,
    monkeypatch: pytest.MonkeyPatch,
    hidden: str,
) -> None:
    clock, store = WallClock(), postgres_server.empty()
    async with hub.running(tmp_path, store=store, clock=clock) as h:
        back = await _kept(opened[0])
        token = await Asker(h, clock).token("acquire", B)
        await back()
    monkeypatch.setattr(setbacks, "NOW", hidden)
    async with hub.running(tmp_path, store=store, clock=clock) as h:
        asker = Asker(h, clock)
        assert await asker.refused("acquire", C) == LATELY
        clock.passed_s += HOUR_S + 1
        assert await asker.token("acquire", C) > token + HELD_OVER
    async with hub.running(tmp_path, store=store, clock=clock) as h:
        assert await Asker(h, clock, key=factory.key(8)).token("acquire", A), "it is told once"


async def test_a_timeline_that_cannot_be_asked_for_now_is_no_answer(
    tmp_path: Path, postgres_server: postgres.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A division by zero stands for whatever else goes wrong: nothing may be granted on it."""
    clock = WallClock()
    async with hub.running(tmp_path, store=postgres_server.empty(), clock=clock) as h:
        monkeypatch.setattr(setbacks, "NOW", "SELECT 1 / 0")
        status, _ = await Asker(h, clock).refused("acquire", A)
        assert status >= 500


async def test_a_second_setback_that_takes_the_first_ones_note_with_it_is_waited_for_whole(
    tmp_path: Path, opened: list[book.Book], postgres_server: postgres.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two hubs on one database; the one that granted nothing has seen the first setback, and both are called the first."""
    clock, store = WallClock(), postgres_server.empty()
    async with two(tmp_path, store, clock) as (one, other):
        at_one, at_other = Asker(one, clock), Asker(other, clock)
        back = await _kept(opened[0])
        token = await at_other.token("acquire", B, ttl_s=HOUR_S)
        await back()
        monkeypatch.setattr(setbacks, "NOW", "SELECT '00000002'")
        assert await at_one.refused("acquire", C) == LATELY
        assert await at_other.token("renew", B, last_token=token, ttl_s=HOUR_S) == token
        clock.passed_s += HOUR_S - 600
        assert await at_other.token("renew", B, last_token=token, ttl_s=HOUR_S) == token
        await back()
        monkeypatch.setattr(setbacks, "NOW", "SELECT '00000003'")
        clock.passed_s += 1
        assert await at_one.refused("acquire", C) == LATELY
        clock.passed_s += 601
        assert await at_one.refused("acquire", C) == LATELY, "the other one has it for most of an hour still"


async def test_setbacks_that_were_waited_for_together_are_over_together(
    tmp_path: Path, postgres_server: postgres.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, store = WallClock(), postgres_server.empty()
    async with hub.running(tmp_path, store=store, clock=clock) as h:
        for found in ("00000003", "00000004"):
            monkeypatch.setattr(setbacks, "NOW", f"SELECT '{found}'")
            clock.passed_s += 10
            assert await Asker(h, clock).refused("acquire", C) == LATELY
        clock.passed_s += HOUR_S + 1
        assert await Asker(h, clock).token("acquire", B)
    async with hub.running(tmp_path, store=store, clock=clock) as h:
        assert await Asker(h, clock, key=factory.key(8)).token("acquire", C)
