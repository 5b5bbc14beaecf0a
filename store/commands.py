"""What people did: one row each, with who, when, why and what changed. In: a person's wish. Out: done, or refused and why.

Every verb checks its own preconditions and writes its command in the transaction of its effect, so neither is ever there without the
other. A refusal is a value. Whether the person may do it at all (the role) is the caller's question; that nobody approves what they
proposed is asked here, because the rows know.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Literal, get_args

import msgspec
import sqlalchemy as sa

from domain import errors, hashing
from domain import intent as domain_intent
from kit import backups, logs
from store import backup, intents, latches
from store.connection import Connection
from store.staking import command, progress
from store.tables import gap

Kind = Literal[
    "propose",
    "approve",
    "reject",
    "cancel",
    "settle",
    "pause",
    "resume",
    "clear-latch",
    "adopt-gap",
    "accept-restored",
    "principal-add",
    "principal-rotate",
    "principal-revoke",
    "rederive",
    "reindex",
    "restore",
]
KINDS: tuple[Kind, ...] = get_args(Kind)
log = logs.logger()
LONGEST_REASON = 500
PAUSABLE = "submit"
"""The subject of pause and resume: the staking belt's new reservations and signatures."""
RESTORED = ("submit.restored", "submit.nonces")
"""The latches that accepting a restored book clears."""


class Command(msgspec.Struct, frozen=True):
    """`before` and `after`: JSON objects with what changed only."""

    id: int
    at_s: int
    principal: str
    kind: str
    subject: str
    reason: str
    before: str
    after: str
    payload_hash: bytes | None


class Done(msgspec.Struct, frozen=True):
    """`fresh` is False when it had been done before and this changed nothing: then `command_id` is the first one's (0: unknown)."""

    command_id: int
    fresh: bool = True


class Refused(msgspec.Struct, frozen=True):
    """`code` is for programs, `why` for people."""

    code: str
    why: str


async def add(
    c: Connection,
    *,
    principal: str,
    kind: Kind,
    subject: str,
    reason: str,
    at_s: float,
    before: Mapping[str, object] | None = None,
    after: Mapping[str, object] | None = None,
    payload_hash: bytes | None = None,
) -> int:
    """The row's id. Of `before` and `after` only what differs is kept. Raises StoreError for a reason that `reason_refused` refuses."""
    if (refused := reason_refused(reason)) is not None:
        raise errors.StoreError(refused.why, value=errors.clip(reason))
    was, is_ = dict(before or {}), dict(after or {})
    same = {key for key in was.keys() & is_.keys() if was[key] == is_[key]}
    texts = [
        hashing.canonical_json({key: value for key, value in side.items() if key not in same}).decode()
        for side in (was, is_)
    ]
    row = {
        "at_s": int(at_s), "principal": principal, "kind": kind, "subject": subject, "reason": reason,
        "before": texts[0], "after": texts[1], "payload_hash": payload_hash,
    }  # fmt: skip
    return int(await c.scalar(command.insert().values(**row).returning(command.c.id)))


async def list_(
    c: Connection, *, before: int | None = None, limit: int, kind: str | None = None, subject: str | None = None
) -> list[Command]:
    """Newest first; `before` is the id that the last page ended with."""
    query = sa.select(command).order_by(command.c.id.desc()).limit(limit)
    if before is not None:
        query = query.where(command.c.id < before)
    if kind is not None:
        query = query.where(command.c.kind == kind)
    if subject is not None:
        query = query.where(command.c.subject == subject)
    return [Command(*row) for row in await c.rows(query)]


