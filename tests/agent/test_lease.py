"""The lease stage: what a guard allows while the lease is held, lost, taken, or its authority away."""

from __future__ import annotations

import asyncio

import pytest

from agent.services import lease
from agent.services.leasing import base
from domain import errors
from kit import runtime

TTL_S = 60


class Authority:
    """One account, several holders, and a switch that takes it away. `late_s` passes before an answer arrives."""

    def __init__(self, clock: runtime.ManualClock) -> None:
        self.clock = clock
        self.holder, self.token, self.until = "", 0, 0.0
        self.away = False
        self.late_s = 0.0

    def of(self, name: str) -> Holder:
        return Holder(self, name)


class Holder:
    def __init__(self, authority: Authority, name: str) -> None:
        self.at, self.name = authority, name

    async def acquire(self) -> base.Held:
        sent, now = await self._reach()
        if self.at.holder != self.name and now < self.at.until:
            raise base.Taken("another holder has it", for_s=int(self.at.until - now))
        if self.at.holder != self.name or now >= self.at.until:
            self.at.token += 1
        return self._hold(sent, now)

    async def renew(self, held: base.Held) -> base.Held:
        sent, now = await self._reach()
        if self.at.holder != self.name and now < self.at.until:
            raise base.Taken("another holder has it", for_s=int(self.at.until - now))
        if now >= self.at.until or held.token != self.at.token:
            raise base.Ended("ended")
        return self._hold(sent, now)

    async def release(self, held: base.Held) -> None:
        await self._reach()
        if held.token == self.at.token:
            self.at.until = 0.0

    async def look(self) -> str:
        return self.at.holder

    async def _reach(self) -> tuple[float, float]:
        sent = self.at.clock.monotonic()
        if self.at.away:
            raise errors.Transient("nobody answers")
        if self.at.late_s:
            await self.at.clock.advance(self.at.late_s)
        return sent, sent  # decided at once, heard late

    def _hold(self, sent: float, now: float) -> base.Held:
        self.at.holder, self.at.until = self.name, now + TTL_S
        return base.Held(self.at.token, base.until(sent, TTL_S))


@pytest.fixture
def clock() -> runtime.ManualClock:
    return runtime.ManualClock()


@pytest.fixture
def authority(clock: runtime.ManualClock) -> Authority:
    return Authority(clock)


def service(authority: Authority, name: str, *, last_token: int = 0) -> lease.LeaseService:
    return lease.LeaseService(
        authority.of(name), ttl_s=TTL_S, clock=authority.clock, downstream=[], last_token=last_token
    )


async def test_nothing_is_signed_before_the_lease_was_asked_for(authority: Authority) -> None:
    guard = service(authority, "a").guard
    assert (guard.token(), guard.following()) == (None, None)
    assert guard.reason


async def test_the_lease_is_renewed_at_a_third_of_its_time_and_keeps_its_token(authority: Authority) -> None:
    kept = service(authority, "a")
    tokens: set[int | None] = set()
    for _ in range(10):
        wait_s = await kept.step()
        assert wait_s == TTL_S / 3
        await authority.clock.advance(wait_s)
        tokens.add(kept.guard.token())
    assert tokens == {1}


async def test_the_time_is_counted_from_before_the_request_was_sent(authority: Authority) -> None:
    kept = service(authority, "a")
    authority.late_s = TTL_S * 0.75
    await kept.step()
    assert kept.guard.token() == 1
    authority.late_s = 0
    await authority.clock.advance(TTL_S * 0.06)
    assert kept.guard.token() is None, "the authority still counts it, the holder does not"
    assert authority.until > authority.clock.monotonic()


class WallClock(runtime.ManualClock):
    """As on a system whose monotonic clock stands still while the machine sleeps: then only the wall tells."""

    slept_s = 0.0

    def now(self) -> float:
        return super().now() + self.slept_s


async def test_a_machine_that_slept_past_the_lease_signs_nothing_until_it_is_renewed() -> None:
    clock = WallClock()
    authority = Authority(clock)
    kept = service(authority, "a")
    await kept.step()
    clock.slept_s = TTL_S * 0.81
    assert kept.guard.token() is None
    await kept.step()
    assert kept.guard.token() == 1


async def test_a_lease_that_a_step_of_the_wall_clock_dropped_is_renewed_at_once() -> None:
    clock = WallClock()
    authority = Authority(clock)
    kept = service(authority, "a")
    stop = asyncio.Event()
    running = asyncio.create_task(runtime.Supervisor([kept], clock=clock).run(stop))
    try:
        async with asyncio.timeout(10):
            while kept.guard.token() is None:
                await asyncio.sleep(0)
            clock.slept_s = 7200
            assert kept.guard.token() is None
            while kept.guard.token() is None:  # no time passes but the wall's
                await asyncio.sleep(0)
    finally:
        stop.set()
        await running
    assert kept.guard.token() == 1


