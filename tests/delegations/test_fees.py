"""Quotes and replacements, against geth's own rule in whole wei."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from agent.delegations import fees
from domain import intent
from tests.delegations.factory import GWEI

CAPS = fees.Caps(max_fee=100 * GWEI, max_tip=3 * GWEI)
HUGE = fees.Caps(max_fee=1 << 100, max_tip=1 << 100)
TINY = st.integers(min_value=0, max_value=300)
WEI = TINY | st.integers(min_value=0, max_value=1 << 90)
OFFERS = st.tuples(WEI, WEI).map(lambda pair: (min(pair), max(pair)))


def geth_replaces(old: tuple[int, int], new: tuple[int, int]) -> bool:
    """`list.Add` of go-ethereum's legacy pool with a price bump of 10, written from its source."""
    (old_tip, old_fee), (tip, fee) = old, new
    if old_fee >= fee or old_tip >= tip:
        return False
    return fee >= 110 * old_fee // 100 and tip >= 110 * old_tip // 100


@given(previous=st.lists(OFFERS, min_size=1, max_size=6), base=WEI, tip=WEI)
def test_a_replacement_passes_geths_rule_against_everything_before(
    previous: list[tuple[int, int]], base: int, tip: int
) -> None:
    market = fees.quote(fees.FeeHistory(base, (tip,)), HUGE)
    found = fees.bump(previous, market, HUGE)
    assert isinstance(found, fees.Quote)
    assert all(geth_replaces(old, (found.tip, found.max_fee)) for old in previous)
    assert found.tip <= found.max_fee


CAPPED = st.tuples(WEI, WEI).map(lambda pair: fees.Caps(max_fee=max(*pair, 1), max_tip=max(min(pair), 1)))


@given(
    previous=st.lists(OFFERS, min_size=1, max_size=6),
    base=WEI,
    tip=WEI,
    caps=CAPPED,
    kind=st.sampled_from(["bump", "cancel"]),
)
def test_no_replacement_passes_the_caps(
    previous: list[tuple[int, int]], base: int, tip: int, caps: fees.Caps, kind: intent.AttemptKind
) -> None:
    found = fees.bump(previous, fees.quote(fees.FeeHistory(base, (tip,)), caps), caps, kind=kind)
    if isinstance(found, fees.Quote):
        assert found.max_fee <= caps.max_fee
        assert found.tip <= caps.max_tip
        assert all(geth_replaces(old, (found.tip, found.max_fee)) for old in previous)


@given(base=WEI, tips=st.lists(WEI, max_size=30), caps=CAPPED)
def test_a_quote_covers_the_next_block_and_no_quote_passes_the_caps(
    base: int, tips: list[int], caps: fees.Caps
) -> None:
    found = fees.quote(fees.FeeHistory(base, tuple(tips)), caps)
    if isinstance(found, fees.Quote):
        assert base + found.tip <= found.max_fee <= caps.max_fee
        assert 0 < found.tip <= caps.max_tip


HISTORIES = st.builds(lambda base, tip: fees.FeeHistory(base, (tip,)), WEI, WEI)


@given(first=HISTORIES, later=st.lists(HISTORIES, max_size=30), last=HISTORIES, caps=CAPPED)
def test_whatever_was_offered_can_still_be_cancelled(
    first: fees.FeeHistory, later: list[fees.FeeHistory], last: fees.FeeHistory, caps: fees.Caps
) -> None:
    """The reason for the room below the caps, wherever the market went. With caps under two wei nothing fits under anything."""
    assume(caps.max_tip > 1)
    market = fees.quote(first, caps)
    assume(isinstance(market, fees.Quote))
    assert isinstance(market, fees.Quote)
    offered = [(market.tip, market.max_fee)]
    for history in later:
        found = fees.bump(offered, fees.quote(history, caps, kind="bump"), caps)
        if isinstance(found, fees.Quote):
            offered.append((found.tip, found.max_fee))
    for market in (fees.quote(last, caps, kind="cancel"), fees.Wait("a spike")):
        assert isinstance(fees.bump(offered, market, caps, kind="cancel"), fees.Quote)


@given(offered=OFFERS, later=st.lists(HISTORIES, min_size=1, max_size=30), caps=CAPPED)
def test_a_cancel_that_cannot_be_outbid_has_offered_everything(
    offered: tuple[int, int], later: list[fees.FeeHistory], caps: fees.Caps
) -> None:
    cancels: list[tuple[int, int]] = []
    for history in later:
        found = fees.bump([offered, *cancels], fees.quote(history, caps, kind="cancel"), caps, kind="cancel")
        if isinstance(found, fees.Quote):
            assert not cancels or cancels[-1] != (caps.max_tip, caps.max_fee)
            cancels.append((found.tip, found.max_fee))
        else:
            assert not cancels or cancels[-1] == (caps.max_tip, caps.max_fee)


@given(base=st.integers(0, 50 * GWEI), tip=st.integers(0, 50 * GWEI))
def test_an_original_can_be_outbid_several_times_whatever_others_tip(base: int, tip: int) -> None:
    """As long as the base fee leaves that room below the cap."""
    market = fees.quote(fees.FeeHistory(base, (tip,)), CAPS)
    assert isinstance(market, fees.Quote)
    offered = [(market.tip, market.max_fee)]
    for _ in range(fees.RAISES - 1):
        found = fees.bump(offered, market, CAPS)
        assert isinstance(found, fees.Quote)
        offered.append((found.tip, found.max_fee))


