"""Transactions in their one encoding. In: JSON of a block's transactions. Out: the bytes that `transactionsRoot` commits to, and who signed them.

Nothing of the JSON needs to be believed: what was altered encodes to other bytes, and then the trie has another root. The spelling is that of
EIP-2718, EIP-155 (legacy), EIP-2930, EIP-1559, EIP-4844 (without its sidecar, as in a block) and EIP-7702.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from domain import errors, hashing, rlp, signatures
from indexers.chain import wire

U256 = 256


class Access(msgspec.Struct, frozen=True):
    address: str
    storageKeys: list[str]


class Authorization(msgspec.Struct, frozen=True):
    """EIP-7702: an account that lets its code be set."""

    chainId: str
    address: str
    nonce: str
    r: str
    s: str
    yParity: str | None = None
    v: str | None = None


class Wire(msgspec.Struct, frozen=True):
    """An entry of a block's `transactions`. Which fields there are depends on the type; a missing type is a legacy transaction."""

    type: str | None = None
    chainId: str | None = None
    nonce: str | None = None
    gasPrice: str | None = None
    maxPriorityFeePerGas: str | None = None
    maxFeePerGas: str | None = None
    gas: str | None = None
    to: str | None = None
    value: str | None = None
    input: str | None = None
    accessList: list[Access] | None = None
    maxFeePerBlobGas: str | None = None
    blobVersionedHashes: list[str] | None = None
    authorizationList: list[Authorization] | None = None
    v: str | None = None
    yParity: str | None = None
    r: str | None = None
    s: str | None = None


class Transaction(msgspec.Struct, frozen=True):
    """`raw` is the canonical encoding, `hash` its name. `digest` and `signature` (r‖s‖v, v 27 or 28) are what `sender` recovers from. `to` is
    None where a contract is created; `value` in wei."""

    raw: bytes
    hash: bytes
    kind: int
    nonce: int
    to: bytes | None
    value: int
    data: bytes
    digest: bytes
    signature: bytes

    def sender(self) -> bytes:
        """Raises BadAnswer for a signature that no key made."""
        return signatures.recover(self.digest, self.signature)


class Unknown(msgspec.Struct, frozen=True):
    """A type that this version cannot encode."""

    kind: int


def read(tx: Wire) -> Transaction | Unknown:
    """Raises BadAnswer for a missing or malformed field."""
    kind = wire.number("0x0" if tx.type is None else tx.type, "transaction type", bits=8)
    fields = _FIELDS.get(kind)
    if fields is None:
        return Unknown(kind)
    unsigned = list(fields(tx))
    r, s = _number(tx.r, "r"), _number(tx.s, "s")
    if kind == 0:
        v = _number(tx.v, "v")
        # EIP-155 signs the chain too; what it signs is no part of what is sent.
        signed = unsigned if v in (27, 28) else [*unsigned, rlp.uint(max(v - 35, 0) // 2), rlp.uint(0), rlp.uint(0)]
        odd = (v - 27 if v in (27, 28) else v - 35) % 2
    else:
        signed = unsigned
        v = odd = _parity(tx.yParity, tx.v)
    prefix = bytes([kind]) if kind else b""
    raw = prefix + rlp.items([*unsigned, rlp.uint(v), rlp.uint(r), rlp.uint(s)])
    return Transaction(
        raw=raw,
        hash=hashing.keccak256(raw),
        kind=kind,
        nonce=_number(tx.nonce, "nonce"),
        to=None if tx.to is None else hashing.unhex(tx.to, size=20, what="to"),
        value=_number(tx.value, "value"),
        data=hashing.unhex(tx.input or "0x", what="input"),
        digest=hashing.keccak256(prefix + rlp.items(signed)),
        signature=hashing.word(r) + hashing.word(s) + bytes([27 + odd]),
    )


# --- what is signed, by type ---


def _legacy(tx: Wire) -> Iterable[bytes]:
    return (_uint(tx.nonce, "nonce"), _uint(tx.gasPrice, "gasPrice"), *_call(tx, creates=True))


def _listed(tx: Wire) -> Iterable[bytes]:
    head = (_uint(tx.chainId, "chainId"), _uint(tx.nonce, "nonce"), _uint(tx.gasPrice, "gasPrice"))
    return (*head, *_call(tx, creates=True), _accesses(tx))


def _market(tx: Wire, *, creates: bool = True) -> Iterable[bytes]:
    return (
        _uint(tx.chainId, "chainId"),
        _uint(tx.nonce, "nonce"),
        _uint(tx.maxPriorityFeePerGas, "maxPriorityFeePerGas"),
        _uint(tx.maxFeePerGas, "maxFeePerGas"),
        *_call(tx, creates=creates),
        _accesses(tx),
    )


def _blobs(tx: Wire) -> Iterable[bytes]:
    if tx.blobVersionedHashes is None:
        raise _lacks("blobVersionedHashes")
    names = rlp.items(rlp.text(wire.word(name, "blobVersionedHashes")) for name in tx.blobVersionedHashes)
    return (*_market(tx, creates=False), _uint(tx.maxFeePerBlobGas, "maxFeePerBlobGas"), names)


def _authorized(tx: Wire) -> Iterable[bytes]:
    if tx.authorizationList is None:
        raise _lacks("authorizationList")
    return (*_market(tx, creates=False), rlp.items(_authorization(item) for item in tx.authorizationList))


_FIELDS: dict[int, Callable[[Wire], Iterable[bytes]]] = {
    0: _legacy,
    1: _listed,
    2: _market,
    3: _blobs,
    4: _authorized,
}


def _call(tx: Wire, *, creates: bool) -> Iterable[bytes]:
    if tx.to is None and not creates:
        raise _lacks("to")
    to = b"" if tx.to is None else hashing.unhex(tx.to, size=20, what="to")
    if tx.input is None:
        raise _lacks("input")
    data = hashing.unhex(tx.input, what="input")
    return (_uint(tx.gas, "gas"), rlp.text(to), _uint(tx.value, "value"), rlp.text(data))


def _accesses(tx: Wire) -> bytes:
    if tx.accessList is None:
        raise _lacks("accessList")
    return rlp.items(
        rlp.items(
            (
                rlp.text(hashing.unhex(entry.address, size=20, what="accessList address")),
                rlp.items(rlp.text(wire.word(key, "storageKeys")) for key in entry.storageKeys),
            )
        )
        for entry in tx.accessList
    )


def _authorization(item: Authorization) -> bytes:
    # Whatever was signed wrongly is skipped, not refused: its parity may be any byte.
    parity = item.yParity if item.yParity is not None else item.v
    return rlp.items(
        (
            _uint(item.chainId, "authorization chainId"),
            rlp.text(hashing.unhex(item.address, size=20, what="authorization address")),
            _uint(item.nonce, "authorization nonce"),
            _uint(parity, "authorization yParity"),
            _uint(item.r, "authorization r"),
            _uint(item.s, "authorization s"),
        )
    )


def _parity(*spelled: str | None) -> int:
    """`yParity`, or `v` where a node names it so."""
    for text in spelled:
        if text is not None:
            return wire.number(text, "yParity", bits=1)
    raise _lacks("yParity")


def _uint(text: str | None, name: str) -> bytes:
    return rlp.uint(_number(text, name))


def _number(text: str | None, name: str) -> int:
    if text is None:
        raise _lacks(name)
    return wire.number(text, name, bits=U256)


def _lacks(name: str) -> errors.BadAnswer:
    return errors.BadAnswer("a transaction lacks a field", value=name)
