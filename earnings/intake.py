"""Intake: a checked vote becomes a row and a receipt. In: votes, withdrawals, body chunks. Out: Accepted, or a refusal.

One transaction holds the vote row, what it means (evidence, a certificate row) and the receipt row; the receipt leaves this process only
after the commit. Whatever was stored once gets the identical receipt for ever.
"""

from __future__ import annotations

import asyncio

import msgspec

from domain import hashing, wire
from earnings import book, ingest, limits, quorum, receipts, votes
from earnings.bodies import WINDOW, Want, Wants, keep, read_chunk, read_root, repeats, sources
from earnings.ingest import Refused, Vote, Withdrawal
from earnings.metrics import Metrics
from earnings.seats import Seat, Seats
from kit import faults, logs, runtime

MAX_AHEAD = 1024
"""Frames ahead of the next one for which votes are kept: a hub that was away for days still finds them stored."""
AHEAD_RETRY_S = 5

log = logs.logger()


class Wires(msgspec.Struct):
    """The document in force and what a stored vote wakes. `seats` is replaced by a reload."""

    seats: Seats
    wants: Wants
    bell: runtime.Bell


class Intake:
    def __init__(
        self,
        the_book: book.Book,
        wires: Wires,
        clerk: receipts.Clerk,
        *,
        clock: runtime.Clock,
        metrics: Metrics,
        rate: limits.Rate,
    ) -> None:
        self._book = the_book
        self._wires = wires
        self._clerk = clerk
        self._clock = clock
        self._metrics = metrics
        self._buckets = limits.Buckets(rate)

    async def attest(self, data: bytes) -> wire.Accepted | Refused:
        seats = self._wires.seats
        vote = ingest.read_attestation(data, seats)
        answer = vote if isinstance(vote, Refused) else await self._admit(vote, vote.digest, seats)
        self._metrics.attestations.labels(_result(answer)).inc()
        return answer

    async def replace(self, data: bytes) -> wire.Accepted | Refused:
        seats = self._wires.seats
        read = ingest.read_replacement(data, seats)
        answer = read if isinstance(read, Refused) else await self._admit(read, read.ballot.id, seats)
        self._metrics.replacements.labels(_result(answer)).inc()
        return answer

    def wanted(self, attester: bytes) -> tuple[str, ...]:
        """Roots this attester may deliver; only telling."""
        return _shown(self._wires.wants.wanted(attester, now_s=self._clock.monotonic()))

    def _ask(self, attester: bytes) -> tuple[str, ...]:
        """Roots to ask this attester for, which has signed what it sent."""
        return _shown(self._wires.wants.ask(attester, now_s=self._clock.monotonic()))

    def welcome(self, root: str) -> Refused | None:
        """Before anything is read: a refusal of what is not asked for."""
        found = read_root(root, self._wires.wants)
        return self._note_chunk(found) if isinstance(found, Refused) else None

    async def upload(self, root: str, data: bytes, *, source: str) -> Refused | None:
        """One chunk of a body. `source` is the uploader as far as it can be told: its token's name, or its network address."""
        wants = self._wires.wants
        asked = read_root(root, wants)
        if isinstance(asked, Refused):
            return self._note_chunk(asked)
        chunk = await asyncio.to_thread(ingest.parse, data, wire.BodyChunk, what="the body chunk")
        if isinstance(chunk, Refused):
            return self._note_chunk(chunk)
        want = read_chunk(chunk, asked, wants)
        if isinstance(want, Refused):
            return self._note_chunk(want)
        faults.point("hub.before_chunk_commit")
        async with self._book.write() as c:
            kept = await keep(c, want, chunk, wants, source=source, payload=data)
        faults.point("hub.after_chunk_commit")
        if isinstance(kept, Refused):
            return self._note_chunk(kept)
        self._metrics.chunks.labels("stored").inc()
        wants.feed(want.digest, source)
        wants.extend(want.digest, now_s=self._clock.monotonic())
        if kept:
            wants.completed(want.digest)
            self._wires.bell.ring()
        return None

    def _note_chunk(self, refused: Refused) -> Refused:
        self._metrics.chunks.labels(refused.title.replace(" ", "_")).inc()
        return refused

    async def _admit(self, item: Vote | Withdrawal, digest: bytes, seats: Seats) -> wire.Accepted | Refused:
        wait_s = self._buckets.take(item.signer, now_s=self._clock.monotonic())
        if wait_s:
            return Refused(
                429, "too many requests", "this attester sends faster than the hub takes", retry_after_s=wait_s
            )
        async with self._book.read() as c:
            known = await self._clerk.find(c, attester=item.signer, digest=digest)
        if known is not None:
            self._metrics.receipts.labels("repeated").inc()
            return wire.Accepted(receipt=known, wanted=self._ask(item.signer))
        want: Want | None = None
        async with self._book.write() as c:
            if await book.meta(c, "document") != seats.encoded:
                return Refused(503, "document changed", "the hub takes up another document", retry_after_s=2)
            following = await votes.next_sequence(c, item.place.stream)
            if item.place.sequence - following > MAX_AHEAD:
                return _too_far(item.place.sequence, following)
            frame = await votes.frame(c, item.place)
            refused = await self._store(c, item, frame)
            receipt = None
            if refused is None:
                receipt = await self._clerk.issue(
                    c, seats, attester=item.signer, digest=digest, at_s=int(self._clock.now())
                )
                want = await self._newly_wanted(c, item.seat, item.place, following)
            faults.point("hub.before_commit")
        faults.point("hub.after_commit")
        if refused is not None or receipt is None:
            return refused or Refused(503, "no receipt", retry_after_s=1)
        if want is not None:
            self._wires.wants.add(want)
        self._wires.bell.ring()
        self._metrics.receipts.labels("new").inc()
        return wire.Accepted(receipt=receipt, wanted=self._ask(item.signer))

    async def _store(self, c: book.Connection, item: Vote | Withdrawal, frame: quorum.Frame) -> Refused | None:
        """Rows for what `quorum` decides; a refusal when the item excludes something the signer signed before."""
        if isinstance(item, Vote):
            digest, outcome = item.digest, quorum.attest(frame, item.signer, item.digest)
        else:
            digest, outcome = item.ballot.id, quorum.replace(frame, item.signer, item.ballot)
        match outcome:
            case quorum.Frozen(sealed):
                return Refused(409, "frame sealed", "the withdrawn digest is sealed and stays", has=sealed)
            case quorum.Known(conflict):
                conflict = conflict or await votes.accused(c, item.place, signer=item.signer)
                return None if conflict is None else await self._accuse(c, item, conflict, digest)
            case quorum.Dropped(has, conflict):
                if conflict is None:
                    return Refused(409, "too many replacements", f"at most {quorum.MAX_BALLOTS} for one frame", has=has)
                return await self._accuse(c, item, conflict, digest)
            case quorum.Taken(slot, conflict, joins):
                await self._insert(c, item, slot)
                if conflict is not None:
                    return await self._accuse(c, item, conflict, digest)
                await votes.acquit(c, item.place, signer=item.signer)
                if joins and frame.sealed is not None:
                    await votes.certify(c, frame.sealed, [item.signer])
                self._note_divergence(item, frame, slot)
                return None

    async def _insert(self, c: book.Connection, item: Vote | Withdrawal, slot: quorum.Slot) -> None:
        at_s = int(self._clock.now())
        if isinstance(item, Vote):
            await votes.save_header(c, item.seat, item.header, item.digest)
            await votes.save_vote(
                c,
                item.place,
                signer=item.signer,
                digest=item.digest,
                position=len(slot.attested) - 1,
                signature=item.signature,
                context=item.context,
                context_signature=item.context_signature,
                at_s=at_s,
            )
        else:
            await votes.save_ballot(
                c,
                item.place,
                signer=item.signer,
                ballot=item.ballot,
                position=len(slot.ballots) - 1,
                signature=item.signature,
                at_s=at_s,
            )

    async def _accuse(
        self, c: book.Connection, item: Vote | Withdrawal, conflict: tuple[bytes, bytes], digest: bytes
    ) -> Refused:
        """`has` tells the signer what of its own `digest` stands against."""
        at_s = int(self._clock.now())
        if await votes.accuse(c, item.place, signer=item.signer, conflict=conflict, at_s=at_s):
            self._metrics.equivocations.inc()
            log.error(
                "hub.equivocation",
                signer=item.signer,
                stream=item.seat.stream.name,
                sequence=item.place.sequence,
                first=conflict[0],
                second=conflict[1],
            )
        return Refused(
            409,
            "equivocation",
            "this signer signed something else for this frame that no Replace withdraws; kept as evidence, its votes do not count",
            has=conflict[1] if conflict[0] == digest else conflict[0],
        )

    def _note_divergence(self, item: Vote | Withdrawal, frame: quorum.Frame, slot: quorum.Slot) -> None:
        if not isinstance(item, Vote):
            return
        config = item.seat.config_digest
        if not quorum.diverged(frame.put(item.signer, slot, {item.digest: config}), config):
            return
        self._metrics.diverged_total.inc()
        log.warning(
            "hub.diverged",
            signer=item.signer,
            stream=item.seat.stream.name,
            sequence=item.place.sequence,
            digest=item.digest,
            sealed=frame.sealed is not None,
        )

    async def _newly_wanted(self, c: book.Connection, seat: Seat, place: votes.Place, following: int) -> Want | None:
        """The body to ask for, when this vote completed a quorum near enough to the next frame."""
        if not following <= place.sequence < following + WINDOW or place.revision != seat.revision:
            return None
        frame = await votes.frame(c, place)
        standing = votes.stand(frame, seat, await votes.quarantined(c))
        if standing.state != "quorum" or standing.leading is None:
            return None
        if any(copy.complete for copy in (await sources(c, standing.leading)).values()):
            return None
        known = await votes.header(c, standing.leading)
        if known is None or await repeats(c, known.header):
            return None
        return Want(seat, known.header, known.digest, standing.supporters, next_=place.sequence == following)


def _shown(roots: tuple[bytes, ...]) -> tuple[str, ...]:
    return tuple(map(hashing.hex0x, roots))


def _result(answer: wire.Accepted | Refused) -> str:
    return answer.title.replace(" ", "_") if isinstance(answer, Refused) else "accepted"


def _too_far(sequence: int, following: int) -> Refused:
    return Refused(
        429,
        "too far ahead",
        f"frame {sequence} is more than {MAX_AHEAD} frames ahead of frame {following}, which is to be sealed next; send it again then",
        retry_after_s=AHEAD_RETRY_S,
    )
