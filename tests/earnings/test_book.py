"""The hub's book: both databases, one writer, one history of the schema."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine

from domain import errors, hashing
from earnings import book, tables
from earnings.migrations import HEAD
from kit import migrations
from signers import keys
from tests.earnings import factory, hub
from tests.store import postgres

FRAMES = factory.frames(3)
DEPLOYMENT = factory.document().digest()
SHAPE = {
    "sqlite": "SELECT name, sql FROM sqlite_master ORDER BY name",
    "postgresql": "SELECT table_name, column_name, data_type, is_nullable, numeric_precision, numeric_scale"
    " FROM information_schema.columns WHERE table_schema = 'public' ORDER BY 1, 2",
}
INDEXES = "SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1, 2"


def _shape(connection: sa.Connection) -> list[tuple[str, ...]]:
    queries = [SHAPE[connection.dialect.name]] + ([INDEXES] if connection.dialect.name == "postgresql" else [])
    rows = [row for query in queries for row in connection.execute(sa.text(query))]
    return [tuple(re.sub(r"\s+", " ", str(value)).replace("( ", "(").strip() for value in row) for row in rows]


async def _built(url: str, how: str) -> list[tuple[str, ...]]:
    engine = create_async_engine(url)

    def work(connection: sa.Connection) -> list[tuple[str, ...]]:
        if how == "history":
            migrations.upgrade(connection, location="earnings:migrations")
        else:
            tables.metadata.create_all(connection)
            migrations.stamp(connection, HEAD)
        return _shape(connection)

    async with engine.begin() as c:
        found = await c.run_sync(work)
    await engine.dispose()
    return found


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
async def test_migrations_from_empty_give_the_schema_of_the_tables(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if kind == "sqlite":
        urls = [f"sqlite+aiosqlite:///{tmp_path / name}.db" for name in ("tables", "history")]
    else:
        server: postgres.Server = request.getfixturevalue("postgres_server")
        urls = [
            server.create(f"hub_{name}").replace("postgresql", "postgresql+asyncpg") for name in ("tables", "history")
        ]
    assert await _built(urls[0], "tables") == await _built(urls[1], "history")


async def test_a_book_of_newer_software_is_refused(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'hub.db'}"
    opened = await book.open_book(url, deployment=DEPLOYMENT)
    async with opened.write() as c:
        await c.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    await opened.close()
    with pytest.raises(errors.StoreError, match="newer software"):
        await book.open_book(url, deployment=DEPLOYMENT)


async def test_a_file_that_is_no_book_is_refused(tmp_path: Path) -> None:
    (tmp_path / "hub.db").write_bytes(b"not a database" * 1000)
    with pytest.raises(errors.StoreError):
        await book.open_book(f"sqlite:///{tmp_path / 'hub.db'}", deployment=DEPLOYMENT)


async def test_sqlite_syncs_every_commit(tmp_path: Path) -> None:
    opened = await book.open_book(f"sqlite:///{tmp_path / 'hub.db'}", deployment=DEPLOYMENT)
    async with opened.write() as c:
        found = [await c.scalar(sa.text(f"PRAGMA {name}")) for name in ("journal_mode", "synchronous")]
    await opened.close()
    assert found == ["wal", 2]


async def test_a_failed_transaction_leaves_nothing(tmp_path: Path) -> None:
    opened = await book.open_book(f"sqlite:///{tmp_path / 'hub.db'}", deployment=DEPLOYMENT)
    with pytest.raises(ValueError, match="stop"):
        async with opened.write() as c:
            await book.put_meta(c, "document", b"x")
            raise ValueError("stop")
    async with opened.read() as c:
        assert await book.meta(c, "document") is None
    await opened.close()


@pytest.mark.usefixtures("database")
async def test_amounts_of_256_bits_come_back_exactly(tmp_path: Path) -> None:
    largest = hashing.UINT256_MAX
    made = factory.frame(factory.document(), factory.stream(), 0, (factory.leaf(0, largest, kind=41),), (), None)
    async with hub.running(tmp_path) as h:
        await h.seal(made)
        page = (await h.get(f"/v1/bodies/{hashing.hex0x(made.header.body_root)}"))[1]
    assert page["leaves"][0]["cumulativeReward"] == str(largest)


async def test_a_reader_sees_one_state_and_cannot_write(postgres_server: postgres.Server) -> None:
    opened = await book.open_book(postgres_server.create("hub_snapshot"), deployment=DEPLOYMENT)
    try:
        async with opened.read() as c:
            assert await book.meta(c, "document") is None
            async with opened.write() as w:
                await book.put_meta(w, "document", b"newer")
            assert await book.meta(c, "document") is None, "as it was at the first look"
        async with opened.read() as c:
            assert await book.meta(c, "document") == b"newer"
        with pytest.raises(DBAPIError, match="read-only"):
            async with opened.read() as c:
                await book.put_meta(c, "document", b"x")
    finally:
        await opened.close()


async def test_two_hubs_on_one_postgresql_count_as_one(tmp_path: Path, postgres_server: postgres.Server) -> None:
    store = postgres_server.create("hub_pair")
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        folder.mkdir()
    async with hub.running(folders[0], store=store) as a, hub.running(folders[1], store=store) as b:
        await asyncio.gather(
            *(h.attest(agent, made) for h in (a, b) for made in FRAMES for agent in factory.AGENTS[:3])
        )
        for made in FRAMES:
            for h in (a, b):  # whichever seals first, the other refuses the body or keeps it for nothing
                assert set(await h.upload(made)) <= {202, 409}
        for h in (a, b):
            for made in FRAMES:
                await h.sealed(made)
        for agent in factory.AGENTS[:3]:
            page = (await b.get(f"/v1/receipts/{factory.address(agent)}", token=None))[1]["receipts"]
            assert [item["receipt"]["receiptNumber"] for item in page] == ["1", "2", "3"]
    async with hub.running(folders[0], store=store) as a:
        assert (await a.get("/status"))[1]["sealed"] == 3


@pytest.mark.slow
async def test_a_hub_outlives_a_database_that_cuts_its_connections(
    tmp_path: Path, postgres_server: postgres.Server
) -> None:
    store = postgres_server.empty()
    async with hub.running(tmp_path, store=store) as h:
        await h.seal(FRAMES[0])
        for agent in factory.AGENTS[:3]:
            postgres_server.cut()

            async def taken(agent: keys.LocalKey = agent) -> bool | None:
                status, answer = await h.attest(agent, FRAMES[1])
                assert status in (200, 503), answer
                return True if status == 200 else None

            await hub.until(taken)
        postgres_server.cut()

        async def sealed() -> bool | None:
            status, answer = await h.get(f"/v1/statements/{hashing.hex0x(FRAMES[1].digest)}")
            assert status in (200, 404, 503), answer
            return True if status == 200 else None

        async def delivered() -> bool | None:
            statuses = set(await h.upload(FRAMES[1]))
            assert statuses <= {202, 409, 503}, "409: nobody has asked for it again yet"
            return True if statuses == {202} else None

        await hub.until(delivered)
        await hub.until(sealed)
        health = (await h.get("/healthz"))[1]
        assert health == {"alive": True, "stuck": []}
        assert all(service["status"] == "ok" for service in (await h.get("/status"))[1]["services"])


async def test_a_database_that_nobody_serves_is_said_to_be_away(tmp_path: Path) -> None:
    with pytest.raises(errors.Transient, match="could not be written"):
        await book.open_book(f"postgresql://stakeside@/hub?host={tmp_path}", deployment=DEPLOYMENT)


async def test_a_hubs_book_behind_a_link_has_one_writer_and_is_for_its_user_alone(tmp_path: Path) -> None:
    (tmp_path / "link.db").symlink_to(tmp_path / "hub.db")
    opened = await book.open_book(f"sqlite:///{tmp_path / 'hub.db'}", deployment=DEPLOYMENT)
    assert (tmp_path / "hub.db").stat().st_mode & 0o777 == 0o600
    with pytest.raises(errors.StoreError, match="another process writes"):
        await book.open_book(f"sqlite:///{tmp_path / 'link.db'}", deployment=DEPLOYMENT)
    await opened.close()
