"""What an author sees: problems of a manifest, and what it makes of real transactions."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli import main
from devnet import staking, truth
from domain import chain, deployment, errors, events, hashing
from indexers.chain import wire
from indexers.protocols import abi, decoder, inspect, manifest
from tests.indexers.protocols import factories
from tests.indexers.protocols.factories import ALICE, word

DEVNET_TEXT = manifest.open_file("devnet", folder="protocols").text


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main.main(["protocol", *arguments])
    out, err = capsys.readouterr()
    return code, out, err


def test_check_says_what_the_shipped_manifest_does(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "check", "devnet", "--network", "devnet")
    assert code == 0
    assert out.endswith("no problems\n")
    assert "action delegate on staking: delegate(address), 0x5c19a95c, proven by Delegated" in out
    assert "saga leave: undelegate, then withdraw" in out


def test_check_lists_every_problem_and_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(DEVNET_TEXT.replace('means = "Moved"', 'means = "Move"').replace('scale = "1', 'scale = "x1'))
    code, out, _ = run(capsys, "check", str(path))
    assert code == 1
    assert out.count(f"{path}, line ") == 2
    assert "did you mean Moved?" in out
    assert out.endswith("2 problems\n")


def test_check_of_no_file_is_a_problem_not_a_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "check", "./nowhere.toml")
    assert code == 1
    assert "cannot be read" in out


def test_check_notes_what_is_right_but_not_indexed(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "check", str(factories.MANIFESTS / "polygon-pos.toml"))
    assert code == 0
    assert "note: " in out
    assert "1 not indexed by this version" in out


DOCUMENT = """
name = "test"

[[chains]]
id = 31337
genesis = "0x{zeros}"

[[streams]]
name = "rewards"
kind = "staking"
chain = 31337
protocol = "devnet"
deployment = "main"
accounts = "all"
asset = "0x0000000000000000000000000000000000000000"
start = 1
frame = "blocks:16"

[[epochs]]
signer_epoch = 0
signers = ["0xa1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1"]
k = 1
rulesets = {{ rewards = "0x{zeros}" }}
from_sequence = {{ rewards = 0 }}
"""


def test_ruleset_prints_what_the_document_must_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "deployment.toml"
    path.write_text(DOCUMENT.format(zeros="00" * 32))
    arguments = [
        "ruleset",
        "--document",
        str(path),
        "--stream",
        "rewards",
        "--manifest",
        "devnet",
        "--network",
        "devnet",
    ]
    code, out, _ = run(capsys, *arguments, "--proof", "receipts")
    expected = factories.devnet().ruleset(factories.stream(), proof="receipts")
    assert (code, out) == (0, f"0x{expected.hex()}\n")
    code, out, _ = run(capsys, *arguments, "--json")
    assert code == 0
    assert hashing.keccak256(hashing.canonical_json(json.loads(out))) == expected
    code, _, err = run(capsys, *arguments[:4], "other", *arguments[5:])
    assert code == 2
    assert "no such stream" in err


def test_a_hostile_text_cannot_write_on_the_screen() -> None:
    import eth_abi

    loaded = factories.devnet()
    topic = factories.rule(loaded, "ValidatorUpdated").topic0
    data = eth_abi.encode(["uint256", "bytes"], [1, b"\x1b[2J\x00\xff" + "\u202e".encode() + b"a" * 500])
    lines = inspect.bound(loaded).explain([factories.log(topics=(topic, word(ALICE)), data=data)])
    assert all(line.isprintable() for line in lines)
    assert max(len(line) for line in lines) < 250


def test_a_log_that_does_not_decode_is_told_with_its_reason() -> None:
    loaded = factories.devnet()
    log = factories.log(topics=(factories.rule(loaded, "Slashed").topic0, word(ALICE)))
    assert any("cannot be decoded" in line for line in inspect.bound(loaded).explain([log]))


def test_without_a_network_any_emitter_counts_and_with_one_only_its_own() -> None:
    from indexers.protocols import checks

    examined, _ = checks.examine(DEVNET_TEXT)
    assert examined is not None
    loaded = factories.devnet()
    log = factories.log(
        topics=(factories.rule(loaded, "Slashed").topic0, word(ALICE)), data=word(1) + word(2), address=ALICE
    )
    assert any("means Slashed" in line for line in inspect.known(examined).explain([log]))
    assert inspect.bound(loaded).explain([log]) == [
        f"log 0 of 0x{ALICE.hex()}: no event of devnet (topic 0x{log.topics[0].hex()})"
    ]


@given(st.binary(max_size=80))
def test_strings_are_shown_as_the_devnets_own_truth_shows_them(data: bytes) -> None:
    """Two implementations of one rule: the indexer's, and that of the ground truth it is compared with."""
    assert abi.text(data) == truth.shown(data)


async def test_real_transactions_decode_to_what_the_ground_truth_says(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Anvil, the devnet's contract, and the command an author would run."""
    network = tmp_path / "net.toml"
    async with staking.up(network_file=network) as running:
        contract = running.staking
        validator, delegator = contract.accounts[1], contract.accounts[2]
        operations = [
            staking.register_validator(validator, commission_bps=500, metadata=b"\xff\x00 hostile \\xff"),
            staking.delegate(delegator, validator, 10**18),
            staking.distribute_reward(contract.owner, validator, 10**17),
            staking.slash(contract.owner, validator, fraction_bps=1000),
            staking.undelegate(delegator, validator, 10**17),
            staking.claim(delegator, validator),
            staking.claim_commission(validator),
        ]
        assert await contract.do(*operations) == [True] * len(operations)
        loaded = manifest.load("devnet", network=network)
        compiled = decoder.compile(loaded)
        told = await truth.Truth(contract.node, start_block=contract.start_block).rows()
        logs = await _logs(contract)
        assert len(logs) == len(told) == len(operations)
        for log, row in zip(logs, told, strict=True):
            found = events.to_row(compiled.decode(log, row.time))
            assert (found.kind, found.validator, found.delegator, found.amount) == (
                row.kind,
                row.validator,
                row.delegator,
                row.amount,
            )
            assert tuple(sorted(json.loads(found.detail).items())) == row.detail
        # asyncio.run inside the command wants a thread of its own
        shown = logs[1]
        arguments = ["test", "devnet", "--network", str(network), "--rpc", running.node.url]
        code, out, _ = await asyncio.to_thread(run, capsys, *arguments, "--tx", hashing.hex0x(shown.tx_hash))
        assert code == 0
        assert "  means Delegated" in out
        assert f"    amount = {10**18}" in out
        assert "  may prove delegate" in out
        code, _, err = await asyncio.to_thread(run, capsys, *arguments, "--tx", "0x" + "77" * 32)
        assert code == 2
        assert "no receipt" in err
        code, _, err = await asyncio.to_thread(run, capsys, *arguments, "--tx", "0x77")
        assert code == 2
        assert "64 hex digits" in err


async def _logs(contract: staking.Staking) -> list[chain.Log]:
    import msgspec

    params = {"fromBlock": hex(contract.start_block), "toBlock": "latest", "address": contract.address}
    answer = await contract.node.call("eth_getLogs", params)
    return [wire.log(msgspec.convert(one, wire.Log)) for one in answer]


def test_a_stream_and_a_document_are_what_the_domain_says() -> None:
    """The factory's stream passes the domain's own checks, so the golden ruleset belongs to a possible deployment."""
    assert isinstance(factories.stream(), deployment.Stream)
    assert factories.stream().frame_size() == 16
    with pytest.raises(errors.BadConfig):
        factories.stream(frame="days:1").frame_size()
