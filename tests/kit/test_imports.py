"""Libraries that change a process do not get to."""

from __future__ import annotations

import subprocess
import sys

import pytest

DEEP = """
import json, msgspec
for parse in (json.loads, msgspec.json.decode):
    try:
        parse("[" * 1_000_000)
    except RecursionError:
        print("refused")
"""


def survives(code: str) -> bool:
    done = subprocess.run([sys.executable, "-c", code + DEEP], capture_output=True, text=True, timeout=60, check=False)
    return done.returncode == 0 and done.stdout.count("refused") == 2


KEYSTORE = """
import pathlib, tempfile
from signers import keystore
folder = pathlib.Path(tempfile.mkdtemp())
(folder / "password").write_text("x")
keystore.create(folder / "key.json", password_file=folder / "password", secret=bytes([1]) * 32)
keystore.load(folder / "key.json", password_file=folder / "password")
"""


@pytest.mark.parametrize(
    "code",
    [KEYSTORE, "import devnet.demo_receipts", "import agent.app, agent.checks", "import earnings.app"],
    ids=["keystore", "demo", "agent", "hub"],
)
def test_deeply_nested_json_is_an_error_and_not_the_end_of_the_process(code: str) -> None:
    assert survives(code)


def test_without_the_guard_it_would_be_the_end() -> None:
    """The reason for the guard; when this fails the library has mended its ways and the guard can go."""
    assert not survives("import eth_account")
