"""Bodies as changes. In: a frame's leaves and the place of the frame it builds on. Out: the same leaves, at any frame.

Frames form lines. A line holds, for each leaf, the values it had and from which frame to which; a new line begins where a frame does
not build on the newest of its line, and shows its parent's leaves only up to the fork. So a superseded branch never leaks.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import sqlalchemy as sa

from domain.statement import Leaf
from store import bulk
from store.connection import AnyRow, AnySelect, Connection
from store.tables import leaf, lineage, subject

_Key = tuple[bytes, bytes, int]


class Place(msgspec.Struct, frozen=True):
    """A frame of a line."""

    lineage: int
    sequence: int


async def write(c: Connection, leaves: Sequence[Leaf], *, stream: bytes, sequence: int, base: Place | None) -> Place:
    """Store a frame's leaves as what differs from `base`'s (None: all of them). Where the frame now lies."""
    before = {} if base is None else await _values(c, base)
    now = {_key(item): item for item in leaves}
    if not before.keys() <= now.keys():
        base, before = None, {}  # not built on that frame after all: leaves never vanish, so it stands for itself
    changed = [item for key, item in now.items() if before.get(key) != item]
    place = await _continue(c, base, stream=stream, sequence=sequence)
    if base is not None and base.lineage == place.lineage:
        await _end(c, [item for item in changed if _key(item) in before], place)
    await bulk.insert_missing(
        c, subject, [{"hash": item.subject, "parts": msgspec.json.encode(item.parts).decode()} for item in changed]
    )
    await c.bulk(
        leaf,
        [(place.lineage, i.subject, i.asset, i.kind, place.sequence, None, i.reward, i.penalty) for i in changed],
    )
    return place


async def read(c: Connection, place: Place) -> tuple[Leaf, ...]:
    """The leaves of a frame, ascending by (subject, asset, kind)."""
    values = await _values(c, place)
    return tuple(values[key] for key in sorted(values))


async def changed(c: Connection, place: Place) -> tuple[Leaf, ...]:
    """What the frame itself wrote, ascending."""
    rows = await c.rows(_select().where(leaf.c.lineage == place.lineage, leaf.c.since == place.sequence))
    return tuple(sorted((_leaf(row) for row in rows), key=_key))


async def _values(c: Connection, place: Place) -> dict[_Key, Leaf]:
    found: dict[_Key, Leaf] = {}
    for step in reversed(await _ancestry(c, place)):
        query = _select().where(
            leaf.c.lineage == step.lineage,
            leaf.c.since <= step.sequence,
            sa.or_(leaf.c.until.is_(None), leaf.c.until > step.sequence),
        )
        for row in await c.rows(query):
            item = _leaf(row)
            found[_key(item)] = item
    return found


async def _ancestry(c: Connection, place: Place) -> list[Place]:
    """The frame, then the frame its line forked after, and so on to the first line."""
    steps = [place]
    while True:
        row = await c.row(sa.select(lineage.c.parent, lineage.c.forked_after).where(lineage.c.id == steps[-1].lineage))
        if row is None or row.parent is None:
            return steps
        steps.append(Place(row.parent, row.forked_after))


async def _continue(c: Connection, base: Place | None, *, stream: bytes, sequence: int) -> Place:
    """The base's line if the base is its newest frame, else a new line."""
    if base is not None and sequence > base.sequence:
        moved = await c.change(
            lineage.update().where(lineage.c.id == base.lineage, lineage.c.tip == base.sequence).values(tip=sequence)
        )
        if moved:
            return Place(base.lineage, sequence)
    parent = {} if base is None else {"parent": base.lineage, "forked_after": base.sequence}
    created = lineage.insert().values(stream=stream, tip=sequence, **parent).returning(lineage.c.id)
    return Place(int(await c.scalar(created)), sequence)


async def _end(c: Connection, replaced: Sequence[Leaf], place: Place) -> None:
    """The values in force until now end at this frame."""
    if not replaced:
        return
    await c.change(
        leaf.update()
        .where(
            leaf.c.lineage == place.lineage,
            leaf.c.subject == sa.bindparam("s"),
            leaf.c.asset == sa.bindparam("a"),
            leaf.c.kind == sa.bindparam("k"),
            leaf.c.until.is_(None),
        )
        .values(until=place.sequence),
        [{"s": item.subject, "a": item.asset, "k": item.kind} for item in replaced],
    )


def _select() -> AnySelect:
    return sa.select(leaf.c.subject, leaf.c.asset, leaf.c.kind, leaf.c.reward, leaf.c.penalty, subject.c.parts).join(
        subject, subject.c.hash == leaf.c.subject
    )


def _leaf(row: AnyRow) -> Leaf:
    return Leaf(row[0], row[1], row[2], row[3], row[4], msgspec.json.decode(row[5], type=tuple[str, ...]))


def _key(item: Leaf) -> _Key:
    return (item.subject, item.asset, item.kind)
