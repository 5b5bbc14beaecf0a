"""Human-readable Solidity signatures. In: `event …`, `function …` or `packed(…)` text. Out: typed, canonicalised values.

The canonical form is what the chain hashes: `uint` is `uint256`, an enum `uint8`, a contract or interface `address`, a struct
the tuple of its fields. Names that are not Solidity's own must be declared (`Types`); guessing would give a wrong topic0.
`packed(…)` is our own word for data without selector, topics or padding, as in EIP-7002.
"""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Mapping

import msgspec

from domain import errors, hashing

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


class Type(msgspec.Struct, frozen=True):
    """One ABI type. `kind` is uint, int, address, bool, fixed (bytesN), bytes, string, tuple or array.

    `size` is in bits for integers, in bytes for `fixed`; `length` is an array's, None when dynamic. `declared` is the name the
    signature used for an enum, struct, contract or value type; `members` counts an enum's, 0 for everything else.
    """

    kind: str
    size: int = 0
    components: tuple[Param, ...] = ()
    element: Type | None = None
    length: int | None = None
    declared: str = ""
    members: int = 0

    @property
    def canonical(self) -> str:
        match self.kind:
            case "uint" | "int":
                return f"{self.kind}{self.size}"
            case "fixed":
                return f"bytes{self.size}"
            case "tuple":
                return f"({','.join(c.type.canonical for c in self.components)})"
            case "array":
                return f"{self.item.canonical}[{'' if self.length is None else self.length}]"
            case _:
                return self.kind

    @property
    def item(self) -> Type:
        """An array's element type."""
        if self.element is None:
            raise ValueError(f"{self.kind} has no elements")
        return self.element

    @property
    def dynamic(self) -> bool:
        """Whether the ABI puts an offset in the head and the value in the tail."""
        match self.kind:
            case "bytes" | "string":
                return True
            case "tuple":
                return any(c.type.dynamic for c in self.components)
            case "array":
                return self.length is None or self.item.dynamic
            case _:
                return False

    @property
    def words(self) -> int:
        """Words the type takes in the head: 1 when dynamic."""
        if self.dynamic:
            return 1
        match self.kind:
            case "tuple":
                return sum(c.type.words for c in self.components)
            case "array":
                return (self.length or 0) * self.item.words
            case _:
                return 1

    @property
    def value(self) -> bool:
        """Whether an indexed one is stored in its topic as itself; the others leave only a hash."""
        return self.kind not in ("bytes", "string", "tuple", "array")


class Param(msgspec.Struct, frozen=True):
    """An unnamed parameter is called `arg` and its index from 0."""

    name: str
    type: Type
    indexed: bool = False


class Signature(msgspec.Struct, frozen=True):
    """`kind` is event, function or packed; `mutability` a function's."""

    kind: str
    name: str
    inputs: tuple[Param, ...]
    outputs: tuple[Param, ...] = ()
    mutability: str = "nonpayable"

    @property
    def canonical(self) -> str:
        """`Transfer(address,address,uint256)`."""
        return f"{self.name}({','.join(p.type.canonical for p in self.inputs)})"

    @property
    def topic0(self) -> bytes:
        """keccak256 of the canonical form; only an event has one."""
        if self.kind != "event":
            raise ValueError(f"a {self.kind} has no topic")
        return hashing.keccak256(self.canonical.encode())

    @property
    def selector(self) -> bytes:
        """The first four bytes of calldata; only a function has them."""
        if self.kind != "function":
            raise ValueError(f"a {self.kind} has no selector")
        return hashing.keccak256(self.canonical.encode())[:4]

    def input(self, name: str) -> Param | None:
        return next((p for p in self.inputs if p.name == name), None)


class Types:
    """Declared names. Each value reads like Solidity: `enum { A, B }`, `struct { address a; uint256 b; }`, `interface`,
    `contract`, or the elementary type that a user-defined value type stands for (`uint256`)."""

    def __init__(self, declarations: Mapping[str, str] | None = None) -> None:
        self.declarations: dict[str, str] = dict(declarations or {})
        self._open: list[str] = []

    def __contains__(self, name: str) -> bool:
        return name in self.declarations

    def resolve(self, name: str) -> Type:
        """Raises BadSignature, positioned in the declaration."""
        text = self.declarations[name]
        if name in self._open:
            raise BadSignature(f"struct {name} contains itself", position=1, cure="an ABI type must be finite")
        self._open.append(name)
        try:
            return self._read(name, text)
        finally:
            self._open.pop()

    def _read(self, name: str, text: str) -> Type:
        reader = _Reader(text, self)
        if reader.skip("interface") or reader.skip("contract"):
            reader.end()
            return Type("address", declared=name)
        if reader.skip("enum"):
            members = reader.members()
            reader.end()
            return Type("uint", 8, declared=name, members=members)
        if reader.skip("struct"):
            fields = reader.fields()
            reader.end()
            return Type("tuple", components=fields, declared=name)
        found = reader.type_(1)
        reader.end()
        return msgspec.structs.replace(found, declared=name)


