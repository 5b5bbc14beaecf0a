"""A process of its own that indexes until it stands where the node stands; the crash tests kill it at named points.

python -m tests.agent.index_process URL BOOK CONTRACT GENESIS
"""

from __future__ import annotations

import asyncio
import sys

import aiohttp

from agent.services import index
from devnet import anvil
from indexers.chain import reader
from kit import jsonrpc, runtime
from store import book
from tests.agent import indexing


async def main(url: str, path: str, contract: str, genesis: str) -> None:
    origin = bytes.fromhex(genesis)
    it = await book.open_book(
        f"sqlite:///{path}", deployment=indexing.DEPLOYMENT, chain_id=anvil.CHAIN_ID, genesis=origin
    )
    async with aiohttp.ClientSession() as session:
        service = index.IndexService(
            it,
            reader.Reader(jsonrpc.Endpoint(url, session=session)),
            [indexing.Decoder(bytes.fromhex(contract[2:]))],
            chain_id=anvil.CHAIN_ID,
            genesis=origin,
            start=1,
            marks=lambda first, last: (),
            clock=runtime.SystemClock(),
            poll_s=1.0,
        )
        for _ in range(500):
            wait_s = await service.step()
            if service.state == "following" and wait_s and service.lag_blocks == 0:
                break
        else:
            raise AssertionError(service.state)
    await it.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:5]))
