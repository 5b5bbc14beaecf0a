"""Every import contract is kept, and breaks when one import that it forbids is planted."""

from __future__ import annotations

import configparser
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LINT = [str(Path(sys.executable).parent / "lint-imports"), "--no-logo", "--no-cache"]

# Contract → (module to plant in, import to plant).
PLANTS = {
    "layers": ("kit/logs.py", "import store"),
    "agent": ("agent/reporting/envelope.py", "import agent.services"),
    "web": ("agent/web/view.py", "import indexers.chain"),
    "web-reads": ("agent/web/pages/markup.py", "import store.tables"),
    "earnings": ("earnings/limits.py", "import accounting"),
    "earnings-users": ("devnet/rpc.py", "import earnings"),
    "verify": ("verify/strict.py", "import domain.hashing"),
    "devnet": ("devnet/staking.py", "import indexers"),
    "pure": ("accounting/frames.py", "import sqlite3"),
    "sqlalchemy": ("signers/base.py", "import sqlalchemy"),
    "keys": ("store/book.py", "import eth_account"),
    "hashing": ("kit/http.py", "import coincurve"),
    "abi": ("indexers/chain/ranges.py", "import eth_abi"),
    "config": ("store/logs.py", "import config.settings"),
    "deciders": ("agent/delegations/fees.py", "import kit.http"),
}


def contracts() -> dict[str, str]:
    """Name in the file → title."""
    parser = configparser.ConfigParser()
    parser.read(ROOT / ".importlinter")
    prefix = "importlinter:contract:"
    return {name.removeprefix(prefix): parser[name]["name"] for name in parser.sections() if name.startswith(prefix)}


def lint(folder: Path) -> tuple[int, str]:
    done = subprocess.run(LINT, cwd=folder, capture_output=True, text=True, timeout=100, check=False)
    return done.returncode, " ".join((done.stdout + done.stderr).split())


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    parser = configparser.ConfigParser()
    parser.read(ROOT / ".importlinter")
    for package in parser["importlinter"]["root_packages"].split():
        ignored = shutil.ignore_patterns("__pycache__", "node_modules")
        shutil.copytree(ROOT / package, tmp_path / package, ignore=ignored)
    shutil.copy(ROOT / ".importlinter", tmp_path)
    return tmp_path


def test_the_tree_keeps_every_contract(copy: Path) -> None:
    code, said = lint(copy)
    assert code == 0, said


def test_every_contract_has_a_plant() -> None:
    assert set(contracts()) == set(PLANTS)


@pytest.mark.parametrize("name", sorted(PLANTS))
def test_a_planted_import_breaks_its_contract(copy: Path, name: str) -> None:
    file, planted = PLANTS[name]
    path = copy / file
    text = path.read_text()
    path.write_text(
        text.replace("from __future__ import annotations\n", f"from __future__ import annotations\n\n{planted}\n", 1)
    )
    assert path.read_text() != text
    code, said = lint(copy)
    assert code != 0
    assert f"{' '.join(contracts()[name].split())} BROKEN" in said
