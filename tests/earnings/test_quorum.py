"""The vote machine alone: what a slot counts for depends on the set of messages, never on their order."""

from __future__ import annotations

import itertools
import random

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from domain import deployment, hashing
from earnings import quorum

CONFIG = hashing.keccak256(b"config")
SIGNERS = [bytes([n]) * 20 for n in range(7)]


def digest(name: object) -> bytes:
    return hashing.keccak256(str(name).encode())


def ballot(old: object, new: object, number: int) -> quorum.Ballot:
    return quorum.Ballot(digest(old), digest(new), number, digest(("ballot", old, new, number)))


class Vote(msgspec.Struct, frozen=True):
    signer: bytes
    digest: bytes


class Withdrawal(msgspec.Struct, frozen=True):
    signer: bytes
    ballot: quorum.Ballot


Message = Vote | Withdrawal


class Hub:
    """The least hub: keeps what the machine says, seals at k."""

    def __init__(self, signers: list[bytes]) -> None:
        self.signers = signers
        self.k = deployment.quorum(len(signers))
        self.faulty = (len(signers) - 1) // 3
        self.frame = quorum.Frame()
        self.seals: list[bytes] = []

    def take(self, message: Message) -> object:
        match message:
            case Vote(signer, value):
                outcome = quorum.attest(self.frame, signer, value)
                configs = {value: CONFIG}
            case Withdrawal(signer, found):
                outcome = quorum.replace(self.frame, signer, found)
                configs = {}
        if isinstance(outcome, quorum.Taken):
            self.frame = self.frame.put(signer, outcome.slot, configs)
        return outcome

    @property
    def quarantined(self) -> set[bytes]:
        return {signer for signer, slot in self.frame.slots.items() if slot.conflict() is not None}

    def standing(self) -> quorum.Standing:
        return quorum.stand(
            self.frame, config=CONFIG, signers=self.signers, k=self.k, faulty=self.faulty, quarantined=self.quarantined
        )

    def seal(self) -> None:
        standing = self.standing()
        if standing.state == "quorum" and standing.leading is not None:
            self.seals.append(standing.leading)
            self.frame = quorum.Frame(self.frame.slots, standing.leading, self.frame.configs)

    def restart(self) -> None:
        """Through bytes, as rows would."""
        slots = {s: msgspec.convert(msgspec.to_builtins(slot), quorum.Slot) for s, slot in self.frame.slots.items()}
        self.frame = quorum.Frame(slots, self.frame.sealed, dict(self.frame.configs))


def test_a_vote_counts_once_however_often_it_comes() -> None:
    hub = Hub(SIGNERS[:4])
    for _ in range(3):
        hub.take(Vote(SIGNERS[0], digest("a")))
    assert hub.standing().supporters == (SIGNERS[0],)


def test_the_highest_ballot_wins_in_every_order_of_arrival() -> None:
    messages: list[Message] = [
        Vote(SIGNERS[0], digest("a")),
        Vote(SIGNERS[0], digest("b")),
        Vote(SIGNERS[0], digest("c")),
        Withdrawal(SIGNERS[0], ballot("a", "b", 1)),
        Withdrawal(SIGNERS[0], ballot("b", "c", 2)),
    ]
    for order in itertools.permutations(messages):
        hub = Hub(SIGNERS[:4])
        for message in [*order, *order]:  # what was refused is sent again, as agents do
            hub.take(message)
        assert hub.frame.slots[SIGNERS[0]].standing() == digest("c")
        assert not hub.quarantined


def test_a_withdrawn_digest_never_counts_again() -> None:
    hub = Hub(SIGNERS[:4])
    for message in (
        Vote(SIGNERS[0], digest("a")),
        Withdrawal(SIGNERS[0], ballot("a", "b", 1)),
        Withdrawal(SIGNERS[0], ballot("b", "a", 2)),
        Vote(SIGNERS[0], digest("b")),
    ):
        hub.take(message)
    assert hub.standing().leading is None


def test_two_digests_not_linked_by_a_replace_count_for_nothing() -> None:
    hub = Hub(SIGNERS[:4])
    hub.take(Vote(SIGNERS[0], digest("a")))
    outcome = hub.take(Vote(SIGNERS[0], digest("b")))
    assert isinstance(outcome, quorum.Taken)
    assert outcome.conflict == (digest("a"), digest("b"))
    assert hub.standing().leading is None


def test_two_replaces_with_one_ballot_are_equivocation() -> None:
    hub = Hub(SIGNERS[:4])
    hub.take(Vote(SIGNERS[0], digest("a")))
    hub.take(Withdrawal(SIGNERS[0], ballot("a", "b", 1)))
    outcome = hub.take(Withdrawal(SIGNERS[0], ballot("a", "c", 1)))
    assert isinstance(outcome, quorum.Taken)
    assert outcome.conflict is not None


def test_a_sealed_vote_cannot_be_withdrawn() -> None:
    hub = Hub(SIGNERS[:4])
    for signer in SIGNERS[:3]:
        hub.take(Vote(signer, digest("a")))
    hub.seal()
    assert hub.take(Withdrawal(SIGNERS[0], ballot("a", "b", 1))) == quorum.Frozen(digest("a"))


