"""A fleet of real processes on a real chain, and the questions the system tests ask of it."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from devnet import anvil, books, demo_receipts, documents, fleet, play, rpc, staking, truth
from domain import deployment, errors, hashing

FRAME = 4
DEADLINE_S = 60.0


class Field:
    """The devnet, the shared document, one hub and as many agents as asked for."""

    def __init__(self, node: anvil.Anvil, client: rpc.Rpc, the_fleet: fleet.Fleet, contract: staking.Staking) -> None:
        self.node = node
        self.client = client
        self.fleet = the_fleet
        self.contract = contract
        self.player = play.Player(contract, 11, validators=3, delegators=8)
        self.document: deployment.Document
        self.hub: fleet.Hub

    async def found(self, signers: int, *, k: int | None = None) -> list[fleet.Key]:
        """Keys, document, a running hub."""
        keys = [self.fleet.key(f"agent-{number}") for number in range(signers)]
        receipt_key = self.fleet.key("hub")
        genesis = (await self.client.call("eth_getBlockByNumber", "0x0", False))["hash"]
        document = documents.document(
            chain_id=anvil.CHAIN_ID, genesis=genesis, start=1, signers=[key.address for key in keys], k=k,
            frame_blocks=FRAME, receipt_key=receipt_key.address,
        )  # fmt: skip
        self.document = documents.with_ruleset(document, await self.fleet.ruleset(document))
        self.fleet.publish(self.document)
        self.hub = self.fleet.hub(chain_id=anvil.CHAIN_ID, receipt_key=receipt_key)
        await start(self.hub)
        return keys

    def agent(self, number: int, key: fleet.Key, *, url: str = "") -> fleet.Agent:
        return self.fleet.agent(f"agent-{number}", node_url=url or self.node.url, attester=key, hub=self.hub)

    async def final_frames(self) -> int:
        """How many frames are final on the chain now."""
        return self.document.streams[0].sequence_at(await self.contract.height("finalized") + 1)

    async def frames(self) -> list[dict[str, Any]]:
        """The hub's frames, from the first on."""
        found: list[dict[str, Any]] = []
        while True:
            stream = hashing.hex0x(self.document.streams[0].id())
            answer = await self.hub.get(
                f"/v1/streams/{stream}/frames?from={len(found)}&limit=100", token=self.hub.token
            )
            assert answer is not None and answer[0] == 200, answer
            found += answer[1]["frames"]
            if answer[1]["next"] is None:
                return found

    async def sealed(self) -> int:
        return sum(frame["state"] == "sealed" for frame in await self.frames())

    async def until(self, condition: Callable[[], Awaitable[bool]], what: str) -> None:
        end = time.monotonic() + DEADLINE_S
        while not await condition():
            if time.monotonic() > end:
                tails = "\n".join(f"--- {p.name}\n{p.tail(8)}" for p in self.fleet.processes)
                raise AssertionError(f"waited {DEADLINE_S} s for {what}\n{tails}")
            await asyncio.sleep(0.05)

    async def all_sealed(self) -> int:
        """Settle, and wait until every final frame is sealed."""
        await self.player.settle()
        wanted = await self.final_frames()

        async def reached() -> bool:
            return await self.sealed() >= wanted

        await self.until(reached, f"{wanted} sealed frames")
        return wanted

    async def delivered(self, agents: list[fleet.Agent]) -> None:
        async def empty() -> bool:
            for agent in agents:
                status = await agent.status()
                if status is None or status["outbox"]["depth"]:
                    return False
            return True

        await self.until(empty, "empty outboxes")

    async def check(self, agents: list[fleet.Agent]) -> None:
        """Byte-identical digests, the hub's among them; right leaves; rows as the chain has them; whole receipt chains."""
        ground = truth.Truth(self.client, start_block=1)
        sealed = {
            int(frame["sequence"]): frame["digest"] for frame in await self.frames() if frame["state"] == "sealed"
        }
        assert list(sealed) == list(range(len(sealed)))
        head = await self.contract.height()
        for agent in agents:
            book = books.Book(agent.book)
            found = book.frames()
            assert {
                f.sequence: hashing.hex0x(f.digest) for f in found if f.sequence in sealed
            }.items() <= sealed.items()
            for frame in found:
                differences = truth.compare_leaves(await ground.leaves_at(frame.to_anchor), book.leaves(frame))
                assert differences == [], (agent.name, frame.sequence)
            first = min(row.number for row in book.rows())
            rows = await ground.rows(first=first, last=head)
            assert truth.compare_rows(rows, book.rows(last=head)) == [], agent.name
            count, wrong = demo_receipts.verify(agent.book, self.document, attester=agent.address)
            assert wrong == [] and count > 0, agent.name


async def start(*processes: fleet.Process) -> None:
    for process in processes:
        await process.start()
    for process in processes:
        await process.listening(deadline_s=DEADLINE_S)


@asynccontextmanager
async def field(folder: Path, *, slots: int = 2) -> AsyncIterator[Field]:
    node = anvil.Anvil(slots_in_an_epoch=slots, accounts=16)
    async with node, rpc.Rpc(node.url) as client, fleet.Fleet(folder) as the_fleet:
        yield Field(node, client, the_fleet, await staking.deploy(client))


def change_amount(book: Path, *, above: int, by: int) -> int:
    """Damage (or mend) the first delegation above a block; returns its block. The agent must be stopped."""
    with contextlib.closing(sqlite3.connect(book)) as connection:
        connection.execute("drop trigger if exists log_no_update")
        found = connection.execute(
            "select number, log_index, amount, block_hash from canonical_event where kind = 'Delegated' and number > ? "
            "order by number, log_index limit 1",
            (above,),
        ).fetchone()
        if found is None:
            raise errors.StakesideError("there is no delegation to damage", value=above)
        number, index, amount, block_hash = found
        changed = (int.from_bytes(amount, "big") + by).to_bytes(32, "big")
        connection.execute(
            "update log set amount = ? where block_hash = ? and log_index = ?", (changed, block_hash, index)
        )
        connection.commit()
        return int(number)
