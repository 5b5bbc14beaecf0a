"""Plausibility caps. In: how much a frame may add. Out: functions that give a reason to hold a frame for a person.

A cap does not judge right or wrong: k signers agreed already. It stops what would be expensive to be wrong about. Integers only.
"""

from __future__ import annotations

from domain import statement
from earnings import sealing

BASIS = 10_000


def build(max_reward_growth: str | None, *, max_growth_bps: int | None) -> tuple[sealing.Cap, ...]:
    """`max_reward_growth` is decimal, in the asset's smallest unit, for one frame. `max_growth_bps` is for one frame too, in 1/10,000 of
    the total of the frame before; it says nothing while that total is zero."""
    found: list[sealing.Cap] = []
    if max_reward_growth is not None:
        found.append(_growth(int(max_reward_growth)))
    if max_growth_bps is not None:
        found.append(_ratio(max_growth_bps))
    return tuple(found)


def _growth(most: int) -> sealing.Cap:
    def cap(previous: statement.Header | None, header: statement.Header) -> str | None:
        grown = header.total_reward - _total(previous)
        return None if grown <= most else f"the total reward grows by {grown}, more than {most}"

    return cap


def _ratio(most_bps: int) -> sealing.Cap:
    def cap(previous: statement.Header | None, header: statement.Header) -> str | None:
        before = _total(previous)
        grown = header.total_reward - before
        if before == 0 or grown * BASIS <= before * most_bps:
            return None
        return f"the total reward grows from {before} by {grown}, more than {most_bps} in {BASIS}"

    return cap


def _total(previous: statement.Header | None) -> int:
    return 0 if previous is None else previous.total_reward
