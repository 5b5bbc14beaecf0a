"""Answers to changes: to programs JSON and problems, to a browser's form the next page. In: what a verb returned. Out: HTTP.

Where a form leads afterwards is decided here, never by the request: there is no address in it that could be another's.
"""

from __future__ import annotations

from urllib.parse import quote

from aiohttp import web

from agent.web import bodies, items, pages, people, routes
from domain import errors
from kit import http, logs
from store import commands

UNKNOWN, FORBIDDEN, CONFLICT, INVALID = 404, 403, 409, 422
STATUSES: dict[str, int] = {
    "unknown": UNKNOWN,
    "own-intent": FORBIDDEN,
    "not-yours": FORBIDDEN,
    "bad-arguments": INVALID,
    "bad-expiry": INVALID,
    "bad-key": INVALID,
    "bad-name": INVALID,
    "bad-reason": INVALID,
    "bad-roles": INVALID,
    "bad-until": INVALID,
}
"""What each refusal of the book is in HTTP; every other one is a conflict with the state it is in."""

SAID: dict[str, str] = {
    "signed-in": "You are signed in.",
    "signed-out": "You are signed out.",
    "propose": "The intent is proposed.",
    "same": "This intent was proposed before; nothing new happened.",
    "approve": "The intent is approved.",
    "reject": "The intent is rejected.",
    "cancel": "The intent is cancelled, or will be as soon as the chain allows it.",
    "settle": "It is settled as you said, as soon as nothing of it can be mined any more.",
    "pause": "Submission is paused.",
    "resume": "Submission goes on.",
    "clear-latch": "The latch is cleared.",
    "adopt-gap": "The gap will be closed by what others signed.",
    "accept-restored": "The restored book is accepted.",
    "principal-revoke": "The principal is revoked; token and sessions ended.",
}
"""Texts of `?said=`: a closed list, so that no address can make the page say something."""

PAGE_POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self' data:; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'"
)
"""Pages may run the one script that is ours, ask this agent again, and send their forms to it; nothing inline, no other host."""

NO_STAKING = commands.Refused("observes-only", "this agent only observes: it has no [delegator]")


def message(request: web.Request) -> items.Message | None:
    text = SAID.get(request.query.get("said", ""))
    return None if text is None else items.Message(text, good=True)


class Answers:
    """`name` is the agent's, for pages that show nothing else of it."""

    def __init__(self, name: str) -> None:
        self._name = name

    def done(self, request: web.Request, value: object, *, said: str, to: str, status: int = 200) -> web.Response:
        if bodies.is_form(request):
            return see(f"{to}?said={said}")
        return http.json_response(value, status=status)

    def refused(self, request: web.Request, refusal: commands.Refused, *, back: str) -> web.Response:
        status = STATUSES.get(refusal.code, CONFLICT)
        if not bodies.is_form(request):
            return http.problem(status, refusal.code, refusal.why)
        return self.page(request, status, refusal.code, refusal.why, back=back)

    def page(self, request: web.Request, status: int, title: str, detail: str, *, back: str) -> web.Response:
        who = people.of(request)
        shown = items.RefusalPage(self._name, status, title, detail, back, None if who is None else who.shown())
        return html(pages.refused(shown), status=status)

    def turned_away(self, request: web.Request, route: routes.Route, refusal: people.Refusal) -> web.Response:
        """By the door: a guest who wants a page is shown where to sign in."""
        if route.page and refusal.status == 401 and not route.changes and "Authorization" not in request.headers:
            return see("/login")
        if route.page or bodies.is_form(request):
            back = _before(request, route) if refusal.retry_after_s is not None else "/login"
            page = self.page(request, refusal.status, refusal.title, refusal.detail, back=back)
            if refusal.retry_after_s is not None:
                page.headers["Retry-After"] = str(refusal.retry_after_s)
            return page
        return refusal.response()

    def malformed(self, request: web.Request, error: errors.BadAnswer) -> web.Response:
        detail = logs.hide_tokens(str(error))
        if bodies.is_form(request):
            return self.page(request, 400, "Bad Request", detail, back="/")
        return http.problem(400, "Bad Request", detail)


def html(text: str, *, status: int = 200) -> web.Response:
    """`same-origin`: under `no-referrer` a browser names no Origin with our own forms, and the door would not know them as ours."""
    headers = {"Content-Security-Policy": PAGE_POLICY, "Referrer-Policy": "same-origin"}
    return web.Response(text=text, status=status, content_type="text/html", headers=headers)


def _before(request: web.Request, route: routes.Route) -> str:
    """The page that leads to this route: a page itself, or where the form is whose address answers no GET."""
    if not route.changes:
        return request.path
    if route.path.startswith("/v1/intents/{id}/"):
        return f"/intents/{quote(request.match_info['id'], safe='')}"
    return next((page for start, page in _FORMS.items() if route.path.startswith(start)), "/")


_FORMS = {"/v1/session": "/login", "/v1/intents": "/propose", "/v1/principals": "/people"}
"""What is not here is done from the first page."""


def see(path: str) -> web.Response:
    """Go on with a GET, so that reloading sends nothing again."""
    return web.Response(status=303, headers={"Location": path})
