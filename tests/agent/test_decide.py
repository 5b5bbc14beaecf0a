"""Deciding: nothing is refused because a node was away, and what a node cannot show is said in the decision."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from agent.delegations import policy
from devnet import proxy
from indexers.protocols import planner
from store import attempts, decisions
from tests.agent import staking_belt
from tests.agent.staking_belt import ETHER


@pytest.fixture
async def town() -> AsyncIterator[staking_belt.Town]:
    async with staking_belt.town() as it:
        yield it


async def test_a_node_that_fails_at_any_read_refuses_nothing(town: staking_belt.Town, tmp_path: Path) -> None:
    methods = (
        "eth_getBlockByNumber", "eth_getTransactionCount", "eth_getBalance", "eth_call", "eth_simulateV1",
        "eth_estimateGas", "eth_feeHistory", "eth_chainId",
    )  # fmt: skip
    async with (
        proxy.LyingNode(town.url) as liar,
        staking_belt.desk(town, tmp_path / "book.db", url=liar.url) as desk,
    ):
        await desk.until(await desk.propose("in"), "final_ok")
        for method in methods:
            for fault in ("error", "503", "html", "error:code=-32000,message=execution aborted"):
                name, _, options = fault.partition(":")
                liar.set_faults([f"{name}:methods={method}" + (f",{options}" if options else "")])
                id = await desk.propose(f"{method}{fault}", "undelegate", validator=town.validator, amount="1")
                await desk.step(desk.decide)
                assert await desk.state(id) in ("new", "planned"), (method, fault)
                liar.set_faults([])
                await desk.cancel(id)
        assert await town.count() == 1


async def test_without_simulations_the_estimate_counts_and_the_decision_says_so(
    town: staking_belt.Town, tmp_path: Path
) -> None:
    missing = {"error": {"code": -32601, "message": "the method eth_simulateV1 does not exist"}}
    async with (
        staking_belt.desk(town, tmp_path / "book.db") as desk,
        staking_belt.answering(town.url, "eth_simulateV1", missing) as url,
    ):
        desk.endpoint.url = url
        good = await desk.propose("a")
        bad = await desk.propose("b", "withdraw", ticket="9")
        await desk.run(1)
        async with desk.book.read() as c:
            (made,) = await decisions.for_intent(c, good)
        shown = {finding.rule: finding.detail for finding in policy.decode(made.findings)}
        assert "the effect was not seen" in shown["simulation"]
        await desk.until(good, "final_ok")
        await desk.until(bad, "rejected")


async def test_a_simulation_that_succeeds_without_its_event_is_refused(town: staking_belt.Town, tmp_path: Path) -> None:
    async with staking_belt.desk(town, tmp_path / "book.db") as desk:
        await town.client.call("anvil_setCode", town.contract.address, "0x00")
        id = await desk.propose("a")
        await desk.run(1)
        stored = await desk.look(id)
        assert stored.state == "rejected" and "without the Delegated" in stored.why


async def test_what_a_contract_says_is_kept_without_secrets_and_on_one_line(
    town: staking_belt.Town, tmp_path: Path
) -> None:
    """A reason is the contract's own text: it may quote whatever was in a calldata, a log or a gateway."""
    token, key = "stk_" + "A" * 43, "ab" * 32
    said = f"nope {token} https://u:hunter2@host/x 0x{key} \n\x1b[2J".encode() + b"x" * 5000
    words = (32).to_bytes(32, "big") + len(said).to_bytes(32, "big") + said + b"\0" * (-len(said) % 32)

    def refuse(found: Any) -> Any:
        found[0]["calls"][0] |= {"status": "0x0", "returnData": "0x08c379a0" + words.hex(), "logs": []}
        return found

    async with (
        staking_belt.desk(town, tmp_path / "book.db") as desk,
        staking_belt.answering(town.url, "eth_simulateV1", change=refuse) as url,
    ):
        desk.endpoint.url = url
        id = await desk.propose("a")
        await desk.until(id, "rejected", mine=False)
        async with desk.book.read() as c:
            (made,) = await decisions.for_intent(c, id)
    (found,) = [item.detail for item in policy.decode(made.findings) if "nope" in item.detail]
    for shown in (found, made.why):
        assert not [bad for bad in (token, "hunter2", key, "\n", "\x1b") if bad in shown], shown
        assert len(shown) < 1000


async def test_the_gas_limit_is_a_quarter_above_the_estimate_and_never_above_the_cap(
    town: staking_belt.Town, tmp_path: Path
) -> None:
    async with staking_belt.desk(town, tmp_path / "plain.db") as desk:
        id = await desk.propose("a")
        await desk.step(desk.decide)
        async with desk.book.read() as c:
            (frozen,) = await attempts.of_intent(c, id)
        limit = frozen.unsigned.gas
    estimate = limit * 4 // 5
    for most, gas in ((limit + 1, limit), (limit - 10, limit - 10), (estimate - 5, None)):
        section = staking_belt.limits(max_gas=most)
        async with staking_belt.desk(town, tmp_path / f"{most}.db", section=section) as desk:
            id = await desk.propose("a")
            await desk.step(desk.decide)
            async with desk.book.read() as c:
                found = await attempts.of_intent(c, id)
            assert [item.unsigned.gas for item in found] == ([] if gas is None else [gas])
            assert await desk.state(id) == ("rejected" if gas is None else "reserved")