async def approvals(
    c: Connection, intent: bytes, payload_hash: bytes, *, now_s: float | None = None, ttl_s: float | None = None
) -> list[Command]:
    """One for each principal, oldest first: for this payload, given after any rejection, and with `now_s` and `ttl_s` not older than that.
    The word of somebody who was revoked afterwards counts no more; a rotated token is the same person's."""
    query = sa.select(command).where(
        command.c.subject == hashing.hex0x(intent), command.c.kind.in_(("approve", "reject"))
    )
    found: dict[str, Command] = {}
    revoked = await _revoked(c)
    for row in await c.rows(query.order_by(command.c.id)):
        item = Command(*row)
        name = item.principal.casefold()
        if item.kind == "reject":
            found.clear()
        elif item.payload_hash == payload_hash and not _old(item, now_s=now_s, ttl_s=ttl_s):
            if revoked.get(name, 0) < item.id:  # whoever was let in again since may approve again
                found.setdefault(name, item)
    return list(found.values())


async def _revoked(c: Connection) -> dict[str, int]:
    """The last command that revoked each name."""
    query = sa.select(command.c.subject, command.c.id).where(command.c.kind == "principal-revoke")
    return {name.casefold(): number for name, number in await c.rows(query.order_by(command.c.id))}


async def paused(c: Connection, *, now_s: float | None = None) -> Command | None:
    """The last pause, unless a resume came after it, or (with `now_s`) its own end has passed."""
    query = sa.select(command).where(command.c.kind.in_(("pause", "resume"))).order_by(command.c.id.desc()).limit(1)
    row = await c.row(query)
    if row is None or row.kind == "resume":
        return None
    item = Command(*row)
    until = paused_until(item)
    return None if until is not None and now_s is not None and now_s >= until else item


def paused_until(pause: Command) -> int | None:
    """When a pause ends by itself; None: when somebody resumes."""
    return msgspec.json.decode(pause.after, type=dict[str, object]).get("until_s")  # type: ignore[return-value]


def why_paused(pause: Command) -> str:
    """In words: who waits for it is told how long."""
    return f"paused{ends(paused_until(pause))}: {pause.reason}"


def ends(until_s: int | None) -> str:
    """` until …`, or nothing for what only a person ends."""
    return "" if until_s is None else time.strftime(" until %Y-%m-%d %H:%M:%S UTC", time.gmtime(until_s))


async def cancelled(c: Connection, intent: bytes) -> Command | None:
    """The wish to give an intent up that holds a nonce; whether it succeeds is the chain's to say."""
    found = await list_(c, limit=1, kind="cancel", subject=hashing.hex0x(intent))
    return found[0] if found else None


async def adopted(c: Connection, gap_id: int) -> Command | None:
    """That a person accepted this very gap: the range counts, since a book that was indexed anew numbers its gaps anew."""
    row = await c.row(sa.select(gap.c.protocol, gap.c.first, gap.c.last).where(gap.c.id == gap_id))
    if row is None:
        return None
    same = {"accepted": True, "first": row.first, "last": row.last, "protocol": row.protocol}
    for item in await list_(c, limit=1000, kind="adopt-gap", subject=str(gap_id)):
        if msgspec.json.decode(item.after) == same:
            return item
    return None


async def propose(
    c: Connection, wanted: domain_intent.Intent, *, by: str, reason: str, at_s: float, expires_at_s: float
) -> Done | Refused:
    """Refused as `conflict` when the key is bound to another payload; not fresh when this very intent is there. Refused as `restored` while
    nobody accepted a restored book: it may have forgotten that the key was served."""
    if (refused := reason_refused(reason)) is not None:
        return refused
    if not 1 <= len(wanted.key) <= intents.LONGEST_KEY or not wanted.key.isprintable():
        return Refused("bad-key", f"a key has 1 to {intents.LONGEST_KEY} printable characters")
    if expires_at_s <= at_s:
        return Refused("bad-expiry", "the intent would have expired before it began")
    subject = hashing.hex0x(wanted.id)
    known = await intents.by_key(c, wanted.chain_id, wanted.account, wanted.key)
    if known is None and await _forgetful(c):
        return Refused(
            "restored",
            "this book was restored from a backup and nobody has accepted it yet: what was asked for since that backup may be done without being "
            "in it. Accept it first, and use a key from before only where the chain shows that nothing came of it",
        )
    try:
        _, created = await intents.put(c, wanted, proposer=by, reason=reason, at_s=at_s, expires_at_s=expires_at_s)
    except intents.Conflict as error:
        return Refused("conflict", f"{error.what}; {error.cure}")
    if not created:
        first = await list_(c, limit=1, kind="propose", subject=subject)
        return Done(first[0].id if first else 0, fresh=False)
    after = {
        "account": hashing.hex0x(wanted.account), "action": wanted.action, "arguments": dict(wanted.arguments),
        "key": wanted.key, "protocol": wanted.protocol, "state": "new",
    }  # fmt: skip
    made = await add(
        c, principal=by, kind="propose", subject=subject, reason=reason, at_s=at_s, after=after,
        payload_hash=wanted.payload_hash,
    )  # fmt: skip
    return Done(made)


