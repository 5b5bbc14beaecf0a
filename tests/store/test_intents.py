"""Intents and their moves: a key is bound to a payload, and a state is a claim about rows."""

from __future__ import annotations

import msgspec
import pytest
import sqlalchemy as sa

from domain import errors
from domain import intent as domain_intent
from store import attempts, inclusions, intents, reservations, slots
from store.book import Book
from tests.store import belt


async def test_the_same_key_and_payload_is_the_same_intent(book: Book) -> None:
    async with book.write() as c:
        first, created = await intents.put(c, belt.wanted(), proposer="a", reason="r", at_s=1, expires_at_s=9)
        again, twice = await intents.put(c, belt.wanted(), proposer="b", reason="s", at_s=5, expires_at_s=99)
    assert (created, twice) == (True, False)
    assert again == first
    assert (first.state, first.moves, first.proposer, first.intent) == ("new", 0, "a", belt.wanted())


async def test_the_same_key_with_another_payload_is_a_conflict(book: Book) -> None:
    async with book.write() as c:
        await belt.propose(c)
        with pytest.raises(intents.Conflict, match="another payload"):
            await intents.put(c, belt.wanted(amount=1), proposer="alice", reason="r", at_s=1, expires_at_s=9)
        other = msgspec.structs.replace(belt.wanted(amount=1), account=b"\x02" * 20)
        _, created = await intents.put(c, other, proposer="alice", reason="r", at_s=1, expires_at_s=9)
    assert created


async def test_a_key_that_no_book_can_hold_is_refused(book: Book) -> None:
    for key in ("", "x" * 201, "a\0b", "two\nlines", "rtl\u202e"):
        with pytest.raises(errors.StoreError, match="printable"):
            async with book.write() as c:
                await intents.put(c, belt.wanted(key), proposer="a", reason="r", at_s=1, expires_at_s=9)


async def test_every_state_can_be_reached_and_the_book_is_sound(book: Book) -> None:
    async with book.write() as c:
        for height, state in enumerate(belt.WAY, 10):
            stored = await belt.bring(c, state, belt.wanted(state), height=height)
            assert (stored.state, stored.moves) == (state, len(belt.WAY[state]))
    async with book.read() as c:
        assert await intents.audit(c) == []
        assert await intents.counts(c) == dict.fromkeys(domain_intent.STATES, 1)
        holding = [await slots.of_intent(c, belt.wanted(state).id) for state in sorted(domain_intent.HOLDING)]
        open_ = await slots.open(c, belt.CHAIN, belt.ACCOUNT)
        assert sorted(slot.nonce for slot in holding if slot) == [slot.nonce for slot in open_]
        assert await reservations.in_flight(c, belt.CHAIN, belt.ACCOUNT) == len(domain_intent.HOLDING)


async def test_only_the_machines_moves_are_made_and_only_from_the_expected_state(book: Book) -> None:
    async with book.write() as c:
        for number, state in enumerate(domain_intent.UNSENT):
            of = await belt.bring(c, state, belt.wanted(str(number)))
            for to in domain_intent.STATES:
                if not domain_intent.may_move(state, to):
                    with pytest.raises(errors.StoreError, match="never moves"):
                        await intents.move(c, of.id, expect=state, to=to, why="", at_s=1)
            with pytest.raises(errors.StoreError, match=f"is {state}, not included"):
                await intents.move(c, of.id, expect="included", to="pending", why="", at_s=1)
            assert await intents.get(c, of.id) == of


async def test_a_move_without_the_rows_it_stands_for_leaves_nothing(book: Book) -> None:
    cases: list[tuple[domain_intent.State, domain_intent.State, str]] = [
        ("planned", "reserved", "holds no nonce"),
        ("reserved", "signed", "has no signature"),
        ("pending", "included", "no inclusion stands"),
        ("included", "final_ok", "no inclusion is final"),
        ("included", "final_reverted", "no inclusion is final"),
        ("included", "pending", "an inclusion stands"),
        ("included", "superseded", "an inclusion stands"),
        ("included", "cancelled", "no cancel of it is final"),
    ]
    for height, (state, to, missing) in enumerate(cases, 10):
        async with book.write() as c:
            of = await belt.bring(c, state, belt.wanted(f"{state}-{to}"), height=height)
        with pytest.raises(errors.StoreError, match=missing):
            async with book.write() as c:
                await intents.move(c, of.id, expect=state, to=to, why="", at_s=120)
        async with book.read() as c:
            assert await intents.get(c, of.id) == of
    async with book.read() as c:
        assert await intents.audit(c) == []


async def test_reserved_needs_each_of_nonce_budget_decision_and_frozen_transaction(book: Book) -> None:
    async with book.write() as c:
        of = await belt.bring(c, "planned")
        where = {"chain_id": belt.CHAIN, "account": belt.ACCOUNT, "intent": of.id}
        slot = await slots.reserve(c, **where, floor=0, fence=0, at_s=1)  # type: ignore[arg-type]
        with pytest.raises(errors.StoreError) as caught:
            await intents.move(c, of.id, expect="planned", to="reserved", why="", at_s=2)
    assert slot.nonce == 0
    assert [text.split(" but ")[1] for text in caught.value.value] == [  # type: ignore[attr-defined]
        "has no reservation",
        "has no attempt",
        "no decision ever allowed it",
    ]


async def test_success_needs_the_event_as_a_canonical_log_of_the_book(book: Book) -> None:
    async with book.write() as c:
        of = await belt.bring(c, "pending")
        found = await belt.include(c, of.id, effect=False)
        await inclusions.orphan(c, found.id, 106)
        claimed = msgspec.structs.replace(found, effect_log_index=3, id=0)
        again = await inclusions.save(c, claimed)
        await inclusions.finalize(c, again, 107)
        await intents.move(c, of.id, expect="pending", to="included", why="", at_s=108)
        with pytest.raises(errors.StoreError, match="no canonical log"):
            await intents.move(c, of.id, expect="included", to="final_ok", why="", at_s=109)


