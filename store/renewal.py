"""A fresh book under the old name. In: a book nobody writes to. Out: a new file with what an agent must never forget; the old one, kept.

Whatever came from the chain can be read again. What was signed, sent and received cannot: an agent without its votes would sign a
second time without knowing the first, and one without its nonces would spend twice. So votes, outbox, receipts, the latches that are
set, and all of intents and people go over, and nothing else. The new file takes the name in one step; a crash at any moment leaves the
old book whole, or the new one.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Collection
from contextlib import closing
from pathlib import Path

import msgspec
import sqlalchemy as sa

from domain import errors, hashing
from kit import databases, faults
from store import book, cursors, staking, tables
from store.connection import Connection

_WHOLE = (
    tables.vote, tables.outbox, tables.receipt, staking.intent, staking.progress, staking.transition, staking.policy,
    staking.decision, staking.nonce_slot, staking.reservation, staking.attempt, staking.signed_tx, staking.broadcast,
    staking.inclusion, staking.command, staking.principal,
)  # fmt: skip
"""Copied row by row, closed and archived ones too, with the numbers that are their order, each after what it refers to. Sessions end:
people sign in again."""
_PIECE = 500
_BESIDE = ("-wal", "-shm", "-journal")


class Renewed(msgspec.Struct, frozen=True):
    """What went over, the latches that are still set, and where the old file is."""

    votes: int
    outbox: int
    receipts: int
    intents: int
    latches: tuple[str, ...]
    path: Path
    kept: Path


async def renew(
    url: str, *, deployment: bytes, chain_id: int, genesis: bytes, clear: Collection[str], at_s: float
) -> Renewed:
    """Latches named in `clear` go over as cleared. Raises StoreError when the book is in use, or is not the configuration's."""
    backend = databases.backend(url)
    if not isinstance(backend, databases.SQLite):
        raise errors.BadConfig(
            "only a book in a file can be indexed anew by itself",
            value=backend.shown,
            cure="start the agent once on an empty database so that it makes the tables, stop it, copy the latches that are set and all "
            f"rows of {', '.join(table.name for table in _WHOLE)} into it (pg_dump --data-only --table), and keep the old database",
        )
    path = backend.path
    if not path.exists():
        raise errors.StoreError("there is no book to index anew", value=str(path), cure="start the agent")

    async def opened(address: str, *, read_only: bool) -> book.Book:
        return await book.open_book(
            address, deployment=deployment, chain_id=chain_id, genesis=genesis, read_only=read_only
        )

    await (await opened(url, read_only=False)).close()  # it is this configuration's, and its schema is up to date
    backend.lock()
    fresh = path.with_name(f"{path.name}.reindex")
    try:
        _sweep(fresh)
        _point("before_copy")
        old = await opened(url, read_only=True)
        try:
            new = await opened(f"sqlite:///{fresh}", read_only=False)
            try:
                async with old.read() as source, new.write() as target:
                    counts, latched = await _carry_over(source, target, clear=clear, at_s=int(at_s))
            finally:
                await new.close()
        finally:
            await old.close()
        _settle(fresh)
        _point("after_copy")
        _settle(path)
        kept = _keep(path)
        _point("before_swap")
        fresh.replace(path)
        _sync(path.parent)
        _point("after_swap")
    except OSError as error:
        raise errors.StoreError(
            "the fresh book could not take the old one's place, which is unharmed",
            value=str(error),
            cure="check space and permissions",
        ) from error
    finally:
        _sweep(fresh)
        backend.unlock()
    return Renewed(*counts[:4], latches=latched, path=path, kept=kept)


def _point(name: str) -> None:
    """These are not in the sweep over the running processes' points: no process passes them but this command's."""
    faults.point(f"reindex.{name}")


async def _carry_over(
    source: Connection, target: Connection, *, clear: Collection[str], at_s: int
) -> tuple[list[int], tuple[str, ...]]:
    latches = await source.rows(
        sa.select(tables.latch).where(tables.latch.c.cleared_at_s.is_(None)).order_by(tables.latch.c.id)
    )
    unknown = sorted(set(clear) - {row.name for row in latches})
    if unknown:
        raise errors.BadConfig(
            "no such latch is set", value=unknown, cure=f"set are {[row.name for row in latches] or 'none'}"
        )
    for row in latches:
        values = {"name": row.name, "reason": row.reason, "set_at_s": row.set_at_s}
        if row.name in clear:
            values |= {"cleared_by": "reindex", "cleared_at_s": at_s}
        await target.change(tables.latch.insert().values(**values))
    known = set(await target.rows(sa.select(tables.meta.c.key)))
    for row in await source.rows(sa.select(tables.meta)):
        if (row.key,) not in known:
            await target.change(tables.meta.insert().values(key=row.key, value=row.value))
    counts = [await _copy(source, target, table) for table in _WHOLE]
    head = await cursors.get(source, "index") or cursors.Cursor(0, hashing.ZERO32, 0)
    note = {"kind": "reindexed", "number": head.number, "hash": head.hash, "generation": head.generation, "at_s": at_s}
    await target.change(tables.journal.insert().values(**note))
    return counts, tuple(row.name for row in latches if row.name not in clear)


async def _copy(source: Connection, target: Connection, table: sa.Table) -> int:
    key = list(table.primary_key.columns)
    query = sa.select(table).order_by(*key).limit(_PIECE)
    count, rows = 0, await source.rows(query)
    while rows:
        found = [dict(zip(table.columns.keys(), row, strict=True)) for row in rows]
        await target.change(table.insert(), found)
        count += len(found)
        last = [sa.literal(found[-1][column.name], column.type) for column in key]
        rows = await source.rows(query.where(sa.tuple_(*key) > sa.tuple_(*last)))
    return count


def _settle(path: Path) -> None:
    """Everything of the book in the one file: a write-ahead log beside it would be read into the file that takes its name."""
    try:
        with closing(sqlite3.connect(path, isolation_level=None)) as c:
            busy = c.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
    except sqlite3.Error as error:
        raise errors.StoreError("the book cannot be settled", value=str(error), cure="close other programs") from error
    if busy or any(path.with_name(path.name + end).exists() for end in _BESIDE):
        raise errors.StoreError(
            "another program has the book open",
            value=str(path),
            cure="close it and run this again; nothing was changed",
        )
    _sync(path)


def _keep(path: Path) -> Path:
    """A second name for the old file. A link that an earlier, killed attempt made is the same file and serves again."""
    number = 1
    while (kept := path.with_name(f"{path.name}.before-reindex-{number}")).exists():
        if kept.samefile(path):
            return kept
        number += 1
    kept.hardlink_to(path)
    _sync(path.parent)
    return kept


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sweep(fresh: Path) -> None:
    for end in ("", ".lock", *_BESIDE):
        fresh.with_name(fresh.name + end).unlink(missing_ok=True)
