"""What people see of intents: pages, one intent with everything about it, the belt in one look."""

from __future__ import annotations

import msgspec

from domain import hashing
from store import attempts, blocks, commands, inclusions, intents, latches, principals, queries
from store.book import Book
from tests.store import belt


async def test_pages_of_intents_go_newest_first_and_meet(book: Book) -> None:
    async with book.write() as c:
        for number in range(5):
            await belt.propose(c, belt.wanted(f"k{number}"), by="alice" if number % 2 else "bob")
        await belt.bring(c, "reserved", belt.wanted("r"))
    seen: list[str] = []
    before = None
    async with book.read() as c:
        while page := await queries.intents(c, limit=2, before=before):
            seen += [row.key for row in page]
            before = page[-1].position
        assert seen == ["r", "k4", "k3", "k2", "k1", "k0"]
        assert [row.key for row in await queries.intents(c, limit=9, states={"reserved"})] == ["r"]
        assert [row.nonce for row in await queries.intents(c, limit=2)] == [0, None]
        assert [row.key for row in await queries.intents(c, limit=9, proposer="alice")] == ["r", "k3", "k1"]
        assert await queries.intents(c, limit=9, protocol="elsewhere") == []


async def test_an_intent_shows_everything_that_became_of_it(book: Book) -> None:
    async with book.write() as c:
        of = await belt.bring(c, "pending")
        approval = await commands.cancel(c, of.id, by="bob", reason="too late", at_s=200)
        assert isinstance(approval, commands.Done)
        (kept,) = await attempts.signed_of(c, of.id)
        await attempts.sent(c, kept.hash, hint="ok", at_s=104)
        gone = await belt.include(c, of.id, height=5)
        await inclusions.orphan(c, gone.id, 106)
        await blocks.orphan(c, [gone.block_hash], generation=1)
        found = await belt.include(c, of.id, height=5, fork="b")
        await intents.move(c, of.id, expect="pending", to="included", why="found", at_s=107)
        await inclusions.finalize(c, found.id, 108)
        await intents.move(c, of.id, expect="included", to="final_ok", why="done", at_s=109)
    async with book.read() as c:
        shown = await queries.intent(c, of.id)
        assert await queries.intent(c, b"\x01" * 32) is None
    assert shown is not None
    assert (shown.intent.state, shown.intent.why, shown.intent.nonce) == ("final_ok", "done", 0)
    assert shown.intent.arguments == dict(belt.wanted().arguments)
    assert [one.kind for one in shown.commands] == ["propose", "cancel"]
    assert [one.verdict for one in shown.decisions] == ["allow"]
    assert [one.to_state for one in shown.transitions][-2:] == ["included", "final_ok"]
    assert shown.slot is not None and shown.slot.nonce == 0
    assert shown.reservation is not None and shown.reservation.amount == 10**18
    (attempt,) = shown.attempts
    assert (attempt.hash, attempt.sends, attempt.hint, attempt.kind) == (kept.hash, 1, "ok", "original")
    assert [(one.orphaned_at_s, one.final_at_s) for one in shown.inclusions] == [(106, None), (None, 108)]
    assert [(event.tx_hash, event.orphaned) for event in shown.events] == [(kept.hash, True), (kept.hash, False)]
    assert kept.raw not in msgspec.msgpack.encode(shown)


async def test_the_belt_in_one_look(book: Book) -> None:
    async with book.write() as c:
        empty = await queries.belt(c, now_s=1)
        assert (sum(empty.states.values()), empty.open_since_s, empty.paused, empty.latches) == (0, None, None, [])
        await belt.bring(c, "rejected", belt.wanted("old"))
        await belt.propose(c, belt.wanted("b"), at_s=300)
        await commands.pause(c, by="bob", reason="lunch", at_s=10, until_s=60)
        await latches.set(c, "submit.nonces", reason="foreign", at_s=1)
        await latches.set(c, "finality", reason="other belt", at_s=1)
        found = await queries.belt(c, now_s=50)
        assert (found.states["rejected"], found.states["new"], found.states["final_ok"]) == (1, 1, 0)
        assert (found.open_since_s, found.paused_until_s) == (300, 60)
        assert [latch.name for latch in found.latches] == ["submit.nonces"]
        assert (await queries.belt(c, now_s=60)).paused is None


async def test_commands_and_principals_are_shown_without_tokens(book: Book) -> None:
    async with book.write() as c:
        of = await belt.propose(c)
        await principals.add(c, "ana", ["viewer"], b"\x07" * 32, by="root", reason="r", at_s=1)
        await principals.rotate(c, "ana", b"\x08" * 32, by="root", reason="r", at_s=2)
    async with book.read() as c:
        assert [one.kind for one in await queries.commands(c, limit=9, subject=hashing.hex0x(of.id))] == ["propose"]
        assert [one.kind for one in await queries.commands(c, limit=2)] == ["principal-rotate", "principal-add"]
        people = await queries.principals(c, ended=True)
        assert [(one.name, one.until_s) for one in people] == [("ana", 2), ("ana", None)]
        shown = msgspec.msgpack.encode(people)
    assert b"\x07" * 32 not in shown
    assert b"\x08" * 32 not in shown
