"""The kill matrix of the staking belt. In: named instructions. Out: an agent that was killed at each, and what the chain says afterwards.

A real agent delegates on a real chain that mines when it is told to. It dies by SIGKILL at the instruction, starts again, and the chain is
mined on until the intent is final. Every intent has an amount of its own, so the chain itself tells how often it took effect.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from devnet import anvil, documents, fleet, rpc, staking
from domain import deployment, errors

Json = Any

GWEI = 10**9
ETHER = 10**18
SLOTS = 1
"""Finality is twice this behind the head."""
DEADLINE_S = 60.0
TTL_S = 2
"""A killed agent's lease has to end before the next run signs."""
FINAL = frozenset({"final_ok", "final_reverted", "final_no_effect", "rejected", "expired", "cancelled", "superseded"})
STAGES = ("lease.", "decide.", "submit.", "confirm.", "audit.")
"""What the points of the staking belt begin with."""
PROPOSER, OPERATOR = "tess", "olga"
DELEGATED = "0xe5541a6b6103d4fa7e021ed54fad39c66f27a76bd13d374cf6240ae6bd0bb72b"
"""topic0 of Delegated(address,address,uint256)."""


@dataclass(frozen=True, slots=True)
class Strike:
    """One kill. `reached`: it died there; `state` is how the intent ended, `effects` how often the chain logged its amount."""

    point: str
    passage: int
    reached: bool
    state: str
    effects: int
    seconds: float

    @property
    def ok(self) -> bool:
        return self.reached and self.state == "final_ok" and self.effects == 1


