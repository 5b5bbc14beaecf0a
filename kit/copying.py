"""A whole book from one database to another. In: a snapshot and an empty place. Out: every row, and the digests of both sides.

Tables go over in the order of their references, rows in key order and a piece at a time, so memory stays bounded whatever the size. The
copy is made where nobody sees it (one transaction in PostgreSQL, a file under another name for SQLite), read back whole, and only then
takes its place: a crash at any moment leaves the whole book there, or nothing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import msgspec
import sqlalchemy as sa

from domain import errors
from kit import books, columns, databases, digests, faults, files, rows

UNFINISHED = ".unfinished"
"""The name of a file in the making ends so; the next attempt sweeps it away."""


class Copied(msgspec.Struct, frozen=True):
    source: digests.Digest
    target: digests.Digest

    @property
    def same(self) -> bool:
        return self.source.whole == self.target.whole


class Fresh(msgspec.Struct):
    """An empty place for a book. Publishes when its block ends, unless `wanted` is False by then. `kept` is where the book is that
    was there before."""

    sync: sa.Connection
    wanted: bool = True
    kept: str = ""


async def digest(url: str, kinds: Sequence[books.Kind]) -> digests.Digest:
    """Beside a running process: of one snapshot."""
    async with snapshot(url, kinds) as (kind, sync):
        return await databases.run(lambda: digests.of(sync, kind))


async def copy(source: str, target: str, kinds: Sequence[books.Kind]) -> Copied:
    """Raises StoreError when a process has the source open, or the target is not empty. When the digests differ nothing is left."""
    async with snapshot(source, kinds, alone=True) as (kind, old), fresh(target, what="copy") as new:
        done = await databases.run(lambda: fill(old, new.sync, kind))
        new.wanted = done.same
    return done


def fill(source: sa.Connection, target: sa.Connection, kind: books.Kind) -> Copied:
    """Make the schema, the rows, the guards; then read back what is there. Inside `databases.run`."""
    books.create(target, kind)
    _point("before_rows")
    found = [_table(source, target, kind, table) for table in kind.tables]
    books.guard(target, kind)
    _point("after_rows")
    return Copied(digests.made(kind, found), digests.of(target, kind))


def _table(source: sa.Connection, target: sa.Connection, kind: books.Kind, table: sa.Table) -> digests.Table:
    hasher = digests.Hasher(kind, table)
    is_text = [isinstance(column.type, sa.Text | columns.Note) for column in table.columns]
    escapes = target.dialect.name == "postgresql" and any(is_text)
    for piece in digests.read(source, kind, table):
        hasher.add(piece)
        rows.insert(target, table, [_escaped(row) for row in piece] if escapes else [tuple(row) for row in piece])
    if target.dialect.name == "postgresql":
        continue_numbers(target, table)
    return hasher.done()


def _escaped(row: Sequence[Any]) -> tuple[Any, ...]:
    return tuple(columns.clean(value) if type(value) is str else value for value in row)


def continue_numbers(target: sa.Connection, table: sa.Table) -> None:
    """The next row takes a number above those that came with the copy."""
    numbered = table.autoincrement_column
    if numbered is None:
        return
    highest = target.execute(sa.select(sa.func.max(numbered))).scalar()
    sequence = target.execute(
        sa.text("SELECT pg_get_serial_sequence(quote_ident(:table), :column)"),
        {"table": table.name, "column": numbered.name},
    ).scalar()
    if highest is not None and sequence is not None:
        target.execute(
            sa.text("SELECT setval(CAST(:sequence AS regclass), :highest)"), {"sequence": sequence, "highest": highest}
        )


@asynccontextmanager
async def snapshot(
    url: str, kinds: Sequence[books.Kind], *, alone: bool = False
) -> AsyncIterator[tuple[books.Kind, sa.Connection]]:
    """One state of a book, in which nothing changes while the block runs. `alone`: refuse when another process has it open, and
    let none open it meanwhile."""
    backend = databases.backend(url)
    backend.check(read_only=True)
    async with AsyncExitStack() as stack:
        if alone:
            await _hold(backend, stack)
        engine = backend.reader()
        stack.push_async_callback(databases.run, engine.dispose)
        sync = await stack.enter_async_context(reached(engine))
        if alone and isinstance(backend, databases.PostgreSQL):
            await databases.run(lambda: refuse_others(backend, sync))
        yield await databases.run(lambda: books.of(sync, kinds, shown=backend.shown)), sync


async def _hold(backend: databases.Backend, stack: AsyncExitStack) -> None:
    backend.lock()
    stack.callback(backend.unlock)
    if isinstance(backend, databases.PostgreSQL):  # its lock lives in a session
        engine = backend.writer()
        stack.push_async_callback(databases.run, engine.dispose)
        await stack.enter_async_context(reached(engine))


def refuse_others(backend: databases.PostgreSQL, sync: sa.Connection) -> None:
    if others := backend.others(sync):
        raise errors.StoreError(
            f"the book is in use by {', '.join(others)}", value=backend.shown, cure="stop them first"
        )


@asynccontextmanager
async def reached(engine: sa.Engine) -> AsyncIterator[sa.Connection]:
    try:
        async with databases.transaction(engine) as sync:
            yield sync
    except databases.Unreached as error:
        raise errors.StoreError(error.what, value=error.value, cure=error.cure) from error


@asynccontextmanager
async def fresh(url: str, *, what: str, force: bool = False) -> AsyncIterator[Fresh]:
    """A place at `url` in which `what` (one word, for names) is made. With `force` a book that is there is kept aside, else refused."""
    backend = databases.backend(url)
    match backend:
        case databases.SQLite():
            async with _in_file(backend, what=what, force=force) as place:
                yield place
        case databases.PostgreSQL():
            async with _in_schema(backend, what=what, force=force) as place:
                yield place
        case _:
            raise errors.StoreError("no such kind of book", value=backend.shown)


@asynccontextmanager
async def _in_file(backend: databases.SQLite, *, what: str, force: bool) -> AsyncIterator[Fresh]:
    path = backend.path
    made = path.with_name(path.name + UNFINISHED)
    path.parent.mkdir(parents=True, exist_ok=True)
    backend.lock()
    try:
        there = path.exists() or files.left_behind(path)
        if there and not force:
            raise _occupied(backend.shown, what=what)
        files.sweep(made)
        engine = databases.SQLite(made).maker()
        try:
            async with databases.transaction(engine) as sync:
                place = Fresh(sync)
                yield place
                await databases.run(sync.commit)
        finally:
            await databases.run(engine.dispose)
        _point("before_swap")
        if place.wanted:
            if there:
                place.kept = str(files.put_aside(path, before=what))
            else:
                files.sweep_beside(path)
            files.take_place(made, path)
        _point("after_swap")
    except OSError as error:
        raise errors.StoreError(
            "the book could not be written; what was there is unharmed",
            value=str(error),
            cure="check space and permissions",
        ) from error
    finally:
        files.sweep(made)
        backend.unlock()


@asynccontextmanager
async def _in_schema(backend: databases.PostgreSQL, *, what: str, force: bool) -> AsyncIterator[Fresh]:
    engine = backend.writer()
    try:
        async with reached(engine) as sync:
            place = Fresh(sync)

            def prepare() -> None:
                if books.is_empty(sync):
                    return
                if not force:
                    raise _occupied(backend.shown, what=what)
                refuse_others(backend, sync)
                place.kept = backend.set_aside(sync, before=what)

            await databases.run(prepare)
            yield place
            _point("before_swap")
            if place.wanted:
                await databases.run(sync.commit)
            _point("after_swap")
    finally:
        await databases.run(engine.dispose)


def _occupied(shown: str, *, what: str) -> errors.StoreError:
    """A restore's place is named by the settings, so it is told how to take it."""
    aside = "see that it is the book to be replaced; --force keeps it under another name (….before-restore-1) and takes its place"
    other = "name an empty database, or a file that does not exist"
    return errors.StoreError("there is something already", value=shown, cure=aside if what == "restore" else other)


def _point(name: str) -> None:
    """Not in the sweep over the running processes' points: no process passes them but an operator's command."""
    faults.point(f"copy.{name}")
