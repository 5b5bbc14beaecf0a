"""Transactions of an intent: frozen, signed, sent. In: unsigned fields, then the raw bytes of a signer. Out: the same, in that order.

Nothing is signed that was not frozen, nothing is kept that is not the frozen transaction signed by the account, and what is not kept is
never sent. The same is asserted when it is read: the bytes that go out are parsed once more against what was frozen.
"""

from __future__ import annotations

from typing import Any

import msgspec
import sqlalchemy as sa

from domain import errors, hashing, transaction
from domain import intent as domain_intent
from domain.intent import AttemptKind
from kit import logs
from store import bulk, slots
from store.connection import AnyRow, AnySelect, Connection
from store.staking import attempt, broadcast, nonce_slot, progress, signed_tx

_DAMAGED = "stop the agent and restore the book from a backup"


class Attempt(msgspec.Struct, frozen=True):
    """`number` counts from 0, the original. `effects`: JSON of the events that an original must have for effect."""

    intent: bytes
    number: int
    kind: AttemptKind
    unsigned: transaction.Unsigned
    effects: str
    fence: int
    at_s: int


class SignedTx(msgspec.Struct, frozen=True):
    """`raw` is what is sent, `hash` its keccak."""

    intent: bytes
    number: int
    hash: bytes
    raw: bytes
    fence: int
    signed_at_s: int


class Broadcast(msgspec.Struct, frozen=True):
    """`hint` is what the node last answered, in words; no verdict follows from it."""

    hash: bytes
    sends: int
    first_s: int
    last_s: int
    hint: str


async def freeze(c: Connection, item: Attempt) -> None:
    """Raises StoreError when it is not the intent's next attempt, has not its nonce, or does something else than its kind says."""
    slot = await slots.of_intent(c, item.intent)
    if slot is None:
        raise errors.StoreError("an attempt needs a nonce slot", value=hashing.hex0x(item.intent))
    earlier = await of_intent(c, item.intent)
    if item.number != len(earlier):
        raise errors.StoreError(f"the intent's next attempt is number {len(earlier)}", value=item.number)
    tx = item.unsigned
    if (tx.chain_id, tx.nonce) != (slot.chain_id, slot.nonce):
        raise errors.StoreError(
            f"the attempt is for another nonce than {slot.nonce} on chain {slot.chain_id}",
            value=(tx.chain_id, tx.nonce),
        )
    if tx.gas > transaction.MAX_GAS:
        raise errors.StoreError(f"no transaction may ask for more than {transaction.MAX_GAS} gas", value=tx.gas)
    _check_kind(item, earlier, account=slot.account)
    await slots.check_fence(c, chain_id=slot.chain_id, account=slot.account, fence=item.fence)
    await c.change(attempt.insert().values(**_columns(item)))


async def of_intent(c: Connection, id: bytes) -> list[Attempt]:
    """In order; the original is the first."""
    rows = await c.rows(sa.select(attempt).where(attempt.c.intent == id).order_by(attempt.c.number))
    return [_attempt(row) for row in rows]


async def unsigned(c: Connection, chain_id: int, account: bytes, limit: int) -> list[Attempt]:
    """Frozen and to be signed: lowest nonce first. An attempt that a cancel was frozen after is not signed any more."""
    later = attempt.alias("later")
    given_up = sa.exists().where(
        later.c.intent == attempt.c.intent, later.c.number > attempt.c.number, later.c.kind == "cancel"
    )
    query = (
        sa.select(attempt, nonce_slot.c.account)
        .join(nonce_slot, nonce_slot.c.intent == attempt.c.intent)
        .join(progress, progress.c.intent == attempt.c.intent)
        .outerjoin(signed_tx, _same_attempt())
        .where(progress.c.state.in_(sorted(domain_intent.HOLDING)), signed_tx.c.hash.is_(None), ~given_up)
    )
    # The account is compared here: a database that is told it would go through all of its slots.
    rows = [row for row in await c.rows(query) if (row.chain_id, row.account) == (chain_id, account)]
    return [_attempt(row) for row in sorted(rows, key=lambda row: (row.nonce, row.number))[:limit]]


