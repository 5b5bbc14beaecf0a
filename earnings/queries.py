"""What consumers, the status page and the metrics read. In: a connection and the document. Out: frozen read models; nothing is written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from domain import hashing, statement, wire
from earnings import quorum, sealing, tables, votes
from earnings.book import Connection
from earnings.seats import Seats

PAGE_LEAVES = wire.MAX_CHUNK_LEAVES
PAGE_FRAMES = 256


class _Model(msgspec.Struct, frozen=True, rename="camel"):
    """Base of what is shown: integers that can grow are decimal strings, bytes 0x-hex, as on the wire."""


class Standing(_Model, frozen=True):
    """One signer's vote. `counts` when it counts for `digest` now."""

    signer: str
    digest: str | None
    counts: bool


class FrameView(_Model, frozen=True):
    sequence: str
    revision: str
    state: str
    digest: str | None
    body_root: str | None
    diverged: bool
    needed: int
    sealed_at: str | None
    votes: tuple[Standing, ...]


class Frames(_Model, frozen=True):
    frames: tuple[FrameView, ...]
    next: str | None


class StreamView(_Model, frozen=True):
    id: str
    name: str
    kind: str
    chain: str
    protocol: str
    accounts: str
    asset: str
    frame: str
    sealed: str | None
    digest: str | None
    next: str
    highest: str
    state: str
    reason: str


class Evidence(_Model, frozen=True):
    signer: str
    stream: str
    sequence: str
    first: str
    second: str
    repeats: int
    open: bool


class Agent(_Model, frozen=True):
    """A signer and what its last context says about it: unverified words of that agent."""

    address: str
    quarantined: bool
    receipts: str
    last_at: str | None
    context: str


class Seal(msgspec.Struct, frozen=True):
    """One event of the feed."""

    number: int
    stream: bytes
    sequence: int
    revision: int
    digest: bytes

    def data(self) -> bytes:
        return wire.encode(
            {
                "stream": hashing.hex0x(self.stream),
                "sequence": str(self.sequence),
                "revision": str(self.revision),
                "digest": hashing.hex0x(self.digest),
            }
        )


async def streams(c: Connection, seats: Seats, waiting: dict[bytes, sealing.Waiting]) -> tuple[StreamView, ...]:
    found: list[StreamView] = []
    for stream_id, stream in seats.streams.items():
        table = tables.sealed
        query = sa.select(table.c.sequence, table.c.digest).where(table.c.stream == stream_id)
        newest = (await c.execute(query.order_by(table.c.sequence.desc()).limit(1))).one_or_none()
        following = 0 if newest is None else newest.sequence + 1
        table = tables.vote
        highest = await c.scalar(sa.select(sa.func.max(table.c.sequence)).where(table.c.stream == stream_id))
        why = waiting.get(stream_id)
        found.append(
            StreamView(
                id=hashing.hex0x(stream_id),
                name=stream.name,
                kind=stream.kind,
                chain=str(stream.chain),
                protocol=stream.protocol,
                accounts=stream.accounts,
                asset=stream.asset,
                frame=stream.frame,
                sealed=None if newest is None else str(newest.sequence),
                digest=None if newest is None else hashing.hex0x(newest.digest),
                next=str(following),
                highest=str(highest or 0),
                state="collecting" if why is None or why.sequence != following else why.state,
                reason="" if why is None or why.sequence != following else why.reason,
            )
        )
    return tuple(found)


async def frames(
    c: Connection, seats: Seats, stream: bytes, *, first: int, limit: int, waiting: sealing.Waiting | None
) -> Frames:
    """Frames from `first` on, in the revision in force; `next` is where to go on, None at the end."""
    last = first + limit - 1
    known = await votes.frames(c, stream, first=first, last=last)
    barred = await votes.quarantined(c)
    table = tables.sealed
    rows = await c.execute(sa.select(table).where(table.c.stream == stream, table.c.sequence.between(first, last)))
    sealed = {row.sequence: row for row in rows}
    views: list[FrameView] = []
    for sequence in sorted({place[0] for place in known} | sealed.keys()):
        seat = seats.at(stream, sequence)
        if seat is None:
            continue
        revision = sealed[sequence].revision if sequence in sealed else seat.revision
        frame = known.get((sequence, revision), quorum.Frame())
        standing = votes.stand(frame, seat, barred)
        header = None if standing.leading is None else await votes.header(c, standing.leading)
        state = standing.state
        if waiting is not None and state == "quorum" and waiting.digest == standing.leading:
            state = waiting.state if waiting.state in ("body", "held", "contradicted") else state
        views.append(
            FrameView(
                sequence=str(sequence),
                revision=str(revision),
                state=state,
                digest=None if standing.leading is None else hashing.hex0x(standing.leading),
                body_root=None if header is None else hashing.hex0x(header.header.body_root),
                diverged=standing.diverged,
                needed=seat.k,
                sealed_at=str(sealed[sequence].at_s) if sequence in sealed else None,
                votes=tuple(_standings(frame, sorted(seat.signers), barred, standing.leading)),
            )
        )
    beyond = sa.select(sa.func.min(tables.vote.c.sequence)).where(
        tables.vote.c.stream == stream, tables.vote.c.sequence > last
    )
    following = await c.scalar(beyond)
    return Frames(tuple(views), None if following is None else str(following))


