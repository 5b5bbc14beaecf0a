"""Blocks with their logs at a proof level. In: ranges or headers. Out: blocks whose logs are as certain as the level says.

node       `eth_getLogs`, checked for bounds, order and filter; every block with a log confirmed by its header's hash; at the tip,
           where a lagging node says "none" for what it does not have, an admitting bloom without logs sends us to the receipts
bloom      all headers, recomputed and linked; where bloom and logs contradict each other the receipts decide
receipts   all headers, recomputed and linked; logs taken from receipts that hash to the header's root, for every block whose bloom
           admits one of ours: the node can neither omit nor invent, and "nothing here" is proven too
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence

import msgspec

from domain import chain, errors
from indexers.chain import proof, reader
from kit import jsonrpc

PARALLEL = 4
"""Receipts fetched at once. Beside a node on the same machine more only lengthens its queue."""


class Forked(errors.StakesideError):
    """The range does not continue the block it was asked to continue; `remote` is what the node has at that height."""

    def __init__(self, expected: chain.BlockRef, remote: chain.BlockRef) -> None:
        super().__init__(f"the node has {remote} where {expected} was indexed")
        self.expected = expected
        self.remote = remote


class Block(msgspec.Struct, frozen=True):
    """A block worth a row: it has logs of ours, or its header must be kept. `proof` is the level of its logs."""

    header: chain.Header
    logs: tuple[chain.Log, ...]
    proof: str


class Range(msgspec.Struct, frozen=True):
    """`blocks` ascending; between them nothing of ours happened. The last block is always among them."""

    first: int
    last: int
    blocks: tuple[Block, ...]

    @property
    def rows(self) -> int:
        return sum(len(block.logs) for block in self.blocks)


class Evidence:
    """Reads at one level. `emitters`: (addresses, topic0s) per protocol.

    `trust_bloom` false is for chains whose headers carry no bloom or a wrong one: every block is then a candidate.
    """

    def __init__(
        self,
        source: reader.Reader,
        emitters: Sequence[tuple[Sequence[bytes], Sequence[bytes]]],
        *,
        level: str,
        trust_bloom: bool = True,
    ) -> None:
        chain.proof_rank(level)
        if level != "node" and not source.recompute:
            raise errors.BadConfig(
                "this proof level needs recomputed headers", value=level, cure="use a reader that recomputes"
            )
        if level == "bloom" and not trust_bloom:
            raise errors.BadConfig(
                "where blooms are not to be trusted they prove nothing", value=level, cure="use level receipts or node"
            )
        addresses = sorted({address for pair in emitters for address in pair[0]})
        anything = any(not topics for _, topics in emitters)
        topics = () if anything else tuple(sorted({topic for pair in emitters for topic in pair[1]}))
        self.level = level
        self.filter = reader.Filter(tuple(addresses), topics)
        self._source = source
        self._bloom = proof.BloomTest(emitters)
        self._trust_bloom = trust_bloom

    def candidate(self, header: chain.Header) -> bool:
        """Whether the block may hold a log of ours. False is a proof of absence where the header is proven."""
        return not self._trust_bloom or self._bloom(header.bloom)

    # --- finalized history, by ranges ---

    async def range(self, *, parent: chain.BlockRef, last: int, keep: Collection[int]) -> Range:
        """Everything of ours from the block after `parent` through `last`, and the headers of the heights in `keep`.

        Raises Forked when the node's block at `parent`'s height is another one; HistoryUnavailable when the node has the headers but
        not what belongs to them; RangeRefused; BadAnswer for whatever contradicts itself.
        """
        if self.level == "node":
            return await self._range_by_logs(parent, last, keep)
        headers = await self._linked(parent, last)
        if self.level == "bloom":
            listed = await self._listed(headers)
            blocks = await self._settle(headers, listed, history=True)
        else:
            blocks = await self._settle(headers, None, history=True)
        worth = tuple(
            block for block in blocks if block.logs or block.header.number in keep or block.header.number == last
        )
        return Range(parent.number + 1, last, worth)

    async def block_by_receipts(self, *, parent: chain.BlockRef) -> Range:
        """One block whose logs the node refuses to list: from its receipts, proven, whatever the level."""
        (header,) = await self._linked(parent, parent.number + 1)
        logs = await self._from_receipts(header, history=True) if self.candidate(header) else ()
        return Range(header.number, header.number, (Block(header, logs, "receipts"),))

    async def _range_by_logs(self, parent: chain.BlockRef, last: int, keep: Collection[int]) -> Range:
        logs, edge = await self._source.logs_in(self.filter, first=parent.number + 1, last=last)
        by_block: dict[int, list[chain.Log]] = {}
        for log in logs:
            by_block.setdefault(log.block.number, []).append(log)
        worth = {n for n in (*by_block, *keep) if parent.number < n < last}
        # The range's first header says by its parent's hash that the range continues the one before it.
        wanted = sorted(worth | ({parent.number + 1} if parent.number + 1 < last else set()))
        ask = [parent.number, *wanted] if parent.number >= 0 else wanted
        headers = await self._source.headers_at(ask)
        if parent.number >= 0 and headers:
            _continues(parent, headers.pop(0))
        blocks: list[Block] = []
        for header in (*headers, edge):
            found = tuple(by_block.get(header.number, ()))
            if found and found[0].block != header.ref:
                raise errors.BadAnswer("logs and header of one height name two blocks", value=str(header.ref))
            blocks.append(Block(header, found, "node"))
        below = [parent, *(block.header.ref for block in blocks)]
        for lower, block in zip(below, blocks, strict=False):
            if block.header.number == lower.number + 1 and block.header.parent != lower.hash:
                raise errors.BadAnswer("two headers of one range do not link", value=str(block.header.ref))
        kept = tuple(block for block in blocks if block.header.number in worth or block.header.number == last)
        return Range(parent.number + 1, last, kept)

    async def _linked(self, parent: chain.BlockRef, last: int) -> list[chain.Header]:
        """All headers after `parent`, proven to be its descendants."""
        first = max(parent.number, 0)
        headers = await self._source.headers_at(range(first, last + 1))
        if parent.number >= 0:
            _continues(parent, headers.pop(0))
        elif headers[0].parent != parent.hash:
            raise errors.BadAnswer("block 0 has a parent", value=str(headers[0].ref))
        links = [parent, *(header.ref for header in headers)]
        for below, header in zip(links, headers, strict=False):
            if header.parent != below.hash:
                raise errors.BadAnswer(f"header {header.ref} does not link to {below}")
        return headers

    async def _listed(self, headers: Sequence[chain.Header]) -> dict[bytes, tuple[chain.Log, ...]]:
        """Logs of the range by block hash; every one must name a header of it."""
        logs, edge = await self._source.logs_in(self.filter, first=headers[0].number, last=headers[-1].number)
        if edge.hash != headers[-1].hash:
            raise errors.BadAnswer("headers and logs of a range come from two forks", value=str(edge.ref))
        known = {header.number: header.hash for header in headers}
        listed: dict[bytes, tuple[chain.Log, ...]] = {}
        for log in logs:
            if known[log.block.number] != log.block.hash:
                raise errors.BadAnswer("headers and logs of a range come from two forks", value=str(log.block))
            listed[log.block.hash] = (*listed.get(log.block.hash, ()), log)
        return listed

    # --- the tip, by hash ---

    async def at(self, headers: Sequence[chain.Header]) -> list[Block]:
        """Each of these blocks with its logs, asked for by hash. UnknownBlock when one was replaced meanwhile; RangeRefused when
        they are too many at once."""
        if self.level == "receipts":
            return await self._settle(headers, None, history=False)
        try:
            found = await self._source.logs_of(self.filter, [header.ref for header in headers])
        except jsonrpc.RangeRefused:
            if len(headers) > 1:
                raise
            return [Block(headers[0], await self._from_receipts(headers[0], history=False), "receipts")]
        listed = {header.hash: tuple(logs) for header, logs in zip(headers, found, strict=True)}
        return await self._settle(headers, listed, history=False)

    # --- the verdict ---

    async def _settle(
        self, headers: Sequence[chain.Header], listed: dict[bytes, tuple[chain.Log, ...]] | None, *, history: bool
    ) -> list[Block]:
        """Every header with its logs. `listed` is what the node says; None: at level `receipts` it is not asked."""
        doubtful: list[chain.Header] = []
        settled: dict[bytes, tuple[tuple[chain.Log, ...], str]] = {}
        for header in headers:
            said = () if listed is None else listed.get(header.hash, ())
            if self._agrees(header, None if listed is None else bool(said)):
                settled[header.hash] = (said, self.level)
            else:
                doubtful.append(header)
        for start in range(0, len(doubtful), PARALLEL):
            part = doubtful[start : start + PARALLEL]
            answers = await asyncio.gather(
                *(self._from_receipts(header, history=history) for header in part), return_exceptions=True
            )
            for header, logs in zip(part, answers, strict=True):
                if isinstance(logs, BaseException):
                    raise logs
                settled[header.hash] = (logs, "receipts")
        return [Block(header, *settled[header.hash]) for header in headers]

    def _agrees(self, header: chain.Header, said: bool | None) -> bool:
        """Whether the bloom bears out that the node said there are logs, or none (None: it was not asked)."""
        candidate = self.candidate(header)
        if said is None:
            return not candidate
        if said == candidate or not self._trust_bloom:
            return True
        # A node that lags answers "no logs" for a block it does not have. Logs beyond an unproven bloom are the node's word.
        return said and self.level == "node"

    async def _from_receipts(self, header: chain.Header, *, history: bool) -> tuple[chain.Log, ...]:
        """Our logs of a block, proven. Where receipts should be and are not, `history` says whether that is final."""
        receipts = await self._source.receipts_of(header.ref)
        if not receipts and header.receipts_root != proof.EMPTY_TRIE:
            if history:
                raise errors.HistoryUnavailable(
                    f"the node has no receipts for block {header.ref}",
                    cure="use a node that keeps receipts, or adopt these frames",
                )
            raise jsonrpc.UnknownBlock(f"the node has no receipts yet for block {header.ref}", code=0, text="null")
        return tuple(log for log in proof.proven_logs(header, receipts or ()) if self.filter.admits(log))


def _continues(parent: chain.BlockRef, found: chain.Header) -> None:
    if found.hash != parent.hash:
        raise Forked(parent, found.ref)
