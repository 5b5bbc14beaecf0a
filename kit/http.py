"""HTTP both ways. In: limits. Out: a client session that cannot hang, a server that stops in order, answers with sane headers.

Refusals are RFC 9457 problems in the wire's own shape (`domain.wire.Problem`).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import logging
import re
import socket
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from aiohttp import http_exceptions, web

from domain import errors, wire
from kit import doors, logs, places

log = logs.logger()
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

MAX_BODY_BYTES = 1 << 20
"""Nobody sends a read-only server more; servers that take uploads name their own cap."""
CONTENT_POLICY = "default-src 'none'; style-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
HEADERS = {
    "Content-Security-Policy": CONTENT_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}


def client_session(*, timeout_s: float = 10.0, connections: int = 20) -> aiohttp.ClientSession:
    """For `async with`. No cookies, no proxy from the environment; `timeout_s` bounds a whole exchange."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=connections, ttl_dns_cache=60),
        timeout=aiohttp.ClientTimeout(total=timeout_s, connect=min(timeout_s, 5.0)),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"User-Agent": "stakeside"},
        trust_env=False,
    )


def application(*, max_body_bytes: int = MAX_BODY_BYTES) -> web.Application:
    """An application whose answers carry the security headers and whose refusals are problems."""
    return web.Application(client_max_size=max_body_bytes, middlewares=[_guard])


IDLE_CONNECTION_S = 20.0
"""A connection without a request is closed after this; so is one that has not sent a whole request head."""
LINGER_S = 10.0
"""How long an upload that was refused is read on, so that its sender sees the refusal."""
UNREAD_S = 30.0
"""How long an answer may lie unread before the system ends the connection. Whoever reads on, however slowly, makes room in time: a sixteenth
of what waits in the own system is enough."""
HANDSHAKE_S = 10.0
"""How long a TLS handshake may take."""
WAITING_CONNECTIONS = 1024
"""How many the system keeps for us until we take them, where it allows that many."""
_MALFORMED = (http_exceptions.HttpProcessingError, web.RequestPayloadError)


class Noise(logging.LoggerAdapter[logging.Logger]):
    """What aiohttp's server logs. A request that is no HTTP is its sender's fault: one short line for many, without where it was noticed."""

    def __init__(self, *, now: Callable[[], float] = time.monotonic) -> None:
        super().__init__(logging.getLogger("aiohttp.server"), {})
        self._seldom = doors.Seldom(now=now)

    def exception(self, msg: object, *args: object, exc_info: Any = True, **kw: Any) -> None:
        if isinstance(exc_info, _MALFORMED):
            self.malformed(str(args[0]) if args else "", exc_info)
        else:
            super().exception(msg, *args, exc_info=exc_info, **kw)

    def malformed(self, address: str, error: BaseException) -> None:
        """The text of the error quotes the request, so its class has to do."""
        self._seldom.warning("http.malformed", address=address, kind=type(error).__name__)


_noise: web.AppKey[Noise] = web.AppKey("noise", Noise)
_hosts: web.AppKey[frozenset[str]] = web.AppKey("hosts", frozenset[str])


@asynccontextmanager
async def serving(
    app: web.Application,
    *,
    host: str,
    port: int,
    shutdown_s: float = 5.0,
    setting: str = "web.port",
    idle_s: float = IDLE_CONNECTION_S,
    linger_s: float = LINGER_S,
    unread_s: float = UNREAD_S,
    tls: ssl.SSLContext | None = None,
    hosts: Collection[str] = (),
    probes: bool = False,
) -> AsyncIterator[int]:
    """Serve while inside, with `tls` (`kit.tls.server`) as https; yields the bound port (useful with port 0). Leaving lets running requests
    finish for `shutdown_s`. A server of `probes` is reached when guests have filled the others. On loopback without `tls`, `hosts` are the names
    it answers to besides addresses and localhost."""
    noise = Noise()
    app[_noise] = noise
    if tls is None and places.loopback(host):
        app[_hosts] = frozenset(name.lower() for name in hosts)
    runner = web.AppRunner(
        app,
        access_log=None,
        logger=noise,
        handle_signals=False,
        shutdown_timeout=shutdown_s,
        keepalive_timeout=idle_s,
        lingering_time=linger_s,
    )
    await runner.setup()
    try:
        async with _listening(runner, host=host, port=port, setting=setting, tls=tls, probes=probes) as listeners:
            for listener in listeners:
                _prepare(listener, unread_s=unread_s)
            yield int(listeners[0].getsockname()[1])
    finally:
        await runner.cleanup()


@asynccontextmanager
async def _listening(
    runner: web.AppRunner, *, host: str, port: int, setting: str, tls: ssl.SSLContext | None, probes: bool
) -> AsyncIterator[list[doors.Listener]]:
    """Take connections while inside, on every address of `host`."""
    loop = asyncio.get_running_loop()
    assert runner.server is not None
    with contextlib.ExitStack() as stack:
        try:
            first = await loop.create_server(runner.server, host, port, start_serving=False)
            with contextlib.closing(first):
                door = doors.Door(probes=probes)
                stack.callback(door.close)
                listeners = [doors.listener(bound.dup(), door) for bound in first.sockets]
            for listener in listeners:
                stack.callback(listener.close)
            if not listeners:
                raise errors.BadConfig("the server is bound to no address", value=host)
            patience = None if tls is None else HANDSHAKE_S
            for listener in listeners:
                server = await loop.create_server(
                    runner.server, sock=listener, ssl=tls, backlog=doors.AT_ONCE, ssl_handshake_timeout=patience
                )
                stack.callback(server.close)
        except OSError as error:
            raise _deaf(error, host=host, port=port, setting=setting) from None
        yield listeners


