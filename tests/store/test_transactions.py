"""Nonces, frozen and signed transactions, what was sent and where it was found: nothing twice, nothing else than what was frozen."""

from __future__ import annotations

import contextlib
import re
import sqlite3
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa
from coincurve import PrivateKey
from sqlalchemy import event

from domain import errors, transaction
from store import attempts, blocks, cursors, inclusions, intents, logs, outstanding, reservations, settling, slots
from store.book import Book
from store.connection import Connection
from tests.store import belt, factory

WHERE: dict[str, Any] = {"chain_id": belt.CHAIN, "account": belt.ACCOUNT}


async def test_the_next_nonce_is_the_highest_slot_plus_one_or_the_floor(book: Book) -> None:
    async with book.write() as c:
        given: list[int] = []
        for number, floor in enumerate((7, 0, 3, 8, 12, 5)):
            of = await belt.propose(c, belt.wanted(str(number)))
            given.append((await belt.reserve(c, of, floor=floor)).nonce)
        assert given == [7, 8, 9, 10, 12, 13]
        assert await slots.highest(c, belt.CHAIN, belt.ACCOUNT) == 13


async def test_an_intent_holds_one_nonce_and_only_its_own_accounts(book: Book) -> None:
    async with book.write() as c:
        of = await belt.bring(c, "reserved")
        with pytest.raises(errors.StoreError, match="holds nonce 0 already"):
            await slots.reserve(c, **WHERE, intent=of.id, floor=0, fence=1, at_s=1)
        other = await belt.propose(c, belt.wanted("b"))
        with pytest.raises(errors.StoreError, match="no such intent"):
            await slots.reserve(c, chain_id=1, account=belt.ACCOUNT, intent=other.id, floor=0, fence=1, at_s=1)
        with pytest.raises(errors.StoreError, match="no such intent"):
            await slots.reserve(c, chain_id=belt.CHAIN, account=b"\x02" * 20, intent=other.id, floor=0, fence=1, at_s=1)


async def test_a_slot_stays_taken_when_its_intent_is_final(book: Book) -> None:
    async with book.write() as c:
        await belt.bring(c, "superseded", belt.wanted("a"))
        assert await slots.open(c, belt.CHAIN, belt.ACCOUNT) == []
        of = await belt.propose(c, belt.wanted("b"))
        assert (await belt.reserve(c, of)).nonce == 1


async def test_a_stale_lease_token_reserves_freezes_and_signs_nothing(book: Book) -> None:
    async with book.write() as c:
        first = await belt.propose(c, belt.wanted("a"))
        await belt.reserve(c, first, fence=5)
        await intents.move(c, first.id, expect="new", to="planned", why="", at_s=1)
        await intents.move(c, first.id, expect="planned", to="reserved", why="", at_s=1)
        second = await belt.propose(c, belt.wanted("b"))
        with pytest.raises(errors.StoreError, match="the lease token 4 is stale: this account was served under 5"):
            await slots.reserve(c, **WHERE, intent=second.id, floor=0, fence=4, at_s=1)
        with pytest.raises(errors.StoreError, match="stale"):
            await belt.keep(c, first.id, fence=4)
        await belt.keep(c, first.id, fence=6)
        assert await slots.highest_fence(c, belt.CHAIN, belt.ACCOUNT) == 6
        bump = attempts.Attempt(first.id, 1, "bump", belt.unsigned(0, tip=10**10), "[]", 5, 1)
        with pytest.raises(errors.StoreError, match="stale"):
            await attempts.freeze(c, bump)
        await attempts.freeze(c, msgspec.structs.replace(bump, fence=6))


async def test_an_attempt_has_the_slots_nonce_and_the_next_number(book: Book) -> None:
    async with book.write() as c:
        of = await belt.bring(c, "reserved")
        plain = attempts.Attempt(of.id, 1, "bump", belt.unsigned(0), "[]", 1, 1)
        wrong: list[tuple[attempts.Attempt, str]] = [
            (msgspec.structs.replace(plain, number=2), "next attempt is number 1"),
            (msgspec.structs.replace(plain, number=0), "next attempt is number 1"),
            (msgspec.structs.replace(plain, unsigned=belt.unsigned(1)), "another nonce than 0"),
            (
                msgspec.structs.replace(plain, unsigned=belt.unsigned(0, chain_id=1)),
                "another nonce than 0 on chain 31337",
            ),
            (msgspec.structs.replace(plain, unsigned=belt.unsigned(0, gas=transaction.MAX_GAS + 1)), "more than"),
            (msgspec.structs.replace(plain, kind="original"), "only attempt 0 is the original"),
            (msgspec.structs.replace(plain, unsigned=belt.unsigned(0, to=b"\x02" * 20)), "does what the original does"),
            (msgspec.structs.replace(plain, unsigned=belt.unsigned(0, value=1)), "does what the original does"),
            (msgspec.structs.replace(plain, kind="cancel"), "a cancel sends nothing"),
            (msgspec.structs.replace(plain, intent=b"\x01" * 32), "needs a nonce slot"),
        ]
        for item, said in wrong:
            with pytest.raises(errors.StoreError, match=said):
                await attempts.freeze(c, item)
        assert len(await attempts.of_intent(c, of.id)) == 1