async def approve(
    c: Connection, id: bytes, *, payload_hash: bytes, by: str, reason: str, at_s: float, ttl_s: float | None = None
) -> Done | Refused:
    """For exactly this payload, by somebody else than the proposer, once as long as it counts."""
    found = await _decidable(c, id, reason=reason, at_s=at_s)
    if isinstance(found, Refused):
        return found
    if found.payload_hash != payload_hash:
        return Refused("other-payload", "the approval is for another payload than the intent's")
    if by.casefold() == found.proposer.casefold():
        return Refused("own-intent", f"{by} proposed it: somebody else has to approve it")
    standing = await approvals(c, id, payload_hash, now_s=at_s, ttl_s=ttl_s)
    names = [item.principal for item in standing]
    if by.casefold() in {name.casefold() for name in names}:
        return Refused("already-approved", f"{by} approved it already")
    made = await add(
        c, principal=by, kind="approve", subject=hashing.hex0x(id), reason=reason, at_s=at_s,
        before={"approvals": names}, after={"approvals": [*names, by]}, payload_hash=payload_hash,
    )  # fmt: skip
    await intents.timer(c, id, None)
    return Done(made)


async def reject(c: Connection, id: bytes, *, by: str, reason: str, at_s: float) -> Done | Refused:
    """Only while nothing is reserved for it; later there is `cancel`."""
    found = await _decidable(c, id, reason=reason, at_s=None)
    if isinstance(found, Refused):
        return found
    return await _give_up(c, found, kind="reject", to="rejected", by=by, reason=reason, at_s=at_s)


async def cancel(c: Connection, id: bytes, *, by: str, reason: str, at_s: float) -> Done | Refused:
    """At once while nothing is reserved for it; later a wish that the belt acts on, since only the chain can say who was first."""
    if (refused := reason_refused(reason)) is not None:
        return refused
    found = await intents.get(c, id)
    if found is None:
        return _unknown(id)
    if found.state in domain_intent.FINAL:
        return _final(found)
    if found.state in domain_intent.UNSENT:
        return await _give_up(c, found, kind="cancel", to="cancelled", by=by, reason=reason, at_s=at_s)
    if (earlier := await cancelled(c, id)) is not None:
        return Refused("already-cancelled", f"{earlier.principal} asked for it already; the chain decides")
    made = await add(
        c, principal=by, kind="cancel", subject=hashing.hex0x(id), reason=reason, at_s=at_s,
        before={"cancel": False}, after={"cancel": True}, payload_hash=found.payload_hash,
    )  # fmt: skip
    await intents.timer(c, id, None)
    return Done(made)


async def pause(c: Connection, *, by: str, reason: str, at_s: float, until_s: float | None = None) -> Done | Refused:
    """Nothing new is reserved or signed until somebody resumes, or until `until_s`. A later pause takes the place of the earlier one."""
    if (refused := reason_refused(reason)) is not None:
        return refused
    if until_s is not None and until_s <= at_s:
        return Refused("bad-until", "the pause would end before it began")
    before = await paused(c, now_s=at_s)
    was: dict[str, object] = {"paused": before is not None}
    if before is not None:
        was["until_s"] = paused_until(before)
    after = {"paused": True, "until_s": None if until_s is None else int(until_s)}
    # Kept whole: `paused_until` reads it, also when it is what it was before.
    made = await add(
        c, principal=by, kind="pause", subject=PAUSABLE, reason=reason, at_s=at_s,
        before={"was": was}, after=after,
    )  # fmt: skip
    return Done(made)


