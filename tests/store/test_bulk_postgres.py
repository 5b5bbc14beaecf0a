"""Many rows at once: by COPY in PostgreSQL, with the same checks and the same errors as a row at a time."""

from __future__ import annotations

import asyncio
import os

import pytest
import sqlalchemy as sa

from domain import errors
from kit import columns
from store import blocks, logs, tables
from store.book import Book
from tests.store import factory, postgres

MANY = [factory.header(number) for number in range(1, 201)]


async def test_many_rows_read_back_as_they_were_given(book: Book) -> None:
    rows = [factory.row(of, amount=columns.U256_LIMIT - 1 - of.number) for of in MANY]
    noted = [factory.noted(MANY[0], 1, 'a "quoted"\ttext, {with} \\N and \\. and a\nline')]
    async with book.write() as c:
        await blocks.insert(c, MANY, proof="receipts")
        await logs.insert(c, rows + noted)
    async with book.read() as c:
        found = await logs.between(c, protocol=factory.PROTOCOL, first=1, last=200)
        assert [await blocks.canonical_at(c, of.number) for of in MANY] == MANY
    assert found == [rows[0], *noted, *rows[1:]]


async def test_postgresql_takes_many_rows_by_copy(
    postgres_server: postgres.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    asyncpg = pytest.importorskip("asyncpg")
    sent: list[str] = []
    real = asyncpg.Connection.copy_records_to_table

    async def spy(self: object, table_name: str, **kw: object) -> object:
        sent.append(table_name)
        return await real(self, table_name, **kw)

    monkeypatch.setattr(asyncpg.Connection, "copy_records_to_table", spy)
    opened = await factory.open_book(postgres_server.empty())
    async with opened.write() as c:
        await blocks.insert(c, MANY, proof="receipts")
        await logs.insert(c, [factory.row(of) for of in MANY[:2]])
    await opened.close()
    assert sent == ["block"], "two rows are not worth it"


@pytest.mark.parametrize("size", [1, 200])
async def test_a_value_that_does_not_fit_is_refused_before_anything_is_sent(book: Book, size: int) -> None:
    values = [(n, bytes([n]) * 32, *_rest(n)) for n in range(size)]
    values[-1] = (1 << 63, *values[-1][1:])
    with pytest.raises(errors.StoreError, match="out of range"):
        async with book.write() as c:
            await c.bulk(tables.block, values)
    assert await _blocks(book) == 0


@pytest.mark.parametrize("size", [1, 200])
async def test_a_row_that_contradicts_the_book_is_refused_and_leaves_nothing(book: Book, size: int) -> None:
    values = [(n, bytes([n]) * 32, *_rest(n)) for n in range(size)]
    with pytest.raises(errors.StoreError, match="contradicts"):
        async with book.write() as c:
            await c.bulk(tables.block, [*values, values[0]])
    assert await _blocks(book) == 0


async def test_a_bulk_insert_belongs_to_its_transaction(book: Book) -> None:
    """Also when it is the transaction's first statement, which the driver does not begin by itself."""
    with pytest.raises(ValueError, match="stop"):
        async with book.write() as c:
            await c.bulk(tables.block, [(n, bytes([n]) * 32, *_rest(n)) for n in range(200)])
            raise ValueError("stop")
    assert await _blocks(book) == 0


async def test_a_transaction_goes_on_after_a_bulk_insert(book: Book) -> None:
    async with book.write() as c:
        await c.bulk(tables.block, [(n, bytes([n]) * 32, *_rest(n)) for n in range(200)])
        await blocks.insert(c, [factory.header(1000)], proof="node")
    assert await _blocks(book) == 201


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)  # SQLite has no connection to lose
async def test_losing_the_server_during_a_bulk_insert_is_transient(book: Book) -> None:
    with pytest.raises(errors.Transient):
        async with book.write() as c:
            mine = await c.scalar(sa.text("SELECT pg_backend_pid()"))
            os.kill(int(mine), 15)
            await asyncio.sleep(0)
            for _ in range(1000):
                await c.bulk(tables.proven, [(os.urandom(32), 1) for _ in range(100)])
    async with book.write() as c:
        await blocks.insert(c, [factory.header(1)], proof="node")
    assert await _blocks(book) == 1


def _rest(n: int) -> tuple[object, ...]:
    return b"\x01" * 32, n, b"\x02" * 32, b"\x03" * 32, b"\x04" * 256, 2, None


async def _blocks(book: Book) -> int:
    async with book.read() as c:
        return int(await c.scalar(sa.select(sa.func.count()).select_from(tables.block)) or 0)
