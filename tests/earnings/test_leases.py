"""Leases at the hub: one holder at a time, a token that only grows, nothing replayed, nothing forgotten by a restart."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from domain import hashing, lease, signatures
from earnings import book, leases, limits, tables
from earnings import copy as hub_copy
from kit import backups, runtime
from tests.earnings import factory, hub
from tests.store import postgres

DEPLOYMENT = factory.document().digest()
ACCOUNT = factory.key(7)
A, B, C = (lease.holder_of(name, random=bytes([n]) * 24) for n, name in enumerate(("agent-a", "agent-b", "agent-c")))


class WallClock(runtime.SystemClock):
    """The machine's clock with a wall time that a test sets wrong."""

    def __init__(self) -> None:
        self.wrong_s = 0.0
        self.passed_s = 0.0

    def now(self) -> float:
        return super().now() + self.wrong_s + self.passed_s

    def monotonic(self) -> float:
        return super().monotonic() + self.passed_s


class Asker:
    """Sends requests, each a second newer than the one before."""

    def __init__(self, h: hub.Hub, clock: runtime.Clock, *, key: Any = ACCOUNT, token: str | None = None) -> None:
        self.hub, self.clock, self.key, self.token_shown = h, clock, key, token
        self.last_s = 0

    def request(self, action: lease.Action, holder: bytes, **changes: Any) -> lease.Request:
        self.last_s = max(self.last_s + 1, int(self.clock.now()))
        values: dict[str, Any] = {"ttl_s": 60, "issued_at_s": self.last_s, "chain_id": factory.CHAIN}
        return lease.Request(action=action, account=self.key.address, holder=holder, **{**values, **changes})

    async def send(self, request: lease.Request, *, key: Any = None) -> tuple[int, Any]:
        signature = factory.sign(key or self.key, lease.request_digest(request, deployment=DEPLOYMENT))
        return await self.hub.post(
            "/v1/leases",
            lease.request_to_wire(request, deployment=DEPLOYMENT, signature=signature),
            token=self.token_shown,
        )

    async def ask(self, action: lease.Action, holder: bytes, **changes: Any) -> tuple[int, Any]:
        return await self.send(self.request(action, holder, **changes))

    async def token(self, action: lease.Action, holder: bytes, **changes: Any) -> int:
        status, answer = await self.ask(action, holder, **changes)
        assert status == 200, answer
        return int(answer["grant"]["token"])

    async def refused(self, action: lease.Action, holder: bytes, **changes: Any) -> tuple[int, str]:
        status, answer = await self.ask(action, holder, **changes)
        return status, answer["title"]


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'hub.db'}"
    server: postgres.Server = request.getfixturevalue("postgres_server")
    return server.empty()


async def test_one_account_has_one_holder_until_it_lets_go(store: str, tmp_path: Path) -> None:
    clock = runtime.SystemClock()
    async with hub.running(tmp_path, store=store) as h:
        asker = Asker(h, clock)
        first = await asker.token("acquire", A)
        assert await asker.refused("acquire", B) == (409, "lease held")
        assert await asker.token("renew", A, last_token=first) == first
        assert await asker.token("acquire", A) == first, "a lost answer is asked for again"
        status, answer = await asker.ask("release", A, last_token=first)
        assert (status, answer["grant"]["expiresIn"]) == (200, "0")
        second = await asker.token("acquire", B)
        assert second > first
        assert await asker.refused("renew", A, last_token=first) == (409, "lease held")


async def test_the_refusal_says_who_holds_it_and_for_how_long(store: str, tmp_path: Path) -> None:
    async with hub.running(tmp_path, store=store) as h:
        asker = Asker(h, runtime.SystemClock())
        await asker.token("acquire", A, ttl_s=50)
        _, problem = await asker.ask("acquire", B)
    assert problem["detail"].startswith(f"holder {lease.shown(A)} has this account for ")
    assert hashing.hex0x(A) not in problem["detail"]


