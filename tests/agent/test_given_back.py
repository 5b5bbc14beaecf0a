"""What gives stake back to the day: a cancel that a block proves, and nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from store import attempts, intents, reservations, settling
from tests.agent import staking_belt
from tests.agent.staking_belt import ADDRESS, ETHER


@pytest.fixture
async def town() -> AsyncIterator[staking_belt.Town]:
    async with staking_belt.town() as it:
        await it.client.call("evm_setAutomine", False)
        yield it


@pytest.fixture
async def desk(town: staking_belt.Town, tmp_path: Path) -> AsyncIterator[staking_belt.Desk]:
    async with staking_belt.desk(town, tmp_path / "book.db") as it:
        yield it
        await it.sound()


async def spent(desk: staking_belt.Desk) -> int:
    async with desk.book.read() as c:
        return (await reservations.spent(c, account=ADDRESS, since_s=0)).amount


async def test_a_reverted_call_goes_on_counting_and_a_mined_cancel_does_not(
    town: staking_belt.Town, desk: staking_belt.Desk
) -> None:
    given_up = await desk.propose("a")
    await desk.until(given_up, "pending", mine=False)
    await desk.cancel(given_up)
    await desk.run(3)
    await desk.until(given_up, "cancelled")
    assert await spent(desk) == 0
    id = await desk.propose("b")
    await desk.until(id, "pending", mine=False)
    await town.client.call("anvil_setCode", town.contract.address, "0x5f5ffd")  # reverts
    await desk.until(id, "final_reverted")
    assert await spent(desk) == ETHER


async def test_a_persons_word_that_it_was_cancelled_gives_nothing_back(
    town: staking_belt.Town, desk: staking_belt.Desk
) -> None:
    id = await desk.propose("a")
    await desk.until(id, "pending", mine=False)
    await desk.cancel(id)
    await desk.run(3)
    async with desk.book.write() as c:
        assert len(await attempts.signed_of(c, id)) == 2
        at_s = desk.clock.now()
        await intents.move(c, id, expect="pending", to="needs_operator", why="a test", at_s=at_s)
        await settling.settle(c, id, outcome="cancelled", by="olga", reason="so I think", at_s=at_s)
    await town.client.call("anvil_dropAllTransactions")
    await town.foreign(0)
    # No block is shown, so nothing is proven of what took the nonce.
    gone = {"result": None}
    async with staking_belt.answering(town.url, "eth_getBlockByHash", gone, when=lambda params: params[1]) as url:
        desk.endpoint.url = url
        stored = await desk.until(id, "cancelled")
    assert stored.why == "olga: so I think" and await spent(desk) == ETHER
