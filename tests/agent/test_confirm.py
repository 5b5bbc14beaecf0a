"""Following: a receipt that cannot be true moves nothing, and an intent is done when our own index shows its effect in a final block."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from agent.delegations import sight
from agent.services import nonce_audit
from domain import errors, hashing, intent
from indexers.chain import account
from store import attempts, inclusions, intents
from tests.agent import staking_belt
from tests.agent.staking_belt import ETHER, GWEI, TIMING

RECEIPT = "eth_getTransactionReceipt"


@pytest.fixture
async def town() -> AsyncIterator[staking_belt.Town]:
    async with staking_belt.town() as it:
        yield it


@pytest.fixture
async def desk(town: staking_belt.Town, tmp_path: Path) -> AsyncIterator[staking_belt.Desk]:
    async with staking_belt.desk(town, tmp_path / "book.db") as it:
        yield it
        await it.sound()


LIES: list[tuple[str, dict[str, Any]]] = [
    ("another transaction", {"transactionHash": "0x" + "ab" * 32}),
    ("another sender", {"from": "0x" + "ab" * 20}),
    ("another recipient", {"to": "0x" + "ab" * 20}),
    ("no recipient", {"to": None}),
    ("a new contract", {"contractAddress": "0x" + "ab" * 20}),
    ("a third status", {"status": "0x2"}),
    ("no status", {"status": ""}),
    ("another type", {"type": "0x0"}),
    ("more gas than it may use", {"gasUsed": "0xffffffff"}),
    ("no gas", {"gasUsed": "0x0"}),
    ("half a block hash", {"blockHash": "0x" + "ab" * 16}),
    ("a block number beyond all", {"blockNumber": "0x" + "f" * 20}),
    ("a revert with logs", {"status": "0x0"}),
    ("logs of another block", {"blockHash": "0x" + "ab" * 32}),
    ("a text for logs", {"logs": "none"}),
]


async def test_a_receipt_that_contradicts_what_was_signed_moves_nothing(
    town: staking_belt.Town, desk: staking_belt.Desk
) -> None:
    id = await desk.propose("a")
    await desk.run(1)
    await town.mine()
    lie: dict[str, Any] = {}
    async with staking_belt.answering(town.url, RECEIPT, change=lambda honest: honest | lie) as url:
        desk.endpoint.url = url
        for what, fields in LIES:
            lie.clear()
            lie.update(fields)
            with pytest.raises(errors.BadAnswer):
                await desk.confirm.step()
            assert await desk.state(id) == "pending", what
    desk.endpoint.url = town.url
    await desk.until(id, "final_ok")


async def test_a_receipt_that_cannot_be_holds_up_nobody_else(town: staking_belt.Town, desk: staking_belt.Desk) -> None:
    good = await desk.propose("a")
    bad = await desk.propose("b")
    await desk.run(1)
    async with desk.book.read() as c:
        (signed,) = await attempts.signed_of(c, bad)
    await town.mine()

    def lied(honest: Any) -> Any:
        wrong = honest is not None and honest["transactionHash"] == "0x" + signed.hash.hex()
        return honest | {"from": "0x" + "11" * 20} if wrong else honest

    async with staking_belt.answering(town.url, RECEIPT, change=lied) as url:
        desk.endpoint.url = url
        with pytest.raises(errors.BadAnswer):
            await desk.confirm.step()
        assert (await desk.state(good), await desk.state(bad)) == ("included", "pending")
    desk.endpoint.url = town.url
    await desk.until(bad, "final_ok")


async def test_a_receipt_of_a_block_that_the_node_itself_does_not_have_moves_nothing(
    town: staking_belt.Town, desk: staking_belt.Desk
) -> None:
    id = await desk.propose("a")
    await desk.run(1)
    await town.mine()
    other = "0x" + "ab" * 32

    def elsewhere(honest: Any) -> Any:
        return honest | {"blockHash": other, "logs": [log | {"blockHash": other} for log in honest["logs"]]}

    async with staking_belt.answering(town.url, RECEIPT, change=elsewhere) as url:
        desk.endpoint.url = url
        await desk.step(desk.confirm)
    assert await desk.state(id) == "pending"
    desk.endpoint.url = town.url


async def test_an_effect_that_only_the_receipt_shows_is_not_enough(
    town: staking_belt.Town, desk: staking_belt.Desk
) -> None:
    """The node invents the log; the receipts that were proven against the header have none."""
    out = await desk.propose("out")
    await desk.run(1)
    async with desk.book.read() as c:
        (frozen,) = await attempts.of_intent(c, out)
    await town.client.call("anvil_setCode", "0x" + frozen.unsigned.to.hex(), "0x00")  # does nothing and succeeds
    await town.mine()

    def invent(honest: Any) -> Any:
        log = {
            "address": honest["to"],
            "topics": ["0x" + hashing.keccak256(b"Delegated(address,address,uint256)").hex()]
            + ["0x" + "00" * 12 + who[2:] for who in (town.validator, honest["from"])],
            "data": hex(ETHER)[2:].rjust(64, "0").join(["0x", ""]),
            "logIndex": "0x0",
            "removed": False,
            **{name: honest[name] for name in ("blockHash", "blockNumber", "transactionHash", "transactionIndex")},
        }
        return honest | {"logs": [log]}

    async with staking_belt.answering(town.url, RECEIPT, change=invent) as url:
        desk.endpoint.url = url
        stored = await desk.until(out, "final_ok", "needs_operator")
    assert stored.state == "needs_operator" and "submit.effect" in await desk.latches()
    desk.endpoint.url = town.url


async def test_a_log_of_ours_that_says_something_else_than_the_receipt_proves_nothing(
    town: staking_belt.Town, desk: staking_belt.Desk
) -> None:
    """The contract delegates a unit, the receipt is said to show the whole amount, and the book holds what happened at the very same place."""
    id = await desk.propose("out")
    await desk.run(1)
    async with desk.book.read() as c:
        (frozen,) = await attempts.of_intent(c, id)
    words = [hashing.keccak256(b"Delegated(address,address,uint256)")]
    words += [who.rjust(32, b"\0") for who in (hashing.unhex(town.validator), staking_belt.ADDRESS)]
    push = [b"\x7f" + word for word in (*reversed(words), (1).to_bytes(32, "big"))]
    code = push[-1] + b"\x5f\x52" + b"".join(push[:-1]) + b"\x60\x20\x5f" + b"\xa3" + b"\x00"  # MSTORE, LOG3, STOP
    await town.client.call("anvil_setCode", hashing.hex0x(frozen.unsigned.to), hashing.hex0x(code))
    await town.mine()

    def more(honest: Any) -> Any:
        return honest | {
            "logs": [log | {"data": hex(ETHER)[2:].rjust(64, "0").join(["0x", ""])} for log in honest["logs"]]
        }

    async with staking_belt.answering(town.url, RECEIPT, change=more) as url:
        desk.endpoint.url = url
        stored = await desk.until(id, "final_ok", "needs_operator")
    assert stored.state == "needs_operator" and "submit.effect" in await desk.latches()
    assert await town.effects() == [1]
    desk.endpoint.url = town.url


async def test_a_call_that_succeeds_without_its_event_is_final_without_effect_and_raises_an_alarm(
    town: staking_belt.Town, desk: staking_belt.Desk
) -> None:
    id = await desk.propose("a")
    await desk.run(1)
    async with desk.book.read() as c:
        (frozen,) = await attempts.of_intent(c, id)
    await town.client.call("anvil_setCode", "0x" + frozen.unsigned.to.hex(), "0x00")
    await desk.until(id, "final_no_effect")
    assert await desk.latches() == ["submit.effect"]
    later = await desk.propose("b")
    await desk.run(2)
    assert await desk.state(later) == "new" and "submit.effect" in (await desk.look(later)).why


async def test_a_hidden_receipt_holds_the_intent_back_and_nothing_else(
    town: staking_belt.Town, desk: staking_belt.Desk
) -> None:
    id = await desk.propose("a")
    await desk.run(1)
    async with staking_belt.answering(town.url, RECEIPT, {"result": None}) as url:
        desk.endpoint.url = url
        await town.mine()
        await desk.run(3)
        assert await desk.state(id) == "pending"
    desk.endpoint.url = town.url
    await desk.until(id, "final_ok")


@pytest.mark.parametrize(
    ("told", "why"),
    [
        (None, "the book holds the effect of nonce 0, and the node knows no receipt of it"),
        ({"status": "0x0", "logs": []}, "the receipt says that it reverted, and the book has a log of it"),
    ],
    ids=["no receipt", "a revert"],
)
async def test_what_a_node_says_against_a_log_that_our_own_index_holds_ends_nothing(
    town: staking_belt.Town, desk: staking_belt.Desk, told: dict[str, Any] | None, why: str
) -> None:
    id = await desk.propose("a")
    await desk.run(1)
    async with staking_belt.answering(
        town.url, RECEIPT, change=lambda honest: None if told is None else honest | told
    ) as url:
        desk.endpoint.url = url
        stored = await desk.until(id, "needs_operator", *intent.FINAL)
    assert stored.state == "needs_operator" and why in stored.why
    desk.endpoint.url = town.url
    assert await town.effects() == [ETHER]


async def test_a_node_with_two_answers_about_a_receipt_is_told_on_the_intent_until_it_has_one(
    town: staking_belt.Town, desk: staking_belt.Desk
) -> None:
    """A balancer with two backends in turn: whichever inclusion stands, the next answer contradicts it."""
    id = await desk.propose("a")
    await desk.run(1)
    turn = itertools.count()

    def alternate(honest: Any) -> Any:
        return honest if next(turn) % 2 else honest | {"gasUsed": hex(int(honest["gasUsed"], 16) - 1)}

    async with staking_belt.answering(town.url, RECEIPT, change=alternate) as url:
        desk.endpoint.url = url
        for _ in range(8):
            await town.mine()
            await desk.run(1)
        assert "the answers about it change" not in (await desk.look(id)).why  # not yet: reorgs end soon
        await desk.clock.advance(sight.SETTLE_S)
        await desk.run(1)
        stored = await desk.look(id)
        assert stored.state in ("included", "pending") and "the answers about it change" in stored.why
        assert "the node says otherwise of block" in stored.why
    desk.endpoint.url = town.url
    await desk.until(id, "final_ok")


async def test_a_receipt_is_never_final_before_our_own_index_is(
    town: staking_belt.Town, desk: staking_belt.Desk
) -> None:
    id = await desk.propose("a")
    await desk.run(1)
    await town.mine()
    await town.finalize()
    for _ in range(3):  # the index does not run: it is slow, or latched
        await desk.step(desk.confirm)
    assert await desk.state(id) == "included"
    await desk.until(id, "final_ok")


async def test_an_inclusion_keeps_where_its_effect_is_and_what_it_cost(
    town: staking_belt.Town, desk: staking_belt.Desk
) -> None:
    id = await desk.propose("a")

    async with staking_belt.answering(
        town.url, RECEIPT, change=lambda honest: honest | {"effectiveGasPrice": "0x1"}
    ) as url:
        desk.endpoint.url = url  # a client that calls the tip the price
        await desk.until(id, "final_ok")
    desk.endpoint.url = town.url
    async with desk.book.read() as c:
        found = await inclusions.standing(c, id)
        assert found is not None
        history = await intents.history(c, id)
    receipt = await town.client.call(RECEIPT, "0x" + found.tx_hash.hex())
    assert found.gas_price_wei == int(receipt["effectiveGasPrice"], 16) < 100 * GWEI
    assert found.gas_used == int(receipt["gasUsed"], 16)
    assert found.effect_log_index == int(receipt["logs"][0]["logIndex"], 16)
    assert [step.number for step in history] == list(range(1, len(history) + 1))


async def test_what_was_sent_is_followed_while_the_chain_does_not_finalize_for_long(
    town: staking_belt.Town, desk: staking_belt.Desk
) -> None:
    """The node has dropped the state of its finalized block: nobody's count there can be asked for."""
    await desk.until(await desk.propose("a"), "final_ok")
    gone = {"error": {"code": -32000, "message": "missing trie node 1234 (path ) state 0x1234 is not available"}}
    async with staking_belt.answering(
        town.url, "eth_getTransactionCount", gone, when=lambda params: params[1] not in ("latest", "pending")
    ) as url:
        desk.endpoint.url = url
        id = await desk.propose("b")
        await desk.until(id, "final_ok")
    desk.endpoint.url = town.url


