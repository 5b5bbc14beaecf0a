"""Human-readable Solidity signatures. In: `event …`, `function …` or `packed(…)` text. Out: typed, canonicalised values.

The canonical form is what the chain hashes: `uint` is `uint256`, an enum `uint8`, a contract or interface `address`, a struct
the tuple of its fields. Names that are not Solidity's own must be declared (`Types`); guessing would give a wrong topic0.
`packed(…)` is our own word for data without selector, topics or padding, as in EIP-7002.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping

import msgspec

from domain import errors
from indexers.protocols import abitypes

_TOKEN = re.compile(r"\s*(?:(?P<word>[A-Za-z_$][\w$]*(?:\.[A-Za-z_$][\w$]*)*)|(?P<number>\d+)|(?P<mark>[()\[\]{},;]))")
_SIZED = re.compile(r"(uint|int|bytes)(\d+)\Z")
_LOCATIONS = ("memory", "calldata", "storage")
_ELEMENTARY = ("address", "bool", "string", "bytes", "uint", "int", "byte")
_VISIBILITY = ("external", "public", "virtual", "override")
_MUTABILITY = ("payable", "view", "pure", "nonpayable")
_MAX_DEPTH = (
    8  # nesting of tuples and arrays: real contracts use three; a bound keeps hostile text from exhausting the stack
)
_MAX_PACKED = 4096  # bytes of one packed field


class BadSignature(errors.BadConfig):
    """`position` counts characters of the signature from 1."""

    def __init__(self, what: str, *, position: int, cure: str = "", value: object = None) -> None:
        super().__init__(what, value=value, cure=cure)
        self.position = position

    def __str__(self) -> str:
        return f"{super().__str__()} (at character {self.position})"


class Types:
    """Declared names. Each value reads like Solidity: `enum { A, B }`, `struct { address a; uint256 b; }`, `interface`,
    `contract`, or the elementary type that a user-defined value type stands for (`uint256`)."""

    def __init__(self, declarations: Mapping[str, str] | None = None) -> None:
        self.declarations: dict[str, str] = dict(declarations or {})
        self._open: list[str] = []

    def __contains__(self, name: str) -> bool:
        return name in self.declarations

    def resolve(self, name: str) -> abitypes.Type:
        """Raises BadSignature, positioned in the declaration."""
        text = self.declarations[name]
        if name in self._open:
            raise BadSignature(f"struct {name} contains itself", position=1, cure="an ABI type must be finite")
        self._open.append(name)
        try:
            return self._read(name, text)
        finally:
            self._open.pop()

    def _read(self, name: str, text: str) -> abitypes.Type:
        reader = _Reader(text, self)
        if reader.skip("interface") or reader.skip("contract"):
            reader.end()
            return abitypes.Type("address", declared=name)
        if reader.skip("enum"):
            members = reader.members()
            reader.end()
            return abitypes.Type("uint", 8, declared=name, members=members)
        if reader.skip("struct"):
            fields = reader.fields()
            reader.end()
            return abitypes.Type("tuple", components=fields, declared=name)
        found = reader.type_(1)
        reader.end()
        return msgspec.structs.replace(found, declared=name)


def parse(text: str, types: Types | None = None) -> abitypes.Signature:
    """Read one signature. Raises BadSignature naming the character and the cure."""
    reader = _Reader(text, types or Types())
    kind = reader.word("`event`, `function` or `packed`")
    match kind:
        case "event":
            found = _event(reader)
        case "function":
            found = _function(reader)
        case "packed":
            found = _packed(reader)
        case _:
            raise BadSignature(
                f"a signature begins with event, function or packed, not {kind}",
                position=1,
                cure=f"write `event {text.strip()}`",
            )
    reader.skip(";")
    reader.end()
    return found


def type_of(text: str, types: Types | None = None, *, wide: bool = False) -> abitypes.Type:
    """Read one type, as in `uint256[]`. `wide` lets a bytesN be longer than a word, as packed fields are."""
    reader = _Reader(text, types or Types())
    sized = _SIZED.match(text)
    found = reader.packed_type() if wide and sized and sized[1] == "bytes" else reader.type_(1)
    reader.end()
    return found


def _event(reader: _Reader) -> abitypes.Signature:
    name = reader.word("the event's name")
    position = reader.position
    inputs = reader.params(indexed=True)
    if reader.skip("anonymous"):
        raise BadSignature(
            "an anonymous event has no topic to find it by",
            position=reader.position,
            cure="describe its data with `packed(…)`",
        )
    if sum(p.indexed for p in inputs) > 3:
        raise BadSignature("an event has at most three indexed parameters", position=position)
    return abitypes.Signature("event", name, inputs)


def _function(reader: _Reader) -> abitypes.Signature:
    name = reader.word("the function's name")
    inputs = reader.params()
    mutability = "nonpayable"
    while True:
        word = reader.peek()
        if word in _MUTABILITY:
            mutability = word
        elif word not in _VISIBILITY:
            break
        reader.take()
    return abitypes.Signature("function", name, inputs, reader.returns(), mutability)


def _packed(reader: _Reader) -> abitypes.Signature:
    inputs = reader.params(packed=True)
    mutability = "payable" if reader.skip("payable") else "view" if reader.skip("view") else "nonpayable"
    return abitypes.Signature("packed", "packed", inputs, reader.returns(packed=True), mutability)


class _Reader:
    """A cursor over the tokens of one signature."""

    def __init__(self, text: str, types: Types) -> None:
        self._text = text
        self._types = types
        self._tokens: list[tuple[str, int]] = []
        self._next = 0
        at = 0
        end = len(text.rstrip())
        while at < end:
            match = _TOKEN.match(text, at)
            if match is None:
                at += len(text[at:]) - len(text[at:].lstrip())
                raise BadSignature(f"{text[at]!r} has no place in a signature", position=at + 1, cure="remove it")
            start = match.start(match.lastgroup or 0)
            self._tokens.append((text[start : match.end()], start + 1))
            at = match.end()

    @property
    def position(self) -> int:
        return self._tokens[self._next][1] if self._next < len(self._tokens) else len(self._text) + 1

    def peek(self) -> str:
        return self._tokens[self._next][0] if self._next < len(self._tokens) else ""

    def take(self) -> str:
        found = self.peek()
        self._next += 1
        return found

    def skip(self, token: str) -> bool:
        if self.peek() == token:
            self._next += 1
            return True
        return False

    def expect(self, token: str) -> None:
        if not self.skip(token):
            raise BadSignature(
                f"{self.peek() or 'the end'} stands where `{token}` is needed",
                position=self.position,
                cure=f"add `{token}`",
            )

    def word(self, what: str) -> str:
        if not re.match(r"[A-Za-z_$]", self.peek()):
            raise BadSignature(f"{self.peek() or 'the end'} stands where {what} is needed", position=self.position)
        return self.take()

    def end(self) -> None:
        if self.peek():
            raise BadSignature(f"{self.peek()} follows the end", position=self.position, cure="remove it")

    def returns(self, *, packed: bool = False) -> tuple[abitypes.Param, ...]:
        return self.params(packed=packed) if self.skip("returns") else ()

    def params(self, *, indexed: bool = False, packed: bool = False, depth: int = 1) -> tuple[abitypes.Param, ...]:
        self.expect("(")
        found: list[abitypes.Param] = []
        while not self.skip(")"):
            if found:
                self.expect(",")
            found.append(self._param(len(found), indexed=indexed, packed=packed, depth=depth))
        return _distinct(found, self.position)

    def _param(self, index: int, *, indexed: bool, packed: bool, depth: int) -> abitypes.Param:
        position = self.position
        type_ = self.packed_type() if packed else self.type_(depth)
        is_indexed = False
        while self.peek() in _LOCATIONS or self.peek() == "indexed":
            if self.peek() == "indexed":
                if not indexed:
                    raise BadSignature(
                        "only an event's own parameters are indexed", position=self.position, cure="remove `indexed`"
                    )
                is_indexed = True
            self.take()
        name = self.take() if re.match(r"[A-Za-z_$]", self.peek()) else f"arg{index}"
        if "." in name:
            raise BadSignature(f"{name} is no parameter name", position=position)
        return abitypes.Param(name, type_, is_indexed)

    def packed_type(self) -> abitypes.Type:
        """Packed fields have no padding, so bytesN may be any length; nothing dynamic has a place."""
        position = self.position
        text = self.word("a type")
        sized = _SIZED.match(text)
        if sized and sized[1] == "bytes" and 1 <= int(sized[2]) <= _MAX_PACKED:
            return abitypes.Type("fixed", int(sized[2]))
        type_ = _elementary(text, position) if text in _ELEMENTARY or sized else None
        if type_ is None or type_.kind not in ("uint", "address"):
            raise BadSignature(
                f"{text} has no packed form", position=position, cure="packed fields are address, uintN and bytesN"
            )
        return type_

    def type_(self, depth: int) -> abitypes.Type:
        if depth > _MAX_DEPTH:
            raise BadSignature(f"types nest deeper than {_MAX_DEPTH}", position=self.position)
        type_ = self._base(depth)
        while self.skip("["):
            depth += 1
            if depth > _MAX_DEPTH:
                raise BadSignature(f"types nest deeper than {_MAX_DEPTH}", position=self.position)
            length: int | None = None
            if self.peek() != "]":
                if not self.peek().isdecimal() or not 1 <= int(self.peek()) <= 1 << 16:
                    raise BadSignature(
                        "an array's length is a number from 1 to 65536", position=self.position, value=self.peek()
                    )
                length = int(self.take())
            self.expect("]")
            type_ = abitypes.Type("array", element=type_, length=length)
        return type_

    def _base(self, depth: int) -> abitypes.Type:
        position = self.position
        if self.peek() == "(":
            return self._tuple(depth, position)
        text = self.word("a type")
        if text == "tuple" and self.peek() == "(":
            return self._tuple(depth, position)
        if text in _ELEMENTARY or _SIZED.match(text):
            type_ = _elementary(text, position)
            if type_.kind == "address":
                self.skip("payable")
            return type_
        if text in self._types:
            return self._types.resolve(text)
        near = difflib.get_close_matches(text, [*_ELEMENTARY, "uint256", "bytes32", *self._types.declarations], n=1)
        raise BadSignature(
            f"{text} is no Solidity type and is not declared",
            position=position,
            cure=f"did you mean {near[0]}?" if near else f'declare it under [types], as in {text} = "interface"',
        )

    def _tuple(self, depth: int, position: int) -> abitypes.Type:
        components = self.params(depth=depth + 1)
        if not components:
            raise BadSignature("a tuple has at least one component", position=position)
        return abitypes.Type("tuple", components=components)

    def members(self) -> int:
        self.expect("{")
        names: list[str] = []
        while not self.skip("}"):
            if names:
                self.expect(",")
            names.append(self.word("an enum member"))
        if not 1 <= len(names) <= 256 or len(set(names)) != len(names):
            raise BadSignature("an enum has 1 to 256 distinct members", position=1)
        return len(names)

    def fields(self) -> tuple[abitypes.Param, ...]:
        self.expect("{")
        found: list[abitypes.Param] = []
        while not self.skip("}"):
            type_ = self.type_(2)
            found.append(abitypes.Param(self.word("a field's name"), type_))
            self.expect(";")
        if not found:
            raise BadSignature("a struct has at least one field", position=1)
        return _distinct(found, self.position)


def _distinct(params: list[abitypes.Param], position: int) -> tuple[abitypes.Param, ...]:
    names = [p.name for p in params]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise BadSignature(
            f"two parameters are called {twice}", position=position, cure="rename one: names are ours, not the chain's"
        )
    return tuple(params)


def _elementary(text: str, position: int) -> abitypes.Type:
    match text:
        case "address" | "bool" | "string" | "bytes":
            return abitypes.Type(text)
        case "uint" | "int":
            return abitypes.Type(text, 256)
        case "byte":
            return abitypes.Type("fixed", 1)
        case _:
            sized = _SIZED.match(text)
            base, digits = sized.groups() if sized else (text, "0")
            size = int(digits) if len(digits) <= 4 and not digits.startswith("0") else 0
            if base == "bytes" and 1 <= size <= 32:
                return abitypes.Type("fixed", size)
            if base != "bytes" and size % 8 == 0 and 8 <= size <= 256:
                return abitypes.Type(base, size)
            raise BadSignature(
                f"{text} is no Solidity type",
                position=position,
                cure="bytes1 to bytes32" if base == "bytes" else f"{base}8 to {base}256 in steps of 8",
            )
