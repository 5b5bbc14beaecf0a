"""A commit is on the server's disk once it is answered, whatever the server has as its default."""

from __future__ import annotations

import os

import pytest
import sqlalchemy as sa

from agent.services.leasing import postgres as leasing
from earnings import book as hub_book
from kit import databases, runtime
from store import leases
from tests.store import factory, postgres

SHOW = "SHOW synchronous_commit"


async def _do(url: str, *texts: str) -> list[tuple[object, ...]]:
    engine = sa.create_engine(url.replace("postgresql://", "postgresql+asyncpg://"))

    def work() -> list[tuple[object, ...]]:
        with engine.begin() as c:
            found = [c.exec_driver_sql(text) for text in texts][-1]
            return [tuple(row) for row in found] if found.returns_rows else []

    try:
        return await databases.run(work)
    finally:
        await databases.run(engine.dispose)


@pytest.fixture(params=["off", "remote_apply"])
async def default(request: pytest.FixtureRequest, postgres_server: postgres.Server) -> tuple[str, str]:
    """(address of a database whose sessions begin with it, what a session of ours must have)."""
    name = f"durable_{os.urandom(4).hex()}"
    url = postgres_server.create(name)
    await _do(url, f"ALTER DATABASE {name} SET synchronous_commit = {request.param}")
    assert await _do(url, SHOW) == [(request.param,)]
    return url, "on" if request.param == "off" else request.param


async def test_an_agents_writer_waits_for_the_disk(default: tuple[str, str]) -> None:
    url, wanted = default
    opened = await factory.open_book(url)
    async with opened.write() as c:
        assert await c.scalar(sa.text(SHOW)) == wanted
    await opened.close()


async def test_a_hubs_writer_waits_for_the_disk(default: tuple[str, str]) -> None:
    url, wanted = default
    opened = await hub_book.open_book(url, deployment=factory.DEPLOYMENT)
    async with opened.write() as c:
        assert await c.scalar(sa.text(SHOW)) == wanted
    await opened.close()


async def test_a_grant_of_a_lease_waits_for_the_disk(default: tuple[str, str]) -> None:
    url, wanted = default
    table = leases.LeaseTable(url)
    for account in (b"\x01" * 20, b"\x02" * 20):
        await leasing.PostgresLeases(
            table, chain_id=1, account=account, holder=account + bytes(12), ttl_s=60, clock=runtime.SystemClock()
        ).acquire()
        if account == b"\x01" * 20:  # every later row says what its session had
            await _do(
                url, "ALTER TABLE stakeside_lease ADD COLUMN had text",
                "ALTER TABLE stakeside_lease ALTER COLUMN had SET DEFAULT current_setting('synchronous_commit')",
            )  # fmt: skip
    assert await _do(url, "SELECT had FROM stakeside_lease WHERE had IS NOT NULL") == [(wanted,)]
