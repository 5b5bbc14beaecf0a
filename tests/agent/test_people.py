"""What a person changes takes effect in the running process: a cleared latch, a gap that waited to be adopted."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest

from agent.services import adopt
from domain import errors
from kit import runtime
from store import book, commands, gaps, latches
from tests.agent import indexing
from tests.store import factory


async def clear(the_book: book.Book, name: str) -> None:
    async with the_book.write() as c:
        done = await commands.clear_latch(c, name, by="otto", reason="looked into it", at_s=1)
    assert isinstance(done, commands.Done)


@pytest.mark.parametrize("name", ["finality", "rows"])
async def test_the_index_goes_on_when_a_latch_is_cleared_without_a_restart(
    chain: indexing.Chain, bench: indexing.Bench, name: str
) -> None:
    for _ in range(4):
        await chain.emit(2)
    await bench.settle()
    async with bench.book.write() as c:
        await latches.set(c, name, reason="a stray node", at_s=1)
    await chain.emit(3)
    await bench.steps(2)
    assert bench.service.state == "violated"
    await clear(bench.book, name)
    await bench.settle()
    assert bench.service.reason == ""
    await bench.is_exact()


async def test_a_latch_that_is_cleared_while_its_cause_is_there_is_set_again(tmp_path: Path) -> None:
    async with indexing.running(slots_in_an_epoch=1) as chain, indexing.bench(chain, tmp_path) as bench:
        for _ in range(12):
            await chain.emit(1)
        await bench.settle()
        before = await bench.keys()
        await chain.reorg(6, logs_at=[0])
        await bench.until(lambda: bench.service.state == "violated")
        await clear(bench.book, "finality")
        assert not await bench.latched()
        for _ in range(10):
            await bench.service.step()
            if await bench.latched():
                break
        assert await bench.latched()
        assert await bench.keys() == before


class Hub:
    """Stands for the hub: that it was asked is all that is asked here."""

    def __init__(self) -> None:
        self.asked = 0

    async def last_sealed(self, _stream: bytes) -> int | None:
        self.asked += 1
        raise errors.Transient("the hub was asked")


class Plan:
    class stream:
        name = "main"

        @staticmethod
        def id() -> bytes:
            return factory.STREAM


@pytest.fixture
async def gapped(tmp_path: Path) -> AsyncIterator[tuple[book.Book, list[int]]]:
    """A book with two gaps of the same blocks, one for each of two protocols."""
    the_book = await factory.open_book(f"sqlite:///{tmp_path}/book.db")
    async with the_book.write() as c:
        made = [await gaps.open_(c, protocol=name, first=1, last=5, reason="pruned") for name in ("one", "two")]
    yield the_book, made
    await the_book.close()


def adopting(the_book: book.Book, hub: Hub, *, ask: bool) -> adopt.AdoptService:
    plans = cast("Any", [Plan()])
    nobody = cast("Any", None)
    return adopt.AdoptService(the_book, nobody, plans, cast("Any", hub), nobody, clock=runtime.ManualClock(), ask=ask)


async def test_gaps_are_adopted_unasked_by_default(gapped: tuple[book.Book, list[int]]) -> None:
    hub = Hub()
    with pytest.raises(errors.Transient, match="the hub was asked"):
        await adopting(gapped[0], hub, ask=False).step()
    assert hub.asked == 1


async def test_a_gap_waits_until_a_person_adopts_it(gapped: tuple[book.Book, list[int]]) -> None:
    the_book, (first, second) = gapped
    hub = Hub()
    service = adopting(the_book, hub, ask=True)
    for waiting in (first, second):
        with pytest.raises(errors.Transient, match=rf"gap {waiting} \(blocks 1 to 5\) waits for a person"):
            await service.step()
        assert hub.asked == 0
        async with the_book.write() as c:
            await commands.adopt_gap(c, waiting, by="otto", reason="the others are right", at_s=1)
    with pytest.raises(errors.Transient, match="the hub was asked"):
        await service.step()
