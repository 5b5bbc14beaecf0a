"""The port of a lease's authority. In: an account, named when it is built. Out: `Held`, or `Taken` by another holder."""

from __future__ import annotations

from typing import Protocol

import msgspec

from domain import errors

MARGIN = 5
"""A fifth of a lease's time is not used: what was decided just before the end is still signed and written before it."""


class Held(msgspec.Struct, frozen=True):
    """`token` fences out earlier holders; `until_monotonic` is counted from before the request was sent, less the margin."""

    token: int
    until_monotonic: float


class Taken(errors.StakesideError):
    """Another holder has the account: it may sign, we may not. `for_s` is how long its lease lasts if it does not renew."""

    def __init__(self, what: str, *, value: object = None, cure: str = "", for_s: int = 0) -> None:
        super().__init__(what, value=value, cure=cure)
        self.for_s = for_s


class Ended(errors.Transient):
    """Nobody else has the account, but it is not held any more: acquire it again."""


class Leases(Protocol):
    """One account's lease at one authority. Every call has a timeout of its own.

    Raises Transient when the authority is away or answers nonsense, Ended when what is renewed or released ended, Taken when another holder
    has the account."""

    async def acquire(self) -> Held: ...

    async def renew(self, held: Held) -> Held: ...

    async def release(self, held: Held) -> None: ...

    async def look(self) -> str:
        """What the authority says of the account, in words; takes nothing, and raises as the others do, but not Taken."""
        ...


def until(sent_monotonic: float, expires_in_s: int) -> float:
    """When to stop relying on a lease: never later than its authority thinks, however long the answer took."""
    return sent_monotonic + expires_in_s * (MARGIN - 1) / MARGIN
