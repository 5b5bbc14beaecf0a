"""What needs a person ends: by the person's word once the chain can change nothing any more, or by the cancel the person asked for."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from agent.delegations import sight
from domain import hashing, intent
from indexers.chain import account
from store import attempts, commands, inclusions, intents, outstanding, reservations, settling
from tests.agent import staking_belt
from tests.agent.staking_belt import TIMING

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


async def stuck(town: staking_belt.Town, desk: staking_belt.Desk) -> bytes:
    """Sent, dropped by the node before it was mined, and moved to a person."""
    await town.client.call("evm_setAutomine", False)
    id = await desk.propose("a")
    await desk.until(id, "pending", mine=False)
    async with desk.book.write() as c:
        await intents.move(
            c, id, expect="pending", to="needs_operator", why="the facts disagree", at_s=desk.clock.now()
        )
    return id


async def say(desk: staking_belt.Desk, id: bytes, outcome: intent.Outcome) -> commands.Done | commands.Refused:
    async with desk.book.write() as c:
        return await settling.settle(c, id, outcome=outcome, by="olga", reason="looked", at_s=desk.clock.now())


async def room(desk: staking_belt.Desk) -> int:
    async with desk.book.read() as c:
        return await reservations.in_flight(c, desk.delegator.chain_id, desk.delegator.address)


async def drop(town: staking_belt.Town, desk: staking_belt.Desk, id: bytes) -> None:
    async with desk.book.read() as c:
        for item in await attempts.signed_of(c, id):
            await town.client.call("anvil_dropTransaction", hashing.hex0x(item.hash))


async def test_a_person_settles_an_intent_only_after_its_nonce_is_used_for_good_and_its_place_is_free(
    town: staking_belt.Town, desk: staking_belt.Desk
) -> None:
    id = await stuck(town, desk)
    assert isinstance(await say(desk, id, "final_reverted"), commands.Done)
    await desk.step(desk.confirm)
    waiting = await desk.look(id)
    assert waiting.state == "needs_operator" and "waits until nonce 0 is used in a final block" in waiting.why
    assert await room(desk) == 1
    await drop(town, desk, id)
    await town.foreign(0)
    await town.mine()
    await desk.run(1)
    assert await desk.state(id) == "needs_operator"  # used, and not yet for good
    await town.finalize()
    await desk.step(desk.index)
    async with staking_belt.answering(  # the node shows no bodies, so nothing can be proven
        town.url, "eth_getBlockByHash", {"result": None}, when=lambda params: params[1]
    ) as url:
        desk.endpoint.url = url
        await desk.step(desk.confirm)
    desk.endpoint.url = town.url
    ended = await desk.look(id)
    assert (ended.state, ended.why) == ("final_reverted", "olga: looked")
    assert await room(desk) == 0
    late = await say(desk, id, "superseded")
    assert isinstance(late, commands.Refused) and late.code == "not-needed"


async def test_a_cancel_that_a_person_wants_of_what_needs_one_is_sent_and_mined(
    town: staking_belt.Town, desk: staking_belt.Desk
) -> None:
    id = await stuck(town, desk)
    assert isinstance(await desk.cancel(id), commands.Done)
    await desk.run(2)
    async with desk.book.read() as c:
        assert [
            item.kind
            for item in await attempts.signed_of(c, id)
            for item in [(await attempts.of_intent(c, id))[item.number]]
        ] == ["original", "cancel"]
    await desk.until(id, "cancelled")
    assert await town.effects() == []


@contextlib.asynccontextmanager
async def made_up(town: staking_belt.Town, desk: staking_belt.Desk) -> AsyncIterator[tuple[bytes, dict[str, Any]]]:
    """Sent, lost by the node, and shown by it as reverted in a block that became final: the block disproves it, a person has to act. What the
    node says of its receipts from here on is in the dictionary."""
    await town.client.call("evm_setAutomine", False)
    reply: dict[str, Any] = {"result": None}
    async with staking_belt.answering(town.url, RECEIPT, reply, when=lambda params: reply["result"] is not None) as url:
        desk.endpoint.url = url
        id = await desk.propose("a")
        await desk.until(id, "pending", mine=False)
        await drop(town, desk, id)
        await town.mine()
        async with desk.book.read() as c:
            (tx,) = await attempts.signed_of(c, id)
            (frozen,) = await attempts.of_intent(c, id)
        head = await town.client.call("eth_getBlockByNumber", "latest", False)
        reply["result"] = {
            "transactionHash": hashing.hex0x(tx.hash), "transactionIndex": "0x0", "blockHash": head["hash"],
            "blockNumber": head["number"], "from": hashing.hex0x(staking_belt.ADDRESS),
            "to": hashing.hex0x(frozen.unsigned.to), "gasUsed": "0x5208", "status": "0x0", "logs": [], "type": "0x2",
            "contractAddress": None,
        }  # fmt: skip
        for _ in range(20):
            await desk.run(1)
            await town.mine()
            if await desk.state(id) == "needs_operator":
                break
        assert "does not hold the transaction" in (await desk.look(id)).why
        for latch in await desk.latches():
            await desk.clear(latch)
        yield id, reply
        desk.endpoint.url = town.url


async def test_what_a_node_made_up_and_takes_back_is_sent_again_and_mined(
    town: staking_belt.Town, desk: staking_belt.Desk
) -> None:
    async with made_up(town, desk) as (id, reply):
        reply["result"] = None
        await desk.clock.advance(TIMING.resend_after_s)
        await desk.until(id, "final_ok")
    assert await town.effects() == [staking_belt.ETHER]
    async with desk.book.read() as c:
        made, true = await inclusions.of_intent(c, id)
    assert (made.status, made.orphaned_at_s is None) == (0, False)
    assert (true.status, true.final_at_s is None) == (1, False)


async def test_what_a_node_made_up_is_cancelled_for_a_person_when_it_takes_it_back(
    town: staking_belt.Town, desk: staking_belt.Desk
) -> None:
    async with made_up(town, desk) as (id, reply):
        reply["result"] = None
        assert isinstance(await desk.cancel(id), commands.Done)
        await desk.run(3)
        await desk.until(id, "cancelled")
    assert await town.effects() == []


async def test_a_persons_word_ends_nothing_whose_bytes_can_be_mined_whatever_block_a_node_named(
    town: staking_belt.Town, desk: staking_belt.Desk
) -> None:
    async with made_up(town, desk) as (id, reply):
        for told in (reply["result"], None):
            reply["result"] = told
            assert isinstance(await say(desk, id, "superseded" if told else "final_no_effect"), commands.Done)
            await desk.run(3)
            stored = await desk.look(id)
            assert stored.state == "needs_operator" and "waits until nonce 0 is used" in stored.why
        await desk.clock.advance(TIMING.resend_after_s)
        await desk.until(id, "final_ok")
    assert await town.effects() == [staking_belt.ETHER]


async def test_a_node_that_makes_it_up_again_changes_nothing(town: staking_belt.Town, desk: staking_belt.Desk) -> None:
    async with made_up(town, desk) as (id, reply):
        lie, way = reply["result"], await desk.way(id)
        for told in (None, lie, None, lie):
            reply["result"] = told
            await desk.run(2)
        assert await desk.way(id) == way and await desk.state(id) == "needs_operator"


async def test_an_invented_height_keeps_nobody_waiting_for_ever(
    town: staking_belt.Town, desk: staking_belt.Desk
) -> None:
    """The node once said that its head was there."""
    await town.client.call("evm_setAutomine", False)
    id = await desk.propose("a")
    await desk.until(id, "pending", mine=False)
    await drop(town, desk, id)
    now = int(desk.clock.now())
    async with desk.book.write() as c:
        (tx,) = await attempts.signed_of(c, id)
        far = inclusions.Inclusion(id, 0, tx.hash, 10**12, b"\xfa" * 32, 0, 1, 50_000, 1, None, now)
        await inclusions.save(c, far)
        await intents.move(c, id, expect="pending", to="included", why="as shown", at_s=now)
    other = await desk.propose("b")
    await desk.run(3)
    assert await desk.state(id) == "included"
    async with desk.book.read() as c:
        assert await outstanding.height(c, desk.delegator.chain_id, desk.delegator.address) < 10**12
    await desk.clock.advance(sight.SETTLE_S)
    await desk.until(id, "final_ok")
    await desk.until(other, "final_ok")
    way = await desk.way(id)
    assert way[way.index("pending") :] == ["pending", "included", "pending", "included", "final_ok"]
    async with desk.book.read() as c:
        assert await outstanding.height(c, desk.delegator.chain_id, desk.delegator.address) < 10**12


async def test_what_was_moved_while_the_node_was_asked_is_looked_at_anew(
    town: staking_belt.Town, desk: staking_belt.Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was read as pending, with a receipt; a person's matter must not become an inclusion by what was true before."""
    await town.client.call("evm_setAutomine", False)
    id = await desk.propose("a")
    await desk.until(id, "pending", mine=False)
    await town.mine()
    look = account.Account.look

    async def meanwhile(self: account.Account, *asked: Any, **named: Any) -> Any:
        found = await look(self, *asked, **named)
        async with desk.book.write() as c:
            at_s = desk.clock.now()
            await intents.move(c, id, expect="pending", to="needs_operator", why="the facts disagree", at_s=at_s)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(account.Account, "look", meanwhile)
        await desk.confirm.step()
    async with desk.book.read() as c:
        assert await inclusions.of_intent(c, id) == []
    assert await desk.state(id) == "needs_operator"
    await desk.until(id, "final_ok")
