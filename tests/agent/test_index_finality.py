"""Final is what is linked by hash to the node's finalized header: answers of two forks, mixed, make nothing final."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from agent.services import index
from domain import chain as domain_chain
from domain import errors
from indexers.chain import reader
from store import cursors, gaps, journal
from tests.agent import indexing


class Balancer:
    """Two nodes behind one address: the tip comes from the chain's own, heights from the recorded fork as far as it goes."""

    def __init__(self, bench: indexing.Bench, fork: dict[int, domain_chain.Header]) -> None:
        self._source = bench.service._source  # pyright: ignore[reportPrivateUsage]
        self._fork = fork
        self._headers_at = self._source.headers_at
        self._logs_in = self._source.logs_in
        self._by_hash = self._source.header_by_hash
        self._source.headers_at = self.headers_at
        self._source.logs_in = self.logs_in
        self._source.header_by_hash = self.header_by_hash

    async def headers_at(self, numbers: Sequence[int]) -> list[domain_chain.Header]:
        honest = await self._headers_at(numbers)
        return [self._fork.get(header.number, header) for header in honest]

    async def logs_in(
        self, filter_: reader.Filter, *, first: int, last: int
    ) -> tuple[list[domain_chain.Log], domain_chain.Header]:
        found, edge = await self._logs_in(filter_, first=first, last=last)
        if last not in self._fork:
            return found, edge
        low = min([number for number, header in self._fork.items() if header != await self._honest(number)])
        return [log for log in found if log.block.number < low], self._fork[last]

    async def header_by_hash(self, block_hash: bytes) -> domain_chain.Header | None:
        known = {header.hash: header for header in self._fork.values()}
        return known.get(block_hash) or await self._by_hash(block_hash)

    async def _honest(self, number: int) -> domain_chain.Header:
        return (await self._headers_at([number]))[0]

    def end(self) -> None:
        self._source.headers_at = self._headers_at
        self._source.logs_in = self._logs_in
        self._source.header_by_hash = self._by_hash


async def recorded(chain: indexing.Chain, bench: indexing.Bench) -> dict[int, domain_chain.Header]:
    """All headers as they are now, before a reorg."""
    source = bench.service._source  # pyright: ignore[reportPrivateUsage]
    return {header.number: header for header in await source.headers_at(range(await chain.head() + 1))}


async def forked(chain: indexing.Chain, bench: indexing.Bench, *, more: int = 30) -> dict[int, domain_chain.Header]:
    """A chain whose last blocks, empty ones, were replaced, and whose replacements have become final since."""
    for _ in range(6):
        await chain.emit(2)
    await chain.mine(10)
    fork = await recorded(chain, bench)
    await chain.reorg(6, logs_at=[1, 3])
    for _ in range(more):
        await chain.emit(1)
    return fork


async def nothing_wrong_is_final(chain: indexing.Chain, bench: indexing.Bench) -> None:
    async with bench.book.read() as c:
        entries = [entry for entry in await journal.newest(c, limit=1000) if entry.kind == "finalized"]
    for entry in entries:
        assert bytes.fromhex((await chain.block(entry.ref.number))["hash"][2:]) == entry.ref.hash
    assert not await bench.latched()


async def tolerant(bench: indexing.Bench, count: int) -> None:
    for _ in range(count):
        try:
            await bench.service.step()
        except errors.Transient:
            continue


async def test_our_head_on_another_fork_than_the_finalized_block_is_not_final(
    chain: indexing.Chain, bench: indexing.Bench
) -> None:
    for _ in range(6):
        await chain.emit(2)
    await chain.mine(10)
    await bench.settle()
    fork = await recorded(chain, bench)
    await chain.reorg(6, logs_at=[1, 3])
    await chain.mine(30)
    bench.build()
    balancer = Balancer(bench, fork)
    await tolerant(bench, 30)
    await nothing_wrong_is_final(chain, bench)
    balancer.end()
    await bench.settle(tolerate=True)
    await nothing_wrong_is_final(chain, bench)
    await bench.is_exact()


@pytest.mark.parametrize("proof", ["node", "receipts"])
@pytest.mark.parametrize("start", [1, 14])
@pytest.mark.parametrize("size", [1, 4, 100])
async def test_history_from_another_fork_than_the_finalized_block_is_not_final(
    chain: indexing.Chain, bench: indexing.Bench, proof: str, start: int, size: int
) -> None:
    fork = await forked(chain, bench)
    bench.build(proof=proof, backfill_range=size, start=start)
    balancer = Balancer(bench, fork)
    await tolerant(bench, 40)
    await nothing_wrong_is_final(chain, bench)
    balancer.end()
    await bench.settle(tolerate=True)
    await nothing_wrong_is_final(chain, bench)
    assert await bench.keys() == [key for key in await chain.truth() if key in set(await bench.keys())]
    late = [key for key in await chain.truth() if key not in set(await bench.keys())]
    assert not late or start > 1
    final = await bench.cursor(index.FINALIZED)
    assert final is not None
    assert final.number == int((await chain.block("finalized"))["number"], 16)


