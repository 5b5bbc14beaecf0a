"""Leases in a PostgreSQL that agents share. In: who asks for which account. Out: the fencing token, or who has it.

The lease database is not an agent's book: one small table of its own, made when it is missing. One statement decides each request. No clock
decides, the database's neither: who wants another holder's lease has to have seen its row unchanged for as long as it lasts, by a monotonic
clock of its own, and names what it saw. A connection lives for one request: they come once in many seconds.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeVar

import msgspec
import sqlalchemy as sa
from sqlalchemy import exc, pool

from domain import errors
from kit import columns, databases

T = TypeVar("T")
TIMEOUT_S = 10.0
LOCK_TIMEOUT = "5s"
"""How long a look waits for a row or table that others have locked."""
_MAKING = 0x4C454153
"""Agents that find no table make it one after the other."""
metadata = sa.MetaData()
table = sa.Table(
    "stakeside_lease",
    metadata,
    sa.Column("chain_id", columns.Whole, primary_key=True),
    sa.Column("account", columns.Bytes(20), primary_key=True),
    sa.Column("holder", columns.Bytes(32), nullable=False),
    sa.Column("token", columns.Whole, nullable=False),
    # By the database's clock: for people, and for agents of before, who know no other time.
    sa.Column("expires_at", sa.TIMESTAMP(timezone=True), nullable=False),
    # One more with every grant and renewal.
    sa.Column("grants", columns.Whole, nullable=False, server_default="0"),
    # How long the last one lasts; 0 with the epoch's `expires_at`: it was given back; NULL, or 0 with another time: an agent of before has it.
    sa.Column("ttl_s", columns.Whole, nullable=True),
)
"""One row an account, for ever: its token must never go back."""
_ADDED = "ALTER TABLE stakeside_lease ADD COLUMN IF NOT EXISTS grants bigint NOT NULL DEFAULT 0, ADD COLUMN IF NOT EXISTS ttl_s bigint"
"""What a table of before lacks. Agents of before go on beside it: what they write moves `expires_at`."""

_ACQUIRE = sa.text("""
INSERT INTO stakeside_lease AS l (chain_id, account, holder, token, grants, ttl_s, expires_at)
SELECT :chain_id, :account, CAST(:holder AS bytea), :last_token + 1, 1, CAST(:ttl_s AS bigint),
    clock_timestamp() + make_interval(secs => CAST(:ttl_s AS bigint))
WHERE CAST(:running AS bigint) < 0 OR EXISTS (SELECT 1 FROM stakeside_lease WHERE chain_id = :chain_id AND account = :account)
ON CONFLICT (chain_id, account) DO UPDATE SET
    token = CASE WHEN :mine AND l.holder = excluded.holder AND l.ttl_s > 0 AND l.token >= :last_token
                 THEN l.token ELSE greatest(l.token, :last_token) + 1 END,
    holder = excluded.holder,
    grants = l.grants + 1,
    ttl_s = excluded.ttl_s,
    expires_at = excluded.expires_at
WHERE (:mine AND l.holder = excluded.holder) OR (l.ttl_s = 0 AND l.expires_at = 'epoch' AND l.grants > CAST(:running AS bigint))
    OR (l.grants, l.expires_at) = (:ended, CAST(:ended_at AS timestamptz))
RETURNING l.token
""")
_RENEW = sa.text("""
UPDATE stakeside_lease SET ttl_s = CAST(:ttl_s AS bigint), grants = grants + 1,
    expires_at = CASE WHEN CAST(:ttl_s AS bigint) = 0 THEN 'epoch' ELSE clock_timestamp() + make_interval(secs => CAST(:ttl_s AS bigint)) END
