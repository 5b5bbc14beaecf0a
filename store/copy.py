"""What copying, digests and backups need to know of the agent's book. In: nothing. Out: its kind."""

from __future__ import annotations

import sqlalchemy as sa

from domain import hashing
from kit import books
from store import staking, tables
from store.migrations import HEAD


def whose(sync: sa.Connection) -> dict[str, frozenset[str]]:
    """The accounts it delegated from and the keys it attested with."""
    asked = {"account": staking.intent.c.account, "attester": tables.vote.c.signer}
    return {
        name: frozenset(hashing.hex0x(found) for found in sync.scalars(sa.select(column).distinct()))
        for name, column in asked.items()
    }


BOOK = books.Kind("agent", tables.metadata, tables.meta, HEAD, tables.beside, heavy=("carry",), whose=whose)
