"""The hub's book moves, is backed up and comes back like the agent's."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from domain import errors, hashing
from earnings import book, copy, tables
from kit import backups, copying
from tests.earnings import factory, hub
from tests.store import library, postgres

KINDS = (copy.BOOK,)
FRAMES = factory.frames(2)
DEPLOYMENT = factory.document().digest()
EXPECT = {"deployment": hashing.hex0x(DEPLOYMENT)}
Place = Callable[[str], str]
WAYS = [("sqlite", "postgresql"), ("postgresql", "sqlite")]


@pytest.fixture
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    def empty(kind: str) -> str:
        if kind == "sqlite":
            return f"sqlite:///{tmp_path / os.urandom(4).hex()}.db"
        server: postgres.Server = request.getfixturevalue("postgres_server")
        return server.create(f"hub_{os.urandom(4).hex()}")

    return empty


async def _filled(url: str) -> None:
    opened = await book.open_book(url, deployment=DEPLOYMENT)
    async with opened.write() as c:
        await c.run_sync(lambda sync: library.fill(sync, tables.metadata, 40))
    await opened.close()


@pytest.mark.parametrize(("there", "here"), WAYS)
async def test_a_hub_goes_on_in_the_other_database(there: str, here: str, place: Place, tmp_path: Path) -> None:
    old, new = place(there), place(here)
    async with hub.running(tmp_path, store=old) as h:
        await h.seal(FRAMES[0])
    assert (await copying.copy(old, new, KINDS)).same
    async with hub.running(tmp_path, store=new) as h:
        await h.seal(FRAMES[1])
        assert (await h.get("/status"))[1]["sealed"] == 2
        page = (await h.get(f"/v1/receipts/{factory.address(factory.AGENTS[0])}", token=None))[1]["receipts"]
        assert [item["receipt"]["receiptNumber"] for item in page] == ["1", "2"]


@pytest.mark.parametrize(("there", "here"), WAYS)
async def test_every_table_of_a_hub_is_copied_and_restored(there: str, here: str, place: Place, tmp_path: Path) -> None:
    old, new = place(there), place(here)
    await _filled(old)
    done = await copying.copy(old, new, KINDS)
    assert done.same
    assert {table.name for table in done.source.tables if table.rows} == set(tables.metadata.tables)
    manifest = await backups.take(new, tmp_path / "backup", KINDS, at_s=5)
    restored = place(there)
    await backups.restore(tmp_path / "backup", restored, KINDS, expect=EXPECT, at_s=6)
    assert (await copying.digest(restored, KINDS)).whole.hex() == manifest.digest == done.source.whole.hex()


async def test_a_backup_beside_a_running_hub_is_whole(place: Place, tmp_path: Path) -> None:
    async with hub.running(tmp_path, store=place("sqlite")) as h:
        await h.seal(FRAMES[0])
        url = str(next(path for path in tmp_path.iterdir() if path.suffix == ".db"))
        await backups.take(f"sqlite:///{url}", tmp_path / "backup", KINDS, at_s=5)
        await h.seal(FRAMES[1])
    here = place("sqlite")
    await backups.restore(tmp_path / "backup", here, KINDS, expect=EXPECT, at_s=6)
    async with hub.running(tmp_path, store=here) as h:
        assert (await h.get("/status"))[1]["sealed"] == 1
        await h.seal(FRAMES[1])


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
async def test_a_running_hub_is_neither_moved_nor_replaced(kind: str, place: Place, tmp_path: Path) -> None:
    url = place(kind)
    opened = await book.open_book(url, deployment=DEPLOYMENT)
    try:
        await backups.take(url, tmp_path / "backup", KINDS, at_s=5)
        with pytest.raises(errors.StoreError, match="in use"):
            await copying.copy(url, place("sqlite"), KINDS)
        with pytest.raises(errors.StoreError, match="in use"):
            await backups.restore(tmp_path / "backup", url, KINDS, expect=EXPECT, at_s=6, force=True)
    finally:
        await opened.close()


async def test_a_restored_hub_says_so_in_its_book(place: Place, tmp_path: Path) -> None:
    url, here = place("sqlite"), place("sqlite")
    await (await book.open_book(url, deployment=DEPLOYMENT)).close()
    await backups.take(url, tmp_path / "backup", KINDS, at_s=5)
    await backups.restore(tmp_path / "backup", here, KINDS, expect=EXPECT, at_s=6)
    opened = await book.open_book(here, deployment=DEPLOYMENT)
    async with opened.read() as c:
        stored = await c.scalar(sa.select(tables.meta.c.value).where(tables.meta.c.name == "restored.1"))
    await opened.close()
    assert b'"restored_at_s":6' in stored
