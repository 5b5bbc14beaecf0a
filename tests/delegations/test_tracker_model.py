"""No interleaving of crashes, reorgs, bumps, cancels, strangers, silent and lying nodes reuses a nonce or reports a wrong outcome."""

from __future__ import annotations

from typing import cast

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from agent.delegations import sight
from domain import intent as intents
from tests.delegations import model

ENDS = st.lists(st.sampled_from(["ok", "ok", "ok", "reverted", "no_effect"]), max_size=3)
END = st.sampled_from(["ok", "reverted", "no_effect"])
MUTE = st.sets(st.integers(0, 3), max_size=2)


class Belt(RuleBasedStateMachine):
    """One account, up to four intents, a chain that misbehaves within its finality."""

    def __init__(self) -> None:
        super().__init__()
        self.chain = model.Chain()
        self.agent = model.Agent(self.chain)
        self.strangers: set[bytes] = set()

    def pick(self, which: int) -> model.Row | None:
        return self.agent.rows[which % len(self.agent.rows)] if self.agent.rows else None

    # --- the agent ---

    @precondition(lambda self: len(cast("Belt", self).agent.rows) < 4)
    @rule()
    def propose(self) -> None:
        self.agent.propose()

    @rule(which=st.integers(0, 3))
    def sign(self, which: int) -> None:
        if (row := self.pick(which)) is not None:
            self.agent.sign(row)

    @rule(which=st.integers(0, 3), delivered=st.booleans(), marked=st.booleans())
    def send(self, which: int, delivered: bool, marked: bool) -> None:
        if (row := self.pick(which)) is not None:
            self.agent.send(row, delivered=delivered, marked=marked)

    @rule(silent=st.booleans(), mute=MUTE)
    def look(self, silent: bool, mute: set[int]) -> None:
        self.agent.look(silent=silent, mute=mute)

    @rule(which=st.integers(0, 3), blind=st.booleans())
    def confirm(self, which: int, blind: bool) -> None:
        if (row := self.pick(which)) is not None:
            self.agent.confirm(row, blind=blind)

    @rule(which=st.integers(0, 3))
    def work_through(self, which: int) -> None:
        if (row := self.pick(which)) is not None:
            self.agent.sign(row)
            self.agent.send(row, delivered=True, marked=True)

    @rule()
    def follow(self) -> None:
        self.agent.look(silent=False, mute=set())
        for row in self.agent.rows:
            self.agent.confirm(row, blind=False)

    @rule(end=END)
    def include(self, end: model.End) -> None:
        """The short way into a block, since chance alone seldom finds it."""
        if not self.agent.rows:
            self.agent.propose()
        for row in self.agent.rows:
            self.agent.sign(row)
            self.agent.send(row, delivered=True, marked=True)
        self.chain.mine([end])
        self.follow()

    @rule(which=st.integers(0, 3))
    def contradict(self, which: int) -> None:
        """A node that shows every signed attempt of a nonce as mined where one is."""
        row = self.pick(which)
        if row is None or row.state in intents.FINAL:
            return
        self.agent.look(silent=False, mute=set())
        assert self.agent.looked is not None
        receipts = self.agent.looked.receipts
        hashes = [attempt.hash for attempt in row.attempts if attempt.hash is not None]
        shown = [receipt for hash_ in hashes if (receipt := receipts[hash_]) is not None]
        receipts.update(dict.fromkeys(hashes, shown[0]) if shown else {})
        self.agent.confirm(row, blind=False)
        self.agent.looked = None

    @rule(which=st.integers(0, 3), back=st.integers(0, 2), end=END, stubborn=st.booleans(), again=st.booleans())
    def make_up(self, which: int, back: int, end: model.End, stubborn: bool, again: bool) -> None:
        """A node that shows the newest attempt as mined in a block that does not hold it; `stubborn`: until the block is final in the book,
        `again`: and once more after it was taken back."""
        row = self.pick(which)
        if row is None or row.state in intents.FINAL:
            return
        hashes = [attempt.hash for attempt in row.attempts if attempt.hash is not None]
        if not hashes or self.chain.receipt(hashes[-1]) is not None:
            return
        block = self.chain.blocks[max(0, self.chain.head - back)]
        status, effect = int(end != "reverted"), 99 if end == "ok" else None
        made_up = sight.Receipt(block.number, block.hash, 0, status, 21_000, 1, effect)
        self.show(row, hashes[-1], made_up)
        if stubborn:
            self.chain.finalize(0)
            self.agent.index()
            for _ in range(2):
                self.show(row, hashes[-1], made_up)
        if again:
            self.follow()
            self.show(row, hashes[-1], made_up)

    def show(self, row: model.Row, hash_: bytes, receipt: sight.Receipt) -> None:
        self.agent.look(silent=False, mute=set())
        assert self.agent.looked is not None
        self.agent.looked.receipts[hash_] = receipt
        self.agent.confirm(row, blind=False)
        self.agent.looked = None

    @rule(depth=st.integers(1, 3), grown=st.integers(0, 4), kept=st.booleans())
    def throw_back(self, depth: int, grown: int, kept: bool) -> None:
        self.chain.reorg(depth, grown=grown, kept=kept)
        self.follow()

    @rule(seconds=st.sampled_from([31, 61]))
    def linger(self, seconds: int) -> None:
        self.agent.now_s += seconds
        self.follow()

    @rule()
    def crash(self) -> None:
        self.agent.crash()

    @rule()
    def index(self) -> None:
        self.agent.index()

    @rule(seconds=st.sampled_from([1, 31, 61]))
    def wait(self, seconds: int) -> None:
        self.agent.now_s += seconds

    # --- people ---

    @rule(which=st.integers(0, 3))
    def cancel(self, which: int) -> None:
        if (row := self.pick(which)) is not None and row.state not in intents.FINAL:
            row.cancel = "changed my mind"

    @rule()
    def accept(self) -> None:
        self.agent.accept()

    # --- the chain ---

    @rule(ends=ENDS)
    def mine(self, ends: list[model.End]) -> None:
        self.chain.mine(ends)

    @rule(depth=st.integers(1, 4), grown=st.integers(0, 5), kept=st.booleans())
    def reorg(self, depth: int, grown: int, kept: bool) -> None:
        self.chain.reorg(depth, grown=grown, kept=kept)

    @rule(behind=st.integers(0, 3))
    def finalize(self, behind: int) -> None:
        self.chain.finalize(behind)

    @rule()
    def forget(self) -> None:
        self.chain.drop()

    @precondition(lambda self: len(cast("Belt", self).strangers) < 2)
    @rule()
    def stranger(self) -> None:
        self.strangers.add(self.chain.foreign().hash)

    # --- what must hold ---

    @invariant()
    def a_nonce_is_one_intents_alone(self) -> None:
        taken = [row.nonce for row in self.agent.rows]
        assert len(taken) == len(set(taken))

    @invariant()
    def every_outcome_is_what_is_final_on_the_chain(self) -> None:
        for row in self.agent.rows:
            if row.state in intents.FINAL:
                assert self.outcome(row) == row.state

    @invariant()
    def what_is_final_never_moves_again(self) -> None:
        for row in self.agent.rows:
            assert not [state for state in row.history[:-1] if state in intents.FINAL]

    @invariant()
    def attempts_of_an_intent_outbid_each_other(self) -> None:
        for row in self.agent.rows:
            offered = [(attempt.tip, attempt.max_fee) for attempt in row.attempts]
            assert offered == sorted(set(offered))

    def outcome(self, row: model.Row) -> str:
        """What the chain itself says became of the intent's nonce."""
        mined = self.chain.settled(row.nonce)
        if mined is None:
            return "nothing is final"
        kinds = {attempt.hash: attempt.kind for attempt in row.attempts if attempt.hash is not None}
        kind = kinds.get(mined.tx.hash)
        if kind is None:
            return "superseded"
        if kind == "cancel":
            return "cancelled"
        if mined.status == 0:
            return "final_reverted"
        return "final_no_effect" if mined.effect is None else "final_ok"

    def teardown(self) -> None:
        """From whatever state: once the chain behaves and a person answers latches, every intent ends, explained."""
        for _ in range(40):
            if all(row.state in intents.FINAL for row in self.agent.rows):
                break
            self.agent.accept()
            for row in self.agent.rows:
                self.agent.sign(row)
                self.agent.send(row, delivered=True, marked=True)
            self.chain.mine(["ok", "ok", "ok"])
            self.fill_gap()
            self.chain.finalize(1)
            self.agent.index()
            self.agent.look(silent=False, mute=set())
            for row in self.agent.rows:
                self.agent.confirm(row, blind=False)
            self.agent.now_s += 61
        for row in self.agent.rows:
            assert row.state in intents.FINAL, (row, self.chain.pool, self.chain.blocks)
            assert self.outcome(row) == row.state

    def fill_gap(self) -> None:
        """A nonce that a reorg took from a stranger and that is nobody's: a person sends something on it, as the latch asks."""
        free = self.chain.count(self.chain.head)
        ours = [row.nonce for row in self.agent.rows if row.state not in intents.FINAL]
        if ours and free not in ours and free < max(ours) and free not in self.chain.pool:
            self.chain.foreign()


Belt.TestCase.settings = settings(
    max_examples=120, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestBelt = Belt.TestCase
