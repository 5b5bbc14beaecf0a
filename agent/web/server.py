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

import ssl
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from importlib import metadata
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

import msgspec
from aiohttp import web

from agent.web import metrics as meters
from agent.web import pages, view
from domain import chain, errors, hashing, wire
from kit import http, logs, runtime
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


class Index(Protocol):
    """What is asked of the index stage."""

    @property
    def state(self) -> str: ...

    @property
    def reason(self) -> str: ...

    @property
    def remote_head(self) -> chain.BlockRef | None: ...

    @property
    def counts(self) -> Counts: ...


class Counts(Protocol):
    @property
    def lies(self) -> int: ...


class Hub(Protocol):
    """What is asked of the report stage about the hub."""

    @property
    def url(self) -> str: ...

    @property
    def reachable(self) -> bool: ...

    @property
    def last_error(self) -> str: ...

    @property
    def last_receipt(self) -> int: ...

    @property
    def amnesia(self) -> int: ...

    @property
    def refused(self) -> int: ...


class Waiting(Protocol):
    """Why a stream's next frame is open, as the close stage says it."""

    @property
    def sequence(self) -> int: ...

    @property
    def reason(self) -> str: ...


class Live(msgspec.Struct, frozen=True):
    """The running process, as `agent.app` hands it over. `streams` maps names to ids."""

    name: str
    chain_id: int
    deployment: bytes
    node_url: str
    max_lag_blocks: int
    streams: Mapping[str, bytes]
    book: book.Book
    index: Index
    supervisor: runtime.Supervisor
    clock: runtime.Clock
    waiting: Mapping[str, Waiting]
    hub: Hub | None = None
    attester: bytes | None = None

    def now(self) -> view.Live:
        """A frozen picture of this moment."""
        head = self.index.remote_head
        hub = self.hub
        return view.Live(
            name=self.name,
            chain_id=self.chain_id,
            deployment=self.deployment,
            streams=self.streams,
            node=view.Node(
                name=urlsplit(self.node_url).netloc.rpartition("@")[2],
                state=self.index.state,
                reason=logs.scrub(self.index.reason),
                head=None if head is None else head.number,
                lies=self.index.counts.lies,
            ),
            services=tuple(self.supervisor.states.values()),
            stuck=tuple(self.supervisor.stuck()),
            attester=self.attester,
            hub=None
            if hub is None
            else view.Hub(
                url=logs.safe_url(hub.url),
                reachable=hub.reachable,
                last_error=logs.scrub(hub.last_error),
                last_receipt=hub.last_receipt,
                amnesia=hub.amnesia,
                refused=hub.refused,
            ),
            waiting={name: view.Waiting(item.sequence, item.reason) for name, item in self.waiting.items()},
        )


def software() -> str:
    """This software and its version, e.g. `stakeside 0.1.0`."""
    return f"stakeside {_version()}"


def _version() -> str:
    try:
        return metadata.version("stakeside")
    except metadata.PackageNotFoundError:
        return "0+source"


def metrics() -> meters.Metrics:
    return meters.Metrics(version=_version())


@asynccontextmanager
async def serve(
    live: Live,
    metrics: meters.Metrics,
    *,
    host: str,
    port: int,
    port_file: Path | None = None,
    tls: ssl.SSLContext | None = None,
    health_port: int | None = None,
) -> AsyncGenerator[int, None]:
    """Serve while inside; yields the bound port, which is also in `port_file` meanwhile: `agent status` finds it there. With a `health_port`
    probes are answered there too, in plain HTTP."""
    answering = Web(live, metrics)
    async with AsyncExitStack() as stack:
        bound = await stack.enter_async_context(http.serving(answering.application(), host=host, port=port, tls=tls))
        if health_port is not None:
            await stack.enter_async_context(
                http.serving(answering.probes(), host=host, port=health_port, setting="web.tls.health_port")
            )
        if port_file is not None:
            port_file.write_text(f"{bound}\n")
        try:
            yield bound
        finally:
            if port_file is not None:
                port_file.unlink(missing_ok=True)