async def save_signed(
    c: Connection, intent: bytes, number: int, *, hash: bytes, raw: bytes, fence: int, at_s: float
) -> None:
    """Before it is sent. The same raw bytes again change nothing.

    Raises StoreError for a stale fence, other bytes for the same attempt, bytes that are not the frozen attempt signed by the account,
    for an attempt that a cancel was frozen after, and for an intent that is final."""
    slot, frozen = await slots.of_intent(c, intent), await _one(c, intent, number)
    if slot is None or frozen is None:
        raise errors.StoreError("no such attempt was frozen", value=(hashing.hex0x(intent), number))
    item = SignedTx(intent, number, hash, raw, fence, int(at_s))
    check(item, frozen, account=slot.account)
    row = await c.row(_signed().where(signed_tx.c.intent == intent, signed_tx.c.number == number))
    if row is not None:
        if row.raw != raw:
            raise errors.StoreError(
                "another signature is kept for this attempt",
                value=hashing.hex0x(row.hash),
                cure="send the one that is kept",
            )
        return
    cancels = sa.select(attempt.c.number).where(attempt.c.intent == intent, attempt.c.kind == "cancel")
    if await c.row(cancels.where(attempt.c.number > number)) is not None:
        raise errors.StoreError("a cancel was frozen after it: it is not signed any more", value=number)
    state = await c.scalar(sa.select(progress.c.state).where(progress.c.intent == intent))
    if state not in domain_intent.HOLDING:
        raise errors.StoreError(f"the intent is {state}: nothing is signed for it", value=hashing.hex0x(intent))
    await slots.check_fence(c, chain_id=slot.chain_id, account=slot.account, fence=fence)
    await c.change(signed_tx.insert().values(**msgspec.structs.asdict(item)))


async def signed_of(c: Connection, id: bytes) -> list[SignedTx]:
    """By number. Raises StoreError when stored bytes are not the frozen attempt."""
    query = (
        sa.select(attempt, nonce_slot.c.account, *_prefixed())
        .join(signed_tx, _same_attempt())
        .join(nonce_slot, nonce_slot.c.intent == attempt.c.intent)
        .where(attempt.c.intent == id)
        .order_by(attempt.c.number)
    )
    return [_checked(row) for row in await c.rows(query)]


async def owner(c: Connection, hash: bytes) -> bytes | None:
    """The intent that this transaction was signed for, whether the rest can be read or not."""
    return await c.scalar(sa.select(signed_tx.c.intent).where(signed_tx.c.hash == hash))


async def by_hash(c: Connection, hash: bytes) -> SignedTx | None:
    """What of ours has this transaction hash."""
    query = (
        sa.select(attempt, nonce_slot.c.account, *_prefixed())
        .join(signed_tx, _same_attempt())
        .join(nonce_slot, nonce_slot.c.intent == attempt.c.intent)
        .where(signed_tx.c.hash == hash)
    )
    row = await c.row(query)
    return None if row is None else _checked(row)


async def sent(c: Connection, hash: bytes, *, hint: str, at_s: float) -> None:
    """Count a send. Raises StoreError for a transaction that was not kept before."""
    now, hint = int(at_s), logs.line(hint)
    row = {"hash": hash, "sends": 1, "first_s": now, "last_s": now, "hint": hint}
    changed = {"sends": broadcast.c.sends + 1, "last_s": now, "hint": hint}
    await bulk.upsert(c, broadcast, row, changed=changed)


