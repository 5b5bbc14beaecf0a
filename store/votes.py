"""What this agent signed. In: envelopes. Out: the same, by vote slot. Append-only: an agent must know its signatures for ever.

One attestation stands in a slot (signer, stream, sequence, revision) unless a replacement withdrew it first; a second one would be
equivocation, so the book refuses to hold it, and what the book does not hold is never sent.
"""

from __future__ import annotations

import msgspec
import sqlalchemy as sa

from domain import errors
from store.connection import AnySelect, Connection
from store.tables import vote


class Attested(msgspec.Struct, frozen=True):
    """`payload` is the wire JSON; `kind` is "attestation" or "replacement"; `ballot` is the replacement's, else 0."""

    digest: bytes
    stream: bytes
    sequence: int
    revision: int
    signer: bytes
    payload: bytes
    kind: str
    ballot: int


async def save(c: Connection, item: Attested, at_s: float) -> None:
    """Raises StoreError for a second attestation in a slot without a replacement between, or other bytes under a known digest."""
    earlier = await for_slot(c, signer=item.signer, stream=item.stream, sequence=item.sequence, revision=item.revision)
    for other in earlier:
        if other.digest == item.digest:
            if other != item:
                raise errors.StoreError("a vote differs from the stored one of the same digest", value=item.digest)
            return
    attestations = sum(1 for other in earlier if other.kind == "attestation")
    if item.kind == "attestation" and attestations > len(earlier) - attestations:
        raise errors.StoreError(
            "a second vote in one slot",
            value=(item.sequence, item.revision),
            cure="withdraw the first by a replacement",
        )
    await c.change(vote.insert().values(**msgspec.structs.asdict(item), at_s=int(at_s)))


async def for_slot(c: Connection, signer: bytes, stream: bytes, sequence: int, revision: int) -> list[Attested]:
    """In the order they were signed."""
    query = (
        _select()
        .where(
            vote.c.stream == stream, vote.c.sequence == sequence, vote.c.revision == revision, vote.c.signer == signer
        )
        .order_by(vote.c.id)
    )
    return [Attested(*row) for row in await c.rows(query)]


async def by_digest(c: Connection, digest: bytes) -> Attested | None:
    row = await c.row(_select().where(vote.c.digest == digest))
    return None if row is None else Attested(*row)


def _select() -> AnySelect:
    return sa.select(*(vote.c[name] for name in Attested.__struct_fields__))
