"""What every request passes. In: limits and tokens. Out: a bounded number of requests, measured, some of them with a name.

Security headers and problems are `kit.http`'s; here are places, bodies on their way, consumer tokens and ETags. What agents sign has places
of its own, apart from guests', and takes one when its body is here: it is refused or written at once, so only who may write can hold one.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
import time
from collections.abc import AsyncGenerator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
from aiohttp import web
from aiohttp.typedefs import Middleware

from domain import errors, wire
from earnings.bodies import by_token
from earnings.ingest import Refused
from earnings.metrics import Metrics
from kit import http, places, runtime

BODY_GRACE_S = 5.0
BODY_BYTES_PER_S = 64 << 10
"""A body must arrive at least this fast after the grace: who trickles does not keep a place for long."""
_LINE = re.compile(r"(?P<name>[A-Za-z0-9_.\-]{1,64}):(?P<hash>[0-9a-f]{64})\Z")


MAX_IN_FLIGHT = places.Bounds(total=128, addresses=96, each=48)
"""Requests answered at a time: guests and consumers together, and of each kind that agents sign. More wait at the agent, which is built
for that."""


class Reading(msgspec.Struct, frozen=True):
    """Bodies on their way at a time, in `total` and of `each` source, and what may be held of them."""

    total: int
    each: int
    bytes_total: int
    bytes_each: int


SAID = Reading(total=256, each=48, bytes_total=16 << 20, bytes_each=16 << 20)
"""What strangers sign: 64 KiB at most, so the numbers bound it."""
PACE_CREDIT = 64 << 10
"""A body counts as so much further on its way: one that has just come is not the slowest."""


def source(request: web.Request, tokens: Tokens) -> str:
    """Who a request is from, as far as it can be told: its token's name, or its network address (of IPv6 the /64, which one host has
    whole)."""
    name = tokens.name(request)
    if name is not None:
        return f"token:{name}"[:64]
    return f"addr:{places.address(request.remote)}"[:64]


def check_length(request: web.Request, *, max_bytes: int) -> None:
    """Raises HTTPRequestEntityTooLarge for a body that says beforehand that it is."""
    if request.content_length is not None and request.content_length > max_bytes:
        raise web.HTTPRequestEntityTooLarge(max_size=max_bytes, actual_size=request.content_length)


class _Arriving:
    """A body on its way. `evict` ends it."""

    def __init__(self, source: str, since_s: float) -> None:
        self.source = source
        self.size = 0
        self._since_s = since_s
        self._limit: asyncio.Timeout | None = None
        self._evicted = False

    def pace(self, now_s: float) -> float:
        return (self.size + PACE_CREDIT) / max(now_s - self._since_s, 1e-6)

    async def read(
        self, request: web.Request, *, max_bytes: int, grown: Callable[[_Arriving, int], None] | None = None
    ) -> bytes:
        """`grown` is told of each part."""
        check_length(request, max_bytes=max_bytes)
        loop = asyncio.get_running_loop()
        started = loop.time()
        parts: list[bytes] = []
        try:
            async with asyncio.timeout_at(started + BODY_GRACE_S) as self._limit:
                async for part in request.content.iter_chunked(1 << 16):
                    if self._evicted:
                        continue  # it ends at the next turn of the loop
                    if self.size + len(part) > max_bytes:
                        raise web.HTTPRequestEntityTooLarge(max_size=max_bytes, actual_size=self.size + len(part))
                    parts.append(part)
                    self.size += len(part)
                    if grown is not None:
                        grown(self, len(part))
                    if not self._evicted:
                        self._limit.reschedule(started + BODY_GRACE_S + self.size / BODY_BYTES_PER_S)
            if self._evicted:
                raise TimeoutError
        except TimeoutError:
            raise errors.Transient("the request body does not arrive fast enough", value=self.size) from None
        finally:
            self._limit = None
        return b"".join(parts)

    def evict(self) -> None:
        self._evicted = True
        if self._limit is not None and not self._limit.expired():
            self._limit.reschedule(asyncio.get_running_loop().time())


class Arrivals:
    """Bodies on their way. One more than there is room for ends the slowest: of its own address if that has its share, else of the address
    that has most. What is held beyond its bound ends the slowest too, of an address beyond its share, else of all. So who sends a body at once
    is never that one, however many are slow."""

    def __init__(self, bounds: Reading | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._bounds = SAID if bounds is None else bounds
        self._clock = clock
        self._open: dict[str, dict[_Arriving, None]] = {}
        self._count = 0
        self._held: dict[str, int] = {}
        self._bytes = 0

    async def read(self, request: web.Request, *, source: str, known: bool, max_bytes: int) -> bytes:
        """The whole body. Raises HTTPRequestEntityTooLarge beyond `max_bytes`, Transient when it comes too slowly or is ended. Who is `known`
        is never ended for others."""
        if known:
            return await _Arriving("", self._clock()).read(request, max_bytes=max_bytes)
        async with self.hold(request, source=source, max_bytes=max_bytes) as body:
            return body

    @asynccontextmanager
    async def hold(self, request: web.Request, *, source: str, max_bytes: int) -> AsyncGenerator[bytes, None]:
        """The whole body, which counts among what is held while inside. Raises what `read` does."""
        if len(self._open.get(source, ())) >= self._bounds.each:
            self._evict(self._open[source])
        elif self._count >= self._bounds.total:
            self._evict(max(self._open.values(), key=len))
        arriving = _Arriving(source, self._clock())
        self._open.setdefault(source, {})[arriving] = None
        self._count += 1
        try:
            body = await arriving.read(request, max_bytes=max_bytes, grown=self._grown)
            self._leave(arriving)  # all of it is here: it cannot be ended any more, and is still held
            yield body
        finally:
            self._leave(arriving)
            self._take(arriving, -arriving.size)

    def _grown(self, arriving: _Arriving, size: int) -> None:
        self._take(arriving, size)
        source = arriving.source
        while self._held.get(source, 0) > self._bounds.bytes_each and source in self._open:
            self._evict(self._open[source])
        while self._bytes > self._bounds.bytes_total and self._open:
            self._evict([other for of_source in self._open.values() for other in of_source])

    def _evict(self, among: Collection[_Arriving]) -> None:
        now_s = self._clock()
        slowest = min(among, key=lambda other: other.pace(now_s))
        self._leave(slowest)
        self._take(slowest, -slowest.size)
        slowest.size = 0
        slowest.evict()

    def _take(self, arriving: _Arriving, size: int) -> None:
        self._bytes += size
        held = self._held.get(arriving.source, 0) + size
        if held:
            self._held[arriving.source] = held
        else:
            self._held.pop(arriving.source, None)

    def _leave(self, arriving: _Arriving) -> None:
        of_source = self._open.get(arriving.source, {})
        if arriving in of_source:
            del of_source[arriving]
            self._count -= 1
            if not of_source:
                del self._open[arriving.source]


class Tokens:
    """Consumers by name; only SHA-256 hashes of their tokens are kept."""

    def __init__(self, path: Path | None) -> None:
        """Without a file nobody is a consumer. Raises BadConfig."""
        self._path = path
        self._hashes = self._read(path)

    def __len__(self) -> int:
        return len(self._hashes)

    def reload(self) -> None:
        """Take the file as it is now: a name that is gone is nobody from here on. Raises BadConfig, and keeps what was in force."""
        self._hashes = self._read(self._path)

    @staticmethod
    def _read(path: Path | None) -> dict[str, str]:
        """Lines `name:sha256hex`, blank lines and # comments aside."""
        if path is None:
            return {}
        try:
            lines = path.read_text(encoding="ascii").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not ASCII text"
            raise errors.BadConfig(
                f"the tokens file cannot be read: {reason}", value=str(path), cure="check the path and who may read it"
            ) from None
        hashes: dict[str, str] = {}
        for number, line in enumerate(lines, start=1):
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            found = _LINE.match(line.strip())
            if found is None or found["name"] in hashes:
                raise errors.BadConfig(
                    f"line {number} of the tokens file is not `name:sha256hex` with a name of its own",
                    value=str(path),
                    cure="write the SHA-256 of the token's text in hex, and each name once",
                )
            hashes[found["name"]] = found["hash"]
        return hashes

    def name(self, request: web.Request) -> str | None:
        """Who sent the request's Bearer token. Takes the same time whether and wherever it matches."""
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        sent = hashlib.sha256(token.strip().encode("utf-8", "surrogateescape")).hexdigest()
        found: str | None = None
        for name, expected in self._hashes.items():
            if hmac.compare_digest(sent, expected):
                found = name
        return found if scheme.lower() == "bearer" else None


