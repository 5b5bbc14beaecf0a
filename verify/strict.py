"""JSON that may be hostile. In: bytes. Out: a `Node`, which is read field by field and names its place in every complaint.

Refused: floats, NaN, duplicate keys, integers beyond 64 bits, lone surrogates, more than 32 levels, trailing data, unknown
fields.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NoReturn, TypeAlias, cast

from verify.report import Unusable, shown

Json: TypeAlias = "bool | int | str | list[Json] | dict[str, Json] | None"

MAX_DEPTH = 32
"""The deepest place of a statement file is nine levels down; a node's answers stay below ten."""
MAX_DIGITS = 20
_DECIMAL = re.compile(r"0|[1-9][0-9]{0,77}")
_HEX = re.compile(r"0x(?:[0-9a-f]{2})*")
_QUANTITY = re.compile(r"0x(?:0|[1-9a-f][0-9a-f]{0,63})")
_BRACKETS = re.compile(r'"(?:[^"\\]|\\.)*"?|[\[{]|[\]}]', re.DOTALL)
_SURROGATE = re.compile("[\ud800-\udfff]")


def unhex(text: str, size: int | None = None) -> bytes:
    """Lower-case 0x-hex of `size` bytes, nothing else: one value has one spelling. Raises ValueError saying what it is not.

    `bytes.fromhex` by itself skips white space and takes upper case; it is called here only."""
    if not _HEX.fullmatch(text):
        raise ValueError(f"{shown(text)} is not lower-case 0x-hex")
    data = bytes.fromhex(text[2:])
    if size is not None and len(data) != size:
        raise ValueError(f"has {len(data)} bytes where {size} are needed")
    return data


