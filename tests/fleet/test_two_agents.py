"""Two agents, two books, one key: at most one of them signs, and the other takes over when it is gone."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from devnet import anvil, documents, fleet, kill, rpc, staking

TTL_S = 4


@dataclass(slots=True)
class Pair:
    client: rpc.Rpc
    first: kill.Desk
    second: kill.Desk

    def signed(self, desk: kill.Desk) -> int:
        with closing(sqlite3.connect(f"file:{desk.agent.book}?mode=ro", uri=True)) as book:
            return int(book.execute("select count(distinct intent) from signed_tx").fetchone()[0])


@asynccontextmanager
async def pair(folder: Path, *, hub: bool) -> AsyncIterator[Pair]:
    """Leases come from a hub, or both agents say that they are the only one."""
    async with (
        anvil.Anvil(slots_in_an_epoch=kill.SLOTS, accounts=4) as node,
        rpc.Rpc(node.url) as client,
        fleet.Fleet(folder) as ships,
    ):
        chain = await staking.deploy(client)
        await chain.do(staking.register_validator(chain.accounts[1], commission_bps=100, metadata="v"))
        account, receipts = ships.key("delegator"), ships.key("receipts")
        await client.call("anvil_setBalance", account.address, hex(10**5 * kill.ETHER))
        await chain.mine()
        genesis = (await client.call("eth_getBlockByNumber", "0x0", False))["hash"]
        document = kill.paper(chain, genesis, receipt_key=receipts.address)
        ships.publish(documents.with_ruleset(document, await ships.ruleset(document)))
        lease: dict[str, object] = {"exclusive": True, "lease_ttl_s": TTL_S}
        upstream = None
        if hub:
            upstream = ships.hub(chain_id=chain.chain_id, receipt_key=receipts)
            await upstream.start()
            await upstream.listening()
            lease = {"lease": "hub", "lease_ttl_s": TTL_S}
        desks: list[kill.Desk] = []
        for name in ("one", "two"):
            agent = ships.agent(
                name, node_url=node.url, limits=fleet.Limits(poll_s=0.1), observe_only=True, hub=upstream,
                tables=kill.tables(account, lease=lease),
            )  # fmt: skip
            desks.append(kill.Desk(client, chain, ships, agent, account, await kill.hire(ships, agent)))
        yield Pair(client, *desks)


@pytest.mark.slow
@pytest.mark.parametrize("hub", [True, False], ids=["leases of a hub", "exclusive on one machine"])
async def test_of_two_agents_with_one_key_one_signs_and_the_other_takes_over(tmp_path: Path, hub: bool) -> None:
    async with pair(tmp_path, hub=hub) as two:
        for desk in (two.first, two.second):
            await desk.agent.start()
            await desk.agent.listening()
            assert await desk.propose("a", kill.ETHER + len(desk.agent.name)) == 201
            assert await desk.propose("b", kill.ETHER) == 201

        async def one_is_done() -> kill.Desk | None:
            await two.first.mine()
            for desk in (two.first, two.second):
                if desk.state("a") == desk.state("b") == "final_ok":
                    return desk
            return None

        winner: kill.Desk = await two.first.agent.until(one_is_done, what="one agent to be done", deadline_s=60)
        loser = two.second if winner is two.first else two.first
        assert (two.signed(winner), two.signed(loser)) == (2, 0), "the other one signed too"
        assert loser.state("a") == loser.state("b") == "new"
        await winner.agent.kill()

        async def taken_over() -> bool | None:
            await loser.mine()
            for name in loser.latches():
                await loser.say(f"/v1/latches/{name}/clear", {"reason": "the other one did it"}, by=kill.OPERATOR)
            return True if loser.state("a") == loser.state("b") == "final_ok" else None

        await loser.agent.until(taken_over, what="the other agent to take over", deadline_s=60)
        assert len(await loser.effects()) == 4