async def test_the_block_before_the_start_is_not_final_by_its_height(
    chain: indexing.Chain, bench: indexing.Bench
) -> None:
    fork = await forked(chain, bench)
    bench.build(start=15)
    balancer = Balancer(bench, fork)
    await bench.steps(1)
    assert bench.service.head == fork[14].ref
    assert await bench.cursor(index.FINALIZED) is None
    assert bench.service.finalized is None
    balancer.end()
    await bench.settle(tolerate=True)
    await nothing_wrong_is_final(chain, bench)
    honest = await bench.header(14)
    assert honest is not None
    assert honest.hash != fork[14].hash


@pytest.mark.parametrize("proof", ["node", "bloom", "receipts"])
async def test_history_becomes_final_when_it_has_been_read_up_to_the_finalized_block(
    chain: indexing.Chain, bench: indexing.Bench, proof: str
) -> None:
    for _ in range(40):
        await chain.emit(1)
    bench.build(proof=proof, backfill_range=4)
    target = int((await chain.block("finalized"))["number"], 16)
    restarted = False
    while bench.service.head is None or bench.service.head.number < target:
        final = await bench.cursor(index.FINALIZED)
        assert final is None or final.number == 0
        if not restarted and bench.service.head is not None and bench.service.head.number >= 20:
            restarted = True
            bench.build(proof=proof, backfill_range=4)
        await bench.steps(1)
    final = await bench.cursor(index.FINALIZED)
    assert final is not None
    assert final.number == target
    await bench.settle()
    await bench.is_exact()


async def test_by_depth_history_becomes_final_when_the_head_is_linked_to_it(
    chain: indexing.Chain, bench: indexing.Bench
) -> None:
    fork = await forked(chain, bench)
    bench.build(finality="depth:3", backfill_range=4)
    balancer = Balancer(bench, fork)
    await tolerant(bench, 40)
    await nothing_wrong_is_final(chain, bench)
    balancer.end()
    await bench.settle(tolerate=True)
    await bench.steps(2)
    await nothing_wrong_is_final(chain, bench)
    await bench.is_exact()
    final = await bench.cursor(index.FINALIZED)
    assert final is not None
    assert final.number == await chain.head() - 3


async def test_a_finalized_block_that_the_book_refuses_to_leave_sets_the_durable_latch(
    chain: indexing.Chain, bench: indexing.Bench
) -> None:
    for _ in range(12):
        await chain.emit(1)
    await bench.settle()
    head = bench.service.head
    assert head is not None
    async with bench.book.write() as c:
        await cursors.put(c, index.FINALIZED, cursors.Cursor(head.number, head.hash, 0))
    await chain.reorg(3, logs_at=[0])
    await bench.until(lambda: bench.service.state == "violated")
    assert await bench.latched()
    bench.build()
    await bench.steps(2)
    assert bench.service.state == "violated"


@pytest.mark.parametrize("error", [errors.HistoryUnavailable("pruned"), None])
async def test_a_pruned_block_before_the_start_is_a_gap_that_an_adoption_closes(
    chain: indexing.Chain, bench: indexing.Bench, error: errors.StakesideError | None
) -> None:
    for _ in range(40):
        await chain.emit(1)
    bench.build(start=10)
    source = bench.service._source  # pyright: ignore[reportPrivateUsage]
    headers_at = source.headers_at

    async def pruned(numbers: Sequence[int]) -> list[domain_chain.Header]:
        if any(number < 20 for number in numbers):
            raise error or source._unknown("block 9")  # pyright: ignore[reportPrivateUsage]
        return await headers_at(numbers)

    source.headers_at = pruned
    await bench.until(lambda: bench.service.state == "gap", tolerate=True)
    await bench.steps(2)
    assert [(gap.first, gap.last) for gap in await bench.gaps()] == [(9, 9)]
    edge = (await headers_at([24]))[0]
    async with bench.book.write() as c:
        await cursors.put(c, "index", cursors.Cursor(24, edge.hash, 0))
        await journal.append(c, "adopted", edge.ref, 0, 0)
        for gap in await gaps.pending(c):
            await gaps.close(c, gap.id, by_digest=b"\x01" * 32)
    await bench.settle()
    assert min(row.log.block.number for row in await bench.rows()) == 25
    await nothing_wrong_is_final(chain, bench)
