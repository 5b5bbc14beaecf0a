"""Intents by the API: proposed once for a key, approved by another person for one payload, refused with the reason."""

from __future__ import annotations

import json

import pytest

from domain import hashing, intent
from store import attempts, intents
from tests.store import belt
from tests.web.conftest import ACCOUNT, POLICY, World

MISSING = "0x" + "ab" * 32
TEAM = {"pat": ("proposer",), "amy": ("approver",), "bob": ("approver", "proposer"), "otto": ("operator",)}


async def team(world: World) -> None:
    for name, roles in TEAM.items():
        await world.person(name, *roles)


async def proposed(world: World, by: str = "pat", **changes: object) -> dict[str, str]:
    answer = await world.propose(by, **changes)
    assert answer.status == 201, answer.body
    return answer.json


async def approve(world: World, by: str, made: dict[str, str], **changes: object) -> tuple[int, str]:
    body = {"payloadHash": made["payloadHash"], "reason": "fine", **changes}
    answer = await world.ask("POST", f"/v1/intents/{made['id']}/approve", by=by, body=body)
    return answer.status, answer.json.get("title", "")


async def test_a_proposal_is_an_intent_with_canonical_arguments_and_a_command_and_wakes_the_stages(
    world: World,
) -> None:
    await team(world)
    made = await proposed(world, arguments={"validator": "0x" + "AB" * 20, "amount": "0001000"})
    assert made["arguments"] == {"validator": "0x" + "ab" * 20, "amount": "1000"}
    assert (made["state"], made["proposer"], made["account"]) == ("new", "pat", hashing.hex0x(ACCOUNT))
    assert made["expiresAtS"] == made["proposedAtS"] + 3600  # type: ignore[operator]
    command = (await world.commanded())[-1]
    assert (command.kind, command.principal, command.reason) == ("propose", "pat", "stake")
    assert command.subject == made["id"]
    assert world.rung == 1


async def test_the_same_key_and_payload_is_the_same_intent(world: World) -> None:
    await team(world)
    first = await proposed(world)
    again = await world.propose("pat")
    assert (again.status, again.json["id"]) == (200, first["id"])
    assert [row.kind for row in await world.commanded()] == ["propose"]


@pytest.mark.parametrize("change", [{"arguments": {"validator": "0x" + "11" * 20, "amount": "1001"}}])
async def test_the_same_key_with_another_payload_is_a_conflict(world: World, change: dict[str, object]) -> None:
    await team(world)
    await proposed(world)
    answer = await world.propose("bob", **change)
    assert (answer.status, answer.json["title"]) == (409, "conflict")
    assert len((await world.ask("GET", "/v1/intents")).json["intents"]) == 1


async def test_the_key_may_be_a_header_and_must_be_there_once(world: World) -> None:
    await team(world)
    body = {
        "protocol": "devnet", "action": "delegate", "reason": "stake",
        "arguments": {"validator": "0x" + "11" * 20, "amount": "1"},
    }  # fmt: skip

    async def status(key: str | None, header: str | None) -> int:
        headers = {} if header is None else {"Idempotency-Key": header}
        sent = body if key is None else {**body, "key": key}
        return (await world.ask("POST", "/v1/intents", by="pat", body=sent, headers=headers)).status

    assert await status(None, None) == 400
    assert await status("a", "b") == 400
    assert await status(None, "b b") == 400
    assert await status(None, "b" * 129) == 400
    assert await status(None, "a-stk_" + "A" * 43) == 400, "a token would stay in the book"
    assert await status("a", "a") == 201
    assert await status(None, "a") == 200


async def test_what_the_planner_refuses_is_told_in_its_words(world: World) -> None:
    await team(world)
    answer = await world.propose("pat", arguments={"validator": "0x" + "11" * 20, "amount": "1e18"})
    assert (answer.status, answer.json["title"]) == (422, "bad-arguments")
    assert "amount is no whole number" in answer.json["detail"] and "1e18" in answer.json["detail"]
    assert await world.commanded() == []


