"""Every action of the devnet's manifest, planned and carried out on a real Anvil, and proven by its receipt and nothing else."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Mapping
from typing import Any

import msgspec
import pytest

from devnet import staking
from domain import chain, hashing
from indexers.chain import wire
from indexers.protocols import manifest, planner

STAKE = 7 * 10**18


@dataclasses.dataclass
class World:
    """A validator, another one, and a delegator, all unlocked; `plan` is the devnet's planner on this chain."""

    net: staking.Devnet
    plan: planner.Planner
    first: str
    second: str
    account: str

    @property
    def chain(self) -> staking.Staking:
        return self.net.staking

    @property
    def sender(self) -> bytes:
        return bytes.fromhex(self.account[2:])

    async def planned(self, action: str, **arguments: str) -> planner.Call | planner.Unmet:
        """The loop every caller has: read what is asked for at one block hash, until nothing is."""
        head = (await self.chain.node.call("eth_getBlockByNumber", "latest", False))["hash"]
        known: dict[str, planner.Value] = {}
        for _ in range(8):
            reads = self.plan.reads(action, arguments, account=self.sender, known=known)
            for read in reads:
                request = {"to": hashing.hex0x(read.to), "data": hashing.hex0x(read.data)}
                answer = await self.chain.node.call("eth_call", request, {"blockHash": head})
                known[read.id] = self.plan.result(read, hashing.unhex(answer))
            if not reads:
                return self.plan.plan(action, arguments, account=self.sender, known=known)
        raise AssertionError("the reads never end")

    async def call(self, action: str, **arguments: str) -> planner.Call:
        found = await self.planned(action, **arguments)
        assert isinstance(found, planner.Call), found
        return found

    async def simulate(self, call: planner.Call) -> planner.Simulated:
        request = {"blockStateCalls": [{"calls": [self.request(call)]}], "validation": False, "traceTransfers": False}
        answer = await self.chain.node.call("eth_simulateV1", request, "latest")
        return planner.simulated(msgspec.json.encode(answer))[0]

    async def send(self, call: planner.Call) -> tuple[bool, list[chain.Log]]:
        sent = await self.chain.node.call("eth_sendTransaction", self.request(call) | {"gas": hex(500_000)})
        await self.chain.mine()
        receipt: dict[str, Any] = await self.chain.node.call("eth_getTransactionReceipt", sent)
        return receipt["status"] == "0x1", [wire.log(msgspec.convert(log, wire.Log)) for log in receipt["logs"]]

    def request(self, call: planner.Call) -> dict[str, str]:
        to, data = hashing.hex0x(call.to), hashing.hex0x(call.data)
        return {"from": self.account, "to": to, "data": data, "value": hex(call.value)}

    async def pass_time(self, seconds: int) -> None:
        head = await self.chain.node.call("eth_getBlockByNumber", "latest", False)
        await self.chain.node.call("evm_setNextBlockTimestamp", int(head["timestamp"], 16) + seconds)
        await self.chain.mine()


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with staking.up() as net:
        first, second, account = net.staking.accounts[1:4]
        done = await net.staking.do(
            staking.register_validator(first, commission_bps=0, metadata=""),
            staking.register_validator(second, commission_bps=0, metadata=""),
        )
        assert all(done)
        plan = planner.Planner(manifest.load("devnet", network="devnet"))
        yield World(net, plan, first, second, account)


def hostile(log: chain.Log, *, stranger: bytes) -> Mapping[str, chain.Log]:
    """Logs that look like the proof and are none."""
    replace = msgspec.structs.replace
    topics = log.topics
    other = stranger.rjust(32, b"\0")
    variants = {
        "another emitter": replace(log, address=stranger),
        "a topic more": replace(log, topics=(*topics, other)),
        "a topic less": replace(log, topics=topics[:-1]),
        "no topics": replace(log, topics=()),
        "another event": replace(log, topics=(other, *topics[1:])),
        "a short topic": replace(log, topics=(*topics[:-1], topics[-1][12:])),
        "a dirty address": replace(log, topics=(*topics[:-1], b"\1" + topics[-1][1:])),
        "truncated data": replace(log, data=log.data[:-1]),
        "no data": replace(log, data=b""),
        "another account": replace(log, topics=(*topics[:-1], other)),
    }
    return variants