def parse(text: str, types: Types | None = None) -> Signature:
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


def type_of(text: str, types: Types | None = None) -> Type:
    """Read one type, as in `uint256[]`."""
    reader = _Reader(text, types or Types())
    found = reader.type_(1)
    reader.end()
    return found


def resolve(params: tuple[Param, ...], path: str) -> Type | None:
    """The type at a path like `withdrawal.staker` or `amounts[0]`; None when there is none."""
    try:
        parts = steps(path)
    except ValueError:
        return None
    type_: Type | None = None
    scope = params
    for part in parts:
        if isinstance(part, int):
            if type_ is None or type_.kind != "array" or (type_.length is not None and part >= type_.length):
                return None
            type_ = type_.item
        else:
            type_ = next((p.type for p in scope if p.name == part), None)
            if type_ is None:
                return None
        scope = type_.components
    return type_


def steps(path: str) -> tuple[str | int, ...]:
    """`a.b[0]` as ("a", "b", 0). Raises ValueError for anything else."""
    found: list[str | int] = []
    for part in path.split("."):
        match = re.fullmatch(r"([A-Za-z_$][\w$]*)((?:\[\d{1,6}\])*)", part)
        if match is None:
            raise ValueError(path)
        found.append(match[1])
        found.extend(int(index) for index in re.findall(r"\d+", match[2]))
    return tuple(found)


def _event(reader: _Reader) -> Signature:
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
    return Signature("event", name, inputs)


def _function(reader: _Reader) -> Signature:
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
    return Signature("function", name, inputs, reader.returns(), mutability)


def _packed(reader: _Reader) -> Signature:
    inputs = reader.params(packed=True)
    mutability = "payable" if reader.skip("payable") else "view" if reader.skip("view") else "nonpayable"
    return Signature("packed", "packed", inputs, reader.returns(packed=True), mutability)


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

    def returns(self, *, packed: bool = False) -> tuple[Param, ...]:
        return self.params(packed=packed) if self.skip("returns") else ()

    def params(self, *, indexed: bool = False, packed: bool = False, depth: int = 1) -> tuple[Param, ...]:
        self.expect("(")
        found: list[Param] = []
        while not self.skip(")"):
            if found:
                self.expect(",")
            found.append(self._param(len(found), indexed=indexed, packed=packed, depth=depth))
        return _distinct(found, self.position)

    def _param(self, index: int, *, indexed: bool, packed: bool, depth: int) -> Param:
        position = self.position
        type_ = self._packed_type() if packed else self.type_(depth)
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
        return Param(name, type_, is_indexed)

    def _packed_type(self) -> Type:
        """Packed fields have no padding, so bytesN may be any length; nothing dynamic has a place."""
        position = self.position
        text = self.word("a type")
        sized = _SIZED.match(text)
        if sized and sized[1] == "bytes" and 1 <= int(sized[2]) <= _MAX_PACKED:
            return Type("fixed", int(sized[2]))
        type_ = _elementary(text, position) if text in _ELEMENTARY or sized else None
        if type_ is None or type_.kind not in ("uint", "address"):
            raise BadSignature(
                f"{text} has no packed form", position=position, cure="packed fields are address, uintN and bytesN"
            )
        return type_

    def type_(self, depth: int) -> Type:
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
            type_ = Type("array", element=type_, length=length)
        return type_

    def _base(self, depth: int) -> Type:
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

    def _tuple(self, depth: int, position: int) -> Type:
        components = self.params(depth=depth + 1)
        if not components:
            raise BadSignature("a tuple has at least one component", position=position)
        return Type("tuple", components=components)

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

    def fields(self) -> tuple[Param, ...]:
        self.expect("{")
        found: list[Param] = []
        while not self.skip("}"):
            type_ = self.type_(2)
            found.append(Param(self.word("a field's name"), type_))
            self.expect(";")
        if not found:
            raise BadSignature("a struct has at least one field", position=1)
        return _distinct(found, self.position)


def _distinct(params: list[Param], position: int) -> tuple[Param, ...]:
    names = [p.name for p in params]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise BadSignature(
            f"two parameters are called {twice}", position=position, cure="rename one: names are ours, not the chain's"
        )
    return tuple(params)


@functools.lru_cache(maxsize=512)
def _elementary(text: str, position: int) -> Type:
    match text:
        case "address" | "bool" | "string" | "bytes":
            return Type(text)
        case "uint" | "int":
            return Type(text, 256)
        case "byte":
            return Type("fixed", 1)
        case _:
            sized = _SIZED.match(text)
            base, digits = sized.groups() if sized else (text, "0")
            size = int(digits) if len(digits) <= 4 and not digits.startswith("0") else 0
            if base == "bytes" and 1 <= size <= 32:
                return Type("fixed", size)
            if base != "bytes" and size % 8 == 0 and 8 <= size <= 256:
                return Type(base, size)
            raise BadSignature(
                f"{text} is no Solidity type",
                position=position,
                cure="bytes1 to bytes32" if base == "bytes" else f"{base}8 to {base}256 in steps of 8",
            )