async def test_the_grant_is_signed_by_the_hub_for_this_very_request(store: str, tmp_path: Path) -> None:
    async with hub.running(tmp_path, store=store) as h:
        asker = Asker(h, runtime.SystemClock())
        request = asker.request("acquire", A)
        _, answer = await asker.send(request)
    grant = lease.grant_from_wire(msgspec.convert(answer, lease.SignedGrant))
    assert grant == lease.Grant(
        lease.request_digest(request, deployment=DEPLOYMENT), ACCOUNT.address, A, grant.token, 60
    )
    digest = lease.grant_digest(grant, chain_id=factory.CHAIN, deployment=DEPLOYMENT)
    assert signatures.recover(digest, hashing.unhex(answer["signature"])) == factory.HUB.address


async def test_of_many_that_ask_at_once_one_gets_it(store: str, tmp_path: Path) -> None:
    holders = [lease.holder_of(f"agent-{n}", random=bytes([n]) * 24) for n in range(12)]
    async with hub.running(tmp_path, store=store) as h:
        asker = Asker(h, runtime.SystemClock())
        statuses = [status for status, _ in await asyncio.gather(*(asker.ask("acquire", who) for who in holders))]
    assert sorted(statuses) == [200, *[409] * 11]


async def test_two_hubs_on_one_postgresql_are_one_authority(tmp_path: Path, postgres_server: postgres.Server) -> None:
    store, clock = postgres_server.empty(), runtime.SystemClock()
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        folder.mkdir()
    async with hub.running(folders[0], store=store) as one, hub.running(folders[1], store=store) as two:
        tokens: list[int] = []
        for turn in range(6):
            askers = [Asker(h, clock, key=factory.key(40 + turn)) for h in (one, two)]
            answers = await asyncio.gather(askers[0].ask("acquire", A), askers[1].ask("acquire", B))
            assert sorted(status for status, _ in answers) == [200, 409]
            tokens += [int(answer["grant"]["token"]) for status, answer in answers if status == 200]
        assert tokens == sorted(set(tokens))


async def test_a_request_is_taken_once(store: str, tmp_path: Path) -> None:
    async with hub.running(tmp_path, store=store) as h:
        asker = Asker(h, runtime.SystemClock())
        acquire = asker.request("acquire", A)
        _, answer = await asker.send(acquire)
        token = int(answer["grant"]["token"])
        await asker.ask("release", A, last_token=token)
        status, problem = await asker.send(acquire)
        assert (status, problem["title"]) == (409, "request repeated")
        assert (await asker.ask("acquire", B))[0] == 200, "the replay took nothing"


async def test_a_second_request_of_the_same_second_waits_for_the_next_one(store: str, tmp_path: Path) -> None:
    async with hub.running(tmp_path, store=store) as h:
        asker = Asker(h, runtime.SystemClock())
        token = await asker.token("acquire", A)
        now_s = asker.last_s
        assert await asker.refused("renew", A, last_token=token, issued_at_s=now_s) == (409, "request repeated")
        assert await asker.token("renew", A, last_token=token, issued_at_s=now_s + 1) == token


@pytest.mark.parametrize("off_s", [-lease.SKEW_S - 5, lease.SKEW_S + 5])
async def test_a_request_from_another_time_is_refused(tmp_path: Path, off_s: int) -> None:
    clock = runtime.SystemClock()
    async with hub.running(tmp_path) as h:
        asker = Asker(h, clock)
        assert await asker.refused("acquire", A, issued_at_s=int(clock.now()) + off_s) == (400, "clocks differ")


async def test_only_the_accounts_own_key_takes_its_lease(tmp_path: Path) -> None:
    async with hub.running(tmp_path) as h:
        asker = Asker(h, runtime.SystemClock())
        status, problem = await asker.send(asker.request("acquire", A), key=factory.STRANGER)
        assert (status, problem["title"]) == (401, "wrong signature")
        assert await asker.refused("acquire", A, chain_id=1) == (409, "unknown chain")
        other = lease.request_to_wire(asker.request("acquire", A), deployment=bytes(32), signature=bytes(64) + b"\x1b")
        status, problem = await h.post("/v1/leases", other)
        assert status in (400, 409), problem


