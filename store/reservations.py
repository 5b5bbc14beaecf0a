"""What open intents may spend. In: amounts, taken in the transaction that takes the nonce. Out: how much of a budget is spoken for.

A reservation stands until it is released: what was done counts against the day's budget, what came to nothing does not. Gas is another
matter: a cancel was paid for too, so it counts by what was mined, and by the worst that can be while something is under way.
"""

from __future__ import annotations

import msgspec
import sqlalchemy as sa

from domain import errors, hashing
from domain import intent as domain_intent
from kit import columns, logs
from store.connection import Connection
from store.staking import attempt, inclusion, intent, nonce_slot, progress, reservation


class Reservation(msgspec.Struct, frozen=True):
    """`amount`: stake in wei. `max_fee_wei`: its share of the day's gas, for the original, its bumps and its cancels."""

    intent: bytes
    protocol: str
    action: str
    amount: int
    value_wei: int
    max_fee_wei: int
    at_s: int
    released_at_s: int | None = None
    why_released: str | None = None


class Spent(msgspec.Struct, frozen=True):
    """Sums over unreleased reservations."""

    amount: int
    value_wei: int
    count: int


class Gas(msgspec.Struct, frozen=True):
    """In wei. `paid`: at most, by what was mined and became final since a time. `open`: the most that what is under way can come to."""

    paid: int
    open: int


async def put(c: Connection, item: Reservation) -> None:
    """Once for each intent; raises StoreError for a second one."""
    await c.change(reservation.insert().values(**msgspec.structs.asdict(item)))


async def of_intent(c: Connection, id: bytes) -> Reservation | None:
    names = [reservation.c[name] for name in Reservation.__struct_fields__]
    row = await c.row(sa.select(*names).where(reservation.c.intent == id))
    return None if row is None else Reservation(*row)


async def release(c: Connection, id: bytes, why: str, at_s: float) -> None:
    """Raises StoreError when there is none, or when it is released already."""
    standing = (reservation.c.intent == id, reservation.c.released_at_s.is_(None))
    if (
        await c.change(
            reservation.update().where(*standing).values(released_at_s=int(at_s), why_released=logs.line(why))
        )
        != 1
    ):
        raise errors.StoreError("the intent has no reservation to release", value=hashing.hex0x(id))


async def spent(
    c: Connection, *, account: bytes, since_s: float, protocol: str | None = None, action: str | None = None
) -> Spent:
    """Of the account since a time, of one protocol or action or of all; what is still under way counts however old it is. Read it in the
    transaction that reserves."""
    sums = [columns.u256_sum(reservation.c[name]) for name in ("amount", "value_wei")]
    query = sa.select(*sums, sa.func.count()).join(intent, intent.c.id == reservation.c.intent)
    query = query.where(intent.c.account == account, reservation.c.released_at_s.is_(None))
    if protocol is not None:
        query = query.where(reservation.c.protocol == protocol)
    if action is not None:
        query = query.where(reservation.c.action == action)
    old = query.join(progress, progress.c.intent == reservation.c.intent)
    old = old.where(progress.c.state.in_(sorted(domain_intent.HOLDING)), reservation.c.at_s < int(since_s))
    # One by the time and one by the state: in one query both would be looked for in all that was ever reserved.
    rows = [await c.row(part) for part in (query.where(reservation.c.at_s >= int(since_s)), old)]
    found = [Spent(row[0] or 0, row[1] or 0, row[2]) for row in rows if row is not None]
    return Spent(*(sum(getattr(part, name) for part in found) for name in Spent.__struct_fields__))


async def gas(c: Connection, *, account: bytes, since_s: float, apart_from: bytes | None = None) -> Gas:
    """Of every intent of the account but one. Whatever was frozen for an intent counts until its nonce is final, its share at least; then
    what was mined on it, its whole gas limit at its block's price, by the time it was found final. What ended by a person's word may have no
    receipt here: it counts at its worst. Read it in the transaction that reserves or freezes."""
    others = [intent.c.account == account, *([] if apart_from is None else [intent.c.id != apart_from])]
    final = sa.and_(inclusion.c.intent == intent.c.id, inclusion.c.final_at_s.is_not(None))
    # How much gas was used is the node's word, where nothing went wrong that a block had to prove. What was signed is not.
    mined = sa.select(attempt.c.gas, inclusion.c.gas_price_wei).join_from(inclusion, intent, final)
    mined = mined.join(attempt, sa.and_(attempt.c.intent == inclusion.c.intent, attempt.c.number == inclusion.c.number))
    mined = mined.where(*others, inclusion.c.final_at_s >= int(since_s))
    unseen = (
        progress.c.state.in_(sorted(domain_intent.FINAL - {"superseded"})),
        progress.c.changed_at_s >= int(since_s),
        ~sa.exists().where(final),
    )
    paid = sum(row.gas * row.gas_price_wei for row in await c.rows(mined))
    ended = await _worst(c, *others, *unseen)
    return Gas(paid + ended, await _worst(c, *others, progress.c.state.in_(sorted(domain_intent.HOLDING))))


async def _worst(c: Connection, *which: sa.ColumnElement[bool]) -> int:
    """The most that these intents' transactions can cost."""
    query = (
        sa.select(intent.c.id, reservation.c.max_fee_wei.label("share"), attempt.c.gas, attempt.c.max_fee)
        .join(progress, progress.c.intent == intent.c.id)
        .join(reservation, reservation.c.intent == intent.c.id)
        .join(attempt, attempt.c.intent == intent.c.id)
        .where(*which)
    )
    most = dict[bytes, int]()
    for row in await c.rows(query):
        most[row.id] = max(most.get(row.id, 0), row.share, row.gas * row.max_fee)
    return sum(most.values())


async def in_flight(c: Connection, chain_id: int, account: bytes) -> int:
    """How many intents of the account hold a nonce and are not final."""
    query = (
        sa.select(nonce_slot.c.chain_id, nonce_slot.c.account)
        .join(progress, progress.c.intent == nonce_slot.c.intent)
        .where(progress.c.state.in_(sorted(domain_intent.HOLDING)))
    )
    # The account is compared here: a database that is told it would go through all of its slots.
    return [(row.chain_id, row.account) for row in await c.rows(query)].count((chain_id, account))
