"""The house rules hold, and each of them notices a breach."""

from __future__ import annotations

import ast

import pytest

from tests.project import house


def test_the_house_is_in_order() -> None:
    assert house.breaches() == []


@pytest.mark.parametrize(
    "line",
    [
        "https://" + "py" + "pi.org/simple",
        "--extra-" + "index-url https://example.com",
        '"resol' + 'ved": "https://regis' + "try.np" + 'mjs.example/x"',
        "cd " + "/wo" + "rk/main",
        "key = '/ro" + "ot/.ssh/id'",
        "/ho" + "me/alice/stakeside",
        "# TO" + "DO: later",
    ],
)
def test_an_index_a_machine_path_or_unfinished_work_is_noticed(line: str) -> None:
    assert list(house.text_breaches("docs/x.md", line))


@pytest.mark.parametrize("line", ["see /v1/frames and framework/x", "home/ is a word", "app.router/root"])
def test_ordinary_text_is_not(line: str) -> None:
    assert not list(house.text_breaches("docs/x.md", line))


@pytest.mark.parametrize(
    "code",
    [
        "x = 1.5",
        "x = a / b",
        "x /= 2",
        "x = float(y)",
        "x: float = y",
        "from decimal import Decimal",
        "import math",
        "x = round(y)",
        "def f(rate: float) -> int: ...",
    ],
)
def test_a_float_near_money_is_noticed(code: str) -> None:
    assert list(house.money_breaches("accounting/x.py", ast.parse(code)))


@pytest.mark.parametrize(
    "code", ["x = a // b", "def f(*, retry_after_s: float | None = None) -> None: ...", "x = 10**18"]
)
def test_whole_numbers_and_seconds_are_fine(code: str) -> None:
    assert not list(house.money_breaches("domain/x.py", ast.parse(code)))


@pytest.mark.parametrize(
    "code", ["from aiohttp import web", "import aiohttp.web", "from aiohttp.web import Request", "import http.server"]
)
def test_serving_http_elsewhere_is_noticed(code: str) -> None:
    assert list(house.serving_breaches("indexers/chain/x.py", ast.parse(code)))
    assert not list(house.serving_breaches("agent/web/x.py", ast.parse(code)))
