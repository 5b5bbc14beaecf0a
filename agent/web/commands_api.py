"""Switches: pause, resume, latches, gaps, a restored book, and the list of everything that people did. In: requests. Out: command rows.

Every change is one transaction of the book in which the effect and the command are both; the stages look at the book at each step and are
woken by the bell, so nothing has to be restarted.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec
from aiohttp import web

from agent.web import answers, bodies, items, live, people, routes, shown
from agent.web.intents_api import CommandDone
from domain import errors
from kit import http
from store import book, commands, queries

MAX_PAGE = 200
Verb = Callable[[book.Connection, str, float], Awaitable[commands.Done | commands.Refused]]
"""(transaction, who, when) → what came of it."""


class CommandPage(msgspec.Struct, frozen=True):
    commands: list[items.Command]
    next: str | None


class Latches(msgspec.Struct, frozen=True):
    latches: list[items.Latch]


class Gaps(msgspec.Struct, frozen=True):
    gaps: list[items.Gap]


class Commands:
    def __init__(self, the: live.Live, answer: answers.Answers) -> None:
        self._live = the
        self._answer = answer

    def routes(self) -> list[routes.Route]:
        operator: routes.Access = ("operator",)
        return [
            routes.Route("GET", "/v1/commands", self.list, routes.READ, "What people did, newest first."),
            routes.Route("POST", "/v1/pause", self.pause, operator, "Reserve and sign nothing new."),
            routes.Route("POST", "/v1/resume", self.resume, operator, "End a pause."),
            routes.Route("GET", "/v1/latches", self.latches, routes.READ, "Durable stops that are set."),
            routes.Route("POST", "/v1/latches/{name}/clear", self.clear, operator, "Clear a durable stop."),
            routes.Route("GET", "/v1/gaps", self.gaps, routes.READ, "Ranges that this node cannot serve."),
            routes.Route("POST", "/v1/gaps/{id}/adopt", self.adopt, operator, "Close a gap by what others signed."),
            routes.Route("POST", "/v1/restored/accept", self.accept, operator, "Submit again from a restored book."),
        ]

    # --- looking ---

    async def list(self, request: web.Request) -> web.Response:
        return http.json_response(await self.page(request))

    async def page(self, request: web.Request) -> CommandPage:
        limit = http.query_int(request, "limit", default=50, minimum=1, maximum=MAX_PAGE)
        before = http.query_int(request, "before", default=-1, minimum=0, maximum=2**63 - 1)
        async with self._live.book.look() as c:
            rows = await queries.commands(c, limit=limit, before=None if before < 0 else before)
        return CommandPage([shown.command(row) for row in rows], str(rows[-1].id) if len(rows) == limit else None)

    async def latches(self, _request: web.Request) -> web.Response:
        async with self._live.book.look() as c:
            summary = await queries.summary(c)
        return http.json_response(
            Latches([shown.latch(item.name, reason=item.reason, set_at_s=item.set_at_s) for item in summary.latches])
        )

    async def gaps(self, _request: web.Request) -> web.Response:
        async with self._live.book.look() as c:
            return http.json_response(Gaps(await gaps(c, adopt=self._live.adopt)))

    # --- changing ---

    async def pause(self, request: web.Request) -> web.Response:
        body = await bodies.read(request, bodies.Pause)

        async def verb(c: book.Connection, by: str, at_s: float) -> commands.Done | commands.Refused:
            return await commands.pause(c, by=by, reason=body.reason, at_s=at_s, until_s=body.until_s)

        return await self._do(request, verb, said="pause")

    async def resume(self, request: web.Request) -> web.Response:
        body = await bodies.read(request, bodies.Because)

        async def verb(c: book.Connection, by: str, at_s: float) -> commands.Done | commands.Refused:
            return await commands.resume(c, by=by, reason=body.reason, at_s=at_s)

        return await self._do(request, verb, said="resume")

    async def clear(self, request: web.Request) -> web.Response:
        body, name = await bodies.read(request, bodies.Because), request.match_info["name"]

        async def verb(c: book.Connection, by: str, at_s: float) -> commands.Done | commands.Refused:
            return await commands.clear_latch(c, name, by=by, reason=body.reason, at_s=at_s)

        return await self._do(request, verb, said="clear-latch")

    async def adopt(self, request: web.Request) -> web.Response:
        body, gap = await bodies.read(request, bodies.Because), _number(request.match_info["id"])

        async def verb(c: book.Connection, by: str, at_s: float) -> commands.Done | commands.Refused:
            return await commands.adopt_gap(c, gap, by=by, reason=body.reason, at_s=at_s)

        return await self._do(request, verb, said="adopt-gap")

    async def accept(self, request: web.Request) -> web.Response:
        body = await bodies.read(request, bodies.Because)

        async def verb(c: book.Connection, by: str, at_s: float) -> commands.Done | commands.Refused:
            return await commands.accept_restored(c, by=by, reason=body.reason, at_s=at_s)

        return await self._do(request, verb, said="accept-restored")

    async def _do(self, request: web.Request, verb: Verb, *, said: str) -> web.Response:
        async with people.writing(request, self._live.book, self._live.clock) as c:
            done = await verb(c, people.required(request).name, self._live.clock.now())
        if isinstance(done, commands.Refused):
            return self._answer.refused(request, done, back="/")
        self._live.ring()
        return self._answer.done(request, CommandDone(done.command_id, done.fresh), said=said, to="/")


async def gaps(c: book.Connection, *, adopt: str) -> list[items.Gap]:
    """Open ones, with what keeps them open: `asked` once a person wants them closed by others' frames."""
    found: list[items.Gap] = []
    for row in await queries.gaps(c):
        asked = await commands.adopted(c, row.id) is not None
        found.append(items.Gap(row.id, row.protocol, row.first, row.last, row.reason, "asked" if asked else adopt))
    return found


def _number(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 19):
        raise errors.BadAnswer("a gap is named by its number", value=text)
    return int(text)