async def resume(c: Connection, *, by: str, reason: str, at_s: float) -> Done | Refused:
    if (refused := reason_refused(reason)) is not None:
        return refused
    if await paused(c, now_s=at_s) is None:
        return Refused("not-paused", "nothing is paused")
    made = await add(
        c, principal=by, kind="resume", subject=PAUSABLE, reason=reason, at_s=at_s,
        before={"paused": True}, after={"paused": False},
    )  # fmt: skip
    return Done(made)


async def clear_latch(c: Connection, name: str, *, by: str, reason: str, at_s: float) -> Done | Refused:
    """What the latch's reason tells is accepted with it: of `submit.nonces` the chain's count of transactions."""
    if (refused := reason_refused(reason)) is not None:
        return refused
    latch = next((one for one in await latches.active(c) if one.name == name), None)
    if latch is None:
        later = name == backup.LATCH and await backup.restored(c) is not None
        advice = (
            ": the agent sets it when it starts; then compare the book with the chain and clear it" if later else ""
        )
        return Refused("not-set", f"no latch {errors.clip(name)} is set{' yet' if later else ''}{advice}")
    if name == backup.LATCH:
        await _forget(c, at_s=at_s)
    await latches.clear(c, name, by=by, at_s=at_s)
    made = await add(
        c, principal=by, kind="clear-latch", subject=name, reason=reason, at_s=at_s,
        before={"set": True, "why": latch.reason}, after={"set": False},
    )  # fmt: skip
    return Done(made)


async def adopt_gap(c: Connection, gap_id: int, *, by: str, reason: str, at_s: float) -> Done | Refused:
    """Accept that a range is taken from what others signed, since this node cannot serve it."""
    if (refused := reason_refused(reason)) is not None:
        return refused
    row = await c.row(sa.select(gap.c.protocol, gap.c.first, gap.c.last, gap.c.closed_by).where(gap.c.id == gap_id))
    if row is None:
        return Refused("unknown", f"there is no gap {gap_id}")
    if row.closed_by is not None:
        return Refused("closed", f"gap {gap_id} is closed already")
    if (earlier := await adopted(c, gap_id)) is not None:
        return Refused("already-adopted", f"{earlier.principal} accepted gap {gap_id} already")
    made = await add(
        c, principal=by, kind="adopt-gap", subject=str(gap_id), reason=reason, at_s=at_s,
        before={"accepted": False},
        after={"accepted": True, "first": row.first, "last": row.last, "protocol": row.protocol},
    )  # fmt: skip
    return Done(made)


async def accept_restored(c: Connection, *, by: str, reason: str, at_s: float) -> Done | Refused:
    """Submission may go on with a book that came from a backup, above the nonces that the chain has seen."""
    if (refused := reason_refused(reason)) is not None:
        return refused
    set_ = [latch for latch in await latches.active(c) if latch.name in RESTORED]
    forgetful = await _forgetful(c)
    if not set_ and not forgetful:
        return Refused(
            "not-restored", f"the book was not restored, and none of the latches {', '.join(RESTORED)} is set"
        )
    for latch in set_:
        await latches.clear(c, latch.name, by=by, at_s=at_s)
    if forgetful:
        await _forget(c, at_s=at_s)
    await backup.accept_restored(c, by=by, at_s=at_s)
    made = await add(
        c, principal=by, kind="accept-restored", subject="book", reason=reason, at_s=at_s,
        before={"latches": {latch.name: latch.reason for latch in set_}}, after={"latches": {}},
    )  # fmt: skip
    return Done(made)


