"""From votes to sealed frames, through a real server and a real database."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa

from domain import deployment, errors, hashing, statement
from earnings import app, bodies, book, sealing, seats, tables
from kit import faults
from tests.earnings import factory, hub

FRAMES = factory.frames(4)
OTHERS = factory.frames(4, salt=b"other")
DAVE = factory.AGENTS[3]
ALL_ZERO = hashing.hex0x(hashing.ZERO32)


async def votes(h: hub.Hub, made: factory.Frame, agents: int = 3) -> None:
    for agent in factory.AGENTS[:agents]:
        status, answer = await h.attest(agent, made)
        assert status == 200, answer


async def state(h: hub.Hub, wanted: str, sequence: int = 0) -> dict[str, object]:
    """The stream's line on /status once its next frame is `sequence` and in this state."""

    async def looks() -> dict[str, object] | None:
        line = (await h.get("/status"))[1]["streams"][0]
        return line if line["state"] == wanted and line["next"] == str(sequence) else None

    return await hub.until(looks)


async def test_a_frame_seals_when_k_equal_votes_and_its_body_are_there(tmp_path: Path) -> None:
    made = FRAMES[0]
    async with hub.running(tmp_path) as h:
        await votes(h, made, 2)
        assert (await h.frame(0))["state"] == "validated"
        status, answer = await h.attest(factory.AGENTS[2], made)
        assert (status, answer["wanted"]) == (200, [hashing.hex0x(made.header.body_root)])
        assert await h.upload(made) == [202]
        certificate = await h.sealed(made)
    assert [vote["signer"] for vote in certificate["signatures"]] == sorted(
        factory.address(a) for a in factory.AGENTS[:3]
    )


@pytest.mark.usefixtures("database")
async def test_frames_seal_in_order_however_their_votes_arrive(tmp_path: Path) -> None:
    async with hub.running(tmp_path) as h:
        for made in reversed(FRAMES[1:]):
            await votes(h, made)
            for _ in range(20):  # meanwhile the hub looks at its book, and asks for it all the same
                asked = [root for agent in factory.AGENTS[:3] for root in await h.wanted(agent)]
                assert hashing.hex0x(made.header.body_root) in asked
            assert (await h.upload(made)) == [202], "bodies are taken up to 64 frames ahead"
        assert (await h.get("/status"))[1]["sealed"] == 0
        await h.seal(FRAMES[0])
        for made in FRAMES:
            await h.sealed(made)
        numbers = [(await h.frame(n))["digest"] for n in range(4)]
    assert numbers == [hashing.hex0x(made.digest) for made in FRAMES]


@pytest.mark.usefixtures("database")
async def test_a_restart_between_any_two_steps_changes_nothing(tmp_path: Path) -> None:
    for agent in factory.AGENTS[:3]:
        async with hub.running(tmp_path) as h:
            assert (await h.attest(agent, FRAMES[0]))[0] == 200
    async with hub.running(tmp_path) as h:
        await h.deliver(FRAMES[0], factory.AGENTS[0])
    async with hub.running(tmp_path) as h:
        await h.sealed(FRAMES[0])
        await votes(h, FRAMES[1])
    async with hub.running(tmp_path) as h:
        await h.deliver(FRAMES[1], factory.AGENTS[0])
        await h.sealed(FRAMES[1])


CONTRADICTIONS = {
    "another previous": (FRAMES[1].but(previous=OTHERS[0].digest), "`previous` is not the sealed digest"),
    "another first block": (FRAMES[1].but(from_anchor=factory.block(99)), "`fromAnchor` is not the last block"),
    "a time before the last frame's": (FRAMES[1].but(to_time=1), "ends before frame 0"),
    "a total that falls": (FRAMES[1].but(total_reward=1), "a cumulative total falls"),
}


@pytest.mark.parametrize("name", CONTRADICTIONS)
async def test_k_votes_for_a_header_that_does_not_continue_the_sealed_frame_stop_with_a_reason(
    tmp_path: Path, name: str
) -> None:
    made, reason = CONTRADICTIONS[name]
    async with hub.running(tmp_path) as h:
        await h.seal(FRAMES[0])
        await votes(h, made)
        line = await state(h, "contradicted", 1)
        assert reason in str(line["reason"])
        assert await h.metric('stakeside_hub_contradicted_frames{stream="rewards"}') == 1
        for agent in factory.AGENTS[:3]:  # the cure: the signers replace their votes
            assert (await h.replace(agent, made, FRAMES[1]))[0] == 200
        await h.seal(FRAMES[1])


