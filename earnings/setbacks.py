"""A database that went back: a replica that was behind took over, or an old state was put in its place. In: the book. Out: a note in it.

PostgreSQL begins a new timeline whenever a replica takes over or a server is restored to a time, and no one can tell from it how much was
lost. So the book keeps the timeline it was written on, and a hub that finds another one waits as after a restore from a backup. What went
back in another way (a disk's snapshot, a dump, an old primary that is started again) is found by a process that remembers more, and by
nobody else.
"""

from __future__ import annotations

import secrets

import msgspec
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from domain import errors
from earnings import book, tables
from kit import backups, books

TIMELINE = f"{books.RESTORED}.timeline"
NOW = "SELECT substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)"
HIDDEN = frozenset({"42883", "42501", "0A000", "55000"})
"""No such function, no privilege, not supported, not in this state: what a managed server says that hides its log."""


async def moved(c: book.Connection) -> bool:
    """Whether the book was last written on another timeline; this one is kept. The first one is no news."""
    if c.dialect.name != "postgresql":
        return False
    now, known = (await timeline(c) or "").encode(), await book.meta(c, TIMELINE)
    if known is None and not now:
        return False
    if known != now:
        await book.put_meta(c, TIMELINE, now)
    return known is not None and known != now


async def timeline(c: book.Connection) -> str | None:
    """Of the PostgreSQL server now. None where it does not say, which is another timeline to who knew one."""
    try:
        async with c.begin_nested():
            return str(await c.scalar(sa.text(NOW)) or "") or None
    except DBAPIError as error:
        if error.connection_invalidated:
            raise
        if getattr(error.orig, "sqlstate", None) in HIDDEN:
            return None
        raise errors.Transient("the hub's database does not tell its timeline now", value=str(error.orig)) from None


async def pending(c: book.Connection) -> backups.Restored | None:
    """The newest restore or setback of this book whose time was not waited for."""
    return backups.pending(await _notes(c))


async def note(c: book.Connection, *, at_s: int) -> None:
    """One more, from when it was found. Its digest is made up: it tells this note from one of the same number that was lost."""
    numbers = [int(number) for key in await _notes(c) if (number := key.partition(".")[2]).isdecimal()]
    found = backups.Restored(1 + max(numbers, default=0), at_s, at_s, secrets.token_hex(16))
    await book.put_meta(c, f"{books.RESTORED}.{found.number}", msgspec.json.encode(found))


async def over(c: book.Connection, number: int, *, at_s: int) -> None:
    """The time of this one was waited for, and so of all before it."""
    notes = await _notes(c)
    for earlier in range(1, number + 1):
        if backups.accepted(earlier) not in notes:
            done = backups.acceptance(by="the hub, which waited", at_s=at_s)
            await book.put_meta(c, backups.accepted(earlier), done.encode())


async def _notes(c: book.Connection) -> dict[str, str]:
    meta = tables.meta
    rows = await c.execute(sa.select(meta.c.name, meta.c.value).where(meta.c.name.startswith(books.RESTORED)))
    return {row.name: row.value.decode() for row in rows}
