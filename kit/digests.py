"""What a book says, in 32 bytes. In: a snapshot of either database. Out: one digest for each table and one for the whole.

A table's digest is SHA-256 over its name, its columns' names and its rows in key order. Each value stands as a letter, its length and
its bytes, so that SQLite and PostgreSQL give the same: `n` NULL, `i` an integer as decimal text, `b` bytes, `t` UTF-8 text with NUL
written out as an escape (PostgreSQL's text cannot hold one). The book's digest is over its kind, its schema's revision and its tables.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import msgspec
import sqlalchemy as sa

from domain import errors
from kit import books, columns

VERSION = b"stakeside book 1"
PIECE, HEAVY_PIECE = 1000, 16
"""Rows in memory at a time; of tables whose rows can be megabytes, fewer."""
_Row: TypeAlias = Sequence[Any]


class Table(msgspec.Struct, frozen=True):
    name: str
    rows: int
    digest: bytes


class Digest(msgspec.Struct, frozen=True):
    """`tables` by name."""

    kind: str
    schema: str
    tables: tuple[Table, ...]

    @property
    def whole(self) -> bytes:
        parts = [VERSION, _value(self.kind), _value(self.schema)]
        parts += [_value(table.name) + _value(table.rows) + table.digest for table in self.tables]
        return hashlib.sha256(b"".join(parts)).digest()

    @property
    def rows(self) -> int:
        return sum(table.rows for table in self.tables)


class Hasher:
    """One table's digest while its rows pass by, in key order."""

    def __init__(self, kind: books.Kind, table: sa.Table) -> None:
        self._name = table.name
        self._own = table is kind.meta
        self._hash = hashlib.sha256(_row([table.name, *(column.name for column in table.columns)]))
        self._rows = 0

    def add(self, rows: Sequence[_Row]) -> None:
        if self._own:
            rows = [row for row in rows if not row[0].startswith(books.RESTORED)]
        self._hash.update(b"".join(_row(row) for row in rows))
        self._rows += len(rows)

    def done(self) -> Table:
        return Table(self._name, self._rows, self._hash.digest())


def of(sync: sa.Connection, kind: books.Kind) -> Digest:
    """Of all that this connection's transaction sees. Inside `databases.run`."""
    found: list[Table] = []
    for table in kind.tables:
        hasher = Hasher(kind, table)
        for piece in read(sync, kind, table):
            hasher.add(piece)
        found.append(hasher.done())
    return made(kind, found)


def made(kind: books.Kind, found: Sequence[Table]) -> Digest:
    return Digest(kind.name, kind.head, tuple(sorted(found, key=lambda table: table.name)))


def read(sync: sa.Connection, kind: books.Kind, table: sa.Table) -> Iterator[Sequence[_Row]]:
    """The rows of a table in key order, a piece at a time."""
    keys = [_ordered(column, sync.dialect) for column in table.primary_key.columns]
    if not keys:
        raise errors.StoreError("a table without a key has no order", value=table.name)
    size = HEAVY_PIECE if table.name in kind.heavy else PIECE
    result = sync.execute(sa.select(table).order_by(*keys), execution_options={"yield_per": size})
    try:
        yield from result.partitions(size)
    finally:
        result.close()


def _ordered(column: sa.Column[Any], dialect: sa.Dialect) -> sa.ColumnElement[Any]:
    """By bytes, as SQLite orders text, whatever the language of the PostgreSQL database."""
    is_text = isinstance(column.type, sa.Text | columns.Note)
    return sa.collate(column, "C") if is_text and dialect.name == "postgresql" else column


def _row(row: _Row) -> bytes:
    return b"".join(map(_value, row))


def _value(value: object) -> bytes:
    match value:
        case None:
            return b"n"
        case bytes():
            return b"b%d:%b" % (len(value), value)
        case int():
            text = b"%d" % value
            return b"i%d:%b" % (len(text), text)
        case str():
            text = columns.clean(value).encode()
            return b"t%d:%b" % (len(text), text)
        case _:
            raise errors.StoreError("a value has no place in a digest", value=type(value).__name__)
