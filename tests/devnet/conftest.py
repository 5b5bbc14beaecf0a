from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from devnet import staking, truth


@pytest.fixture
async def devnet() -> AsyncIterator[staking.Devnet]:
    """A fresh node with the staking contract on it; `finalized` is 32 blocks behind."""
    async with staking.up() as running:
        yield running


@pytest.fixture
def chain(devnet: staking.Devnet) -> staking.Staking:
    return devnet.staking


@pytest.fixture
def told(chain: staking.Staking) -> truth.Truth:
    return truth.Truth(chain.node, start_block=chain.start_block)