async def broadcasts(c: Connection, id: bytes) -> list[Broadcast]:
    """By attempt number; what was never sent is not among them."""
    query = (
        sa.select(*(broadcast.c[name] for name in Broadcast.__struct_fields__))
        .join(signed_tx, signed_tx.c.hash == broadcast.c.hash)
        .where(signed_tx.c.intent == id)
        .order_by(signed_tx.c.number)
    )
    return [Broadcast(*row) for row in await c.rows(query)]


def check(item: SignedTx, frozen: Attempt, *, account: bytes) -> None:
    """Raises StoreError unless `item` is exactly `frozen`, signed by `account`."""
    found = transaction.parse(item.raw)
    where = (hashing.hex0x(item.intent), item.number)
    for name in transaction.Unsigned.__struct_fields__:
        asked, got = getattr(frozen.unsigned, name), getattr(found.unsigned, name)
        if asked != got:
            raise errors.StoreError(f"the signed transaction has another {name} than the frozen one", value=where)
    if found.sender != account:
        raise errors.StoreError("the transaction is signed by another account", value=hashing.hex0x(found.sender))
    if found.hash != item.hash:
        raise errors.StoreError("the hash is not that of the raw transaction", value=hashing.hex0x(item.hash))


def _check_kind(item: Attempt, earlier: list[Attempt], *, account: bytes) -> None:
    tx = item.unsigned
    match item.kind:
        case "original" if item.number != 0:
            raise errors.StoreError("only attempt 0 is the original", value=item.number)
        case "bump" | "cancel" if item.number == 0:
            raise errors.StoreError("attempt 0 is the original", value=item.kind)
        case "bump":
            first = earlier[0].unsigned
            if (tx.to, tx.value, tx.data) != (first.to, first.value, first.data):
                raise errors.StoreError("a bump does what the original does", value=item.number)
        case "cancel":
            if (tx.to, tx.value, tx.data) != (account, 0, b""):
                raise errors.StoreError("a cancel sends nothing to the account itself", value=item.number)
        case "original":
            pass


async def _one(c: Connection, id: bytes, number: int) -> Attempt | None:
    row = await c.row(sa.select(attempt).where(attempt.c.intent == id, attempt.c.number == number))
    return None if row is None else _attempt(row)


def _same_attempt() -> sa.ColumnElement[bool]:
    return sa.and_(signed_tx.c.intent == attempt.c.intent, signed_tx.c.number == attempt.c.number)


def _signed() -> AnySelect:
    return sa.select(*(signed_tx.c[name] for name in SignedTx.__struct_fields__))


def _prefixed() -> list[sa.Label[Any]]:
    return [signed_tx.c[name].label(f"signed_{name}") for name in SignedTx.__struct_fields__]


def _checked(row: AnyRow) -> SignedTx:
    item = SignedTx(*(getattr(row, f"signed_{name}") for name in SignedTx.__struct_fields__))
    try:
        check(item, _attempt(row), account=row.account)
    except errors.StakesideError as error:
        raise errors.StoreError(
            "a stored transaction is not what was frozen", value=str(error), cure=_DAMAGED
        ) from error
    return item


def _columns(item: Attempt) -> dict[str, Any]:
    tx = item.unsigned
    return {
        "intent": item.intent, "number": item.number, "kind": item.kind, "chain_id": tx.chain_id, "nonce": tx.nonce,
        "tip": tx.tip, "max_fee": tx.max_fee, "gas": tx.gas, "recipient": tx.to, "value_wei": tx.value, "data": tx.data,
        "effects": item.effects, "fence": item.fence, "at_s": item.at_s,
    }  # fmt: skip


def _attempt(row: AnyRow) -> Attempt:
    tx = transaction.Unsigned(
        chain_id=row.chain_id, nonce=row.nonce, tip=row.tip, max_fee=row.max_fee, gas=row.gas, to=row.recipient,
        value=row.value_wei, data=row.data,
    )  # fmt: skip
    return Attempt(row.intent, row.number, row.kind, tx, row.effects, row.fence, row.at_s)
