"""Backups: whole while the book is written, told apart when damaged, and marked when they become a book again."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa

from domain import errors, hashing
from kit import backups, copying
from store import backup, blocks, copy, cursors, latches, logs, tables
from store.book import Book
from tests.store import factory, library, postgres

ROOT = Path(__file__).parents[2]
KINDS = (copy.BOOK,)
EXPECT = {"deployment": hashing.hex0x(factory.DEPLOYMENT)}
Place = Callable[[str], str]


@pytest.fixture
def other(request: pytest.FixtureRequest, tmp_path: Path, url: str) -> Place:
    """`other("sqlite")`: an empty place to restore to, beside `url`."""
    count = 0

    def empty(kind: str) -> str:
        nonlocal count
        count += 1
        if kind == "sqlite":
            return f"sqlite:///{tmp_path / f'restored{count}.db'}"
        server: postgres.Server = request.getfixturevalue("postgres_server")
        return server.create(f"restore_{os.getpid()}_{os.urandom(4).hex()}")

    return empty


async def _grow(book: Book, number: int) -> None:
    """What is in the book follows from `number` alone."""
    header = factory.header(number)
    async with book.write() as c:
        await blocks.insert(c, [header], proof="receipts")
        await logs.insert(c, [factory.row(header, n, amount=number) for n in range(20)])
        await cursors.put(c, "index", cursors.Cursor(number, header.hash, 0))


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
async def test_a_backup_under_load_restores_to_the_state_of_one_moment(
    url: str, kind: str, other: Place, tmp_path: Path
) -> None:
    """The same number of steps from nothing gives the same digest: nothing of a later step is in it, and nothing is missing."""
    book = await factory.open_book(url)
    for number in range(1, 30):
        await _grow(book, number)
    stop, written = asyncio.Event(), 29

    async def index() -> None:
        nonlocal written
        while not stop.is_set():
            await _grow(book, written + 1)
            written += 1

    load = asyncio.create_task(index())
    async with asyncio.timeout(60):
        while written < 32:
            await asyncio.sleep(0.01)
        manifest = await backups.take(url, tmp_path / "backup", KINDS, at_s=5)
        taken = written
        while written < taken + 2:
            await asyncio.sleep(0.01)
    stop.set()
    await load
    await book.close()

    restored = other(kind)
    await backups.restore(tmp_path / "backup", restored, KINDS, expect=EXPECT, at_s=6)
    [(reached,)] = await library.query(restored, "SELECT number FROM cursor WHERE name = 'index'")
    assert 32 <= reached <= taken
    again = other("sqlite")
    fresh = await factory.open_book(again)
    for number in range(1, reached + 1):
        await _grow(fresh, number)
    await fresh.close()
    digests = {(await copying.digest(place, KINDS)).whole.hex() for place in (restored, again)}
    assert digests == {manifest.digest}


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
async def test_every_table_comes_back(url: str, kind: str, other: Place, tmp_path: Path) -> None:
    await library.written(url, 10)
    before = await copying.digest(url, KINDS)
    manifest = await backups.take(url, tmp_path / "backup", KINDS, at_s=5)
    restored = other(kind)
    done = await backups.restore(tmp_path / "backup", restored, KINDS, expect=EXPECT, at_s=6)
    assert await copying.digest(restored, KINDS) == before
    assert (done.manifest, manifest.digest, done.kept) == (manifest, before.whole.hex(), "")
    assert manifest.facts["chain_id"] == "31337"


async def test_a_restored_book_says_so_until_a_person_accepts_it(url: str, other: Place, tmp_path: Path) -> None:
    await (await factory.open_book(url)).close()
    await backups.take(url, tmp_path / "backup", KINDS, at_s=5)
    here = other("sqlite")
    await backups.restore(tmp_path / "backup", here, KINDS, expect=EXPECT, at_s=6)
    opened = await factory.open_book(here)
    try:
        async with opened.write() as c:
            found = await backup.restored(c)
            assert found is not None
            assert (found.number, found.restored_at_s, found.taken_at_s) == (1, 6, 5)
            assert await backup.accept_restored(c, by="ops", at_s=9)
            assert await backup.restored(c) is None
            assert not await backup.accept_restored(c, by="ops", at_s=9)
    finally:
        await opened.close()


async def test_an_accepted_book_that_is_restored_again_asks_again(tmp_path: Path) -> None:
    here = f"sqlite:///{tmp_path / 'book0.db'}"
    await (await factory.open_book(here)).close()
    for number in (1, 2):
        await backups.take(here, tmp_path / f"backup{number}", KINDS, at_s=number)
        here = f"sqlite:///{tmp_path / f'book{number}.db'}"
        await backups.restore(tmp_path / f"backup{number}", here, KINDS, expect=EXPECT, at_s=10 + number)
        opened = await factory.open_book(here)
        async with opened.write() as c:
            found = await backup.restored(c)
            assert found is not None
            assert found.number == number
            await backup.accept_restored(c, by="ops", at_s=20)
        await opened.close()


async def test_clearing_the_latch_is_the_acceptance(book: Book) -> None:
    async with book.write() as c:
        mark = backup.Restored(1, 6, 5, "00")
        await c.script(lambda sync: backups.mark(sync, copy.BOOK, mark))
        await latches.set(c, backup.LATCH, reason="from a backup", at_s=7)
        await latches.set(c, "votes", reason="another", at_s=7)
        await latches.clear(c, "votes", by="ops", at_s=8)
        assert await backup.restored(c) == mark
        await latches.clear(c, backup.LATCH, by="ops", at_s=8)
        assert await backup.restored(c) is None
    async with book.read() as c:
        accepted = await c.scalar(sa.select(tables.meta.c.value).where(tables.meta.c.key == "restored.1.accepted"))
    assert accepted == '{"by":"ops","at_s":8}'


async def test_the_mark_of_a_restore_cannot_be_taken_away(book: Book) -> None:
    async with book.write() as c:
        await c.script(lambda sync: backups.mark(sync, copy.BOOK, backup.Restored(1, 6, 5, "00")))
    with pytest.raises(errors.StoreError, match="append-only"):
        async with book.write() as c:
            await c.change(tables.meta.delete().where(tables.meta.c.key.startswith("restored")))


async def test_a_book_that_exists_is_not_overwritten(url: str, tmp_path: Path) -> None:
    await library.written(url, 3)
    await backups.take(url, tmp_path / "backup", KINDS, at_s=5)
    before = await copying.digest(url, KINDS)
    with pytest.raises(errors.StoreError, match="something already"):
        await backups.restore(tmp_path / "backup", url, KINDS, expect=EXPECT, at_s=6)
    assert await copying.digest(url, KINDS) == before


async def test_by_force_the_old_book_is_kept_aside(url: str, tmp_path: Path) -> None:
    await library.written(url, 3)
    await backups.take(url, tmp_path / "backup", KINDS, at_s=5)
    opened = await factory.open_book(url)
    await _grow(opened, 1000)
    await opened.close()
    done = await backups.restore(tmp_path / "backup", url, KINDS, expect=EXPECT, at_s=6, force=True)
    assert (await copying.digest(url, KINDS)).whole.hex() == done.manifest.digest
    if url.startswith("sqlite"):
        kept = await library.query(f"sqlite:///{done.kept}", "SELECT count(*) FROM log")
    else:
        kept = await library.query(url, f'SELECT count(*) FROM "{done.kept}".log')
    assert kept == [(23,)]
    opened = await factory.open_book(url)
    await _grow(opened, 2000)
    with pytest.raises(errors.StoreError, match="append-only"):
        async with opened.write() as c:
            await c.change(tables.vote.delete())
    await opened.close()


async def test_a_damaged_book_is_kept_aside_too(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'book.db'}"
    await library.written(url, 3)
    await backups.take(url, tmp_path / "backup", KINDS, at_s=5)
    (tmp_path / "book.db").write_bytes(b"scrambled" * 1000)
    done = await backups.restore(tmp_path / "backup", url, KINDS, expect=EXPECT, at_s=6, force=True)
    assert (await copying.digest(url, KINDS)).whole.hex() == done.manifest.digest
    assert Path(done.kept).read_bytes().startswith(b"scrambled")


async def test_a_log_whose_book_is_gone_is_not_read_into_a_new_one(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'book.db'}"
    await library.written(url, 3)
    await backups.take(url, tmp_path / "backup", KINDS, at_s=5)
    (tmp_path / "book.db").unlink()
    (tmp_path / "book.db-wal").write_bytes(b"rows")
    for force in (False, True):
        with pytest.raises(errors.StoreError, match=r"something already|log without its book"):
            await backups.restore(tmp_path / "backup", url, KINDS, expect=EXPECT, at_s=6, force=force)
    (tmp_path / "book.db-wal").write_bytes(b"")
    await backups.restore(tmp_path / "backup", url, KINDS, expect=EXPECT, at_s=6)
    await (await factory.open_book(url)).close()


async def test_a_book_in_use_is_not_replaced(url: str, tmp_path: Path) -> None:
    book = await factory.open_book(url)
    try:
        await backups.take(url, tmp_path / "backup", KINDS, at_s=5)
        with pytest.raises(errors.StoreError, match="in use"):
            await backups.restore(tmp_path / "backup", url, KINDS, expect=EXPECT, at_s=6, force=True)
        await _grow(book, 1)
    finally:
        await book.close()


async def test_a_backup_of_another_deployment_is_refused(tmp_path: Path) -> None:
    url, here = f"sqlite:///{tmp_path / 'book.db'}", f"sqlite:///{tmp_path / 'new.db'}"
    await (await factory.open_book(url)).close()
    await backups.take(url, tmp_path / "backup", KINDS, at_s=5)
    with pytest.raises(errors.StoreError, match="another deployment"):
        await backups.restore(tmp_path / "backup", here, KINDS, expect={"deployment": "0x00"}, at_s=6)


@pytest.mark.parametrize(
    "harm",
    [
        "DELETE FROM gap WHERE id = 2",
        "INSERT INTO tally (name, value) VALUES ('x', 1)",
        "UPDATE outbox SET attempts = attempts + 1 WHERE position = 1",
        "UPDATE backup_manifest SET value = replace(value, '\"digest\":\"', '\"digest\":\"00') WHERE key = 'manifest'",
    ],
)
async def test_a_changed_backup_is_refused_and_nothing_is_made(harm: str, tmp_path: Path) -> None:
    url, file = f"sqlite:///{tmp_path / 'book.db'}", tmp_path / "backup"
    await library.written(url, 3)
    await backups.take(url, file, KINDS, at_s=5)
    with closing(sqlite3.connect(file, isolation_level=None)) as c:
        c.execute(harm)
    with pytest.raises(errors.StoreError, match="digest"):
        await backups.restore(file, f"sqlite:///{tmp_path / 'new.db'}", KINDS, expect=EXPECT, at_s=6)
    assert not list(tmp_path.glob("new.db"))


@pytest.mark.parametrize("content", ["text", "book", "nothing"])
async def test_what_is_no_backup_is_refused(content: str, tmp_path: Path) -> None:
    file = tmp_path / "file"
    if content == "text":
        file.write_text("hello\n" * 100)
    if content == "book":
        await library.written(f"sqlite:///{file}", 1)
    with pytest.raises(errors.StoreError):
        await backups.restore(file, f"sqlite:///{tmp_path / 'new.db'}", KINDS, expect=EXPECT, at_s=6)
    assert not (tmp_path / "new.db").exists()


async def test_a_backup_is_one_file_that_only_its_owner_reads(url: str, tmp_path: Path) -> None:
    folder = tmp_path / "backups"
    folder.mkdir()
    await library.written(url, 3)
    await backups.take(url, folder / "backup", KINDS, at_s=5)
    assert [path.name for path in folder.iterdir()] == ["backup"]
    assert stat.S_IMODE((folder / "backup").stat().st_mode) == 0o600
    with pytest.raises(errors.StoreError, match="there is a file already"):
        await backups.take(url, folder / "backup", KINDS, at_s=5)


@pytest.mark.slow
@pytest.mark.parametrize("point", ["copy.after_rows", "copy.before_swap", "copy.after_swap"])
async def test_a_crash_during_a_forced_restore_leaves_one_whole_book(url: str, point: str, tmp_path: Path) -> None:
    await library.written(url, 3)
    await backups.take(url, tmp_path / "backup", KINDS, at_s=5)
    opened = await factory.open_book(url)
    await _grow(opened, 1000)
    await opened.close()
    newer, older = await copying.digest(url, KINDS), (await backups.read_manifest(tmp_path / "backup")).digest
    code = (
        "import asyncio, pathlib, sys\nfrom kit import backups\nfrom store import copy\n"
        "asyncio.run(backups.restore(pathlib.Path(sys.argv[1]), sys.argv[2], (copy.BOOK,), expect={}, at_s=6, force=True))"
    )
    died = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "backup"), url],
        cwd=ROOT,
        env=os.environ | {"STAKESIDE_CRASH_AT": point},
        timeout=60,
        check=False,
    )
    assert died.returncode == -signal.SIGKILL
    found = (await copying.digest(url, KINDS)).whole.hex()
    assert found == (older if point == "copy.after_swap" else newer.whole.hex())


@pytest.mark.parametrize(
    ("own", "hub", "open_items", "older"),
    [(5, 5, 0, False), (5, 6, 1, False), (5, 6, 0, True), (5, 9, 3, True), (5, 2, 0, False)],
)
def test_a_hub_that_signed_for_more_than_was_sent_knows_a_newer_book(
    own: int, hub: int, open_items: int, older: bool
) -> None:
    assert backup.older_than_hub(own, hub, open_items=open_items) is older
