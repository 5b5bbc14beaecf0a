"""What a transaction offers. In: the market and what was offered before. Out: a quote, or Wait with its reason.

All numbers are wei per unit of gas, and integers throughout. A replacement follows geth's rule (`core/txpool/legacypool/list.go`): tip and fee
cap each strictly higher and at least 110 % of what they replace; the division rounds up here, where geth's rounds down, so nothing that is
asked for here is refused there. Above the caps we wait and do not drop: what was signed stays in the pool, and fees fall again. Nothing but a
cancel offers the last tenth below the caps: what cannot be outbid cannot be cancelled. An original stays further below, so that it can be outbid
more than once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import msgspec

from agent.delegations import terms
from domain import intent as intents

BUMP_PERCENT = 110
HEADROOM = 2
"""The quoted cap holds while the base fee doubles: six full blocks in a row at EIP-1559's one eighth."""
RAISES = 5
"""How often what an original offers can be replaced within the caps, where the market lets it: the last time by a cancel."""
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


def quote(history: FeeHistory, caps: Caps, *, kind: intents.AttemptKind = "original") -> Answer:
    """The median tip, and a cap with headroom, never above `most`. Wait: the next block's base fee alone is beyond it.

    An original leaves room for `RAISES`: it tips less than a bump may, and where its cap cannot, it has headroom for one block only."""
    allowed, base = most(caps, kind), history.base_fee_next
    roomy = _below(caps, RAISES) if kind == "original" else allowed
    tip = min(max(_median(history.tips), 1), roomy.max_tip)
    least = base + tip
    if least > allowed.max_fee:
        return Wait(f"the next block asks {least} wei per gas, {allowed.max_fee} is the most ({_reserve(caps)})")
    soon = -(-base * 9 // 8) + tip
    return Quote(tip, min(HEADROOM * base + tip, max(soon, roomy.max_fee), allowed.max_fee))


def bump(
    previous: Sequence[tuple[int, int]], market: Answer, caps: Caps, *, kind: intents.AttemptKind = "bump"
) -> Answer:
    """What replaces everything offered before at the nonce: `previous` are the (tip, max_fee) of all that was signed, in any order.

    Never lower than any of them. Never lower than the market either, which a bump waits for; a cancel does not: below the market too it takes
    the place of what it cancels. Where the market is beyond the caps, or no other cancel could follow, it offers all that is allowed."""
    if isinstance(market, Wait):
        if kind != "cancel":
            return market
        market = Quote(caps.max_tip, caps.max_fee)
    tip = max([market.tip, *(raised(old) for old, _ in previous)])
    max_fee = max([market.max_fee, tip, *(raised(old) for _, old in previous)])
    allowed = most(caps, kind)
    if tip > allowed.max_tip:
        return Wait(f"a {kind} has to tip {tip} wei per gas, {allowed.max_tip} is the most ({_reserve(caps)})")
    if max_fee > allowed.max_fee:
        return Wait(f"a {kind} has to offer {max_fee} wei per gas, {allowed.max_fee} is the most ({_reserve(caps)})")
    if kind == "cancel" and (raised(tip) > allowed.max_tip or raised(max_fee) > allowed.max_fee):
        return Quote(allowed.max_tip, allowed.max_fee)
    return Quote(tip, max_fee)


def most(caps: Caps, kind: intents.AttemptKind) -> Caps:
    """What an attempt may offer. One replacement's room below the caps is a cancel's alone, so that there can always be one."""
    if kind == "cancel":
        return caps
    return _below(caps, 1)


def within(caps: Caps, most_: int) -> Caps:
    """Caps under which a bump offers `most_` wei per unit of gas at most."""
    least = -(-most_ * BUMP_PERCENT // 100)
    return caps if least >= caps.max_fee else Caps(max_fee=least, max_tip=min(caps.max_tip, least))


def raised(old: int) -> int:
    """The least number that replaces `old`: 110 %, rounded up, and one wei more at least."""
    return max(old + 1, -(-old * BUMP_PERCENT // 100))


def _below(caps: Caps, raises: int) -> Caps:
    """What can be replaced so often within the caps. Below two wei there is no room for two."""
    for _ in range(raises):
        room = Caps(max_fee=caps.max_fee * 100 // BUMP_PERCENT, max_tip=caps.max_tip * 100 // BUMP_PERCENT)
        caps = Caps(max_fee=max(room.max_fee, 1), max_tip=max(room.max_tip, 1))
    return caps


def _reserve(caps: Caps) -> str:
    return f"caps {caps.max_fee} and tip {caps.max_tip}, of which a cancel keeps the last tenth"


def _median(values: Sequence[int]) -> int:
    """Of what is not zero, the lower of the two in the middle; 0 of nothing."""
    paid = sorted([value for value in values if value > 0])
    return paid[(len(paid) - 1) // 2] if paid else 0
