"""What a person may say became of an intent that needs one, and what the book makes of it."""

from __future__ import annotations

import msgspec
import pytest

from domain import errors, hashing, intent
from store import attempts, commands, inclusions, intents, reservations, settling
from store.book import Book
from store.connection import Connection
from tests.store import belt


async def stuck(c: Connection) -> intents.Stored:
    """Sent, and the facts about it contradict each other."""
    one = await belt.bring(c, "pending", belt.wanted("stuck"))
    await intents.move(c, one.id, expect="pending", to="needs_operator", why="two receipts", at_s=120)
    return await look(c, one.id)


async def look(c: Connection, id: bytes) -> intents.Stored:
    found = await intents.get(c, id)
    assert found is not None
    return found


async def say(
    c: Connection, of: intents.Stored, outcome: intent.Outcome, *, reason: str = "seen in an explorer"
) -> str:
    done = await settling.settle(c, of.id, outcome=outcome, by="olga", reason=reason, at_s=130)
    return done.code if isinstance(done, commands.Refused) else ""


async def settled(c: Connection, of: intents.Stored) -> str:
    found = await settling.settled(c, of)
    return "" if found is None else found.outcome


async def test_a_word_is_one_command_and_the_newest_counts(book: Book) -> None:
    async with book.write() as c:
        one = await stuck(c)
        assert await settled(c, one) == ""
        assert await say(c, one, "final_reverted") == "" and await settled(c, one) == "final_reverted"
        assert await say(c, one, "superseded") == "" and await settled(c, one) == "superseded"
        assert await say(c, one, "superseded") == "already-settled"
        (last,) = await commands.list_(c, limit=1)
        assert (last.kind, last.subject, last.payload_hash) == ("settle", hashing.hex0x(one.id), one.payload_hash)
        assert msgspec.json.decode(last.after) == {"moves": one.moves, "settle": "superseded"}


async def test_a_word_needs_a_reason_an_intent_and_a_stay_in_needs_operator(book: Book) -> None:
    async with book.write() as c:
        one = await stuck(c)
        assert await say(c, one, "superseded", reason=" ") == "bad-reason"
        missing = await settling.settle(c, b"\x01" * 32, outcome="superseded", by="o", reason="r", at_s=1)
        assert isinstance(missing, commands.Refused) and missing.code == "unknown"
        other = await belt.bring(c, "pending", belt.wanted("other"))
        assert await say(c, other, "superseded") == "not-needed"


async def test_a_word_counts_for_the_stay_in_which_it_was_given(book: Book) -> None:
    async with book.write() as c:
        one = await stuck(c)
        await say(c, one, "superseded")
        await intents.move(c, one.id, expect="needs_operator", to="pending", why="", at_s=140)
        await intents.move(c, one.id, expect="pending", to="needs_operator", why="", at_s=141)
        assert await settled(c, await look(c, one.id)) == ""


async def test_cancelled_can_only_be_said_where_a_cancel_was_signed(book: Book) -> None:
    async with book.write() as c:
        one = await stuck(c)
        assert await say(c, one, "cancelled") == "no-cancel"
        frozen = (await attempts.of_intent(c, one.id))[0]
        cancel = belt.unsigned(
            frozen.unsigned.nonce, to=belt.ACCOUNT, data=b"", gas=21_000, tip=3 * 10**9, max_fee=9 * 10**9
        )
        await attempts.freeze(c, attempts.Attempt(one.id, 1, "cancel", cancel, "[]", 1, 131))
        assert await say(c, one, "cancelled") == "no-cancel"
        await belt.keep(c, one.id, 1)
        assert await say(c, one, "cancelled") == ""


async def test_nothing_is_said_against_a_log_of_our_own_index(book: Book) -> None:
    async with book.write() as c:
        one = await stuck(c)
        found = await belt.include(c, one.id)
        await inclusions.orphan(c, found.id, 121)  # only the index has it
        for outcome in ("final_reverted", "final_no_effect", "superseded"):
            assert await say(c, one, outcome) == "contradicted"


@pytest.mark.parametrize("outcome", ["final_reverted", "final_no_effect", "superseded"])
async def test_a_word_ends_an_intent_and_the_book_is_sound(book: Book, outcome: intent.Outcome) -> None:
    async with book.write() as c:
        one = await stuck(c)
        await say(c, one, outcome)
        await intents.move(c, one.id, expect="needs_operator", to=outcome, why="olga: seen", at_s=150)
        assert await intents.audit(c) == []


@pytest.mark.parametrize("outcome", ["final_reverted", "final_no_effect", "superseded"])
async def test_what_a_word_says_was_mined_counts_its_whole_share_of_the_days_gas(
    book: Book, outcome: intent.Outcome
) -> None:
    """Nobody saw its receipt, so what it paid is not known; another's transaction cost this account's budget nothing."""
    async with book.write() as c:
        one = await stuck(c)
        held = await reservations.of_intent(c, one.id)
        assert held is not None
        await say(c, one, outcome)
        await intents.move(c, one.id, expect="needs_operator", to=outcome, why="olga: seen", at_s=150)
        counted = 0 if outcome == "superseded" else held.max_fee_wei
        assert await reservations.gas(c, account=belt.ACCOUNT, since_s=150) == reservations.Gas(counted, 0)
        assert await reservations.gas(c, account=belt.ACCOUNT, since_s=151) == reservations.Gas(0, 0)


@pytest.mark.parametrize("outcome", ["final_reverted", "final_no_effect", "cancelled"])
async def test_an_outcome_that_neither_chain_nor_person_said_is_refused(book: Book, outcome: intent.Outcome) -> None:
    async with book.write() as c:
        one = await stuck(c)
        await say(c, one, "superseded")
        with pytest.raises(errors.StoreError, match="cannot be"):
            await intents.move(c, one.id, expect="needs_operator", to=outcome, why="", at_s=150)


def test_no_person_can_say_that_it_worked() -> None:
    assert "final_ok" not in intent.OUTCOMES and not intent.may_move("needs_operator", "final_ok")
