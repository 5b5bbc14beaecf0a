"""RLP (Yellow Paper, appendix B). In: bytes and lists. Out: their one encoding; and back, strictly.

Encoding works bottom-up on parts that are encoded already. Decoding refuses every other spelling of the same value, so that what was
read can be compared byte for byte with what was asked for.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

from domain import errors

Item: TypeAlias = "bytes | list[Item]"

MAX_DEPTH = 8
"""Transactions nest three deep (access lists); a hostile answer must not reach the interpreter's recursion limit."""


def text(data: bytes) -> bytes:
    """A byte string."""
    if len(data) == 1 and data[0] < 0x80:
        return data
    return _head(len(data), 0x80) + data


def uint(value: int) -> bytes:
    """Big-endian without leading zeros; zero is the empty string."""
    return text(value.to_bytes((value.bit_length() + 7) // 8, "big"))


def items(encoded: Iterable[bytes]) -> bytes:
    """A list of items that are encoded already."""
    body = b"".join(encoded)
    return _head(len(body), 0xC0) + body


def decode(data: bytes) -> Item:
    """The one item that `data` is, whole. Raises BadAnswer for anything that `text` and `items` would not have written."""
    item, end = _read(data, 0, len(data), MAX_DEPTH)
    if end != len(data):
        raise errors.BadAnswer("bytes follow the RLP item", value=len(data) - end)
    return item


def number(item: Item, *, what: str) -> int:
    """An unsigned integer of at most 32 bytes. Raises BadAnswer naming `what`."""
    if not isinstance(item, bytes) or len(item) > 32 or item[:1] == b"\0":
        raise errors.BadAnswer(f"{what} is no RLP integer", value=item)
    return int.from_bytes(item, "big")


def _head(length: int, base: int) -> bytes:
    if length < 56:
        return bytes((base + length,))
    size = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes((base + 55 + len(size),)) + size


def _read(data: bytes, at: int, end: int, depth: int) -> tuple[Item, int]:
    if at >= end:
        raise errors.BadAnswer("the RLP is truncated")
    first = data[at]
    if first < 0x80:
        return data[at : at + 1], at + 1
    if first < 0xC0:
        start, stop = _span(data, at, end, 0x80)
        if stop - start == 1 and data[start] < 0x80:
            raise errors.BadAnswer("a byte is its own RLP and needs no length")
        return data[start:stop], stop
    if not depth:
        raise errors.BadAnswer(f"the RLP nests deeper than {MAX_DEPTH}")
    start, stop = _span(data, at, end, 0xC0)
    found: list[Item] = []
    while start < stop:
        item, start = _read(data, start, stop, depth - 1)
        found.append(item)
    return found, stop


def _span(data: bytes, at: int, end: int, base: int) -> tuple[int, int]:
    """Where the payload begins and ends."""
    length = data[at] - base
    start = at + 1
    if length > 55:
        size = length - 55
        start += size
        digits = data[at + 1 : start]
        length = int.from_bytes(digits, "big")
        if start > end or not digits[:1].strip(b"\0") or length < 56:
            raise errors.BadAnswer("an RLP length is not in its shortest form")
    if start + length > end:
        raise errors.BadAnswer("the RLP is truncated")
    return start, start + length
