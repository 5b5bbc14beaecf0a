"""/status, the page, and the read-only API."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import pytest

from agent.web import pages, view
from domain import hashing, statement, wire
from tests.store import belt, factory
from tests.web.conftest import HOSTILE, World


async def test_status_is_json_with_everything_a_machine_asks_for(world: World) -> None:
    await world.fill()
    frames = await world.close_frames(3)
    world.waiting["main"] = view.Waiting(3, "block 39 is not finalized yet")
    status, headers, body = await world.get("/status")
    said = json.loads(body)
    assert (status, headers["Content-Type"]) == (200, "application/json")
    assert said["index"] == {"number": 4, "hash": hashing.hex0x(factory.header(4).hash)}
    assert said["finalized"]["number"] == 2
    assert said["generation"] == 2
    assert (said["ready"], said["lag_blocks"], said["latches"]) == (True, 0, [])
    assert said["services"]["index"]["status"] == "ok"
    stream = said["streams"]["main"]
    assert stream["frame"]["sequence"] == 2
    assert stream["frame"]["digest"] == hashing.hex0x(frames[-1].digest)
    assert stream["frame"]["evidence"] == hashing.hex0x(frames[-1].header.evidence)
    assert stream["next"] == {"sequence": 3, "reason": "block 39 is not finalized yet"}
    assert said["outbox"] == {"depth": 0, "oldest_s": None, "why": ""}
    assert (said["hub"]["reachable"], said["hub"]["last_receipt"]) == (True, 3)
    assert (said["counts"]["logs"], said["events"]) == (4, {"CommissionChanged": 1, "Delegated": 3})


async def test_nothing_shown_holds_a_password_or_an_api_key(world: World) -> None:
    await world.fill()
    for path in ("/status", "/", "/metrics", "/readyz"):
        _, _, body = await world.get(path)
        assert b"hunter2" not in body and b"secretsecret" not in body


class Collected(HTMLParser):
    """Tags and attributes of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("href", "src", "action")]


async def test_the_page_escapes_hostile_text_from_the_chain(world: World) -> None:
    await world.fill()
    await world.latch(HOSTILE)
    await world.park(HOSTILE)
    world.supervisor.states["close"].reason = HOSTILE
    assert world.hub is not None
    world.hub.last_error = HOSTILE
    status, headers, body = await world.get("/")
    page = body.decode()
    assert status == 200 and headers["Content-Type"].startswith("text/html")
    assert page.count("&lt;script&gt;alert(1)") >= 4
    for raw in ("<script>", "\u202e", "\x00", "\x1b"):
        assert raw not in page
    assert "\\u{202e}" in page
    parsed = Collected()
    parsed.feed(page)
    assert parsed.tags.count("script") == 1, "the page's own"
    assert all(address.startswith(("/", "#", "data:,")) for address in parsed.addresses)


async def test_the_page_works_without_a_hub_a_frame_or_an_event(world: World) -> None:
    world.hub = None
    _, _, body = await world.get("/")
    page = body.decode()
    for said in ("Not ready", "no events yet", "no block of the node is indexed yet"):
        assert said in page


async def test_the_page_has_a_viewport_and_both_colour_schemes(world: World) -> None:
    _, _, body = await world.get("/")
    assert b'name="viewport" content="width=device-width' in body
    _, headers, style = await world.get(pages.STYLE_PATH)
    assert headers["Content-Type"].startswith("text/css")
    assert b"prefers-color-scheme: dark" in style and b"overflow-x: auto" in style


async def test_a_strict_policy_and_the_usual_headers_are_everywhere(world: World) -> None:
    for path in ("/", "/status", "/healthz", "/metrics", "/nothing", "/v1/events?limit=x"):
        _, headers, _ = await world.get(path)
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == ("same-origin" if path == "/" else "no-referrer")
        assert headers["Server"] == "stakeside"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
async def test_nothing_can_be_changed(world: World, method: str) -> None:
    for path in ("/", "/status", "/v1/events", "/v1/frames", "/readyz"):
        assert await world.request(method, path) == 405


async def test_events_come_newest_first_and_page_by_key(world: World) -> None:
    await world.fill(height=6)
    _, _, body = await world.get("/v1/events?limit=4")
    first = json.loads(body)
    assert [item["number"] for item in first["events"]] == [6, 5, 4, 3]
    assert first["next"] == "3:0"
    _, _, body = await world.get(f"/v1/events?limit=4&before={first['next']}")
    second = json.loads(body)
    assert ([item["number"] for item in second["events"]], second["next"]) == ([2, 1], None)
    assert second["events"][0]["amount"] == str(10**18)
    assert json.loads(first["events"][0]["detail"])["note"] == HOSTILE


async def test_frames_are_found_by_name_and_by_id(world: World) -> None:
    made = await world.close_frames(3)
    by_name = json.loads((await world.get("/v1/frames?stream=main&limit=2"))[2])
    by_id = json.loads((await world.get(f"/v1/frames?stream={hashing.hex0x(factory.STREAM)}&limit=2"))[2])
    assert by_name == by_id
    assert [item["digest"] for item in by_name["frames"]] == [hashing.hex0x(s.digest) for s in reversed(made[1:])]
    rest = json.loads((await world.get(f"/v1/frames?stream=main&limit=2&before={by_name['next']}"))[2])
    assert [item["sequence"] for item in rest["frames"]] == [0]


async def test_a_statement_header_hashes_to_its_digest(world: World) -> None:
    made = (await world.close_frames(1))[0]
    _, _, body = await world.get(f"/v1/statements/{hashing.hex0x(made.digest)}")
    said = json.loads(body)
    header = wire.header_from_wire(
        wire.HeaderWire(**{re.sub("([A-Z])", lambda m: "_" + m[1].lower(), k): v for k, v in said["header"].items()})
    )
    domain = statement.Domain(31337, hashing.unhex(said["configDigest"], size=32))
    assert statement.header_digest(header, domain) == made.digest


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/v1/events?limit=0", 400),
        ("/v1/events?limit=201", 400),
        ("/v1/events?limit=-1", 400),
        ("/v1/events?limit=%D9%A3", 400),
        ("/v1/events?before=abc", 400),
        ("/v1/events?before=1:99999999999999999999", 400),
        ("/v1/frames?stream=nothing", 400),
        ("/v1/frames?before=99999999999999999999", 400),
        ("/v1/statements/0x12", 400),
        (f"/v1/statements/0x{'00' * 32}", 404),
        ("/v1/nothing", 404),
        ("/../etc/passwd", 404),
        ("//example.com/%5c", 404),
    ],
)
async def test_a_malformed_question_is_a_problem_with_its_reason(world: World, path: str, expected: int) -> None:
    status, headers, body = await world.get(path)
    assert status == expected
    assert headers["Content-Type"].startswith("application/problem+json")
    assert json.loads(body)["status"] == expected


def test_long_foreign_text_is_bounded() -> None:
    assert len(pages.text("x" * 100_000)) <= pages.SHOWN


async def test_open_intents_whose_key_is_not_here_are_said_by_readiness_page_and_metrics(world: World) -> None:
    async with world.book.write() as c:
        await belt.bring(c, "pending")
    said = f"1 open intents of {hashing.hex0x(belt.ACCOUNT)}, whose key is not configured"
    ready = await world.ask("GET", "/readyz")
    assert ready.status == 503 and any(said in reason for reason in ready.json["reasons"])
    assert "whose key is not configured" in (await world.ask("GET", "/")).body.decode()
    assert "stakeside_left_intents 1.0" in (await world.ask("GET", "/metrics")).body.decode()
