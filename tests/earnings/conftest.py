"""A PostgreSQL server where one can be started; tests that need it are skipped, loudly, elsewhere."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.store import postgres


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[postgres.Server]:
    pytest.importorskip("asyncpg", reason="POSTGRESQL IS NOT TESTED: asyncpg is not installed")
    try:
        server = postgres.Server()
    except postgres.Missing as why:
        pytest.skip(f"POSTGRESQL IS NOT TESTED: {why}")
    yield server
    server.stop()
