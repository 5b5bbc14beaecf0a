"""Blocks by hash. In: headers. Out: headers of the canonical chain, or any block by its hash.

A reorg changes one column of one row and deletes nothing: `orphan` puts a block aside, `insert` of the same hash brings it back.
"""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from domain import chain, errors
from store import bulk, cursors, tally
from store.connection import AnyRow, Connection
from store.tables import block, log, proven

_COLUMNS = (
    block.c.number, block.c.hash, block.c.parent, block.c.time, block.c.state_root, block.c.receipts_root, block.c.bloom,
)  # fmt: skip


async def insert(c: Connection, headers: Sequence[chain.Header], *, proof: str) -> None:
    """Store canonical blocks. One that is already there must be identical; an orphaned one becomes canonical again.

    Raises BadAnswer when a block differs from the stored one, StoreError when another block of its height is still canonical.
    """
    rank = chain.proof_rank(proof)
    unique = {header.hash: header for header in headers}
    stored = await _stored(c, list(unique))
    for block_hash, (found, _, _) in stored.items():
        if found != unique[block_hash]:
            raise errors.BadAnswer("a block differs from the stored one of the same hash", value=str(found.ref))
    fresh = [header for block_hash, header in unique.items() if block_hash not in stored]
    await c.bulk(
        block, [(h.number, h.hash, h.parent, h.time, h.state_root, h.receipts_root, h.bloom, rank, None) for h in fresh]
    )
    returning = [found.ref for found, _, orphaned in stored.values() if orphaned is not None]
    if returning:
        await c.change(
            block.update()
            .where(block.c.number == sa.bindparam("n"), block.c.hash == sa.bindparam("h"))
            .values(orphaned_generation=None),
            [{"n": ref.number, "h": ref.hash} for ref in returning],
        )
        await tally.add(c, "log_orphaned", -await _count_logs(c, returning))
    await tally.add(c, "block", len(fresh))
    await tally.add(c, "block_orphaned", -len(returning))
    stronger = [(block_hash, rank) for block_hash, (_, had, _) in stored.items() if had < rank]
    if stronger:
        await prove(c, [block_hash for block_hash, _ in stronger], proof=proof)


async def prove(c: Connection, hashes: Sequence[bytes], *, proof: str) -> None:
    """Note that stored blocks, with all their rows, are now proven by something stronger."""
    rank = chain.proof_rank(proof)
    await bulk.insert_missing(c, proven, [{"block_hash": block_hash, "proof": rank} for block_hash in hashes])


async def orphan(c: Connection, hashes: Sequence[bytes], *, generation: int) -> None:
    """Put blocks aside. Raises FinalityViolated for one at or below the `finalized` cursor; the transaction then changes nothing."""
    stored = await _stored(c, hashes)
    missing = [block_hash for block_hash in hashes if block_hash not in stored]
    if missing:
        raise errors.StoreError("a block to be put aside is not in the book", value=missing[0])
    refs = [found.ref for found, _, orphaned in stored.values() if orphaned is None]
    finalized = await cursors.get(c, "finalized")
    for ref in refs:
        if finalized is not None and ref.number <= finalized.number:
            raise errors.FinalityViolated("a finalized block would be put aside", value=str(ref))
    if not refs:
        return
    await c.change(
        block.update()
        .where(block.c.number == sa.bindparam("n"), block.c.hash == sa.bindparam("h"))
        .values(orphaned_generation=generation),
        [{"n": ref.number, "h": ref.hash} for ref in refs],
    )
    await tally.add(c, "block_orphaned", len(refs))
    await tally.add(c, "log_orphaned", await _count_logs(c, refs))


async def canonical_at(c: Connection, number: int) -> chain.Header | None:
    query = sa.select(*_COLUMNS).where(block.c.number == number, block.c.orphaned_generation.is_(None))
    row = await c.row(query)
    return None if row is None else _header(row)


async def by_hash(c: Connection, block_hash: bytes) -> chain.Header | None:
    """Canonical or not."""
    row = await c.row(sa.select(*_COLUMNS).where(block.c.hash == block_hash))
    return None if row is None else _header(row)


async def is_canonical(c: Connection, block_hash: bytes) -> bool:
    query = sa.select(block.c.number).where(block.c.hash == block_hash, block.c.orphaned_generation.is_(None))
    return await c.row(query) is not None


async def unfinalized(c: Connection, *, above: int) -> list[chain.Header]:
    """Canonical blocks higher than `above`, ascending."""
    query = (
        sa.select(*_COLUMNS)
        .where(block.c.number > above, block.c.orphaned_generation.is_(None))
        .order_by(block.c.number)
    )
    return [_header(row) for row in await c.rows(query)]


async def tip(c: Connection, *, at_most: int | None = None) -> chain.Header | None:
    """The highest canonical block (not above `at_most`)."""
    query = sa.select(*_COLUMNS).where(block.c.orphaned_generation.is_(None))
    if at_most is not None:
        query = query.where(block.c.number <= at_most)
    row = await c.row(query.order_by(block.c.number.desc()).limit(1))
    return None if row is None else _header(row)


async def next_canonical(c: Connection, number: int, *, at_most: int) -> chain.BlockRef | None:
    """The lowest canonical block from `number` to `at_most` that is kept: of history not every one is."""
    query = (
        sa.select(block.c.number, block.c.hash)
        .where(block.c.number >= number, block.c.number <= at_most, block.c.orphaned_generation.is_(None))
        .order_by(block.c.number)
        .limit(1)
    )
    row = await c.row(query)
    return None if row is None else chain.BlockRef(*row)


def _header(row: AnyRow) -> chain.Header:
    return chain.Header(*row[:7])


async def _stored(c: Connection, hashes: Sequence[bytes]) -> dict[bytes, tuple[chain.Header, int, int | None]]:
    """Header, strongest proof and orphaned generation of those that are in the book."""
    found: dict[bytes, tuple[chain.Header, int, int | None]] = {}
    stronger = sa.select(sa.func.max(proven.c.proof)).where(proven.c.block_hash == block.c.hash).scalar_subquery()
    for some in bulk.pieces(hashes):
        query = sa.select(*_COLUMNS, sa.func.coalesce(stronger, block.c.proof), block.c.orphaned_generation).where(
            block.c.hash.in_(some)
        )
        for row in await c.rows(query):
            found[row[1]] = (_header(row), row[7], row[8])
    return found


async def _count_logs(c: Connection, refs: Sequence[chain.BlockRef]) -> int:
    total = 0
    for some in bulk.pieces(refs):
        wanted = {ref.hash for ref in some}
        # By number alone, which is where the key begins; a list of pairs would make SQLite read the whole table.
        query = (
            sa.select(log.c.block_hash, sa.func.count())
            .where(log.c.number.in_([ref.number for ref in some]))
            .group_by(log.c.number, log.c.block_hash)
        )
        total += sum(row[1] for row in await c.rows(query) if row[0] in wanted)
    return total
