"""Back to where book and node agree. In: a block of history that the node does not continue. Out: the block to go on from.

History is read before it is linked to a finalized header. When the node turns out to be on another chain than the one it was read from,
what is not final is left; most of it is usually right, so the way back is searched, in growing steps.
"""

from __future__ import annotations

from agent.services import chronicle
from domain import chain
from indexers.chain import reader


async def target(
    book: chronicle.Chronicle, source: reader.Reader, anchor: chain.BlockRef, *, start: int, genesis: bytes
) -> tuple[chain.BlockRef, chain.Header | None]:
    """The highest stored block below `anchor` that the node has too, but never below what is final. The header is that of a new
    beginning, where even the block before `start` was another one."""
    floor = await book.floor()
    back = 1
    while (stored := await book.stored_at_most(anchor.number - back)) is not None:
        if floor is not None and stored.number <= floor.number:
            break
        if (await source.header_at(stored.number)).hash == stored.hash:
            return stored, None
        back *= 2
    if floor is not None:
        return floor, None
    if start <= 1:
        return chain.BlockRef(0, genesis), None
    header = await source.header_at(start - 1)
    return header.ref, header
