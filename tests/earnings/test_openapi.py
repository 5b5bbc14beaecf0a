"""The description of the API says what the server does: every route, every shape, every file it points to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from domain import hashing
from earnings.web import server
from tests.earnings import factory, hub

FILE = Path(__file__).parents[2] / "docs" / "wire" / "openapi.json"
API: dict[str, Any] = json.loads(FILE.read_text())
FRAME = factory.frames(1)[0]


def resolve(schema: dict[str, Any], base: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Follow references into this document or a file beside it."""
    while "$ref" in schema:
        file, _, place = schema["$ref"].partition("#")
        base = json.loads((FILE.parent / file).read_text()) if file else base
        schema = base
        for part in filter(None, place.split("/")):
            schema = schema[part]
    return schema, base


def mismatch(value: object, schema: dict[str, Any], base: dict[str, Any], at: str = "$") -> str | None:
    """The first place where `value` is not what the schema says, as far as names and types go."""
    schema, base = resolve(schema, base)
    if "anyOf" in schema:
        found = [mismatch(value, option, base, at) for option in schema["anyOf"]]
        return None if None in found else found[0]
    types = {"object": dict, "array": list, "string": str, "integer": int, "boolean": bool, "null": type(None)}
    named = schema.get("type", list(types))
    allowed = tuple(types[name] for name in ([named] if isinstance(named, str) else named))
    if not isinstance(value, allowed):
        return f"{at} is {type(value).__name__}, not {named}"
    if "enum" in schema and value not in schema["enum"]:
        return f"{at} is {value!r}"
    if isinstance(value, dict) and "properties" in schema:
        if missing := set(schema.get("required", ())) - value.keys():
            return f"{at} lacks {missing}"
        if unknown := value.keys() - schema["properties"].keys():
            return f"{at} has undescribed {unknown}"
        found = [mismatch(item, schema["properties"][name], base, f"{at}.{name}") for name, item in value.items()]
        return next((text for text in found if text), None)
    if isinstance(value, list) and "items" in schema:
        found = [mismatch(item, schema["items"], base, f"{at}[{n}]") for n, item in enumerate(value)]
        return next((text for text in found if text), None)
    return None


def walk(node: object) -> list[str]:
    """Every $ref."""
    if isinstance(node, dict):
        return [node["$ref"]] if "$ref" in node else [ref for item in node.values() for ref in walk(item)]
    return [ref for item in node for ref in walk(item)] if isinstance(node, list) else []


async def test_every_route_is_described_and_every_description_is_a_route(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served: set[tuple[str, str]] = set()
    build = server.application

    def noted(*args: Any, **kw: Any) -> web.Application:
        application = build(*args, **kw)
        routes = (
            route for route in application.router.routes() if route.method != "HEAD" and route.resource is not None
        )
        served.update((route.method, route.resource.canonical) for route in routes)
        return application

    monkeypatch.setattr(server, "application", noted)
    async with hub.running(tmp_path):
        pass
    assert served == {(method.upper(), path) for path, item in API["paths"].items() for method in item}


def test_every_reference_leads_somewhere() -> None:
    for reference in walk(API):
        resolve({"$ref": reference}, API)


async def test_answers_have_the_described_shape(tmp_path: Path) -> None:
    stream, digest = hashing.hex0x(FRAME.header.stream), hashing.hex0x(FRAME.digest)
    root, attester = hashing.hex0x(FRAME.header.body_root), factory.address(factory.AGENTS[0])
    asked = {
        "/v1/streams": "/v1/streams",
        "/v1/streams/{id}/frames": f"/v1/streams/{stream}/frames",
        "/v1/statements/{digest}": f"/v1/statements/{digest}",
        "/v1/bodies/{root}": f"/v1/bodies/{root}",
        "/v1/proofs/{digest}/{subject}": f"/v1/proofs/{digest}/{hashing.hex0x(FRAME.changed[0].subject)}",
        "/v1/receipts/{attester}": f"/v1/receipts/{attester}",
        "/v1/wanted": f"/v1/wanted?attester={attester}",
        "/healthz": "/healthz",
        "/readyz": "/readyz",
        "/status": "/status",
    }
    async with hub.running(tmp_path) as h:
        await h.seal(FRAME)
        for path, real in asked.items():
            status, answer = await h.get(real)
            assert status == 200
            content = API["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]
            assert mismatch(answer, content["schema"], API) is None, path
        status, problem = await h.attest(factory.STRANGER, FRAME)
        refused = API["paths"]["/v1/attestations"]["post"]["responses"][str(status)]["content"][
            "application/problem+json"
        ]
        assert mismatch(problem, refused["schema"], API) is None
        accepted = API["paths"]["/v1/attestations"]["post"]["responses"]["200"]["content"]["application/json"]
        assert mismatch((await h.attest(factory.AGENTS[0], FRAME))[1], accepted["schema"], API) is None
