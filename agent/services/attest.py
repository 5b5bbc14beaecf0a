"""Attest: statements become signed envelopes. In: derived statements. Out: vote rows and outbox rows, in one transaction.

An agent signs what it derived itself, where the document lists it as a signer, once for each (stream, sequence, revision). A frame
derived anew with another digest withdraws the old vote by a Replace with the next ballot, which leaves before the new vote. An adopted
frame is never signed, nor one that the document says otherwise by now: it is waited for. Only headers are read here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import msgspec

from agent.reporting import envelope
from agent.services import standing
from agent.services.plan import WITHDRAWN_LATCH, StreamPlan
from domain import deployment, hashing, statement, wire
from kit import faults, runtime
from signers import base
from store import book, cursors, latches, outbox, statements, votes

IDLE_S = 2.0


class Slot(msgspec.Struct, frozen=True):
    """What this signer has signed for one (stream, sequence, revision), as the hub counts it: a withdrawn digest never counts again."""

    attested: tuple[bytes, ...]
    replaces: tuple[statement.Replace, ...]

    @property
    def withdrawn(self) -> frozenset[bytes]:
        return frozenset(replace.withdrawn for replace in self.replaces)

    @property
    def counts(self) -> bytes | None:
        """The vote that stands now."""
        return next((digest for digest in reversed(self.attested) if digest not in self.withdrawn), None)

    @property
    def named(self) -> bytes | None:
        """What the next Replace has to withdraw: the vote that stands, or else what the highest ballot names."""
        highest = max(self.replaces, key=lambda replace: replace.ballot, default=None)
        return self.counts or (None if highest is None else highest.replacement)

    @property
    def next_ballot(self) -> int:
        return 1 + max((replace.ballot for replace in self.replaces), default=0)


class AttestService:
    """One frame of each stream a step."""

    name = "attest"

    def __init__(
        self,
        the_book: book.Book,
        document: deployment.Document,
        plans: Sequence[StreamPlan],
        signer: base.Signer,
        *,
        context: envelope.Context,
        describe: Callable[[], Awaitable[str]],
        clock: runtime.Clock,
        downstream: Sequence[runtime.Bell] = (),
    ) -> None:
        self.bell = runtime.Bell()
        self._book = the_book
        self._document = document
        self._plans = tuple(plans)
        self._signer = signer
        self._context = context
        self._describe = describe
        self._clock = clock
        self._downstream = tuple(downstream)
        self._at: dict[str, int] = {}
        self._looked_back: set[str] = set()

    def cursor(self) -> object:
        return tuple(sorted(self._at.items()))

    async def step(self) -> float:
        moved = False
        for plan in self._plans:
            moved = await self._attest_next(plan) or moved
        if moved:
            for bell in self._downstream:
                bell.ring()
        return 0.0 if moved else IDLE_S

    async def _attest_next(self, plan: StreamPlan) -> bool:
        """Handle the first frame that this signer has not judged yet; True when there was one."""
        if plan.stream.name not in self._looked_back:
            await self._look_back(plan)
        async with self._book.read() as c:
            if await _stopped(c):
                return False
            cursor = await cursors.get(c, f"attest:{plan.stream.name}")
            frame = await self._unjudged(c, plan, 0 if cursor is None else cursor.number)
            if frame is None:
                return False
            slot = await self._slot(c, frame)
        self._at[plan.stream.name] = frame.sequence
        signed = [] if not self._may_sign(plan, frame) else await self._sign(plan, frame, slot)
        faults.point("attest.before_commit")
        async with self._book.write() as c:
            if await _stopped(c):
                return False
            if cursor != await cursors.get(c, f"attest:{plan.stream.name}") or not await _in_force(c, frame):
                return True  # derived anew while it was signed: what was signed leaves nobody's hands
            for item, vote in signed:
                await votes.save(c, vote, at_s=int(self._clock.now()))
                await outbox.put(c, id=item.id, stream=frame.stream, kind=item.kind, payload=item.payload)
            if signed and frame.digest in slot.withdrawn:
                await latches.set(c, WITHDRAWN_LATCH, reason=_returned(plan, frame), at_s=int(self._clock.now()))
            await cursors.put(
                c, f"attest:{plan.stream.name}", cursors.Cursor(frame.sequence + 1, frame.digest, frame.revision)
            )
        faults.point("attest.after_commit")
        return True

    async def _look_back(self, plan: StreamPlan) -> None:
        """Once a start: frames that the document reaches anew are judged again, from the lowest on, as they are derived."""
        name = f"attest:{plan.stream.name}"
        async with self._book.read() as c:
            fallen = await standing.first_fallen(c, self._document, plan, start=0)
        if fallen is not None:
            async with self._book.write() as c:
                cursor = await cursors.get(c, name)
                if cursor is not None and cursor.number > fallen:
                    await cursors.put(c, name, cursors.Cursor(fallen, hashing.ZERO32, 0))
        self._looked_back.add(plan.stream.name)

    async def _unjudged(self, c: book.Connection, plan: StreamPlan, following: int) -> statements.Slim | None:
        """The frame to judge: the lowest from `following` on (those before an adopted one may never have been derived here). None:
        there is none yet, or it has to be derived anew first."""
        lowest = await statements.first_from_header(c, plan.stream.id(), following)
        if lowest is None or lowest.origin == "adopted":
            return lowest
        revision = self._document.revision(plan.stream, lowest.sequence)
        frame = await statements.current_header(c, plan.stream.id(), lowest.sequence, revision)
        if frame is None or not await standing.stands(c, self._document, plan, frame):
            return None
        return frame

    async def _slot(self, c: book.Connection, frame: statements.Slim) -> Slot:
        found = await votes.for_slot(
            c, signer=self._signer.address, stream=frame.stream, sequence=frame.sequence, revision=frame.revision
        )
        replaces = [
            wire.decode(vote.payload, wire.Replacement, what="vote") for vote in found if vote.kind != "attestation"
        ]
        return Slot(
            tuple(vote.digest for vote in found if vote.kind == "attestation"),
            tuple(wire.replace_from_wire(sent.replace) for sent in replaces),
        )

    def _may_sign(self, plan: StreamPlan, stored: statements.Slim) -> bool:
        epoch = self._document.epoch_at(plan.stream, stored.sequence)
        return stored.origin == "derived" and self._signer.address in epoch.addresses()

    async def _sign(
        self, plan: StreamPlan, stored: statements.Slim, slot: Slot
    ) -> list[tuple[envelope.Signed, votes.Attested]]:
        """What has to leave so that the slot counts for this frame, or at least for no other: the vote for a digest that was withdrawn
        once is at the hub already and never counts again."""
        again = stored.digest in slot.withdrawn
        if slot.counts == stored.digest or (again and slot.counts is None):
            return []
        domain = statement.Domain(chain_id=plan.stream.chain, config_digest=stored.config_digest)
        produced: list[tuple[envelope.Signed, votes.Attested]] = []
        if slot.named is not None:
            produced.append(await self._replace(stored, domain, withdrawn=slot.named, ballot=slot.next_ballot))
        if again:
            return produced
        faults.point("attest.before_sign")
        context = await self._encode_context()
        signed = envelope.attestation(
            stored.header,
            domain,
            signer=self._signer.address,
            signature=await self._signer.sign_digest(stored.digest),
            context=context,
            context_signature=await self._signer.sign_digest(statement.context_digest(stored.digest, context, domain)),
        )
        faults.point("attest.after_sign")
        produced.append((signed, self._vote(stored, signed, digest=stored.digest, ballot=0)))
        return produced

    async def _replace(
        self, stored: statements.Slim, domain: statement.Domain, *, withdrawn: bytes, ballot: int
    ) -> tuple[envelope.Signed, votes.Attested]:
        replace = statement.Replace(stored.stream, stored.sequence, stored.revision, withdrawn, stored.digest, ballot)
        signature = await self._signer.sign_digest(statement.replace_digest(replace, domain))
        signed = envelope.replacement(replace, domain, signer=self._signer.address, signature=signature)
        return signed, self._vote(stored, signed, digest=signed.id, ballot=ballot)

    def _vote(self, stored: statements.Slim, signed: envelope.Signed, *, digest: bytes, ballot: int) -> votes.Attested:
        return votes.Attested(
            digest=digest,
            stream=stored.stream,
            sequence=stored.sequence,
            revision=stored.revision,
            signer=self._signer.address,
            payload=signed.payload,
            kind=signed.kind,
            ballot=ballot,
        )

    async def _encode_context(self) -> bytes:
        node = await self._describe()
        return msgspec.structs.replace(self._context, node=node, observed_at=int(self._clock.now())).encode()


async def _stopped(c: book.Connection) -> bool:
    stopping = [latch for latch in await latches.active(c) if latches.blocks_earning(latch)]
    return any(latch.name != WITHDRAWN_LATCH for latch in stopping)


async def _in_force(c: book.Connection, frame: statements.Slim) -> bool:
    found = await statements.current_header(c, frame.stream, frame.sequence, frame.revision)
    return found is not None and found.digest == frame.digest


def _returned(plan: StreamPlan, frame: statements.Slim) -> str:
    return (
        f"frame {frame.sequence} of stream {plan.stream.name} is again {hashing.hex0x(frame.digest)}, which this signer withdrew by a "
        "Replace: a withdrawn vote never counts again, so other signers have to seal this frame; find out why it was derived in two "
        "ways, then clear this latch and the wrong vote is withdrawn too"
    )
