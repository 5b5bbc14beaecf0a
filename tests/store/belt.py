"""Intents for the store's tests, brought as far as a test needs them. A key of the tests' own signs, so that raw bytes are real."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import sqlalchemy as sa
from coincurve import PrivateKey

from domain import errors, hashing, intent, signatures, transaction
from store import attempts, blocks, commands, decisions, inclusions, intents, logs, reservations, slots
from store.book import Book
from store.connection import Connection
from tests.store import factory

CHAIN = 31337
KEY = PrivateKey(b"\x11" * 32)
ACCOUNT = signatures.address_of(KEY.public_key.format(compressed=False))
TARGET = b"\x5f" * 20
POLICY = '{"default":"deny"}'
POLICY_HASH = hashing.keccak256(POLICY.encode())
WAY: dict[intent.State, tuple[intent.State, ...]] = {
    "new": (),
    "planned": ("planned",),
    "awaiting_approval": ("planned", "awaiting_approval"),
    "rejected": ("planned", "rejected"),
    "expired": ("expired",),
    "reserved": ("planned", "reserved"),
    "signed": ("planned", "reserved", "signed"),
    "pending": ("planned", "reserved", "signed", "pending"),
    "needs_operator": ("planned", "reserved", "needs_operator"),
    "superseded": ("planned", "reserved", "signed", "pending", "superseded"),
    "included": ("planned", "reserved", "signed", "pending", "included"),
    "final_ok": ("planned", "reserved", "signed", "pending", "included", "final_ok"),
    "final_reverted": ("planned", "reserved", "signed", "pending", "included", "final_reverted"),
    "final_no_effect": ("planned", "reserved", "signed", "pending", "included", "final_no_effect"),
    "cancelled": ("cancelled",),
}
"""The shortest way to each state."""


def wanted(
    key: str = "a", *, amount: int = 10**18, account: bytes = ACCOUNT, action: str = "delegate"
) -> intent.Intent:
    arguments = {"validator": "0x" + "07" * 20, "amount": str(amount)}
    return intent.Intent(CHAIN, account, key, factory.PROTOCOL, action, arguments)


def unsigned(nonce: int, *, tip: int = 10**9, max_fee: int = 3 * 10**9, **changes: object) -> transaction.Unsigned:
    plain = transaction.Unsigned(CHAIN, nonce, tip, max_fee, 200_000, TARGET, 0, b"\x01\x02\x03\x04")
    return msgspec.structs.replace(plain, **changes)


def sign(tx: transaction.Unsigned, key: PrivateKey = KEY) -> transaction.Signed:
    signature = key.sign_recoverable(tx.digest(), hasher=None)
    return transaction.parse(transaction.join(tx, signature[:64] + bytes([27 + signature[64]])))


async def propose(
    c: Connection, what: intent.Intent | None = None, *, by: str = "alice", at_s: int = 100
) -> intents.Stored:
    what = wanted() if what is None else what
    done = await commands.propose(c, what, by=by, reason="because", at_s=at_s, expires_at_s=at_s + 1000)
    assert isinstance(done, commands.Done), done
    stored = await intents.get(c, what.id)
    assert stored is not None
    return stored


def decision(of: intents.Stored, verdict: decisions.Verdict = "allow", *, at_s: int = 101) -> decisions.Decision:
    block = factory.header(1)
    return decisions.Decision(
        of.id,
        at_s,
        verdict,
        "default",
        "the rule says so",
        POLICY_HASH,
        of.payload_hash,
        block.number,
        block.hash,
        "[]",
    )


async def reserve(c: Connection, of: intents.Stored, *, floor: int = 0, fence: int = 1, at_s: int = 102) -> slots.Slot:
    """All that `reserved` stands for: decision, nonce, budget, frozen original. The state is the caller's."""
    await decisions.save_policy(c, POLICY_HASH, POLICY, at_s)
    await decisions.save(c, decision(of))
    where = {"chain_id": of.intent.chain_id, "account": of.intent.account}
    slot = await slots.reserve(c, **where, intent=of.id, floor=floor, fence=fence, at_s=at_s)  # type: ignore[arg-type]
    tx = unsigned(slot.nonce)
    amount = int(of.intent.arguments["amount"])
    await reservations.put(
        c, reservations.Reservation(of.id, of.intent.protocol, of.intent.action, amount, 0, tx.gas * tx.max_fee, at_s)
    )
    await attempts.freeze(c, attempts.Attempt(of.id, 0, "original", tx, '[{"kind":"Delegated"}]', fence, at_s))
    return slot


