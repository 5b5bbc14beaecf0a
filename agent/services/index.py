"""Index: the chain becomes rows. In: a node. Out: block, log, parked and journal rows, and the cursors `index` and `finalized`.

Two ways, one commit. History up to the finalized block comes by ranges; what follows comes block by block, by hash, steered by the
follower. Either way a commit is blocks, logs, journal and cursor in one transaction, fenced by the cursor it was fetched for: an answer
that was under way while the index moved (a rollback, an adoption, another process) can never be written.

A block is final when its hash is linked to the node's finalized header, never by its height: a balancer may ask another node each
time. Ranges are written as they come; they become final together, once the last one ends at the finalized header itself.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Hashable, Sequence
from typing import Literal, assert_never

import msgspec

from agent.services import chronicle, lookout, retreat, rows, slices
from agent.services.chronicle import CURSOR, FINALIZED, LATCH
from domain import chain, errors, hashing
from indexers.chain import evidence, follower, ranges, reader, walk
from kit import faults, jsonrpc, logs, runtime
from store import book, cursors

__all__ = ["CURSOR", "FINALIZED", "LATCH", "Counts", "IndexService"]

BEFORE_GENESIS = chain.BlockRef(-1, hashing.ZERO32)
"""What block 0 follows on: the anchor of an index that starts at genesis."""

LOOK_S = 5.0
"""How long one look at the tip serves a backfill."""

IDLE_S = 5.0
"""How often a stopped index looks whether it may go on."""

GAP_RETRY_S = 15.0
"""How often history that was missing is asked for again."""

DOUBTS = 3
"""How often a finalized block must be missing before it counts as lost history, and how often the node's chain must not continue
what was read before that is left: a node behind a balancer may just lag."""

State = Literal["starting", "backfill", "following", "behind", "gap", "violated", "wrong-chain"]
Marks = Callable[[int, int], Collection[int]]

log = logs.logger()


class Counts(msgspec.Struct):
    """Since the process started."""

    reorgs: int = 0
    reverted_blocks: int = 0
    lies: int = 0
    events: int = 0
    commits: int = 0
    fenced: int = 0


class IndexService:
    """One chain, all its protocols. `proof` is the level at which everything is read; `finality` is "tag" or "depth:N".

    `marks(first, last)` names the heights whose headers must be kept (frame edges). `observe(name, value)` receives
    `reorg_depth`, `commit_rows` and `commit_s` as they happen.
    """

    name = "index"

    def __init__(
        self,
        the_book: book.Book,
        source: reader.Reader,
        decoders: Sequence[rows.Decoder],
        *,
        chain_id: int,
        genesis: bytes,
        start: int,
        marks: Marks,
        clock: runtime.Clock,
        proof: str = "receipts",
        finality: str = "tag",
        poll_s: float = 1.0,
        backfill_range: int = 2000,
        trust_bloom: bool = True,
        downstream: Sequence[runtime.Bell] = (),
        observe: Callable[[str, float], None] | None = None,
    ) -> None:
        rows.check(decoders)
        self.bell = runtime.Bell()
        self.state: State = "starting"
        self.reason = ""
        self.counts = Counts()
        self.remote_head: chain.BlockRef | None = None
        self._source = source
        self._walker = walk.Walker(source)
        self._genesis = genesis
        self._start = start
        self._marks = marks
        self._clock = clock
        self._proof = proof
        self._depth = int(finality.removeprefix("depth:")) if finality.startswith("depth:") else None
        self._lookout = lookout.Lookout(source, chain_id=chain_id, genesis=genesis, depth=self._depth)
        self._chronicle = chronicle.Chronicle(
            the_book,
            decoders,
            clock=clock,
            depth=self._depth,
            origin=BEFORE_GENESIS if start == 0 else None,
            start=start,
            proof=proof,
        )
        self._poll_s = poll_s
        self._downstream = tuple(downstream)
        self._observe = observe
        self._evidence = evidence.Evidence(
            source, [(d.addresses, d.topics) for d in decoders], level=proof, trust_bloom=trust_bloom
        )
        # At the levels that read every header a range is a batch of headers, and a commit's worth of them is enough.
        largest = backfill_range if proof == "node" else min(backfill_range, slices.MAX_BLOCKS)
        self._ranges = ranges.Ranges(largest=largest, rows=4 * slices.MAX_ROWS)
        self._coverage = ranges.Coverage(start - 1)
        self._cursor: cursors.Cursor | None = None
        self._follower: follower.Follower | None = None
        self._slices: deque[slices.Slice] = deque()
        self._tip: reader.Tip | None = None
        self._looked_at = 0.0
        self._doubts = self._forks = 0
        self._final: chain.BlockRef | None = None
        self._gap_open = False

    # --- what others see ---

    @property
    def head(self) -> chain.BlockRef | None:
        """The last committed block."""
        return None if self._cursor is None else chain.BlockRef(self._cursor.number, self._cursor.hash)

    @property
    def finalized(self) -> chain.BlockRef | None:
        return self._final

    @property
    def generation(self) -> int:
        return 0 if self._cursor is None else self._cursor.generation

    @property
    def lag_blocks(self) -> int | None:
        """How far the node's head is ahead; None before the first look."""
        if self.remote_head is None:
            return None
        return max(0, self.remote_head.number - (self._start - 1 if self._cursor is None else self._cursor.number))

    def cursor(self) -> Hashable:
        return self._cursor

    # --- one step ---

    async def step(self) -> float:
        if await self._load():
            self.state = "violated"
            return IDLE_S
        try:
            if self._slices:
                await self._commit(self._slices[0])
                self._slices.popleft()
                return 0.0
            return await self._advance()
        except errors.FinalityViolated as error:
            return await self._stop(self.head or BEFORE_GENESIS, reason=str(error))
        except lookout.OtherChain as error:
            self.state, self.reason, self._tip = "wrong-chain", error.what, None
            raise
        except errors.BadAnswer as error:
            self.counts.lies += 1
            self._tip = None
            log.warning("index.bad_answer", error=str(error), lies=self.counts.lies)
            raise
        except errors.StakesideError:
            self._tip = None
            raise

    async def _load(self) -> bool:
        """Bring memory in line with the book, which others may have moved. True while a latch stops the index."""
        found = await self._chronicle.recall(self._cursor, whole=self._follower is None)
        if isinstance(found, chronicle.Memory):
            self._slices.clear()
            self._cursor, self._follower = found.cursor, found.machine
            self._final, self._gap_open = found.final, found.gap_open
            self._coverage.reset(self._start - 1 if found.cursor is None else found.cursor.number)
            found = found.reason
        if found is None:
            return False
        self.reason = found
        self._slices.clear()
        return True

    async def _advance(self) -> float:
        tip = await self._look()
        final_number = self._lookout.final_number(tip)
        if self._follower is None:
            return await self._anchor(tip, final_number)
        head = self._follower.head
        if final_number > head.number:
            if self._follower.window:
                # Blocks of ours that became final while we were away, or did not: leave a fork before going on by ranges.
                target = await self._source.header_at(head.number)
                if target.hash != head.hash:
                    return await self._follow(target, tip, final_number)
                self._follower = follower.Follower(head, depth=self._depth, settled=False)
            return await self._backfill(tip, final_number)
        target = tip.head
        if target.number > head.number + slices.MAX_BLOCKS:
            target = await self._source.header_at(head.number + slices.MAX_BLOCKS)
        return await self._follow(target, tip, final_number)

    # --- looking ---

    async def _look(self) -> reader.Tip:
        """The node's chain and tip. While ranges of history are read, one look serves for a while."""
        now = self._clock.monotonic()
        if self._tip is not None and self._follower is not None and now - self._looked_at < LOOK_S:
            if self.state == "backfill" and self._lookout.final_number(self._tip) > self._follower.head.number:
                return self._tip
        tip = await self._lookout.look()
        self._tip, self._looked_at = tip, now
        self.remote_head = tip.head.ref
        return tip

    # --- beginning ---

    async def _anchor(self, tip: reader.Tip, final_number: int) -> float:
        """The block that the first indexed one follows on."""
        number = min(self._start - 1, final_number)
        try:
            header = await self._source.header_at(number)
        except errors.HistoryUnavailable as error:
            return await self._wait_for_history(number, number, str(error))
        except jsonrpc.UnknownBlock as error:
            return await self._doubt_history(number, number, error)
        self._doubts = 0
        found = (evidence.Block(header, (), self._proof),)
        self._coverage.reset(number - 1)
        await self._commit(
            slices.Slice(number, header.ref, found, history=True, final=self._lookout.is_final(header, tip))
        )
        return 0.0

    # --- history ---

    async def _backfill(self, tip: reader.Tip, final_number: int) -> float:
        machine = self._machine()
        parent = machine.anchor
        first, last = self._ranges.next(first=parent.number + 1, limit=final_number)
        if self.state != "gap" or not self._gap_open:
            self.state, self.reason = "backfill", ""
        started = self._clock.monotonic()
        try:
            faults.point("index.before_fetch")
            found = await self._fetch_range(parent, first, last)
            faults.point("index.after_fetch")
        except evidence.Forked as error:
            return await self._contradicted(machine, follower.Violation(error.expected, error.remote))
        except jsonrpc.RangeRefused as error:
            if self._ranges.refused(first=first, last=last, suggested=error.blocks):
                return 0.0
            raise
        except errors.HistoryUnavailable as error:
            return await self._missing(first, last, str(error))
        except jsonrpc.UnknownBlock as error:
            return await self._doubt_history(first, last, error)
        except errors.Transient as error:
            if not isinstance(error, errors.BadAnswer):
                self._ranges.faltered(first=first, last=last)
            raise
        self._doubts = 0
        self._ranges.succeeded(first=first, last=last, rows=found.rows, seconds=self._clock.monotonic() - started)
        self._slices.extend(slices.sliced(found, final=self._lookout.is_final(found.blocks[-1].header, tip)))
        return 0.0

    async def _fetch_range(self, parent: chain.BlockRef, first: int, last: int) -> evidence.Range:
        try:
            found = await self._evidence.range(parent=parent, last=last, keep=set(self._marks(first, last)))
        except jsonrpc.RangeRefused:
            if first != last:
                raise
            found = await self._evidence.block_by_receipts(parent=parent)
        return slices.without_logs_before(found, self._start)

    async def _doubt_history(self, first: int, last: int, error: errors.Transient) -> float:
        self._doubts += 1
        if self._doubts < DOUBTS:
            raise error
        return await self._missing(first, last, str(error))

    async def _missing(self, first: int, last: int, reason: str) -> float:
        """The node lacks history: narrow it down to one block."""
        if first < last and self._ranges.refused(first=first, last=last):
            return 0.0
        return await self._wait_for_history(first, last, reason)

    async def _wait_for_history(self, first: int, last: int, reason: str) -> float:
        """A gap: others may sign for us."""
        if await self._chronicle.open_gaps(first=first, last=last, reason=reason):
            log.warning("index.gap", first=first, last=last, error=reason)
            self._ring()
        self._gap_open = True
        self.state, self.reason = "gap", reason
        return GAP_RETRY_S

    # --- the tip ---

    async def _follow(self, target: chain.Header, tip: reader.Tip, final_number: int) -> float:
        machine = self._machine()
        output = await self._walker.walk(machine, target)
        match output:
            case follower.Idle():
                if target.hash != machine.head.hash:
                    return self._poll_s  # the fork moved on while we walked it
                self.state, self.reason = "following", ""
                await self._finalize(machine, tip)
                return 0.0 if max(final_number, tip.head.number) > machine.head.number else self._poll_s
            case follower.Behind():
                self.state = "behind"
                self.reason = f"the node's head {output.remote} is lower than the index's {output.local}"
                await self._finalize(machine, tip)
                return self._poll_s
            case follower.Committed():
                self.state, self.reason = "following", ""
                return await self._extend(machine, output, tip)
            case follower.Reverted():
                return await self._revert(machine, output)
            case follower.Violation():
                return await self._contradicted(machine, output)
            case _:
                assert_never(output)

    async def _extend(self, machine: follower.Follower, output: follower.Committed, tip: reader.Tip) -> float:
        """Fetch the logs of as many blocks as one commit holds, by hash."""
        headers = output.headers[: slices.MAX_BLOCKS]
        faults.point("index.before_fetch")
        early = [header for header in headers if header.number < self._start]
        try:
            found = await self._evidence.at(headers[len(early) :]) if len(early) < len(headers) else []
        except jsonrpc.RangeRefused:
            if len(headers) > 1:
                headers, early = headers[:1], early[:1]
                found = [] if early else await self._evidence.at(headers)
            else:
                raise
        except errors.HistoryUnavailable as error:
            raise errors.Transient(f"a block of the tip is no longer there: {error}") from error
        faults.point("index.after_fetch")
        whole = [evidence.Block(header, (), self._proof) for header in early] + found
        part = slices.bounded(whole)
        await self._commit(
            slices.Slice(part[0].header.number, part[-1].header.ref, tuple(part), history=False, final=False)
        )
        more = len(part) < len(output.headers) or tip.head.hash != part[-1].header.hash
        await self._finalize(machine, tip)
        return 0.0 if more else self._poll_s

    async def _finalize(self, machine: follower.Follower, tip: reader.Tip) -> None:
        """Advance the finalized cursor to what the node calls final, if we have that very block. Above our head it waits: the ranges up
        to there link to it."""
        match output := machine.finality(tip.finalized, best=tip.head):
            case follower.Finalized():
                try:
                    await self._chronicle.finalize(output.ref, seen=self._known())
                except BaseException as error:
                    self._forget(error)
                    raise
                machine.applied(output)
                self._final = output.ref
                self._ring()
            case follower.Violation():
                await self._contradicted(machine, output)
            case follower.Refused():
                raise errors.BadAnswer(output.why)
            case _:
                return

    # --- writing ---

    async def _commit(self, slice_: slices.Slice) -> None:
        """Write, then let memory follow."""
        self._coverage.add(slice_.first, slice_.end.number)
        started = self._clock.monotonic()
        try:
            to, count = await self._chronicle.commit(slice_, seen=self._cursor, close_gaps=self._gap_open)
        except BaseException as error:
            self._forget(error)
            raise
        self._follow_commit(slice_, to)
        self._forks = 0
        self.counts.commits += 1
        self.counts.events += count
        self._tell("commit_rows", count)
        self._tell("commit_s", self._clock.monotonic() - started)
        self._ring()

    def _follow_commit(self, slice_: slices.Slice, to: cursors.Cursor) -> None:
        self._cursor = to
        if slice_.final:
            self._final = slice_.end
        if slice_.history:
            self._follower = follower.Follower(slice_.end, depth=self._depth, settled=slice_.final)
            return
        self._machine().applied(follower.Committed(tuple(block.header for block in slice_.blocks)))

    async def _revert(self, machine: follower.Follower, output: follower.Reverted) -> float:
        try:
            to = await self._chronicle.revert(output, seen=self._known())
        except BaseException as error:
            self._forget(error)
            raise
        machine.applied(output)
        self._cursor = to
        self._slices.clear()
        self._coverage.reset(output.ancestor.number)
        self.counts.reorgs += 1
        self.counts.reverted_blocks += len(output.headers)
        self._tell("reorg_depth", len(output.headers))
        log.info("index.reorg", depth=len(output.headers), ancestor=str(output.ancestor), generation=to.generation)
        self._ring()
        return 0.0

    async def _contradicted(self, machine: follower.Follower, violation: follower.Violation) -> float:
        """The chain contradicts a final block. Asked once more, by height, because the answer stops this agent."""
        final = violation.final
        if not machine.settled:
            return await self._unlinked(machine, violation)
        again = await self._source.header_at(final.number)
        if again.hash == final.hash:
            raise errors.BadAnswer("the node contradicts itself about a finalized block", value=str(violation.remote))
        return await self._stop(again.ref, reason=f"block {final} was final and the node now has {again.ref}")

    async def _stop(self, remote: chain.BlockRef, *, reason: str) -> float:
        """Set the durable latch: whoever restarts this agent finds it set."""
        await self._chronicle.violate(remote, reason=reason, generation=self.generation)
        self._slices.clear()
        self.state, self.reason = "violated", reason
        log.error("index.finality_violated", remote=str(remote), error=reason)
        self._ring()
        return IDLE_S

    async def _unlinked(self, machine: follower.Follower, violation: follower.Violation) -> float:
        """The node's chain does not continue what is not final yet. Either may be a stray node's: ask again, in the end leave ours."""
        self._forks += 1
        if self._forks < DOUBTS:
            raise errors.BadAnswer(
                "the node's chain does not continue what was read from it",
                value=f"{violation.remote}, read {violation.final}",
            )
        ref, header = await retreat.target(
            self._chronicle, self._source, machine.anchor, start=self._start, genesis=self._genesis
        )
        try:
            self._cursor, dropped = await self._chronicle.retreat(ref, anchor=header, seen=self._known())
        finally:
            self._forks, self._follower = 0, None  # read again from the book
            self._slices.clear()
        self.counts.reorgs += 1
        self.counts.reverted_blocks += dropped
        log.warning("index.retreat", ancestor=str(ref), blocks=dropped, left=str(violation.final))
        self._ring()
        return 0.0

    # --- small things ---

    def _machine(self) -> follower.Follower:
        if self._follower is None:
            raise AssertionError("there is no follower before the anchor")
        return self._follower

    def _known(self) -> cursors.Cursor:
        if self._cursor is None:
            raise AssertionError("nothing is reverted or final before the first commit")
        return self._cursor

    def _forget(self, error: BaseException) -> None:
        """A write failed, or was fenced or cancelled: what memory believes may not be what the book says. Read it again."""
        self.counts.fenced += isinstance(error, errors.Transient) and error.what.startswith("fenced")
        self._follower = None
        self._slices.clear()

    def _ring(self) -> None:
        for bell in self._downstream:
            bell.ring()

    def _tell(self, name: str, value: float) -> None:
        if self._observe is not None:
            self._observe(name, value)
