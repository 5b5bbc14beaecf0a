"""Getting a reply to the client, or not. In: a reply and perhaps a shot of stage `before` or `after`. Out: an HTTP response.

A closed connection is made by aborting the transport: the client sees a reset, as it would from a dying node.
"""

from __future__ import annotations

import msgspec
from aiohttp import web

from devnet.proxy import armed, upstream

_HTML = b"<!DOCTYPE html><html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>"
_CHUNK_BYTES = 1 << 20


class Outcome(msgspec.Struct, frozen=True):
    """What to send and the fault that meets it on the way."""

    reply: upstream.Reply
    shot: armed.Shot | None = None


def refusal(shot: armed.Shot) -> Outcome:
    """The answer of stage `before`: nothing was forwarded."""
    if shot.fault.name == "html":
        return Outcome(upstream.Reply(200, "text/html", _HTML), shot)
    if shot.fault.name == "cut":
        return Outcome(upstream.Reply(0, "", b""), shot)
    words = {"429": b"Too Many Requests", "503": b"Service Unavailable"}
    return Outcome(upstream.Reply(int(shot.fault.name), "text/plain", words[shot.fault.name]), shot)


async def deliver(request: web.Request, reply: upstream.Reply, shot: armed.Shot | None) -> web.StreamResponse:
    name = shot.fault.name if shot else ""
    if name in ("cut", "swallow"):
        return _abort(request)
    if shot and name == "truncate" and shot.fault.text("how") == "stream":
        return await _short(request, reply)
    if shot and name == "huge":
        return await _padded(request, reply, shot.fault.integer("bytes"))
    body = halved(reply.body) if name == "truncate" else reply.body
    response = web.Response(status=reply.status, body=body, headers={"Content-Type": reply.content_type})
    if shot and shot.fault.options.get("retry_after"):
        response.headers["Retry-After"] = shot.fault.text("retry_after")
    return response


def halved(body: bytes) -> bytes:
    return body[: len(body) // 2]


def _abort(request: web.Request) -> web.StreamResponse:
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


async def _short(request: web.Request, reply: upstream.Reply) -> web.StreamResponse:
    response = web.StreamResponse(status=reply.status, headers={"Content-Type": reply.content_type})
    response.content_length = len(reply.body)
    try:
        await response.prepare(request)
        await response.write(halved(reply.body))
    except ConnectionError:
        return response
    if request.transport is not None:
        request.transport.close()
    return response


async def _padded(request: web.Request, reply: upstream.Reply, size: int) -> web.StreamResponse:
    """Blank space before the answer: still JSON, if anyone reads that far."""
    response = web.StreamResponse(status=reply.status, headers={"Content-Type": reply.content_type})
    response.enable_chunked_encoding()
    blank = b" " * _CHUNK_BYTES
    try:
        await response.prepare(request)
        for left in range(size, 0, -_CHUNK_BYTES):
            await response.write(blank[:left])
        await response.write(reply.body)
        await response.write_eof()
    except ConnectionError:
        return response
    return response
