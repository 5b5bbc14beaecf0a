"""Named crash points. In: the environment variable STAKESIDE_CRASH_AT=`name` or `name:n`. Out: SIGKILL at the n-th passage.

The crash harness needs a real process to die at an exact instruction. Without the variable a point is one dictionary look-up.
"""

from __future__ import annotations

import os
import signal

_armed: dict[str, int] = {}


def arm(text: str) -> None:
    """Arm from `name`, `name:n` or several joined by commas; n counts passages from 1."""
    _armed.clear()
    for part in filter(None, text.split(",")):
        name, _, count = part.partition(":")
        _armed[name] = int(count or "1")


def point(name: str) -> None:
    """Die here, if armed."""
    if not _armed or name not in _armed:
        return
    _armed[name] -= 1
    if _armed[name] == 0:
        os.kill(os.getpid(), signal.SIGKILL)


arm(os.environ.get("STAKESIDE_CRASH_AT", ""))
