"""What differs between SQLite and PostgreSQL. In: a book's address. Out: engines for writing and reading, the writer's lock, our errors.

SQLite: a file in WAL mode, every commit synced to the disk, an OS lock beside it that dies with its holder. PostgreSQL: an advisory
lock on the very session that writes, so whoever lost the lock lost the connection too.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import socket
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy import event, exc, pool
from sqlalchemy.util import greenlet_spawn

from domain import errors
from kit import columns

T = TypeVar("T")
DAMAGED = "stop the agent, keep the file, and restore the book from a backup or index anew"
READERS = 4
"""Read connections of one pool."""
_BUSY_S = 5.0
"""How long SQLite waits for another program's lock, such as a backup's, before a step backs off."""
_HEADER = b"SQLite format 3\0"


class Backend(Protocol):
    """One kind of database. `shown` is its address without the password."""

    shown: str

    def check(self, *, read_only: bool) -> None: ...

    def lock(self) -> None: ...

    def unlock(self) -> None: ...

    def holder(self, sync: sa.Connection) -> str | None: ...

    def writer(self) -> sa.Engine: ...

    def reader(self, *, size: int = READERS) -> sa.Engine: ...


def backend(url: str) -> Backend:
    """`sqlite:///path` or `postgresql://user:password@host/name`. Raises StoreError for anything else."""
    try:
        parsed = sa.make_url(url)
    except (exc.ArgumentError, ValueError):  # the latter for a port that is no number
        raise errors.StoreError(
            "the book's address is malformed", cure='use "sqlite:///path" or "postgresql://…"'
        ) from None
    kind = parsed.get_backend_name()
    if kind == "sqlite" and parsed.database and parsed.database != ":memory:":
        return SQLite(Path(parsed.database))
    if kind == "postgresql":
        return PostgreSQL(parsed)
    raise errors.StoreError(
        "no such kind of book", value=parsed.render_as_string(), cure='use "sqlite:///path" or "postgresql://…"'
    )


class SQLite:
    def __init__(self, path: Path) -> None:
        path = path.resolve()  # two names of one file are one book, with one lock
        self.path = path
        self.shown = f"sqlite:///{path}"
        self._lock_fd: int | None = None

    def check(self, *, read_only: bool) -> None:
        """What SQLite would notice late or not at all: no file to read, another file, a file cut short."""
        if read_only and not self.path.exists():
            raise errors.StoreError("there is no book to read", value=str(self.path), cure="start the agent once")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("rb") as file:
                head = file.read(100)
                size = file.seek(0, os.SEEK_END)
        except FileNotFoundError:
            return
        except OSError as error:
            raise errors.StoreError(
                "the book cannot be opened", value=str(error), cure="check path and permissions"
            ) from error
        if not head:
            return
        if head[:16] != _HEADER or len(head) < 100:
            raise errors.StoreError("the book is damaged or is no book", value=str(self.path), cure=DAMAGED)
        page = int.from_bytes(head[16:18], "big")
        declared = int.from_bytes(head[28:32], "big") * (65536 if page == 1 else page)
        wal = self.path.with_name(self.path.name + "-wal")
        # With a write-ahead log beside it the file may rightly be shorter: the log has the rest.
        if size < declared and not (wal.exists() and wal.stat().st_size):
            raise errors.StoreError(
                "the book is cut short", value=f"{size} of {declared} bytes, {self.path}", cure=DAMAGED
            )

    def lock(self) -> None:
        path = self.path.with_name(self.path.name + ".lock")
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise errors.StoreError(
                "the book cannot be locked", value=str(error), cure="check path and permissions"
            ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
            os.close(descriptor)
            raise _held(self.shown, f"process {holder}") from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        self._lock_fd = descriptor

    def unlock(self) -> None:
        if self._lock_fd is not None:
            os.close(self._lock_fd)
            self._lock_fd = None

    def holder(self, sync: sa.Connection) -> str | None:
        """Who writes to it now."""
        del sync
        try:
            descriptor = os.open(self.path.with_name(self.path.name + ".lock"), os.O_RDONLY)
        except OSError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return f"process {os.pread(descriptor, 32, 0).decode(errors='replace').strip() or 'unknown'}"
        finally:
            os.close(descriptor)
        return None

    def writer(self) -> sa.Engine:
        engine = self._engine("rwc", size=1)
        on_connect(engine, _tune)
        # The write lock is taken at once: a reader's lock that grows into a writer's can fail half-way.
        event.listen(engine, "begin", _begin_immediate)
        return engine

    def reader(self, *, size: int = READERS) -> sa.Engine:
        engine = self._engine("ro", size=size)
        event.listen(engine, "begin", _begin)
        return engine

    def maker(self) -> sa.Engine:
        """For a file that nobody knows yet: without a journal, because a failure throws it away. Whoever publishes it syncs it."""
        engine = self._engine("rwc", size=1)
        on_connect(engine, lambda dbapi: _tune(dbapi, _MAKING))
        event.listen(engine, "begin", _begin)
        return engine

    def _engine(self, mode: str, *, size: int) -> sa.Engine:
        return sa.create_engine(
            sa.URL.create("sqlite+aiosqlite", database=str(self.path)),
            connect_args={"factory": _connecting(self.path, mode)},
            poolclass=pool.AsyncAdaptedQueuePool,
            pool_size=size,
            max_overflow=0,
            pool_timeout=30,
        )


def _begin(c: sa.Connection) -> None:
    c.exec_driver_sql("BEGIN")


def _begin_immediate(c: sa.Connection) -> None:
    c.exec_driver_sql("BEGIN IMMEDIATE")


def _uri(path: Path, mode: str) -> str:
    return f"file:{quote(str(path.absolute()))}?mode={mode}"


def create(path: Path) -> None:
    """The empty file of a new book, for its user alone: what SQLite puts beside it is as open as the file. One that exists stays as it is."""
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except OSError:
        return  # it exists, or SQLite says what is wrong


def _connecting(path: Path, mode: str) -> type[sqlite3.Connection]:
    """The driver makes its connections through this class, which knows what the driver's address cannot say."""

    class TunedConnection(sqlite3.Connection):
        def __init__(self, database: str, **_: Any) -> None:
            if mode == "rwc":
                create(path)
            # isolation_level None: transactions begin where we say, not where the driver guesses.
            super().__init__(_uri(path, mode), uri=True, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
            columns.register(self)

    return TunedConnection


_WRITING = (
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",  # a signed vote must survive a power cut
    "PRAGMA foreign_keys = ON",
    "PRAGMA recursive_triggers = ON",  # or REPLACE would delete past the guards
    "PRAGMA journal_size_limit = 67108864",  # a long backfill must not leave its log behind
    "PRAGMA cache_size = -8192",  # KiB
)


_MAKING = (
    "PRAGMA journal_mode = OFF",
    "PRAGMA synchronous = OFF",
    "PRAGMA foreign_keys = ON",
    "PRAGMA cache_size = -8192",
)


def _tune(dbapi: Any, pragmas: tuple[str, ...] = _WRITING) -> None:
    cursor = dbapi.cursor()
    for text in pragmas:
        cursor.execute(text)
    cursor.close()


def on_connect(engine: sa.Engine, prepare: Callable[[Any], None]) -> None:
    """Prepare every new connection, and close one that cannot be prepared: nobody else knows it yet."""

    def connect(dbapi: Any, _record: object) -> None:
        try:
            prepare(dbapi)
        except BaseException:
            dbapi.close()
            raise

    event.listen(engine, "connect", connect)


class Unreached(errors.Transient, OSError):
    """No server is there. Who runs goes on trying, who starts says so."""

    def __init__(self, error: OSError) -> None:
        super().__init__(
            "the database cannot be reached",
            value=f"{type(error).__name__}: {error.strerror or error}",
            cure="check address and server",
        )


class Sessions:
    """The connections of a book's engines. After `renew` none that was there is used again."""

    def __init__(self, *engines: sa.Engine) -> None:
        self._since = 0
        for engine in engines:
            event.listen(engine, "connect", self._connected)
            event.listen(engine, "checkout", self._taken)

    def renew(self) -> None:
        self._since += 1

    def _connected(self, _dbapi: object, record: pool.ConnectionPoolEntry) -> None:
        record.info["since"] = self._since

    def _taken(self, _dbapi: object, record: pool.ConnectionPoolEntry, _proxy: object) -> None:
        if record.info["since"] != self._since:
            raise exc.DisconnectionError  # the pool closes it and makes another


class PostgreSQL:
    def __init__(self, url: sa.URL) -> None:
        self.shown = url.render_as_string()
        self._url = url.set(drivername="postgresql+asyncpg")

    def check(self, *, read_only: bool) -> None:
        """The server answers for its files."""

    def lock(self) -> None:
        """Taken by the writing session itself, see `_take_advisory_lock`."""

    def unlock(self) -> None:
        """Ends with the session."""

    def holder(self, sync: sa.Connection) -> str | None:
        """Who writes to it now."""
        return sync.exec_driver_sql(_HOLDER).scalar()

    def writer(self) -> sa.Engine:
        engine = self._engine(size=1)
        on_connect(engine, keep_commits)
        on_connect(engine, lambda dbapi: _take_advisory_lock(dbapi, self.shown))
        return engine

    def reader(self, *, size: int = READERS) -> sa.Engine:
        engine = self._engine(size=size, isolation_level="REPEATABLE READ")
        return engine.execution_options(postgresql_readonly=True)

    def others(self, sync: sa.Connection) -> list[str]:
        """Other processes of ours with a session in this database."""
        found = sync.execute(
            sa.text(
                "SELECT DISTINCT application_name FROM pg_stat_activity WHERE datname = current_database() "
                "AND application_name LIKE 'stakeside %' AND application_name <> :own ORDER BY 1"
            ),
            {"own": session_name()},
        )
        return [row[0] for row in found]

    def set_aside(self, sync: sa.Connection, *, before: str) -> str:
        """Give the schema with all that is in it another name, and begin an empty one under the old name; returns where the old
        tables are. Part of the transaction: nobody sees the one without the other."""
        name = str(sync.execute(sa.text("SELECT current_schema()")).scalar())
        known = set(sa.inspect(sync).get_schema_names())
        number = 1
        while (kept := f"{name}_before_{before}_{number}") in known:
            number += 1
        quote_ = sync.dialect.identifier_preparer.quote_identifier
        sync.exec_driver_sql(f"ALTER SCHEMA {quote_(name)} RENAME TO {quote_(kept)}")
        sync.exec_driver_sql(f"CREATE SCHEMA {quote_(name)}")
        return kept

    def _engine(self, *, size: int, **options: Any) -> sa.Engine:
        try:
            return sa.create_engine(
                self._url,
                connect_args={"timeout": 10, "server_settings": {"application_name": session_name()}},
                pool_size=size,
                max_overflow=0,
                pool_timeout=30,
                pool_pre_ping=True,
                **options,
            )
        except ModuleNotFoundError as error:
            raise errors.StoreError(
                "the PostgreSQL driver is not installed", value=str(error), cure='install "stakeside[postgresql]"'
            ) from error


def session_name(what: str = "process") -> str:
    """What the server shows of this process; it cuts longer names."""
    return f"stakeside {what} {os.getpid()} on {socket.gethostname()}"[:63]


_SYNCHRONOUS = (
    "SELECT set_config('synchronous_commit', CASE was WHEN 'off' THEN 'on' ELSE was END, false) "
    "FROM current_setting('synchronous_commit') AS was"
)
_LOCK_KEY = "hashtextextended('stakeside book ' || current_schema(), 0)"
_HOLDER = (
    "SELECT min(a.application_name) FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid "
    "WHERE l.locktype = 'advisory' AND l.granted AND a.datname = current_database() "
    f"AND ((l.classid::bigint << 32) | l.objid::bigint) = {_LOCK_KEY}"
)


def keep_commits(dbapi: Any) -> None:
    """A commit of this PostgreSQL session is on a disk once it is answered, whatever the server, the database or the role has as its default: a
    signature that left must survive a power cut. A stricter setting stays as it is, and from here on cannot be loosened by a reload."""
    cursor = dbapi.cursor()
    try:
        cursor.execute(_SYNCHRONOUS)
        dbapi.commit()
    finally:
        cursor.close()


def _take_advisory_lock(dbapi: Any, shown: str) -> None:
    cursor = dbapi.cursor()
    try:
        # Waits a second: after a lost connection our own former session may still be dying.
        cursor.execute("SET lock_timeout = '1s'")
        dbapi.commit()
        try:
            cursor.execute(f"SELECT pg_advisory_lock({_LOCK_KEY})")
        except dbapi.dbapi.Error:
            dbapi.rollback()
            cursor.execute(_HOLDER)
            found = cursor.fetchone()
            dbapi.rollback()
            raise _held(shown, str(found[0]) if found and found[0] else "an unknown session") from None
        cursor.execute("SET lock_timeout = 0")
        dbapi.commit()
    finally:
        cursor.close()


def _held(shown: str, holder: str) -> errors.StoreError:
    return errors.StoreError(
        f"the book is in use by {holder}",
        value=shown,
        cure="stop it first: a book has one writer, and a second agent needs a book of its own",
    )


@asynccontextmanager
async def transaction(engine: sa.Engine) -> AsyncIterator[sa.Connection]:
    """A connection in a transaction, which ends with nothing written unless the block commits. Use it inside `run` only."""
    held: list[sa.Connection] = []

    def begin() -> None:
        held.append(engine.connect())
        held[0].begin()

    try:
        await run(begin)
        yield held[0]
    finally:
        # Also when the task was cancelled while it waited for the connection: the pool must get it back.
        if held:
            await run(held[0].close)  # rolls back what was not committed


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
    except OSError as error:
        raise Unreached(error) from error
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


READ_ONLY = "25006"
"""SQLSTATE of a write where none is taken: on a standby, or on a server that was set to read only."""
_DISK_FULL = "53100"
_PASSING = ("08", "53", "57", "40001", "40P01", "55P03")
"""SQLSTATEs, or their classes, of what is no fault of a statement: connections, resources, what an operator does (stops, starts, recovers, ends
a session), and who was in the way."""


def sqlstate(error: BaseException | None) -> str:
    """PostgreSQL's code of what was wrong; the words beside it are in the server's language. Empty where there is none."""
    return str(getattr(getattr(error, "orig", None), "sqlstate", None) or "")


def passes(error: exc.DBAPIError) -> bool:
    """Whether the server only asks to come back. A full disk is among it: what a book does about that is its own decision."""
    return sqlstate(error).startswith(_PASSING)


def translate(error: exc.DBAPIError) -> errors.StakesideError:
    """Database errors become ours. A full disk is no reason to wait, here as with SQLite: the process ends, and says so."""
    text = str(error.orig)
    lower = text.lower()
    if "database is locked" in lower or "database table is locked" in lower:
        return errors.Transient("the book is locked by another program", cure="close other programs that write to it")
    if any(
        sign in lower for sign in ("malformed", "not a database", "file is encrypted", "disk i/o error", "short read")
    ):
        return errors.Unusable("the book is damaged", value=text, cure=DAMAGED)
    if sqlstate(error) == _DISK_FULL or "disk is full" in lower or "no space left" in lower:
        return errors.Unusable("the disk is full", value=text, cure="free some space and start again")
    unwritable = any(sign in lower for sign in ("readonly", "read-only", "unable to open"))
    if unwritable or sqlstate(error) == READ_ONLY:
        return errors.Unusable("the book cannot be written", value=text, cure="check the path and its permissions")
    if isinstance(error, exc.IntegrityError) or "append-only" in lower:
        return errors.StoreError("the book refuses a row that contradicts it", value=text)
    if error.connection_invalidated or isinstance(error, exc.InterfaceError):
        return errors.Transient("the connection to the database was lost", value=text)
    if passes(error):
        return errors.Transient("the database asks to try again", value=text)
    return errors.Unusable("the database refused a statement", value=text)
