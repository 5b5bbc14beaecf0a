"""An agent's book, read with nothing but sqlite3. In: the file, beside the running agent. Out: plain records.

For comparing with the ground truth: it shares no code with the store that wrote the book.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from devnet import truth


class Frame(NamedTuple):
    """A statement in force. `to_position` and `to_anchor` are its last block."""

    sequence: int
    revision: int
    digest: bytes
    to_position: int
    to_anchor: bytes
    origin: str


class Book:
    """The book at `path`, which may not exist yet: then everything is empty."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def rows(self, *, last: int = 2**63 - 1) -> list[truth.Row]:
        """The canonical rows up to block `last`."""
        return truth.rows_of_book(self.path, last=last) if self.path.exists() else []

    def cursor(self, name: str) -> tuple[int, bytes] | None:
        """Number and hash of a cursor such as `index` or `finalized`."""
        found = self._all("select number, hash from cursor where name = ?", (name,))
        return (found[0][0], found[0][1]) if found else None

    def latches(self) -> list[str]:
        """The reasons of the latches that are set."""
        return [row[0] for row in self._all("select reason from latch where cleared_at_s is null")]

    def parked(self) -> list[str]:
        return [row[0] for row in self._all("select reason from parked where resolved_by is null")]

    def gaps(self) -> list[tuple[int, int]]:
        """First and last block of the history that is still missing."""
        return [(row[0], row[1]) for row in self._all("select first, last from gap where closed_by is null")]

    def orphaned(self) -> int:
        """How many log rows lie in blocks that are no longer canonical."""
        found = self._all(
            "select count(*) from log join block on block.hash = log.block_hash where block.orphaned_generation is not null"
        )
        return int(found[0][0]) if found else 0

    def frames(self) -> list[Frame]:
        """The statements in force, ascending."""
        fields = "sequence, revision, digest, to_position, to_anchor, origin"
        return [Frame(*row) for row in self._all(f"select {fields} from statement where current = 1 order by 1, 2")]

    def leaves(self, frame: Frame) -> truth.Leaves:
        """Every leaf of a frame, by readable parts and kind."""
        found: dict[tuple[tuple[str, ...], int], tuple[int, int]] = {}
        with self._open() as connection:
            if connection is None:
                return found
            [lineage] = connection.execute("select lineage from statement where digest = ?", (frame.digest,)).fetchone()
            for line, sequence in reversed(_ancestry(connection, lineage, frame.sequence)):
                chosen = connection.execute(
                    "select parts, kind, reward, penalty from leaf join subject on subject.hash = leaf.subject "
                    "where lineage = ? and since <= ? and (until is null or until > ?)",
                    (line, sequence, sequence),
                )
                for parts, kind, reward, penalty in chosen:
                    found[tuple(json.loads(parts)), kind] = (
                        int.from_bytes(reward, "big"),
                        int.from_bytes(penalty, "big"),
                    )
        return found

    def _all(self, query: str, values: Sequence[Any] = ()) -> list[Any]:
        with self._open() as connection:
            return [] if connection is None else connection.execute(query, values).fetchall()

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection | None]:
        """None while there is no book, or no schema in it yet."""
        if not self.path.exists():
            yield None
            return
        with closing(sqlite3.connect(f"file:{self.path}?mode=ro", uri=True, timeout=10)) as connection:
            ready = connection.execute("select 1 from sqlite_master where name = 'canonical_event'").fetchone()
            yield connection if ready else None


def _ancestry(connection: sqlite3.Connection, lineage: int, sequence: int) -> list[tuple[int, int]]:
    steps = [(lineage, sequence)]
    while True:
        parent, forked_after = connection.execute(
            "select parent, forked_after from lineage where id = ?", (steps[-1][0],)
        ).fetchone()
        if parent is None:
            return steps
        steps.append((parent, forked_after))
