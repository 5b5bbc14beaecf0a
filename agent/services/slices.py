"""How much one commit writes. In: blocks with evidence. Out: slices of them, bounded."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from domain import chain
from indexers.chain import evidence

MAX_ROWS = 1000
MAX_BLOCKS = 200
"""A commit's bounds. They keep the writer's lock short, so that a fee bump hardly waits for a backfill (`benchmarks/commit_delay`)."""


class Slice(msgspec.Struct, frozen=True):
    """One commit: the blocks worth a row, and the block behind which the index then stands. `history`: it came by ranges, so not
    every header is here; `final`: its end is the node's finalized block by hash, and so all before it is final too."""

    first: int
    end: chain.BlockRef
    blocks: tuple[evidence.Block, ...]
    history: bool
    final: bool


def bounded(found: Sequence[evidence.Block]) -> Sequence[evidence.Block]:
    """As many blocks as fit one commit; at least one, since a block is never split."""
    total = 0
    for index, block in enumerate(found):
        total += len(block.logs)
        if index and total > MAX_ROWS:
            return found[:index]
    return found[:MAX_BLOCKS]


def sliced(found: evidence.Range, *, final: bool) -> list[Slice]:
    """A range in commits. Each ends at a block whose header is known, the last one at the range's end: `final` is about that one."""
    slices: list[Slice] = []
    first = found.first
    left: Sequence[evidence.Block] = found.blocks
    while left:
        part = bounded(left)
        left = left[len(part) :]
        end = part[-1].header.ref
        slices.append(Slice(first, end, tuple(part), history=True, final=final and not left))
        first = end.number + 1
    return slices


def without_logs_before(found: evidence.Range, start: int) -> evidence.Range:
    """Logs from before the start are nobody's: an index must not depend on where finality stood when it began."""
    if found.first >= start:
        return found
    cut = (block if block.header.number >= start else msgspec.structs.replace(block, logs=()) for block in found.blocks)
    return evidence.Range(found.first, found.last, tuple(cut))
