"""The staking contract, the real decoder and the player's reorgs, compared with the ground truth row by row."""

from __future__ import annotations

import contextlib
from pathlib import Path

import aiohttp
import pytest

from agent.services import index
from devnet import anvil, play, rpc, staking, truth
from domain import errors
from indexers.chain import reader
from indexers.protocols import decoder, manifest
from kit import jsonrpc, runtime
from store import book, journal


@pytest.mark.parametrize(("seed", "proof"), [(1, "receipts"), (2, "bloom"), (3, "node")])
async def test_rows_equal_the_ground_truth_through_every_kind_of_reorg(seed: int, proof: str, tmp_path: Path) -> None:
    path = tmp_path / "book.db"
    async with (
        staking.up(anvil.Anvil(slots_in_an_epoch=16)) as devnet,
        rpc.Rpc(devnet.node.url) as client,
        aiohttp.ClientSession() as session,
        contextlib.AsyncExitStack() as stack,
    ):
        source = reader.Reader(jsonrpc.Endpoint(devnet.node.url, session=session))
        genesis = await source.genesis()
        the_book = await book.open_book(
            f"sqlite:///{path}", deployment=bytes(32), chain_id=anvil.CHAIN_ID, genesis=genesis
        )

        def build() -> index.IndexService:
            return index.IndexService(
                the_book,
                source,
                [decoder.compile(manifest.load("devnet", network="devnet"))],
                chain_id=anvil.CHAIN_ID,
                genesis=genesis,
                start=1,
                marks=lambda first, last: [n for n in range(first, last + 1) if n % 10 == 0],
                clock=runtime.ManualClock(),
                proof=proof,
            )

        service = build()
        offline = False

        async def settle() -> None:
            for _ in range(200):
                try:
                    wait_s = await service.step()
                except errors.Transient:
                    continue
                if service.state == "following" and wait_s and service.lag_blocks == 0:
                    return
            raise AssertionError(f"{service.state} {service.head} {service.reason}")

        async def on(event: str) -> None:
            nonlocal offline, service
            offline = event == "offline:begin" or (offline and event != "offline:end")
            if event == "offline:end":
                service = build()
            if not offline:
                await settle()

        stack.push_async_callback(the_book.close)
        player = play.Player(devnet.staking, seed, on=on)
        await player.run(80, reorgs=play.REORGS)
        await settle()
        async with the_book.read() as c:
            assert await journal.count(c, kind="reverted") >= 4
        expected = await truth.Truth(client).rows()
        got = truth.rows_of_book(path)
        assert truth.compare_rows(expected, got) == []
        assert len(expected) > 30