def _second(changed: tuple[statement.Leaf, ...]) -> factory.Frame:
    before = FRAMES[0]
    return factory.frame(factory.document(), factory.stream(), 1, changed, before.body.leaves, before)


SECOND = FRAMES[1]
NONSENSE = {
    "a leaf that falls": (_second((factory.leaf(0, 1), factory.leaf(9, 10_000))), "a cumulative leaf falls"),
    "a leaf count that is not the body's": (SECOND.but(leaf_count=99), "the header counts 99 leaves"),
    "a reward that is not the sum": (SECOND.but(total_reward=10**9), "the header says otherwise"),
    "a penalty that is not the sum": (SECOND.but(total_penalty=1), "the header says otherwise"),
    "a leaf of another protocol": (_second((factory.leaf(9, 5, protocol="other"),)), "another protocol"),
}


@pytest.mark.parametrize("name", NONSENSE)
async def test_k_votes_for_a_header_that_its_own_body_contradicts_stop_with_a_reason(tmp_path: Path, name: str) -> None:
    made, reason = NONSENSE[name]
    async with hub.running(tmp_path) as h:
        await h.seal(FRAMES[0])
        await votes(h, made)
        await h.deliver(made, factory.AGENTS[0])
        assert reason in str((await state(h, "contradicted", 1))["reason"])
        assert (await h.get("/status"))[1]["sealed"] == 1


@pytest.mark.usefixtures("database")
async def test_a_wrong_body_is_thrown_out_and_asked_for_again(tmp_path: Path) -> None:
    made = FRAMES[0]
    wrong = msgspec.structs.replace(made, changed=(factory.leaf(0, 1), *made.changed[1:]))
    no_carry = msgspec.structs.replace(made, body=msgspec.structs.replace(made.body, carry=b"{}"))
    async with hub.running(tmp_path) as h:
        await votes(h, made)
        for number, bad in enumerate((wrong, no_carry), start=1):
            await h.deliver(bad, factory.AGENTS[0])

            async def refused(want: int = number) -> bool | None:
                return True if await h.metric('stakeside_hub_bodies_checked_total{result="wrong"}') == want else None

            await hub.until(refused)
        await h.deliver(made, factory.AGENTS[0])
        await h.sealed(made)


async def test_one_signer_is_asked_for_a_body_at_a_time(tmp_path: Path) -> None:
    async with hub.running(tmp_path) as h:
        await votes(h, FRAMES[0])
        asked = [await h.wanted(agent) for agent in factory.AGENTS]
    assert asked == [[], [], [hashing.hex0x(FRAMES[0].header.body_root)], []], "the one whose vote made the quorum"


async def test_an_unrequested_body_is_refused(tmp_path: Path) -> None:
    async with hub.running(tmp_path) as h:
        assert await h.upload(FRAMES[0]) == [409]
        await votes(h, FRAMES[0], 2)
        assert await h.upload(FRAMES[0]) == [409]
        await votes(h, FRAMES[0])
        assert await h.upload(FRAMES[1]) == [409]
        await h.deliver(FRAMES[0], factory.AGENTS[0])
        await h.sealed(FRAMES[0])
        assert await h.upload(FRAMES[0]) == [409]


CHUNK = FRAMES[0].chunks()[0]
BAD_CHUNKS = {
    "another root inside": (msgspec.structs.replace(CHUNK, root="0x" + "11" * 32), "root"),
    "too many parts": (msgspec.structs.replace(CHUNK, parts=65), "parts"),
    "no parts": (msgspec.structs.replace(CHUNK, parts=0), "parts"),
    "a part beyond the last": (msgspec.structs.replace(CHUNK, part=1), "part"),
    "more leaves than were signed": (msgspec.structs.replace(CHUNK, leaves=CHUNK.leaves * 2), "leaves"),
    "a carry beyond its slice": (msgspec.structs.replace(CHUNK, carry="x" * ((1 << 20) + 1)), "carry"),
}


