"""The wrong chain, a second process, SIGKILL at every write, and a long run."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import sys
from pathlib import Path

import pytest

from devnet import anvil, proxy
from domain import errors
from indexers.chain import walk
from store import book
from tests.agent import indexing

ROOT = Path(__file__).resolve().parents[2]


async def grown(chain: indexing.Chain, count: int = 16) -> None:
    for n in range(count):
        await (chain.mine() if n % 3 == 2 else chain.emit(2))


# --- whose chain is it ---


@pytest.mark.parametrize("fault", ["chain-id", "genesis"])
async def test_another_chain_at_start_is_fatal_with_advice(
    chain: indexing.Chain, bench: indexing.Bench, fault: str
) -> None:
    await grown(chain)
    async with proxy.LyingNode(chain.url, [fault]) as node:
        bench.build(url=node.url)
        with pytest.raises(errors.WrongChain, match=r"node\.url"):
            await bench.steps(1)


@pytest.mark.parametrize("other", [{"chain_id": 31338}, {"genesis_time": 1_600_000_000}])
async def test_a_failover_to_another_chain_is_waited_out(
    chain: indexing.Chain, bench: indexing.Bench, other: dict[str, int]
) -> None:
    await grown(chain)
    async with anvil.Anvil(**other) as foreign:  # pyright: ignore[reportArgumentType]
        async with proxy.LyingNode(chain.url) as node:
            bench.build(url=node.url)
            await bench.settle()
            before = await bench.keys()
            node.set_faults(
                [f"other-node:url={foreign.url},methods=eth_chainId|eth_getBlockByNumber|eth_getBlockByHash"]
            )
            for _ in range(5):
                with pytest.raises(errors.Transient):
                    await bench.steps(1)
            assert bench.service.state == "wrong-chain"
            assert await bench.keys() == before
            node.clear()
            await chain.emit()
            await bench.settle(tolerate=True)
    await bench.is_exact()
    assert not await bench.latched()


async def test_a_node_restarted_at_block_0_with_another_genesis_is_refused(
    chain: indexing.Chain, bench: indexing.Bench
) -> None:
    await grown(chain)
    await bench.settle()
    before = await bench.keys()
    port = chain.node.port
    await chain.node.stop()
    async with anvil.Anvil(port=port, genesis_time=1_600_000_000):
        with pytest.raises(errors.Transient):
            await bench.steps(1)
        with pytest.raises(errors.Transient):
            await bench.steps(1)
        assert bench.service.state == "wrong-chain"
        bench.build()
        with pytest.raises(errors.WrongChain):
            await bench.steps(1)
    assert await bench.keys() == before


async def test_a_node_restarted_at_block_0_with_the_same_genesis_is_waited_for(
    chain: indexing.Chain, bench: indexing.Bench
) -> None:
    await grown(chain)
    await bench.settle()
    before = await bench.keys()
    await chain.node.stop()
    await chain.node.start()
    for _ in range(5):
        try:
            await bench.steps(1)
        except errors.Transient:
            continue
    assert bench.service.state == "behind"
    assert await bench.keys() == before
    assert not await bench.latched()


async def test_a_node_that_is_down_at_start_is_waited_for(chain: indexing.Chain, bench: indexing.Bench) -> None:
    await grown(chain)
    await chain.node.stop()
    for _ in range(3):
        with pytest.raises(errors.Transient):
            await bench.steps(1)
    assert bench.service.state == "starting"


# --- processes ---


async def test_a_second_process_cannot_open_the_book(
    chain: indexing.Chain, bench: indexing.Bench, tmp_path: Path
) -> None:
    with pytest.raises(errors.StoreError):
        await book.open_book(
            f"sqlite:///{tmp_path / 'book'}.db",
            deployment=indexing.DEPLOYMENT,
            chain_id=anvil.CHAIN_ID,
            genesis=chain.genesis,
        )


async def test_two_services_on_one_book_never_write_one_block_twice(
    chain: indexing.Chain, bench: indexing.Bench
) -> None:
    """Should two writers get past the lock, the cursor's fence decides between them."""
    await grown(chain)
    first = bench.build()
    second = bench.build()
    rng = random.Random(3)
    for _ in range(40):
        both = [service.step() for service in rng.sample([first, second], 2)]
        for outcome in await asyncio.gather(*both, return_exceptions=True):
            assert not isinstance(outcome, BaseException) or isinstance(outcome, errors.Transient), outcome
        if rng.random() < 0.3:
            await chain.emit()
    assert first.counts.fenced + second.counts.fenced > 0
    await bench.settle(tolerate=True)
    await bench.is_exact()


