"""Whether the rows of the staking belt agree with each other. In: the book, or one intent of it. Out: every contradiction, in words.

A state is a claim about rows: reserved means that a nonce, a budget, an allowing decision and a frozen transaction exist; final means that
a finalized block shows it. The claims are asserted at every move, and over the whole book after a crash, a restore, or on request.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import sqlalchemy as sa

from domain import errors, hashing
from domain import intent as domain_intent
from store import attempts
from store.connection import AnyRow, AnySelect, Connection
from store.staking import (
    attempt,
    command,
    decision,
    inclusion,
    intent,
    nonce_slot,
    progress,
    reservation,
    signed_tx,
    transition,
)
from store.tables import block, log

_NEVER_HELD = domain_intent.UNSENT | {"rejected", "expired"}
_MAY_HOLD = {"cancelled"}
_PAGE = 500


async def problems(c: Connection, *, intent_id: bytes | None = None, moving: bool = False) -> list[str]:
    """Of one intent, or of the whole book with its history and every signed byte. `moving`: in the middle of a transaction, when what it
    claims of the chain must be in the chain's own rows too (a book that is indexed anew has its intents before it has those)."""
    if intent_id is not None:
        return [
            text for row in await c.rows(_facts().where(intent.c.id == intent_id)) for text in _of(row, moving=moving)
        ]
    found: list[str] = []
    last = -1
    while rows := await c.rows(_facts().where(intent.c.position > last).order_by(intent.c.position).limit(_PAGE)):
        for row in rows:
            found += _of(row, moving=moving)
            found += await _history(c, row)
            found += await _signatures(c, row)
        last = rows[-1].position
    return [*found, *await _fences(c)]


def _facts() -> AnySelect:
    """One row an intent: its state, and what there is of all that a state can claim."""
    found = sa.and_(inclusion.c.intent == intent.c.id, inclusion.c.orphaned_at_s.is_(None))
    found_by = sa.and_(attempt.c.intent == inclusion.c.intent, attempt.c.number == inclusion.c.number)
    allowed = sa.select(sa.func.count()).select_from(decision)
    allowed = allowed.where(decision.c.intent == intent.c.id, decision.c.verdict == "allow").scalar_subquery()
    return (
        sa.select(
            intent.c.id, intent.c.position, progress.c.state, progress.c.moves,
            nonce_slot.c.nonce, nonce_slot.c.fence,
            nonce_slot.c.chain_id.label("slot_chain"), nonce_slot.c.account.label("slot_account"),
            intent.c.chain_id, intent.c.account,
            reservation.c.intent.label("reserved"), reservation.c.released_at_s,
            inclusion.c.status, inclusion.c.final_at_s, inclusion.c.effect_log_index,
            attempt.c.kind.label("found_kind"),
            _count(transition).label("transitions"),
            _count(attempt).label("attempts"),
            _count(signed_tx).label("signatures"),
            allowed.label("allowed"),
            sa.select(sa.func.min(signed_tx.c.fence)).where(signed_tx.c.intent == intent.c.id)
            .scalar_subquery().label("lowest_fence"),
            _effect_indexed().label("indexed"),
            _said().label("said"),
        )
        .outerjoin(progress, progress.c.intent == intent.c.id)
        .outerjoin(nonce_slot, nonce_slot.c.intent == intent.c.id)
        .outerjoin(reservation, reservation.c.intent == intent.c.id)
        .outerjoin(inclusion, found)
        .outerjoin(attempt, found_by)
    )  # fmt: skip


def _count(table: sa.Table) -> sa.ScalarSelect[int]:
    own = table.alias()
    return sa.select(sa.func.count()).select_from(own).where(own.c.intent == intent.c.id).scalar_subquery()


def _said() -> sa.ScalarSelect[str]:
    """What a person said last became of it, and after how many moves."""
    query = sa.select(command.c.after).where(
        command.c.kind == "settle", command.c.payload_hash == intent.c.payload_hash
    )
    return query.order_by(command.c.id.desc()).limit(1).scalar_subquery()


def _settled(row: AnyRow) -> bool:
    """Whether it is in its state by a person's word: nobody's move came after it but the one to it."""
    return row.said is not None and msgspec.json.decode(row.said) == {"moves": row.moves - 1, "settle": row.state}


def _effect_indexed() -> sa.ColumnElement[bool]:
    return (
        sa.exists()
        .where(
            log.c.number == inclusion.c.block_number, log.c.block_hash == inclusion.c.block_hash,
            log.c.log_index == inclusion.c.effect_log_index, log.c.tx_hash == inclusion.c.tx_hash,
            block.c.number == log.c.number, block.c.hash == log.c.block_hash, block.c.orphaned_generation.is_(None),
        )
    )  # fmt: skip


