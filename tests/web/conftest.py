"""The agent's web over a real book on SQLite, with a running process played by plain values."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest

from agent.web import metrics, server, view
from domain import chain
from kit import http, runtime
from store import blocks, book, cursors, latches, logs, parked, statements
from tests.store import factory

HOSTILE = "<script>alert(1)</script>\u202eevil\x00\x1b[31m'\"&"


@dataclass
class Counts:
    lies: int = 0


@dataclass
class Index:
    """Stands for the index stage: what the web asks of it."""

    state: str = "following"
    reason: str = ""
    remote_head: chain.BlockRef | None = None
    counts: Counts = field(default_factory=Counts)


@dataclass
class Hub:
    url: str = "http://user:hunter2@hub.example:8490"
    reachable: bool = True
    last_error: str = ""
    last_receipt: int = 3
    amnesia: int = 0
    refused: int = 0


class Idle:
    """A service that never has anything to do."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.bell = runtime.Bell()

    async def step(self) -> float:
        return 60.0


class World:
    """A served agent whose parts a test can change."""

    def __init__(self, the_book: book.Book, folder: Path) -> None:
        self.book = the_book
        self.folder = folder
        self.index = Index()
        self.hub: Hub | None = Hub()
        self.clock = runtime.ManualClock()
        self.supervisor = runtime.Supervisor([Idle("index"), Idle("close"), Idle("report")], clock=self.clock)
        for state in self.supervisor.states.values():
            state.status = "ok"
        self.waiting: dict[str, view.Waiting] = {}
        self.meters = metrics.Metrics(version="1.2.3")
        self.url = ""
        self._session: aiohttp.ClientSession | None = None

    def live(self) -> server.Live:
        return server.Live(
            name="alice",
            chain_id=31337,
            deployment=factory.DEPLOYMENT,
            node_url="http://user:hunter2@node.example:8545/v3/secretsecretsecretsecret",
            max_lag_blocks=5,
            streams={"main": factory.STREAM},
            book=self.book,
            index=self.index,
            supervisor=self.supervisor,
            clock=self.clock,
            waiting=self.waiting,
            hub=self.hub,
            attester=b"\xaa" * 20,
        )

    async def get(self, path: str) -> tuple[int, dict[str, str], bytes]:
        assert self._session is not None
        async with self._session.get(self.url + path, allow_redirects=False) as response:
            return response.status, dict(response.headers), await response.read()

    async def request(self, method: str, path: str) -> int:
        assert self._session is not None
        async with self._session.request(method, self.url + path, data=b"x") as response:
            return response.status

    async def fill(self, height: int = 4) -> None:
        """Blocks 1 to `height`, a log in each, the last with a hostile note; everything up to two below is finalized."""
        headers = [factory.header(number) for number in range(1, height + 1)]
        rows = [factory.row(header) for header in headers[:-1]] + [factory.noted(headers[-1], 0, HOSTILE)]
        async with self.book.write() as c:
            await blocks.insert(c, headers, proof="receipts")
            await logs.insert(c, rows)
            await cursors.put(c, "index", cursors.Cursor(height, headers[-1].hash, 2))
            await cursors.put(c, "finalized", cursors.Cursor(height - 2, headers[-3].hash, 0))
        self.index.remote_head = headers[-1].ref

    async def close_frames(self, count: int) -> list[statements.Stored]:
        made: list[statements.Stored] = []
        for sequence in range(count):
            made.append(
                factory.frame(sequence, [factory.leaf(1, 10 * sequence + 1)], previous=made[-1] if made else None)
            )
        async with self.book.write() as c:
            for stored in made:
                await statements.save(c, stored, at_s=1_700_000_000)
        return made

    async def latch(self, reason: str) -> None:
        async with self.book.write() as c:
            await latches.set(c, "finality", reason=reason, at_s=1_700_000_000)

    async def park(self, reason: str) -> None:
        async with self.book.write() as c:
            block = factory.header(2).hash
            await parked.add(c, stream_or_protocol="devnet", block_hash=block, log_index=1, reason=reason)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    the_book = await factory.open_book(f"sqlite:///{tmp_path}/book.db")
    made = World(the_book, tmp_path)
    port_file = tmp_path / "web.port"
    async with http.client_session() as session:
        made._session = session
        async with server.serve(made.live(), made.meters, host="127.0.0.1", port=0, port_file=port_file) as port:
            made.url = f"http://127.0.0.1:{port}"
            assert port_file.read_text() == f"{port}\n"
            yield made
    assert not port_file.exists()
    await the_book.close()
