"""The hub's book. In: a database URL. Out: one writing transaction at a time, and reading snapshots beside it.

SQLite: WAL, synchronous FULL (a receipt must survive the power cut that follows it), BEGIN IMMEDIATE, and a lock file so that a second
process refuses. PostgreSQL: every writing transaction takes one advisory lock, so several hub processes count votes one at a time.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as NoneFree
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from domain import errors
from earnings import tables
from earnings.migrations import HEAD
from kit import databases, migrations

Connection = AsyncConnection

_ADVISORY_LOCK = 0x5354414B
_DRIVERS = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg", "postgres": "postgresql+asyncpg"}
READERS = databases.READERS
READ_ONLY = "the hub's database takes no writes now: it is a standby, or its server was set to read only"
_ONLY_READS = "SELECT pg_is_in_recovery() OR current_setting('default_transaction_read_only')::boolean"


class Book:
    """`write()` is one transaction at a time, `read()` a snapshot beside it: for the sealer and what agents send. `look()` is the same for
    consumers and people, and `probe()` for health, over connections of their own: however many ask, no seal and no lease waits for them."""

    def __init__(
        self,
        writer: AsyncEngine,
        reader: AsyncEngine,
        lock: int | None,
        *,
        looker: AsyncEngine,
        prober: AsyncEngine,
    ) -> None:
        self._writer = writer
        self._reader = reader
        self._looker = looker
        self._prober = prober
        self._lock = lock
        self._turn = asyncio.Lock()
        self._sessions = databases.Sessions(*(engine.sync_engine for engine in (writer, reader, looker, prober)))

    @asynccontextmanager
    async def write(self) -> AsyncGenerator[Connection, None]:
        """A writing transaction: commits at the end, rolls back on any error. One at a time."""
        async with self._turn:
            try:
                async with self._writer.begin() as c:
                    if c.dialect.name == "postgresql":
                        await c.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})
                    yield c
            except (DBAPIError, OSError) as error:
                if isinstance(error, DBAPIError) and databases.sqlstate(error) == databases.READ_ONLY:
                    self.connect_anew()
                    raise errors.Transient(READ_ONLY, value=str(error.orig)) from None
                raise _away(error, "the hub's book could not be written") from None

    @asynccontextmanager
    async def read(self) -> AsyncGenerator[Connection, None]:
        """A snapshot for the hub's own work."""
        async with _snapshot(self._reader) as c:
            yield c

    @asynccontextmanager
    async def look(self) -> AsyncGenerator[Connection, None]:
        """A snapshot for who asks."""
        async with _snapshot(self._looker) as c:
            yield c

    @asynccontextmanager
    async def probe(self) -> AsyncGenerator[Connection, None]:
        """A snapshot for probes, one at a time."""
        async with _snapshot(self._prober) as c:
            yield c

    def connect_anew(self) -> None:
        """Begin no transaction again on a connection that is there: its server takes no writes, and the address may lead to another one now."""
        self._sessions.renew()

    async def close(self) -> None:
        for engine in (self._prober, self._looker, self._reader, self._writer):
            await engine.dispose()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


@asynccontextmanager
async def _snapshot(engine: AsyncEngine) -> AsyncGenerator[Connection, None]:
    try:
        async with engine.begin() as c:
            yield c
    except NoneFree:
        raise errors.Transient("every connection to the hub's book is busy") from None
    except (DBAPIError, OSError) as error:
        raise _away(error, "the hub's book could not be read") from None


def _away(error: DBAPIError | OSError, what: str) -> Exception:
    """A database that is away, restarts, recovers, is full or is locked is waited for; anything else it says is a fault of ours and stays what
    it is."""
    if isinstance(error, OSError):
        return errors.Transient(what, value=f"{type(error).__name__}: {error.strerror}", cure="is the database up?")
    if error.connection_invalidated or isinstance(error, OperationalError | InterfaceError) or databases.passes(error):
        return errors.Transient(what, value=str(error.orig))
    return error


def _refused(error: DBAPIError) -> errors.StoreError:
    """What a book says at a start. An SQLite file has nobody who could refuse but itself."""
    if databases.sqlstate(error):
        return errors.StoreError(
            "the hub's database refuses",
            value=str(error.orig),
            cure="check hub.store: the name, the role and its rights",
        )
    return errors.StoreError("the hub's book is damaged", value=str(error.orig), cure="restore it from a backup")


