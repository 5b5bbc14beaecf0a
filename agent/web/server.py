"""The agent's windows and its one door. In: the book and live values. Out: HTTP answers, by the routes of one table.

    GET /healthz    200 while every service steps or waits with a deadline ahead, else 503
    GET /readyz     200 or 503, `{"ready":…,"reasons":[…]}`
    GET /metrics    for Prometheus
    GET /status     `view.Status` as JSON
    GET /…          pages for people (`html`)
    /v1/…           the API: `reads`, `intents_api`, `commands_api`, `people_api`; docs/api/agent-openapi.json describes every route

Whoever may look may look without a name, if the settings say so; every change needs a principal with a role (docs/people.md).
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator, Collection
from contextlib import AsyncExitStack, asynccontextmanager
from importlib import metadata
from pathlib import Path

import msgspec
from aiohttp import web

from agent.web import answers, commands_api, html, intents_api, live, people, people_api, reads, routes, shown, view
from agent.web import metrics as meters
from agent.web.commands_api import gaps
from kit import http
from store import book, queries

Live = live.Live
Staking = live.Staking
Looked = tuple[view.Status, queries.Belt]


class Health(msgspec.Struct, frozen=True):
    alive: bool
    stuck: list[str]


class Readiness(msgspec.Struct, frozen=True):
    ready: bool
    reasons: list[str]


def software() -> str:
    """This software and its version, e.g. `stakeside 0.1.0`."""
    return f"stakeside {_version()}"


def _version() -> str:
    try:
        return metadata.version("stakeside")
    except metadata.PackageNotFoundError:
        return "0+source"


def _whose(live: Live, port: int) -> str:
    """The same after a restart, another one for another agent."""
    account = None if live.staking is None else live.staking.account
    return repr((live.chain_id, live.deployment, live.name, live.attester, account, port))


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
    hosts: Collection[str] = (),
) -> AsyncGenerator[int, None]:
    """Serve while inside; yields the bound port, which is also in `port_file` meanwhile: `agent status` finds it there. With a `health_port`
    probes are answered there too, in plain HTTP."""
    answering = Web(live, metrics, tls=tls is not None, port=port)
    async with AsyncExitStack() as stack:
        bound = await stack.enter_async_context(
            http.serving(answering.application(), host=host, port=port, tls=tls, hosts=hosts)
        )
        if health_port is not None:
            await stack.enter_async_context(
                http.serving(
                    answering.probes(),
                    host=host,
                    port=health_port,
                    setting="web.tls.health_port",
                    hosts=hosts,
                    probes=True,
                )
            )
        if port_file is not None:
            port_file.write_text(f"{bound}\n")
        try:
            yield bound
        finally:
            if port_file is not None:
                port_file.unlink(missing_ok=True)


class Web:
    """Answers. Live values come from `live`; the rest is read from the book at each request. `tls`: this server speaks it itself; `port` is
    the one of the settings."""

    def __init__(self, live: Live, metrics: meters.Metrics, *, tls: bool = False, port: int = 0) -> None:
        self._live = live
        self._metrics = metrics
        self._version = _version()
        self._probing = asyncio.Lock()
        self._probes_begun = 0
        self._probed: Looked | None = None
        answer = answers.Answers(live.name)
        self._door = people.Door(
            live.book,
            live.clock,
            read=live.read,
            tls=tls,
            answer=answer,
            count=metrics.request_refused,
            whose=_whose(live, port),
        )
        frame = html.Frame(live, self.status)
        intents = intents_api.Intents(live, answer)
        commands = commands_api.Commands(live, answer)
        persons = people_api.People(live, answer, self._door, frame)
        pages = html.Html(live, frame, answer, intents, commands, persons.everybody, version=self._version)
        self.table = routes.check(
            [
                *self._probes(),
                routes.Route("GET", "/status", self._status, routes.READ, "Everything about how the agent is."),
                *pages.routes(),
                *reads.Reads(live).routes(),
                *intents.routes(),
                *commands.routes(),
                *persons.routes(),
            ]
        )

    @property
    def cookie(self) -> str:
        """The name of a browser's session."""
        return self._door.cookie

    def application(self) -> web.Application:
        app = http.application()
        app.add_routes(routes.definitions(self.table, self._door.guard))
        return app

    def probes(self) -> web.Application:
        """What a probe may ask in plain HTTP where the agent wants client certificates: how it is, and nothing else."""
        app = http.application()
        app.add_routes(routes.definitions(self._probes(), self._door.guard))
        return app

    def _probes(self) -> list[routes.Route]:
        open_ = routes.OPEN
        return [
            routes.Route("GET", "/healthz", self._healthz, open_, "Whether the process is alive."),
            routes.Route("GET", "/readyz", self._readyz, open_, "Whether it can be relied on, and why not."),
            routes.Route("GET", "/metrics", self._scrape, open_, "Metrics for Prometheus."),
        ]

    async def status(self) -> view.Status:
        async with self._live.book.look() as c:
            return (await self._look(c))[0]

    async def probed(self) -> Looked:
        """For health and metrics: whoever asks while others wait for their turn shares the next one's look, so that many cost what one does."""
        asked = self._probes_begun
        async with self._probing:
            if self._probes_begun == asked or self._probed is None:
                self._probes_begun, self._probed = self._probes_begun + 1, None
                async with self._live.book.probe() as c:
                    self._probed = await self._look(c)
            return self._probed

    async def _look(self, c: book.Connection) -> Looked:
        live, now_s = self._live, self._live.clock.now()
        summary = await queries.summary(c)
        belt = await queries.belt(c, now_s=now_s)
        open_ = await gaps(c, adopt=live.adopt) if summary.gaps_open else []
        picture = live.now()
        status = view.status(
            picture,
            summary,
            max_lag_blocks=live.max_lag_blocks,
            now_s=int(now_s),
            version=self._version,
            belts=shown.belts(picture, summary, belt),
            waiting_gaps=[f"gap {gap.id} (blocks {gap.first} to {gap.last})" for gap in open_ if gap.adopt == "ask"],
            left=[*live.standing, *shown.left(picture, belt)],
        )
        return status, belt

    async def _healthz(self, _request: web.Request) -> web.Response:
        stuck = self._live.supervisor.stuck()
        return http.json_response(Health(not stuck, stuck), status=503 if stuck else 200)

    async def _readyz(self, _request: web.Request) -> web.Response:
        status, _ = await self.probed()
        return http.json_response(Readiness(status.ready, status.reasons), status=200 if status.ready else 503)

    async def _scrape(self, _request: web.Request) -> web.Response:
        alive = not self._live.supervisor.stuck()
        status, belt = await self.probed()
        body = self._metrics.render(status, alive=alive, now_s=int(self._live.clock.now()), belt=belt)
        return web.Response(body=body, headers={"Content-Type": meters.CONTENT_TYPE})

    async def _status(self, _request: web.Request) -> web.Response:
        return http.json_response(await self.status())
