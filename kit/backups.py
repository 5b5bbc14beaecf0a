"""Backups: one SQLite file each, whatever the book's database. In: a book, also one in use. Out: a file that knows its digest; a book again.

The file holds one snapshot of the book and a table with what it is: kind, schema, digest, deployment, when. A book made from it says so in
its `meta` until a person accepts it (`restored`), because what happened after the backup happened all the same: nonces were used, votes
were counted.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa

from domain import errors
from kit import books, copying, databases, digests, faults, files

FORMAT = "stakeside backup 1"
_metadata = sa.MetaData()
_manifest = sa.Table(
    "backup_manifest",
    _metadata,
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
    sqlite_strict=True,
)


class Manifest(msgspec.Struct, frozen=True):
    """`facts` are what the book is bound to: deployment, for an agent's also chain and genesis."""

    kind: str
    schema: str
    digest: str
    rows: int
    taken_at_s: int
    facts: dict[str, str]


class Restored(msgspec.Struct, frozen=True):
    """That this copy of a book came from a backup: the `number`-th time, from what was true at `taken_at_s`."""

    number: int
    restored_at_s: int
    taken_at_s: int
    digest: str


class Done(msgspec.Struct, frozen=True):
    """A finished restore; `kept` is where the book is that was there before, if any. `untold` is what was expected and the backup does
    not say: an old one, or a book that has not used a key yet. `whose` are the keys that it does say, expected or not."""

    restored: Restored
    manifest: Manifest
    kept: str
    untold: tuple[str, ...]
    whose: dict[str, frozenset[str]]


Also = Callable[[sa.Connection, Restored], Awaitable[None]]


async def take(url: str, out: Path, kinds: Sequence[books.Kind], *, at_s: int) -> Manifest:
    """Beside a running process: one snapshot of its book in a new file. Raises StoreError when there is a file already."""
    if out.exists():
        raise errors.StoreError("there is a file already", value=str(out), cure="name a new one")
    made = out.with_name(out.name + copying.UNFINISHED)
    try:
        files.sweep(made)
        os.close(os.open(made, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))  # all that the book knows is in it
        async with copying.snapshot(url, kinds) as (kind, sync):
            manifest = await _fill(sync, made, kind, at_s=at_s)
        _point("before_swap")
        files.take_place(made, out)
    except OSError as error:
        raise errors.StoreError(
            "the backup cannot be written", value=str(error), cure="check space and permissions"
        ) from error
    finally:
        files.sweep(made)
    return manifest


async def _fill(sync: sa.Connection, made: Path, kind: books.Kind, *, at_s: int) -> Manifest:
    """Snapshot to file, and the proof that the file says the same."""
    source: digests.Digest | None = None
    if sync.dialect.name == "sqlite":
        source = await databases.run(lambda: digests.of(sync, kind))
        await databases.run(lambda: _copy_pages(sync, made))
    engine = databases.SQLite(made).maker()
    try:
        async with databases.transaction(engine) as target:

            def work() -> Manifest:
                found = source or copying.fill(sync, target, kind).source
                _check(digests.of(target, kind).whole, found.whole, made)
                manifest = Manifest(kind.name, kind.head, found.whole.hex(), found.rows, at_s, _facts(sync, kind))
                _metadata.create_all(target)
                values = {"format": FORMAT, "manifest": msgspec.json.encode(manifest).decode()}
                target.execute(_manifest.insert(), [{"key": key, "value": value} for key, value in values.items()])
                target.commit()
                return manifest

            return await databases.run(work)
    finally:
        await databases.run(engine.dispose)


def _copy_pages(sync: sa.Connection, made: Path) -> None:
    """SQLite's own copy, of the snapshot that the connection holds: writers go on meanwhile."""
    adapter: Any = sync.connection.dbapi_connection
    with closing(sqlite3.connect(made, isolation_level=None, check_same_thread=False)) as target:

        async def send(driver: Any) -> None:
            await driver.backup(target, pages=-1)

        adapter.run_async(send)
        target.execute("PRAGMA journal_mode = DELETE")  # one file, with nothing beside it


def _facts(sync: sa.Connection, kind: books.Kind) -> dict[str, str]:
    known = ("deployment", "chain_id", "genesis")
    return {key: value for key, value in books.notes(sync, kind).items() if key in known}


async def read_manifest(file: Path) -> Manifest:
    """What a backup says of itself. Raises StoreError when it is none."""
    backend = databases.SQLite(file)
    backend.check(read_only=True)
    engine = backend.reader()
    try:
        async with databases.transaction(engine) as sync:
            return await databases.run(lambda: _read_manifest(sync, file))
    finally:
        await databases.run(engine.dispose)


