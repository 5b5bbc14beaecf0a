"""A bug in the producer's accounting, signed by everybody, is named by the first leaf that is wrong.

The histories are true (the contract's own arithmetic); only the producer that turns them into statements is spoiled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec
import pytest

import verify
from accounting import reward_per_share
from domain import events, hashing, statement
from tests.verify import factory

OPERATOR, ALICE, BOB, OTHER = (hashing.word(n) for n in (0xA0, 0xD0, 0xD1, 0xA1))


def history() -> factory.History:
    """One frame: odd stakes, a reward that does not divide, an unbonding, a slash, commission, a move, a claim of commission."""
    told = factory.History(0)
    first = factory.START
    told.script(
        first,
        lambda at: events.CommissionChanged(at, OPERATOR, 333),
        lambda at: events.CommissionChanged(at, OTHER, 0),
        lambda at: events.Delegated(at, OPERATOR, ALICE, 1_000_003),
        lambda at: events.Delegated(at, OPERATOR, BOB, 777),
    )
    told.script(first + 1, lambda at: told.reward(at, OPERATOR, told.book.pools[OPERATOR], amount=10_007))
    told.script(first + 2, lambda at: events.Undelegated(at, OPERATOR, ALICE, 500_001, 1, at.time + 1000))
    told.script(
        first + 3, lambda at: events.Slashed(at, OPERATOR, told.book.pools[OPERATOR].total_stake * 333 // 10_000, 333)
    )
    told.script(first + 4, lambda at: told.reward(at, OPERATOR, told.book.pools[OPERATOR], amount=97))
    told.script(first + 5, lambda at: events.Moved(at, OPERATOR, OTHER, BOB, 100))
    told.script(
        first + 6,
        lambda at: events.RewardClaimed(
            at, OPERATOR, OPERATOR, told.book.pools[OPERATOR].commission_earned, "operator"
        ),
    )
    told.script(first + 7)
    return told


def report(tmp_path: Path, told: factory.History) -> verify.Report:
    rules = factory.ruleset()
    maker = factory.Maker(factory.document(rules), rules, told.headers, told.entries)
    return verify.check(factory.write(tmp_path / "statement.json", maker.file(maker.frames(1))))


def test_the_unspoiled_producer_passes(tmp_path: Path) -> None:
    assert report(tmp_path, history()).exit_code == 0


def loss_rounded_down(monkeypatch: pytest.MonkeyPatch) -> None:
    def share_down(amount: int, bps: int) -> int:
        return amount * bps // 10_000

    monkeypatch.setattr(reward_per_share, "_share_up", share_down)


def unbonding_not_slashed(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = reward_per_share.Book._slash

    def slash(book: reward_per_share.Book, event: events.Slashed) -> None:
        kept, book.unbondings = book.unbondings, {}
        honest(book, event)
        book.unbondings = kept

    monkeypatch.setattr(reward_per_share.Book, "_slash", slash)


def commission_rounded_up(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = reward_per_share.Book._accrue

    def accrue(book: reward_per_share.Book, event: events.RewardAccrued) -> None:
        honest(book, event)
        pool = book._pool(event.validator)
        pool.commission_earned += bool(event.amount * pool.commission_bps % reward_per_share.BASIS)

    monkeypatch.setattr(reward_per_share.Book, "_accrue", accrue)


def reward_not_settled_before_a_slash(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = reward_per_share.Book._slash

    def slash(book: reward_per_share.Book, event: events.Slashed) -> None:
        for position in book.positions.get(event.validator, {}).values():
            position.acc = book._pool(event.validator).acc
        honest(book, event)

    monkeypatch.setattr(reward_per_share.Book, "_slash", slash)


def a_move_takes_nothing_out(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = reward_per_share.Book.apply

    def apply(book: reward_per_share.Book, event: events.StakingEvent) -> None:
        honest(book, event)
        if isinstance(event, events.Moved):
            book._position(event.validator, event.delegator).taken_out -= event.amount

    monkeypatch.setattr(reward_per_share.Book, "apply", apply)


def claims_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    def claim(book: reward_per_share.Book, event: events.RewardClaimed) -> None:
        book._pool(event.validator)

    monkeypatch.setattr(reward_per_share.Book, "_claim", claim)


def a_leaf_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = reward_per_share.Book.leaves

    def leaves(book: reward_per_share.Book, *, protocol: str, asset: bytes) -> tuple[statement.Leaf, ...]:
        return tuple(leaf for leaf in honest(book, protocol=protocol, asset=asset) if leaf.kind != statement.SLASHED)

    monkeypatch.setattr(reward_per_share.Book, "leaves", leaves)


def a_leaf_is_invented(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = reward_per_share.Book.leaves

    def leaves(book: reward_per_share.Book, *, protocol: str, asset: bytes) -> tuple[statement.Leaf, ...]:
        found = honest(book, protocol=protocol, asset=asset)
        extra = msgspec.structs.replace(found[0], kind=statement.ADJUSTMENT, reward=1)
        return tuple(sorted((*found, extra)))

    monkeypatch.setattr(reward_per_share.Book, "leaves", leaves)


Plant = Callable[[pytest.MonkeyPatch], None]


@pytest.mark.parametrize(
    ("plant", "who", "kinds"),
    [
        (loss_rounded_down, (ALICE, BOB), {20}),
        (unbonding_not_slashed, (ALICE,), {20}),
        (commission_rounded_up, (OPERATOR,), {2}),
        (reward_not_settled_before_a_slash, (ALICE, BOB), {1}),
        (a_move_takes_nothing_out, (BOB,), {42}),
        (claims_are_forgotten, (OPERATOR,), {40}),
        (a_leaf_is_left_out, (ALICE, BOB), {20}),
        (a_leaf_is_invented, (ALICE, BOB, OPERATOR, OTHER), {60}),
    ],
)
def test_a_planted_bug_is_named_by_its_first_leaf(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plant: Plant, who: Iterable[bytes], kinds: set[int]
) -> None:
    told = history()
    plant(monkeypatch)
    spoiled = report(tmp_path, told)
    first = spoiled.first_difference
    assert spoiled.exit_code == 1 and first is not None and first.check == "leaves", spoiled.lines()
    assert any(hashing.hex0x(one) in first.where for one in who), first
    assert any(f"kind {kind} " in first.where for kind in kinds), first
    assert first.expected is not None and first.got is not None and first.expected != first.got
    assert first.where in spoiled.lines()[-1]


def test_the_named_leaf_is_the_first_wrong_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = history()
    rules = factory.ruleset()
    honest = factory.Maker(factory.document(rules), rules, told.headers, told.entries).frames(1)[0].frame.body.leaves
    loss_rounded_down(monkeypatch)
    spoiled = factory.Maker(factory.document(rules), rules, told.headers, told.entries).frames(1)[0].frame.body.leaves
    wrong = next(ours for ours, theirs in zip(honest, spoiled, strict=True) if ours != theirs)
    first = report(tmp_path, told).first_difference
    assert first is not None and ", ".join(wrong.parts) in first.where and f"kind {wrong.kind} " in first.where


def test_a_carry_that_is_wrong_beneath_right_leaves_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The remainder of a division shows in no leaf yet, but would in a later frame."""
    honest = reward_per_share.write_carry

    def forgetful(book: reward_per_share.Book) -> bytes:
        for pool in book.pools.values():
            pool.remainder = 0
        return honest(book)

    monkeypatch.setattr(reward_per_share, "write_carry", forgetful)
    first = report(tmp_path, history()).first_difference
    assert first is not None and first.check == "carry" and '"remainder"' in first.where and first.got == '"0"'


def test_a_contract_that_follows_another_rule_is_named_by_its_log(tmp_path: Path) -> None:
    """The logs are true and signed, but say another reward per share than the ruleset's arithmetic yields."""
    told = history()
    place = next(i for i, e in enumerate(told.entries) if isinstance(e.event, events.RewardAccrued))
    event = told.entries[place].event
    assert isinstance(event, events.RewardAccrued)
    other = msgspec.structs.replace(event, index=(event.index or 0) + 1)
    told.entries[place] = type(told.entries[place])(factory.log_of(other), msgspec.structs.replace(event, index=None))
    first = report(tmp_path, told).first_difference
    assert first is not None and first.check == "replay" and "reward per share" in first.text
    assert first.where == f"block {event.at.block.number}, log {event.at.log_index}"
