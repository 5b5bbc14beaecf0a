"""How far each stage has come. In and out: `Cursor`. Moves in the transaction that writes what it stands for."""

from __future__ import annotations

import msgspec
import sqlalchemy as sa

from domain import errors
from store import bulk
from store.connection import Connection
from store.tables import cursor


class Cursor(msgspec.Struct, frozen=True):
    """A block (or position) and the generation it was reached in; a rollback begins a new generation."""

    number: int
    hash: bytes
    generation: int


async def get(c: Connection, name: str) -> Cursor | None:
    row = await c.row(sa.select(cursor.c.number, cursor.c.hash, cursor.c.generation).where(cursor.c.name == name))
    return None if row is None else Cursor(row.number, row.hash, row.generation)


async def put(c: Connection, name: str, to: Cursor) -> None:
    """Set it, whatever it was."""
    await bulk.upsert(c, cursor, {"name": name, "number": to.number, "hash": to.hash, "generation": to.generation})


async def advance(c: Connection, name: str, *, seen: Cursor | None, to: Cursor) -> None:
    """Move from what the caller saw when it began its work. Raises Transient when the cursor has moved since: work that was
    prepared before a rollback must not be committed after it, and the caller's transaction ends with nothing written."""
    if seen is not None and to.generation < seen.generation:
        raise errors.StoreError("a cursor's generation would fall", value=(name, seen.generation, to.generation))
    if seen is None:
        if await get(c, name) is None:
            await put(c, name, to)
            return
        moved = 0
    else:
        moved = await c.change(
            cursor.update()
            .where(
                cursor.c.name == name,
                cursor.c.number == seen.number,
                cursor.c.hash == seen.hash,
                cursor.c.generation == seen.generation,
            )
            .values(number=to.number, hash=to.hash, generation=to.generation)
        )
    if moved != 1:
        now = await get(c, name)
        raise errors.Transient(
            f"fenced: the cursor {name} has moved on", value=(seen, now), cure="the step runs again from there"
        )
