"""Backfill: contiguous, adaptive, resumable, and honest about history the node does not have."""

from __future__ import annotations

import itertools

import pytest

from agent.services import index, slices
from devnet import proxy
from devnet.proxy import wordings
from domain import chain as domain_chain
from domain import errors
from indexers.chain import evidence
from store import cursors, journal
from tests.agent import indexing


async def grown(chain: indexing.Chain, count: int = 40) -> None:
    for n in range(count):
        await (chain.mine() if n % 4 == 3 else chain.emit(1 + n % 3))


@pytest.mark.parametrize("proof", ["node", "bloom", "receipts"])
async def test_commits_cover_every_block_exactly_once(
    chain: indexing.Chain, bench: indexing.Bench, proof: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slices, "MAX_ROWS", 3)
    await grown(chain)
    covered: list[int] = []
    service = bench.build(proof=proof, backfill_range=7)
    commit = service._commit  # pyright: ignore[reportPrivateUsage]

    async def watched(slice_: slices.Slice, **more: object) -> None:
        covered.extend(range(slice_.first, slice_.end.number + 1))
        await commit(slice_, **more)  # pyright: ignore[reportArgumentType]

    service._commit = watched  # pyright: ignore[reportPrivateUsage, reportAttributeAccessIssue]
    await bench.settle()
    assert covered == list(range(await chain.head() + 1))
    await bench.is_exact()


async def test_a_commit_is_bounded(
    chain: indexing.Chain, bench: indexing.Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slices, "MAX_ROWS", 4)
    await grown(chain)
    sizes: list[float] = []
    bench.build(observe=lambda name, value: sizes.append(value) if name == "commit_rows" else None)
    await bench.settle()
    assert max(sizes) <= 4
    await bench.is_exact()


async def test_the_seam_between_history_and_tip_has_neither_hole_nor_overlap(
    chain: indexing.Chain, bench: indexing.Bench
) -> None:
    for _ in range(6):
        await grown(chain, 5)
        bench.build()
        await bench.settle()
        await bench.is_exact()


async def test_headers_of_marked_blocks_are_kept(chain: indexing.Chain, bench: indexing.Bench) -> None:
    await chain.mine(60)
    for proof in ("node", "receipts"):
        bench.build(proof=proof, backfill_range=1000)
        await bench.settle()
        for number in (0, 10, 20, 50):
            assert await bench.header(number) is not None


async def test_logs_before_the_start_are_nobodys_rows(chain: indexing.Chain, bench: indexing.Bench) -> None:
    await grown(chain, 30)
    bench.build(start=15)
    await bench.settle()
    rows = await bench.rows()
    assert min(row.log.block.number for row in rows) >= 15
    assert len(rows) < len(await chain.truth())


async def test_logs_before_the_start_are_nobodys_rows_wherever_finality_stood_at_the_beginning(
    chain: indexing.Chain, bench: indexing.Bench
) -> None:
    await chain.emit(2)
    bench.build(start=15)
    await bench.steps(1)
    assert bench.service.head is not None
    assert bench.service.head.number < 14
    await grown(chain, 40)
    await bench.settle()
    rows = await bench.rows()
    assert min(row.log.block.number for row in rows) >= 15
    assert await bench.keys() == (await chain.truth())[-len(rows) :]


async def test_an_index_whose_start_is_not_final_yet_begins_at_the_finalized_block(
    chain: indexing.Chain, bench: indexing.Bench
) -> None:
    await chain.emit(2)
    await chain.emit(2)
    bench.build(start=3)
    await bench.settle()
    assert {row.log.block.number for row in await bench.rows()} == {3}


async def test_an_index_can_start_at_genesis(chain: indexing.Chain, bench: indexing.Bench) -> None:
    await grown(chain, 12)
    bench.build(start=0)
    await bench.settle()
    await bench.is_exact()
    assert await bench.header(await chain.head()) is not None


@pytest.mark.parametrize("style", wordings.STYLES["refuse-range"])
async def test_every_wording_of_a_refused_range_leads_to_smaller_ranges(
    chain: indexing.Chain, bench: indexing.Bench, style: str
) -> None:
    await grown(chain)
    async with proxy.LyingNode(chain.url, [f"refuse-range:blocks=3,style={style}"]) as node:
        bench.build(url=node.url, proof="node")
        await bench.settle()
        assert node.fired["refuse-range"] < 20
    await bench.is_exact()


@pytest.mark.parametrize("style", wordings.STYLES["refuse-size"])
async def test_every_wording_of_too_many_results_leads_to_single_blocks_and_then_to_receipts(
    chain: indexing.Chain, bench: indexing.Bench, style: str
) -> None:
    await grown(chain, 24)
    async with proxy.LyingNode(chain.url, [f"refuse-size:logs=2,style={style}"]) as node:
        bench.build(url=node.url, proof="node")
        await bench.settle()
    await bench.is_exact()
    assert {row.proof for row in await bench.rows()} == {"node", "receipts"}


@pytest.mark.parametrize(
    "fault", ["429:count=5", "503:count=5,retry_after=1", "html:count=5", "truncate:count=5", "truncate:count=5,how=stream",
              "cut:count=5", "swallow:count=5", "null:count=3", "error:count=5", "hang:count=2,seconds=0.6"]
)  # fmt: skip
async def test_a_node_that_fails_in_every_way_only_costs_time(
    chain: indexing.Chain, bench: indexing.Bench, fault: str
) -> None:
    await grown(chain, 20)
    async with proxy.LyingNode(chain.url, [fault]) as node:
        bench.build(url=node.url)
        bench.service._source.endpoint.timeout_s = 0.3  # pyright: ignore[reportPrivateUsage]
        await bench.settle(tolerate=True)
        assert sum(node.fired.values()) > 0
    await bench.is_exact()


