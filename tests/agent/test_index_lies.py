"""A node that lies: rows are exact afterwards, or there are none, and the lie is counted."""

from __future__ import annotations

import pytest

from devnet import proxy
from domain import errors
from tests.agent import indexing


async def grown(chain: indexing.Chain, count: int = 16) -> None:
    for n in range(count):
        await (chain.mine() if n % 3 == 2 else chain.emit(3))


RECEIPT_LIES = [
    f"{kind}:methods=eth_getBlockReceipts{more}"
    for kind, more in [
        ("drop-logs", ""),
        ("drop-logs", ",cover=1"),
        ("drop-all-logs", ""),
        ("alter-logs", ""),
        ("alter-logs", ",what=topic"),
        ("alter-logs", ",what=address"),
        ("alter-logs", ",what=index"),
        ("alter-logs", ",what=block"),
        ("duplicate-logs", ""),
        ("reorder-logs", ""),
        ("invent-logs", ""),
        ("invent-logs", ",cover=1"),
    ]
] + ["drop-receipts:k=1", "drop-receipts:k=2"]


@pytest.mark.parametrize("fault", RECEIPT_LIES)
async def test_receipts_that_lie_are_refused_and_counted(
    chain: indexing.Chain, bench: indexing.Bench, fault: str
) -> None:
    await grown(chain, 12)
    async with proxy.LyingNode(chain.url, [fault]) as node:
        bench.build(url=node.url)
        with pytest.raises(errors.BadAnswer):
            await bench.steps(20)
        assert bench.service.counts.lies >= 1
        kept = set(await bench.keys())
        assert kept <= set(await chain.truth())
        node.clear()
        await bench.settle()
    await bench.is_exact()


@pytest.mark.parametrize(
    "fault", ["drop-logs:k=2", "drop-all-logs", "alter-logs", "invent-logs", "empty:methods=eth_getLogs"]
)
async def test_lies_in_getlogs_cannot_reach_rows_at_level_receipts(
    chain: indexing.Chain, bench: indexing.Bench, fault: str
) -> None:
    await grown(chain)
    async with proxy.LyingNode(
        chain.url, [fault + (",methods=eth_getLogs" if ":" in fault else ":methods=eth_getLogs")]
    ) as node:
        bench.build(url=node.url)
        await bench.settle()
    await bench.is_exact()


async def test_empty_logs_under_a_bloom_that_says_otherwise_are_settled_by_receipts(
    chain: indexing.Chain, bench: indexing.Bench
) -> None:
    await grown(chain)
    async with proxy.LyingNode(chain.url, ["empty:methods=eth_getLogs"]) as node:
        bench.build(url=node.url, proof="bloom")
        await bench.settle()
    await bench.is_exact()
    assert {row.proof for row in await bench.rows()} == {"receipts"}


async def test_at_level_bloom_an_invented_log_of_an_empty_block_is_not_a_row(
    chain: indexing.Chain, bench: indexing.Bench
) -> None:
    await grown(chain)
    async with proxy.LyingNode(chain.url, ["invent-logs:methods=eth_getLogs"]) as node:
        bench.build(url=node.url, proof="bloom")
        await bench.until(lambda: node.fired["invent-logs"] > 3, tolerate=True)
        node.clear()
        await bench.settle(tolerate=True)
    truth = set(await chain.truth())
    assert {row.log.data for row in await bench.rows() if row.proof == "receipts"} <= {data for _, _, data in truth}


@pytest.mark.parametrize("field", ["stateRoot", "receiptsRoot", "logsBloom", "timestamp", "parentHash"])
async def test_a_header_with_a_changed_field_is_refused(
    chain: indexing.Chain, bench: indexing.Bench, field: str
) -> None:
    await grown(chain)
    async with proxy.LyingNode(chain.url, [f"wrong-header:field={field}"]) as node:
        bench.build(url=node.url)
        with pytest.raises(errors.BadAnswer):
            await bench.steps(3)
    assert await bench.rows() == []


@pytest.mark.parametrize("proof", ["node", "bloom", "receipts"])
@pytest.mark.parametrize("beyond", ["clamp", "error"])
async def test_a_node_whose_logs_lag_behind_its_head_never_leaves_a_hole(
    chain: indexing.Chain, bench: indexing.Bench, proof: str, beyond: str
) -> None:
    await grown(chain)
    bench.build(proof=proof)
    await bench.settle()
    methods = "eth_getLogs|eth_getBlockReceipts"
    async with proxy.LyingNode(chain.url, [f"lag:k=3,beyond={beyond},methods={methods}"]) as node:
        bench.build(url=node.url, proof=proof)
        for _ in range(4):
            await chain.emit(2)
            try:
                await bench.steps(4)
            except errors.Transient:
                pass
            kept = await bench.keys()
            assert kept == (await chain.truth())[: len(kept)]
        node.clear()
        await bench.settle(tolerate=True)
    await bench.is_exact()


@pytest.mark.parametrize("proof", ["node", "bloom"])
async def test_a_range_that_the_node_clamps_at_its_head_is_never_taken_for_whole(
    chain: indexing.Chain, bench: indexing.Bench, proof: str
) -> None:
    """Real nodes answer a range past their head with what they have; the index never asks past the finalized block."""
    await grown(chain, 30)
    asked: list[int] = []
    bench.build(proof=proof)
    source = bench.service._source  # pyright: ignore[reportPrivateUsage]
    logs_in = source.logs_in

    async def watched(filter_: object, *, first: int, last: int) -> object:
        asked.append(last)
        return await logs_in(filter_, first=first, last=last)  # pyright: ignore[reportArgumentType]

    source.logs_in = watched  # pyright: ignore[reportAttributeAccessIssue]
    await bench.settle()
    final = int((await chain.block("finalized"))["number"], 16)
    assert asked
    assert max(asked) <= final
    await bench.is_exact()


async def test_hostile_bytes_from_the_chain_are_rows_too(chain: indexing.Chain, bench: indexing.Bench) -> None:
    await chain.emit(1, data="0x00" + "00" * 31)
    await chain.emit(1, data="0x00" + "ff" * 31)
    await chain.emit(1, data="0x00" + "00" * 4000)
    await chain.mine(10)
    await bench.settle()
    await bench.is_exact()


async def test_a_log_that_cannot_be_decoded_is_a_row_without_meaning_and_parked(
    chain: indexing.Chain, bench: indexing.Bench
) -> None:
    await chain.emit(1)
    await chain.emit(2, data=indexing.BAD)
    await chain.emit(1)
    await chain.mine(10)
    await bench.settle()
    await bench.is_exact()
    assert [row.event is None for row in await bench.rows()] == [False, True, True, False]
    assert len(await bench.parked()) == 2


async def test_a_chain_without_blooms_can_be_read_with_the_bloom_test_relaxed(
    chain: indexing.Chain, bench: indexing.Bench
) -> None:
    """Every block is a candidate then; the rows say how they are proven."""
    await grown(chain)
    bench.build(trust_bloom=False)
    await bench.settle()
    await bench.is_exact()
    assert {row.proof for row in await bench.rows()} == {"receipts"}
