"""From votes to sealed frames, through a real server and a real database."""

from __future__ import annotations

from pathlib import Path

from domain import hashing
from tests.earnings import factory, hub


async def test_a_frame_seals_when_k_equal_votes_and_its_body_are_there(tmp_path: Path) -> None:
    made = factory.frames(1)[0]
    async with hub.running(tmp_path) as h:
        for agent in factory.AGENTS[:2]:
            assert (await h.attest(agent, made))[0] == 200
        assert (await h.frame(0))["state"] == "validated"
        status, answer = await h.attest(factory.AGENTS[2], made)
        assert (status, answer["wanted"]) == (200, [hashing.hex0x(made.header.body_root)])
        assert await h.upload(made) == [202]
        certificate = await h.sealed(made)
    assert [vote["signer"] for vote in certificate["signatures"]] == sorted(factory.address(a) for a in factory.AGENTS[:3])