async def test_what_is_to_be_signed_comes_lowest_nonce_first_without_what_was_given_up(book: Book) -> None:
    async with book.write() as c:
        made = [await belt.bring(c, "reserved", belt.wanted(key)) for key in "abc"]
        await belt.bring(c, "signed", belt.wanted("d"))
        cancel = belt.unsigned(1, to=belt.ACCOUNT, data=b"", gas=21_000)
        await attempts.freeze(c, attempts.Attempt(made[1].id, 1, "cancel", cancel, "[]", 1, 1))
        found = await attempts.unsigned(c, belt.CHAIN, belt.ACCOUNT, 9)
        assert [(one.unsigned.nonce, one.kind) for one in found] == [(0, "original"), (1, "cancel"), (2, "original")]
        assert len(await attempts.unsigned(c, belt.CHAIN, belt.ACCOUNT, 2)) == 2
        assert await attempts.unsigned(c, 1, belt.ACCOUNT, 9) == []


async def test_what_was_frozen_comes_back_exactly(book: Book) -> None:
    widest = (1 << 256) - 1
    async with book.write() as c:
        of = await belt.propose(c)
        await slots.reserve(c, **WHERE, intent=of.id, floor=0, fence=1, at_s=1)
        tx = belt.unsigned(0, tip=widest, max_fee=widest, gas=transaction.MAX_GAS, value=widest, data=bytes(range(256)))
        item = attempts.Attempt(of.id, 0, "original", tx, '[{"kind":"Delegated"}]', 1, 1)
        await attempts.freeze(c, item)
        assert await attempts.of_intent(c, of.id) == [item]


async def test_a_signed_transaction_that_is_not_the_frozen_one_is_refused_field_by_field(book: Book) -> None:
    changes: dict[str, object] = {
        "chain_id": 1, "nonce": 1, "tip": 1, "max_fee": 1, "gas": 1, "to": b"\x02" * 20, "value": 1, "data": b"",
    }  # fmt: skip
    assert set(changes) == set(transaction.Unsigned.__struct_fields__)
    async with book.write() as c:
        of = await belt.bring(c, "reserved")
        for name, value in changes.items():
            made = belt.sign(msgspec.structs.replace(belt.unsigned(0), **{name: value}))
            with pytest.raises(errors.StoreError, match=f"another {name} than the frozen one"):
                await attempts.save_signed(c, of.id, 0, hash=made.hash, raw=made.raw, fence=1, at_s=1)
        made = belt.sign(belt.unsigned(0), PrivateKey(b"\x12" * 32))
        with pytest.raises(errors.StoreError, match="signed by another account"):
            await attempts.save_signed(c, of.id, 0, hash=made.hash, raw=made.raw, fence=1, at_s=1)
        made = belt.sign(belt.unsigned(0))
        with pytest.raises(errors.StoreError, match="not that of the raw"):
            await attempts.save_signed(c, of.id, 0, hash=b"\x01" * 32, raw=made.raw, fence=1, at_s=1)
        with pytest.raises(errors.BadAnswer):
            await attempts.save_signed(c, of.id, 0, hash=made.hash, raw=made.raw[:-1], fence=1, at_s=1)
        with pytest.raises(errors.StoreError, match="no such attempt"):
            await attempts.save_signed(c, of.id, 1, hash=made.hash, raw=made.raw, fence=1, at_s=1)
        assert await attempts.signed_of(c, of.id) == []


async def test_nothing_is_signed_that_a_cancel_was_frozen_after(book: Book) -> None:
    async with book.write() as c:
        of = await belt.bring(c, "reserved")
        nothing = belt.unsigned(0, gas=21_000, to=belt.ACCOUNT, data=b"")
        await attempts.freeze(c, attempts.Attempt(of.id, 1, "cancel", nothing, "[]", 1, 104))
        with pytest.raises(errors.StoreError, match="a cancel was frozen after it"):
            await belt.keep(c, of.id, 0)
        await belt.keep(c, of.id, 1)


