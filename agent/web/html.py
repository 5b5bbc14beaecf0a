"""The operator's pages. In: a request and the book. Out: HTML, rendered by `agent.web.pages` from frozen values.

Pages only show; their forms go to the API's paths, so a button can do nothing that the API would not allow.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable

import msgspec
from aiohttp import web

from agent.web import answers, bodies, items, live, pages, people, reads, routes, shown, view
from agent.web.commands_api import Commands, gaps
from agent.web.intents_api import Intents
from domain import hashing
from store import commands, queries

NEWEST_EVENTS = 15
NEWEST_INTENTS = 20
NEWEST_COMMANDS = 10
WAITING = ("awaiting_approval", "needs_operator")
"""States that only a person ends: such intents are shown however old they are."""
FOR_EVER = {"Cache-Control": "public, max-age=31536000, immutable"}
"""An asset's address names its content."""


class Frame:
    """What every page has around it."""

    def __init__(self, the: live.Live, status: Callable[[], Awaitable[view.Status]]) -> None:
        self._live = the
        self._status = status

    async def page(self, request: web.Request, *, path: str | None = None) -> items.Page:
        who = people.of(request)
        return items.Page(
            status=await self._status(),
            session=None if who is None else who.shown(),
            message=answers.message(request),
            path=path or request.path,
            now_s=int(self._live.clock.now()),
            assets=self._live.assets,
        )


class Html:
    def __init__(
        self, the: live.Live, frame: Frame, answer: answers.Answers, intents: Intents, commands: Commands,
        everybody: Callable[[], Awaitable[list[items.Principal]]], *, version: str,
    ) -> None:  # fmt: skip
        self._live = the
        self._frame = frame
        self._answer = answer
        self._intents = intents
        self._commands = commands
        self._everybody = everybody
        self._version = version
        intents.again = self.again

    def routes(self) -> list[routes.Route]:
        read, open_ = routes.READ, routes.OPEN
        return [
            routes.Route("GET", "/", self.overview, read, "How the agent is, for a person.", page=True),
            routes.Route("GET", "/intents", self.intents, read, "Intents.", page=True),
            routes.Route("GET", "/intents/{id}", self.intent, read, "An intent.", page=True),
            routes.Route("GET", "/propose", self.propose, ("proposer",), "Forms for intents.", page=True),
            routes.Route("GET", "/commands", self.commands, read, "What people did.", page=True),
            routes.Route("GET", "/people", self.people, ("admin",), "Who may look and act.", page=True),
            routes.Route("GET", "/login", self.login, open_, "Where a browser signs in.", page=True),
            routes.Route("GET", pages.STYLE_PATH, self.style, open_, "How pages look."),
            routes.Route("GET", pages.SCRIPT_PATH, self.script, open_, "Keeps the overview fresh."),
        ]

    async def overview(self, request: web.Request) -> web.Response:
        page = await self._frame.page(request)
        async with self._live.book.look() as c:
            newest = await queries.events(c, limit=NEWEST_EVENTS)
            rows = await queries.intents(c, limit=NEWEST_INTENTS)
            waiting = await queries.intents(c, limit=NEWEST_INTENTS, states=WAITING)
            rows += [row for row in waiting if row.position < rows[-1].position]
            done = await queries.commands(c, limit=NEWEST_COMMANDS)
            belt = await queries.belt(c, now_s=self._live.clock.now())
            open_ = await gaps(c, adopt=self._live.adopt)
            intents = await self._intents.shown(c, rows, people.of(request))
        return answers.html(
            pages.overview(
                items.Overview(
                    page=page,
                    intents=sorted(intents, key=lambda item: item.final),
                    latches=[
                        shown.latch(item.name, reason=item.reason, set_at_s=item.set_at_s)
                        for item in page.status.latches
                    ],
                    gaps=open_,
                    pause=shown.pause(belt),
                    commands=[shown.command(row) for row in done],
                    events=[reads.event(row) for row in newest],
                )
            )
        )

    async def intents(self, request: web.Request) -> web.Response:
        found = await self._intents.page(request)
        page = await self._frame.page(request)
        return answers.html(
            pages.intents(items.IntentsPage(page, found.intents, request.query.get("state"), found.next))
        )

    async def intent(self, request: web.Request) -> web.Response:
        found = await self._intents.detail(request)
        if found is None:
            return self._answer.page(request, 404, "unknown", "there is no such intent", back="/intents")
        return answers.html(pages.intent(items.IntentPage(await self._frame.page(request), found)))

    async def propose(self, request: web.Request) -> web.Response:
        staking = self._live.staking
        if staking is None:
            return self._answer.page(request, 409, answers.NO_STAKING.code, answers.NO_STAKING.why, back="/")
        return answers.html(pages.propose(self._form(await self._frame.page(request), staking, {})))

    async def again(self, request: web.Request, body: bodies.Propose, refusal: commands.Refused) -> web.Response:
        """The form that was refused, as it was filled in."""
        staking = self._live.staking
        if staking is None:
            return self._answer.refused(request, answers.NO_STAKING, back="/")
        given = {"protocol": body.protocol, "action": body.action, "reason": body.reason}
        given |= {f"arguments.{name}": text for name, text in body.arguments.items()}
        page = await self._frame.page(request, path="/propose")
        page = msgspec.structs.replace(page, message=items.Message(refusal.why, good=False))
        status = answers.STATUSES.get(refusal.code, answers.CONFLICT)
        return answers.html(pages.propose(self._form(page, staking, given)), status=status)

    def _form(self, page: items.Page, staking: live.Staking, filled: dict[str, str]) -> items.ProposePage:
        key = f"page-{secrets.token_hex(8)}"
        return items.ProposePage(page, list(staking.actions), key, hashing.hex0x(staking.account), filled)

    async def commands(self, request: web.Request) -> web.Response:
        found = await self._commands.page(request)
        page = await self._frame.page(request)
        return answers.html(pages.commands(items.CommandsPage(page, found.commands, found.next)))

    async def people(self, request: web.Request) -> web.Response:
        page = await self._frame.page(request)
        return answers.html(pages.people(items.PeoplePage(page, await self._everybody(), [*routes.ROLES])))

    async def login(self, request: web.Request) -> web.Response:
        shown_ = items.LoginPage(self._live.name, self._version, answers.message(request))
        return answers.html(pages.login(shown_))

    async def style(self, _request: web.Request) -> web.Response:
        return web.Response(text=pages.STYLE, content_type="text/css", headers=FOR_EVER)

    async def script(self, _request: web.Request) -> web.Response:
        return web.Response(text=pages.SCRIPT, content_type="text/javascript", headers=FOR_EVER)
