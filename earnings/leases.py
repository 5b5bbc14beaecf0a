"""Leases at the hub: who may sign for an account now. In: requests signed by the account's key. Out: signed grants, or refusals.

The row, its token and the request's time commit in one transaction; the grant is signed after it, since nothing depends on that one: a
holder that did not hear asks again and gets the same token. A database shared by several hub processes is the one authority.

Two machines' clocks are never compared. A grant or a renewal changes the account's row; a hub process lets another holder take the
account when it has itself seen the row unchanged for as long as the lease lasts, on its own monotonic clock (`Watch`).

    No lease ends early for its holder. The holder counts from before it sent its request, the process from after the row was written, both
    for the same time, and the holder leaves a fifth unused: only a monotonic clock that is wrong by a fifth could break this. A step of a
    wall clock, the database's too, moves neither; a machine that stands still takes over later.
    No lease outlasts its holder for long. A row that nobody renews is free one lease's time after the process saw it: for the process
    that granted it that is when it ends, for another one or after a restart at most one lease's time after it looked. It looks at all
    rows when it starts and at one whenever the account is asked for, which who stands by does every third of that time.

A book that was restored from a backup has forgotten grants: the account may be held under a token that it does not know. So nothing is
acquired until the longest lease there can be has passed since the hub started on it (`_wait_ms`), and tokens go on far above; only who
says that it holds what the book says it holds may renew that. The book keeps that the hub has waited, as a person's word is kept elsewhere.
A database that failed over to a replica that was behind is such a book (`setbacks`): nothing is acquired either. What this process has seen
and the book has forgotten it writes again, so who was granted it goes on renewing, and nobody gets a lower token.

`expires_ms` says when a lease would end by the clock on the wall, for people and for older hubs beside this one; here it only tells one
grant from the next, so the mark it is counted from grows with every one. 0 is a lease that was given back.
"""

from __future__ import annotations

from typing import Any, assert_never

import msgspec
import sqlalchemy as sa

from domain import errors, hashing, lease, signatures
from earnings import bodies, book, ingest, limits, receipts, setbacks, tables
from earnings.ingest import Refused
from earnings.intake import Wires
from earnings.metrics import Metrics
from earnings.seats import Seats
from kit import backups, faults, logs, runtime

MAX_LEASES = 10_000
"""Rows, one an account. Beyond it, rows that ended make room: tokens are counted over all accounts, so none comes back."""
MAX_HOLDERS = 128
"""Holders of one account within the time a request can be replayed: agents that restart in a loop, not a table that grows."""
FORGET_S = 2 * lease.SKEW_S
"""After this a repeated request is refused by its age, so its time need not be kept. Nor a time this far ahead: it was taken while the
clock was wrong, and would keep its holder out until then."""
RATE = limits.Rate(per_s=20, burst=200)
MAX_SOURCES = 4096
FULL_RETRY_S = 60
RESTORED_MS = 1000 * lease.MAX_TTL_S
RESTORED_STEP = 1 << 32
"""More tokens than can have been given since a backup: at the pace of the writes, in years."""
RESTORED_RETRY_S = 60
LOOK_MS = 1000
"""How often all rows of a full table are looked at."""

log = logs.logger()


class Row(msgspec.Struct, frozen=True):
    """An account's lease as the book has it. `ttl_ms` is how long the last grant lasts; 0 in rows of older hubs."""

    holder: bytes
    token: int
    expires_ms: int
    ttl_ms: int


class Granted(msgspec.Struct, frozen=True):
    token: int
    expires_in_s: int


class Taken(msgspec.Struct, frozen=True):
    """Another holder has it, for so long."""

    holder: bytes
    for_s: int


class Ended(msgspec.Struct, frozen=True):
    """What should be renewed or released is not held any more."""