async def test_tokens_go_on_above_what_the_asker_has_seen(store: str, tmp_path: Path) -> None:
    async with hub.running(tmp_path, store=store) as h:
        asker, stranger = Asker(h, runtime.SystemClock()), Asker(h, runtime.SystemClock(), key=factory.key(8))
        assert await asker.token("acquire", A, last_token=5000) == 5001, "as after an authority that was lost"
        assert await stranger.token("acquire", A) < 5000, "nobody raises another account's tokens"
        await asker.ask("release", A, last_token=5001)
        assert await asker.token("acquire", B) == 5002


async def test_a_lease_ends_by_itself_and_then_another_takes_it(store: str, tmp_path: Path) -> None:
    async with hub.running(tmp_path, store=store) as h:
        asker = Asker(h, runtime.SystemClock())
        first = await asker.token("acquire", A, ttl_s=2)

        assert await until_taken(asker) > first
        assert await asker.refused("renew", A, last_token=first) == (409, "lease held")


async def until_taken(asker: Asker) -> int:
    """B's token, as soon as it gets it."""

    async def attempt() -> int | None:
        status, answer = await asker.ask("acquire", B)
        if status != 200:
            await asyncio.sleep(0.3)
            return None
        return int(answer["grant"]["token"])

    return await hub.until(attempt)


async def test_a_restart_ends_no_lease_early_and_holds_a_dead_ones_account_for_its_time_only(tmp_path: Path) -> None:
    clock = WallClock()
    async with hub.running(tmp_path, clock=clock) as h:
        token = await Asker(h, clock).token("acquire", A, ttl_s=60)
    clock.passed_s += 40
    async with hub.running(tmp_path, clock=clock) as h:
        asker = Asker(h, clock)
        clock.passed_s += 59
        assert await asker.refused("acquire", B) == (409, "lease held")
        clock.passed_s += 2
        assert await asker.token("acquire", B) > token


@pytest.mark.parametrize("wrong_s", [-7200.0, 7200.0])
async def test_a_step_of_the_machines_time_ends_no_lease_early(tmp_path: Path, wrong_s: float) -> None:
    clock = WallClock()
    async with hub.running(tmp_path, clock=clock) as h:
        asker = Asker(h, clock)
        await asker.token("acquire", A, ttl_s=60)
        clock.wrong_s = wrong_s
        asker.last_s = 0
        assert await asker.refused("acquire", B) == (409, "lease held")
        clock.passed_s += 61
        assert (await asker.ask("acquire", B))[0] == 200


@pytest.mark.parametrize("wrong_s", [-7200.0, 7200.0])
async def test_a_restart_with_a_wrong_clock_ends_no_lease_early(tmp_path: Path, wrong_s: float) -> None:
    clock = WallClock()
    async with hub.running(tmp_path, clock=clock) as h:
        await Asker(h, clock).token("acquire", A, ttl_s=60)
    clock.wrong_s = wrong_s
    async with hub.running(tmp_path, clock=clock) as h:
        asker = Asker(h, clock)
        assert await asker.refused("acquire", B) == (409, "lease held")
        clock.passed_s += 61
        assert (await asker.ask("acquire", B))[0] == 200


HOUR_S = 3600


async def _restored(folder: Path, store: str) -> None:
    """The book again, as it is now."""
    kinds = (hub_copy.BOOK,)
    copy = folder / "backup"
    await backups.take(store, copy, kinds, at_s=1)
    await backups.restore(copy, store, kinds, expect={}, at_s=2, force=True)
    copy.unlink()


async def test_a_restored_hub_gives_nobody_a_lease_that_may_be_live_elsewhere(store: str, tmp_path: Path) -> None:
    clock = WallClock()
    async with hub.running(tmp_path, store=store, clock=clock) as h:
        asker = Asker(h, clock)
        token = await asker.token("acquire", A, ttl_s=60)
        await asker.ask("release", A, last_token=token)
    await _restored(tmp_path, store)
    async with hub.running(tmp_path, store=store, clock=clock) as h:
        asker = Asker(h, clock)
        assert await asker.refused("acquire", B) == (503, "restored lately")
        clock.passed_s += HOUR_S - 1
        assert await asker.refused("acquire", A, last_token=token) == (503, "restored lately")
        clock.passed_s += 2
        assert await asker.token("acquire", B) > token + 10**9, "above what was given since the backup"
    async with hub.running(tmp_path, store=store, clock=clock) as h:
        other = Asker(h, clock, key=factory.key(8))
        assert await other.token("acquire", B) < token + 2 * leases.RESTORED_STEP, "it waits and steps up once"


