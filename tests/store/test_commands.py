"""What people may do: each verb writes one command with its effect, or refuses with a reason and writes nothing."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from domain import errors, hashing
from domain import intent as domain_intent
from store import attempts, backup, commands, gaps, inclusions, intents, latches, settling
from store.book import Book
from store.connection import Connection
from tests.store import belt, factory

BAD_REASONS = ("", "   ", "x" * 501, "two\nlines", "nul\0", "\ud800", "\u202egnp.exe", "tab\t", "with stk_" + "A" * 43)


async def count(c: Connection) -> int:
    return int(await c.scalar(sa.text("SELECT count(*) FROM command")))


async def last(c: Connection) -> commands.Command:
    (found,) = await commands.list_(c, limit=1)
    return found


def refused(answer: commands.Done | commands.Refused) -> str:
    assert isinstance(answer, commands.Refused), answer
    assert answer.why
    return answer.code


def done(answer: commands.Done | commands.Refused) -> commands.Done:
    assert isinstance(answer, commands.Done), answer
    return answer


async def approve(c: Connection, of: intents.Stored, by: str, *, at_s: int = 200, ttl_s: int | None = None) -> Any:
    return await commands.approve(
        c, of.id, payload_hash=of.payload_hash, by=by, reason="looks right", at_s=at_s, ttl_s=ttl_s
    )


async def test_a_proposal_is_one_intent_and_one_command(book: Book) -> None:
    async with book.write() as c:
        stored = await belt.propose(c)
        found = await last(c)
        assert (found.kind, found.subject, found.principal) == ("propose", hashing.hex0x(stored.id), "alice")
        assert (found.payload_hash, found.before, found.at_s) == (stored.payload_hash, "{}", 100)
        assert json.loads(found.after)["arguments"] == dict(belt.wanted().arguments)
        again = await commands.propose(c, belt.wanted(), by="bob", reason="again", at_s=300, expires_at_s=400)
        assert again == commands.Done(found.id, fresh=False)
        other = await commands.propose(c, belt.wanted(amount=5), by="alice", reason="r", at_s=300, expires_at_s=400)
        assert refused(other) == "conflict"
        late = await commands.propose(c, belt.wanted("b"), by="alice", reason="r", at_s=300, expires_at_s=300)
        assert refused(late) == "bad-expiry"
        bad = await commands.propose(c, belt.wanted("b\n"), by="alice", reason="r", at_s=300, expires_at_s=301)
        assert refused(bad) == "bad-key"
        assert await count(c) == 1


async def test_the_proposer_cannot_approve_whatever_the_case_of_the_name(book: Book) -> None:
    async with book.write() as c:
        of = await belt.propose(c, by="alice")
        for name in ("alice", "Alice", "ALICE"):
            assert refused(await approve(c, of, name)) == "own-intent"
        done(await approve(c, of, "bob"))
        assert [one.principal for one in await commands.approvals(c, of.id, of.payload_hash)] == ["bob"]


async def test_an_approval_is_for_one_payload_once_by_each(book: Book) -> None:
    async with book.write() as c:
        of = await belt.bring(c, "awaiting_approval")
        other = await commands.approve(c, of.id, payload_hash=b"\x01" * 32, by="bob", reason="r", at_s=200)
        assert refused(other) == "other-payload"
        made = done(await approve(c, of, "bob"))
        assert refused(await approve(c, of, "BOB")) == "already-approved"
        done(await approve(c, of, "carol"))
        found = await commands.approvals(c, of.id, of.payload_hash)
        assert [(one.id, one.principal) for one in found] == [(made.command_id, "bob"), (made.command_id + 1, "carol")]
        assert await commands.approvals(c, of.id, b"\x01" * 32) == []
        assert (found[1].before, found[1].after) == ('{"approvals":["bob"]}', '{"approvals":["bob","carol"]}')


async def test_an_approval_counts_no_longer_than_it_lives_and_can_then_be_given_again(book: Book) -> None:
    async with book.write() as c:
        of = await belt.propose(c)
        done(await approve(c, of, "bob", at_s=200, ttl_s=50))
        where = (of.id, of.payload_hash)
        assert len(await commands.approvals(c, *where, now_s=249, ttl_s=50)) == 1
        assert await commands.approvals(c, *where, now_s=250, ttl_s=50) == []
        assert refused(await approve(c, of, "bob", at_s=249, ttl_s=50)) == "already-approved"
        done(await approve(c, of, "bob", at_s=250, ttl_s=50))
        assert len(await commands.approvals(c, *where, now_s=299, ttl_s=50)) == 1


async def test_an_approval_wakes_the_intent(book: Book) -> None:
    async with book.write() as c:
        of = await belt.propose(c)
        await intents.timer(c, of.id, 10_000)
        done(await approve(c, of, "bob"))
        assert len(await intents.due(c, {"new"}, 200, 9)) == 1


async def test_nobody_decides_about_an_intent_that_is_unknown_expired_reserved_or_final(book: Book) -> None:
    async with book.write() as c:
        of = await belt.propose(c, belt.wanted("open"))
        assert refused(await approve(c, of, "bob", at_s=of.expires_at_s)) == "expired"
        unknown = await commands.approve(c, b"\x01" * 32, payload_hash=b"\x01" * 32, by="bob", reason="r", at_s=1)
        assert refused(unknown) == "unknown"
        assert refused(await commands.reject(c, b"\x01" * 32, by="bob", reason="r", at_s=1)) == "unknown"
        assert refused(await commands.cancel(c, b"\x01" * 32, by="bob", reason="r", at_s=1)) == "unknown"
        for height, state in enumerate(sorted(domain_intent.HOLDING | domain_intent.FINAL), 10):
            one = await belt.bring(c, state, belt.wanted(state), height=height)
            expected = "final" if state in domain_intent.FINAL else "too-late"
            before = await count(c)
            assert refused(await approve(c, one, "bob")) == expected
            assert refused(await commands.reject(c, one.id, by="bob", reason="r", at_s=1)) == expected
            assert await count(c) == before


async def test_a_rejection_or_an_early_cancel_ends_the_intent_at_once(book: Book) -> None:
    verbs: list[tuple[Any, str]] = [(commands.reject, "rejected"), (commands.cancel, "cancelled")]
    async with book.write() as c:
        for verb, to in verbs:
            for state in sorted(domain_intent.UNSENT):
                of = await belt.bring(c, state, belt.wanted(f"{to}-{state}"))
                done(await verb(c, of.id, by="bob", reason="too much", at_s=300))
                now = await intents.get(c, of.id)
                assert now is not None
                assert (now.state, now.why, now.changed_at_s) == (to, "bob: too much", 300)
                found = await last(c)
                assert (found.before, found.after) == (f'{{"state":"{state}"}}', f'{{"state":"{to}"}}')
                assert refused(await verb(c, of.id, by="bob", reason="again", at_s=301)) == "final"
        assert await intents.audit(c) == []


async def test_approvals_before_a_rejection_do_not_count(book: Book) -> None:
    async with book.write() as c:
        of = await belt.propose(c)
        done(await approve(c, of, "bob"))
        subject = hashing.hex0x(of.id)
        await commands.add(c, principal="carol", kind="reject", subject=subject, reason="r", at_s=201)
        assert await commands.approvals(c, of.id, of.payload_hash) == []


async def test_a_late_cancel_is_a_wish_and_the_state_stays(book: Book) -> None:
    async with book.write() as c:
        for height, state in enumerate(sorted(domain_intent.HOLDING), 10):
            of = await belt.bring(c, state, belt.wanted(state), height=height)
            assert await commands.cancelled(c, of.id) is None
            await intents.timer(c, of.id, 10_000)
            made = done(await commands.cancel(c, of.id, by="bob", reason="wrong validator", at_s=300))
            wish = await commands.cancelled(c, of.id)
            assert wish is not None
            assert (wish.id, wish.reason) == (made.command_id, "wrong validator")
            now = await intents.get(c, of.id)
            assert now is not None
            assert (now.state, now.next_s) == (state, None)
            assert refused(await commands.cancel(c, of.id, by="carol", reason="r", at_s=301)) == "already-cancelled"


async def test_a_final_intent_cannot_be_cancelled(book: Book) -> None:
    async with book.write() as c:
        of = await belt.bring(c, "final_ok")
        assert refused(await commands.cancel(c, of.id, by="bob", reason="r", at_s=1)) == "final"


async def test_a_pause_stands_until_somebody_resumes_or_its_own_end(book: Book) -> None:
    async with book.write() as c:
        assert await commands.paused(c, now_s=1) is None
        assert refused(await commands.resume(c, by="bob", reason="r", at_s=1)) == "not-paused"
        first = done(await commands.pause(c, by="bob", reason="market", at_s=10))
        found = await commands.paused(c, now_s=1 << 40)
        assert found is not None
        assert (found.id, commands.paused_until(found)) == (first.command_id, None)
        done(await commands.resume(c, by="carol", reason="over", at_s=20))
        assert await commands.paused(c) is None
        done(await commands.pause(c, by="bob", reason="lunch", at_s=30, until_s=60))
        found = await commands.paused(c, now_s=59)
        assert found is not None
        assert commands.paused_until(found) == 60
        assert await commands.paused(c, now_s=60) is None
        assert await commands.paused(c) is not None  # without a clock it is only what was said
        assert refused(await commands.resume(c, by="bob", reason="r", at_s=60)) == "not-paused"
        assert refused(await commands.pause(c, by="bob", reason="r", at_s=60, until_s=60)) == "bad-until"
        for until_s in (100, 100):  # the same end again still has its end
            done(await commands.pause(c, by="bob", reason="r", at_s=70, until_s=until_s))
        assert await commands.paused(c, now_s=100) is None


async def test_clearing_a_latch_is_a_command_with_the_latchs_reason(book: Book) -> None:
    async with book.write() as c:
        assert refused(await commands.clear_latch(c, "finality", by="bob", reason="r", at_s=1)) == "not-set"
        await latches.set(c, "finality", reason="block 7 was replaced", at_s=1)
        done(await commands.clear_latch(c, "finality", by="bob", reason="the node was repaired", at_s=5))
        assert await latches.active(c) == []
        assert await c.scalar(sa.text("SELECT cleared_by FROM latch")) == "bob"
        found = await last(c)
        assert (found.subject, found.before) == ("finality", '{"set":true,"why":"block 7 was replaced"}')


async def test_which_belt_a_latch_stops_is_told_by_its_name() -> None:
    for name, staking in (("submit.nonces", True), ("submit.lease", True), ("finality", False), ("submitted", False)):
        latch = latches.Latch(name, "", 0)
        assert (latches.blocks_staking(latch), latches.blocks_earning(latch)) == (staking, not staking)


async def test_accepting_a_restored_book_clears_its_latches_and_no_other(book: Book) -> None:
    async with book.write() as c:
        assert refused(await commands.accept_restored(c, by="bob", reason="r", at_s=1)) == "not-restored"
        await latches.set(c, "submit.restored", reason="from a backup", at_s=1)
        await latches.set(c, "submit.nonces", reason="the chain counts 9", at_s=1)
        await latches.set(c, "finality", reason="another matter", at_s=1)
        done(await commands.accept_restored(c, by="bob", reason="checked by hand", at_s=2))
        assert [latch.name for latch in await latches.active(c)] == ["finality"]
        await latches.set(c, "submit.nonces", reason="the chain counts 12", at_s=3)
        done(await commands.clear_latch(c, "submit.nonces", by="bob", reason="mine", at_s=4))
        assert await backup.restored(c) is None


@pytest.mark.parametrize("by", ["accept-restored", "clear-latch"])
async def test_accepting_a_book_that_forgot_ends_all_that_waits_and_nothing_damaged_holds_that_up(
    book: Book, by: str
) -> None:
    async def states(c: Connection) -> list[str]:
        return [
            row.state
            for row in await c.rows(sa.text("SELECT state FROM progress JOIN intent ON id = intent ORDER BY position"))
        ]

    async with book.write() as c:
        for key in "abcd":
            await belt.propose(c, belt.wanted(key))
        await belt.bring(c, "pending", belt.wanted("e"))
        await latches.set(c, "submit.nonces", reason="the chain counts 9", at_s=1)
        done(await commands.accept_restored(c, by="bob", reason="it was a wallet", at_s=2))
        assert await states(c) == ["new"] * 4 + ["pending"], "this book forgot nothing"
        # Somebody put an old file back by hand, and the hub's receipts show it.
        await latches.set(c, backup.LATCH, reason="the hub has more receipts", at_s=3)
        answer = await commands.propose(c, belt.wanted("f"), by="tess", reason="r", at_s=100, expires_at_s=200)
        assert refused(answer) == "restored"
        answer = await commands.propose(c, belt.wanted("e"), by="tess", reason="r", at_s=100, expires_at_s=200)
        assert not done(answer).fresh, "what the book knows is told"
    async with belt.undone(book) as c:
        await belt.unguard(c)
        await c.change(sa.text("UPDATE intent SET arguments = '{' WHERE \"key\" = 'b'"))
        await c.change(sa.text("UPDATE progress SET moves = 7 WHERE intent = :id").bindparams(id=belt.wanted("c").id))
        if by == "accept-restored":
            done(await commands.accept_restored(c, by="bob", reason="checked by hand", at_s=4))
        else:
            done(await commands.clear_latch(c, backup.LATCH, by="bob", reason="checked by hand", at_s=4))
        assert await states(c) == ["expired", "expired", "new", "expired", "pending"]
        assert await latches.active(c) == []
        done(await commands.propose(c, belt.wanted("f"), by="tess", reason="r", at_s=100, expires_at_s=200))


@pytest.mark.parametrize("by", ["accept-restored", "clear-latch"])
async def test_a_full_disk_accepts_no_part_of_a_book_that_forgot(tmp_path: Path, by: str) -> None:
    """What is not ended may be done already, and would be done once more."""
    opened = await factory.open_book(f"sqlite:///{tmp_path / 'book.db'}")
    waiting = sa.text("SELECT count(*) FROM progress WHERE state = 'new'")
    async with opened.write() as c:
        for key in range(60):
            await belt.propose(c, belt.wanted(f"k{key}"))
        await latches.set(c, backup.LATCH, reason="the hub has more receipts", at_s=3)
    with pytest.raises(errors.Unusable, match="disk is full"):
        async with opened.write() as c:
            await c.rows(sa.text(f"PRAGMA max_page_count = {await c.scalar(sa.text('PRAGMA page_count'))}"))
            if by == "accept-restored":
                await commands.accept_restored(c, by="bob", reason="checked by hand", at_s=4)
            else:
                await commands.clear_latch(c, backup.LATCH, by="bob", reason="checked by hand", at_s=4)
    async with opened.read() as c:
        assert await c.scalar(waiting) == 60
        assert [latch.name for latch in await latches.active(c)] == [backup.LATCH]
    await opened.close()


async def test_a_gap_is_accepted_once_while_it_is_open(book: Book) -> None:
    async with book.write() as c:
        assert refused(await commands.adopt_gap(c, 1, by="bob", reason="r", at_s=1)) == "unknown"
        gap = await gaps.open_(c, protocol="devnet", first=5, last=9, reason="pruned")
        assert await commands.adopted(c, gap) is None
        done(await commands.adopt_gap(c, gap, by="bob", reason="no archive node", at_s=1))
        found = await commands.adopted(c, gap)
        assert found is not None
        assert (found.subject, found.principal) == (str(gap), "bob")
        assert refused(await commands.adopt_gap(c, gap, by="carol", reason="r", at_s=2)) == "already-adopted"
        await gaps.close(c, gap, b"\x01" * 32)
        assert refused(await commands.adopt_gap(c, gap, by="carol", reason="r", at_s=3)) == "closed"
        assert await commands.adopted(c, gap + 1) is None


async def test_every_verb_asks_for_a_reason_that_can_be_printed(book: Book) -> None:
    async with book.write() as c:
        of = await belt.propose(c)
        gap = await gaps.open_(c, protocol="devnet", first=5, last=9, reason="pruned")
        await latches.set(c, "submit.restored", reason="from a backup", at_s=1)
        before = await count(c)
        verbs: dict[str, Callable[..., Awaitable[commands.Done | commands.Refused]]] = {
            "propose": lambda **kw: commands.propose(c, belt.wanted("b"), expires_at_s=9, **kw),
            "approve": lambda **kw: commands.approve(c, of.id, payload_hash=of.payload_hash, **kw),
            "reject": lambda **kw: commands.reject(c, of.id, **kw),
            "cancel": lambda **kw: commands.cancel(c, of.id, **kw),
            "settle": lambda **kw: settling.settle(c, of.id, outcome="superseded", **kw),
            "pause": lambda **kw: commands.pause(c, **kw),
            "resume": lambda **kw: commands.resume(c, **kw),
            "clear-latch": lambda **kw: commands.clear_latch(c, "submit.restored", **kw),
            "adopt-gap": lambda **kw: commands.adopt_gap(c, gap, **kw),
            "accept-restored": lambda **kw: commands.accept_restored(c, **kw),
        }
        others = {"principal-add", "principal-rotate", "principal-revoke", "rederive", "reindex", "restore"}
        assert {*verbs, *others} == set(commands.KINDS)
        for verb in verbs.values():
            for reason in BAD_REASONS:
                assert refused(await verb(by="bob", reason=reason, at_s=1)) == "bad-reason"
        assert await count(c) == before
        with pytest.raises(errors.StoreError, match="printable"):
            await commands.add(c, principal="bob", kind="pause", subject="x", reason="two\nlines", at_s=1)


async def test_commands_come_newest_first_and_hostile_text_is_kept_as_text(book: Book) -> None:
    hostile = "<script>alert(1)</script>'; DROP TABLE intent; -- «ünïcödé» 日本 🙂"
    async with book.write() as c:
        for number in range(7):
            await commands.add(c, principal="bob", kind="pause", subject=hostile, reason=hostile, at_s=number)
        await commands.add(c, principal="bob", kind="resume", subject="submit", reason="r", at_s=9)
    seen: list[int] = []
    before = None
    async with book.read() as c:
        while page := await commands.list_(c, limit=3, before=before, kind="pause", subject=hostile):
            seen += [one.at_s for one in page]
            before = page[-1].id
            assert {one.reason for one in page} == {hostile}
        assert seen == [6, 5, 4, 3, 2, 1, 0]
        assert len(await commands.list_(c, limit=99)) == 8


async def test_the_diff_keeps_what_changed_only(book: Book) -> None:
    async with book.write() as c:
        await commands.add(
            c, principal="bob", kind="pause", subject="x", reason="r", at_s=1, before={"a": 1, "b": "x"},
            after={"a": 2, "b": "x", "c": [None, True]},
        )  # fmt: skip
        found = await last(c)
    assert (found.before, found.after) == ('{"a":1}', '{"a":2,"c":[null,true]}')


async def test_a_verb_that_fails_half_way_leaves_neither_effect_nor_command(book: Book) -> None:
    async with book.write() as c:
        of = await belt.propose(c)
    async with belt.undone(book) as c:
        done(await commands.reject(c, of.id, by="bob", reason="r", at_s=5))
    async with book.read() as c:
        assert await intents.get(c, of.id) == of
        assert await count(c) == 1


async def test_a_cancel_ends_where_the_chain_says_so(book: Book) -> None:
    """The wish alone ends nothing: the cancel's own transaction has to be final."""
    async with book.write() as c:
        of = await belt.bring(c, "pending")
        done(await commands.cancel(c, of.id, by="bob", reason="r", at_s=5))
        found = await belt.include(c, of.id)
        await intents.move(c, of.id, expect="pending", to="included", why="the original was first", at_s=6)
        await inclusions.finalize(c, found.id, 7)
        await intents.move(c, of.id, expect="included", to="final_ok", why="too late to cancel", at_s=8)
        assert len(await attempts.of_intent(c, of.id)) == 1
        assert await intents.audit(c) == []
