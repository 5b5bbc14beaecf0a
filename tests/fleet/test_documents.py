"""Documents written for a devnet are read back as they were meant."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from config import deployments, settings
from devnet import documents, fleet
from domain import deployment

GENESIS = "0x" + 64 * "1"
SIGNERS = ["0x" + f"{n:040x}" for n in (3, 1, 2)]


def _document(**changes: object) -> deployment.Document:
    wanted: dict[str, object] = {"chain_id": 31337, "genesis": GENESIS, "start": 1, "signers": SIGNERS, **changes}
    return documents.document(**wanted)  # type: ignore[arg-type]


def _read_back(document: deployment.Document, folder: Path) -> deployment.Document:
    file = folder / "deployment.toml"
    file.write_text(documents.text(document))
    return deployments.load(file)


def test_a_document_reads_back_as_it_was_written(tmp_path: Path) -> None:
    document = _document(receipt_key="0x" + 40 * "a", frame_blocks=7)
    assert _read_back(document, tmp_path) == document


def test_a_grown_document_extends_the_old_one(tmp_path: Path) -> None:
    old = _document(receipt_key="0x" + 40 * "a", ruleset="0x" + 64 * "5")
    grown = documents.with_epoch(old, signers=[*SIGNERS, "0x" + 40 * "9"], from_sequence=5)
    grown = documents.with_revision(grown, sequence=2, through=3, reason='a "wrong" row\n')
    grown = documents.with_receipt_key(grown, "0x" + 40 * "b", first_receipt=9)
    assert deployment.extends(old, _read_back(grown, tmp_path))
    assert grown.epochs[1].rulesets == old.epochs[0].rulesets
    assert (grown.epochs[1].k, grown.revisions[0].revision) == (3, 1)


def test_a_ruleset_is_filled_in_everywhere() -> None:
    document = documents.with_ruleset(
        documents.with_epoch(_document(), signers=SIGNERS, from_sequence=5), "0x" + 64 * "7"
    )
    assert {epoch.rulesets[documents.STREAM] for epoch in document.epochs} == {"0x" + 64 * "7"}


@pytest.mark.parametrize(
    "value", ['quo"te', "back\\slash", "line\nbreak", "\u202e", 3, 0.5, True, ["a", 1], {"a b": 1}]
)
def test_a_value_is_toml(value: object) -> None:
    assert tomllib.loads(f"x = {documents.literal(value)}")["x"] == value


async def test_the_settings_of_a_fleet_are_accepted(tmp_path: Path) -> None:
    async with fleet.Fleet(tmp_path) as ships:
        key, receipts = ships.key("alice"), ships.key("receipts")
        ships.publish(_document(signers=[key.address], receipt_key=receipts.address))
        hub = ships.hub(chain_id=31337, receipt_key=receipts)
        agent = ships.agent("alice", node_url="http://127.0.0.1:1", ws_url="ws://127.0.0.1:1", attester=key, hub=hub)
        watcher = ships.agent("watcher", node_url="http://127.0.0.1:1", observe_only=True)
        loaded = settings.load_agent(agent.folder / "agent.toml", {})
        observing = settings.load_agent(watcher.folder / "agent.toml", {})
        upstream = settings.load_hub(hub.folder / "hub.toml", {})
    assert loaded.hub is not None and loaded.attester is not None
    assert loaded.hub.url == f"http://127.0.0.1:{upstream.web.port}"
    assert loaded.protocols[0].streams == (documents.STREAM,)
    assert (observing.attester, observing.hub, observing.protocols[0].streams) == (None, None, ())
    assert agent.address == key.address


async def test_a_key_stays_the_same_in_its_folder(tmp_path: Path) -> None:
    async with fleet.Fleet(tmp_path) as ships:
        assert ships.key("alice") == ships.key("alice")
        assert ships.key("alice") != ships.key("bob")
        assert ships.key("one", secret="11" * 32).address == "0x19e7e376e7c213b7e7e7e46cc70a5dd086daff2a"
