"""`stakeside protocol plan`: what an author sees, offline and with a node."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from cli import main
from devnet import staking
from tests.indexers.protocols import factories

ACCOUNT = "0x3c44cdddb6a900fa2b585dd299e03d12fa4293bc"
VALIDATOR = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
STAKEWISE = (str(factories.MANIFESTS / "stakewise.toml"), "--network", str(factories.NETWORK))


def run(capsys: pytest.CaptureFixture[str], *arguments: str, account: str = ACCOUNT) -> tuple[int, str, str]:
    code = main.main(["protocol", "plan", *arguments, "--account", account])
    out, err = capsys.readouterr()
    return code, out, err


def test_offline_it_shows_call_caps_and_proof(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "devnet", "--network", "devnet", "delegate", f"validator={VALIDATOR}", "amount=5")
    assert code == 0
    assert f"data      0x5c19a95c{VALIDATOR[2:].lower().rjust(64, '0')}\n" in out
    assert "value     5 wei\n" in out
    assert "counts    5 against caps, direction in\n" in out
    assert f"delegator = {ACCOUNT}, amount = 5\n" in out
    assert "requires  intent.amount at least 1\n" in out


def test_offline_it_shows_the_reads_it_cannot_make(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "devnet", "--network", "devnet", "undelegate", f"validator={VALIDATOR}", "amount=5")
    assert code == 1
    assert "data      0x4d99dd16" in out
    assert "read      view.stake: call 0x5fbdb2315678afecb367f032d93f642f64180aa3 with 0xce4cb876" in out
    assert "not yet: view.stake has not been read; give --rpc, and it will be\n" in out


def test_a_child_to_be_looked_up_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, *STAKEWISE, "delegate", f"validator={VALIDATOR}", "amount=5")
    assert code == 1
    assert "look up   contract.vault(0x70997970c51812dc3a010c7d01b50e0d17dc79c8): logs of " in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["delegate", "amount"], "NAME=VALUE"),
        (["delegate", "amount=1", "amount=2"], "NAME=VALUE"),
        (
            ["delegate", "amount=1"],
            "delegate needs validator; give validator: an identity as 0x-hex, such as an address",
        ),
        (["delegate", f"validator={VALIDATOR}"], "delegate needs amount; give amount: a uint256"),
        (["delegate", "amount=1.5", f"validator={VALIDATOR}"], "amount is no number"),
        (["stake"], "has no action stake"),
    ],
)
def test_what_is_wrong_is_one_line_and_exit_code_two(
    capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    code, out, err = run(capsys, "devnet", "--network", "devnet", *arguments)
    assert (code, out) == (2, "")
    assert words in err and err.count("\n") == 1


def test_an_account_with_a_wrong_checksum_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    wrong = VALIDATOR.replace("C8", "c8")
    code, _, err = run(capsys, "devnet", "--network", "devnet", "claim", f"validator={VALIDATOR}", account=wrong)
    assert code == 2
    assert "--account has a wrong checksum" in err


async def test_with_a_node_it_reads_and_says_whether_it_works_now(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    network = tmp_path / "net.toml"
    async with staking.up(network_file=network) as running:
        chain = running.staking
        validator, delegator = chain.accounts[1:3]
        done = await chain.do(
            staking.register_validator(validator, commission_bps=0, metadata=""),
            staking.delegate(delegator, validator, 9),
        )
        assert all(done)

        async def planned(amount: int, *, named: str) -> tuple[int, str, str]:
            place = ("devnet", "--network", named, "undelegate", f"validator={validator}", f"amount={amount}")
            return await asyncio.to_thread(run, capsys, *place, "--rpc", running.node.url, account=delegator)

        code, out, _ = await planned(9, named=str(network))
        assert code == 0
        assert "read      view.stake = (9,)\n" in out
        code, out, _ = await planned(10, named=str(network))
        assert code == 1
        assert "not now: view.stake is 9 where at least 10 is needed\n" in out
        elsewhere = tmp_path / "elsewhere.toml"
        elsewhere.write_text(network.read_text().replace("31337", "31338"))
        code, _, err = await planned(9, named=str(elsewhere))
        assert code == 2
        assert "is chain 31337, the network file is chain 31338" in err
