"""Time, wake-ups and supervision. In: services. Out: a process that keeps stepping them, and says how they are.

A service does one bounded unit of work in `step()` and returns the seconds until it wants to be called again. It never sleeps, retries
or spawns: that is decided here, and only here is `except Exception` written. What an error means is in `domain.errors`:

    Transient, BadAnswer        back off (its own `retry_after_s` when it named one), degraded
    FinalityViolated            this service latches at once
    BadConfig, StoreError       the process ends; WrongChain too, while the service has not stepped yet
    anything else               counted: three in a row at one `cursor()` latch this service; the others run on
"""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Hashable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Literal, Protocol, runtime_checkable

import msgspec

from domain import errors
from kit import logs

FAILURES_TO_LATCH = 3
"""Two can be an accident of timing; at the third the same input has failed the same way."""
STEP_LIMIT_S = 120.0
"""A step longer than this counts as hung: it is bounded work, with a timeout on every outside call."""
GRACE_S = 30.0
"""How late a waiting service may be called, on a machine that is busy, before the process counts as not alive."""
SHUTDOWN_S = 10.0
"""What a step gets to finish after the first signal."""

Status = Literal["starting", "ok", "degraded", "latched", "stopped"]
log = logs.logger()


class Bell:
    """A wake-up: ringing before anybody waits is remembered, ringing twice is ringing once."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def ring(self) -> None:
        self._event.set()

    async def wait(self, timeout_s: float | None) -> bool:
        """True when it rang, False when `timeout_s` passed first. None waits for ever."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._event.wait()
        except TimeoutError:
            return False
        self._event.clear()
        return True


class Clock(Protocol):
    """Where time comes from. `now` is unix seconds, `monotonic` only ever grows, `awake` with it but while the machine sleeps: what `sleep`
    counts."""

    def now(self) -> float: ...

    def monotonic(self) -> float: ...

    def awake(self) -> float: ...

    async def sleep(self, seconds: float) -> None: ...


