"""The follower against a model chain that grows, forks, finalizes, hides its head and moves on during walks."""

from __future__ import annotations

import hashlib
import random

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, precondition, rule

from domain import chain
from indexers.chain import follower

del Bundle
EMPTY = bytes(32)
GENESIS = chain.Header(0, hashlib.sha256(b"genesis").digest(), EMPTY, 0, EMPTY, EMPTY, bytes(256))


def child(parent: chain.Header, salt: int) -> chain.Header:
    number = parent.number + 1
    digest = hashlib.sha256(parent.hash + salt.to_bytes(8, "big")).digest()
    return chain.Header(number, digest, parent.hash, number * 12, EMPTY, EMPTY, bytes(256))


class Model:
    """Every block there ever was, and which chain is the canonical one."""

    def __init__(self) -> None:
        self.canonical = [GENESIS]
        self.known = {GENESIS.hash: GENESIS}
        self.final = 0
        self.salt = 0

    @property
    def head(self) -> chain.Header:
        return self.canonical[-1]

    def grow(self, count: int) -> None:
        for _ in range(count):
            self.salt += 1
            header = child(self.head, self.salt)
            self.canonical.append(header)
            self.known[header.hash] = header

    def fork(self, depth: int, length: int) -> None:
        del self.canonical[len(self.canonical) - depth :]
        self.grow(length)

    def drive(self, machine: follower.Follower, remote: chain.Header, *, forgotten: bool = False) -> follower.Output:
        output = machine.seen(remote)
        while isinstance(output, follower.Need):
            header = None if forgotten else self.known[output.hash]
            assert header is None or header.number == output.number
            output = machine.missing() if header is None else machine.parent(header)
        return output


def settle(model: Model, machine: follower.Follower) -> None:
    for _ in range(4):
        output = model.drive(machine, model.head)
        if isinstance(output, follower.Reverted | follower.Committed):
            machine.applied(output)
        else:
            assert isinstance(output, follower.Idle | follower.Behind), output


