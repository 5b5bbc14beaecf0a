"""Votes of one frame: a pure state machine. In: digests and ballots a signer signed. Out: the new slot and what it means.

One slot per (signer, stream, sequence, revision). What a slot counts for is a function of the *set* of messages in it, never of their
order, so hubs that saw them in another order, or restarted between them, agree.

    attested   digests the signer signed
    ballots    its Replaces: `withdrawn` never counts again, the highest ballot names what counts
    conflict   two digests not linked by a Replace, or two Replaces with one ballot: equivocation, while it is unexplained

Once a frame is sealed, what arrives beside a vote for it is a conflict too, and no Replace excuses that beforehand (`_against_seal`).

A message that would let a slot grow without bound is counted and dropped: a signer owns at most two unexplained digests.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

import msgspec

MAX_BALLOTS = 8
"""Honest agents replace a vote once, perhaps twice; eight leaves room for an operator's bad day."""


class Ballot(msgspec.Struct, frozen=True):
    """A signed Replace. `id` is its own digest."""

    withdrawn: bytes
    replacement: bytes
    ballot: int
    id: bytes


class Slot(msgspec.Struct, frozen=True):
    attested: tuple[bytes, ...] = ()
    ballots: tuple[Ballot, ...] = ()

    @property
    def withdrawn(self) -> frozenset[bytes]:
        return frozenset(ballot.withdrawn for ballot in self.ballots)

    @property
    def highest(self) -> Ballot | None:
        return max(self.ballots, key=lambda ballot: ballot.ballot, default=None)

    def conflict(self) -> tuple[bytes, bytes] | None:
        """Two signed things that exclude each other, in arrival order: digests, or ids of Replaces. None: nothing to explain."""
        by_number: dict[int, Ballot] = {}
        for ballot in self.ballots:
            first = by_number.setdefault(ballot.ballot, ballot)
            if first is not ballot:
                return first.id, ballot.id
        live = [digest for digest in self.attested if digest not in self.withdrawn]
        if self.highest is None:
            return (live[0], live[1]) if len(live) > 1 else None
        strays = [digest for digest in live if digest != self.highest.replacement]
        return (strays[0], self.highest.replacement) if strays else None

    def standing(self) -> bytes | None:
        """The digest that this slot counts for."""
        if self.conflict() is not None:
            return None
        live = [digest for digest in self.attested if digest not in self.withdrawn]
        return live[0] if live else None


class Frame(msgspec.Struct, frozen=True):
    """Everything signed about one (stream, sequence, revision). `sealed` is the digest sealed for it; `configs` has the configDigest
    that each attested digest was signed under: after a signer change at an unsealed frame there are two."""

    slots: Mapping[bytes, Slot] = {}
    sealed: bytes | None = None
    configs: Mapping[bytes, bytes] = {}

    def slot(self, signer: bytes) -> Slot:
        return self.slots.get(signer, Slot())

    def put(self, signer: bytes, slot: Slot, configs: Mapping[bytes, bytes]) -> Frame:
        return Frame({**self.slots, signer: slot}, self.sealed, {**self.configs, **configs})


class Known(msgspec.Struct, frozen=True):
    """The slot already holds exactly this. `conflict` while it is unexplained."""

    conflict: tuple[bytes, bytes] | None


class Taken(msgspec.Struct, frozen=True):
    """Store the message and this slot. `conflict`: as evidence, not as a vote. `joins`: the certificate of the sealed digest gains it."""

    slot: Slot
    conflict: tuple[bytes, bytes] | None
    joins: bool


class Dropped(msgspec.Struct, frozen=True):
    """One message too many: count it, keep nothing. `has` is what the slot holds."""

    has: bytes
    conflict: tuple[bytes, bytes] | None


class Frozen(msgspec.Struct, frozen=True):
    """The vote is part of a sealed certificate and cannot be withdrawn."""

    sealed: bytes


def attest(frame: Frame, signer: bytes, digest: bytes) -> Known | Taken | Dropped:
    slot = frame.slot(signer)
    if digest in slot.attested:
        return Known(slot.conflict())
    if len(slot.attested) >= 2 + len(slot.ballots):
        return Dropped(slot.attested[0], slot.conflict())
    taken = _taken(frame, Slot((*slot.attested, digest), slot.ballots))
    conflict = taken.conflict or _against_seal(frame, slot, digest)
    return taken if conflict is None else Taken(taken.slot, conflict, joins=False)


def _against_seal(frame: Frame, slot: Slot, digest: bytes) -> tuple[bytes, bytes] | None:
    """After sealing no Replace excuses a second digest beforehand: not beside a vote for the sealed one, nor as what the signer stands by.
    What it stood by once and withdrew before it agreed may still come late."""
    if frame.sealed is None or digest == frame.sealed or not slot.attested:
        return None
    if frame.sealed in slot.attested:
        return frame.sealed, digest
    return None if digest in slot.withdrawn else (slot.attested[0], digest)


def replace(frame: Frame, signer: bytes, ballot: Ballot) -> Known | Taken | Dropped | Frozen:
    slot = frame.slot(signer)
    if ballot in slot.ballots:
        return Known(slot.conflict())
    if frame.sealed is not None and ballot.withdrawn == frame.sealed:
        return Frozen(frame.sealed)
    if len(slot.ballots) >= MAX_BALLOTS:
        return Dropped(slot.ballots[0].id, slot.conflict())
    return _taken(frame, Slot(slot.attested, (*slot.ballots, ballot)))


def _taken(frame: Frame, slot: Slot) -> Taken:
    return Taken(slot, slot.conflict(), joins=frame.sealed is not None and slot.standing() == frame.sealed)


class Standing(msgspec.Struct, frozen=True):
    """How a frame's votes stand. `supporters` are those of `leading`, ascending."""

    state: Literal["collecting", "validated", "quorum", "sealed"]
    leading: bytes | None
    supporters: tuple[bytes, ...]
    diverged: bool


def stand(
    frame: Frame, *, config: bytes, signers: Iterable[bytes], k: int, faulty: int, quarantined: Iterable[bytes]
) -> Standing:
    """Count. Slots of others than `signers` and of the quarantined, and digests under another `config`, count for nothing.

    With k > n/2 at most one digest can reach k, whatever else was signed."""
    barred = set(quarantined)
    votes: dict[bytes, list[bytes]] = {}
    for signer in sorted(set(signers) - barred):
        digest = frame.slot(signer).standing()
        if digest is not None and frame.configs.get(digest) == config:
            votes.setdefault(digest, []).append(signer)
    leading = min(votes, key=lambda digest: (-len(votes[digest]), digest), default=None)
    supporters = tuple(votes[leading]) if leading is not None else ()
    if frame.sealed is not None:
        return Standing("sealed", frame.sealed, tuple(votes.get(frame.sealed, ())), diverged(frame, config))
    state = "quorum" if len(supporters) >= k else "validated" if len(supporters) > faulty else "collecting"
    return Standing(state, leading, supporters, diverged(frame, config))


def diverged(frame: Frame, config: bytes) -> bool:
    """Whether two digests of this frame under `config` carry valid signatures that nobody withdrew: a flag and an alarm, not a stop."""
    live = {digest for slot in frame.slots.values() for digest in slot.attested if digest not in slot.withdrawn}
    live = {digest for digest in live if frame.configs.get(digest) == config}
    if frame.sealed is not None:
        live.add(frame.sealed)
    return len(live) > 1
