"""Statements with their bodies. In: derived or adopted frames. Out: the same, by slot, by digest or by body root.

A frame costs what changed in it (`store.leaves`), its carry is kept once for each distinct text. A statement that another
derivation replaced stays in the book, no longer current.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Sequence
from typing import Any, Literal

import msgspec
import sqlalchemy as sa

from domain import errors
from domain import statement as domain_statement
from store import bulk, leaves
from store.connection import AnyRow, Connection
from store.tables import carry, in_force, statement

Origin = Literal["derived", "adopted"]

_HEADER = domain_statement.Header.__struct_fields__
_NEWEST = (statement.c.sequence.desc(), statement.c.revision.desc())
_LOWEST = (statement.c.sequence, statement.c.revision.desc())
_PACK_INLINE = 1 << 16
"""Bytes of carry up to which compressing takes less than handing it to a thread."""


class Stored(msgspec.Struct, frozen=True):
    """A frame. `changed` are the leaves in which it differs from the frame that its header names as previous, as far as the book
    has that one; all of them otherwise."""

    stream: bytes
    sequence: int
    revision: int
    digest: bytes
    config_digest: bytes
    header: domain_statement.Header
    origin: Origin
    body: domain_statement.Body
    changed: tuple[domain_statement.Leaf, ...]


class Slim(msgspec.Struct, frozen=True):
    """A frame without its body: one row, whatever the body's size."""

    stream: bytes
    sequence: int
    revision: int
    digest: bytes
    config_digest: bytes
    header: domain_statement.Header
    origin: Origin


async def save(c: Connection, stored: Stored, at_s: float) -> None:
    """Store a frame as the one in force for its slot. A frame derived anew supersedes the slot's old one; the same one again
    changes nothing. What changed is worked out from the book's own previous frame, so that it always reads back exactly.

    Raises StoreError when header and body do not belong together.
    """
    _check(stored.header, stored.body)
    if (stored.stream, stored.sequence, stored.revision) != (
        stored.header.stream, stored.header.sequence, stored.header.revision,
    ):  # fmt: skip
        raise errors.StoreError("a statement's slot is not its header's", value=(stored.sequence, stored.revision))
    known = await _row(c, statement.c.digest == stored.digest)
    if known is not None and _header(known) != stored.header:
        raise errors.StoreError("a statement differs from the stored one of the same digest", value=stored.digest)
    if known is not None and known.current:
        return
    in_force = await _row(c, *_slot(stored.stream, stored.sequence, stored.revision))
    if in_force is not None:
        await supersede(c, in_force.digest)
    if known is not None:
        await c.change(statement.update().where(statement.c.digest == stored.digest).values(current=1))
        return
    await _insert(c, stored, at_s)


async def _insert(c: Connection, stored: Stored, at_s: float) -> None:
    header = stored.header
    base = await _row(c, statement.c.digest == header.previous)
    line = None if base is None else leaves.Place(base.lineage, base.sequence)
    place = await leaves.write(c, stored.body.leaves, stream=stored.stream, sequence=stored.sequence, base=line)
    packed = await _pack(stored.body.carry)
    await bulk.insert_missing(c, carry, [{"hash": header.carry, "packed": packed}])
    row = {name: getattr(header, name) for name in _HEADER}
    row |= {
        "digest": stored.digest, "config_digest": stored.config_digest, "origin": stored.origin, "lineage": place.lineage,
        "saved_at_s": int(at_s), "current": 1,
    }  # fmt: skip
    await c.change(statement.insert().values(**row))


async def supersede(c: Connection, digest: bytes) -> None:
    """No longer in force; the row and its body stay. Raises StoreError when it was not."""
    changed = await c.change(statement.update().where(statement.c.digest == digest, in_force).values(current=0))
    if changed != 1:
        raise errors.StoreError("there is no such statement in force", value=digest)


async def current(c: Connection, stream: bytes, sequence: int, revision: int) -> Stored | None:
    """The one in force in a slot."""
    return await _load(c, await _row(c, *_slot(stream, sequence, revision)))


async def by_digest(c: Connection, digest: bytes) -> Stored | None:
    """In force or not."""
    return await _load(c, await _row(c, statement.c.digest == digest))


async def by_body_root(c: Connection, root: bytes) -> list[Stored]:
    """Frames with this body root, oldest first; frames in which nothing changed share one."""
    return [found for row in await _with_root(c, root) if (found := await _load(c, row)) is not None]


async def headers_by_body_root(c: Connection, root: bytes) -> list[Slim]:
    """The same without bodies; `changed` and `body` have their parts."""
    return [_slim(row) for row in await _with_root(c, root)]


async def changed(c: Connection, digest: bytes) -> tuple[domain_statement.Leaf, ...]:
    """The leaves that a frame itself wrote (`Stored.changed`); none when there is no such frame."""
    row = await _row(c, statement.c.digest == digest)
    return () if row is None else await leaves.changed(c, leaves.Place(row.lineage, row.sequence))


