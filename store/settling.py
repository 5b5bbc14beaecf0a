"""What people say became of an intent that needs one. In: an outcome and a reason. Out: a command; what it leads to is the confirm stage's.

A word counts for the very stay in `needs_operator` in which it was given: the command keeps how many moves the intent had made, so a word
from before the intent went on by itself and came back is nobody's word on the new facts. The newest one counts.
"""

from __future__ import annotations

import msgspec

from domain import hashing
from domain import intent as domain_intent
from store import attempts, commands, decisions, intents, outstanding
from store.connection import Connection


class _After(msgspec.Struct, frozen=True):
    moves: int
    settle: domain_intent.Outcome


class Settled(msgspec.Struct, frozen=True):
    """`why` names the person."""

    outcome: domain_intent.Outcome
    why: str


async def settle(
    c: Connection, id: bytes, *, outcome: domain_intent.Outcome, by: str, reason: str, at_s: float
) -> commands.Done | commands.Refused:
    """A wish: it is carried out once nothing of the intent can be mined any more. Never for what the book itself contradicts."""
    if (refused := commands.reason_refused(reason)) is not None:
        return refused
    found = await intents.get(c, id)
    if found is None:
        return commands.Refused("unknown", f"there is no intent {hashing.hex0x(id)}")
    if found.state != "needs_operator":
        return commands.Refused(
            "not-needed", f"the intent is {found.state}: only one that needs an operator is settled"
        )
    if outcome == "cancelled" and not await _cancel_signed(c, id):
        return commands.Refused("no-cancel", "no cancel of it was ever signed, so none can have been mined")
    if await logged(c, id):
        why = "the book holds a log of one of its transactions: it was mined and did something, so none of these outcomes is true"
        return commands.Refused("contradicted", f"{why}; give the agent a node that shows its receipt")
    before = await settled(c, found)
    if before is not None and (before.outcome, before.why) == (outcome, _why(by, reason)):
        return commands.Refused("already-settled", "this was said already; the intent says what it waits for")
    made = await commands.add(
        c, principal=by, kind="settle", subject=hashing.hex0x(id), reason=reason, at_s=at_s,
        before={"settle": None if before is None else {"was": before.outcome}},
        after={"moves": found.moves, "settle": outcome}, payload_hash=found.payload_hash,
    )  # fmt: skip
    await intents.timer(c, id, None)
    return commands.Done(made)


async def settled(c: Connection, of: intents.Stored) -> Settled | None:
    """The newest word on the state it is in."""
    if of.state != "needs_operator":
        return None
    for item in await commands.list_(c, limit=1, kind="settle", subject=hashing.hex0x(of.id)):
        said = msgspec.json.decode(item.after, type=_After)
        if said.moves == of.moves:
            return Settled(said.settle, _why(item.principal, item.reason))
    return None


async def logged(c: Connection, id: bytes) -> bool:
    """Whether our own index holds a canonical log of any transaction that was signed for it."""
    hashes = {item.hash for item in await attempts.signed_of(c, id)}
    first = min([item.block_number for item in await decisions.for_intent(c, id)], default=0)
    return bool(hashes) and bool(await outstanding.held_since(c, hashes, first=first))


async def _cancel_signed(c: Connection, id: bytes) -> bool:
    signed = {item.number for item in await attempts.signed_of(c, id)}
    return any(item.kind == "cancel" and item.number in signed for item in await attempts.of_intent(c, id))


def _why(by: str, reason: str) -> str:
    return f"{by}: {reason}"