async def test_a_restored_hub_that_starts_again_waits_again(store: str, tmp_path: Path) -> None:
    clock = WallClock()
    async with hub.running(tmp_path, store=store, clock=clock) as h:
        await Asker(h, clock).ask("acquire", A)
    await _restored(tmp_path, store)
    for _ in range(2):
        async with hub.running(tmp_path, store=store, clock=clock) as h:
            assert await Asker(h, clock).refused("acquire", B) == (503, "restored lately")
            clock.passed_s += HOUR_S - 60


async def test_at_a_restored_hub_who_holds_what_its_book_says_goes_on(store: str, tmp_path: Path) -> None:
    clock = WallClock()
    async with hub.running(tmp_path, store=store, clock=clock) as h:
        token = await Asker(h, clock).token("acquire", A)
    await _restored(tmp_path, store)
    clock.passed_s += 1
    async with hub.running(tmp_path, store=store, clock=clock) as h:
        asker = Asker(h, clock)
        assert await asker.token("renew", A, last_token=token) == token
        assert await asker.refused("renew", A, last_token=token + 1) == (409, "lease ended")
        assert await asker.refused("acquire", A, last_token=token) == (503, "restored lately")


async def test_of_two_hubs_on_a_restored_book_the_later_one_believes_the_earlier(
    tmp_path: Path, postgres_server: postgres.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = postgres_server.empty()
    async with hubs(store, tmp_path, monkeypatch, count=1) as (clock, (h,)):
        await Asker(h, clock).ask("acquire", A)
    await _restored(tmp_path, store)
    monkeypatch.undo()
    async with hubs(store, tmp_path, monkeypatch, count=2) as (clock, (one, two)):
        assert await Asker(two, clock).refused("acquire", B) == (503, "restored lately")
        clock.passed_s += HOUR_S + 1
        first = await Asker(one, clock).token("acquire", B)
        assert await Asker(two, clock, key=factory.key(8)).token("acquire", B) == first + 1


JUMPS_S = [-7200, 3600, 7200]


@contextlib.asynccontextmanager
async def hubs(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, count: int
) -> AsyncIterator[tuple[WallClock, list[hub.Hub]]]:
    """Hub processes on one store, whose database tells the time of the clock."""
    clock = WallClock()

    async def wall_ms(_desk: leases.Desk, _c: object) -> int:
        return int(clock.now() * 1000)

    monkeypatch.setattr(leases.Desk, "_wall_ms", wall_ms)
    async with contextlib.AsyncExitStack() as stack:
        made: list[hub.Hub] = []
        for number in range(count):
            folder = tmp_path / f"hub{number}"
            folder.mkdir(exist_ok=True)
            made.append(await stack.enter_async_context(hub.running(folder, store=store, clock=clock)))
        yield clock, made


@pytest.mark.parametrize("jump_s", JUMPS_S)
async def test_a_wrong_time_for_one_request_neither_ends_a_lease_nor_freezes_the_next(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jump_s: int
) -> None:
    async with hubs(store, tmp_path, monkeypatch, count=1) as (clock, (h,)):
        clock.wrong_s = jump_s
        await Asker(h, clock).token("acquire", A, ttl_s=60)
        clock.wrong_s = 0
        asker = Asker(h, clock)
        clock.passed_s += 59
        assert await asker.refused("acquire", B) == (409, "lease held")
        clock.passed_s += 2
        second = await asker.token("acquire", B, ttl_s=60)
        clock.wrong_s = jump_s
        assert await Asker(h, clock).refused("acquire", A) == (409, "lease held")
        clock.wrong_s = 0
        clock.passed_s += 61
        assert await asker.token("acquire", C) > second


async def test_a_holder_that_asked_in_a_wrong_time_is_heard_in_the_right_one(store: str, tmp_path: Path) -> None:
    clock = WallClock()
    async with hub.running(tmp_path, store=store, clock=clock) as h:
        clock.wrong_s = 3600
        token = await Asker(h, clock).token("acquire", A)
        clock.wrong_s = 0
        clock.passed_s += 1
        assert await Asker(h, clock).token("renew", A, last_token=token) == token


@pytest.mark.parametrize("jump_s", JUMPS_S)
async def test_two_hubs_whose_times_differ_by_hours_are_still_one_authority(
    tmp_path: Path, postgres_server: postgres.Server, monkeypatch: pytest.MonkeyPatch, jump_s: int
) -> None:
    store = postgres_server.empty()
    async with hubs(store, tmp_path, monkeypatch, count=2) as (clock, (one, two)):
        token = await Asker(one, clock).token("acquire", A, ttl_s=60)
        clock.passed_s += 30
        assert await Asker(two, clock).refused("acquire", B) == (409, "lease held")
        clock.passed_s += 20
        assert await Asker(one, clock).token("renew", A, ttl_s=60, last_token=token) == token
        clock.wrong_s = jump_s
        assert await Asker(two, clock).refused("acquire", C) == (409, "lease held"), "the other's renewal counts"
        clock.wrong_s = 0
        clock.passed_s += 59
        asker = Asker(two, clock)
        assert await asker.refused("acquire", B) == (409, "lease held")
        clock.passed_s += 2
        second = await asker.token("acquire", B, ttl_s=60)
        assert second > token
        asker = Asker(one, clock)
        assert await asker.refused("renew", A, last_token=token) == (409, "lease held")
        clock.passed_s += 61
        assert await asker.token("acquire", A, last_token=token) > second


@pytest.mark.parametrize("jump_s", JUMPS_S)
async def test_a_restart_after_a_wrong_time_holds_an_account_for_a_leases_time_at_most(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jump_s: int
) -> None:
    async with hubs(store, tmp_path, monkeypatch, count=1) as (clock, (h,)):
        clock.wrong_s = jump_s
        token = await Asker(h, clock).token("acquire", A, ttl_s=60)
    monkeypatch.undo()
    async with hubs(store, tmp_path, monkeypatch, count=1) as (clock, (h,)):
        asker = Asker(h, clock)
        clock.passed_s += 59
        assert await asker.refused("acquire", B) == (409, "lease held")
        clock.passed_s += 2
        assert await asker.token("acquire", B) > token


async def test_a_lease_of_a_hub_before_keeps_what_is_left_of_it(store: str, tmp_path: Path) -> None:
    """What an older hub wrote: an end by the clock on the wall, and no time."""
    clock, mark_ms = WallClock(), 1_700_000_000_000
    the_book = await book.open_book(store, deployment=DEPLOYMENT)
    async with the_book.write() as c:
        await book.put_meta(c, "lease_clock", mark_ms.to_bytes(8, "big"))
        for number, end_ms in ((7, mark_ms + 40_000), (8, mark_ms - 1)):
            await c.execute(
                tables.lease.insert().values(
                    chain_id=factory.CHAIN, account=factory.key(number).address, holder=A, token=3, expires_ms=end_ms
                )
            )
    await the_book.close()
    async with hub.running(tmp_path, store=store, clock=clock) as h:
        asker = Asker(h, clock)
        assert await Asker(h, clock, key=factory.key(8)).token("acquire", B) > 3
        clock.passed_s += 20
        assert await asker.refused("acquire", B) == (409, "lease held")
        clock.passed_s += 21
        assert await asker.token("acquire", B) > 3


async def test_the_table_of_accounts_is_bounded_and_a_full_one_forgets_ended_leases_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "MAX_LEASES", 6)
    clock = WallClock()
    async with hub.running(tmp_path, clock=clock) as h:
        tokens = [await Asker(h, clock, key=factory.key(60 + n)).token("acquire", A, ttl_s=10) for n in range(3)]
        late = Asker(h, clock, key=factory.key(63))
        assert await late.refused("acquire", A) == (503, "too many leases")
        clock.passed_s += 11
        assert await late.token("acquire", A) > max(tokens)
        again = await Asker(h, clock, key=factory.key(60)).token("acquire", B)
        assert again > max(tokens), "a forgotten account's token does not come back"


