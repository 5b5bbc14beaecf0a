"""Intents and how far each has come. In: what a person wants, and moves of the state machine. Out: both as they stand, and the history.

An intent never changes; its progress does, only along `domain.intent.MOVES`, and every move is also a row. A move is checked against
the rows it stands for (`store.soundness`) before it is committed, so the state can be trusted wherever it is read.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import msgspec
import sqlalchemy as sa

from domain import errors, hashing
from domain import intent as domain_intent
from domain.intent import Intent, State
from kit import columns, logs
from store import soundness
from store.connection import AnyRow, AnySelect, Connection
from store.staking import intent, progress, transition

LONGEST_KEY = 200


class Conflict(errors.StakesideError):
    """The key is bound to another payload."""


class Stored(msgspec.Struct, frozen=True):
    """`position` is the order of proposing. `next_s` None: look at every turn."""

    position: int
    intent: Intent
    id: bytes
    payload_hash: bytes
    proposer: str
    reason: str
    proposed_at_s: int
    expires_at_s: int
    state: State
    why: str
    changed_at_s: int
    next_s: int | None
    moves: int


class Transition(msgspec.Struct, frozen=True):
    """`number` counts from 1."""

    number: int
    from_state: State
    to_state: State
    why: str
    at_s: int


async def put(
    c: Connection, wanted: Intent, *, proposer: str, reason: str, at_s: float, expires_at_s: float
) -> tuple[Stored, bool]:
    """The stored intent, and whether it is new: the same key with the same payload is the intent that is there already.

    Raises Conflict for another payload under the key, StoreError for a key that no book can hold."""
    found = await by_key(c, wanted.chain_id, wanted.account, wanted.key)
    if found is not None:
        if found.payload_hash != wanted.payload_hash:
            raise Conflict(
                "the key is bound to another payload",
                value=wanted.key,
                cure="use a new key for a new intent, or repeat the first one exactly",
            )
        return found, False
    if not 1 <= len(wanted.key) <= LONGEST_KEY or not wanted.key.isprintable():
        raise errors.StoreError(
            f"an intent's key has 1 to {LONGEST_KEY} printable characters", value=errors.clip(wanted.key)
        )
    arguments = hashing.canonical_json(dict(wanted.arguments)).decode()
    row = {
        "id": wanted.id, "chain_id": wanted.chain_id, "account": wanted.account, "key": wanted.key,
        "payload_hash": wanted.payload_hash, "protocol": wanted.protocol, "action": wanted.action, "arguments": arguments,
        "proposer": proposer, "reason": reason, "proposed_at_s": int(at_s), "expires_at_s": int(expires_at_s),
    }  # fmt: skip
    await c.change(intent.insert().values(**row))
    first = {"intent": wanted.id, "state": "new", "why": "", "changed_at_s": int(at_s), "next_s": None, "moves": 0}
    await c.change(progress.insert().values(**first))
    stored = await get(c, wanted.id)
    assert stored is not None
    return stored, True


async def get(c: Connection, id: bytes) -> Stored | None:
    row = await c.row(_select().where(intent.c.id == id))
    return None if row is None else _stored(row)


async def by_key(c: Connection, chain_id: int, account: bytes, key: str) -> Stored | None:
    query = _select().where(
        intent.c.chain_id == chain_id, intent.c.account == account, intent.c.key == columns.clean(key)
    )
    row = await c.row(query)
    return None if row is None else _stored(row)


async def in_states(
    c: Connection, states: Collection[State], *, account: bytes | None = None, limit: int, after: int | None = None
) -> list[Stored]:
    """Oldest first; `after` is the `position` that the last page ended with."""
    query = _select().where(progress.c.state.in_(sorted(states))).order_by(intent.c.position).limit(limit)
    if account is not None:
        query = query.where(intent.c.account == account)
    if after is not None:
        query = query.where(intent.c.position > after)
    return [_stored(row) for row in await c.rows(query)]


async def due(
    c: Connection, states: Collection[State], now_s: float, limit: int, *, apart_from: Collection[bytes] = ()
) -> list[bytes]:
    """The ids of those whose timer has passed or that have none: longest waiting first, without a timer before all, then oldest first. Ids,
    so that one that cannot be read is known by its name."""
    ready = sa.or_(progress.c.next_s.is_(None), progress.c.next_s <= int(now_s))
    query = sa.select(progress.c.intent).join(intent, intent.c.id == progress.c.intent)
    query = query.where(progress.c.state.in_(sorted(states)), ready, progress.c.intent.not_in(sorted(apart_from)))
    query = query.order_by(sa.func.coalesce(progress.c.next_s, -1), intent.c.position).limit(limit)
    return [row.intent for row in await c.rows(query)]


async def move(
    c: Connection,
    id: bytes,
    *,
    expect: State,
    to: State,
    why: str,
    at_s: float,
    next_s: float | None = None,
    known: Collection[bytes] = (),
) -> None:
    """Write the rows that the new state stands for first, then move, in one transaction: what is missing is refused here. `known` are hashes
    in `why` that are to be read: any other could be a key, and is withheld.

    Raises StoreError when the state is not `expect`, when the machine has no such move, or when a row of `to` is missing."""
    row = await c.row(sa.select(progress.c.state, progress.c.moves).where(progress.c.intent == id))
    if row is None:
        raise errors.StoreError("there is no such intent", value=hashing.hex0x(id))
    if row.state != expect:
        raise errors.StoreError(
            f"the intent is {row.state}, not {expect}", value=hashing.hex0x(id), cure="read it again and decide anew"
        )
    if not domain_intent.may_move(expect, to):
        raise errors.StoreError(f"an intent never moves from {expect} to {to}", value=hashing.hex0x(id))
    why = logs.line(why, known=known)
    changed = {
        "state": to, "why": why, "changed_at_s": int(at_s), "next_s": None if next_s is None else int(next_s),
        "moves": row.moves + 1,
    }  # fmt: skip
    same = (progress.c.intent == id, progress.c.state == expect, progress.c.moves == row.moves)
    if await c.change(progress.update().where(*same).values(**changed)) != 1:
        raise errors.Transient("the intent moved meanwhile", value=hashing.hex0x(id))
    step = {"intent": id, "number": row.moves + 1, "from_state": expect, "to_state": to, "why": why, "at_s": int(at_s)}
    await c.change(transition.insert().values(**step))
    if problems := await soundness.problems(c, intent_id=id, moving=True):
        raise errors.StoreError(f"the intent cannot be {to}", value=problems, cure="write its rows before it moves")


async def timer(c: Connection, id: bytes, next_s: float | None) -> None:
    """When to look at it again."""
    value = None if next_s is None else int(next_s)
    if await c.change(progress.update().where(progress.c.intent == id).values(next_s=value)) != 1:
        raise errors.StoreError("there is no such intent", value=hashing.hex0x(id))


async def history(c: Connection, id: bytes) -> list[Transition]:
    names = [transition.c[name] for name in Transition.__struct_fields__]
    rows = await c.rows(sa.select(*names).where(transition.c.intent == id).order_by(transition.c.number))
    return [Transition(*row) for row in rows]


async def counts(c: Connection) -> dict[State, int]:
    """Every state, those without an intent too."""
    found = dict.fromkeys(domain_intent.STATES, 0)
    for row in await c.rows(sa.select(progress.c.state, sa.func.count()).group_by(progress.c.state)):
        found[_state(row[0])] = row[1]
    return found


async def audit(c: Connection) -> list[str]:
    """Every contradiction in the rows of the staking belt, in words; empty when the book is sound."""
    return await soundness.problems(c)


def _select() -> AnySelect:
    moving = [column for column in progress.columns if column.name != "intent"]
    return sa.select(intent, *moving).join(progress, progress.c.intent == intent.c.id)


def _stored(row: AnyRow) -> Stored:
    try:
        arguments = msgspec.json.decode(row.arguments, type=dict[str, str])
    except msgspec.MsgspecError:
        arguments = dict[str, str]()  # nobody's: every action has some, or the hash is another
    what = Intent(row.chain_id, row.account, row.key, row.protocol, row.action, arguments)
    if what.id != row.id or what.payload_hash != row.payload_hash:
        raise errors.StoreError(
            "a stored intent is not what its id says",
            value=hashing.hex0x(row.id),
            cure="restore the book from a backup",
        )
    values: Any = (row.why, row.changed_at_s, row.next_s, row.moves)
    return Stored(
        row.position, what, row.id, row.payload_hash, row.proposer, _reason(row), row.proposed_at_s, row.expires_at_s,
        _state(row.state), *values,
    )  # fmt: skip


def _reason(row: AnyRow) -> str:
    return str(row.reason)


def _state(text: str) -> State:
    if text not in domain_intent.STATES:
        raise errors.StoreError("the book has a state that this software does not know", value=text)
    return text
