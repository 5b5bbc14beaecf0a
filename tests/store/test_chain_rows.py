"""Blocks and logs: what a reorg changes, and what nothing may change."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from domain import chain, errors
from store import blocks, cursors, journal, logs, queries, tally
from store.book import Book
from tests.store import factory


async def _chain(book: Book, *headers: chain.Header, rows: list[logs.Indexed] | None = None) -> None:
    async with book.write() as c:
        await blocks.insert(c, headers, proof="receipts")
        await logs.insert(c, [factory.row(h) for h in headers] if rows is None else rows)


async def _between(book: Book) -> list[logs.Indexed]:
    async with book.read() as c:
        return await logs.between(c, protocol=factory.PROTOCOL, first=0, last=1 << 40)


async def test_blocks_and_logs_read_back_as_they_were_written(book: Book) -> None:
    one, two = factory.header(1), factory.header(2)
    rows = [factory.row(one, 0), factory.row(one, 3), factory.noted(two, 1, "plain")]
    await _chain(book, one, two, rows=rows)
    assert await _between(book) == rows
    async with book.read() as c:
        assert await blocks.canonical_at(c, 1) == one
        assert await blocks.by_hash(c, two.hash) == two
        assert await blocks.unfinalized(c, above=1) == [two]
        assert await blocks.tip(c) == two
        assert await logs.last_canonical(c, protocol=factory.PROTOCOL) == rows[-1]


async def test_a_log_nothing_could_be_made_of_keeps_its_bytes(book: Book) -> None:
    one = factory.header(1)
    unread = logs.Indexed(factory.row(one).log, one.time, factory.PROTOCOL, None, "node")
    await _chain(book, one, rows=[unread])
    assert await _between(book) == [unread]


async def test_logs_come_in_chain_order_however_they_were_inserted(book: Book) -> None:
    headers = [factory.header(n) for n in range(1, 6)]
    rows = [factory.row(h, i) for h in headers for i in (0, 1, 2)]
    await _chain(book, *reversed(headers), rows=list(reversed(rows)))
    assert await _between(book) == rows


async def test_a_same_height_replacement_changes_the_rows(book: Book) -> None:
    old, new = factory.header(5, "a"), factory.header(5, "b", parent_fork="a")
    await _chain(book, old, rows=[factory.row(old, amount=1)])
    async with book.write() as c:
        await blocks.orphan(c, [old.hash], generation=1)
        await blocks.insert(c, [new], proof="receipts")
        await logs.insert(c, [factory.row(new, amount=2)])
    async with book.read() as c:
        view = await c.rows(sa.text("SELECT block_hash, kind FROM canonical_event ORDER BY number, log_index"))
    assert [(r.block_hash, r.kind) for r in view] == [(new.hash, "Delegated")]
    assert await _between(book) == [factory.row(new, amount=2)]


async def test_a_block_put_aside_keeps_its_rows_and_can_return(book: Book) -> None:
    old, new = factory.header(5, "a"), factory.header(5, "b", parent_fork="a")
    await _chain(book, old)
    async with book.write() as c:
        await blocks.orphan(c, [old.hash], generation=1)
        await blocks.insert(c, [new], proof="receipts")
    async with book.read() as c:
        assert await logs.of_block(c, old.ref) == [factory.row(old)]
        assert not await blocks.is_canonical(c, old.hash)
        assert await logs.count(c) == 0
    async with book.write() as c:
        await blocks.orphan(c, [new.hash], generation=2)
        await blocks.insert(c, [old], proof="receipts")
        await logs.insert(c, [factory.row(old)])
    assert await _between(book) == [factory.row(old)]
    async with book.read() as c:
        assert await logs.count(c) == 1


async def test_a_height_cannot_have_two_canonical_blocks(book: Book) -> None:
    await _chain(book, factory.header(5, "a"))
    with pytest.raises(errors.StoreError, match="contradicts"):
        await _chain(book, factory.header(5, "b"))


async def test_the_same_transaction_in_two_blocks_is_two_rows(book: Book) -> None:
    old, new = factory.header(5, "a"), factory.header(6, "b")
    await _chain(book, old, rows=[factory.row(old, tx=1)])
    async with book.write() as c:
        await blocks.orphan(c, [old.hash], generation=1)
        await blocks.insert(c, [factory.header(5, "b"), new], proof="receipts")
        await logs.insert(c, [factory.row(new, tx=1)])
    assert await _between(book) == [factory.row(new, tx=1)]
    async with book.read() as c:
        assert await logs.of_block(c, old.ref) == [factory.row(old, tx=1)]


async def test_a_repeated_insert_changes_nothing(book: Book) -> None:
    headers = [factory.header(n) for n in range(1, 4)]
    for _ in range(2):
        await _chain(book, *headers)
    async with book.read() as c:
        assert await tally.read(c) == {"block": 3, "block_orphaned": 0, "log": 3, "log_orphaned": 0}


async def test_a_different_log_under_a_known_key_is_refused(book: Book) -> None:
    one = factory.header(1)
    await _chain(book, one)
    with pytest.raises(logs.Contradicted, match="a log differs") as caught:
        await _chain(book, one, rows=[factory.row(one, amount=5)])
    assert not caught.value.settled
    with pytest.raises(logs.Contradicted, match="a log differs") as caught:
        async with book.write() as c:
            await logs.insert(c, [factory.row(one, amount=5)], whole={one.ref: True})
    assert caught.value.settled


async def test_another_transaction_hash_of_a_known_log_is_no_difference(book: Book) -> None:
    one = factory.header(1)
    await _chain(book, one)
    await _chain(book, one, rows=[factory.row(one, tx=77)])
    assert await _between(book) == [factory.row(one)]


async def test_a_known_log_with_another_meaning_is_the_manifests_doing(book: Book) -> None:
    one = factory.header(1)
    await _chain(book, one)
    row = factory.row(one)
    unread = logs.Indexed(row.log, row.time, row.protocol, None, "node")
    with pytest.raises(logs.Contradicted, match="another meaning") as caught:
        await _chain(book, one, rows=[unread])
    assert caught.value.settled


@pytest.mark.parametrize("proven", [True, False])
async def test_a_stored_log_must_be_in_a_whole_answer_about_its_block(book: Book, proven: bool) -> None:
    one = factory.header(1)
    async with book.write() as c:
        await blocks.insert(c, [one], proof="node")
        await logs.insert(c, [factory.row(one, 0, proof="node"), factory.row(one, 1, proof="node")])
    for given in ([factory.row(one, 0)], []):
        with pytest.raises(logs.Contradicted, match="not in the answer") as caught:
            async with book.write() as c:
                await blocks.insert(c, [one], proof="receipts")
                await logs.insert(c, given, whole={one.ref: proven}, protocols=[factory.PROTOCOL])
        assert caught.value.settled is proven
        assert [row.proof for row in await _between(book)] == ["node", "node"]
    async with book.write() as c:
        await logs.insert(c, [], whole={one.ref: proven}, protocols=["another"])


async def test_a_different_header_under_a_known_hash_is_refused(book: Book) -> None:
    one = factory.header(1)
    await _chain(book, one)
    forged = chain.Header(1, one.hash, one.parent, one.time + 1, one.state_root, one.receipts_root, one.bloom)
    with pytest.raises(errors.BadAnswer, match="a block differs"):
        await _chain(book, forged, rows=[])


async def test_a_log_without_its_block_is_refused(book: Book) -> None:
    with pytest.raises(errors.StoreError, match="contradicts"):
        async with book.write() as c:
            await logs.insert(c, [factory.row(factory.header(1))])


async def test_a_stronger_proof_raises_the_level_of_rows_already_there(book: Book) -> None:
    one = factory.header(1)
    async with book.write() as c:
        await blocks.insert(c, [one], proof="node")
        await logs.insert(c, [factory.row(one, proof="node")])
    async with book.write() as c:
        await blocks.insert(c, [one], proof="receipts")
        await logs.insert(c, [factory.row(one, proof="receipts")])
        await blocks.insert(c, [one], proof="bloom")
    assert [row.proof for row in await _between(book)] == ["receipts"]
    async with book.read() as c:
        assert await c.scalar(sa.text("SELECT proof FROM canonical_event")) == "receipts"


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM log",
        "UPDATE log SET amount = NULL",
        "UPDATE log SET proof = 0",
        "DELETE FROM block",
        "UPDATE block SET parent = hash",
        "DELETE FROM journal",
        "UPDATE journal SET generation = 9",
        "DELETE FROM meta",
    ],
)
async def test_facts_cannot_be_changed_or_deleted(book: Book, sql: str) -> None:
    one = factory.header(1)
    await _chain(book, one)
    async with book.write() as c:
        await journal.append(c, "committed", one.ref, 0, at_s=1)
    with pytest.raises(errors.StoreError):
        async with book.write() as c:
            await c.change(sa.text(sql))
    assert await _between(book) == [factory.row(one)]


async def test_a_finalized_block_is_never_put_aside(book: Book) -> None:
    one, two = factory.header(1), factory.header(2)
    await _chain(book, one, two)
    async with book.write() as c:
        await cursors.put(c, "finalized", cursors.Cursor(1, one.hash, 0))
    with pytest.raises(errors.FinalityViolated):
        async with book.write() as c:
            await blocks.orphan(c, [two.hash, one.hash], generation=1)
    assert len(await _between(book)) == 2


async def test_the_journal_keeps_every_step_in_order(book: Book) -> None:
    kinds = ["committed", "reverted", "finalized", "violated", "adopted"] * 3
    for number, kind in enumerate(kinds):
        async with book.write() as c:
            await journal.append(c, kind, factory.header(number).ref, number, at_s=number)  # type: ignore[arg-type]
    async with book.read() as c:
        newest = await journal.newest(c, limit=100)
        assert [entry.kind for entry in reversed(newest)] == kinds
        assert await journal.count(c) == len(kinds)
        second = await journal.newest(c, limit=2, before=newest[0].id)
        assert second == newest[1:3]


async def test_counts_follow_reorgs_exactly(book: Book) -> None:
    headers = [factory.header(n) for n in range(1, 900)]
    await _chain(book, *headers)
    async with book.write() as c:
        await blocks.orphan(c, [h.hash for h in headers[100:]], generation=1)
    async with book.write() as c:
        await blocks.insert(c, headers[100:500], proof="receipts")
    async with book.read() as c:
        counted = await tally.read(c)
        real = await c.scalar(sa.text("SELECT count(*) FROM canonical_event"))
        assert (counted["log"] - counted["log_orphaned"], counted["log"]) == (real, 899)
        assert await logs.count(c) == 500
        assert len(await queries.blocks(c, limit=1000, orphaned=True)) == 399
