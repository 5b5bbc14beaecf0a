"""A small town for tests: a chain, a hub, an agent that votes, and one that came too late and has to adopt. All real processes."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from devnet import anvil, books, demo_receipts, documents, fleet, play, proxy, rpc, staking, truth
from domain import deployment

FRAME_BLOCKS = 4
SLOTS = 3


@dataclass(slots=True)
class Town:
    """`voter` is the only signer. `latecomer` signs nothing, sees the chain through `liar`, and may adopt what the hub sealed."""

    node: anvil.Anvil
    chain: staking.Staking
    player: play.Player
    ground: truth.Truth
    liar: proxy.LyingNode
    document: deployment.Document
    hub: fleet.Hub
    voter: fleet.Agent
    latecomer: fleet.Agent

    async def start(self, *processes: fleet.Process) -> None:
        for process in processes:
            await process.start()
        for process in processes:
            await process.listening()

    async def frames_due(self) -> int:
        """How many frames are final."""
        final = await self.chain.height("finalized")
        return (final - self.chain.start_block + 1) // FRAME_BLOCKS

    async def settle(self) -> None:
        await self.player.settle()

    async def caught_up(self, agent: fleet.Agent) -> books.Book:
        """Wait until an agent is at the head and holds every final frame (an adopter: the newest)."""
        head, due = await self.chain.height(), await self.frames_due()
        book = books.Book(agent.book)

        async def there() -> bool | None:
            index = book.cursor("index")
            frames = book.frames()
            return True if index and index[0] >= head and frames and frames[-1].sequence == due - 1 else None

        await agent.until(there, what=f"block {head} and frame {due - 1}", deadline_s=60)
        return book

    async def sealed(self, count: int) -> None:
        """Wait until the hub has sealed `count` frames."""

        async def there() -> bool | None:
            answer = await self.hub.get("/v1/streams", token=self.hub.token)
            newest = answer[1]["streams"][0]["sealed"] if answer is not None and answer[0] == 200 else None
            return True if newest is not None and int(newest) + 1 >= count else None

        await self.hub.until(there, what=f"{count} sealed frames", deadline_s=60)

    async def difference(self, agent: fleet.Agent) -> str | None:
        """Settle, wait, and compare everything an agent holds with the chain; with the hub too, if it votes."""
        await self.settle()
        book = await self.caught_up(agent)
        frames = book.frames()
        derived_from = next((f.to_position + 1 for f in reversed(frames) if f.origin == "adopted"), 0)
        rows = [row for row in await self.ground.rows() if row.number >= derived_from]
        wrong = truth.compare_rows(rows, [row for row in book.rows() if row.number >= derived_from])
        for frame in frames:
            wrong += truth.compare_leaves(await self.ground.leaves_at(frame.to_position), book.leaves(frame))
        wrong += [f"latched: {reason}" for reason in book.latches()]
        wrong += [f"missing: {gap}" for gap in book.gaps()]
        if agent.address:
            await self.sealed(len(frames))
            wrong += await self._votes(agent, book)
        return "; ".join(wrong) or None

    async def _votes(self, agent: fleet.Agent, book: books.Book) -> list[str]:
        wanted = len(book.frames())

        async def delivered() -> int | None:
            status = await agent.status()
            return (
                True if status and status["outbox"]["depth"] == 0 and status["counts"]["receipts"] >= wanted else None
            )

        await agent.until(delivered, what=f"{wanted} receipts", deadline_s=60)
        count, wrong = demo_receipts.verify(agent.book, self.document, attester=agent.address)
        return wrong if count == wanted else [*wrong, f"{count} receipts for {wanted} frames"]


@contextlib.asynccontextmanager
async def town(folder: Path) -> AsyncIterator[Town]:
    """Nothing is started but the chain, with a few operations on it."""
    async with (
        anvil.Anvil(slots_in_an_epoch=SLOTS) as node,
        rpc.Rpc(node.url) as client,
        proxy.LyingNode(node.url) as liar,
        fleet.Fleet(folder) as ships,
    ):
        chain = await staking.deploy(client)
        player = play.Player(chain, 7, validators=3, delegators=5)
        await player.run(20)
        voter_key, receipt_key = ships.key("voter"), ships.key("receipts")
        document = documents.document(
            chain_id=chain.chain_id,
            genesis=(await client.call("eth_getBlockByNumber", "0x0", False))["hash"],
            start=chain.start_block,
            signers=[voter_key.address],
            frame_blocks=FRAME_BLOCKS,
            receipt_key=receipt_key.address,
        )
        document = documents.with_ruleset(document, await ships.ruleset(document))
        ships.publish(document)
        hub = ships.hub(chain_id=chain.chain_id, receipt_key=receipt_key)
        limits = fleet.Limits(poll_s=0.1, timeout_s=5)
        voter = ships.agent("voter", node_url=node.url, attester=voter_key, hub=hub, limits=limits)
        latecomer = ships.agent("latecomer", node_url=liar.url, hub=hub, limits=limits)
        ground = truth.Truth(client, start_block=chain.start_block)
        yield Town(node, chain, player, ground, liar, document, hub, voter, latecomer)
