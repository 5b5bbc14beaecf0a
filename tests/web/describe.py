"""Writes the description of the agent's API from its route table and its types: `python -m tests.web.describe`.

What a route takes and answers is said here once; a route that is missing here, or here and not in the table, fails the test.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import msgspec

from agent.web import bodies, commands_api, intents_api, items, metrics, people_api, reads, routes, server, view
from domain import wire
from tests.web.conftest import World

FILE = Path(__file__).parents[2] / "docs" / "api" / "agent-openapi.json"
REF = "#/components/schemas/{name}"
HASH = {"type": "string", "pattern": "^0x[0-9a-f]{64}$"}
NUMBER = {"type": "string", "pattern": "^[0-9]{1,18}$"}
LIMIT = ("limit", {"type": "integer", "minimum": 1, "maximum": 200, "default": 50}, "How many at most.")
BEFORE = ("before", {"type": "integer", "minimum": 0, "maximum": 2**63 - 1}, "The `next` of the page before.")
Query = tuple[str, dict[str, Any], str]


class Shape(msgspec.Struct, frozen=True):
    """`answers` maps a status to what it holds; `refusals` are further statuses than every route of its kind has."""

    answers: Mapping[int, Any]
    body: type[msgspec.Struct] | None = None
    query: Sequence[Query] = ()
    refusals: Sequence[int] = ()
    headers: Sequence[Query] = ()


DONE = {200: intents_api.CommandDone}
KEY = ("Idempotency-Key", {"type": "string", "pattern": "^[!-~]{1,128}$"}, "The intent's key, when the body has none.")
SHAPES: dict[str, Shape] = {
    "GET /healthz": Shape({200: server.Health, 503: server.Health}),
    "GET /readyz": Shape({200: server.Readiness, 503: server.Readiness}),
    "GET /metrics": Shape({200: str}),
    "GET /status": Shape({200: view.Status}),
    "GET /v1/events": Shape(
        {200: reads.EventPage},
        query=(
            LIMIT,
            ("before", {"type": "string", "pattern": "^[0-9]{1,18}:[0-9]{1,18}$"}, "The `next` of the page before."),
        ),
        refusals=(400,),
    ),
    "GET /v1/frames": Shape(
        {200: reads.FramePage},
        query=(LIMIT, BEFORE, ("stream", {"type": "string"}, "A stream by its name or id.")),
        refusals=(400,),
    ),
    "GET /v1/statements/{digest}": Shape({200: reads.StatementItem}, refusals=(400, 404)),
    "GET /v1/intents": Shape(
        {200: intents_api.IntentPage},
        query=(LIMIT, BEFORE, ("state", {"enum": [*intents_api.STATES]}, "Only those in this state.")),
        refusals=(400,),
    ),
    "POST /v1/intents": Shape(
        {201: items.Intent, 200: items.Intent}, bodies.Propose, refusals=(409, 422), headers=(KEY,)
    ),
    "GET /v1/intents/{id}": Shape({200: items.IntentDetail}, refusals=(400, 404)),
    "POST /v1/intents/{id}/approve": Shape(DONE, bodies.Approve, refusals=(404, 409, 422)),
    "POST /v1/intents/{id}/reject": Shape(DONE, bodies.Because, refusals=(404, 409, 422)),
    "POST /v1/intents/{id}/cancel": Shape(DONE, bodies.Because, refusals=(404, 409, 422)),
    "POST /v1/intents/{id}/settle": Shape(DONE, bodies.Settle, refusals=(404, 409, 422)),
    "GET /v1/policy": Shape({200: items.Policy}, refusals=(409,)),
    "GET /v1/commands": Shape({200: commands_api.CommandPage}, query=(LIMIT, BEFORE), refusals=(400,)),
    "POST /v1/pause": Shape(DONE, bodies.Pause, refusals=(422,)),
    "POST /v1/resume": Shape(DONE, bodies.Because, refusals=(409, 422)),
    "GET /v1/latches": Shape({200: commands_api.Latches}),
    "POST /v1/latches/{name}/clear": Shape(DONE, bodies.Because, refusals=(404, 409, 422)),
    "GET /v1/gaps": Shape({200: commands_api.Gaps}),
    "POST /v1/gaps/{id}/adopt": Shape(DONE, bodies.Because, refusals=(404, 409, 422)),
    "POST /v1/restored/accept": Shape(DONE, bodies.Because, refusals=(409, 422)),
    "POST /v1/session": Shape({201: people_api.WhoAmI}, bodies.SignIn),
    "DELETE /v1/session": Shape({200: people_api.WhoAmI}, refusals=(400, 413, 415)),
    "POST /v1/session/end": Shape({200: people_api.WhoAmI}, bodies.Nothing),
    "GET /v1/whoami": Shape({200: people_api.WhoAmI}),
    "GET /v1/principals": Shape({200: people_api.Principals}),
    "POST /v1/principals": Shape({201: items.NewToken}, bodies.AddPrincipal, refusals=(409, 422)),
    "POST /v1/principals/{name}/rotate": Shape({201: items.NewToken}, bodies.Because, refusals=(404, 409, 422)),
    "POST /v1/principals/{name}/revoke": Shape(DONE, bodies.Because, refusals=(404, 409, 422)),
}
PARAMETERS: dict[str, tuple[dict[str, Any], str]] = {
    "/v1/gaps/{id}": (NUMBER, "The gap's number."),
    "{id}": (HASH, "The intent."),
    "{digest}": (HASH, "The statement."),
    "{name}": ({"type": "string", "minLength": 1, "maxLength": 64}, "By its name."),
}
WHY = {
    303: "A form's success: where the browser goes on.",
    400: "Malformed: the detail says where.",
    401: "Nobody, or a token that nobody has: the detail says which role is needed.",
    403: "Not yours to do: the detail says why, which role is needed and which there are.",
    404: "There is no such thing.",
    409: "It does not fit the state of things; the title is a code for programs.",
    413: "The body is too large.",
    415: "The body is neither JSON nor a form.",
    422: "Understood, and not acceptable; the title is a code for programs.",
    429: "Too many wrong tokens from this address.",
    503: "The book is busy: try again.",
}


def described(route: routes.Route) -> bool:
    """Pages and what they are made of are for browsers."""
    return not route.page and not route.path.startswith("/assets/")


def document(table: Sequence[routes.Route]) -> dict[str, Any]:
    found = [route for route in table if described(route)]
    types = {
        one for shape in SHAPES.values() for one in (*shape.answers.values(), shape.body) if one not in (None, str)
    }
    _, components = msgspec.json.schema_components([*sorted(types, key=repr), wire.Problem], ref_template=REF)
    paths: dict[str, Any] = {}
    for route in found:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(
            route, SHAPES[f"{route.method} {route.path}"]
        )
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "stakeside agent",
            "version": "1",
            "description": "An agent's windows and its door. Amounts are decimal text in wei or the asset's smallest unit, bytes are "
            "lower-case 0x-hex, times are unix seconds. Every refusal is a problem (RFC 9457). A form may be sent instead of JSON, with "
            "a session's cookie; it is answered with a page. Changes by a session must come from the agent's own origin.",
        },
        "paths": paths,
        "components": {
            "schemas": _portable(components),
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "description": "A principal's token: stk_…"},
                "session": {"type": "apiKey", "in": "cookie", "name": "stakeside-00000000", "description": "The digits tell agents of one host apart. Over TLS: __Host-stakeside-…"},
            },
        },
    }  # fmt: skip


def _operation(route: routes.Route, shape: Shape) -> dict[str, Any]:
    roles = route.access if isinstance(route.access, tuple) else ()
    needs = {"open": "Anybody.", "read": "Anybody, or every principal where `web.read` is viewer."}
    known = [{"token": list[str]()}, {"session": list[str]()}]
    operation: dict[str, Any] = {
        "summary": route.summary,
        "description": f"Role: {' or '.join(roles)}." if roles else needs[str(route.access)],
        "security": known if roles else [] if route.access == routes.OPEN else [{}, *known],
    }
    parameters = [_path(route.path, name) for name in re.findall(r"{(\w+)}", route.path)]
    parameters += [{"name": n, "in": "query", "schema": s, "description": d} for n, s, d in shape.query]
    parameters += [{"name": n, "in": "header", "schema": s, "description": d} for n, s, d in shape.headers]
    if parameters:
        operation["parameters"] = parameters
    if shape.body is not None:
        schema = {"$ref": REF.format(name=shape.body.__name__)}
        content: dict[str, Any] = {bodies.JSON: {"schema": schema}, bodies.FORM: {"schema": _form(shape.body)}}
        operation["requestBody"] = {"required": shape.body is not bodies.Nothing, "content": content}
    operation["responses"] = {str(status): _response(status, shape) for status in _statuses(route, shape)}
    return operation


def _statuses(route: routes.Route, shape: Shape) -> list[int]:
    found = {*shape.answers, *shape.refusals}
    if route.access != routes.OPEN:
        found |= {401, 403, 429, 503}
    if "{name}" in route.path:
        found |= {400, 404}
    if shape.body is not None:
        found |= {303, 400, 401, 403, 413, 415, 429, 503}
    return sorted(found)


def _response(status: int, shape: Shape) -> dict[str, Any]:
    answer = shape.answers.get(status)
    if answer is str:
        return {"description": "Text.", "content": {"text/plain": {"schema": {"type": "string"}}}}
    if status == 303:
        return {"description": WHY[303]}
    page: dict[str, Any] = {} if shape.body is None else {"text/html": {"schema": {"type": "string"}}}
    if answer is None:
        problem = {"schema": {"$ref": REF.format(name="Problem")}}
        return {"description": WHY[status], "content": {"application/problem+json": problem, **page}}
    schema = {"schema": {"$ref": REF.format(name=answer.__name__)}}
    return {"description": (answer.__doc__ or "Done.").split("\n")[0], "content": {bodies.JSON: schema, **page}}


def _path(path: str, name: str) -> dict[str, Any]:
    key = "/v1/gaps/{id}" if path.startswith("/v1/gaps/") else f"{{{name}}}"
    schema, text = PARAMETERS[key]
    return {"name": name, "in": "path", "required": True, "schema": schema, "description": text}


def _form(body: type[msgspec.Struct]) -> dict[str, Any]:
    """The same names with text for values; an action's arguments are `arguments.NAME`."""
    fields = msgspec.structs.fields(body)
    names = {field.encode_name: {"type": "string"} for field in fields if field.name not in ("arguments", "roles")}
    required = [field.encode_name for field in fields if field.required]
    found: dict[str, Any] = {"type": "object", "properties": names, "required": required, "additionalProperties": False}
    if body is bodies.Propose:
        found["patternProperties"] = {r"^arguments\.[a-zA-Z0-9_]{1,64}$": {"type": "string"}}
    if body is bodies.AddPrincipal:
        names["roles"] = {"type": "array", "items": {"type": "string"}}  # type: ignore[dict-item]
    return found


def _portable(node: Any) -> Any:
    """Python's anchors as everybody writes them, and a schema's title is its name."""
    if isinstance(node, dict):
        inner = cast("dict[str, Any]", node)
        return {name: _anchored(value) if name == "pattern" else _portable(value) for name, value in inner.items()}
    return [_portable(one) for one in cast("list[Any]", node)] if isinstance(node, list) else node


def _anchored(pattern: str) -> str:
    return pattern.replace(r"\A", "^").replace(r"\Z", "$")


def table() -> tuple[routes.Route, ...]:
    unserved = World(cast("Any", None), Path())
    return server.Web(unserved.live(), metrics.Metrics(version="1.2.3")).table


def text() -> str:
    return json.dumps(document(table()), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text(text())