@settings(max_examples=150, stateful_step_count=40, deadline=None)
class Following(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.machine = follower.Follower(GENESIS.ref)
        self.highest_final = GENESIS.ref

    @rule(count=st.integers(1, 30))
    def grow(self, count: int) -> None:
        self.model.grow(count)

    @rule(data=st.data())
    def fork(self, data: st.DataObject) -> None:
        most = len(self.model.canonical) - 1 - self.model.final
        depth = data.draw(st.integers(0, most))
        self.model.fork(depth, data.draw(st.integers(max(0, depth - 3), depth + 3)))

    @rule(data=st.data())
    def finalize(self, data: st.DataObject) -> None:
        self.model.final = data.draw(st.integers(self.model.final, len(self.model.canonical) - 1))

    @rule(partly=st.integers(1, 5), once=st.booleans())
    def look(self, partly: int, once: bool) -> None:
        """One look; only a prefix of what was proposed may get committed."""
        output = self.model.drive(self.machine, self.model.head)
        match output:
            case follower.Committed():
                headers = output.headers[:partly] if once else output.headers
                self.machine.applied(follower.Committed(headers))
            case follower.Reverted():
                self.machine.applied(output)
                assert output.ancestor.hash in {h.hash for h in self.model.canonical}
                assert not {h.hash for h in output.headers} & {h.hash for h in self.model.canonical}
            case follower.Behind():
                assert self.model.head.number < self.machine.head.number
            case _:
                assert isinstance(output, follower.Idle)
                assert output == follower.Idle()
                assert self.machine.head == self.model.head.ref

    @rule(back=st.integers(1, 10))
    def an_older_head_changes_nothing(self, back: int) -> None:
        remote = self.model.canonical[max(0, len(self.model.canonical) - 1 - back)]
        before = repr(self.machine), self.machine.window
        if remote.number < self.machine.head.number:
            assert isinstance(self.machine.seen(remote), follower.Behind)
            assert (repr(self.machine), self.machine.window) == before

    @rule()
    def a_walk_into_forgotten_blocks_changes_nothing(self) -> None:
        before = self.machine.window
        output = self.model.drive(self.machine, self.model.head, forgotten=True)
        assert not isinstance(output, follower.Violation)
        assert self.machine.window == before

    @rule(output_lost=st.booleans())
    def tell_finality(self, output_lost: bool) -> None:
        remote = self.model.canonical[self.model.final]
        output = self.machine.finality(remote, best=self.model.head)
        assert not isinstance(output, follower.Violation | follower.Refused)
        if isinstance(output, follower.Finalized) and not output_lost:
            self.machine.applied(output)
            self.highest_final = output.ref

    @precondition(lambda self: self.machine.anchor.number > 0)
    @rule(data=st.data())
    def a_fork_below_finality_is_a_violation(self, data: st.DataObject) -> None:
        final = self.machine.anchor.number
        rogue = Model()
        rogue.canonical = self.model.canonical[: data.draw(st.integers(1, final))]
        rogue.salt = 1 << 40
        rogue.grow(self.machine.head.number - rogue.head.number + data.draw(st.integers(0, 5)))
        before = self.machine.window
        output = rogue.drive(self.machine, rogue.head)
        assert isinstance(output, follower.Violation)
        assert output.final == self.machine.anchor
        assert output.remote.number <= final + 1
        assert self.machine.window == before

    @rule()
    def restart(self) -> None:
        """What the book holds is enough to go on."""
        self.machine = follower.Follower(self.machine.anchor, self.machine.window)

    @invariant()
    def the_window_is_linked(self) -> None:
        below = self.machine.anchor
        for header in self.machine.window:
            assert (header.number, header.parent) == (below.number + 1, below.hash)
            below = header.ref

    @invariant()
    def what_is_final_stays(self) -> None:
        assert self.machine.anchor == self.highest_final
        assert self.machine.anchor == self.model.canonical[self.machine.anchor.number].ref

    def teardown(self) -> None:
        if self.model.head.number < self.machine.head.number:
            self.model.grow(self.machine.head.number - self.model.head.number)
        settle(self.model, self.machine)
        assert self.machine.head == self.model.head.ref


TestFollowing = Following.TestCase


def grown(count: int) -> tuple[Model, follower.Follower]:
    model = Model()
    model.grow(count)
    machine = follower.Follower(GENESIS.ref)
    settle(model, machine)
    return model, machine


def test_a_same_height_replacement_reverts_one_block_and_commits_one() -> None:
    model, machine = grown(5)
    old = model.head
    model.fork(1, 1)
    output = model.drive(machine, model.head)
    assert output == follower.Reverted((old,), model.canonical[4].ref)
    machine.applied(output)
    assert model.drive(machine, model.head) == follower.Committed((model.head,))


def test_the_next_block_needs_no_question() -> None:
    model, machine = grown(5)
    model.grow(1)
    assert machine.seen(model.head) == follower.Committed((model.head,))


def test_a_gap_is_walked_down_by_hash() -> None:
    model, machine = grown(2)
    model.grow(3)
    assert machine.seen(model.head) == follower.Need(4, model.canonical[4].hash)


def test_a_second_head_during_a_walk_starts_anew() -> None:
    model, machine = grown(6)
    model.fork(4, 4)
    output = machine.seen(model.head)
    assert isinstance(output, follower.Need)
    stale = model.known[output.hash]
    model.fork(2, 3)
    machine.seen(model.head)
    assert machine.parent(stale) in (follower.Idle(), machine.parent(stale))
    settle(model, machine)
    assert machine.head == model.head.ref


def test_another_header_than_the_needed_one_ends_the_walk() -> None:
    model, machine = grown(6)
    model.fork(4, 5)
    assert isinstance(machine.seen(model.head), follower.Need)
    assert machine.parent(GENESIS) == follower.Idle()
    assert machine.missing() == follower.Idle()


def test_a_finalized_block_above_the_head_is_refused() -> None:
    model, machine = grown(6)
    assert isinstance(machine.finality(model.canonical[5], best=model.canonical[4]), follower.Refused)


def test_finality_of_a_block_we_lack_is_deferred() -> None:
    model, machine = grown(3)
    model.grow(5)
    assert machine.finality(model.canonical[7], best=model.head) == follower.Idle()


def test_finality_on_another_fork_waits_for_the_fork_to_be_followed() -> None:
    model, machine = grown(6)
    model.fork(3, 4)
    assert machine.finality(model.canonical[5], best=model.head) == follower.Idle()
    settle(model, machine)
    assert machine.finality(model.canonical[5], best=model.head) == follower.Finalized(model.canonical[5].ref)


def test_another_block_at_the_finalized_height_is_a_violation() -> None:
    model, machine = grown(6)
    machine.applied(follower.Finalized(model.canonical[4].ref))
    rogue = child(model.canonical[3], 1 << 50)
    assert machine.finality(rogue, best=model.head) == follower.Violation(model.canonical[4].ref, rogue.ref)


def test_under_the_depth_rule_the_block_so_far_below_is_final() -> None:
    model, _ = grown(6)
    machine = follower.Follower(GENESIS.ref, model.canonical[1:], depth=2)
    assert machine.finality(None, best=model.head) == follower.Finalized(model.canonical[4].ref)


def test_headers_that_do_not_link_are_never_accepted() -> None:
    model, machine = grown(3)
    with pytest.raises(AssertionError):
        machine.applied(follower.Committed((child(GENESIS, 99),)))
    assert machine.head == model.head.ref


def test_a_fork_deeper_than_one_walk_allows_above_our_head_is_left_to_the_caller() -> None:
    model, machine = grown(1)
    model.grow(follower.MAX_GAP + 50)
    assert model.drive(machine, model.head) == follower.Idle()
    assert isinstance(model.drive(machine, model.canonical[200]), follower.Committed)


def test_a_long_window_can_be_replaced_whole() -> None:
    rng = random.Random(1)
    model, machine = grown(800)
    model.fork(799, 799 + rng.randrange(5))
    output = model.drive(machine, model.head)
    assert isinstance(output, follower.Reverted)
    assert len(output.headers) == 799
