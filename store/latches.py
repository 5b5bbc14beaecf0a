"""Durable stops. In: a name and a reason. Out: what is set. Only a person clears one; it stays in the book with who and when."""

from __future__ import annotations

import msgspec
import sqlalchemy as sa

from kit import logs
from store import backup
from store.connection import Connection
from store.tables import latch

STAKING = "submit."
"""What the names of latches begin with that stop the staking belt; every other one stops the earning belt."""


class Latch(msgspec.Struct, frozen=True):
    name: str
    reason: str
    set_at_s: int


async def set(c: Connection, name: str, *, reason: str, at_s: float) -> bool:
    """Set it; False when it was set already, which keeps the first reason."""
    if await c.row(sa.select(latch.c.id).where(latch.c.name == name, latch.c.cleared_at_s.is_(None))) is not None:
        return False
    await c.change(latch.insert().values(name=name, reason=logs.line(reason), set_at_s=int(at_s)))
    return True


async def clear(c: Connection, name: str, *, by: str, at_s: float) -> bool:
    """False when it was not set. Clearing `submit.restored` is how a person accepts that the book came from a backup."""
    cleared = await c.change(
        latch.update()
        .where(latch.c.name == name, latch.c.cleared_at_s.is_(None))
        .values(cleared_by=by, cleared_at_s=int(at_s))
    )
    if cleared and name == backup.LATCH:
        await backup.accept_restored(c, by=by, at_s=at_s)
    return cleared > 0


async def active(c: Connection) -> list[Latch]:
    query = (
        sa.select(latch.c.name, latch.c.reason, latch.c.set_at_s)
        .where(latch.c.cleared_at_s.is_(None))
        .order_by(latch.c.id)
    )
    return [Latch(row.name, row.reason, row.set_at_s) for row in await c.rows(query)]


def blocks_earning(latch: Latch) -> bool:
    return not latch.name.startswith(STAKING)


def blocks_staking(latch: Latch) -> bool:
    """Whether it stops new signatures. (New reservations also stop under `finality`: what would be planned on is in doubt.)"""
    return latch.name.startswith(STAKING)
