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
from store import blocks, book, coverage, cursors, gaps, journal, latches, parked
from store import logs as log_rows

CURSOR = "index"
FINALIZED = "finalized"
LATCH = "finality"
ROWS_LATCH = "rows"
"""Set when a proven answer shows that the book's own rows are wrong, or made by other rules."""

MAX_WINDOW = 4096
"""Blocks above the finalized one whose headers are held again after a restart; beyond that the index was reading history."""


class Memory(msgspec.Struct, frozen=True):
    """What the book says about the index. `machine` is None before the first block; `final` is the newest final block, `reason` that
    of the latch, if one is set."""

    cursor: cursors.Cursor | None
    machine: follower.Follower | None
    final: chain.BlockRef | None
    gap_open: bool
    reason: str | None


class Chronicle:
    """One book's index. `depth` is the finality rule, None for the tag; `origin` what an index at genesis follows on; `start` and
    `proof` are from where, and how well, every commit reads."""

    def __init__(
        self,
        the_book: book.Book,
        decoders: Sequence[rows.Decoder],
        *,
        clock: runtime.Clock,
        depth: int | None,
        origin: chain.BlockRef | None,
        start: int,
        proof: str,
    ) -> None:
        self._book = the_book
        self._decoders = tuple(decoders)
        self._clock = clock
        self._depth = depth
        self._origin = origin
        self._start = start
        self._proof = proof
        self._protocols = tuple(decoder.name for decoder in self._decoders)

    # --- reading ---

    async def recall(self, known: cursors.Cursor | None, *, whole: bool) -> Memory | str | None:
        """The index as the book has it, when it is not at `known` or `whole` is asked for; else the latch's reason or None."""
        async with self._book.read() as c:
            reason = next((la.reason for la in await latches.active(c) if la.name in (LATCH, ROWS_LATCH)), None)
            cursor = await cursors.get(c, CURSOR)
            if cursor == known and not whole:
                return reason
            final = await cursors.get(c, FINALIZED)
            return Memory(
                cursor,
                await self._machine(c, cursor),
                None if final is None else chain.BlockRef(final.number, final.hash),
                bool(await gaps.pending(c)),
                reason,
            )

    async def floor(self) -> chain.BlockRef | None:
        """The newest block that is never left: final, or vouched for by the signatures over an adopted frame."""
        async with self._book.read() as c:
            return await _floor(c)

    async def stored_at_most(self, number: int) -> chain.BlockRef | None:
        """The highest canonical block in the book that is not above a height."""
        async with self._book.read() as c:
            header = await blocks.tip(c, at_most=number)
            return None if header is None else header.ref

    async def _machine(self, c: book.Connection, cursor: cursors.Cursor | None) -> follower.Follower | None:
        """The follower, from the headers between the floor and the cursor, found backwards by hash. Where history was being read not
        all of them are there; the cursor's block is then the anchor, and not settled."""
        if cursor is None:
            return None if self._origin is None else follower.Follower(self._origin, depth=self._depth)
        head = chain.BlockRef(cursor.number, cursor.hash)
        final = await _floor(c)
        if final is not None and final.number >= cursor.number:
            return follower.Follower(head, depth=self._depth)
        if final is None or cursor.number - final.number > MAX_WINDOW:
            return follower.Follower(head, depth=self._depth, settled=False)
        stored = {header.hash: header for header in await blocks.unfinalized(c, above=final.number)}
        window: list[chain.Header] = []
        at = cursor.hash
        while at in stored:
            window.append(stored[at])
            at = stored[at].parent
        if at != final.hash:
            return follower.Follower(head, depth=self._depth, settled=False)
        return follower.Follower(final, window[::-1], depth=self._depth)

    # --- writing ---

    async def commit(
        self, slice_: slices.Slice, *, seen: cursors.Cursor | None, close_gaps: bool
    ) -> tuple[cursors.Cursor, int]:
        """Blocks, logs, what was read, journal and cursors. The new cursor and how many rows. Raises Contradicted for an answer that
        is not what the book has of a known block; if it is the book that is wrong, the latch is set as well."""
        decoded = rows.decode(self._decoders, slice_.blocks)
        generation = 0 if seen is None else seen.generation
        to = cursors.Cursor(slice_.end.number, slice_.end.hash, generation)
        faults.point("index.before_commit")
        try:
            await self._write(slice_, decoded, seen=seen, to=to, close_gaps=close_gaps)
        except log_rows.Contradicted as error:
            if error.settled:
                await self._latch(ROWS_LATCH, reason=str(error))
            raise
        faults.point("index.after_commit")
        return to, len(decoded.indexed)

    async def _write(
        self,
        slice_: slices.Slice,
        decoded: rows.Rows,
        *,
        seen: cursors.Cursor | None,
        to: cursors.Cursor,
        close_gaps: bool,
    ) -> None:
        async with self._book.write() as c:
            await cursors.advance(c, CURSOR, seen=seen, to=to)
            for level in sorted({block.proof for block in slice_.blocks}):
                await blocks.insert(c, [b.header for b in slice_.blocks if b.proof == level], proof=level)
            await log_rows.insert(c, decoded.indexed, whole=self._whole(slice_), protocols=self._protocols)
            for item in decoded.undecoded:
                await parked.add(
                    c,
                    stream_or_protocol=item.protocol,
                    block_hash=item.block.hash,
                    log_index=item.log_index,
                    reason=item.reason,
                )
            await self._cover(c, slice_)
            await journal.append(c, kind="committed", ref=slice_.end, generation=to.generation, at_s=self._now())
            if slice_.final:
                await self._finalize(c, slice_.end, to.generation)
            if close_gaps:
                await _close_gaps(c, slice_.end.number)

    def _whole(self, slice_: slices.Slice) -> dict[chain.BlockRef, bool]:
        """The blocks whose logs were read, and whether what was read is proven: receipts are, and an empty bloom is a proof of absence."""
        return {
            block.header.ref: block.proof == "receipts" or (block.proof == "bloom" and not block.logs)
            for block in slice_.blocks
            if block.header.number >= self._start
        }

    async def _cover(self, c: book.Connection, slice_: slices.Slice) -> None:
        first, last = max(slice_.first, self._start), slice_.end.number
        if first > last:
            return  # the block that the first indexed one follows on: its logs are nobody's
        for decoder in self._decoders:
            await coverage.add(
                c, protocol=decoder.name, fingerprint=decoder.fingerprint, first=first, last=last, proof=self._proof
            )

    async def revert(self, output: follower.Reverted, *, seen: cursors.Cursor) -> cursors.Cursor:
        """Mark the blocks as orphaned, nothing else: rows stay, the canonical view no longer shows them."""
        to = cursors.Cursor(output.ancestor.number, output.ancestor.hash, seen.generation + 1)
        faults.point("index.before_revert")
        async with self._book.write() as c:
            await cursors.advance(c, CURSOR, seen=seen, to=to)
            await blocks.orphan(c, [header.hash for header in output.headers], generation=to.generation)
            await coverage.truncate(c, above=to.number)
            await journal.append(c, kind="reverted", ref=output.ancestor, generation=to.generation, at_s=self._now())
        faults.point("index.after_revert")
        return to

    async def retreat(
        self, ref: chain.BlockRef, *, anchor: chain.Header | None, seen: cursors.Cursor
    ) -> tuple[cursors.Cursor, int]:
        """Put aside all blocks above `ref`, none of which is final; how many. `anchor` is the header to begin from anew, when the
        book's own at this height goes too."""
        to = cursors.Cursor(ref.number, ref.hash, seen.generation + 1)
        faults.point("index.before_revert")
        async with self._book.write() as c:
            await cursors.advance(c, CURSOR, seen=seen, to=to)
            above = await blocks.unfinalized(c, above=ref.number if anchor is None else ref.number - 1)
            dropped = [header.hash for header in above if header.hash != ref.hash]
            await blocks.orphan(c, dropped, generation=to.generation)
            if anchor is not None:
                await blocks.insert(c, [anchor], proof=self._proof)
            await coverage.truncate(c, above=to.number)
            await journal.append(c, kind="reverted", ref=ref, generation=to.generation, at_s=self._now())
        faults.point("index.after_revert")
        return to, len(dropped)

    async def finalize(self, ref: chain.BlockRef, *, seen: cursors.Cursor) -> None:
        faults.point("index.before_finalize")
        async with self._book.write() as c:
            await cursors.advance(c, CURSOR, seen=seen, to=seen)
            await self._finalize(c, ref, seen.generation)
        faults.point("index.after_finalize")

    async def violate(self, ref: chain.BlockRef, *, reason: str, generation: int) -> None:
        """Set the durable latch of finality. Deletes nothing."""
        await self._latch(LATCH, reason=reason, violated=(ref, generation))

    async def _latch(self, name: str, *, reason: str, violated: tuple[chain.BlockRef, int] | None = None) -> None:
        faults.point("index.before_latch")
        async with self._book.write() as c:
            if await latches.set(c, name, reason=reason, at_s=self._now()) and violated is not None:
                ref, generation = violated
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


async def _floor(c: book.Connection) -> chain.BlockRef | None:
    final = await cursors.get(c, FINALIZED)
    adopted = await journal.last_adopted(c)
    found = [] if final is None else [chain.BlockRef(final.number, final.hash)]
    found += [] if adopted is None else [adopted.ref]
    return max(found, key=lambda ref: ref.number, default=None)


async def _close_gaps(c: book.Connection, through: int) -> None:
    """The history came back: no statement was needed."""
    for gap in await gaps.pending(c):
        if gap.last <= through:
            await gaps.close(c, gap.id, by_digest=hashing.ZERO32)
