"""The simulator itself: an honest agent passes, a wrong row does not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from devnet import demo, simulate


async def test_a_seed_passes_and_says_so_in_one_line() -> None:
    lines: list[str] = []
    plan = simulate.Plan(await simulate.rulesets(), actions=3)
    assert await simulate.run([5], jobs=1, plan=plan, say=lines.append)
    outcome, summary = (json.loads(line) for line in lines)
    assert (outcome["seed"], outcome["ok"], outcome["difference"]) == (5, True, None)
    assert outcome["rows"] > 0
    assert outcome["frames"] > 0
    assert (summary["ok"], summary["failed"]) == (True, [])


@pytest.mark.slow
async def test_ten_seeds_pass() -> None:
    lines: list[str] = []
    plan = simulate.Plan(await simulate.rulesets())
    assert await simulate.run(range(1, 11), jobs=2, plan=plan, say=lines.append), lines


async def test_a_wrong_row_fails_its_seed(tmp_path: Path) -> None:
    class Planted(simulate.Simulation):
        async def _compare(self) -> str | None:
            demo.plant(self._agent.book)
            return await super()._compare()

    plan = simulate.Plan(await simulate.rulesets(), actions=0)
    outcome = await Planted(5, plan, tmp_path).run()
    assert not outcome.ok
    assert "the chain says" in (outcome.difference or "")
