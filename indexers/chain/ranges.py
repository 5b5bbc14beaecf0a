"""Ranges of a backfill: as large as this node tolerates, without a hole. In: outcomes. Out: the next range to ask for.

Providers limit blocks, results, bytes or seconds, and say so in thirty wordings or not at all. So size follows outcomes alone: double
after success, halve after a refusal (or take the node's own suggestion), and remember where refusals began.
"""

from __future__ import annotations

FIRST_SIZE = 64
RELAX_EVERY = 32
"""Successes at the ceiling before it is tried again: limits on results depend on the place in the chain, so none is for ever."""


class Ranges:
    """Sizes only; where a backfill stands is the cursor's business."""

    def __init__(self, *, largest: int, rows: int, slow_s: float = 5.0) -> None:
        """`largest` blocks a range, about `rows` rows in it, no more than `slow_s` seconds for it."""
        self._largest = max(1, largest)
        self._rows = rows
        self._slow_s = slow_s
        self._ceiling = self._largest
        self._at_ceiling = 0
        self.size = min(FIRST_SIZE, self._largest)

    def __repr__(self) -> str:
        return f"Ranges({self.size} of {self._ceiling})"

    def next(self, *, first: int, limit: int) -> tuple[int, int]:
        """The range from `first`, never past `limit` (the finalized block)."""
        if first > limit:
            raise AssertionError(f"no range from {first}: the limit is {limit}")
        return first, min(first + self.size - 1, limit)

    def succeeded(self, *, first: int, last: int, rows: int, seconds: float) -> None:
        """Grow, unless the answer was as large or as slow as we want it."""
        blocks = last - first + 1
        if rows > self._rows:
            self.size = max(1, blocks * self._rows // rows)
            return
        if seconds > self._slow_s:
            self.size = max(1, blocks // 2)
            return
        if blocks < self.size:  # cut short by the limit: says nothing about size
            return
        if self.size >= self._ceiling < self._largest:
            self._at_ceiling += 1
            if self._at_ceiling >= RELAX_EVERY:
                self._at_ceiling = 0
                self._ceiling = min(self._largest, self._ceiling + max(1, self._ceiling // 4))
        growth = self.size * 2 if rows * 2 <= self._rows else self.size
        self.size = max(1, min(growth, self._ceiling))

    def refused(self, *, first: int, last: int, suggested: int | None = None) -> bool:
        """Shrink. False when one block was already too much: it must be read by its receipts."""
        blocks = last - first + 1
        if blocks <= 1:
            self.size = 1
            return False
        smaller = blocks // 2
        if suggested is not None and 1 <= suggested < blocks:
            smaller = suggested
        self.size = max(1, smaller)
        self._ceiling = max(self.size, 1)
        self._at_ceiling = 0
        return True

    def faltered(self, *, first: int, last: int) -> None:
        """A timeout or broken answer: try half, without concluding that larger ranges are refused."""
        self.size = max(1, (last - first + 1) // 2)


class Coverage:
    """That committed ranges touch each other: asserted before every commit, because a hole would never be seen again."""

    def __init__(self, through: int) -> None:
        """`through`: the last block that is covered already."""
        self.through = through

    def add(self, first: int, last: int) -> None:
        if first != self.through + 1 or last < first:
            raise AssertionError(f"range {first} to {last} does not follow on block {self.through}")
        self.through = last

    def reset(self, through: int) -> None:
        """After a revert or an adoption."""
        self.through = through
