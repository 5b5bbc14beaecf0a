"""Many rows at once. In: values. Out: pieces that fit a statement, inserts that skip what is there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from store.connection import Connection

T = TypeVar("T")
PIECE = 400
"""Values in one IN list: SQLite allows 1,000 nested expressions, and longer statements are not faster."""


def pieces(values: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(values), PIECE):
        yield values[start : start + PIECE]


async def insert_missing(c: Connection, table: sa.Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert the rows whose key is not there yet; for tables where the key says all there is to say."""
    if rows:
        await c.change(_insert(c, table).on_conflict_do_nothing(), [dict(row) for row in rows])


async def upsert(
    c: Connection, table: sa.Table, row: Mapping[str, Any], *, changed: Mapping[str, Any] | None = None
) -> None:
    """Insert a row or set its non-key columns (or just `changed`, which may use the stored ones)."""
    keys = [column.name for column in table.primary_key.columns]
    values = changed or {name: value for name, value in row.items() if name not in keys}
    await c.change(_insert(c, table).values(**row).on_conflict_do_update(index_elements=keys, set_=dict(values)))


def _insert(c: Connection, table: sa.Table) -> sqlite.Insert | postgresql.Insert:
    return postgresql.insert(table) if c.dialect.name == "postgresql" else sqlite.insert(table)
