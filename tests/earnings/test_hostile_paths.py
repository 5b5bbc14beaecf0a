"""Text that a database cannot hold, in every place of every route of the hub, on both databases."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from tests.earnings import factory, hub

DOCUMENT = Path(__file__).parents[2] / "docs" / "wire" / "openapi.json"
TEXTS = [
    "%00",
    "a%00b",
    "%ED%A0%80",
    "%FF%FE",
    "%E2%80%AE",
    "%F0%9F%98%80",
    "%27%20OR%201=1--",
    "%2F..%2F",
    "9" * 400,
    "x" * 4000,
]
QUERIES = ["attester", "from", "limit", "digest", "anything"]


@pytest.mark.usefixtures("database")
async def test_no_text_in_an_address_is_an_error_of_ours(tmp_path: Path) -> None:
    described = msgspec.json.decode(DOCUMENT.read_bytes())["paths"]
    async with hub.running(tmp_path) as h:
        for path in described:
            if path == "/v1/feed":
                continue
            paths = [re.sub(r"\{\w+\}", text, path) for text in TEXTS]
            known = re.sub(r"\{\w+\}", "0x" + "ab" * 32, path)
            paths += [f"{known}?{name}={text}" for name in QUERIES for text in TEXTS]
            for asked in paths:
                if "get" in described[path]:
                    status, _ = await h.get(asked)
                    assert status < 500, asked
                if "post" in described[path]:
                    status, _ = await h.post(asked, b'{"a":"\\u0000"}')
                    assert status < 500, asked


async def test_a_place_to_go_on_from_that_is_no_number_is_refused(tmp_path: Path) -> None:
    async with hub.running(tmp_path) as h:
        status, _ = await h.get("/v1/feed", token=factory.TOKEN, **{"Last-Event-ID": "\u0661"})
        assert status == 400
