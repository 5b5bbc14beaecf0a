"""What the index writes, one transaction a method. In: slices, reverts, verdicts. Out: rows, and the cursor they moved.

Every write is fenced by the cursor that its data was fetched for: when the index has moved meanwhile, nothing is written and Transient
is raised. Memory is the caller's, and follows only after a method has returned.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from agent.services import rows, slices
from domain import chain, errors, hashing
from indexers.chain import follower
from kit import faults, runtime
from store import blocks, book, cursors, gaps, journal, latches, parked
from store import logs as log_rows

CURSOR = "index"
FINALIZED = "finalized"
LATCH = "finality"


class Memory(msgspec.Struct, frozen=True):
    """What the book says about the index. `machine` is None before the first block; `reason` is that of the latch, if set."""

    cursor: cursors.Cursor | None
    machine: follower.Follower | None
    gap_open: bool
    reason: str | None


class Chronicle:
    """One book's index. `depth` is the finality rule, None for the tag; `origin` what an index at genesis follows on."""

    def __init__(
        self,
        the_book: book.Book,
        decoders: Sequence[rows.Decoder],
        *,
        clock: runtime.Clock,
        depth: int | None,
        origin: chain.BlockRef | None,
    ) -> None:
        self._book = the_book
        self._decoders = tuple(decoders)
        self._clock = clock
        self._depth = depth
        self._origin = origin

    # --- reading ---

    async def recall(self, known: cursors.Cursor | None, *, whole: bool) -> Memory | str | None:
        """The index as the book has it, when it is not at `known` or `whole` is asked for; else the latch's reason or None."""
        async with self._book.read() as c:
            reason = next((latch.reason for latch in await latches.active(c) if latch.name == LATCH), None)
            cursor = await cursors.get(c, CURSOR)
            if cursor == known and not whole:
                return reason
            return Memory(cursor, await self._machine(c, cursor), bool(await gaps.pending(c)), reason)

    async def _machine(self, c: book.Connection, cursor: cursors.Cursor | None) -> follower.Follower | None:
        """The follower, from the headers between the finalized block and the cursor, found backwards by hash."""
        if cursor is None:
            return None if self._origin is None else follower.Follower(self._origin, depth=self._depth)
        head = chain.BlockRef(cursor.number, cursor.hash)
        final = await cursors.get(c, FINALIZED)
        if final is None or final.number >= cursor.number:
            return follower.Follower(head, depth=self._depth)
        stored = {header.hash: header for header in await blocks.unfinalized(c, above=final.number)}
        window: list[chain.Header] = []
        at = cursor.hash
        while at in stored:
            window.append(stored[at])
            at = stored[at].parent
        if at != final.hash:
            # The cursor was set onto an adopted frame's last block, which is final by the signatures over it.
            return follower.Follower(head, depth=self._depth)
        return follower.Follower(chain.BlockRef(final.number, final.hash), window[::-1], depth=self._depth)

    # --- writing ---

    async def commit(
        self, slice_: slices.Slice, *, seen: cursors.Cursor | None, finalized: chain.BlockRef | None, close_gaps: bool
    ) -> tuple[cursors.Cursor, int]:
        """Blocks, logs, journal and cursors. The new cursor and how many rows."""
        decoded = rows.decode(self._decoders, slice_.blocks)
        generation = 0 if seen is None else seen.generation
        to = cursors.Cursor(slice_.end.number, slice_.end.hash, generation)
        final = slice_.end if slice_.final else finalized
        faults.point("index.before_commit")
        async with self._book.write() as c:
            await cursors.advance(c, CURSOR, seen=seen, to=to)
            for level in sorted({block.proof for block in slice_.blocks}):
                await blocks.insert(c, [b.header for b in slice_.blocks if b.proof == level], proof=level)
            await log_rows.insert(c, decoded.indexed)
            for item in decoded.undecoded:
                await parked.add(
                    c,
                    stream_or_protocol=item.protocol,
                    block_hash=item.block.hash,
                    log_index=item.log_index,
                    reason=item.reason,
                )
            await journal.append(c, kind="committed", ref=slice_.end, generation=generation, at_s=self._now())
            if final is not None:
                await self._finalize(c, final, generation)
            if close_gaps:
                await _close_gaps(c, slice_.end.number)
        faults.point("index.after_commit")
        return to, len(decoded.indexed)

    async def revert(self, output: follower.Reverted, *, seen: cursors.Cursor) -> cursors.Cursor:
        """Mark the blocks as orphaned, nothing else: rows stay, the canonical view no longer shows them."""
        to = cursors.Cursor(output.ancestor.number, output.ancestor.hash, seen.generation + 1)
        faults.point("index.before_revert")
        async with self._book.write() as c:
            await cursors.advance(c, CURSOR, seen=seen, to=to)
            await blocks.orphan(c, [header.hash for header in output.headers], generation=to.generation)
            await journal.append(c, kind="reverted", ref=output.ancestor, generation=to.generation, at_s=self._now())
        faults.point("index.after_revert")
        return to

    async def finalize(self, ref: chain.BlockRef, *, seen: cursors.Cursor) -> None:
        faults.point("index.before_finalize")
        async with self._book.write() as c:
            await cursors.advance(c, CURSOR, seen=seen, to=seen)
            await self._finalize(c, ref, seen.generation)
        faults.point("index.after_finalize")

    async def violate(self, ref: chain.BlockRef, *, reason: str, generation: int) -> None:
        """Set the durable latch. Deletes nothing."""
        faults.point("index.before_latch")
        async with self._book.write() as c:
            if await latches.set(c, LATCH, reason=reason, at_s=self._now()):
                await journal.append(c, kind="violated", ref=ref, generation=generation, at_s=self._now())
        faults.point("index.after_latch")

    async def open_gaps(self, *, first: int, last: int, reason: str) -> bool:
        """One gap for each protocol. False when all of them are written down already."""
        async with self._book.read() as c:
            known = {(gap.protocol, gap.first) for gap in await gaps.pending(c)}
        absent = [decoder.name for decoder in self._decoders if (decoder.name, first) not in known]
        if not absent:
            return False
        faults.point("index.before_gap")
        async with self._book.write() as c:
            for protocol in absent:
                await gaps.open_(c, protocol=protocol, first=first, last=last, reason=reason)
        faults.point("index.after_gap")
        return True

    async def _finalize(self, c: book.Connection, ref: chain.BlockRef, generation: int) -> None:
        """Never backwards: what was final stays final."""
        seen = await cursors.get(c, FINALIZED)
        if seen is not None and seen.number >= ref.number:
            if seen.number == ref.number and seen.hash != ref.hash:
                raise errors.FinalityViolated("the book has another finalized block", value=str(ref))
            return
        await cursors.put(c, FINALIZED, cursors.Cursor(ref.number, ref.hash, generation))
        await journal.append(c, kind="finalized", ref=ref, generation=generation, at_s=self._now())

    def _now(self) -> int:
        return int(self._clock.now())


async def _close_gaps(c: book.Connection, through: int) -> None:
    """The history came back: no statement was needed."""
    for gap in await gaps.pending(c):
        if gap.last <= through:
            await gaps.close(c, gap.id, by_digest=hashing.ZERO32)