_MONOTONIC = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class SystemClock:
    """The machine's clock. `monotonic` goes on while the machine sleeps, where the system can tell: a lease that was held before a
    suspend has run out after it."""

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.clock_gettime(_MONOTONIC)

    def awake(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class ManualClock:
    """A clock that moves only when a test says so."""

    def __init__(self, start: float = 1_700_000_000.0) -> None:
        self._start = start
        self._elapsed = 0.0
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []

    def now(self) -> float:
        return self._start + self._elapsed

    def monotonic(self) -> float:
        return self._elapsed

    def awake(self) -> float:
        return self._elapsed

    @property
    def sleepers(self) -> int:
        return sum(not future.done() for _, future in self._sleepers)

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        entry = (self._elapsed + seconds, asyncio.get_running_loop().create_future())
        self._sleepers.append(entry)
        try:
            await entry[1]
        finally:
            self._sleepers.remove(entry)

    async def advance(self, seconds: float) -> None:
        """Move on, waking each sleeper at its own moment, in order; whoever wakes may sleep again and be woken in the same call."""
        end = self._elapsed + seconds
        while True:
            await self.settle()
            due = [entry for entry in self._sleepers if not entry[1].done() and entry[0] <= end]
            if not due:
                break
            moment, future = min(due, key=lambda entry: entry[0])
            self._elapsed = max(self._elapsed, moment)
            future.set_result(None)
        self._elapsed = end
        await self.settle()

    async def settle(self) -> None:
        """Let everybody who can run without time passing do so."""
        for _ in range(50):
            await asyncio.sleep(0)


class Backoff:
    """Exponential delays with jitter. `reset` on success."""

    def __init__(self, *, base_s: float = 0.5, cap_s: float = 60.0, rng: random.Random | None = None) -> None:
        self._base_s = base_s
        self._cap_s = cap_s
        self._rng = rng or random.Random()
        self._attempt = 0

    def next_s(self) -> float:
        """Between half and all of base·2ⁿ, at most the cap."""
        full = min(self._cap_s, self._base_s * 2 ** min(self._attempt, 20))
        self._attempt += 1
        return full * self._rng.uniform(0.5, 1.0)

    def reset(self) -> None:
        self._attempt = 0


class Service(Protocol):
    """One stage of a belt."""

    @property
    def name(self) -> str: ...

    bell: Bell

    async def step(self) -> float:
        """One unit of work, one transaction. Seconds until the next call if nobody rings; 0 when there is more to do now."""
        ...


@runtime_checkable
class HasCursor(Protocol):
    """A service that can say where it is, so that three failures at one place are told from three at three places."""

    def cursor(self) -> Hashable: ...


class ServiceState(msgspec.Struct):
    """What health, readiness, metrics and the status page show of one service. Times are seconds of `Clock.awake`. `failures` counts towards
    latching, `in_a_row` failed steps of any kind since the last good one."""

    name: str
    status: Status = "starting"
    reason: str = ""
    last_step: float | None = None
    next_due: float | None = None
    failures: int = 0
    in_a_row: int = 0
    steps: int = 0
    failures_total: int = 0
    step_seconds_total: float = 0.0

    @property
    def latched(self) -> bool:
        return self.status == "latched"


class Supervisor:
    """Runs services side by side until told to stop. `states` is live.

    `on_step(name, seconds)` sees every finished step; `on_latch(state)` is called when a service latches.
    """

    def __init__(
        self,
        services: Sequence[Service],
        *,
        clock: Clock,
        rng: random.Random | None = None,
        shutdown_s: float = SHUTDOWN_S,
        on_step: Callable[[str, float], None] | None = None,
        on_latch: Callable[[ServiceState], None] | None = None,
        on_fatal: Callable[[str, Exception], None] | None = None,
    ) -> None:
        names = [service.name for service in services]
        if len(set(names)) != len(names):
            raise ValueError(f"two services share a name: {names}")
        self.states: dict[str, ServiceState] = {name: ServiceState(name) for name in names}
        self._services = tuple(services)
        self._clock = clock
        self._rng = rng or random.Random()
        self._shutdown_s = shutdown_s
        self._on_step = on_step
        self._on_latch = on_latch
        self._on_fatal = on_fatal
        self._stopping = asyncio.Event()
        self._fatal: Exception | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop` is set or an error ends the process (which is then raised). The current steps get `shutdown_s` to finish;
        cancelling this call cancels them at once."""
        start = self._clock.awake()
        for state in self.states.values():
            state.next_due = start
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._serve(service), name=service.name) for service in self._services]
            await _first(stop.wait(), self._stopping.wait())
            self._stopping.set()
            for service in self._services:
                service.bell.ring()
            if tasks:
                await _first(asyncio.wait(tasks), self._clock.sleep(self._shutdown_s))
            for task in tasks:
                if not task.done():
                    log.warning("service.cancelled", service=task.get_name(), after_s=self._shutdown_s)
                    task.cancel()
        if self._fatal is not None:
            raise self._fatal

    def stuck(self) -> list[str]:
        """Services that neither stepped nor wait with a deadline still ahead: empty while the process is alive."""
        now = self._clock.awake()
        running = (s for s in self.states.values() if s.status not in ("latched", "stopped"))
        return [s.name for s in running if s.next_due is not None and now > s.next_due + GRACE_S]

    async def _serve(self, service: Service) -> None:
        state = self.states[service.name]
        backoff = Backoff(rng=self._rng)
        failed_at: Hashable = None
        try:
            while not (self._stopping.is_set() or state.latched):
                started = self._clock.awake()
                state.next_due = started + STEP_LIMIT_S
                try:
                    wait_s = await service.step()
                except errors.Transient as error:
                    wait_s = self._degrade(state, error, backoff)
                except Exception as error:
                    if self._is_fatal(state, error):
                        self._end(state, error)
                        return
                    place = service.cursor() if isinstance(service, HasCursor) else None
                    state.failures = state.failures + 1 if state.failures and place == failed_at else 1
                    failed_at = place
                    wait_s = self._count(state, error, backoff)
                else:
                    self._succeed(state, backoff)
                self._measure(state, started)
                state.next_due = self._clock.awake() + wait_s
                if not state.latched:
                    await self._pause(service, wait_s)
        finally:
            if not state.latched:
                state.status = "stopped"

    async def _pause(self, service: Service, wait_s: float) -> None:
        if self._stopping.is_set():
            return
        if wait_s <= 0:
            await asyncio.sleep(0)  # a service with endless work must not starve the others
            return
        await _first(service.bell.wait(None), self._clock.sleep(wait_s))

    def _measure(self, state: ServiceState, started: float) -> None:
        now = self._clock.awake()
        state.last_step = now
        state.steps += 1
        state.step_seconds_total += now - started
        if self._on_step is not None:
            self._on_step(state.name, now - started)

    def _succeed(self, state: ServiceState, backoff: Backoff) -> None:
        if state.status == "degraded":
            log.info("service.recovered", service=state.name)
        state.status, state.reason, state.failures, state.in_a_row = "ok", "", 0, 0
        backoff.reset()

    def _degrade(self, state: ServiceState, error: errors.Transient, backoff: Backoff) -> float:
        wait_s = backoff.next_s()
        if error.retry_after_s is not None:
            wait_s = max(wait_s, min(error.retry_after_s, 3600.0))
        if state.status != "degraded":
            log.warning("service.degraded", service=state.name, error=str(error), retry_s=round(wait_s, 2))
        state.status, state.reason = "degraded", logs.scrub(str(error))
        state.failures_total += 1
        state.in_a_row += 1
        return wait_s

    def _count(self, state: ServiceState, error: Exception, backoff: Backoff) -> float:
        text = str(error) if isinstance(error, errors.StakesideError) else f"{type(error).__name__}: {error}"
        state.reason = logs.scrub(text)
        state.failures_total += 1
        state.in_a_row += 1
        if state.failures >= FAILURES_TO_LATCH or isinstance(error, errors.FinalityViolated):
            state.status = "latched"
            log.error("service.latched", service=state.name, error=text, failures=state.failures, exc_info=error)
            if self._on_latch is not None:
                self._on_latch(state)
            return 0.0
        state.status = "degraded"
        wait_s = backoff.next_s()
        expected = isinstance(error, errors.StakesideError)
        log.error(
            "service.failed",
            service=state.name,
            error=text,
            failures=state.failures,
            exc_info=None if expected else error,
        )
        return wait_s

    def _is_fatal(self, state: ServiceState, error: Exception) -> bool:
        if isinstance(error, errors.BadConfig | errors.StoreError):
            return True
        return isinstance(error, errors.WrongChain) and state.status == "starting"

    def _end(self, state: ServiceState, error: Exception) -> None:
        state.reason = logs.scrub(str(error))
        log.error("service.fatal", service=state.name, error=str(error))
        if self._fatal is None:
            self._fatal = error
        if self._on_fatal is not None:
            self._on_fatal(state.name, error)
        self._stopping.set()


async def _first(*awaitables: Coroutine[Any, Any, object]) -> None:
    """Until one of them is done; the others are cancelled and waited for."""
    tasks = [asyncio.ensure_future(awaitable) for awaitable in awaitables]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def signals() -> AsyncIterator[asyncio.Event]:
    """An event that the first SIGINT or SIGTERM sets. The second cancels the task that entered; a third kills."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    main = asyncio.current_task()
    caught = (signal.SIGINT, signal.SIGTERM)

    def received(number: int) -> None:
        if not stop.is_set():
            log.info("process.stopping", signal=signal.Signals(number).name)
            stop.set()
            return
        log.warning("process.cancelled", signal=signal.Signals(number).name)
        release()
        if main is not None:
            main.cancel()

    def release() -> None:
        for number in caught:
            loop.remove_signal_handler(number)

    for number in caught:
        loop.add_signal_handler(number, received, number)
    try:
        yield stop
    finally:
        release()