async def latest(c: Connection, stream: bytes) -> Stored | None:
    """The highest frame in force, in its highest revision."""
    return await _load(c, await _row(c, statement.c.stream == stream, in_force, order=_NEWEST))


async def first_from(c: Connection, stream: bytes, sequence: int) -> Stored | None:
    """The lowest frame in force that is not before `sequence`, in its highest revision."""
    wanted = (statement.c.stream == stream, in_force, statement.c.sequence >= sequence)
    return await _load(c, await _row(c, *wanted, order=_LOWEST))


async def current_header(c: Connection, stream: bytes, sequence: int, revision: int) -> Slim | None:
    """`current` without the body."""
    row = await _row(c, *_slot(stream, sequence, revision))
    return None if row is None else _slim(row)


async def latest_header(c: Connection, stream: bytes) -> Slim | None:
    """`latest` without the body."""
    row = await _row(c, statement.c.stream == stream, in_force, order=_NEWEST)
    return None if row is None else _slim(row)


async def first_from_header(c: Connection, stream: bytes, sequence: int) -> Slim | None:
    """`first_from` without the body."""
    row = await _row(c, statement.c.stream == stream, in_force, statement.c.sequence >= sequence, order=_LOWEST)
    return None if row is None else _slim(row)


async def derived_from(c: Connection, stream: bytes, sequence: int) -> list[Slim]:
    """All frames in force, in every revision, that were derived here and are not before `sequence`; ascending."""
    wanted = (statement.c.stream == stream, in_force, statement.c.sequence >= sequence, statement.c.origin == "derived")
    rows = await c.rows(sa.select(statement).where(*wanted).order_by(statement.c.sequence, statement.c.revision))
    return [_slim(row) for row in rows]


async def body(c: Connection, root: bytes, carry_hash: bytes) -> domain_statement.Body | None:
    found = await _load(c, await _row(c, statement.c.body_root == root, statement.c.carry == carry_hash))
    return None if found is None else found.body


def _slot(stream: bytes, sequence: int, revision: int) -> tuple[sa.ColumnElement[bool], ...]:
    return (
        statement.c.stream == stream,
        statement.c.sequence == sequence,
        statement.c.revision == revision,
        in_force,
    )


async def _row(c: Connection, *where: sa.ColumnElement[bool], order: Sequence[Any] = ()) -> AnyRow | None:
    return await c.row(sa.select(statement).where(*where).order_by(*order).limit(1))


async def _with_root(c: Connection, root: bytes) -> list[AnyRow]:
    query = sa.select(statement).where(statement.c.body_root == root)
    return list(await c.rows(query.order_by(statement.c.sequence, statement.c.revision, statement.c.saved_at_s)))


def _slim(row: AnyRow) -> Slim:
    return Slim(row.stream, row.sequence, row.revision, row.digest, row.config_digest, _header(row), row.origin)


def _header(row: AnyRow) -> domain_statement.Header:
    return domain_statement.Header(**{name: getattr(row, name) for name in _HEADER})


async def _load(c: Connection, row: AnyRow | None) -> Stored | None:
    if row is None:
        return None
    place = leaves.Place(row.lineage, row.sequence)
    found = Stored(
        stream=row.stream,
        sequence=row.sequence,
        revision=row.revision,
        digest=row.digest,
        config_digest=row.config_digest,
        header=_header(row),
        origin=row.origin,
        body=domain_statement.Body(await leaves.read(c, place), await _carry(c, row.carry)),
        changed=await leaves.changed(c, place),
    )
    _check(found.header, found.body)
    return found


def _check(header: domain_statement.Header, body: domain_statement.Body) -> None:
    """Before writing and after reading. The root is not recomputed here: deriving and verifying do that."""
    totals = domain_statement.totals(body.leaves)
    found = (len(body.leaves), totals.reward, totals.penalty, body.carry_hash())
    expected = (header.leaf_count, header.total_reward, header.total_penalty, header.carry)
    for name, want, have in zip(("leaf count", "reward", "penalty", "carry"), expected, found, strict=True):
        if want != have:
            raise errors.StoreError(
                f"the body's {name} is not its header's",
                value=(header.sequence, want, have),
                cure="restore the book or index anew",
            )


async def carry_text(c: Connection, carry_hash: bytes) -> bytes:
    """The canonical JSON that a header's `carry` is the hash of."""
    return await _carry(c, carry_hash)


async def _pack(text: bytes) -> bytes:
    if len(text) <= _PACK_INLINE:
        return zlib.compress(text, 6)
    return await asyncio.to_thread(zlib.compress, text, 6)


async def _carry(c: Connection, carry_hash: bytes) -> bytes:
    packed = await c.scalar(sa.select(carry.c.packed).where(carry.c.hash == carry_hash))
    if packed is None:
        raise errors.StoreError(
            "a statement's carry is not in the book", value=carry_hash, cure="restore it or index anew"
        )
    try:
        return zlib.decompress(packed)
    except zlib.error as error:
        raise errors.StoreError(
            "a statement's carry cannot be read", value=carry_hash, cure="restore the book"
        ) from error
