"""TOML into typed values. In: a file, an environment and a struct type. Out: the value, or BadConfig with line, key and nearest name."""

from __future__ import annotations

import difflib
import re
import tomllib
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, TypeVar, Union, cast, get_args, get_origin

import msgspec

from config import sections
from domain import errors

MAX_BYTES = 1 << 20
"""No settings file or deployment document is near a mebibyte; something else was named by mistake."""
PREFIX = "STAKESIDE_"

T = TypeVar("T", bound=msgspec.Struct)


class Source(msgspec.Struct):
    """A parsed file with its text, so that a complaint can name the line."""

    path: Path
    text: str
    table: dict[str, object]

    def line(self, key: str) -> str:
        """` (file.toml, line N)` for the first line that sets or opens `key`, or just the file."""
        last = key.rpartition(".")[2]
        pattern = re.compile(rf"^\s*(?:\[+\s*)?(?:[\w.\-]+\.)?{re.escape(last)}\s*(?:=|\]|\.)", re.MULTILINE)
        match = pattern.search(self.text)
        where = "" if match is None else f", line {self.text.count(chr(10), 0, match.end()) + 1}"
        return f" ({self.path.name}{where})"


def read(path: Path) -> Source:
    """Raises BadConfig when the file is missing, unreadable, too large, not UTF-8 or not TOML."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise errors.BadConfig(
            f"cannot read the file: {error.strerror}", value=str(path), cure="check the path and its permissions"
        ) from None
    if len(data) > MAX_BYTES:
        raise errors.BadConfig("the file is too large for settings", value=str(path), cure=f"at most {MAX_BYTES} bytes")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise errors.BadConfig(f"{path.name} is not UTF-8 text (byte {error.start})", cure="save it as UTF-8") from None
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise errors.BadConfig(
            f"{path.name} is not valid TOML: {_with_line(str(error), text)}",
            cure="is the file cut off or a quote missing?",
        ) from None
    for key, value in _strings(table, ""):
        if "\0" in value:
            raise errors.BadConfig(f"{key} contains a NUL byte", value=value, cure="remove it")
    return Source(path, text, table)


def _with_line(message: str, text: str) -> str:
    """tomllib says "at end of document" where an editor wants a line."""
    if "line" in message:
        return message
    return f"{message} (line {max(1, len(text.splitlines()))})"


def _strings(value: object, key: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, dict):
        for name, item in cast("dict[str, object]", value).items():
            yield from _strings(name, f"{key}.{name}".strip("."))
            yield from _strings(item, f"{key}.{name}".strip("."))
    elif isinstance(value, list):
        for item in cast("list[object]", value):
            yield from _strings(item, key)


def override(source: Source, env: Mapping[str, str], type_: type[msgspec.Struct]) -> None:
    """Put `STAKESIDE_<SECTION>__<KEY>` over the file's values. Names without `__` are not settings and are left alone."""
    sections = _fields(type_)
    for variable in sorted(env):
        if not variable.startswith(PREFIX) or "__" not in variable:
            continue
        name, _, key = variable.removeprefix(PREFIX).lower().partition("__")
        if name not in sections:
            raise errors.BadConfig(f"{variable} names no section", value=name, cure=_nearest(name, sections))
        table = source.table.setdefault(name, {})
        if not isinstance(table, dict):
            raise errors.BadConfig(
                f"{variable} cannot override a list of tables", cure=f"change [[{name}]] in the file"
            )
        struct = _struct(sections[name])
        known = {} if struct is None else _fields(struct)
        if struct is not None and key not in known:
            raise errors.BadConfig(f"{variable} names no key of [{name}]", value=key, cure=_nearest(key, known))
        cast("dict[str, object]", table)[key] = _parse(env[variable], known.get(key, str), variable)


def _parse(text: str, type_: object, variable: str) -> object:
    try:
        return msgspec.convert(text, type_, strict=False, dec_hook=_decode)
    except msgspec.ValidationError as error:
        raise errors.BadConfig(f"{variable}: {_worded(str(error))}", value=text) from None


def _decode(type_: type, value: object) -> object:
    """What TOML has no form for: paths. A table of signer settings stays as it is."""
    if type_ is object or (type_ is Path and isinstance(value, Path)):
        return value  # an override has become a path already
    if type_ is Path and isinstance(value, str) and value:
        return Path(value)
    raise ValueError("Expected a path")


def convert(source: Source, type_: type[T]) -> T:
    """The whole table as `type_`. Raises BadConfig for unknown keys, missing keys and wrong values."""
    _refuse_unknown(source, source.table, type_, "")
    try:
        return msgspec.convert(source.table, type_, dec_hook=_decode)
    except msgspec.ValidationError as error:
        message, _, place = str(error).partition(" - at `$")
        key = re.sub(r"\[\.\.\.\]|\[(\d+)\]", r".\1", place.rstrip("`")).strip(".").replace("..", ".")
        found = _at(source.table, key)
        raise errors.BadConfig(
            f"{key or 'the file'}: {_worded(message)}{source.line(key) if key else f' ({source.path.name})'}",
            value=found,
        ) from None


def _refuse_unknown(source: Source, table: Mapping[str, object], type_: type[msgspec.Struct], prefix: str) -> None:
    known = _fields(type_)
    for key, value in table.items():
        if key not in known:
            full = f"{prefix}{key}"
            raise errors.BadConfig(f"unknown key {full}{source.line(full)}", cure=_nearest(key, known))
        struct = _struct(known[key])
        if struct is None:
            continue
        items = cast("list[object]", value) if isinstance(value, list) else [value]
        for item in items:
            if isinstance(item, dict):
                _refuse_unknown(source, cast("dict[str, object]", item), struct, f"{prefix}{key}.")


def _fields(type_: type[msgspec.Struct]) -> dict[str, object]:
    return {field.encode_name: field.type for field in msgspec.structs.fields(type_)}


def _struct(type_: object) -> type[msgspec.Struct] | None:
    """The struct inside `Struct`, `Struct | None`, `tuple[Struct, ...]` or an annotation of those."""
    if isinstance(type_, type) and issubclass(type_, msgspec.Struct):
        return type_
    if get_origin(type_) in (Union, types.UnionType, tuple, Annotated):
        for part in get_args(type_):
            if (found := _struct(part)) is not None:
                return found
    return None


def _nearest(name: str, known: Mapping[str, object]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"did you mean {near[0]}?" if near else f"known here: {', '.join(sorted(known))}"


def _worded(message: str) -> str:
    """msgspec's message for people: a pattern they know nothing of in words."""
    for pattern, words in sections.WORDS.items():
        message = message.replace(f"`str` matching regex {pattern!r}", words)
    return message[:1].lower() + message[1:]


def _at(table: object, key: str) -> object:
    """The offending value, when the path leads to one that may be shown."""
    for part in key.split(".") if key else []:
        if isinstance(table, dict):
            table = cast("dict[str, object]", table).get(part)
        elif isinstance(table, list) and part.isdecimal():
            table = cast("list[object]", table)[int(part)]
        else:
            return None
    return table if isinstance(table, str | int | float | bool) else None
