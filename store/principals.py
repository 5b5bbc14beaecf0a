"""People and programs that may look or act, by name. In: names, roles, hashes of tokens. Out: who a token belongs to.

A token is shown once to whoever made it; the book keeps the SHA-256 of its text. Rotating ends a row and begins another, so what a
former token did stays told apart. A browser's session is a row of its own that dies with its principal's token.
"""

from __future__ import annotations

import re
from collections.abc import Collection

import msgspec
import sqlalchemy as sa

from domain import errors
from store import backup, commands
from store.commands import Done, Refused
from store.connection import AnyRow, AnySelect, Connection
from store.staking import principal
from store.staking import session as sessions

ROLES = ("viewer", "operator", "proposer", "approver", "admin")
MAX_SESSIONS = 16
"""Browsers that one token can be signed in at; the oldest session makes room."""
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")


class Principal(msgspec.Struct, frozen=True):
    """`until_s` is None as long as its token is valid."""

    id: int
    name: str
    roles: frozenset[str]
    since_s: int
    until_s: int | None = None


async def add(
    c: Connection, name: str, roles: Collection[str], token_hash: bytes, *, by: str, reason: str, at_s: float
) -> Done | Refused:
    """Refused for a name in use, a malformed name, or no or unknown roles."""
    if (refused := commands.reason_refused(reason)) is not None:
        return refused
    if _NAME.fullmatch(name) is None:
        return Refused(
            "bad-name", "a name has 1 to 63 of a-z, 0-9, dot, dash and underscore, and begins with a letter or digit"
        )
    if not roles or not set(roles) <= set(ROLES):
        return Refused("bad-roles", f"roles are one or more of {', '.join(ROLES)}")
    if await by_name(c, name) is not None:
        return Refused("name-in-use", f"there is a principal {name}: rotate its token, or revoke it first")
    if await _known_token(c, token_hash):
        return Refused("token-in-use", "the token was used before: make a new one")
    made = await commands.add(
        c, principal=by, kind="principal-add", subject=name, reason=reason, at_s=at_s,
        before={"roles": []}, after={"roles": sorted(set(roles))},
    )  # fmt: skip
    await _begin(c, name, frozenset(roles), token_hash, command=made, at_s=at_s)
    return Done(made)


async def rotate(c: Connection, name: str, token_hash: bytes, *, by: str, reason: str, at_s: float) -> Done | Refused:
    """Another token, the same roles; the old token and every session end at once."""
    found = await _active(c, name, reason=reason)
    if isinstance(found, Refused):
        return found
    if await _known_token(c, token_hash):
        return Refused("token-in-use", "the token was used before: make a new one")
    made = await commands.add(
        c, principal=by, kind="principal-rotate", subject=name, reason=reason, at_s=at_s,
        before={"token_since_s": found.since_s}, after={"token_since_s": int(at_s)},
    )  # fmt: skip
    await _end(c, found, at_s=at_s)
    await _begin(c, name, found.roles, token_hash, command=made, at_s=at_s)
    return Done(made)


async def revoke(c: Connection, name: str, *, by: str, reason: str, at_s: float) -> Done | Refused:
    """The token and every session end at once. Refused for the last admin: nobody could let anybody in again."""
    found = await _active(c, name, reason=reason)
    if isinstance(found, Refused):
        return found
    if "admin" in found.roles and not any("admin" in one.roles for one in await list_(c) if one.id != found.id):
        return Refused("last-admin", f"{name} is the last admin: add another one first")
    made = await commands.add(
        c, principal=by, kind="principal-revoke", subject=name, reason=reason, at_s=at_s,
        before={"roles": sorted(found.roles)}, after={"roles": []},
    )  # fmt: skip
    await _end(c, found, at_s=at_s)
    return Done(made)


async def by_name(c: Connection, name: str) -> Principal | None:
    """The active one of the name."""
    row = await c.row(_select().where(principal.c.name == name, principal.c.until_s.is_(None)))
    return None if row is None else _principal(row)


async def active(c: Connection, id: int) -> bool:
    """Whether this very row may still act. A row's roles never change: another role is another row."""
    row = await c.row(_select().where(principal.c.id == id, principal.c.until_s.is_(None)))
    return await _valid(c, row) is not None


