"""The audit of nonces: is the account still only ours? In: the chain's counts and the book's slots. Out: the floor of new nonces, or a latch.

It runs before anything is reserved and before anything new is signed, and whenever counts are read. A latch stops both until a person has
looked; what is signed already is followed, bumped and cancelled all the same.
"""

from __future__ import annotations

from typing import Protocol

import msgspec

from agent.delegations import nonces
from agent.services import delegator
from domain import hashing
from indexers.chain import account
from kit import faults, logs
from store import backup, book, cursors, latches, outstanding

POINTS = ("audit.before_latch", "audit.after_latch")

FLOOR = "submit.floor"
"""The cursor that keeps which floor the latch that was set last would accept, for a chain and an account."""
OFFERED = ":at"
"""And the cursor that keeps how far our index was then."""
log = logs.logger()


class Held(msgspec.Struct, frozen=True):
    """Nothing new is reserved or signed now."""

    why: str


class Audit(Protocol):
    """What the stages ask before anything new is signed."""

    async def check(self, standing: account.Standing) -> nonces.Ok | Held: ...


class NonceAudit:
    """Of one account. `exclusive`: nobody else may hold the account, since there is no lease."""

    def __init__(self, the: delegator.Delegator, *, exclusive: bool) -> None:
        self._the = the
        self._exclusive = exclusive
        # Another account's count means nothing for this one.
        self._floor = f"{FLOOR}:{the.chain_id}:{hashing.hex0x(the.address)}"

    async def check(self, standing: account.Standing) -> nonces.Ok | Held:
        """Raises nothing for what it finds: that is a value."""
        async with self._the.book.read() as c:
            held = await stopped(c)
            view = await self._view(c, standing)
        found = nonces.audit(view)
        match found:
            case nonces.Ok():
                return Held(held) if held else found
            case nonces.Behind():
                return Held(held or found.why)
            case nonces.Restored():
                await self._latch(nonces.RESTORED, found.why, found.floor)
            case nonces.Foreign():
                await self._latch(nonces.FOREIGN, found.why, found.floor)
            case nonces.Gap():
                await self._latch(nonces.FOREIGN, found.why, None)
        return Held(held or found.why)

    async def _view(self, c: book.Connection, standing: account.Standing) -> nonces.View:
        ours = await outstanding.nonces(c, self._the.chain_id, self._the.address)
        set_ = {latch.name for latch in await latches.active(c)}
        # What a latch offered to accept is accepted once a person has cleared it.
        offered = None if set_ & {nonces.FOREIGN, nonces.RESTORED} else await cursors.get(c, self._floor)
        at = None if offered is None else await cursors.get(c, self._floor + OFFERED)
        return nonces.View(
            latest=standing.count_latest,
            pending=standing.count_pending,
            finalized=standing.count_finalized,
            highest=ours.highest,
            open=ours.open,
            unsigned=ours.unsigned,
            settled=ours.settled,
            accepted=None if offered is None else offered.number,
            offered_at=None if at is None else at.number,
            final_height=standing.finalized,
            restored=await backup.restored(c) is not None,
            exclusive=self._exclusive,
        )

    async def _latch(self, name: str, why: str, floor: int | None) -> None:
        faults.point("audit.before_latch")
        async with self._the.book.write() as c:
            if not await latches.set(c, name, reason=why, at_s=self._the.clock.now()):
                return
            if floor is not None:
                await cursors.put(c, self._floor, cursors.Cursor(floor, hashing.ZERO32, 0))
                if (indexed := await cursors.get(c, "index")) is not None:
                    at = cursors.Cursor(indexed.number, indexed.hash, 0)
                    await cursors.put(c, self._floor + OFFERED, at)
        faults.point("audit.after_latch")
        log.error("submit.latched", latch=name, error=why)


async def forgetful(c: book.Connection) -> bool:
    """Whether this book may have forgotten what it signed: then it bumps nothing, since a cancel may have been signed after the backup."""
    if await backup.restored(c) is not None:
        return True
    return any(latch.name == nonces.RESTORED for latch in await latches.active(c))


async def stopped(c: book.Connection) -> str:
    """Why nothing new may be reserved or signed: a latch of this belt. Empty when there is none."""
    found = [latch.name for latch in await latches.active(c) if latch.name.startswith("submit.")]
    return f"latched: {', '.join(sorted(found))}" if found else ""
