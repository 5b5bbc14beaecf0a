"""Bodies that nobody honest sends: huge, deep, doubled, hidden, with numbers where text belongs."""

from __future__ import annotations

import json

import pytest

from agent.web import bodies
from tests.web.conftest import World

TOKEN = "stk_" + "A1_-" * 10 + "abc"
HASH = "0x" + "ab" * 32
GOOD = {
    "protocol": "devnet", "action": "delegate", "key": "k1", "reason": "stake",
    "arguments": {"validator": "0x" + "11" * 20, "amount": "1000"},
}  # fmt: skip


def changed(**parts: object) -> bytes:
    return json.dumps({**GOOD, **parts}).encode()


HOSTILE: dict[str, bytes] = {
    "nothing": b"",
    "no JSON": b"hello",
    "not UTF-8": b'{"reason": "\xff\xfe"}',
    "a list": b"[]",
    "a number": b"5",
    "null": b"null",
    "deep": b"[" * 8000 + b"]" * 8000,
    "deep objects": b'{"a":' * 2500 + b"1" + b"}" * 2500,
    "a name twice": b'{"reason": "a", ' + changed()[1:],
    "a nested name twice": changed().replace(b'"amount"', b'"amount": "1", "amount"'),
    "an unknown name": changed(gas="5"),
    "a float amount": changed(arguments={"validator": "0x11", "amount": 1.5}),
    "an integer amount": changed(arguments={"validator": "0x11", "amount": 1000}),
    "a huge integer amount": b'{"arguments": {"amount": ' + b"9" * 6000 + b"}}",
    "NaN": changed().replace(b'"1000"', b"NaN"),
    "NUL in a reason": changed(reason="a\x00b"),
    "NUL in an argument": changed(arguments={"validator": "0x11", "amount": "1\x00"}),
    "NUL in a name": changed(arguments={"valid\x00ator": "0x11", "amount": "1"}),
    "half a character": changed(reason="\ud800"),
    "a direction change": changed(reason="abc\u202edef"),
    "an escape": changed(reason="\x1b[31mred"),
    "a token in a reason": changed(reason=f"mine is {TOKEN}, thanks"),
    "a token for a key": changed(key=TOKEN),
    "a long reason": changed(reason="x" * 501),
    "a long key": changed(key="k" * 129),
    "a key with a space": changed(key="a b"),
    "many arguments": changed(arguments={f"a{n}": "1" for n in range(33)}),
    "a long argument": changed(arguments={"validator": "0x" + "1" * 3000, "amount": "1"}),
    "an expiry of text": changed(expiresInS="60"),
    "an expiry of half a second": changed(expiresInS=0.5),
    "a negative expiry": changed(expiresInS=-1),
    "an endless expiry": changed(expiresInS=2**63),
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_hostile_body_is_a_problem_and_changes_nothing(world: World, name: str) -> None:
    await world.person("pat", "proposer")
    headers = {"Content-Type": "application/json"}
    answer = await world.ask("POST", "/v1/intents", by="pat", data=HOSTILE[name], headers=headers)
    assert answer.status == 400, answer.body
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert len(answer.body) < 2000 and TOKEN.encode() not in answer.body
    assert await world.commanded() == [] and world.rung == 0


FORMS = {
    "no form": "hello",
    "a name twice": "reason=a&reason=b",
    "an argument twice": "arguments.amount=1&arguments.amount=2&reason=x",
    "an unknown name": "reason=x&colour=red",
    "broken percent": "reason=%ff%fe",
    "many fields": "&".join(f"arguments.a{n}=1" for n in range(200)),
    "not ASCII": "reason=é",
    "a reason of nothing": "reason=",
    "NUL": "reason=a%00b",
    "arguments as text": "arguments=x&reason=x",
    "both kinds of arguments": "arguments=x&arguments.amount=1&reason=x",
    "roles as arguments": "roles=a&arguments.roles=b&reason=x",
}


@pytest.mark.parametrize("name", FORMS)
async def test_a_hostile_form_is_a_page_and_changes_nothing(world: World, name: str) -> None:
    await world.person("king", "operator", "admin", "proposer", "approver")
    cookie = await world.sign_in("king")
    for path in ("/v1/intents", "/v1/pause", "/v1/principals", f"/v1/intents/{HASH}/approve"):
        answer = await world.ask("POST", path, cookie=cookie, origin="self", form=FORMS[name])
        assert answer.status == 400 and answer.headers["Content-Type"].startswith("text/html"), (path, answer.body)
    assert await world.commanded() == []


async def test_a_body_beyond_the_cap_is_refused_before_it_is_read(world: World) -> None:
    await world.person("pat", "proposer")
    data = b'{"reason": "' + b"x" * (bodies.MAX_BYTES + 1) + b'"}'
    headers = {"Content-Type": "application/json"}
    assert (await world.ask("POST", "/v1/intents", by="pat", data=data, headers=headers)).status == 413
    guest = await world.ask("POST", "/v1/intents", data=data, headers=headers)
    assert guest.status == 401


@pytest.mark.parametrize("kind", ["text/plain", "multipart/form-data; boundary=x", "application/xml", "text/json"])
async def test_another_type_of_body_is_refused(world: World, kind: str) -> None:
    await world.person("pat", "proposer")
    answer = await world.ask("POST", "/v1/intents", by="pat", data=changed(), headers={"Content-Type": kind})
    assert answer.status == 415


async def test_hostile_text_in_addresses_is_a_problem(world: World) -> None:
    await world.person("king", "operator", "admin", "proposer", "approver")
    for path in (
        "/v1/intents/%00/approve",
        "/v1/latches/%00%ff/clear",
        "/v1/gaps/%D9%A3/adopt",
        "/v1/latches/%ED%A0%80/clear",
    ):
        body = {"reason": "x", **({"payloadHash": HASH} if "approve" in path else {})}
        answer = await world.ask("POST", path, by="king", body=body)
        assert 400 <= answer.status < 500, (path, answer.body)
