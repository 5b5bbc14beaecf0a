"""`stakeside backup` and `restore` with settings files, for an agent and for a hub."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from agent.web import people
from cli import main
from config import deployments
from domain import hashing, intent
from earnings import app, seats
from earnings import book as hub_book
from signers import dev
from store import book as agent_book
from store import intents, tables

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
    _key(tmp_path / "key", 1)
    deployment = deployments.load(tmp_path / "deployment.toml").digest()

    async def make() -> None:
        await _made(tmp_path)
        await (await hub_book.open_book(f"sqlite:///{tmp_path}/hub.db", deployment=deployment)).close()

    asyncio.run(make())
    return tmp_path


async def _made(folder: Path, *, genesis: bytes = b"\x11" * 32) -> None:
    url, deployment = f"sqlite:///{folder}/agent.db", deployments.load(folder / "deployment.toml").digest()
    await (await agent_book.open_book(url, deployment=deployment, chain_id=31337, genesis=genesis)).close()


def _key(file: Path, number: int) -> None:
    file.write_text(f"0x{number:064x}\n")
    file.chmod(0o600)


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


def test_who_restores_over_a_book_is_told_that_force_keeps_the_old_one(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(["backup", "--out", "b"]) == 0
    assert main.main(["restore", "--reason", "a test", "b"]) == 2
    said = capsys.readouterr().err
    assert "--force keeps it" in said and "before-restore-1" in said and "name an empty" not in said
    assert main.main(["store", "copy", f"sqlite:///{folder}/agent.db", f"sqlite:///{folder}/hub.db"]) == 2
    said = capsys.readouterr().err
    assert "name an empty" in said and "--force" not in said


def test_a_latch_that_the_agent_sets_only_when_it_starts_is_said_to_come(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clear = ["agent", "clear-latch", "submit.restored", "--by", "otto", "--reason", "compared"]
    assert main.main(clear) == 1
    assert "sets it when it starts" not in capsys.readouterr().out, "this book was never restored"
    assert main.main(["backup", "--out", "b"]) == 0
    assert main.main(["restore", "--force", "--reason", "a test", "b"]) == 0
    capsys.readouterr()
    assert main.main(clear) == 1
    assert "sets it when it starts" in capsys.readouterr().out


def test_by_force_the_book_that_was_there_is_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["backup", "--config", str(folder / "agent.toml"), "--out", "b"]) == 0
    assert main.main(["restore", "--force", "--reason", "a test", "b"]) == 0
    assert "agent.db.before-restore-1" in capsys.readouterr().out
    assert (folder / "agent.db.before-restore-1").exists()


@pytest.mark.parametrize("kind", ["agent", "hub"])
def test_a_backup_of_the_other_kind_is_refused_with_its_kind_and_the_way(
    kind: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    taken, wanted = ([], ["--hub"]) if kind == "agent" else (["--hub"], [])
    assert main.main(["backup", *taken, "--out", "b"]) == 0
    for name in ("agent", "hub"):
        (folder / f"{name}.db").unlink()
    assert main.main(["restore", *wanted, *([] if wanted else ["--reason", "a test"]), "b"]) == 2
    said = capsys.readouterr().err
    assert f"of kind {kind}, not " in said and "--hub" in said
    assert not list(folder.glob("*.db"))


ELSEWHERE = """[delegator]
kind = "dev"
key_file = "account.key"
[submit]
exclusive = true
[policy]
max_fee_per_gas_wei = "1"
max_tip_wei = "1"
max_amount_per_day = "1"
max_gas_wei_per_day = "1"
"""
ATTESTING = """[attester]
kind = "dev"
key_file = "attester.key"
"""


async def _signed(folder: Path, key: bytes, *, account: bool) -> None:
    """What an account delegates, or a vote of an attester."""
    the_book = await agent_book.open_book(
        f"sqlite:///{folder}/agent.db",
        deployment=deployments.load(folder / "deployment.toml").digest(),
        chain_id=31337,
        genesis=b"\x11" * 32,
    )
    word = bytes(32)
    asked = intent.Intent(31337, key, "k", "devnet", "delegate", {"amount": "1"})
    vote = {"stream": word, "sequence": 0, "revision": 0, "kind": "attest", "digest": word, "ballot": 0}
    async with the_book.write() as c:
        if account:
            await intents.put(c, asked, proposer="p", reason="r", at_s=1, expires_at_s=9)
        else:
            await c.change(tables.vote.insert().values(signer=key, payload=b"", at_s=1, **vote))
    await the_book.close()


@pytest.mark.parametrize(("name", "settings"), [("account", ELSEWHERE), ("attester", ATTESTING)])
def test_a_backup_of_another_key_is_refused_and_names_both(
    name: str, settings: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _key(folder / f"{name}.key", 5)
    ours = dev.load(folder / f"{name}.key", chain_id=31337).address
    (folder / "agent.toml").write_text(AGENT + settings)
    for number, key in enumerate((b"\x22" * 20, ours)):
        if number:
            (folder / "agent.db").unlink()
            asyncio.run(_made(folder))
        asyncio.run(_signed(folder, key, account=name == "account"))
        assert main.main(["backup", "--out", f"b{number}"]) == 0
    (folder / "agent.db").unlink()
    capsys.readouterr()
    assert main.main(["restore", "--reason", "a test", "b0"]) == 2
    said = capsys.readouterr().err
    assert f"another {name}" in said and "0x" + "22" * 20 in said and hashing.hex0x(ours) in said
    assert not (folder / "agent.db").exists()
    assert main.main(["restore", "--reason", "a test", "b1"]) == 0
    told = capsys.readouterr().out
    assert f"compared: {name} {hashing.hex0x(ours)}" in told and f"not compared: {name}" not in told


def test_what_a_backup_does_not_say_is_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A book whose keys signed nothing yet, in a backup from before chain and genesis were in it."""
    _key(folder / "account.key", 5)
    (folder / "agent.toml").write_text(AGENT + ELSEWHERE)
    assert main.main(["backup", "--out", "b"]) == 0
    with closing(sqlite3.connect(folder / "b", isolation_level=None)) as c:
        (text,) = c.execute("SELECT value FROM backup_manifest WHERE key = 'manifest'").fetchone()
        manifest = json.loads(text)
        del manifest["facts"]["chain_id"], manifest["facts"]["genesis"]
        c.execute("UPDATE backup_manifest SET value = ? WHERE key = 'manifest'", (json.dumps(manifest),))
    (folder / "agent.db").unlink()
    assert main.main(["restore", "--reason", "a test", "b"]) == 0
    told = capsys.readouterr().out.splitlines()
    for name in ("chain id", "genesis", "account"):
        assert any(line.startswith(f"not compared: {name}") and "the backup does not say" in line for line in told), (
            told
        )
    assert any(line.startswith("compared: deployment 0x") for line in told)