@dataclass(slots=True)
class Desk:
    """An agent with an account, on a chain of its own."""

    client: rpc.Rpc
    chain: staking.Staking
    ships: fleet.Fleet
    agent: fleet.Agent
    account: fleet.Key
    tokens: dict[str, str]
    count: int = 0

    # --- the chain ---

    async def mine(self, blocks: int = 1) -> None:
        await self.client.call("anvil_mine", hex(blocks))

    async def effects(self) -> list[int]:
        """The amount of every delegation of the account, as the chain logged it."""
        word = "0x" + self.account.address[2:].rjust(64, "0")
        asked = {"fromBlock": "0x0", "toBlock": "latest", "topics": [DELEGATED, None, word]}
        return [int(log["data"], 16) for log in await self.client.call("eth_getLogs", asked)]

    async def use_key_elsewhere(self) -> None:
        """A transaction of the account that its agent knows nothing of."""
        fields = {"from": self.account.address, "to": self.chain.accounts[0], "value": "0x1", "gas": "0x5208"}
        await self.client.call("anvil_impersonateAccount", self.account.address)
        await self.client.call("eth_sendTransaction", fields)
        await self.mine()
        await self.client.call("anvil_stopImpersonatingAccount", self.account.address)

    async def price_out(self) -> None:
        """Make what is in the pool too cheap for the next block."""
        await self.client.call("anvil_setNextBlockBaseFeePerGas", hex(40 * GWEI))

    # --- the agent ---

    def state(self, key: str) -> str | None:
        """From the book itself, beside the agent."""
        if not self.agent.book.exists():
            return None
        asked = "select progress.state from progress join intent on intent.id = progress.intent where intent.key = ?"
        with contextlib.closing(sqlite3.connect(f"file:{self.agent.book}?mode=ro", uri=True)) as book:
            found = book.execute(asked, (key,)).fetchone()
        return None if found is None else str(found[0])

    def latches(self) -> list[str]:
        with contextlib.closing(sqlite3.connect(f"file:{self.agent.book}?mode=ro", uri=True)) as book:
            return [row[0] for row in book.execute("select name from latch where cleared_at_s is null")]

    async def say(self, path: str, body: Json, *, by: str) -> int:
        """The status; 0 when the agent died over it."""
        try:
            return (await self.agent.post(path, body, token=self.tokens[by]))[0]
        except errors.StakesideError:
            return 0

    async def propose(self, key: str, amount: int) -> int:
        arguments = {"validator": self.chain.accounts[1], "amount": str(amount)}
        body = {"key": key, "protocol": "devnet", "action": "delegate", "arguments": arguments, "reason": "kill"}
        return await self.say("/v1/intents", body, by=PROPOSER)

    # --- a kill ---

    async def strike(self, point: str, *, passage: int = 1, reorg: bool = False) -> Strike:
        """Kill it at the `passage`-th time it comes by, start it again, mine on. `reorg`: the block with the transaction is replaced once."""
        began = time.monotonic()
        self.count += 1
        key, amount = f"{point}-{self.count}", ETHER + self.count
        if point.startswith("audit."):
            await self._settle_in()
            await self.use_key_elsewhere()
        await self.agent.start(environment={fleet.CRASH_AT: f"{point}:{passage}"})
        with contextlib.suppress(errors.StakesideError):  # some points come before it listens
            await self.agent.listening()
        if "_wait" in point:
            await self.say("/v1/pause", {"reason": "to make it wait"}, by=OPERATOR)
        if "_proof" in point:
            await self._give_up(f"{key}-given-up", ETHER // 2 + self.count)
        await self.propose(key, amount)
        await self._until_dead(key, point)
        reached = not self.agent.running and self.agent.exit_code == -9
        await self.agent.stop()
        await self.agent.start()
        await self.agent.listening()
        if "_wait" in point:
            await self.say("/v1/resume", {"reason": "go on"}, by=OPERATOR)
        if await self.propose(key, amount) not in (200, 201):
            raise errors.StakesideError("the agent does not take the same intent again", value=self.agent.tail())
        state = await self._until_final(key, reorg=reorg)
        await self.agent.stop()
        return Strike(point, passage, reached, state, (await self.effects()).count(amount), time.monotonic() - began)

    async def _settle_in(self) -> None:
        """One intent without a kill: what an account did before its first intent here is nobody's fault."""
        if await self.effects():
            return
        await self.agent.start()
        await self.agent.listening()
        await self.propose("first", ETHER)
        await self._until_final("first", reorg=False)
        await self.agent.stop()

    async def _give_up(self, key: str, amount: int) -> None:
        """An intent whose cancel will be mined instead of it: an end that a block has to prove."""
        await self.propose(key, amount)

        async def cancelled() -> bool | None:
            signed = self._signed(key)
            if self.state(key) == "pending" and len(signed) == 1:
                await self.say(f"/v1/intents/0x{signed[0]}/cancel", {"reason": "to have a proof"}, by=OPERATOR)
            return True if len(signed) > 1 else None

        await self.agent.until(cancelled, what=f"a cancel of {key}", deadline_s=DEADLINE_S)

    def _signed(self, key: str) -> list[str]:
        """The intent's id, once for each transaction that was signed for it."""
        asked = "select lower(hex(intent.id)) from signed_tx join intent on intent.id = signed_tx.intent where intent.key = ?"
        with contextlib.closing(sqlite3.connect(f"file:{self.agent.book}?mode=ro", uri=True)) as book:
            return [str(row[0]) for row in book.execute(asked, (key,))]

    async def _until_dead(self, key: str, point: str) -> None:
        """Give it blocks; where a bump is to be reached, blocks that are too dear for what was sent."""
        deadline = time.monotonic() + DEADLINE_S
        while self.agent.running and time.monotonic() < deadline:
            if "_bump" in point and self.state(key) == "pending":
                await self.price_out()
            if "_bump" not in point or self.state(key) == "pending":
                await self.mine()
            await self.agent.ended(deadline_s=2 * fleet.LOOK_S)

    async def _until_final(self, key: str, *, reorg: bool) -> str:
        left = reorg

        async def final() -> str | None:
            nonlocal left
            state = self.state(key)
            if state in FINAL:
                return state
            for name in self.latches():
                if name.startswith("submit."):
                    await self.say(f"/v1/latches/{name}/clear", {"reason": "it was me"}, by=OPERATOR)
            if left and state == "included":
                left = False
                await self.client.call("anvil_reorg", 1, [])
            await self.mine()
            return None

        return str(await self.agent.until(final, what=f"{key} to be final", deadline_s=DEADLINE_S))


def tables(key: fleet.Key, *, lease: dict[str, object] | None = None) -> list[str]:
    """The parts of `agent.toml` that let it delegate anything to anybody."""
    return [
        documents.table("delegator", {"kind": "dev", "key_file": str(key.file)}),
        documents.table(
            "submit", {"poll_s": 0.1, "resend_after_s": 1, "bump_after_s": 2, **(lease or {"exclusive": True})}
        ),
        documents.table(
            "policy",
            {
                "max_fee_per_gas_wei": str(500 * GWEI),
                "max_tip_wei": str(50 * GWEI),
                "max_amount_per_day": str(10**6 * ETHER),
                "max_gas_wei_per_day": str(10**6 * ETHER),
            },
        ),
        documents.table("[policy.allow]", {"protocol": "devnet", "action": "delegate", "validators": ["*"]}),
    ]


def paper(chain: staking.Staking, genesis: str, *, receipt_key: str) -> deployment.Document:
    """A deployment document for a chain on which agents delegate; its streams are nobody's here."""
    return documents.document(
        chain_id=chain.chain_id,
        genesis=genesis,
        start=chain.start_block,
        signers=[receipt_key],
        frame_blocks=1000,
        receipt_key=receipt_key,
    )


async def hire(ships: fleet.Fleet, agent: fleet.Agent) -> dict[str, str]:
    """Tokens of a proposer and an operator; the agent must not run."""
    tokens: dict[str, str] = {}
    for name, role in ((PROPOSER, "proposer"), (OPERATOR, "operator")):
        file = agent.folder / f"{name}.token"
        await ships.run(
            *("principal", "add", name, "--role", role, "--reason", "the kill matrix"),
            *("--config", str(agent.folder / "agent.toml"), "--token-file", str(file)),
        )
        tokens[name] = file.read_text().strip()
    return tokens


@contextlib.asynccontextmanager
async def desk(folder: Path, *, hub: bool = False) -> AsyncIterator[Desk]:
    """A chain with one validator, an account with coins, an agent that is not started yet. `hub`: its lease comes from a hub that runs."""
    async with (
        anvil.Anvil(slots_in_an_epoch=SLOTS, accounts=4) as node,
        rpc.Rpc(node.url) as client,
        fleet.Fleet(folder) as ships,
    ):
        chain = await staking.deploy(client)
        await chain.do(staking.register_validator(chain.accounts[1], commission_bps=100, metadata="v"))
        account, receipts = ships.key("delegator"), ships.key("receipts")
        await client.call("anvil_setBalance", account.address, hex(10**5 * ETHER))
        await chain.mine()
        genesis = (await client.call("eth_getBlockByNumber", "0x0", False))["hash"]
        document = paper(chain, genesis, receipt_key=receipts.address)
        ships.publish(documents.with_ruleset(document, await ships.ruleset(document)))
        upstream: fleet.Hub | None = None
        lease: dict[str, object] | None = None
        if hub:
            upstream = ships.hub(chain_id=chain.chain_id, receipt_key=receipts)
            await upstream.start()
            await upstream.listening()
            lease = {"lease": "hub", "lease_ttl_s": TTL_S}
        agent = ships.agent(
            "agent", node_url=node.url, limits=fleet.Limits(poll_s=0.1), observe_only=True, hub=upstream,
            tables=tables(account, lease=lease),
        )  # fmt: skip
        yield Desk(client, chain, ships, agent, account, await hire(ships, agent))
