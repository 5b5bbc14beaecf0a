"""Bytes and hashes. In: plain values. Out: keccak digests, ABI words, canonical JSON, recovered addresses.

Sources: Ethereum's Keccak-256, the Solidity ABI, RFC 8785, EIP-2 (low s).
"""

from __future__ import annotations

import re

import coincurve
from Crypto.Hash import keccak as _keccak

from verify.report import Unusable
from verify.strict import Json

ZERO = bytes(32)
_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
_EXACT = 1 << 53
"""Integers beyond this have no exact form in RFC 8785, whose numbers are IEEE doubles."""


def keccak(data: bytes) -> bytes:
    return _keccak.new(digest_bits=256, data=data).digest()


def word(value: int | bytes) -> bytes:
    """A uint, or a bytes32 as it is."""
    if isinstance(value, int):
        if not 0 <= value < 1 << 256:
            raise Unusable("arithmetic", "an amount has no form as an unsigned integer of 256 bits")
        return value.to_bytes(32, "big")
    if len(value) != 32:
        raise ValueError(f"a word has 32 bytes, not {len(value)}")
    return value


def padded(address: bytes) -> bytes:
    """An address as a word."""
    if len(address) != 20:
        raise ValueError(f"an address has 20 bytes, not {len(address)}")
    return bytes(12) + address


def words(*values: int | bytes) -> bytes:
    """`abi.encode` of static values only."""
    return b"".join(word(value) for value in values)


def tail(data: bytes) -> bytes:
    """The tail of an ABI `bytes` or `string`: length, content, padding."""
    return word(len(data)) + data + bytes(-len(data) % 32)


def hexed(data: bytes) -> str:
    return "0x" + data.hex()


class SignatureError(ValueError):
    """Why a signature is refused."""


def recover(digest: bytes, signature: bytes) -> bytes:
    """The 20-byte address behind r‖s‖v. Raises SignatureError for v other than 27 or 28, a high s, or no point."""
    r, s, v = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:64], "big"), signature[64]
    if v not in (27, 28):
        raise SignatureError(f"v is {v}, not 27 or 28")
    if not 0 < r < _ORDER:
        raise SignatureError("r is outside the curve's order")
    if not 0 < s <= _ORDER // 2:
        raise SignatureError("s is not in the lower half of the curve's order")
    compact = signature[:64] + bytes([v - 27])
    try:
        key = coincurve.PublicKey.from_signature_and_message(compact, digest, hasher=None)
    except Exception:  # noqa: BLE001  # coincurve raises a bare Exception when no key belongs to a signature
        raise SignatureError("it belongs to no key") from None
    return keccak(key.format(compressed=False)[1:])[12:]


_ESCAPES = {0x08: "\\b", 0x09: "\\t", 0x0A: "\\n", 0x0C: "\\f", 0x0D: "\\r", 0x22: '\\"', 0x5C: "\\\\"}
_TO_ESCAPE = re.compile('["\\\\\x00-\x1f]')


def canonical(value: Json, *, where: str = "value") -> bytes:
    """RFC 8785: keys by UTF-16 code units, no white space, only the escapes that JSON demands."""
    parts: list[str] = []
    _write(value, parts, where)
    return "".join(parts).encode()


def _write(value: Json, out: list[str], where: str) -> None:
    if value is None:
        out.append("null")
    elif value is True:
        out.append("true")
    elif value is False:
        out.append("false")
    elif isinstance(value, int):
        if abs(value) > _EXACT:
            raise Unusable(where, f"{value} is too large for an exact JSON number")
        out.append(str(value))
    elif isinstance(value, str):
        out.append(_string(value))
    elif isinstance(value, list):
        out.append("[")
        for index, item in enumerate(value):
            if index:
                out.append(",")
            _write(item, out, where)
        out.append("]")
    else:
        out.append("{")
        for index, key in enumerate(sorted(value, key=lambda text: text.encode("utf-16-be"))):
            if index:
                out.append(",")
            out.append(_string(key) + ":")
            _write(value[key], out, where)
        out.append("}")


def _string(text: str) -> str:
    return '"' + _TO_ESCAPE.sub(lambda hit: _escape(ord(hit[0])), text) + '"'


def _escape(code: int) -> str:
    return _ESCAPES.get(code) or f"\\u{code:04x}"
