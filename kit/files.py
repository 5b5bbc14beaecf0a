"""Files that take another's place. In: a SQLite file nobody writes to. Out: synced, settled, kept under a second name, or swept away."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from domain import errors

BESIDE = ("-wal", "-shm", "-journal")
"""What SQLite keeps beside its file."""


def sync(path: Path) -> None:
    """A file's bytes, or a folder's names, on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def settle(path: Path) -> None:
    """Everything of the book in the one file: a write-ahead log beside it would be read into the file that takes its name."""
    try:
        with closing(sqlite3.connect(path, isolation_level=None)) as c:
            busy = c.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
    except sqlite3.Error as error:
        raise errors.StoreError("the book cannot be settled", value=str(error), cure="close other programs") from error
    if busy or any(path.with_name(path.name + end).exists() for end in BESIDE):
        raise errors.StoreError(
            "another program has the book open",
            value=str(path),
            cure="close it and run this again; nothing was changed",
        )
    sync(path)


def keep(path: Path, *, before: str) -> Path:
    """A second name for a file, `….before-reindex-1`. A link that an earlier, killed attempt made is the same file and serves again."""
    number = 1
    while (kept := path.with_name(f"{path.name}.before-{before}-{number}")).exists():
        if kept.samefile(path):
            return kept
        number += 1
    kept.hardlink_to(path)
    sync(path.parent)
    return kept


def take_place(fresh: Path, path: Path) -> None:
    """In one step, and on the disk when this returns."""
    sync(fresh)
    fresh.replace(path)
    sync(path.parent)


def left_behind(path: Path) -> bool:
    """Rows in a log without their book. (A reader that ends last leaves an empty one, which says nothing.)"""
    return any(
        log.exists() and log.stat().st_size for log in (path.with_name(path.name + end) for end in ("-wal", "-journal"))
    )


def sweep_beside(path: Path) -> None:
    for end in BESIDE:
        path.with_name(path.name + end).unlink(missing_ok=True)


def sweep(path: Path) -> None:
    """Away with an unfinished file and all that is beside it."""
    for end in ("", ".lock"):
        path.with_name(path.name + end).unlink(missing_ok=True)
    sweep_beside(path)


def put_aside(path: Path, *, before: str) -> Path:
    """Keep a book that another one is about to replace, also one that SQLite cannot read: then with the log beside it."""
    if not path.exists():
        raise errors.StoreError(
            "there is a log without its book", value=str(path), cure=f"move {path.name}-wal and {path.name}-shm away"
        )
    try:
        settle(path)
        return keep(path, before=before)
    except errors.StoreError as error:
        if type(error.__cause__) is not sqlite3.DatabaseError:  # its subclasses mean a lock or a full disk, not damage
            raise
    kept = keep(path, before=before)
    for end in BESIDE:
        log = path.with_name(path.name + end)
        if log.exists():
            log.replace(kept.with_name(kept.name + end))
    sync(path.parent)
    return kept
