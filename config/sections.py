"""What every settings table is made of. In: TOML. Out: the types of its values."""

from __future__ import annotations

from typing import Annotated

import msgspec

Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]
Seconds = Annotated[float, msgspec.Meta(gt=0, le=3600)]
Count = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
Text = Annotated[str, msgspec.Meta(min_length=1, max_length=2000)]
Amount = Annotated[str, msgspec.Meta(pattern=r"\A(?:0|[1-9][0-9]{0,77})\Z")]

Address = Annotated[str, msgspec.Meta(pattern=r"\A0x[0-9a-fA-F]{40}\Z")]


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of every table."""
