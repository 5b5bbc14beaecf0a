"""Votes, outbox and receipts: nothing signed is forgotten, nothing is dropped, nothing waits for a stranger."""

from __future__ import annotations

import pytest

from domain import errors, hashing
from store import outbox, receipts, votes
from store.book import Book
from tests.store import factory

HUB, ME = "http://hub", b"\xaa" * 20
A, B = factory.digest("stream a"), factory.digest("stream b")


async def _put(book: Book, *items: tuple[str, bytes]) -> None:
    async with book.write() as c:
        for name, stream in items:
            await outbox.put(c, id=factory.digest(name), stream=stream, kind="attestation", payload=name.encode())


async def _due(book: Book, now_s: int = 100, limit: int = 10) -> list[str]:
    async with book.read() as c:
        return [item.payload.decode() for item in await outbox.due(c, now_s=now_s, limit=limit)]


async def test_each_stream_is_delivered_in_order(book: Book) -> None:
    await _put(book, ("a1", A), ("a2", A), ("b1", B), ("a3", A))
    assert [name for name in await _due(book) if name.startswith("a")] == ["a1", "a2", "a3"]


async def test_a_long_stream_does_not_crowd_out_another(book: Book) -> None:
    await _put(book, *((f"a{n}", A) for n in range(20)), ("b0", B))
    assert await _due(book, limit=2) == ["a0", "b0"]


async def test_a_waiting_item_holds_up_its_own_stream_only(book: Book) -> None:
    await _put(book, ("a1", A), ("a2", A), ("b1", B))
    async with book.write() as c:
        await outbox.defer(c, factory.digest("a1"), next_s=200, attempts=1, why="hub away")
    assert await _due(book, now_s=199) == ["b1"]
    assert sorted(await _due(book, now_s=200)) == ["a1", "a2", "b1"]


async def test_an_item_in_trouble_of_its_own_lets_its_stream_pass(book: Book) -> None:
    await _put(book, ("a1", A), ("a2", A))
    async with book.write() as c:
        await outbox.defer(c, factory.digest("a1"), next_s=200, attempts=1, why="refused", blocks=False)
    assert await _due(book, now_s=150) == ["a2"]


async def test_a_row_closes_on_its_receipt_only_and_everything_can_be_sent_again(book: Book) -> None:
    await _put(book, ("a1", A), ("a2", A))
    async with book.write() as c:
        await outbox.close(c, factory.digest("a1"), receipt=factory.digest("receipt"))
        assert await outbox.depth(c) == 1
    assert await _due(book) == ["a2"]
    async with book.write() as c:
        assert await outbox.reopen_all(c) == 1
    assert await _due(book) == ["a1", "a2"]


async def test_the_same_item_is_put_once_and_another_under_its_id_is_refused(book: Book) -> None:
    await _put(book, ("a1", A), ("a1", A))
    assert await _due(book) == ["a1"]
    with pytest.raises(errors.StoreError, match="outbox item differs"):
        async with book.write() as c:
            await outbox.put(c, id=factory.digest("a1"), stream=A, kind="attestation", payload=b"other")


def _vote(name: str, kind: str = "attestation", ballot: int = 0) -> votes.Attested:
    return votes.Attested(factory.digest(name), A, 3, 0, ME, name.encode(), kind, ballot)


async def _slot(book: Book) -> list[str]:
    async with book.read() as c:
        return [vote.payload.decode() for vote in await votes.for_slot(c, signer=ME, stream=A, sequence=3, revision=0)]


async def test_a_second_vote_in_a_slot_is_refused(book: Book) -> None:
    async with book.write() as c:
        await votes.save(c, _vote("first"), at_s=1)
        await votes.save(c, _vote("first"), at_s=2)
    with pytest.raises(errors.StoreError, match="second vote"):
        async with book.write() as c:
            await votes.save(c, _vote("second"), at_s=3)
    assert await _slot(book) == ["first"]


async def test_a_vote_is_replaced_after_its_withdrawal_only(book: Book) -> None:
    async with book.write() as c:
        await votes.save(c, _vote("first"), at_s=1)
        await votes.save(c, _vote("replace", "replacement", 1), at_s=2)
        await votes.save(c, _vote("second"), at_s=3)
    with pytest.raises(errors.StoreError, match="second vote"):
        async with book.write() as c:
            await votes.save(c, _vote("third"), at_s=4)
    assert await _slot(book) == ["first", "replace", "second"]


async def test_votes_cannot_be_deleted(book: Book) -> None:
    import sqlalchemy as sa

    async with book.write() as c:
        await votes.save(c, _vote("first"), at_s=1)
    with pytest.raises(errors.StoreError):
        async with book.write() as c:
            await c.change(sa.text("DELETE FROM vote"))
    assert await _slot(book) == ["first"]


def _receipt(number: int, previous: bytes, salt: str = "") -> receipts.Kept:
    return receipts.Kept(
        number, factory.digest("item", number), factory.digest("receipt", number, salt), previous, bytes(65)
    )


async def _save(book: Book, *kept: receipts.Kept) -> None:
    async with book.write() as c:
        for one in kept:
            await receipts.save(c, hub=HUB, attester=ME, kept=one, at_s=1)


async def test_receipts_chain_in_whatever_order_they_arrive(book: Book) -> None:
    first = _receipt(1, hashing.ZERO32)
    second = _receipt(2, first.id)
    third = _receipt(3, second.id)
    await _save(book, first, third, first)
    async with book.read() as c:
        assert await receipts.broken_at(c, HUB, ME) == 2
    await _save(book, second)
    async with book.read() as c:
        assert await receipts.broken_at(c, HUB, ME) is None
        assert await receipts.last(c, HUB, ME) == third
        assert await receipts.at(c, HUB, ME, 2) == second


@pytest.mark.parametrize(
    "bad", [_receipt(2, hashing.ZERO32), _receipt(1, hashing.ZERO32, "other"), _receipt(0, hashing.ZERO32)]
)
async def test_a_receipt_that_does_not_chain_is_refused(book: Book, bad: receipts.Kept) -> None:
    await _save(book, _receipt(1, hashing.ZERO32))
    with pytest.raises(errors.BadAnswer, match="do not chain"):
        await _save(book, bad)


async def test_a_hub_that_lost_its_memory_begins_another_chain(book: Book) -> None:
    await _save(book, _receipt(1, hashing.ZERO32))
    async with book.write() as c:
        assert await receipts.archive(c, hub=HUB, attester=ME, at_s=2) == 1
        assert await receipts.last(c, HUB, ME) is None
    anew = _receipt(1, hashing.ZERO32, "anew")
    await _save(book, anew)
    async with book.read() as c:
        assert await receipts.last(c, HUB, ME) == anew
