"""Sealing: strictly in order, one frame of one stream a step. In: stored votes and uploaded bodies. Out: sealed rows, certificates, leaves.

A frame seals when k equal votes stand, it continues the sealed frame before it, no plausibility cap holds it, and its body is here and is
the signed one. Everything is decided again inside the transaction that seals, because a Replace may have come in between.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import msgspec
import sqlalchemy as sa

from domain import errors, hashing, statement, wire
from earnings import bodies, book, notices, quorum, tables, votes
from earnings.intake import Wires
from earnings.metrics import Metrics
from earnings.seats import Seat
from kit import faults, logs, runtime

IDLE_S = 2.0
ROWS_AT_ONCE = 1024
"""Rows are bound and read on the event loop: a large body gives way to requests in between."""

log = logs.logger()

Cap = Callable[[statement.Header | None, statement.Header], str | None]
"""A plausibility cap: previous sealed header and the next one in, a reason to hold it for a person out."""


class Waiting(msgspec.Struct, frozen=True):
    """Why a stream's next frame is not sealed yet."""

    sequence: int
    state: Literal["collecting", "validated", "body", "held", "contradicted"]
    reason: str
    digest: bytes | None = None


class _Ready(msgspec.Struct, frozen=True):
    """A quorum that continues the sealed frame before it."""

    want: bodies.Want
    previous: votes.Known | None


class _Known(msgspec.Struct):
    """All leaves of the last sealed frame of a stream."""

    sequence: int
    entries: Mapping[bodies.Key, bodies.Entry]


