"""Which blocks were read for which logs, at which proof level. In: a range, in the commit that stores its logs. Out: what is missing.

Rows alone cannot say that a log is absent: a protocol that was added later, or whose manifest has changed, has no rows in blocks that
were read before. So every commit notes the range it read, with the fingerprint of what it wanted; ranges that touch are one row.
"""

from __future__ import annotations

import sqlalchemy as sa

from domain import chain
from store import bulk
from store.connection import Connection
from store.tables import coverage


async def add(c: Connection, *, protocol: str, fingerprint: bytes, first: int, last: int, proof: str) -> None:
    """The canonical blocks `first` to `last` were read whole, for what `fingerprint` names."""
    key = {"protocol": protocol, "fingerprint": fingerprint, "proof": chain.proof_rank(proof)}
    same = [coverage.c[name] == value for name, value in key.items()]
    touching = (*same, coverage.c.first <= last + 1, coverage.c.last >= max(0, first - 1))
    rows = await c.rows(sa.select(coverage.c.first, coverage.c.last).where(*touching))
    low, high = min([first, *(row.first for row in rows)]), max([last, *(row.last for row in rows)])
    if [row.first for row in rows] != [low]:
        await c.change(coverage.delete().where(*touching))
    await bulk.upsert(c, coverage, key | {"first": low, "last": high})


async def first_uncovered(
    c: Connection, *, protocol: str, fingerprint: bytes, first: int, last: int, proof: str
) -> int | None:
    """The lowest block of `first` to `last` that was not read for this fingerprint at this level or a stronger one; None: all were."""
    wanted = (
        coverage.c.protocol == protocol,
        coverage.c.fingerprint == fingerprint,
        coverage.c.proof >= chain.proof_rank(proof),
        coverage.c.last >= first,
    )
    at = first
    for row in await c.rows(sa.select(coverage.c.first, coverage.c.last).where(*wanted).order_by(coverage.c.first)):
        if row.first > at or at > last:
            break
        at = max(at, row.last + 1)
    return at if at <= last else None


async def truncate(c: Connection, *, above: int) -> None:
    """The blocks above are no longer the canonical chain's: they will be read again."""
    await c.change(coverage.delete().where(coverage.c.first > above))
    await c.change(coverage.update().where(coverage.c.last > above).values(last=above))
