"""Logs and what they mean, keyed by (block hash, log index). In: `Indexed` rows. Out: the same, of the canonical chain, in order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from domain import chain, errors, events
from store import bulk, tally
from store.connection import AnyRow, AnySelect, Connection
from store.tables import block, log, proven

_REINDEX = "stop the agent and run `stakeside agent reindex`"


class Indexed(msgspec.Struct, frozen=True):
    """A log with its block's time, the protocol that claims it, its meaning (None: parked) and how it was proven."""

    log: chain.Log
    time: int
    protocol: str
    event: events.StakingEvent | None
    proof: str


class Contradicted(errors.BadAnswer):
    """The answer about a known block is not what the book has. `settled`: it is the book that is wrong, or made by other rules, so
    asking again changes nothing; else it is one answer against another, and asking again may."""

    def __init__(self, what: str, *, ref: chain.BlockRef, value: object, settled: bool, cure: str = "") -> None:
        super().__init__(what, value=value, cure=cure)
        self.ref = ref
        self.settled = settled


async def insert(
    c: Connection,
    rows: Sequence[Indexed],
    *,
    whole: Mapping[chain.BlockRef, bool] | None = None,
    protocols: Collection[str] = (),
) -> None:
    """Store logs of blocks that are in the book. What is already there must be the same (its proof may differ: the block's strongest
    one counts; and so may the transaction's hash, which no receipt proves). Of the blocks in `whole` the rows are all there is of
    `protocols`, so that a stored log must be among them; the value says whether the answer is proven.

    Raises Contradicted; StoreError when a block is missing."""
    fresh = await _not_stored(c, rows, whole or {}, protocols)
    await c.bulk(log, [_columns(row) for row in fresh])
    await tally.add(c, "log", len(fresh))
    kinds = Counter(row.event.kind for row in fresh if row.event is not None)
    for kind, count_ in sorted(kinds.items()):
        await tally.add(c, tally.EVENT + kind, count_)


async def between(c: Connection, *, protocol: str, first: int, last: int) -> list[Indexed]:
    """Canonical logs of the blocks `first` to `last`, ascending by (block number, log index)."""
    query = (
        _select()
        .where(log.c.number.between(first, last), log.c.protocol == protocol, block.c.orphaned_generation.is_(None))
        .order_by(log.c.number, log.c.log_index)
    )
    return [_indexed(row) for row in await c.rows(query)]


async def of_block(c: Connection, ref: chain.BlockRef) -> list[Indexed]:
    """The logs of one block, canonical or not, ascending."""
    query = _select().where(log.c.number == ref.number, log.c.block_hash == ref.hash).order_by(log.c.log_index)
    return [_indexed(row) for row in await c.rows(query)]


async def last_canonical(c: Connection, *, protocol: str) -> Indexed | None:
    query = (
        _select()
        .where(log.c.protocol == protocol, block.c.orphaned_generation.is_(None))
        .order_by(log.c.number.desc(), log.c.log_index.desc())
        .limit(1)
    )
    row = await c.row(query)
    return None if row is None else _indexed(row)


async def count(c: Connection) -> int:
    """Canonical logs."""
    found = await tally.read(c)
    return found["log"] - found["log_orphaned"]


def _select() -> AnySelect:
    stronger = sa.select(sa.func.max(proven.c.proof)).where(proven.c.block_hash == log.c.block_hash).scalar_subquery()
    columns = [column for column in log.columns if column.name != "proof"]
    return sa.select(*columns, sa.func.coalesce(stronger, log.c.proof).label("proof")).join(
        block, sa.and_(block.c.number == log.c.number, block.c.hash == log.c.block_hash)
    )


