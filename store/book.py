"""Opening the book. In: its address and what it must be the book of. Out: a `Book` whose transactions are the only way in.

One process writes. Opening creates or migrates the schema, takes the writer's lock and compares the book's deployment, chain and
genesis with the configured ones, because rows of two chains in one book cannot be told apart again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import sqlalchemy as sa

from domain import errors, hashing
from kit import databases, faults, logs, migrations
from store import connection, tables
from store.migrations import HEAD

Connection = connection.Connection
log = logs.logger()


class Book:
    """`write()` is one transaction of the one writer, `read()` a snapshot beside it: for the stages. `look()` is the same for people, and
    `probe()` for health and metrics, over connections of their own: however many ask, no stage waits for them. `close()` when done."""

    def __init__(self, backend: databases.Backend, writer: sa.Engine | None) -> None:
        self.shown = backend.shown
        self._backend = backend
        self._writer = writer
        self._reader = backend.reader()
        self._looker = backend.reader()
        self._prober = backend.reader(size=1)
        engines = (writer, self._reader, self._looker, self._prober)
        self._sessions = databases.Sessions(*(engine for engine in engines if engine is not None))
        self._turn = asyncio.Lock()
        self._writing: asyncio.Task[object] | None = None

    @asynccontextmanager
    async def write(self) -> AsyncIterator[Connection]:
        """A transaction that commits when the block ends and leaves nothing behind when it raises. Writers take turns."""
        if self._writer is None:
            raise errors.StoreError("the book was opened for reading", value=self.shown)
        if self._writing is not None and self._writing is asyncio.current_task():
            raise errors.StoreError("a transaction was begun inside another one")
        async with self._turn:
            self._writing = asyncio.current_task()
            try:
                async with databases.transaction(self._writer) as sync:
                    c = Connection(sync)
                    yield c
                    faults.point("store.before_commit")
                    await c.commit()
                    faults.point("store.after_commit")
            except errors.Unusable as error:
                if databases.sqlstate(error.__cause__) != databases.READ_ONLY:
                    raise
                self._sessions.renew()  # the address may lead to another server by now
                raise errors.Transient(
                    "the database takes no writes now: it is a standby, or its server was set to read only",
                    value=error.value,
                ) from None
            finally:
                self._writing = None

    @asynccontextmanager
    async def read(self) -> AsyncIterator[Connection]:
        """A consistent snapshot; writing is refused by the database."""
        async with databases.transaction(self._reader) as sync:
            yield Connection(sync)

    @asynccontextmanager
    async def look(self) -> AsyncIterator[Connection]:
        """A snapshot for people."""
        async with databases.transaction(self._looker) as sync:
            yield Connection(sync)

    @asynccontextmanager
    async def probe(self) -> AsyncIterator[Connection]:
        """A snapshot for probes, one at a time."""
        async with databases.transaction(self._prober) as sync:
            yield Connection(sync)

    async def holder(self) -> str | None:
        """Who writes to it now."""
        async with self.read() as c:
            return await c.script(self._backend.holder)

    def guard(self, found: dict[str, str]) -> None:
        """From now on a new connection of the writer must find this in `meta`. A PostgreSQL session that is lost takes its lock with it, and
        until the next one has it, another process may restore the book or bind it anew."""
        if self._writer is not None:
            databases.on_connect(self._writer, lambda dbapi: _same_book(dbapi, found, shown=self.shown))

    async def close(self) -> None:
        for engine in (self._prober, self._looker, self._reader, self._writer):
            if engine is not None:
                await databases.run(engine.dispose)
        self._backend.unlock()


async def open_book(url: str, *, deployment: bytes, chain_id: int, genesis: bytes, read_only: bool = False) -> Book:
    """Raises StoreError when another process writes to it, when it is another deployment's or chain's, when its schema is newer
    than this software, or when it is damaged; the error says which and what to do."""
    backend = databases.backend(url)
    backend.check(read_only=read_only)
    if not read_only:
        backend.lock()
    book = None
    try:
        book = Book(backend, None if read_only else backend.writer())
        bound = bindings(deployment=deployment, chain_id=chain_id, genesis=genesis)
        if read_only:
            async with book.read() as c:
                await _check_schema(c, shown=backend.shown)
                await _check_bound(c, bound, shown=backend.shown)
        else:
            async with book.write() as c:
                await bring_up(c, bound, shown=backend.shown)
                found = await _meta(c)
            book.guard(found)
    except databases.Unreached as error:
        await _abandon(backend, book)
        raise errors.StoreError(error.what, value=f"{backend.shown}, {error.value}", cure=error.cure) from error
    except BaseException:
        await _abandon(backend, book)
        raise
    return book


async def _abandon(backend: databases.Backend, book: Book | None) -> None:
    if book is not None:
        await book.close()
    backend.unlock()


def bindings(*, deployment: bytes, chain_id: int, genesis: bytes) -> dict[str, str]:
    """What a book is the book of, as its `meta` says it."""
    return {"deployment": hashing.hex0x(deployment), "chain_id": str(chain_id), "genesis": hashing.hex0x(genesis)}


async def bring_up(c: Connection, bound: dict[str, str], *, shown: str) -> None:
    """The schema as this software has it, created or migrated, and bound; a book that holds nothing is bound anew. Raises StoreError for another
    one's book."""
    stored = await c.script(migrations.version)
    if stored is None:
        if await c.script(lambda sync: bool(sa.inspect(sync).get_table_names())):
            raise errors.StoreError("the database holds other tables", cure="give the agent a database of its own")
        await c.script(tables.create)
        await c.script(lambda sync: migrations.stamp(sync, HEAD))
        await c.change(tables.meta.insert(), [{"key": key, "value": value} for key, value in bound.items()])
        return
    if stored != HEAD:
        await c.script(lambda sync: _upgrade(sync, stored))
    was = await _check_bound(c, bound, shown=shown)
    if was != bound:
        await c.script(lambda sync: tables.rebind(sync, bound))
        log.warning("book.bound_anew", book=shown, was=_short(was), now=_short(bound), why="it held nothing")


