"""What every settings table is made of. In: TOML. Out: the types of its values."""

from __future__ import annotations

from typing import Annotated

import msgspec

Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]
Seconds = Annotated[float, msgspec.Meta(gt=0, le=3600)]
Count = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
Text = Annotated[str, msgspec.Meta(min_length=1, max_length=2000)]
_AMOUNT, _ADDRESS = r"\A(?:0|[1-9][0-9]{0,77})\Z", r"\A0x[0-9a-fA-F]{40}\Z"
Amount = Annotated[str, msgspec.Meta(pattern=_AMOUNT)]
Address = Annotated[str, msgspec.Meta(pattern=_ADDRESS)]
WORDS = {
    _AMOUNT: 'decimal digits as text, in wei or the smallest unit, for example "1000000000000000000"',
    _ADDRESS: "an address: 0x and 40 hex digits",
}
"""What a pattern means, for who has to type it."""


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of every table."""
