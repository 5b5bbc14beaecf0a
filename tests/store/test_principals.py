"""Named people: a token's hash belongs to one of them, and every change is a command."""

from __future__ import annotations

import hashlib
import json

import sqlalchemy as sa

from store import commands, principals
from store.book import Book
from store.connection import Connection


def token(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


async def add(c: Connection, name: str, *roles: str, secret: str | None = None) -> commands.Done | commands.Refused:
    hash_ = token(secret or f"{name}-1")
    return await principals.add(c, name, roles, hash_, by="root", reason="joins", at_s=10)


def refused(answer: commands.Done | commands.Refused) -> str:
    assert isinstance(answer, commands.Refused), answer
    return answer.code


async def test_a_token_says_who_and_with_which_roles(book: Book) -> None:
    async with book.write() as c:
        assert isinstance(await add(c, "ana", "approver", "viewer", "viewer"), commands.Done)
        found = await principals.by_token_hash(c, token("ana-1"))
        assert found is not None
        assert (found.name, found.roles, found.since_s) == ("ana", frozenset({"approver", "viewer"}), 10)
        assert await principals.by_token_hash(c, token("ana-2")) is None
        assert await principals.by_name(c, "ana") == found


async def test_malformed_names_and_unknown_roles_are_refused(book: Book) -> None:
    async with book.write() as c:
        for name in ("", "Ana", "-a", ".a", "a b", "ä", "a" * 64, "ana\n", "a/b", "a,b"):
            assert refused(await add(c, name, "viewer")) == "bad-name"
        assert isinstance(await add(c, "0" + "a" * 62, "viewer"), commands.Done)
        assert refused(await add(c, "bob")) == "bad-roles"
        assert refused(await add(c, "bob", "viewer", "root")) == "bad-roles"
        assert isinstance(await add(c, "bob", *principals.ROLES), commands.Done)
        assert refused(await add(c, "bob", "viewer", secret="x")) == "name-in-use"
        assert refused(await add(c, "carol", "viewer", secret="bob-1")) == "token-in-use"
        assert len(await commands.list_(c, limit=99)) == 2
        bad = await principals.add(c, "eve", ["viewer"], token("e"), by="root", reason="", at_s=1)
        assert refused(bad) == "bad-reason"


async def test_rotating_keeps_the_roles_and_ends_the_old_token_and_its_sessions(book: Book) -> None:
    async with book.write() as c:
        await add(c, "ana", "admin", "viewer")
        old = await principals.by_name(c, "ana")
        assert old is not None
        await principals.open_session(c, token_hash=token("s"), principal_id=old.id, at_s=11, expires_s=99)
        made = await principals.rotate(c, "ana", token("ana-2"), by="ana", reason="yearly", at_s=20)
        assert isinstance(made, commands.Done)
        assert await principals.by_token_hash(c, token("ana-1")) is None
        new = await principals.by_token_hash(c, token("ana-2"))
        assert new is not None
        assert (new.roles, new.since_s) == (old.roles, 20)
        assert new.id != old.id
        assert await principals.session(c, token("s"), 12) is None
        assert [(one.name, one.until_s) for one in await principals.list_(c, ended=True)] == [
            ("ana", 20),
            ("ana", None),
        ]
        for again in ("ana-1", "ana-2"):
            assert (
                refused(await principals.rotate(c, "ana", token(again), by="a", reason="r", at_s=21)) == "token-in-use"
            )
        assert refused(await principals.rotate(c, "eve", token("e"), by="a", reason="r", at_s=21)) == "unknown"


async def test_revoking_ends_token_and_sessions_and_the_name_can_be_given_again(book: Book) -> None:
    async with book.write() as c:
        await add(c, "ana", "viewer")
        found = await principals.by_name(c, "ana")
        assert found is not None
        await principals.open_session(c, token_hash=token("s"), principal_id=found.id, at_s=11, expires_s=99)
        assert isinstance(await principals.revoke(c, "ana", by="root", reason="left", at_s=20), commands.Done)
        assert await principals.by_token_hash(c, token("ana-1")) is None
        assert await principals.session(c, token("s"), 12) is None
        assert await c.scalar(sa.text("SELECT count(*) FROM session")) == 0
        assert refused(await principals.revoke(c, "ana", by="root", reason="r", at_s=21)) == "unknown"
        assert isinstance(await add(c, "ana", "operator", secret="ana-9"), commands.Done)
        now = await principals.by_name(c, "ana")
        assert now is not None
        assert now.roles == frozenset({"operator"})


async def test_a_token_has_so_many_sessions_and_the_oldest_makes_room(book: Book) -> None:
    async with book.write() as c:
        for name in ("ana", "bob"):
            await add(c, name, "viewer")
        ana, bob = await principals.by_name(c, "ana"), await principals.by_name(c, "bob")
        assert ana is not None
        assert bob is not None
        await principals.open_session(c, token_hash=token("b"), principal_id=bob.id, at_s=1, expires_s=999)
        names = [f"s{number}" for number in range(principals.MAX_SESSIONS + 3)]
        for at_s, name in enumerate(names, start=11):
            # The last ones in one second: whoever comes is never the one that goes.
            at_s = min(at_s, 11 + principals.MAX_SESSIONS)
            await principals.open_session(c, token_hash=token(name), principal_id=ana.id, at_s=at_s, expires_s=999)
            assert await principals.session(c, token(name), 30) is not None
        standing = [name for name in names if await principals.session(c, token(name), 30) is not None]
        assert standing == names[3:]
        assert await principals.session(c, token("b"), 30) is not None


async def test_what_is_no_name_is_nobodys(book: Book) -> None:
    async with book.write() as c:
        for name in ("", "\0", "a\0b", "\ud800", "../a", "x" * 5000):
            assert refused(await principals.revoke(c, name, by="a", reason="r", at_s=21)) == "unknown"
            assert refused(await principals.rotate(c, name, token("t"), by="a", reason="r", at_s=21)) == "unknown"


async def test_the_last_admin_cannot_be_revoked(book: Book) -> None:
    async with book.write() as c:
        await add(c, "ana", "admin")
        await add(c, "bob", "viewer")
        assert refused(await principals.revoke(c, "ana", by="ana", reason="r", at_s=20)) == "last-admin"
        await add(c, "eve", "admin", "viewer")
        assert isinstance(await principals.revoke(c, "ana", by="eve", reason="r", at_s=21), commands.Done)
        assert refused(await principals.revoke(c, "eve", by="eve", reason="r", at_s=22)) == "last-admin"
        assert isinstance(await principals.revoke(c, "bob", by="eve", reason="r", at_s=22), commands.Done)


async def test_a_session_lasts_until_its_end_or_until_it_is_closed(book: Book) -> None:
    async with book.write() as c:
        await add(c, "ana", "viewer")
        found = await principals.by_name(c, "ana")
        assert found is not None
        for name, end in (("a", 50), ("b", 90), ("c", 90)):
            await principals.open_session(c, token_hash=token(name), principal_id=found.id, at_s=11, expires_s=end)
        assert await principals.session(c, token("a"), 49.9) == found
        assert await principals.session(c, token("a"), 50) is None
        assert await principals.session(c, token("nobody"), 11) is None
        assert await principals.close_session(c, token("b"))
        assert not await principals.close_session(c, token("b"))
        assert await principals.prune(c, 50) == 1
        assert await principals.session(c, token("c"), 89) == found


async def test_no_command_and_no_read_model_knows_anything_of_a_token(book: Book) -> None:
    async with book.write() as c:
        await add(c, "ana", "admin")
        await principals.rotate(c, "ana", token("ana-2"), by="ana", reason="r", at_s=20)
        await add(c, "bob", "viewer")
        await principals.revoke(c, "bob", by="ana", reason="r", at_s=30)
        found = await commands.list_(c, limit=99)
        shown = repr(found) + repr(await principals.list_(c, ended=True))
    for secret in ("ana-1", "ana-2", "bob-1"):
        assert token(secret).hex() not in shown
        assert repr(token(secret))[2:-1] not in shown
    assert [(one.kind, json.loads(one.before), json.loads(one.after)) for one in reversed(found)] == [
        ("principal-add", {"roles": []}, {"roles": ["admin"]}),
        ("principal-rotate", {"token_since_s": 10}, {"token_since_s": 20}),
        ("principal-add", {"roles": []}, {"roles": ["viewer"]}),
        ("principal-revoke", {"roles": ["viewer"]}, {"roles": []}),
    ]