WHERE chain_id = :chain_id AND account = :account AND holder = :holder AND token = :token AND ttl_s > 0
RETURNING token
""")
_HELD_BY = sa.text("""
SELECT holder, grants, coalesce(nullif(ttl_s, 0), greatest(0, ceil(extract(epoch FROM expires_at - clock_timestamp())))), expires_at
FROM stakeside_lease WHERE chain_id = :chain_id AND account = :account AND (ttl_s = 0 AND expires_at = 'epoch') IS NOT TRUE
""")

_GRANTS = sa.text("SELECT grants FROM stakeside_lease WHERE chain_id = :chain_id AND account = :account")


class Other(msgspec.Struct, frozen=True):
    """Another holder has the account, by its `grants`-th grant, for `ttl_s` seconds from then if it does not renew. `expires_at` is by the
    database's clock: it tells one grant from the next, and people when."""

    holder: bytes
    grants: int
    ttl_s: int
    expires_at: datetime


class LeaseTable:
    """The leases of one database. Raises Transient when it is away, BadConfig when it is none or refuses us."""

    def __init__(self, url: str, *, timeout_s: float = TIMEOUT_S) -> None:
        try:
            parsed = sa.make_url(url)
        except exc.ArgumentError:
            raise errors.BadConfig("the lease database's address is malformed", cure=_CURE) from None
        if parsed.get_backend_name() != "postgresql":
            raise errors.BadConfig(
                "leases are shared through PostgreSQL only", value=parsed.get_backend_name(), cure=_CURE
            )
        self._shown = parsed.render_as_string()
        self._role = parsed.username
        self._timeout_s = timeout_s
        self._engine = sa.create_engine(
            parsed.set(drivername="postgresql+asyncpg"),
            poolclass=pool.NullPool,
            connect_args={"timeout": timeout_s, "command_timeout": timeout_s},
        )
        databases.on_connect(self._engine, databases.keep_commits)
        self._made = False

    async def acquire(
        self,
        *,
        chain_id: int,
        account: bytes,
        holder: bytes,
        ttl_s: int,
        last_token: int,
        ended: Other | None = None,
        mine: bool = True,
        running: Other | None = None,
    ) -> int | Other:
        """The token: the same while the same holder has it without a break, else a greater one than ever and than `last_token`. `ended` is
        the grant that the caller has seen to its end: another holder's is taken over only while it is the newest. Without `mine` the
        caller's own row counts as another's: after it was told that another one holds the account, or after its own lease ran out, such a
        row may be of the past. `running` is the grant that the caller saw and that may still last: it comes back when the row went away or was
        given back before that grant, as after a failover that lost something."""
        wanted = {"chain_id": chain_id, "account": account, "holder": holder, "ttl_s": ttl_s, "last_token": last_token}
        wanted |= (
            {"ended": -1, "ended_at": None} if ended is None else {"ended": ended.grants, "ended_at": ended.expires_at}
        )
        wanted |= {"mine": mine, "running": -1 if running is None else running.grants}
        for _ in range(2):  # between the two statements the other may have given it back
            token = await self._one(_ACQUIRE, wanted)
            if token is not None:
                return int(token[0])
            other = await self._other(chain_id, account, holder if mine else b"")
            if other is not None:
                return other
            if running is not None and await self._older(chain_id, account, running):
                return running
        raise errors.Transient("the lease changed hands twice while it was asked for", retry_after_s=1)

    async def renew(
        self, *, chain_id: int, account: bytes, holder: bytes, ttl_s: int, token: int
    ) -> int | Other | None:
        """None when it was given back and nobody has it."""
        asked = {"chain_id": chain_id, "account": account, "holder": holder, "ttl_s": ttl_s, "token": token}
        found = await self._one(_RENEW, asked)
        return int(found[0]) if found is not None else await self._other(chain_id, account, holder)

    async def release(self, *, chain_id: int, account: bytes, holder: bytes, token: int) -> None:
        """Ends it now, if it is held. The row stays, for its token."""
        await self.renew(chain_id=chain_id, account=account, holder=holder, ttl_s=0, token=token)

    async def look(self, *, chain_id: int, account: bytes) -> Other | None:
        """Who has it, from a database that would let us take it: nobody's lease is taken and renewed, and all of it rolled back. Raises
        Transient that says what this role lacks."""
        nobody = {"chain_id": chain_id, "account": os.urandom(20), "holder": bytes(32), "ttl_s": 1}
        prepared = False

        def work() -> tuple[Any, ...] | None:
            nonlocal prepared
            with self._engine.connect() as c:
                c.execute(sa.text(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'"))
                self._prepare(c)
                prepared = True
                row = c.execute(_HELD_BY, {"chain_id": chain_id, "account": account}).first()
                first = {"last_token": 0, "ended": -1, "ended_at": None, "mine": True, "running": -1}
                token = c.execute(_ACQUIRE, {**nobody, **first}).scalar_one()
                c.execute(_RENEW, {**nobody, "token": token})
                c.rollback()
                return None if row is None else tuple(row)

        try:
            row = await self._answered(work)
        except _Refused as refused:
            if not refused.forbidden:
                raise
            role = self._role or "ROLE"
            cure = (
                f"GRANT SELECT, INSERT, UPDATE ON stakeside_lease TO {role}"
                if prepared
                else f"GRANT CREATE ON SCHEMA … TO {role}, or make the table stakeside_lease as the role that owns it"
            )
            why = str(refused.value).partition(">: ")[2] or str(refused.value)
            raise errors.Transient(
                f"the lease database does not let this role write: {why}",
                value=self._shown,
                cure=f"as the owner: {cure}; the address has to be the primary's",
            ) from None
        return None if row is None else _read(row)

    async def _other(self, chain_id: int, account: bytes, holder: bytes) -> Other | None:
        row = await self._one(_HELD_BY, {"chain_id": chain_id, "account": account})
        return None if row is None or row[0] == holder else _read(row)

    async def _older(self, chain_id: int, account: bytes, running: Other) -> bool:
        """Whether the row is gone, or not after `running`."""
        row = await self._one(_GRANTS, {"chain_id": chain_id, "account": account})
        return row is None or row[0] <= running.grants

    async def _one(self, statement: sa.TextClause, params: dict[str, Any]) -> tuple[Any, ...] | None:
        """The first row of one statement in a transaction of its own."""

        def work() -> tuple[Any, ...] | None:
            with self._engine.begin() as c:
                if not self._made:
                    self._prepare(c)
                row = c.execute(statement, params).first()
                return None if row is None else tuple(row)

        found = await self._answered(work)
        self._made = True
        return found

    def _prepare(self, c: sa.Connection) -> None:
        """The table as it has to be."""
        looked = sa.inspect(c)
        if not looked.has_table(table.name):
            c.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MAKING})
            metadata.create_all(c)
        elif len(looked.get_columns(table.name)) < len(table.columns):
            c.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MAKING})
            c.execute(sa.text(_ADDED))

    async def _answered(self, work: Callable[[], T]) -> T:
        try:
            async with asyncio.timeout(2 * self._timeout_s):
                return await databases.run(work)
        except (TimeoutError, OSError) as error:
            raise errors.Transient(
                f"the lease database does not answer: {type(error).__name__}", value=self._shown, cure=_CURE
            ) from None
        except (errors.StoreError, errors.Transient) as error:
            if isinstance(error, errors.Transient) and not _state(error):
                raise  # it is away
            refused = _Refused(
                f"the lease database refuses: {error.what}",
                value=error.value,
                cure="check its rights, its table stakeside_lease and who locks it",
            )
            refused.forbidden = _state(error) in _FORBIDDEN
            raise refused from None


class _Refused(errors.Transient):
    """The database is there, and does not do it. `forbidden`: because this role may not, or this database only reads."""

    forbidden = False


_FORBIDDEN = frozenset({"42501", "25006"})
"""SQLSTATEs: insufficient_privilege, read_only_sql_transaction."""


def _state(error: errors.StakesideError) -> str:
    """The server's word for what was wrong."""
    return databases.sqlstate(error.__cause__)


def _read(row: tuple[Any, ...]) -> Other:
    return Other(bytes(row[0]), int(row[1]), int(row[2]), row[3])


_CURE = 'write "postgresql://user@host/database" and check that the server is up'