async def test_every_action_is_proven_by_its_receipt_and_by_no_hostile_log(world: World) -> None:
    stranger = bytes.fromhex(world.second[2:])
    steps: list[tuple[str, dict[str, str]]] = [
        ("delegate", {"validator": world.first, "amount": str(STAKE)}),
        ("undelegate", {"validator": world.first, "amount": str(STAKE - 5)}),
        ("redelegate", {"validator": world.first, "target": world.second, "amount": "5"}),
        ("withdraw", {"ticket": "1"}),
        ("claim", {"validator": world.second}),
    ]
    assert {action for action, _ in steps} == set(world.plan.actions)
    for action, arguments in steps:
        if action == "withdraw":
            await world.pass_time(staking.UNBONDING_DELAY_S + 1)
        if action == "claim":
            await world.chain.do(staking.distribute_reward(world.first, world.second, 1000))
        call = await world.call(action, **arguments)
        simulated = await world.simulate(call)
        assert simulated.ok, (action, simulated.reason)
        assert planner.effects_of(call.effects, simulated.logs) is not None, action
        ok, logs = await world.send(call)
        assert ok, action
        (place,) = planner.effects_of(call.effects, logs) or (None,)
        assert place is not None, action
        proof = logs[place]
        for name, forged in hostile(proof, stranger=stranger).items():
            assert planner.effect_of(call.effects[0], [forged]) is None, (action, name)
        assert planner.effect_of(call.effects[0], [*hostile(proof, stranger=stranger).values(), proof]) == 10


async def test_an_amount_one_wei_off_proves_nothing(world: World) -> None:
    call = await world.call("delegate", validator=world.first, amount=str(STAKE))
    less = await world.call("delegate", validator=world.first, amount=str(STAKE - 1))
    _, logs = await world.send(less)
    assert planner.effects_of(less.effects, logs) == (0,)
    assert planner.effects_of(call.effects, logs) is None
    assert planner.missing(call.effects, logs) == call.effects


async def test_an_unmet_requirement_is_said_and_nothing_is_planned(world: World) -> None:
    await world.send(await world.call("delegate", validator=world.first, amount="5"))
    found = await world.planned("undelegate", validator=world.first, amount="7")
    assert found == planner.Unmet("view.stake is 5 where at least 7 is needed")


async def test_a_simulation_tells_a_revert_from_a_success_without_the_effect(world: World) -> None:
    early = await world.call("withdraw", ticket="1")
    refused = await world.simulate(early)
    assert not refused.ok
    assert refused.logs == ()
    assert refused.reason.startswith("error 0x")
    nowhere = msgspec.structs.replace(early, to=b"\x77" * 20)
    empty = await world.simulate(nowhere)
    assert empty.ok
    assert planner.missing(early.effects, empty.logs) == early.effects


async def test_a_foreign_delegation_to_the_same_validator_is_no_proof_of_ours(world: World) -> None:
    call = await world.call("delegate", validator=world.first, amount=str(STAKE))
    stranger = world.chain.accounts[9]
    request = world.request(call) | {"from": stranger, "gas": hex(500_000)}
    sent = await world.chain.node.call("eth_sendTransaction", request)
    await world.chain.mine()
    receipt = await world.chain.node.call("eth_getTransactionReceipt", sent)
    logs = [wire.log(msgspec.convert(log, wire.Log)) for log in receipt["logs"]]
    assert len(logs) == 1
    assert planner.effects_of(call.effects, logs) is None


async def test_the_simulation_reads_a_pinned_block_by_hash(world: World) -> None:
    call = await world.call("delegate", validator=world.first, amount="9")
    head = (await world.chain.node.call("eth_getBlockByNumber", "latest", False))["hash"]
    answer = await world.chain.node.call(
        "eth_simulateV1", {"blockStateCalls": [{"calls": [world.request(call)]}]}, {"blockHash": head}
    )
    logs = planner.logs_of_simulation(msgspec.json.encode(answer))
    assert planner.effects_of(call.effects, logs) == (0,)
