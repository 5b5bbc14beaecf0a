"""The earning belt in one process: a real node, a real book, the real services, stepped by hand."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

from agent.reporting import envelope
from agent.services import attest, close, index
from agent.services.plan import StreamPlan
from devnet import anvil, play, rpc, staking
from domain import deployment, errors, hashing
from indexers.chain import reader
from indexers.protocols import decoder, manifest
from kit import http, jsonrpc, runtime
from signers import keys
from store import book, cursors, statements

SECRETS = [bytes([n]) * 32 for n in range(1, 10)]
FRAME = 3


class World:
    """A devnet with the staking contract, a player, and the document everybody shares."""

    def __init__(self, client: rpc.Rpc, contract: staking.Staking, genesis: str, url: str) -> None:
        self.client = client
        self.contract = contract
        self.url = url
        self.watch: play.On | None = None
        self.player = play.Player(contract, 7, validators=3, delegators=8, on=self._on)
        self.manifest = manifest.load("devnet", network="devnet")
        self.genesis = genesis

    async def _on(self, event: str) -> None:
        if self.watch is not None:
            await self.watch(event)

    def document(
        self,
        *,
        signers: Sequence[bytes] = SECRETS[:3],
        k: int = 2,
        proof: str = "receipts",
        more_epochs: Sequence[tuple[Sequence[bytes], int, int]] = (),
        revisions: Sequence[deployment.Revision] = (),
        frame: int = FRAME,
    ) -> deployment.Document:
        stream = deployment.Stream(
            name="main", kind="staking", chain=anvil.CHAIN_ID, protocol="devnet", deployment="main",
            accounts="all", asset="0x" + "00" * 20, start=1, frame=f"blocks:{frame}",
        )  # fmt: skip
        ruleset = hashing.hex0x(self.manifest.ruleset(stream, proof=proof))
        epochs = [
            deployment.Epoch(number, tuple(sorted(hashing.hex0x(keys.LocalKey(s).address) for s in secrets)), least,
                             {"main": ruleset}, {"main": first})
            for number, (secrets, least, first) in enumerate([(signers, k, 0), *more_epochs])
        ]  # fmt: skip
        found = deployment.Document(
            name="test",
            chains=(deployment.Chain(anvil.CHAIN_ID, self.genesis),),
            streams=(stream,),
            epochs=tuple(epochs),
            receipt_keys=(deployment.ReceiptKey(hashing.hex0x(keys.LocalKey(SECRETS[8]).address)),),
            revisions=tuple(revisions),
        )
        deployment.check(found)
        return found

    def plan(self, document: deployment.Document, *, proof: str = "receipts") -> StreamPlan:
        stream = document.stream("main")
        fingerprint = decoder.compile(self.manifest).fingerprint
        return StreamPlan(stream, "devnet", 10**18, proof, self.manifest.ruleset(stream, proof=proof), fingerprint)


@asynccontextmanager
async def world(**options: object) -> AsyncIterator[World]:
    node = anvil.Anvil(**{"slots_in_an_epoch": 2, "accounts": 16, **options})  # type: ignore[arg-type]
    async with node, rpc.Rpc(node.url) as client:
        contract = await staking.deploy(client)
        genesis = (await client.call("eth_getBlockByNumber", "0x0", False))["hash"]
        yield World(client, contract, genesis, node.url)


class Agent:
    """One agent's book and services. `pump()` steps them until nothing moves any more."""

    def __init__(
        self,
        the: World,
        document: deployment.Document,
        the_book: book.Book,
        session: aiohttp.ClientSession,
        *,
        secret: bytes | None,
        url: str,
        proof: str,
    ) -> None:
        self.book = the_book
        self.document = document
        self.clock = runtime.ManualClock()
        self.plan = the.plan(document, proof=proof)
        self.reader = reader.Reader(jsonrpc.Endpoint(url, session=session, timeout_s=5))
        self.index = index.IndexService(
            the_book,
            self.reader,
            [decoder.compile(the.manifest)],
            chain_id=anvil.CHAIN_ID,
            genesis=hashing.unhex(the.genesis),
            start=1,
            marks=lambda first, last: {n for n in range(first, last + 1) if n % self.plan.stream.frame_size() == 0},
            clock=self.clock,
            proof=proof,
        )
        self.signer = None if secret is None else keys.LocalKey(secret)
        self._proof = proof
        self.use(self.plan)

    def use(self, plan: StreamPlan) -> None:
        """Close and attest by this plan from here on, as after a start."""
        self.plan = plan
        self.close = close.CloseService(self.book, self.document, [plan], clock=self.clock)
        self.services: list[runtime.Service] = [self.index, self.close]
        if self.signer is not None:
            self.attest = attest.AttestService(
                self.book, self.document, [plan], self.signer, clock=self.clock, describe=_nobody,
                context=envelope.Context("test", "test", "", self._proof, 0),
            )  # fmt: skip
            self.services.append(self.attest)

    async def pump(self, *, rounds: int = 400) -> None:
        await self.clock.advance(60)
        for _ in range(rounds):
            busy = False
            for service in self.services:
                try:
                    busy = await service.step() == 0.0 or busy
                except errors.Transient:
                    continue
            if not busy:
                return
        raise AssertionError("the belt does not come to rest")

    async def frames(self) -> list[statements.Stored]:
        stream = self.plan.stream
        found: list[statements.Stored] = []
        async with self.book.read() as c:
            for sequence in range(10_000):
                stored = await statements.current(c, stream.id(), sequence, self.document.revision(stream, sequence))
                if stored is None:
                    later = await statements.first_from(c, stream.id(), sequence)
                    if later is None:
                        return found
                    continue
                found.append(stored)
        return found

    async def head(self) -> int:
        async with self.book.read() as c:
            found = await cursors.get(c, "index")
        return -1 if found is None else found.number


async def _nobody() -> str:
    return "test node"


@asynccontextmanager
async def agent(
    the: World,
    document: deployment.Document,
    path: Path,
    *,
    secret: bytes | None = None,
    url: str = "",
    proof: str = "receipts",
) -> AsyncIterator[Agent]:
    the_book = await book.open_book(
        f"sqlite:///{path}", deployment=document.digest(), chain_id=anvil.CHAIN_ID, genesis=hashing.unhex(the.genesis)
    )
    try:
        async with http.client_session() as session:
            yield Agent(the, document, the_book, session, secret=secret, url=url or the.url, proof=proof)
    finally:
        await the_book.close()
