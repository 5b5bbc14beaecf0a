"""What the verifier found. In: findings in the order they were made. Out: lines for people, JSON for machines, an exit code.

0: everything that was checked holds. 1: something differs, and the first difference is named. 2: the input cannot be checked
(unreadable file, unknown format, a node that does not answer).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

Status = Literal["ok", "difference", "unusable", "skipped", "note"]

SHOWN = 400
"""Longest value shown: a hostile file must not fill the terminal."""


class Unusable(Exception):
    """The input cannot be checked: `where` it is broken and `what` is wrong there."""

    def __init__(self, where: str, what: str) -> None:
        self.where = where
        self.what = what
        super().__init__(f"{where}: {what}")


class Difference(Exception):
    """Two things that must be equal are not. `where` names the place, `expected` is what the verifier derived."""

    def __init__(self, where: str, what: str, *, expected: object = None, got: object = None) -> None:
        self.where = where
        self.what = what
        self.expected = None if expected is None else shown(expected)
        self.got = None if got is None else shown(got)
        super().__init__(f"{where}: {what}")


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report. `check` names the stage."""

    status: Status
    check: str
    text: str
    where: str = ""
    expected: str | None = None
    got: str | None = None

    def lines(self) -> Iterator[str]:
        place = f"{self.where}: " if self.where else ""
        yield f"  {_MARK[self.status]} {self.check:<12} {place}{self.text}"
        if self.expected is not None:
            yield f"       {'':<12} expected {self.expected}"
        if self.got is not None:
            yield f"       {'':<12} got      {self.got}"

    def to_json(self) -> dict[str, str | None]:
        return {
            "status": self.status,
            "check": self.check,
            "where": self.where,
            "text": self.text,
            "expected": self.expected,
            "got": self.got,
        }


_MARK: dict[Status, str] = {"ok": "ok  ", "difference": "DIFF", "unusable": "FAIL", "skipped": "skip", "note": "note"}


@dataclass(slots=True)
class Report:
    """`findings` in the order of the checks: the first difference is the one to look at."""

    file: str
    subject: str = ""
    findings: list[Finding] = field(default_factory=list[Finding])

    @property
    def first_difference(self) -> Finding | None:
        return next((f for f in self.findings if f.status == "difference"), None)

    @property
    def unusable(self) -> Finding | None:
        return next((f for f in self.findings if f.status == "unusable"), None)

    @property
    def exit_code(self) -> int:
        if self.first_difference is not None:
            return 1
        return 2 if self.unusable is not None or not self.findings else 0

    def lines(self) -> list[str]:
        head = f"{shown(self.file, quote=False)}: {self.subject}" if self.subject else shown(self.file, quote=False)
        body = [line for finding in self.findings for line in finding.lines()]
        return [head, *body, self._verdict()]

    def _verdict(self) -> str:
        first = self.first_difference
        if first is not None:
            return f"DIFFERENT: {first.check}, {first.where or 'statement'}: {first.text}"
        if self.exit_code == 2:
            wrong = self.unusable
            why = "" if wrong is None else f" ({wrong.check}: {wrong.text})"
            return f"NOT CHECKED: the input could not be used{why}"
        return "VERIFIED: everything that was checked holds"

    def to_json(self) -> dict[str, object]:
        first = self.first_difference
        return {
            "file": self.file,
            "statement": self.subject,
            "ok": self.exit_code == 0,
            "exit_code": self.exit_code,
            "first_difference": None if first is None else first.to_json(),
            "findings": [finding.to_json() for finding in self.findings],
        }


def counted(count: int, thing: str, things: str = "") -> str:
    return f"{count} {thing}" if count == 1 else f"{count} {things or f'{thing}s'}"


def shown(value: object, *, quote: bool = True) -> str:
    """A hostile value as one bounded, printable line; bytes as 0x-hex."""
    if isinstance(value, bytes):
        text = "0x" + value.hex()
    elif isinstance(value, str):
        escaped = value.encode("unicode_escape").decode("ascii")
        text = f'"{escaped}"' if quote else escaped
    else:
        text = str(value).encode("unicode_escape").decode("ascii")
    return text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"
