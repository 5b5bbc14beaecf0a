"""Prometheus' own judge of rules. In: rule files and test files. Out: what promtool says. `.ci/peers` fetches it where it is missing."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CACHED = ROOT / ".cache" / "peers" / "promtool"


def find() -> str | None:
    """On PATH, else where `.ci/peers` puts it."""
    on_path = shutil.which("promtool")
    return on_path or (str(CACHED) if os.access(CACHED, os.X_OK) else None)


needed = pytest.mark.skipif(
    find() is None, reason="NO PROMTOOL: alert rules and queries are not evaluated (.ci/peers fetches it)"
)


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    program = find()
    assert program is not None
    return subprocess.run([program, *arguments], capture_output=True, text=True, timeout=60, check=False)
