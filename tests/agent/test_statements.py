"""From a real chain to signed statements: what two agents agree on, and when an agent keeps silent."""

from __future__ import annotations

from pathlib import Path

import pytest

from accounting import reward_per_share
from devnet import play, truth
from domain import deployment, hashing, signatures, statement, wire
from store import latches, outbox, statements, votes
from tests.agent import belt


async def test_every_leaf_of_every_frame_equals_the_contracts_views_through_reorgs(tmp_path: Path) -> None:
    async with belt.world(slots_in_an_epoch=11) as the:
        document = the.document()
        ground = truth.Truth(the.client, start_block=1)
        async with belt.agent(the, document, tmp_path / "a.db") as agent:
            await the.player.run(60)

            async def follow(event: str) -> None:
                if not event.startswith("offline"):
                    await agent.pump()

            the.watch = follow
            for kind in play.REORGS:
                await the.player.reorg_kind(kind)
                await the.player.run(20)
            await the.player.settle()
            await agent.pump()
            frames = await agent.frames()
            assert len(frames) > 5
            for stored in frames:
                got = {(leaf.parts, leaf.kind): (leaf.reward, leaf.penalty) for leaf in stored.body.leaves}
                expected = await ground.leaves_at(stored.header.to_position)
                assert truth.compare_leaves(expected, got) == []
            assert truth.compare_rows(await ground.rows(), truth.rows_of_book(tmp_path / "a.db")) == []
            assert agent.index.counts.reorgs >= 5


async def test_agents_that_start_at_different_times_make_the_same_bytes(tmp_path: Path) -> None:
    async with belt.world() as the:
        document = the.document()
        async with belt.agent(the, document, tmp_path / "early.db") as early:
            for _ in range(5):
                await the.player.run(15)
                await early.pump()
            await the.player.settle()
            await early.pump()
            async with belt.agent(the, document, tmp_path / "late.db") as late:
                await late.pump()
                assert [s.header for s in await early.frames()] == [s.header for s in await late.frames()]
                assert len(await late.frames()) >= 3


async def test_a_vote_is_signed_once_for_each_frame_and_its_context_apart(tmp_path: Path) -> None:
    async with belt.world() as the:
        document = the.document()
        async with belt.agent(the, document, tmp_path / "a.db", secret=belt.SECRETS[0]) as agent:
            await the.player.run(40)
            await the.player.settle()
            await agent.pump()
            await agent.pump()
            frames = await agent.frames()
            async with agent.book.read() as c:
                due = await outbox.due(c, now_s=1 << 40, limit=1000)
            assert [item.id for item in due] == [stored.digest for stored in frames]
            for item, stored in zip(due, frames, strict=True):
                sent = wire.decode(item.payload, wire.Attestation, what="vote")
                assert wire.header_from_wire(sent.header) == stored.header
                assert agent.signer is not None
                assert signatures.recover(stored.digest, hashing.unhex(sent.signature)) == agent.signer.address
                domain = statement.Domain(31337, stored.config_digest)
                context = statement.context_digest(stored.digest, sent.context.encode(), domain)
                assert signatures.recover(context, hashing.unhex(sent.context_signature)) == agent.signer.address


async def test_a_frame_derived_anew_with_another_digest_leaves_as_a_replace_and_a_new_vote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with belt.world() as the:
        document = the.document()
        async with belt.agent(the, document, tmp_path / "a.db", secret=belt.SECRETS[0]) as agent:
            await the.player.run(40)
            await the.player.settle()
            right = reward_per_share.Book.leaves
            monkeypatch.setattr(reward_per_share.Book, "leaves", lambda self, **kw: right(self, **kw)[1:])
            await agent.pump()
            wrong = await agent.frames()
            monkeypatch.undo()
            async with agent.book.write() as c:
                for stored in wrong:
                    await statements.supersede(c, stored.digest)
                await _back(c, agent)
            await agent.pump()
            renewed = await agent.frames()
            assert [s.digest for s in renewed] != [s.digest for s in wrong]
            async with agent.book.read() as c:
                last = renewed[-1]
                cast = await votes.for_slot(
                    c,
                    signer=agent.signer.address,
                    stream=last.stream,
                    sequence=last.sequence,
                    revision=0,  # type: ignore[union-attr]
                )
            assert [vote.kind for vote in cast] == ["attestation", "replacement", "attestation"]
            replace = wire.replace_from_wire(wire.decode(cast[1].payload, wire.Replacement, what="vote").replace)
            assert (replace.withdrawn, replace.replacement, replace.ballot) == (wrong[-1].digest, last.digest, 1)


async def _back(c, agent: belt.Agent) -> None:  # type: ignore[no-untyped-def]
    from store import cursors

    await cursors.put(c, "attest:main", cursors.Cursor(0, bytes(32), 0))


async def test_a_listed_revision_is_derived_for_frames_that_exist_and_supersedes_them(tmp_path: Path) -> None:
    async with belt.world() as the:
        document = the.document()
        async with belt.agent(the, document, tmp_path / "a.db", secret=belt.SECRETS[0]) as agent:
            await the.player.run(40)
            await the.player.settle()
            await agent.pump()
            before = await agent.frames()
        last = before[-1].sequence
        revised = the.document(revisions=[deployment.Revision("main", 2, last, 1, "test")])
        assert revised.digest() == document.digest()
        async with belt.agent(the, revised, tmp_path / "a.db", secret=belt.SECRETS[0]) as agent:
            await the.player.mine(20)
            await agent.pump()
            after = await agent.frames()
        async with belt.agent(the, revised, tmp_path / "late.db") as late:
            await late.pump()
            assert [s.header for s in await late.frames()] == [s.header for s in after]
        assert [s.revision for s in after[: last + 2]] == [0, 0] + [1] * (last - 1) + [0]
        assert after[2].header.supersedes == before[2].digest
        assert after[3].header.supersedes == before[3].digest
        assert after[last + 1].header.previous == after[last].digest


async def test_a_finality_violation_stops_closing_and_signing_and_deletes_nothing(tmp_path: Path) -> None:
    async with belt.world(slots_in_an_epoch=1) as the:
        document = the.document(frame=2)
        async with belt.agent(the, document, tmp_path / "a.db", secret=belt.SECRETS[0]) as agent:
            await the.player.run(20)
            await agent.pump()
            rows = truth.rows_of_book(tmp_path / "a.db")
            closed = len(await agent.frames())
            await the.player.reorg(5, violate_finality=True)
            await the.player.mine(6)
            await agent.pump()
            async with agent.book.read() as c:
                assert [latch.name for latch in await latches.active(c)] == ["finality"]
            assert truth.rows_of_book(tmp_path / "a.db") == rows
            assert len(await agent.frames()) == closed


async def test_a_signer_outside_the_epoch_keeps_silent_and_signs_from_its_first_frame_on(tmp_path: Path) -> None:
    async with belt.world() as the:
        document = the.document(more_epochs=[(belt.SECRETS[1:4], 2, 3)])
        async with belt.agent(the, document, tmp_path / "a.db", secret=belt.SECRETS[3]) as agent:
            await the.player.run(60)
            await the.player.settle()
            await agent.pump()
            frames = await agent.frames()
            async with agent.book.read() as c:
                due = await outbox.due(c, now_s=1 << 40, limit=1000)
            assert [item.id for item in due] == [s.digest for s in frames if s.sequence >= 3]
            assert len({s.config_digest for s in frames}) == 2