async def test_a_stranger_who_fills_the_table_keeps_nobody_out_who_shows_a_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "MAX_LEASES", 6)
    clock = runtime.SystemClock()
    async with hub.running(tmp_path) as h:
        statuses = [(await Asker(h, clock, key=factory.key(60 + n)).ask("acquire", A, ttl_s=3600))[0] for n in range(4)]
        assert statuses == [200, 200, 200, 503]
        ours = Asker(h, clock, token=factory.TOKEN)
        assert (await ours.ask("acquire", A))[0] == 200


async def test_a_hub_with_a_list_grants_leases_of_its_accounts_only_and_always_has_room_for_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "MAX_LEASES", 0)
    clock = runtime.SystemClock()
    async with hub.running(tmp_path, accounts=frozenset([ACCOUNT.address])) as h:
        assert await Asker(h, clock, key=factory.STRANGER).refused("acquire", A) == (403, "account not listed")
        assert (await Asker(h, clock).ask("acquire", A))[0] == 200


async def test_one_accounts_holders_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "MAX_HOLDERS", 16)
    async with hub.running(tmp_path) as h:
        asker = Asker(h, runtime.SystemClock())
        titles = [
            (await asker.ask("acquire", lease.holder_of("restarting", random=bytes([n]) * 24)))[1].get("title")
            for n in range(leases.MAX_HOLDERS + 1)
        ]
    assert titles == [None, *["lease held"] * (leases.MAX_HOLDERS - 1), "too many holders"]


