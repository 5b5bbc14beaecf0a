"""The project's own files: locks, targets, console script."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def locked(name: str) -> dict[str, tuple[str, int]]:
    """Package → (version, number of hashes)."""
    text = (ROOT / "requirements" / name).read_text()
    found: dict[str, tuple[str, int]] = {}
    for match in re.finditer(
        r"^([a-z0-9][\w.\-]*)==(\S+)((?:\s*\\\n\s+--hash=sha256:[0-9a-f]{64})*)", text, re.MULTILINE
    ):
        found[match[1]] = (match[2], match[3].count("--hash"))
    return found


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[\[<>=]", text)[0].lower() for text in requirements}


@pytest.mark.parametrize("name", ["base.txt", "dev.txt"])
def test_every_locked_package_has_hashes(name: str) -> None:
    packages = locked(name)
    assert packages
    assert [package for package, (_, hashes) in packages.items() if hashes == 0] == []


def test_the_locks_hold_what_the_project_asks_for() -> None:
    project = PYPROJECT["project"]
    wanted = names(
        project["dependencies"] + project["optional-dependencies"]["postgresql"] + PYPROJECT["build-system"]["requires"]
    )
    assert wanted <= set(locked("base.txt"))
    tools = [
        line for line in (ROOT / "requirements" / "dev.in").read_text().splitlines() if line and line[0] not in "#-"
    ]
    assert names(tools) <= set(locked("dev.txt"))


def test_both_locks_agree() -> None:
    base, dev = locked("base.txt"), locked("dev.txt")
    assert {name: dev.get(name) for name in base} == base


def test_compiled_packages_are_locked_for_more_than_one_platform() -> None:
    """One wheel of one machine would make the lock useless everywhere else."""
    packages = locked("base.txt")
    for name in ("aiohttp", "coincurve", "msgspec", "sqlalchemy", "pycryptodome"):
        assert packages[name][1] >= 10


def test_the_lock_names_no_address_and_no_path() -> None:
    for name in ("base.txt", "dev.txt"):
        for line in (ROOT / "requirements" / name).read_text().splitlines():
            assert "://" not in line and "file:/" not in line
            assert not re.search(r"(?<![\w.])/\w", line)


def test_every_package_asked_for_is_used() -> None:
    """Distribution names differ from what is imported."""
    imported = {
        "pycryptodome": "Crypto",
        "sqlalchemy": "sqlalchemy",
        "aiosqlite": "aiosqlite",
        "prometheus-client": "prometheus_client",
    }
    done = subprocess.run(["git", "ls-files", "*.py"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    text = "\n".join(
        (ROOT / name).read_text()
        for name in done.stdout.split()
        if not name.startswith("tests/") and (ROOT / name).exists()
    )
    unused = [
        name
        for name in sorted(names(PYPROJECT["project"]["dependencies"]))
        if not re.search(
            rf"(?:^\s*(?:import|from) |\+){imported.get(name, name.replace('-', '_'))}\b", text, re.MULTILINE
        )
    ]
    assert unused == []


def test_the_console_script_is_the_main_command() -> None:
    assert PYPROJECT["project"]["scripts"] == {"stakeside": "cli.main:main"}


@pytest.mark.skipif(shutil.which("make") is None, reason="no make here")
def test_plain_make_lists_the_targets() -> None:
    done = subprocess.run(
        ["make", "--no-print-directory"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    for target in ("demo", "test", "check", "bench", "bench-setup", "soak", "contracts"):
        assert re.search(rf"^  make {target}\s", done.stdout, re.MULTILINE)
