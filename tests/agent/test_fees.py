"""What the staking belt pays: within the day's gas, within the caps, and always with room for a cancel."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.services import confirm
from domain import amounts
from store import attempts, inclusions, reservations
from tests.agent import staking_belt
from tests.agent.staking_belt import GWEI


@pytest.fixture
async def town() -> AsyncIterator[staking_belt.Town]:
    async with staking_belt.town() as it:
        yield it


async def base_fee(town: staking_belt.Town, wei: int) -> None:
    await town.client.call("anvil_setNextBlockBaseFeePerGas", hex(wei))


async def test_no_bump_passes_the_days_gas_and_a_cancel_counts_what_it_cost(
    town: staking_belt.Town, tmp_path: Path
) -> None:
    await base_fee(town, 2 * GWEI)
    await town.mine()
    caps = {"max_fee_per_gas_wei": str(20 * GWEI), "max_tip_wei": str(GWEI)}
    async with staking_belt.desk(town, tmp_path / "probe.db", section=staking_belt.limits(**caps)) as probe:
        id = await probe.propose("a")
        await probe.step(probe.decide)
        async with probe.book.read() as c:
            gas = (await attempts.of_intent(c, id))[0].unsigned.gas
    most = gas * 10 * GWEI
    section = staking_belt.limits(**caps, max_gas_wei_per_day=str(most))
    async with staking_belt.desk(town, tmp_path / "book.db", section=section) as desk:
        id, other = await desk.propose("a"), await desk.propose("b")
        await desk.run(1)
        assert await desk.state(id) == "pending"
        waiting = await desk.look(other)
        assert (
            waiting.state == "planned" and f"are above the {amounts.gwei(most)} of max_gas_wei_per_day" in waiting.why
        )
        await desk.cancel(other)
        await base_fee(town, 15 * GWEI)
        await town.mine()
        await desk.clock.advance(desk.delegator.timing.bump_after_s)
        await desk.run(1)
        async with desk.book.read() as c:
            assert len(await attempts.of_intent(c, id)) == 1
        assert "max_gas_wei_per_day" in (await desk.look(id)).why
        await desk.cancel(id)
        await desk.until(id, "cancelled")
        async with desk.book.read() as c:
            mined = await inclusions.standing(c, id)
            spent = await reservations.gas(c, account=staking_belt.ADDRESS, since_s=0)
        assert mined is not None and spent.paid == mined.gas_used * mined.gas_price_wei > 0
        await base_fee(town, GWEI)
        await town.mine()
        await desk.until(await desk.propose("c"), "final_ok")
        async with desk.book.read() as c:
            spent = await reservations.gas(c, account=staking_belt.ADDRESS, since_s=0)
        assert spent.open == 0 and spent.paid <= most


async def test_a_cancel_outbids_only_what_was_signed(town: staking_belt.Town, tmp_path: Path) -> None:
    """The caps were lowered before the original was signed: it never will be, and what it would have offered is no measure."""
    await base_fee(town, 60 * GWEI)
    await town.mine()
    async with staking_belt.desk(town, tmp_path / "book.db") as desk:
        id = await desk.propose("a")
        await desk.step(desk.decide)
        assert await desk.state(id) == "reserved"
    low = staking_belt.limits(max_fee_per_gas_wei=str(80 * GWEI), max_tip_wei=str(GWEI))
    async with staking_belt.desk(town, tmp_path / "book.db", section=low) as desk:
        await desk.run(1)
        assert "the policy changed" in (await desk.look(id)).why
        await desk.cancel(id)
        await desk.until(id, "cancelled")
        async with desk.book.read() as c:
            original, cancel = await attempts.of_intent(c, id)
        assert cancel.unsigned.max_fee < original.unsigned.max_fee
        assert await town.effects() == []


async def test_a_bump_that_waits_is_written_once_while_only_its_figures_change(
    town: staking_belt.Town, tmp_path: Path
) -> None:
    low = staking_belt.limits(max_fee_per_gas_wei=str(5 * GWEI), max_tip_wei=str(GWEI))
    async with staking_belt.desk(town, tmp_path / "book.db", section=low) as desk:
        id = await desk.propose("a")
        await desk.run(1)
        await base_fee(town, 50 * GWEI)
        await town.mine()
        await desk.clock.advance(desk.delegator.timing.bump_after_s)
        await desk.run(1)
        first = (await desk.look(id)).why
        for _ in range(3):
            await town.mine()  # an empty block: the base fee falls by an eighth
            await desk.run(1)
            assert (await desk.look(id)).why == first
        await desk.clock.advance(confirm.REFRESH_S)
        await desk.run(1)
        assert (await desk.look(id)).why != first
        desk.lease.held, desk.lease.taken = None, True
        await desk.run(1)
        assert "lease" in (await desk.look(id)).why, "another reason is told at once"