async def keep(c: Connection, id: bytes, number: int = 0, *, fence: int = 1, at_s: int = 103) -> transaction.Signed:
    """Sign a frozen attempt and save it."""
    frozen = (await attempts.of_intent(c, id))[number]
    made = sign(frozen.unsigned)
    await attempts.save_signed(c, id, number, hash=made.hash, raw=made.raw, fence=fence, at_s=at_s)
    return made


async def include(
    c: Connection, id: bytes, *, number: int = 0, height: int = 5, status: int = 1, effect: bool = True, fork: str = "a"
) -> inclusions.Inclusion:
    """Found in a block, whose header and event are put into the book."""
    signed = {item.number: item for item in await attempts.signed_of(c, id)}[number]
    header = factory.header(height, fork)
    plain = factory.row(header, (await slots.highest(c, CHAIN, ACCOUNT) or 0) + height)
    try:
        await blocks.insert(c, [header], proof="receipts")
    except errors.StoreError:
        raise AssertionError(f"block {height} is there already: choose another height") from None
    if effect:
        log = msgspec.structs.replace(plain.log, tx_hash=signed.hash)
        at = msgspec.structs.replace(plain.event.at, tx_hash=signed.hash)  # type: ignore[union-attr]
        event = msgspec.structs.replace(plain.event, at=at)  # type: ignore[type-var]
        await logs.insert(c, [msgspec.structs.replace(plain, log=log, event=event)])
    item = inclusions.Inclusion(
        id, number, signed.hash, header.number, header.hash, 0, status, 21_000, 10**9,
        plain.log.log_index if effect else None, 105,
    )  # fmt: skip
    made = await inclusions.save(c, item)
    return msgspec.structs.replace(item, id=made)


async def bring(
    c: Connection, state: intent.State, what: intent.Intent | None = None, *, height: int = 5
) -> intents.Stored:
    """A new intent in this state, with all rows it stands for, the shortest way."""
    of = await propose(c, what)
    at: intent.State = "new"
    for to in WAY[state]:
        match to:
            case "reserved":
                await reserve(c, of)
            case "signed":
                await keep(c, of.id)
            case "included":
                effect = state not in ("final_reverted", "final_no_effect")
                await include(c, of.id, height=height, status=0 if state == "final_reverted" else 1, effect=effect)
            case "final_ok" | "final_reverted" | "final_no_effect":
                found = await inclusions.standing(c, of.id)
                assert found is not None
                await inclusions.finalize(c, found.id, 107)
            case _:
                pass
        await intents.move(c, of.id, expect=at, to=to, why=f"as the test wants: {to}", at_s=110)
        at = to
    stored = await intents.get(c, of.id)
    assert stored is not None
    return stored


class _Undo(Exception):
    pass


@asynccontextmanager
async def undone(book: Book) -> AsyncIterator[Connection]:
    """A transaction that is rolled back: many small scenarios in one book, which takes a while to make."""
    try:
        async with book.write() as c:
            yield c
            raise _Undo
    except _Undo:
        pass


async def unguard(c: Connection) -> None:
    """What a damaged or hand-edited book would look like: the guards are away, and so are references, in this transaction."""
    if c.dialect.name == "postgresql":
        await c.rows(sa.text("SELECT set_config('session_replication_role', 'replica', true)"))
        return
    await c.change(sa.text("PRAGMA defer_foreign_keys = ON"))
    for row in await c.rows(sa.text("SELECT name FROM sqlite_master WHERE type = 'trigger'")):
        await c.change(sa.text(f"DROP TRIGGER {row.name}"))
