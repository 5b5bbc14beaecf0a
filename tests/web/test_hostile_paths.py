"""Text that a database cannot hold, in every place of every route: refused at the edge, alike on both databases."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.store import postgres
from tests.store.conftest import postgres_server  # noqa: F401
from tests.web import conftest as web
from tests.web import test_authorization as authorization

TEXTS = [
    "%00",
    "a%00b",
    "%ED%A0%80",
    "%FF%FE",
    "%E2%80%AE",
    "%F0%9F%98%80",
    "%0d%0aX: y",
    "%27%20OR%201=1--",
    "%2F..%2F",
    "9" * 400,
    "x" * 4000,
]
"""NUL, half of a character, no UTF-8, a direction change, an astral character, a line end, SQL, a folder, a number without end, length."""
QUERIES = ["before", "limit", "state", "stream", "said", "kind", "anything"]
FIELDS = ("reason", "key", "name", "protocol", "action", "token", "payloadHash")
NULL = ["\\u0000", "a\\u0000b", "\\ud800", "\\u202e"]
"""As JSON writes them."""


@pytest.fixture(params=["sqlite", "postgresql"])
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[web.World]:
    store = None
    if request.param == "postgresql":
        server: postgres.Server = request.getfixturevalue("postgres_server")
        store = server.empty()
    async with web.serving(tmp_path, store=store) as made:
        await made.fill()
        await made.person("eve", *web.ROLES)
        yield made


async def test_no_name_in_a_path_is_an_error_of_ours(world: web.World) -> None:
    for route in authorization.TABLE:
        for text in TEXTS if "{" in route.path else ():
            path, body = re.sub(r"\{\w+\}", text, route.path), {"reason": "x"} if route.changes else None
            answer = await world.ask(route.method, path, by="eve", body=body)
            assert 400 <= answer.status < 500, (route.method, path, answer)


@pytest.mark.slow
async def test_no_text_in_a_query_is_an_error_of_ours(world: web.World) -> None:
    for route in authorization.TABLE:
        for text in TEXTS if not route.changes else ():
            for question in [*(f"{name}={text}" for name in QUERIES), f"{text}=1"]:
                path = f"{authorization.filled(route)}?{question}"
                answer = await world.ask("GET", path, by="eve")
                assert answer.status < 500 or route.path == "/readyz", (path, answer)


async def test_no_text_in_a_body_is_an_error_of_ours(world: web.World) -> None:
    """Each field alone beside a reason, since a body with a field too many is refused before its texts are looked at."""
    for text in NULL:
        bodies = [f'{{"{name}":"{text}","reason":"x"}}' for name in FIELDS] + [f'{{"reason":"{text}"}}']
        bodies.append(f'{{"roles":["viewer"],"reason":"x","name":"{text}"}}')
        proposal = '"protocol":"devnet","action":"delegate","key":"k"'
        bodies.append(f'{{{proposal},"reason":"x","arguments":{{"{text}":"{text}"}}}}')
        for route in authorization.TABLE:
            for data in bodies if route.changes else ():
                answer = await world.ask(
                    route.method, authorization.filled(route), by="eve", origin="self", data=data.encode(),
                    headers={"Content-Type": "application/json"},
                )  # fmt: skip
                assert answer.status < 500, (route.path, data, answer)


async def test_what_is_asked_as_a_key_in_a_header_is_checked_too(world: web.World) -> None:
    for text in ("\xff", "a b", "\u202e", "k" * 129):
        answer = await world.ask(
            "POST", "/v1/intents", by="eve", headers={"Idempotency-Key": text},
            body={"protocol": "devnet", "action": "delegate", "reason": "x", "arguments": {}},
        )  # fmt: skip
        assert answer.status == 400, (text, answer)
