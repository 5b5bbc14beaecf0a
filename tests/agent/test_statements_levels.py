"""A document that asks for a stronger proof from some frame on: the frames before keep their own ruleset."""

from __future__ import annotations

from pathlib import Path

import msgspec

from agent import app
from domain import deployment, hashing
from tests.agent import belt

BOUNDARY = 2


async def test_frames_before_a_stronger_proof_level_close_under_their_own_ruleset(tmp_path: Path) -> None:
    async with belt.world() as the:
        weak, strong = the.document(proof="bloom"), the.document(proof="receipts")
        later = msgspec.structs.replace(strong.epochs[0], signer_epoch=1, from_sequence={"main": BOUNDARY})
        document = msgspec.structs.replace(weak, epochs=(weak.epochs[0], later))
        deployment.check(document)
        stream = document.stream("main")
        plan = app._plan(document, stream, the.manifest)
        assert plan.proof == "receipts"
        async with belt.agent(the, document, tmp_path / "a.db", secret=belt.SECRETS[0]) as agent:
            agent.close._plans = (plan,)
            await the.player.run(30)
            await the.player.settle()
            await agent.pump()
            frames = await agent.frames()
            assert len(frames) > BOUNDARY
            expected = [hashing.unhex(weak.epochs[0].rulesets["main"])] * BOUNDARY
            assert [frame.header.ruleset for frame in frames[:BOUNDARY]] == expected
            assert frames[BOUNDARY].header.ruleset == hashing.unhex(later.rulesets["main"])