async def test_who_asks_too_fast_is_told_to_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "RATE", limits.Rate(per_s=1, burst=2))
    async with hub.running(tmp_path) as h:
        statuses = [(await h.post("/v1/leases", b"{}"))[0] for _ in range(4)]
    assert statuses == [400, 400, 429, 429]


async def test_leases_show_in_the_metrics(tmp_path: Path) -> None:
    async with hub.running(tmp_path) as h:
        asker = Asker(h, runtime.SystemClock())
        await asker.ask("acquire", A)
        await asker.ask("acquire", B)
        assert await h.metric('stakeside_hub_leases_total{result="granted"}') == 1
        assert await h.metric('stakeside_hub_leases_total{result="lease_held"}') == 1


async def test_a_hub_whose_book_has_no_leases_yet_is_brought_up_to_date(tmp_path: Path) -> None:
    import sqlalchemy as sa
    from sqlalchemy.ext.asyncio import create_async_engine

    from kit import migrations

    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'hub.db'}")
    async with engine.begin() as c:
        await c.run_sync(lambda sync: migrations.upgrade(sync, location="earnings:migrations", to="0001"))
        assert not await c.run_sync(lambda sync: sa.inspect(sync).has_table("hub_lease"))
    await engine.dispose()
    async with hub.running(tmp_path) as h:
        assert await Asker(h, runtime.SystemClock()).token("acquire", A) == 1


def test_the_rule_holds_whatever_the_row_says() -> None:
    def asked(action: lease.Action, last: int) -> lease.Request:
        return lease.Request(action, 1, ACCOUNT.address, A, 60, 0, last)

    row, others = leases.Row(A, 7, 5_000, 60_000), leases.Row(B, 7, 5_000, 60_000)
    again = leases.decide(row, asked("acquire", 9), left_ms=1, counter=3)
    assert again == leases.Granted(10, 60), "the book knows more than a restored hub"
    assert leases.decide(row, asked("renew", 6), left_ms=1, counter=7) == leases.Ended()
    assert leases.decide(row, asked("renew", 7), left_ms=0, counter=7) == leases.Ended(), "over at its very end"
    assert leases.decide(None, asked("release", 7), left_ms=0, counter=7) == leases.Ended()
    assert leases.decide(others, asked("acquire", 0), left_ms=1, counter=7) == leases.Taken(B, 1)