@pytest.mark.parametrize(
    ("old", "new"),
    [(0, 1), (1, 2), (5, 6), (9, 10), (10, 11), (11, 13), (19, 21), (100, 110), (101, 112), (GWEI, 1_100_000_000)],
)
def test_the_least_replacement_is_exact_to_the_wei(old: int, new: int) -> None:
    assert fees.raised(old) == new
    assert geth_replaces((old, old), (new, new))


@given(old=WEI)
def test_nothing_below_the_least_replacement_but_geths_rounding_would_do(old: int) -> None:
    less = fees.raised(old) - 1
    assert not geth_replaces((old, old), (less, less)) or 110 * old % 100


def test_the_median_of_what_was_paid_is_quoted_with_headroom() -> None:
    history = fees.FeeHistory(10 * GWEI, (0, 1, GWEI, 50 * GWEI, 0))
    assert fees.quote(history, CAPS) == fees.Quote(tip=GWEI, max_fee=21 * GWEI)


def test_empty_blocks_ask_for_one_wei() -> None:
    assert fees.quote(fees.FeeHistory(7, (0, 0)), CAPS) == fees.Quote(tip=1, max_fee=15)


def test_a_tip_beyond_its_cap_is_offered_at_the_cap_and_by_an_original_below_it() -> None:
    history, most = fees.FeeHistory(GWEI, (9 * GWEI,)), 3 * GWEI * 100 // 110
    assert fees.quote(history, CAPS, kind="bump") == fees.Quote(tip=most, max_fee=2 * GWEI + most)
    found = fees.quote(history, CAPS)
    assert isinstance(found, fees.Quote)
    assert found.tip == 1_862_763_967 and found.max_fee == 2 * GWEI + found.tip


def test_headroom_ends_at_the_cap_and_for_an_original_where_it_can_still_be_outbid() -> None:
    history, most = fees.FeeHistory(60 * GWEI, (GWEI,)), 100 * GWEI * 100 // 110
    assert fees.quote(history, CAPS, kind="bump") == fees.Quote(tip=GWEI, max_fee=most)
    assert fees.quote(history, CAPS) == fees.Quote(tip=GWEI, max_fee=68_500_000_000)
    assert fees.quote(fees.FeeHistory(40 * GWEI, (GWEI,)), CAPS) == fees.Quote(tip=GWEI, max_fee=62_092_132_305)
    assert fees.quote(fees.FeeHistory(89 * GWEI, (GWEI,)), CAPS) == fees.Quote(tip=GWEI, max_fee=most)


def test_a_base_fee_beyond_the_cap_is_waited_out() -> None:
    found = fees.quote(fees.FeeHistory(100 * GWEI, (GWEI,)), CAPS)
    assert isinstance(found, fees.Wait)
    assert "101000000000" in found.why


def test_a_replacement_beyond_the_cap_is_waited_out() -> None:
    market = fees.Quote(GWEI, 20 * GWEI)
    assert isinstance(fees.bump([(GWEI, 95 * GWEI)], market, CAPS), fees.Wait)
    assert isinstance(fees.bump([(29 * GWEI // 10, 20 * GWEI)], market, CAPS), fees.Wait)


def test_a_replacement_follows_the_market_up() -> None:
    assert fees.bump([(1, 10)], fees.Quote(GWEI, 20 * GWEI), CAPS) == fees.Quote(GWEI, 20 * GWEI)


def test_a_replacement_never_goes_down_with_the_market() -> None:
    assert fees.bump([(GWEI, 50 * GWEI)], fees.Quote(1, 2), CAPS) == fees.Quote(GWEI * 11 // 10, 55 * GWEI)


def test_while_the_market_is_beyond_the_cap_nothing_is_replaced() -> None:
    assert fees.bump([(1, 1)], fees.Wait("too dear"), CAPS) == fees.Wait("too dear")


def test_a_cancel_does_not_wait_for_the_market_and_offers_what_it_may_in_a_spike() -> None:
    found = fees.bump([(10, 100)], fees.Wait("too dear"), CAPS, kind="cancel")
    assert found == fees.Quote(CAPS.max_tip, CAPS.max_fee)


def test_a_cancel_that_replaces_nothing_offers_what_the_market_asks() -> None:
    assert fees.bump([], fees.Quote(GWEI, 20 * GWEI), CAPS, kind="cancel") == fees.Quote(GWEI, 20 * GWEI)


def test_the_last_raise_of_a_cancel_is_all_that_is_allowed() -> None:
    market = fees.Quote(GWEI, 20 * GWEI)
    assert fees.bump([(GWEI, 82 * GWEI)], market, CAPS, kind="cancel") == fees.Quote(11 * GWEI // 10, 902 * GWEI // 10)
    everything = fees.Quote(CAPS.max_tip, CAPS.max_fee)
    assert fees.bump([(GWEI, 90 * GWEI)], market, CAPS, kind="cancel") == everything
    assert fees.bump([(5 * GWEI // 2, 20 * GWEI)], market, CAPS, kind="cancel") == everything
