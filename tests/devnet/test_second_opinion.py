"""The ground truth against a second opinion: web3's own contract object reads the same events and the same views."""

from __future__ import annotations

import web3

from devnet import anvil, play, rpc, staking, truth


async def test_web3_reads_the_same_events_and_views_as_the_ground_truth() -> None:
    async with anvil.Anvil(accounts=16) as node, rpc.Rpc(node.url) as client:
        chain = await staking.deploy(client)
        await play.Player(chain, 3, validators=2, delegators=6).run(80)
        rows = await truth.Truth(client, start_block=1).rows()
        w3 = web3.Web3(web3.HTTPProvider(node.url))
        contract = w3.eth.contract(address=w3.to_checksum_address(chain.address), abi=staking.artifact()["abi"])
        logs = [log for event in contract.events for log in event().get_logs(from_block=0)]
        seen = [(log["blockNumber"], log["logIndex"], log["args"].get("amount")) for log in logs]
        assert sorted(seen) == [(row.number, row.log_index, row.amount) for row in rows]
        leaves = await truth.Truth(client, start_block=1).leaves_at(await chain.height())
        for (parts, kind), (reward, _) in leaves.items():
            if kind == 1:
                pair = ["0x" + part[-40:] for part in parts[2:]]
                assert contract.functions.earnedOf(*map(w3.to_checksum_address, pair)).call() == reward
