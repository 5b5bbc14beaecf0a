"""What every request passes. In: limits and tokens. Out: a bounded number of requests, measured, some of them with a name.

Reading a body, security headers and problems are `kit.http`'s; here are the in-flight cap, consumer tokens and ETags.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from pathlib import Path

from aiohttp import web
from aiohttp.typedefs import Middleware

from domain import errors, wire
from earnings.ingest import Refused
from earnings.metrics import Metrics
from kit import http, runtime

MAX_IN_FLIGHT = 64
"""Requests answered at a time. More wait at the agent, which is built for that."""
_LINE = re.compile(r"(?P<name>[A-Za-z0-9_.\-]{1,64}):(?P<hash>[0-9a-f]{64})\Z")


class Tokens:
    """Consumers by name; only SHA-256 hashes of their tokens are kept."""

    def __init__(self, hashes: dict[str, str]) -> None:
        self._hashes = hashes

    @classmethod
    def load(cls, path: Path | None) -> Tokens:
        """Lines `name:sha256hex`, blank lines and # comments aside. Without a file nobody is a consumer."""
        if path is None:
            return cls({})
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
        return cls(hashes)

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


def busy(metrics: Metrics, clock: runtime.Clock, *, unbounded: frozenset[str], limit: int) -> Middleware:
    """Counts and times requests, and refuses what is beyond `limit`. Routes in `unbounded` have a bound of their own."""
    running = 0

    @web.middleware
    async def middleware(request: web.Request, handler: http.Handler) -> web.StreamResponse:
        nonlocal running
        resource = request.match_info.route.resource
        route = "unknown" if resource is None else resource.canonical
        if route in unbounded:
            return await handler(request)
        if running >= limit:
            metrics.requests.labels(route, "503").inc()
            return http.problem(503, "busy", "too many requests at a time", headers={"Retry-After": "1"})
        running += 1
        metrics.in_flight.set(running)
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
            running -= 1
            metrics.in_flight.set(running)
            metrics.requests.labels(route, str(status)).inc()
            metrics.request_seconds.labels(route).observe(clock.monotonic() - started)

    return middleware
