"""Attest: statements become signed envelopes. In: derived statements. Out: vote rows and outbox rows, in one transaction.

An agent signs what it derived itself, where the document lists it as a signer, once for each (stream, sequence, revision). A frame
derived anew with another digest withdraws the old vote by a Replace with the next ballot, which leaves before the new vote. An adopted
frame is never signed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import msgspec

from agent.reporting import envelope
from agent.services.plan import StreamPlan
from domain import deployment, statement
from kit import faults, runtime
from signers import base
from store import book, cursors, latches, outbox, statements, votes

IDLE_S = 2.0


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
        stream_id = plan.stream.id()
        async with self._book.read() as c:
            if await latches.active(c):
                return False
            stored = await self._unjudged(c, plan)
            if stored is None:
                return False
            earlier = await votes.for_slot(
                c, signer=self._signer.address, stream=stream_id, sequence=stored.sequence, revision=stored.revision
            )
        self._at[plan.stream.name] = stored.sequence
        signed = [] if not self._may_sign(plan, stored) else await self._sign(plan, stored, earlier)
        faults.point("attest.before_commit")
        async with self._book.write() as c:
            if await latches.active(c):
                return False
            for item, vote in signed:
                await votes.save(c, vote, at_s=int(self._clock.now()))
                await outbox.put(c, id=item.id, stream=stream_id, kind=item.kind, payload=item.payload)
            await cursors.put(
                c, f"attest:{plan.stream.name}", cursors.Cursor(stored.sequence + 1, stored.digest, stored.revision)
            )
        faults.point("attest.after_commit")
        return True

    async def _unjudged(self, c: book.Connection, plan: StreamPlan) -> statements.Stored | None:
        """The lowest frame in force that has not been judged at its digest."""
        cursor = await cursors.get(c, f"attest:{plan.stream.name}")
        following = 0 if cursor is None else cursor.number
        candidates = sorted({*self._revised(plan, following), following})
        for sequence in candidates:
            revision = self._document.revision(plan.stream, sequence)
            stored = await statements.current(c, plan.stream.id(), sequence, revision)
            if stored is None:
                if sequence == following:
                    return await self._after_gap(c, plan, sequence)
                continue
            if sequence == following or not await self._voted(c, stored):
                if sequence < following and not self._may_sign(plan, stored):
                    continue
                return stored
        return None

    async def _after_gap(self, c: book.Connection, plan: StreamPlan, sequence: int) -> statements.Stored | None:
        """The next frame there is, when those before it were never derived here because a later one was adopted."""
        return await statements.first_from(c, plan.stream.id(), sequence)

    def _revised(self, plan: StreamPlan, before: int) -> list[int]:
        return [
            sequence
            for r in self._document.revisions
            if r.stream == plan.stream.name
            for sequence in range(r.sequence, min(r.through + 1, before))
        ]

    async def _voted(self, c: book.Connection, stored: statements.Stored) -> bool:
        found = await votes.for_slot(
            c, signer=self._signer.address, stream=stored.stream, sequence=stored.sequence, revision=stored.revision
        )
        return any(vote.digest == stored.digest for vote in found)

    def _may_sign(self, plan: StreamPlan, stored: statements.Stored) -> bool:
        epoch = self._document.epoch_at(plan.stream, stored.sequence)
        return stored.origin == "derived" and self._signer.address in epoch.addresses()

    async def _sign(
        self, plan: StreamPlan, stored: statements.Stored, earlier: Sequence[votes.Attested]
    ) -> list[tuple[envelope.Signed, votes.Attested]]:
        domain = statement.Domain(chain_id=plan.stream.chain, config_digest=stored.config_digest)
        attestations = [vote for vote in earlier if vote.kind == "attestation"]
        if any(vote.digest == stored.digest for vote in attestations):
            return []
        produced: list[tuple[envelope.Signed, votes.Attested]] = []
        if attestations:
            produced.append(await self._replace(stored, domain, earlier, withdrawn=attestations[-1].digest))
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
        self,
        stored: statements.Stored,
        domain: statement.Domain,
        earlier: Sequence[votes.Attested],
        *,
        withdrawn: bytes,
    ) -> tuple[envelope.Signed, votes.Attested]:
        ballot = 1 + max((vote.ballot for vote in earlier), default=0)
        replace = statement.Replace(stored.stream, stored.sequence, stored.revision, withdrawn, stored.digest, ballot)
        signature = await self._signer.sign_digest(statement.replace_digest(replace, domain))
        signed = envelope.replacement(replace, domain, signer=self._signer.address, signature=signature)
        return signed, self._vote(stored, signed, digest=signed.id, ballot=ballot)

    def _vote(
        self, stored: statements.Stored, signed: envelope.Signed, *, digest: bytes, ballot: int
    ) -> votes.Attested:
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
