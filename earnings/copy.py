"""What copying, digests and backups need to know of the hub's book. In: nothing. Out: its kind."""

from __future__ import annotations

from earnings import tables
from earnings.migrations import HEAD
from kit import books

BOOK = books.Kind("hub", tables.metadata, tables.meta, HEAD, heavy=("hub_carry", "hub_chunk"))
