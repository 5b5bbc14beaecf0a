"""The description of the API is the route table and the types, and a server that is asked everything answers as described."""

from __future__ import annotations

import json

import pytest

from store import latches
from tests import fuzz
from tests.web import describe
from tests.web.conftest import ROLES, World

API = json.loads(describe.FILE.read_text())


def test_the_document_is_what_the_routes_and_types_say() -> None:
    assert describe.FILE.read_text() == describe.text(), "write it anew: python -m tests.web.describe"


def test_every_route_for_programs_is_described_and_every_description_is_a_route() -> None:
    served = {f"{route.method} {route.path}" for route in describe.table() if describe.described(route)}
    assert served == set(describe.SHAPES)
    assert served == {f"{method.upper()} {path}" for path, item in API["paths"].items() for method in item}


def test_every_reference_leads_somewhere() -> None:
    def walk(node: object) -> list[str]:
        if isinstance(node, dict):
            return [node["$ref"]] if "$ref" in node else [ref for item in node.values() for ref in walk(item)]
        return [ref for item in node for ref in walk(item)] if isinstance(node, list) else []

    assert walk(API)
    for reference in walk(API):
        assert reference.removeprefix("#/components/schemas/") in API["components"]["schemas"]


@pytest.mark.slow
async def test_whatever_is_asked_is_answered_as_described_without_an_error_or_a_leak(world: World) -> None:
    await world.fill()
    await world.close_frames(2)
    await world.person("fuzz", *ROLES)
    await world.propose("fuzz", key="first")
    await world.gap()
    async with world.book.write() as c:
        await latches.set(c, "rows", reason="look", at_s=5)
    canaries = [b"hunter2", b"secretsecret", str(world.folder).encode()]
    report = await fuzz.run(
        describe.FILE,
        world.url,
        {"Authorization": f"Bearer {world.tokens['fuzz']}"},
        max_examples=8,
        canaries=canaries,
        may_be_unavailable=("/readyz", "/healthz"),
    )
    assert len(report.asked) == len(describe.SHAPES)
    assert {200, 400, 404, 409, 422} <= set(report.statuses)
