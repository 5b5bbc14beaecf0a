"""Retention: what the book need not keep goes, a little at a time. In: rows past their days. Out: fewer of them.

Housekeeping, on no belt: nothing waits for it, and it waits between slices so that others have the writer.
"""

from __future__ import annotations

from kit import logs, runtime
from store import book, retention

IDLE_S = 3600.0
BETWEEN_S = 0.2
log = logs.logger()


class RetentionService:
    """A slice a step."""

    name = "retention"

    def __init__(self, the_book: book.Book, *, orphaned_days: int, journal_days: int, clock: runtime.Clock) -> None:
        self.bell = runtime.Bell()
        self._book = the_book
        self._limits = retention.Limits(orphaned_days, journal_days)
        self._clock = clock
        self._rows = 0

    async def step(self) -> float:
        async with self._book.write() as c:
            done = await retention.apply(c, self._limits, now_s=self._clock.now())
        self._rows += done.rows
        if done.more:
            return BETWEEN_S
        if self._rows:
            log.info("retention.removed", rows=self._rows)
            self._rows = 0
        return IDLE_S
