"""Cursors, latches, parked items, gaps: what the stages keep between two steps."""

from __future__ import annotations

import pytest

from domain import errors, hashing
from store import blocks, cursors, gaps, journal, latches, logs, parked
from store.book import Book
from tests.store import factory

ONE, TWO, THREE = factory.header(1), factory.header(2), factory.header(3)


def _cursor(header: object, generation: int = 0) -> cursors.Cursor:
    return cursors.Cursor(header.number, header.hash, generation)  # type: ignore[attr-defined]


async def test_a_cursor_moves_from_what_was_seen(book: Book) -> None:
    async with book.write() as c:
        await cursors.advance(c, "index", seen=None, to=_cursor(ONE))
        await cursors.advance(c, "index", seen=_cursor(ONE), to=_cursor(TWO))
    async with book.read() as c:
        assert await cursors.get(c, "index") == _cursor(TWO)


async def test_a_batch_prepared_before_a_rollback_cannot_commit_after_it(book: Book) -> None:
    async with book.write() as c:
        await blocks.insert(c, [ONE, TWO], proof="node")
        await cursors.put(c, "index", _cursor(TWO))
    seen = _cursor(TWO)  # an in-flight fetch of block 3 starts from here
    async with book.write() as c:
        await blocks.orphan(c, [TWO.hash], generation=1)
        await cursors.advance(c, "index", seen=seen, to=_cursor(ONE, 1))
        await cursors.advance(c, "index", seen=_cursor(ONE, 1), to=_cursor(TWO, 1))
    with pytest.raises(errors.Transient, match="fenced"):
        async with book.write() as c:
            await blocks.insert(c, [THREE], proof="node")
            await logs.insert(c, [factory.row(THREE, proof="node")])
            await cursors.advance(c, "index", seen=seen, to=_cursor(THREE))
    async with book.read() as c:
        assert await blocks.by_hash(c, THREE.hash) is None
        assert await cursors.get(c, "index") == _cursor(TWO, 1)


async def test_two_first_steps_cannot_both_commit(book: Book) -> None:
    async with book.write() as c:
        await cursors.advance(c, "index", seen=None, to=_cursor(ONE))
    with pytest.raises(errors.Transient, match="fenced"):
        async with book.write() as c:
            await cursors.advance(c, "index", seen=None, to=_cursor(TWO))


async def test_a_generation_never_falls(book: Book) -> None:
    async with book.write() as c:
        await cursors.put(c, "index", _cursor(ONE, 4))
    with pytest.raises(errors.StoreError, match="generation"):
        async with book.write() as c:
            await cursors.advance(c, "index", seen=_cursor(ONE, 4), to=_cursor(TWO, 3))


async def test_a_latch_survives_a_restart_with_its_first_reason(url: str) -> None:
    opened = await factory.open_book(url)
    async with opened.write() as c:
        assert await latches.set(c, "finality", reason="block 7 was replaced", at_s=5)
    async with opened.write() as c:
        assert not await latches.set(c, "finality", reason="something later", at_s=6)
    await opened.close()
    again = await factory.open_book(url)
    async with again.read() as c:
        assert await latches.active(c) == [latches.Latch("finality", "block 7 was replaced", 5)]
    await again.close()


async def test_a_soft_failure_never_clears_a_latch(book: Book) -> None:
    async with book.write() as c:
        await latches.set(c, "finality", reason="violated", at_s=5)
    with pytest.raises(errors.Transient):
        async with book.write() as c:
            await latches.clear(c, "finality", by="a step that fails", at_s=6)
            raise errors.Transient("the node is away")
    async with book.read() as c:
        assert [latch.name for latch in await latches.active(c)] == ["finality"]


async def test_a_cleared_latch_can_be_set_again(book: Book) -> None:
    async with book.write() as c:
        await latches.set(c, "finality", reason="first", at_s=5)
        assert await latches.clear(c, "finality", by="ana", at_s=6)
        assert not await latches.clear(c, "finality", by="ana", at_s=7)
        await latches.set(c, "finality", reason="second", at_s=8)
    async with book.read() as c:
        assert [latch.reason for latch in await latches.active(c)] == ["second"]


async def test_a_parked_log_of_an_orphaned_block_stops_nothing_until_it_returns(book: Book) -> None:
    async with book.write() as c:
        await blocks.insert(c, [ONE], proof="node")
        for _ in range(2):
            await parked.add(c, stream_or_protocol="devnet", block_hash=ONE.hash, log_index=3, reason="odd")
    async with book.read() as c:
        assert await parked.open_(c) == [parked.Parked("devnet", ONE.hash, 3, "odd")]
    async with book.write() as c:
        await blocks.orphan(c, [ONE.hash], generation=1)
        assert await parked.open_(c) == []
        await blocks.insert(c, [ONE], proof="node")
        assert len(await parked.open_(c)) == 1
        assert await parked.resolve(c, stream_or_protocol="devnet", block_hash=ONE.hash, log_index=3, by="ana")
        assert await parked.open_(c) == []


async def test_a_gap_stays_open_until_something_took_its_place(book: Book) -> None:
    async with book.write() as c:
        late = await gaps.open_(c, protocol="devnet", first=50, last=60, reason="pruned")
        early = await gaps.open_(c, protocol="devnet", first=1, last=40, reason="pruned")
        assert await gaps.open_(c, protocol="devnet", first=1, last=40, reason="pruned again") == early
        assert [gap.id for gap in await gaps.pending(c)] == [early, late]
        await gaps.close(c, early, by_digest=hashing.ZERO32)
        assert [(gap.first, gap.last) for gap in await gaps.pending(c)] == [(50, 60)]
    with pytest.raises(errors.StoreError, match="no such open gap"):
        async with book.write() as c:
            await gaps.close(c, early, by_digest=hashing.ZERO32)


async def test_a_failed_transaction_leaves_nothing(book: Book) -> None:
    with pytest.raises(RuntimeError):
        async with book.write() as c:
            await blocks.insert(c, [ONE], proof="node")
            await journal.append(c, "committed", ONE.ref, 0, at_s=1)
            raise RuntimeError
    async with book.read() as c:
        assert (await blocks.tip(c), await journal.count(c)) == (None, 0)
