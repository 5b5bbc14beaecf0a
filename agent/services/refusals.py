"""What the book refuses of one intent stops that intent only. In: a refused write. Out: what the intent says, a log line, a count.

A refusal (a move that its rows do not bear out, a row that another one contradicts) would come again at every step. The intent is put aside
for a while and looked at again; the others go on. A book that cannot be used at all (`errors.Unusable`) and a lost connection are no
refusals: they pass through, to the supervisor. One that is refused again as soon as it is looked at is put aside for twice as long: what leads
to the refusal may have left this machine, as bytes that are sent do.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from agent.services import delegator
from domain import errors, hashing, intent
from kit import logs
from store import outstanding

AGAIN_S = 60.0
"""How long an intent is put aside at first: the cause is in rows, which seldom change."""
LONGEST_S = 900.0
"""And at most."""
log = logs.logger()


class Refusals:
    def __init__(self, the: delegator.Delegator) -> None:
        self._the = the
        self._until: dict[bytes, float] = {}
        self._last: dict[bytes, tuple[float, float]] = {}
        """When it was put aside last, and for how long."""
        self._untold: dict[bytes, tuple[str, float]] = {}

    def all(self) -> list[bytes]:
        """Everything that is put aside now."""
        return [id for id in list(self._until) if self.aside(id)]

    def aside(self, id: bytes) -> bool:
        """Whether it is not its time yet."""
        until = self._until.get(id)
        if until is not None and self._the.clock.monotonic() >= until:
            del self._until[id]
            return False
        return until is not None

    @contextmanager
    def one(self, id: bytes, *, kind: intent.AttemptKind = "original") -> Iterator[None]:
        """What is refused in here is kept for `tell`. Around a write there has to be a savepoint or a transaction inside."""
        try:
            yield
        except errors.Unusable:
            raise
        except errors.StoreError as error:
            wait_s = self._put_aside(id)
            self._untold[id] = f"the book refuses what follows: {error}; tried again in {wait_s:.0f} s", wait_s
            self._the.observe(kind, "refused")
            log.error("intent.refused", intent=hashing.hex0x(id), error=str(error))

    def _put_aside(self, id: bytes) -> float:
        now = self._the.clock.monotonic()
        if self._until.get(id, now) > now:
            return self._last[id][1]  # refused twice in one step
        self._last = {key: (at_s, wait_s) for key, (at_s, wait_s) in self._last.items() if now < at_s + 2 * wait_s}
        wait_s = min(2 * self._last[id][1], LONGEST_S) if id in self._last else AGAIN_S
        self._until[id], self._last[id] = now + wait_s, (now, wait_s)
        return wait_s

    async def tell(self) -> None:
        """In a transaction of its own: the one that was refused is gone. The timer moves each time, whether the words are new or not: an
        intent that is due at once would take the turn of the others."""
        if not self._untold:
            return
        async with self._the.book.write() as c:
            for id, (why, wait_s) in self._untold.items():
                try:
                    async with c.savepoint():
                        await outstanding.wait(c, id, why=why, next_s=self._the.now() + wait_s)
                except errors.Unusable:
                    raise
                except errors.StoreError as error:
                    log.error("intent.refused", intent=hashing.hex0x(id), error=str(error))
        self._untold.clear()
