"""A fresh book under the old name in PostgreSQL: one transaction, and the old schema kept."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Awaitable
from pathlib import Path

import pytest
import sqlalchemy as sa

from domain import errors
from store import cursors, journal, latches, outbox, renewal, staking, tables, votes
from tests.store import factory, library, postgres

ROOT = Path(__file__).parents[2]
WHOLE = ("vote", "outbox", "receipt", "intent", "signed_tx", "nonce_slot", "command", "principal", "meta")


@pytest.fixture
async def url(postgres_server: postgres.Server) -> str:
    address = postgres_server.create(f"renewal_{os.urandom(4).hex()}")  # kept schemas are counted
    await library.written(address, 12)
    return address


def renew(url: str, *clear: str) -> Awaitable[renewal.Renewed]:
    return renewal.renew(
        url, deployment=factory.DEPLOYMENT, chain_id=31337, genesis=factory.GENESIS, clear=clear, at_s=11
    )


async def test_what_was_signed_goes_over_and_the_chain_does_not(url: str) -> None:
    done = await renew(url)
    assert (done.votes, done.outbox, done.receipts, done.intents, done.kept) == (
        12,
        12,
        12,
        12,
        "public_before_reindex_1",
    )
    for name in WHOLE:
        order = ", ".join(f'"{column.name}"' for column in tables.metadata.tables[name].primary_key.columns)
        now = await library.query(url, f'SELECT * FROM "{name}" ORDER BY {order}')
        assert now == await library.query(url, f'SELECT * FROM "{done.kept}"."{name}" ORDER BY {order}')
    assert await library.query(url, "SELECT count(*) FROM log") == [(0,)]
    assert await library.query(url, f'SELECT count(*) FROM "{done.kept}".log') == [(12,)]


async def test_the_fresh_book_opens_goes_on_counting_and_is_guarded(url: str) -> None:
    await renew(url)
    opened = await factory.open_book(url)
    async with opened.write() as c:
        assert await cursors.get(c, "index") is None
        assert [entry.kind for entry in await journal.newest(c, limit=2)] == ["reindexed"]
        await outbox.put(c, id=b"\x07" * 32, stream=factory.STREAM, kind="attestation", payload=b"x")
        await votes.save(
            c, votes.Attested(b"\x07" * 32, factory.STREAM, 1, 0, b"\x01" * 20, b"p", "attestation", 0), at_s=1
        )
        assert await c.scalar(sa.select(sa.func.max(tables.vote.c.id))) == 13
    with pytest.raises(errors.StoreError, match="append-only"):
        async with opened.write() as c:
            await c.change(staking.intent.delete())
    await opened.close()
    assert (await renew(url)).kept == "public_before_reindex_2"


async def test_a_latch_goes_over_set_or_cleared_as_the_operator_said(url: str) -> None:
    opened = await factory.open_book(url)
    async with opened.write() as c:
        await latches.set(c, "votes", reason="unknown vote", at_s=9)
    await opened.close()
    with pytest.raises(errors.BadConfig, match="no such latch"):
        await renew(url, "other")
    assert "votes" not in (await renew(url, "votes")).latches
    assert await library.query(url, "SELECT cleared_by FROM latch WHERE name = 'votes'") == [("reindex",)]


async def test_a_book_in_use_is_refused(url: str) -> None:
    opened = await factory.open_book(url)
    try:
        with pytest.raises(errors.StoreError, match="in use"):
            await renew(url)
    finally:
        await opened.close()


@pytest.mark.slow
@pytest.mark.parametrize("point", ["before_copy", "before_swap", "after_swap"])
async def test_a_kill_leaves_the_old_book_or_the_new_one(url: str, point: str) -> None:
    code = (
        "import asyncio, sys\nfrom tests.store import test_renewal_postgres as t\n"
        "async def main(): await t.renew(sys.argv[1])\nasyncio.run(main())"
    )
    died = subprocess.run(
        [sys.executable, "-c", code, url],
        cwd=ROOT,
        env=os.environ | {"STAKESIDE_CRASH_AT": f"reindex.{point}"},
        timeout=60,
        check=False,
    )
    assert died.returncode == -signal.SIGKILL
    renewed = point == "after_swap"
    assert await library.query(url, "SELECT count(*) FROM log") == [(0 if renewed else 12,)]
    schemas = await library.query(url, "SELECT nspname FROM pg_namespace WHERE nspname LIKE 'public%' ORDER BY 1")
    assert schemas == [("public",), *([("public_before_reindex_1",)] if renewed else [])]
    assert await library.query(url, "SELECT count(*) FROM vote") == [(12,)]