async def test_one_signature_is_kept_for_an_attempt_and_the_same_again_changes_nothing(book: Book) -> None:
    async with book.write() as c:
        of = await belt.bring(c, "reserved")
        made = await belt.keep(c, of.id)
        await attempts.save_signed(c, of.id, 0, hash=made.hash, raw=made.raw, fence=1, at_s=999)
        other = belt.KEY.sign_recoverable(made.unsigned.digest(), hasher=None, custom_nonce=_other_nonce())
        raw = transaction.join(made.unsigned, other[:64] + bytes([27 + other[64]]))
        twin = transaction.parse(raw)
        assert (twin.unsigned, twin.sender) == (made.unsigned, made.sender)
        assert twin.hash != made.hash
        with pytest.raises(errors.StoreError, match="another signature is kept"):
            await attempts.save_signed(c, of.id, 0, hash=twin.hash, raw=twin.raw, fence=1, at_s=1)
        (kept,) = await attempts.signed_of(c, of.id)
        assert (kept.raw, kept.hash, kept.signed_at_s) == (made.raw, made.hash, 103)
        assert await attempts.by_hash(c, made.hash) == kept
        assert await attempts.by_hash(c, twin.hash) is None


def _other_nonce() -> Any:
    """RFC 6979 lets further data in, which gives another valid signature of the same digest."""
    from coincurve._libsecp256k1 import ffi  # type: ignore[attr-defined]

    extra = ffi.new("unsigned char[32]", b"\x07" * 32)
    return (ffi.NULL, extra)


async def test_nothing_is_signed_for_an_intent_that_is_over(book: Book) -> None:
    async with book.write() as c:
        of = await belt.bring(c, "reserved")
        await intents.move(c, of.id, expect="reserved", to="superseded", why="", at_s=1)
        with pytest.raises(errors.StoreError, match="superseded: nothing is signed"):
            await belt.keep(c, of.id)
        assert await attempts.unsigned(c, belt.CHAIN, belt.ACCOUNT, 9) == []


async def test_sends_are_counted_and_only_of_what_was_kept(book: Book) -> None:
    async with book.write() as c:
        of = await belt.bring(c, "signed")
        (kept,) = await attempts.signed_of(c, of.id)
        assert await attempts.broadcasts(c, of.id) == []
        await attempts.sent(c, kept.hash, hint="already known", at_s=5)
        await attempts.sent(c, kept.hash, hint="hostile \0 words", at_s=9)
        assert await attempts.broadcasts(c, of.id) == [attempts.Broadcast(kept.hash, 2, 5, 9, "hostile \\x00 words")]
    with pytest.raises(errors.StoreError):
        async with book.write() as c:
            await attempts.sent(c, b"\x01" * 32, hint="", at_s=5)


async def test_an_inclusion_leaves_with_its_block_and_is_found_again_when_the_block_returns(book: Book) -> None:
    async with book.write() as c:
        of = await belt.bring(c, "included")
        first = await inclusions.standing(c, of.id)
        assert first is not None
        again = msgspec.structs.replace(first, id=0, seen_at_s=200)
        assert await inclusions.save(c, again) == first.id
        elsewhere = msgspec.structs.replace(again, block_number=6, block_hash=factory.header(6).hash)
        with pytest.raises(errors.StoreError, match="another inclusion of the intent stands"):
            await inclusions.save(c, elsewhere)
        await inclusions.orphan(c, first.id, 201)
        await intents.move(c, of.id, expect="included", to="pending", why="reorged", at_s=201)
        other = await inclusions.save(c, elsewhere)
        await inclusions.orphan(c, other, 202)
        back = await inclusions.save(c, again)
        await intents.move(c, of.id, expect="pending", to="included", why="back", at_s=203)
        await inclusions.finalize(c, back, 204)
        found = await inclusions.of_intent(c, of.id)
        assert [(one.block_number, one.orphaned_at_s, one.final_at_s) for one in found] == [
            (5, 201, None),
            (6, 202, None),
            (5, None, 204),
        ]
        assert await intents.audit(c) == []


