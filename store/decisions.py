"""Why an intent was let through, refused or held. In: the verdict of a policy with every figure it looked at. Out: the same, in order."""

from __future__ import annotations

from typing import Literal

import msgspec
import sqlalchemy as sa

from domain import errors, hashing
from kit import logs
from store.connection import Connection
from store.staking import decision, intent, policy

Verdict = Literal["allow", "deny", "ask"]


class Decision(msgspec.Struct, frozen=True):
    """`findings`: JSON, every rule with its outcome and figures. The block is the one whose state was looked at."""

    intent: bytes
    at_s: int
    verdict: Verdict
    rule: str
    why: str
    policy_hash: bytes
    payload_hash: bytes
    block_number: int
    block_hash: bytes
    findings: str
    id: int = 0


async def save(c: Connection, item: Decision) -> int:
    """Its id. Raises StoreError when the policy is not saved, or when the payload is not the intent's."""
    bound = await c.scalar(sa.select(intent.c.payload_hash).where(intent.c.id == item.intent))
    if bound != item.payload_hash:
        raise errors.StoreError("a decision is for another payload than the intent's", value=item.payload_hash)
    values = {name: value for name, value in msgspec.structs.asdict(item).items() if name != "id"}
    values["why"] = logs.line(item.why)
    return int(await c.scalar(decision.insert().values(**values).returning(decision.c.id)))


async def for_intent(c: Connection, id: bytes) -> list[Decision]:
    """In the order they were made."""
    names = [decision.c[name] for name in Decision.__struct_fields__]
    return [
        Decision(*row) for row in await c.rows(sa.select(*names).where(decision.c.intent == id).order_by(decision.c.id))
    ]


async def save_policy(c: Connection, hash: bytes, body: str, at_s: float) -> None:
    """Before the first decision by it; again changes nothing. `hash` is the keccak of `body`."""
    if hashing.keccak256(body.encode()) != hash:
        raise errors.StoreError("a policy's hash is not that of its body", value=hashing.hex0x(hash))
    if await c.scalar(sa.select(policy.c.hash).where(policy.c.hash == hash)) is None:
        await c.change(policy.insert().values(hash=hash, body=body, first_seen_s=int(at_s)))


async def policy_body(c: Connection, hash: bytes) -> str | None:
    """Canonical JSON."""
    return await c.scalar(sa.select(policy.c.body).where(policy.c.hash == hash))
