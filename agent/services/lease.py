"""The lease stage: this agent signs for its account only while it holds the account's lease. In: an authority. Out: a guard.

The rule, which everything that signs for the account follows:

    guard.token()      is asked before a nonce is reserved and before a new intent is signed. None: do neither. The token goes into the
                       row, and the book refuses a row with a lower one than it has seen.
    guard.following()  is asked before a bump or a cancel of what is already signed. Those reuse a nonce that this agent signed for, so
                       they cannot make a second effect, and they go on while the authority is merely away: a hub that is lost is no
                       lease that is taken. None only after another holder was seen to have the account: from then on it follows the
                       account's nonces, and we only watch.

Sending bytes that are already signed again, and watching the chain, need no lease at all. Losing a lease sets no latch: it is how one
agent takes over from another. Whoever gets it back goes on under a greater token, after its audit of the account's nonces.
"""

from __future__ import annotations

from agent.services.leasing import base
from domain import errors
from kit import faults, logs, runtime

POINTS = ("lease.before_ask", "lease.after_ask", "lease.before_take", "lease.after_take")
RETRY_S = 1.0
"""The least wait before another holder's lease is asked for again."""
log = logs.logger()


class LeaseGuard:
    """What others see of the lease. `last_token` is the highest token the book has seen for the account (0: none). `bell` is rung once when
    the wall clock says that a lease is over before the stage thinks so."""

    def __init__(self, clock: runtime.Clock, bell: runtime.Bell, *, last_token: int = 0) -> None:
        self._bell = bell
        self._dropped = False
        self.reason = "the lease has not been asked for yet"
        self._clock = clock
        self._held: base.Held | None = None
        self._wall_end = 0.0
        self._last = last_token
        self._taken = False

    def token(self) -> int | None:
        """The fencing token while the lease is surely held; None: reserve nothing and sign nothing new."""
        held = self._held
        if held is None or self._clock.monotonic() >= held.until_monotonic:
            return None
        if self._clock.now() < self._wall_end:
            return held.token
        if not self._dropped:  # the machine slept, or its clock was set: no reason to wait for the next renewal
            self._dropped = True
            self._bell.ring()
        return None

    def following(self) -> int | None:
        """The token under which what is already signed may be bumped or cancelled; None when another holder took over."""
        return self._last if self._last and not self._taken else None

    @property
    def held(self) -> base.Held | None:
        """The last lease that was granted and not lost; its time may be over."""
        return self._held

    def hold(self, held: base.Held) -> None:
        # By the wall too: a machine may have slept through the lease on a clock that stood still with it.
        self._wall_end = self._clock.now() + held.until_monotonic - self._clock.monotonic()
        self._held, self._taken, self._dropped, self.reason = held, False, False, ""
        self._last = max(self._last, held.token)

    def away(self, reason: str) -> None:
        """The authority does not answer: what is held is held until its time is over."""
        self.reason = reason

    def lose(self, reason: str, *, taken: bool) -> None:
        self._held, self.reason = None, reason
        self._taken = self._taken or taken


class LeaseService:
    """Takes the lease, keeps it by renewing at a third of its time, and takes it back when it can."""

    name = "lease"

    def __init__(
        self,
        leases: base.Leases,
        *,
        ttl_s: int,
        clock: runtime.Clock,
        downstream: list[runtime.Bell],
        last_token: int = 0,
    ) -> None:
        self.bell = runtime.Bell()
        self.guard = LeaseGuard(clock, self.bell, last_token=last_token)
        self._leases = leases
        self._ttl_s = ttl_s
        self._downstream = downstream

    async def step(self) -> float:
        """Raises Transient while the authority is away. Another holder is no error: a second agent stands by like this."""
        before = self.guard.held
        faults.point("lease.before_ask")
        try:
            held = await self._ask(before)
        except base.Taken as error:
            self._lose(error, had=before is not None)
            return min(max(RETRY_S, float(error.for_s)), self._ttl_s / 3)
        except errors.Transient as error:
            self.guard.away(str(error))
            raise
        faults.point("lease.after_ask")
        self._take(before, held)
        return self._ttl_s / 3

    async def _ask(self, before: base.Held | None) -> base.Held:
        if before is None or self.guard.token() is None:
            return await self._leases.acquire()
        try:
            return await self._leases.renew(before)
        except base.Ended as error:
            self.guard.lose(error.what, taken=False)
            return await self._leases.acquire()

    def _take(self, before: base.Held | None, held: base.Held) -> None:
        faults.point("lease.before_take")
        self.guard.hold(held)
        faults.point("lease.after_take")
        if before is None or before.token != held.token:
            log.info("lease.held", fence=held.token)
            for bell in self._downstream:
                bell.ring()

    def _lose(self, error: base.Taken, *, had: bool) -> None:
        if had or self.guard.reason != str(error.what):
            log.warning("lease.taken", error=str(error), lost=had)
        self.guard.lose(str(error.what), taken=True)

    async def close(self) -> None:
        """Give the lease back, once nothing signs any more, so that the next agent need not wait. Never raises for a lost authority."""
        held = self.guard.held
        self.guard.lose("this agent is stopping", taken=False)
        if held is None:
            return
        try:
            await self._leases.release(held)
        except errors.StakesideError as error:
            log.warning("lease.not_released", error=str(error), expires_in_s=self._ttl_s)
