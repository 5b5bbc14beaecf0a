"""What a node's answer to a sent transaction may have meant. In: its code and text. Out: one word for metrics and people, never a verdict.

Clients word the same thing differently and change it; "already known" does not even say that it is these bytes that are known. So nothing
is decided by a hint: whatever it is, the transaction may be on its way, and receipts and counts tell.
"""

from __future__ import annotations

import re
from typing import Literal

Hint = Literal[
    "accepted",
    "already_known",
    "nonce_too_low",
    "nonce_too_high",
    "underpriced",
    "replacement_underpriced",
    "insufficient_funds",
    "gas_limit",
    "pool_full",
    "refused",
    "unknown",
]

MAX_TEXT = 500
"""More of a node's text than this is not looked at."""

# In this order: a replacement that is underpriced is also underpriced. Wordings of geth, Anvil, Besu, Nethermind and Erigon.
_WORDINGS: tuple[tuple[Hint, str], ...] = (
    ("already_known", r"already.?known|known.?transaction|already.?imported|already in (?:the )?(?:pool|mempool)|duplicate.?hash"),
    ("replacement_underpriced", r"replacement.*(?:underpriced|too low|not.?allowed)|could not replace|not.?enough.?to.?replace|replacement_underpriced"),
    ("nonce_too_low", r"nonce.{0,12}too.?low|old.?nonce|nonce.{0,20}(?:below|less than)"),
    ("nonce_too_high", r"nonce.{0,12}too.?(?:high|distant|far)|nonce.?gap|nonce.{0,20}(?:above|greater|higher)"),
    ("insufficient_funds", r"insufficient.?(?:funds|balance|maxfeepergas|max fee)|upfront.?cost|not enough (?:funds|balance)"),
    ("underpriced", r"underpriced|fee.?too.?low|fee cap less than|max ?fee ?per ?gas less than|below (?:the )?(?:current |configured )?(?:minimum|base)|gas.?price.?too.?low|tip.{0,20}below"),
    ("gas_limit", r"gas.?limit|intrinsic gas|exceeds.{0,20}gas|out of gas"),
    ("pool_full", r"pool.{0,12}(?:full|overflow|limit)|txpool_limit|too many transactions"),
    ("refused", r"invalid.?(?:sender|signature|chain|transaction)|chain.?id|not supported|oversized|forbidden|unauthori[sz]ed|not accepted"),
)  # fmt: skip
_PATTERNS: tuple[tuple[Hint, re.Pattern[str]], ...] = tuple([(hint, re.compile(text)) for hint, text in _WORDINGS])


def read(text: str) -> Hint:
    """Never raises, whatever the text is."""
    lower = text[:MAX_TEXT].lower()
    if lower == "accepted":
        return "accepted"
    for hint, pattern in _PATTERNS:
        if pattern.search(lower):
            return hint
    return "unknown"
