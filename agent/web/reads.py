"""What the index holds, for whoever may look. In: filters and a place to go on from. Out: events, frames, statement headers as JSON."""

from __future__ import annotations

import msgspec
from aiohttp import web

from agent.web import items, live, routes
from domain import errors, hashing, wire
from kit import http
from store import queries

MAX_PAGE = 200


class FrameItem(msgspec.Struct, frozen=True, rename="camel"):
    stream: str
    sequence: int
    revision: int
    digest: str
    origin: str
    from_position: int
    to_position: int
    to_time: int
    leaf_count: int
    total_reward: str
    total_penalty: str
    receipt: str | None


class EventPage(msgspec.Struct, frozen=True):
    events: list[items.Event]
    next: str | None


class FramePage(msgspec.Struct, frozen=True):
    frames: list[FrameItem]
    next: str | None


class StatementItem(msgspec.Struct, frozen=True, rename="camel"):
    digest: str
    config_digest: str
    origin: str
    current: bool
    header: wire.HeaderWire


class Reads:
    def __init__(self, the: live.Live) -> None:
        self._live = the

    def routes(self) -> list[routes.Route]:
        read = routes.READ
        return [
            routes.Route("GET", "/v1/events", self.events, read, "Staking events, newest first."),
            routes.Route("GET", "/v1/frames", self.frames, read, "Closed frames, newest first."),
            routes.Route("GET", "/v1/statements/{digest}", self.statement, read, "A statement's header."),
        ]

    async def events(self, request: web.Request) -> web.Response:
        limit = http.query_int(request, "limit", default=50, minimum=1, maximum=MAX_PAGE)
        before = _place(request.query.get("before"))
        async with self._live.book.look() as c:
            rows = await queries.events(c, limit=limit, before=before)
        last = rows[-1] if len(rows) == limit else None
        following = None if last is None else f"{last.number}:{last.log_index}"
        return http.json_response(EventPage([event(row) for row in rows], following))

    async def frames(self, request: web.Request) -> web.Response:
        limit = http.query_int(request, "limit", default=50, minimum=1, maximum=MAX_PAGE)
        before = http.query_int(request, "before", default=-1, minimum=0, maximum=2**63 - 1)
        stream = self._stream(request.query.get("stream"))
        async with self._live.book.look() as c:
            rows = await queries.frames(c, limit=limit, stream=stream, before=None if before < 0 else before)
        following = str(rows[-1].sequence) if len(rows) == limit and stream is not None else None
        return http.json_response(FramePage([_frame(row) for row in rows], following))

    async def statement(self, request: web.Request) -> web.Response:
        digest = hashing.unhex(request.match_info["digest"], size=32, what="digest")
        async with self._live.book.look() as c:
            found = await queries.header(c, digest)
        if found is None:
            return http.problem(404, "Not Found", "this agent has no such statement")
        return http.json_response(
            StatementItem(
                digest=hashing.hex0x(found.digest),
                config_digest=hashing.hex0x(found.config_digest),
                origin=found.origin,
                current=bool(found.current),
                header=wire.header_to_wire(found.header),
            )
        )

    def _stream(self, text: str | None) -> bytes | None:
        """A stream by its name or its 0x-hex id."""
        if text is None:
            return None
        named = self._live.streams.get(text)
        return named if named is not None else hashing.unhex(text, size=32, what="stream")


def _place(text: str | None) -> tuple[int, int] | None:
    """`number:logIndex`."""
    if text is None:
        return None
    number, separator, index = text.partition(":")
    parts = (number, index)
    if not separator or not all(p.isascii() and p.isdecimal() and len(p) < 19 for p in parts):
        raise errors.BadAnswer("before must be number:logIndex", value=text)
    return int(number), int(index)


def event(row: queries.EventRow) -> items.Event:
    return items.Event(
        number=row.number,
        block_hash=hashing.hex0x(row.block_hash),
        log_index=row.log_index,
        tx_hash=hashing.hex0x(row.tx_hash),
        address=hashing.hex0x(row.address),
        time=row.time,
        protocol=row.protocol,
        kind=row.kind,
        validator=_hex(row.validator),
        delegator=_hex(row.delegator),
        amount=None if row.amount is None else str(row.amount),
        detail=row.detail,
        proof=row.proof,
    )


def _hex(value: bytes | None) -> str | None:
    return None if value is None else hashing.hex0x(value)


def _frame(row: queries.FrameRow) -> FrameItem:
    return FrameItem(
        stream=hashing.hex0x(row.stream),
        sequence=row.sequence,
        revision=row.revision,
        digest=hashing.hex0x(row.digest),
        origin=row.origin,
        from_position=row.from_position,
        to_position=row.to_position,
        to_time=row.to_time,
        leaf_count=row.leaf_count,
        total_reward=str(row.total_reward),
        total_penalty=str(row.total_penalty),
        receipt=_hex(row.receipt),
    )
