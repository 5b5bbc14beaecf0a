"""A SIGKILL at every named instruction of agent and hub: nothing is lost, nothing is there twice, nobody contradicts themselves."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from devnet import crash, fleet, kill, play
from tests.fleet import town as towns

POINTS = [point for point in crash.points() if not point.startswith(kill.STAGES)]  # those have their own matrix
QUICK = ("index.after_commit", "attest.after_sign", "report.after_send", "hub.after_commit")
LATE = ("adopt.", "index.before_gap", "index.after_gap")
PRUNED_BEFORE = 6


def _marked(point: str) -> object:
    return pytest.param(point, marks=() if point in QUICK else pytest.mark.slow)


@pytest.fixture
async def town(tmp_path: Path) -> AsyncIterator[towns.Town]:
    async with towns.town(tmp_path) as town:
        yield town


def _victim(town: towns.Town, point: str) -> fleet.Process:
    if point.startswith("hub."):
        return town.hub
    return town.latecomer if point.startswith(LATE) else town.voter


@pytest.mark.parametrize("point", [_marked(p) for p in POINTS if not p.endswith("_latch")])
async def test_nothing_is_lost_by_a_crash(town: towns.Town, point: str) -> None:
    victim = _victim(town, point)
    others = [p for p in (town.hub, town.voter) if p is not victim]
    if victim is town.latecomer:
        town.liar.set_faults([f"pruned:before={PRUNED_BEFORE},style=geth,receipts=error"])
        await town.settle()
    await town.start(*others)
    rounds = 0

    async def stir() -> None:
        nonlocal rounds
        rounds += 1
        if point.endswith("_revert") and rounds % 3 == 0:
            await town.player.reorg(2, kind=play.THREE)
        elif rounds % 2:
            await town.player.run(3)

    async def unharmed(_: crash.Crash) -> str | None:
        return await town.difference(town.latecomer if victim is town.latecomer else town.voter)

    done = await crash.crash_and_check(victim, point, stir=stir, invariant=unharmed, deadline_s=40)
    assert done.reached, f"{point} was not reached: {victim.tail()}"
    assert done.difference is None


@pytest.mark.slow
@pytest.mark.parametrize("point", [p for p in POINTS if p.endswith("_latch")])
async def test_a_violated_finality_stays_latched_through_a_crash(town: towns.Town, point: str) -> None:
    await town.settle()
    await town.start(town.voter)
    book = await town.caught_up(town.voter)
    before = book.rows()
    await town.voter.kill()
    await town.player.reorg(2 * town.node.finality_depth, violate_finality=True)

    async def stir() -> None:
        return None

    async def latched(_: crash.Crash) -> str | None:
        async def set_() -> str | None:
            return next(iter(book.latches()), None)

        await town.voter.until(set_, what="the latch")
        return None if book.rows() == before else "rows changed below the latch"

    done = await crash.crash_and_check(town.voter, point, stir=stir, invariant=latched)
    assert done.ok, done