@pytest.mark.parametrize(("name", "settings"), [("account", ELSEWHERE), ("attester", ATTESTING)])
@pytest.mark.parametrize("table", ["gone", "without its key", "with a new key"])
def test_a_key_that_is_lost_is_compared_by_its_address(
    name: str, settings: str, table: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lost = b"\x22" * 20
    asyncio.run(_signed(folder, lost, account=name == "account"))
    assert main.main(["backup", "--out", "b"]) == 0
    (folder / "agent.db").unlink()
    if table == "with a new key":
        _key(folder / f"{name}.key", 5)
    (folder / "agent.toml").write_text(AGENT + (settings if table != "gone" else ""))
    capsys.readouterr()
    assert main.main(["restore", "--reason", "a test", f"--{name}", "0x" + "33" * 20, "b"]) == 2
    said = capsys.readouterr().err
    assert f"another {name}" in said and "0x" + "22" * 20 in said and "0x" + "33" * 20 in said
    assert not (folder / "agent.db").exists()
    assert main.main(["restore", "--reason", "a test", f"--{name}", hashing.hex0x(lost), "b"]) == 0
    assert f"compared: {name} 0x{'22' * 20}, given by --{name}\n" in capsys.readouterr().out


@pytest.mark.parametrize("configured", ["account", "attester", "neither"])
def test_one_key_for_the_account_and_the_attester_is_refused_also_when_an_address_is_given(
    configured: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _key(folder / "account.key", 5)
    _key(folder / "attester.key", 5)
    same = dev.load(folder / "account.key", chain_id=31337).address
    assert main.main(["backup", "--out", "b"]) == 0
    (folder / "agent.db").unlink()
    tables_of = {"account": ELSEWHERE, "attester": ATTESTING}
    (folder / "agent.toml").write_text(AGENT + tables_of.get(configured, ""))
    words = [word for name in tables_of if name != configured for word in (f"--{name}", hashing.hex0x(same))]
    assert main.main(["restore", "--reason", "a test", *words, "b"]) == 2
    assert "same key" in capsys.readouterr().err and not (folder / "agent.db").exists()


@pytest.mark.parametrize("name", ["account", "attester"])
def test_a_key_that_nobody_names_is_said_not_to_be_compared_and_whose_the_backup_is(
    name: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asyncio.run(_signed(folder, b"\x22" * 20, account=name == "account"))
    assert main.main(["backup", "--out", "b"]) == 0
    (folder / "agent.db").unlink()
    assert main.main(["restore", "--reason", "a test", "b"]) == 0
    told = capsys.readouterr().out.splitlines()
    (line,) = [line for line in told if line.startswith(f"not compared: {name}")]
    assert "0x" + "22" * 20 in line and f"--{name}" in line


@pytest.mark.parametrize(("name", "settings"), [("account", ELSEWHERE), ("attester", ATTESTING)])
def test_a_key_that_cannot_be_read_is_told_to_be_named_by_its_address(
    name: str, settings: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(["backup", "--out", "b"]) == 0
    (folder / "agent.db").unlink()
    (folder / "agent.toml").write_text(AGENT + settings)
    assert main.main(["restore", "--reason", "a test", "b"]) == 2
    assert f"--{name}" in capsys.readouterr().err and not (folder / "agent.db").exists()


@pytest.mark.parametrize(
    "words",
    [["--account", "0x12"], ["--attester", "22" * 20], ["--receipt-key", "0x" + "22" * 20], ["--hub", "--account", "0x" + "22" * 20]],
)  # fmt: skip
def test_an_expectation_that_could_not_be_compared_is_refused(
    words: list[str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An address that is none, and one that the other kind of book has."""
    assert main.main(["backup", "--out", "b"]) == 0
    (folder / "agent.db").unlink()
    assert main.main(["restore", "--reason", "a test", *words, "b"]) == 2
    assert words[-2] in capsys.readouterr().err and not (folder / "agent.db").exists()


@pytest.mark.parametrize("digits", [64, 62])
@pytest.mark.parametrize("words", [[], ["--hub"]])
def test_a_private_key_given_instead_of_its_address_is_not_repeated(
    words: list[str], digits: int, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is no address, or for the other kind of book; and part of a key is one too."""
    secret = "0x" + "5e" * (digits // 2)
    assert main.main(["backup", "--out", "b"]) == 0
    (folder / "agent.db").unlink()
    assert main.main(["restore", "--reason", "a test", *words, "--account", secret, "b"]) == 2
    said = capsys.readouterr()
    assert secret[:9] not in said.err + said.out and "0x5e5e" in said.err and f"{digits + 2} characters" in said.err


def test_a_backup_of_another_genesis_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "agent.db").unlink()
    asyncio.run(_made(folder, genesis=hashing.ZERO32))
    assert main.main(["backup", "--out", "b"]) == 0
    (folder / "agent.db").unlink()
    assert main.main(["restore", "--reason", "a test", "b"]) == 2
    said = capsys.readouterr().err
    assert "another genesis" in said and "0x" + "00" * 8 in said and "0x" + "11" * 8 in said


def test_a_backup_of_another_hub_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async def run() -> None:
        document = deployments.load(folder / "deployment.toml")
        the_book = await hub_book.open_book(f"sqlite:///{folder}/hub.db", deployment=document.digest())
        await app.adopt_document(the_book, seats.Seats(document))
        await the_book.close()

    asyncio.run(run())
    assert main.main(["backup", "--hub", "--out", "b"]) == 0
    (folder / "hub.db").unlink()
    assert main.main(["restore", "--hub", "b"]) == 2
    said = capsys.readouterr().err
    assert "another receipt key" in said and "0x" + "0" * 39 + "2" in said
    assert not (folder / "hub.db").exists()
    (folder / "key").unlink()
    assert main.main(["restore", "--hub", "b"]) == 2
    assert "--receipt-key" in capsys.readouterr().err
    assert main.main(["restore", "--hub", "--receipt-key", "0x" + "0" * 39 + "3", "b"]) == 2
    assert "another receipt key" in capsys.readouterr().err and not (folder / "hub.db").exists()
    assert main.main(["restore", "--hub", "--receipt-key", "0x" + "0" * 39 + "2", "b"]) == 0
    told = capsys.readouterr().out
    assert "compared: receipt key 0x" + "0" * 39 + "2, given by --receipt-key\n" in told


def test_a_reason_with_a_token_in_it_is_refused_and_nothing_is_kept(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    token = people.new_token()
    assert main.main(["backup", "--out", "b"]) == 0
    (folder / "agent.db").unlink()
    assert main.main(["restore", "--reason", f"with {token}", "b"]) == 2
    said = capsys.readouterr()
    assert "holds a token" in said.err and token not in said.err + said.out and not (folder / "agent.db").exists()
