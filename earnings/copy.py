"""What copying, digests and backups need to know of the hub's book. In: nothing. Out: its kind."""

from __future__ import annotations

import msgspec
import sqlalchemy as sa

from domain import deployment
from earnings import tables
from earnings.migrations import HEAD
from kit import books


def whose(sync: sa.Connection) -> dict[str, frozenset[str]]:
    """The keys that sign its receipts, by the document it counted votes under."""
    meta = tables.meta
    stored = sync.scalar(sa.select(meta.c.value).where(meta.c.name == "document"))
    if stored is None:
        return {}
    document = msgspec.json.decode(stored, type=deployment.Document)
    return {"receipt key": frozenset(key.address for key in document.receipt_keys)}


BOOK = books.Kind("hub", tables.metadata, tables.meta, HEAD, heavy=("hub_carry", "hub_chunk"), whose=whose)
