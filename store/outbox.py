"""What has to reach the hub. In: envelopes, written with the data they stand for. Out: what is due; rows close on a receipt only.

First in, first out in each stream, and a stream that waits never holds up another one.
"""

from __future__ import annotations

import msgspec
import sqlalchemy as sa

from domain import errors
from kit import logs
from store.connection import Connection
from store.tables import outbox


class Item(msgspec.Struct, frozen=True):
    """`id` is the digest that the hub's receipt must name."""

    id: bytes
    stream: bytes
    kind: str
    payload: bytes
    attempts: int


async def put(c: Connection, *, id: bytes, stream: bytes, kind: str, payload: bytes) -> None:
    """At the end of its stream. The same item again is the same item; other bytes under its id are refused."""
    found = await c.row(sa.select(outbox.c.stream, outbox.c.kind, outbox.c.payload).where(outbox.c.id == id))
    if found is not None:
        if tuple(found) != (stream, kind, payload):
            raise errors.StoreError("an outbox item differs from the stored one of the same id", value=id)
        return
    await c.change(
        outbox.insert().values(id=id, stream=stream, kind=kind, payload=payload, attempts=0, next_s=0, blocks=0)
    )


async def due(c: Connection, *, now_s: float, limit: int) -> list[Item]:
    """Open rows whose time has come and that wait for nothing before them in their stream; every stream's first before any
    stream's second.

    A replacement goes before every open attestation of its stream: the vote it withdraws may still be among them, and must never
    be counted upstream before its withdrawal is there. While a replacement waits, so does its whole stream."""
    now = int(now_s)
    open_ = outbox.c.receipt.is_(None)
    withdraws = outbox.c.kind == "replacement"
    # Where each stream stops, found once: looking back from every row would cost the square of a long outage.
    stop = (
        sa.select(outbox.c.stream, sa.func.min(sa.case((withdraws, 0), else_=outbox.c.position)).label("position"))
        .where(open_, outbox.c.next_s > now, outbox.c.blocks == 1)
        .group_by(outbox.c.stream)
        .subquery()
    )
    place = sa.func.row_number().over(
        partition_by=outbox.c.stream, order_by=(sa.case((withdraws, 0), else_=1), outbox.c.position)
    )
    ready = (
        sa.select(outbox.c.position, place.label("place"))
        .outerjoin(stop, stop.c.stream == outbox.c.stream)
        .where(open_, outbox.c.next_s <= now, sa.or_(stop.c.position.is_(None), outbox.c.position < stop.c.position))
        .subquery()
    )
    query = (
        sa.select(*(outbox.c[name] for name in Item.__struct_fields__))
        .join(ready, ready.c.position == outbox.c.position)
        .order_by(ready.c.place, ready.c.position)
        .limit(limit)
    )
    return [Item(*row) for row in await c.rows(query)]


async def defer(c: Connection, id: bytes, *, next_s: float, attempts: int, why: str, blocks: bool = True) -> None:
    """Ask again at `next_s`. With `blocks`, what is behind it in its stream waits too (the hub is away); without, it is this
    item's own trouble."""
    await c.change(
        outbox.update()
        .where(outbox.c.id == id, outbox.c.receipt.is_(None))
        .values(next_s=int(next_s), attempts=attempts, why=logs.line(why), blocks=int(blocks))
    )


async def close(c: Connection, id: bytes, receipt: bytes) -> None:
    """`receipt` is the digest of the verified receipt. Raises StoreError when there is no such row."""
    if await c.change(outbox.update().where(outbox.c.id == id).values(receipt=receipt, why=None, blocks=0)) != 1:
        raise errors.StoreError("there is no such outbox row", value=id)


async def reopen_all(c: Connection) -> int:
    """Send everything again, in the old order: the hub lost its memory. How many rows were reopened."""
    return await c.change(
        outbox.update().where(outbox.c.receipt.is_not(None)).values(receipt=None, attempts=0, next_s=0, blocks=0)
    )


async def depth(c: Connection) -> int:
    """Open rows."""
    return int(await c.scalar(sa.select(sa.func.count()).select_from(outbox).where(outbox.c.receipt.is_(None))) or 0)
