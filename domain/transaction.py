"""EIP-1559 transactions. In: their fields. Out: the digest to sign, the raw bytes to send, and the fields back from raw bytes.

Only type 2 is made here: one shape to check. Whatever a signer returns is decoded again and compared field by field with what was asked
(`signers.transactions`). Source: EIP-1559, EIP-2718; the gas cap is EIP-7825's.
"""

from __future__ import annotations

import msgspec

from domain import errors, hashing, rlp, signatures

TYPE = 2
PLAIN_GAS = 21_000
"""What a transaction costs that only sends coins: a cancel sends none to oneself."""
MAX_GAS = 1 << 24
"""EIP-7825: no transaction may ask for more."""


class Unsigned(msgspec.Struct, frozen=True):
    """Fees and value in wei, `gas` in units of gas. The access list is always empty."""

    chain_id: int
    nonce: int
    tip: int
    max_fee: int
    gas: int
    to: bytes
    value: int
    data: bytes

    def digest(self) -> bytes:
        """What the account signs."""
        return hashing.keccak256(bytes([TYPE]) + rlp.items(_fields(self)))

    @property
    def max_cost(self) -> int:
        """The most that can leave the account, in wei."""
        return self.value + self.gas * self.max_fee


class Signed(msgspec.Struct, frozen=True):
    """`raw` is what is sent; `hash` names it; `sender` was recovered from the signature."""

    unsigned: Unsigned
    sender: bytes
    hash: bytes
    raw: bytes


def join(unsigned: Unsigned, signature: bytes) -> bytes:
    """The raw transaction of a 65-byte r‖s‖v (v 27 or 28)."""
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:64], "big")
    tail = [rlp.uint(signature[64] - 27), rlp.uint(r), rlp.uint(s)]
    return bytes([TYPE]) + rlp.items([*_fields(unsigned), *tail])


def parse(raw: bytes) -> Signed:
    """Raises BadAnswer for another type, any other spelling, a non-empty access list, a high s, or a key that cannot be recovered."""
    if raw[:1] != bytes([TYPE]):
        raise errors.BadAnswer("the raw transaction is not of type 2", value=raw[:1])
    found = rlp.decode(raw[1:])
    if not isinstance(found, list) or len(found) != 12:
        raise errors.BadAnswer("a signed transaction of type 2 has 12 fields", value=len(found))
    chain_id, nonce, tip, max_fee, gas = (
        rlp.number(item, what=name)
        for item, name in zip(
            found[:5], ("chainId", "nonce", "maxPriorityFeePerGas", "maxFeePerGas", "gas"), strict=True
        )
    )
    to, value, data, access_list = found[5:9]
    if access_list != []:
        raise errors.BadAnswer("the signed transaction has an access list")
    if not isinstance(to, bytes) or len(to) != 20:
        raise errors.BadAnswer("the signed transaction's recipient is no address", value=to)
    if not isinstance(data, bytes):
        raise errors.BadAnswer("the signed transaction's data is no byte string")
    unsigned = Unsigned(chain_id, nonce, tip, max_fee, gas, to, rlp.number(value, what="value"), data)
    odd, r, s = (rlp.number(item, what=name) for item, name in zip(found[9:], ("yParity", "r", "s"), strict=True))
    if odd > 1:
        raise errors.BadAnswer("the signed transaction's yParity is neither 0 nor 1", value=odd)
    signature = hashing.word(r) + hashing.word(s) + bytes([27 + odd])
    sender = signatures.recover(unsigned.digest(), signature)
    return Signed(unsigned, sender, hashing.keccak256(raw), raw)


def _fields(tx: Unsigned) -> list[bytes]:
    if len(tx.to) != 20:
        raise ValueError("a recipient has 20 bytes")
    numbers = [rlp.uint(value) for value in (tx.chain_id, tx.nonce, tx.tip, tx.max_fee, tx.gas)]
    return [*numbers, rlp.text(tx.to), rlp.uint(tx.value), rlp.text(tx.data), rlp.items([])]