async def test_what_is_final_is_never_put_aside_and_what_was_put_aside_never_final(book: Book) -> None:
    async with book.write() as c:
        of = await belt.bring(c, "included")
        found = await inclusions.standing(c, of.id)
        assert found is not None
        await inclusions.finalize(c, found.id, 5)
        for again in (inclusions.orphan, inclusions.finalize):
            with pytest.raises(errors.StoreError, match="no such inclusion"):
                await again(c, found.id, 6)
        other = await belt.bring(c, "included", belt.wanted("b"), height=9)
        gone = await inclusions.standing(c, other.id)
        assert gone is not None
        await inclusions.orphan(c, gone.id, 7)
        for again in (inclusions.orphan, inclusions.finalize):
            with pytest.raises(errors.StoreError, match="no such inclusion"):
                await again(c, gone.id, 8)


async def test_a_reservation_counts_until_it_is_released_once(book: Book) -> None:
    async with book.write() as c:
        for number, action in enumerate(("delegate", "delegate", "undelegate")):
            await belt.bring(c, "reserved", belt.wanted(str(number), amount=(1 << 255) + number, action=action))
        spent = await reservations.spent(c, account=belt.ACCOUNT, since_s=0)
        assert spent == reservations.Spent(3 * (1 << 255) + 3, 0, 3)  # past 256 bits, and exact
        some = await reservations.spent(
            c, account=belt.ACCOUNT, since_s=0, protocol=factory.PROTOCOL, action="delegate"
        )
        assert some.count == 2
        assert (await reservations.spent(c, account=belt.ACCOUNT, since_s=103)).count == 3, "still under way"
        assert (await reservations.spent(c, account=b"\x02" * 20, since_s=0)) == reservations.Spent(0, 0, 0)
        first = belt.wanted("0", amount=1 << 255).id
        await intents.move(c, first, expect="reserved", to="superseded", why="", at_s=1)
        await reservations.release(c, first, "another transaction took the nonce", 150)
        assert (await reservations.spent(c, account=belt.ACCOUNT, since_s=0)).count == 2
        done = await belt.bring(c, "final_ok", belt.wanted("old"), height=12)
        assert (await reservations.of_intent(c, done.id)) is not None
        assert (await reservations.spent(c, account=belt.ACCOUNT, since_s=103)).count == 2, "final and old"
        with pytest.raises(errors.StoreError, match="no reservation to release"):
            await reservations.release(c, first, "again", 151)
        kept = await reservations.of_intent(c, first)
        assert kept is not None
        assert (kept.released_at_s, kept.why_released) == (150, "another transaction took the nonce")


async def test_only_the_oldest_that_wait_are_woken_for_as_many_as_there_is_room_for(book: Book) -> None:
    async with book.write() as c:
        ids = [(await belt.propose(c, belt.wanted(str(number)))).id for number in range(6)]
        for id in reversed(ids):
            await outstanding.wait(c, id, why="no room", next_s=10_000)
        await intents.move(c, ids[0], expect="new", to="cancelled", why="", at_s=1)
        for room, woken in ((-1, 0), (0, 0), (2, 2), (9, 5)):
            await outstanding.wake(c, room)
            due = await intents.due(c, ("new", "planned"), 200, 10)
            assert due == ids[1 : 1 + woken]


async def test_gas_counts_by_the_worst_while_it_is_under_way_and_then_by_what_was_mined(book: Book) -> None:
    async def gas(c: Connection, *, since_s: int = 0, apart_from: bytes | None = None) -> tuple[int, int]:
        found = await reservations.gas(c, account=belt.ACCOUNT, since_s=since_s, apart_from=apart_from)
        return found.paid, found.open

    async with book.write() as c:
        of = await belt.bring(c, "pending")
        share = 200_000 * 3 * 10**9
        assert await gas(c) == (0, share)
        assert await gas(c, apart_from=of.id) == (0, 0)
        slot = await slots.of_intent(c, of.id)
        assert slot is not None
        more = belt.unsigned(slot.nonce, tip=2 * 10**9, max_fee=5 * 10**9)
        await attempts.freeze(c, attempts.Attempt(of.id, 1, "bump", more, "[]", 1, 104))
        assert await gas(c) == (0, 200_000 * 5 * 10**9), "a bump counts by what it can come to"
        await intents.move(c, of.id, expect="pending", to="superseded", why="", at_s=1)
        await reservations.release(c, of.id, "superseded", 150)
        assert await gas(c) == (0, 0), "nothing of ours was mined"
        done = await belt.bring(c, "final_ok", belt.wanted("b"), height=9)
        found = await inclusions.standing(c, done.id)
        assert found is not None and found.final_at_s is not None
        assert 0 < found.gas_used < 200_000
        assert await gas(c) == (200_000 * found.gas_price_wei, 0), "how much gas was used is the node's word"
        assert await gas(c, since_s=found.final_at_s + 1) == (0, 0)