def _read_manifest(sync: sa.Connection, file: Path) -> Manifest:
    found: dict[str, str] = {}
    if sa.inspect(sync).has_table(_manifest.name):
        found = {row.key: row.value for row in sync.execute(sa.select(_manifest))}
    if found.get("format") != FORMAT:
        raise errors.StoreError("this is no backup", value=str(file), cure="name a file that `stakeside backup` wrote")
    try:
        return msgspec.json.decode(found["manifest"], type=Manifest)
    except (KeyError, msgspec.DecodeError):
        raise errors.StoreError(
            "the backup's manifest is damaged", value=str(file), cure="use another backup"
        ) from None


async def restore(
    file: Path,
    url: str,
    kinds: Sequence[books.Kind],
    *,
    expect: Mapping[str, str],
    at_s: int,
    force: bool = False,
    keys: Mapping[str, frozenset[str]] | None = None,
    also: Also | None = None,
) -> Done:
    """A book at `url`, marked as restored. Raises StoreError when the file does not have its digest or is a book of something else
    than `expect` says or of none of the `keys`, and when a book is there already; with `force` that one is kept aside. `also` writes in
    the same transaction, when the digest was found right."""
    manifest = await read_manifest(file)
    if manifest.kind not in (names := [kind.name for kind in kinds]):
        raise errors.StoreError(
            f"the backup is of a book of kind {manifest.kind}, not {' or '.join(names)}",
            value=str(file),
            cure="restore a hub's with --hub and its hub.toml, an agent's without and with its agent.toml",
        )
    untold = [key for key in expect if key not in manifest.facts and key != "deployment"]
    for key, value in expect.items():
        if manifest.facts.get(key) != value and key not in untold:
            raise errors.StoreError(
                f"the backup is of another {key.replace('_', ' ')}",
                value=_shown(manifest.facts.get(key, "")),
                cure=f"expected is {_shown(value)}, by the settings",
            )
    async with (
        copying.snapshot(f"sqlite:///{file}", kinds) as (kind, source),
        copying.fresh(url, what="restore", force=force) as place,
    ):

        def work() -> tuple[Restored, dict[str, frozenset[str]]]:
            whose = kind.whose(source)
            untold.extend(_same_keys(whose, keys or {}))
            done = copying.fill(source, place.sync, kind)
            for side in (done.source, done.target):
                _check(side.whole, bytes.fromhex(manifest.digest), file)
            known = books.notes(place.sync, kind)
            number = 1 + sum(1 for key in known if _number(key) is not None)
            found = Restored(number, at_s, manifest.taken_at_s, manifest.digest)
            mark(place.sync, kind, found)
            return found, whose

        restored, whose = await databases.run(work)
        if also is not None:
            await also(place.sync, restored)
    return Done(restored, manifest, place.kept, tuple(untold), whose)


def _shown(value: str) -> str:
    """A hash by its beginning: whole, it would look like a key and be withheld."""
    return value if len(value) <= 42 else f"{value[:18]}…"


def _same_keys(found: Mapping[str, frozenset[str]], expect: Mapping[str, frozenset[str]]) -> list[str]:
    """The names that the book says nothing of. Raises StoreError when it is of other keys."""
    for name, keys in expect.items():
        if found.get(name) and not found[name] & keys:
            raise errors.StoreError(
                f"the backup is of another {name}",
                value=", ".join(sorted(found[name])),
                cure=f"expected is {', '.join(sorted(keys))}; a key that changed since is changed after the restore",
            )
    return [name for name in expect if not found.get(name)]


def mark(sync: sa.Connection, kind: books.Kind, restored: Restored) -> None:
    books.note(sync, kind, f"{books.RESTORED}.{restored.number}", msgspec.json.encode(restored).decode())


def pending(notes: Mapping[str, str]) -> Restored | None:
    """The newest restore that nobody accepted, from a book's `meta`."""
    numbers = [number for key in notes if (number := _number(key)) is not None]
    for number in sorted(numbers, reverse=True):
        if accepted(number) not in notes:
            return msgspec.json.decode(notes[f"{books.RESTORED}.{number}"], type=Restored)
    return None


def accepted(number: int) -> str:
    """The key of the note that a person accepted a restore."""
    return f"{books.RESTORED}.{number}.accepted"


def acceptance(*, by: str, at_s: int) -> str:
    return msgspec.json.encode({"by": by, "at_s": at_s}).decode()


def restored_at_s(key: str, value: str) -> int | None:
    """Of a note of `meta`, and no earlier than its backup was taken, whatever the clock said; None when it is not about a restore."""
    if _number(key) is None:
        return None
    found = msgspec.json.decode(value, type=Restored)
    return max(found.restored_at_s, found.taken_at_s)


def _number(key: str) -> int | None:
    head, _, number = key.partition(".")
    return int(number) if head == books.RESTORED and number.isdecimal() else None


def _check(found: bytes, wanted: bytes, file: Path) -> None:
    if found != wanted:
        raise errors.StoreError(
            "the backup does not have its digest: a file or a disk is damaged",
            value=f"{found.hex()}, not {wanted.hex()}, {file}",
            cure="use another backup, or take this one again",
        )


def _point(name: str) -> None:
    faults.point(f"backup.{name}")
