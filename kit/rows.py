"""Many rows at once. In: tuples in a table's column order. Out: rows in the database, every value checked as its column's type checks it.

SQLite takes one driver call. PostgreSQL takes few rows the same way and many by COPY, which parses and plans nothing per row.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc

from kit import columns

COPY_FROM = 8
"""Rows from which COPY is the faster way (`benchmarks/store.py`); fewer are not worth its extra round trip."""
_SQL: dict[tuple[sa.Table, str], str] = {}


def insert(
    sync: sa.Connection, table: sa.Table, rows: Sequence[tuple[Any, ...]], *, copy_from: int = COPY_FROM
) -> None:
    """Inside `databases.run`. Raises StoreError for a value that its column refuses, before anything is sent."""
    if not rows:
        return
    dialect = sync.dialect
    checked = [
        columns.bind_column(column.type, values, dialect)
        for column, values in zip(table.columns, zip(*rows, strict=True), strict=True)
    ]
    bound = list(zip(*checked, strict=True))
    if dialect.name == "postgresql" and len(bound) >= copy_from:
        _copy(sync, table, bound)
    else:
        sync.exec_driver_sql(_sql(table, dialect), bound)


def _sql(table: sa.Table, dialect: sa.Dialect) -> str:
    key = (table, dialect.name)
    if key not in _SQL:
        values: dict[str, Any] = {column.name: sa.bindparam(column.name) for column in table.columns}
        _SQL[key] = str(table.insert().values(values).compile(dialect=dialect))
    return _SQL[key]


def _copy(sync: sa.Connection, table: sa.Table, bound: list[tuple[Any, ...]]) -> None:
    import asyncpg

    names = [column.name for column in table.columns]
    adapter: Any = sync.connection.dbapi_connection
    if not adapter.driver_connection.is_in_transaction():
        sync.exec_driver_sql("SELECT 1")  # the adapter begins with its first statement, which COPY is not for it

    async def send(driver: Any) -> None:
        await driver.copy_records_to_table(table.name, records=bound, columns=names)

    try:
        adapter.run_async(send)
    except asyncpg.IntegrityConstraintViolationError as error:
        raise exc.IntegrityError(f"COPY {table.name}", None, error) from error
    except (asyncpg.PostgresConnectionError, asyncpg.InterfaceError, OSError) as error:
        raise exc.InterfaceError(f"COPY {table.name}", None, error) from error
    except asyncpg.PostgresError as error:
        raise exc.DatabaseError(f"COPY {table.name}", None, error) from error
