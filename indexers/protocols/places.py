"""Where a key stands in a TOML text. In: the text that `tomllib` parsed. Out: the line of each path.

tomllib keeps no positions, so this reads the text a second time, just far enough to follow tables, keys and brackets. It is only
asked about texts that tomllib accepted; for a path it cannot place exactly it answers with the nearest one that encloses it.
"""

from __future__ import annotations

import re

Path = tuple[str | int, ...]

_KEY = re.compile(
    r"""\s*((?:[A-Za-z0-9_-]+|"(?:[^"\\]|\\.)*"|'[^']*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+|"(?:[^"\\]|\\.)*"|'[^']*'))*)\s*="""
)
_PART = re.compile(r"""[A-Za-z0-9_-]+|"(?:[^"\\]|\\.)*"|'[^']*'""")
_TABLE = re.compile(r"\s*(\[\[?)\s*(.+?)\s*\]\]?\s*(?:#.*)?$")


class Places:
    """`line(path)` counts from 1."""

    def __init__(self, text: str) -> None:
        self._lines: dict[Path, int] = {(): 1}
        self._counts: dict[Path, int] = {}
        self._scan(text)

    def line(self, path: Path) -> int:
        while path not in self._lines:
            path = path[:-1]
        return self._lines[path]

    def _scan(self, text: str) -> None:
        table: Path = ()
        owner: Path = ()
        state = _Brackets()
        for number, line in enumerate(text.splitlines(), 1):
            if state.open:
                self._inline(line, owner, number)
                state.feed(line)
                continue
            header = _TABLE.match(line)
            key = None if header else _KEY.match(line)
            if header:
                table = self._header(_parts(header[2]), array=header[1] == "[[")
                self._put(table, number)
            elif key:
                owner = table + _parts(key[1])
                self._put(owner, number)
                self._inline(line[key.end() :], owner, number)
                state.feed(line[key.end() :])

    def _header(self, parts: Path, *, array: bool) -> Path:
        """The real path of a header: a name that is an array of tables means its last one."""
        path: Path = ()
        for index, part in enumerate(parts):
            path = (*path, part)
            if array and index == len(parts) - 1:
                self._counts[path] = self._counts.get(path, -1) + 1
            if path in self._counts:
                path = (*path, self._counts[path])
        return path

    def _put(self, path: Path, number: int) -> None:
        for length in range(1, len(path) + 1):
            self._lines.setdefault(path[:length], number)

    def _inline(self, line: str, owner: Path, number: int) -> None:
        """Keys of inline tables, by name only: enough to point at the right line."""
        for match in re.finditer(r"""(?:^|[{,])\s*([A-Za-z0-9_-]+)\s*=""", line):
            self._lines.setdefault((*owner, match[1]), number)


class _Brackets:
    """Follows brackets and strings over lines, to know whether a value goes on."""

    def __init__(self) -> None:
        self._depth = 0
        self._quote = ""

    @property
    def open(self) -> bool:
        return self._depth > 0 or bool(self._quote)

    def feed(self, line: str) -> None:
        at = 0
        while at < len(line):
            at += self._in_string(line, at) if self._quote else self._outside(line, at)
        if len(self._quote) == 1:
            self._quote = ""

    def _in_string(self, line: str, at: int) -> int:
        if line[at] == "\\" and self._quote.startswith('"'):
            return 2
        if line.startswith(self._quote, at):
            size = len(self._quote)
            self._quote = ""
            return size
        return 1

    def _outside(self, line: str, at: int) -> int:
        char = line[at]
        if char == "#":
            return len(line)
        if char in "\"'":
            self._quote = char * 3 if line.startswith(char * 3, at) else char
            return len(self._quote)
        self._depth += (char in "[{") - (char in "]}")
        return 1


def _parts(text: str) -> Path:
    return tuple(part.strip("\"'") for part in _PART.findall(text))
