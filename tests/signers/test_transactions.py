"""Signing transactions: what an honest signer gives goes through byte for byte, and nothing else does."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import eth_account
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain import errors, hashing, rlp, signatures, transaction
from signers import base, checks, keys, transactions

SECRET = bytes.fromhex("ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80")  # Anvil's public account 0
OTHER = bytes.fromhex("59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d")  # Anvil's public account 1
KEY = keys.LocalKey(SECRET)
ASKED = transaction.Unsigned(
    chain_id=31337,
    nonce=7,
    tip=1_000_000_000,
    max_fee=30_000_000_000,
    gas=150_000,
    to=bytes.fromhex("22" * 20),
    value=10**18,
    data=bytes.fromhex("5c19a95c") + bytes(12) + bytes.fromhex("44" * 20),
)
AMOUNTS = st.integers(0, 3) | st.integers(0, (1 << 256) - 1)
UNSIGNED = st.builds(
    transaction.Unsigned,
    chain_id=st.integers(1, (1 << 63) - 1),
    nonce=st.integers(0, (1 << 64) - 2),
    tip=AMOUNTS,
    max_fee=AMOUNTS,
    gas=st.integers(21_000, transaction.MAX_GAS),
    to=st.binary(min_size=20, max_size=20),
    value=AMOUNTS,
    data=st.binary(max_size=300),
)


class Digests:
    """A signer of the digest shape that answers as told."""

    def __init__(self, answer: Callable[[bytes], Awaitable[bytes]], address: bytes = KEY.address) -> None:
        self.address = address
        self._answer = answer

    async def sign_digest(self, digest: bytes) -> bytes:
        return await self._answer(digest)


class Whole:
    """A signer of the transaction shape that answers as told."""

    def __init__(self, answer: Callable[[transaction.Unsigned], Awaitable[bytes]]) -> None:
        self.address = KEY.address
        self._answer = answer

    async def sign_transaction(self, unsigned: transaction.Unsigned) -> bytes:
        return await self._answer(unsigned)


async def signed(unsigned: transaction.Unsigned, secret: bytes = SECRET) -> bytes:
    return transaction.join(unsigned, await keys.LocalKey(secret).sign_digest(unsigned.digest()))


def replying(raw: bytes) -> Whole:
    async def answer(_unsigned: transaction.Unsigned) -> bytes:
        return raw

    return Whole(answer)


def second_opinion(unsigned: transaction.Unsigned) -> tuple[bytes, bytes]:
    """Raw bytes and hash by eth_account."""
    found = eth_account.Account.sign_transaction(
        {
            "type": 2,
            "chainId": unsigned.chain_id,
            "nonce": unsigned.nonce,
            "maxPriorityFeePerGas": unsigned.tip,
            "maxFeePerGas": unsigned.max_fee,
            "gas": unsigned.gas,
            "to": unsigned.to,
            "value": unsigned.value,
            "data": unsigned.data,
        },
        SECRET,
    )
    return bytes(found.raw_transaction), bytes(found.hash)


async def test_a_transaction_has_the_bytes_and_the_hash_that_eth_account_gives_it() -> None:
    found = await transactions.sign(KEY, ASKED)
    assert (found.raw, found.hash) == second_opinion(ASKED)
    assert (found.sender, found.unsigned) == (KEY.address, ASKED)


@given(unsigned=UNSIGNED)
@settings(max_examples=60, deadline=None)
async def test_every_transaction_has_the_bytes_that_eth_account_gives_it(unsigned: transaction.Unsigned) -> None:
    found = await transactions.sign(KEY, unsigned)
    assert (found.raw, found.hash) == second_opinion(unsigned)


async def test_a_thousand_signatures_recover_those_with_leading_zeros_too() -> None:
    short_r = short_s = 0
    for nonce in range(1000):
        unsigned = msgspec.structs.replace(ASKED, nonce=nonce)
        found = await transactions.sign(KEY, unsigned)
        assert found.sender == KEY.address
        signature = await KEY.sign_digest(unsigned.digest())
        short_r, short_s = short_r + (signature[0] == 0), short_s + (signature[32] == 0)
    assert short_r
    assert short_s


async def test_both_shapes_give_the_same() -> None:
    assert await transactions.sign(replying(await signed(ASKED)), ASKED) == await transactions.sign(KEY, ASKED)


def test_a_signer_is_of_the_shape_it_has_a_method_for() -> None:
    assert base.shape(KEY) == "digest"
    assert base.shape(replying(b"")) == "transaction"


# --- a signer that changes what it signs ---

SWAPS: dict[str, tuple[str, object]] = {
    "chainId": ("chain_id", 1),
    "nonce": ("nonce", 8),
    "maxPriorityFeePerGas": ("tip", 1_000_000_001),
    "maxFeePerGas": ("max_fee", 30_000_000_001),
    "gas": ("gas", 150_001),
    "to": ("to", bytes.fromhex("66" * 20)),
    "value": ("value", 10**18 + 1),
    "data": ("data", ASKED.data[:-1] + b"\0"),
}


def test_every_field_has_a_swap() -> None:
    assert {name for name, _ in SWAPS.values()} == {
        field.name for field in msgspec.structs.fields(transaction.Unsigned)
    }


@pytest.mark.parametrize("shown", SWAPS)
async def test_a_swapped_field_is_named(shown: str) -> None:
    name, value = SWAPS[shown]
    raw = await signed(msgspec.structs.replace(ASKED, **{name: value}))
    with pytest.raises(errors.BadAnswer, match=rf"the signer changed {shown}:"):
        await transactions.sign(replying(raw), ASKED)


def fields(raw: bytes) -> list[rlp.Item]:
    found = rlp.decode(raw[1:])
    assert isinstance(found, list)
    return found


def encoded(item: rlp.Item) -> bytes:
    return rlp.text(item) if isinstance(item, bytes) else rlp.items([encoded(part) for part in item])


async def respelled(index: int, item: rlp.Item) -> bytes:
    """A good transaction with one field of the list replaced."""
    items = fields(await signed(ASKED))
    items[index] = item
    return b"\x02" + encoded(items)


async def high_s() -> bytes:
    items = fields(await signed(ASKED))
    y, s = rlp.number(items[9], what="y"), rlp.number(items[11], what="s")
    items[9], items[11] = (b"" if y else b"\1"), hashing.word(signatures.CURVE_ORDER - s).lstrip(b"\0")
    return b"\x02" + encoded(items)


async def wrong_parity() -> bytes:
    y = fields(await signed(ASKED))[9]
    return await respelled(9, b"" if y else b"\1")


async def access_list() -> bytes:
    return await respelled(8, [[bytes(20), []]])


async def legacy() -> bytes:
    return (await signed(ASKED))[1:]


async def blob_type() -> bytes:
    return b"\x03" + (await signed(ASKED))[1:]


async def truncated() -> bytes:
    return (await signed(ASKED))[:-1]


async def followed() -> bytes:
    return await signed(ASKED) + b"\0"


async def padded_r() -> bytes:
    items = fields(await signed(ASKED))
    r = items[10]
    assert isinstance(r, bytes)
    return await respelled(10, b"\0" + r)


async def short_r() -> bytes:
    r = fields(await signed(ASKED))[10]
    assert isinstance(r, bytes)
    return await respelled(10, r[1:])


async def huge() -> bytes:
    return b"\x02" + bytes(1 << 20)


async def missing_field() -> bytes:
    return b"\x02" + encoded(fields(await signed(ASKED))[:-1])


async def other_key() -> bytes:
    return await signed(ASKED, OTHER)


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (high_s, "lower half"),
        (wrong_parity, "the key of|recover"),
        (access_list, "access list"),
        (legacy, "type 2"),
        (blob_type, "type 2"),
        (truncated, "truncated"),
        (followed, "follow"),
        (padded_r, "r is no RLP integer"),
        (short_r, "the key of|recover"),
        (huge, "longer than"),
        (missing_field, "12 fields"),
        (other_key, "the key of 0x70997970"),
        (lambda: respelled(9, b"\x1b"), "yParity"),
        (lambda: respelled(10, b""), "recover"),
        (lambda: respelled(11, b""), "lower half"),
        (lambda: respelled(5, b""), "recipient"),
        (lambda: respelled(1, b"\0\7"), "nonce is no RLP integer"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
async def test_a_hostile_reply_is_refused_by_its_fault(reply: Callable[[], Awaitable[bytes]], said: str) -> None:
    with pytest.raises(errors.BadAnswer, match=said):
        await transactions.sign(replying(await reply()), ASKED)


@given(garbage=st.binary(max_size=400), head=st.sampled_from([b"", b"\x02"]))
@settings(max_examples=200, deadline=None)
async def test_no_garbage_is_a_transaction(garbage: bytes, head: bytes) -> None:
    with pytest.raises(errors.BadAnswer):
        checks.same_transaction(ASKED, head + garbage, KEY.address)


@given(at=st.integers(0, 300), bit=st.integers(0, 7))
@settings(max_examples=200, deadline=None)
async def test_no_flipped_bit_gets_past(at: int, bit: int) -> None:
    raw = bytearray(await signed(ASKED))
    raw[at % len(raw)] ^= 1 << bit
    with pytest.raises(errors.BadAnswer):
        checks.same_transaction(ASKED, bytes(raw), KEY.address)


# --- a signer of digests that answers wrongly ---


async def tampered(digest: bytes, how: str) -> bytes:
    good = await KEY.sign_digest(digest)
    match how:
        case "high s":
            s = signatures.CURVE_ORDER - int.from_bytes(good[32:64], "big")
            return good[:32] + hashing.word(s) + bytes([55 - good[64]])
        case "wrong v":
            return good[:64] + bytes([55 - good[64]])
        case "v of a chain":
            return good[:64] + bytes([31337 * 2 + 35 & 0xFF])
        case "short r":
            return good[1:]
        case "short s":
            return good[:32] + good[33:]
        case "no v":
            return good[:64]
        case "longer":
            return good + b"\0"
        case "other key":
            return await keys.LocalKey(OTHER).sign_digest(digest)
        case "hashed again":
            return await KEY.sign_digest(hashing.keccak256(digest))
        case _:
            return b""


@pytest.mark.parametrize(
    "how",
    [
        "high s",
        "wrong v",
        "v of a chain",
        "short r",
        "short s",
        "no v",
        "longer",
        "other key",
        "hashed again",
        "nothing",
    ],
)
async def test_a_wrong_signature_is_refused(how: str) -> None:
    async def answer(digest: bytes) -> bytes:
        return await tampered(digest, how)

    with pytest.raises(errors.BadAnswer):
        await transactions.sign(Digests(answer), ASKED)


# --- a signer that takes its time ---


async def test_a_signer_that_hangs_is_given_up_and_its_late_answer_heard_by_nobody() -> None:
    release, ended = asyncio.Event(), asyncio.Event()

    async def late(unsigned: transaction.Unsigned) -> bytes:
        try:
            await release.wait()
            return await signed(unsigned)
        finally:
            ended.set()

    with pytest.raises(errors.Transient, match="did not answer within"):
        await transactions.sign(Whole(late), ASKED, timeout_s=0.01)
    assert ended.is_set()  # it was cancelled: there is no task left that could answer
    release.set()
    assert (await transactions.sign(Whole(late), ASKED)).unsigned == ASKED  # asked again, the same bytes


async def test_a_signer_that_is_away_is_transient() -> None:
    async def away(_digest: bytes) -> bytes:
        raise errors.Transient("the signer is away")

    with pytest.raises(errors.Transient, match="away"):
        await transactions.sign(Digests(away), ASKED)


async def test_signing_again_gives_the_same_bytes() -> None:
    """A crash between signing and keeping is harmless."""
    assert (await transactions.sign(KEY, ASKED)).raw == (await transactions.sign(KEY, ASKED)).raw


# --- two keys ---


def test_one_key_for_both_belts_is_refused() -> None:
    with pytest.raises(errors.BadConfig, match="same key"):
        checks.distinct(KEY.address, KEY.address)


@pytest.mark.parametrize(("attester", "delegator"), [(None, None), (KEY.address, None), (None, KEY.address), (KEY.address, bytes(20))])  # fmt: skip
def test_two_keys_or_one_belt_are_fine(attester: bytes | None, delegator: bytes | None) -> None:
    checks.distinct(attester, delegator)
