"""A SIGKILL at every write and outside call of the staking belt: an intent takes effect once, and ends."""

from __future__ import annotations

import os
import random
import secrets
from pathlib import Path

import pytest

from agent.services import lease
from devnet import anvil, crash, kill
from domain import hashing
from store import book, intents

POINTS = [point for point in crash.points() if point.startswith(kill.STAGES)]
SAMPLE = 10
SEED = os.environ.get("STAKESIDE_KILL_SEED") or secrets.token_hex(4)
COMMITS = [("store.before_commit", n) for n in (2, 5, 9, 14)] + [("store.after_commit", n) for n in (3, 7, 11)]
"""Commits of all stages, counted together: what no named point stands beside."""


async def _sound(desk: kill.Desk) -> None:
    """The book agrees with itself, as the product's own audit sees it."""
    genesis = (await desk.client.call("eth_getBlockByNumber", "0x0", False))["hash"]
    document = desk.ships.document()
    opened = await book.open_book(
        f"sqlite:///{desk.agent.book}", deployment=document.digest(), chain_id=anvil.CHAIN_ID,
        genesis=hashing.unhex(genesis), read_only=True,
    )  # fmt: skip
    try:
        async with opened.read() as c:
            assert await intents.audit(c) == []
    finally:
        await opened.close()


async def _strike_all(folder: Path, strikes: list[tuple[str, int, bool]], *, hub: bool = False) -> None:
    async with kill.desk(folder, hub=hub) as desk:
        for point, passage, reorg in strikes:
            done = await desk.strike(point, passage=passage, reorg=reorg)
            assert done.ok, f"seed {SEED}: {done}\n{desk.agent.tail()}"
            await _sound(desk)
        amounts = await desk.effects()
        assert len(amounts) == len(set(amounts)) >= len(strikes)


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_a_sample_of_kills_leaves_every_intent_with_one_effect(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with capsys.disabled():
        print(f"\nkill sample: STAKESIDE_KILL_SEED={SEED}")
    rng = random.Random(SEED)
    chosen = [(point, 1, rng.random() < 0.5) for point in rng.sample(POINTS, SAMPLE)]
    await _strike_all(tmp_path, [*chosen, (*rng.choice(COMMITS), False)])


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_a_kill_around_a_hubs_lease_leaves_every_intent_with_one_effect(tmp_path: Path) -> None:
    """One where it is acquired, one where it is renewed."""
    rng = random.Random(SEED)
    await _strike_all(tmp_path, [(rng.choice(lease.POINTS), n, False) for n in (1, 2)], hub=True)


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("hub", [False, True], ids=["exclusive", "lease of a hub"])
@pytest.mark.parametrize("reorg", [False, True], ids=["calm", "reorg"])
async def test_every_kill_leaves_every_intent_with_one_effect(tmp_path: Path, reorg: bool, hub: bool) -> None:
    strikes = [(point, 1, reorg) for point in POINTS] + [(point, n, reorg) for point, n in COMMITS]
    renewals = [(point, 2, reorg) for point in lease.POINTS] if hub else []
    await _strike_all(tmp_path, strikes + renewals, hub=hub)


def test_the_services_name_every_point_of_theirs() -> None:
    from agent.services import confirm, decide, submit

    assert {*lease.POINTS, *decide.POINTS, *submit.POINTS, *confirm.POINTS} == set(POINTS)
