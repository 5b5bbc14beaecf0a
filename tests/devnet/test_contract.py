"""The staking contract's rules, one at a time and under random operations, on a real Anvil."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from devnet import anvil, play, rpc, staking
from tests.devnet import laws

ETHER = 10**18


class World:
    """Two validators (no commission, 10 %) and three delegators."""

    def __init__(self, chain: staking.Staking) -> None:
        self.chain = chain
        self.free, self.tenth = chain.accounts[1:3]
        self.ada, self.bob, self.cyd = chain.accounts[3:6]
        self.payer = chain.accounts[-1]

    async def set_up(self) -> World:
        await self.must(
            staking.register_validator(self.free, commission_bps=0, metadata=""),
            staking.register_validator(self.tenth, commission_bps=1_000, metadata=""),
        )
        return self

    async def must(self, *operations: staking.Operation) -> None:
        assert all(await self.chain.do(*operations)), operations

    async def view(self, name: str, *arguments: Any) -> Any:
        return (await self.chain.read([(name, arguments)]))[0]

    async def later(self, seconds: int) -> None:
        """The next block's timestamp is that much after the head's."""
        head = await self.chain.node.call("eth_getBlockByNumber", "latest", False)
        await self.chain.node.call("evm_setNextBlockTimestamp", int(head["timestamp"], 16) + seconds)


@pytest.fixture
async def world(chain: staking.Staking) -> World:
    return await World(chain).set_up()


async def test_a_reward_is_shared_by_stake_after_commission(world: World) -> None:
    await world.must(
        staking.delegate(world.ada, world.tenth, 3 * ETHER), staking.delegate(world.bob, world.tenth, ETHER)
    )
    await world.must(staking.distribute_reward(world.payer, world.tenth, 1_000))
    assert await world.view("earnedOf", world.tenth, world.ada) == 675
    assert await world.view("earnedOf", world.tenth, world.bob) == 225
    assert await world.view("commissionEarnedOf", world.tenth) == 100


async def test_a_commission_change_leaves_earlier_rewards_alone(world: World) -> None:
    await world.must(
        staking.delegate(world.ada, world.tenth, 10), staking.distribute_reward(world.payer, world.tenth, 1_000)
    )
    await world.must(staking.set_commission(world.tenth, commission_bps=5_000))
    await world.must(staking.distribute_reward(world.payer, world.tenth, 1_000))
    assert await world.view("commissionEarnedOf", world.tenth) == 100 + 500


async def test_a_pool_without_stake_holds_its_reward_for_the_next_distribution(world: World) -> None:
    await world.must(staking.distribute_reward(world.payer, world.free, 77))
    await world.must(staking.delegate(world.ada, world.free, 1))
    assert await world.view("earnedOf", world.free, world.ada) == 0
    await world.must(staking.distribute_reward(world.payer, world.free, 3))
    assert await world.view("earnedOf", world.free, world.ada) == 80


async def test_what_does_not_divide_is_carried_to_the_next_reward(world: World) -> None:
    await world.must(*(staking.delegate(who, world.free, ETHER) for who in (world.ada, world.bob, world.cyd)))
    for _ in range(3):
        await world.must(staking.distribute_reward(world.payer, world.free, 1))
    assert [await world.view("earnedOf", world.free, who) for who in (world.ada, world.bob, world.cyd)] == [1, 1, 1]


async def test_a_slash_reaches_stake_and_unreleased_unbonding_but_not_what_was_released(world: World) -> None:
    await world.must(staking.delegate(world.ada, world.free, 3_000))
    await world.must(staking.undelegate(world.ada, world.free, 1_000))
    await world.later(staking.UNBONDING_DELAY_S)
    await world.must(staking.undelegate(world.ada, world.free, 1_000))  # the first is released in this very second
    await world.must(staking.slash(world.chain.owner, world.free, fraction_bps=1_000))
    assert await world.view("stakeOf", world.free, world.ada) == 900
    assert (await world.view("unbondingOf", 1))[2:4] == (1_000, 0)
    assert (await world.view("unbondingOf", 2))[2:4] == (900, 100)
    assert await world.view("lostOf", world.free, world.ada) == 200
    await world.later(staking.UNBONDING_DELAY_S)
    await world.must(staking.withdraw(world.ada, 2), staking.withdraw(world.ada, 1))
    assert await world.view("principalOutOf", world.free, world.ada) == 1_900
    assert await world.view("lostOf", world.free, world.ada) == 200


async def test_a_slash_in_the_second_of_release_comes_too_late(world: World) -> None:
    await world.must(staking.delegate(world.ada, world.free, 100), staking.undelegate(world.ada, world.free, 100))
    await world.later(staking.UNBONDING_DELAY_S)
    await world.must(staking.slash(world.chain.owner, world.free, fraction_bps=10_000))
    assert (await world.view("unbondingOf", 1))[2:4] == (100, 0)


async def test_nothing_is_paid_before_its_release_nor_twice(world: World) -> None:
    await world.must(staking.delegate(world.ada, world.free, 100), staking.undelegate(world.ada, world.free, 60))
    assert await world.chain.do(staking.withdraw(world.ada, 1)) == [False]
    await world.later(staking.UNBONDING_DELAY_S)
    assert await world.chain.do(staking.withdraw(world.bob, 1), staking.withdraw(world.ada, 1)) == [False, True]
    assert await world.chain.do(staking.withdraw(world.ada, 1)) == [False]


async def test_moved_stake_earns_and_is_slashed_at_its_new_validator_only(world: World) -> None:
    await world.must(staking.delegate(world.ada, world.free, 100))
    await world.must(staking.redelegate(world.ada, source=world.free, target=world.tenth, amount_wei=100))
    await world.must(
        staking.slash(world.chain.owner, world.free, fraction_bps=5_000),
        staking.distribute_reward(world.payer, world.tenth, 100),
    )
    assert await world.view("stakeOf", world.tenth, world.ada) == 100
    assert await world.view("earnedOf", world.tenth, world.ada) == 90
    assert await world.view("principalOutOf", world.free, world.ada) == 100


async def test_dust_that_rounding_left_in_an_empty_pool_is_dropped(world: World) -> None:
    await world.must(*(staking.delegate(who, world.free, 1) for who in (world.ada, world.bob, world.cyd)))
    # each loses its whole wei, the total nothing
    await world.must(staking.slash(world.chain.owner, world.free, fraction_bps=1))
    assert (await world.view("validatorOf", world.free))[2] == 3
    await world.must(*(staking.delegate(who, world.free, 5) for who in (world.ada, world.bob, world.cyd)))
    await world.must(*(staking.undelegate(who, world.free, 5) for who in (world.ada, world.bob, world.cyd)))
    assert (await world.view("validatorOf", world.free))[2] == 0


@pytest.mark.parametrize(
    "operation",
    [
        lambda w: staking.slash(w.ada, w.free, fraction_bps=1),
        lambda w: staking.slash(w.chain.owner, w.free, fraction_bps=0),
        lambda w: staking.slash(w.chain.owner, w.free, fraction_bps=10_001),
        lambda w: staking.delegate(w.ada, w.free, 0),
        lambda w: staking.delegate(w.ada, w.bob, 1),
        lambda w: staking.distribute_reward(w.ada, w.bob, 1),
        lambda w: staking.undelegate(w.ada, w.free, 1),
        lambda w: staking.redelegate(w.ada, source=w.free, target=w.free, amount_wei=1),
        lambda w: staking.claim(w.ada, w.free),
        lambda w: staking.claim_commission(w.free),
        lambda w: staking.set_commission(w.free, commission_bps=10_001),
        lambda w: staking.set_metadata(w.ada, "not a validator"),
        lambda w: staking.register_validator(w.free, commission_bps=0, metadata="again"),
    ],
)
async def test_what_breaks_a_rule_is_refused(world: World, operation: Any) -> None:
    assert await world.chain.do(operation(world)) == [False]


@pytest.mark.parametrize("seed", range(6))
async def test_the_laws_hold_all_along_two_hundred_random_operations(chain: staking.Staking, seed: int) -> None:
    player = play.Player(chain, seed)
    before = None
    for _ in range(10):
        await player.run(20)
        now = await laws.state(chain, player.validators, player.delegators)
        assert laws.broken(now, before) == []
        before = now
    assert player.played.operations >= 200
    usual = {"delegate", "undelegate", "withdraw", "redelegate", "claim", "distributeReward", "slash"}
    assert usual <= player.played.succeeded.keys()


_AMOUNT = st.one_of(st.integers(1, 12), st.sampled_from(play.DUST), st.integers(1, 100 * ETHER))
_WHO = st.integers(0, 2)
_STEP = st.one_of(
    st.tuples(st.just("delegate"), _WHO, st.booleans(), _AMOUNT),
    st.tuples(st.just("undelegate"), _WHO, st.booleans(), _AMOUNT),
    st.tuples(st.just("leave"), _WHO, st.booleans(), st.just(0)),
    st.tuples(st.just("redelegate"), _WHO, st.booleans(), _AMOUNT),
    st.tuples(st.just("claim"), _WHO, st.booleans(), st.just(0)),
    st.tuples(st.just("reward"), _WHO, st.booleans(), _AMOUNT),
    st.tuples(st.just("slash"), _WHO, st.booleans(), st.integers(1, 10_000)),
    st.tuples(st.just("withdraw"), _WHO, st.booleans(), st.integers(1, 5)),
    st.tuples(st.just("later"), _WHO, st.booleans(), st.integers(1, 200)),
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(_STEP, min_size=1, max_size=25))
def test_no_short_sequence_breaks_a_law(steps: list[tuple[str, int, bool, int]]) -> None:
    asyncio.run(_play(steps))


async def _play(steps: list[tuple[str, int, bool, int]]) -> None:
    async with anvil.Anvil(accounts=8) as node, rpc.Rpc(node.url) as client:
        world = await World(await staking.deploy(client)).set_up()
        people, pools = (world.ada, world.bob, world.cyd), (world.free, world.tenth)
        before, rewards = None, 0
        for name, who, first, number in steps:
            person, (pool, other) = people[who], pools if first else pools[::-1]
            match name:
                case "delegate":
                    await world.must(staking.delegate(person, pool, number))
                case "undelegate":
                    await world.chain.do(staking.undelegate(person, pool, number))
                case "leave":
                    await world.chain.do(staking.undelegate(person, pool, await world.view("stakeOf", pool, person)))
                case "redelegate":
                    await world.chain.do(staking.redelegate(person, source=pool, target=other, amount_wei=number))
                case "claim":
                    await world.chain.do(staking.claim(person, pool))
                case "reward":
                    await world.must(staking.distribute_reward(world.payer, pool, number))
                    rewards += number
                case "slash":
                    await world.must(staking.slash(world.chain.owner, pool, fraction_bps=number))
                case "withdraw":
                    await world.chain.do(staking.withdraw(person, number))
                case _:
                    await world.later(number)
                    await world.chain.mine()
            now = await laws.state(world.chain, pools, people)
            assert laws.broken(now, before) == []
            before = now
        assert before is not None
        shared = sum(p["earnedOf"] for p in before.positions.values())
        shared += sum(v["commissionEarnedOf"] + v["held"] for v in before.validators.values())
        assert shared <= rewards
        if not any(name == "slash" for name, *_ in steps):
            assert rewards - shared <= 2 * len(steps) + 6  # a wei for each settlement, at most