def decide(row: Row | None, asked: lease.Request, *, left_ms: int, counter: int) -> Granted | Taken | Ended:
    """The whole rule. `left_ms` is how long the row may still be relied on, `counter` the highest token the hub has given to any account."""
    live = row is not None and left_ms > 0
    if row is not None and live and row.holder != asked.holder:
        return Taken(row.holder, -(-left_ms // 1000))
    mine = row if live else None
    if asked.action == "acquire":
        token = _next(row, asked, counter) if mine is None or mine.token < asked.last_token else mine.token
        return Granted(token, asked.ttl_s)
    if mine is None or mine.token != asked.last_token:
        return Ended()
    return Granted(mine.token, asked.ttl_s if asked.action == "renew" else 0)


def _next(row: Row | None, asked: lease.Request, counter: int) -> int:
    return max(counter, 0 if row is None else row.token, asked.last_token) + 1


Key = tuple[int, bytes]
"""Chain and account."""


class Watch:
    """Since when this process has seen each row as it is. Times are milliseconds of its own monotonic clock."""

    def __init__(self) -> None:
        self._seen: dict[Key, tuple[Row, int]] = {}

    def left_ms(self, key: Key, row: Row, *, now_ms: int, mark_ms: int) -> int:
        """How long a row of the book may still be relied on. `mark_ms` is the book's mark; only rows of older hubs need it."""
        if row.expires_ms == 0:
            return 0
        seen = self._seen.get(key)
        if seen is None or seen[0] != row:
            seen = (row, now_ms + max(row.ttl_ms, row.expires_ms - mark_ms))
            self._seen[key] = seen
        return max(0, seen[1] - now_ms)

    def granted(self, key: Key, row: Row, *, now_ms: int) -> None:
        """Ours, and committed: seen at the moment at which it was decided."""
        self._seen[key] = (row, now_ms + row.ttl_ms)

    def rows(self) -> dict[Key, Row]:
        """As they were seen last."""
        return {key: row for key, (row, _) in self._seen.items()}

    def live(self, key: Key, *, now_ms: int) -> Row | None:
        """The row as it was seen last, while it lasts."""
        row, until_ms = self._seen.get(key, (None, 0))
        return row if now_ms < until_ms else None

    def keep(self, keys: set[Key]) -> None:
        """Forget rows that are not in the book any more."""
        for key in self._seen.keys() - keys:
            del self._seen[key]


class _Waits(msgspec.Struct, frozen=True):
    """Nothing is acquired until then, because of this restore or setback. The database may lose the note of one and count the next one alike."""

    of: backups.Restored
    until_ms: int


class Desk:
    """Takes requests for leases."""

    def __init__(
        self,
        the_book: book.Book,
        wires: Wires,
        clerk: receipts.Clerk,
        *,
        accounts: frozenset[bytes] | None,
        clock: runtime.Clock,
        metrics: Metrics,
    ) -> None:
        self._accounts = accounts
        self._book = the_book
        self._wires = wires
        self._clerk = clerk
        self._clock = clock
        self._watch = Watch()
        self._look_again_ms = 0
        self._waits: _Waits | None = None
        self._clock_mark = self._token_mark = 0  # the highest this process has seen committed
        self._metrics = metrics
        self._buckets = limits.Buckets(RATE, most=MAX_SOURCES)

    async def ask(self, data: bytes, *, source: str) -> lease.SignedGrant | Refused:
        """`source` is the sender as far as it can be told."""
        answer = await self._ask(data, source)
        self._metrics.leases.labels(answer.title.replace(" ", "_") if isinstance(answer, Refused) else "granted").inc()
        return answer

    async def _ask(self, data: bytes, source: str) -> lease.SignedGrant | Refused:
        read = read_request(data, self._wires.seats, now_s=int(self._clock.now()))
        account = b"" if isinstance(read, Refused) else read[0].account
        listed = account in (self._accounts or ())
        # Who is listed and has signed is told from others at the same address; those are not, since anybody can make keys.
        asking = source.encode() + (account if listed else b"")
        wait_s = self._buckets.take(asking, now_s=self._clock.monotonic())
        if wait_s:
            return Refused(429, "too many requests", "leases are asked for too fast", retry_after_s=wait_s)
        if isinstance(read, Refused):
            return read
        asked, digest = read
        if self._accounts is not None and not listed:
            return Refused(403, "account not listed", "leases.accounts of this hub does not list the account")
        outcome, number = await self._settle(asked, source)
        match outcome:
            case Refused():
                return outcome
            case Ended():
                return Refused(409, "lease ended", "this holder does not have the lease under this token; acquire it")
            case Taken(holder, for_s):
                return Refused(
                    409,
                    "lease held",
                    f"holder {lease.shown(holder)} has this account for {for_s} more seconds",
                    retry_after_s=max(1, for_s),
                )
            case Granted(token, expires_in_s):
                grant = lease.Grant(digest, asked.account, asked.holder, token, expires_in_s)
            case _:
                assert_never(outcome)
        deployment = self._wires.seats.deployment
        grant_digest = lease.grant_digest(grant, chain_id=asked.chain_id, deployment=deployment)
        signature = await self._clerk.vouch(grant_digest, self._wires.seats, number=number + 1)
        return lease.grant_to_wire(grant, chain_id=asked.chain_id, deployment=deployment, signature=signature)

    async def _settle(self, asked: lease.Request, source: str) -> tuple[Granted | Taken | Ended | Refused, int]:
        """What the book says, and the highest receipt number (which chooses the key that vouches)."""
        waits = self._waits
        try:
            return await self._settled(asked, source)
        except BaseException:
            self._waits = waits  # what was noted and written again may not have been committed
            raise

    async def _settled(self, asked: lease.Request, source: str) -> tuple[Granted | Taken | Ended | Refused, int]:
        wall_s = int(self._clock.now())
        key, after = (asked.chain_id, asked.account), None
        async with self._book.write() as c:
            number = await receipts.highest(c)
            now_ms = self._now_ms()
            await self._catch_up(c, key, now_ms=now_ms, wall_s=wall_s)
            refused = await _note(c, asked, wall_s)
            if refused is not None:
                return refused, number
            wait_ms = await self._wait_ms(c, now_ms=now_ms, wall_s=wall_s)
            if wait_ms and asked.action == "acquire":
                return _restored_lately(wait_ms), number
            mark_ms, counter = await _mark(c, "lease_clock"), await _mark(c, "lease_token")
            row = await _row(c, key)
            if row is None and not await self._room(c, source, now_ms=now_ms, mark_ms=mark_ms):
                return Refused(503, "too many leases", "no more accounts fit", retry_after_s=FULL_RETRY_S), number
            left_ms = 0 if row is None else self._watch.left_ms(key, row, now_ms=now_ms, mark_ms=mark_ms)
            outcome = decide(row, asked, left_ms=left_ms, counter=counter)
            if isinstance(outcome, Granted):
                mark_ms = max(mark_ms + 1, await self._wall_ms(c))
                after = _after(asked, outcome, mark_ms=mark_ms)
                await _put_mark(c, "lease_clock", mark_ms)
                await _save(c, key, row, after)
                if row is None or row.token != outcome.token:
                    counter += 1
                    await _put_mark(c, "lease_token", counter)
            faults.point("hub.before_commit")
        faults.point("hub.after_commit")
        self._clock_mark, self._token_mark = max(self._clock_mark, mark_ms), max(self._token_mark, counter)
        if after is not None:
            self._watch.granted(key, after, now_ms=now_ms)
        if after is not None and (row is None or row.token != after.token):
            log.info(
                "hub.lease",
                chain=asked.chain_id,
                account=asked.account,
                holder=lease.shown(asked.holder),
                token=after.token,
            )
        return outcome, number

    async def recall(self) -> None:
        """Look at every row, so that leases of dead holders end one lease's time from now."""
        wall_s = int(self._clock.now())
        async with self._book.write() as c:
            now_ms = self._now_ms()
            await self._catch_up(c, None, now_ms=now_ms, wall_s=wall_s)
            await self._wait_ms(c, now_ms=now_ms, wall_s=wall_s)
            mark_ms, counter = await _mark(c, "lease_clock"), await _mark(c, "lease_token")
            await self._look(c, now_ms=now_ms, mark_ms=mark_ms)
        self._clock_mark, self._token_mark = mark_ms, counter

    async def _catch_up(self, c: book.Connection, key: Key | None, *, now_ms: int, wall_s: int) -> None:
        """Note it when the database went back, and go on above what this process remembers."""
        moved = await setbacks.moved(c)
        clock, counter = await _mark(c, "lease_clock"), await _mark(c, "lease_token")
        behind = clock < self._clock_mark or counter < self._token_mark
        remembered = None if key is None else self._watch.live(key, now_ms=now_ms)
        if key is not None and remembered is not None:
            stored = await _row(c, key)
            # One that is missing may have made room at another process, which saw it end a little earlier.
            behind = behind or (stored is not None and _older(stored, remembered))
            await _again(c, key, stored, remembered)
        if behind:
            await _put_mark(c, "lease_clock", max(clock, self._clock_mark))
            await _put_mark(c, "lease_token", max(counter, self._token_mark))
        if moved or behind:
            await setbacks.note(c, at_s=wall_s)
            self._waits = None

    async def _look(self, c: book.Connection, *, now_ms: int, mark_ms: int) -> list[Key]:
        """Every row; the answer is those whose time is over."""
        rows = {(found.chain_id, found.account): _read(found) for found in await c.execute(sa.select(tables.lease))}
        self._watch.keep(set(rows))
        return [key for key, row in rows.items() if not self._watch.left_ms(key, row, now_ms=now_ms, mark_ms=mark_ms)]

    async def _room(self, c: book.Connection, source: str, *, now_ms: int, mark_ms: int) -> bool:
        """Whether one more account fits, after leases that ended have made room. Accounts of the settings always fit; of the others,
        those that come without a token leave half of the room to those with one."""
        if self._accounts is not None:
            return True
        table = tables.lease
        count = await c.scalar(sa.select(sa.func.count()).select_from(table)) or 0
        if count < (MAX_LEASES if bodies.by_token(source) else MAX_LEASES // 2):
            return True
        if now_ms < self._look_again_ms:
            return False
        self._look_again_ms = now_ms + LOOK_MS
        over = await self._look(c, now_ms=now_ms, mark_ms=mark_ms)
        for chain_id, account in over:
            await c.execute(table.delete().where(table.c.chain_id == chain_id, table.c.account == account))
        return bool(over)

    async def _wait_ms(self, c: book.Connection, *, now_ms: int, wall_s: int) -> int:
        """How long nothing is acquired yet. What this process remembers and the book does not is written again. When it is over, that is
        kept, with tokens that go on far above those of before."""
        restored = await setbacks.pending(c)
        if restored is None:
            self._waits = None
            return 0
        if self._waits is None or self._waits.of != restored:
            self._waits = _Waits(restored, now_ms + RESTORED_MS)
            log.warning("hub.restored", taken_at_s=restored.taken_at_s, no_new_lease_for_s=RESTORED_MS // 1000)
            for key, row in self._watch.rows().items():
                await _again(c, key, await _row(c, key), row)
        if now_ms < self._waits.until_ms:
            return self._waits.until_ms - now_ms
        await _put_mark(c, "lease_token", await _mark(c, "lease_token") + RESTORED_STEP)
        await setbacks.over(c, restored.number, at_s=wall_s)
        return 0

    def _now_ms(self) -> int:
        return int(self._clock.monotonic() * 1000)

    async def _wall_ms(self, c: book.Connection) -> int:
        if c.dialect.name != "postgresql":
            return int(self._clock.now() * 1000)
        now = await c.scalar(sa.text("SELECT CAST(floor(extract(epoch FROM clock_timestamp()) * 1000) AS bigint)"))
        return int(now)


def _restored_lately(wait_ms: int) -> Refused:
    return Refused(
        503,
        "restored lately",
        f"this hub's book went back (a restore, or a failover) and may have forgotten a lease: none is granted for {-(-wait_ms // 1000)} more seconds",
        retry_after_s=min(RESTORED_RETRY_S, -(-wait_ms // 1000)),
    )


def _after(asked: lease.Request, granted: Granted, *, mark_ms: int) -> Row:
    ttl_ms = 1000 * granted.expires_in_s
    return Row(asked.holder, granted.token, mark_ms + ttl_ms if ttl_ms else 0, 1000 * asked.ttl_s)


def read_request(data: bytes, seats: Seats, *, now_s: int) -> tuple[lease.Request, bytes] | Refused:
    """The request and its digest, when its form, deployment, chain, time and signature are right."""
    deployment = seats.deployment
    signed = ingest.parse(data, lease.SignedRequest, what="the lease request")
    if isinstance(signed, Refused):
        return signed
    try:
        named = hashing.unhex_lower(signed.deployment, size=32, what="deployment")
        asked = lease.request_from_wire(signed)
        signature = hashing.unhex_lower(signed.signature, size=65, what="signature")
        digest = lease.request_digest(asked, deployment=deployment)
        signer = signatures.recover(digest, signature)
    except errors.BadAnswer as error:
        return ingest.malformed(error.what.split(" ", 1)[0], str(error))
    if named != deployment:
        return Refused(409, "wrong deployment", "this hub serves another deployment", field="deployment")
    if all(chain.id != asked.chain_id for chain in seats.document.chains):
        return Refused(409, "unknown chain", "the deployment document does not list this chain", field="chainId")
    if signer != asked.account:
        return Refused(401, "wrong signature", "the account's own key did not sign this", field="signature")
    if abs(asked.issued_at_s - now_s) > lease.SKEW_S:
        return Refused(
            400,
            "clocks differ",
            f"the request is of second {asked.issued_at_s}, here it is {now_s}; at most {lease.SKEW_S} apart",
            field="lease.issuedAt",
        )
    return asked, digest


async def _note(c: book.Connection, asked: lease.Request, wall_s: int) -> Refused | None:
    """Keep the request's time; refuse one that is not newer than the holder's last."""
    table = tables.lease_seen
    at_s = table.c.issued_at_s
    await c.execute(table.delete().where(sa.or_(at_s < wall_s - FORGET_S, at_s > wall_s + FORGET_S)))
    of_account = sa.and_(table.c.chain_id == asked.chain_id, table.c.account == asked.account)
    rows = (await c.execute(sa.select(table.c.holder, table.c.issued_at_s).where(of_account))).all()
    seen = {row.holder: row.issued_at_s for row in rows}
    last = seen.get(asked.holder)
    if last is not None and asked.issued_at_s <= last:
        return Refused(
            409, "request repeated", f"a request of second {last} was taken; send a newer one", retry_after_s=1
        )
    if last is None and len(seen) >= MAX_HOLDERS:
        return Refused(
            429, "too many holders", "this account is asked for by too many holders", retry_after_s=FULL_RETRY_S
        )
    if last is None:
        await c.execute(
            table.insert().values(
                chain_id=asked.chain_id, account=asked.account, holder=asked.holder, issued_at_s=asked.issued_at_s
            )
        )
    else:
        where = sa.and_(of_account, table.c.holder == asked.holder)
        await c.execute(table.update().where(where).values(issued_at_s=asked.issued_at_s))
    return None


def _older(stored: Row | None, remembered: Row) -> bool:
    return stored is None or stored.token < remembered.token


async def _again(c: book.Connection, key: Key, stored: Row | None, remembered: Row) -> None:
    """Write what the book has forgotten."""
    if _older(stored, remembered):
        await _save(c, key, stored, remembered)


def _of(key: Key) -> sa.ColumnElement[bool]:
    return sa.and_(tables.lease.c.chain_id == key[0], tables.lease.c.account == key[1])


async def _row(c: book.Connection, key: Key) -> Row | None:
    found = (await c.execute(sa.select(tables.lease).where(_of(key)))).one_or_none()
    return None if found is None else _read(found)


def _read(found: sa.Row[Any]) -> Row:
    return Row(found.holder, found.token, found.expires_ms, found.ttl_ms)


async def _save(c: book.Connection, key: Key, before: Row | None, after: Row) -> None:
    table = tables.lease
    if before is not None and after.token < before.token:
        raise errors.StoreError("a lease's token would go back", value=(before.token, after.token))
    values = {"holder": after.holder, "token": after.token, "expires_ms": after.expires_ms, "ttl_ms": after.ttl_ms}
    if before is None:
        await c.execute(table.insert().values(chain_id=key[0], account=key[1], **values))
        return
    changed = await c.execute(table.update().where(_of(key), table.c.token == before.token).values(**values))
    if changed.rowcount != 1:
        raise errors.Transient("the lease changed hands meanwhile", retry_after_s=1)


async def _mark(c: book.Connection, name: str) -> int:
    return int.from_bytes(await book.meta(c, name) or b"", "big")


async def _put_mark(c: book.Connection, name: str, value: int) -> None:
    await book.put_meta(c, name, value.to_bytes(8, "big"))