async def test_every_move_is_a_row_of_the_history(book: Book) -> None:
    async with book.write() as c:
        of = await belt.bring(c, "final_ok")
        found = await intents.history(c, of.id)
    way = belt.WAY["final_ok"]
    assert [step.to_state for step in found] == list(way)
    assert [step.from_state for step in found] == ["new", *way[:-1]]
    assert [step.number for step in found] == [1, 2, 3, 4, 5, 6]


async def test_intents_come_oldest_first_and_pages_meet(book: Book) -> None:
    keys = [f"k{n}" for n in range(7)]
    seen: list[str] = []
    after = None
    async with book.write() as c:
        for key in keys:
            await belt.propose(c, belt.wanted(key))
        await belt.propose(c, msgspec.structs.replace(belt.wanted("other"), account=b"\x02" * 20))
    async with book.read() as c:
        while page := await intents.in_states(c, {"new", "planned"}, account=belt.ACCOUNT, limit=3, after=after):
            seen += [one.intent.key for one in page]
            after = page[-1].position
        assert seen == keys
        assert await intents.in_states(c, {"planned"}, limit=9) == []


async def test_due_are_those_whose_timer_has_passed_or_that_have_none(book: Book) -> None:
    async with book.write() as c:
        for key, next_s in (("late", 50), ("none", None), ("future", 200), ("early", 20)):
            of = await belt.propose(c, belt.wanted(key))
            await intents.timer(c, of.id, next_s)
        found = [await intents.get(c, id) for id in await intents.due(c, {"new"}, 100, 9)]
        assert [one and one.intent.key for one in found] == ["none", "early", "late"]
        first, second = await intents.due(c, {"new"}, 100, 2)
        assert [one and one.next_s for one in found[:2]] == [None, 20]
        assert [second] == await intents.due(c, {"new"}, 100, 1, apart_from=[first])
        with pytest.raises(errors.StoreError, match="no such intent"):
            await intents.timer(c, b"\x01" * 32, 5)


_DAMAGE = {
    "moved 3 times": "UPDATE progress SET moves = moves + 1",
    "but its last transition was to reserved": "UPDATE progress SET state = 'signed'",
    "but holds nonce 0": "UPDATE progress SET state = 'planned'",
    "has no reservation": "DELETE FROM reservation",
    "has no attempt": "DELETE FROM attempt",
    "no decision ever allowed it": "DELETE FROM decision",
    "its reservation is released": "UPDATE reservation SET released_at_s = 5",
    "has no progress": "DELETE FROM progress",
    "transition 2 from planned to reserved follows new": "UPDATE transition SET number = 9 WHERE number = 1",
}


async def test_the_audit_names_each_contradiction(book: Book) -> None:
    async with book.write() as c:
        await belt.bring(c, "reserved")
    for said, damage in _DAMAGE.items():
        async with belt.undone(book) as c:
            await belt.unguard(c)
            await c.change(sa.text(damage))
            found = await intents.audit(c)
        assert any(said in text for text in found), (said, found)


async def test_the_audit_parses_every_signed_byte_again(book: Book) -> None:
    async with book.write() as c:
        of = await belt.bring(c, "pending")
        other = belt.sign(belt.unsigned(0, value=1))
        await belt.unguard(c)
        await c.change(sa.text("UPDATE signed_tx SET raw = :raw"), {"raw": other.raw})
        (found,) = await intents.audit(c)
        assert "another value than the frozen one" in found
        with pytest.raises(errors.StoreError, match="not what was frozen"):
            await attempts.signed_of(c, of.id)


async def test_the_audit_sees_lease_tokens_that_went_back(book: Book) -> None:
    async with book.write() as c:
        await belt.bring(c, "reserved", belt.wanted("a"))
        await belt.bring(c, "reserved", belt.wanted("b"))
        await belt.unguard(c)
        await c.change(sa.text("UPDATE nonce_slot SET fence = 9 WHERE nonce = 0"))
        (found,) = await intents.audit(c)
    assert found == "nonce 1 was taken under lease token 1, the one before it under 9"


async def test_a_stored_intent_that_is_not_its_payload_is_refused_when_read(book: Book) -> None:
    async with book.write() as c:
        of = await belt.propose(c)
        await belt.unguard(c)
        await c.change(sa.text("UPDATE intent SET arguments = '{}'"))
        with pytest.raises(errors.StoreError, match="not what its id says"):
            await intents.get(c, of.id)


async def test_two_chains_of_one_account_do_not_share_nonces(book: Book) -> None:
    async with book.write() as c:
        for chain_id in (1, 2):
            of = await belt.propose(c, msgspec.structs.replace(belt.wanted(), chain_id=chain_id))
            where = {"chain_id": chain_id, "account": belt.ACCOUNT, "intent": of.id}
            assert (await slots.reserve(c, **where, floor=4, fence=0, at_s=1)).nonce == 4  # type: ignore[arg-type]
        assert await slots.highest(c, 1, belt.ACCOUNT) == 4
        assert await slots.highest(c, 3, belt.ACCOUNT) is None


def test_the_ways_of_these_tests_are_moves_of_the_machine() -> None:
    assert set(belt.WAY) == set(domain_intent.STATES)
    for state, way in belt.WAY.items():
        assert all(domain_intent.may_move(a, b) for a, b in zip(("new", *way), way, strict=False))
        assert not way or way[-1] == state
