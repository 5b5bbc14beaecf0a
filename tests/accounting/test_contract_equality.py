"""Every leaf of the replay against the contract's own views, on a real node, to the wei."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accounting import reward_per_share as rps
from devnet import anvil, play, rpc, staking, truth
from domain import chain, errors, events

SCALE = 10**18
SEEDS = (1, 7, 42, 1337, 20260101)


def event_of(row: truth.Row) -> events.StakingEvent:
    """The ground truth's meaning of a log as our event: the decoder has no part in this test."""
    at = events.At(chain.BlockRef(row.number, row.block_hash), row.log_index, row.time, row.tx_hash)
    detail = msgspec.json.encode(dict(row.detail)).decode()
    assert row.kind is not None and row.validator is not None
    return events.from_row(events.Row(row.kind, row.validator, row.delegator, row.amount, detail), at)


def leaves_of(book: rps.Book) -> truth.Leaves:
    return {
        (leaf.parts, leaf.kind): (leaf.reward, leaf.penalty) for leaf in book.leaves(protocol="devnet", asset=bytes(20))
    }


async def differences(seed: int, *, operations: int) -> tuple[list[str], Sequence[truth.Row]]:
    async with contextlib.AsyncExitStack() as stack:
        node = await stack.enter_async_context(anvil.Anvil(accounts=24))
        client = await stack.enter_async_context(rpc.Rpc(node.url))
        contract = await staking.deploy(client)
        player = play.Player(contract, seed, validators=3, delegators=10)
        ground = truth.Truth(client, start_block=contract.start_block)
        found: list[str] = []
        carry: bytes | None = None
        done = contract.start_block - 1
        # Four frames: the carry is written and read between them, as between statements.
        for _ in range(4):
            await player.run(operations // 4)
            height = await contract.height()
            rows = await ground.rows(first=done + 1, last=height)
            book = rps.fold(carry, map(event_of, rows), scale=SCALE)
            found += truth.compare_leaves(await ground.leaves_at(height), leaves_of(book))
            carry, done = rps.write_carry(book), height
        return found, await ground.rows()


@pytest.mark.parametrize("seed", SEEDS)
async def test_every_leaf_equals_the_contracts_views_after_two_hundred_random_operations(
    seed: int,
) -> None:
    found, rows = await differences(seed, operations=200)
    assert found == []
    assert {row.kind for row in rows} >= {"Delegated", "Undelegated", "Moved", "RewardAccrued", "Slashed"}


@settings(max_examples=6, deadline=None, derandomize=True)
@given(st.integers(0, 2**32))
def test_every_leaf_equals_the_contracts_views_for_any_seed(seed: int) -> None:
    found, _ = asyncio.run(differences(seed, operations=200))
    assert found == []


async def test_a_wrong_rounding_in_the_replay_contradicts_the_contract(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rps, "_share_up", lambda amount, bps: amount * bps // rps.BASIS)
    with pytest.raises(errors.Parked):
        await differences(SEEDS[0], operations=200)
