"""One database connection under asyncio. In: SQLAlchemy Core statements. Out: rows, all fetched; or one of our errors.

SQLAlchemy's own asyncio package imports its ORM, which an agent beside a node pays for in memory and start-up time. The asynchronous
drivers need only `greenlet_spawn`, so this is the thin rest: run, fetch all, translate errors. A statement that has begun is always
waited for, even when its task is cancelled, so that a connection is never left in the middle of one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.util import greenlet_spawn

from domain import errors
from kit import columns

T = TypeVar("T")
AnyRow = sa.Row[*tuple[Any, ...]]
AnySelect = sa.Select[*tuple[Any, ...]]
Params = dict[str, Any] | Sequence[dict[str, Any]] | None

_BULK: dict[tuple[str, str], str] = {}

DAMAGED = "stop the agent, keep the file, and restore the book from a backup or index anew"


class Connection:
    """What every function of the store takes first. Use it only inside the `async with` that gave it."""

    def __init__(self, sync: sa.Connection) -> None:
        self._sync = sync

    @property
    def dialect(self) -> sa.Dialect:
        return self._sync.dialect

    async def rows(self, statement: sa.Executable, params: Params = None) -> Sequence[AnyRow]:
        return await run(lambda: self._sync.execute(statement, params).all())

    async def row(self, statement: sa.Executable, params: Params = None) -> AnyRow | None:
        """The first row or None."""
        return await run(lambda: self._sync.execute(statement, params).first())

    async def scalar(self, statement: sa.Executable, params: Params = None) -> Any:
        """The first column of the first row or None."""
        return await run(lambda: self._sync.execute(statement, params).scalar())

    async def change(self, statement: sa.Executable, params: Params = None) -> int:
        """Run an INSERT or UPDATE; how many rows it touched."""

        def work() -> int:
            result = self._sync.execute(statement, params)
            count = result.rowcount
            result.close()
            return count

        return await run(work)

    async def bulk(self, table: sa.Table, rows: Sequence[tuple[Any, ...]]) -> None:
        """Insert tuples in the table's column order: one driver call, values checked column by column."""
        if not rows:
            return
        checked = [
            columns.bind_column(column.type, values, self.dialect)
            for column, values in zip(table.columns, zip(*rows, strict=True), strict=True)
        ]
        bound = list(zip(*checked, strict=True))
        await run(lambda: self._sync.exec_driver_sql(_bulk_sql(table, self.dialect), bound))

    async def script(self, work: Callable[[sa.Connection], T]) -> T:
        """Run synchronous SQLAlchemy code, such as a migration, on this connection."""
        return await run(lambda: work(self._sync))

    async def begin(self) -> None:
        await run(self._sync.begin)

    async def commit(self) -> None:
        await run(self._sync.commit)

    async def rollback(self) -> None:
        await run(self._sync.rollback)

    async def close(self) -> None:
        await run(self._sync.close)


def _bulk_sql(table: sa.Table, dialect: sa.Dialect) -> str:
    key = (table.name, dialect.name)
    if key not in _BULK:
        _BULK[key] = str(
            table.insert().values({c.name: sa.bindparam(c.name) for c in table.columns}).compile(dialect=dialect)
        )
    return _BULK[key]


async def run(work: Callable[[], T]) -> T:
    """Run SQLAlchemy code to its end and translate what it raises; a cancellation is passed on afterwards."""
    try:
        return await _to_the_end(greenlet_spawn(work))
    except exc.DBAPIError as error:
        raise translate(error) from error
    except exc.StatementError as error:
        if isinstance(error.orig, errors.StakesideError):  # a column type refused a value
            raise error.orig from None
        raise
    except exc.TimeoutError as error:
        raise errors.Transient("every connection to the book is busy", cure="the step runs again") from error
    except OverflowError as error:
        raise errors.StoreError("a number does not fit its column", value=str(error)) from error


async def _to_the_end(work: Awaitable[T]) -> T:
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait((task,))
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        task.exception()  # looked at, so that it is not reported as lost
        raise cancelled
    return task.result()


def translate(error: exc.DBAPIError) -> errors.StakesideError:
    """The one place where database errors become ours."""
    text = str(error.orig)
    lower = text.lower()
    if "database is locked" in lower or "database table is locked" in lower:
        return errors.Transient("the book is locked by another program", cure="close other programs that write to it")
    if any(
        sign in lower for sign in ("malformed", "not a database", "file is encrypted", "disk i/o error", "short read")
    ):
        return errors.StoreError("the book is damaged", value=text, cure=DAMAGED)
    if "disk is full" in lower or "no space left" in lower:
        return errors.StoreError("the disk is full", value=text, cure="free some space and start again")
    if "readonly" in lower or "unable to open" in lower or "read-only" in lower:
        return errors.StoreError("the book cannot be written", value=text, cure="check the path and its permissions")
    if isinstance(error, exc.IntegrityError) or "append-only" in lower:
        return errors.StoreError("the book refuses a row that contradicts it", value=text)
    if error.connection_invalidated or isinstance(error, exc.InterfaceError):
        return errors.Transient("the connection to the database was lost", value=text)
    if any(
        sign in lower for sign in ("deadlock detected", "could not serialize", "terminating connection", "starting up")
    ):
        return errors.Transient("the database asks to try again", value=text)
    return errors.StoreError("the database refused a statement", value=text)