async def restored(c: Connection, found: backup.Restored, *, by: str, reason: str) -> Done | Refused:
    """That somebody made this book from a backup: its first command that the backup does not have."""
    if (refused := reason_refused(reason)) is not None:
        return refused
    made = await add(
        c, principal=by, kind="restore", subject="book", reason=reason, at_s=found.restored_at_s,
        before={"restored": found.number - 1},
        after={"digest": found.digest, "restored": found.number, "taken_at_s": found.taken_at_s},
    )  # fmt: skip
    return Done(made)


def restoring(*, by: str, reason: str) -> backups.Also:
    """`restored`, in the transaction that makes the book."""

    async def write(sync: sa.Connection, found: backup.Restored) -> None:
        await restored(Connection(sync), found, by=by, reason=reason)

    return write


async def _forgetful(c: Connection) -> bool:
    """Whether nobody accepted yet that this book is older than what was done: `restore` wrote so, or the hub's receipts showed it."""
    return await backup.restored(c) is not None or any(one.name == backup.LATCH for one in await latches.active(c))


async def _forget(c: Connection, *, at_s: float) -> None:
    """What is not yet reserved in a book that forgot may be done, whenever it was proposed: nobody but a person can tell, who proposes it again."""
    why = "it was proposed before the restored book was accepted and may be done: propose it again under another key"
    waiting = sa.select(progress.c.intent, progress.c.state).where(progress.c.state.in_(sorted(domain_intent.UNSENT)))
    for row in await c.rows(waiting.order_by(progress.c.intent)):
        try:
            async with c.savepoint():
                await intents.move(c, row.intent, expect=row.state, to="expired", why=why, at_s=at_s)
        except errors.Unusable:
            raise
        except errors.StoreError as error:
            # Damaged: no stage decides about it either, and all the others must not wait for it.
            log.error("intent.refused", intent=hashing.hex0x(row.intent), error=str(error))


def reason_refused(reason: str) -> Refused | None:
    """Every change needs one: printable, not blank, and without a token."""
    if not reason.strip():
        return Refused("bad-reason", "a reason is required")
    if len(reason) > LONGEST_REASON or not reason.isprintable():
        return Refused("bad-reason", f"a reason has 1 to {LONGEST_REASON} printable characters, on one line")
    if logs.hide_tokens(reason) != reason:
        return Refused(
            "bad-reason", "the reason holds a token, which would stay in the book: leave it out, and rotate it"
        )
    return None


async def _decidable(c: Connection, id: bytes, *, reason: str, at_s: float | None) -> intents.Stored | Refused:
    """An intent that a person can still decide about; with `at_s`, also one that has not run out."""
    if (refused := reason_refused(reason)) is not None:
        return refused
    found = await intents.get(c, id)
    if found is None:
        return _unknown(id)
    if found.state in domain_intent.FINAL:
        return _final(found)
    if found.state not in domain_intent.UNSENT:
        return Refused("too-late", f"the intent is {found.state}: a nonce and a part of the budget belong to it")
    if at_s is not None and at_s >= found.expires_at_s:
        return Refused("expired", "the intent has expired")
    return found


async def _give_up(
    c: Connection, found: intents.Stored, *, kind: Literal["reject", "cancel"], to: domain_intent.State, by: str,
    reason: str, at_s: float,
) -> Done:  # fmt: skip
    await intents.move(c, found.id, expect=found.state, to=to, why=f"{by}: {reason}", at_s=at_s)
    made = await add(
        c, principal=by, kind=kind, subject=hashing.hex0x(found.id), reason=reason, at_s=at_s,
        before={"state": found.state}, after={"state": to}, payload_hash=found.payload_hash,
    )  # fmt: skip
    return Done(made)


def _old(approval: Command, *, now_s: float | None, ttl_s: float | None) -> bool:
    return now_s is not None and ttl_s is not None and approval.at_s + ttl_s <= now_s


def _unknown(id: bytes) -> Refused:
    return Refused("unknown", f"there is no intent {hashing.hex0x(id)}")


def _final(found: intents.Stored) -> Refused:
    return Refused("final", f"the intent is {found.state}: nothing can be changed any more")
