"""Finding, starting, restarting and ending Anvil."""

from __future__ import annotations

import asyncio
import importlib.util
from pathlib import Path

import pytest

from devnet import anvil, rpc, staking
from domain import errors


async def test_a_stopped_node_is_gone_and_a_restarted_one_begins_at_block_zero() -> None:
    async with anvil.Anvil() as node, rpc.Rpc(node.url) as client:
        await client.call("anvil_mine", "0x5")
        port = node.port
        await node.stop()
        with pytest.raises(errors.Transient):
            await client.call("eth_blockNumber")
        await node.start()
        assert node.port == port
        assert await client.call("eth_blockNumber") == "0x0"


async def test_another_chain_id_or_genesis_time_is_another_chain() -> None:
    async def identity(node: anvil.Anvil) -> tuple[str, str]:
        async with node, rpc.Rpc(node.url) as client:
            genesis = await client.call("eth_getBlockByNumber", "0x0", False)
            return await client.call("eth_chainId"), genesis["hash"]

    usual = await identity(anvil.Anvil())
    assert await identity(anvil.Anvil()) == usual
    assert (await identity(anvil.Anvil(chain_id=5)))[0] == "0x5"
    assert (await identity(anvil.Anvil(genesis_time=anvil.GENESIS_TIME + 1)))[1] != usual[1]


async def test_the_finalized_block_is_two_epochs_behind() -> None:
    async with anvil.Anvil(slots_in_an_epoch=3) as node, rpc.Rpc(node.url) as client:
        await client.call("anvil_mine", hex(20))
        finalized = await client.call("eth_getBlockByNumber", "finalized", False)
        assert int(finalized["number"], 16) == 20 - node.finality_depth == 14


async def test_a_saved_state_is_the_same_chain_again(tmp_path: Path) -> None:
    state = tmp_path / "state.json"
    async with staking.up(anvil.Anvil(dump_state=state)) as devnet:
        head = await devnet.staking.node.call("eth_getBlockByNumber", "latest", False)
    async with anvil.Anvil(load_state=state) as node, rpc.Rpc(node.url) as client:
        assert await client.call("eth_getBlockByNumber", "latest", False) == head
        await staking.connect(client, start_block=1)


async def test_mining_on_its_own_makes_a_block_of_each_transaction() -> None:
    async with staking.up(anvil.Anvil(mining="auto")) as devnet:
        chain = devnet.staking
        height = await chain.height()
        (hash_,) = await chain.send([staking.register_validator(chain.accounts[1], commission_bps=1, metadata="")])
        receipt = await mined(chain, hash_)  # the node answers the sender before its miner has woken
        assert int(receipt["blockNumber"], 16) == height + 1 == await chain.height()


async def mined(chain: staking.StakingChain, hash_: bytes) -> dict[str, str]:
    async with asyncio.timeout(10):
        while (receipt := await chain.node.call("eth_getTransactionReceipt", "0x" + hash_.hex())) is None:
            await asyncio.sleep(0.01)
    return receipt


async def test_a_port_that_is_taken_is_named() -> None:
    async with anvil.Anvil() as node:
        with pytest.raises(errors.StakesideError, match=r"did not start.*in use"):
            await anvil.Anvil(port=node.port).start()


async def test_a_wrong_option_is_told_in_anvils_words() -> None:
    with pytest.raises(errors.StakesideError, match="no-such-option"):
        await anvil.Anvil(extra=("--no-such-option",)).start()


async def test_the_network_file_is_written_and_names_chain_and_contract(tmp_path: Path) -> None:
    path = tmp_path / "devnet.toml"
    async with staking.up(network_file=path) as devnet:
        assert path.read_text() == devnet.network
    assert staking.ADDRESS in devnet.network and "chain_id = 31337" in devnet.network


async def test_a_node_without_the_contract_is_named() -> None:
    async with anvil.Anvil() as node, rpc.Rpc(node.url) as client:
        with pytest.raises(errors.StakesideError, match="no contract lives"):
            await staking.connect(client, start_block=1)


def test_the_environment_names_the_program_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "my-anvil"
    monkeypatch.setenv("STAKESIDE_ANVIL", str(program))
    with pytest.raises(errors.BadConfig, match="names no program"):
        anvil.binary()
    program.touch(mode=0o755)
    assert anvil.binary() == program


def test_without_npm_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("STAKESIDE_ANVIL", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(anvil, "cache_folder", lambda: tmp_path / "cache")
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(errors.StakesideError, match="install Foundry's anvil"):
        anvil.binary()