class Taken(errors.BadConfig):
    """Somebody listens there already."""


async def listenable(*, host: str, port: int, setting: str = "web.port") -> None:
    """Raises BadConfig where `serving` could not listen now, Taken when that is for another one. Nobody's connection is taken meanwhile: the
    port is bound and let go."""
    try:
        server = await asyncio.get_running_loop().create_server(asyncio.Protocol, host, port, start_serving=False)
    except OSError as error:
        raise _deaf(error, host=host, port=port, setting=setting) from None
    server.close()


def _deaf(error: OSError, *, host: str, port: int, setting: str) -> errors.BadConfig:
    kind = Taken if error.errno == errno.EADDRINUSE else errors.BadConfig
    reason = error.strerror or str(error)
    return kind(f"cannot listen: {reason}", value=f"{host}:{port}", cure=f"choose another {setting}")


def _prepare(listener: doors.Listener, *, unread_s: float) -> None:
    """What asyncio has no word for. It has one figure for how many connections wait and how many of them it takes at once; and a client
    that reads nothing would hold its answer in memory for ever. Connections have the options of the listener they came by."""
    listener.listen(WAITING_CONNECTIONS)
    unread = getattr(socket, "TCP_USER_TIMEOUT", None)
    if unread is not None:
        listener.setsockopt(socket.IPPROTO_TCP, unread, int(unread_s * 1000))


def json_response(value: object, *, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """Any msgspec-encodable value."""
    return web.Response(body=wire.encode(value), status=status, headers=headers, content_type="application/json")


def problem(
    status: int, title: str, detail: str = "", *, field: str | None = None, headers: dict[str, str] | None = None
) -> web.Response:
    """A refusal. `detail` is shown as it is: never put a secret or a traceback there."""
    body = wire.encode(wire.Problem(title=title, status=status, detail=detail, field=field))
    return web.Response(body=body, status=status, headers=headers, content_type="application/problem+json")


def query_int(request: web.Request, name: str, *, default: int, minimum: int, maximum: int) -> int:
    """A bounded integer of the query. Raises BadAnswer (→ 400)."""
    text = request.query.get(name)
    if text is None:
        return default
    if not text.isdecimal() or not text.isascii() or len(text) > 19 or not minimum <= int(text) <= maximum:
        raise errors.BadAnswer(f"{name} must be {minimum} to {maximum}", value=text)
    return int(text)


@web.middleware
async def _guard(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Errors become problems; every answer gets the headers."""
    try:
        _check_names(request)
        response = _misdirected(request) or await handler(request)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        response = problem(error.status, error.reason, headers=_kept(error))
    except errors.BadAnswer as error:
        response = problem(400, "Bad Request", str(error))
    except (*_MALFORMED, ConnectionError) as error:
        if isinstance(error, ConnectionError) and request.transport is not None:
            raise  # of another connection, such as a database's
        if (noise := request.app.get(_noise)) is not None:
            noise.malformed(request.remote or "", error)
        response = problem(400, "Bad Request", "the body is not as its head says")
    except errors.Transient as error:
        response = problem(503, "Unavailable", str(error), headers={"Retry-After": str(int(error.retry_after_s or 1))})
    except errors.StakesideError as error:
        log.error("http.failed", path=request.path, error=str(error))
        response = problem(500, "Internal Server Error", "see the log")
    if not response.prepared:
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        response.headers.setdefault("Cache-Control", "no-store")
        response.headers["Server"] = "stakeside"
    return response


def _misdirected(request: web.Request) -> web.Response | None:
    """A foreign page can have its own name lead to this machine, and then read what is served here to whoever is on it: the browser says
    that name. What only this machine reaches is asked by its address, as localhost, or by a name of the settings."""
    known, given = request.app.get(_hosts), request.headers.get("Host")
    if known is None or given is None:
        return None
    name = given.rpartition(":")[0] if re.search(r":[0-9]*\Z", given) else given
    name = name.removeprefix("[").removesuffix("]").lower()
    if name in known or name in ("localhost", "localhost."):
        return None
    try:
        ipaddress.ip_address(name)
    except ValueError:
        detail = f"this server is not known by the name {errors.clip(name)!r}: ask by its address, or add the name to web.hosts"
        return problem(421, "Misdirected Request", detail)
    return None


def _check_names(request: web.Request) -> None:
    """What a path names is text that every database can hold: PostgreSQL has no NUL. Raises BadAnswer."""
    for text in request.match_info.values():
        if not text.isprintable():
            raise errors.BadAnswer("the address holds characters that cannot be shown", value=text)


def _kept(error: web.HTTPException) -> dict[str, str] | None:
    allow = error.headers.get("Allow")
    return {"Allow": allow} if allow else None


async def read_body(request: web.Request, *, max_bytes: int, timeout_s: float = 30.0) -> bytes:
    """The whole body. Raises HTTPRequestEntityTooLarge beyond `max_bytes`, Transient when the client stalls."""
    if request.content_length is not None and request.content_length > max_bytes:
        raise web.HTTPRequestEntityTooLarge(max_size=max_bytes, actual_size=request.content_length)
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(timeout_s):
            async for part in request.content.iter_chunked(1 << 16):
                size += len(part)
                if size > max_bytes:
                    raise web.HTTPRequestEntityTooLarge(max_size=max_bytes, actual_size=size)
                parts.append(part)
    except TimeoutError:
        raise errors.Transient("the request body did not arrive in time", value=size) from None
    return b"".join(parts)
