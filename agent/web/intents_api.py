"""Intents: propose, look, approve, reject, cancel, settle. In: requests of people and programs. Out: rows of the book, and answers.

Proposing is what a button and a command do alike: the arguments are made canonical by the planner, then the intent and the command that
made it are written in one transaction. Whether it may be done is not asked here; the policy judges it with the chain's state.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import get_args

import msgspec
from aiohttp import web

from agent.web import answers, bodies, items, live, people, routes, shown
from domain import errors, hashing, intent
from kit import http, logs
from store import book, commands, queries, settling

MAX_PAGE = 200
STATES: tuple[str, ...] = get_args(intent.State)
_KEY = re.compile(r"[\x21-\x7e]{1,128}\Z")


class IntentPage(msgspec.Struct, frozen=True):
    intents: list[items.Intent]
    next: str | None


class CommandDone(msgspec.Struct, frozen=True):
    """`command` is the row that says who did it; `fresh` is False when it had been done before."""

    command: int
    fresh: bool


Again = Callable[[web.Request, bodies.Propose, commands.Refused], Awaitable[web.Response]]
"""The form once more, with what was filled in and why it was refused."""


class Intents:
    """`again` answers a form that proposed in vain; without it a page says why."""

    def __init__(self, the: live.Live, answer: answers.Answers) -> None:
        self._live = the
        self._answer = answer
        self.again: Again | None = None

    def routes(self) -> list[routes.Route]:
        one = "/v1/intents/{id}"
        return [
            routes.Route("GET", "/v1/intents", self.list, routes.READ, "Intents, newest first."),
            routes.Route("POST", "/v1/intents", self.propose, ("proposer",), "Propose an intent, once for each key."),
            routes.Route("GET", one, self.show, routes.READ, "An intent with all that became of it."),
            routes.Route("POST", f"{one}/approve", self.approve, ("approver",), "Approve exactly this payload."),
            routes.Route("POST", f"{one}/reject", self.reject, ("approver",), "Refuse an intent before it is reserved."),
            routes.Route(
                "POST", f"{one}/cancel", self.cancel, ("proposer", "operator"), "Give an intent up; a proposer only its own."
            ),
            routes.Route(
                "POST", f"{one}/settle", self.settle, ("operator",), "Say what became of an intent that needs an operator."
            ),
            routes.Route("GET", "/v1/policy", self.policy, routes.READ, "The policy in force, as it is hashed."),
        ]  # fmt: skip

    # --- looking ---

    async def list(self, request: web.Request) -> web.Response:
        found = await self.page(request)
        return http.json_response(found)

    async def page(self, request: web.Request) -> IntentPage:
        """By `state`, `before` and `limit` of the query."""
        limit = http.query_int(request, "limit", default=50, minimum=1, maximum=MAX_PAGE)
        before = http.query_int(request, "before", default=-1, minimum=0, maximum=2**63 - 1)
        state = request.query.get("state")
        if state is not None and state not in STATES:
            raise errors.BadAnswer("there is no such state", value=state, cure=f"one of {', '.join(STATES)}")
        async with self._live.book.look() as c:
            rows = await queries.intents(
                c, limit=limit, before=None if before < 0 else before, states=None if state is None else [state]
            )
            found = await self.shown(c, rows, people.of(request))
        return IntentPage(found, str(rows[-1].position) if len(rows) == limit else None)

    async def shown(
        self, c: book.Connection, rows: list[queries.IntentRow], who: people.Who | None
    ) -> list[items.Intent]:
        """With approvals of those that wait for some; nobody needs them of the others in a list."""
        found: list[items.Intent] = []
        for row in rows:
            names = await self._approvals(c, row) if row.state in intent.UNSENT else []
            found.append(shown.intents_row(row, names, who))
        return found

    async def detail(self, request: web.Request) -> items.IntentDetail | None:
        id_ = _id(request)
        async with self._live.book.look() as c:
            found = await queries.intent(c, id_)
            names = [] if found is None else await self._approvals(c, found.intent)
        return None if found is None else shown.detail(found, names, people.of(request))

    async def show(self, request: web.Request) -> web.Response:
        found = await self.detail(request)
        return http.problem(404, "unknown", "there is no such intent") if found is None else http.json_response(found)

    async def policy(self, _request: web.Request) -> web.Response:
        staking = self._live.staking
        if staking is None:
            return http.problem(409, answers.NO_STAKING.code, answers.NO_STAKING.why)
        return http.json_response(items.Policy(hashing.hex0x(staking.policy_hash), msgspec.Raw(staking.policy_body)))

    async def _approvals(self, c: book.Connection, row: queries.IntentRow) -> list[str]:
        now_s = self._live.clock.now()
        ttl_s = None if self._live.staking is None else self._live.staking.approval_ttl_s
        return [
            item.principal for item in await commands.approvals(c, row.id, row.payload_hash, now_s=now_s, ttl_s=ttl_s)
        ]

    # --- changing ---

    async def propose(self, request: web.Request) -> web.Response:
        body = await bodies.read(request, bodies.Propose)
        staking, who = self._live.staking, people.required(request)
        if staking is None:
            return self._answer.refused(request, answers.NO_STAKING, back="/")
        key = _key(request, body.key)
        try:
            wanted = staking.validate(key, body.protocol, body.action, body.arguments)
        except errors.StakesideError as error:
            return await self._in_vain(request, body, commands.Refused("bad-arguments", str(error)))
        at_s = self._live.clock.now()
        async with people.writing(request, self._live.book, self._live.clock) as c:
            done = await commands.propose(
                c, wanted, by=who.name, reason=body.reason, at_s=at_s,
                expires_at_s=at_s + (body.expires_in_s or staking.ttl_s),
            )  # fmt: skip
        if isinstance(done, commands.Refused):
            return await self._in_vain(request, body, done)
        self._live.ring()
        async with self._live.book.look() as c:
            found = await queries.intent(c, wanted.id)
        if found is None:
            raise errors.StoreError("an intent is gone that was just written", value=hashing.hex0x(wanted.id))
        return self._answer.done(
            request,
            shown.intents_row(found.intent, [], who),
            said="propose" if done.fresh else "same",
            to=_page(wanted.id),
            status=201 if done.fresh else 200,
        )

    async def _in_vain(self, request: web.Request, body: bodies.Propose, refusal: commands.Refused) -> web.Response:
        if self.again is None or not bodies.is_form(request):
            return self._answer.refused(request, refusal, back="/propose")
        return await self.again(request, body, refusal)

    async def approve(self, request: web.Request) -> web.Response:
        body, id_, who = await bodies.read(request, bodies.Approve), _id(request), people.required(request)
        payload = hashing.unhex_lower(body.payload_hash, size=32, what="payloadHash")
        ttl_s = None if self._live.staking is None else self._live.staking.approval_ttl_s
        async with people.writing(request, self._live.book, self._live.clock) as c:
            done = await commands.approve(
                c, id_, payload_hash=payload, by=who.name, reason=body.reason, at_s=self._live.clock.now(), ttl_s=ttl_s
            )
        return self._decided(request, done, id_, said="approve")

    async def reject(self, request: web.Request) -> web.Response:
        body, id_, who = await bodies.read(request, bodies.Because), _id(request), people.required(request)
        async with people.writing(request, self._live.book, self._live.clock) as c:
            done = await commands.reject(c, id_, by=who.name, reason=body.reason, at_s=self._live.clock.now())
        return self._decided(request, done, id_, said="reject")

    async def cancel(self, request: web.Request) -> web.Response:
        body, id_, who = await bodies.read(request, bodies.Because), _id(request), people.required(request)
        async with people.writing(request, self._live.book, self._live.clock) as c:
            done = None if who.has(("operator",)) else await _not_own(c, id_, who)
            if done is None:
                done = await commands.cancel(c, id_, by=who.name, reason=body.reason, at_s=self._live.clock.now())
        return self._decided(request, done, id_, said="cancel")

    async def settle(self, request: web.Request) -> web.Response:
        body, id_, who = await bodies.read(request, bodies.Settle), _id(request), people.required(request)
        async with people.writing(request, self._live.book, self._live.clock) as c:
            done = await settling.settle(
                c, id_, outcome=body.outcome, by=who.name, reason=body.reason, at_s=self._live.clock.now()
            )
        return self._decided(request, done, id_, said="settle")

    def _decided(
        self, request: web.Request, done: commands.Done | commands.Refused, id_: bytes, *, said: str
    ) -> web.Response:
        if isinstance(done, commands.Refused):
            return self._answer.refused(request, done, back=_page(id_))
        self._live.ring()
        return self._answer.done(request, CommandDone(done.command_id, done.fresh), said=said, to=_page(id_))


async def _not_own(c: book.Connection, id_: bytes, who: people.Who) -> commands.Refused | None:
    """Why a proposer may not cancel this one."""
    found = await queries.intent(c, id_)
    if found is None or found.intent.proposer == who.name:
        return None
    return commands.Refused("not-yours", f"{found.intent.proposer} proposed it: only they or an operator can cancel it")


def _id(request: web.Request) -> bytes:
    return hashing.unhex_lower(request.match_info["id"], size=32, what="id")


def _page(id_: bytes) -> str:
    return f"/intents/{hashing.hex0x(id_)}"


def _key(request: web.Request, given: str | None) -> str:
    """From the body or the header; when both are there they are one."""
    header = request.headers.getall("Idempotency-Key", [])
    named = {text for text in (given, *header) if text is not None}
    if len(named) != 1:
        raise errors.BadAnswer(
            "a key is needed, once: the intent's name, so that sending it again proposes nothing new",
            cure="give `key` in the body, or the header Idempotency-Key",
        )
    key = named.pop()
    if not _KEY.match(key):
        raise errors.BadAnswer("the key has 1 to 128 visible ASCII characters", value=key)
    if logs.hide_tokens(key) != key:
        raise errors.BadAnswer(
            "the key holds a token, which would stay in the book",
            cure="name the intent otherwise, and rotate the token",
        )
    return key
