"""One database connection under asyncio. In: SQLAlchemy Core statements. Out: rows, all fetched; or one of our errors.

SQLAlchemy's own asyncio package imports its ORM, which an agent beside a node pays for in memory and start-up time. The asynchronous
drivers need only `greenlet_spawn`, so this is the thin rest: run, fetch all, translate errors. A statement that has begun is always
waited for, even when its task is cancelled, so that a connection is never left in the middle of one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import sqlalchemy as sa

from domain import errors
from kit import databases, rows

T = TypeVar("T")
AnyRow = sa.Row[*tuple[Any, ...]]
AnySelect = sa.Select[*tuple[Any, ...]]
Params = dict[str, Any] | Sequence[dict[str, Any]] | None


class Connection:
    """What every function of the store takes first. Use it only inside the `async with` that gave it."""

    def __init__(self, sync: sa.Connection) -> None:
        self._sync = sync
        self._spoilt: errors.Unusable | None = None

    @property
    def dialect(self) -> sa.Dialect:
        return self._sync.dialect

    async def _run(self, work: Callable[[], T]) -> T:
        """Once the book cannot be used, nothing more is done here: SQLite may have ended the transaction by itself (a full disk), and what
        came after would stay without what came before."""
        if self._spoilt is not None:
            raise self._spoilt
        try:
            return await databases.run(work)
        except errors.Unusable as error:
            self._spoilt = error
            raise

    async def rows(self, statement: sa.Executable, params: Params = None) -> Sequence[AnyRow]:
        return await self._run(lambda: self._sync.execute(statement, params).all())

    async def row(self, statement: sa.Executable, params: Params = None) -> AnyRow | None:
        """The first row or None."""
        return await self._run(lambda: self._sync.execute(statement, params).first())

    async def scalar(self, statement: sa.Executable, params: Params = None) -> Any:
        """The first column of the first row or None."""
        return await self._run(lambda: self._sync.execute(statement, params).scalar())

    async def change(self, statement: sa.Executable, params: Params = None) -> int:
        """Run an INSERT or UPDATE; how many rows it touched."""

        def work() -> int:
            result = self._sync.execute(statement, params)
            count = result.rowcount
            result.close()
            return count

        return await self._run(work)

    async def bulk(self, table: sa.Table, values: Sequence[tuple[Any, ...]]) -> None:
        """Insert tuples in the table's column order, checked column by column: many at once, by COPY in PostgreSQL."""
        await self._run(lambda: rows.insert(self._sync, table, values))

    async def script(self, work: Callable[[sa.Connection], T]) -> T:
        """Run synchronous SQLAlchemy code, such as a migration, on this connection."""
        return await self._run(lambda: work(self._sync))

    @asynccontextmanager
    async def savepoint(self) -> AsyncIterator[None]:
        """A part of the transaction that leaves nothing behind when the book refuses it; the rest goes on. Whatever else is raised ends the
        whole transaction."""
        part = await self._run(self._sync.begin_nested)
        try:
            yield
        except errors.Unusable:
            raise
        except errors.StoreError:
            await self._run(part.rollback)
            raise
        await self._run(part.commit)

    async def begin(self) -> None:
        await databases.run(self._sync.begin)

    async def commit(self) -> None:
        await self._run(self._sync.commit)

    async def rollback(self) -> None:
        await databases.run(self._sync.rollback)

    async def close(self) -> None:
        await databases.run(self._sync.close)