@pytest.mark.parametrize("name", BAD_CHUNKS)
async def test_a_chunk_beyond_its_bounds_is_refused_by_the_name_of_its_field(tmp_path: Path, name: str) -> None:
    chunk, field = BAD_CHUNKS[name]
    async with hub.running(tmp_path) as h:
        await votes(h, FRAMES[0])
        status, problem = await h.post(f"/v1/bodies/{hashing.hex0x(FRAMES[0].header.body_root)}", chunk)
    assert (status, problem["field"]) == (400, field)


@pytest.mark.usefixtures("database")
async def test_a_body_of_many_chunks_arrives_in_any_order(tmp_path: Path) -> None:
    made = factory.frames(1, holders=9000)[0]
    chunks = made.chunks()
    assert len(chunks) == 3
    async with hub.running(tmp_path) as h:
        await votes(h, made)
        for chunk in reversed(chunks):
            assert (await h.post(f"/v1/bodies/{chunk.root}", chunk))[0] == 202
        await h.sealed(made)


async def test_a_frame_in_which_nothing_happened_needs_no_body(tmp_path: Path) -> None:
    quiet = factory.frame(
        factory.document(), factory.stream(), 1, (), FRAMES[0].body.leaves, FRAMES[0], carry=FRAMES[0].body.carry
    )
    async with hub.running(tmp_path) as h:
        await h.seal(FRAMES[0])
        await votes(h, quiet)
        await h.sealed(quiet)


async def test_a_stream_without_any_leaf_seals(tmp_path: Path) -> None:
    empty = factory.frame(factory.document(), factory.stream(), 0, (), (), None)
    assert hashing.hex0x(empty.header.body_root) == ALL_ZERO
    async with hub.running(tmp_path) as h:
        await h.seal(empty)
        status, page = await h.get(f"/v1/bodies/{ALL_ZERO}?digest={hashing.hex0x(empty.digest)}")
    assert (status, page["leaves"], page["carry"]) == (200, [], empty.body.carry.decode())


@pytest.mark.usefixtures("database")
async def test_an_equal_vote_after_sealing_joins_the_certificate(tmp_path: Path) -> None:
    async with hub.running(tmp_path) as h:
        await h.seal(FRAMES[0])
        assert (await h.attest(DAVE, FRAMES[0]))[0] == 200
        assert len((await h.sealed(FRAMES[0]))["signatures"]) == 4


async def test_a_different_vote_after_sealing_is_kept_and_flagged_and_does_not_join(tmp_path: Path) -> None:
    async with hub.running(tmp_path) as h:
        await h.seal(FRAMES[0])
        assert (await h.attest(DAVE, OTHERS[0]))[0] == 200
        assert len((await h.sealed(FRAMES[0]))["signatures"]) == 3
        shown = await h.frame(0)
        assert shown["diverged"]
        assert hashing.hex0x(OTHERS[0].digest) in [vote["digest"] for vote in shown["votes"]]
        assert await h.metric("stakeside_hub_divergent_votes_total") == 1
        assert (await h.get("/status"))[1]["evidence"] == []


async def test_a_second_digest_after_sealing_is_equivocation(tmp_path: Path) -> None:
    async with hub.running(tmp_path) as h:
        await h.seal(FRAMES[0])
        assert (await h.attest(factory.AGENTS[0], OTHERS[0]))[0] == 409
        assert (await h.get("/status"))[1]["evidence"][0]["open"]
        assert len((await h.sealed(FRAMES[0]))["signatures"]) == 3, "what was sealed stays sealed"


async def test_a_frame_does_not_seal_by_the_vote_of_who_is_quarantined_for_another_one(tmp_path: Path) -> None:
    async with hub.running(tmp_path) as h:
        assert (await h.attest(factory.AGENTS[0], FRAMES[1]))[0] == 200
        assert (await h.attest(factory.AGENTS[0], OTHERS[1]))[0] == 409
        await votes(h, FRAMES[0])
        assert (await state(h, "validated"))["reason"] == "2 of 3 equal votes"
        assert await h.upload(FRAMES[0]) == [409]
        assert (await h.attest(DAVE, FRAMES[0]))[0] == 200
        await h.deliver(FRAMES[0], DAVE)
        signed = [vote["signer"] for vote in (await h.sealed(FRAMES[0]))["signatures"]]
    assert signed == sorted(factory.address(agent) for agent in factory.AGENTS[1:])