async def test_a_node_that_cannot_look_into_history_latches_no_service(
    town: staking_belt.Town, desk: staking_belt.Desk
) -> None:
    id = await desk.propose("a")
    await desk.run(1)
    gone = {"error": {"code": 4444, "message": "pruned history unavailable"}}
    async with staking_belt.answering(town.url, RECEIPT, gone) as url:
        desk.endpoint.url = url
        await desk.confirm.step()
    for method in ("eth_getBlockByNumber", "eth_getTransactionCount"):
        async with staking_belt.answering(town.url, method, gone) as url:
            desk.endpoint.url = url
            with pytest.raises(errors.Transient):
                await desk.confirm.step()
    desk.endpoint.url = town.url
    await desk.until(id, "final_ok")


@pytest.mark.parametrize("wanted", ["bump", "cancel"])
async def test_a_node_that_tells_no_fees_keeps_nothing_from_being_sent_again_or_audited(
    town: staking_belt.Town, desk: staking_belt.Desk, monkeypatch: pytest.MonkeyPatch, wanted: str
) -> None:
    await town.client.call("evm_setAutomine", False)
    id = await desk.propose("a")
    await desk.until(id, "pending", mine=False)
    await town.client.call("anvil_dropAllTransactions")
    await desk.clock.advance(TIMING.resend_after_s if wanted == "cancel" else TIMING.bump_after_s)
    if wanted == "cancel":
        await desk.cancel(id)
    audited: list[int] = []
    check = nonce_audit.NonceAudit.check

    async def watched(self: nonce_audit.NonceAudit, standing: account.Standing) -> Any:
        audited.append(standing.count_latest)
        return await check(self, standing)

    monkeypatch.setattr(nonce_audit.NonceAudit, "check", watched)
    busy = {"error": {"code": -32000, "message": "busy"}}
    async with staking_belt.answering(town.url, "eth_feeHistory", busy) as url:
        desk.endpoint.url = url
        with pytest.raises(errors.Transient, match="eth_feeHistory"):  # and the step says so
            await desk.confirm.step()
        assert audited == [0]
        await desk.step(desk.submit)
    desk.endpoint.url = town.url
    assert (await town.client.call("txpool_status"))["pending"] == "0x1"
