"""Opening the book: whose it is, who may write, what a crash leaves, what damage looks like."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import sqlalchemy as sa

from domain import errors
from kit import databases
from kit import logs as kit_logs
from store import blocks, cursors, latches, logs, principals, tally
from store.book import Book, Connection
from tests.store import belt, factory

ROOT = Path(__file__).parents[2]
WAIT_S = 60

_OPEN = """
import asyncio, sys
from tests.store import factory
from domain import errors
from store import blocks, cursors, logs, journal

async def main(url):
    try:
        opened = await factory.open_book(url)
    except errors.StoreError as error:
        print("refused:", error, flush=True)
        return
{body}
    await opened.close()

asyncio.run(main(sys.argv[1]))
"""

_HOLD = """
    print("holding", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
"""

_WRITE = """
    for number in range(1, 100):
        header = factory.header(number)
        async with opened.write() as c:
            await blocks.insert(c, [header], proof="receipts")
            await logs.insert(c, [factory.row(header, n) for n in range(50)])
            await cursors.put(c, "index", cursors.Cursor(number, header.hash, 0))
        print(number, flush=True)
"""


def _start(url: str, body: str, **env: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", _OPEN.format(body=body), url],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **env},
    )


async def test_a_second_process_is_refused_and_told_who_holds_the_book(url: str) -> None:
    holder = _start(url, _HOLD)
    try:
        assert holder.stdout is not None and holder.stdout.readline() == "holding\n"
        with pytest.raises(errors.StoreError, match=str(holder.pid)) as caught:
            await factory.open_book(url)
        assert "stop it first" in caught.value.cure
    finally:
        holder.communicate("\n", timeout=WAIT_S)
    await (await factory.open_book(url)).close()


async def test_the_lock_dies_with_its_process(url: str) -> None:
    holder = _start(url, _HOLD)
    assert holder.stdout is not None and holder.stdout.readline() == "holding\n"
    holder.kill()
    holder.communicate(timeout=WAIT_S)
    await (await factory.open_book(url)).close()


async def test_a_second_opening_in_the_same_process_is_refused(book: Book, url: str) -> None:
    with pytest.raises(errors.StoreError, match="in use"):
        await factory.open_book(url)


async def test_a_reader_opens_beside_the_writer_and_cannot_write(book: Book, url: str) -> None:
    async with book.write() as c:
        await blocks.insert(c, [factory.header(1)], proof="node")
    reader = await factory.open_book(url, read_only=True)
    try:
        async with reader.read() as c:
            assert await blocks.tip(c) == factory.header(1)
        with pytest.raises(errors.StoreError, match="for reading"):
            async with reader.write():
                pass
        with pytest.raises(errors.StoreError):
            async with reader.read() as c:
                await cursors.put(c, "index", cursors.Cursor(1, bytes(32), 0))
    finally:
        await reader.close()


async def test_a_reader_is_told_who_writes_without_keeping_anybody_out(url: str) -> None:
    writer = await factory.open_book(url)
    reader = await factory.open_book(url, read_only=True)
    try:
        told = await reader.holder()
        assert told is not None and f"process {os.getpid()}" in told
        await writer.close()
        assert await reader.holder() is None
        writer = await factory.open_book(url)
    finally:
        await writer.close()
        await reader.close()


async def test_reading_what_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(errors.StoreError, match="no book to read"):
        await factory.open_book(f"sqlite:///{tmp_path / 'none.db'}", read_only=True)
    assert not (tmp_path / "none.db").exists()


async def _a_block(c: Connection) -> None:
    await blocks.insert(c, [factory.header(1)], proof="receipts")


async def _a_latch(c: Connection) -> None:
    await latches.set(c, "finality", reason="seen", at_s=1)


async def _a_principal(c: Connection) -> None:
    await principals.add(c, "root", ["admin"], b"\x01" * 32, by="root", reason="joins", at_s=10)


async def _an_intent(c: Connection) -> None:
    await belt.propose(c)


@pytest.mark.parametrize("held", [_a_block, _a_latch, _a_principal, _an_intent])
@pytest.mark.parametrize(
    ("changes", "both"),
    [
        ({"deployment": b"\xd1" * 32}, ("0xd0d0d0d0…", "0xd1d1d1d1…")),
        ({"chain_id": 1}, ("31337", "1")),
        ({"genesis": b"\x9f" * 32}, ("0x9e9e9e9e…", "0x9f9f9f9f…")),
    ],
)
async def test_a_book_of_another_deployment_that_holds_anything_is_refused_with_both_values_and_its_place(
    url: str, changes: dict[str, object], both: tuple[str, str], held: Callable[[Connection], Awaitable[None]]
) -> None:
    opened = await factory.open_book(url)
    async with opened.write() as c:
        await held(c)
    await opened.close()
    for read_only in (False, True):
        with pytest.raises(errors.StoreError, match="belongs to another") as caught:
            await factory.open_book(url, read_only=read_only, **changes)
        shown = kit_logs.scrub(str(caught.value))
        assert (
            all(value in shown for value in both) and kit_logs.scrub(opened.shown) in shown and "withheld" not in shown
        )
    await (await factory.open_book(url)).close()


async def test_a_book_that_holds_nothing_is_bound_anew_and_guarded_as_before(url: str) -> None:
    changes: dict[str, object] = {"deployment": b"\xd1" * 32, "chain_id": 1, "genesis": b"\x9f" * 32}
    await (await factory.open_book(url)).close()
    await (await factory.open_book(url, read_only=True, **changes)).close()
    opened = await factory.open_book(url, **changes)
    with pytest.raises(errors.StoreError, match="append-only"):
        async with opened.write() as c:
            await c.change(sa.text("UPDATE meta SET value = '2' WHERE key = 'chain_id'"))
    async with opened.write() as c:
        await _a_block(c)
    await opened.close()
    with pytest.raises(errors.StoreError, match="belongs to another deployment"):
        await factory.open_book(url)
    await (await factory.open_book(url, **changes)).close()


async def test_a_restored_book_is_not_bound_anew_even_when_it_holds_nothing(url: str) -> None:
    opened = await factory.open_book(url)
    async with opened.write() as c:
        await c.change(sa.text("INSERT INTO meta (key, value) VALUES ('restored.1', 'from a backup')"))
    await opened.close()
    with pytest.raises(errors.StoreError, match="belongs to another chain id"):
        await factory.open_book(url, chain_id=1)


@pytest.mark.parametrize("address", ["mysql://x/y", "sqlite://", "nonsense", "sqlite:///:memory:"])
async def test_an_address_we_do_not_know_is_refused(address: str) -> None:
    with pytest.raises(errors.StoreError, match="sqlite:///path"):
        await factory.open_book(address)


async def test_a_server_that_is_not_there_is_a_clear_error(tmp_path: Path) -> None:
    pytest.importorskip("asyncpg")
    with pytest.raises(errors.StoreError, match="cannot be reached"):
        await factory.open_book(f"postgresql://me:secret@/x?host={tmp_path}")


@pytest.mark.parametrize("passage", [2, 3, 17])
@pytest.mark.parametrize("where", ["store.before_commit", "store.after_commit"])
async def test_a_kill_around_a_commit_leaves_whole_transactions_only(url: str, where: str, passage: int) -> None:
    """Passage 1 is the opening itself; the kill comes in the (n−1)-th block's transaction."""
    writer = _start(url, _WRITE, STAKESIDE_CRASH_AT=f"{where}:{passage}")
    out, _ = writer.communicate(timeout=WAIT_S)
    assert writer.returncode == -signal.SIGKILL
    committed = passage - 1 if where == "store.after_commit" else passage - 2
    assert len(out.splitlines()) == passage - 2
    opened = await factory.open_book(url)
    async with opened.read() as c:
        cursor = await cursors.get(c, "index")
        tip = await blocks.tip(c)
        rows = await logs.between(c, protocol=factory.PROTOCOL, first=0, last=1000)
        assert (0 if cursor is None else cursor.number, 0 if tip is None else tip.number) == (committed, committed)
        assert len(rows) == 50 * committed == (await tally.read(c))["log"]
    await opened.close()


@pytest.mark.parametrize("where", ["store.before_commit", "store.after_commit"])
async def test_a_kill_while_the_book_is_made_leaves_none_or_a_whole_one(url: str, where: str) -> None:
    writer = _start(url, _WRITE, STAKESIDE_CRASH_AT=f"{where}:1")
    writer.communicate(timeout=WAIT_S)
    assert writer.returncode == -signal.SIGKILL
    opened = await factory.open_book(url)
    async with opened.write() as c:
        await blocks.insert(c, [factory.header(1)], proof="node")
    await opened.close()


async def test_a_cancelled_write_leaves_nothing_and_the_book_usable(book: Book) -> None:
    entered = asyncio.Event()

    async def write() -> None:
        async with book.write() as c:
            await blocks.insert(c, [factory.header(1)], proof="node")
            entered.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(write())
    await asyncio.wait_for(entered.wait(), WAIT_S)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with book.write() as c:
        assert await blocks.tip(c) is None
        await blocks.insert(c, [factory.header(2)], proof="node")


async def test_cancelling_at_any_moment_loses_and_halves_nothing(book: Book) -> None:
    """Cancel after ever more turns of the loop: each transaction is there as a whole or not at all."""
    for turns in range(60):
        header = factory.header(turns + 1)

        async def write(header: object = header) -> None:
            async with book.write() as c:
                await blocks.insert(c, [header], proof="node")  # type: ignore[list-item]
                await logs.insert(c, [factory.row(header, proof="node")])  # type: ignore[arg-type]

        task = asyncio.create_task(write())
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
    async with book.read() as c:
        counted = await tally.read(c)
        assert counted["block"] == counted["log"]
        assert await c.scalar(sa.text("SELECT count(*) FROM log")) == counted["log"]
    async with book.write() as c:
        await blocks.insert(c, [factory.header(1000)], proof="node")


async def test_writers_of_one_process_take_turns(book: Book) -> None:
    async def add(number: int) -> None:
        async with book.write() as c:
            seen = await cursors.get(c, "sum")
            await asyncio.sleep(0)
            await cursors.put(c, "sum", cursors.Cursor((seen.number if seen else 0) + number, bytes(32), 0))

    await asyncio.gather(*(add(n) for n in range(20)))
    async with book.read() as c:
        assert (await cursors.get(c, "sum")) == cursors.Cursor(sum(range(20)), bytes(32), 0)


async def test_a_transaction_inside_a_transaction_is_refused_instead_of_waiting_for_ever(book: Book) -> None:
    with pytest.raises(errors.StoreError, match="inside another"):
        async with book.write(), asyncio.timeout(WAIT_S), book.write():
            pass


async def test_a_reader_sees_one_moment(book: Book) -> None:
    async with book.write() as c:
        await blocks.insert(c, [factory.header(1)], proof="node")
    async with book.read() as reader:
        assert await blocks.tip(reader) == factory.header(1)
        async with book.write() as c:
            await blocks.insert(c, [factory.header(2)], proof="node")
        assert await blocks.tip(reader) == factory.header(1)


def _filled(path: Path) -> None:
    async def fill() -> None:
        opened = await factory.open_book(f"sqlite:///{path}")
        headers = [factory.header(n) for n in range(1, 400)]
        async with opened.write() as c:
            await blocks.insert(c, headers, proof="receipts")
            await logs.insert(c, [factory.row(h) for h in headers])
        await opened.close()

    asyncio.run(fill())


def _touch(path: Path) -> None:
    async def touch() -> None:
        opened = await factory.open_book(f"sqlite:///{path}")
        try:
            async with opened.read() as c:
                await logs.between(c, protocol=factory.PROTOCOL, first=0, last=1000)
                await c.rows(sa.text("SELECT * FROM block"))
        finally:
            await opened.close()

    asyncio.run(touch())


@pytest.mark.parametrize("kept", [1, 99, 4096, 60_000])
def test_a_file_cut_short_is_an_error_with_advice(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "book.db"
    _filled(path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(errors.StoreError) as caught:
        _touch(path)
    assert "restore the book from a backup" in caught.value.cure


def test_a_damaged_page_is_an_error_with_advice(tmp_path: Path) -> None:
    path = tmp_path / "book.db"
    _filled(path)
    data = bytearray(path.read_bytes())
    for place in range(8192, len(data) - 4096, 4096):
        data[place : place + 600] = b"\xa5" * 600
    path.write_bytes(bytes(data))
    with pytest.raises(errors.StoreError) as caught:
        _touch(path)
    assert "restore the book from a backup" in caught.value.cure


def test_a_file_that_is_no_book_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "book.db"
    path.write_bytes(b"dear diary, " * 1000)
    with pytest.raises(errors.StoreError, match="no book"):
        _touch(path)
    assert path.read_bytes() == b"dear diary, " * 1000


async def test_someone_elses_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    import sqlite3

    path = tmp_path / "other.db"
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE holidays (day TEXT)")
    other.close()
    with pytest.raises(errors.StoreError, match="other tables"):
        await factory.open_book(f"sqlite:///{path}")


async def test_a_folder_that_cannot_be_written_is_a_clear_error(tmp_path: Path) -> None:
    blocker = tmp_path / "file"
    blocker.write_text("")
    with pytest.raises(errors.StoreError, match="cannot be opened"):
        await factory.open_book(f"sqlite:///{blocker / 'book.db'}")


async def test_a_commit_waits_for_the_disk(tmp_path: Path) -> None:
    opened = await factory.open_book(f"sqlite:///{tmp_path / 'book.db'}")
    async with opened.write() as c:
        found = [await c.scalar(sa.text(f"PRAGMA {name}")) for name in ("synchronous", "journal_mode", "foreign_keys")]
    await opened.close()
    assert found == [2, "wal", 1]


async def test_after_a_full_disk_nothing_more_of_a_transaction_is_written(tmp_path: Path) -> None:
    """SQLite may have ended the transaction by itself: what comes after would be there without what came before."""
    opened = await factory.open_book(f"sqlite:///{tmp_path / 'book.db'}")
    with pytest.raises(errors.Unusable, match="disk is full"):
        async with opened.write() as c:
            await blocks.insert(c, [factory.header(1)], proof="node")
            await c.rows(sa.text(f"PRAGMA max_page_count = {await c.scalar(sa.text('PRAGMA page_count'))}"))
            with pytest.raises(errors.Unusable):
                await blocks.insert(c, [factory.header(n) for n in range(2, 2000)], proof="node")
            with pytest.raises(errors.Unusable):
                await c.rows(sa.text("PRAGMA max_page_count = 1000000"))
    async with opened.write() as c:
        await c.rows(sa.text("PRAGMA max_page_count = 1000000"))
        assert await blocks.tip(c) is None
        await blocks.insert(c, [factory.header(2)], proof="node")
    await opened.close()


async def test_the_write_ahead_log_does_not_grow_with_the_book(tmp_path: Path) -> None:
    path = tmp_path / "book.db"
    opened = await factory.open_book(f"sqlite:///{path}")
    for start in range(0, 4000, 200):
        headers = [factory.header(n) for n in range(start, start + 200)]
        async with opened.write() as c:
            await blocks.insert(c, headers, proof="receipts")
            await logs.insert(c, [factory.row(h, n) for h in headers for n in range(3)])
    wal = path.with_name("book.db-wal").stat().st_size
    await opened.close()
    assert wal < 8 << 20


async def test_a_book_behind_a_link_has_one_writer(tmp_path: Path) -> None:
    (tmp_path / "link.db").symlink_to(tmp_path / "book.db")
    opened = await factory.open_book(f"sqlite:///{tmp_path / 'book.db'}")
    with pytest.raises(errors.StoreError, match="in use by process"):
        await factory.open_book(f"sqlite:///{tmp_path / 'link.db'}")
    await opened.close()


async def test_a_new_book_is_for_its_user_alone_and_an_old_one_stays_as_it_is(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        for name in ("old.db", "new.db"):
            if name == "old.db":
                (tmp_path / name).touch(0o640)
            await (await factory.open_book(f"sqlite:///{tmp_path / name}")).close()
    finally:
        os.umask(before)
    assert [(tmp_path / name).stat().st_mode & 0o777 for name in ("old.db", "new.db")] == [0o640, 0o600]


async def test_a_stage_reads_while_people_hold_all_of_their_connections(url: str) -> None:
    the_book = await factory.open_book(url)
    try:
        async with AsyncExitStack() as stack, asyncio.timeout(60):
            for _ in range(databases.READERS):
                await stack.enter_async_context(the_book.look())
            waiting = [asyncio.create_task(the_book.look().__aenter__()) for _ in range(5)]
            async with the_book.read() as c, the_book.probe() as probing:
                assert c is not probing
            for task in waiting:
                assert not task.done()
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
    finally:
        await the_book.close()