def _of(row: AnyRow, *, moving: bool) -> Iterator[str]:
    who = f"intent {hashing.hex0x(row.id)}"
    if row.state is None:
        yield f"{who} has no progress"
        return
    if row.moves != row.transitions:
        yield f"{who} moved {row.moves} times but has {row.transitions} transitions"
    yield from (f"{who} is {row.state} but {text}" for text in _held(row, moving=moving))
    yield from (f"{who} is {row.state} but {text}" for text in _found(row, moving=moving))


def _held(row: AnyRow, *, moving: bool) -> Iterator[str]:
    """What a nonce goes with. On its way to reserved an intent may have the rows before it has the state."""
    if row.nonce is None:
        if row.state not in _NEVER_HELD | _MAY_HOLD:
            yield "holds no nonce"
        if row.reserved is not None or row.attempts or row.signatures:
            yield "has a reservation, an attempt or a signature without a nonce"
        return
    if row.state in _NEVER_HELD and not (moving and row.state in domain_intent.UNSENT):
        yield f"holds nonce {row.nonce}"
    if (row.slot_chain, row.slot_account) != (row.chain_id, row.account):
        yield f"holds nonce {row.nonce} of another account"
    if row.reserved is None:
        yield "has no reservation"
    if not row.attempts:
        yield "has no attempt"
    if not row.allowed:
        yield "no decision ever allowed it"
    if row.released_at_s is not None and row.state not in domain_intent.FINAL - {"final_ok"}:
        yield "its reservation is released"
    if row.lowest_fence is not None and row.lowest_fence < row.fence:
        yield f"was signed under lease token {row.lowest_fence}, after its nonce was taken under {row.fence}"
    if row.state == "reserved" and row.signatures:
        yield "has a signature"
    if row.state in ("signed", "pending", "included") and not row.signatures:
        yield "has no signature"


def _found(row: AnyRow, *, moving: bool) -> Iterator[str]:
    """What the chain has to show."""
    stands = row.status is not None
    final = row.final_at_s is not None
    settled = row.state in domain_intent.OUTCOMES and _settled(row)
    match row.state:
        case "included" if not stands:
            yield "no inclusion stands"
        case "reserved" | "signed" | "pending" | "superseded" if stands:
            yield "an inclusion stands"
        case "final_ok" | "final_no_effect" | "final_reverted":
            if not final:
                if not settled:
                    yield "no inclusion is final"
                return
            if row.found_kind == "cancel":
                yield "it is its cancel that was mined"
            if row.status != (0 if row.state == "final_reverted" else 1):
                yield f"its transaction has status {row.status}"
            if (row.effect_log_index is not None) != (row.state == "final_ok") and not settled:
                yield f"its effect {'was' if row.effect_log_index is not None else 'was not'} found"
            if moving and row.state == "final_ok" and not row.indexed:
                yield "its effect is no canonical log of the book"
        case "cancelled" if row.nonce is not None and not (final and row.found_kind == "cancel"):
            if not settled:
                yield "no cancel of it is final"
        case _:
            pass


async def _history(c: Connection, row: AnyRow) -> list[str]:
    query = sa.select(transition.c.number, transition.c.from_state, transition.c.to_state)
    state, found = "new", list[str]()
    who = f"intent {hashing.hex0x(row.id)}"
    for place, step in enumerate(
        await c.rows(query.where(transition.c.intent == row.id).order_by(transition.c.number)), 1
    ):
        legal = step.to_state in domain_intent.MOVES.get(step.from_state, ())
        if step.number != place or step.from_state != state or not legal:
            found.append(f"{who}: transition {step.number} from {step.from_state} to {step.to_state} follows {state}")
        state = step.to_state
    if row.state is not None and state != row.state:
        found.append(f"{who} is {row.state} but its last transition was to {state}")
    return found


async def _signatures(c: Connection, row: AnyRow) -> list[str]:
    try:
        await attempts.signed_of(c, row.id)
    except errors.StoreError as error:
        return [f"intent {hashing.hex0x(row.id)}: {error}"]
    return []


async def _fences(c: Connection) -> list[str]:
    """Nonces and lease tokens of an account rise together."""
    before = sa.func.lag(nonce_slot.c.fence).over(
        partition_by=(nonce_slot.c.chain_id, nonce_slot.c.account), order_by=nonce_slot.c.nonce
    )
    pairs = sa.select(nonce_slot.c.nonce, nonce_slot.c.fence, before.label("before")).subquery()
    rows = await c.rows(sa.select(pairs).where(pairs.c.before > pairs.c.fence).order_by(pairs.c.nonce))
    return [
        f"nonce {row.nonce} was taken under lease token {row.fence}, the one before it under {row.before}"
        for row in rows
    ]
