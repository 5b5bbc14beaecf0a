"""Logs with their meaning, as people look at them. In: filters and a place to go on from. Out: rows of `store.queries`."""

from __future__ import annotations

from typing import Any

import msgspec
import sqlalchemy as sa

from domain import chain
from store.connection import AnyRow, AnySelect, Connection
from store.tables import block, log, proven


class EventRow(msgspec.Struct, frozen=True):
    """A log with its meaning; `kind` is None where nothing could be made of it."""

    number: int
    block_hash: bytes
    log_index: int
    tx_hash: bytes
    address: bytes
    time: int
    protocol: str
    kind: str | None
    validator: bytes | None
    delegator: bytes | None
    amount: int | None
    detail: str | None
    proof: str
    orphaned: bool


async def events(
    c: Connection,
    *,
    limit: int,
    before: tuple[int, int] | None = None,
    protocol: str | None = None,
    kind: str | None = None,
    orphaned: bool = False,
) -> list[EventRow]:
    """Newest first, of the canonical chain (or, with `orphaned`, of blocks that were put aside); `before` is the (number,
    log index) that the last page ended with."""
    query = (
        _select()
        .where(block.c.orphaned_generation.is_not(None) if orphaned else block.c.orphaned_generation.is_(None))
        .order_by(log.c.number.desc(), log.c.log_index.desc())
        .limit(limit)
    )
    if before is not None:
        number, log_index = before
        # Spelled out, not as a row comparison: SQLite then walks the key from the right place.
        query = query.where(log.c.number <= number, sa.or_(log.c.number < number, log.c.log_index < log_index))
    if protocol is not None:
        query = query.where(log.c.protocol == protocol)
    if kind is not None:
        query = query.where(log.c.kind == kind)
    return [_event(row) for row in await c.rows(query)]


def _select() -> AnySelect:
    return sa.select(log, proof(log.c.block_hash, log.c.proof), block.c.orphaned_generation).join(
        block, sa.and_(block.c.number == log.c.number, block.c.hash == log.c.block_hash)
    )


def _event(row: AnyRow) -> EventRow:
    return EventRow(
        row.number, row.block_hash, row.log_index, row.tx_hash, row.address, row.time, row.protocol, row.kind,
        row.validator, row.delegator, row.amount, row.detail, chain.PROOFS[int(row.strongest)],
        row.orphaned_generation is not None,
    )  # fmt: skip


async def of_transaction(c: Connection, *, number: int, block_hash: bytes, tx_hash: bytes) -> list[EventRow]:
    """By the block's key, which finds the few logs of one block: the transaction's hash has no index."""
    query = _select().where(log.c.number == number, log.c.block_hash == block_hash, log.c.tx_hash == tx_hash)
    return [_event(row) for row in await c.rows(query.order_by(log.c.log_index))]


def proof(block_hash: sa.ColumnElement[bytes], own: sa.ColumnElement[int]) -> sa.Label[Any]:
    """The strongest level a block was ever proven at."""
    stronger = sa.select(sa.func.max(proven.c.proof)).where(proven.c.block_hash == block_hash).scalar_subquery()
    return sa.func.coalesce(stronger, own).label("strongest")
