"""What every request passes. In: limits and tokens. Out: a bounded number of requests, measured, some of them with a name.

Reading a body, security headers and problems are `kit.http`'s; here are the in-flight cap, consumer tokens and ETags.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
from pathlib import Path

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
"""Requests answered at a time. More wait at the agent, which is built for that."""


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


async def read_body(request: web.Request, *, max_bytes: int) -> bytes:
    """The whole body. Raises HTTPRequestEntityTooLarge beyond `max_bytes`, Transient when it comes too slowly."""
    check_length(request, max_bytes=max_bytes)
    loop = asyncio.get_running_loop()
    started = loop.time()
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(None) as limit:
            limit.reschedule(started + BODY_GRACE_S)
            async for part in request.content.iter_chunked(1 << 16):
                size += len(part)
                if size > max_bytes:
                    raise web.HTTPRequestEntityTooLarge(max_size=max_bytes, actual_size=size)
                parts.append(part)
                limit.reschedule(started + BODY_GRACE_S + size / BODY_BYTES_PER_S)
    except TimeoutError:
        raise errors.Transient("the request body does not arrive fast enough", value=size) from None
    return b"".join(parts)


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
            raise errors.BadConfig(f"the tokens file cannot be read: {reason}", value=str(path)) from None
        hashes: dict[str, str] = {}
        for number, line in enumerate(lines, start=1):
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            found = _LINE.match(line.strip())
            if found is None or found["name"] in hashes:
                raise errors.BadConfig(
                    f"line {number} of the tokens file is not `name:sha256hex` with a name of its own", value=str(path)
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


def busy(
    metrics: Metrics, clock: runtime.Clock, tokens: Tokens, *, unbounded: frozenset[str], bounds: places.Bounds
) -> Middleware:
    """Counts and times requests, and refuses what is beyond `bounds`. Routes in `unbounded` have a bound of their own."""
    slots = places.Slots(bounds)

    @web.middleware
    async def middleware(request: web.Request, handler: http.Handler) -> web.StreamResponse:
        resource = request.match_info.route.resource
        route = "unknown" if resource is None else resource.canonical
        if route in unbounded:
            return await handler(request)
        asking = source(request, tokens)
        with slots.take(asking, known=by_token(asking)) as taken:
            if not taken:
                metrics.requests.labels(route, "503").inc()
                return http.problem(503, "busy", "too many requests at a time", headers={"Retry-After": "1"})
            metrics.in_flight.set(slots.running)
            try:
                return await timed(route, request, handler)
            finally:
                metrics.in_flight.set(slots.running - 1)

    async def timed(route: str, request: web.Request, handler: http.Handler) -> web.StreamResponse:
        started = clock.monotonic()
        status = 500
        try:
            response = await handler(request)
            status = response.status
            return response
        except web.HTTPException as error:
            status = error.status
            raise
        finally:
            metrics.requests.labels(route, str(status)).inc()
            metrics.request_seconds.labels(route).observe(clock.monotonic() - started)

    return middleware
