"""What `agent check` says of a settings file, and what a start says of the same: a failure once, with its value and what to do."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from agent import app, checks
from cli import main
from config import settings
from devnet import anvil, documents
from domain import errors, hashing
from indexers.protocols import manifest
from signers import dev
from tests import certificates, said

AWAY = "http://127.0.0.1:9"
"""Nobody answers there."""
POLICY = """
[delegator]
kind = "dev"
key_file = "delegator.key"
[submit]
exclusive = true
[policy]
max_fee_per_gas_wei = "1"
max_tip_wei = "1"
max_amount_per_day = "1"
max_gas_wei_per_day = "1"
"""


class Desk:
    """The folder of an agent whose node is away."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "agent.toml"
        self.attester, self.delegator = self.key("attester", 1), self.key("delegator", 2)
        self.publish(signers=[self.attester])
        self.port = free_port()
        self.file.write_text(
            f'[node]\nurl = "{AWAY}"\n[deployment]\ndocument = "deployment.toml"\n'
            f'[[protocols]]\nname = "devnet"\nmanifest = "devnet"\nnetwork = "devnet"\nstreams = ["{documents.STREAM}"]\n'
            f'[attester]\nkind = "dev"\nkey_file = "attester.key"\n[web]\nport = {self.port}\n{POLICY}'
        )

    def key(self, name: str, number: int) -> str:
        file = self.folder / f"{name}.key"
        file.touch(mode=0o600)
        file.write_text(f"0x{number:064x}")
        return hashing.hex0x(dev.load(file, chain_id=anvil.CHAIN_ID).address)

    def publish(self, *, signers: list[str]) -> None:
        plain = documents.document(
            chain_id=anvil.CHAIN_ID, genesis="0x" + "11" * 32, start=1, signers=signers, frame_blocks=1000,
            receipt_key="0x" + "cc" * 20,
        )  # fmt: skip
        ruleset = manifest.load("devnet", network="devnet").ruleset(plain.streams[0], proof="receipts")
        text = documents.text(documents.with_ruleset(plain, hashing.hex0x(ruleset)))
        (self.folder / "deployment.toml").write_text(text)

    def change(self, old: str, new: str) -> None:
        text = self.file.read_text()
        assert old in text
        self.file.write_text(text.replace(old, new))

    def loaded(self) -> settings.AgentSettings:
        return settings.load_agent(self.file, {})

    async def check(self) -> dict[str, checks.Check]:
        return {line.name: line for line in await checks.check(self.loaded())}

    @asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        """Until it listens; yields its address."""
        told: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        stop = asyncio.Event()
        running = app.run(self.loaded(), stop=stop, ready=lambda event: told.set_result(str(event["url"])))
        task = asyncio.create_task(running)
        try:
            async with asyncio.timeout(30):
                await asyncio.wait([task, told], return_when=asyncio.FIRST_COMPLETED)
                if task.done():
                    await task
                yield await told
        finally:
            stop.set()
            await task


def free_port() -> int:
    """Below those that the system hands out, so that nothing else takes it by chance."""
    for port in itertools.count(20_000 + os.getpid() % 10_000):
        with socket.socket() as asked, suppress(OSError):
            asked.bind(("127.0.0.1", port))
            return port
    raise AssertionError


