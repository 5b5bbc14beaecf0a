"""Switches and people by the API: each change is one command row that says who, why and what, and wakes the stages."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agent.web import people
from store import commands, latches
from tests.web.conftest import World, serving

REASON = {"reason": "because"}


async def test_a_pause_stands_until_somebody_resumes(world: World) -> None:
    await world.person("otto", "operator")
    assert (await world.ask("POST", "/v1/resume", by="otto", body=REASON)).json["title"] == "not-paused"
    assert (await world.ask("POST", "/v1/pause", by="otto", body=REASON)).status == 200
    status = (await world.ask("GET", "/status")).json
    belt = next(belt for belt in status["belts"] if belt["name"] == "staking")
    assert (belt["state"], belt["reasons"]) == ("paused", ["paused by otto: because"])
    assert b"stakeside_paused 1.0" in (await world.ask("GET", "/metrics")).body
    assert (await world.ask("POST", "/v1/resume", by="otto", body=REASON)).status == 200
    assert b"stakeside_paused 0.0" in (await world.ask("GET", "/metrics")).body
    assert [row.kind for row in await world.commanded()] == ["pause", "resume"]
    assert world.rung == 2


async def test_a_pause_can_end_by_itself(world: World) -> None:
    await world.person("otto", "operator")
    until = int(world.clock.now()) + 100
    past = await world.ask("POST", "/v1/pause", by="otto", body={**REASON, "untilS": until - 200})
    assert (past.status, past.json["title"]) == (422, "bad-until")
    await world.ask("POST", "/v1/pause", by="otto", body={**REASON, "untilS": until})
    async with world.book.read() as c:
        assert await commands.paused(c, now_s=until - 1) is not None
        assert await commands.paused(c, now_s=until) is None


@pytest.mark.parametrize(("name", "belt"), [("finality", "both"), ("rows", "earning"), ("submit.nonces", "staking")])
async def test_a_latch_is_shown_with_what_it_stops_and_cleared_by_a_person(world: World, name: str, belt: str) -> None:
    await world.person("otto", "operator")
    async with world.book.write() as c:
        await latches.set(c, name, reason="look", at_s=5)
    shown = (await world.ask("GET", "/v1/latches")).json["latches"]
    assert shown == [{"name": name, "reason": "look", "setAtS": 5, "belt": belt}]
    states = {one["name"]: one["state"] for one in (await world.ask("GET", "/status")).json["belts"]}
    assert [stopped for stopped, state in states.items() if state == "stopped"] == (
        ["earning", "staking"] if belt == "both" else [belt]
    )
    assert (await world.ask("POST", f"/v1/latches/{name}/clear", by="otto", body=REASON)).status == 200
    assert (await world.ask("GET", "/v1/latches")).json["latches"] == []
    command = (await world.commanded())[-1]
    assert (command.kind, command.subject, command.principal) == ("clear-latch", name, "otto")
    again = await world.ask("POST", f"/v1/latches/{name}/clear", by="otto", body=REASON)
    assert (again.status, again.json["title"]) == (409, "not-set")


async def test_a_restored_book_is_accepted_once(world: World) -> None:
    await world.person("otto", "operator")
    async with world.book.write() as c:
        await latches.set(c, "submit.restored", reason="from a backup", at_s=5)
    answer = await world.ask("POST", "/v1/restored/accept", by="otto", body=REASON)
    assert answer.status == 200
    async with world.book.read() as c:
        assert await latches.active(c) == []
    again = await world.ask("POST", "/v1/restored/accept", by="otto", body=REASON)
    assert (again.status, again.json["title"]) == (409, "not-restored")


async def test_a_gap_waits_for_a_person_where_the_settings_say_so(tmp_path: Path) -> None:
    async with serving(tmp_path, adopt="ask") as world:
        await world.fill()
        await world.person("otto", "operator")
        gap = await world.gap()
        shown = (await world.ask("GET", "/v1/gaps")).json["gaps"]
        assert [(one["id"], one["first"], one["last"], one["adopt"]) for one in shown] == [(gap, 1, 5, "ask")]
        ready = await world.ask("GET", "/readyz")
        said = f"gap {gap} (blocks 1 to 5) waits for a person to adopt it"
        assert (ready.status, ready.json["reasons"]) == (503, [said])
        assert (await world.ask("POST", f"/v1/gaps/{gap}/adopt", by="otto", body=REASON)).status == 200
        assert (await world.ask("GET", "/v1/gaps")).json["gaps"][0]["adopt"] == "asked"
        assert (await world.ask("GET", "/readyz")).status == 200
        again = await world.ask("POST", f"/v1/gaps/{gap}/adopt", by="otto", body=REASON)
        assert (again.status, again.json["title"]) == (409, "already-adopted")
        assert (await world.ask("POST", f"/v1/gaps/{gap + 1}/adopt", by="otto", body=REASON)).status == 404
        assert (await world.ask("POST", "/v1/gaps/x/adopt", by="otto", body=REASON)).status == 400


async def test_a_staking_belt_without_its_lease_waits(world: World) -> None:
    world.lease.held, world.lease.reason = None, "bob holds it"
    belt = (await world.ask("GET", "/status")).json["belts"][1]
    assert (belt["state"], belt["reasons"]) == ("waiting", ["no lease: bob holds it"])


async def test_commands_tell_who_when_why_and_the_difference(world: World) -> None:
    await world.person("root", "admin")
    await world.ask("POST", "/v1/principals", by="root", body={"name": "amy", "roles": ["approver"], "reason": "hired"})
    row = (await world.ask("GET", "/v1/commands?limit=1")).json["commands"][0]
    assert (row["principal"], row["kind"], row["subject"], row["reason"]) == ("root", "principal-add", "amy", "hired")
    assert row["changes"] == [{"name": "roles", "before": "[]", "after": '["approver"]'}]
    assert row["atS"] == int(world.clock.now())


async def test_commands_page_by_key(world: World) -> None:
    await world.person("otto", "operator")
    for _ in range(3):
        await world.ask("POST", "/v1/pause", by="otto", body=REASON)
    first = (await world.ask("GET", "/v1/commands?limit=2")).json
    rest = (await world.ask("GET", f"/v1/commands?limit=200&before={first['next']}")).json
    ids = [row["id"] for row in first["commands"] + rest["commands"]]
    assert ids == sorted(ids, reverse=True) and len(ids) == 4 and rest["next"] is None


# --- principals ---


async def test_a_new_principal_gets_a_token_that_works_and_is_shown_once(world: World) -> None:
    await world.person("root", "admin")
    made = await world.ask(
        "POST", "/v1/principals", by="root", body={"name": "amy", "roles": ["approver", "viewer"], "reason": "hired"}
    )
    assert made.status == 201 and people.TOKEN.match(made.json["token"])
    who = (await world.ask("GET", "/v1/whoami", token=made.json["token"])).json["session"]
    assert who == {"name": "amy", "roles": ["approver", "viewer"], "via": "token", "expiresS": None}
    for path in ("/v1/principals", "/v1/commands", "/people", "/commands"):
        answer = await world.ask("GET", path, by="root")
        assert answer.status == 200 and made.json["token"].encode() not in answer.body


async def test_a_form_shows_the_new_token_on_the_page_and_in_no_address(world: World) -> None:
    await world.person("root", "admin")
    cookie = await world.sign_in("root")
    form = "name=amy&roles=approver&roles=viewer&reason=hired"
    answer = await world.ask("POST", "/v1/principals", cookie=cookie, origin="self", form=form)
    assert answer.status == 201 and "Location" not in answer.headers
    assert answer.headers["Cache-Control"] == "no-store"
    assert b"stk_" in answer.body


async def test_rotating_ends_the_old_token_and_keeps_the_roles(world: World) -> None:
    await world.person("root", "admin")
    old = await world.person("amy", "approver")
    made = await world.ask("POST", "/v1/principals/amy/rotate", by="root", body=REASON)
    assert made.status == 201
    assert (await world.ask("GET", "/v1/whoami", token=old)).status == 401
    assert (await world.ask("GET", "/v1/whoami", token=made.json["token"])).json["session"]["roles"] == ["approver"]


async def test_the_last_admin_cannot_be_revoked(world: World) -> None:
    await world.person("root", "admin")
    answer = await world.ask("POST", "/v1/principals/root/revoke", by="root", body=REASON)
    assert (answer.status, answer.json["title"]) == (409, "last-admin")
    await world.person("root2", "admin")
    assert (await world.ask("POST", "/v1/principals/root/revoke", by="root2", body=REASON)).status == 200
    assert (await world.ask("GET", "/v1/principals", by="root")).status == 401


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"name": "Amy", "roles": ["viewer"]}, 400),
        ({"name": "local:root", "roles": ["viewer"]}, 400),
        ({"name": "../amy", "roles": ["viewer"]}, 400),
        ({"name": "a" * 70, "roles": ["viewer"]}, 400),
        ({"name": "amy", "roles": []}, 400),
        ({"name": "amy", "roles": ["king"]}, 422),
        ({"name": "root", "roles": ["viewer"]}, 409),
    ],
)
async def test_a_bad_principal_is_refused(world: World, body: dict[str, object], status: int) -> None:
    await world.person("root", "admin")
    answer = await world.ask("POST", "/v1/principals", by="root", body={**body, **REASON})
    assert answer.status == status, answer.body


async def test_an_unknown_principal_is_unknown(world: World) -> None:
    await world.person("root", "admin")
    for verb in ("rotate", "revoke"):
        for name, status in {"nobody": 404, "%00": 400, "a%2Fb": 404, "%F0%9F%98%80": 404}.items():
            answer = await world.ask("POST", f"/v1/principals/{name}/{verb}", by="root", body=REASON)
            assert answer.status == status, (name, answer.body)


async def test_a_reason_is_always_needed(world: World) -> None:
    await world.person("king", "operator", "admin", "proposer", "approver")
    async with world.book.write() as c:
        await latches.set(c, "finality", reason="look", at_s=5)
    for path in ("/v1/pause", "/v1/resume", "/v1/latches/finality/clear", "/v1/restored/accept", "/v1/gaps/1/adopt"):
        for body in ({}, {"reason": ""}, {"reason": "   "}, {"reason": "a\nb"}, {"reason": "x" * 501}, {"reason": 5}):
            answer = await world.ask("POST", path, by="king", body=body)
            assert answer.status in (400, 422), (path, body, answer.body)
    assert await world.commanded() == []


async def test_the_problem_is_a_problem(world: World) -> None:
    answer = await world.ask("POST", "/v1/pause", body=REASON)
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert set(json.loads(answer.body)) >= {"title", "status", "detail"}
