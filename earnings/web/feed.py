"""The feed of seals, as server-sent events. In: Last-Event-ID. Out: every seal after it, then each new one as it commits.

The book is the queue: a subscriber is a number, so a slow or vanished one holds no memory, and one that comes back misses nothing.
"""

from __future__ import annotations

import asyncio

from aiohttp import web

from domain import errors
from earnings import book, notices, queries
from earnings.metrics import Metrics
from kit import http

MAX_SUBSCRIBERS = 64
HEARTBEAT_S = 15.0
WRITE_TIMEOUT_S = 10.0
PAGE = 256


class Feed:
    def __init__(self, the_book: book.Book, news: notices.Notices, stop: asyncio.Event, *, metrics: Metrics) -> None:
        self._book = the_book
        self._news = news
        self._stop = stop
        self._metrics = metrics
        self._open = 0

    async def subscribe(self, request: web.Request) -> web.StreamResponse:
        """From the event after `Last-Event-ID`; without one, from the next seal on."""
        after = await self._start(request)
        if self._open >= MAX_SUBSCRIBERS:
            return http.problem(503, "busy", "too many subscribers", headers={"Retry-After": "10"})
        self._open += 1
        self._metrics.subscribers.set(self._open)
        try:
            return await self._stream(request, after)
        finally:
            self._open -= 1
            self._metrics.subscribers.set(self._open)

    async def _start(self, request: web.Request) -> int:
        text = request.headers.get("Last-Event-ID", "")
        if not text:
            async with self._book.look() as c:
                return await queries.last_seal(c)
        if not text.isascii() or not text.isdecimal() or len(text) > 18:
            raise errors.BadAnswer("Last-Event-ID must be the id of an event of this feed", value=text)
        return int(text)

    async def _stream(self, request: web.Request, after: int) -> web.StreamResponse:
        response = web.StreamResponse(
            headers={
                **http.HEADERS,
                "Content-Type": "text/event-stream",
                "Cache-Control": "no-store",
                "X-Accel-Buffering": "no",
            }
        )
        await response.prepare(request)
        try:
            await _write(response, b"retry: 2000\n\n")
            while not self._stop.is_set():
                seen = self._news.version
                async with self._book.look() as c:
                    seals = await queries.seals(c, after=after, limit=PAGE)
                for seal in seals:
                    await _write(response, b"id: %d\nevent: sealed\ndata: %s\n\n" % (seal.number, seal.data()))
                    after = seal.number
                if not seals and not await self._news.wait(seen, timeout_s=HEARTBEAT_S):
                    await _write(response, b": still here\n\n")
        except (ConnectionError, TimeoutError):
            return response  # the client left or does not read; it resumes by its last id
        return response


async def _write(response: web.StreamResponse, data: bytes) -> None:
    async with asyncio.timeout(WRITE_TIMEOUT_S):
        await response.write(data)