async def _withdraw(h: hub.Hub) -> None:
    assert (await h.replace(factory.AGENTS[0], FRAMES[0], OTHERS[0]))[0] == 200


async def _equivocate(h: hub.Hub) -> None:
    assert (await h.attest(factory.AGENTS[0], OTHERS[0]))[0] == 409


@pytest.mark.parametrize("lost", [_withdraw, _equivocate], ids=["withdrawn", "quarantined"])
async def test_a_frame_that_loses_a_vote_while_its_body_is_checked_does_not_seal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: Callable[[hub.Hub], Awaitable[None]]
) -> None:
    checking, go_on = threading.Event(), threading.Event()
    check = bodies.check

    def slow(*asked: Any) -> object:
        checking.set()
        assert go_on.wait(20)
        return check(*asked)

    monkeypatch.setattr(bodies, "check", slow)
    async with hub.running(tmp_path) as h:
        await votes(h, FRAMES[0])
        await state(h, "body")
        await h.deliver(FRAMES[0], factory.AGENTS[0])
        assert await asyncio.to_thread(checking.wait, 20)
        await lost(h)
        go_on.set()

        async def over() -> dict[str, Any] | None:
            line = (await h.get("/status"))[1]["streams"][0]
            return None if line["state"] == "body" else line

        assert (await hub.until(over))["reason"] == "2 of 3 equal votes"
        assert (await h.get("/status"))[1]["sealed"] == 0
        assert (await h.attest(DAVE, FRAMES[0]))[0] == 200
        signed = [vote["signer"] for vote in (await h.sealed(FRAMES[0]))["signatures"]]
    assert signed == sorted(factory.address(agent) for agent in factory.AGENTS[1:])


def test_what_was_asked_for_during_a_look_at_the_book_stays_asked_for() -> None:
    seat = seats.Seats(factory.document()).at(FRAMES[0].header.stream, 0)
    assert seat is not None
    root, asked = FRAMES[0].header.body_root, bodies.Wants()
    look = asked.look()  # the book is read now, and a vote completes the quorum after that
    asked.add(bodies.Want(seat, FRAMES[0].header, FRAMES[0].digest, (DAVE.address,), next_=True))
    asked.replace(FRAMES[0].header.stream, [], look=look)
    assert asked.asks(root)
    asked.replace(FRAMES[0].header.stream, [], look=asked.look())
    assert not asked.asks(root)


@pytest.mark.usefixtures("database")
async def test_chunks_of_a_digest_that_lost_its_quorum_go_when_another_one_seals_the_frame(
    tmp_path: Path, opened: list[book.Book]
) -> None:
    lost, ahead = FRAMES[1], FRAMES[2]
    won = factory.frame(
        factory.document(), factory.stream(), 1, lost.changed, FRAMES[0].body.leaves, FRAMES[0], salt=b"won"
    )

    async def stored(of: sa.Column[bytes]) -> set[bytes]:
        async with opened[0].read() as c:
            return set(await c.scalars(sa.select(of)))

    async with hub.running(tmp_path) as h:
        for made in (lost, ahead):
            await votes(h, made)
            await h.deliver(made, factory.AGENTS[0])
        assert (await h.attest(DAVE, lost))[0] == 200
        assert (await h.attest(DAVE, won))[0] == 409
        for agent in factory.AGENTS[:3]:
            assert (await h.replace(agent, lost, won))[0] == 200
        await h.seal(FRAMES[0])
        assert await stored(tables.chunk.c.digest) == {lost.digest, ahead.digest}
        await h.seal(won)
        assert await stored(tables.chunk.c.digest) == {ahead.digest}, "frame 2 is not sealed, by whatever digest"
        assert await stored(tables.statement.c.digest) >= {lost.digest, won.digest}, "evidence refers to both"
        assert (await h.get("/status"))[1]["evidence"][0]["open"]
        for made in (FRAMES[0], won):
            where = f"/v1/bodies/{hashing.hex0x(made.header.body_root)}?digest={hashing.hex0x(made.digest)}"
            status, page = await h.get(where)
            assert (status, page["carry"]) == (200, made.body.carry.decode())


