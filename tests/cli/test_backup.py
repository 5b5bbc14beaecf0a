"""`stakeside backup` and `restore` with settings files, for an agent and for a hub."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from cli import main
from config import deployments
from domain import hashing
from earnings import book as hub_book
from store import book as agent_book

Run = Callable[..., int]
DOCUMENT = """\
name = "devnet"
[[chains]]
id = 31337
genesis = "{zero}"
finality = "tag"
[[streams]]
name = "main"
kind = "staking"
chain = 31337
protocol = "devnet"
deployment = "main"
accounts = "all"
asset = "0x0000000000000000000000000000000000000000"
start = 1
frame = "blocks:32"
[[epochs]]
signer_epoch = 0
signers = ["0x0000000000000000000000000000000000000001"]
k = 1
rulesets = {{ main = "{zero}" }}
from_sequence = {{ main = 0 }}
[[receipt_keys]]
address = "0x0000000000000000000000000000000000000002"
first_receipt = 1
"""
AGENT = """\
[agent]
store = "sqlite:///agent.db"
[node]
url = "http://127.0.0.1:1"
[deployment]
document = "deployment.toml"
[[protocols]]
name = "devnet"
manifest = "devnet"
network = "devnet"
"""
HUB = """\
[hub]
store = "sqlite:///hub.db"
[deployment]
document = "deployment.toml"
chain_id = 31337
[receipts]
kind = "dev"
key_file = "key"
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "deployment.toml").write_text(DOCUMENT.format(zero="0x" + "11" * 32))
    (tmp_path / "agent.toml").write_text(AGENT)
    (tmp_path / "hub.toml").write_text(HUB)
    deployment = deployments.load(tmp_path / "deployment.toml").digest()

    async def make() -> None:
        agent = await agent_book.open_book(
            f"sqlite:///{tmp_path}/agent.db", deployment=deployment, chain_id=31337, genesis=hashing.ZERO32
        )
        await agent.close()
        await (await hub_book.open_book(f"sqlite:///{tmp_path}/hub.db", deployment=deployment)).close()

    asyncio.run(make())
    return tmp_path


@pytest.mark.parametrize("kind", ["agent", "hub"])
def test_a_book_is_backed_up_lost_and_restored(kind: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--hub"] if kind == "hub" else []
    assert main.main(["backup", *flags, "--out", "b"]) == 0
    taken = capsys.readouterr().out.split()[-1]
    assert main.main(["restore", *flags, "b"]) == 2, "the book is still there"
    (folder / f"{kind}.db").unlink()
    capsys.readouterr()
    why = [] if kind == "hub" else ["--reason", "the disk died"]
    assert main.main(["restore", *flags, *why, "b"]) == 0
    said = capsys.readouterr().out
    assert taken in said
    assert ("submit.restored" in said) == (kind == "agent")
    assert main.main(["store", "digest", f"sqlite:///{folder}/{kind}.db"]) == 0
    now = capsys.readouterr().out.splitlines()[-1].split()[1]
    assert (now == taken) == (kind == "hub"), "an agent's book has a new row: who restored it"


def test_who_restores_an_agents_book_says_why_and_stays_in_it(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["backup", "--out", "b"]) == 0
    taken = capsys.readouterr().out.split()[-1]
    (folder / "agent.db").unlink()
    assert main.main(["restore", "b"]) == 2
    assert "reason" in capsys.readouterr().err and not (folder / "agent.db").exists()
    assert main.main(["restore", "--reason", "the disk died", "b"]) == 0
    with closing(sqlite3.connect(folder / "agent.db")) as c:
        rows = c.execute("SELECT principal, kind, subject, reason, after FROM command").fetchall()
    ((by, *row, after),) = rows
    assert by.startswith("local:") and row == ["restore", "book", "the disk died"] and taken in after


def test_by_force_the_book_that_was_there_is_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["backup", "--config", str(folder / "agent.toml"), "--out", "b"]) == 0
    assert main.main(["restore", "--force", "--reason", "a test", "b"]) == 0
    assert "agent.db.before-restore-1" in capsys.readouterr().out
    assert (folder / "agent.db.before-restore-1").exists()


def test_a_hubs_backup_is_no_agents_book(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["backup", "--hub", "--out", "b"]) == 0
    (folder / "agent.db").unlink()
    assert main.main(["restore", "--reason", "a test", "b"]) == 2
    assert "no book" in capsys.readouterr().err
    assert not (folder / "agent.db").exists()