async def test_an_agent_without_a_delegator_only_observes(world: World) -> None:
    """Served anew, since what a running process has is fixed."""
    from tests.web.conftest import serving

    async with serving(world.folder / "observer", staking=None) as observer:
        await observer.person("pat", "proposer")
        answer = await observer.propose("pat")
        assert (answer.status, answer.json["title"]) == (409, "observes-only")
        assert (await observer.ask("GET", "/v1/policy")).status == 409
        status = (await observer.ask("GET", "/status")).json
        assert [(belt["name"], belt["state"]) for belt in status["belts"]] == [
            ("earning", "running"),
            ("staking", "off"),
        ]


async def test_the_policy_is_shown_as_it_is_hashed(world: World) -> None:
    answer = await world.ask("GET", "/v1/policy")
    assert answer.json == {"hash": hashing.hex0x(hashing.keccak256(POLICY)), "body": json.loads(POLICY)}
    assert POLICY in answer.body


# --- approving ---


async def test_another_person_approves_and_it_is_seen(world: World) -> None:
    await team(world)
    made = await proposed(world)
    assert await approve(world, "amy", made) == (200, "")
    shown = (await world.ask("GET", f"/v1/intents/{made['id']}")).json
    assert shown["intent"]["approvals"] == ["amy"]
    assert [command["kind"] for command in shown["commands"]] == ["propose", "approve"]
    assert world.rung == 2


async def test_nobody_approves_what_they_proposed_whatever_their_roles(world: World) -> None:
    await team(world)
    await world.person("king", "viewer", "operator", "proposer", "approver", "admin")
    for by in ("bob", "king"):
        made = await proposed(world, by, key=by)
        assert await approve(world, by, made) == (403, "own-intent")
    cookie = await world.sign_in("king")
    made = (await world.propose("king", key="form")).json
    form = {"payloadHash": made["payloadHash"], "reason": "mine"}
    answer = await world.ask("POST", f"/v1/intents/{made['id']}/approve", cookie=cookie, origin="self", form=form)
    assert answer.status == 403 and b"somebody else has to approve it" in answer.body
    assert not [row for row in await world.commanded() if row.kind == "approve"]


async def test_an_approval_counts_once_for_each_person(world: World) -> None:
    await team(world)
    made = await proposed(world)
    assert (await approve(world, "amy", made))[0] == 200
    assert await approve(world, "amy", made) == (409, "already-approved")
    assert (await approve(world, "bob", made))[0] == 200


async def test_an_approval_is_for_the_payload_that_was_looked_at(world: World) -> None:
    await team(world)
    made = await proposed(world)
    assert await approve(world, "amy", made, payloadHash="0x" + "cd" * 32) == (409, "other-payload")
    other = await proposed(world, key="k2", arguments={"validator": "0x" + "11" * 20, "amount": "9"})
    assert await approve(world, "amy", made, payloadHash=other["payloadHash"]) == (409, "other-payload")
    assert not [row for row in await world.commanded() if row.kind == "approve"]


async def test_an_expired_intent_cannot_be_approved(world: World) -> None:
    await team(world)
    made = await proposed(world, expiresInS=60)
    await world.clock.advance(60)
    assert await approve(world, "amy", made) == (409, "expired")


async def test_a_rejected_intent_is_final(world: World) -> None:
    await team(world)
    made = await proposed(world)
    path = f"/v1/intents/{made['id']}"
    assert (await world.ask("POST", f"{path}/reject", by="amy", body={"reason": "too much"})).status == 200
    assert await world.state(made["id"]) == "rejected"
    assert await approve(world, "bob", made) == (409, "final")
    assert (await world.ask("POST", f"{path}/cancel", by="otto", body={"reason": "x"})).json["title"] == "final"
    assert "amy: too much" in (await world.ask("GET", path)).json["intent"]["why"]


# --- cancelling ---


async def test_a_proposer_cancels_only_its_own_and_an_operator_any(world: World) -> None:
    await team(world)
    first, second = await proposed(world), await proposed(world, key="k2")

    async def cancel(by: str, made: dict[str, str]) -> tuple[int, str]:
        answer = await world.ask("POST", f"/v1/intents/{made['id']}/cancel", by=by, body={"reason": "changed my mind"})
        return answer.status, answer.json.get("title", "")

    assert await cancel("bob", first) == (403, "not-yours")
    assert await cancel("pat", first) == (200, "")
    assert await cancel("otto", second) == (200, "")
    assert {await world.state(first["id"]), await world.state(second["id"])} == {"cancelled"}


