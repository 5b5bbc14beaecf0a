"""The route table. In: routes, each with who may use it. Out: aiohttp's routes, guarded; a route that names nobody does not start.

`access` is one of

    OPEN            nobody is asked who they are (health, metrics, the sign-in page)
    READ            everybody, or every principal, as `[web] read` says
    a role, or several of which one is enough; `viewer` is whoever has any role

The tests enumerate this table: every route, every role, without a token, with a revoked one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Literal, get_args

import msgspec
from aiohttp import web

from domain import errors
from kit import http

Role = Literal["viewer", "operator", "proposer", "approver", "admin"]
ROLES: tuple[Role, ...] = get_args(Role)
Access = Literal["open", "read"] | tuple[Role, ...]
OPEN: Literal["open"] = "open"
READ: Literal["read"] = "read"
SAFE = ("GET", "HEAD")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Guard = Callable[["Route"], http.Handler]


class Route(msgspec.Struct, frozen=True):
    """`page` marks what answers a browser with HTML: a refusal there is a page too."""

    method: str
    path: str
    handler: Handler
    access: Access
    summary: str
    page: bool = False

    @property
    def changes(self) -> bool:
        """Whether it can change anything, so that a foreign page must not be able to send it."""
        return self.method not in SAFE


def check(table: Iterable[Route]) -> tuple[Route, ...]:
    """Raises BadConfig for a route that is there twice, says nothing about who may use it, or lets readers change something."""
    found = tuple(table)
    seen: set[tuple[str, str]] = set()
    for route in found:
        name = f"{route.method} {route.path}"
        if (route.method, route.path) in seen:
            raise errors.BadConfig("a route is there twice", value=name)
        seen.add((route.method, route.path))
        roles = set[object]() if route.access in (OPEN, READ) else set[object](route.access or [None])
        if not roles <= set(ROLES):
            raise errors.BadConfig("a route does not say who may use it", value=name, cure=f"name one of {ROLES}")
        if route.changes and route.access == READ:
            raise errors.BadConfig("a route that changes something is open to readers", value=name)
    return found


def definitions(table: Iterable[Route], guard: Guard) -> list[web.RouteDef]:
    """For `add_routes`: every handler behind its guard."""
    return [
        web.get(route.path, guard(route))
        if route.method == "GET"
        else web.route(route.method, route.path, guard(route))
        for route in check(table)
    ]