@pytest.mark.usefixtures("database")
async def test_a_chunk_that_comes_just_after_its_frame_sealed_is_not_kept(
    tmp_path: Path, opened: list[book.Book]
) -> None:
    made, asked = FRAMES[0], bodies.Wants()
    seat = seats.Seats(factory.document()).at(made.header.stream, 0)
    assert seat is not None
    want = bodies.Want(seat, made.header, made.digest, (DAVE.address,), next_=True)
    async with hub.running(tmp_path) as h:
        await h.seal(made)
        async with opened[0].write() as c:  # as a request does that found it wanted before
            kept = await bodies.keep(c, want, made.chunks()[0], asked, source="addr:1", payload=b"{}")
            assert isinstance(kept, bodies.Refused) and kept.status == 409
            assert await c.scalar(sa.select(sa.func.count()).select_from(tables.chunk)) == 0


async def test_divergence_is_a_flag_and_not_a_stop(tmp_path: Path) -> None:
    async with hub.running(tmp_path) as h:
        await h.attest(DAVE, OTHERS[0])
        await votes(h, FRAMES[0], 2)
        assert (await h.frame(0))["diverged"]
        await h.seal(FRAMES[0])
        await h.seal(FRAMES[1])


async def test_a_held_frame_waits_for_a_person_and_then_seals(tmp_path: Path) -> None:
    def cap(previous: statement.Header | None, header: statement.Header) -> str | None:
        return "more than 100 in one frame" if header.total_reward > 100 else None

    document = factory.document()
    async with hub.running(tmp_path, caps=(cap,)) as h:
        await votes(h, FRAMES[0])
        await h.deliver(FRAMES[0], factory.AGENTS[0])
        assert (await state(h, "held"))["reason"] == "more than 100 in one frame"
        assert (await h.frame(0))["state"] == "held"
    the_book = await book.open_book(f"sqlite:///{tmp_path / 'hub.db'}", deployment=document.digest())
    async with the_book.write() as c:
        with pytest.raises(errors.BadConfig, match="holds a token"):
            await sealing.release(c, FRAMES[0].digest, by="a person", reason="with stk_" + "A" * 43, at_s=1)
        assert await sealing.release(c, FRAMES[0].digest, by="a person", reason="looked at", at_s=1)
    await the_book.close()
    async with hub.running(tmp_path, caps=(cap,)) as h:
        await h.sealed(FRAMES[0])


NEW = [factory.key(n) for n in (1, 2, 3, 8)]
CHANGED = factory.document(epochs=(factory.epoch(), factory.epoch(1, agents=NEW, start=1)))
UNDER_CHANGED = factory.frames(3, of=CHANGED)


@pytest.mark.usefixtures("database")
async def test_a_signer_change_at_a_frame_boundary_takes_old_votes_before_it_and_new_ones_after(tmp_path: Path) -> None:
    left, joined = factory.AGENTS[0], NEW[3]
    async with hub.running(tmp_path, CHANGED) as h:
        assert (await h.attest(joined, UNDER_CHANGED[0]))[0] == 401
        assert (await h.attest(left, UNDER_CHANGED[1]))[0] == 401
        await h.seal(UNDER_CHANGED[0])
        await h.seal(UNDER_CHANGED[1], [NEW[0], NEW[1], joined])
        for number in (0, 1):
            assert (await h.frame(number))["state"] == "sealed"


async def test_votes_of_the_old_signer_set_do_not_count_for_a_frame_the_new_one_took_over(tmp_path: Path) -> None:
    async with hub.running(tmp_path) as h:
        await h.seal(FRAMES[0])
        await votes(h, FRAMES[1])
        assert (await h.frame(1))["state"] in ("quorum", "body")
    async with hub.running(tmp_path, CHANGED) as h:
        assert (await h.frame(1))["state"] == "collecting"
        for agent in NEW[:2]:  # they stay, so their old votes are withdrawn
            assert (await h.replace(agent, FRAMES[1], UNDER_CHANGED[1]))[0] == 200
        await h.seal(UNDER_CHANGED[1], [NEW[0], NEW[1], NEW[3]])


