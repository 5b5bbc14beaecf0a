"""One story on SQLite and on PostgreSQL: every byte that a hub signs or serves is the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from domain import hashing
from tests.earnings import factory, hub
from tests.store import postgres

FRAMES = factory.frames(4)
ALICE, BOB, CAROL, DAVE = factory.AGENTS
OTHER = FRAMES[3].but(evidence=hashing.keccak256(b"another derivation"))


async def story(folder: Path, store: str) -> dict[str, bytes]:
    """Votes out of order, a seal, a restart, an equivocation that a Replace explains, a late signature; then everything there is to read."""
    told: dict[str, bytes] = {}
    async with hub.running(folder, store=store) as h:
        for agent in (ALICE, BOB, CAROL):
            for made in (FRAMES[1], FRAMES[0]):
                status, answer = await h.attest(agent, made)
                assert status == 200, answer
        await h.deliver(FRAMES[0], ALICE)
        await h.sealed(FRAMES[0])
    async with hub.running(folder, store=store) as h:
        await h.deliver(FRAMES[1], ALICE)
        await h.sealed(FRAMES[1])
        await h.seal(FRAMES[2])
        assert (await h.attest(DAVE, FRAMES[2]))[0] == 200
        assert (await h.attest(DAVE, FRAMES[3]))[0] == 200
        assert (await h.attest(DAVE, OTHER))[0] == 409
        assert (await h.replace(DAVE, OTHER, FRAMES[3]))[0] in (200, 409)
        await h.seal(FRAMES[3])
        stream = hashing.hex0x(FRAMES[0].header.stream)
        paths = [f"/v1/receipts/{factory.address(agent)}?from=1" for agent in factory.AGENTS]
        for made in FRAMES:
            digest, root = hashing.hex0x(made.digest), hashing.hex0x(made.header.body_root)
            subject = hashing.hex0x(made.body.leaves[0].subject)
            paths += [
                f"/v1/statements/{digest}",
                f"/v1/bodies/{root}?digest={digest}",
                f"/v1/proofs/{digest}/{subject}",
            ]
        for path in paths:
            async with h.session.get(h.url + path, headers={"Authorization": f"Bearer {factory.TOKEN}"}) as response:
                assert response.status == 200, path
                told[path] = await response.read()
        for frame in (await h.get(f"/v1/streams/{stream}/frames"))[1]["frames"]:
            told[f"frame {frame['sequence']}"] = repr((frame["state"], frame["digest"], frame["votes"])).encode()
        told["evidence"] = repr((await h.get("/status"))[1]["evidence"]).encode()
    return told


async def test_both_databases_tell_the_same_story_byte_by_byte(
    tmp_path: Path, postgres_server: postgres.Server
) -> None:
    folders = [tmp_path / name for name in ("sqlite", "postgresql")]
    for folder in folders:
        folder.mkdir()
    on_sqlite = await story(folders[0], f"sqlite:///{folders[0] / 'hub.db'}")
    on_postgresql = await story(folders[1], postgres_server.empty())
    assert on_sqlite == on_postgresql
    assert len(on_sqlite) >= 20


@pytest.mark.usefixtures("database")
async def test_a_book_opened_again_serves_what_it_served(tmp_path: Path) -> None:
    path = f"/v1/statements/{hashing.hex0x(FRAMES[0].digest)}"
    async with hub.running(tmp_path) as h:
        await h.seal(FRAMES[0])
        first = await h.get(path)
    async with hub.running(tmp_path) as h:
        assert await h.get(path) == first
