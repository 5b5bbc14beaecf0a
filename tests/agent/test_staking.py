"""The staking belt on a real node: an intent becomes an effect, once, and its end is what the chain shows."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.agent import staking_belt
from tests.agent.staking_belt import ETHER


@pytest.fixture
async def town() -> AsyncIterator[staking_belt.Town]:
    async with staking_belt.town() as it:
        yield it


@pytest.fixture
async def desk(town: staking_belt.Town, tmp_path: Path) -> AsyncIterator[staking_belt.Desk]:
    async with staking_belt.desk(town, tmp_path / "book.db") as it:
        yield it
        await it.sound()


async def test_a_delegation_goes_from_intent_to_a_final_effect(
    town: staking_belt.Town, desk: staking_belt.Desk
) -> None:
    id = await desk.propose("a")
    done = await desk.until(id, "final_ok")
    assert await town.effects() == [ETHER]
    assert await desk.way(id) == ["planned", "reserved", "signed", "pending", "included", "final_ok"], done
    assert await desk.verdicts(id) == [("allow", "all")]
