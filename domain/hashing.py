"""keccak-256, ABI words and canonical JSON. In: plain values. Out: bytes.

Only static ABI types and one `string`/`bytes` form are needed by the statement format, so they are written out here; anything
that decodes contract data uses the protocol engine instead.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import cast

from Crypto.Hash import keccak as _keccak

from domain import errors

ZERO32 = bytes(32)
ZERO_ADDRESS = bytes(20)
UINT256_MAX = (1 << 256) - 1


def keccak256(data: bytes) -> bytes:
    """Ethereum's hash (the original Keccak padding, not SHA3-256)."""
    return _keccak.new(digest_bits=256, data=data).digest()


def word(value: int) -> bytes:
    """An unsigned integer as one 32-byte ABI word. Raises OverflowError outside 0..2**256-1."""
    return value.to_bytes(32, "big")


def address_word(address: bytes) -> bytes:
    """A 20-byte address, left-padded to its ABI word."""
    if len(address) != 20:
        raise ValueError(f"an address has 20 bytes, not {len(address)}")
    return address.rjust(32, b"\0")


def abi_encode(*parts: bytes | str | int) -> bytes:
    """`abi.encode` of 32-byte words (bytes of length 32), uints (int), and dynamic values.

    A `str` is an ABI string. Bytes whose length is not 32 are refused: pass `Dynamic(data)` for `bytes`.
    """
    head: list[bytes] = []
    tail = b""
    offset = 32 * len(parts)
    for part in parts:
        if isinstance(part, Dynamic | str):
            data = part if isinstance(part, Dynamic) else part.encode()
            head.append(word(offset + len(tail)))
            tail += word(len(data)) + data + bytes(-len(data) % 32)
        elif isinstance(part, int):
            head.append(word(part))
        elif len(part) == 32:
            head.append(part)
        else:
            raise ValueError(f"a static ABI value has 32 bytes, not {len(part)}")
    return b"".join(head) + tail


class Dynamic(bytes):
    """Marks bytes as the ABI type `bytes` for `abi_encode`."""


def canonical_json(value: object) -> bytes:
    """RFC 8785 JSON of strings, booleans, null, lists, string-keyed dicts and integers within ±2**53.

    Floats are refused: no rule of ours contains one. Keys are sorted by UTF-16 code units as the RFC says.
    """
    return json.dumps(_ordered(value), ensure_ascii=False, separators=(",", ":")).encode()


def _ordered(value: object) -> object:
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        if abs(value) > 2**53:
            raise errors.BadConfig(
                "an integer is too large for canonical JSON", value=value, cure="write it as a decimal string"
            )
        return value
    if isinstance(value, dict):
        items = cast("dict[str, object]", value)
        return {key: _ordered(items[key]) for key in sorted(items, key=lambda k: k.encode("utf-16-be"))}
    if isinstance(value, list | tuple):
        return [_ordered(item) for item in cast("Iterable[object]", value)]
    raise errors.BadConfig(
        f"{type(value).__name__} has no canonical JSON form", value=value, cure="use strings and integers"
    )


def hex0x(data: bytes) -> str:
    """Bytes as lower-case 0x-hex: the only form that crosses an edge."""
    return "0x" + data.hex()


def unhex(text: object, *, size: int | None = None, what: str = "value") -> bytes:
    """Strict 0x-hex to bytes; `size` in bytes when it is fixed. Raises BadAnswer naming `what`."""
    if not isinstance(text, str) or not text.startswith("0x"):
        raise errors.BadAnswer(f"{what} is not 0x-hex", value=text)
    try:
        data = bytes.fromhex(text[2:])
    except ValueError:
        raise errors.BadAnswer(f"{what} is not 0x-hex", value=text) from None
    if len(text) != 2 + 2 * len(data):  # fromhex skips white space
        raise errors.BadAnswer(f"{what} is not 0x-hex", value=text)
    if size is not None and len(data) != size:
        raise errors.BadAnswer(f"{what} has {len(data)} bytes where {size} are needed", value=text)
    return data


def unhex_lower(text: object, *, size: int | None = None, what: str = "value") -> bytes:
    """As `unhex`, for what we define ourselves (wire, documents, subjects): one value has one spelling, in lower case."""
    data = unhex(text, size=size, what=what)
    if text != hex0x(data):
        raise errors.BadAnswer(f"{what} is not lower-case 0x-hex", value=text)
    return data