class Sealer:
    """A service (`kit.runtime`)."""

    name = "seal"

    def __init__(
        self,
        the_book: book.Book,
        wires: Wires,
        news: notices.Notices,
        *,
        clock: runtime.Clock,
        metrics: Metrics,
        caps: Sequence[Cap] = (),
    ) -> None:
        self.bell = wires.bell
        self.waiting: dict[bytes, Waiting] = {}
        self._book = the_book
        self._wires = wires
        self._news = news
        self._clock = clock
        self._started_s = int(clock.now())
        self._metrics = metrics
        self._caps = tuple(caps)
        self._leaves: dict[bytes, _Known] = {}
        self._contradicted: dict[bytes, str] = {}

    def cursor(self) -> object:
        return tuple(sorted((stream, waiting.sequence) for stream, waiting in self.waiting.items()))

    async def step(self) -> float:
        sealed = False
        for stream_id in self._wires.seats.streams:
            sealed = await self._advance(stream_id) or sealed
        async with self._book.read() as c:
            self._metrics.quarantined.set(len(await votes.quarantined(c)))
        self._metrics.wanted.set(self._wires.wants.missing)
        return 0.0 if sealed else IDLE_S

    async def recall(self) -> None:
        """Before the first step: show when each stream sealed last, so that a restart hides no standstill."""
        async with self._book.read() as c:
            for stream_id in self._wires.seats.streams:
                await self._show_last(c, stream_id)

    async def _show_last(self, c: book.Connection, stream_id: bytes) -> None:
        table = tables.sealed
        query = sa.select(table.c.at_s).where(table.c.stream == stream_id).order_by(table.c.sequence.desc()).limit(1)
        at_s = await c.scalar(query)
        name = self._wires.seats.streams[stream_id].name
        self._metrics.last_seal.labels(name).set(self._started_s if at_s is None else at_s)

    async def _advance(self, stream_id: bytes) -> bool:
        """True when a frame was sealed, or a wrong body thrown out."""
        look = self._wires.wants.look()
        async with self._book.read() as c:
            await self._refresh_wants(c, stream_id, look=look)
            await self._show_last(c, stream_id)
            found = await self._next(c, stream_id)
            if isinstance(found, Waiting):
                self._note(stream_id, found)
                return False
            payloads, source = await self._payloads(c, found.want)
            before = await self._entries(c, found.want)
        held = await self._held(found)
        if held is not None:
            self._note(stream_id, held)
            return False
        want = found.want
        if payloads is None and not (found.previous and _repeats(found.previous.header, want.header)):
            self._note(stream_id, Waiting(want.header.sequence, "body", "waiting for the body", want.digest))
            return False
        checked = await asyncio.to_thread(bodies.check, want, before, payloads)
        match checked:
            case bodies.Wrong(reason):
                await self._throw_out(want, source, reason)
                return True
            case bodies.Contradiction(reason):
                self._contradicted[want.digest] = reason
                self._metrics.bodies.labels("contradiction").inc()
                return True
            case bodies.Checked():
                self._metrics.bodies.labels("right").inc()
                return await self._seal(found, checked)

    async def _next(self, c: book.Connection, stream_id: bytes) -> _Ready | Waiting:
        sequence = await votes.next_sequence(c, stream_id)
        seats = self._wires.seats
        seat = seats.at(stream_id, sequence)
        if seat is None:
            raise ValueError("a stream of the document has no seat")
        if not await self._in_force(c, seat):
            return Waiting(sequence, "collecting", "the book follows a newer document: send this hub SIGHUP")
        frame, standing = await self._standing(c, seat)
        self._metrics.diverged.labels(seat.stream.name).set(int(quorum.diverged(frame, seat.config_digest)))
        if standing.state in ("collecting", "validated") or standing.leading is None:
            state = "validated" if standing.state == "validated" else "collecting"
            reason = f"{len(standing.supporters)} of {seat.k} equal votes"
            return Waiting(sequence, state, reason, standing.leading)
        known = await votes.header(c, standing.leading)
        if known is None:
            raise ValueError(f"a vote without its header: {hashing.hex0x(standing.leading)}")
        previous = await sealed_header(c, stream_id, sequence - 1)
        reason = self._contradicted.get(known.digest) or obstacle(previous, known.header)
        if reason is not None:
            return Waiting(sequence, "contradicted", reason, known.digest)
        return _Ready(bodies.Want(seat, known.header, known.digest, standing.supporters, next_=True), previous)

    async def _in_force(self, c: book.Connection, seat: Seat) -> bool:
        """Whether the seat is what the document says that the book follows now. Another process may have taken up a newer one."""
        seats = self._wires.seats
        return seats.at(seat.stream_id, seat.sequence) == seat and await book.meta(c, "document") == seats.encoded

    async def _standing(self, c: book.Connection, seat: Seat) -> tuple[quorum.Frame, quorum.Standing]:
        frame = await votes.frame(c, votes.Place(seat.stream_id, seat.sequence, seat.revision))
        return frame, votes.stand(frame, seat, await votes.quarantined(c))

    async def _refresh_wants(self, c: book.Connection, stream_id: bytes, *, look: int) -> None:
        """Bodies of the frames from the next one on that have their quorum, whatever is missing between them: votes come in any order."""
        first = await votes.next_sequence(c, stream_id)
        frames = await votes.frames(c, stream_id, first=first, last=first + bodies.WINDOW - 1)
        quarantined = await votes.quarantined(c)
        wants: list[bodies.Want] = []
        for sequence in range(first, first + bodies.WINDOW):
            seat = self._wires.seats.at(stream_id, sequence)
            if seat is None:
                break
            frame = frames.get((sequence, seat.revision))
            standing = None if frame is None else votes.stand(frame, seat, quarantined)
            if standing is None or standing.state != "quorum" or standing.leading is None:
                continue
            known = await votes.header(c, standing.leading)
            if known is None or await bodies.repeats(c, known.header):
                continue
            copies = await bodies.sources(c, standing.leading)
            complete = any(copy.complete for copy in copies.values())
            want = bodies.Want(seat, known.header, known.digest, standing.supporters, sequence == first, complete)
            wants.append(want)
        self._wires.wants.replace(stream_id, wants, look=look)

    async def _payloads(self, c: book.Connection, want: bodies.Want) -> tuple[list[bytes] | None, str]:
        """A complete copy: of a token's holder rather than of an address, the oldest first, so that newer ones cannot push it back."""
        copies = await bodies.sources(c, want.digest)
        complete = [source for source, copy in copies.items() if copy.complete]
        if not complete:
            return None, ""

        def turn(source: str) -> tuple[bool, int, str]:
            return not bodies.by_token(source), self._wires.wants.recency(want.digest, source), source

        source = min(complete, key=turn)
        return await bodies.load(c, want.digest, source=source), source

    async def _entries(self, c: book.Connection, want: bodies.Want) -> Mapping[bodies.Key, bodies.Entry]:
        """The leaves of the frame before, from memory or from the book."""
        stream_id, sequence = want.header.stream, want.header.sequence - 1
        known = self._leaves.get(stream_id)
        if known is None or known.sequence != sequence:
            leaves = await leaves_at(c, stream_id, sequence)
            entries = await asyncio.to_thread(_hashed, leaves)
            known = self._leaves[stream_id] = _Known(sequence, entries)
        return known.entries

    async def _held(self, ready: _Ready) -> Waiting | None:
        """A cap that fires is written down once; only a person's release lets the frame go on."""
        header = ready.want.header
        previous = None if ready.previous is None else ready.previous.header
        reason = next((text for cap in self._caps if (text := cap(previous, header)) is not None), None)
        if reason is None:
            return None
        async with self._book.write() as c:
            row = (
                await c.execute(sa.select(tables.hold).where(tables.hold.c.digest == ready.want.digest))
            ).one_or_none()
            if row is None:
                await c.execute(
                    tables.hold.insert().values(
                        digest=ready.want.digest,
                        stream=header.stream,
                        sequence=header.sequence,
                        reason=reason,
                        at_s=int(self._clock.now()),
                    )
                )
                log.error("hub.held", stream=ready.want.seat.stream.name, sequence=header.sequence, why=reason)
        if row is not None and row.released_by is not None:
            return None
        return Waiting(header.sequence, "held", reason, ready.want.digest)

    async def _throw_out(self, want: bodies.Want, source: str, reason: str) -> None:
        self._metrics.bodies.labels("wrong").inc()
        log.warning(
            "hub.body_refused", stream=want.seat.stream.name, sequence=want.header.sequence, source=source, why=reason
        )
        async with self._book.write() as c:
            await bodies.discard(c, want.digest, source=source)
        self._wires.wants.disappointed(want.digest)

    async def _seal(self, ready: _Ready, checked: bodies.Checked) -> bool:
        want = ready.want
        header, seat = want.header, want.seat
        at_s = int(self._clock.now())
        faults.point("hub.before_seal_commit")
        async with self._book.write() as c:
            if await votes.next_sequence(c, header.stream) != header.sequence:
                return False
            if not await self._in_force(c, seat):
                return False  # another document came while the body was checked: count anew under its signers
            _, standing = await self._standing(c, seat)
            if standing.state != "quorum" or standing.leading != want.digest:
                return False  # a vote was replaced, or a signer quarantined, while the body was checked
            number = (await c.scalar(sa.select(sa.func.max(tables.sealed.c.number))) or 0) + 1
            await c.execute(
                tables.sealed.insert().values(
                    stream=header.stream,
                    sequence=header.sequence,
                    number=number,
                    revision=header.revision,
                    digest=want.digest,
                    carry=header.carry,
                    at_s=at_s,
                )
            )
            await votes.certify(c, want.digest, standing.supporters)
            await _store_body(c, header, checked)
            await bodies.discard_sealed(c, header.stream, sequence=header.sequence)
        faults.point("hub.after_seal_commit")
        self._leaves[header.stream] = _Known(header.sequence, checked.entries)
        self._wires.wants.drop(want.digest)
        self._metrics.sealed.labels(seat.stream.name).inc()
        self._metrics.last_seal.labels(seat.stream.name).set(at_s)
        self._metrics.next_sequence.labels(seat.stream.name).set(header.sequence + 1)
        log.info(
            "hub.sealed",
            stream=seat.stream.name,
            sequence=header.sequence,
            digest=want.digest,
            votes=len(standing.supporters),
            leaves=header.leaf_count,
        )
        await self._news.publish()
        return True

    def _note(self, stream_id: bytes, waiting: Waiting) -> None:
        """Keep for the status page; say it once when it needs a person."""
        name = self._wires.seats.streams[stream_id].name
        self._metrics.held.labels(name).set(int(waiting.state == "held"))
        self._metrics.contradicted.labels(name).set(int(waiting.state == "contradicted"))
        self._metrics.next_sequence.labels(name).set(waiting.sequence)
        if waiting.state == "contradicted" and self.waiting.get(stream_id) != waiting:
            log.error("hub.contradicted", stream=name, sequence=waiting.sequence, why=waiting.reason)
        self.waiting[stream_id] = waiting


