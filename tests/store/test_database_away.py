"""What a PostgreSQL server says, told apart by its code: an agent waits for what passes, and ends where a person is needed."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from domain import errors
from tests.store import factory, postgres

MADE = "CREATE TABLE written (number int)"


def _raising(state: str) -> sa.TextClause:
    return sa.text(f"DO $$ BEGIN RAISE EXCEPTION 'leider nicht' USING ERRCODE = '{state}'; END $$")


@pytest.mark.parametrize("state", ["08006", "40001", "40P01", "53200", "53300", "55P03", "57014", "57P01", "57P03"])
async def test_what_passes_is_waited_for_in_whatever_language_the_server_says_it(
    postgres_server: postgres.Server, state: str
) -> None:
    book = await factory.open_book(postgres_server.empty())
    for way in (book.write, book.read):
        with pytest.raises(errors.Transient, match="try again"):
            async with way() as c:
                await c.scalar(_raising(state))
    await book.close()


@pytest.mark.parametrize(("state", "said"), [("53100", "the disk is full"), ("42501", "refused a statement")])
async def test_a_full_disk_and_a_statement_that_is_refused_end_the_process(
    postgres_server: postgres.Server, state: str, said: str
) -> None:
    book = await factory.open_book(postgres_server.empty())
    with pytest.raises(errors.Unusable, match=said):
        async with book.write() as c:
            await c.scalar(_raising(state))
    await book.close()


async def test_an_agent_waits_for_a_server_that_recovers(postgres_server: postgres.Server) -> None:
    url = postgres_server.empty()
    book = await factory.open_book(url)
    with postgres_server.recovering():
        for way in (book.write, book.read, book.write, book.read):
            with pytest.raises(errors.Transient):
                async with way() as c:
                    await c.scalar(sa.text("SELECT 1"))
        with pytest.raises(errors.Transient, match="the database system is"):
            await factory.open_book(url)
    async with book.write() as c:
        assert await c.scalar(sa.text("SELECT 1")) == 1
    await book.close()


async def test_an_agent_waits_for_a_server_that_is_stopped(postgres_server: postgres.Server) -> None:
    url = postgres_server.empty()
    book = await factory.open_book(url)
    with postgres_server.stopped():
        for way in (book.write, book.read, book.look, book.probe):
            with pytest.raises(errors.Transient, match="cannot be reached"):
                async with way() as c:
                    await c.scalar(sa.text("SELECT 1"))
        with pytest.raises(errors.StoreError, match="cannot be reached"):
            await factory.open_book(url)
    async with book.write() as c:
        assert await c.scalar(sa.text("SELECT 1")) == 1
    await book.close()


async def test_an_agent_waits_for_a_server_that_takes_no_writes_and_connects_anew_until_one_does(
    postgres_server: postgres.Server,
) -> None:
    url = postgres_server.empty()
    await (await factory.open_book(url)).close()
    postgres_server.sql("ALTER ROLE stakeside SET default_transaction_read_only = on")
    try:
        book = await factory.open_book(url)
        with pytest.raises(errors.Transient, match="takes no writes now"):
            async with book.write() as c:
                await c.change(sa.text(MADE))
    finally:
        postgres_server.sql(
            "SET default_transaction_read_only = off", "ALTER ROLE stakeside RESET default_transaction_read_only"
        )
    async with book.write() as c:
        await c.change(sa.text(MADE))
    await book.close()


async def test_an_agent_that_lost_its_connection_writes_nothing_into_a_book_bound_anew(
    postgres_server: postgres.Server,
) -> None:
    url = postgres_server.empty()
    book = await factory.open_book(url)
    postgres_server.cut()
    other = await factory.open_book(url, deployment=b"\xd1" * 32)
    await other.close()
    for _ in range(2):
        with pytest.raises(errors.StoreError, match="another one while the connection was lost: deployment changed"):
            async with book.write() as c:
                await c.change(sa.text(MADE))
    await book.close()


async def test_an_agent_that_lost_its_connection_goes_on_in_its_own_book(postgres_server: postgres.Server) -> None:
    book = await factory.open_book(postgres_server.empty())
    postgres_server.cut()
    async with book.write() as c:
        await c.change(sa.text(MADE))
    await book.close()