@contextmanager
def listening() -> Iterator[socket.socket]:
    """Another program."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield other


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def failed(found: dict[str, checks.Check]) -> set[str]:
    return {name for name, line in found.items() if not line.ok}


async def test_a_node_that_is_away_fails_once_and_what_needs_it_is_not_tried(desk: Desk) -> None:
    found = await desk.check()
    assert failed(found) == {"node"}
    assert found["proofs"].detail == "not tried: the node failed" and found["proofs"].warning
    assert "signs" in found["delegator"].detail and "the node failed" in found["delegator"].detail


async def test_a_broken_attester_is_blamed_alone(desk: Desk) -> None:
    (desk.folder / "attester.key").write_text("nonsense")
    found = await desk.check()
    assert failed(found) == {"attester", "node"}
    assert "attester.key" in found["attester"].detail and "64 hex digits" in found["attester"].advice


async def test_a_broken_delegator_is_blamed_alone_and_the_lease_is_not_tried(desk: Desk) -> None:
    (desk.folder / "delegator.key").unlink()
    found = await desk.check()
    assert failed(found) == {"delegator", "node"}
    assert "delegator.key" in found["delegator"].detail and "correct the path" in found["delegator"].advice
    assert found["lease"].detail == "not tried: the delegator failed" and found["lease"].warning


async def test_who_signs_no_statements_and_who_sends_no_transactions_is_told_apart(desk: Desk) -> None:
    desk.change('[attester]\nkind = "dev"\nkey_file = "attester.key"\n', "")
    assert (await desk.check())["attester"].detail == "none: signs no statements"
    desk.change(POLICY, "")
    assert (await desk.check())["delegator"].detail == "none: this agent sends no transactions"


async def test_a_node_of_another_genesis_is_named_with_both_and_what_to_do(desk: Desk) -> None:
    async with anvil.Anvil() as node:
        desk.change(AWAY, node.url)
        line = (await desk.check())["node"]
    assert not line.ok and "the node's genesis is" in line.detail and "not 1111111111111111…" in line.detail
    assert "point node.url at the deployment's chain" in line.advice


async def test_a_stream_or_chain_that_the_document_lacks_is_answered_with_those_it_has(desk: Desk) -> None:
    desk.change(f'streams = ["{documents.STREAM}"]', 'streams = ["main"]')
    (line,) = (await desk.check()).values()
    assert not line.ok and "'main'" in line.detail and line.advice == f"it has {documents.STREAM}"
    desk.change('streams = ["main"]', "")
    file = desk.folder / "deployment.toml"
    file.write_text(file.read_text().replace(str(anvil.CHAIN_ID), "5"))
    (line,) = (await desk.check()).values()
    assert not line.ok and "31337" in line.detail and "a listed chain (5)" in line.advice


async def test_a_taken_port_fails_and_a_free_one_is_let_go_again(desk: Desk) -> None:
    for _ in range(2):
        assert (await desk.check())["web.port"].detail == f"127.0.0.1:{desk.port} is free"
    with listening() as other:
        desk.change(f"port = {desk.port}", f"port = {other.getsockname()[1]}")
        line = (await desk.check())["web.port"]
    assert not line.ok and "is taken" in line.detail and "choose another web.port" in line.advice


async def test_a_port_that_the_books_own_agent_has_is_as_it_should_be(desk: Desk) -> None:
    async with desk.running():
        line = (await desk.check())["web.port"]
        assert line.ok and "the agent that runs with this book (process " in line.detail
        with listening() as other:
            desk.change(f"port = {desk.port}", f"port = {other.getsockname()[1]}")
            assert failed(await desk.check()) == {"node", "web.port"}, "it listens elsewhere"


async def test_a_port_file_that_a_killed_agent_left_excuses_nobody(desk: Desk) -> None:
    async with desk.running():
        left = (desk.folder / "web.port").read_text()
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", desk.port))
        other.listen()
        (desk.folder / "web.port").write_text(left)
        assert not (await desk.check())["web.port"].ok


async def test_an_attester_that_no_epoch_lists_is_said_loudly_and_keeps_the_agent_from_being_ready(desk: Desk) -> None:
    desk.publish(signers=["0x" + "dd" * 20])
    line = (await desk.check())["attester"]
    assert not line.ok and desk.attester in line.detail and "add it to the document" in line.advice
    with said.heard() as out:
        async with desk.running() as url, aiohttp.ClientSession() as session:
            async with session.get(f"{url}readyz") as answer:
                told = await answer.json()
    assert not told["ready"]
    assert any(desk.attester in reason and "add it to the document" in reason for reason in told["reasons"])
    (logged,) = [entry for entry in map(json.loads, out.getvalue().splitlines()) if "unlisted" in entry["event"]]
    assert logged["level"] == "warning" and desk.attester in logged["reason"]


async def test_a_listed_attester_is_no_reason(desk: Desk) -> None:
    async with desk.running() as url, aiohttp.ClientSession() as session:
        async with session.get(f"{url}readyz") as answer:
            told = await answer.json()
    assert not any("lists the attester" in reason for reason in told["reasons"])


async def test_an_address_where_anybody_may_look_in_plain_text_is_warned_of_by_check_and_run(desk: Desk) -> None:
    assert "web.read" not in await desk.check()
    desk.change("[web]\n", '[web]\nhost = "0.0.0.0"\n')
    line = (await desk.check())["web.read"]
    assert line.ok and line.warning and "0.0.0.0" in line.detail and 'web.read = "viewer"' in line.advice
    with said.heard() as out:
        async with desk.running():
            pass
    assert out.getvalue().count("web.open_to_all") == 1
    desk.change("[web]\n", '[web]\nread = "viewer"\n')
    assert "web.read" not in await desk.check()


def test_what_is_served_by_tls_is_not_warned_of(desk: Desk) -> None:
    certificates.Authority(desk.folder).issue("web")
    desk.change("[web]\n", '[web]\nhost = "0.0.0.0"\n')
    desk.file.write_text(f'{desk.file.read_text()}\n[web.tls]\ncertificate_file = "web.pem"\nkey_file = "web.key"\n')
    assert app.open_to_all(desk.loaded().web) is None


async def test_a_key_file_that_everybody_can_read_is_warned_of(desk: Desk) -> None:
    (desk.folder / "attester.key").chmod(0o644)
    line = (await desk.check())["attester"]
    assert line.ok and line.warning and "attester.key" in line.detail and "chmod 600" in line.advice


def test_a_failure_is_printed_once_and_the_last_line_counts(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    (desk.folder / "attester.key").unlink()
    with said.heard():
        code = main.main(["agent", "check", "--config", str(desk.file)])
    out = capsys.readouterr().out
    assert code == 1 and out.count("the key file cannot be read") == 1
    lines = out.partition("\nchecks\n")[2].splitlines()
    assert lines[-1] == "2 of 8 failed, 2 warnings"
    assert sum(line.startswith("  FAIL ") for line in lines) == 2


def test_the_json_of_a_check_is_as_it_was_and_withholds_what_looks_like_a_key(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    (desk.folder / "stakeside.db").write_bytes(b"no book" * 100)
    with said.heard():
        code = main.main(["agent", "check", "--json", "--config", str(desk.file)])
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert code == 1 and told.keys() == {"ok", "settings", "checks"} and not told["ok"]
    assert all(line.keys() == {"name", "ok", "detail", "advice", "warning"} for line in told["checks"])
    (line,) = [line for line in told["checks"] if line["name"] == "book"]
    assert not line["ok"] and "stakeside.db" in line["detail"] and line["advice"] not in ("", line["detail"])


async def test_a_database_that_cannot_be_reached_is_named_without_its_password(desk: Desk) -> None:
    desk.file.write_text(
        f'[agent]\nstore = "postgresql://ours:canary@127.0.0.1:{free_port()}/book"\n{desk.file.read_text()}'
    )
    line = (await desk.check())["book"]
    assert not line.ok and "cannot be reached" in line.detail and "127.0.0.1" in line.detail and line.advice
    assert "canary" not in line.detail + line.advice


def test_a_stream_on_a_chain_that_is_not_listed_names_those_that_are(desk: Desk) -> None:
    file = desk.folder / "deployment.toml"
    file.write_text(file.read_text().replace(f"chain = {anvil.CHAIN_ID}", "chain = 9"))
    with pytest.raises(errors.BadConfig, match=r"does not list.*9.*listed are 31337"):
        app.assemble(desk.loaded())
