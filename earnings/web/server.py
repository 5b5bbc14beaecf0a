"""The hub's server: one route table. In: the parts. Out: an application, and a socket with bounds on slow clients."""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator, Collection
from contextlib import asynccontextmanager

from aiohttp import web

from earnings.metrics import Metrics
from earnings.web import api, feed, guard, status
from kit import http, runtime

IDLE_CONNECTION_S = 20.0
"""A connection that has sent no complete request head by then is closed, which bounds slow senders too."""
LINGER_S = 1.0
"""How long an upload that was refused is read on, so that its sender sees the refusal."""
FEED_ROUTE = "/v1/feed"
PROBES = frozenset({"/healthz", "/readyz", "/metrics"})
"""Answered even when the hub is full: that is when they matter."""


def application(
    the_api: api.Api,
    the_feed: feed.Feed,
    the_status: status.Status,
    tokens: guard.Tokens,
    *,
    metrics: Metrics,
    clock: runtime.Clock,
) -> web.Application:
    app = http.application(max_body_bytes=api.CHUNK_BYTES)
    rooms = guard.Rooms(unbounded=PROBES | {FEED_ROUTE}, free=api.FREE, said=api.SAID)
    app.middlewares.insert(0, guard.measured(metrics, clock, rooms=rooms))
    app.middlewares.append(guard.busy(tokens, rooms=rooms, bounds=guard.MAX_IN_FLIGHT))
    app.add_routes(the_api.routes())
    app.add_routes(the_status.routes())
    # A feed has no end, so asking for its head alone would be answered with a body, for ever.
    app.add_routes([web.get(FEED_ROUTE, guard.require(tokens, the_feed.subscribe), allow_head=False)])
    return app


def probes(the_status: status.Status) -> web.Application:
    """What a probe may ask in plain HTTP where the hub wants client certificates: how it is, and nothing else."""
    app = http.application()
    app.add_routes([route for route in the_status.routes() if route.path in PROBES])
    return app


@asynccontextmanager
async def serving(
    app: web.Application,
    *,
    host: str,
    port: int,
    shutdown_s: float = 5.0,
    setting: str = "web.port",
    tls: ssl.SSLContext | None = None,
    hosts: Collection[str] = (),
    probes: bool = False,
) -> AsyncGenerator[int, None]:
    """Serve while inside; yields the bound port."""
    async with http.serving(
        app,
        host=host,
        port=port,
        shutdown_s=shutdown_s,
        setting=setting,
        idle_s=IDLE_CONNECTION_S,
        linger_s=LINGER_S,
        tls=tls,
        hosts=hosts,
        probes=probes,
    ) as bound:
        yield bound