def _columns(row: Indexed) -> tuple[Any, ...]:
    it = row.log
    meaning: tuple[Any, ...] = (None, None, None, None, None)
    if row.event is not None:
        as_row = events.to_row(row.event)
        meaning = (as_row.kind, as_row.validator, as_row.delegator, as_row.amount, as_row.detail)
    return (
        it.block.number, it.block.hash, it.log_index, it.tx_hash, it.tx_index, it.address, b"".join(it.topics), it.data,
        row.time, row.protocol, *meaning, chain.proof_rank(row.proof),
    )  # fmt: skip


def _indexed(row: AnyRow) -> Indexed:
    ref = chain.BlockRef(row.number, row.block_hash)
    topics = tuple(row.topics[i : i + 32] for i in range(0, len(row.topics), 32))
    event = None
    if row.kind is not None:
        at = events.At(ref, row.log_index, row.time, row.tx_hash)
        event = events.from_row(events.Row(row.kind, row.validator, row.delegator, row.amount, row.detail), at)
    return Indexed(
        chain.Log(ref, row.log_index, row.tx_hash, row.tx_index, row.address, topics, row.data),
        row.time,
        row.protocol,
        event,
        chain.PROOFS[int(row.proof)],
    )


async def _not_stored(
    c: Connection, rows: Sequence[Indexed], whole: Mapping[chain.BlockRef, bool], protocols: Collection[str]
) -> list[Indexed]:
    """The rows that are new, after comparing the others with what is stored. Blocks are looked up, not rows: most have none."""
    known = await _stored_in(c, {row.log.block for row in rows} | whole.keys())
    fresh: dict[tuple[bytes, int], Indexed] = {}
    for row in rows:
        key = (row.log.block.hash, row.log.log_index)
        other = known.get(key) or fresh.get(key)
        if other is None:
            fresh[key] = row
        else:
            _compare(row, other, settled=whole.get(row.log.block, False))
    given = {(row.log.block.hash, row.log.log_index) for row in rows}
    for key, row in known.items():
        if row.log.block in whole and row.protocol in protocols and key not in given:
            raise Contradicted(
                "a stored log is not in the answer about its block",
                ref=row.log.block,
                value=_place(row),
                settled=whole[row.log.block],
                cure=_REINDEX if whole[row.log.block] else "",
            )
    return list(fresh.values())


def _compare(row: Indexed, other: Indexed, *, settled: bool) -> None:
    """What the chain said first, then what it means: the first is the node's, the second is this software's and its manifest's."""
    if _raw(row) != _raw(other):
        raise Contradicted(
            "a log differs from the stored one of the same block and index",
            ref=row.log.block,
            value=_place(row),
            settled=settled,
            cure=_REINDEX if settled else "",
        )
    if _meaning(row) != _meaning(other):
        raise Contradicted(
            "a stored log has another meaning by the manifest now in use",
            ref=row.log.block,
            value=_place(row),
            settled=True,
            cure=_REINDEX,
        )


def _raw(row: Indexed) -> tuple[chain.Log, int]:
    return msgspec.structs.replace(row.log, tx_hash=b""), row.time


def _meaning(row: Indexed) -> tuple[str, events.Row | None]:
    return row.protocol, None if row.event is None else events.to_row(row.event)


def _place(row: Indexed) -> tuple[str, int]:
    return str(row.log.block), row.log.log_index


async def _stored_in(c: Connection, refs: Iterable[chain.BlockRef]) -> dict[tuple[bytes, int], Indexed]:
    found: dict[tuple[bytes, int], Indexed] = {}
    wanted = sorted(refs)
    if not wanted:
        return found
    # New blocks lie beyond everything stored: one look at the range spares a look-up per block.
    span = log.c.number.between(wanted[0].number, wanted[-1].number)
    if await c.row(sa.select(log.c.number).where(span).limit(1)) is None:
        return found
    for some in bulk.pieces(wanted):
        # By number alone, which is where the key begins; a list of pairs would make SQLite read the whole table.
        for row in await c.rows(_select().where(log.c.number.in_([ref.number for ref in some]))):
            found[row.block_hash, row.log_index] = _indexed(row)
    return found
