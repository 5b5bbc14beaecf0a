"""Adopt: go on from what others signed, where this node has no history. In: gap rows. Out: an adopted statement, a moved cursor.

When the node cannot serve a range, indexing leaves a gap and waits. This stage takes the newest sealed frame of every stream from the
hub, checks it as if the hub were an enemy (`reporting.adoption`), checks its last block against its own node, and moves the index
behind it, all in one transaction. Frames before it are never derived, signed or guessed here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

from agent.reporting import adoption
from agent.reporting.sinks import http
from agent.services.plan import StreamPlan
from domain import chain, deployment, errors, statement
from kit import faults, runtime
from store import blocks, book, commands, cursors, gaps, journal, statements

IDLE_S = 5.0


class Headers(Protocol):
    """The part of the chain reader this stage needs."""

    async def header_by_hash(self, block_hash: bytes) -> chain.Header | None: ...

    async def finalized(self) -> chain.Header: ...


class AdoptService:
    """Idle until there is a gap."""

    name = "adopt"

    def __init__(
        self,
        the_book: book.Book,
        document: deployment.Document,
        plans: Sequence[StreamPlan],
        hub: http.HubClient,
        reader: Headers,
        *,
        clock: runtime.Clock,
        ask: bool = False,
        downstream: Sequence[runtime.Bell] = (),
    ) -> None:
        self.bell = runtime.Bell()
        self._book = the_book
        self._document = document
        self._plans = tuple(plans)
        self._hub = hub
        self._reader = reader
        self._clock = clock
        self._ask = ask
        self._downstream = tuple(downstream)
        self._gap = -1

    def cursor(self) -> object:
        return self._gap

    async def step(self) -> float:
        async with self._book.read() as c:
            pending = await gaps.pending(c)
            seen = await cursors.get(c, "index")
            unasked = [gap for gap in pending if self._ask and not await asked(c, gap)]
        if not pending:
            return IDLE_S
        self._gap = pending[0].first
        if unasked:
            raise errors.Transient(
                f"gap {unasked[0].id} (blocks {unasked[0].first} to {unasked[0].last}) waits for a person",
                cure="adopt it on the status page or by POST /v1/gaps/{id}/adopt, or give this agent a node with history",
            )
        found = [await self._newest(plan) for plan in self._plans]
        anchors = [await self._anchor(item) for item in found]
        edge = min(anchors, key=lambda header: header.number)
        if edge.number < self._gap or (seen is not None and edge.number <= seen.number):
            raise errors.Transient(
                f"the node has no history from block {self._gap} and the hub has sealed only up to block {edge.number}",
                cure="wait for the other agents, or give this agent a node with history",
            )
        await self._move(found, anchors, edge, seen)
        for bell in self._downstream:
            bell.ring()
        return 0.0

    async def _newest(self, plan: StreamPlan) -> adoption.Adopted:
        sequence = await self._hub.last_sealed(plan.stream.id())
        digest = None if sequence is None else await self._hub.sealed_digest(plan.stream.id(), sequence)
        if digest is None:
            raise errors.Transient(f"the hub has sealed no frame of stream {plan.stream.name} yet")
        try:
            certificate = await self._hub.certificate(digest)
        except http.Refused as error:
            raise errors.Transient(f"the hub shows no certificate for frame {sequence}: {error.what}") from None
        certified = await asyncio.to_thread(adoption.certify, self._document, plan.stream, certificate)
        if certified.digest != digest or certified.header.sequence != sequence:
            raise errors.BadAnswer(
                "the hub handed out another statement than was asked for", value=certified.header.sequence
            )
        header = certified.header
        body = await self._hub.body(header.body_root, digest, leaf_count=header.leaf_count)
        return await asyncio.to_thread(adoption.check, certified, body)

    async def _anchor(self, item: adoption.Adopted) -> chain.Header:
        """The frame's last block as our own node has it. Two parties have to lie for a wrong one to pass."""
        header = await self._reader.header_by_hash(item.header.to_anchor)
        finalized = await self._reader.finalized()
        if header is None or finalized.number < item.header.to_position:
            raise errors.Transient(
                "the node does not have the adopted frame's last block as final", value=item.header.to_position
            )
        found = (header.number, header.time, header.state_root)
        signed = (item.header.to_position, item.header.to_time, item.header.state_root)
        if found != signed:
            raise errors.BadAnswer("the sealed frame's last block is another one at this node", value=found[:2])
        return header

    async def _move(
        self,
        found: Sequence[adoption.Adopted],
        anchors: Sequence[chain.Header],
        edge: chain.Header,
        seen: cursors.Cursor | None,
    ) -> None:
        """One transaction, fenced by the cursor this step began with: the index may have found its history meanwhile."""
        at_s = int(self._clock.now())
        faults.point("adopt.before_commit")
        async with self._book.write() as c:
            generation = 0 if seen is None else seen.generation + 1
            await cursors.advance(c, "index", seen=seen, to=cursors.Cursor(edge.number, edge.hash, generation))
            for plan, item in zip(self._plans, found, strict=True):
                await statements.save(c, stored(plan.stream.id(), item), at_s=at_s)
            await blocks.insert(c, list({header.hash: header for header in anchors}.values()), proof="bloom")
            await journal.append(c, kind="adopted", ref=edge.ref, generation=generation, at_s=at_s)
            for gap in await gaps.pending(c):
                if gap.first <= edge.number:
                    await gaps.close(c, gap.id, by_digest=found[0].digest)
        faults.point("adopt.after_commit")


async def asked(c: book.Connection, gap: gaps.Gap) -> bool:
    """Whether a person wants this gap to be closed by what others signed."""
    return await commands.adopted(c, gap.id) is not None


def stored(stream: bytes, item: adoption.Adopted) -> statements.Stored:
    """All leaves count as changed: the book has no earlier body to build on."""
    leaves: tuple[statement.Leaf, ...] = item.body.leaves
    return statements.Stored(
        stream=stream,
        sequence=item.header.sequence,
        revision=item.header.revision,
        digest=item.digest,
        config_digest=item.config_digest,
        header=item.header,
        origin="adopted",
        body=item.body,
        changed=leaves,
    )