class Web:
    """Answers. Live values come from `live`; the rest is read from the book at each request."""

    def __init__(self, live: Live, metrics: meters.Metrics) -> None:
        self._live = live
        self._metrics = metrics
        self._version = _version()

    def application(self) -> web.Application:
        app = http.application()
        app.add_routes(
            [
                web.get("/healthz", self._healthz),
                web.get("/readyz", self._readyz),
                web.get("/metrics", self._scrape),
                web.get("/status", self._status),
                web.get("/", self._page),
                web.get("/style.css", self._style),
                web.get("/v1/events", self._events),
                web.get("/v1/frames", self._frames),
                web.get("/v1/statements/{digest}", self._statement),
            ]
        )
        return app

    def probes(self) -> web.Application:
        """What a probe may ask in plain HTTP where the agent wants client certificates: how it is, and nothing else."""
        app = http.application()
        app.add_routes(
            [
                web.get("/healthz", self._healthz),
                web.get("/readyz", self._readyz),
                web.get("/metrics", self._scrape),
            ]
        )
        return app

    async def status(self) -> view.Status:
        live = self._live
        async with live.book.read() as c:
            summary = await queries.summary(c)
        return view.status(
            live.now(),
            summary,
            max_lag_blocks=live.max_lag_blocks,
            now_s=int(live.clock.now()),
            version=self._version,
        )

    async def _healthz(self, _request: web.Request) -> web.Response:
        stuck = self._live.supervisor.stuck()
        return http.json_response(Health(not stuck, stuck), status=503 if stuck else 200)

    async def _readyz(self, _request: web.Request) -> web.Response:
        status = await self.status()
        return http.json_response(Readiness(status.ready, status.reasons), status=200 if status.ready else 503)

    async def _scrape(self, _request: web.Request) -> web.Response:
        alive = not self._live.supervisor.stuck()
        body = self._metrics.render(await self.status(), alive=alive)
        return web.Response(body=body, headers={"Content-Type": meters.CONTENT_TYPE})

    async def _status(self, _request: web.Request) -> web.Response:
        return http.json_response(await self.status())

    async def _page(self, _request: web.Request) -> web.Response:
        async with self._live.book.read() as c:
            newest = await queries.events(c, limit=NEWEST_EVENTS)
        page = pages.status_page(await self.status(), newest, now_s=int(self._live.clock.now()))
        return web.Response(text=page, content_type="text/html")

    async def _style(self, _request: web.Request) -> web.Response:
        return web.Response(text=pages.STYLE, content_type="text/css", headers={"Cache-Control": "max-age=300"})

    async def _events(self, request: web.Request) -> web.Response:
        limit = http.query_int(request, "limit", default=50, minimum=1, maximum=MAX_PAGE)
        before = _place(request.query.get("before"))
        async with self._live.book.read() as c:
            rows = await queries.events(c, limit=limit, before=before)
        last = rows[-1] if len(rows) == limit else None
        following = None if last is None else f"{last.number}:{last.log_index}"
        return http.json_response(EventPage([_event(row) for row in rows], following))

    async def _frames(self, request: web.Request) -> web.Response:
        limit = http.query_int(request, "limit", default=50, minimum=1, maximum=MAX_PAGE)
        before = http.query_int(request, "before", default=-1, minimum=0, maximum=2**63 - 1)
        stream = self._stream(request.query.get("stream"))
        async with self._live.book.read() as c:
            rows = await queries.frames(c, limit=limit, stream=stream, before=None if before < 0 else before)
        following = str(rows[-1].sequence) if len(rows) == limit and stream is not None else None
        return http.json_response(FramePage([_frame(row) for row in rows], following))

    async def _statement(self, request: web.Request) -> web.Response:
        digest = hashing.unhex(request.match_info["digest"], size=32, what="digest")
        async with self._live.book.read() as c:
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