def parse(data: bytes, what: str) -> Node:
    """Raises Unusable naming line and column, or the offending key."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Unusable(what, f"byte {error.start} is not UTF-8") from None
    return parse_text(text, what)


def parse_text(text: str, what: str) -> Node:
    hooks = _Hooks(what)
    _refuse_deep(text, what)
    try:
        value = cast(
            "Json",
            json.loads(
                text,
                object_pairs_hook=hooks.pairs,
                parse_float=hooks.number,
                parse_constant=hooks.number,
                parse_int=hooks.integer,
            ),
        )
    except json.JSONDecodeError as error:
        end = " (the file seems to be cut off)" if error.pos >= len(text.rstrip()) else ""
        raise Unusable(f"{what} line {error.lineno} column {error.colno}", f"not JSON: {error.msg}{end}") from None
    _check_texts(value, what)
    return Node(value, what)


def _refuse_deep(text: str, what: str) -> None:
    """Before anything recurses over it: the interpreter's own limit may have been raised by whoever else is in the process, and then
    deep nesting ends the process instead of raising."""
    depth = 0
    for match in _BRACKETS.finditer(text):
        mark = match.group()[0]
        if mark in "[{":
            depth += 1
            if depth > MAX_DEPTH:
                raise Unusable(what, f"nested deeper than {MAX_DEPTH} levels")
        elif mark in "]}":
            depth -= 1


class _Hooks:
    """Called back by `json` while it parses."""

    def __init__(self, what: str) -> None:
        self._what = what

    def pairs(self, pairs: list[tuple[str, Json]]) -> dict[str, Json]:
        found: dict[str, Json] = {}
        for key, value in pairs:
            if key in found:
                raise Unusable(self._what, f"the key {shown(key)} stands twice in one object")
            self._check_text(key)
            found[key] = value
        return found

    def number(self, text: str) -> NoReturn:
        raise Unusable(self._what, f"{shown(text)} is not an integer; the format has no fractions")

    def integer(self, text: str) -> int:
        if len(text) > MAX_DIGITS or text == "-0":
            raise Unusable(self._what, f"{shown(text)} is not a plain 64-bit integer; larger ones are decimal strings")
        return int(text)

    def _check_text(self, text: str) -> None:
        if _SURROGATE.search(text):
            raise Unusable(self._what, f"{shown(text)} holds half a surrogate pair")


def _check_texts(value: Json, what: str) -> None:
    """Refuses strings that have no UTF-8 form, which `json` lets through."""
    level: list[Json] = [value]
    while level:
        deeper: list[Json] = []
        for item in level:
            if isinstance(item, dict):
                deeper.extend(item.values())
            elif isinstance(item, list):
                deeper.extend(item)
            elif isinstance(item, str) and _SURROGATE.search(item):
                raise Unusable(what, f"{shown(item)} holds half a surrogate pair")
        level = deeper


@dataclass(frozen=True, slots=True)
class Node:
    """A JSON value and its path. Every reader raises Unusable when the value is not what it reads."""

    value: Json
    path: str

    def fail(self, what: str) -> NoReturn:
        raise Unusable(self.path, what)

    def fields(self, *required: str, optional: tuple[str, ...] = ()) -> dict[str, Node]:
        """The fields of an object that has all of `required`, maybe some of `optional`, and nothing else."""
        if not isinstance(self.value, dict):
            self.fail(f"must be an object, not {_kind(self.value)}")
        for name in required:
            if name not in self.value:
                self.fail(f"the field {name} is missing")
        for name in self.value:
            if name not in required and name not in optional:
                self.fail(f"the field {shown(name)} is unknown")
        return {name: Node(value, f"{self.path}.{name}") for name, value in self.value.items()}

    def entries(self) -> dict[str, Node]:
        """An object whose keys are data."""
        if not isinstance(self.value, dict):
            self.fail(f"must be an object, not {_kind(self.value)}")
        return {key: Node(value, f"{self.path}[{shown(key)}]") for key, value in self.value.items()}

    def items(self) -> Iterator[Node]:
        if not isinstance(self.value, list):
            self.fail(f"must be a list, not {_kind(self.value)}")
        return (Node(value, f"{self.path}[{index}]") for index, value in enumerate(self.value))

    def get(self, name: str) -> Node:
        """One field of an object that may hold others, as a node's answers do. A missing one reads as null."""
        if not isinstance(self.value, dict):
            self.fail(f"must be an object, not {_kind(self.value)}")
        return Node(self.value.get(name), f"{self.path}.{name}")

    def is_null(self) -> bool:
        return self.value is None

    def text(self) -> str:
        if not isinstance(self.value, str):
            self.fail(f"must be a string, not {_kind(self.value)}")
        return self.value

    def flag(self) -> bool:
        if not isinstance(self.value, bool):
            self.fail(f"must be true or false, not {_kind(self.value)}")
        return self.value

    def integer(self, *, low: int = 0, high: int = (1 << 53)) -> int:
        """A JSON number."""
        if not isinstance(self.value, int) or isinstance(self.value, bool):
            self.fail(f"must be an integer, not {_kind(self.value)}")
        if not low <= self.value <= high:
            self.fail(f"{self.value} is outside {low} to {high}")
        return self.value

    def decimal(self, bits: int) -> int:
        """An unsigned integer as a canonical decimal string."""
        text = self.text()
        if not _DECIMAL.fullmatch(text) or (number := int(text)) >= 1 << bits:
            self.fail(f"{shown(text)} is not a decimal integer of {bits} bits")
        return number

    def hex(self, size: int | None = None) -> bytes:
        """Lower-case 0x-hex of `size` bytes."""
        text = self.text()
        try:
            return unhex(text, size)
        except ValueError as error:
            self.fail(str(error))

    def quantity(self, bits: int = 64) -> int:
        """An unsigned integer as JSON-RPC writes it: 0x-hex without leading zeros."""
        text = self.text()
        if not _QUANTITY.fullmatch(text) or (number := int(text, 16)) >= 1 << bits:
            self.fail(f"{shown(text)} is not a quantity of {bits} bits")
        return number


def _kind(value: Json) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true or false"
        case int():
            return "a number"
        case str():
            return "a string"
        case list():
            return "a list"
        case _:
            return "an object"
