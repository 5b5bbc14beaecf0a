"""Every route × every kind of caller, generated from the route table: a route that is added is tested before it is finished."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import pytest

from agent.web import metrics, people, routes, server
from domain import errors
from kit import http
from store import principals
from tests.web.conftest import ROLES, Answer, World, serving


def table() -> tuple[routes.Route, ...]:
    unserved = World(cast("Any", None), Path())
    return server.Web(unserved.live(), metrics.Metrics(version="1.2.3")).table


TABLE = table()
Caller = Callable[[World], Awaitable[dict[str, Any]]]


def filled(route: routes.Route) -> str:
    """Its path, with names of things that do not exist."""
    found = route.path.replace("/gaps/{id}", "/gaps/1").replace("{name}", "nobody")
    return found.replace("{id}", "0x" + "ab" * 32).replace("{digest}", "0x" + "ab" * 32)


async def call(world: World, route: routes.Route, given: dict[str, Any]) -> Answer:
    """As a page of our own would send it: whether a foreign one can is asked in test_sessions."""
    body = {} if route.changes and route.method != "DELETE" else None
    return await world.ask(route.method, filled(route), body=body, **{"origin": "self", **given})


def sent_to_sign_in(route: routes.Route, answer: Answer) -> bool:
    return route.page and answer.status == 303 and answer.headers["Location"] == "/login"


async def guest(_: World) -> dict[str, Any]:
    return {}


async def revoked(world: World) -> dict[str, Any]:
    token = await world.person("leaver", *ROLES)
    async with world.book.write() as c:
        await principals.add(c, "other", ["admin"], b"\x01" * 32, by="local:test", reason="x", at_s=1)
        await principals.revoke(c, "leaver", by="local:test", reason="left", at_s=2)
    return {"token": token}


async def rotated(world: World) -> dict[str, Any]:
    token = await world.person("careless", *ROLES)
    async with world.book.write() as c:
        await principals.rotate(c, "careless", b"\x02" * 32, by="local:test", reason="lost it", at_s=2)
    return {"token": token}


async def unknown(_: World) -> dict[str, Any]:
    return {"token": people.new_token()}


async def malformed(_: World) -> dict[str, Any]:
    return {"token": "hunter2"}


async def basic(world: World) -> dict[str, Any]:
    token = await world.person("old-school", *ROLES)
    return {"headers": {"Authorization": f"Basic {token}"}}


async def twice(world: World) -> dict[str, Any]:
    return {"token": (await world.person("double", *ROLES)) + "\t"}


STRANGERS = [revoked, rotated, unknown, malformed, basic, twice]


@pytest.mark.parametrize("read", ["anyone", "viewer"])
async def test_a_guest_may_read_only_if_the_settings_say_so_and_change_nothing(tmp_path: Path, read: str) -> None:
    async with serving(tmp_path, read=read) as world:
        for route in TABLE:
            answer = await call(world, route, {})
            if route.access == routes.OPEN or (route.access == routes.READ and read == "anyone"):
                assert answer.status not in (401, 403) and not sent_to_sign_in(route, answer), route
            else:
                assert answer.status == 401 or sent_to_sign_in(route, answer), route
            if answer.status == 401:
                assert answer.headers["WWW-Authenticate"].startswith("Bearer")
                assert "role" in answer.json["detail"]
        assert await world.commanded() == []


@pytest.mark.parametrize("stranger", STRANGERS)
@pytest.mark.parametrize("read", ["anyone", "viewer"])
async def test_a_wrong_token_is_never_a_guest(tmp_path: Path, stranger: Caller, read: str, monkeypatch: Any) -> None:
    monkeypatch.setattr(people, "FAILURES", 10_000)
    async with serving(tmp_path, read=read) as world:
        given = await stranger(world)
        if stranger is twice:
            given["headers"] = {"Authorization": f"Bearer {world.tokens['double']}, Bearer x"}
            del given["token"]
        for route in TABLE:
            answer = await call(world, route, given)
            expected = answer.status not in (401, 403) if route.access == routes.OPEN else answer.status == 401
            assert expected, (route, answer.status)
        assert await world.commanded() == []


@pytest.mark.parametrize("order", [("sam", "eve"), ("eve", "sam"), ("sam", "sam")])
async def test_two_tokens_open_nothing_whichever_is_first(world: World, order: tuple[str, str]) -> None:
    """A proxy in front may have looked at the other one."""
    await world.person("sam", "operator")
    await world.person("eve", "viewer")
    headers = [("Authorization", f"Bearer {world.tokens[name]}") for name in order]
    async with http.client_session() as session:
        async with session.get(f"{world.url}/v1/whoami", headers=headers) as answer:
            assert answer.status == 401
        async with session.post(f"{world.url}/v1/pause", headers=headers, json={"reason": "x"}) as answer:
            assert answer.status == 401
    assert await world.commanded() == []


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("read", ["anyone", "viewer"])
async def test_a_role_opens_its_routes_and_no_other(tmp_path: Path, role: str, read: str) -> None:
    async with serving(tmp_path, read=read) as world:
        await world.person("sam", role)
        for route in TABLE:
            answer = await call(world, route, {"by": "sam"})
            if route.access in (routes.OPEN, routes.READ) or role in route.access or "viewer" in route.access:
                assert answer.status not in (401, 403), (route, answer.body)
            else:
                assert answer.status == 403, route
                if not route.page:
                    assert answer.json["detail"].endswith(f"sam has: {role}"), answer.json
                    assert answer.json["detail"].startswith(f"this needs the role {' or '.join(route.access)};")


@pytest.mark.parametrize("role", ["viewer", "operator"])
async def test_a_session_has_the_roles_of_its_principal_and_of_nobody_else(tmp_path: Path, role: str) -> None:
    async with serving(tmp_path, read="viewer") as world:
        await world.person("sam", role)
        await world.person("root", *ROLES)
        for route in TABLE:
            answer = await call(world, route, {"cookie": await world.sign_in("sam")})
            allowed = route.access in (routes.OPEN, routes.READ) or role in route.access or "viewer" in route.access
            assert (answer.status not in (401, 403)) == allowed, (route, answer.body)


async def test_a_token_counts_before_another_principals_session(world: World) -> None:
    await world.person("sam", "viewer")
    await world.person("root", *ROLES)
    cookie = await world.sign_in("root")
    who = await world.ask("GET", "/v1/whoami", by="sam", cookie=cookie)
    assert who.json["session"]["name"] == "sam"
    assert (await world.ask("POST", "/v1/pause", by="sam", cookie=cookie, body={"reason": "x"})).status == 403


@pytest.mark.parametrize("access", [None, (), ("nobody",), ("viewer", "king"), "reader", routes.READ])
def test_a_route_that_says_nothing_good_about_who_may_use_it_does_not_start(access: Any) -> None:
    with pytest.raises(errors.BadConfig):
        routes.check([routes.Route("POST", "/v1/new", cast("Any", None), access, "Something new.")])


def test_a_route_that_is_there_twice_does_not_start() -> None:
    route = TABLE[0]
    with pytest.raises(errors.BadConfig, match="twice"):
        routes.check([route, route])


async def test_the_server_serves_the_table_and_nothing_else(world: World) -> None:
    application = server.Web(world.live(), metrics.Metrics(version="1.2.3")).application()
    served = {
        (route.method, route.resource.canonical)
        for route in application.router.routes()
        if route.resource is not None and route.method != "HEAD"
    }
    assert served == {(route.method, route.path) for route in TABLE}


def test_every_change_needs_a_role_but_signing_in() -> None:
    free = [route.path for route in TABLE if route.changes and not isinstance(route.access, tuple)]
    assert free == ["/v1/session"]
