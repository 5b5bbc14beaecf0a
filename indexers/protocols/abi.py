"""Strict ABI decoding compiled from types. In: the data and topics of a log. Out: plain values, or Malformed.

What is accepted is what Solidity's own decoder (ABI coder v2) accepts, because that is the reading every honest party shares:
- a value word must be clean: zero padding of an address, uintN, bytesN and bool; sign extension of intN; a declared enum in range;
- an offset and a length must stay inside the data; where a tail lies, and what pads a string, is the encoder's business;
- bytes after the last value are tolerated. The signature already fixed what each value is, so they cannot change a meaning, and
  refusing them would let one odd encoder stop a stream that everybody else goes on reading.

One rule is ours: values may not share bytes so as to grow (offsets that all point at one tail would turn 64 KB into gigabytes);
an encoding may hold no more values than its own bytes could carry.

Values: int for uint, int and enum; bool; bytes for address (20), bytesN and bytes; str for string; tuple for struct and array.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import cast

from domain import errors
from indexers.protocols import abitypes

Value = int | bool | bytes | str | tuple["Value", ...]
Room = list[int]
"""One running count of the bytes that dynamic values may still take."""
Read = Callable[[bytes, int, Room], Value]

_LOOKS_ESCAPED = re.compile(rb"\\(?=x[0-9a-f]{2})")
_ESCAPE = re.compile(rb"\\x([0-9a-f]{2})")


class Malformed(errors.StakesideError):
    """The bytes are no encoding of the type."""


def text(data: bytes) -> str:
    r"""A chain's string. Valid UTF-8 is itself; a byte that is not becomes `\xhh`, and text that already looks like such an escape
    has its backslash written `\x5c`, so that two different strings never look alike and `untext` gives the bytes back."""
    return _LOOKS_ESCAPED.sub(rb"\\x5c", data).decode("utf-8", "backslashreplace")


def untext(shown: str) -> bytes:
    """The bytes that `text` was given."""
    return _ESCAPE.sub(lambda match: bytes([int(match[1], 16)]), shown.encode())


def word_check(type_: abitypes.Type) -> Callable[[bytes], None] | None:
    """What a 32-byte word of a value type must satisfy; None when every word is a value (uint256, bytes32)."""
    size = type_.size
    match type_.kind:
        case "address":
            return _zero_before(12, "an address")
        case "bool":
            return _below(2, "a bool")
        case "uint":
            if type_.members:
                return _below(type_.members, f"the enum {type_.declared}")
            return None if size == 256 else _zero_before(32 - size // 8, type_.canonical)
        case "int":
            return None if size == 256 else _sign_extended(size)
        case "fixed":
            return None if size == 32 else _zero_after(size)
        case _:
            raise ValueError(f"{type_.canonical} is no value type")


def word_value(type_: abitypes.Type) -> Callable[[bytes], Value]:
    """From a word that `word_check` let pass to its value."""
    size = type_.size
    match type_.kind:
        case "address":
            return lambda word: word[12:]
        case "bool":
            return lambda word: word[31] == 1
        case "uint":
            return lambda word: int.from_bytes(word, "big")
        case "int":
            return lambda word: int.from_bytes(word, "big", signed=True)
        case "fixed":
            return lambda word: word[:size]
        case _:
            raise ValueError(f"{type_.canonical} is no value type")


def read(type_: abitypes.Type) -> Read:
    """A reader of the encoding that starts at a position: of a dynamic type its tail, of a static one its place in the head."""
    match type_.kind:
        case "bytes":
            return _bytes
        case "string":
            return lambda data, at, room: text(_bytes(data, at, room))
        case "tuple":
            return members([c.type for c in type_.components])
        case "array":
            return _array(type_.item) if type_.length is None else members([type_.item] * type_.length)
        case _:
            return _word(type_)


def members(types: Sequence[abitypes.Type]) -> Callable[[bytes, int, Room], tuple[Value, ...]]:
    """A reader of a sequence of types as `abi.encode` lays it out: the heads, then the tails the offsets point at."""
    plan: list[tuple[int, bool, Read]] = []
    offset = 0
    for type_ in types:
        plan.append((offset, type_.dynamic, read(type_)))
        offset += 32 * type_.words
    frozen = tuple(plan)
    head = offset if any(dynamic for _, dynamic, _ in plan) else 0  # a static sequence lies in its parent's head

    def read_members(data: bytes, at: int, room: Room) -> tuple[Value, ...]:
        _take(room, head)
        return tuple(
            [
                inner(data, at + _number(data, at + place) if dynamic else at + place, room)
                for place, dynamic, inner in frozen
            ]
        )

    return read_members


def tail(data: bytes, at: int, room: Room) -> bytes:
    """The content of the top-level `string` or `bytes` whose offset stands at `at`."""
    return _bytes(data, _number(data, at), room)


def room(data: bytes) -> Room:
    """What `data` may hold. A word of slack for each count lets the smallest encodings through."""
    return [len(data) + 32]


def packed(params: Sequence[abitypes.Param]) -> Callable[[bytes], tuple[Value, ...]]:
    """A reader of `packed(…)` data: fields end to end, integers big-endian, the length exact."""
    plan: list[tuple[int, int, str]] = []
    at = 0
    for param in params:
        size = {"address": 20, "uint": param.type.size // 8}.get(param.type.kind, param.type.size)
        plan.append((at, at + size, param.type.kind))
        at += size
    total = at

    def read_packed(data: bytes) -> tuple[Value, ...]:
        if len(data) != total:
            raise Malformed(f"packed data has {len(data)} bytes where {total} are needed")
        return tuple(
            [int.from_bytes(data[start:end], "big") if kind == "uint" else data[start:end] for start, end, kind in plan]
        )

    return read_packed


def pick(params: tuple[abitypes.Param, ...], values: Mapping[str, Value], path: str) -> Value | None:
    """The value at a path like `withdrawal.staker`; None past the end of an array."""
    first, *rest = abitypes.steps(path)
    value = values[str(first)]
    type_ = next(p.type for p in params if p.name == first)
    for step in rest:
        items = cast("tuple[Value, ...]", value)
        if isinstance(step, int):
            if step >= len(items):
                return None
            value, type_ = items[step], type_.item
        else:
            names = [c.name for c in type_.components]
            index = names.index(step)
            value, type_ = items[index], type_.components[index].type
    return value


def _word(type_: abitypes.Type) -> Read:
    check, value = word_check(type_), word_value(type_)

    def read_word(data: bytes, at: int, room: Room) -> Value:
        word = data[at : at + 32]
        if len(word) != 32:
            raise Malformed(f"the data ends inside a {type_.canonical}", value=f"byte {at}")
        if check is not None:
            check(word)
        return value(word)

    return read_word


def _number(data: bytes, at: int) -> int:
    """An offset or a length: it can never exceed the data's own length."""
    word = data[at : at + 32]
    if len(word) != 32:
        raise Malformed("the data ends inside an offset or a length", value=f"byte {at}")
    number = int.from_bytes(word, "big")
    if number > len(data):
        raise Malformed("an offset or a length points outside the data", value=f"byte {at}")
    return number


