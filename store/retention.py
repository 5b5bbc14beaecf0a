"""What the agent's book keeps and what it lets go. In: limits in days. Out: a bounded slice of rows deleted in the caller's transaction.

Every table is declared here. Facts are guarded by triggers; those of the four tables that hold rows which may go let exactly these
through (`tables.MAY_GO`), up to where `pruned` says that it was decided. Nothing goes while a latch is set: it may be evidence.
"""

from __future__ import annotations

import msgspec
import sqlalchemy as sa

from kit import retention
from kit.retention import Bounded, Forever, Working
from store import bulk, cursors, latches, principals, tally
from store.connection import Connection
from store.tables import block, journal, log, parked, proven, pruned

DAY_S = 86_400
BLOCKS, ENTRIES = 50, 2000
"""In one slice: a transaction that takes milliseconds, so that a submission never waits for housekeeping."""

_SIGNED = "it was signed with a key, and says what must not be signed again"
_PROVES = "it proves what somebody else said or paid for"
_PERSON = "it says what a person decided"
_ONCE = "it makes sure that nothing happens twice"
_ORPHANED = "what a reorg put aside, when it is final and older than this"

RULES: dict[str, retention.Rule] = {
    "meta": Forever("it says what this book is the book of, and where it came from"),
    "block": Bounded(_ORPHANED, "retention.orphaned_days"),
    "log": Bounded(_ORPHANED, "retention.orphaned_days"),
    "proven": Bounded(_ORPHANED, "retention.orphaned_days"),
    "parked": Bounded(_ORPHANED, "retention.orphaned_days"),
    "journal": Bounded("entries of blocks committed and finalized, older than this", "retention.journal_days"),
    "tally": Working("a count"),
    "cursor": Working("a stage"),
    "coverage": Working("an unbroken run of blocks that were read"),
    "pruned": Working("a kind of rows that may go"),
    "latch": Forever(_PERSON),
    "gap": Forever("it explains what was not derived here"),
    "lineage": Forever("leaves and statements refer to it"),
    "carry": Forever(
        "with it any frame's body can be shown, derived anew and verified; frames without events share one"
    ),
    "statement": Forever(_SIGNED),
    "subject": Forever("leaves refer to it"),
    "leaf": Forever("it is what was earned"),
    "vote": Forever(_SIGNED),
    "outbox": Forever("a hub that lost its memory gets everything again"),
    "receipt": Forever(_PROVES),
    "intent": Forever(_PERSON),
    "progress": Forever("it is where an intent stands, one row each"),
    "transition": Forever("it says how an intent came to where it is"),
    "policy": Forever("decisions refer to it"),
    "decision": Forever("it says why money was allowed to move"),
    "nonce_slot": Forever(_ONCE),
    "reservation": Forever("limits count it"),
    "attempt": Forever(_ONCE),
    "signed_tx": Forever(_SIGNED),
    "broadcast": Forever("it says when a signed transaction left, one row each"),
    "inclusion": Forever("it proves what money did"),
    "command": Forever(_PERSON),
    "principal": Forever("commands name it"),
    "session": Bounded("sessions that have expired"),
}


class Limits(msgspec.Struct, frozen=True):
    """Days; 0 keeps everything."""

    orphaned_days: int
    journal_days: int


class Removed(msgspec.Struct, frozen=True):
    """Rows of one slice. `more`: there are rows left that may go now."""

    rows: int
    more: bool


async def apply(c: Connection, limits: Limits, *, now_s: float) -> Removed:
    """One slice of each rule."""
    if await latches.active(c):
        return Removed(0, more=False)
    now = int(now_s)
    sessions = await principals.prune(c, now)
    blocks = await _orphaned(c, before_s=now - limits.orphaned_days * DAY_S, now=now) if limits.orphaned_days else 0
    entries = await _journal(c, before_s=now - limits.journal_days * DAY_S, now=now) if limits.journal_days else 0
    return Removed(sessions + blocks + entries, more=blocks > 0 or entries >= ENTRIES)


async def _orphaned(c: Connection, *, before_s: int, now: int) -> int:
    """Blocks lower than the finalized one and than the first that is too young, with all that belongs to them."""
    finalized = await cursors.get(c, "finalized")
    if finalized is None:
        return 0
    aside = block.c.orphaned_generation.is_not(None)
    young = await c.scalar(sa.select(sa.func.min(block.c.number)).where(aside, block.c.time >= max(before_s, 0)))
    below = finalized.number if young is None else min(finalized.number, int(young))
    query = sa.select(block.c.number, block.c.hash).where(aside, block.c.number < below)
    found = await c.rows(query.order_by(block.c.number, block.c.hash).limit(BLOCKS))
    if not found:
        return 0
    await _allow(c, "orphaned", below=below, now=now)
    hashes, numbers = [row.hash for row in found], sorted({row.number for row in found})
    await c.change(proven.delete().where(proven.c.block_hash.in_(hashes)))
    parked_ = await c.change(parked.delete().where(parked.c.block_hash.in_(hashes)))
    logs = await c.change(log.delete().where(log.c.number.in_(numbers), log.c.block_hash.in_(hashes)))
    blocks = await c.change(block.delete().where(block.c.number.in_(numbers), block.c.hash.in_(hashes)))
    for name, count in (("log", logs), ("block", blocks)):
        await tally.add(c, name, -count)
        await tally.add(c, f"{name}_orphaned", -count)
    await _count(c, "orphaned", logs + blocks + parked_)
    return logs + blocks + parked_


async def _journal(c: Connection, *, before_s: int, now: int) -> int:
    """Entries that only say that all went well; never the newest, whose number the next one continues."""
    newest = await c.scalar(sa.select(sa.func.max(journal.c.id)))
    young = await c.scalar(sa.select(journal.c.id).where(journal.c.at_s >= before_s).order_by(journal.c.id).limit(1))
    if newest is None:
        return 0
    below = int(newest) if young is None else min(int(newest), int(young))
    routine = journal.c.kind.in_(("committed", "finalized"))
    query = sa.select(journal.c.id).where(routine, journal.c.id < below).order_by(journal.c.id).limit(ENTRIES)
    found = [row.id for row in await c.rows(query)]
    if not found:
        return 0
    await _allow(c, "journal", below=below, now=now)
    count = 0
    for some in bulk.pieces(found):
        count += await c.change(journal.delete().where(journal.c.id.in_(some)))
    await _count(c, "journal", count)
    return count


async def _allow(c: Connection, name: str, *, below: int, now: int) -> None:
    row = {"name": name, "below": below, "rows": 0, "at_s": now}
    await bulk.upsert(c, pruned, row, changed={"below": below, "at_s": now})


async def _count(c: Connection, name: str, count: int) -> None:
    await c.change(pruned.update().where(pruned.c.name == name).values(rows=pruned.c.rows + count))
