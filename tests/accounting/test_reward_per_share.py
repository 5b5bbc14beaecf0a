"""The replay against its own laws, and against the worked example of `docs/accounting.md`."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accounting import reward_per_share as rps
from domain import chain, errors, events, statement

SCALE = 10**18
ASSET = bytes(20)
V1, V2 = b"\x01".rjust(32, b"\0"), b"\x02".rjust(32, b"\0")
ANN, BOB = b"\xaa".rjust(32, b"\0"), b"\xbb".rjust(32, b"\0")


class History:
    """Writes events in order, one a log, ten seconds a block."""

    def __init__(self) -> None:
        self.events: list[events.StakingEvent] = []

    def at(self) -> events.At:
        number = len(self.events) + 1
        return events.At(chain.BlockRef(number, number.to_bytes(32, "big")), 0, 10 * number, bytes(32))

    def delegated(self, who: bytes, amount: int, v: bytes = V1) -> None:
        self.events.append(events.Delegated(self.at(), v, who, amount))

    def commission(self, bps: int, v: bytes = V1) -> None:
        self.events.append(events.CommissionChanged(self.at(), v, bps))

    def reward(self, amount: int, v: bytes = V1) -> None:
        self.events.append(events.RewardAccrued(self.at(), v, amount))

    def slashed(self, bps: int, loss: int, v: bytes = V1) -> None:
        self.events.append(events.Slashed(self.at(), v, loss, bps))

    def undelegated(self, who: bytes, amount: int, ticket: int, delay_s: int, v: bytes = V1) -> None:
        at = self.at()
        self.events.append(events.Undelegated(at, v, who, amount, ticket, at.time + delay_s))

    def withdrawn(self, who: bytes, amount: int, ticket: int, v: bytes = V1) -> None:
        self.events.append(events.Withdrawn(self.at(), v, who, amount, ticket))

    def fold(self) -> rps.Book:
        return rps.fold(None, self.events, scale=SCALE)


def amounts(book: rps.Book) -> dict[tuple[str, int], tuple[int, int]]:
    leaves = book.leaves(protocol="devnet", asset=ASSET)
    return {(leaf.parts[-1][-2:], leaf.kind): (leaf.reward, leaf.penalty) for leaf in leaves}


def test_the_worked_example_of_the_documentation_gives_the_documented_leaves() -> None:
    h = History()
    h.commission(1000)
    h.delegated(ANN, 2)
    h.delegated(BOB, 1)
    h.reward(10)
    h.reward(1)
    found = amounts(h.fold())
    assert found[("aa", statement.REWARD)] == (6, 0)
    assert found[("bb", statement.REWARD)] == (3, 0)
    assert found[("01", statement.COMMISSION)] == (1, 0)
    h.slashed(5000, 1)
    h.reward(2)
    found = amounts(h.fold())
    assert found[("aa", statement.SLASHED)] == (0, 1)
    assert found[("bb", statement.SLASHED)] == (0, 1)
    assert found[("aa", statement.REWARD)] == (7, 0)


def test_a_slash_reaches_an_open_unbonding_and_spares_a_released_one() -> None:
    h = History()
    h.delegated(ANN, 1000)
    h.undelegated(ANN, 500, ticket=1, delay_s=10_000)
    h.undelegated(ANN, 100, ticket=2, delay_s=10)
    h.slashed(1000, 40)
    book = h.fold()
    assert (book.unbondings[1].amount, book.unbondings[2].amount) == (450, 100)
    assert amounts(book)[("aa", statement.SLASHED)] == (0, 90)


def test_a_pool_without_stake_holds_its_reward_for_the_next_distribution() -> None:
    h = History()
    h.reward(7)
    assert h.fold().pools[V1].held == 7
    h.delegated(ANN, 5)
    h.reward(3)
    assert amounts(h.fold())[("aa", statement.REWARD)] == (10, 0)


def test_a_pool_that_empties_is_swept_of_what_rounding_left() -> None:
    h = History()
    h.delegated(ANN, 3)
    h.delegated(BOB, 3)
    h.slashed(5000, 3)
    h.undelegated(ANN, 1, ticket=1, delay_s=100)
    h.undelegated(BOB, 1, ticket=2, delay_s=100)
    book = h.fold()
    assert (book.pools[V1].count, book.pools[V1].total_stake) == (0, 0)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda h: h.undelegated(ANN, 11, ticket=1, delay_s=1), "stake leaves that is not there"),
        (lambda h: h.withdrawn(ANN, 5, ticket=9), "a withdrawal without its unbonding"),
        (lambda h: h.slashed(1000, 2), "a slash of another amount"),
        (lambda h: h.commission(10_001), "a commission above 100 %"),
        (lambda h: h.delegated(ANN, 0), "a delegation of nothing"),
    ],
)
def test_an_event_that_contradicts_the_replay_is_parked_with_what_was_expected(spoil, says) -> None:  # type: ignore[no-untyped-def]
    h = History()
    h.delegated(ANN, 10)
    spoil(h)
    with pytest.raises(errors.Parked, match=says):
        h.fold()


def test_a_reward_per_share_that_differs_from_the_contracts_is_parked() -> None:
    h = History()
    h.delegated(ANN, 10)
    h.events.append(events.RewardAccrued(h.at(), V1, 10, commission=0, index=SCALE + 1))
    with pytest.raises(errors.Parked, match="another reward per share"):
        h.fold()


@pytest.mark.parametrize(
    "carry",
    [
        b"",
        b"{}",
        b'{"model":"x"}',
        b"\0",
        b'{"model":"reward-per-share","version":"1","validators":{},"positions":{},"unbondings":{} }',
    ],
)
def test_a_carry_that_is_not_canonical_is_refused(carry: bytes) -> None:
    with pytest.raises(errors.BadAnswer):
        rps.parse_carry(carry, scale=SCALE)


STEP = st.tuples(
    st.sampled_from(["delegate", "undelegate", "reward", "slash", "commission"]),
    st.sampled_from([ANN, BOB]),
    st.integers(1, 10**21),
    st.integers(1, 10_000),
)


def play(steps: list[tuple[str, bytes, int, int]]) -> History:
    """A history the contract could have produced: amounts are cut to what is there."""
    h = History()
    ticket = 0
    for what, who, amount, bps in steps:
        book = h.fold()
        pool = book.pools.get(V1, rps.Pool())
        stake = book.positions.get(V1, {}).get(who, rps.Position()).stake
        if what == "delegate":
            h.delegated(who, amount)
        elif what == "undelegate" and stake:
            ticket += 1
            h.undelegated(who, 1 + amount % stake, ticket, delay_s=30)
        elif what == "reward":
            h.reward(amount)
        elif what == "slash":
            h.slashed(bps, pool.total_stake * bps // 10_000)
        elif what == "commission":
            h.commission(bps)
    return h


@settings(max_examples=60, deadline=None)
@given(st.lists(STEP, max_size=25), st.integers(0, 25))
def test_folding_in_two_frames_equals_folding_in_one_and_leaves_never_fall(
    steps: list[tuple[str, bytes, int, int]], cut: int
) -> None:
    h = play(steps)
    whole = h.fold()
    first = rps.fold(None, h.events[:cut], scale=SCALE)
    second = rps.fold(rps.write_carry(first), h.events[cut:], scale=SCALE)
    assert rps.write_carry(second) == rps.write_carry(whole)
    before, after = amounts(first), amounts(second)
    assert all(after[key] >= value and after[key][1] >= value[1] for key, value in before.items())


@settings(max_examples=60, deadline=None)
@given(st.lists(STEP, max_size=25))
def test_principal_is_conserved_and_a_pool_never_pays_more_than_it_received(
    steps: list[tuple[str, bytes, int, int]],
) -> None:
    h = play(steps)
    book = h.fold()
    for who, p in book.positions.get(V1, {}).items():
        waiting = [u for u in book.unbondings.values() if u.delegator == who]
        assert p.put_in - p.taken_out - p.lost - sum(u.lost for u in waiting) == p.stake + sum(
            u.amount for u in waiting
        )
    received = sum(e.amount for e in h.events if isinstance(e, events.RewardAccrued))
    paid = statement.totals(book.leaves(protocol="devnet", asset=ASSET)).reward
    assert paid <= received
    for pool in book.pools.values():
        parts = sum(p.stake for p in book.positions.get(V1, {}).values())
        assert parts <= pool.total_stake
