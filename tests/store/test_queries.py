"""The read models of the status page and the command line."""

from __future__ import annotations

from domain import statement
from store import blocks, cursors, latches, logs, outbox, queries, statements
from store.book import Book
from tests.store import factory


async def _fill(book: Book) -> list[logs.Indexed]:
    headers = [factory.header(n) for n in range(1, 11)]
    rows = [factory.row(h, i) for h in headers for i in range(3)]
    async with book.write() as c:
        await blocks.insert(c, headers, proof="receipts")
        await logs.insert(c, rows)
    return rows


async def test_pages_of_events_meet_without_overlap(book: Book) -> None:
    rows = await _fill(book)
    seen: list[tuple[int, int]] = []
    before = None
    async with book.read() as c:
        while page := await queries.events(c, limit=7, before=before):
            seen += [(event.number, event.log_index) for event in page]
            before = seen[-1]
    assert seen == [(row.log.block.number, row.log.log_index) for row in reversed(rows)]


async def test_events_can_be_filtered_and_orphaned_ones_shown(book: Book) -> None:
    await _fill(book)
    async with book.write() as c:
        await blocks.orphan(c, [factory.header(10).hash], generation=1)
    async with book.read() as c:
        assert await queries.events(c, limit=5, kind="Slashed") == []
        assert len(await queries.events(c, limit=100, protocol=factory.PROTOCOL)) == 27
        gone = await queries.events(c, limit=100, orphaned=True)
        assert {(event.number, event.orphaned) for event in gone} == {(10, True)}


async def test_the_summary_counts_what_is_there(book: Book) -> None:
    await _fill(book)
    frame = factory.frame(0, [factory.leaf(1, 5)])
    async with book.write() as c:
        await blocks.orphan(c, [factory.header(10).hash], generation=1)
        await cursors.put(c, "index", cursors.Cursor(9, factory.header(9).hash, 1))
        await latches.set(c, "finality", reason="why", at_s=1)
        await statements.save(c, frame, at_s=1)
        await outbox.put(c, id=frame.digest, stream=frame.stream, kind="attestation", payload=b"x")
        await outbox.defer(c, frame.digest, next_s=9, attempts=1, why="the hub is away")
    async with book.read() as c:
        found = await queries.summary(c)
    assert (found.blocks, found.blocks_orphaned, found.logs, found.logs_orphaned) == (9, 1, 27, 3)
    assert (found.outbox_depth, found.outbox_why, found.receipts, found.gaps_open) == (1, "the hub is away", 0, 0)
    assert found.cursors["index"].number == 9
    assert [latch.name for latch in found.latches] == ["finality"]
    assert [(tip.sequence, tip.digest) for tip in found.tips] == [(0, frame.digest)]


async def test_an_empty_book_has_a_summary(book: Book) -> None:
    async with book.read() as c:
        found = await queries.summary(c)
    assert (found.blocks, found.logs, found.tips, found.outbox_why) == (0, 0, [], "")


async def test_frames_show_their_receipt(book: Book) -> None:
    frame = factory.frame(0, [factory.leaf(1, 5)])
    async with book.write() as c:
        await statements.save(c, frame, at_s=1)
        await outbox.put(c, id=frame.digest, stream=frame.stream, kind="attestation", payload=b"x")
        await outbox.close(c, frame.digest, receipt=factory.digest("receipt"))
    async with book.read() as c:
        (found,) = await queries.frames(c, limit=5, stream=frame.stream)
    assert (found.receipt, found.total_reward, found.current) == (factory.digest("receipt"), 5, 1)


async def test_the_history_of_a_leaf_is_every_value_it_had(book: Book) -> None:
    first = factory.frame(0, [factory.leaf(1, 5)])
    second = factory.frame(1, [factory.leaf(1, 8)], previous=first)
    async with book.write() as c:
        await statements.save(c, first, at_s=1)
        await statements.save(c, second, at_s=2)
    async with book.read() as c:
        history = await queries.leaf_history(c, factory.leaf(1, 0).subject, limit=10)
    assert [(row.since, row.until, row.reward) for row in history] == [(1, None, 8), (0, 1, 5)]
    assert {row.kind for row in history} == {statement.REWARD}


async def test_blocks_show_their_logs_and_proof(book: Book) -> None:
    await _fill(book)
    async with book.read() as c:
        page = await queries.blocks(c, limit=3, before=5)
    assert [(row.number, row.logs, row.proof) for row in page] == [
        (4, 3, "receipts"),
        (3, 3, "receipts"),
        (2, 3, "receipts"),
    ]
