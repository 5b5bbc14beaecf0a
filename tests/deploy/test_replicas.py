"""Two hub processes on one PostgreSQL, as the cluster runs them: agents of one quorum report to either, and either may go at any time."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from devnet import anvil, fleet
from tests.store import postgres
from tests.system import belt


@pytest.fixture
def database() -> Iterator[postgres.Server]:
    if importlib.util.find_spec("asyncpg") is None:
        pytest.skip("TWO HUBS ON POSTGRESQL ARE NOT TESTED: asyncpg is not installed (pip install asyncpg)")
    try:
        server = postgres.Server()
    except postgres.Missing as why:
        pytest.skip(f"TWO HUBS ON POSTGRESQL ARE NOT TESTED: {why}")
    yield server
    server.stop()


def _share(hub: fleet.Hub, store: str) -> None:
    file = hub.folder / "hub.toml"
    file.write_text(file.read_text().replace("sqlite:///hub.db", store))


@pytest.mark.slow
async def test_two_hubs_on_one_database_seal_what_neither_saw_alone(tmp_path: Path, database: postgres.Server) -> None:
    server = {"PGUSER": "stakeside"}  # as the manifest gives it: the address in the settings names no user
    store = f"postgresql:///postgres?host={database.folder}"
    async with belt.field(tmp_path) as field:
        keys = await field.found(3, k=3)
        await field.hub.stop()
        first = field.hub
        second = field.fleet.hub("hub-2", chain_id=anvil.CHAIN_ID, receipt_key=field.fleet.key("hub"))
        shutil.copy(first.folder / "consumers", second.folder / "consumers")
        second.token = first.token
        for hub in (first, second):
            _share(hub, store)
        for hub in (first, second):  # at once: the one that comes second finds the other's new schema
            await hub.start(environment=server)
        for hub in (first, second):
            await hub.listening(deadline_s=belt.DEADLINE_S)
        one, two = field.agent(0, keys[0]), field.agent(1, keys[1])
        field.hub = second
        three = field.agent(2, keys[2])
        agents = [one, two, three]
        await belt.start(*agents)
        await field.player.run(20)
        await field.player.mine(2 * belt.FRAME)
        assert await field.all_sealed() >= 2

        sealed = await field.sealed()
        await second.kill()
        await field.player.run(10)
        assert await first.stop() == 0
        for hub in (second, first):
            await hub.start(environment=server)
            await hub.listening(deadline_s=belt.DEADLINE_S)
        await field.player.mine(2 * belt.FRAME)
        assert await field.all_sealed() > sealed
        await field.delivered(agents)
        await field.check(agents)
        seen = await field.frames()
        field.hub = first
        assert await field.frames() == seen, "both processes tell the same"
