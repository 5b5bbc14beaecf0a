"""The websocket only rings: dropped, silent and refused sockets cost time, never blocks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from devnet import proxy
from domain import errors
from indexers.chain import heads
from kit import runtime
from tests.agent import indexing


class Watched:
    def __init__(self, url: str, *, stall_s: float = 60) -> None:
        self.rings = 0
        self.clock = runtime.ManualClock()
        self.watch = heads.HeadWatch(url, self.ring, clock=self.clock, stall_s=stall_s, open_timeout_s=2, wait_s=0.2)

    def ring(self) -> None:
        self.rings += 1

    async def until_heads(self, count: int) -> None:
        for _ in range(40):
            if self.watch.heads >= count:
                return
            await self.watch.step()
        raise AssertionError(f"{self.watch.heads} heads")


@asynccontextmanager
async def watching(url: str, *, stall_s: float = 60) -> AsyncIterator[Watched]:
    it = Watched(url, stall_s=stall_s)
    try:
        yield it
    finally:
        await it.watch.close()


async def test_every_new_head_rings(chain: indexing.Chain) -> None:
    async with watching(chain.node.ws_url) as it:
        await it.watch.step()
        await chain.mine(3)
        await it.until_heads(3)
        assert it.rings == 4
        await chain.reorg(1)
        await it.until_heads(4)


async def test_a_connection_rings_because_heads_may_have_been_missed(chain: indexing.Chain) -> None:
    async with proxy.LyingNode(chain.url) as node, watching(node.ws_url) as it:
        await it.watch.step()
        rings = it.rings
        node.drop_sockets()
        await chain.mine(3)
        with pytest.raises(errors.Transient):
            for _ in range(20):
                await it.watch.step()
        assert it.rings > rings
        await it.watch.step()
        assert it.watch.connections == 2
        await chain.mine()
        await it.until_heads(1)


async def test_a_silent_socket_is_replaced_by_the_monotonic_clock(chain: indexing.Chain) -> None:
    async with proxy.LyingNode(chain.url, ["ws-silent"]) as node, watching(node.ws_url, stall_s=30) as it:
        await it.watch.step()
        await chain.mine(3)
        await it.watch.step()
        assert it.watch.connected
        await it.clock.advance(31)
        await it.watch.step()
        assert it.watch.stalls == 1
        assert not it.watch.connected
        node.clear()
        await it.watch.step()
        await chain.mine()
        await it.until_heads(1)


async def test_repeated_heads_are_no_sign_of_life(chain: indexing.Chain) -> None:
    async with watching(chain.node.ws_url, stall_s=30) as it:
        await it.watch.step()
        await chain.mine()
        await it.until_heads(1)
        for _ in range(4):
            await it.clock.advance(10)
            await chain.reorg(1)
            await it.until_heads(it.watch.heads)
            await it.watch.step()
        assert it.watch.stalls == 1


@pytest.mark.parametrize("fault", ["ws-refuse", "ws-drop:count=1"])
async def test_a_node_without_a_working_websocket_is_transient_and_polling_goes_on(
    chain: indexing.Chain, fault: str
) -> None:
    async with proxy.LyingNode(chain.url, [fault]) as node, watching(node.ws_url) as it:
        with pytest.raises(errors.Transient):
            await it.watch.step()
            await chain.mine()
            for _ in range(20):
                await it.watch.step()


async def test_nobody_listening_is_transient() -> None:
    async with watching("ws://127.0.0.1:9") as it:
        with pytest.raises(errors.Transient, match="polling goes on"):
            await it.watch.step()


async def test_skipped_and_repeated_messages_still_ring(chain: indexing.Chain) -> None:
    async with (
        proxy.LyingNode(chain.url, ["ws-skip:count=1,skip=1", "ws-repeat:count=1"]) as node,
        watching(node.ws_url) as it,
    ):
        await it.watch.step()
        await chain.mine(4)
        await it.until_heads(3)


@pytest.fixture
async def chain() -> AsyncIterator[indexing.Chain]:
    async with indexing.running() as it:
        yield it
