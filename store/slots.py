"""Nonces, each given to one intent for ever. In: an intent, a floor, a fence. Out: its slot.

There is no counter: the next nonce is the highest slot plus one, or the floor (what the chain has mined) when that is higher. Two
intents can never hold one nonce, since that is the key.
"""

from __future__ import annotations

import msgspec
import sqlalchemy as sa

from domain import errors, hashing
from domain import intent as domain_intent
from store.connection import AnySelect, Connection
from store.staking import intent, nonce_slot, progress, signed_tx


class Slot(msgspec.Struct, frozen=True):
    """`fence` is the lease token under which it was taken."""

    chain_id: int
    account: bytes
    nonce: int
    intent: bytes
    fence: int
    reserved_at_s: int


async def reserve(
    c: Connection, *, chain_id: int, account: bytes, intent: bytes, floor: int, fence: int, at_s: float
) -> Slot:
    """Raises StoreError when the intent is not this account's or has a slot, or when the fence is behind another holder's."""
    await _check_intent(c, chain_id=chain_id, account=account, id=intent)
    await check_fence(c, chain_id=chain_id, account=account, fence=fence)
    top = await highest(c, chain_id, account)
    nonce = floor if top is None else max(top + 1, floor)
    slot = Slot(chain_id, account, nonce, intent, fence, int(at_s))
    await c.change(nonce_slot.insert().values(**msgspec.structs.asdict(slot)))
    return slot


async def of_intent(c: Connection, id: bytes) -> Slot | None:
    row = await c.row(_select().where(nonce_slot.c.intent == id))
    return None if row is None else Slot(*row)


async def highest(c: Connection, chain_id: int, account: bytes) -> int | None:
    """The highest nonce that was ever given out here."""
    of_account = (nonce_slot.c.chain_id == chain_id, nonce_slot.c.account == account)
    found = await c.scalar(sa.select(sa.func.max(nonce_slot.c.nonce)).where(*of_account))
    return None if found is None else int(found)


async def open(c: Connection, chain_id: int, account: bytes) -> list[Slot]:
    """Slots of intents that are not final, lowest nonce first."""
    query = _select().join(progress, progress.c.intent == nonce_slot.c.intent)
    rows = await c.rows(query.where(progress.c.state.in_(sorted(domain_intent.HOLDING))))
    # The account is compared here: a database that is told it would go through all of its slots.
    found = [Slot(*row) for row in rows]
    return sorted(
        (slot for slot in found if (slot.chain_id, slot.account) == (chain_id, account)), key=lambda slot: slot.nonce
    )


async def holding(c: Connection) -> dict[bytes, int]:
    """By account, all of the book's one chain: how many intents hold a nonce and are not final."""
    query = sa.select(nonce_slot.c.account, sa.func.count()).join(progress, progress.c.intent == nonce_slot.c.intent)
    query = query.where(progress.c.state.in_(sorted(domain_intent.HOLDING)))
    return {bytes(row[0]): int(row[1]) for row in await c.rows(query.group_by(nonce_slot.c.account))}


async def highest_fence(c: Connection, chain_id: int, account: bytes) -> int:
    """The highest lease token that anything of the account was reserved or signed under; 0 at first."""
    # Tokens never fall from one slot to the next: `check_fence` guards each. Signatures of bumps come late, so theirs are looked for by size.
    of_account = (nonce_slot.c.chain_id == chain_id, nonce_slot.c.account == account)
    newest = sa.select(nonce_slot.c.fence).where(*of_account).order_by(nonce_slot.c.nonce.desc()).limit(1)
    own = sa.exists().where(nonce_slot.c.intent == signed_tx.c.intent, *of_account)
    signed = sa.select(signed_tx.c.fence).where(own).order_by(signed_tx.c.fence.desc()).limit(1)
    return max([int(await c.scalar(query) or 0) for query in (newest, signed)])


async def check_fence(c: Connection, *, chain_id: int, account: bytes, fence: int) -> None:
    """Raises StoreError for a fence lower than one that was seen: its holder lost the lease."""
    seen = await highest_fence(c, chain_id, account)
    if fence < seen:
        raise errors.StoreError(
            f"the lease token {fence} is stale: this account was served under {seen}",
            value=hashing.hex0x(account),
            cure="another agent has taken the lease over; this one waits until it holds it again",
        )


async def _check_intent(c: Connection, *, chain_id: int, account: bytes, id: bytes) -> None:
    row = await c.row(sa.select(intent.c.chain_id, intent.c.account).where(intent.c.id == id))
    if row is None or tuple(row) != (chain_id, account):
        raise errors.StoreError("the account has no such intent", value=hashing.hex0x(id))
    if (taken := await of_intent(c, id)) is not None:
        raise errors.StoreError(f"the intent holds nonce {taken.nonce} already", value=hashing.hex0x(id))


def _select() -> AnySelect:
    return sa.select(*(nonce_slot.c[name] for name in Slot.__struct_fields__))
