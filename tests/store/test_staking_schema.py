"""The tables of intents and people: what is written stays, what may be set is set once, and a book from before has them too."""

from __future__ import annotations

from collections.abc import Collection

import sqlalchemy as sa

from domain import errors, hashing
from kit import databases, migrations
from store import (
    attempts,
    blocks,
    commands,
    inclusions,
    intents,
    latches,
    logs,
    outbox,
    principals,
    renewal,
    reservations,
    staking,
    tables,
    votes,
)
from store.book import Book
from store.connection import Connection
from store.migrations import HEAD
from tests.store import belt, factory


async def _fill(c: Connection) -> None:
    """At least one row in every table of the belt."""
    of = await belt.bring(c, "final_ok", belt.wanted("a"))
    (kept,) = await attempts.signed_of(c, of.id)
    await attempts.sent(c, kept.hash, hint="", at_s=1)
    gone = await belt.bring(c, "included", belt.wanted("b"), height=9)
    found = await inclusions.standing(c, gone.id)
    assert found is not None
    await inclusions.orphan(c, found.id, 9)
    await intents.move(c, gone.id, expect="included", to="pending", why="", at_s=9)
    await intents.move(c, gone.id, expect="pending", to="superseded", why="", at_s=9)
    await reservations.release(c, gone.id, "over", 9)
    await principals.add(c, "ana", ["admin"], b"\x01" * 32, by="root", reason="r", at_s=1)
    await principals.rotate(c, "ana", b"\x02" * 32, by="ana", reason="r", at_s=2)
    ana = await principals.by_name(c, "ana")
    assert ana is not None
    await principals.open_session(c, token_hash=b"\x03" * 32, principal_id=ana.id, at_s=1, expires_s=99)


async def _refused(book: Book, text: str) -> bool:
    try:
        async with belt.undone(book) as c:
            await c.change(sa.text(text))
    except errors.StoreError as error:
        return "append-only" in str(error)
    return False


async def test_no_fact_can_be_changed_or_deleted(book: Book) -> None:
    async with book.write() as c:
        await _fill(c)
    for table, changing in staking.FACTS.items():
        assert await _refused(book, f'DELETE FROM "{table.name}"'), table.name
        for column in table.columns:
            if column.name not in changing:
                assert await _refused(book, f'UPDATE "{table.name}" SET "{column.name}" = "{column.name}"'), column


async def test_what_may_be_set_is_set_once(book: Book) -> None:
    async with book.write() as c:
        await _fill(c)
    for table, changing in staking.FACTS.items():
        for name in changing:
            for value in (f'"{name}"', "NULL"):
                text = f'UPDATE "{table.name}" SET "{name}" = {value} WHERE "{name}" IS NOT NULL'
                assert await _refused(book, text), (table.name, name)
    async with belt.undone(book) as c:  # and what is not set can be
        assert await c.change(sa.text("UPDATE reservation SET released_at_s = 5 WHERE released_at_s IS NULL")) == 1


async def test_a_truncate_is_refused_too(book: Book) -> None:
    async with book.read() as c:
        if c.dialect.name != "postgresql":
            return  # SQLite has no such statement
    for table in staking.FACTS:
        assert await _refused(book, f'TRUNCATE "{table.name}" CASCADE'), table.name


async def test_two_intents_with_one_nonce_or_one_intent_with_two_cannot_even_be_written(book: Book) -> None:
    async with book.write() as c:
        first = await belt.bring(c, "reserved", belt.wanted("a"))
        second = await belt.propose(c, belt.wanted("b"))
    row = {"chain_id": belt.CHAIN, "account": belt.ACCOUNT, "fence": 1, "reserved_at_s": 1}
    for intent, nonce in ((second.id, 0), (first.id, 1)):
        try:
            async with book.write() as c:
                await c.change(staking.nonce_slot.insert().values(**row, intent=intent, nonce=nonce))
        except errors.StoreError as error:
            assert "contradicts" in str(error)
        else:
            raise AssertionError("a second slot was written")