async def test_a_cancel_that_was_mined_ends_the_intent_as_cancelled(book: Book) -> None:
    async with book.write() as c:
        of = await belt.bring(c, "pending")
        cancel = belt.unsigned(0, tip=10**10, max_fee=10**11, to=belt.ACCOUNT, data=b"", gas=21_000)
        await attempts.freeze(c, attempts.Attempt(of.id, 1, "cancel", cancel, "[]", 1, 1))
        await belt.keep(c, of.id, 1)
        found = await belt.include(c, of.id, number=1, effect=False)
        await intents.move(c, of.id, expect="pending", to="included", why="", at_s=1)
        await inclusions.finalize(c, found.id, 2)
    async with belt.undone(book) as c:
        with pytest.raises(errors.StoreError, match="its cancel that was mined"):
            await intents.move(c, of.id, expect="included", to="final_no_effect", why="", at_s=3)
    async with book.write() as c:
        await intents.move(c, of.id, expect="included", to="cancelled", why="", at_s=3)
        assert await intents.audit(c) == []


async def test_an_orphaned_block_does_not_count_as_indexed(book: Book) -> None:
    async with book.write() as c:
        of = await belt.bring(c, "included")
        found = await inclusions.standing(c, of.id)
        assert found is not None
        await inclusions.finalize(c, found.id, 2)
        await blocks.orphan(c, [found.block_hash], generation=1)
        with pytest.raises(errors.StoreError, match="no canonical log"):
            await intents.move(c, of.id, expect="included", to="final_ok", why="", at_s=3)


async def test_the_height_that_was_seen_is_the_indexs_or_an_inclusion_that_the_chain_can_have_reached(
    book: Book,
) -> None:
    async def height() -> int:
        return await outstanding.height(c, belt.CHAIN, belt.ACCOUNT)

    async with book.write() as c:
        assert await height() == 0
        of = await belt.bring(c, "pending")
        (signed,) = await attempts.signed_of(c, of.id)
        await cursors.put(c, "index", cursors.Cursor(100, b"\x07" * 32, 0))
        for number, seen in (
            (90, 100),
            (101, 101),
            (100 + outstanding.AHEAD, 100 + outstanding.AHEAD),
            (101 + outstanding.AHEAD, 100),
            (10**12, 100),
        ):
            item = inclusions.Inclusion(of.id, 0, signed.hash, number, b"\x0a" * 32, 0, 1, 21_000, 1, None, 1)
            id = await inclusions.save(c, item)
            assert await height() == seen, number
            await inclusions.orphan(c, id, 2)
            assert await height() == 100


async def test_a_transaction_is_held_by_canonical_decoded_logs_of_its_own_from_a_height_on(book: Book) -> None:
    old, new = factory.header(5, "a"), factory.header(5, "b", parent_fork="a")
    later, unread = factory.header(6), factory.header(7)
    mine, other, gone, nothing = (factory.digest("tx", n) for n in (1, 2, 3, 4))
    raw = logs.Indexed(factory.row(unread, tx=4).log, unread.time, factory.PROTOCOL, None, "node")

    async def held(*hashes: bytes, first: int) -> set[bytes]:
        async with book.read() as c:
            return await outstanding.held_since(c, hashes, first=first)

    async with book.write() as c:
        await blocks.insert(c, [old], proof="receipts")
        await logs.insert(c, [factory.row(old, 0, tx=3)])
    assert await held(gone, first=5) == {gone}
    async with book.write() as c:
        await blocks.orphan(c, [old.hash], generation=1)
        await blocks.insert(c, [new, later, unread], proof="receipts")
        await logs.insert(c, [factory.row(new, 0, tx=1), factory.row(later, 0, tx=2), raw])
    assert await held(mine, other, gone, nothing, first=0) == {mine, other}
    assert await held(mine, first=5) == {mine} and await held(mine, first=6) == set()
    assert await held(mine, other, first=6) == {other}
    assert await held(other, first=0) == {other} and await held(first=0) == set()


