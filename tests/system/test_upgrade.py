"""A rolling upgrade from the release before: two versions side by side sign one digest, and the new one goes on with the old one's book.

The old version is its own source tree, unpacked from git into a temporary folder and run by this interpreter.
"""

from __future__ import annotations

import contextlib
import io
import re
import sqlite3
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from devnet import anvil, books, documents, fleet
from domain import hashing
from earnings import migrations as hub_migrations
from store import migrations
from tests.system import belt

ROOT = Path(__file__).resolve().parents[2]
UNTAGGED = {"0.1.0": "8216d23f414b82e77cd5966936a4924aa5965a6b"}
"""Releases from before there were tags: the last commit of each."""


class Release(NamedTuple):
    commit: str
    why: str


def git(*arguments: str) -> str | None:
    """What git says; None when it refuses or is not there."""
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def previous_release() -> Release | None:
    """The newest tag below HEAD; else the newest release known by its commit; else the commit before the one that set the present
    version. None where the history is not there."""
    tag = git("describe", "--tags", "--abbrev=0", "--match", "v[0-9]*", "HEAD^")
    if tag:
        return Release(tag, f"the newest tag, {tag}")
    for version in sorted(UNTAGGED, key=_ordered, reverse=True):
        if git("merge-base", "--is-ancestor", UNTAGGED[version], "HEAD^") is not None:
            return Release(UNTAGGED[version], f"{version}, which has no tag")
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    set_by = git("log", "--format=%H", "-S", f'version = "{version}"', "--", "pyproject.toml")
    parent = git("rev-parse", "--verify", "--quiet", f"{set_by.splitlines()[-1]}^") if set_by else None
    return Release(parent, f"the commit before {version}") if parent else None


