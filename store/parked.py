"""Logs that could not be processed. In: where and why. Out: those still open on the canonical chain."""

from __future__ import annotations

import msgspec
import sqlalchemy as sa

from kit import logs
from store import bulk
from store.connection import Connection
from store.tables import block, parked


class Parked(msgspec.Struct, frozen=True):
    """`subject` is the protocol or stream it stops."""

    subject: str
    block_hash: bytes
    log_index: int
    reason: str


async def add(c: Connection, *, stream_or_protocol: str, block_hash: bytes, log_index: int, reason: str) -> None:
    """Again for the same log is the same item; the first reason stays."""
    row = {"subject": stream_or_protocol, "block_hash": block_hash, "log_index": log_index, "reason": logs.line(reason)}
    await bulk.insert_missing(c, parked, [row])


async def open_(c: Connection) -> list[Parked]:
    """Not those of blocks that a reorg put aside: they stop nothing, and come back with their block."""
    query = (
        sa.select(parked.c.subject, parked.c.block_hash, parked.c.log_index, parked.c.reason)
        .outerjoin(block, block.c.hash == parked.c.block_hash)
        .where(parked.c.resolved_by.is_(None), block.c.orphaned_generation.is_(None))
        .order_by(block.c.number, parked.c.log_index)
    )
    return [Parked(row.subject, row.block_hash, row.log_index, row.reason) for row in await c.rows(query)]


async def resolve(c: Connection, *, stream_or_protocol: str, block_hash: bytes, log_index: int, by: str) -> bool:
    """A person decided; False when there was nothing open."""
    changed = await c.change(
        parked.update()
        .where(
            parked.c.subject == stream_or_protocol,
            parked.c.block_hash == block_hash,
            parked.c.log_index == log_index,
            parked.c.resolved_by.is_(None),
        )
        .values(resolved_by=by)
    )
    return changed > 0
