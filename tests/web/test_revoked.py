"""Who is revoked while a request is under way changes nothing any more."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from agent.web import bodies, people, routes
from domain import hashing
from kit import backups, digests
from store import commands, principals
from store import copy as store_copy
from tests.store import belt
from tests.web import conftest as web
from tests.web import test_authorization as authorization

REASON = {"reason": "the token was stolen"}
SIGNING_OUT = {("DELETE", "/v1/session"), ("POST", "/v1/session/end")}
"""They end the caller's own session, whoever that is."""
CHANGES = [
    route
    for route in authorization.TABLE
    if route.changes and route.access != routes.OPEN and (route.method, route.path) not in SIGNING_OUT
]


async def _wanted(world: web.World, route: routes.Route) -> tuple[str, dict[str, Any]]:
    """A path and a body with which `route` changes something: without them a test of what does not happen would prove nothing."""
    path, body = route.path, dict[str, Any](REASON)
    if "/principals/{name}" in path:
        await world.person("eve", "viewer")
        path = path.replace("{name}", "eve")
    elif path == "/v1/principals":
        body |= {"name": "backdoor", "roles": ["admin"]}
    elif path == "/v1/intents":
        body |= {"protocol": "devnet", "action": "delegate", "key": "k2"}
        body["arguments"] = {"validator": "0x" + "11" * 20, "amount": "1000"}
    elif path.endswith("/settle"):
        async with world.book.write() as c:
            path = path.replace("{id}", hashing.hex0x((await belt.bring(c, "needs_operator")).id))
        body["outcome"] = "superseded"
    elif "/intents/{id}" in path:
        made = (await world.propose("tess")).json
        path = path.replace("{id}", made["id"])
        if path.endswith("/approve"):
            body["payloadHash"] = made["payloadHash"]
    elif "/gaps/{id}" in path:
        path = path.replace("{id}", str(await world.gap()))
    elif "/latches/{name}" in path:
        await world.latch("x")
        path = path.replace("{name}", "finality")
    elif path == "/v1/resume":
        async with world.book.write() as c:
            await commands.pause(c, by="local:test", reason="x", at_s=world.clock.now())
    elif path == "/v1/restored/accept":
        async with world.book.write() as c:
            found = backups.Restored(1, 1, 1, "00" * 32)
            await c.script(lambda sync: backups.mark(sync, store_copy.BOOK, found))
    return path, body


async def _digest(world: web.World) -> bytes:
    async with world.book.read() as c:
        return (await c.script(lambda sync: digests.of(sync, store_copy.BOOK))).whole