@pytest.mark.parametrize("proof", ["bloom", "receipts"])
@pytest.mark.parametrize("style", ["silent", "geth", "erigon", "trie"])
async def test_missing_history_is_written_down_and_waited_for(
    chain: indexing.Chain, bench: indexing.Bench, proof: str, style: str
) -> None:
    await grown(chain)
    async with proxy.LyingNode(chain.url, [f"pruned:before=20,style={style}"]) as node:
        bench.build(url=node.url, proof=proof)
        await bench.until(lambda: bench.service.state == "gap", tolerate=True)
        (gap,) = await bench.gaps()
        head = bench.service.head
        assert head is not None
        assert gap.first == head.number + 1
        assert gap.first < 20
        await bench.steps(3)
        assert len(await bench.gaps()) == 1


async def test_after_an_adoption_the_index_goes_on_from_there(chain: indexing.Chain, bench: indexing.Bench) -> None:
    await grown(chain)
    async with proxy.LyingNode(chain.url, ["pruned:before=20,receipts=null"]) as node:
        bench.build(url=node.url)
        await bench.until(lambda: bench.service.state == "gap", tolerate=True)
        seen = await bench.cursor()
        assert seen is not None
        edge = bytes.fromhex((await chain.block(24))["hash"][2:])
        async with bench.book.write() as c:
            await cursors.put(c, "index", cursors.Cursor(24, edge, seen.generation + 1))
            await journal.append(c, "adopted", domain_chain.BlockRef(24, edge), seen.generation + 1, 0)
        await bench.settle()
    truth = await chain.truth()
    kept = await bench.keys()
    rows = await bench.rows()
    late = [row for row in rows if row.log.block.number > 24]
    assert [(row.log.block.hash, row.log.log_index, row.log.data) for row in late] == truth[-len(late) :]
    assert not [row for row in rows if seen.number < row.log.block.number <= 24]
    assert len(kept) < len(truth)
    final = await bench.cursor(index.FINALIZED)
    assert final is not None
    assert final.number >= 24


async def test_an_adopted_block_that_the_node_does_not_have_latches(
    chain: indexing.Chain, bench: indexing.Bench
) -> None:
    await grown(chain)
    async with bench.book.write() as c:
        await cursors.put(c, "index", cursors.Cursor(24, bytes(31) + b"\1", 1))
        await journal.append(c, "adopted", domain_chain.BlockRef(24, bytes(31) + b"\1"), 1, 0)
    bench.build()
    await bench.until(lambda: bench.service.state == "violated")
    assert await bench.latched()


async def test_history_that_comes_back_closes_its_gap(chain: indexing.Chain, bench: indexing.Bench) -> None:
    await grown(chain)
    async with proxy.LyingNode(chain.url, ["pruned:before=20"]) as node:
        bench.build(url=node.url)
        await bench.until(lambda: bench.service.state == "gap", tolerate=True)
        node.clear()
        await bench.settle()
    assert await bench.gaps() == []
    await bench.is_exact()


async def test_rows_that_a_node_can_no_longer_serve_stay_after_a_reorg(
    chain: indexing.Chain, bench: indexing.Bench
) -> None:
    await grown(chain, 20)
    await bench.settle()
    await chain.reorg(5, logs_at=[0, 2])
    truth = await chain.truth()
    early = int((await chain.block("finalized"))["number"], 16)
    async with proxy.LyingNode(chain.url, [f"pruned:before={early},receipts=empty"]) as node:
        bench.build(url=node.url)
        await bench.settle()
    assert await bench.keys() == truth


async def test_a_finalized_block_that_a_balancer_misses_once_is_no_gap(
    chain: indexing.Chain, bench: indexing.Bench
) -> None:
    await grown(chain)
    async with proxy.LyingNode(chain.url, ["null:methods=eth_getBlockByNumber,count=1,skip=4"]) as node:
        bench.build(url=node.url)
        await bench.settle(tolerate=True)
    async with bench.book.read() as c:
        kinds = {entry.kind for entry in await journal.newest(c, limit=500)}
    assert "adopted" not in kinds
    assert await bench.gaps() == []
    await bench.is_exact()


async def test_a_range_is_one_fork_or_nothing(chain: indexing.Chain, bench: indexing.Bench) -> None:
    """The anchor of every range is compared with the book: another chain's history cannot be appended."""
    await grown(chain)
    bench.build()
    await bench.steps(1)
    wrong = domain_chain.BlockRef(5, bytes(32))
    with pytest.raises(evidence.Forked):
        await bench.service._evidence.range(parent=wrong, last=9, keep=())  # pyright: ignore[reportPrivateUsage]


async def test_a_failed_write_is_read_again_from_the_book(
    chain: indexing.Chain, bench: indexing.Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    await grown(chain)
    failures = itertools.count()
    append = journal.append

    async def failing(*args: object, **more: object) -> None:
        if next(failures) in (1, 4, 5):
            raise errors.Transient("the disk is slow")
        await append(*args, **more)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(journal, "append", failing)
    await bench.settle(tolerate=True)
    await bench.is_exact()
