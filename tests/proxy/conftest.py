from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import aiohttp
import pytest

from devnet import anvil, proxy
from tests.proxy.chain import Chain

Lying = Callable[..., proxy.LyingNode]


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as session:
        yield session


@pytest.fixture
async def chain(session: aiohttp.ClientSession) -> AsyncIterator[Chain]:
    """A fresh chain of twelve blocks; the last four are not final."""
    async with anvil.Anvil(slots_in_an_epoch=2) as node:
        chain = Chain(node, session)
        await chain.set_up()
        yield chain


@pytest.fixture
def lying(chain: Chain) -> Lying:
    """`async with lying("drop-logs:k=1") as node`."""

    def make(*faults: str, seed: int = 1) -> proxy.LyingNode:
        return proxy.LyingNode(chain.url, faults, seed)

    return make
