"""Seeded play of chain, faults and restarts; whatever happened, rows are exact once the node is honest again.

One seed is one run: `STAKESIDE_INDEX_SEEDS=17 pytest tests/agent/test_index_simulation.py` repeats it, `…=0-499` plays many.
"""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from devnet import proxy
from domain import errors
from tests.agent import indexing

HARMLESS = [
    "429:p=0.3", "503:p=0.3", "html:p=0.3", "cut:p=0.3", "swallow:p=0.3", "truncate:p=0.3", "truncate:p=0.3,how=stream",
    "error:p=0.2", "null:p=0.2", "lag:k=2,p=0.5,methods=eth_getLogs|eth_getBlockReceipts", "head-back:k=3,p=0.5",
    "lag:k=2,beyond=error,p=0.5,methods=eth_getLogs|eth_getBlockReceipts", "refuse-range:blocks=2", "refuse-size:logs=3",
    "swap-fork:depth=1,p=0.2", "swap-fork:depth=3,p=0.1", "swap-fork:depth=2,p=0.1,methods=eth_getBlockByHash",
    "swap-fork:depth=2,p=0.1,methods=eth_getBlockReceipts", "chain-id:p=0.3", "clamp-range:k=2",
]  # fmt: skip
LIES = [
    "drop-logs:k=1", "drop-all-logs", "alter-logs", "duplicate-logs", "reorder-logs", "invent-logs", "empty:p=0.5",
    "drop-logs:k=1,methods=eth_getBlockReceipts", "alter-logs:what=topic,methods=eth_getBlockReceipts",
    "invent-logs:methods=eth_getBlockReceipts,cover=1", "drop-receipts", "wrong-header:p=0.3",
    "wrong-header:field=logsBloom,p=0.3",
]  # fmt: skip


def seeds() -> list[int]:
    text = os.environ.get("STAKESIDE_INDEX_SEEDS", "0-7")
    first, _, last = text.partition("-")
    return list(range(int(first), int(last or first) + 1))


async def change(chain: indexing.Chain, rng: random.Random) -> None:
    """The chain moves on."""
    match rng.randrange(6):
        case 0 | 1:
            await chain.emit(rng.randrange(4))
        case 2:
            await chain.mine(rng.randrange(1, 12))
        case 3 | 4:
            depth = min(rng.choice([1, 1, 2, 3, 5, 7]), await chain.head() - 2)
            if depth > 0:
                await chain.reorg(depth, logs_at=[rng.randrange(depth) for _ in range(rng.randrange(4))])
        case _:
            await chain.emit(1, data=rng.choice(["", indexing.BAD]))


@pytest.mark.parametrize("seed", seeds())
async def test_rows_are_exact_after_anything(seed: int, tmp_path: Path) -> None:
    rng = random.Random(seed)
    proof = rng.choice(["node", "bloom", "receipts", "receipts"])
    faults = HARMLESS + (LIES if proof == "receipts" else [])
    async with (
        indexing.running() as chain,
        proxy.LyingNode(chain.url, seed=seed) as node,
        indexing.bench(chain, tmp_path) as bench,
    ):
        start = rng.choice([0, 1, 1])
        for _ in range(rng.randrange(12)):
            await change(chain, rng)
        bench.build(url=node.url, proof=proof, start=start, backfill_range=rng.choice([3, 50]))
        await bench.settle(tolerate=True)
        for _ in range(40):
            for _ in range(rng.randrange(3)):
                await change(chain, rng)
            if rng.random() < 0.4:
                node.set_faults(rng.sample(faults, rng.randrange(3)))
            if rng.random() < 0.1:
                bench.build(url=node.url, proof=proof, start=start, backfill_range=rng.choice([3, 50]))
            for _ in range(rng.randrange(6)):
                try:
                    await bench.service.step()
                except (errors.Transient, errors.WrongChain):
                    continue
        node.clear()
        # Anvil's own reorgs may have gone below what was final before a head-back lie; none of these plays goes that deep.
        await chain.mine(8)
        await bench.settle(tolerate=True)
        assert not await bench.latched()
        await bench.is_exact()
