"""Who asks, and whether they may. In: a request's token or session cookie. Out: a named principal, or a refusal that says why.

A token is 32 random bytes, shown once; the book keeps its SHA-256. Looking a hash up leaks nothing by its timing: whoever could steer the
hash would have to break SHA-256. A browser signs in once and gets a session cookie, which only pages of this origin may use to change
something: a foreign page's form is known by its Origin and Sec-Fetch-Site. A Bearer token needs no such check, because no browser sends
one by itself.
"""

from __future__ import annotations

import base64
import hashlib
import math
import re
import secrets
from collections import OrderedDict
from collections.abc import AsyncGenerator, Collection
from contextlib import asynccontextmanager
from typing import Protocol

import msgspec
from aiohttp import web

from agent.web import items, routes
from domain import errors
from kit import http, logs, places, runtime
from store import book, principals

log = logs.logger()

SESSION_S = 8 * 3600
"""A working day: whoever comes back tomorrow signs in again."""
FAILURES, WINDOW_S, ADDRESSES = 20, 60, 1024
"""Wrong tokens from one address in a window before it has to wait; addresses that are remembered for it."""
IN_FLIGHT = places.Bounds(total=48, addresses=32, each=24)
"""Requests answered at a time: beyond that, come back. A browser has a handful; who sends a token or a session finds places among guests."""
LOOKED_UP = places.Bounds(total=64, addresses=64, each=24)
"""Tokens and sessions that are looked up at a time: until the book knows them they are anybody's."""
SIGNING_IN = places.Bounds(total=1024, addresses=1024, each=256)
"""Sign-ins that arrive at a time. Their bodies are a stranger's and come as slowly as that one likes, but they are small and take nobody's
turn at the book."""
TOKEN = re.compile(r"stk_[A-Za-z0-9_-]{43}\Z")
_COOKIE = re.compile(r"sks_[A-Za-z0-9_-]{43}\Z")


class Who(msgspec.Struct, frozen=True):
    """A signed-in principal. `session` is the hash of the cookie's value when that is how they came, `expires_s` is known when it began."""

    id: int
    name: str
    roles: frozenset[str]
    session: bytes | None = None
    expires_s: int | None = None

    def has(self, roles: Collection[str]) -> bool:
        """One of `roles` is enough; a viewer is whoever has any role."""
        return bool(self.roles & set(roles)) or ("viewer" in roles and bool(self.roles))

    def shown(self) -> items.Session:
        via = "token" if self.session is None else "session"
        return items.Session(self.name, sorted(self.roles), via, self.expires_s)


class Refusal(msgspec.Struct, frozen=True):
    """A denial as a value: an HTTP status and what to tell."""

    status: int
    title: str
    detail: str
    retry_after_s: int | None = None

    def response(self) -> web.Response:
        headers: dict[str, str] = {}
        if self.status == 401:
            headers["WWW-Authenticate"] = 'Bearer realm="stakeside"'
        if self.retry_after_s is not None:
            headers["Retry-After"] = str(self.retry_after_s)
        return http.problem(self.status, self.title, self.detail, headers=headers or None)


BUSY = Refusal(503, "Busy", "too many requests at a time: come back in a moment", 1)


class Answer(Protocol):
    """How a refusal becomes an answer: a problem for machines, a page for people."""

    def turned_away(self, request: web.Request, route: routes.Route, refusal: Refusal, /) -> web.StreamResponse: ...

    def malformed(self, request: web.Request, error: errors.BadAnswer, /) -> web.StreamResponse: ...


class Count(Protocol):
    """Told the status of every refusal: for the metrics."""

    def __call__(self, status: int, /) -> None: ...


_who = web.RequestKey("who", Who)


def of(request: web.Request) -> Who | None:
    """Who asks; None for a guest."""
    return request.get(_who)


def required(request: web.Request) -> Who:
    """Who asks, behind a route that asks for a role."""
    who = of(request)
    if who is None:
        raise AssertionError("a route without a role asked for a principal")
    return who


class Ended(Exception):
    """Who asked may not any more: the token or session ended while the request was under way."""


@asynccontextmanager
async def writing(request: web.Request, the_book: book.Book, clock: runtime.Clock) -> AsyncGenerator[book.Connection]:
    """The transaction of a change. Whoever was let in when the head of the request came must still be let in when it is written: a body
    can take its time, and a principal be revoked meanwhile. Raises Ended, which writes nothing."""
    who = required(request)
    async with the_book.write() as c:
        if not await principals.active(c, who.id):
            raise Ended
        if who.session is not None and await principals.session(c, who.session, clock.now()) is None:
            raise Ended
        yield c


def new_token() -> str:
    return "stk_" + _random()


