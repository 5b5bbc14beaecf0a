"""Index: the chain becomes rows. In: a node. Out: block, log, parked and journal rows, and the cursors `index` and `finalized`.

Two ways, one commit. History up to the finalized block comes by ranges; what follows comes block by block, by hash, steered by the
follower. Either way a commit is blocks, logs, journal and cursor in one transaction, fenced by the cursor it was fetched for: an answer
that was under way while the index moved (a rollback, an adoption, another process) can never be written.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Hashable, Sequence
from typing import Literal, assert_never

import msgspec

from agent.services import chronicle, rows, slices
from agent.services.chronicle import CURSOR, FINALIZED, LATCH
from domain import chain, errors, hashing
from indexers.chain import evidence, follower, ranges, reader, walk
from kit import faults, jsonrpc, logs, runtime
from store import book, cursors

__all__ = ["CURSOR", "FINALIZED", "LATCH", "Counts", "IndexService"]

BEFORE_GENESIS = chain.BlockRef(-1, hashing.ZERO32)
"""What block 0 follows on: the anchor of an index that starts at genesis."""

LOOK_S = 5.0
"""How long one look at the tip serves a backfill, whose ranges are final anyway."""

IDLE_S = 5.0
"""How often a stopped index looks whether it may go on."""

GAP_RETRY_S = 15.0
"""How often history that was missing is asked for again."""

DOUBTS = 3
"""How often a finalized block must be missing before it counts as lost history: a node behind a balancer may just lag."""

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
        self._chain_id = chain_id
        self._genesis = genesis
        self._start = start
        self._marks = marks
        self._clock = clock
        self._proof = proof
        self._depth = int(finality.removeprefix("depth:")) if finality.startswith("depth:") else None
        self._chronicle = chronicle.Chronicle(
            the_book, decoders, clock=clock, depth=self._depth, origin=BEFORE_GENESIS if start == 0 else None
        )
        self._poll_s = poll_s
        self._downstream = tuple(downstream)
        self._observe = observe
        self._evidence = evidence.Evidence(
            source, [(d.addresses, d.topics) for d in decoders], level=proof, trust_bloom=trust_bloom
        )
        # At the levels that read every header a range is a batch of headers, and a commit's worth of them is enough.
        largest = backfill_range if proof == "node" else min(backfill_range, slices.MAX_BLOCKS)
        self._ranges = ranges.Ranges(largest=largest, rows=2 * slices.MAX_ROWS)
        self._coverage = ranges.Coverage(start - 1)
        self._cursor: cursors.Cursor | None = None
        self._follower: follower.Follower | None = None
        self._slices: deque[slices.Slice] = deque()
        self._tip: reader.Tip | None = None
        self._looked_at = 0.0
        self._checked = False
        self._doubts = 0
        self._gap_open = False

    # --- what others see ---

    @property
    def head(self) -> chain.BlockRef | None:
        """The last committed block."""
        return None if self._cursor is None else chain.BlockRef(self._cursor.number, self._cursor.hash)

    @property
    def finalized(self) -> chain.BlockRef | None:
        return None if self._follower is None or self._follower.anchor.number < 0 else self._follower.anchor

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
        if self._slices:
            await self._commit(self._slices[0])
            self._slices.popleft()
            return 0.0
        try:
            return await self._advance()
        except errors.BadAnswer as error:
            self.counts.lies += 1
            self._tip = None
            log.warning("index.bad_answer", error=str(error), lies=self.counts.lies)
            raise
        except errors.StakesideError:
            self._tip = None
            raise

    async def _load(self) -> bool:
        """Bring memory in line with the book, which others may have moved. True while the finality latch is set."""
        found = await self._chronicle.recall(self._cursor, whole=self._follower is None)
        if isinstance(found, chronicle.Memory):
            self._slices.clear()
            self._cursor, self._follower, self._gap_open = found.cursor, found.machine, found.gap_open
            self._coverage.reset(self._start - 1 if found.cursor is None else found.cursor.number)
            found = found.reason
        if found is None:
            return False
        self.reason = found
        self._slices.clear()
        return True

    async def _advance(self) -> float:
        tip = await self._look()
        final_number = self._final_number(tip)
        if self._follower is None:
            return await self._anchor(tip, final_number)
        head = self._follower.head
        if final_number > head.number:
            if self._follower.window:
                # Blocks of ours that became final while we were away, or did not: settle them before going on by ranges.
                return await self._follow(await self._source.header_at(head.number), tip, final_number)
            return await self._backfill(final_number)
        target = tip.head
        if target.number > head.number + slices.MAX_BLOCKS:
            target = await self._source.header_at(head.number + slices.MAX_BLOCKS)
        return await self._follow(target, tip, final_number)

    # --- looking ---

    async def _look(self) -> reader.Tip:
        """The node's chain and tip. While ranges of history are read, one look serves for a while."""
        now = self._clock.monotonic()
        if self._tip is not None and self._follower is not None and now - self._looked_at < LOOK_S:
            if self.state == "backfill" and self._final_number(self._tip) > self._follower.head.number:
                return self._tip
        faults.point("index.before_look")
        tip = await self._source.tip()
        self._check_chain(tip)
        if tip.finalized is not None and tip.finalized.number > tip.head.number:
            raise errors.BadAnswer("the node's finalized block is above its head", value=str(tip.finalized.ref))
        self._tip, self._looked_at = tip, now
        self.remote_head = tip.head.ref
        return tip

    def _check_chain(self, tip: reader.Tip) -> None:
        """Every look checks it: an endpoint can become another chain's at any time (failover, a restarted devnet)."""
        if tip.chain_id == self._chain_id and tip.genesis == self._genesis:
            self._checked = True
            return
        if tip.chain_id != self._chain_id:
            what, value = f"the node serves chain {tip.chain_id}, not {self._chain_id}", tip.chain_id
        else:
            what = f"the node's genesis is {tip.genesis.hex()[:16]}…, not {self._genesis.hex()[:16]}…"
            value = hashing.hex0x(tip.genesis)[:18]
        cure = "point node.url at the deployment's chain; a devnet that was restarted anew needs a new deployment document and book"
        if not self._checked:
            raise errors.WrongChain(what, value=value, cure=cure)
        self.state, self.reason = "wrong-chain", what
        raise errors.Transient(what, value=value, cure=cure)

    def _final_number(self, tip: reader.Tip) -> int:
        if self._depth is not None:
            return max(0, tip.head.number - self._depth)
        return 0 if tip.finalized is None else tip.finalized.number

    # --- beginning ---

    async def _anchor(self, tip: reader.Tip, final_number: int) -> float:
        """The block that the first indexed one follows on. It is final, so it is never left again."""
        header = await self._source.header_at(min(self._start - 1, final_number))
        found = slices.Slice(header.number, header.ref, (evidence.Block(header, (), self._proof),), final=True)
        self._coverage.reset(header.number - 1)
        await self._commit(found)
        return 0.0

    # --- history ---

    async def _backfill(self, final_number: int) -> float:
        machine = self._machine()
        parent = machine.anchor
        first, last = self._ranges.next(first=parent.number + 1, limit=final_number)
        if self.state != "gap":
            self.state, self.reason = "backfill", ""
        started = self._clock.monotonic()
        try:
            faults.point("index.before_fetch")
            found = await self._fetch_range(parent, first, last)
            faults.point("index.after_fetch")
        except evidence.Forked as error:
            return await self._contradicted(follower.Violation(error.expected, error.remote))
        except jsonrpc.RangeRefused as error:
            if self._ranges.refused(first=first, last=last, suggested=error.blocks):
                return 0.0
            raise
        except errors.HistoryUnavailable as error:
            return await self._missing(first, last, str(error))
        except jsonrpc.UnknownBlock as error:
            self._doubts += 1
            if self._doubts < DOUBTS:
                raise
            return await self._missing(first, last, str(error))
        except errors.Transient as error:
            if not isinstance(error, errors.BadAnswer):
                self._ranges.faltered(first=first, last=last)
            raise
        self._doubts = 0
        self._ranges.succeeded(first=first, last=last, rows=found.rows, seconds=self._clock.monotonic() - started)
        self._slices.extend(slices.sliced(found))
        return 0.0

    async def _fetch_range(self, parent: chain.BlockRef, first: int, last: int) -> evidence.Range:
        try:
            found = await self._evidence.range(parent=parent, last=last, keep=set(self._marks(first, last)))
        except jsonrpc.RangeRefused:
            if first != last:
                raise
            found = await self._evidence.block_by_receipts(parent=parent)
        return slices.without_logs_before(found, self._start)

    async def _missing(self, first: int, last: int, reason: str) -> float:
        """The node lacks history. Narrow it down to one block, then write it down and wait: others may sign for us."""
        if self._ranges.refused(first=first, last=last):
            return 0.0
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
                await self._finalize(machine, tip, final_number)
                return (
                    0.0 if final_number > machine.head.number or tip.head.number > machine.head.number else self._poll_s
                )
            case follower.Behind():
                self.state = "behind"
                self.reason = f"the node's head {output.remote} is lower than the index's {output.local}"
                await self._finalize(machine, tip, final_number)
                return self._poll_s
            case follower.Committed():
                self.state, self.reason = "following", ""
                return await self._extend(machine, output, tip)
            case follower.Reverted():
                return await self._revert(machine, output)
            case follower.Violation():
                return await self._contradicted(output)
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
        final = machine.finality(tip.finalized, best=tip.head) if self._depth is None else follower.Idle()
        await self._commit(
            slices.Slice(part[0].header.number, part[-1].header.ref, tuple(part), final=False),
            finalized=final.ref if isinstance(final, follower.Finalized) else None,
        )
        more = len(part) < len(output.headers) or tip.head.hash != part[-1].header.hash
        if not more:
            await self._finalize(machine, tip, self._final_number(tip))
        return 0.0 if more else self._poll_s

    async def _finalize(self, machine: follower.Follower, tip: reader.Tip, final_number: int) -> None:
        """Advance the finalized cursor to what the node calls final, as far as we have it."""
        if machine.head.number < final_number:  # our head is an ancestor of what the node showed, so it is final too
            output = follower.Finalized(machine.head) if machine.window else follower.Idle()
        else:
            output = machine.finality(tip.finalized, best=tip.head)
        match output:
            case follower.Finalized():
                try:
                    await self._chronicle.finalize(output.ref, seen=self._known())
                except BaseException as error:
                    self._forget(error)
                    raise
                machine.applied(output)
                self._ring()
            case follower.Violation():
                await self._contradicted(output)
            case follower.Refused():
                raise errors.BadAnswer(output.why)
            case _:
                return

    # --- writing ---

    async def _commit(self, slice_: slices.Slice, *, finalized: chain.BlockRef | None = None) -> None:
        """Write, then let memory follow."""
        self._coverage.add(slice_.first, slice_.end.number)
        started = self._clock.monotonic()
        try:
            to, count = await self._chronicle.commit(
                slice_, seen=self._cursor, finalized=finalized, close_gaps=self._gap_open
            )
        except BaseException as error:
            self._forget(error)
            raise
        self._follow_commit(slice_, finalized, to)
        self.counts.commits += 1
        self.counts.events += count
        self._tell("commit_rows", count)
        self._tell("commit_s", self._clock.monotonic() - started)
        self._ring()

    def _follow_commit(self, slice_: slices.Slice, final: chain.BlockRef | None, to: cursors.Cursor) -> None:
        self._cursor = to
        if slice_.final:
            self._follower = follower.Follower(slice_.end, depth=self._depth)
            return
        machine = self._machine()
        machine.applied(follower.Committed(tuple(block.header for block in slice_.blocks)))
        if final is not None:
            machine.applied(follower.Finalized(final))

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

    async def _contradicted(self, violation: follower.Violation) -> float:
        """The chain contradicts a final block. Asked once more, by height, because the answer stops this agent."""
        final = violation.final
        again = await self._source.header_at(final.number)
        if again.hash == final.hash:
            raise errors.BadAnswer("the node contradicts itself about a finalized block", value=str(violation.remote))
        reason = f"block {final} was final and the node now has {again.ref}"
        await self._chronicle.violate(again.ref, reason=reason, generation=self.generation)
        self._slices.clear()
        self.state, self.reason = "violated", reason
        log.error("index.finality_violated", final=str(final), remote=str(again.ref))
        self._ring()
        return IDLE_S

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
