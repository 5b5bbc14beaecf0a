"""Running counts, kept in the transaction that changes what they count. In: changes. Out: the counts."""

from __future__ import annotations

import sqlalchemy as sa

from store import bulk
from store.connection import Connection
from store.tables import tally as table

EVENT = "event:"
"""What the names of the counts of events by kind begin with."""


async def add(c: Connection, name: str, change: int) -> None:
    if change:
        value = table.c.value + change if change > 0 else table.c.value - -change
        await bulk.upsert(c, table, {"name": name, "value": max(change, 0)}, changed={"value": value})


async def read(c: Connection) -> dict[str, int]:
    """Counts by name: `block`, `block_orphaned`, `log`, `log_orphaned`."""
    found: dict[str, int] = dict.fromkeys(("block", "block_orphaned", "log", "log_orphaned"), 0)
    found.update({row.name: row.value for row in await c.rows(sa.select(table)) if not row.name.startswith(EVENT)})
    return found


async def events(c: Connection) -> dict[str, int]:
    """Events ever written, by kind, those of orphaned blocks included: it only grows."""
    query = sa.select(table).where(table.c.name.startswith(EVENT)).order_by(table.c.name)
    return {row.name.removeprefix(EVENT): row.value for row in await c.rows(query)}