async def test_what_was_signed_for_an_intent_is_logged_from_the_block_that_decided_it(book: Book) -> None:
    async with book.write() as c:
        one, other = [await belt.bring(c, "pending", belt.wanted(key)) for key in ("one", "other")]
        (signed,) = await attempts.signed_of(c, one.id)
        decided = factory.header(1)  # as `belt.decision` says
        plain = factory.row(decided)
        await blocks.insert(c, [decided], proof="receipts")
        assert not await settling.logged(c, one.id)
        assert plain.event is not None
        at = msgspec.structs.replace(plain.event.at, tx_hash=signed.hash)
        of = msgspec.structs.replace(plain.log, tx_hash=signed.hash)
        await logs.insert(
            c, [msgspec.structs.replace(plain, log=of, event=msgspec.structs.replace(plain.event, at=at))]
        )
        assert await settling.logged(c, one.id) and not await settling.logged(c, other.id)


async def test_what_a_reservation_asks_of_the_book_reads_no_more_than_what_is_open_or_of_the_day(
    tmp_path: Path,
) -> None:
    """By SQLite's own plans: none goes through a whole table, or through all slots of the account."""
    path, asked = tmp_path / "book.db", list[tuple[str, Any]]()

    def heard(_connection: object, _cursor: object, statement: str, parameters: Any, *_: object) -> None:
        asked.append((statement, parameters))

    opened = await factory.open_book(f"sqlite:///{path}")
    try:
        async with opened.write() as c:
            await belt.bring(c, "pending")
            await cursors.put(c, "index", cursors.Cursor(1, b"\x07" * 32, 0))
            event.listen(sa.Engine, "before_cursor_execute", heard)
            try:
                await reservations.gas(c, account=belt.ACCOUNT, since_s=1, apart_from=b"\x01" * 32)
                await reservations.spent(c, account=belt.ACCOUNT, since_s=1, protocol="devnet", action="delegate")
                await reservations.in_flight(c, belt.CHAIN, belt.ACCOUNT)
                await outstanding.originals(c, belt.CHAIN, belt.ACCOUNT)
                await outstanding.height(c, belt.CHAIN, belt.ACCOUNT)
                await outstanding.unsent(c, belt.CHAIN, belt.ACCOUNT)
                await attempts.unsigned(c, belt.CHAIN, belt.ACCOUNT, 16)
                await slots.open(c, belt.CHAIN, belt.ACCOUNT)
            finally:
                event.remove(sa.Engine, "before_cursor_execute", heard)
    finally:
        await opened.close()
    assert len(asked) >= 8
    with contextlib.closing(sqlite3.connect(path)) as plain:
        for name in {word for statement, _ in asked for word in re.findall(r"\b\w*u256\w*(?=\()", statement)}:
            plain.create_function(name, 1, bytes)
        for statement, parameters in asked:
            plan = [row[3] for row in plain.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)]
            assert not [step for step in plan if step.startswith("SCAN") or "chain_id=? AND account=?" in step], plan


async def test_what_is_under_way_is_told_of_one_account_of_one_chain(book: Book) -> None:
    async with book.write() as c:
        for place in range(2):
            await belt.bring(c, "final_ok", belt.wanted(f"done {place}"), height=5 + place)
        await belt.bring(c, "included", belt.wanted("open"), height=9)
        await cursors.put(c, "index", cursors.Cursor(6, b"\x07" * 32, 0))
        for chain_id, account, own in (
            (belt.CHAIN, belt.ACCOUNT, True),
            (1, belt.ACCOUNT, False),
            (belt.CHAIN, b"\x01" * 20, False),
        ):
            nonces = await outstanding.nonces(c, chain_id, account)
            assert await reservations.in_flight(c, chain_id, account) == own
            assert len(await outstanding.originals(c, chain_id, account)) == own
            assert await outstanding.height(c, chain_id, account) == (9 if own else 6)
            assert (nonces.open, nonces.settled) == (((2,), 1) if own else ((), None))


async def test_gas_of_what_ended_by_a_persons_word_counts_at_its_worst_for_a_day(book: Book) -> None:
    async with book.write() as c:
        of = await belt.bring(c, "needs_operator")
        worst = (await reservations.gas(c, account=belt.ACCOUNT, since_s=0)).open
        await settling.settle(c, of.id, outcome="final_reverted", by="otto", reason="the explorer says so", at_s=120)
        await intents.move(c, of.id, expect="needs_operator", to="final_reverted", why="otto", at_s=121)
        assert await reservations.gas(c, account=belt.ACCOUNT, since_s=121) == reservations.Gas(worst, 0)
        assert worst and await reservations.gas(c, account=belt.ACCOUNT, since_s=122) == reservations.Gas(0, 0)
