"""`stakeside devnet` as a person types it."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest

from devnet import anvil, rpc, staking
from domain import errors

ROOT = Path(__file__).resolve().parents[2]


async def stakeside(*arguments: str, folder: Path) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "cli.main",
        *arguments,
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "PATH": _path()},
        stdout=PIPE,
        stderr=PIPE,
    )


def _path() -> str:
    return f"{anvil.binary().parent}:/usr/bin:/bin"


async def line(process: asyncio.subprocess.Process) -> dict[str, object]:
    assert process.stdout is not None
    async with asyncio.timeout(30):
        said = await process.stdout.readline()
    if not said:
        assert process.stderr is not None
        raise AssertionError((await process.stderr.read()).decode())
    return json.loads(said)


async def test_up_serves_a_chain_with_the_contract_until_it_is_told_to_end(tmp_path: Path) -> None:
    process = await stakeside("devnet", "up", "--port", "0", "--mining", "manual", folder=tmp_path)
    ready = await line(process)
    assert ready["event"] == "ready"
    assert str(ready["address"]) in (tmp_path / "devnet-network.toml").read_text()
    async with rpc.Rpc(str(ready["url"])) as node:
        chain = await staking.connect(node, start_block=int(str(ready["start_block"])))
        assert chain.address == ready["address"]
    process.send_signal(signal.SIGTERM)
    async with asyncio.timeout(20):
        assert await process.wait() == 0


async def test_play_plays_a_seeded_history_on_a_chain_of_its_own(tmp_path: Path) -> None:
    process = await stakeside(
        "devnet", "play", "--seed", "3", "--steps", "20", "--reorgs", "same-height", folder=tmp_path
    )
    played = await line(process)
    assert played["seed"] == 3
    assert int(str(played["operations"])) >= 20
    assert [reorg["kind"] for reorg in played["reorgs"]] == ["same-height"]  # type: ignore[attr-defined]
    assert await process.wait() == 0


async def test_an_unknown_reorg_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    process = await stakeside("devnet", "play", "--reorgs", "sideways", folder=tmp_path)
    _, said = await process.communicate()
    assert process.returncode == 2
    assert b"no such reorg" in said and b"same-height" in said


async def test_the_lying_node_lists_its_faults(tmp_path: Path) -> None:
    process = await stakeside("devnet", "proxy", "--upstream", "http://127.0.0.1:1", "--fault", "help", folder=tmp_path)
    said, _ = await process.communicate()
    assert process.returncode == 0
    assert b"drop-logs" in said


async def test_somebodys_own_anvil_is_no_devnet() -> None:
    async with anvil.Anvil(accounts=10) as stock, rpc.Rpc(stock.url) as client:
        with pytest.raises(errors.BadConfig, match=r"the node is no devnet.*10 accounts"):
            await staking.refuse_foreign(client)
    async with anvil.Anvil() as node, rpc.Rpc(node.url) as client:
        await staking.refuse_foreign(client)
        await client.call("anvil_setCode", staking.ADDRESS, "0x6001")
        with pytest.raises(errors.BadConfig, match="another contract at"):
            await staking.refuse_foreign(client)
        await client.call("anvil_setCode", staking.ADDRESS, "0x")
        await staking.deploy(client)
        await staking.refuse_foreign(client)


async def test_on_a_node_that_is_no_devnet_nothing_is_deployed_or_played(tmp_path: Path) -> None:
    async with anvil.Anvil(chain_id=1337) as node, rpc.Rpc(node.url) as client:
        for words in (("papers", "--folder", "run"), ("play", "--reorgs", "none")):
            process = await stakeside("devnet", words[0], "--rpc", node.url, *words[1:], folder=tmp_path)
            async with asyncio.timeout(30):
                _, err = await process.communicate()
            assert process.returncode == 2 and b"the node is no devnet" in err and b"chain 1337" in err
        assert await client.call("eth_blockNumber") == "0x0"
    assert not (tmp_path / "run").exists()