async def test_cancelling_what_holds_a_nonce_is_a_wish_that_the_chain_decides(world: World) -> None:
    await team(world)
    made = await proposed(world)
    id_ = hashing.unhex(made["id"])
    async with world.book.write() as c:
        stored = await intents.get(c, id_)
        assert stored is not None
        await intents.move(c, id_, expect="new", to="planned", why="", at_s=1)
        await belt.reserve(c, stored)
        await intents.move(c, id_, expect="planned", to="reserved", why="", at_s=1)
    answer = await world.ask("POST", f"/v1/intents/{made['id']}/cancel", by="pat", body={"reason": "too late?"})
    assert answer.status == 200 and await world.state(made["id"]) == "reserved"
    assert (await approve(world, "amy", made)) == (409, "too-late")


# --- settling ---


async def needs_operator(world: World) -> str:
    async with world.book.write() as c:
        return hashing.hex0x((await belt.bring(c, "needs_operator")).id)


async def settle(world: World, id_: str, by: str, outcome: str = "superseded") -> tuple[int, str]:
    answer = await world.ask(
        "POST", f"/v1/intents/{id_}/settle", by=by, body={"outcome": outcome, "reason": "seen in an explorer"}
    )
    return answer.status, answer.json.get("title", "")


async def test_an_operator_says_what_became_of_an_intent_that_needs_one(world: World) -> None:
    await team(world)
    id_ = await needs_operator(world)
    assert (await settle(world, id_, "pat"))[0] == (await settle(world, id_, "amy"))[0] == 403
    assert await settle(world, id_, "otto") == (200, "")
    assert await settle(world, id_, "otto") == (409, "already-settled")
    assert await settle(world, id_, "otto", "cancelled") == (409, "no-cancel")
    assert await settle(world, id_, "otto", "final_ok") == (400, "Bad Request")
    assert await world.state(id_) == "needs_operator"  # it is a wish
    assert [(row.kind, row.principal) for row in await world.commanded()][-1] == ("settle", "otto")


async def test_what_needs_nobody_is_not_settled_and_not_offered(world: World) -> None:
    await team(world)
    made = await proposed(world)
    assert await settle(world, made["id"], "otto") == (409, "not-needed")
    needy = await needs_operator(world)

    async def offered(id_: str, by: str) -> tuple[bool, bool]:
        shown = (await world.ask("GET", f"/v1/intents/{id_}", by=by)).json["intent"]["may"]
        page = await world.ask("GET", f"/intents/{id_}", by=by)
        return "settle" in shown, f'action="/v1/intents/{id_}/settle"' in page.body.decode()

    assert await offered(needy, "otto") == (True, True)
    assert await offered(needy, "pat") == await offered(made["id"], "otto") == (False, False)


async def test_the_form_to_settle_explains_each_choice(world: World) -> None:
    await team(world)
    page = (await world.ask("GET", f"/intents/{await needs_operator(world)}", by="otto")).body.decode()
    for outcome in intent.OUTCOMES:
        assert f'<option value="{outcome}">' in page
        assert f"<li><strong>{outcome.replace('_', ' ')}</strong>: " in page
    assert '<button class="stop">Cancel</button>' in page and "<button>Settle</button>" in page


# --- looking ---


async def test_the_page_of_an_intent_shows_the_payload_that_is_approved_whole(world: World) -> None:
    await team(world)
    made = await proposed(world)
    page = (await world.ask("GET", f"/intents/{made['id']}", by="amy")).body.decode()
    assert f"<dt>payload</dt><dd><code>{made['payloadHash']}</code></dd>" in page


async def test_intents_page_by_key_and_filter_by_state(world: World) -> None:
    await team(world)
    made = [await proposed(world, key=f"k{n}") for n in range(5)]
    await world.ask("POST", f"/v1/intents/{made[0]['id']}/cancel", by="pat", body={"reason": "x"})
    first = (await world.ask("GET", "/v1/intents?limit=3")).json
    assert [item["key"] for item in first["intents"]] == ["k4", "k3", "k2"]
    second = (await world.ask("GET", f"/v1/intents?limit=3&before={first['next']}")).json
    assert ([item["key"] for item in second["intents"]], second["next"]) == (["k1", "k0"], None)
    only = (await world.ask("GET", "/v1/intents?state=cancelled")).json["intents"]
    assert [item["key"] for item in only] == ["k0"]
    assert (await world.ask("GET", "/v1/intents?state=done")).status == 400


