"""What was read, for what, how well: unbroken runs, and what they leave out."""

from __future__ import annotations

import random

import sqlalchemy as sa

from store import coverage
from store.book import Book

ONE, TWO = b"\x01" * 32, b"\x02" * 32


async def add(book: Book, first: int, last: int, *, fingerprint: bytes = ONE, proof: str = "bloom") -> None:
    async with book.write() as c:
        await coverage.add(c, protocol="devnet", fingerprint=fingerprint, first=first, last=last, proof=proof)


async def missing(
    book: Book, first: int, last: int, *, fingerprint: bytes = ONE, proof: str = "bloom", protocol: str = "devnet"
) -> int | None:
    async with book.read() as c:
        return await coverage.first_uncovered(
            c, protocol=protocol, fingerprint=fingerprint, first=first, last=last, proof=proof
        )


async def rows(book: Book) -> list[tuple[int, int]]:
    async with book.read() as c:
        return [tuple(row) for row in await c.rows(sa.text("SELECT first, last FROM coverage ORDER BY first"))]


async def test_ranges_that_touch_are_one_row(book: Book) -> None:
    for first in range(1, 200, 10):
        await add(book, first, first + 9)
    assert await rows(book) == [(1, 200)]
    await add(book, 300, 310)
    assert await rows(book) == [(1, 200), (300, 310)]
    await add(book, 150, 299)
    assert await rows(book) == [(1, 310)]


async def test_what_was_never_read_is_named_by_its_lowest_block(book: Book) -> None:
    assert await missing(book, 1, 5) == 1
    await add(book, 3, 10)
    await add(book, 20, 30)
    assert await missing(book, 1, 5) == 1
    assert await missing(book, 3, 10) is None
    assert await missing(book, 5, 25) == 11
    assert await missing(book, 25, 31) == 31
    assert await missing(book, 40, 50) == 40


async def test_another_protocol_or_another_meaning_was_not_read(book: Book) -> None:
    await add(book, 1, 10)
    assert await missing(book, 1, 10, fingerprint=TWO) == 1
    assert await missing(book, 1, 10, protocol="other") == 1


async def test_a_stronger_reading_serves_and_a_weaker_one_does_not(book: Book) -> None:
    await add(book, 1, 10, proof="node")
    await add(book, 11, 20, proof="receipts")
    await add(book, 5, 12, proof="bloom")
    assert await missing(book, 1, 20, proof="node") is None
    assert await missing(book, 1, 20, proof="bloom") == 1
    assert await missing(book, 5, 20, proof="bloom") is None
    assert await missing(book, 5, 20, proof="receipts") == 5
    assert await missing(book, 11, 20, proof="receipts") is None


async def test_a_revert_takes_back_what_was_above_it(book: Book) -> None:
    await add(book, 1, 10)
    await add(book, 15, 20, fingerprint=TWO)
    async with book.write() as c:
        await coverage.truncate(c, above=7)
    assert await rows(book) == [(1, 7)]
    await add(book, 8, 9)
    assert await rows(book) == [(1, 9)]


async def test_any_order_of_ranges_covers_what_a_set_of_numbers_says(book: Book) -> None:
    rng = random.Random(7)
    known: dict[str, set[int]] = {"node": set(), "receipts": set()}
    for _ in range(60):
        first = rng.randrange(60)
        last = first + rng.randrange(6)
        if rng.random() < 0.2:
            async with book.write() as c:
                await coverage.truncate(c, above=first)
            for numbers in known.values():
                numbers -= set(range(first + 1, 100))
            continue
        proof = rng.choice(["node", "receipts"])
        await add(book, first, last, proof=proof)
        known[proof] |= set(range(first, last + 1))
        low, high = sorted((rng.randrange(70), rng.randrange(70)))
        strong = known["receipts"]
        either = strong | known["node"]
        for level, numbers in (("node", either), ("bloom", strong), ("receipts", strong)):
            expected = next((n for n in range(low, high + 1) if n not in numbers), None)
            assert await missing(book, low, high, proof=level) == expected
