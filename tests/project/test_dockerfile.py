"""The image, without an engine: the Dockerfile's own steps are carried out below an empty folder, and the result is used."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiohttp import web

from kit import http

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "Dockerfile").read_text()
ABSOLUTE = ("/srv", "/var/lib/stakeside")
"""The folders that the steps write to."""


def instructions() -> list[tuple[str, str]]:
    """(instruction, arguments), continuation lines joined, comments gone."""
    lines = [line for line in TEXT.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [(line.split(None, 1)[0], line.split(None, 1)[1]) for line in joined.splitlines() if line.strip()]


def only(name: str) -> str:
    found = [arguments for instruction, arguments in instructions() if instruction == name]
    assert len(found) == 1, f"{name} is there {len(found)} times"
    return found[0]


def environment() -> dict[str, str]:
    found: dict[str, str] = {}
    for instruction, arguments in instructions():
        if instruction == "ENV":
            found.update(pair.partition("=")[::2] for pair in shlex.split(arguments))
    return found


class Prefix:
    """The image's file system below a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.work = folder
        tools = folder / "base"
        tools.mkdir()
        (tools / "python").symlink_to(Path(getattr(sys, "_base_executable", sys.executable)).resolve())
        if os.geteuid() != 0:  # only root may give files away
            (tools / "chown").write_text("#!/bin/sh\nexit 0\n")
            (tools / "chown").chmod(0o755)
        network = {
            k: v for k, v in os.environ.items() if k.startswith(("PIP_", "SSL_")) or k.lower().endswith("_proxy")
        }
        self.env = {**network, "PATH": f"{tools}:/usr/bin:/bin", "HOME": str(folder)}

    def place(self, text: str) -> str:
        for absolute in ABSOLUTE:
            text = re.sub(rf"(?<![\w.]){absolute}\b", f"{self.folder}{absolute}", text)
        return text

    def build(self) -> None:
        for instruction, arguments in instructions():
            if instruction == "WORKDIR":
                self.work = Path(self.place(arguments))
                self.work.mkdir(parents=True, exist_ok=True)
            elif instruction == "COPY":
                self.copy(*arguments.split())
            elif instruction == "RUN":
                done = subprocess.run(
                    ["sh", "-euc", self.place(arguments)],
                    cwd=self.work,
                    env=self.env,
                    capture_output=True,
                    text=True,
                    timeout=500,
                )
                assert done.returncode == 0, f"RUN {arguments}\n{done.stdout}{done.stderr}"

    def copy(self, source: str, target: str) -> None:
        destination = self.work / target
        if source != ".":
            destination.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / source, destination)
            return
        for name in context():
            (destination / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, destination / name)

    def run(self, *command: str, **env: str) -> subprocess.CompletedProcess[str]:
        inside = {**self.env, **environment(), **env}
        inside["PATH"] = self.place(inside["PATH"])
        inside["HOME"] = self.place(inside["HOME"])
        program = shutil.which(command[0], path=inside["PATH"])
        assert program is not None, f"{command[0]} is not in the image"
        return subprocess.run(
            [program, *command[1:]], cwd=self.work, env=inside, capture_output=True, text=True, timeout=60
        )


def context() -> list[str]:
    """What .dockerignore lets into the build."""
    rules = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    names = listed.stdout.splitlines()
    return [n for n in names if (ROOT / n).is_file() and any(n == rule or n.startswith(f"{rule}/") for rule in rules)]


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prefix]:
    prefix = Prefix(tmp_path_factory.mktemp("image"))
    prefix.build()
    yield prefix


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_built_image_runs_without_the_source(image: Prefix) -> None:
    said = image.run(*json.loads(only("ENTRYPOINT")), "--version")
    assert said.returncode == 0, said.stderr
    assert said.stdout.startswith("stakeside 0.")
    where = image.run("python", "-c", "import agent.app, earnings.app, verify; print(agent.app.__file__)")
    assert where.returncode == 0, where.stderr
    assert f"{image.folder}/srv/venv/" in where.stdout


@pytest.mark.slow
def test_the_image_ships_manifests_networks_migrations_and_the_contract(image: Prefix) -> None:
    site = next((image.folder / "srv" / "venv" / "lib").glob("python3*/site-packages"))
    for pattern in (
        "config/protocols/devnet.toml",
        "config/networks/devnet.toml",
        "contracts/artifacts/Staking.json",
        "devnet/papers.py",
        "store/migrations/env.py",
        "earnings/migrations/env.py",
    ):
        assert (site / pattern).is_file(), pattern
    assert list((site / "store" / "migrations" / "versions").glob("v0001*.py"))


@pytest.mark.slow
def test_the_default_command_reads_its_settings_from_etc(image: Prefix) -> None:
    said = image.run(*json.loads(only("ENTRYPOINT")), *json.loads(only("CMD")))
    assert said.returncode == 2
    assert "/etc/stakeside/agent.toml" in said.stderr


@pytest.mark.slow
@pytest.mark.parametrize(("answer", "healthy"), [(200, True), (503, False), (None, False)])
async def test_the_healthcheck_follows_healthz(image: Prefix, answer: int | None, healthy: bool) -> None:
    command = json.loads(only("HEALTHCHECK").partition("CMD ")[2])

    async def reply(_request: web.Request) -> web.Response:
        return web.Response(status=answer or 200)

    app = web.Application()
    app.add_routes([web.get("/healthz", reply)])
    async with http.serving(app, host="127.0.0.1", port=0) as port:
        asked = port if answer is not None else 1
        said = await asyncio.to_thread(image.run, *command, STAKESIDE_WEB__PORT=str(asked))
        # Behind TLS the probes have a port of their own.
        beside = await asyncio.to_thread(image.run, *command, STAKESIDE_WEB__PORT="1", STAKESIDE_HEALTH_PORT=str(asked))
    assert (said.returncode == 0) is healthy
    assert (beside.returncode == 0) is healthy


def test_the_image_is_slim_and_runs_as_nobody_special() -> None:
    assert re.fullmatch(r"python:3\.\d+-slim(-\w+)?", only("FROM"))
    uid, _, gid = only("USER").partition(":")
    assert int(uid) >= 1000 and int(gid) >= 1000
    order = [instruction for instruction, _ in instructions()]
    assert "RUN" not in order[order.index("USER") :]


def test_every_install_is_locked() -> None:
    installs = [
        arguments for instruction, arguments in instructions() if instruction == "RUN" and "pip install" in arguments
    ]
    assert installs
    for arguments in installs:
        assert "--require-hashes" in arguments or "--no-deps --no-build-isolation" in arguments


def test_nothing_secret_and_nothing_foreign_enters_the_build() -> None:
    names = context()
    assert "pyproject.toml" in names and "cli/main.py" in names
    assert not [
        n for n in names if n.startswith(("tests/", "run/", ".git")) or re.search(r"\.(key|pem|db|token|password)$", n)
    ]
    assert not re.search(r"(?i)\b(password|token|secret|api_?key)\s*=", TEXT)
    assert not [instruction for instruction, _ in instructions() if instruction == "ARG"]
