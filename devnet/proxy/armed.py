"""When a fault fires. In: a call's method. Out: a `Shot` with its own random numbers, or nothing.

Chances depend only on (seed, place in the list, method, how many calls of that method came before): not on time, hashes or the
order in which calls of different methods arrive. So one seed tells the same lies twice.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Sequence

from devnet.proxy import catalogue


class Armed:
    """One fault in force, and what it has done so far."""

    def __init__(
        self, fault: catalogue.Fault, *, seed: int, place: int, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self.fault = fault
        self.fired = 0
        self.seed = f"{seed}:{place}:{fault.name}"
        self._monotonic = monotonic
        self._since = monotonic()
        self._seen = 0
        self._calls: Counter[str] = Counter()

    def draw(self, method: str) -> Shot | None:
        """A shot if the fault fires at this call. `Shot.miss` gives it back when there was nothing to change."""
        fault = self.fault
        if not fault.matches(method):
            return None
        ordinal = self._calls[method]
        self._calls[method] += 1
        self._seen += 1
        over = fault.for_s and self._monotonic() - self._since > fault.for_s
        if self._seen <= fault.skip or over or (fault.count and self.fired >= fault.count):
            return None
        dice = random.Random(f"{self.seed}:{method}:{ordinal}")
        if dice.random() >= fault.p:
            return None
        self.fired += 1
        return Shot(self, dice)


class Shot:
    """One firing of a fault: its settings and its own random numbers."""

    __slots__ = ("armed", "dice", "fault")

    def __init__(self, armed: Armed, dice: random.Random) -> None:
        self.armed = armed
        self.fault = armed.fault
        self.dice = dice

    def miss(self) -> None:
        self.armed.fired -= 1


def arm(faults: Sequence[catalogue.Fault], *, seed: int) -> list[Armed]:
    return [Armed(fault, seed=seed, place=place) for place, fault in enumerate(faults)]