def _bytes(data: bytes, at: int, room: Room) -> bytes:
    length = _number(data, at)
    found = data[at + 32 : at + 32 + length]
    if len(found) != length:
        raise Malformed("a string or bytes value ends outside the data", value=f"byte {at}")
    _take(room, 32 + length)
    return found


def _array(item: abitypes.Type) -> Read:
    inner, step, dynamic = read(item), 32 * item.words, item.dynamic

    def read_array(data: bytes, at: int, room: Room) -> Value:
        length = _number(data, at)
        first = at + 32
        if first + length * step > len(data):
            raise Malformed("an array ends outside the data", value=f"byte {at}")
        _take(room, 32 + length * step)
        if dynamic:
            return tuple([inner(data, first + _number(data, first + step * i), room) for i in range(length)])
        return tuple([inner(data, first + step * i, room) for i in range(length)])

    return read_array


def _take(room: Room, size: int) -> None:
    room[0] -= size
    if room[0] < 0:
        raise Malformed("values of the data overlap", cure="an honest encoder gives each value bytes of its own")


def _zero_before(count: int, what: str) -> Callable[[bytes], None]:
    zeros = bytes(count)

    def check(word: bytes) -> None:
        if word[:count] != zeros:
            raise Malformed(f"the padding of {what} is not zero", value="0x" + word.hex())

    return check


def _zero_after(size: int) -> Callable[[bytes], None]:
    zeros = bytes(32 - size)

    def check(word: bytes) -> None:
        if word[size:] != zeros:
            raise Malformed(f"the padding of bytes{size} is not zero", value="0x" + word.hex())

    return check


def _below(limit: int, what: str) -> Callable[[bytes], None]:
    def check(word: bytes) -> None:
        if int.from_bytes(word, "big") >= limit:
            raise Malformed(
                f"{what} has no value like this one", value="0x" + word.hex(), cure=f"it ends at {limit - 1}"
            )

    return check


def _sign_extended(size: int) -> Callable[[bytes], None]:
    half = 1 << (size - 1)

    def check(word: bytes) -> None:
        if not -half <= int.from_bytes(word, "big", signed=True) < half:
            raise Malformed(f"an int{size} is not sign-extended", value="0x" + word.hex())

    return check
