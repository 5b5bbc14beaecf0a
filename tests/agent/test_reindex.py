"""A book that is indexed anew: the chain is read again, and nothing that was signed, sent or received is forgotten."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from accounting import reward_per_share
from agent import operations
from cli import main
from config import settings
from devnet import anvil
from domain import deployment, errors, hashing, wire
from store import book, commands, cursors, latches, outbox, receipts, renewal, statements, votes
from tests.agent import belt

DEPLOYMENT, GENESIS = bytes([1]) * 32, bytes([2]) * 32
SIGNER, STREAM, HUB = bytes([3]) * 20, bytes([4]) * 32, "http://hub"


async def renew(the: belt.World, document: deployment.Document, path: Path, *clear: str) -> renewal.Renewed:
    return await renewal.renew(
        f"sqlite:///{path}", deployment=document.digest(), chain_id=anvil.CHAIN_ID, genesis=hashing.unhex(the.genesis),
        clear=clear, at_s=7,
    )  # fmt: skip


async def signed(agent: belt.Agent) -> list[list[votes.Attested]]:
    assert agent.signer is not None
    found: list[list[votes.Attested]] = []
    async with agent.book.read() as c:
        for stored in await agent.frames():
            of = {"signer": agent.signer.address, "stream": stored.stream}
            found.append(await votes.for_slot(c, **of, sequence=stored.sequence, revision=stored.revision))  # type: ignore[arg-type]
    return found


async def due(agent: belt.Agent) -> list[outbox.Item]:
    async with agent.book.read() as c:
        return await outbox.due(c, now_s=1 << 40, limit=1000)


async def test_an_agent_that_indexes_anew_signs_nothing_twice(tmp_path: Path) -> None:
    async with belt.world() as the:
        document, path = the.document(), tmp_path / "a.db"
        async with belt.agent(the, document, path, secret=belt.SECRETS[0]) as agent:
            await the.player.run(40)
            await the.player.settle()
            await agent.pump()
            frames, cast, items = await agent.frames(), await signed(agent), await due(agent)
        done = await renew(the, document, path)
        assert (done.votes, done.outbox) == (len(frames), len(items))
        assert done.kept == tmp_path / "a.db.before-reindex-1"
        async with belt.agent(the, document, path, secret=belt.SECRETS[0]) as agent:
            assert await agent.head() == -1
            await agent.pump()
            assert [s.digest for s in await agent.frames()] == [s.digest for s in frames]
            assert await signed(agent) == cast
            assert await due(agent) == items
        async with belt.agent(the, document, done.kept) as old:
            assert [s.digest for s in await old.frames()] == [s.digest for s in frames]


async def test_frames_that_come_out_otherwise_leave_as_replace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with belt.world() as the:
        document, path = the.document(), tmp_path / "a.db"
        right = reward_per_share.Book.leaves
        monkeypatch.setattr(reward_per_share.Book, "leaves", lambda self, **kw: right(self, **kw)[1:])
        async with belt.agent(the, document, path, secret=belt.SECRETS[0]) as agent:
            await the.player.run(40)
            await the.player.settle()
            await agent.pump()
            wrong = await agent.frames()
        monkeypatch.undo()
        await renew(the, document, path)
        async with belt.agent(the, document, path, secret=belt.SECRETS[0]) as agent:
            await agent.pump()
            frames, cast = await agent.frames(), await signed(agent)
        assert len(frames) == len(wrong) > 2
        for old, new, found in zip(wrong, frames, cast, strict=True):
            assert [vote.kind for vote in found] == ["attestation", "replacement", "attestation"]
            replace = wire.replace_from_wire(wire.decode(found[1].payload, wire.Replacement, what="vote").replace)
            assert (replace.withdrawn, replace.replacement) == (old.digest, new.digest)


async def opened(path: Path) -> book.Book:
    return await book.open_book(f"sqlite:///{path}", deployment=DEPLOYMENT, chain_id=anvil.CHAIN_ID, genesis=GENESIS)


async def filled(path: Path) -> None:
    """Votes, closed and open outbox rows, archived and present receipts, latches set and cleared, and something to leave behind."""
    the_book = await opened(path)
    async with the_book.write() as c:
        for n in range(1, 1203):
            id_ = hashing.word(n)
            await votes.save(c, votes.Attested(id_, STREAM, n, 0, SIGNER, b"p%d" % n, "attestation", 0), at_s=n)
            await outbox.put(c, id=id_, stream=STREAM, kind="attestation", payload=b"p%d" % n)
        link = hashing.ZERO32
        for number in (1, 2):
            kept = receipts.Kept(number, hashing.word(number), hashing.word(900 + number), link, bytes([number]) * 65)
            await receipts.save(c, hub=HUB, attester=SIGNER, kept=kept, at_s=5)
            await outbox.close(c, kept.digest, kept.id)
            link = kept.id
        await receipts.archive(c, hub=HUB, attester=SIGNER, at_s=6)
        again = receipts.Kept(1, hashing.word(3), hashing.word(950), hashing.ZERO32, bytes(65))
        await receipts.save(c, hub=HUB, attester=SIGNER, kept=again, at_s=7)
        await latches.set(c, "finality", reason="a block was replaced", at_s=8)
        await latches.set(c, "votes", reason="unknown vote", at_s=9)
        await latches.set(c, "old", reason="long gone", at_s=9)
        await latches.clear(c, "old", by="me", at_s=10)
        await cursors.put(c, "index", cursors.Cursor(77, hashing.word(77), 3))
        await cursors.put(c, "attest:main", cursors.Cursor(9, hashing.ZERO32, 0))
    await the_book.close()


def table(path: Path, name: str) -> list[tuple[object, ...]]:
    import sqlite3
    from contextlib import closing

    with closing(sqlite3.connect(path)) as c:
        return c.execute(f'SELECT * FROM "{name}"').fetchall()


def renew_filled(path: Path, *clear: str):  # type: ignore[no-untyped-def]
    return renewal.renew(
        f"sqlite:///{path}", deployment=DEPLOYMENT, chain_id=anvil.CHAIN_ID, genesis=GENESIS, clear=clear, at_s=11
    )


async def test_everything_signed_sent_and_received_goes_over_and_the_chain_does_not(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    await filled(path)
    done = await renew_filled(path, "votes")
    assert (done.votes, done.outbox, done.receipts, done.latches) == (1202, 1202, 3, ("finality",))
    for name in ("vote", "outbox", "receipt", "meta"):
        assert table(path, name) == table(done.kept, name)
    assert [row[1:] for row in table(path, "latch")] == [
        ("finality", "a block was replaced", 8, None, None),
        ("votes", "unknown vote", 9, "reindex", 11),
    ]
    assert [row[1:5] for row in table(path, "journal")] == [(11, "reindexed", 77, hashing.word(77))]
    assert table(path, "cursor") == []
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.db", "a.db.before-reindex-1", "a.db.lock"]
    assert (await renew_filled(path)).kept.name == "a.db.before-reindex-2"


async def test_a_latch_that_is_not_set_cannot_be_cleared(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    await filled(path)
    with pytest.raises(errors.BadConfig, match="no such latch"):
        await renew_filled(path, "finalty")
    assert not list(tmp_path.glob("*reindex*"))


async def test_a_book_in_use_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    await filled(path)
    the_book = await opened(path)
    with pytest.raises(errors.StoreError, match="in use"):
        await renew_filled(path)
    await the_book.close()
    import sqlite3

    reader = sqlite3.connect(path)
    reader.execute("SELECT count(*) FROM vote").fetchone()
    with pytest.raises(errors.StoreError, match="another program"):
        await renew_filled(path)
    reader.close()
    assert not list(tmp_path.glob("*reindex*"))
    await renew_filled(path)


async def test_a_database_server_that_does_not_answer_is_named() -> None:
    with pytest.raises(errors.StoreError, match="cannot be reached"):
        await renewal.renew(
            "postgresql://u:p@localhost:1/b", deployment=DEPLOYMENT, chain_id=1, genesis=GENESIS, clear=(), at_s=0
        )


POINTS = ["reindex.before_copy", "store.before_commit:2", "store.after_commit:2", "reindex.after_copy",
          "reindex.before_swap", "reindex.after_swap"]  # fmt: skip
RUN = """\
import asyncio, sys
from pathlib import Path
from tests.agent import test_reindex
asyncio.run(test_reindex.renew_filled(Path(sys.argv[1])))
"""


@pytest.mark.parametrize("point", POINTS)
async def test_a_kill_leaves_the_old_book_whole_or_the_new_one(tmp_path: Path, point: str) -> None:
    path = tmp_path / "a.db"
    await filled(path)
    before = {name: table(path, name) for name in ("vote", "outbox", "receipt")}
    environment = {**os.environ, "STAKESIDE_CRASH_AT": point}
    died = subprocess.run([sys.executable, "-c", RUN, str(path)], env=environment, timeout=60, check=False)
    assert died.returncode == -signal.SIGKILL
    renewed = bool(not table(path, "cursor"))
    assert renewed == (point == "reindex.after_swap")
    await (await opened(path)).close()
    assert {name: table(path, name) for name in before} == before
    done = await renew_filled(path)
    assert {name: table(path, name) for name in before} == before
    kept = sorted(tmp_path.glob("a.db.before-reindex-*"))
    assert kept == ([tmp_path / "a.db.before-reindex-1"] if not renewed else [*kept[:1], done.kept])
    assert not any(p.samefile(path) for p in kept)
    assert not list(tmp_path.glob("*.reindex*"))


def agent_toml(the: belt.World, document: deployment.Document, folder: Path) -> Path:
    from devnet import documents

    (folder / "deployment.toml").write_text(documents.text(document))
    file = folder / "agent.toml"
    file.write_text(
        f"""\
