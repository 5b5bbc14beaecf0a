"""Signing in and out, and who may. In: tokens and names. Out: sessions, principals, and new tokens, shown once."""

from __future__ import annotations

import msgspec
from aiohttp import web

from agent.web import answers, bodies, html, items, live, pages, people, routes, shown
from agent.web.intents_api import CommandDone
from kit import http
from store import commands, principals, queries


class Principals(msgspec.Struct, frozen=True):
    principals: list[items.Principal]


class WhoAmI(msgspec.Struct, frozen=True):
    """None: a guest."""

    session: items.Session | None


class People:
    def __init__(self, the: live.Live, answer: answers.Answers, door: people.Door, frame: html.Frame) -> None:
        self._live = the
        self._answer = answer
        self._door = door
        self._frame = frame

    def routes(self) -> list[routes.Route]:
        admin: routes.Access = ("admin",)
        one = "/v1/principals/{name}"
        return [
            routes.Route("POST", "/v1/session", self.sign_in, routes.OPEN, "Sign a browser in with a token."),
            routes.Route("DELETE", "/v1/session", self.sign_out, ("viewer",), "Sign out."),
            routes.Route("POST", "/v1/session/end", self.sign_out, ("viewer",), "Sign out, by a form."),
            routes.Route("GET", "/v1/whoami", self.whoami, routes.READ, "Who asks, and with which roles."),
            routes.Route("GET", "/v1/principals", self.list, admin, "Who may look and act."),
            routes.Route("POST", "/v1/principals", self.add, admin, "Let somebody in; the token is in the answer, once."),
            routes.Route("POST", f"{one}/rotate", self.rotate, admin, "Another token; the old one ends at once."),
            routes.Route("POST", f"{one}/revoke", self.revoke, admin, "End a token and every session of it."),
        ]  # fmt: skip

    async def sign_in(self, request: web.Request) -> web.Response:
        body = await bodies.read(request, bodies.SignIn)
        found = await self._door.sign_in(request, body.token.strip())
        if isinstance(found, people.Refusal):
            if bodies.is_form(request):
                return self._answer.page(request, found.status, found.title, found.detail, back="/login")
            return found.response()
        who, cookie = found
        response = self._answer.done(request, WhoAmI(who.shown()), said="signed-in", to="/", status=201)
        self._door.give(response, cookie)
        return response

    async def sign_out(self, request: web.Request) -> web.Response:
        await bodies.read(request, bodies.Nothing)
        await self._door.sign_out(people.required(request))
        response = self._answer.done(request, WhoAmI(None), said="signed-out", to="/")
        self._door.take(response)
        return response

    async def whoami(self, request: web.Request) -> web.Response:
        who = people.of(request)
        return http.json_response(WhoAmI(None if who is None else who.shown()))

    async def list(self, _request: web.Request) -> web.Response:
        return http.json_response(Principals(await self.everybody()))

    async def everybody(self) -> list[items.Principal]:
        """Former ones too: what they did is still in the book."""
        async with self._live.book.look() as c:
            return [shown.principal(row) for row in await queries.principals(c, ended=True)]

    async def add(self, request: web.Request) -> web.Response:
        body, who, token = await bodies.read(request, bodies.AddPrincipal), people.required(request), people.new_token()
        async with people.writing(request, self._live.book, self._live.clock) as c:
            done = await principals.add(
                c, body.name, body.roles, people.hash_of(token), by=who.name, reason=body.reason,
                at_s=self._live.clock.now(),
            )  # fmt: skip
        return await self._handed(request, done, items.NewToken(body.name, token))

    async def rotate(self, request: web.Request) -> web.Response:
        body, who, token = await bodies.read(request, bodies.Because), people.required(request), people.new_token()
        name = request.match_info["name"]
        async with people.writing(request, self._live.book, self._live.clock) as c:
            done = await principals.rotate(
                c, name, people.hash_of(token), by=who.name, reason=body.reason, at_s=self._live.clock.now()
            )
        return await self._handed(request, done, items.NewToken(name, token))

    async def _handed(
        self, request: web.Request, done: commands.Done | commands.Refused, made: items.NewToken
    ) -> web.Response:
        """A form is answered with the page itself: a token must not travel through an address."""
        if isinstance(done, commands.Refused):
            return self._answer.refused(request, done, back="/people")
        if not bodies.is_form(request):
            return http.json_response(made, status=201)
        page = await self._frame.page(request, path="/people")
        return answers.html(
            pages.people(items.PeoplePage(page, await self.everybody(), [*routes.ROLES], made)), status=201
        )

    async def revoke(self, request: web.Request) -> web.Response:
        body, who = await bodies.read(request, bodies.Because), people.required(request)
        async with people.writing(request, self._live.book, self._live.clock) as c:
            done = await principals.revoke(
                c, request.match_info["name"], by=who.name, reason=body.reason, at_s=self._live.clock.now()
            )
        if isinstance(done, commands.Refused):
            return self._answer.refused(request, done, back="/people")
        return self._answer.done(
            request, CommandDone(done.command_id, done.fresh), said="principal-revoke", to="/people"
        )