@pytest.mark.parametrize("route", CHANGES, ids=lambda route: f"{route.method} {route.path}")
async def test_whoever_was_let_in_and_is_revoked_before_the_write_changes_nothing(
    route: routes.Route, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By token and by session, for every route that changes something, with the request that goes through when nobody was revoked."""
    async with web.serving(tmp_path) as world:
        await world.person("tess", "proposer")
        for name in ("mallory", "mara", "sam"):
            await world.person(name, *web.ROLES)
        path, body = await _wanted(world, route)
        read, before = bodies.read, b""

        def revoking(name: str) -> None:
            async def reading(*given: Any) -> Any:
                nonlocal before
                found = await read(*given)
                async with world.book.write() as c:
                    done = await principals.revoke(c, name, by="root", reason="stolen", at_s=world.clock.now())
                assert isinstance(done, commands.Done)
                before = await _digest(world)
                return found

            monkeypatch.setattr(bodies, "read", reading)

        cookie = await world.sign_in("mara")
        revoking("mallory")
        answer = await world.ask(route.method, path, by="mallory", body=body)
        assert (answer.status, await _digest(world)) == (401, before), answer.body
        revoking("mara")
        answer = await world.ask(route.method, path, cookie=cookie, origin="self", body=body)
        assert (answer.status, await _digest(world)) == (401, before), answer.body
        monkeypatch.setattr(bodies, "read", read)
        answer = await world.ask(route.method, path, by="sam", body=body)
        assert answer.status in (200, 201), answer.body
        if path != "/v1/restored/accept":  # a note about this copy of the book, which no digest counts
            assert await _digest(world) != before


async def test_whoever_signs_out_before_the_write_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The principal stays; it is the session that ended."""
    async with web.serving(tmp_path) as world:
        await world.person("olga", "operator")
        cookie, other, read = await world.sign_in("olga"), await world.sign_in("olga"), bodies.read

        async def signing_out(*given: Any) -> Any:
            found = await read(*given)
            async with world.book.write() as c:
                assert await principals.close_session(c, people.hash_of(cookie.partition("=")[2]))
            return found

        monkeypatch.setattr(bodies, "read", signing_out)
        assert (await world.ask("POST", "/v1/pause", cookie=cookie, origin="self", body=REASON)).status == 401
        assert await world.commanded() == []
        monkeypatch.setattr(bodies, "read", read)
        assert (await world.ask("POST", "/v1/pause", cookie=other, origin="self", body=REASON)).status == 200


async def test_whoever_is_revoked_between_head_and_body_changes_nothing(tmp_path: Path) -> None:
    async with web.serving(tmp_path) as world:
        await world.person("root", "admin")
        token = await world.person("mallory", "admin")
        body = json.dumps({"name": "backdoor", "roles": ["admin"], "reason": "mine"}).encode()
        head = (
            f"POST /v1/principals HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(world.url).port)
        writer.write(head.encode() + body[:5])
        await writer.drain()
        revoked = await world.ask("POST", "/v1/principals/mallory/revoke", by="root", body=REASON)
        assert revoked.status == 200
        writer.write(body[5:])
        answer = await asyncio.wait_for(reader.read(), 30)
        writer.close()
        assert b" 401 " in answer.split(b"\r\n")[0]
        async with world.book.read() as c:
            assert [person.name for person in await principals.list_(c)] == ["root"]
            assert [row.kind for row in await commands.list_(c, limit=1)] == ["principal-revoke"]


async def test_the_approval_of_somebody_who_was_revoked_counts_no_more(tmp_path: Path) -> None:
    async with web.serving(tmp_path) as world:
        for name, role in (("root", "admin"), ("tess", "proposer"), ("adam", "approver")):
            await world.person(name, role)
        made = (await world.propose("tess")).json
        body = {"payloadHash": made["payloadHash"], "reason": "checked"}
        assert (await world.ask("POST", f"/v1/intents/{made['id']}/approve", by="adam", body=body)).status == 200

        async def counted() -> list[str]:
            async with world.book.read() as c:
                id_, payload = (hashing.unhex(made[name], size=32) for name in ("id", "payloadHash"))
                return [item.principal for item in await commands.approvals(c, id_, payload)]

        assert await counted() == ["adam"]
        rotated = await world.ask("POST", "/v1/principals/adam/rotate", by="root", body=REASON)
        assert rotated.status == 201
        assert await counted() == ["adam"], "a new token, the same person"
        assert (await world.ask("POST", "/v1/principals/adam/revoke", by="root", body=REASON)).status == 200
        assert await counted() == []


async def test_after_a_restore_no_token_from_before_opens_anything_until_it_is_rotated(tmp_path: Path) -> None:
    """The backup does not know who was revoked after it was taken."""
    async with web.serving(tmp_path) as world:
        await world.person("root", "admin")
        await world.person("eve", "operator")
        cookie = await world.sign_in("eve")
        at_s = int(world.clock.now()) + 10
        async with world.book.write() as c:
            found = backups.Restored(1, at_s, at_s - 5, "00" * 32)
            await c.script(lambda sync: backups.mark(sync, store_copy.BOOK, found))
        assert (await world.ask("GET", "/v1/whoami", by="eve")).status == 401
        answer = await world.ask("POST", "/v1/pause", cookie=cookie, origin="self", form=REASON)
        assert answer.status == 401
        async with world.book.write() as c:
            token = people.new_token()
            await principals.rotate(
                c, "root", people.hash_of(token), by="local:op", reason="after the restore", at_s=at_s + 1
            )
        assert (await world.ask("GET", "/v1/whoami", token=token)).status == 200


async def test_who_was_revoked_and_let_in_again_approves_again(tmp_path: Path) -> None:
    """The only way to give somebody another role must not take their word away for good."""
    async with web.serving(tmp_path) as world:
        for name, role in (("root", "admin"), ("tess", "proposer"), ("adam", "approver")):
            await world.person(name, role)
        made = (await world.propose("tess")).json
        body = {"payloadHash": made["payloadHash"], "reason": "checked"}
        intent, payload = (hashing.unhex(made[name], size=32) for name in ("id", "payloadHash"))

        async def counted() -> list[str]:
            async with world.book.read() as c:
                return [item.principal for item in await commands.approvals(c, intent, payload)]

        assert (await world.ask("POST", f"/v1/intents/{made['id']}/approve", by="adam", body=body)).status == 200
        assert (await world.ask("POST", "/v1/principals/adam/revoke", by="root", body=REASON)).status == 200
        assert await counted() == []
        await world.person("adam", "approver", "operator")
        assert await counted() == [], "the old word does not come back with the name"
        assert (await world.ask("POST", f"/v1/intents/{made['id']}/approve", by="adam", body=body)).status == 200
        assert await counted() == ["adam"]