def require(tokens: Tokens, handler: http.Handler) -> http.Handler:
    """401 for everybody without a token."""

    async def guarded(request: web.Request) -> web.StreamResponse:
        if tokens.name(request) is None:
            return http.problem(
                401,
                "token needed",
                "send Authorization: Bearer <token>",
                headers={"WWW-Authenticate": 'Bearer realm="stakeside"'},
            )
        return await handler(request)

    return guarded


def refusal(refused: Refused) -> web.Response:
    headers = {} if refused.retry_after_s is None else {"Retry-After": str(refused.retry_after_s)}
    return web.Response(
        body=wire.encode(refused.problem()),
        status=refused.status,
        headers=headers,
        content_type="application/problem+json",
    )


def tagged(request: web.Request, value: object, *, immutable: bool = False) -> web.Response:
    """JSON with an ETag over its bytes; 304 when the client has them."""
    body = wire.encode(value)
    tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    headers = {
        "ETag": tag,
        "Cache-Control": "private, immutable, max-age=31536000" if immutable else "private, no-cache",
    }
    if tag in {part.strip().removeprefix("W/") for part in request.headers.get("If-None-Match", "").split(",")}:
        return web.Response(status=304, headers=headers)
    return web.Response(body=body, headers=headers, content_type="application/json")