async def _old_book(url: str) -> dict[str, list[tuple[object, ...]]]:
    """A book of the release before, with rows; what its tables held."""
    engine = databases.backend(url).writer()
    c = Connection(await databases.run(engine.connect))
    try:
        await c.begin()
        await c.script(lambda sync: migrations.upgrade(sync, location="store:migrations", to="0001"))
        bound = {"deployment": hashing.hex0x(factory.DEPLOYMENT), "chain_id": "31337"}
        bound["genesis"] = hashing.hex0x(factory.GENESIS)
        await c.change(tables.meta.insert(), [{"key": key, "value": value} for key, value in bound.items()])
        await blocks.insert(c, [factory.header(n) for n in range(5)], proof="receipts")
        await logs.insert(c, [factory.row(factory.header(n)) for n in range(5)])
        await votes.save(
            c, votes.Attested(b"\x01" * 32, b"\x02" * 32, 1, 0, b"\x03" * 20, b"p", "attestation", 0), at_s=1
        )
        await outbox.put(c, id=b"\x01" * 32, stream=b"\x02" * 32, kind="attestation", payload=b"p")
        await latches.set(c, "finality", reason="why", at_s=1)
        await c.commit()
        await c.begin()
        return await _rows(c)
    finally:
        await c.close()
        await databases.run(engine.dispose)


async def _rows(c: Connection, names: Collection[str] | None = None) -> dict[str, list[tuple[object, ...]]]:
    """Of the tables that are there, or of those named."""
    there = set(await c.script(lambda sync: sa.inspect(sync).get_table_names())) if names is None else names
    return {
        table.name: sorted((tuple(row) for row in await c.rows(sa.select(table))), key=repr)
        for table in tables.metadata.sorted_tables
        if table.name in there
    }


async def test_a_book_of_the_release_before_is_brought_up_in_place_with_its_rows(url: str) -> None:
    before = await _old_book(url)
    assert sum(map(len, before.values())) > 10
    opened = await factory.open_book(url)
    try:
        async with opened.read() as c:
            assert await c.script(migrations.version) == HEAD
            assert await _rows(c, before) == before
            assert await intents.audit(c) == []
        async with opened.write() as c:
            await _fill_after(c)
            assert await intents.audit(c) == []
        assert await _refused(opened, "DELETE FROM intent")
        assert await _refused(opened, "UPDATE log SET time = time")
    finally:
        await opened.close()


async def _fill_after(c: Connection) -> None:
    await belt.bring(c, "final_ok", height=20)
    done = await commands.clear_latch(c, "finality", by="ana", reason="looked", at_s=2)
    assert isinstance(done, commands.Done)


async def test_an_old_book_is_not_opened_for_reading_only(url: str) -> None:
    await _old_book(url)
    try:
        await factory.open_book(url, read_only=True)
    except errors.StoreError as error:
        assert "start the agent once" in str(error)
    else:
        raise AssertionError("it was opened")


async def test_a_fresh_book_under_the_old_name_keeps_every_nonce_signature_and_person(tmp_path: object) -> None:
    url = f"sqlite:///{tmp_path}/book.db"
    opened = await factory.open_book(url)
    async with opened.write() as c:
        await _fill(c)
        for number in range(30):
            await belt.bring(c, "pending", belt.wanted(f"n{number}"))
        before = {name: await c.rows(sa.select(table)) for name, table in _carried().items()}
    await opened.close()
    bound = {"deployment": factory.DEPLOYMENT, "chain_id": 31337, "genesis": factory.GENESIS}
    done = await renewal.renew(url, **bound, clear=(), at_s=5)  # type: ignore[arg-type]
    assert done.intents == 32
    opened = await factory.open_book(url)
    async with opened.read() as c:
        assert {name: await c.rows(sa.select(table)) for name, table in _carried().items()} == before
        assert await c.rows(sa.select(staking.session)) == []
        assert await intents.audit(c) == []
        assert await blocks.tip(c) is None
    await opened.close()


def _carried() -> dict[str, sa.Table]:
    return {table.name: table for table in (*staking.FACTS, staking.progress, staking.broadcast)}


def test_every_table_of_the_belt_is_known_as_fact_or_as_moving() -> None:
    belts = {table for table in tables.metadata.sorted_tables if table.name in vars(staking)}
    assert belts == {*staking.FACTS, staking.progress, staking.broadcast, staking.session}