def _upgrade(sync: sa.Connection, stored: str) -> None:
    if stored > HEAD:
        raise errors.StoreError(
            "the book was written by newer software",
            value=f"schema {stored}, this software has {HEAD}",
            cure="upgrade this agent",
        )
    migrations.upgrade(sync, location="store:migrations")


async def _check_schema(c: Connection, *, shown: str) -> None:
    stored = await c.script(migrations.version)
    if stored != HEAD:
        raise errors.StoreError(
            "the book's schema is not this software's",
            value=f"{stored}, not {HEAD}, {shown}",
            cure="start the agent once to bring it up to date, or upgrade this software",
        )


async def _check_bound(c: Connection, bound: dict[str, str], *, shown: str) -> dict[str, str]:
    """What the book is the book of. Nothing is lost or mixed up by calling one that holds nothing the book of something else: a start that failed
    on a wrong setting leaves such a one behind."""
    found = await _meta(c)
    for key, value in bound.items():
        if found.get(key) != value and not (found.keys() == bound.keys() and await holds_nothing(c)):
            had = _short(found).get(key, "none")
            raise errors.StoreError(
                f"the book belongs to another {key.replace('_', ' ')}: it has {had}, the configuration {_short(bound)[key]}",
                value=shown,
                cure="give each deployment and chain a book of its own, or correct the configuration",
            )
    return {key: found[key] for key in bound}


async def _meta(c: Connection) -> dict[str, str]:
    return {row.key: row.value for row in await c.rows(sa.select(tables.meta))}


def _same_book(dbapi: Any, found: dict[str, str], *, shown: str) -> None:
    cursor = dbapi.cursor()
    try:
        cursor.execute("SELECT key, value FROM meta")
        now = dict(cursor.fetchall())
        dbapi.rollback()
    finally:
        cursor.close()
    if now != found:
        changed = sorted(key for key in now.keys() | found.keys() if now.get(key) != found.get(key))
        raise errors.StoreError(
            f"the book became another one while the connection was lost: {', '.join(changed)} changed",
            value=shown,
            cure="find out who restored it or bound it anew, and start again",
        )


async def holds_nothing(c: Connection) -> bool:
    """Whether there is no row in it but those that say what it is the book of."""
    for table in tables.metadata.tables.values():
        if table is not tables.meta and await c.rows(sa.select(sa.literal(1)).select_from(table).limit(1)):
            return False
    return True


def _short(bound: dict[str, str]) -> dict[str, str]:
    """For messages, from which whole hashes are withheld since keys look the same."""
    return {key: f"{value[:10]}…" if len(value) == 66 else value for key, value in bound.items()}
