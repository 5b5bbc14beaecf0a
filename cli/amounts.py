"""Amounts as people write them. In: `1000`, `20 gwei`, `1.5 ether`. Out: wei as decimal text, exact, or an error. No floats anywhere."""

from __future__ import annotations

import re

from domain import errors

UNITS = {"": 0, "wei": 0, "gwei": 9, "ether": 18}
_AMOUNT = re.compile(r"(?P<whole>[0-9]{1,78})(?:\.(?P<part>[0-9]{1,78}))? ?(?P<unit>[a-z]*)\Z")


def wei(text: str) -> str:
    """Raises BadConfig."""
    match = _AMOUNT.match(text.strip())
    digits = None if match is None else UNITS.get(match["unit"])
    if match is None or digits is None:
        raise errors.BadConfig("this is no amount", value=text, cure="write wei (1000), or 20gwei, or 1.5ether")
    part = match["part"] or ""
    if len(part.rstrip("0")) > digits:
        raise errors.BadConfig(
            "the amount has more digits than its unit", value=text, cure="there is nothing below 1 wei"
        )
    value = int(match["whole"] + part[:digits].ljust(digits, "0"))
    if value >= 1 << 256:
        raise errors.BadConfig("the amount is larger than any there can be", value=text)
    return str(value)
