"""What the book keeps: every table is declared, what may go goes, and nothing else can."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import sqlalchemy as sa

from agent.services import retention as service
from domain import errors
from earnings import retention as hub_retention
from earnings import tables as hub_tables
from kit import runtime
from kit.retention import Bounded, Forever, Working
from store import blocks, cursors, journal, latches, logs, parked, queries, retention, tables, tally
from store.book import Book
from store.connection import Connection
from tests.store import factory, library

ROOT = Path(__file__).parents[2]
DAY = retention.DAY_S
LIMITS = retention.Limits(orphaned_days=90, journal_days=90)
OLD_S = factory.header(1).time + 1000
LATER_S = OLD_S + 91 * DAY


@pytest.mark.parametrize(
    ("rules", "metadata"),
    [(retention.RULES, tables.metadata), (hub_retention.RULES, hub_tables.metadata)],
    ids=["agent", "hub"],
)
def test_every_table_is_declared(rules: dict[str, object], metadata: sa.MetaData) -> None:
    assert set(rules) == set(metadata.tables)


@pytest.mark.parametrize("rules", [retention.RULES, hub_retention.RULES], ids=["agent", "hub"])
def test_the_page_names_every_table_and_its_rule(rules: dict[str, object]) -> None:
    section = (ROOT / "docs" / "databases.md").read_text().partition("## What is kept")[2].partition("\n## ")[0]
    rows = [line.split("|")[1:3] for line in section.splitlines() if line.startswith("| `")]
    shown = {name: kept for names, kept in rows for name in re.findall(r"`(\w+)`", names)}
    for name, rule in rules.items():
        match rule:
            case Forever():
                assert "for ever" in shown[name], name
            case Working():
                assert "working state" in shown[name], name
            case Bounded(setting=setting):
                assert setting in shown[name], name
                assert setting or "until" in shown[name], name
    assert len(re.findall(r"`(\w+)`", " ".join(names for names, _ in rows))) == len(shown)


def test_what_was_signed_decided_or_paid_stays_for_ever() -> None:
    bounded = {name for name, rule in retention.RULES.items() if isinstance(rule, Bounded)}
    assert bounded == {"block", "log", "proven", "parked", "journal", "session"}
    assert set(tables.MAY_GO) == bounded - {"parked", "session"}


async def _forked(book: Book, *, finalized: int = 10) -> None:
    """Blocks 1 to 20; of 5 to 8 and of 15 there is one that a reorg put aside, each with two logs and a parked one."""
    canonical = [factory.header(n) for n in range(1, 21)]
    aside = [factory.header(n, "b") for n in (5, 6, 7, 8, 15)]
    async with book.write() as c:
        for header in aside:
            await blocks.insert(c, [header], proof="bloom")
            await logs.insert(c, [factory.row(header, n) for n in range(2)])
            await parked.add(c, stream_or_protocol="devnet", block_hash=header.hash, log_index=7, reason="odd")
        await blocks.prove(c, [header.hash for header in aside], proof="receipts")
        await blocks.orphan(c, [header.hash for header in aside], generation=1)
        await blocks.insert(c, canonical, proof="receipts")
        await logs.insert(c, [factory.row(header) for header in canonical])
        await cursors.put(c, "finalized", cursors.Cursor(finalized, canonical[finalized - 1].hash, 1))


async def _numbers(c: Connection, *, table: sa.Table = tables.block) -> list[int]:
    query = sa.select(table.c.number).distinct().order_by(table.c.number)
    if table is tables.block:
        query = query.where(tables.block.c.orphaned_generation.is_not(None))
    return [row.number for row in await c.rows(query)]


async def test_what_a_reorg_put_aside_goes_when_it_is_final_and_old(book: Book) -> None:
    await _forked(book)
    async with book.write() as c:
        done = await retention.apply(c, LIMITS, now_s=LATER_S)
        assert await _numbers(c) == [15], "above finality nothing goes"
        assert done.rows == 4 * (1 + 2 + 1)
        assert len(await c.rows(sa.select(tables.proven))) == 1
    async with book.read() as c:
        assert [await blocks.canonical_at(c, n) for n in range(1, 21)] == [factory.header(n) for n in range(1, 21)]
        assert len(await logs.between(c, protocol="devnet", first=1, last=20)) == 20


async def test_the_counts_follow_what_goes(book: Book) -> None:
    await _forked(book)
    async with book.write() as c:
        before = await tally.read(c)
        await retention.apply(c, LIMITS, now_s=LATER_S)
    async with book.read() as c:
        after = await tally.read(c)
        summary = await queries.summary(c)
        for table in ("block", "log"):
            assert after[table] == await c.scalar(sa.select(sa.func.count()).select_from(tables.metadata.tables[table]))
    assert {name: before[name] - after[name] for name in after} == {
        "block": 4,
        "block_orphaned": 4,
        "log": 8,
        "log_orphaned": 8,
    }
    assert (summary.blocks, summary.blocks_orphaned, summary.logs, summary.logs_orphaned) == (20, 1, 20, 2)
    assert summary.parked == [], "what was parked with them does not come back"


async def test_what_is_young_stays_and_nought_days_keep_everything(book: Book) -> None:
    await _forked(book)
    async with book.write() as c:
        for number in (1, 2):
            await journal.append(c, "committed", factory.header(number).ref, 0, OLD_S)
        assert (await retention.apply(c, retention.Limits(0, 0), now_s=LATER_S)).rows == 0
        assert await retention.apply(c, LIMITS, now_s=OLD_S + 89 * DAY) == retention.Removed(0, more=False)
        assert await _numbers(c) == [5, 6, 7, 8, 15]


async def test_nothing_goes_while_a_latch_is_set(book: Book) -> None:
    await _forked(book)
    async with book.write() as c:
        await latches.set(c, "finality", reason="a finalized block was replaced", at_s=1)
        assert (await retention.apply(c, LIMITS, now_s=LATER_S)).rows == 0
        await latches.clear(c, "finality", by="ops", at_s=2)
        assert (await retention.apply(c, LIMITS, now_s=LATER_S)).rows > 0


async def test_routine_entries_of_the_journal_go_and_incidents_stay(book: Book) -> None:
    async with book.write() as c:
        for kind in ("committed", "finalized", "reverted", "adopted", "violated", "committed"):
            await journal.append(c, kind, factory.header(1).ref, 0, OLD_S)  # type: ignore[arg-type]
        await journal.append(c, "committed", factory.header(2).ref, 0, LATER_S)
        assert (await retention.apply(c, LIMITS, now_s=LATER_S)).rows == 3
        assert [entry.kind for entry in await journal.newest(c, limit=9)] == [
            "committed",
            "violated",
            "adopted",
            "reverted",
        ]


async def test_the_newest_entry_stays_so_that_numbers_never_come_back(book: Book) -> None:
    async with book.write() as c:
        for number in (1, 2, 3):
            await journal.append(c, "committed", factory.header(number).ref, 0, OLD_S)
        assert (await retention.apply(c, LIMITS, now_s=LATER_S)).rows == 2
        await journal.append(c, "committed", factory.header(4).ref, 0, LATER_S)
        assert [entry.id for entry in await journal.newest(c, limit=9)] == [4, 3]


async def test_a_slice_is_bounded_and_says_that_there_is_more(book: Book, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "BLOCKS", 3)
    monkeypatch.setattr(retention, "ENTRIES", 2)
    await _forked(book)
    async with book.write() as c:
        for number in range(1, 7):
            await journal.append(c, "committed", factory.header(number).ref, 0, OLD_S)
    clock = runtime.ManualClock(LATER_S)
    housekeeping = service.RetentionService(book, orphaned_days=90, journal_days=90, clock=clock)
    waits = [await housekeeping.step() for _ in range(5)]
    assert waits.count(service.BETWEEN_S) >= 2
    assert waits[-1] == service.IDLE_S
    async with book.read() as c:
        assert await _numbers(c) == [15]
        assert await journal.count(c) == 1
        found = {row.name: row.rows for row in await c.rows(sa.select(tables.pruned))}
    assert found == {"orphaned": 16, "journal": 5}


FACTS = ("block", "log", "proven", "journal", "vote", "receipt", "meta", "intent", "signed_tx")
MUST_STAY = (
    "DELETE FROM block WHERE orphaned_generation IS NULL AND number = 3",
    "DELETE FROM block WHERE orphaned_generation IS NOT NULL AND number = 15",
    "DELETE FROM log WHERE number = 15",
    "DELETE FROM log WHERE number = 3",
    "DELETE FROM journal WHERE kind = 'violated'",
    *(f'DELETE FROM "{name}"' for name in FACTS),
)


async def _refused(book: Book, statement: str, **values: object) -> None:
    with pytest.raises(errors.StoreError, match="append-only"):
        async with book.write() as c:
            assert await c.change(sa.text(statement), values or None) > 0, "the test must try to delete something"


async def test_nothing_else_can_be_deleted_even_after_everything_was_allowed(book: Book) -> None:
    """The widest permission there can be: canonical blocks, what is not final and incidents stay all the same."""
    own = ("meta", "block", "log", "cursor", "journal", "pruned", "tally")
    async with book.write() as c:
        await c.script(lambda sync: library.fill(sync, tables.metadata, 3, skip=own))
    await _forked(book)
    async with book.write() as c:
        for kind in ("committed", "violated"):
            await journal.append(c, kind, factory.header(1).ref, 0, OLD_S)  # type: ignore[arg-type]
        for name in ("orphaned", "journal"):
            await c.change(tables.pruned.insert().values(name=name, below=1 << 60, rows=0, at_s=0))
    for statement in MUST_STAY:
        await _refused(book, statement)


async def test_without_a_decision_nothing_may_go(book: Book) -> None:
    await _forked(book)
    async with book.write() as c:
        await journal.append(c, "committed", factory.header(1).ref, 0, OLD_S)
    hash_ = factory.header(5, "b").hash
    await _refused(book, "DELETE FROM log WHERE number = 5 AND block_hash = :hash", hash=hash_)
    await _refused(book, "DELETE FROM proven WHERE block_hash = :hash", hash=hash_)
    await _refused(book, "DELETE FROM block WHERE number = 5 AND hash = :hash", hash=hash_)
    await _refused(book, "DELETE FROM journal")
