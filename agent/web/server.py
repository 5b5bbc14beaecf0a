"""The agent's windows: health, metrics, status, a page, and a read-only API. In: the book and live values. Out: HTTP answers.

    GET /healthz                      200 while every service steps or waits with a deadline ahead, else 503
    GET /readyz                       200 or 503, `{"ready":…,"reasons":[…]}`
    GET /metrics                      for Prometheus
    GET /status                       `view.Status` as JSON
    GET /                             the same for a person
    GET /v1/events?before=&limit=     newest first; `next` is the `before` of the following page
    GET /v1/frames?stream=&before=&limit=
    GET /v1/statements/{digest}       the header, without its body

Nothing here changes anything: only GET and HEAD exist.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
from aiohttp import web

from agent.web import metrics, pages, view
from domain import errors, hashing, wire
from kit import http, runtime
from store import book, queries

MAX_PAGE = 200
NEWEST_EVENTS = 15


class EventItem(msgspec.Struct, frozen=True, rename="camel"):
    """Amounts are decimal strings, bytes 0x-hex; `detail` is the event's other fields as JSON text."""

    number: int
    block_hash: str
    log_index: int
    tx_hash: str
    address: str
    time: int
    protocol: str
    kind: str | None
    validator: str | None
    delegator: str | None
    amount: str | None
    detail: str | None
    proof: str


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
    events: list[EventItem]
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


class Health(msgspec.Struct, frozen=True):
    alive: bool
    stuck: list[str]


class Readiness(msgspec.Struct, frozen=True):
    ready: bool
    reasons: list[str]


class Web:
    """Answers. `source` gives live values; the rest is read from the book at each request."""

    def __init__(
        self,
        the_book: book.Book,
        source: view.Source,
        *,
        clock: runtime.Clock,
        meters: metrics.Metrics,
        max_lag_blocks: int,
        version: str,
    ) -> None:
        self._book = the_book
        self._source = source
        self._clock = clock
        self._meters = meters
        self._max_lag_blocks = max_lag_blocks
        self._version = version

    def application(self) -> web.Application:
        app = http.application()
        app.add_routes(
            [
                web.get("/healthz", self._healthz),
                web.get("/readyz", self._readyz),
                web.get("/metrics", self._metrics),
                web.get("/status", self._status),
                web.get("/", self._page),
                web.get("/style.css", self._style),
                web.get("/v1/events", self._events),
                web.get("/v1/frames", self._frames),
                web.get("/v1/statements/{digest}", self._statement),
            ]
        )
        return app

    async def status(self) -> view.Status:
        async with self._book.read() as c:
            summary = await queries.summary(c)
        return view.status(
            self._source(),
            summary,
            max_lag_blocks=self._max_lag_blocks,
            now_s=int(self._clock.now()),
            version=self._version,
        )

    async def _healthz(self, _request: web.Request) -> web.Response:
        stuck = list(self._source().stuck)
        return http.json_response(Health(not stuck, stuck), status=503 if stuck else 200)

    async def _readyz(self, _request: web.Request) -> web.Response:
        status = await self.status()
        return http.json_response(Readiness(status.ready, status.reasons), status=200 if status.ready else 503)

    async def _metrics(self, _request: web.Request) -> web.Response:
        alive = not self._source().stuck
        body = self._meters.render(await self.status(), alive=alive)
        return web.Response(body=body, headers={"Content-Type": metrics.CONTENT_TYPE})

    async def _status(self, _request: web.Request) -> web.Response:
        return http.json_response(await self.status())

    async def _page(self, _request: web.Request) -> web.Response:
        async with self._book.read() as c:
            newest = await queries.events(c, limit=NEWEST_EVENTS)
        page = pages.status_page(await self.status(), newest, now_s=int(self._clock.now()))
        return web.Response(text=page, content_type="text/html")

    async def _style(self, _request: web.Request) -> web.Response:
        return web.Response(text=pages.STYLE, content_type="text/css", headers={"Cache-Control": "max-age=300"})

    async def _events(self, request: web.Request) -> web.Response:
        limit = http.query_int(request, "limit", default=50, minimum=1, maximum=MAX_PAGE)
        before = _place(request.query.get("before"))
        async with self._book.read() as c:
            rows = await queries.events(c, limit=limit, before=before)
        last = rows[-1] if len(rows) == limit else None
        following = None if last is None else f"{last.number}:{last.log_index}"
        return http.json_response(EventPage([_event(row) for row in rows], following))

    async def _frames(self, request: web.Request) -> web.Response:
        limit = http.query_int(request, "limit", default=50, minimum=1, maximum=MAX_PAGE)
        before = http.query_int(request, "before", default=-1, minimum=0, maximum=2**63 - 1)
        stream = self._stream(request.query.get("stream"))
        async with self._book.read() as c:
            rows = await queries.frames(c, limit=limit, stream=stream, before=None if before < 0 else before)
        following = str(rows[-1].sequence) if len(rows) == limit and stream is not None else None
        return http.json_response(FramePage([_frame(row) for row in rows], following))

    async def _statement(self, request: web.Request) -> web.Response:
        digest = hashing.unhex(request.match_info["digest"], size=32, what="digest")
        async with self._book.read() as c:
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
        named = self._source().streams.get(text)
        return named if named is not None else hashing.unhex(text, size=32, what="stream")


@asynccontextmanager
async def serving(windows: Web, *, host: str, port: int, port_file: Path | None = None) -> AsyncIterator[int]:
    """Serve while inside; yields the bound port, which is also in `port_file` meanwhile."""
    async with http.serving(windows.application(), host=host, port=port) as bound:
        if port_file is not None:
            port_file.write_text(f"{bound}\n")
        try:
            yield bound
        finally:
            if port_file is not None:
                port_file.unlink(missing_ok=True)


def _place(text: str | None) -> tuple[int, int] | None:
    """`number:logIndex`."""
    if text is None:
        return None
    number, separator, index = text.partition(":")
    parts = (number, index)
    if not separator or not all(p.isascii() and p.isdecimal() and len(p) < 19 for p in parts):
        raise errors.BadAnswer("before must be number:logIndex", value=text)
    return int(number), int(index)


def _hex(value: bytes | None) -> str | None:
    return None if value is None else hashing.hex0x(value)


def _event(row: queries.EventRow) -> EventItem:
    return EventItem(
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
