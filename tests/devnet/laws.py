"""What must hold for the staking contract at every block, checked through its views alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from devnet.staking import Block, Staking

CUMULATIVE = ("earnedOf", "claimedOf", "lostOf", "principalInOf", "principalOutOf")
COMMISSION = ("commissionEarnedOf", "commissionClaimedOf")


@dataclass(frozen=True)
class State:
    balance: int
    validators: dict[str, dict[str, int]]
    positions: dict[tuple[str, str], dict[str, int]]
    unbondings: dict[tuple[str, str], tuple[int, ...]]
    """What is left of each open unbonding."""


async def state(
    chain: Staking, validators: Sequence[str], delegators: Sequence[str], *, block: Block = "latest"
) -> State:
    pairs = [(v, d) for v in validators for d in delegators]
    names = ("stakeOf", *CUMULATIVE, "openUnbondingsOf")
    views: list[tuple[str, Sequence[Any]]] = [(name, pair) for pair in pairs for name in names]
    views += [(name, (v,)) for v in validators for name in ("validatorOf", *COMMISSION)]
    answers = iter(await chain.read(views, block=block))
    positions = {pair: {name: next(answers) for name in names} for pair in pairs}
    open_ids = {pair: position.pop("openUnbondingsOf") for pair, position in positions.items()}
    pools: dict[str, dict[str, int]] = {}
    for v in validators:
        _, rate, total, acc, remainder, held, count, *_ = next(answers)
        pools[v] = {"rate": rate, "total": total, "acc": acc, "remainder": remainder, "held": held, "count": count}
        pools[v] |= {name: next(answers) for name in COMMISSION}
    tickets = [(pair, ticket) for pair, ids in open_ids.items() for ticket in ids]
    entries = await chain.read([("unbondingOf", (ticket,)) for _, ticket in tickets], block=block)
    left: dict[tuple[str, str], tuple[int, ...]] = dict.fromkeys(pairs, ())
    for (pair, _), (_, _, amount, _, _) in zip(tickets, entries, strict=True):
        left[pair] += (amount,)
    return State(await chain.balance(block=block), pools, positions, left)


def broken(now: State, before: State | None = None) -> list[str]:
    """The laws that do not hold; empty when all do."""
    found: list[str] = []
    owed = sum(p["stakeOf"] + p["earnedOf"] - p["claimedOf"] for p in now.positions.values())
    owed += sum(sum(amounts) for amounts in now.unbondings.values())
    owed += sum(v["held"] + v["commissionEarnedOf"] - v["commissionClaimedOf"] for v in now.validators.values())
    if now.balance < owed:
        found.append(f"insolvent: holds {now.balance}, owes {owed}")
    for validator, pool in now.validators.items():
        parts = sum(p["stakeOf"] for (v, _), p in now.positions.items() if v == validator)
        if pool["total"] < parts:
            found.append(f"{validator}: total {pool['total']} is below its parts {parts}")
    for pair, position in now.positions.items():
        kept = position["principalInOf"] - position["principalOutOf"] - position["lostOf"]
        there = position["stakeOf"] + sum(now.unbondings[pair])
        if kept != there:
            found.append(f"{pair}: in - out - lost is {kept}, stake and unbonding are {there}")
        if position["claimedOf"] > position["earnedOf"]:
            found.append(f"{pair}: claimed more than earned")
    for one, other in _cumulative(before, now) if before else []:
        found += [f"{name} fell from {value} to {other[name]}" for name, value in one.items() if other[name] < value]
    return found


def _cumulative(before: State, now: State) -> list[tuple[dict[str, int], dict[str, int]]]:
    both = [(p, now.positions[pair], CUMULATIVE) for pair, p in before.positions.items()]
    both += [(v, now.validators[name], COMMISSION) for name, v in before.validators.items()]
    return [({n: one[n] for n in names}, other) for one, other, names in both]