def _standings(
    frame: quorum.Frame, signers: list[bytes], barred: frozenset[bytes], leading: bytes | None
) -> list[Standing]:
    found: list[Standing] = []
    for signer in signers:
        slot = frame.slot(signer)
        digest = slot.standing() or (slot.attested[0] if slot.attested else None)
        counts = leading is not None and slot.standing() == leading and signer not in barred
        found.append(Standing(hashing.hex0x(signer), None if digest is None else hashing.hex0x(digest), counts))
    return found


async def certificate(c: Connection, digest: bytes) -> wire.Certificate | None:
    """Header and signatures of a sealed statement, signers ascending."""
    sealed = await c.scalar(sa.select(sa.literal(1)).where(tables.sealed.c.digest == digest))
    known = await votes.header(c, digest)
    if sealed is None or known is None:
        return None
    table = tables.certificate
    rows = await c.execute(sa.select(table).where(table.c.digest == digest).order_by(table.c.signer))
    return wire.Certificate(
        config_digest=hashing.hex0x(known.config_digest),
        chain_id=str(known.chain_id),
        digest=hashing.hex0x(digest),
        header=wire.header_to_wire(known.header),
        signatures=tuple(wire.Vote(hashing.hex0x(row.signer), hashing.hex0x(row.signature)) for row in rows),
    )


async def sealed_with_root(c: Connection, root: bytes, digest: bytes | None) -> votes.Known | None:
    """The sealed statement with this body root; the latest one when `digest` does not choose."""
    table = tables.sealed
    query = sa.select(table.c.digest).join(tables.statement, tables.statement.c.digest == table.c.digest)
    query = query.where(tables.statement.c.body_root == root).order_by(table.c.number.desc()).limit(1)
    if digest is not None:
        query = query.where(table.c.digest == digest)
    found = await c.scalar(query)
    return None if found is None else await votes.header(c, found)


def body_page(leaves: Sequence[statement.Leaf], carry: bytes | None, page: int) -> dict[str, object] | None:
    """Leaves of one page, ascending by (subject, asset, kind); the carry rides on page 0. Blocking: thousands of leaves."""
    pages = max(1, -(-len(leaves) // PAGE_LEAVES))
    if page >= pages:
        return None
    mine = leaves[page * PAGE_LEAVES : (page + 1) * PAGE_LEAVES]
    answer: dict[str, object] = {"page": page, "pages": pages, "leaves": [wire.leaf_to_wire(leaf) for leaf in mine]}
    if carry is not None:
        answer["carry"] = carry.decode()
    return answer


async def seals(c: Connection, *, after: int, limit: int) -> list[Seal]:
    table = tables.sealed
    rows = await c.execute(sa.select(table).where(table.c.number > after).order_by(table.c.number).limit(limit))
    return [Seal(row.number, row.stream, row.sequence, row.revision, row.digest) for row in rows]


async def last_seal(c: Connection) -> int:
    return await c.scalar(sa.select(sa.func.max(tables.sealed.c.number))) or 0


async def sealed_leaves(c: Connection, digest: bytes) -> tuple[votes.Known, list[statement.Leaf]] | None:
    if await c.scalar(sa.select(sa.literal(1)).where(tables.sealed.c.digest == digest)) is None:
        return None
    known = await votes.header(c, digest)
    return None if known is None else (known, await sealing.leaves_at(c, known.header.stream, known.header.sequence))


async def evidence(c: Connection, *, limit: int = 100) -> tuple[Evidence, ...]:
    table = tables.evidence
    rows = await c.execute(sa.select(table).order_by(table.c.open.desc(), table.c.at_s.desc()).limit(limit))
    return tuple(
        Evidence(
            hashing.hex0x(row.signer), hashing.hex0x(row.stream), str(row.sequence),
            hashing.hex0x(row.first), hashing.hex0x(row.second), row.repeats, row.open == 1,
        )
        for row in rows
    )  # fmt: skip


async def agents(c: Connection, seats: Seats) -> tuple[Agent, ...]:
    """Every signer of the document, with its last words."""
    barred = await votes.quarantined(c)
    found: list[Agent] = []
    for address in sorted(seats.known):
        receipt = tables.receipt
        newest = [await _newest(c, address, stream) for stream in seats.streams]
        last = max((row for row in newest if row is not None), key=lambda row: row.at_s, default=None)
        count = await c.scalar(sa.select(sa.func.max(receipt.c.number)).where(receipt.c.attester == address))
        found.append(
            Agent(
                address=hashing.hex0x(address),
                quarantined=address in barred,
                receipts=str(count or 0),
                last_at=None if last is None else str(last.at_s),
                context="" if last is None else last.context.decode(errors="replace")[:300],
            )
        )
    return tuple(found)


async def _newest(c: Connection, signer: bytes, stream: bytes) -> sa.Row[Any, Any] | None:
    """The signer's vote on the highest frame: a look at the end of the key, however many votes there are."""
    table = tables.vote
    query = sa.select(table.c.context, table.c.at_s).where(table.c.signer == signer, table.c.stream == stream)
    return (await c.execute(query.order_by(table.c.sequence.desc()).limit(1))).one_or_none()
