"""What happened to the canonical chain, in order; routine entries go after their days (`store.retention`). In: one entry a step. Out: the entries."""

from __future__ import annotations

from typing import Literal

import msgspec
import sqlalchemy as sa

from domain import chain
from store.connection import Connection
from store.tables import is_adoption, journal

Kind = Literal["committed", "reverted", "finalized", "violated", "adopted"]


class Entry(msgspec.Struct, frozen=True):
    id: int
    at_s: int
    kind: str
    ref: chain.BlockRef
    generation: int


async def append(c: Connection, kind: Kind, ref: chain.BlockRef, generation: int, at_s: float) -> None:
    """`at_s` is the agent's clock, for people; nothing is derived from it."""
    await c.change(
        journal.insert().values(kind=kind, number=ref.number, hash=ref.hash, generation=generation, at_s=int(at_s))
    )


async def newest(c: Connection, *, limit: int, before: int | None = None) -> list[Entry]:
    """Newest first; `before` is the id that the last page ended with."""
    query = sa.select(journal).order_by(journal.c.id.desc()).limit(limit)
    if before is not None:
        query = query.where(journal.c.id < before)
    return [
        Entry(row.id, row.at_s, row.kind, chain.BlockRef(row.number, row.hash), row.generation)
        for row in await c.rows(query)
    ]


async def last_adopted(c: Connection) -> Entry | None:
    """The newest adoption."""
    query = sa.select(journal).where(is_adoption).order_by(journal.c.id.desc()).limit(1)
    row = await c.row(query)
    if row is None:
        return None
    return Entry(row.id, row.at_s, row.kind, chain.BlockRef(row.number, row.hash), row.generation)


async def count(c: Connection, *, kind: Kind | None = None) -> int:
    query = sa.select(sa.func.count()).select_from(journal)
    return int(await c.scalar(query if kind is None else query.where(journal.c.kind == kind)) or 0)
