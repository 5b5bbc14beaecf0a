"""Moving a book between SQLite and PostgreSQL: whole, proven, or not at all."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from cli import main
from domain import errors
from earnings import copy as hub_copy
from kit import copying, digests
from store import copy, tables
from store.migrations import HEAD
from tests.store import factory, library, postgres

ROOT = Path(__file__).parents[2]
KINDS = (copy.BOOK, hub_copy.BOOK)
Place = Callable[[str], str]


@pytest.fixture
def place(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Place]:
    """`place("sqlite")`, `place("postgresql")`: the address of an empty database, another one at each call."""
    count = 0

    def empty(kind: str) -> str:
        nonlocal count
        count += 1
        if kind == "sqlite":
            return f"sqlite:///{tmp_path / f'copy{count}.db'}"
        server: postgres.Server = request.getfixturevalue("postgres_server")
        return server.empty() if count < 3 else server.create(f"copy_{os.getpid()}_{count}")

    yield empty


WAYS = [("sqlite", "postgresql"), ("postgresql", "sqlite"), ("sqlite", "sqlite")]


@pytest.mark.parametrize(("there", "here"), WAYS)
async def test_a_copy_has_every_row_and_the_same_digest(there: str, here: str, place: Place) -> None:
    old, new = place(there), place(here)
    await library.written(old)
    done = await copying.copy(old, new, KINDS)
    assert done.same
    assert all(table.rows for table in done.target.tables)
    assert {table.name for table in done.target.tables} == set(tables.metadata.tables)
    assert await copying.digest(new, KINDS) == done.source == await copying.digest(old, KINDS)


@pytest.mark.parametrize(("there", "here"), WAYS[:2])
async def test_a_copied_book_opens_goes_on_and_is_guarded(there: str, here: str, place: Place) -> None:
    old, new = place(there), place(here)
    await library.written(old, 5)
    await copying.copy(old, new, KINDS)
    opened = await factory.open_book(new)
    async with opened.write() as c:
        for _ in range(2):
            await c.change(tables.gap.insert().values(protocol="devnet", first=1, last=2, reason="after the copy"))
        assert await c.scalar(sa.select(sa.func.max(tables.gap.c.id))) == 7, "numbers go on where they were"
    for statement in (
        "DELETE FROM vote",
        "UPDATE receipt SET number = 9",
        "DELETE FROM log",
        "UPDATE meta SET value = 'x'",
    ):
        with pytest.raises(errors.StoreError, match="append-only"):
            async with opened.write() as c:
                await c.change(sa.text(statement))
    await opened.close()


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
async def test_any_difference_shows_in_the_digest(kind: str, place: Place) -> None:
    url = place(kind)
    await library.written(url, 5)
    third = tables.outbox.c.position == 3
    for table, change in (
        ("outbox", tables.outbox.update().where(third).values(attempts=77)),
        ("outbox", tables.outbox.update().where(third).values(why="other")),
        ("outbox", tables.outbox.update().where(third).values(why=None)),
        ("parked", tables.parked.delete().where(tables.parked.c.log_index == 3)),
    ):
        before = await copying.digest(url, KINDS)
        opened = await factory.open_book(url)
        async with opened.write() as c:
            await c.change(change)
        await opened.close()
        after = await copying.digest(url, KINDS)
        assert before.whole != after.whole
        assert [a.name for a, b in zip(before.tables, after.tables, strict=True) if a != b] == [table]


def test_values_of_different_types_and_lengths_never_read_the_same() -> None:
    kind, table = copy.BOOK, tables.gap
    rows = [(1, "a"), ("1", "a"), (b"1", "a"), (None, "a"), (1, "ab"), ("1a", ""), (11, ""), (1, b"a"), ("", "1a")]
    found: set[bytes] = set()
    for row in rows:
        hasher = digests.Hasher(kind, table)
        hasher.add([row])
        found.add(hasher.done().digest)
    assert len(found) == len(rows)


async def test_a_nul_in_a_text_of_sqlite_arrives_escaped_and_the_digests_agree(place: Place) -> None:
    old, new = place("sqlite"), place("postgresql")
    opened = await factory.open_book(old)
    async with opened.write() as c:
        await c.change(tables.subject.insert().values(hash=b"\x01" * 32, parts="a\0b"))
    await opened.close()
    assert (await copying.copy(old, new, KINDS)).same
    assert await library.query(new, "SELECT parts FROM subject") == [("a\\x00b",)]


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
async def test_a_target_that_is_not_empty_is_refused_and_unharmed(kind: str, place: Place) -> None:
    old, new = place("sqlite"), place(kind)
    await library.written(old, 5)
    await library.written(new, 2)
    before = await copying.digest(new, KINDS)
    with pytest.raises(errors.StoreError, match="something already"):
        await copying.copy(old, new, KINDS)
    assert await copying.digest(new, KINDS) == before


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
async def test_a_book_in_use_is_not_moved_and_its_digest_can_be_asked(kind: str, place: Place) -> None:
    old, new = place(kind), place("sqlite")
    await library.written(old, 5)
    running = await factory.open_book(old)
    try:
        with pytest.raises(errors.StoreError, match=r"in use.*stop it first"):
            await copying.copy(old, new, KINDS)
        assert (await copying.digest(old, KINDS)).rows
    finally:
        await running.close()
    assert not Path(new.removeprefix("sqlite:///")).exists()


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
async def test_a_book_of_another_schema_is_not_copied(kind: str, place: Place) -> None:
    old = place(kind)
    opened = await factory.open_book(old)
    async with opened.write() as c:
        await c.change(sa.text("UPDATE alembic_version SET version_num = '0000'"))
    await opened.close()
    with pytest.raises(errors.StoreError, match=f"0000, not {HEAD}"):
        await copying.copy(old, place("sqlite"), KINDS)


async def test_what_is_no_book_is_not_copied(tmp_path: Path, place: Place) -> None:
    with pytest.raises(errors.StoreError, match="no book to read"):
        await copying.copy(place("sqlite"), place("sqlite"), KINDS)
    (tmp_path / "other.db").write_bytes(b"")
    with pytest.raises(errors.StoreError, match="no book in this database"):
        await copying.copy(f"sqlite:///{tmp_path / 'other.db'}", place("sqlite"), KINDS)


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
async def test_a_copy_that_differs_is_not_left_behind(
    kind: str, place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new = place("sqlite"), place(kind)
    await library.written(old, 5)
    real = copying.books.guard

    def tampering(sync: sa.Connection, of: copying.books.Kind) -> None:
        sync.execute(sa.text("DELETE FROM gap WHERE id = 3"))
        real(sync, of)

    monkeypatch.setattr(copying.books, "guard", tampering)
    done = await copying.copy(old, new, KINDS)
    assert not done.same
    with pytest.raises(errors.StoreError, match="no book"):
        await copying.digest(new, KINDS)


@pytest.mark.slow
@pytest.mark.parametrize("point", ["before_rows", "after_rows", "before_swap", "after_swap"])
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
async def test_a_crash_leaves_the_whole_book_or_nothing(kind: str, point: str, place: Place) -> None:
    old, new = place("sqlite"), place(kind)
    await library.written(old, 5)
    command = [sys.executable, "-m", "cli.main", "store", "copy", old, new]
    env = os.environ | {"STAKESIDE_CRASH_AT": f"copy.{point}"}
    died = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, timeout=60, check=False)
    assert died.returncode == -signal.SIGKILL
    if point == "after_swap":
        assert await copying.digest(new, KINDS) == await copying.digest(old, KINDS)
        return
    with pytest.raises(errors.StoreError, match="no book"):
        await copying.digest(new, KINDS)
    assert (await copying.copy(old, new, KINDS)).same, "the next attempt sweeps up"


def test_the_command_prints_tables_and_both_digests(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import asyncio

    old, new = f"sqlite:///{tmp_path / 'a.db'}", f"sqlite:///{tmp_path / 'b.db'}"
    asyncio.run(library.written(old, 5))
    assert main.main(["store", "copy", old, new]) == 0
    lines = capsys.readouterr().out.splitlines()
    found = [line.split()[1] for line in lines if line.startswith("digest ")]
    assert len(found) == 2
    assert found[0] == found[1]
    assert any(line.split()[:2] == ["vote", "5"] for line in lines)
    assert main.main(["store", "digest", new]) == 0
    assert f"digest {found[0]} " in capsys.readouterr().out
    assert main.main(["store", "copy", old, new]) == 2
    monkeypatch.setattr(copying.Copied, "same", False)
    assert main.main(["store", "copy", old, f"sqlite:///{tmp_path / 'c.db'}"]) == 1
    assert not (tmp_path / "c.db").exists()
