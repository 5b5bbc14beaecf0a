"""Whatever is sent to the hub, it answers as its document says, and never with a part of its inside."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from aiohttp import web

from kit import http as kit_http
from tests import fuzz
from tests.earnings import factory, hub

DOCUMENT = Path(__file__).parents[2] / "docs" / "wire" / "openapi.json"
FRAME = factory.frames(1)[0]


@pytest.mark.slow
@pytest.mark.parametrize("token", [factory.TOKEN, None], ids=["consumer", "nobody"])
async def test_the_hub_answers_as_described_whatever_it_is_asked(tmp_path: Path, token: str | None) -> None:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    async with hub.running(tmp_path) as h:
        await h.seal(FRAME)
        report = await fuzz.run(
            DOCUMENT, h.url, headers, max_examples=10 if token else 3, skip=("/v1/feed",), canaries=[b"hub.db"]
        )
    assert len(report.asked) >= 15


SMALL = {
    "openapi": "3.1.0",
    "info": {"title": "small", "version": "1"},
    "paths": {
        "/item": {
            "get": {
                "parameters": [
                    {"name": "n", "in": "query", "required": True, "schema": {"type": "integer", "maximum": 9}}
                ],
                "responses": {
                    "200": {
                        "description": "an item",
                        "content": {
                            "application/json": {
                                "schema": {
                                    "type": "object",
                                    "required": ["n"],
                                    "properties": {"n": {"type": "integer"}},
                                }
                            }
                        },
                    }
                },
            }
        }
    },
}


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda: kit_http.json_response({"n": 1}), None),
        (lambda: kit_http.json_response({"n": 1}, status=500), "fails"),
        (lambda: kit_http.json_response({"n": 1}, status=418), "not as described"),
        (lambda: kit_http.json_response({"n": "one"}), "not as described"),
        (lambda: web.Response(text="1"), "not as described"),
        (lambda: kit_http.json_response({"n": 1, "why": "sqlalchemy.exc.DataError"}), "shows its inside"),
        (lambda: kit_http.json_response({"n": 1, "token": "canary"}), "shows a secret"),
    ],
    ids=["good", "5xx", "another status", "another shape", "another type", "a leak", "a secret"],
)
async def test_the_fuzzing_itself_notices(tmp_path: Path, answer: Callable[[], web.Response], said: str | None) -> None:
    document = tmp_path / "openapi.json"
    document.write_text(json.dumps(SMALL))

    async def handler(_request: web.Request) -> web.StreamResponse:
        return answer()

    app = kit_http.application()
    app.add_routes([web.get("/item", handler)])
    async with kit_http.serving(app, host="127.0.0.1", port=0) as port:
        url = f"http://127.0.0.1:{port}"
        if said is None:
            assert (await fuzz.run(document, url, {}, max_examples=3)).asked["GET /item"] >= 3
            return
        with pytest.raises(AssertionError, match=said):
            await fuzz.run(document, url, {"Authorization": "Bearer canary"}, max_examples=3)