async def by_token_hash(c: Connection, hash: bytes) -> Principal | None:
    """Whose token it is; None for an unknown, rotated or revoked one."""
    row = await c.row(_select().where(principal.c.token_hash == hash, principal.c.until_s.is_(None)))
    return await _valid(c, row)


async def list_(c: Connection, *, ended: bool = False) -> list[Principal]:
    """The active ones by name; with `ended`, also the former rows, oldest first in each name."""
    query = _select().order_by(principal.c.name, principal.c.id)
    if not ended:
        query = query.where(principal.c.until_s.is_(None))
    return [_principal(row) for row in await c.rows(query)]


async def open_session(c: Connection, *, token_hash: bytes, principal_id: int, at_s: float, expires_s: float) -> None:
    """`token_hash` is of the session's own token; the principal's oldest beyond `MAX_SESSIONS` end. Raises StoreError when the principal's
    token is not valid any more."""
    row = await c.row(_select().where(principal.c.id == principal_id, principal.c.until_s.is_(None)))
    if row is None:
        raise errors.StoreError("there is no such active principal", value=principal_id)
    values = {
        "token_hash": token_hash, "principal": row.name, "principal_id": principal_id, "created_s": int(at_s),
        "expires_s": int(expires_s),
    }  # fmt: skip
    await c.change(sessions.insert().values(**values))
    others = sa.select(sessions.c.token_hash).where(
        sessions.c.principal_id == principal_id, sessions.c.token_hash != token_hash
    )
    oldest = others.order_by(sessions.c.created_s.desc(), sessions.c.token_hash).offset(MAX_SESSIONS - 1)
    await c.change(sessions.delete().where(sessions.c.token_hash.in_(oldest)))


async def session(c: Connection, hash: bytes, now_s: float) -> Principal | None:
    """Who is behind a session's token; None when it is unknown, has expired, or its principal's token ended."""
    query = _select().join(sessions, sessions.c.principal_id == principal.c.id)
    query = query.where(sessions.c.token_hash == hash, sessions.c.expires_s > int(now_s), principal.c.until_s.is_(None))
    return await _valid(c, await c.row(query))


async def _valid(c: Connection, row: AnyRow | None) -> Principal | None:
    """A backup knows nothing of who was revoked after it: no token from before a restore opens anything until it was rotated."""
    if row is None or (await backup.boundary(c)).before(row.command, row.since_s):
        return None
    return _principal(row)


async def close_session(c: Connection, hash: bytes) -> bool:
    """False when there was none."""
    return await c.change(sessions.delete().where(sessions.c.token_hash == hash)) > 0


async def prune(c: Connection, now_s: float) -> int:
    """Forget expired sessions; how many."""
    return await c.change(sessions.delete().where(sessions.c.expires_s <= int(now_s)))


async def _active(c: Connection, name: str, *, reason: str) -> Principal | Refused:
    if (refused := commands.reason_refused(reason)) is not None:
        return refused
    # What is no name is nobody's, and may be no text for a database either.
    found = None if _NAME.fullmatch(name) is None else await by_name(c, name)
    return Refused("unknown", f"there is no active principal {errors.clip(name)}") if found is None else found


async def _known_token(c: Connection, hash: bytes) -> bool:
    return await c.scalar(sa.select(principal.c.id).where(principal.c.token_hash == hash)) is not None


async def _begin(
    c: Connection, name: str, roles: frozenset[str], token_hash: bytes, *, command: int, at_s: float
) -> None:
    row = {
        "name": name, "roles": ",".join(sorted(roles)), "token_hash": token_hash, "since_s": int(at_s), "until_s": None,
        "command": command,
    }  # fmt: skip
    await c.change(principal.insert().values(**row))


async def _end(c: Connection, found: Principal, *, at_s: float) -> None:
    await c.change(sessions.delete().where(sessions.c.principal_id == found.id))
    await c.change(principal.update().where(principal.c.id == found.id).values(until_s=int(at_s)))


def _select() -> AnySelect:
    """Never the hash of a token."""
    return sa.select(
        principal.c.id,
        principal.c.name,
        principal.c.roles,
        principal.c.since_s,
        principal.c.until_s,
        principal.c.command,
    )


def _principal(row: AnyRow) -> Principal:
    roles = frozenset(row.roles.split(","))
    if not roles <= set(ROLES):
        raise errors.StoreError("a principal has a role that this software does not know", value=row.roles)
    return Principal(row.id, row.name, roles, row.since_s, row.until_s)
