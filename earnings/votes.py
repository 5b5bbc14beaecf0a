"""Votes as rows. In: a connection and what `quorum` decided. Out: frames, headers, evidence, quarantine."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
import sqlalchemy as sa

from domain import hashing, statement, wire
from earnings import quorum, tables
from earnings.book import Connection
from earnings.seats import SealedRange, Seat


class Place(msgspec.Struct, frozen=True):
    """One (stream, sequence, revision)."""

    stream: bytes
    sequence: int
    revision: int

    def where(self, table: sa.Table) -> sa.ColumnElement[bool]:
        return sa.and_(
            table.c.stream == self.stream, table.c.sequence == self.sequence, table.c.revision == self.revision
        )


def stand(frame: quorum.Frame, seat: Seat, quarantined: frozenset[bytes]) -> quorum.Standing:
    """Count by what the document says of the frame."""
    return quorum.stand(
        frame, config=seat.config_digest, signers=seat.signers, k=seat.k, faulty=seat.faulty, quarantined=quarantined
    )


class Known(msgspec.Struct, frozen=True):
    """A header that somebody validly signed."""

    digest: bytes
    header: statement.Header
    config_digest: bytes
    chain_id: int


async def frame(c: Connection, place: Place) -> quorum.Frame:
    """Everything signed about a frame, as `quorum` sees it."""
    found = await frames(c, place.stream, first=place.sequence, last=place.sequence)
    return found.get((place.sequence, place.revision)) or quorum.Frame(sealed=await _sealed(c, place))


async def frames(c: Connection, stream: bytes, *, first: int, last: int) -> dict[tuple[int, int], quorum.Frame]:
    """By (sequence, revision): the frames of a range that anybody voted on."""
    slots: dict[tuple[int, int], dict[bytes, quorum.Slot]] = {}

    def slot(row: sa.Row[Any]) -> tuple[dict[bytes, quorum.Slot], quorum.Slot]:
        mine = slots.setdefault((row.sequence, row.revision), {})
        return mine, mine.get(row.signer, quorum.Slot())

    for row in await c.execute(_ranged(tables.vote, stream, first, last)):
        mine, old = slot(row)
        mine[row.signer] = quorum.Slot((*old.attested, row.digest), old.ballots)
    for row in await c.execute(_ranged(tables.ballot, stream, first, last)):
        mine, old = slot(row)
        ballot = quorum.Ballot(row.withdrawn, row.replacement, row.ballot, row.id)
        mine[row.signer] = quorum.Slot(old.attested, (*old.ballots, ballot))
    sealed = {(row.sequence, row.revision): row.digest for row in await c.execute(_sealed_rows(stream, first, last))}
    configs: dict[tuple[int, int], dict[bytes, bytes]] = {}
    table = tables.statement
    query = sa.select(table.c.sequence, table.c.revision, table.c.digest, table.c.config_digest)
    for row in await c.execute(query.where(table.c.stream == stream, table.c.sequence.between(first, last))):
        configs.setdefault((row.sequence, row.revision), {})[row.digest] = row.config_digest
    return {place: quorum.Frame(of, sealed.get(place), configs.get(place, {})) for place, of in slots.items()}


def _ranged(table: sa.Table, stream: bytes, first: int, last: int) -> sa.Select[Any]:
    where = sa.and_(table.c.stream == stream, table.c.sequence.between(first, last))
    return sa.select(table).where(where).order_by(table.c.signer, table.c.position)


def _sealed_rows(stream: bytes, first: int, last: int) -> sa.Select[Any]:
    table = tables.sealed
    return sa.select(table).where(table.c.stream == stream, table.c.sequence.between(first, last))


async def _sealed(c: Connection, place: Place) -> bytes | None:
    return await c.scalar(sa.select(tables.sealed.c.digest).where(place.where(tables.sealed)))


async def next_sequence(c: Connection, stream: bytes) -> int:
    """The frame to be sealed next."""
    highest = await c.scalar(sa.select(sa.func.max(tables.sealed.c.sequence)).where(tables.sealed.c.stream == stream))
    return 0 if highest is None else highest + 1


async def sealed_ranges(c: Connection) -> list[SealedRange]:
    """What is sealed, by stream and the configDigest it was signed under."""
    sealed, header_ = tables.sealed, tables.statement
    query = (
        sa.select(
            sealed.c.stream,
            header_.c.config_digest,
            sa.func.min(sealed.c.sequence).label("first"),
            sa.func.max(sealed.c.sequence).label("last"),
        )
        .join(header_, header_.c.digest == sealed.c.digest)
        .group_by(sealed.c.stream, header_.c.config_digest)
    )
    return [SealedRange(row.stream, row.config_digest, row.first, row.last) for row in await c.execute(query)]


async def quarantined(c: Connection) -> frozenset[bytes]:
    """Signers with unexplained evidence: their votes count for no unsealed frame."""
    query = sa.select(tables.evidence.c.signer).where(tables.evidence.c.open == 1).distinct()
    return frozenset(await c.scalars(query))


async def save_header(c: Connection, seat: Seat, header: statement.Header, digest: bytes) -> None:
    """Once, however many sign it. Equal digest means equal header, so a repeat has nothing to add."""
    known = await c.scalar(sa.select(sa.literal(1)).where(tables.statement.c.digest == digest))
    if known is not None:
        return
    await c.execute(
        tables.statement.insert().values(
            digest=digest,
            stream=header.stream,
            sequence=header.sequence,
            revision=header.revision,
            config_digest=seat.config_digest,
            chain_id=seat.stream.chain,
            body_root=header.body_root,
            header=wire.encode(wire.header_to_wire(header)),
        )
    )


async def header(c: Connection, digest: bytes) -> Known | None:
    row = (await c.execute(sa.select(tables.statement).where(tables.statement.c.digest == digest))).one_or_none()
    if row is None:
        return None
    parsed = wire.header_from_wire(wire.decode(row.header, wire.HeaderWire, what="a stored header"))
    return Known(digest, parsed, row.config_digest, row.chain_id)


async def save_vote(
    c: Connection,
    place: Place,
    *,
    signer: bytes,
    digest: bytes,
    position: int,
    signature: bytes,
    context: bytes,
    context_signature: bytes,
    at_s: int,
) -> None:
    await c.execute(
        tables.vote.insert().values(
            signer=signer,
            stream=place.stream,
            sequence=place.sequence,
            revision=place.revision,
            digest=digest,
            position=position,
            signature=signature,
            context=context,
            context_signature=context_signature,
            at_s=at_s,
        )
    )


async def save_ballot(
    c: Connection,
    place: Place,
    *,
    signer: bytes,
    ballot: quorum.Ballot,
    position: int,
    signature: bytes,
    at_s: int,
) -> None:
    await c.execute(
        tables.ballot.insert().values(
            signer=signer,
            stream=place.stream,
            sequence=place.sequence,
            revision=place.revision,
            id=ballot.id,
            position=position,
            ballot=ballot.ballot,
            withdrawn=ballot.withdrawn,
            replacement=ballot.replacement,
            signature=signature,
            at_s=at_s,
        )
    )


async def accuse(c: Connection, place: Place, *, signer: bytes, conflict: tuple[bytes, bytes], at_s: int) -> bool:
    """Keep the first two things that exclude each other and count the rest. True when the evidence is new or open again."""
    table = tables.evidence
    mine = sa.and_(table.c.signer == signer, place.where(table))
    found = (await c.execute(sa.select(table.c.open).where(mine))).one_or_none()
    if found is None:
        await c.execute(
            table.insert().values(
                signer=signer,
                stream=place.stream,
                sequence=place.sequence,
                revision=place.revision,
                first=conflict[0],
                second=conflict[1],
                repeats=0,
                open=1,
                at_s=at_s,
            )
        )
        return True
    await c.execute(table.update().where(mine).values(repeats=table.c.repeats + 1, open=1))
    return found.open == 0


async def accused(c: Connection, place: Place, *, signer: bytes) -> tuple[bytes, bytes] | None:
    """The signer's open evidence of this frame."""
    table = tables.evidence
    query = sa.select(table.c.first, table.c.second)
    row = (await c.execute(query.where(table.c.signer == signer, place.where(table), table.c.open == 1))).one_or_none()
    return None if row is None else (row.first, row.second)


async def acquit(c: Connection, place: Place, *, signer: bytes) -> None:
    """A Replace linked what excluded each other: the row stays, the quarantine ends."""
    table = tables.evidence
    await c.execute(
        table.update().where(table.c.signer == signer, place.where(table), table.c.open == 1).values(open=0)
    )


async def certify(c: Connection, digest: bytes, signers: Iterable[bytes]) -> None:
    """Copy the signatures of `signers` over `digest` into its certificate; those already there stay."""
    there = sa.select(tables.certificate.c.signer).where(tables.certificate.c.digest == digest)
    wanted = set(signers) - set(await c.scalars(there))
    if not wanted:
        return
    query = sa.select(tables.vote.c.signer, tables.vote.c.signature).where(
        tables.vote.c.digest == digest, tables.vote.c.signer.in_(wanted)
    )
    rows = [{"digest": digest, "signer": r.signer, "signature": r.signature} for r in await c.execute(query)]
    if {row["signer"] for row in rows} != wanted:
        raise ValueError(f"a certificate of {hashing.hex0x(digest)} names a signer without a vote")
    await c.execute(tables.certificate.insert(), rows)
