"""Intents and people, as people look at them. In: filters and a place to go on from. Out: rows of `store.queries`."""

from __future__ import annotations

from collections.abc import Collection

import msgspec
import sqlalchemy as sa

from domain import hashing
from domain import intent as domain_intent
from store import attempts, decisions, event_rows, inclusions, latches, reservations, slots
from store import commands as command_rows
from store import intents as stored_intents
from store import principals as principal_rows
from store.connection import AnyRow, AnySelect, Connection
from store.staking import intent as intent_table
from store.staking import nonce_slot, progress


class IntentRow(msgspec.Struct, frozen=True):
    """An intent in a list. `nonce` is None before it is reserved; `position` is what pages go on from."""

    position: int
    id: bytes
    chain_id: int
    account: bytes
    key: str
    payload_hash: bytes
    protocol: str
    action: str
    arguments: dict[str, str]
    proposer: str
    reason: str
    proposed_at_s: int
    expires_at_s: int
    state: str
    why: str
    changed_at_s: int
    next_s: int | None
    moves: int
    nonce: int | None


class AttemptRow(msgspec.Struct, frozen=True):
    """A transaction of an intent, without its signature. `hash` is None before it is signed, `sends` 0 before it is sent."""

    number: int
    kind: str
    nonce: int
    tip: int
    max_fee: int
    gas: int
    to: bytes
    value_wei: int
    data: bytes
    effects: str
    frozen_at_s: int
    hash: bytes | None
    signed_at_s: int | None
    sends: int
    last_sent_s: int | None
    hint: str


class IntentDetail(msgspec.Struct, frozen=True):
    """All that is known of an intent, each list in the order it came about. `events`: what the chain's logs say of its inclusions."""

    intent: IntentRow
    commands: list[command_rows.Command]
    decisions: list[decisions.Decision]
    transitions: list[stored_intents.Transition]
    slot: slots.Slot | None
    reservation: reservations.Reservation | None
    attempts: list[AttemptRow]
    inclusions: list[inclusions.Inclusion]
    events: list[event_rows.EventRow]


class Belt(msgspec.Struct, frozen=True):
    """The staking belt in one look. `open_since_s`: when the oldest intent that is not final was proposed."""

    states: dict[str, int]
    open_since_s: int | None
    paused: command_rows.Command | None
    paused_until_s: int | None
    latches: list[latches.Latch]
    holding: dict[bytes, int]
    """By account: its intents that hold a nonce and are not final."""


async def belt(c: Connection, *, now_s: float) -> Belt:
    oldest = sa.select(sa.func.min(intent_table.c.proposed_at_s)).join(progress, progress.c.intent == intent_table.c.id)
    paused = await command_rows.paused(c, now_s=now_s)
    return Belt(
        states={str(state): count for state, count in (await stored_intents.counts(c)).items()},
        open_since_s=await c.scalar(oldest.where(progress.c.state.not_in(sorted(domain_intent.FINAL)))),
        paused=paused,
        paused_until_s=None if paused is None else command_rows.paused_until(paused),
        latches=[latch for latch in await latches.active(c) if latches.blocks_staking(latch)],
        holding=await slots.holding(c),
    )


async def intents(
    c: Connection,
    *,
    limit: int,
    before: int | None = None,
    states: Collection[str] | None = None,
    protocol: str | None = None,
    proposer: str | None = None,
) -> list[IntentRow]:
    """Newest first; `before` is the `position` that the last page ended with."""
    query = _intents().order_by(intent_table.c.position.desc()).limit(limit)
    if before is not None:
        query = query.where(intent_table.c.position < before)
    if states is not None:
        query = query.where(progress.c.state.in_(sorted(states)))
    if protocol is not None:
        query = query.where(intent_table.c.protocol == protocol)
    if proposer is not None:
        query = query.where(intent_table.c.proposer == proposer)
    return [_intent(row) for row in await c.rows(query)]


async def intent(c: Connection, id: bytes) -> IntentDetail | None:
    row = await c.row(_intents().where(intent_table.c.id == id))
    if row is None:
        return None
    found = await inclusions.of_intent(c, id)
    return IntentDetail(
        intent=_intent(row),
        commands=(await command_rows.list_(c, limit=1000, subject=hashing.hex0x(id)))[::-1],
        decisions=await decisions.for_intent(c, id),
        transitions=await stored_intents.history(c, id),
        slot=await slots.of_intent(c, id),
        reservation=await reservations.of_intent(c, id),
        attempts=await _attempts(c, id),
        inclusions=found,
        events=[event for one in found for event in await _events(c, one)],
    )


async def commands(
    c: Connection, *, limit: int, before: int | None = None, kind: str | None = None, subject: str | None = None
) -> list[command_rows.Command]:
    """Newest first; `before` is the id that the last page ended with."""
    return await command_rows.list_(c, before=before, limit=limit, kind=kind, subject=subject)


async def principals(c: Connection, *, ended: bool = False) -> list[principal_rows.Principal]:
    """Names and roles; nothing of a token."""
    return await principal_rows.list_(c, ended=ended)


def _intents() -> AnySelect:
    moving = [column for column in progress.columns if column.name != "intent"]
    return (
        sa.select(intent_table, *moving, nonce_slot.c.nonce)
        .join(progress, progress.c.intent == intent_table.c.id)
        .outerjoin(nonce_slot, nonce_slot.c.intent == intent_table.c.id)
    )


def _intent(row: AnyRow) -> IntentRow:
    values = {name: getattr(row, name) for name in IntentRow.__struct_fields__ if name != "arguments"}
    return IntentRow(**values, arguments=msgspec.json.decode(row.arguments, type=dict[str, str]))


async def _attempts(c: Connection, id: bytes) -> list[AttemptRow]:
    signed = {item.number: item for item in await attempts.signed_of(c, id)}
    sent = {item.hash: item for item in await attempts.broadcasts(c, id)}
    found: list[AttemptRow] = []
    for item in await attempts.of_intent(c, id):
        tx, kept = item.unsigned, signed.get(item.number)
        out = None if kept is None else sent.get(kept.hash)
        found.append(
            AttemptRow(
                item.number, item.kind, tx.nonce, tx.tip, tx.max_fee, tx.gas, tx.to, tx.value, tx.data, item.effects,
                item.at_s, None if kept is None else kept.hash, None if kept is None else kept.signed_at_s,
                0 if out is None else out.sends, None if out is None else out.last_s, "" if out is None else out.hint,
            )
        )  # fmt: skip
    return found


async def _events(c: Connection, item: inclusions.Inclusion) -> list[event_rows.EventRow]:
    return await event_rows.of_transaction(
        c, number=item.block_number, block_hash=item.block_hash, tx_hash=item.tx_hash
    )
