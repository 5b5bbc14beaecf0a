"""The agent's web over a real book, with a running process played by plain values."""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import aiohttp
import pytest

from agent.web import items, live, metrics, people, server, view
from domain import chain, errors, hashing, intent
from kit import http, runtime
from store import blocks, book, commands, cursors, gaps, intents, latches, logs, parked, principals, statements
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


ACCOUNT = b"\xac" * 20
ROLES = ("viewer", "operator", "proposer", "approver", "admin")
POLICY = b'{"max_gas":"500000"}'


class Lease:
    def __init__(self) -> None:
        self.reason = ""
        self.held: int | None = 7

    def token(self) -> int | None:
        return self.held


def validate(key: str, protocol: str, action: str, arguments: Mapping[str, str]) -> intent.Intent:
    """Stands for the planner: one action, whose amount is a decimal number."""
    if (protocol, action) != ("devnet", "delegate"):
        raise errors.BadConfig("there is no such action", value=action)
    if set(arguments) != {"validator", "amount"}:
        raise errors.BadConfig("delegate takes validator and amount", value=sorted(arguments))
    if not (arguments["amount"].isascii() and arguments["amount"].isdecimal() and len(arguments["amount"]) < 79):
        raise errors.BadConfig("amount is no whole number", value=arguments["amount"])
    given = {"validator": arguments["validator"].lower(), "amount": str(int(arguments["amount"]))}
    return intent.Intent(31337, ACCOUNT, key, protocol, action, given)


@dataclass
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def cookie(self) -> str:
        """`name=value` of the cookie it sets."""
        return self.headers["Set-Cookie"].partition(";")[0]


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
        self.lease = Lease()
        self.staking: live.Staking | None = live.Staking(
            account=ACCOUNT,
            validate=validate,
            actions=[
                items.Action(
                    "devnet", "delegate", "in", [items.Field("validator", "address"), items.Field("amount", "uint256")]
                )
            ],
            policy_hash=hashing.keccak256(POLICY),
            policy_body=POLICY,
            lease=self.lease,
        )
        self.read = "anyone"
        self.adopt = "auto"
        self.rung = 0
        self.tokens: dict[str, str] = {}
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
            staking=self.staking,
            ring=self._ring,
            read=self.read,  # type: ignore[arg-type]
            adopt=self.adopt,  # type: ignore[arg-type]
        )

    def _ring(self) -> None:
        self.rung += 1

    async def person(self, name: str, *roles: str) -> str:
        """Let somebody in; the token, which `tokens` keeps too."""
        token = self.tokens[name] = people.new_token()
        async with self.book.write() as c:
            done = await principals.add(
                c, name, roles, people.hash_of(token), by="local:test", reason="test", at_s=self.clock.now()
            )
        assert isinstance(done, commands.Done), done
        return token

    async def ask(
        self,
        method: str,
        path: str,
        *,
        by: str | None = None,
        token: str | None = None,
        cookie: str | None = None,
        origin: str | None = None,
        body: object = None,
        form: Mapping[str, str] | str | None = None,
        data: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """`by` names somebody whose token is sent; `cookie` is a browser's, `origin` the page's; `"self"` is our own."""
        assert self._session is not None
        sent = dict(headers or {})
        token = self.tokens[by] if by is not None else token
        if token is not None:
            sent["Authorization"] = f"Bearer {token}"
        if cookie is not None:
            sent["Cookie"] = cookie
        if origin is not None:
            sent["Origin"] = self.url if origin == "self" else origin
        if body is not None:
            data, sent["Content-Type"] = json.dumps(body).encode(), "application/json"
        if form is not None:
            data = (form if isinstance(form, str) else urlencode(form)).encode()
            sent["Content-Type"] = "application/x-www-form-urlencoded"
        async with self._session.request(
            method, self.url + path, data=data, headers=sent, allow_redirects=False
        ) as response:
            return Answer(response.status, dict(response.headers), await response.read())

    async def sign_in(self, name: str) -> str:
        """A browser's session, as the cookie it sends."""
        answer = await self.ask("POST", "/v1/session", body={"token": self.tokens[name]}, origin="self")
        assert answer.status == 201, answer.body
        return answer.cookie

    async def propose(self, by: str, **changes: Any) -> Answer:
        """A delegation; `changes` take the place of parts of the body."""
        body = {
            "protocol": "devnet", "action": "delegate", "key": "k1", "reason": "stake",
            "arguments": {"validator": "0x" + "11" * 20, "amount": "1000"}, **changes,
        }  # fmt: skip
        return await self.ask("POST", "/v1/intents", by=by, body=body)

    async def state(self, id_: str) -> str:
        async with self.book.read() as c:
            found = await intents.get(c, hashing.unhex(id_))
        assert found is not None
        return found.state

    async def gap(self) -> int:
        async with self.book.write() as c:
            return await gaps.open_(c, protocol="devnet", first=1, last=5, reason="pruned")

    async def commanded(self) -> list[commands.Command]:
        """What people did, oldest first, letting people in apart."""
        async with self.book.read() as c:
            return [row for row in (await commands.list_(c, limit=100))[::-1] if row.principal != "local:test"]

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


@asynccontextmanager
async def serving(
    tmp_path: Path,
    *,
    tls: ssl.SSLContext | None = None,
    connections: int = 20,
    store: str | None = None,
    **changes: object,
) -> AsyncIterator[World]:
    """`changes` are set on the world before it is served; `connections` is how many its client may have."""
    the_book = await factory.open_book(store or f"sqlite:///{tmp_path}/book.db")
    made = World(the_book, tmp_path)
    for name, value in changes.items():
        setattr(made, name, value)
    port_file = tmp_path / "web.port"
    async with http.client_session(timeout_s=60, connections=connections) as session:
        made._session = session
        async with server.serve(
            made.live(), made.meters, host="127.0.0.1", port=0, port_file=port_file, tls=tls
        ) as port:
            made.url = f"{'http' if tls is None else 'https'}://127.0.0.1:{port}"
            assert port_file.read_text() == f"{port}\n"
            yield made
    assert not port_file.exists()
    await the_book.close()


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with serving(tmp_path) as made:
        yield made