async def test_fees_above_the_cap_are_waited_out(town: staking_belt.Town, tmp_path: Path) -> None:
    async with staking_belt.desk(
        town, tmp_path / "book.db", section=staking_belt.limits(max_fee_per_gas_wei="1000000000", max_tip_wei="10")
    ) as desk:
        await town.client.call("anvil_setNextBlockBaseFeePerGas", hex(90 * 10**9))
        await town.mine()
        id = await desk.propose("a")
        await desk.run(2)
        stored = await desk.look(id)
        assert stored.state == "planned" and "per gas" in stored.why
        before = stored.changed_at_s
        await desk.clock.advance(30)
        await desk.run(2)
        assert (await desk.look(id)).changed_at_s == before, "a wait that goes on is not written again as news"
        await town.client.call("anvil_setNextBlockBaseFeePerGas", hex(10**6))
        await town.mine()
        await desk.clock.advance(30)
        await desk.until(id, "final_ok")


async def test_a_budget_and_a_balance_are_counted_with_what_is_under_way(
    town: staking_belt.Town, tmp_path: Path
) -> None:
    async with staking_belt.desk(town, tmp_path / "book.db") as desk:
        whole = {"validator": town.validator, "amount": str(600 * ETHER)}
        first, second = await desk.propose("a", **whole), await desk.propose("b", **whole)
        await desk.run(1)
        assert await desk.state(first) == "pending"
        waiting = await desk.look(second)
        assert waiting.state == "planned" and "committed" in waiting.why
        await desk.until(first, "final_ok")
        await desk.until(second, "rejected")  # now it is certain that there is too little


async def test_an_intent_that_a_node_chokes_on_does_not_hold_up_the_others(
    town: staking_belt.Town, tmp_path: Path
) -> None:
    broken = {"error": {"code": -32015, "message": "VM execution error"}}
    async with (
        staking_belt.desk(town, tmp_path / "book.db") as desk,
        staking_belt.answering(town.url, "eth_call", broken) as url,
    ):
        await desk.until(await desk.propose("in"), "final_ok")
        desk.endpoint.url = url
        bad = await desk.propose("bad", "undelegate", validator=town.validator, amount="1")
        good = await desk.propose("good")
        await desk.run(3)
        assert await desk.state(good) == "pending"
        stored = await desk.look(bad)
        assert stored.state == "new" and "cannot say" in stored.why
        desk.endpoint.url = town.url
        await desk.until(bad, "final_ok")


async def test_a_node_that_is_behind_what_was_seen_already_refuses_nothing(
    town: staking_belt.Town, tmp_path: Path
) -> None:
    """A balancer asks another backend each time, and one of them has not seen the delegation yet."""
    old = await town.client.call("eth_getBlockByNumber", "latest", False)
    async with (
        staking_belt.desk(town, tmp_path / "book.db") as desk,
        staking_belt.answering(
            town.url, "eth_getBlockByNumber", {"result": old}, when=lambda asked: asked[0] in ("latest", "finalized")
        ) as behind,
    ):
        await desk.until(await desk.propose("in"), "final_ok")
        id = await desk.propose("out", "undelegate", validator=town.validator, amount=str(ETHER))
        desk.endpoint.url = behind
        await desk.step(desk.decide)
        stored = await desk.look(id)
        assert stored.state in ("new", "planned") and "behind" in stored.why
        desk.endpoint.url = town.url
        await desk.until(id, "final_ok")
        never = await desk.propose("more", "undelegate", validator=town.validator, amount=str(ETHER))
        await desk.until(never, "rejected")


async def test_what_the_policy_alone_refuses_needs_no_node_that_is_ahead(
    town: staking_belt.Town, tmp_path: Path
) -> None:
    old = await town.client.call("eth_getBlockByNumber", "latest", False)
    section = staking_belt.limits(max_amount_per_day=str(ETHER))
    async with (
        staking_belt.desk(town, tmp_path / "book.db", section=section) as desk,
        staking_belt.answering(
            town.url, "eth_getBlockByNumber", {"result": old}, when=lambda asked: asked[0] in ("latest", "finalized")
        ) as behind,
    ):
        await desk.until(await desk.propose("in"), "final_ok")
        desk.endpoint.url = behind
        id = await desk.propose("again")
        await desk.step(desk.decide)
        stored = await desk.look(id)
        assert stored.state == "rejected" and "amount_per_day" in stored.why
        desk.endpoint.url = town.url


async def test_what_cannot_be_planned_from_a_view_waits_for_what_is_under_way(
    town: staking_belt.Town, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def plan(action: str, *rest: object, **facts: object) -> planner.Call | planner.Unmet:
        if action == "undelegate":
            raise planner.Refused("ticket 0 lies past the end of its list")
        return honest(action, *rest, **facts)  # type: ignore[arg-type]

    async with staking_belt.desk(town, tmp_path / "book.db") as desk:
        honest = desk.planner.plan
        monkeypatch.setattr(desk.planner, "plan", plan)
        first = await desk.propose("in")
        await desk.run(1)
        second = await desk.propose("out", "undelegate", validator=town.validator, amount=str(ETHER))
        await desk.step(desk.decide)
        assert await desk.state(second) == "new" and "under way" in (await desk.look(second)).why
        await desk.until(first, "final_ok")
        stored = await desk.until(second, "rejected")
        assert "past the end" in stored.why


async def test_while_there_is_no_room_in_flight_no_node_is_asked(town: staking_belt.Town, tmp_path: Path) -> None:
    async with staking_belt.desk(town, tmp_path / "book.db", section=staking_belt.limits(max_in_flight=1)) as desk:
        first, second = await desk.propose("a"), await desk.propose("b")
        await desk.decide.step()
        assert await desk.state(first) == "reserved"
        desk.endpoint.url = "http://127.0.0.1:9"
        await desk.decide.step()
        stored = await desk.look(second)
        assert (stored.state, stored.why) == ("new", "1 are under way, the policy has room for 1")
        desk.endpoint.url = town.url
        await desk.until(second, "final_ok")