def obstacle(previous: votes.Known | None, header: statement.Header) -> str | None:
    """What keeps a header with a quorum from continuing the sealed frame before it; None when it does."""
    if (previous is None) != (header.sequence == 0):
        return "only the first frame has no sealed frame before it"
    if previous is None:
        return None
    before = previous.header
    if header.previous != previous.digest:
        return f"`previous` is not the sealed digest of frame {before.sequence}"
    if header.from_position != before.to_position + 1:
        return f"it starts at {header.from_position}, frame {before.sequence} ended at {before.to_position}"
    if header.from_anchor != before.to_anchor:
        return f"`fromAnchor` is not the last block of frame {before.sequence}"
    if header.to_time < before.to_time:
        return f"it ends before frame {before.sequence} did"
    if header.total_reward < before.total_reward or header.total_penalty < before.total_penalty:
        return "a cumulative total falls"
    return None


def _repeats(before: statement.Header, header: statement.Header) -> bool:
    return (before.body_root, before.carry) == (header.body_root, header.carry)


def _hashed(leaves: Sequence[statement.Leaf]) -> dict[bodies.Key, bodies.Entry]:
    return {(leaf.subject, leaf.asset, leaf.kind): bodies.Entry(leaf, leaf.hash()) for leaf in leaves}


async def sealed_header(c: book.Connection, stream: bytes, sequence: int) -> votes.Known | None:
    if sequence < 0:
        return None
    table = tables.sealed
    digest = await c.scalar(sa.select(table.c.digest).where(table.c.stream == stream, table.c.sequence == sequence))
    return None if digest is None else await votes.header(c, digest)


