"""A real chain, a real book and one index between them, stepped by hand."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from agent.services import index
from devnet import anvil, rpc
from domain import chain, errors, events, hashing
from indexers.chain import reader
from kit import jsonrpc, runtime
from store import blocks, book, cursors, gaps, journal, latches, logs, parked

DEPLOYMENT = bytes(32)

# The calldata is emitted as LOG2(0xaa, caller); a call whose first byte is not zero emits LOG1(0xaa), which cannot be decoded.
_RUNTIME = "365f5f375f3560f81c6013573360aa365fa2005b60aa365fa100"
_CREATION = "0x60" + f"{len(_RUNTIME) // 2:02x}" + "600a5f3960" + f"{len(_RUNTIME) // 2:02x}" + "5ff3" + _RUNTIME
TOPIC = hashing.word(0xAA)
FINGERPRINT = hashing.word(0xF1)
BAD = "0xff" + "00" * 31


class Decoder:
    """Understands the test contract: amount delegated by the caller."""

    name = "tiny"
    topics = (TOPIC,)

    def __init__(self, address: bytes, fingerprint: bytes = FINGERPRINT) -> None:
        self.addresses = (address,)
        self.fingerprint = fingerprint

    def wants(self, log: chain.Log) -> bool:
        return log.address in self.addresses and log.topics[:1] == self.topics

    def decode(self, log: chain.Log, time: int) -> events.StakingEvent:
        if len(log.topics) != 2:
            raise errors.Parked("the caller is missing", value=len(log.topics))
        at = events.At(log.block, log.log_index, time, log.tx_hash)
        return events.Delegated(at, hashing.word(1), log.topics[1], int.from_bytes(log.data, "big"))


class Chain:
    """An Anvil with the tiny contract on it, deployed in block 1."""

    def __init__(self, node: anvil.Anvil, client: rpc.Rpc) -> None:
        self.node = node
        self.call = client.call
        self.batch = client.batch
        self.address = ""
        self.genesis = b""
        self.accounts: list[str] = []
        self.count = 0

    @property
    def url(self) -> str:
        return self.node.url

    async def set_up(self) -> None:
        self.accounts = await self.call("eth_accounts")
        sent = await self.call("eth_sendTransaction", {"from": self.accounts[0], "data": _CREATION, "gas": "0x186a0"})
        await self.mine()
        self.address = (await self.call("eth_getTransactionReceipt", sent))["contractAddress"]
        self.genesis = bytes.fromhex((await self.block(0))["hash"][2:])

    def transaction(self, data: str = "") -> dict[str, str]:
        self.count += 1
        sender = self.accounts[self.count % len(self.accounts)]
        return {"from": sender, "to": self.address, "data": data or f"0x{self.count:064x}", "gas": "0x186a0"}

    async def emit(self, count: int = 1, *, data: str = "") -> None:
        """One block with so many logs."""
        await self.batch([("eth_sendTransaction", [self.transaction(data)]) for _ in range(count)])
        await self.mine()

    async def mine(self, count: int = 1) -> None:
        await self.call("anvil_mine", hex(count))

    async def reorg(self, depth: int, *, logs_at: Sequence[int] = ()) -> None:
        """Replace the last `depth` blocks; a log at each of the given offsets."""
        await self.call("anvil_reorg", depth, [[self.transaction(), offset] for offset in logs_at])

    async def block(self, which: int | str) -> dict[str, Any]:
        return await self.call("eth_getBlockByNumber", hex(which) if isinstance(which, int) else which, False)

    async def head(self) -> int:
        return int(await self.call("eth_blockNumber"), 16)

    async def truth(self) -> list[tuple[bytes, int, bytes]]:
        """(block hash, log index, data) of every canonical log, from receipts."""
        found: list[tuple[bytes, int, bytes]] = []
        for number in range(await self.head() + 1):
            for receipt in await self.call("eth_getBlockReceipts", hex(number)):
                for log in receipt["logs"]:
                    assert log["address"] == self.address
                    found.append((_bytes(log["blockHash"]), int(log["logIndex"], 16), _bytes(log["data"])))
        return found


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text[2:])


@asynccontextmanager
async def running(**options: Any) -> AsyncIterator[Chain]:
    async with anvil.Anvil(**{"slots_in_an_epoch": 4, **options}) as node, rpc.Rpc(node.url) as client:
        it = Chain(node, client)
        await it.set_up()
        yield it


class Bench:
    """One index service over a book."""

    def __init__(self, on: Chain, the_book: book.Book, session: aiohttp.ClientSession) -> None:
        self.chain = on
        self.book = the_book
        self.clock = runtime.ManualClock()
        self.session = session
        self.service = self.build()

    def build(self, *, url: str = "", proof: str = "receipts", start: int = 1, **options: Any) -> index.IndexService:
        """A new service on the same book: a restart."""
        endpoint = jsonrpc.Endpoint(
            url or self.chain.url, session=self.session, timeout_s=5, **options.pop("endpoint", {})
        )
        self.service = index.IndexService(
            self.book,
            reader.Reader(endpoint, finality_tag=not options.get("finality", "tag").startswith("depth")),
            options.pop("decoders", None) or [Decoder(bytes.fromhex(self.chain.address[2:]))],
            start=start,
            proof=proof,
            clock=options.pop("clock", self.clock),
            **{
                "chain_id": anvil.CHAIN_ID,
                "genesis": self.chain.genesis,
                "marks": lambda first, last: [n for n in range(first, last + 1) if n % 10 == 0],
                **options,
            },
        )
        return self.service

    async def steps(self, count: int) -> list[float]:
        return [await self.service.step() for _ in range(count)]

    async def until(self, condition: Callable[[], bool], *, most: int = 200, tolerate: bool = False) -> None:
        """Step until it holds. With `tolerate`, transient errors are what a supervisor would retry."""
        for _ in range(most):
            if condition():
                return
            try:
                await self.service.step()
            except errors.Transient:
                if not tolerate:
                    raise
        raise AssertionError(
            f"not reached in {most} steps: {self.service.state} {self.service.head} {self.service.reason}"
        )

    async def settle(self, *, tolerate: bool = False) -> None:
        """Step until the index stands where the node stands, and has told what is final."""
        head = bytes.fromhex((await self.chain.block("latest"))["hash"][2:])
        await self.until(
            lambda: (
                self.service.head is not None and self.service.head.hash == head and self.service.state == "following"
            ),
            tolerate=tolerate,
        )

    async def rows(self) -> list[logs.Indexed]:
        async with self.book.read() as c:
            return await logs.between(c, protocol="tiny", first=0, last=1 << 40)

    async def keys(self) -> list[tuple[bytes, int, bytes]]:
        return [(row.log.block.hash, row.log.log_index, row.log.data) for row in await self.rows()]

    async def is_exact(self) -> None:
        """Canonical rows equal the chain's receipts, in order."""
        assert await self.keys() == await self.chain.truth()

    async def kinds(self) -> list[str]:
        """Kinds of journal entries, oldest first."""
        async with self.book.read() as c:
            return [entry.kind for entry in reversed(await journal.newest(c, limit=1000))]

    async def latched(self) -> bool:
        async with self.book.read() as c:
            return any(latch.name == index.LATCH for latch in await latches.active(c))

    async def gaps(self) -> list[gaps.Gap]:
        async with self.book.read() as c:
            return await gaps.pending(c)

    async def parked(self) -> list[parked.Parked]:
        async with self.book.read() as c:
            return await parked.open_(c)

    async def cursor(self, name: str = "index") -> cursors.Cursor | None:
        async with self.book.read() as c:
            return await cursors.get(c, name)

    async def header(self, number: int) -> chain.Header | None:
        async with self.book.read() as c:
            return await blocks.canonical_at(c, number)


@asynccontextmanager
async def bench(on: Chain, folder: Path, name: str = "book") -> AsyncIterator[Bench]:
    the_book = await book.open_book(
        f"sqlite:///{folder / name}.db", deployment=DEPLOYMENT, chain_id=anvil.CHAIN_ID, genesis=on.genesis
    )
    async with aiohttp.ClientSession() as session:
        try:
            yield Bench(on, the_book, session)
        finally:
            await the_book.close()
