"""Kinds of books: the agent's and the hub's. In: what a room says of its schema. Out: which kind a database holds, created, noted in.

Copying, digests, backups and retention are the same work for both; a `Kind` is all they need to know.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from domain import errors
from kit import migrations

RESTORED = "restored"
"""What the keys of notes about a copy of a book begin with. They tell of this copy, not of the chain: no digest counts them."""


class Kind(msgspec.Struct, frozen=True):
    """`meta` is its table of keys and values, text or bytes, which no other kind has. `beside` is the DDL that table objects cannot
    say, by dialect name: views and guards. `heavy` are tables whose rows can be megabytes. `whose` reads from the rows which keys the
    book is of: names, each with all that go with it."""

    name: str
    metadata: sa.MetaData
    meta: sa.Table
    head: str
    beside: Callable[[str], Sequence[str]] = lambda _: ()
    heavy: Collection[str] = ()
    whose: Callable[[sa.Connection], dict[str, frozenset[str]]] = lambda _: {}

    @property
    def tables(self) -> list[sa.Table]:
        """Those that others refer to first."""
        return list(self.metadata.sorted_tables)


def of(sync: sa.Connection, kinds: Sequence[Kind], *, shown: str) -> Kind:
    """Which kind of book this is, at this software's schema. Raises StoreError when it is none, or at another one."""
    names = set(sa.inspect(sync).get_table_names())
    kind = next((kind for kind in kinds if kind.meta.name in names), None)
    stored = migrations.version(sync)
    if kind is None or stored is None:
        raise errors.StoreError("there is no book in this database", value=shown, cure="check the address")
    if stored != kind.head:
        raise errors.StoreError(
            "the book's schema is not this software's",
            value=f"{stored}, not {kind.head}, {shown}",
            cure=f"start the {kind.name} once to bring it up to date, or upgrade this software",
        )
    return kind


def is_empty(sync: sa.Connection) -> bool:
    """No table, and no view either."""
    found = sa.inspect(sync)
    return not found.get_table_names() and not found.get_view_names()


def create(sync: sa.Connection, kind: Kind) -> None:
    """The tables, without the guards: those come when the rows are there (`guard`)."""
    kind.metadata.create_all(sync, checkfirst=False)
    migrations.stamp(sync, kind.head)


def guard(sync: sa.Connection, kind: Kind) -> None:
    for text in kind.beside(sync.dialect.name):
        sync.exec_driver_sql(text)


def notes(sync: sa.Connection, kind: Kind) -> dict[str, str]:
    """Every key of `meta` with its value; bytes as hex, 0x in front, unless they are a note's text."""
    key, value = list(kind.meta.columns)[:2]
    found: dict[str, str] = {}
    for name, stored in sync.execute(sa.select(key, value).order_by(key)):
        if isinstance(stored, str):
            found[name] = stored
        else:
            found[name] = stored.decode() if name.startswith(RESTORED) else "0x" + stored.hex()
    return found


def note(sync: sa.Connection, kind: Kind, name: str, text: str) -> None:
    key, value = list(kind.meta.columns)[:2]
    is_text = isinstance(value.type, sa.Text)
    row: dict[str, Any] = {key.name: name, value.name: text if is_text else text.encode()}
    sync.execute(kind.meta.insert().values(row))
