"""Signing in, sessions, and who else could send a request: foreign pages, old cookies, guessers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
from aiohttp import test_utils, web

from agent.web import answers, metrics, people, routes, server
from kit import runtime
from store import principals
from tests.web.conftest import World

REASON = {"reason": "x"}


async def test_signing_in_sets_a_cookie_that_no_script_and_no_other_site_gets(world: World) -> None:
    await world.person("sam", "operator")
    answer = await world.ask("POST", "/v1/session", body={"token": world.tokens["sam"]}, origin="self")
    assert answer.status == 201
    cookie = answer.headers["Set-Cookie"]
    for part in ("HttpOnly", "SameSite=Strict", "Path=/", f"Max-Age={people.SESSION_S}"):
        assert part in cookie
    assert "Domain" not in cookie and "Secure" not in cookie and world.tokens["sam"] not in cookie
    assert answer.json["session"]["name"] == "sam" and answer.json["session"]["via"] == "session"


def test_over_tls_the_cookie_is_bound_to_host_and_tls(world_door: people.Door) -> None:
    response = web.Response()
    world_door.give(response, "sks_value")
    name = next(name for name in response.cookies if name.startswith("__Host-stakeside-"))
    cookie = response.cookies[name].OutputString()
    assert "Secure" in cookie and "Path=/" in cookie and "Domain" not in cookie


@pytest.fixture
def world_door() -> people.Door:
    return door_of(tls=True)


def door_of(*, tls: bool) -> people.Door:
    return people.Door(
        None,  # type: ignore[arg-type]
        runtime.ManualClock(),
        read="anyone",
        tls=tls,
        answer=answers.Answers("x"),
        count=lambda _status: None,
    )


async def test_a_form_signs_in_and_leads_to_the_page(world: World) -> None:
    await world.person("sam", "operator")
    answer = await world.ask("POST", "/v1/session", form={"token": world.tokens["sam"]}, origin="self")
    assert (answer.status, answer.headers["Location"]) == (303, "/?said=signed-in")
    page = await world.ask("GET", "/?said=signed-in", cookie=answer.cookie)
    assert b"You are signed in." in page.body and b"sam" in page.body


async def test_the_page_says_only_texts_of_a_closed_list(world: World) -> None:
    page = await world.ask("GET", "/?said=send+your+token+to+mallory")
    assert page.status == 200 and b"mallory" not in page.body


async def test_the_cookie_a_browser_had_before_is_worth_nothing_after_signing_in(world: World) -> None:
    await world.person("sam", "operator")
    await world.person("eve", "viewer")
    planted = await world.sign_in("eve")
    answer = await world.ask("POST", "/v1/session", body={"token": world.tokens["sam"]}, origin="self", cookie=planted)
    assert answer.cookie != planted
    assert (await world.ask("GET", "/v1/whoami", cookie=planted)).json["session"] is None
    assert (await world.ask("GET", "/v1/whoami", cookie=answer.cookie)).json["session"]["name"] == "sam"


def test_agents_on_one_host_do_not_sign_each_other_out() -> None:
    """A browser sends the cookies of a host to all of its ports."""
    live = World(cast("Any", None), Path()).live()
    first, second, again = (server.Web(live, metrics.Metrics(version="1"), port=port) for port in (8480, 8481, 8480))
    assert first.cookie != second.cookie
    assert first.cookie == again.cookie


@pytest.mark.parametrize(
    "other",
    [{"name": "bob"}, {"chain_id": 1}, {"deployment": b"\x01" * 32}, {"attester": None}, {"staking": None}],
    ids=str,
)
def test_a_cookie_is_named_after_its_agent(other: dict[str, object]) -> None:
    live = World(cast("Any", None), Path()).live()
    mine = server.Web(live, metrics.Metrics(version="1")).cookie
    assert re.fullmatch("stakeside-[0-9a-f]{8}", mine)
    assert server.Web(msgspec.structs.replace(live, **other), metrics.Metrics(version="1")).cookie != mine
    assert server.Web(live, metrics.Metrics(version="1"), tls=True).cookie == f"__Host-{mine}"


async def test_a_made_up_session_is_a_guest(world: World) -> None:
    await world.person("sam", "operator")
    name = (await world.sign_in("sam")).partition("=")[0]
    for value in ("sks_" + "A" * 43, "x", "sks_", "sks_" + "A" * 5000, "é"):
        answer = await world.ask("GET", "/v1/whoami", cookie=f"{name}={value}")
        assert (answer.status, answer.json["session"]) == (200, None)


async def test_a_session_ends_after_its_time(world: World) -> None:
    await world.person("sam", "operator")
    cookie = await world.sign_in("sam")
    await world.clock.advance(people.SESSION_S - 1)
    assert (await world.ask("GET", "/v1/whoami", cookie=cookie)).json["session"]["name"] == "sam"
    await world.clock.advance(1)
    assert (await world.ask("GET", "/v1/whoami", cookie=cookie)).json["session"] is None
    assert (await world.ask("POST", "/v1/pause", cookie=cookie, origin="self", body=REASON)).status == 401


@pytest.mark.parametrize("way", [("POST", "/v1/session/end"), ("DELETE", "/v1/session")])
async def test_signing_out_ends_the_session_and_takes_the_cookie(world: World, way: tuple[str, str]) -> None:
    await world.person("sam", "operator")
    cookie = await world.sign_in("sam")
    answer = await world.ask(*way, cookie=cookie, origin="self")
    assert answer.status == 200 and "Max-Age=0" in answer.headers["Set-Cookie"]
    assert (await world.ask("GET", "/v1/whoami", cookie=cookie)).json["session"] is None


@pytest.mark.parametrize("end", ["revoke", "rotate"])
async def test_a_session_ends_with_its_principals_token(world: World, end: str) -> None:
    await world.person("sam", "operator")
    await world.person("root", "admin")
    cookie = await world.sign_in("sam")
    assert (await world.ask("POST", f"/v1/principals/sam/{end}", by="root", body=REASON)).status in (200, 201)
    assert (await world.ask("GET", "/v1/whoami", cookie=cookie)).json["session"] is None
    assert (await world.ask("POST", "/v1/pause", cookie=cookie, origin="self", body=REASON)).status == 401


FOREIGN = [
    {"Origin": "http://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://127.0.0.1"},
    {"Origin": "http://127.0.0.1:1@evil.example"},
    {"Origin": "file://"},
    {"Origin": "javascript:alert(1)"},
    {"Origin": "http://[half"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site", "Origin": "self"},
    {"Sec-Fetch-Site": "none", "Origin": "self"},
    {},
]


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
async def test_a_foreign_page_cannot_use_a_session(world: World, headers: dict[str, str]) -> None:
    await world.person("sam", *("operator", "admin", "proposer", "approver"))
    cookie = await world.sign_in("sam")
    sent = {name: world.url if value == "self" else value for name, value in headers.items()}
    for path in ("/v1/pause", "/v1/principals", "/v1/intents", "/v1/session/end"):
        answer = await world.ask("POST", path, cookie=cookie, headers=sent, form={"reason": "mine"})
        assert answer.status == 403, answer.body
    assert await world.commanded() == []
    assert (await world.ask("GET", "/v1/whoami", cookie=cookie)).json["session"]["name"] == "sam"


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
async def test_a_foreign_page_cannot_sign_a_browser_in(world: World, headers: dict[str, str]) -> None:
    await world.person("eve", "viewer")
    sent = {name: world.url if value == "self" else value for name, value in headers.items()}
    answer = await world.ask("POST", "/v1/session", form={"token": world.tokens["eve"]}, headers=sent)
    assert answer.status == 403 and "Set-Cookie" not in answer.headers


@pytest.mark.parametrize(("tls", "taken"), [(True, ["https"]), (False, ["http", "https"])])
async def test_over_tls_a_page_that_came_in_plain_http_is_foreign(tls: bool, taken: list[str]) -> None:
    """Whoever is in between can make up such a page. Without TLS of our own a proxy may speak it for us."""
    door = door_of(tls=tls)

    async def reached(_request: web.Request) -> web.StreamResponse:
        return web.Response(status=201)

    opened: list[str] = []
    guarded = door.guard(routes.Route("POST", "/v1/session", reached, routes.OPEN, "Sign in."))
    for scheme in ("http", "https"):
        headers = {"Host": "agent.example:8480", "Origin": f"{scheme}://agent.example:8480"}
        answer = await guarded(test_utils.make_mocked_request("POST", "/v1/session", headers=headers))
        opened += [scheme] if answer.status == 201 else []
        assert answer.status in (201, 403)
    assert opened == taken


async def test_a_page_of_ours_can_use_a_session_whatever_browser_it_is(world: World) -> None:
    await world.person("sam", "operator")
    cookie = await world.sign_in("sam")
    for headers in ({"Origin": world.url}, {"Origin": world.url, "Sec-Fetch-Site": "same-origin"}):
        answer = await world.ask("POST", "/v1/pause", cookie=cookie, headers=headers, form={"reason": "mine"})
        assert (answer.status, answer.headers["Location"]) == (303, "/?said=pause")


async def test_a_token_needs_no_origin(world: World) -> None:
    await world.person("sam", "operator")
    assert (await world.ask("POST", "/v1/pause", by="sam", body=REASON)).status == 200


async def test_nothing_answers_a_preflight(world: World) -> None:
    headers = {"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"}
    answer = await world.ask("OPTIONS", "/v1/pause", headers=headers)
    assert answer.status == 405 and not any(name.lower().startswith("access-control") for name in answer.headers)


async def test_no_form_leads_anywhere_else(world: World) -> None:
    """There is no address in a request: what looks like one is an unknown key."""
    await world.person("sam", "operator")
    cookie = await world.sign_in("sam")
    for name in ("back", "next", "to", "return"):
        form = {"reason": "x", name: "//evil.example"}
        answer = await world.ask("POST", "/v1/pause", cookie=cookie, origin="self", form=form)
        assert answer.status == 400 and "Location" not in answer.headers


async def test_guessing_tokens_is_slowed_down_and_people_at_work_are_not(world: World) -> None:
    await world.person("sam", "operator")
    assert (await world.ask("GET", "/v1/whoami", by="sam")).status == 200
    cookie = await world.sign_in("sam")
    statuses = [
        (await world.ask("GET", "/status", token=people.new_token())).status for _ in range(people.FAILURES + 3)
    ]
    assert statuses == [401] * people.FAILURES + [429] * 3
    limited = await world.ask("POST", "/v1/session", body={"token": people.new_token()}, origin="self")
    assert limited.status == 429 and 1 <= int(limited.headers["Retry-After"]) <= people.WINDOW_S
    assert (await world.ask("GET", "/v1/whoami", by="sam")).json["session"]["name"] == "sam"
    await world.person("olga", "operator")
    assert (await world.ask("POST", "/v1/pause", by="olga", body=REASON)).status == 200, "never seen before, and good"
    assert (await world.ask("GET", "/v1/whoami", cookie=cookie)).json["session"]["name"] == "sam"
    await world.clock.advance(people.WINDOW_S)
    assert (await world.ask("GET", "/status", token=people.new_token())).status == 401


def test_the_memory_of_failures_is_bounded() -> None:
    throttle = people.Throttle(runtime.ManualClock())
    for n in range(3 * people.ADDRESSES):
        throttle.failed(f"10.0.{n // 256}.{n % 256}")
    assert len(throttle._failed) == people.ADDRESSES


async def test_refusals_are_counted(world: World) -> None:
    await world.ask("POST", "/v1/pause", body=REASON)
    text = (await world.ask("GET", "/metrics")).body.decode()
    assert 'stakeside_requests_refused_total{status="401"} 1.0' in text


async def test_a_session_row_holds_no_cookie_and_a_principal_row_no_token(world: World) -> None:
    await world.person("sam", "operator")
    cookie = await world.sign_in("sam")
    value = cookie.partition("=")[2]
    raw = b"".join(path.read_bytes() for path in world.folder.glob("book.db*"))
    assert value.encode() not in raw and world.tokens["sam"].encode() not in raw
    async with world.book.read() as c:
        assert await principals.session(c, people.hash_of(value), world.clock.now()) is not None


async def test_a_token_is_32_random_bytes() -> None:
    made = {people.new_token() for _ in range(100)}
    assert len(made) == 100 and all(people.TOKEN.match(token) for token in made)
