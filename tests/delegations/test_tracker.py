"""The state machine, one transition a test: what each fact leads to, and what no fact may lead to."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
import pytest

from agent.delegations import questions, sight, tracker
from domain import intent
from tests.delegations.factory import NOW

A, B, C = (bytes([n]) * 32 for n in (1, 2, 3))
BLOCK, OTHER = b"\xbb" * 32, b"\xcc" * 32
TIMING = sight.Timing(resend_after_s=30, bump_after_s=60, poll_s=2)
AGAIN = tracker.Timer(NOW + 2)
ORIGINAL = sight.Attempt(0, "original", 10, 100, A, sends=1, first_s=NOW, last_s=NOW)
BUMP = sight.Attempt(1, "bump", 11, 110, B, sends=1, first_s=NOW, last_s=NOW)
CANCEL = sight.Attempt(1, "cancel", 11, 110, B, sends=1, first_s=NOW, last_s=NOW)
RECEIPT = sight.Receipt(10, BLOCK, 0, 1, 21_000, 5, effect=3)
STANDING = sight.Inclusion(7, 0, A, 10, BLOCK, 1, effect=3, tx_index=0, gas_used=21_000)
UNUSED = sight.Counts(latest=4, finalized=4, finalized_number=8, head=12)
USED = sight.Counts(latest=5, finalized=4, finalized_number=8, head=12)
FINAL = sight.Counts(latest=5, finalized=5, finalized_number=11, head=12)
YOUNG = sight.Book(finalized=8, canonical={10: BLOCK}, effects=frozenset({A, B}))
NOTHING = sight.Book(finalized=8, canonical={}, effects=frozenset())
OLD = sight.Book(finalized=10, canonical={10: BLOCK}, effects=frozenset({A, B}))
NOTHING_OF_IT = sight.Book(10, {10: BLOCK}, frozenset())
PROVEN = questions.Proven(10, BLOCK, "proven by block 10: transaction 0, status 0")
WRONG = questions.Contradicted("block 10 proves something else")
NO_PROOF = questions.Unavailable("the node has no blocks", NOW)


def view(**changes: Any) -> sight.View:
    """A sent original on nonce 4 of which nothing is known yet."""
    plain = sight.View(
        state="pending",
        nonce=4,
        attempts=(ORIGINAL,),
        standing=None,
        receipts={A: None, B: None},
        canonical={10: BLOCK},
        counts=UNUSED,
        book=YOUNG,
        timing=TIMING,
        now_s=NOW,
    )
    return msgspec.structs.replace(plain, **changes)


def moves(**changes: Any) -> list[intent.State]:
    return [output.to for output in tracker.next(view(**changes)) if isinstance(output, tracker.Move)]


def included(**changes: Any) -> tuple[tracker.Output, ...]:
    given: dict[str, Any] = {"state": "included", "standing": STANDING, "receipts": {A: RECEIPT}, "counts": USED}
    return tracker.next(view(**{**given, **changes}))


def ends(**changes: Any) -> list[intent.State]:
    return [output.to for output in included(**{"book": OLD, **changes}) if isinstance(output, tracker.Move)]


@pytest.mark.parametrize("state", sorted(intent.FINAL | intent.UNSENT))
def test_an_intent_without_a_nonce_is_none_of_its_business(state: intent.State) -> None:
    assert tracker.next(view(state=state)) == ()


# --- waiting ---


def test_what_waits_is_looked_at_again() -> None:
    assert tracker.next(view()) == (AGAIN,)


def test_a_silent_node_moves_nothing() -> None:
    assert tracker.next(view(counts=None, receipts={}, canonical={}, now_s=NOW + 999)) == (tracker.Timer(NOW + 1001),)


def test_what_was_signed_and_never_sent_is_sent() -> None:
    fresh = msgspec.structs.replace(ORIGINAL, sends=0, first_s=0, last_s=0)
    assert tracker.next(view(state="signed", attempts=(fresh,))) == (tracker.Resend(A), AGAIN)


def test_bytes_are_sent_again_after_a_while_the_dearest_first() -> None:
    found = tracker.next(view(attempts=(ORIGINAL, BUMP), now_s=NOW + 30))
    assert found == (tracker.Resend(B), tracker.Resend(A), tracker.Timer(NOW + 32))


def test_nothing_is_sent_again_before_its_time() -> None:
    assert tracker.next(view(now_s=NOW + 29)) == (tracker.Timer(NOW + 31),)


def bumps(**changes: Any) -> list[str]:
    return [output.kind for output in tracker.next(view(**changes)) if isinstance(output, tracker.Bump)]


def test_a_transaction_that_waits_too_long_is_bumped() -> None:
    assert bumps(now_s=NOW + 60) == ["bump"]
    assert bumps(now_s=NOW + 59) == []


def test_a_transaction_behind_another_nonce_is_not_bumped() -> None:
    behind = sight.Counts(latest=3, finalized=3, finalized_number=8, head=12)
    assert bumps(now_s=NOW + 999, counts=behind) == []


def test_no_second_bump_while_the_first_is_unsigned_or_unsent() -> None:
    for unfinished in (msgspec.structs.replace(BUMP, hash=None, sends=0), msgspec.structs.replace(BUMP, sends=0)):
        assert bumps(now_s=NOW + 999, attempts=(ORIGINAL, unfinished)) == []


def test_a_bump_is_measured_from_the_newest_attempt() -> None:
    late = msgspec.structs.replace(BUMP, first_s=NOW + 50)
    assert bumps(now_s=NOW + 100, attempts=(ORIGINAL, late)) == []
    assert bumps(now_s=NOW + 110, attempts=(ORIGINAL, late)) == ["bump"]


def test_a_cancel_is_bumped_as_a_cancel() -> None:
    assert bumps(now_s=NOW + 60, attempts=(ORIGINAL, CANCEL), cancel="x") == ["cancel"]


def test_a_cancel_is_made_once() -> None:
    assert bumps(cancel="changed my mind") == ["cancel"]
    assert bumps(cancel="changed my mind", attempts=(ORIGINAL, CANCEL)) == []


def test_what_was_reserved_and_never_signed_can_be_cancelled() -> None:
    frozen = sight.Attempt(0, "original", 10, 100)
    assert bumps(state="reserved", attempts=(frozen,), cancel="x") == ["cancel"]


def test_an_original_that_was_given_up_is_never_signed() -> None:
    frozen, cancel = sight.Attempt(0, "original", 10, 100), sight.Attempt(1, "cancel", 11, 110)
    assert tracker.to_sign((frozen,)) == 0
    assert tracker.to_sign((frozen, cancel)) == 1
    assert tracker.to_sign((frozen, msgspec.structs.replace(cancel, hash=B))) is None
    assert tracker.to_sign(()) is None


# --- included, and back ---


def test_a_receipt_in_a_canonical_block_includes_it() -> None:
    found = tracker.next(view(receipts={A: RECEIPT}, counts=USED))
    assert found[0] == tracker.Include(0, A, RECEIPT)
    assert moves(receipts={A: RECEIPT}, counts=USED) == ["included"]


def test_a_receipt_of_a_block_that_is_not_canonical_includes_nothing() -> None:
    for canonical in ({10: OTHER}, {}):
        found = tracker.next(view(receipts={A: RECEIPT}, counts=USED, canonical=canonical, since_s=NOW))
        assert [type(output) for output in found] == [tracker.Say, tracker.Timer]


def test_what_did_not_stand_again_and_again_is_included_later_and_later() -> None:
    def after(count: int, later_s: int) -> list[intent.State]:
        aside = sight.Aside(count, NOW - 9, NOW)
        return moves(receipts={A: RECEIPT}, counts=USED, aside=aside, now_s=NOW + later_s)

    for count, wait_s in ((3, 1), (4, 2), (9, 64), (30, sight.LATEST_S), (10**9, sight.LATEST_S)):
        assert after(count, wait_s - 1) == [] and after(count, wait_s) == ["included"]
    assert after(2, 0) == ["included"]
    assert after(9, -500) == ["included"], "a clock that was put back holds nothing up"
    aside = sight.Aside(9, NOW - 9, NOW)
    assert bumps(receipts={A: RECEIPT}, counts=USED, aside=aside, cancel="x") == ["cancel"], (
        "it may not be mined at all"
    )
    other = msgspec.structs.replace(RECEIPT, gas_used=22_000)
    found = included(receipts={A: other}, aside=sight.Aside(2, NOW - 9, NOW - 8))
    assert [type(output) for output in found] == [tracker.Orphan, tracker.Move, tracker.Resend, tracker.Timer]


def test_a_receipt_of_another_block_than_the_books_final_one_includes_nothing_and_keeps_nothing() -> None:
    against = sight.Book(10, {10: OTHER}, frozenset())
    (said, _) = tracker.next(view(receipts={A: RECEIPT}, counts=USED, book=against, since_s=NOW))
    assert isinstance(said, tracker.Say) and "another block than the book's final one" in said.why
    found = included(book=against)
    assert isinstance(found[0], tracker.Orphan) and found[0].id == 7 and "the book has another block" in found[0].why
    assert found[1:] == (tracker.Move("pending", found[0].why), tracker.Resend(A), AGAIN)
    for open_ in (sight.Book(9, {10: OTHER}, frozenset()), sight.Book(10, {}, frozenset())):
        assert included(book=open_) == (AGAIN,)  # not final yet, or not known


def test_an_inclusion_is_not_final_because_it_is_there() -> None:
    assert included() == (AGAIN,)


def test_a_replaced_block_gives_it_back_and_sends_it_again_the_dearest_first() -> None:
    found = included(canonical={10: OTHER}, receipts={A: None, B: None}, attempts=(ORIGINAL, BUMP), counts=UNUSED)
    assert isinstance(found[0], tracker.Orphan)
    assert found[0].id == 7
    assert isinstance(found[1], tracker.Move)
    assert found[1].to == "pending"
    assert found[2:] == (tracker.Resend(B), tracker.Resend(A), AGAIN)


def test_a_reorg_that_moves_it_to_another_block_is_a_new_inclusion_of_the_same_state() -> None:
    moved = msgspec.structs.replace(RECEIPT, block_number=11, block_hash=OTHER)
    found = included(canonical={10: C, 11: OTHER}, receipts={A: moved})
    assert [type(output) for output in found] == [tracker.Orphan, tracker.Include, tracker.Timer]


def test_a_reorg_to_a_shorter_chain_that_still_has_it_moves_the_inclusion() -> None:
    moved = msgspec.structs.replace(RECEIPT, block_number=9, block_hash=OTHER)
    found = included(canonical={9: OTHER}, receipts={A: moved})
    assert [type(output) for output in found] == [tracker.Orphan, tracker.Include, tracker.Timer]


def test_a_head_that_went_backwards_is_waited_out() -> None:
    assert included(canonical={}, receipts={A: None}, counts=UNUSED) == (AGAIN,)


def test_a_receipt_that_vanished_while_its_block_stands_is_waited_for() -> None:
    assert included(receipts={A: None}) == (AGAIN,)


def test_what_our_own_index_has_as_final_no_node_takes_back() -> None:
    found = included(canonical={10: OTHER}, receipts={A: None}, book=OLD)
    assert not [output for output in found if isinstance(output, tracker.Orphan)]
    assert ends(canonical={10: OTHER}, receipts={A: None}) == ["final_ok"]


# --- final ---


def test_an_effect_that_the_receipt_shows_and_the_book_holds_is_final() -> None:
    assert [type(output) for output in included(book=OLD)] == [tracker.Finalize, tracker.Move, tracker.Timer]
    assert ends() == ["final_ok"]


def test_finality_needs_the_books_own_hash_at_the_height() -> None:
    assert ends(book=sight.Book(10, {}, frozenset({A}))) == []
    assert ends(book=sight.Book(10, {10: OTHER}, frozenset({A}))) == ["pending"]


@pytest.mark.parametrize("finalized", [None, 9])
def test_finality_needs_the_books_own_cursor(finalized: int | None) -> None:
    assert ends(book=sight.Book(finalized, {10: BLOCK}, frozenset({A}))) == []


def test_a_revert_waits_for_finality_too() -> None:
    reverted = msgspec.structs.replace(STANDING, status=0, effect=None)
    told = {A: msgspec.structs.replace(RECEIPT, status=0, effect=None)}
    assert ends(standing=reverted, receipts=told, book=YOUNG, proof=PROVEN) == []
    assert ends(standing=reverted, receipts=told, book=NOTHING_OF_IT, proof=PROVEN) == ["final_reverted"]


def test_a_revert_that_the_book_has_a_log_of_is_for_a_person() -> None:
    reverted = msgspec.structs.replace(STANDING, status=0, effect=None)
    told = {A: msgspec.structs.replace(RECEIPT, status=0, effect=None)}
    assert ends(standing=reverted, receipts=told) == ["needs_operator"]


@pytest.mark.parametrize("wrong", [{"status": 0, "effect": None}, {"effect": None}, {"effect": 7}])
def test_one_wrong_receipt_does_not_stay(wrong: dict[str, Any]) -> None:
    """The node said it once and says otherwise now, of the same block."""
    found = included(standing=msgspec.structs.replace(STANDING, **wrong))
    assert [type(output) for output in found] == [tracker.Orphan, tracker.Include, tracker.Timer]


CHANGED = msgspec.structs.replace(RECEIPT, gas_used=22_000)


def said(outputs: tuple[tracker.Output, ...]) -> list[str]:
    return [output.why for output in outputs if isinstance(output, tracker.Say)]


@pytest.mark.parametrize(
    "now",
    [
        {"state": "included", "standing": STANDING, "receipts": {A: CHANGED}},
        {"state": "included", "standing": STANDING, "receipts": {}, "canonical": {10: OTHER}},
        {"state": "pending", "standing": None, "receipts": {A: RECEIPT}},
    ],
    ids=["another answer", "gone", "found anew"],
)
def test_answers_that_go_on_changing_are_said_after_a_while_and_followed_all_the_same(now: dict[str, Any]) -> None:
    plain = tracker.next(view(counts=USED, **now))
    for count, later_s, told in ((3, sight.SETTLE_S, True), (3, sight.SETTLE_S - 1, False), (1, sight.SETTLE_S, False)):
        found = tracker.next(view(counts=USED, **now, aside=sight.Aside(count, NOW - later_s)))
        followed = [output for output in found if not isinstance(output, tracker.Say)]
        if (
            count > 1 and len(plain) > 1 and isinstance(plain[1], tracker.Include)
        ):  # it waits before it is included again
            assert [type(output) for output in followed] == [
                tracker.Orphan,
                tracker.Move,
                tracker.Resend,
                tracker.Timer,
            ]
        else:
            assert followed == list(plain)
        assert [why for why in said(found) if "change" in why] == said(found) and bool(said(found)) == told


def test_what_ends_says_its_end_however_often_the_answers_changed() -> None:
    outputs = included(book=OLD, aside=sight.Aside(9, NOW - 999))
    assert not said(outputs) and any(isinstance(output, tracker.Finalize) for output in outputs)


def test_a_revert_that_a_reorg_turns_into_success_is_never_reported() -> None:
    reverted = msgspec.structs.replace(STANDING, status=0, effect=None)
    moved = msgspec.structs.replace(RECEIPT, block_hash=OTHER)
    found = included(standing=reverted, canonical={10: OTHER}, receipts={A: moved})
    assert [type(output) for output in found] == [tracker.Orphan, tracker.Include, tracker.Timer]


def test_success_without_the_effect_is_no_success_and_alarms() -> None:
    empty = msgspec.structs.replace(STANDING, effect=None)
    told = {A: msgspec.structs.replace(RECEIPT, effect=None)}
    found = included(standing=empty, receipts=told, book=OLD, proof=PROVEN)
    assert [output.to for output in found if isinstance(output, tracker.Move)] == ["final_no_effect"]
    assert [output.latch for output in found if isinstance(output, tracker.Alarm)] == [tracker.EFFECT]


def test_an_effect_that_the_book_does_not_hold_is_for_a_person() -> None:
    lacking = sight.Book(10, {10: BLOCK}, frozenset())
    assert ends(book=lacking) == ["needs_operator"]
    assert ends(book=lacking, state="needs_operator") == []


@pytest.mark.parametrize("status", [0, 1])
def test_a_cancel_that_mined_is_named_so_whatever_its_status(status: int) -> None:
    by_cancel = sight.Inclusion(7, 1, B, 10, BLOCK, status, None)
    assert ends(attempts=(ORIGINAL, CANCEL), standing=by_cancel, cancel="x", proof=PROVEN) == ["cancelled"]


def test_an_original_that_wins_against_its_cancel_is_named_so() -> None:
    assert ends(attempts=(ORIGINAL, CANCEL), cancel="x") == ["final_ok"]


# --- a nonce used by others ---


def test_a_nonce_that_is_used_and_not_final_is_waited_for() -> None:
    given: dict[str, Any] = {"counts": USED, "since_s": NOW, "cancel": "no longer wanted"}
    for told, why in (
        ({A: None}, "the node has no receipt of it"),
        ({}, "the node does not say whether it has a receipt of it"),
    ):
        (said, _) = tracker.next(view(**given, receipts=told, now_s=NOW + 119))
        assert said == tracker.Say(f"the node counts nonce 4 as used, and {why}")
    assert tracker.next(view(**given, state="needs_operator")) == (AGAIN,)  # that says why a person is needed


def test_a_nonce_that_the_node_says_is_used_for_long_and_shows_no_receipt_of_is_sent_again_and_cancelled() -> None:
    given: dict[str, Any] = {"counts": USED, "since_s": NOW, "now_s": NOW + sight.SETTLE_S}
    assert tracker.next(view(**given))[1:] == (tracker.Resend(A), tracker.Timer(given["now_s"] + 2))
    lately = msgspec.structs.replace(ORIGINAL, last_s=NOW + 1)
    assert bumps(**given) == []
    found = tracker.next(view(**given, cancel="no longer wanted", attempts=(lately,)))
    assert found == (tracker.Bump("cancel", "no longer wanted"), tracker.Timer(given["now_s"] + 2))


def test_a_nonce_that_another_has_finally_supersedes_by_proof_and_alarms() -> None:
    taken: dict[str, Any] = {"counts": FINAL, "book": NOTHING_OF_IT}
    found = tracker.next(view(**taken, proof=PROVEN))
    assert [type(output) for output in found] == [tracker.Move, tracker.Alarm]
    assert moves(**taken, proof=PROVEN) == ["superseded"]
    assert [output.latch for output in found if isinstance(output, tracker.Alarm)] == [tracker.FOREIGN]
    assert moves(**taken, state="needs_operator", proof=PROVEN) == ["superseded"]
    assert tracker.question(view(**taken)) == questions.Taken(4)


def test_a_proof_counts_only_by_a_block_that_the_book_has_as_final() -> None:
    for book in (NOTHING, sight.Book(9, {10: BLOCK}, frozenset()), sight.Book(10, {10: OTHER}, frozenset())):
        assert moves(counts=FINAL, book=book, proof=PROVEN) == []


def test_however_long_a_nonce_looks_taken_without_a_proof_it_is_not_given_up() -> None:
    taken: dict[str, Any] = {"counts": FINAL, "book": NOTHING_OF_IT, "now_s": NOW + 10**6}
    assert moves(**taken) == []
    assert moves(**taken, proof=NO_PROOF) == ["needs_operator"]
    assert moves(**taken, proof=NO_PROOF, state="needs_operator", since_s=NOW) == []


def test_a_reserved_intent_that_was_never_signed_is_superseded_too() -> None:
    unsigned: dict[str, Any] = {"attempts": (sight.Attempt(0, "original", 10, 100),), "counts": FINAL}
    assert moves(state="reserved", **unsigned, book=NOTHING_OF_IT, proof=PROVEN) == ["superseded"]


# --- what a block proves, or does not ---

ENDINGS: list[tuple[dict[str, Any], str]] = [
    ({"status": 0, "effect": None}, tracker.EFFECT),
    ({"effect": None}, tracker.EFFECT),
    ({"number": 1, "tx_hash": B, "effect": None}, tracker.FOREIGN),
]


def ending(claim: dict[str, Any], **changes: Any) -> tuple[tracker.Output, ...]:
    """An inclusion that is final in the book, which holds nothing of it."""
    standing = msgspec.structs.replace(STANDING, **claim)
    attempts = (ORIGINAL, CANCEL)
    shown = msgspec.structs.replace(RECEIPT, status=standing.status, effect=None)
    told = {A: None, B: None, standing.tx_hash: shown}
    given: dict[str, Any] = {"attempts": attempts, "standing": standing, "receipts": told, "book": NOTHING_OF_IT}
    return included(**{**given, **changes})


@pytest.mark.parametrize(("claim", "latch"), ENDINGS)
def test_no_node_is_believed_that_it_failed(claim: dict[str, Any], latch: str) -> None:
    assert ending(claim, now_s=NOW + 10**6) == (tracker.Timer(NOW + 10**6 + 2),)
    said = ending(claim, proof=NO_PROOF, now_s=NOW + sight.SETTLE_S - 1)
    assert [type(output) for output in said] == [tracker.Say, tracker.Timer]
    late = ending(claim, proof=NO_PROOF, now_s=NOW + sight.SETTLE_S)
    assert [output.to for output in late if isinstance(output, tracker.Move)] == ["needs_operator"]
    assert "the node has no blocks" in next(output.why for output in late if isinstance(output, tracker.Move))


@pytest.mark.parametrize(("claim", "latch"), ENDINGS)
def test_what_a_block_disproves_is_for_a_person_at_once_and_latches(claim: dict[str, Any], latch: str) -> None:
    found = ending(claim, proof=WRONG)
    assert [output.to for output in found if isinstance(output, tracker.Move)] == ["needs_operator"]
    assert [output.latch for output in found if isinstance(output, tracker.Alarm)] == [latch]
    assert ending(claim, proof=WRONG, state="needs_operator") == (AGAIN,)


@pytest.mark.parametrize(("claim", "latch"), ENDINGS)
def test_what_a_block_proves_is_kept_in_the_reason(claim: dict[str, Any], latch: str) -> None:
    (why,) = [output.why for output in ending(claim, proof=PROVEN) if isinstance(output, tracker.Move)]
    assert PROVEN.why in why


@pytest.mark.parametrize(("claim", "latch"), ENDINGS)
def test_what_a_block_disproves_is_put_aside_when_the_node_shows_it_no_longer(
    claim: dict[str, Any], latch: str
) -> None:
    given: dict[str, Any] = {"receipts": {A: None, B: None}, "counts": UNUSED, "proof": WRONG}
    found = ending(claim, **given, state="needs_operator")
    assert [type(output) for output in found] == [tracker.Orphan, tracker.Timer]
    found = ending(claim, **given)
    assert [type(output) for output in found][:3] == [tracker.Orphan, tracker.Move, tracker.Resend]
    assert [output.to for output in found if isinstance(output, tracker.Move)] == ["pending"]
    assert ending(claim, **given | {"receipts": {}}, state="needs_operator") == (AGAIN,), "silence takes nothing back"


@pytest.mark.parametrize("proof", [None, NO_PROOF])
@pytest.mark.parametrize("effect", [None, 3])
def test_an_inclusion_leaves_when_the_nonce_is_unused_in_a_final_block_above_it(
    proof: questions.Proof | None, effect: int | None
) -> None:
    denied = sight.Counts(latest=4, finalized=4, finalized_number=10, head=12)
    given: dict[str, Any] = {"standing": msgspec.structs.replace(STANDING, effect=effect), "receipts": {A: None}}
    given |= {"book": NOTHING_OF_IT, "proof": proof}
    found = included(**given, counts=denied)
    assert [type(output) for output in found] == [tracker.Orphan, tracker.Move, tracker.Resend, tracker.Timer]
    for counts in (
        msgspec.structs.replace(denied, finalized_number=9),
        msgspec.structs.replace(denied, finalized=5),
        msgspec.structs.replace(denied, finalized_number=None),
        msgspec.structs.replace(denied, head=9),
    ):
        assert not [output for output in included(**given, counts=counts) if isinstance(output, tracker.Orphan)]
    silent = included(**given | {"receipts": {}}, counts=denied)
    assert not [output for output in silent if isinstance(output, tracker.Orphan)], (
        "that it does not answer is no denial"
    )
    with_log = included(**given | {"book": OLD}, counts=denied)
    assert not [output for output in with_log if isinstance(output, tracker.Orphan)], "the index has a word in it"


def test_what_a_block_disproved_is_not_taken_from_a_node_that_shows_it_again() -> None:
    again = msgspec.structs.replace(RECEIPT, status=0, effect=None)
    given: dict[str, Any] = {"state": "needs_operator", "receipts": {A: again}, "book": NOTHING_OF_IT}
    asked = tracker.question(view(**given))
    assert isinstance(asked, questions.Mined) and asked.status == 0
    assert moves(**given, proof=WRONG) == []
    assert bumps(**given, proof=WRONG, cancel="x") == ["cancel"], "meanwhile it is what waits"
    assert moves(**given, proof=PROVEN) == ["included"]


def test_an_effect_that_the_book_does_not_hold_is_asked_of_its_block() -> None:
    given: dict[str, Any] = {"state": "needs_operator", "standing": STANDING, "receipts": {A: RECEIPT}}
    asked = tracker.question(view(**given, book=NOTHING_OF_IT))
    assert isinstance(asked, questions.Mined) and asked.effect == 3
    gone = tracker.next(view(**given | {"receipts": {A: None}}, book=NOTHING_OF_IT, proof=WRONG))
    assert isinstance(gone[0], tracker.Orphan)


def test_a_persons_word_is_weighed_against_the_proof_of_what_the_node_shows() -> None:
    again = msgspec.structs.replace(RECEIPT, status=0, effect=None)
    given: dict[str, Any] = {"receipts": {A: again}, "counts": FINAL, "book": NOTHING_OF_IT, "proof": WRONG}
    assert settled("final_reverted", **given) == []
    assert settled("superseded", **given) == [tracker.Move("superseded", "olga: seen in an explorer")]


# --- above the node's head ---

FAR = msgspec.structs.replace(RECEIPT, block_number=10**12)


def test_a_receipt_above_the_nodes_head_is_not_taken() -> None:
    given: dict[str, Any] = {"receipts": {A: FAR}, "canonical": {10**12: BLOCK}}
    assert moves(**given, counts=USED) == []
    assert moves(**given, counts=msgspec.structs.replace(USED, head=10**12)) == ["included"]


@pytest.mark.parametrize("state", ["included", "needs_operator"])
@pytest.mark.parametrize("told", [None, FAR])
def test_an_invented_height_holds_an_intent_no_longer_than_a_backend_may_be_behind(
    state: intent.State, told: sight.Receipt | None
) -> None:
    standing = msgspec.structs.replace(STANDING, block_number=10**12)
    given: dict[str, Any] = {"state": state, "standing": standing, "receipts": {A: told}, "canonical": {}}
    given |= {"since_s": NOW, "counts": UNUSED}
    assert included(**given, now_s=NOW + sight.SETTLE_S - 1) == (tracker.Timer(NOW + sight.SETTLE_S + 1),)
    found = included(**given, now_s=NOW + sight.SETTLE_S)
    assert isinstance(found[0], tracker.Orphan)
    assert [output.to for output in found if isinstance(output, tracker.Move)] == ["pending"][state != "included" :]
    silent = included(**given | {"receipts": {}}, now_s=NOW + sight.SETTLE_S)
    assert not [output for output in silent if isinstance(output, tracker.Orphan)]


def test_a_disproven_inclusion_goes_when_the_node_shows_another() -> None:
    cancelled = msgspec.structs.replace(STANDING, number=1, tx_hash=B, effect=None)
    told = {A: RECEIPT, B: None}
    given: dict[str, Any] = {"attempts": (ORIGINAL, CANCEL), "standing": cancelled, "receipts": told, "book": OLD}
    found = included(**given, state="needs_operator", proof=WRONG)
    assert [type(output) for output in found][:2] == [tracker.Orphan, tracker.Include]


def test_a_height_that_the_book_keeps_no_block_of_is_linked_to_first() -> None:
    unkept = sight.Book(12, {}, frozenset({A}))
    given: dict[str, Any] = {"state": "included", "standing": STANDING, "receipts": {A: RECEIPT}, "counts": USED}
    assert tracker.question(view(**given, book=unkept)) == questions.Link(10)
    assert tracker.question(view(**given, book=OLD)) is None, "that it worked is proven by the index"
    late = included(book=unkept, proof=NO_PROOF, now_s=NOW + sight.SETTLE_S)
    assert [output.to for output in late if isinstance(output, tracker.Move)] == ["needs_operator"]


def test_a_persons_word_does_not_stand_against_a_proof() -> None:
    taken: dict[str, Any] = {"counts": FINAL, "book": NOTHING_OF_IT, "proof": WRONG}
    assert settled("superseded", **taken) == []
    assert [output.to for output in settled("final_reverted", **taken) if isinstance(output, tracker.Move)] == [
        "final_reverted"
    ]


@pytest.mark.parametrize(
    "changes",
    [
        {"receipts": {}},
        {"receipts": {A: None}, "attempts": (ORIGINAL, BUMP)},
        {"receipts": {A: RECEIPT}, "canonical": {10: OTHER}},
        {"counts": msgspec.structs.replace(FINAL, head=10)},
        {"counts": msgspec.structs.replace(FINAL, finalized_number=None)},
    ],
    ids=["unanswered", "one unanswered", "a receipt there is", "asked at a head below finality", "no finality"],
)
def test_a_node_that_may_not_be_able_to_tell_supersedes_nothing(changes: dict[str, Any]) -> None:
    assert moves(**{"counts": FINAL, "book": NOTHING, **changes}) == []


def test_a_node_that_knows_no_receipt_of_what_the_book_holds_is_for_a_person() -> None:
    assert moves(counts=FINAL) == ["needs_operator"]
    assert moves(counts=FINAL, state="needs_operator") == []


# --- contradictions ---

BOTH = {A: RECEIPT, B: RECEIPT}


def test_two_mined_attempts_of_one_nonce_are_for_a_person() -> None:
    found = tracker.next(view(attempts=(ORIGINAL, BUMP), receipts=BOTH, counts=USED))
    assert [type(output) for output in found] == [tracker.Move, tracker.Alarm, tracker.Timer]
    assert moves(attempts=(ORIGINAL, BUMP), receipts=BOTH, counts=USED) == ["needs_operator"]


def test_a_contradiction_is_said_once() -> None:
    assert tracker.next(view(state="needs_operator", attempts=(ORIGINAL, BUMP), receipts=BOTH)) == (AGAIN,)


def test_what_waits_for_a_person_is_not_included_before_the_book_has_it_final() -> None:
    given: dict[str, Any] = {
        "state": "needs_operator", "attempts": (ORIGINAL, BUMP), "receipts": {A: RECEIPT, B: None}, "counts": USED,
    }  # fmt: skip
    assert moves(**given) == []
    assert moves(**given, book=OLD) == ["included"]
    assert moves(**{**given, "receipts": {A: RECEIPT}}, book=OLD) == []


def test_what_waits_for_a_person_ends_when_its_block_is_final() -> None:
    assert ends(state="needs_operator") == ["included", "final_ok"]


def test_what_waits_for_a_person_is_sent_again_and_never_bumped() -> None:
    found = tracker.next(view(state="needs_operator", now_s=NOW + 999))
    assert found == (tracker.Resend(A), tracker.Timer(NOW + 1001))


def test_what_waits_for_a_person_is_cancelled_when_the_person_wants_it() -> None:
    found = tracker.next(view(state="needs_operator", cancel="x"))
    assert found == (tracker.Bump("cancel", "x"), AGAIN)


def test_the_cancel_of_what_waits_for_a_person_is_bumped() -> None:
    given: dict[str, Any] = {"state": "needs_operator", "attempts": (ORIGINAL, CANCEL), "cancel": "x"}
    kinds = [item.kind for item in tracker.next(view(**given, now_s=NOW + 61)) if isinstance(item, tracker.Bump)]
    assert kinds == ["cancel"]


@pytest.mark.parametrize("counts", [USED, FINAL])
def test_a_used_nonce_is_not_cancelled_for_a_person(counts: sight.Counts) -> None:
    found = tracker.next(view(state="needs_operator", cancel="x", counts=counts, since_s=NOW))
    assert not [item for item in found if isinstance(item, tracker.Bump)]


@pytest.mark.parametrize("state", ["pending", "needs_operator"])
def test_a_nonce_that_is_said_to_be_used_for_long_without_a_receipt_is_cancelled_all_the_same(
    state: Literal["pending", "needs_operator"],
) -> None:
    """The node may be wrong, and what it would be wrong about is sent again: then the cancel has to be there too."""
    found = tracker.next(view(state=state, cancel="x", counts=USED, since_s=NOW - sight.SETTLE_S))
    assert tracker.Bump("cancel", "x") in found
    untold = view(state=state, cancel="x", counts=FINAL, since_s=NOW - sight.SETTLE_S, receipts={})
    assert tracker.Bump("cancel", "x") in tracker.next(untold)


# --- what a person says became of it ---


def settled(outcome: intent.Outcome = "final_reverted", *, logged: bool = False, **changes: Any) -> list[Any]:
    """What follows at once, without timers, resends and what the intent says."""
    said = sight.Settlement(outcome, "olga: seen in an explorer", logged)
    found = tracker.next(view(**{"state": "needs_operator", "settle": said, "since_s": NOW, **changes}))
    return [item for item in found if not isinstance(item, tracker.Timer | tracker.Resend | tracker.Say)]


def says(**changes: Any) -> list[str]:
    said = sight.Settlement("final_reverted", "olga: x", logged=changes.pop("logged", False))
    found = tracker.next(view(**{"state": "needs_operator", "settle": said, "since_s": NOW, **changes}))
    return [item.why for item in found if isinstance(item, tracker.Say)]


@pytest.mark.parametrize("outcome", intent.OUTCOMES)
def test_a_person_settles_what_the_chain_cannot_show_once_its_nonce_is_used_for_good(outcome: intent.Outcome) -> None:
    assert settled(outcome, counts=FINAL) == [tracker.Move(outcome, "olga: seen in an explorer")]


@pytest.mark.parametrize(
    "counts", [None, UNUSED, USED, sight.Counts(latest=5, finalized=5, finalized_number=11, head=9)]
)
def test_nobody_settles_what_could_still_be_mined(counts: sight.Counts | None) -> None:
    assert settled(counts=counts) == []
    assert "waits until nonce 4 is used in a final block" in says(counts=counts)[0]


def test_nobody_settles_against_a_log_of_our_own_index() -> None:
    assert settled(counts=FINAL, logged=True) == []
    assert "the book holds a log of it" in says(counts=FINAL, logged=True)[0]


def test_a_person_settles_what_stands_in_a_final_block_with_what_it_shows() -> None:
    given: dict[str, Any] = {"standing": STANDING, "receipts": {A: RECEIPT}, "counts": FINAL, "book": NOTHING_OF_IT}
    assert settled("final_no_effect", **given) == [
        tracker.Finalize(7), tracker.Move("final_no_effect", "olga: seen in an explorer"),
    ]  # fmt: skip


def test_a_person_who_says_otherwise_puts_aside_what_stands() -> None:
    given: dict[str, Any] = {"standing": STANDING, "receipts": {A: RECEIPT}, "counts": FINAL, "book": NOTHING_OF_IT}
    put_aside, moved = settled("superseded", **given)
    assert isinstance(put_aside, tracker.Orphan) and moved == tracker.Move("superseded", "olga: seen in an explorer")


def test_what_stands_is_settled_when_its_block_is_final_in_the_book() -> None:
    given: dict[str, Any] = {"standing": STANDING, "receipts": {A: RECEIPT}, "counts": FINAL, "book": NOTHING}
    assert settled("final_no_effect", **given) == []
    assert "waits until block 10 is final in the book" in says(**given)[0]
    assert "waits until block 10 is final in the book" in says(**given | {"standing": None})[0]


@pytest.mark.parametrize("outcome", intent.OUTCOMES)
@pytest.mark.parametrize("counts", [None, UNUSED, USED])
@pytest.mark.parametrize("proof", [None, WRONG, NO_PROOF])
@pytest.mark.parametrize("status", [0, 1])
def test_nobody_settles_while_our_bytes_can_be_mined_because_the_block_is_final_that_a_node_once_named(
    outcome: intent.Outcome, counts: sight.Counts | None, proof: questions.Proof | None, status: int
) -> None:
    invented = msgspec.structs.replace(STANDING, status=status, effect=None)
    told = {A: msgspec.structs.replace(RECEIPT, status=status, effect=None)}
    given: dict[str, Any] = {"standing": invented, "receipts": told, "counts": counts, "book": NOTHING_OF_IT}
    assert settled(outcome, **given, proof=proof) == []


def test_what_the_book_proves_goes_before_what_a_person_says() -> None:
    given: dict[str, Any] = {"standing": STANDING, "receipts": {A: RECEIPT}, "counts": FINAL, "book": OLD}
    assert [item.to for item in settled(**given) if isinstance(item, tracker.Move)] == ["included", "final_ok"]


def test_what_left_for_itself_is_not_settled() -> None:
    assert settled(state="pending", counts=UNUSED) == []


# --- the machine as a whole ---


@pytest.mark.parametrize("state", sorted(intent.HOLDING))
@pytest.mark.parametrize("counts", [None, UNUSED, USED, FINAL])
@pytest.mark.parametrize("standing", [None, STANDING], ids=["", "standing"])
@pytest.mark.parametrize("receipts", [{}, {A: None, B: None}, {A: RECEIPT}, {A: RECEIPT, B: RECEIPT}])
def test_no_facts_lead_to_a_move_that_the_machine_has_not(
    state: intent.State, counts: sight.Counts | None, standing: sight.Inclusion | None, receipts: dict[bytes, Any]
) -> None:
    """Standing inclusions belong to included intents and to those that wait for a person."""
    if standing is not None and state not in ("included", "needs_operator"):
        return
    attempts = (msgspec.structs.replace(ORIGINAL, hash=None),) if state == "reserved" else (ORIGINAL, BUMP)
    for canonical in ({}, {10: BLOCK}, {10: OTHER}):
        for book in (YOUNG, OLD, sight.Book(None, {}, frozenset()), sight.Book(11, {10: BLOCK}, frozenset())):
            now = state
            found = view(
                state=state, counts=counts, standing=standing, receipts=receipts, canonical=canonical, book=book,
                attempts=attempts, cancel="x", now_s=NOW + 999,
                settle=sight.Settlement("superseded", "x", logged=False),
            )  # fmt: skip
            for output in tracker.next(found):
                if isinstance(output, tracker.Move):
                    assert intent.may_move(now, output.to), (now, output.to)
                    now = output.to