async def test_a_dropped_lease_whose_authority_is_away_is_asked_for_no_faster_than_any_other() -> None:
    clock = WallClock()
    authority = Authority(clock)
    kept = service(authority, "a")
    await kept.step()
    authority.away, clock.slept_s = True, 7200
    rings = 0
    for _ in range(10):
        assert kept.guard.token() is None
        rings += await kept.bell.wait(0)
    assert rings == 1


async def test_a_wall_clock_that_is_set_back_makes_no_lease_longer() -> None:
    clock = WallClock()
    kept = service(Authority(clock), "a")
    await kept.step()
    clock.slept_s = -7200
    assert kept.guard.token() == 1
    await clock.advance(TTL_S * 0.81)
    assert kept.guard.token() is None


async def test_an_answer_that_comes_later_than_the_lease_lasts_is_worth_nothing(authority: Authority) -> None:
    kept = service(authority, "a")
    authority.late_s = TTL_S + 1
    await kept.step()
    assert kept.guard.token() is None


async def test_while_the_authority_is_away_the_lease_runs_out_but_following_goes_on(authority: Authority) -> None:
    kept = service(authority, "a")
    await kept.step()
    authority.away = True
    with pytest.raises(errors.Transient):
        await kept.step()
    assert kept.guard.token() == 1, "its time is not over"
    await authority.clock.advance(TTL_S)
    assert kept.guard.token() is None
    assert kept.guard.following() == 1, "a hub that is lost is no lease that is taken"
    assert "nobody answers" in kept.guard.reason


async def test_another_holder_stops_new_signatures_and_bumps(authority: Authority) -> None:
    first, second = service(authority, "a"), service(authority, "b")
    await first.step()
    await second.step()
    assert (first.guard.token(), second.guard.token()) == (1, None)
    assert "another holder" in second.guard.reason
    await authority.clock.advance(TTL_S)
    await second.step()
    await first.step()
    assert (first.guard.token(), first.guard.following()) == (None, None)
    assert (second.guard.token(), second.guard.following()) == (2, 2)


async def test_a_lease_that_comes_back_has_a_greater_token(authority: Authority) -> None:
    first, second = service(authority, "a"), service(authority, "b")
    await first.step()
    await authority.clock.advance(TTL_S)
    await second.step()
    await first.step()
    await second.close()
    await first.step()
    assert (first.guard.token(), first.guard.following(), first.guard.reason) == (3, 3, "")


async def test_two_agents_never_hold_at_once(authority: Authority) -> None:
    both = [service(authority, name) for name in ("a", "b")]
    seen: list[int] = []
    for second in range(600):
        authority.away = second % 90 > 60
        who = both[second % 2]
        try:
            await who.step()
        except errors.Transient:
            pass
        if second % 150 == 149:
            authority.away = False
            await both[0].close()
            await both[1].close()
        await authority.clock.advance(1)
        holding = [service.guard.token() for service in both if service.guard.token() is not None]
        assert len(holding) <= 1
        seen += [token for token in holding if token is not None]
    assert len(set(seen)) >= 3 and seen == sorted(seen)


async def test_a_stopped_agent_gives_the_lease_back(authority: Authority) -> None:
    first, second = service(authority, "a"), service(authority, "b")
    await first.step()
    await first.close()
    assert first.guard.token() is None
    await second.step()
    assert second.guard.token() == 2


async def test_stopping_does_not_wait_for_an_authority_that_is_away(authority: Authority) -> None:
    kept = service(authority, "a")
    await kept.step()
    authority.away = True
    await kept.close()
    assert kept.guard.token() is None


async def test_a_lease_that_the_authority_forgot_is_acquired_anew(authority: Authority) -> None:
    kept = service(authority, "a")
    await kept.step()
    authority.until = 0.0
    await kept.step()
    assert kept.guard.token() == 2


async def test_after_a_restart_what_is_signed_is_followed_under_the_books_token(authority: Authority) -> None:
    authority.away = True
    guard = service(authority, "a", last_token=7).guard
    assert (guard.token(), guard.following()) == (None, 7)


async def test_taking_the_lease_wakes_submission(authority: Authority) -> None:
    bell = runtime.Bell()
    kept = lease.LeaseService(authority.of("a"), ttl_s=TTL_S, clock=authority.clock, downstream=[bell])
    await kept.step()
    assert await bell.wait(0)
    await kept.step()
    assert not await bell.wait(0), "a renewal is no news"