async def leaves_at(c: book.Connection, stream: bytes, sequence: int) -> list[statement.Leaf]:
    """Leaves of a sealed frame, ascending by (subject, asset, kind); none before the first frame."""
    if sequence < 0:
        return []
    table = tables.leaf
    newest = (
        sa.select(table.c.subject, table.c.asset, table.c.kind, sa.func.max(table.c.sequence).label("sequence"))
        .where(table.c.stream == stream, table.c.sequence <= sequence)
        .group_by(table.c.subject, table.c.asset, table.c.kind)
        .subquery()
    )
    same = [table.c[name] == newest.c[name] for name in ("subject", "asset", "kind", "sequence")]
    query = sa.select(table).join(newest, sa.and_(*same)).where(table.c.stream == stream)
    query = query.order_by(table.c.subject, table.c.asset, table.c.kind)
    rows = await c.stream(query)
    leaves: list[statement.Leaf] = []
    async for part in rows.partitions(ROWS_AT_ONCE):
        leaves += [_leaf(row) for row in part]
        await asyncio.sleep(0)
    return leaves


def _leaf(row: sa.Row[Any]) -> statement.Leaf:
    parts = msgspec.json.decode(row.parts, type=tuple[str, ...])
    return statement.Leaf(row.subject, row.asset, row.kind, row.reward, row.penalty, parts)


async def carry(c: book.Connection, carry_hash: bytes) -> bytes | None:
    """The canonical JSON of a sealed frame's accounting state."""
    packed = await c.scalar(sa.select(tables.carry.c.packed).where(tables.carry.c.hash == carry_hash))
    return None if packed is None else await asyncio.to_thread(zlib.decompress, packed)


async def _store_body(c: book.Connection, header: statement.Header, checked: bodies.Checked) -> None:
    for first in range(0, len(checked.changed), ROWS_AT_ONCE):
        rows = [
            {
                "stream": header.stream,
                "subject": leaf.subject,
                "asset": leaf.asset,
                "kind": leaf.kind,
                "sequence": header.sequence,
                "reward": leaf.reward,
                "penalty": leaf.penalty,
                "parts": wire.encode(leaf.parts),
            }
            for leaf in checked.changed[first : first + ROWS_AT_ONCE]
        ]
        await c.execute(tables.leaf.insert(), rows)
        await asyncio.sleep(0)
    known = await c.scalar(sa.select(sa.literal(1)).where(tables.carry.c.hash == header.carry))
    if known is None and checked.packed is not None:
        await c.execute(tables.carry.insert().values(hash=header.carry, packed=checked.packed))


async def release(c: book.Connection, digest: bytes, *, by: str, reason: str, at_s: int) -> bool:
    """A person lets a held frame go on; False when it is not held. Raises BadConfig for a reason that holds a token: it would stay."""
    if logs.hide_tokens(reason) != reason:
        raise errors.BadConfig(
            "the reason holds a token, which would stay in the book", cure="leave it out, and rotate the token"
        )
    table = tables.hold
    changed = await c.execute(
        table.update()
        .where(table.c.digest == digest, table.c.released_by.is_(None))
        .values(released_by=by, released_at_s=at_s, released_why=reason)
    )
    return changed.rowcount == 1
