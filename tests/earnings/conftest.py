"""A PostgreSQL server where one can be started; tests that need it are skipped, loudly, elsewhere."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from earnings import book
from tests.earnings import hub
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


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """`hub.running` keeps its book there. A module whose promises hold on both says `usefixtures("database")`."""
    if request.param == "postgresql":
        server: postgres.Server = request.getfixturevalue("postgres_server")
        monkeypatch.setattr(hub, "STORE", server.empty())
    return request.param


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[book.Book]:
    """The books of the hubs that run."""
    found: list[book.Book] = []
    real = book.open_book

    async def noted(url: str, *, deployment: bytes) -> book.Book:
        found.append(await real(url, deployment=deployment))
        return found[-1]

    monkeypatch.setattr(book, "open_book", noted)
    return found