def _ordered(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


@pytest.fixture(scope="module")
def old_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source of the release before this one."""
    found = previous_release()
    if found is None:
        pytest.skip("THE UPGRADE IS NOT TESTED: git has no history here (a shallow clone, or no git)")
    packed = subprocess.run(
        ["git", "archive", "--format=tar", found.commit], cwd=ROOT, capture_output=True, timeout=60, check=True
    )
    folder = tmp_path_factory.mktemp("old")
    with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as tar:
        # Our own repository's files. Older patch releases of Python 3.11 have no filters.
        tar.extractall(folder, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    print(f"the release before: {found.why} ({found.commit[:12]})")
    return folder


def run_by(tree: Path) -> dict[str, str]:
    """The environment in which a process is that tree's version."""
    return {"PYTHONPATH": str(tree)}


def ask(tree: Path, *arguments: str) -> str:
    """One command of that tree's version: what it printed."""
    done = subprocess.run(
        [sys.executable, *arguments], cwd=tree.parent, env=run_by(tree), capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def rows(book: Path, query: str) -> list[Any]:
    with contextlib.closing(sqlite3.connect(f"file:{book}?mode=ro", uri=True, timeout=10)) as connection:
        return connection.execute(query).fetchall()


def schema(book: Path) -> str:
    return rows(book, "select version_num from alembic_version")[0][0]


def votes(agent: fleet.Agent) -> list[Any]:
    return rows(agent.book, "select sequence, revision, kind, ballot, hex(digest), hex(payload) from vote order by id")


class Town(belt.Field):
    """A field whose hub and whose first agent may be of the old version."""

    async def settle_in(self, tree: Path) -> list[fleet.Agent]:
        """Papers for three signers who must all agree, so that nothing seals without the old version's vote."""
        keys = [self.fleet.key(f"agent-{number}") for number in range(3)]
        receipt_key = self.fleet.key("hub")
        genesis = (await self.client.call("eth_getBlockByNumber", "0x0", False))["hash"]
        document = documents.document(
            chain_id=anvil.CHAIN_ID, genesis=genesis, start=1, signers=[key.address for key in keys], k=3,
            frame_blocks=belt.FRAME, receipt_key=receipt_key.address,
        )  # fmt: skip
        ruleset = await self.fleet.ruleset(document)
        draft = str(self.fleet.folder / "ruleset.toml")
        said = ask(
            tree, "-m", "cli.main", "protocol", "ruleset", "--document", draft, "--stream", documents.STREAM,
            "--manifest", "devnet", "--network", "devnet",
        )  # fmt: skip
        assert said.split()[-1] == ruleset, "both versions must mean the same rules"
        self.document = documents.with_ruleset(document, ruleset)
        self.fleet.publish(self.document)
        self.hub = self.fleet.hub(chain_id=anvil.CHAIN_ID, receipt_key=receipt_key)
        return [self.agent(number, key) for number, key in enumerate(keys)]

    async def history(self) -> None:
        """Something to agree about: a seeded history with reorgs, to its end and sealed."""
        await self.player.run(15)
        await self.player.reorg(1)
        await self.player.run(10)
        await self.player.mine(2 * belt.FRAME)
        await self.all_sealed()

    def certified(self) -> list[set[str]]:
        """Who signed each sealed frame, in their order."""
        query = (
            "select s.sequence, lower(hex(c.signer)) from hub_sealed s join hub_certificate c on c.digest = s.digest"
        )
        found: dict[int, set[str]] = {}
        for sequence, signer in rows(self.hub.book, query):
            found.setdefault(sequence, set()).add(f"0x{signer}")
        return [found[sequence] for sequence in sorted(found)]


async def _started(process: fleet.Process, *, tree: Path) -> None:
    await process.start(environment=run_by(tree))
    await process.listening(deadline_s=belt.DEADLINE_S)


def test_the_old_version_runs_from_its_own_source(old_tree: Path) -> None:
    said = ask(
        old_tree, "-c", "import agent.app, earnings.app, domain; print(agent.app.__file__, earnings.app.__file__)"
    )
    assert all(Path(file).is_relative_to(old_tree) for file in said.split()), said


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_a_fleet_is_upgraded_one_process_at_a_time_and_nobody_votes_twice(old_tree: Path, tmp_path: Path) -> None:
    async with belt.field(tmp_path) as plain:
        town = Town(plain.node, plain.client, plain.fleet, plain.contract)
        first, second, third = agents = await town.settle_in(old_tree)
        everybody = {agent.address for agent in agents}

        # The old hub with agents of both versions.
        await _started(town.hub, tree=old_tree)
        await _started(first, tree=old_tree)
        await belt.start(second, third)
        await town.history()

        # The hub goes first: the new one on the old one's book, with an old agent.
        assert await town.hub.stop() == 0
        await belt.start(town.hub)
        assert schema(town.hub.book) == hub_migrations.HEAD
        sealed = len(town.certified())
        await town.history()
        assert len(town.certified()) > sealed
        await town.check(agents)

        # Then the last agent, on the book its old version leaves behind.
        assert await first.stop() == 0
        before, frames, rows_before = votes(first), books.Book(first.book).frames(), books.Book(first.book).rows()
        assert re.fullmatch(r"\d{4}", schema(first.book)) and schema(first.book) <= migrations.HEAD
        await belt.start(first)
        assert schema(first.book) == migrations.HEAD
        book = books.Book(first.book)
        assert (votes(first), book.frames(), book.rows(last=max(row.number for row in rows_before))) == (
            before,
            frames,
            rows_before,
        )
        await town.history()
        await town.delivered(agents)
        await town.check(agents)

        assert votes(first)[: len(before)] == before
        assert len(votes(first)) > len(before)
        places = [(sequence, revision) for sequence, revision, *_ in votes(first)]
        assert len(places) == len(set(places)), "one vote for every frame"
        assert all(signers == everybody for signers in town.certified())
        assert rows(town.hub.book, "select * from hub_evidence") == []
        digests = [
            {frame.sequence: hashing.hex0x(frame.digest) for frame in books.Book(a.book).frames()} for a in agents
        ]
        assert digests[0] == digests[1] == digests[2] and len(digests[0]) == len(town.certified())
