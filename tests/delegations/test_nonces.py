"""The audit of an account: ours alone, foreign, restored, gapped, or a node that is behind."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.delegations import nonces


def audited(**facts: Any) -> nonces.Audit:
    latest = facts.pop("latest", 0)
    return nonces.audit(nonces.View(**{"latest": latest, "pending": latest, "finalized": 0, **facts}))


def test_a_new_account_begins_at_zero() -> None:
    assert audited() == nonces.Ok(0)


def test_an_account_that_was_used_before_goes_on_behind_it() -> None:
    assert audited(latest=57) == nonces.Ok(57)


def test_a_first_start_beside_a_foreign_transaction_on_its_way_halts() -> None:
    found = audited(latest=57, pending=58)
    assert isinstance(found, nonces.Foreign)
    assert found.floor == 58


def test_our_own_transactions_on_their_way_are_no_news() -> None:
    assert audited(latest=5, pending=8, highest=7, open=(5, 6, 7)) == nonces.Ok(8)


def test_reserved_and_unsigned_slots_are_no_news() -> None:
    assert audited(latest=5, highest=7, open=(5, 6, 7), unsigned=(6, 7)) == nonces.Ok(8)


def test_a_count_above_our_slots_is_foreign() -> None:
    found = audited(latest=9, highest=7)
    assert isinstance(found, nonces.Foreign)
    assert found.floor == 9
    assert "9 transactions, this book knows of 8" in found.why


def test_a_finalized_count_alone_tells_too() -> None:
    assert isinstance(audited(latest=0, finalized=9, highest=7), nonces.Foreign)


def test_a_nonce_that_was_never_signed_for_and_is_used_is_foreign() -> None:
    """A backup from before the signature, or somebody else: the count is not above our slots, and still."""
    assert isinstance(audited(latest=7, highest=7, open=(6, 7), unsigned=(6, 7)), nonces.Foreign)


def test_an_accepted_floor_is_known() -> None:
    assert audited(latest=9, highest=7, accepted=9) == nonces.Ok(9)
    assert isinstance(audited(latest=10, highest=7, accepted=9), nonces.Foreign)


def test_a_restored_book_halts_whatever_the_counts_are() -> None:
    found = audited(latest=5, highest=7, open=(5, 6, 7), restored=True)
    assert isinstance(found, nonces.Restored)
    assert found.floor == 8


def test_what_is_in_the_pool_alone_halts_only_who_should_be_alone() -> None:
    facts: dict[str, Any] = {"latest": 5, "pending": 9, "highest": 7, "open": (5, 6, 7)}
    assert isinstance(audited(**facts, exclusive=True), nonces.Foreign)
    assert isinstance(audited(**facts, exclusive=False), nonces.Behind)


def test_a_pool_that_holds_a_nonce_we_never_signed_halts_who_should_be_alone() -> None:
    facts: dict[str, Any] = {"latest": 5, "pending": 7, "highest": 7, "open": (5, 6, 7), "unsigned": (6, 7)}
    assert isinstance(audited(**facts), nonces.Foreign)


def test_a_free_nonce_below_one_of_ours_is_a_gap() -> None:
    """Our slot came after a foreign transaction that a reorg took away."""
    assert audited(latest=5, highest=7, open=(6, 7)) == nonces.Gap((5,), "nonce 5 is free, and 7 waits behind it")


def test_a_node_that_counts_less_than_was_accepted_is_waited_for_until_a_final_block_from_after_says_so_too() -> None:
    behind = audited(latest=5, highest=4, accepted=9, offered_at=100, final_height=90)
    assert isinstance(behind, nonces.Behind) and "accepted" in behind.why
    assert isinstance(audited(latest=5, highest=4, accepted=9, offered_at=100), nonces.Behind)
    assert audited(latest=5, highest=4, accepted=9, offered_at=100, final_height=101) == nonces.Ok(5)


def test_what_a_person_accepted_is_no_gap_while_the_pool_has_it() -> None:
    assert audited(latest=5, pending=7, highest=7, open=(7,), accepted=7) == nonces.Ok(8)
    dropped = audited(latest=5, pending=5, highest=7, open=(7,), accepted=7)
    assert isinstance(dropped, nonces.Gap) and dropped.missing == (5, 6)


def test_a_node_that_forgot_what_was_final_is_behind() -> None:
    assert isinstance(audited(latest=0, highest=7, settled=6, open=(7,)), nonces.Behind)
    assert audited(latest=7, highest=7, settled=6, open=(7,)) == nonces.Ok(8)


@pytest.mark.parametrize(("highest", "floor", "found"), [(None, 0, 0), (None, 57, 57), (7, 5, 8), (7, 12, 12)])
def test_the_next_nonce_is_one_more_and_never_below_the_floor(highest: int | None, floor: int, found: int) -> None:
    assert nonces.following(highest=highest, floor=floor) == found


@given(
    mined=st.integers(0, 20),
    sent=st.integers(0, 5),
    waiting=st.integers(0, 5),
    before=st.integers(0, 20),
    deep=st.integers(0, 20),
)
def test_an_account_that_only_we_use_is_always_ours(
    mined: int, sent: int, waiting: int, before: int, deep: int
) -> None:
    """Used before, then by us alone: mined, in the pool, and reserved."""
    count, end = before + mined, before + mined + sent + waiting
    view = nonces.View(
        latest=count,
        pending=count + sent,
        finalized=max(0, count - deep),
        highest=end - 1 if end > before else None,
        open=tuple(range(count, end)),
        unsigned=tuple(range(count + sent, end)),
        settled=count - deep - 1 if deep < mined else None,
    )
    if end == before:
        view = nonces.View(latest=before, pending=before, finalized=max(0, before - deep))
    assert nonces.audit(view) == nonces.Ok(end)


@given(ours=st.integers(1, 20), foreign=st.integers(1, 5))
def test_one_foreign_nonce_is_always_seen(ours: int, foreign: int) -> None:
    assert isinstance(audited(latest=ours + foreign, highest=ours - 1), nonces.Foreign)


def test_a_distance_that_only_a_lying_node_can_claim_is_not_counted_through() -> None:
    found = audited(latest=0, highest=2**60, open=(2**60,))
    assert isinstance(found, nonces.Gap)
    assert found.missing == tuple(range(nonces.MOST_TOLD))
