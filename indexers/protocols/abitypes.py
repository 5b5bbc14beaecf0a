"""ABI types, parameters and signatures as values. In: what `signatures` read. Out: canonical forms, topics, selectors, sizes."""

from __future__ import annotations

import re

import msgspec

from domain import hashing


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
