"""Close: finalised rows become statements. In: the `finalized` cursor and canonical rows. Out: statement and body rows.

A frame closes when its last block is finalized, nothing in it is parked, no latch is set and every row is proven well enough. The
statement itself comes from `accounting.frames`, which is pure; this stage only decides when, and stores. Frames that a longer document
reaches are derived anew first, from the lowest on. Deciding reads headers only: a body is loaded when a frame is really derived.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec

from accounting import frames
from agent.services import standing
from agent.services.plan import WITHDRAWN_LATCH, StreamPlan
from domain import chain, deployment, errors, hashing
from kit import faults, runtime
from store import blocks, book, coverage, cursors, latches, logs, parked, statements

IDLE_S = 2.0
"""How often to look although nobody rang."""
RETRY_S = 60.0
"""How often a frame that contradicts the replay is derived again: only a person changes that, and its bodies cost."""


class Waiting(msgspec.Struct, frozen=True):
    """Why a stream's next frame is still open; shown on the status page."""

    stream: str
    sequence: int
    reason: str


class CloseService:
    """One frame of one stream a step."""

    name = "close"

    def __init__(
        self,
        the_book: book.Book,
        document: deployment.Document,
        plans: Sequence[StreamPlan],
        *,
        clock: runtime.Clock,
        downstream: Sequence[runtime.Bell] = (),
    ) -> None:
        self.bell = runtime.Bell()
        self.waiting: dict[str, Waiting] = {}
        self._book = the_book
        self._document = document
        self._plans = tuple(plans)
        self._clock = clock
        self._downstream = tuple(downstream)
        self._unchecked: dict[str, int | None] = {plan.stream.name: 0 for plan in plans}
        """By stream: from which frame on stored ones are still to be compared with the document; None: all stand."""
        self._refused: dict[str, tuple[Waiting, float]] = {}
        """By stream: the frame that could not be derived, and when to try again."""

    def cursor(self) -> object:
        return tuple((name, waiting.sequence) for name, waiting in sorted(self.waiting.items()))

    async def step(self) -> float:
        closed = False
        for plan in self._plans:
            closed = await self._close_next(plan) or closed
        if closed:
            for bell in self._downstream:
                bell.ring()
        return 0.0 if closed else IDLE_S

    async def _close_next(self, plan: StreamPlan) -> bool:
        """True when a frame was closed. What keeps it open is a reason, not an error."""
        name = plan.stream.name
        stored: list[statements.Stored] = []
        async with self._book.read() as c:
            sequence = await self._next(c, plan)
            reason = await self._why_open(c, plan, sequence) or self._refusal(name, sequence)
            if reason is None:
                try:
                    stored = await self._derive(c, plan, sequence)
                except errors.Parked as error:
                    reason = str(error)
                    self._refused[name] = (Waiting(name, sequence, reason), self._clock.monotonic() + RETRY_S)
        if reason is not None:
            self.waiting[name] = Waiting(name, sequence, reason)
            return False
        self.waiting.pop(name, None)
        faults.point("close.before_commit")
        async with self._book.write() as c:
            for item in stored:
                await statements.save(c, item, at_s=int(self._clock.now()))
            await self._move(c, plan, stored[-1])
        faults.point("close.after_commit")
        if self._unchecked[name] is not None:
            self._unchecked[name] = sequence + 1
        return True

    async def _move(self, c: book.Connection, plan: StreamPlan, newest: statements.Stored) -> None:
        """The cursors: a frame that was judged already, and is another one now, has to be judged again."""
        name, header = plan.stream.name, newest.header
        await cursors.put(c, f"close:{name}", cursors.Cursor(header.to_position, header.to_anchor, 0))
        judged = await cursors.get(c, f"attest:{name}")
        if judged is not None and judged.number > newest.sequence:
            await cursors.put(c, f"attest:{name}", cursors.Cursor(newest.sequence, hashing.ZERO32, 0))

    def _refusal(self, name: str, sequence: int) -> str | None:
        waiting, until = self._refused.get(name, (None, 0.0))
        if waiting is None or waiting.sequence != sequence or self._clock.monotonic() >= until:
            return None
        return waiting.reason

    async def _next(self, c: book.Connection, plan: StreamPlan) -> int:
        """The frame to close: the lowest stored one that the document says otherwise now, else the one after the newest."""
        name, start = plan.stream.name, self._unchecked[plan.stream.name]
        if start is not None:
            self._unchecked[name] = await standing.first_fallen(c, self._document, plan, start=start)
        fallen = self._unchecked[name]
        if fallen is not None:
            return fallen
        latest = await statements.latest_header(c, plan.stream.id())
        return 0 if latest is None else latest.sequence + 1

    async def _stored(self, c: book.Connection, plan: StreamPlan, sequence: int, revision: int) -> statements.Stored:
        found = await statements.current(c, plan.stream.id(), sequence, revision)
        if found is None:
            raise errors.StoreError(
                f"frame {sequence} revision {revision} of stream {plan.stream.name} is missing from the book",
                cure="restore the book from a backup or run `stakeside agent reindex`",
            )
        return found

    async def _why_open(self, c: book.Connection, plan: StreamPlan, sequence: int) -> str | None:
        for latched in await latches.active(c):
            if latched.name != WITHDRAWN_LATCH and latches.blocks_earning(latched):
                return f"latch {latched.name}: {latched.reason}"
        expected = self._document.ruleset(plan.stream, sequence)
        level = plan.level_of(expected)
        if level is None:
            return (
                f"the document's ruleset for frame {sequence} is {hashing.hex0x(expected)}, this agent's manifest is "
                f"{hashing.hex0x(plan.ruleset)}"
            )
        first, last = plan.stream.frame_range(sequence)
        finalized = await cursors.get(c, "finalized")
        head = await cursors.get(c, "index")
        if finalized is None or head is None or min(finalized.number, head.number) < last:
            return f"block {last} is not finalized yet"
        for item in await parked.open_(c):
            block = await blocks.by_hash(c, item.block_hash)
            if item.subject == plan.protocol and block is not None and first <= block.number <= last:
                return f"log {item.log_index} of block {block.number} is parked: {item.reason}"
        return await self._why_uncovered(c, plan, first, last, level)

    async def _why_uncovered(
        self, c: book.Connection, plan: StreamPlan, first: int, last: int, level: str
    ) -> str | None:
        """Rows cannot say that a log is absent: every block must have been read for this very manifest, proven well enough."""
        missing = await coverage.first_uncovered(
            c, protocol=plan.protocol, fingerprint=plan.fingerprint, first=first, last=last, proof=level
        )
        if missing is None:
            return None
        return (
            f"block {missing} was not indexed with this manifest of protocol {plan.protocol} at proof level {level}: a log of it "
            "may be missing; stop the agent and run `stakeside agent reindex`"
        )

    async def _derive(self, c: book.Connection, plan: StreamPlan, sequence: int) -> list[statements.Stored]:
        """The frame in every revision the document lists, the one in force last."""
        before: statements.Stored | None = None
        if sequence > 0:
            before = await self._stored(c, plan, sequence - 1, self._document.revision(plan.stream, sequence - 1))
        first_number, last_number = plan.stream.frame_range(sequence)
        last = await _header(c, last_number)
        first = await blocks.canonical_at(c, first_number)
        edge = first or await _after(c, first_number)
        rows = await logs.between(c, protocol=plan.protocol, first=first_number, last=last_number)
        level = plan.level_of(self._document.ruleset(plan.stream, sequence)) or plan.proof
        entries = [_entry(row, level) for row in rows]
        produced: list[statements.Stored] = []
        supersedes = hashing.ZERO32
        for revision in range(self._document.revision(plan.stream, sequence) + 1):
            previous = await self._previous(c, plan, sequence, revision, before)
            frame = await asyncio.to_thread(
                frames.derive,
                self._document,
                plan.stream,
                sequence=sequence,
                revision=revision,
                supersedes=supersedes,
                previous=previous,
                first=edge,
                last=last,
                entries=entries,
                scale=plan.scale,
            )
            supersedes = frame.digest
            produced.append(
                statements.Stored(
                    stream=plan.stream.id(),
                    sequence=sequence,
                    revision=revision,
                    digest=frame.digest,
                    config_digest=frame.config_digest,
                    header=frame.header,
                    origin="derived",
                    body=frame.body,
                    changed=frame.changed,
                )
            )
        return produced

    async def _previous(
        self,
        c: book.Connection,
        plan: StreamPlan,
        sequence: int,
        revision: int,
        before: statements.Stored | None,
    ) -> frames.Previous | None:
        if before is None:
            return None
        wanted = self._document.previous_revision(plan.stream, sequence, revision)
        stored = before if before.revision == wanted else await self._stored(c, plan, sequence - 1, wanted)
        return frames.Previous(stored.digest, stored.header.to_position, stored.header.to_anchor, before.body)


def _entry(row: logs.Indexed, level: str) -> frames.Entry:
    if row.event is None:
        raise errors.Parked("a log of this frame has no meaning", value=(row.log.block.number, row.log.log_index))
    if chain.proof_rank(row.proof) < chain.proof_rank(level):
        raise errors.Parked(
            f"a row is proven by {row.proof} where the ruleset needs {level}",
            value=(row.log.block.number, row.log.log_index),
            cure="index with the ruleset's proof level: stop the agent and run `stakeside agent reindex`",
        )
    return frames.Entry(row.log, row.event)


async def _header(c: book.Connection, number: int) -> chain.Header:
    header = await blocks.canonical_at(c, number)
    if header is None:
        raise errors.StoreError(
            f"the book lacks the header of block {number}, a frame's edge", cure="run `stakeside agent reindex`"
        )
    return header


async def _after(c: book.Connection, first: int) -> chain.Header:
    """The first block's header, made from its parent's when only frame ends were kept."""
    parent = await _header(c, first - 1)
    return chain.Header(first, hashing.ZERO32, parent.hash, parent.time, hashing.ZERO32, hashing.ZERO32, b"")
