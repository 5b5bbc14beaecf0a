"""What `agent check` and `hub check` found. In: the settings in force and a result for everything they name. Out: text or JSON, and an exit code."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Protocol

from cli import serving
from kit import logs


class Result(Protocol):
    """`warning` is for what is as it should be, and lets something happen that a person should know; `advice` says what to do."""

    @property
    def name(self) -> str: ...

    @property
    def ok(self) -> bool: ...

    @property
    def detail(self) -> str: ...

    @property
    def advice(self) -> str: ...

    @property
    def warning(self) -> bool: ...


def tell(results: Sequence[Result], *, shown: dict[str, object], as_json: bool) -> int:
    """0: everything can be used. 1: something cannot. `shown` are the settings without secrets."""
    passed = all(result.ok for result in results)
    if as_json:
        checks = [
            {
                "name": r.name,
                "ok": r.ok,
                "detail": logs.scrub(r.detail),
                "advice": logs.scrub(r.advice),
                "warning": r.warning,
            }
            for r in results
        ]
        sys.stdout.write(json.dumps({"ok": passed, "settings": shown, "checks": checks}, default=str) + "\n")
    else:
        lines = ["settings", *serving.outline(shown, 1), "", "checks", *_lines(results), "", _summary(results)]
        sys.stdout.write("\n".join(lines) + "\n")
    return 0 if passed else 1


def _lines(results: Sequence[Result]) -> list[str]:
    lines: list[str] = []
    for result in results:
        word = "FAIL" if not result.ok else "warn" if result.warning else "ok  "
        lines.append(f"  {word} {result.name}: {logs.scrub(result.detail)}")
        if result.advice and (result.warning or not result.ok):
            lines.append(f"       {logs.scrub(result.advice)}")
    return lines


def _summary(results: Sequence[Result]) -> str:
    failed = sum(not result.ok for result in results)
    warned = sum(result.ok and result.warning for result in results)
    said = f"{failed} of {len(results)} failed" if failed else f"{len(results)} of {len(results)} passed"
    return f"{said}, {warned} warning{'' if warned == 1 else 's'}" if warned else said
