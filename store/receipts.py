"""The hub's receipts, chained for each attester. In: verified receipts. Out: the last one, or the one with a number."""

from __future__ import annotations

from typing import Protocol

import msgspec
import sqlalchemy as sa

from domain import errors, hashing
from store.connection import AnySelect, Connection
from store.tables import receipt


class Kept(msgspec.Struct, frozen=True):
    """A verified receipt. `id` is its own digest, which the next receipt names; `signature` is the hub's."""

    number: int
    digest: bytes
    id: bytes
    previous: bytes
    signature: bytes


class KeptLike(Protocol):
    """Any value with a receipt's fields."""

    @property
    def number(self) -> int: ...
    @property
    def digest(self) -> bytes: ...
    @property
    def id(self) -> bytes: ...
    @property
    def previous(self) -> bytes: ...
    @property
    def signature(self) -> bytes: ...


async def save(c: Connection, *, hub: str, attester: bytes, kept: KeptLike, at_s: float) -> None:
    """The same receipt again changes nothing. Raises BadAnswer when it contradicts its neighbours or the one with its number."""
    new = Kept(kept.number, kept.digest, kept.id, kept.previous, kept.signature)
    if new.number < 1:
        raise errors.BadAnswer("receipts are numbered from 1: the hub's receipts do not chain", value=new.number)
    around = {
        number: await at(c, hub=hub, attester=attester, number=number)
        for number in (new.number - 1, new.number, new.number + 1)
    }
    same = around[new.number]
    if same is not None and same.id == new.id:
        return
    before, after = around[new.number - 1], around[new.number + 1]
    link = hashing.ZERO32 if new.number == 1 else (new.previous if before is None else before.id)
    if same is not None or new.previous != link or (after is not None and after.previous != new.id):
        raise errors.BadAnswer("the hub's receipts do not chain", value=new.number)
    await c.change(
        receipt.insert().values(
            hub=hub, attester=attester, number=new.number, digest=new.digest, own=new.id, previous=new.previous,
            signature=new.signature, at_s=int(at_s),
        )
    )  # fmt: skip


async def last(c: Connection, hub: str, attester: bytes) -> Kept | None:
    """The highest number of the chain in force."""
    row = await c.row(_select(hub, attester).order_by(receipt.c.number.desc()).limit(1))
    return None if row is None else Kept(*row)


async def at(c: Connection, hub: str, attester: bytes, number: int) -> Kept | None:
    row = await c.row(_select(hub, attester).where(receipt.c.number == number))
    return None if row is None else Kept(*row)


async def archive(c: Connection, *, hub: str, attester: bytes, at_s: float) -> int:
    """The hub lost its memory: put the chain in force aside as evidence, so that another can begin. How many receipts it had."""
    return await c.change(
        receipt.update()
        .where(receipt.c.hub == hub, receipt.c.attester == attester, receipt.c.archived_at_s.is_(None))
        .values(archived_at_s=int(at_s))
    )


async def broken_at(c: Connection, hub: str, attester: bytes) -> int | None:
    """The first number of the chain in force that does not follow the one before it; None when the chain is whole."""
    link, number = hashing.ZERO32, 0
    for row in await c.rows(_select(hub, attester).order_by(receipt.c.number)):
        found = Kept(*row)
        if (found.number, found.previous) != (number + 1, link):
            return number + 1
        link, number = found.id, found.number
    return None


def _select(hub: str, attester: bytes) -> AnySelect:
    return sa.select(receipt.c.number, receipt.c.digest, receipt.c.own, receipt.c.previous, receipt.c.signature).where(
        receipt.c.hub == hub, receipt.c.attester == attester, receipt.c.archived_at_s.is_(None)
    )


class Received(msgspec.Struct, frozen=True):
    """A receipt with whom it was for."""

    attester: bytes
    number: int
    digest: bytes
    previous: bytes
    signature: bytes


async def for_digest(c: Connection, digest: bytes) -> list[Received]:
    """Receipts in force that name this item, of every hub, by attester and number."""
    query = (
        sa.select(receipt.c.attester, receipt.c.number, receipt.c.digest, receipt.c.previous, receipt.c.signature)
        .where(receipt.c.digest == digest, receipt.c.archived_at_s.is_(None))
        .order_by(receipt.c.attester, receipt.c.number)
    )
    return [Received(*row) for row in await c.rows(query)]
