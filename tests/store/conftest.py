"""Every test of this suite that takes `url` or `book` runs on SQLite, and on PostgreSQL where a server can be started."""

from __future__ import annotations

import importlib.util
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from store import book as book_module
from tests.store import factory, postgres


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[postgres.Server]:
    if importlib.util.find_spec("asyncpg") is None:
        pytest.skip("POSTGRESQL IS NOT TESTED: asyncpg is not installed (pip install asyncpg)")
    try:
        server = postgres.Server()
    except postgres.Missing as why:
        pytest.skip(f"POSTGRESQL IS NOT TESTED: {why}")
    yield server
    server.stop()


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'book.db'}"
    server: postgres.Server = request.getfixturevalue("postgres_server")
    return server.empty()


@pytest.fixture
async def book(url: str) -> AsyncIterator[book_module.Book]:
    opened = await factory.open_book(url)
    yield opened
    await opened.close()
