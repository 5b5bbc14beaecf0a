"""Bells, clocks and the supervisor, on a clock that only moves when told."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from domain import errors
from kit import runtime


class Scripted:
    """A service that plays a list of outcomes: a number is returned, an exception raised; then it idles."""

    def __init__(self, name: str, *outcomes: float | Exception, place: Callable[[], object] | None = None) -> None:
        self.name = name
        self.bell = runtime.Bell()
        self.calls = 0
        self._outcomes = list(outcomes)
        self._place = place

    def cursor(self) -> object:
        return self._place() if self._place else None

    async def step(self) -> float:
        self.calls += 1
        outcome = self._outcomes.pop(0) if self._outcomes else 1000.0
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


class Running:
    def __init__(self, clock: runtime.ManualClock, supervisor: runtime.Supervisor, task: asyncio.Task[None]) -> None:
        self.clock = clock
        self.supervisor = supervisor
        self.task = task
        self.stop = asyncio.Event()


@asynccontextmanager
async def running(*services: runtime.Service, clock: runtime.ManualClock | None = None) -> AsyncIterator[Running]:
    clock = clock or runtime.ManualClock()
    supervisor = runtime.Supervisor(services, clock=clock, rng=random.Random(1))
    stop = asyncio.Event()
    task = asyncio.create_task(supervisor.run(stop))
    run = Running(clock, supervisor, task)
    run.stop = stop
    await clock.settle()
    try:
        yield run
    finally:
        stop.set()
        await clock.settle()
        await clock.advance(runtime.SHUTDOWN_S + 1)
        async with asyncio.timeout(5):
            await asyncio.gather(task, return_exceptions=True)


async def test_a_bell_rung_before_anybody_waits_is_remembered_once() -> None:
    bell = runtime.Bell()
    bell.ring()
    bell.ring()
    assert await bell.wait(1.0)
    assert not await bell.wait(0.001)


async def test_a_service_is_called_again_when_its_time_has_come() -> None:
    service = Scripted("a", 5.0, 5.0)
    async with running(service) as run:
        assert service.calls == 1
        await run.clock.advance(4.9)
        assert service.calls == 1
        await run.clock.advance(0.2)
        assert service.calls == 2


async def test_a_bell_calls_a_service_before_its_time() -> None:
    service = Scripted("a", 500.0)
    async with running(service) as run:
        service.bell.ring()
        await run.clock.settle()
        assert service.calls == 2
        assert run.clock.monotonic() == 0


async def test_a_service_with_endless_work_does_not_starve_the_others() -> None:
    class Endless(Scripted):
        async def step(self) -> float:
            self.calls += 1
            return 0.0

    greedy, other = Endless("greedy"), Scripted("other", 1.0, 1.0)
    async with running(greedy, other) as run:
        await run.clock.advance(1.5)
        assert other.calls == 2
        assert greedy.calls > 10


async def test_a_transient_error_backs_off_and_recovers() -> None:
    away = errors.Transient("the node is away")
    service = Scripted("a", away, away, away, away, 50.0)
    async with running(service) as run:
        state = run.supervisor.states["a"]
        assert (state.status, state.reason) == ("degraded", "the node is away")
        first = state.next_due
        assert first is not None and 0.25 <= first <= 0.5
        await run.clock.advance(60)
        assert (state.status, state.reason, state.failures_total) == ("ok", "", 4)


async def test_a_wish_to_be_asked_later_is_honoured() -> None:
    service = Scripted("a", errors.Transient("busy", retry_after_s=40.0), 1000.0)
    async with running(service) as run:
        await run.clock.advance(39)
        assert service.calls == 1
        await run.clock.advance(2)
        assert service.calls == 2


async def test_three_failures_at_one_cursor_latch_that_service_only() -> None:
    bad = errors.Parked("a hostile event")
    broken, healthy = Scripted("broken", *[bad] * 9), Scripted("healthy", *[10.0] * 9)
    async with running(broken, healthy) as run:
        await run.clock.advance(35)
        assert run.supervisor.states["broken"].status == "latched"
        assert broken.calls == 3
        assert run.supervisor.states["healthy"].status == "ok"
        assert healthy.calls == 4
        assert not run.task.done()


async def test_failures_at_different_cursors_do_not_latch() -> None:
    places = iter(range(100))
    bad = errors.HistoryUnavailable("pruned")
    service = Scripted("a", *[bad] * 5, 1000.0, place=lambda: next(places))
    async with running(service) as run:
        await run.clock.advance(100)
        assert run.supervisor.states["a"].status == "ok"


async def test_a_success_between_failures_starts_the_count_again() -> None:
    bad = errors.Parked("bad")
    service = Scripted("a", bad, bad, 1.0, bad, bad, 1000.0)
    async with running(service) as run:
        await run.clock.advance(100)
        assert run.supervisor.states["a"].status == "ok"


async def test_a_programming_error_is_counted_like_any_other() -> None:
    service = Scripted("a", *[KeyError("boom")] * 3)
    async with running(service) as run:
        await run.clock.advance(100)
        assert run.supervisor.states["a"].status == "latched"
        assert "KeyError" in run.supervisor.states["a"].reason


async def test_a_finality_violation_latches_at_once() -> None:
    service = Scripted("a", errors.FinalityViolated("block 5 was replaced"))
    async with running(service) as run:
        assert run.supervisor.states["a"].status == "latched"


@pytest.mark.parametrize("error", [errors.BadConfig("bad"), errors.StoreError("bad"), errors.WrongChain("bad")])
async def test_an_error_of_wiring_or_book_ends_the_process(error: errors.StakesideError) -> None:
    async with running(Scripted("a", error), Scripted("b", 1.0)) as run:
        with pytest.raises(type(error)):
            await run.task


async def test_another_chain_after_the_start_is_counted() -> None:
    service = Scripted("a", 1.0, *[errors.WrongChain("chain 1")] * 3)
    async with running(service) as run:
        await run.clock.advance(100)
        assert run.supervisor.states["a"].status == "latched"
        assert not run.task.done()


async def test_the_first_stop_lets_the_current_step_finish() -> None:
    class Slow(Scripted):
        finished = False

        async def step(self) -> float:
            await clock_of.sleep(5)
            self.finished = True
            return 1.0

    service = Slow("slow")
    clock_of = runtime.ManualClock()
    supervisor = runtime.Supervisor([service], clock=clock_of)
    stop = asyncio.Event()
    task = asyncio.create_task(supervisor.run(stop))
    await clock_of.settle()
    stop.set()
    await clock_of.advance(6)
    await task
    assert service.finished
    assert supervisor.states["slow"].status == "stopped"


async def test_a_step_that_outlives_the_deadline_is_cancelled() -> None:
    class Hung(Scripted):
        cancelled = False

        async def step(self) -> float:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.cancelled = True
                raise
            return 0.0

    service = Hung("hung")
    clock = runtime.ManualClock()
    stop = asyncio.Event()
    task = asyncio.create_task(runtime.Supervisor([service], clock=clock).run(stop))
    await clock.settle()
    stop.set()
    await clock.advance(runtime.SHUTDOWN_S - 1)
    assert not task.done()
    await clock.advance(2)
    await task
    assert service.cancelled


async def test_cancelling_the_supervisor_cancels_its_services_at_once() -> None:
    service = Scripted("a", 1000.0)
    clock = runtime.ManualClock()
    task = asyncio.create_task(runtime.Supervisor([service], clock=clock).run(asyncio.Event()))
    await clock.settle()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_hung_step_is_not_alive_and_a_waiting_service_is() -> None:
    class Hung(Scripted):
        async def step(self) -> float:
            await asyncio.Event().wait()
            return 0.0

    async with running(Hung("hung"), Scripted("idle", 10_000.0)) as run:
        assert run.supervisor.stuck() == []
        await run.clock.advance(runtime.STEP_LIMIT_S + runtime.GRACE_S + 1)
        assert run.supervisor.stuck() == ["hung"]


async def test_a_latched_service_does_not_make_the_process_dead() -> None:
    async with running(Scripted("a", errors.FinalityViolated("x"))) as run:
        await run.clock.advance(10_000)
        assert run.supervisor.stuck() == []


async def test_two_services_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="share a name"):
        runtime.Supervisor([Scripted("a"), Scripted("a")], clock=runtime.ManualClock())


async def test_the_first_signal_asks_and_the_second_cancels() -> None:
    loop = asyncio.get_running_loop()

    async def body() -> None:
        async with runtime.signals() as stop:
            os.kill(os.getpid(), signal.SIGTERM)
            async with asyncio.timeout(5):
                await stop.wait()
            loop.call_soon(os.kill, os.getpid(), signal.SIGTERM)
            await asyncio.sleep(5)

    with pytest.raises(asyncio.CancelledError):
        await asyncio.create_task(body())


def test_backoff_grows_to_its_cap_and_starts_again() -> None:
    backoff = runtime.Backoff(base_s=1.0, cap_s=8.0, rng=random.Random(3))
    delays = [backoff.next_s() for _ in range(6)]
    for delay, full in zip(delays, (1, 2, 4, 8, 8, 8), strict=True):
        assert full / 2 <= delay <= full
    backoff.reset()
    assert backoff.next_s() <= 1.0


def test_the_machines_clock_goes_on_while_the_machine_sleeps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "clock_gettime", {time.CLOCK_BOOTTIME: 5000.0, time.CLOCK_MONOTONIC: 40.0}.__getitem__)
    assert runtime.SystemClock().monotonic() == 5000.0


async def test_a_machine_that_slept_has_no_stuck_services() -> None:
    """What waits is woken later by the time that the machine slept, so that time counts for nobody."""

    class Sleepy(runtime.ManualClock):
        slept_s = 0.0

        def monotonic(self) -> float:
            return super().monotonic() + self.slept_s

    clock = Sleepy()
    async with running(Scripted("a", 500.0), clock=clock) as run:
        clock.slept_s = 86_400
        assert run.supervisor.stuck() == []
        run.supervisor.states["a"].next_due = -runtime.GRACE_S - 1
        assert run.supervisor.stuck() == ["a"]


def test_the_time_awake_is_what_waiting_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "clock_gettime", {time.CLOCK_BOOTTIME: 5000.0, time.CLOCK_MONOTONIC: 40.0}.__getitem__)
    monkeypatch.setattr(time, "monotonic", lambda: 40.0)
    assert runtime.SystemClock().awake() == 40.0