def certified(request: web.Request) -> bool:
    """Whether the sender has shown a certificate: a hub that asks for one lets in nobody without."""
    return bool(request.get_extra_info("peercert"))


def known(request: web.Request, source: str) -> bool:
    """Whether the sender is one whom the operator let in by name: by a token, or by a certificate."""
    return by_token(source) or certified(request)


_said = web.RequestKey("said", bytes)


def said(request: web.Request) -> bytes:
    """The body of a request to a route of `Rooms.said`."""
    return request[_said]


class Rooms(msgspec.Struct, frozen=True):
    """Which places a route's requests take. `unbounded`: none, and nothing is measured. `free`, with the method: none, they have a bound of their
    own or wait for nothing. `said`: signed by agents, their bodies so long at most; each of these routes has its own. All others share the guests'."""

    unbounded: Collection[str]
    free: Collection[tuple[str, str]]
    said: Mapping[str, int]


def measured(metrics: Metrics, clock: runtime.Clock, *, rooms: Rooms) -> Middleware:
    """Counts and times requests by what they are answered: outermost, where every refusal has its status."""
    running = 0

    @web.middleware
    async def middleware(request: web.Request, handler: http.Handler) -> web.StreamResponse:
        nonlocal running
        route = _route(request)
        if route in rooms.unbounded:
            return await handler(request)
        running += 1
        metrics.in_flight.set(running)
        started, status = clock.monotonic(), 500
        try:
            response = await handler(request)
            status = response.status
            return response
        except web.HTTPException as error:
            status = error.status
            raise
        finally:
            running -= 1
            metrics.in_flight.set(running)
            metrics.requests.labels(route, str(status)).inc()
            metrics.request_seconds.labels(route).observe(clock.monotonic() - started)

    return middleware


def busy(tokens: Tokens, *, rooms: Rooms, bounds: places.Bounds) -> Middleware:
    """Refuses what there is no place for."""
    guests = places.Slots(bounds)
    signed = {route: places.Slots(bounds) for route in rooms.said}
    arrivals = Arrivals()

    @web.middleware
    async def middleware(request: web.Request, handler: http.Handler) -> web.StreamResponse:
        route = _route(request)
        if route in rooms.unbounded or (request.method, route) in rooms.free:
            return await handler(request)
        asking = source(request, tokens)
        named = known(request, asking)
        if route in rooms.said:
            request[_said] = await arrivals.read(request, source=asking, known=named, max_bytes=rooms.said[route])
        with signed.get(route, guests).take(asking, known=named) as taken:
            if taken:
                return await handler(request)
            return http.problem(503, "busy", "too many requests at a time", headers={"Retry-After": "1"})

    return middleware


def _route(request: web.Request) -> str:
    resource = request.match_info.route.resource
    return "unknown" if resource is None else resource.canonical
