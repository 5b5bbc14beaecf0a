"""What a transaction offers. In: the market and what was offered before. Out: a quote, or Wait with its reason.

All numbers are wei per unit of gas, and integers throughout. A replacement follows geth's rule (`core/txpool/legacypool/list.go`): tip and fee
cap each strictly higher and at least 110 % of what they replace; the division rounds up here, where geth's rounds down, so nothing that is
asked for here is refused there. Above the caps we wait and do not drop: what was signed stays in the pool, and fees fall again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import msgspec

from agent.delegations import terms

BUMP_PERCENT = 110
HEADROOM = 2
"""The quoted cap holds while the base fee doubles: six full blocks in a row at EIP-1559's one eighth."""
Caps = terms.Caps


class FeeHistory(msgspec.Struct, frozen=True):
    """The base fee of the block to come, and what the middle of each recent block tipped (0: it was empty), as eth_feeHistory tells."""

    base_fee_next: int
    tips: tuple[int, ...]


class Quote(msgspec.Struct, frozen=True):
    tip: int
    max_fee: int


class Wait(msgspec.Struct, frozen=True):
    """Offer nothing now."""

    why: str


Answer: TypeAlias = Quote | Wait


def quote(history: FeeHistory, caps: Caps) -> Answer:
    """The median tip, and a cap with headroom, never above the policy's. Wait: the next block's base fee alone is beyond it."""
    tip = min(max(_median(history.tips), 1), caps.max_tip)
    least = history.base_fee_next + tip
    if least > caps.max_fee:
        return Wait(f"the next block asks {least} wei per gas, the cap is {caps.max_fee}")
    return Quote(tip, min(HEADROOM * history.base_fee_next + tip, caps.max_fee))


def bump(previous: Sequence[tuple[int, int]], market: Answer, caps: Caps) -> Answer:
    """What replaces everything offered before at the nonce: `previous` are all (tip, max_fee), in any order.

    Never lower than any of them, never lower than the market. Used for cancels too."""
    if isinstance(market, Wait):
        return market
    tip = max([market.tip, *(raised(old) for old, _ in previous)])
    max_fee = max([market.max_fee, tip, *(raised(old) for _, old in previous)])
    if tip > caps.max_tip:
        return Wait(f"a replacement has to tip {tip} wei per gas, the cap is {caps.max_tip}")
    if max_fee > caps.max_fee:
        return Wait(f"a replacement has to offer {max_fee} wei per gas, the cap is {caps.max_fee}")
    return Quote(tip, max_fee)


def raised(old: int) -> int:
    """The least number that replaces `old`: 110 %, rounded up, and one wei more at least."""
    return max(old + 1, -(-old * BUMP_PERCENT // 100))


def _median(values: Sequence[int]) -> int:
    """Of what is not zero, the lower of the two in the middle; 0 of nothing."""
    paid = sorted([value for value in values if value > 0])
    return paid[(len(paid) - 1) // 2] if paid else 0
