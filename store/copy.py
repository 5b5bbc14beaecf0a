"""What copying, digests and backups need to know of the agent's book. In: nothing. Out: its kind."""

from __future__ import annotations

from kit import books
from store import tables
from store.migrations import HEAD

BOOK = books.Kind("agent", tables.metadata, tables.meta, HEAD, tables.beside, heavy=("carry",))
