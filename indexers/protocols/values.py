"""Values as text: what people write, what intents keep, what effects are compared by. In: text and a type. Out: a value, and back.

One value has one canonical text, so that equal intents have equal digests:

    uint, int, enum    decimal digits, without leading zeros; JSON numbers are refused, since many writers round them
    bool               `true`, `false`
    address            0x and 40 hex digits, lower case; mixed case must carry a correct EIP-55 checksum
    identity (a word)  0x and 64 hex digits; an address or a decimal id may be written for it
    bytesN, bytes      0x-hex, lower case
    string             itself, as `abi.text` shows it
    struct, array      the RFC 8785 JSON of the texts of its parts
"""

from __future__ import annotations

import re
from typing import cast

import msgspec

from domain import errors, hashing
from indexers.protocols import abi, abitypes, manifest

_DECIMAL = re.compile(r"(?:0|[1-9][0-9]{0,77})\Z")  # 2**256 has 78 digits
_LONGEST = 1 << 16  # characters of one argument


class Refused(errors.StakesideError):
    """What was asked for cannot be planned: a wrong argument, or something this version or this agent cannot supply."""


def canonical(value: object, type_: abitypes.Type, *, what: str) -> str:
    """The one text of what a person wrote. Raises Refused naming `what`."""
    return text(read(value, type_, what=what), type_)


def read(value: object, type_: abitypes.Type, *, what: str) -> abi.Value:
    """A value from its text, canonical or not. Raises Refused naming `what`."""
    if isinstance(value, str) and len(value) > _LONGEST:
        raise Refused(f"{what} is too long", value=len(value), cure=f"at most {_LONGEST} characters")
    match type_.kind:
        case "word":
            return _word(value, what)
        case "address":
            return _address(value, what)
        case "uint" | "int":
            return _integer(value, type_, what)
        case "bool":
            if value is True or value == "true":
                return True
            if value is False or value == "false":
                return False
            raise Refused(f"{what} is not true or false", value=value, cure="write true or false")
        case "fixed" | "bytes":
            return _bytes(value, type_, what)
        case "string":
            return _string(value, what)
        case _:
            return _parts(value, type_, what)


def text(value: abi.Value, type_: abitypes.Type) -> str:
    """The canonical text of a value of the type."""
    found = _plain(value, type_)
    return found if isinstance(found, str) else hashing.canonical_json(found).decode()


def _plain(value: abi.Value, type_: abitypes.Type) -> object:
    match value:
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case bytes():
            return hashing.hex0x(value)
        case str():
            return value
        case _:
            if type_.kind == "tuple":
                return {c.name: _plain(v, c.type) for c, v in zip(type_.components, value, strict=True)}
            return [_plain(v, type_.item) for v in value]


def convert(value: abi.Value, have: abitypes.Type, want: abitypes.Type, *, what: str) -> abi.Value:
    """A value as the type it must stand for: an identity becomes the address, number or bytes32 the chain wants, and back.

    Everything else is itself; whether it is in range is the encoder's to say. Raises Refused."""
    if want.kind == "word" and have.kind != "word":
        return hashing.word(value) if isinstance(value, int) else cast("bytes", value).rjust(32, b"\0")
    if have.kind != "word" or want.kind == "word" or not isinstance(value, bytes):
        return value
    number = int.from_bytes(value, "big")
    if want.kind == "address":
        if number >> 160:
            raise Refused(f"{what} is no address", value=hashing.hex0x(value), cure="give 0x and 40 hex digits")
        return value[12:]
    if want.kind == "uint":
        if number >= (want.members or 1 << want.size):
            raise Refused(
                f"{what} is too large for {want.declared or want.canonical}",
                value=hashing.hex0x(value),
                cure="give the number the protocol knows it by",
            )
        return number
    return value


def _word(value: object, what: str) -> bytes:
    if isinstance(value, str) and _DECIMAL.match(value):
        number = int(value)
        if number <= hashing.UINT256_MAX:
            return hashing.word(number)
    elif isinstance(value, str) and value.startswith("0x"):
        if len(value) == 42:
            return _address(value, what).rjust(32, b"\0")
        if len(value) == 66:
            return _hex(value, what)
    raise Refused(
        f"{what} is no identity",
        value=value,
        cure="give an address (0x and 40 hex digits), a 32-byte word (0x and 64) or a decimal id",
    )


def _address(value: object, what: str) -> bytes:
    data = _hex(value, what)
    if len(data) != 20:
        raise Refused(f"{what} is no address", value=value, cure="give 0x and 40 hex digits")
    digits = str(value)[2:]
    if digits not in (digits.lower(), digits.upper()) and digits != manifest.checksum(data):
        raise Refused(
            f"{what} has a wrong checksum", value=value, cure="copy the address again, or write it in lower case"
        )
    return data


def _integer(value: object, type_: abitypes.Type, what: str) -> int:
    digits = value.removeprefix("-") if isinstance(value, str) and type_.kind == "int" else value
    if not isinstance(digits, str) or not _DECIMAL.match(digits) or value == "-0":
        raise Refused(
            f"{what} is no number", value=value, cure='give its decimal digits as text, in the smallest unit: "5000"'
        )
    number = int(cast("str", value))
    if type_.kind == "int":
        good = -(1 << type_.size - 1) <= number < 1 << type_.size - 1
    else:
        good = number < (type_.members or 1 << type_.size)
    if not good:
        raise Refused(
            f"{what} does not fit {type_.declared or type_.canonical}", value=value, cure="give a smaller one"
        )
    return number


def _bytes(value: object, type_: abitypes.Type, what: str) -> bytes:
    data = _hex(value, what)
    if type_.kind == "fixed" and len(data) != type_.size:
        raise Refused(
            f"{what} has {len(data)} bytes where {type_.size} are needed", value=value, cure="check its length"
        )
    return data


def _hex(value: object, what: str) -> bytes:
    try:
        return hashing.unhex(value, what=what)
    except errors.BadAnswer:
        raise Refused(f"{what} is not 0x-hex", value=value, cure="give 0x and an even number of hex digits") from None


def _string(value: object, what: str) -> str:
    if not isinstance(value, str):
        raise Refused(f"{what} is no text", value=value, cure="give a string")
    try:
        return abi.text(abi.untext(value))
    except UnicodeEncodeError:
        raise Refused(f"{what} is no UTF-8", value=value, cure="remove the lone surrogate") from None


def _parts(value: object, type_: abitypes.Type, what: str) -> tuple[abi.Value, ...]:
    if isinstance(value, str):
        try:
            value = msgspec.json.decode(value)
        except (msgspec.DecodeError, RecursionError):
            raise Refused(
                f"{what} is no JSON", value=value, cure="give the parts as JSON, every number as text"
            ) from None
    if type_.kind == "array":
        return _items(value, type_, what)
    names = [c.name for c in type_.components]
    parts = cast("dict[str, object]", value) if isinstance(value, dict) else {}
    if set(parts) != set(names):
        raise Refused(
            f"{what} is no {type_.canonical}", value=cast("object", value), cure=f"give an object of {', '.join(names)}"
        )
    return tuple([read(parts[c.name], c.type, what=f"{what}.{c.name}") for c in type_.components])


def _items(value: object, type_: abitypes.Type, what: str) -> tuple[abi.Value, ...]:
    items = cast("list[object]", value) if isinstance(value, list) else None
    if items is None or type_.length not in (None, len(items)):
        raise Refused(
            f"{what} is no {type_.canonical}", value=cast("object", value), cure="give a JSON list of its items"
        )
    return tuple([read(item, type_.item, what=f"{what}[{index}]") for index, item in enumerate(items)])
