"""The schema's history and the cost of loading it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa

from domain import errors
from kit import databases, migrations
from store import connection, tables
from store.book import Book
from store.migrations import HEAD
from tests.store import factory

ROOT = Path(__file__).parents[2]

_SQLITE = "SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY type, name"
_POSTGRESQL = [
    "SELECT table_name, column_name, data_type, is_nullable, column_default, numeric_precision, numeric_scale, ordinal_position"
    " FROM information_schema.columns WHERE table_schema = 'public' ORDER BY 1, 2",
    "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint"
    " WHERE connamespace = 'public'::regnamespace ORDER BY 1, 2, 3",
    "SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1, 2",
    "SELECT tgrelid::regclass::text, tgname, pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal ORDER BY 1, 2",
    "SELECT viewname, definition FROM pg_views WHERE schemaname = 'public' ORDER BY 1",
    "SELECT proname, prosrc FROM pg_proc WHERE pronamespace = 'public'::regnamespace ORDER BY 1",
]


def _shape(sync: sa.Connection) -> list[tuple[object, ...]]:
    queries = [_SQLITE] if sync.dialect.name == "sqlite" else _POSTGRESQL
    rows = [tuple(row) for query in queries for row in sync.execute(sa.text(query))]
    return [
        tuple(re.sub(r"\s+", " ", value).strip() if isinstance(value, str) else value for value in row) for row in rows
    ]


async def _build(url: str, work: object) -> list[tuple[object, ...]]:
    engine = databases.backend(url).writer()
    c = connection.Connection(await databases.run(engine.connect))
    try:
        await c.begin()
        await c.script(work)  # type: ignore[arg-type]
        await c.commit()
        await c.begin()
        return await c.script(_shape)
    finally:
        await c.close()
        await databases.run(engine.dispose)


def _from_tables(sync: sa.Connection) -> None:
    tables.create(sync)
    migrations.stamp(sync, HEAD)


def _from_history(sync: sa.Connection) -> None:
    migrations.upgrade(sync, location="store:migrations")


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
async def test_migrations_from_empty_give_the_schema_of_the_tables(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if kind == "sqlite":
        urls = [f"sqlite:///{tmp_path / name}.db" for name in ("tables", "history")]
    else:
        server = request.getfixturevalue("postgres_server")
        urls = [server.create(name) for name in ("tables", "history")]
    shapes = [await _build(urls[0], _from_tables), await _build(urls[1], _from_history)]
    assert shapes[0] == shapes[1]
    assert len(shapes[0]) > 50


async def test_a_book_made_by_migrations_opens(url: str) -> None:
    await _build(url, _from_history)
    with pytest.raises(errors.StoreError, match="another deployment"):
        await factory.open_book(url)  # it is empty: bound to nothing


def test_the_head_is_the_newest_revision() -> None:
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", "store:migrations")
    config.set_main_option("path_separator", "os")
    assert ScriptDirectory.from_config(config).get_heads() == [HEAD]


@pytest.mark.parametrize("read_only", [False, True])
async def test_a_book_of_newer_software_is_refused(url: str, read_only: bool) -> None:
    opened = await factory.open_book(url)
    async with opened.write() as c:
        await c.change(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    await opened.close()
    with pytest.raises(errors.StoreError, match="9999"):
        await factory.open_book(url, read_only=read_only)


async def test_the_tables_hold_to_their_types(book: Book) -> None:
    """A text where a hash belongs is refused even when written by hand."""
    with pytest.raises(errors.StoreError):
        async with book.write() as c:
            await c.change(sa.text("INSERT INTO cursor (name, number, hash, generation) VALUES ('x', 1, 'text', 0)"))


def test_opening_a_book_loads_neither_alembic_nor_the_orm(tmp_path: Path) -> None:
    code = f"""
import asyncio, sys
from tests.store import factory
from store import queries
async def main():
    for _ in range(2):
        opened = await factory.open_book("sqlite:///{tmp_path / "book.db"}")
        async with opened.read() as c:
            await queries.summary(c)
        await opened.close()
asyncio.run(main())
print(sorted(name for name in sys.modules if name.split(".")[0] == "alembic" or name.startswith("sqlalchemy.orm")))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"