def test_an_equal_vote_after_sealing_joins_and_a_replaced_one_too() -> None:
    hub = Hub(SIGNERS[:4])
    hub.take(Vote(SIGNERS[3], digest("wrong")))
    for signer in SIGNERS[:3]:
        hub.take(Vote(signer, digest("a")))
    hub.seal()
    hub.take(Withdrawal(SIGNERS[3], ballot("wrong", "a", 1)))
    outcome = hub.take(Vote(SIGNERS[3], digest("a")))
    assert isinstance(outcome, quorum.Taken)
    assert outcome.joins


def test_a_second_digest_after_sealing_is_equivocation() -> None:
    hub = Hub(SIGNERS[:4])
    for signer in SIGNERS[:3]:
        hub.take(Vote(signer, digest("a")))
    hub.seal()
    outcome = hub.take(Vote(SIGNERS[0], digest("b")))
    assert isinstance(outcome, quorum.Taken)
    assert outcome.conflict == (digest("a"), digest("b"))
    assert not outcome.joins


def test_a_slot_keeps_two_unexplained_digests_of_ten_thousand() -> None:
    hub = Hub(SIGNERS[:4])
    for n in range(10_000):
        hub.take(Vote(SIGNERS[0], digest(n)))
    assert hub.frame.slots[SIGNERS[0]].attested == (digest(0), digest(1))


def test_a_digest_under_another_config_counts_for_nothing() -> None:
    frame = quorum.Frame(
        {s: quorum.Slot((digest("a"),)) for s in SIGNERS[:4]}, None, {digest("a"): digest("other epoch")}
    )
    standing = quorum.stand(frame, config=CONFIG, signers=SIGNERS[:4], k=3, faulty=1, quarantined=())
    assert (standing.state, standing.diverged) == ("collecting", False)


def test_a_quarantined_signers_vote_does_not_count_towards_k() -> None:
    frame = quorum.Frame({signer: quorum.Slot((digest("a"),)) for signer in SIGNERS[:3]}, None, {digest("a"): CONFIG})

    def standing(*quarantined: bytes) -> quorum.Standing:
        return quorum.stand(frame, config=CONFIG, signers=SIGNERS[:4], k=3, faulty=1, quarantined=quarantined)

    assert standing().state == "quorum"
    assert (standing(SIGNERS[0]).state, standing(SIGNERS[0]).supporters) == ("validated", tuple(SIGNERS[1:3]))


@st.composite
def plays(draw: st.DrawFn) -> tuple[int, list[Message], int]:
    """A set of messages: honest signers sign one digest, some after a replaced mistake; at most f sign anything."""
    count = draw(st.sampled_from([1, 4, 7]))
    faulty = (count - 1) // 3
    messages: list[Message] = []
    for index in range(count - faulty):
        mistakes = draw(st.integers(0, 2)) if count > 1 else 0  # a quorum of one seals its mistake at once
        path = [f"mistake {index} {n}" for n in range(mistakes)] + ["truth"]
        for number, (old, new) in enumerate(itertools.pairwise(path), start=1):
            messages += [Vote(SIGNERS[index], digest(old)), Withdrawal(SIGNERS[index], ballot(old, new, number))]
        messages.append(Vote(SIGNERS[index], digest("truth")))
    names = st.sampled_from(["truth", "lie", "other", "mistake 0 0"])
    for index in range(count - faulty, count):
        for _ in range(draw(st.integers(0, 5))):
            if draw(st.booleans()):
                messages.append(Vote(SIGNERS[index], digest(draw(names))))
            else:
                old, new = draw(st.permutations(["truth", "lie", "other"]))[:2]
                messages.append(Withdrawal(SIGNERS[index], ballot(old, new, draw(st.integers(1, 3)))))
    return count, messages, draw(st.integers(0, 2**32))


def _play(count: int, messages: list[Message], rng: random.Random) -> Hub:
    """Deliver in a random order, again what was refused, with duplicates, restarts and attempts to seal in between."""
    hub = Hub(SIGNERS[:count])
    pending = messages[:]
    for _ in range(12):
        rng.shuffle(pending)
        left: list[Message] = []
        for message in pending:
            if isinstance(hub.take(message), quorum.Dropped):
                left.append(message)
            if rng.random() < 0.2:
                hub.take(rng.choice(messages))
            if rng.random() < 0.2:
                hub.restart()
            if rng.random() < 0.5:
                hub.seal()
        pending = left
    hub.seal()
    return hub


@settings(max_examples=300, deadline=None)
@given(plays())
def test_the_sealed_digest_does_not_depend_on_the_order_of_arrival(play: tuple[int, list[Message], int]) -> None:
    count, messages, seed = play
    rng = random.Random(seed)
    seals = {tuple(_play(count, messages, rng).seals) for _ in range(5)}
    assert seals == {(digest("truth"),)}


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.sampled_from("abc"), st.sampled_from("abc"), st.integers(0, 3)), max_size=40
    ),
    st.integers(0, 2**32),
)
def test_no_frame_is_ever_sealed_twice_whatever_all_signers_do(
    moves: list[tuple[int, str, str, int]], seed: int
) -> None:
    messages: list[Message] = [
        Withdrawal(SIGNERS[who], ballot(old, new, number)) if number and old != new else Vote(SIGNERS[who], digest(old))
        for who, old, new, number in moves
    ]
    hub = _play(4, messages, random.Random(seed)) if messages else Hub(SIGNERS[:4])
    assert len(hub.seals) <= 1
    for slot in hub.frame.slots.values():
        assert len(slot.attested) <= 2 + quorum.MAX_BALLOTS
        assert len(slot.ballots) <= quorum.MAX_BALLOTS
