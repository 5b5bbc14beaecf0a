"""What a longer document, another manifest or a second opinion does to frames that exist: an agent that was late ends like a fresh one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from accounting import reward_per_share
from domain import deployment, events, wire
from store import cursors, latches, logs, outbox, statements, votes
from tests.agent import belt


async def cast(agent: belt.Agent, sequence: int, revision: int = 0) -> list[votes.Attested]:
    assert agent.signer is not None
    async with agent.book.read() as c:
        return await votes.for_slot(
            c, signer=agent.signer.address, stream=agent.plan.stream.id(), sequence=sequence, revision=revision
        )


def replaced(vote: votes.Attested) -> tuple[bytes, bytes, int]:
    replace = wire.replace_from_wire(wire.decode(vote.payload, wire.Replacement, what="vote").replace)
    return replace.withdrawn, replace.replacement, replace.ballot


async def upgraded(the: belt.World, tmp_path: Path, late: deployment.Document) -> tuple[list, list, belt.Agent]:  # type: ignore[type-arg]
    """Frames of an agent that changes to the document, and those of a fresh one; its votes are judged too."""
    async with belt.agent(the, late, tmp_path / "a.db", secret=belt.SECRETS[0]) as agent:
        await agent.pump()
        after = await agent.frames()
        for stored in after:
            found = await cast(agent, stored.sequence, stored.revision)
            may = (
                agent.signer is not None
                and agent.signer.address in late.epoch_at(agent.plan.stream, stored.sequence).addresses()
            )
            if may:
                assert found[-1].digest == stored.digest
            else:
                assert stored.digest not in [vote.digest for vote in found]
        async with belt.agent(the, late, tmp_path / "fresh.db") as fresh:
            await fresh.pump()
            return after, await fresh.frames(), agent


async def test_a_revision_that_ends_below_the_newest_frame_renews_what_follows_it(tmp_path: Path) -> None:
    async with belt.world() as the:
        document = the.document()
        async with belt.agent(the, document, tmp_path / "a.db", secret=belt.SECRETS[0]) as agent:
            await the.player.run(40)
            await the.player.settle()
            await agent.pump()
            before = await agent.frames()
        assert len(before) > 4
        late = the.document(revisions=[deployment.Revision("main", 2, 3, 1, "test")])
        after, fresh, agent = await upgraded(the, tmp_path, late)
        assert [s.header for s in after] == [s.header for s in fresh]
        assert [s.revision for s in after] == [0, 0, 1, 1] + [0] * (len(before) - 4)
        assert after[4].header.previous == after[3].digest


async def test_a_frame_after_a_revision_withdraws_its_old_vote(tmp_path: Path) -> None:
    async with belt.world() as the:
        async with belt.agent(the, the.document(), tmp_path / "a.db", secret=belt.SECRETS[0]) as agent:
            await the.player.run(40)
            await the.player.settle()
            await agent.pump()
            before = await agent.frames()
        late = the.document(revisions=[deployment.Revision("main", 2, 3, 1, "test")])
        async with belt.agent(the, late, tmp_path / "a.db", secret=belt.SECRETS[0]) as agent:
            await agent.pump()
            after = await agent.frames()
            for old, new in zip(before[4:], after[4:], strict=True):
                found = await cast(agent, new.sequence)
                assert [vote.kind for vote in found] == ["attestation", "replacement", "attestation"]
                assert replaced(found[1]) == (old.digest, new.digest, 1)


async def test_a_signer_epoch_that_begins_at_or_below_the_newest_frame_renews_the_frames(tmp_path: Path) -> None:
    async with belt.world() as the:
        async with belt.agent(the, the.document(), tmp_path / "a.db", secret=belt.SECRETS[0]) as agent:
            await the.player.run(40)
            await the.player.settle()
            await agent.pump()
            before = await agent.frames()
        late = the.document(more_epochs=[([belt.SECRETS[0], *belt.SECRETS[3:5]], 2, 3)])
        after, fresh, _ = await upgraded(the, tmp_path, late)
        assert [s.header for s in after] == [s.header for s in fresh]
        assert [s.config_digest for s in after] == [s.config_digest for s in fresh]
        assert [s.digest for s in after[:3]] == [s.digest for s in before[:3]]
        assert {s.config_digest for s in after[3:]}.isdisjoint({s.config_digest for s in before})


async def test_a_signer_that_left_the_epoch_signs_no_renewed_frame(tmp_path: Path) -> None:
    async with belt.world() as the:
        async with belt.agent(the, the.document(), tmp_path / "a.db", secret=belt.SECRETS[0]) as agent:
            await the.player.run(40)
            await the.player.settle()
            await agent.pump()
        late = the.document(more_epochs=[(belt.SECRETS[1:4], 2, 3)])
        after, fresh, _ = await upgraded(the, tmp_path, late)
        assert [s.header for s in after] == [s.header for s in fresh]


async def test_the_comparison_with_the_document_goes_on_where_a_crash_ended_it(tmp_path: Path) -> None:
    async with belt.world() as the:
        async with belt.agent(the, the.document(), tmp_path / "a.db", secret=belt.SECRETS[0]) as agent:
            await the.player.run(40)
            await the.player.settle()
            await agent.pump()
        late = the.document(revisions=[deployment.Revision("main", 2, 3, 1, "test")])
        for _ in range(2):
            async with belt.agent(the, late, tmp_path / "a.db", secret=belt.SECRETS[0]) as agent:
                assert await agent.close.step() == 0.0
                await agent.attest.step()
        after, fresh, _ = await upgraded(the, tmp_path, late)
        assert [s.header for s in after] == [s.header for s in fresh]


async def test_a_frame_that_is_still_to_be_renewed_is_not_signed(tmp_path: Path) -> None:
    async with belt.world() as the:
        async with belt.agent(the, the.document(), tmp_path / "a.db") as observer:
            await the.player.run(40)
            await the.player.settle()
            await observer.pump()
            before = await observer.frames()
        late = the.document(revisions=[deployment.Revision("main", 2, 3, 1, "test")])
        async with belt.agent(the, late, tmp_path / "a.db", secret=belt.SECRETS[0]) as agent:
            while await agent.attest.step() == 0.0:
                pass
            assert [len(await cast(agent, stored.sequence)) for stored in before[:4]] == [1, 1, 0, 0]
            assert not any([await cast(agent, stored.sequence) for stored in before[4:]])


async def test_a_vote_that_returns_to_a_withdrawn_digest_withdraws_the_wrong_one_and_asks_for_a_person(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with belt.world() as the:
        document = the.document()
        async with belt.agent(the, document, tmp_path / "a.db", secret=belt.SECRETS[0]) as agent:
            await the.player.run(40)
            await the.player.settle()
            await agent.pump()
            first = await agent.frames()
            right = reward_per_share.Book.leaves
            monkeypatch.setattr(reward_per_share.Book, "leaves", lambda self, **kw: right(self, **kw)[1:])
            await again(agent, first)
            wrong = await agent.frames()
            monkeypatch.undo()
            await again(agent, wrong)
            returned = await agent.frames()
            assert [s.digest for s in returned] == [s.digest for s in first] != [s.digest for s in wrong]
            last = returned[-1]
            found = await cast(agent, last.sequence)
            kinds = ["attestation", "replacement", "attestation", "replacement"]
            assert [vote.kind for vote in found] == kinds
            assert replaced(found[3]) == (wrong[-1].digest, last.digest, 2)
            async with agent.book.read() as c:
                (latch,) = await latches.active(c)
            assert latch.name == "withdrawn-vote"
            assert "never counts again" in latch.reason
            # One look serves all frames: new ones are closed below the latch, and once cleared it is not set again.
            await the.player.run(10)
            await the.player.settle()
            await agent.pump()
            assert len(await agent.frames()) > len(returned)
            async with agent.book.write() as c:
                assert await latches.clear(c, "withdrawn-vote", by="test", at_s=0)
            await agent.pump()
            async with agent.book.read() as c:
                assert await latches.active(c) == []
            assert await cast(agent, last.sequence) == found
            # A third opinion is linked to what the highest ballot names, or the hub would see two votes.
            monkeypatch.setattr(reward_per_share.Book, "leaves", lambda self, **kw: right(self, **kw)[2:])
            await again(agent, returned)
            third = await agent.frames()
            found = await cast(agent, last.sequence)
            assert [vote.kind for vote in found[4:]] == ["replacement", "attestation"]
            assert replaced(found[4]) == (last.digest, third[last.sequence].digest, 3)


async def again(agent: belt.Agent, frames: list[statements.Stored]) -> None:
    """Derive the frames anew, as `rederive` has them."""
    async with agent.book.write() as c:
        for stored in frames:
            await statements.supersede(c, stored.digest)
        for stored in await statements.derived_from(c, agent.plan.stream.id(), 0):
            await statements.supersede(c, stored.digest)
        await cursors.put(c, "attest:main", cursors.Cursor(0, bytes(32), 0))
    await agent.pump()


async def test_a_frame_is_not_closed_from_blocks_read_for_another_manifest(tmp_path: Path) -> None:
    async with belt.world() as the:
        document = the.document()
        async with belt.agent(the, document, tmp_path / "a.db", secret=belt.SECRETS[0]) as agent:
            agent.use(msgspec.structs.replace(agent.plan, fingerprint=b"\x01" * 32))
            await the.player.run(20)
            await the.player.settle()
            await agent.pump()
            assert await agent.frames() == []
            assert "block 1 was not indexed with this manifest" in agent.close.waiting["main"].reason
            assert "stakeside agent reindex" in agent.close.waiting["main"].reason
            async with agent.book.read() as c:
                assert await outbox.depth(c) == 0


async def test_a_hostile_amount_parks_its_own_stream_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with belt.world() as the:
        document = the.document()
        async with belt.agent(the, document, tmp_path / "a.db") as agent:
            await the.player.run(20)
            await the.player.settle()
            between = logs.between

            async def hostile(*args: Any, **options: Any) -> list[logs.Indexed]:
                rows = [row for row in await between(*args, **options) if isinstance(row.event, events.Delegated)]
                huge = [msgspec.structs.replace(row.event, amount=2**256 - 1) for row in rows[:1]]
                return [msgspec.structs.replace(rows[0], event=event) for event in huge * 2]

            monkeypatch.setattr(logs, "between", hostile)
            await agent.pump()
            assert "beyond 256 bits" in agent.close.waiting["main"].reason
            # What only a person can change is not derived again at every look.
            looks = 0

            async def counted(*args: Any, **options: Any) -> list[logs.Indexed]:
                nonlocal looks
                looks += 1
                return await between(*args, **options)

            monkeypatch.setattr(logs, "between", counted)
            assert await agent.close.step() > 0
            assert "beyond 256 bits" in agent.close.waiting["main"].reason
            assert looks == 0
            await agent.pump()
            assert len(await agent.frames()) > 0


async def test_a_look_at_the_tables_that_finds_nothing_to_do_reads_no_body(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with belt.world() as the:
        document = the.document()
        async with belt.agent(the, document, tmp_path / "a.db", secret=belt.SECRETS[0]) as agent:
            await the.player.run(30)
            await the.player.settle()
            await agent.pump()

            async def never(*_: object) -> None:
                raise AssertionError("a body was read")

            monkeypatch.setattr(statements, "_load", never)
            assert await agent.close.step() > 0
            assert await agent.attest.step() > 0
            assert agent.close.waiting["main"].reason.endswith("is not finalized yet")


async def test_a_frame_that_is_renewed_while_it_is_signed_leaves_no_vote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with belt.world() as the:
        document = the.document()
        async with belt.agent(the, document, tmp_path / "a.db", secret=belt.SECRETS[0]) as agent:
            await the.player.run(30)
            await the.player.settle()
            await agent.pump()
            before = await agent.frames()
            await the.player.mine(2 * belt.FRAME)
            await the.player.settle()
            while await agent.index.step() == 0.0:
                pass
            assert await agent.close.step() == 0.0
            new = (await agent.frames())[len(before)]
            sign = agent.attest._sign  # pyright: ignore[reportPrivateUsage]

            async def slow(*args: Any) -> Any:
                signed = await sign(*args)
                async with agent.book.write() as c:
                    await statements.supersede(c, new.digest)
                return signed

            monkeypatch.setattr(agent.attest, "_sign", slow)
            assert await agent.attest.step() == 0.0
            assert await cast(agent, new.sequence) == []
            monkeypatch.undo()
            await agent.pump()
            assert [vote.digest for vote in await cast(agent, new.sequence)] == [new.digest]
