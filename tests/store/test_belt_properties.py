"""No interleaving of reserving, freezing, signing, moving and crashing gives a nonce twice, goes back to an older lease token, or changes
a byte that was kept; and no crowd gets past a budget."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable

import msgspec
import pytest
from coincurve import PrivateKey
from hypothesis import HealthCheck, Phase, settings, stateful
from hypothesis import strategies as st

from domain import errors, intent, signatures, transaction
from store import attempts, inclusions, intents, reservations, slots
from store.book import Book
from store.connection import Connection
from tests.store import belt, factory

WAIT_S = 60
_serial = itertools.count(1)


PLACES = st.integers(0, 5)
DRIFTS = st.sampled_from([0, 0, 0, 1, -1])
CRASHES = st.sampled_from([False, False, False, True])


class Crash(Exception):
    """The process ends before the commit."""


class Machine(stateful.RuleBasedStateMachine):
    """Each example is another account in the same book; the model knows what was committed."""

    runner: asyncio.Runner
    book: Book

    def __init__(self) -> None:
        super().__init__()
        self.serial = next(_serial)
        self.key = PrivateKey(self.serial.to_bytes(32, "big"))
        self.account = signatures.address_of(self.key.public_key.format(compressed=False))
        self.keys: list[intent.Intent] = []
        self.nonces: dict[bytes, int] = {}
        self.kept: dict[tuple[bytes, int], bytes] = {}
        self.states: dict[bytes, intent.State] = {}
        self.fence = 0
        self.height = self.serial * 1000

    def do(self, work: Callable[[Connection], Awaitable[None]], *, crash: bool = False) -> str:
        """'' when it was committed, else what it was refused with."""

        async def run() -> str:
            try:
                async with self.book.write() as c:
                    await work(c)
                    if crash:
                        raise Crash
            except Crash:
                return "crash"
            except errors.StoreError as error:
                return str(error)
            return ""

        return self.runner.run(run())

    def pick(self, place: int, *states: intent.State) -> intent.Intent:
        """Mostly one that the step is for; `place` 0 takes any, since the wrong ones have to be refused."""
        meant = [one for one in self.keys if self.states[one.id] in states]
        return (meant or self.keys)[place % len(meant or self.keys)] if place else self.keys[-1]

    def token(self, drift: int) -> int:
        return max(0, self.fence + drift)

    @stateful.initialize()
    def begin(self) -> None:
        for _ in range(3):
            self.propose()

    @stateful.precondition(lambda self: len(self.keys) < 6)
    @stateful.rule()
    def propose(self) -> None:
        wanted = belt.wanted(f"{self.serial}/{len(self.keys)}", account=self.account)

        async def work(c: Connection) -> None:
            await belt.propose(c, wanted)

        assert self.do(work) == ""
        self.keys.append(wanted)
        self.states[wanted.id] = "new"

    @stateful.rule(place=PLACES, drift=DRIFTS, floor=st.integers(0, 3), crash=CRASHES)
    def reserve(self, place: int, drift: int, floor: int, crash: bool) -> None:
        wanted, fence = self.pick(place, "new", "planned"), self.token(drift)
        found: list[int] = []

        async def work(c: Connection) -> None:
            stored = await intents.get(c, wanted.id)
            assert stored is not None
            found.append((await belt.reserve(c, stored, fence=fence, floor=floor)).nonce)
            if stored.state == "new":
                await intents.move(c, wanted.id, expect="new", to="planned", why="", at_s=1)
            await intents.move(c, wanted.id, expect="planned", to="reserved", why="", at_s=1)

        said = self.do(work, crash=crash)
        may = wanted.id not in self.nonces and fence >= self.fence and self.states[wanted.id] in ("new", "planned")
        assert (said in ("", "crash")) == may, said
        if said == "":
            assert found == [max([floor, *(nonce + 1 for nonce in self.nonces.values())])]
            self.nonces[wanted.id], self.fence, self.states[wanted.id] = found[0], max(fence, self.fence), "reserved"

    @stateful.rule(place=PLACES, kind=st.sampled_from(["bump", "cancel"]), drift=DRIFTS)
    def freeze(self, place: int, kind: intent.AttemptKind, drift: int) -> None:
        wanted, fence = self.pick(place, "reserved", "signed", "pending"), self.token(drift)

        async def work(c: Connection) -> None:
            earlier = await attempts.of_intent(c, wanted.id)
            tx = belt.unsigned(self.nonces.get(wanted.id, 0), tip=10**9 + len(earlier), max_fee=10**10)
            if kind == "cancel":
                tx = msgspec.structs.replace(tx, to=self.account, data=b"")
            await attempts.freeze(c, attempts.Attempt(wanted.id, len(earlier), kind, tx, "[]", fence, 1))

        said = self.do(work)
        assert (said == "") == (wanted.id in self.nonces and fence >= self.fence), said

    @stateful.rule(place=PLACES, number=st.integers(0, 1), drift=DRIFTS, crash=CRASHES)
    def sign(self, place: int, number: int, drift: int, crash: bool) -> None:
        wanted, fence = self.pick(place, "reserved", "signed", "pending"), self.token(drift)

        async def work(c: Connection) -> None:
            frozen = await attempts.of_intent(c, wanted.id)
            if number >= len(frozen):
                raise errors.StoreError("nothing is frozen")
            made = belt.sign(frozen[number].unsigned, self.key)
            await attempts.save_signed(c, wanted.id, number, hash=made.hash, raw=made.raw, fence=fence, at_s=1)
            if self.states[wanted.id] == "reserved":
                await intents.move(c, wanted.id, expect="reserved", to="signed", why="", at_s=1)

        said = self.do(work, crash=crash)
        if said == "" and (wanted.id, number) not in self.kept:
            assert fence >= self.fence
            self.fence = fence
            self.states[wanted.id] = "signed" if self.states[wanted.id] == "reserved" else self.states[wanted.id]
            self.kept[wanted.id, number] = self.raw_of(wanted.id, number)

    @stateful.rule(place=PLACES, to=st.sampled_from(sorted(set(intent.STATES) - {"new", "reserved", "signed"})))
    def move(self, place: int, to: intent.State) -> None:
        """To reserved and signed an intent comes with its rows, above."""
        before = [state for state in intent.STATES if intent.may_move(state, to) and state not in intent.UNSENT]
        wanted = self.pick(place, *before)
        expect = self.states[wanted.id]

        async def work(c: Connection) -> None:
            if to == "included" and intent.may_move(expect, to):
                self.height += 1
                kept = await attempts.signed_of(c, wanted.id)
                if kept:
                    await belt.include(c, wanted.id, number=kept[-1].number, height=self.height)
            standing = await inclusions.standing(c, wanted.id)
            if expect == "included" and standing is not None:
                if to in ("pending", "superseded"):
                    await inclusions.orphan(c, standing.id, 1)
                elif to in intent.FINAL:
                    await inclusions.finalize(c, standing.id, 1)
            await intents.move(c, wanted.id, expect=expect, to=to, why="", at_s=1)

        if self.do(work) == "":
            assert intent.may_move(expect, to)
            self.states[wanted.id] = to

    def raw_of(self, id: bytes, number: int) -> bytes:
        async def read() -> bytes:
            async with self.book.read() as c:
                return {one.number: one.raw for one in await attempts.signed_of(c, id)}[number]

        return self.runner.run(read())

    def teardown(self) -> None:
        self.runner.run(self.check())

    async def check(self) -> None:
        async with self.book.read() as c:
            assert await intents.audit(c) == []
            assert await slots.highest_fence(c, belt.CHAIN, self.account) == self.fence
            held = {one.id: await slots.of_intent(c, one.id) for one in self.keys}
            assert {id: slot.nonce for id, slot in held.items() if slot is not None} == self.nonces
            assert len(set(self.nonces.values())) == len(self.nonces)
            for wanted in self.keys:
                stored = await intents.get(c, wanted.id)
                assert stored is not None
                assert stored.state == self.states[wanted.id]
                for one in await attempts.signed_of(c, wanted.id):
                    assert one.raw == self.kept[wanted.id, one.number]
                    assert transaction.parse(one.raw).unsigned.nonce == self.nonces[wanted.id]


@pytest.mark.slow
def test_no_interleaving_gives_a_nonce_twice_or_goes_back(url: str) -> None:
    with asyncio.Runner() as runner:
        Machine.runner = runner
        Machine.book = runner.run(factory.open_book(url))
        try:
            stateful.run_state_machine_as_test(
                Machine,
                settings=settings(
                    max_examples=10,
                    stateful_step_count=25,
                    deadline=None,
                    suppress_health_check=list(HealthCheck),
                    database=None,
                    phases=(Phase.generate,),  # each example is another account: what is repeated is not the same
                ),
            )
        finally:
            runner.run(Machine.book.close())


@pytest.mark.slow
async def test_a_crowd_of_fifty_gets_exactly_what_the_budget_allows(book: Book) -> None:
    """The pattern of whoever reserves: read what is spent and write the reservation in one transaction."""
    one, cap, allowed = 10**18, 10, 10

    async def want(number: int) -> bool:
        async with book.write() as c:
            of = await belt.propose(c, belt.wanted(str(number), amount=one))
            spent = await reservations.spent(c, account=belt.ACCOUNT, since_s=0)
            await asyncio.sleep(0)
            await intents.move(c, of.id, expect="new", to="planned", why="", at_s=1)
            if spent.amount + one > cap * one:
                await intents.move(c, of.id, expect="planned", to="rejected", why="over the budget", at_s=1)
                return False
            await belt.reserve(c, of)
            await intents.move(c, of.id, expect="planned", to="reserved", why="", at_s=1)
            return True

    async with asyncio.timeout(WAIT_S):
        granted = await asyncio.gather(*(want(number) for number in range(50)))
    assert sum(granted) == allowed
    async with book.read() as c:
        assert (await reservations.spent(c, account=belt.ACCOUNT, since_s=0)).amount == allowed * one
        assert await reservations.in_flight(c, belt.CHAIN, belt.ACCOUNT) == allowed
        assert [slot.nonce for slot in await slots.open(c, belt.CHAIN, belt.ACCOUNT)] == list(range(allowed))
        assert await intents.audit(c) == []
