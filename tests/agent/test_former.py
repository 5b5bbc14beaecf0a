"""After a change of the key: what the old account still has under way is followed, and nothing new is signed for it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from agent.services import former
from devnet import anvil
from domain import hashing
from indexers.chain import account
from signers import keys
from store import attempts
from tests.agent import staking_belt

NEW = keys.LocalKey(b"\x0e" * 32).address


@pytest.fixture
async def town() -> AsyncIterator[staking_belt.Town]:
    async with staking_belt.town() as it:
        yield it


@pytest.fixture
async def desk(town: staking_belt.Town, tmp_path: Path) -> AsyncIterator[staking_belt.Desk]:
    async with staking_belt.desk(town, tmp_path / "book.db") as it:
        yield it
        await it.sound()


def service(desk: staking_belt.Desk) -> former.FormerService:
    """As the agent has it that was given another key."""
    node = account.Account(desk.endpoint, chain_id=anvil.CHAIN_ID, address=staking_belt.ADDRESS)
    return former.FormerService(msgspec.structs.replace(desk.delegator, address=NEW), [node])


async def pending(town: staking_belt.Town, desk: staking_belt.Desk) -> bytes:
    await town.client.call("evm_setAutomine", False)
    id = await desk.propose("a")
    await desk.until(id, "pending", mine=False)
    return id


async def test_the_open_intents_of_an_account_without_its_key_are_found_and_followed_to_their_ends(
    town: staking_belt.Town, desk: staking_belt.Desk
) -> None:
    id, following = await pending(town, desk), service(desk)
    async with desk.book.read() as c:
        assert await former.accounts(c, current=NEW) == {staking_belt.ADDRESS: 1}
        assert await former.accounts(c, current=staking_belt.ADDRESS) == {}
    for _ in range(12):
        await town.mine()
        await desk.step(desk.index)
        await following.step()
    assert await desk.state(id) == "final_ok"
    async with desk.book.read() as c:
        assert await former.accounts(c, current=NEW) == {}


async def test_what_is_signed_is_sent_again_without_its_key(town: staking_belt.Town, desk: staking_belt.Desk) -> None:
    id, following = await pending(town, desk), service(desk)
    async with desk.book.read() as c:
        (signed,) = await attempts.signed_of(c, id)
    await town.client.call("anvil_dropTransaction", hashing.hex0x(signed.hash))
    await desk.clock.advance(desk.delegator.timing.resend_after_s)
    await following.step()
    await town.mine()
    assert await town.count() == 1


async def test_a_bump_and_a_cancel_say_that_they_need_the_old_key(
    town: staking_belt.Town, desk: staking_belt.Desk
) -> None:
    id, following = await pending(town, desk), service(desk)
    await desk.clock.advance(desk.delegator.timing.bump_after_s + 1)
    await following.step()
    assert "a bump waits" in (await desk.look(id)).why and "is not configured here" in (await desk.look(id)).why
    await desk.cancel(id)
    await following.step()
    assert "a cancel waits" in (await desk.look(id)).why and "is not configured here" in (await desk.look(id)).why
    async with desk.book.read() as c:
        assert len(await attempts.of_intent(c, id)) == 1


async def test_an_account_whose_key_is_elsewhere_latches_nothing(
    town: staking_belt.Town, desk: staking_belt.Desk
) -> None:
    id, following = await pending(town, desk), service(desk)
    await town.mine()
    await town.foreign(1)
    for _ in range(12):
        await town.mine()
        await desk.step(desk.index)
        await following.step()
    assert await desk.state(id) == "final_ok" and await desk.latches() == []