async def open_book(url: str, *, deployment: bytes) -> Book:
    """Open or create. Raises StoreError for a book of another deployment or schema, or one that another process writes."""
    dialect, _, rest = url.partition("://")
    driver = _DRIVERS.get(dialect)
    if driver is None:
        raise errors.BadConfig(
            "the hub's store is neither SQLite nor PostgreSQL", value=dialect, cure='use "sqlite:///hub.db"'
        )
    lock = _take_lock(Path(rest.removeprefix("/")).resolve()) if dialect == "sqlite" else None
    full = f"{driver}://{rest}"
    writer = _engine(full, begin="BEGIN IMMEDIATE", size=1)
    reader, looker, prober = (_engine(full, begin="BEGIN", size=size, snapshot=True) for size in (READERS, READERS, 1))
    book = Book(writer, reader, lock, looker=looker, prober=prober)
    try:
        await _check(book, deployment)
    except BaseException:
        await book.close()
        raise
    return book


async def look(url: str) -> bytes | None:
    """The deployment that a book belongs to, None for an empty one. Takes no lock and writes nothing."""
    dialect, _, rest = url.partition("://")
    reader = _engine(f"{_DRIVERS[dialect]}://{rest}", begin="BEGIN", size=1, snapshot=True)
    try:
        async with reader.begin() as c:
            there = await c.run_sync(lambda sync: sa.inspect(sync).has_table(tables.meta.name))
            return await meta(c, "deployment") if there else None
    except (DBAPIError, OSError) as error:
        away = _away(error, "the hub's book could not be read")
        raise (_refused(away) if isinstance(away, DBAPIError) else away) from None
    finally:
        await reader.dispose()


async def _check(book: Book, deployment: bytes) -> None:
    try:
        async with book.write() as c:
            await c.run_sync(_current_schema)
            stored = await meta(c, "deployment")
            if stored is None:
                await put_meta(c, "deployment", deployment)
            elif stored != deployment:
                raise errors.StoreError(
                    "the hub's book is of another deployment",
                    value=stored.hex(),
                    cure="give every deployment a store of its own",
                )
    except DBAPIError as error:
        raise _refused(error) from None


def _current_schema(connection: sa.Connection) -> None:
    """Create whole, or migrate what is behind."""
    found = migrations.version(connection)
    if found is None:
        tables.metadata.create_all(connection)
        migrations.stamp(connection, HEAD)
    elif found > HEAD:
        raise errors.StoreError("the hub's book was written by newer software", value=found, cure="run that version")
    elif found != HEAD:
        migrations.upgrade(connection, location="earnings:migrations")


def _take_lock(path: Path) -> int:
    """Hold `<store>.lock` while this process lives; the system frees it with the process, however it dies."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise errors.StoreError(f"the hub's store cannot be created: {error.strerror}", value=str(path)) from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        raise errors.StoreError(
            "another process writes this store", value=str(path), cure="stop it, or give this hub another store"
        ) from None
    databases.create(path)
    return handle


def _engine(url: str, *, begin: str, size: int, snapshot: bool = False) -> AsyncEngine:
    """`snapshot`: all statements of a transaction see one state, as SQLite's always do, and write nothing."""
    # Named on the server: a copy or a restore must see that a hub is running.
    named = {"server_settings": {"application_name": databases.session_name("hub")}} if "asyncpg" in url else {}
    engine = create_async_engine(url, pool_size=size, max_overflow=0, pool_timeout=30, connect_args=named)
    if engine.dialect.name != "sqlite":
        if snapshot:
            return engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        databases.on_connect(engine.sync_engine, databases.keep_commits)
        return engine

    def connected(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # the driver's own BEGIN is not IMMEDIATE, so ours replaces it
        cursor = connection.cursor()
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=10000", "foreign_keys=ON"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    def began(connection: sa.Connection) -> None:
        connection.exec_driver_sql(begin)

    event.listen(engine.sync_engine, "connect", connected)
    event.listen(engine.sync_engine, "begin", began)
    return engine


async def only_reads(c: Connection) -> bool:
    """Whether a transaction that writes would be refused there, asked without one: a writer may be at work for long."""
    return c.dialect.name == "postgresql" and bool(await c.scalar(sa.text(_ONLY_READS)))


async def meta(c: Connection, name: str) -> bytes | None:
    found = await c.scalar(sa.select(tables.meta.c.value).where(tables.meta.c.name == name))
    return found


async def put_meta(c: Connection, name: str, value: bytes) -> None:
    changed = await c.execute(tables.meta.update().where(tables.meta.c.name == name).values(value=value))
    if changed.rowcount == 0:
        await c.execute(tables.meta.insert().values(name=name, value=value))