async def run_process(chain: indexing.Chain, path: Path, crash_at: str = "") -> int:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.agent.index_process", chain.url, str(path), chain.address, chain.genesis.hex(),
        cwd=ROOT, env={**os.environ, "STAKESIDE_CRASH_AT": crash_at},
    )  # fmt: skip
    async with asyncio.timeout(60):
        return await process.wait()


POINTS = [
    f"{name}:{count}"
    for name, counts in [
        ("index.before_fetch", (1,)),
        ("index.after_fetch", (2,)),
        ("index.before_commit", (1, 2)),
        ("store.before_commit", (2, 4)),
        ("store.after_commit", (2, 4)),
        ("index.after_commit", (1, 2)),
        ("index.before_revert", (1,)),
        ("index.after_revert", (1,)),
        ("index.before_finalize", (1,)),
        ("index.after_finalize", (1,)),
    ]
    for count in counts
]


async def test_a_kill_at_any_write_loses_and_doubles_nothing(chain: indexing.Chain, tmp_path: Path) -> None:
    """One book through a chain of kills, with a reorg before each restart."""
    path = tmp_path / "book.db"
    await grown(chain, 8)
    killed = 0
    for at, point in enumerate(POINTS):
        await chain.emit(2)
        await chain.reorg(1 + at % 4, logs_at=[0])
        await chain.emit()
        killed += await run_process(chain, path, point) == -9
        if at % 5 == 4:
            assert await run_process(chain, path) == 0
            async with indexing.bench(chain, tmp_path) as bench:
                await bench.is_exact()
    assert killed >= len(POINTS) // 2
    assert await run_process(chain, path) == 0
    async with indexing.bench(chain, tmp_path) as bench:
        await bench.settle()
        await bench.is_exact()


async def test_kill_points_of_a_fresh_book_all_leave_a_book_that_goes_on(chain: indexing.Chain, tmp_path: Path) -> None:
    await grown(chain, 12)
    for at, point in enumerate(
        ["index.before_commit:1", "index.after_commit:1", "store.before_commit:1", "store.before_commit:2"]
    ):
        name = f"book{at}"
        assert await run_process(chain, tmp_path / f"{name}.db", point) == -9
        async with indexing.bench(chain, tmp_path, name) as bench:
            await bench.settle()
            await bench.is_exact()


# --- the long run ---


async def test_following_for_a_while_keeps_memory_and_loop_free(chain: indexing.Chain, bench: indexing.Bench) -> None:
    """Bounded state after hundreds of blocks and dozens of reorgs; a long soak lives elsewhere."""
    rng = random.Random(11)
    await bench.settle()
    sizes: list[int] = []
    for round_ in range(60):
        for _ in range(rng.randrange(1, 4)):
            await chain.emit(rng.randrange(0, 4))
        if rng.random() < 0.4:
            depth = rng.randrange(1, 6)
            await chain.reorg(depth, logs_at=[rng.randrange(depth) for _ in range(rng.randrange(3))])
        await bench.settle()
        if round_ % 20 == 19:
            gc.collect()
            sizes.append(len(gc.get_objects()))
    await bench.is_exact()
    machine = bench.service._follower  # pyright: ignore[reportPrivateUsage]
    assert machine is not None
    assert len(machine.window) <= chain.node.finality_depth + 1
    assert len(bench.service._walker.remembered) <= walk.REMEMBERED  # pyright: ignore[reportPrivateUsage]
    assert sizes[-1] < sizes[0] * 1.3
