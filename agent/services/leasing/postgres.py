"""A lease in a PostgreSQL that the agents share. In: the table. Out: `Held`, or `Taken`.

Another holder's lease has ended when this agent has seen the very same grant for as long as it lasts, on its own monotonic clock: the holder
counts from before it asked and leaves a fifth unused, so it has stopped by then, whatever any clock on a wall says. Who stands by asks
every third of that time, so a lease that nobody renews is taken over within about one and a half of it. The own lease, once it ran out, is
another one's too: a database that lost something may still name us where somebody else has taken over since.
"""

from __future__ import annotations

import math

from agent.services.leasing import base
from domain import hashing, lease
from kit import runtime
from store import leases


class PostgresLeases:
    """`holder` is this run's (`domain.lease.holder_of`); `last_token` the highest token the book has seen for the account."""

    def __init__(
        self,
        table: leases.LeaseTable,
        *,
        chain_id: int,
        account: bytes,
        holder: bytes,
        ttl_s: int,
        clock: runtime.Clock,
        last_token: int = 0,
    ) -> None:
        self._table = table
        self._chain_id = chain_id
        self._account = account
        self._holder = holder
        self._ttl_s = ttl_s
        self._clock = clock
        self._last_token = last_token
        self._seen: tuple[leases.Other, float] | None = None
        self._lost = False
        self._until = -math.inf

    async def acquire(self) -> base.Held:
        sent = self._clock.monotonic()
        found = await self._table.acquire(
            chain_id=self._chain_id,
            account=self._account,
            holder=self._holder,
            ttl_s=self._ttl_s,
            last_token=self._last_token,
            ended=None if self._seen is None or self._left_s() else self._seen[0],
            mine=not self._lost and sent < self._until,
            running=self._seen[0] if self._seen is not None and self._left_s() else None,
        )
        return self._held(found, sent)

    async def renew(self, held: base.Held) -> base.Held:
        sent = self._clock.monotonic()
        if sent >= self._until:
            raise base.Ended("the lease ran out before it was renewed", cure="it is acquired anew")
        found = await self._table.renew(
            chain_id=self._chain_id,
            account=self._account,
            holder=self._holder,
            ttl_s=self._ttl_s,
            token=held.token,
        )
        if found is None:
            raise base.Ended("the lease was given back before it was renewed", cure="it is acquired anew")
        return self._held(found, sent)

    async def release(self, held: base.Held) -> None:
        await self._table.release(chain_id=self._chain_id, account=self._account, holder=self._holder, token=held.token)

    async def look(self) -> str:
        found = await self._table.look(chain_id=self._chain_id, account=self._account)
        if found is None:
            return "the lease database answers and lets this role write; nobody holds the lease"
        until = f"for {found.ttl_s} seconds, until about {found.expires_at:%Y-%m-%d %H:%M:%S %Z}, unless it renews it"
        return f"the lease database answers and lets this role write; holder {lease.shown(found.holder)} has the lease {until}"

    def _held(self, found: int | leases.Other, sent: float) -> base.Held:
        if isinstance(found, leases.Other):
            self._lost = True
            if self._seen is None or (self._seen[0].grants, self._seen[0].expires_at) != (
                found.grants,
                found.expires_at,
            ):
                self._seen = (found, self._clock.monotonic())
            for_s = max(1, self._left_s())
            raise base.Taken(
                f"another holder has the lease of {hashing.hex0x(self._account)}",
                value=f"holder {lease.shown(found.holder)} has it for {for_s} more seconds",
                cure="this agent stands by and takes over when the lease ends; stop the other one to make it soon",
                for_s=for_s,
            )
        self._last_token, self._seen, self._lost = max(self._last_token, found), None, False
        self._until = base.until(sent, self._ttl_s)
        return base.Held(found, self._until)

    def _left_s(self) -> int:
        """How long the grant that was seen may still be relied on."""
        if self._seen is None:
            return 0
        other, since = self._seen
        return max(0, math.ceil(since + other.ttl_s - self._clock.monotonic()))