[agent]
name = "test"
store = "sqlite:///a.db"
[node]
url = "{the.url}"
[deployment]
document = "deployment.toml"
[[protocols]]
name = "devnet"
manifest = "devnet"
network = "devnet"
streams = ["main"]
"""
    )
    return file


async def test_the_command_says_what_it_kept_and_what_to_do_next(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import asyncio

    async with belt.world() as the:
        document = the.document()
        async with belt.agent(the, document, tmp_path / "a.db", secret=belt.SECRETS[0]) as agent:
            await the.player.run(20)
            await the.player.settle()
            await agent.pump()
            async with agent.book.write() as c:
                await latches.set(c, "finality", reason="test", at_s=0)
                await latches.set(c, "votes", reason="test", at_s=0)
            count = len(await agent.frames())
        file = agent_toml(the, document, tmp_path)
        refused = ["agent", "reindex", "--config", str(file), "--clear", "nope", "--reason", "refused: leaves no row"]
        assert await asyncio.to_thread(main.main, refused) == 2
        assert "no such latch is set" in capsys.readouterr().err
        assert (
            await asyncio.to_thread(
                main.main, ["agent", "reindex", "--config", str(file), "--clear", "votes", "--reason", "a new node"]
            )
            == 0
        )
        said = capsys.readouterr().out
        assert f"{count} votes" in said
        assert "a.db.before-reindex-1" in said
        assert "clear-latch finality" in said
        assert "clear-latch votes" not in said
        assert "agent run" in said
        async with belt.agent(the, document, tmp_path / "a.db", secret=belt.SECRETS[0]) as agent:
            async with agent.book.read() as c:
                (done,) = await commands.list_(c, limit=5)
        assert (done.kind, done.reason) == ("reindex", "a new node")
        assert done.principal.startswith("local:")
        assert '"votes"' in done.before and '"votes"' not in done.after


async def test_frames_up_to_an_adopted_one_are_not_set_aside(tmp_path: Path) -> None:
    async with belt.world() as the:
        document = the.document()
        async with belt.agent(the, document, tmp_path / "a.db", secret=belt.SECRETS[0]) as agent:
            await the.player.run(40)
            await the.player.settle()
            await agent.pump()
            frames = await agent.frames()
            async with agent.book.write() as c:
                await statements.supersede(c, frames[2].digest)
        import sqlite3

        # As an adoption would have left it: the frame in force came from the hub.
        c = sqlite3.connect(tmp_path / "a.db")
        c.execute("DROP TRIGGER statement_no_update")
        c.execute("UPDATE statement SET origin = 'adopted', current = 1 WHERE digest = ?", (frames[2].digest,))
        c.commit()
        c.close()
        loaded = settings.load_agent(agent_toml(the, document, tmp_path), {})
        with pytest.raises(errors.BadConfig, match="frame 2 of stream main is adopted") as caught:
            await operations.rederive(loaded, "main", first=1)
        assert "--from 3" in str(caught.value)
        async with belt.agent(the, document, tmp_path / "a.db", secret=belt.SECRETS[0]) as agent:
            assert [s.digest for s in await agent.frames()] == [s.digest for s in frames]
        assert await operations.rederive(loaded, "main", first=3) == len(frames) - 3
        async with belt.agent(the, document, tmp_path / "a.db", secret=belt.SECRETS[0]) as agent:
            await agent.pump()
            assert [s.digest for s in await agent.frames()] == [s.digest for s in frames]


async def test_rederiving_sets_every_revision_of_a_frame_aside(tmp_path: Path) -> None:
    async with belt.world() as the:
        document = the.document(revisions=[deployment.Revision("main", 1, 2, 1, "test")])
        async with belt.agent(the, document, tmp_path / "a.db") as agent:
            await the.player.run(40)
            await the.player.settle()
            await agent.pump()
            frames = await agent.frames()
        loaded = settings.load_agent(agent_toml(the, document, tmp_path), {})
        assert await operations.rederive(loaded, "main", first=1) == len(frames) - 1
        async with belt.agent(the, document, tmp_path / "a.db") as agent:
            async with agent.book.read() as c:
                latest = await statements.latest_header(c, agent.plan.stream.id())
            assert latest is not None
            assert latest.sequence == 0
            await agent.pump()
            assert [s.digest for s in await agent.frames()] == [s.digest for s in frames]
