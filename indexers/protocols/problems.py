"""Reading a manifest's text and collecting what is wrong with it. In: TOML text. Out: a table of the grammar, or problems.

A problem names the line, what is wrong and what to write instead. All are collected, so an author mends a file in one round.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Collection
from typing import TypeVar, cast

import msgspec

from domain import errors
from indexers.protocols import abitypes, expressions, grammar, places, signatures

T = TypeVar("T", bound=grammar.Table)
Path = places.Path

ACTION = expressions.Scope("action")
POSITION = expressions.Scope("position")
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


class Problem(msgspec.Struct, frozen=True, order=True):
    line: int
    what: str
    cure: str = ""

    def __str__(self) -> str:
        return f"line {self.line}: {self.what}{'; ' + self.cure if self.cure else ''}"


def parse(text: str, type_: type[T]) -> tuple[T | None, places.Places, list[Problem]]:
    """TOML to one table of the grammar, or the reasons why not."""
    try:
        data: dict[str, object] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"line (\d+)", str(error))
        line = int(found[1]) if found else max(1, text.count("\n"))
        return None, places.Places(""), [Problem(line, f"this is not TOML: {error}", "see toml.io for the notation")]
    lines = places.Places(text)
    unknown = [
        Problem(lines.line(u.path), f"{dotted(u.path)} is no key of the grammar", u.cure)
        for u in grammar.unknown_keys(data, type_)
    ]
    if unknown:
        return None, lines, unknown
    try:
        return msgspec.convert(data, type_), lines, []
    except msgspec.ValidationError as error:
        what, _, where = str(error).partition(" - at `$")
        path = _path(where.rstrip("`"))
        return None, lines, [Problem(lines.line(path), f"{dotted(path) or 'the file'}: {what}")]


class Report:
    """A document under examination: what it declares, as far as it could be read, and the problems so far.

    `emitters` tells which contract each event comes from."""

    def __init__(self, document: grammar.Document, lines: places.Places) -> None:
        self.document = document
        self.lines = lines
        self.problems: list[Problem] = []
        self.types = signatures.Types(document.types)
        self.emitters: dict[str, str] = {}
        self.names = expressions.Names({}, {}, {}, {}, {}, {}, "native")

    def add(self, path: Path, what: str, cure: str = "") -> None:
        self.problems.append(Problem(self.lines.line(path), f"{dotted(path)}: {what}", cure))

    def wrong(self, path: Path, error: errors.StakesideError) -> None:
        shown = f" (at character {error.position})" if isinstance(error, signatures.BadSignature) else ""
        value = "" if error.value is None else f" (value: {errors.clip(error.value)})"
        self.add(path, f"{error.what}{value}{shown}", error.cure)

    def known(self, path: Path, name: str, known: Collection[str], what: str) -> bool:
        if name in known:
            return True
        self.add(path, f"there is no {what} {name}".rstrip(), grammar.nearest(name, known))
        return False

    def type_(self, path: Path, text: str, *, wide: bool = False) -> abitypes.Type | None:
        try:
            return signatures.type_of(text, self.types, wide=wide)
        except signatures.BadSignature as error:
            self.wrong(path, error)
            return None

    def signature(self, path: Path, text: str, kinds: tuple[str, ...]) -> abitypes.Signature | None:
        try:
            found = signatures.parse(text, self.types)
        except signatures.BadSignature as error:
            self.wrong(path, error)
            return None
        if found.kind not in kinds:
            self.add(path, f"this is a {found.kind}", f"a signature here begins with {' or '.join(kinds)}")
            return None
        return found

    def field(self, path: Path, event: str, field: str, want: abitypes.Type | None) -> abitypes.Type | None:
        """The type of a log's field, which must be readable and fit."""
        scope = expressions.Scope("action")
        try:
            have = self.names.type_of(f"event.{event}.{field}", scope)
        except expressions.Wrong as error:
            self.wrong(path, error)
            return None
        if want is not None and not expressions.fits(have, want):
            self.add(path, f"{field} is {have.canonical}, which does not fit", "choose another field")
            return None
        return have

    def expression(self, path: Path, value: object, want: abitypes.Type, scope: expressions.Scope) -> None:
        try:
            self.names.check(value, want, scope)
        except expressions.Wrong as error:
            self.wrong(path, error)


def _path(where: str) -> Path:
    """msgspec's `.events[0].amount` as a path."""
    parts = cast("list[tuple[str, str]]", re.findall(r"\.([^.\[\]]+)|\[(\d+|\.\.\.)\]", where))
    return tuple(int(index) if index.isdecimal() else name for name, index in parts if name or index.isdecimal())


def dotted(path: Path) -> str:
    """A path as an author would say it; items of a list count from 1."""
    return "".join(f"[{p + 1}]" if isinstance(p, int) else f".{p}" for p in path).lstrip(".")
