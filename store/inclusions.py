"""Where a transaction of ours was found on chain. In: receipts that were looked at. Out: the inclusion that stands, and those that did.

An inclusion belongs to a block by hash. When the block leaves the chain the row is marked and stays; when the same block returns, it is
found anew. Two that stand for one intent cannot even be written.
"""

from __future__ import annotations

import msgspec
import sqlalchemy as sa

from domain import errors
from store.connection import AnySelect, Connection
from store.staking import inclusion


class Inclusion(msgspec.Struct, frozen=True):
    """`status` 0 or 1. `effect_log_index`: where in its block the expected event is. `id` is 0 before it is saved."""

    intent: bytes
    number: int
    tx_hash: bytes
    block_number: int
    block_hash: bytes
    tx_index: int
    status: int
    gas_used: int
    gas_price_wei: int
    effect_log_index: int | None
    seen_at_s: int
    orphaned_at_s: int | None = None
    final_at_s: int | None = None
    id: int = 0


async def save(c: Connection, item: Inclusion) -> int:
    """Its id. What stands already changes nothing when it is the same; raises StoreError when it differs, or when another inclusion of the
    intent stands: mark that one orphaned first."""
    found = await standing(c, item.intent)
    if found is not None:
        if _fact(found) == _fact(item):
            return found.id
        raise errors.StoreError(
            "another inclusion of the intent stands",
            value=(found.block_number, found.block_hash),
            cure="mark it orphaned first",
        )
    values = {name: value for name, value in msgspec.structs.asdict(item).items() if name != "id"}
    return int(await c.scalar(inclusion.insert().values(**values).returning(inclusion.c.id)))


async def orphan(c: Connection, id: int, at_s: float) -> None:
    """Its block left the chain. Raises StoreError when it is orphaned already, or final."""
    open_ = (inclusion.c.id == id, inclusion.c.orphaned_at_s.is_(None), inclusion.c.final_at_s.is_(None))
    if await c.change(inclusion.update().where(*open_).values(orphaned_at_s=int(at_s))) != 1:
        raise errors.StoreError("there is no such inclusion that stands and is not final", value=id)


async def finalize(c: Connection, id: int, at_s: float) -> None:
    """Its block is final. Raises StoreError when it is final already, or orphaned."""
    open_ = (inclusion.c.id == id, inclusion.c.orphaned_at_s.is_(None), inclusion.c.final_at_s.is_(None))
    if await c.change(inclusion.update().where(*open_).values(final_at_s=int(at_s))) != 1:
        raise errors.StoreError("there is no such inclusion that stands and is not final", value=id)


async def of_intent(c: Connection, id: bytes) -> list[Inclusion]:
    """In the order they were found."""
    return [Inclusion(*row) for row in await c.rows(_select().where(inclusion.c.intent == id).order_by(inclusion.c.id))]


async def standing(c: Connection, intent: bytes) -> Inclusion | None:
    """The one whose block has not left the chain."""
    row = await c.row(_select().where(inclusion.c.intent == intent, inclusion.c.orphaned_at_s.is_(None)))
    return None if row is None else Inclusion(*row)


async def put_aside(c: Connection, intent: bytes) -> tuple[int, int, int]:
    """How many stand no longer, when the first of them was seen, and when the last was put aside; 0 where there is none."""
    query = sa.select(sa.func.count(), sa.func.min(inclusion.c.seen_at_s), sa.func.max(inclusion.c.orphaned_at_s))
    row = await c.row(query.where(inclusion.c.intent == intent, inclusion.c.orphaned_at_s.is_not(None)))
    assert row is not None
    return int(row[0]), int(row[1] or 0), int(row[2] or 0)


def _fact(item: Inclusion) -> Inclusion:
    return msgspec.structs.replace(item, id=0, seen_at_s=0, final_at_s=None)


def _select() -> AnySelect:
    return sa.select(*(inclusion.c[name] for name in Inclusion.__struct_fields__))
