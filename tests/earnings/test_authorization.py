"""Every route of the hub × every kind of sender, from the route table itself: a new route is asked here the day it is added."""

from __future__ import annotations

import hashlib
import json
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from domain import hashing
from earnings.web import server
from tests import said
from tests.earnings import factory, hub

API: dict[str, Any] = json.loads((Path(__file__).parents[2] / "docs" / "wire" / "openapi.json").read_text())
FRAME = factory.frames(1)[0]
FILLED = {
    "id": hashing.hex0x(FRAME.header.stream),
    "digest": hashing.hex0x(FRAME.digest),
    "root": hashing.hex0x(FRAME.header.body_root),
    "subject": hashing.hex0x(FRAME.changed[0].subject),
    "attester": factory.address(factory.AGENTS[0]),
}
SENDERS: dict[str, dict[str, str]] = {
    "no token": {},
    "wrong token": {"Authorization": "Bearer stk_wrong"},
    "empty token": {"Authorization": "Bearer "},
    "hash of the token": {"Authorization": f"Bearer {hashlib.sha256(factory.TOKEN.encode()).hexdigest()}"},
    "token by another scheme": {"Authorization": f"Basic {factory.TOKEN}"},
    "token in the query": {},
    "revoked token": {"Authorization": "Bearer revoked"},
    "good token": {"Authorization": f"Bearer {factory.TOKEN}"},
}


class Doors:
    """A hub with its real route table; `revoked` was a consumer's token until a moment ago."""

    def __init__(self, h: hub.Hub, routes: list[tuple[str, str]]) -> None:
        self.hub = h
        self.routes = routes

    async def status(self, method: str, route: str, sender: str) -> int:
        url = self.hub.url + route.format(**FILLED)
        if sender == "token in the query":
            url += f"?token={factory.TOKEN}&access_token={factory.TOKEN}"
        limit = aiohttp.ClientTimeout(total=20)
        async with self.hub.session.request(method, url, headers=SENDERS[sender], data=b"", timeout=limit) as response:
            return response.status  # a feed's answer begins and is left


@pytest.fixture
async def doors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Doors]:
    routes: list[tuple[str, str]] = []
    build = server.application

    def noted(*args: Any, **kw: Any) -> web.Application:
        app = build(*args, **kw)
        routes.extend((r.method, r.resource.canonical) for r in app.router.routes() if r.resource is not None)
        return app

    monkeypatch.setattr(server, "application", noted)
    async with hub.running(tmp_path) as h:
        tokens = tmp_path / "tokens"
        kept = tokens.read_text()
        tokens.write_text(kept + f"leaver:{hashlib.sha256(b'revoked').hexdigest()}\n")
        await h.seal(FRAME)
        await reread(h, 200)
        tokens.write_text(kept)
        await reread(h, 401)
        yield Doors(h, routes)


async def reread(h: hub.Hub, expected: int) -> None:
    os.kill(os.getpid(), signal.SIGHUP)

    async def seen() -> bool | None:
        return True if (await h.get("/v1/streams", token="revoked"))[0] == expected else None

    await hub.until(seen)


def secured(method: str, route: str) -> bool:
    """Whether the document says that a token is needed; a route that it does not know fails here."""
    wanted = API["paths"][route][method.lower()]["security"]
    return bool(wanted) and {} not in wanted


async def test_every_route_asks_exactly_for_what_it_is_said_to_ask(doors: Doors) -> None:
    assert len({route for _, route in doors.routes}) >= 17
    wrong: list[str] = []
    for method, route in doors.routes:
        described = "GET" if method == "HEAD" else method
        for sender in SENDERS:
            status = await doors.status(method, route, sender)
            refused = secured(described, route) and sender != "good token"
            if (status == 401) is not refused or status >= 500:
                wrong.append(f"{method} {route} by {sender}: {status}")
    assert wrong == []


async def test_nobody_without_a_token_learns_of_a_statement(doors: Doors) -> None:
    needed = {(method, route) for method, route in doors.routes if method == "GET" and secured(method, route)}
    assert {route.split("/")[2] for _, route in needed} == {"streams", "statements", "bodies", "proofs", "feed"}


@pytest.mark.parametrize("bad", ["not a line", "a:" + "0" * 63, "twice:{0}\ntwice:{0}".format("1" * 64)])
async def test_a_tokens_file_that_is_not_good_leaves_the_old_one_in_force(tmp_path: Path, bad: str) -> None:
    with said.heard() as log:
        async with hub.running(tmp_path) as h:

            async def refused() -> bool | None:
                return True if "hub.tokens_refused" in log.getvalue() else None

            (tmp_path / "tokens").write_text(bad)
            os.kill(os.getpid(), signal.SIGHUP)
            await hub.until(refused)
            assert (await h.get("/v1/streams"))[0] == 200