@pytest.mark.usefixtures("database")
async def test_a_document_that_is_not_an_extension_keeps_the_hub_from_starting(tmp_path: Path) -> None:
    async with hub.running(tmp_path, CHANGED):
        pass
    with pytest.raises(errors.BadConfig, match="changes what was already agreed"):
        async with hub.running(tmp_path, factory.document()):
            pass
    with pytest.raises(errors.StoreError, match="another deployment"):
        async with hub.running(tmp_path, factory.document(name="elsewhere")):
            pass


async def test_a_document_that_changes_a_sealed_frame_is_refused(tmp_path: Path) -> None:
    async with hub.running(tmp_path) as h:
        await h.seal(FRAMES[0])
    late = factory.document(revisions=(deployment.Revision("rewards", 0, 0, 1),))
    with pytest.raises(errors.BadConfig, match="revision is listed for a sealed frame"):
        async with hub.running(tmp_path, late):
            pass
    early = factory.document(epochs=(factory.epoch(), factory.epoch(1, agents=NEW, start=0)))
    with pytest.raises(errors.BadConfig):
        async with hub.running(tmp_path, early):
            pass


@pytest.mark.usefixtures("database")
async def test_a_listed_revision_seals_in_place_of_what_it_supersedes(tmp_path: Path) -> None:
    async with hub.running(tmp_path) as h:
        await votes(h, FRAMES[0])
    document = factory.document(revisions=(deployment.Revision("rewards", 0, 0, 1),))
    made = factory.frame(
        document, factory.stream(), 0, FRAMES[0].changed, (), None, salt=b"corrected", supersedes=FRAMES[0].digest
    )
    async with hub.running(tmp_path, document) as h:
        assert (await h.attest(DAVE, FRAMES[0]))[0] == 200, "a vote on the old revision still gets its receipt"
        await h.seal(made)
        assert (await h.frame(0))["revision"] == "1"
        assert (await h.get(f"/v1/statements/{hashing.hex0x(FRAMES[0].digest)}"))[0] == 404


async def test_a_hangup_reads_an_appended_document_and_refuses_any_other(tmp_path: Path) -> None:
    documents = [factory.document(name="elsewhere"), CHANGED]
    current = [factory.document()]
    async with hub.running(tmp_path, reread=lambda: current[0]) as h:
        await h.seal(FRAMES[0])
        for document, taken in zip(documents, (False, True), strict=True):
            current[0] = document
            os.kill(os.getpid(), signal.SIGHUP)
            made = factory.frames(2, of=document)[1]

            async def status(made: factory.Frame = made) -> int:
                return (await h.attest(NEW[3], made))[0]

            if taken:

                async def accepted() -> bool | None:
                    return True if await status() == 200 else None

                await hub.until(accepted)
            else:
                assert await status() == 400


async def test_a_crash_before_the_commit_leaves_neither_vote_nor_receipt(tmp_path: Path) -> None:
    def crash(name: str) -> None:
        if name == "hub.before_commit":
            raise errors.Transient("killed")

    real = faults.point
    async with hub.running(tmp_path) as h:
        faults.point = crash
        try:
            assert (await h.attest(DAVE, FRAMES[0]))[0] == 503
        finally:
            faults.point = real
        assert await h.frame(0) == {}
        status, answer = await h.attest(DAVE, FRAMES[0])
        assert (status, answer["receipt"]["receipt"]["receiptNumber"]) == (200, "1")


def test_a_second_process_is_refused_the_book(tmp_path: Path) -> None:
    async def twice() -> None:
        async with hub.running(tmp_path):
            with pytest.raises(errors.StoreError, match="another process writes"):
                await app.serve(
                    app.Arguments(
                        "second", f"sqlite:///{tmp_path / 'hub.db'}", factory.document(), factory.CHAIN, (factory.HUB,)
                    ),
                    stop=asyncio.Event(),
                    listening=lambda _port: None,
                )

    asyncio.run(twice())
