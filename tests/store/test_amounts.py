"""256-bit amounts and hostile text: exact in both databases."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from domain import errors
from kit import columns
from kit import logs as lines
from store import blocks, latches, logs, parked, queries
from store.book import Book
from tests.store import factory

MAX = (1 << 256) - 1
AMOUNTS = [0, 1, 255, 256, 2**63 - 1, 2**63, 2**64, 10**18, 2**128 - 1, 2**255, MAX - 1, MAX]


async def _store(book: Book, amounts: list[int]) -> list[logs.Indexed]:
    one = factory.header(1)
    rows = [factory.row(one, index, amount=amount) for index, amount in enumerate(amounts)]
    async with book.write() as c:
        await blocks.insert(c, [one], proof="receipts")
        await logs.insert(c, rows)
    return rows


async def test_every_width_of_amount_reads_back_exactly(book: Book) -> None:
    rows = await _store(book, AMOUNTS)
    async with book.read() as c:
        assert await logs.between(c, protocol=factory.PROTOCOL, first=0, last=10) == rows


async def test_amounts_sort_as_numbers(book: Book) -> None:
    mixed = AMOUNTS[::-2] + AMOUNTS[::2]
    await _store(book, mixed)
    async with book.read() as c:
        found = await c.rows(sa.text("SELECT log_index FROM canonical_event ORDER BY amount"))
    assert [mixed[row.log_index] for row in found] == sorted(mixed)


async def test_amounts_sum_exactly_beyond_256_bits(book: Book) -> None:
    await _store(book, AMOUNTS)
    async with book.read() as c:
        assert await queries.amount_by_kind(c, protocol=factory.PROTOCOL) == {"Delegated": sum(AMOUNTS)}


async def test_the_sum_over_no_rows_is_none(book: Book) -> None:
    async with book.read() as c:
        assert await queries.amount_by_kind(c, protocol="none") == {}


@pytest.mark.parametrize("amount", [-1, MAX + 1])
async def test_an_amount_out_of_range_is_refused(book: Book, amount: int) -> None:
    with pytest.raises(errors.StoreError, match="out of range"):
        await _store(book, [amount])


async def test_a_number_too_wide_for_the_database_is_refused(book: Book) -> None:
    with pytest.raises(errors.StoreError, match="out of range"):
        async with book.write() as c:
            await blocks.insert(c, [factory.header(2**63)], proof="node")


async def test_a_short_hash_is_refused(book: Book) -> None:
    with pytest.raises(errors.StoreError, match="31 bytes where 32 belong"):
        async with book.write() as c:
            await parked.add(c, stream_or_protocol="devnet", block_hash=bytes(31), log_index=0, reason="")


@pytest.mark.parametrize(
    "note",
    ["\0", "a\0b", "'; DROP TABLE log; --", "\u202e\ufffe", "\x1b[2J", "{}", '"', "\\u0000", "\U0001f600" * 500, ""],
)
async def test_hostile_text_from_the_chain_reads_back_exactly(book: Book, note: str) -> None:
    one = factory.header(1)
    async with book.write() as c:
        await blocks.insert(c, [one], proof="receipts")
        await logs.insert(c, [factory.noted(one, 0, note)])
    async with book.read() as c:
        assert await logs.between(c, protocol=factory.PROTOCOL, first=0, last=1) == [factory.noted(one, 0, note)]


@pytest.mark.parametrize("reason", ["\0", "lone \ud800 surrogate", "x" * 100_000])
async def test_a_reason_that_quotes_hostile_bytes_is_stored_safely(book: Book, reason: str) -> None:
    async with book.write() as c:
        await latches.set(c, "finality", reason=reason, at_s=1)
    async with book.read() as c:
        (latch,) = await latches.active(c)
    assert latch.reason == lines.line(reason) and len(latch.reason) <= columns.Note.limit


@given(st.text())
def test_cleaned_text_has_nothing_a_database_refuses(text: str) -> None:
    cleaned = columns.clean(text)
    assert "\0" not in cleaned
    cleaned.encode()


async def test_odd_topics_and_empty_data_read_back(book: Book) -> None:
    import msgspec

    one = factory.header(1)
    plain = factory.row(one)
    rows = [
        msgspec.structs.replace(
            plain,
            log=msgspec.structs.replace(plain.log, log_index=n, topics=(b"\0" * 32,) * n, data=b"\0" * n),
            event=None,
        )
        for n in range(5)
    ]
    async with book.write() as c:
        await blocks.insert(c, [one], proof="receipts")
        await logs.insert(c, rows)
    async with book.read() as c:
        assert await logs.of_block(c, one.ref) == rows
