"""A fresh book under the old name. In: a book nobody writes to. Out: a new file with what an agent must never forget; the old one, kept.

Whatever came from the chain can be read again. What was signed, sent and received cannot: an agent without its votes would sign a
second time without knowing the first, and one without its nonces would spend twice. So votes, outbox, receipts, the latches that are
set, and all of intents and people go over, and nothing else. The new file takes the name in one step; a crash at any moment leaves the
old book whole, or the new one. In PostgreSQL the same is one transaction: the old schema gets another name, and a new one its own.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from pathlib import Path

import msgspec
import sqlalchemy as sa

from domain import errors, hashing
from kit import copying, databases, faults, files
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


class Renewed(msgspec.Struct, frozen=True):
    """What went over, the latches that are still set, and where the old book is: a file, or the name of a schema."""

    votes: int
    outbox: int
    receipts: int
    intents: int
    latches: tuple[str, ...]
    path: Path | str
    kept: Path | str


async def renew(
    url: str, *, deployment: bytes, chain_id: int, genesis: bytes, clear: Collection[str], at_s: float
) -> Renewed:
    """Latches named in `clear` go over as cleared. Raises StoreError when the book is in use, or is not the configuration's."""
    backend = databases.backend(url)
    bound = book.bindings(deployment=deployment, chain_id=chain_id, genesis=genesis)

    async def opened(address: str, *, read_only: bool) -> book.Book:
        return await book.open_book(
            address, deployment=deployment, chain_id=chain_id, genesis=genesis, read_only=read_only
        )

    if isinstance(backend, databases.SQLite) and not backend.path.exists():
        raise errors.StoreError("there is no book to index anew", value=str(backend.path), cure="start the agent")
    await (await opened(url, read_only=False)).close()  # it is this configuration's, and its schema is up to date
    if isinstance(backend, databases.PostgreSQL):
        return await _in_schema(backend, lambda: opened(url, read_only=True), bound, clear=clear, at_s=int(at_s))
    assert isinstance(backend, databases.SQLite)
    return await _in_file(backend, opened, clear=clear, at_s=int(at_s))


async def _in_schema(
    backend: databases.PostgreSQL,
    opened: Callable[[], Awaitable[book.Book]],
    bound: dict[str, str],
    *,
    clear: Collection[str],
    at_s: int,
) -> Renewed:
    """The old book is read in a transaction of its own, in which it has its old name all the time."""
    old = await opened()
    engine = backend.writer()
    try:
        _point("before_copy")
        async with old.read() as source, databases.transaction(engine) as sync:
            target = Connection(sync)
            kept = await databases.run(lambda: backend.set_aside(sync, before="reindex"))
            await book.bring_up(target, bound, shown=backend.shown)
            counts, latched = await _carry_over(source, target, clear=clear, at_s=at_s)
            _point("before_swap")
            await target.commit()
            _point("after_swap")
    finally:
        await old.close()
        await databases.run(engine.dispose)
    return Renewed(*counts[:4], latches=latched, path=backend.shown, kept=kept)


async def _in_file(
    backend: databases.SQLite, opened: Callable[..., Awaitable[book.Book]], *, clear: Collection[str], at_s: int
) -> Renewed:
    path = backend.path
    backend.lock()
    fresh = path.with_name(f"{path.name}.reindex")
    try:
        files.sweep(fresh)
        _point("before_copy")
        old = await opened(backend.shown, read_only=True)
        try:
            new = await opened(f"sqlite:///{fresh}", read_only=False)
            try:
                async with old.read() as source, new.write() as target:
                    counts, latched = await _carry_over(source, target, clear=clear, at_s=at_s)
            finally:
                await new.close()
        finally:
            await old.close()
        files.settle(fresh)
        _point("after_copy")
        files.settle(path)
        kept = files.keep(path, before="reindex")
        _point("before_swap")
        files.take_place(fresh, path)
        _point("after_swap")
    except OSError as error:
        raise errors.StoreError(
            "the fresh book could not take the old one's place, which is unharmed",
            value=str(error),
            cure="check space and permissions",
        ) from error
    finally:
        files.sweep(fresh)
        backend.unlock()
    return Renewed(*counts[:4], latches=latched, path=path, kept=kept)


def _point(name: str) -> None:
    """These are not in the sweep over the running processes' points: no process passes them but this command's."""
    faults.point(f"reindex.{name}")


def refuse_unknown(clear: Collection[str], latches: Collection[str]) -> None:
    """Raises BadConfig when `clear` names a latch that is not set."""
    if unknown := sorted(set(clear) - set(latches)):
        raise errors.BadConfig("no such latch is set", value=unknown, cure=f"set are {sorted(latches) or 'none'}")


async def _carry_over(
    source: Connection, target: Connection, *, clear: Collection[str], at_s: int
) -> tuple[list[int], tuple[str, ...]]:
    latches = await source.rows(
        sa.select(tables.latch).where(tables.latch.c.cleared_at_s.is_(None)).order_by(tables.latch.c.id)
    )
    refuse_unknown(clear, [row.name for row in latches])
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
    if target.dialect.name == "postgresql":
        await target.script(lambda sync: copying.continue_numbers(sync, table))
    return count
