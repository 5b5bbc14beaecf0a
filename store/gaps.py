"""Block ranges this agent's node cannot serve. In: a range and why. Out: those that nothing has closed yet."""

from __future__ import annotations

import msgspec
import sqlalchemy as sa

from domain import errors
from kit import logs
from store.connection import Connection
from store.tables import gap


class Gap(msgspec.Struct, frozen=True):
    id: int
    protocol: str
    first: int
    last: int
    reason: str


async def open_(c: Connection, *, protocol: str, first: int, last: int, reason: str) -> int:
    """The gap's id; the same open range again is the same gap."""
    if not first <= last:
        raise errors.StoreError("a gap ends before it begins", value=(first, last))
    same = sa.select(gap.c.id).where(
        gap.c.protocol == protocol, gap.c.first == first, gap.c.last == last, gap.c.closed_by.is_(None)
    )
    found = await c.scalar(same)
    if found is not None:
        return int(found)
    return int(
        await c.scalar(
            gap.insert().values(protocol=protocol, first=first, last=last, reason=logs.line(reason)).returning(gap.c.id)
        )
    )


async def pending(c: Connection) -> list[Gap]:
    """Ascending by first block."""
    query = sa.select(gap.c.id, gap.c.protocol, gap.c.first, gap.c.last, gap.c.reason)
    query = query.where(gap.c.closed_by.is_(None)).order_by(gap.c.first, gap.c.id)
    return [Gap(*row) for row in await c.rows(query)]


async def close(c: Connection, gap_id: int, by_digest: bytes) -> None:
    """`by_digest` is the adopted statement that took its place."""
    closed = await c.change(
        gap.update().where(gap.c.id == gap_id, gap.c.closed_by.is_(None)).values(closed_by=by_digest)
    )
    if closed != 1:
        raise errors.StoreError("there is no such open gap", value=gap_id)
