"""The crash harness: SIGKILL a real process at a named instruction, start it again, ask whether anything is wrong.

In: a process and a point such as `index.before_commit`. Out: whether it died there, and what an invariant says afterwards. The
points are the `faults.point("…")` calls in the source, so a new one is swept without being listed here.
"""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from devnet import fleet

PACKAGES = ("agent", "accounting", "earnings", "indexers", "kit", "signers", "store")
_POINT = re.compile(r'\bfaults\.point\(\s*"([^"]+)"')

Stir = Callable[[], Awaitable[None]]
"""Gives the process something to do (mines a block, sends a vote); called again and again until it dies."""
Invariant = Callable[["Crash"], Awaitable[str | None]]
"""What is wrong after the restart, in a sentence; None when nothing is."""


@dataclass(frozen=True, slots=True)
class Crash:
    """One attempt. `reached` is whether the process died at the point by SIGKILL; `difference` what the invariant said."""

    point: str
    passage: int
    reached: bool
    seconds: float
    difference: str | None = None

    @property
    def ok(self) -> bool:
        return self.reached and self.difference is None


def points(packages: Iterable[str] = PACKAGES, *, root: Path = fleet.ROOT) -> list[str]:
    """Every crash point in the source of `packages`, ascending."""
    found: set[str] = set()
    for package in packages:
        for file in sorted((root / package).rglob("*.py")):
            found.update(_POINT.findall(file.read_text(encoding="utf-8")))
    return sorted(found)


async def crash(process: fleet.Process, point: str, *, passage: int = 1, stir: Stir, deadline_s: float = 15.0) -> Crash:
    """Start `process` armed with `point`, keep it busy, wait for its death. When the point is not reached in time the process is
    stopped in order. Either way it is not running afterwards."""
    if process.running:
        await process.stop()
    began = time.monotonic()
    await process.start(environment={fleet.CRASH_AT: f"{point}:{passage}"})
    while process.running and time.monotonic() - began < deadline_s:
        await stir()
        await process.ended(deadline_s=fleet.LOOK_S)
    reached = not process.running and process.exit_code == -signal.SIGKILL
    await process.stop()
    return Crash(point, passage, reached, time.monotonic() - began)


async def crash_and_check(
    process: fleet.Process,
    point: str,
    *,
    passage: int = 1,
    stir: Stir,
    invariant: Invariant,
    deadline_s: float = 15.0,
) -> Crash:
    """`crash`, then start it again without the point and ask the invariant, which does its own waiting."""
    done = await crash(process, point, passage=passage, stir=stir, deadline_s=deadline_s)
    await process.start()
    await process.listening()
    difference = await invariant(done)
    return Crash(done.point, done.passage, done.reached, done.seconds, difference)


async def sweep(
    process: fleet.Process,
    names: Sequence[str],
    *,
    passages: Sequence[int] = (1, 3),
    stir: Stir,
    invariant: Invariant,
    deadline_s: float = 15.0,
) -> list[Crash]:
    """Every point at every passage, one after the other."""
    return [
        await crash_and_check(process, name, passage=passage, stir=stir, invariant=invariant, deadline_s=deadline_s)
        for name in names
        for passage in passages
    ]