def hash_of(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def _random() -> str:
    return base64.urlsafe_b64encode(secrets.token_bytes(32)).rstrip(b"=").decode()


class Throttle:
    """Failures by address, in bounded memory. Only what nobody has is slowed down: a good token opens at once, whoever shares its address."""

    def __init__(self, clock: runtime.Clock) -> None:
        self._clock = clock
        self._failed: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def wait_s(self, address: str) -> int:
        """Seconds to wait, 0 when another failure may be told as one."""
        since, count = self._failed.get(address, (0.0, 0))
        left = since + WINDOW_S - self._clock.monotonic()
        return math.ceil(left) if count >= FAILURES and left > 0 else 0

    def failed(self, address: str) -> int:
        """How many there are now in this window."""
        now = self._clock.monotonic()
        since, count = self._failed.pop(address, (now, 0))
        since, count = (since, count) if now < since + WINDOW_S else (now, 0)
        self._failed[address] = (since, count + 1)
        while len(self._failed) > ADDRESSES:
            self._failed.popitem(last=False)
        return count + 1


class Door:
    """Guards every route of the table. `tls` says that this server speaks TLS itself; `read` is `[web] read`; `whose` is what tells this
    agent from others at the same host."""

    def __init__(
        self,
        the_book: book.Book,
        clock: runtime.Clock,
        *,
        read: str,
        tls: bool,
        answer: Answer,
        count: Count,
        whose: str = "",
    ) -> None:
        self._book = the_book
        self._clock = clock
        self._read = read
        self._tls = tls
        self._answer = answer
        self._count = count
        self._throttle = Throttle(clock)
        self._slots = places.Slots(IN_FLIGHT)
        self._looking_up = places.Slots(LOOKED_UP)
        self._signing_in = places.Slots(SIGNING_IN)
        # Cookies know no ports: under one name, signing in at one agent would sign out at another one of the host.
        own = f"stakeside-{hashlib.sha256(whose.encode()).hexdigest()[:8]}"
        # A browser takes a `__Host-` cookie only over TLS, from this very host, for all its paths.
        self.cookie = f"__Host-{own}" if tls else own

    def guard(self, route: routes.Route) -> http.Handler:
        """Health, metrics and what looks into no book are always answered; the rest as long as there are places. Whoever sends a token or a
        cookie is a stranger until the book knows it, and signing in has places of its own: made-up ones keep nobody out."""

        async def guarded(request: web.Request) -> web.StreamResponse:
            if route.access == routes.OPEN and not route.changes:
                return await self._let_in(request, route, None)
            if route.access == routes.OPEN and (refusal := foreign(request, tls=self._tls)) is not None:
                self._count(refusal.status)
                return self._answer.turned_away(request, route, refusal)
            source, slots, found = places.address(request.remote), self._signing_in, None
            if route.access != routes.OPEN:
                slots = self._slots
                with self._looking_up.take(source, known=False) as taken:
                    if not taken:
                        return self._busy(request, route)
                    found = await self._who(request)
                if isinstance(found, Refusal):
                    self._count(found.status)
                    return self._answer.turned_away(request, route, found)
            with slots.take(source, known=found is not None) as taken:
                return await self._let_in(request, route, found) if taken else self._busy(request, route)

        return guarded

    def _busy(self, request: web.Request, route: routes.Route) -> web.StreamResponse:
        self._count(BUSY.status)
        return self._answer.turned_away(request, route, BUSY)

    async def _let_in(self, request: web.Request, route: routes.Route, found: Who | None) -> web.StreamResponse:
        refusal = None if route.access == routes.OPEN else self._admit(request, route, found)
        if refusal is not None:
            self._count(refusal.status)
            return self._answer.turned_away(request, route, refusal)
        try:
            return await route.handler(request)
        except errors.BadAnswer as error:
            return self._answer.malformed(request, error)
        except Ended:
            ended = Refusal(401, "Unauthorized", "the token or session ended while this was sent: nothing was changed")
            self._count(ended.status)
            return self._answer.turned_away(request, route, ended)

    def _admit(self, request: web.Request, route: routes.Route, found: Who | None) -> Refusal | None:
        if found is not None:
            request[_who] = found
        if found is not None and found.session is not None and route.changes:
            if (refusal := foreign(request, tls=self._tls)) is not None:
                return refusal
        if route.access == routes.READ:
            needed: tuple[str, ...] = () if self._read == "anyone" else ("viewer",)
        else:
            needed = tuple(route.access)
        if not needed:
            return None
        named = " or ".join(needed)
        if found is None:
            return Refusal(401, "Unauthorized", f"this needs the role {named}: sign in, or send a Bearer token")
        if not found.has(needed):
            has = ", ".join(sorted(found.roles)) or "none"
            return Refusal(403, "Forbidden", f"this needs the role {named}; {found.name} has: {has}")
        return None

    async def _who(self, request: web.Request) -> Who | Refusal | None:
        """A Bearer token counts before a cookie, and a wrong one is never a guest."""
        given = request.headers.getall("Authorization", [])
        if given:
            scheme, _, token = given[0].partition(" ")
            if len(given) > 1 or scheme.lower() != "bearer":
                return self.count(request, "the Authorization header must be one Bearer token")
            return await self.by_token(request, token.strip())
        value = request.cookies.get(self.cookie, "")
        return await self._by_cookie(value) if _COOKIE.match(value) else None

    async def by_token(self, request: web.Request, token: str) -> Who | Refusal:
        if not TOKEN.match(token):
            return self.count(request, "this is not a token: one begins with stk_ and has 47 characters")
        async with self._book.look() as c:
            found = await principals.by_token_hash(c, hash_of(token))
        if found is None:
            return self.count(request, "nobody has this token: it is mistyped, was rotated, or was revoked")
        return Who(found.id, found.name, found.roles)

    def count(self, request: web.Request, detail: str) -> Refusal:
        """A failed sign-in. One line in the log when an address begins to fail, one when it has to wait."""
        wait_s = self._throttle.wait_s(places.address(request.remote))
        if wait_s:
            title = "Too Many Requests"
            return Refusal(429, title, f"too many wrong tokens from this address: wait {wait_s} s", wait_s)
        failed = self._throttle.failed(places.address(request.remote))
        if failed in (1, FAILURES):
            log.warning("web.sign_in_failed", address=places.address(request.remote), failures=failed, error=detail)
        return Refusal(401, "Unauthorized", detail)

    async def _by_cookie(self, value: str) -> Who | None:
        """None when the session ended, or its principal's token was rotated or revoked: then it is a guest's request."""
        value_hash = hash_of(value)
        async with self._book.look() as c:
            found = await principals.session(c, value_hash, self._clock.now())
        return None if found is None else Who(found.id, found.name, found.roles, value_hash)

    async def sign_in(self, request: web.Request, token: str) -> tuple[Who, str] | Refusal:
        """A new session, whatever cookie the browser had: what it had ends."""
        with self._looking_up.take(places.address(request.remote), known=False) as taken:
            if not taken:
                self._count(BUSY.status)
                return BUSY
            found = await self.by_token(request, token)
        if isinstance(found, Refusal):
            return found
        value = "sks_" + _random()
        now_s = int(self._clock.now())
        old = request.cookies.get(self.cookie, "")
        async with self._book.write() as c:
            if await principals.by_token_hash(c, hash_of(token)) is None:
                return self.count(request, "the token was revoked this very moment")
            await principals.prune(c, now_s)
            if _COOKIE.match(old):
                await principals.close_session(c, hash_of(old))
            await principals.open_session(
                c, token_hash=hash_of(value), principal_id=found.id, at_s=now_s, expires_s=now_s + SESSION_S
            )
        return Who(found.id, found.name, found.roles, hash_of(value), now_s + SESSION_S), value

    async def sign_out(self, who: Who) -> None:
        if who.session is not None:
            async with self._book.write() as c:
                await principals.close_session(c, who.session)

    def give(self, response: web.StreamResponse, value: str) -> None:
        response.set_cookie(
            self.cookie, value, max_age=SESSION_S, path="/", httponly=True, samesite="Strict", secure=self._tls
        )

    def take(self, response: web.StreamResponse) -> None:
        response.del_cookie(self.cookie, path="/", httponly=True, samesite="Strict", secure=self._tls)


def foreign(request: web.Request, *, tls: bool) -> Refusal | None:
    """Why a change that rests on a cookie must not be carried out: another site may have sent it."""
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None and site != "same-origin":
        return Refusal(403, "Forbidden", f"a page of another origin sent this (Sec-Fetch-Site: {_clip(site)})")
    origin = request.headers.get("Origin")
    if origin is None:
        return Refusal(403, "Forbidden", "the request names no Origin: use a Bearer token outside of a browser")
    # A proxy in front may speak TLS for us; when we speak it ourselves, nothing else is our origin.
    ours = {f"{scheme}://{request.host}".lower() for scheme in (("https",) if tls else ("http", "https"))}
    if origin.lower() not in ours:
        return Refusal(403, "Forbidden", f"a page of another origin sent this (Origin: {_clip(origin)})")
    return None


def _clip(text: str) -> str:
    return "".join(c if c.isascii() and c.isprintable() else "?" for c in text[:100])