async def test_everybody_is_told_what_they_may_do_about_an_intent(world: World) -> None:
    await team(world)
    made = await proposed(world)

    async def may(by: str | None) -> list[str]:
        return (await world.ask("GET", f"/v1/intents/{made['id']}", by=by)).json["intent"]["may"]

    assert await may(None) == []
    assert await may("pat") == ["cancel"]
    assert await may("amy") == ["approve", "reject"]
    assert await may("bob") == ["approve", "reject"]
    assert await may("otto") == ["cancel"]
    await approve(world, "amy", made)
    assert await may("amy") == ["reject"]


@pytest.mark.parametrize("verb", ["approve", "reject", "cancel", "settle"])
async def test_an_unknown_intent_is_unknown(world: World, verb: str) -> None:
    await team(world)
    by = "otto" if verb in ("cancel", "settle") else "amy"
    more = {"approve": {"payloadHash": MISSING}, "settle": {"outcome": "superseded"}}
    body = {"reason": "x", **more.get(verb, {})}
    answer = await world.ask("POST", f"/v1/intents/{MISSING}/{verb}", by=by, body=body)
    assert (answer.status, answer.json["title"]) == (404, "unknown")
    assert (await world.ask("GET", f"/v1/intents/{MISSING}")).status == 404
    assert (await world.ask("GET", f"/intents/{MISSING}")).status == 404
    assert (await world.ask("GET", "/v1/intents/0x12")).status == 400


async def test_an_intent_is_shown_with_all_that_became_of_it_and_without_its_signed_bytes(world: World) -> None:
    async with world.book.write() as c:
        done = await belt.bring(c, "final_ok")
        signed = (await attempts.signed_of(c, done.id))[0]
    answer = await world.ask("GET", f"/v1/intents/{hashing.hex0x(done.id)}")
    shown = answer.json
    assert (shown["intent"]["state"], shown["intent"]["final"], shown["nonce"]) == ("final_ok", True, 0)
    assert [row["toState"] for row in shown["transitions"]] == [*belt.WAY["final_ok"]]
    assert (shown["attempts"][0]["hash"], shown["attempts"][0]["selector"]) == (
        hashing.hex0x(signed.hash),
        "0x01020304",
    )
    assert (shown["inclusions"][0]["txHash"], shown["inclusions"][0]["feeWei"]) == (
        hashing.hex0x(signed.hash),
        str(21_000 * 10**9),
    )
    assert shown["event"]["kind"] == "Delegated" and shown["event"]["txHash"] == hashing.hex0x(signed.hash)
    assert shown["decisions"][0]["verdict"] == "allow" and shown["reservation"]["amount"] == str(10**18)
    assert signed.raw.hex().encode() not in answer.body and b"raw" not in answer.body
    page = await world.ask("GET", f"/intents/{hashing.hex0x(done.id)}")
    assert page.status == 200 and signed.raw.hex().encode() not in page.body


# --- forms ---


async def test_a_form_proposes_and_leads_to_the_intent(world: World) -> None:
    await team(world)
    cookie = await world.sign_in("pat")
    form = {
        "protocol": "devnet", "action": "delegate", "key": "f1", "reason": "stake", "expiresInS": "",
        "arguments.validator": "0x" + "11" * 20, "arguments.amount": "5",
    }  # fmt: skip
    first = await world.ask("POST", "/v1/intents", cookie=cookie, origin="self", form=form)
    assert first.status == 303 and first.headers["Location"].endswith("?said=propose")
    again = await world.ask("POST", "/v1/intents", cookie=cookie, origin="self", form=form)
    assert again.headers["Location"].endswith("?said=same")
    page = await world.ask("GET", first.headers["Location"], cookie=cookie)
    assert page.status == 200 and b"The intent is proposed." in page.body


async def test_a_refused_form_is_a_page_that_says_why(world: World) -> None:
    await team(world)
    cookie = await world.sign_in("pat")
    form = {"protocol": "devnet", "action": "delegate", "key": "f1", "reason": "stake", "arguments.amount": "5"}
    answer = await world.ask("POST", "/v1/intents", cookie=cookie, origin="self", form=form)
    assert answer.status == 422 and answer.headers["Content-Type"].startswith("text/html")
    assert b"delegate takes validator and amount" in answer.body
