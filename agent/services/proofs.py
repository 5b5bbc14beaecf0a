"""What has to be seen in a receipt. In: a plan's expected effects. Out: their JSON for the book, and the place of the proof among logs.

The text carries each event's whole signature, so an attempt can still be judged after a restart or another manifest.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from domain import chain, errors, hashing
from indexers.protocols import planner


class _Expected(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """As `planner.Expected`, bytes as 0x-hex."""

    event: str
    emitter: str
    topic0: str
    where: tuple[tuple[str, str], ...]


def encode(effects: Sequence[planner.Expected]) -> str:
    return msgspec.json.encode(
        [_Expected(one.event, hashing.hex0x(one.emitter), hashing.hex0x(one.topic0), one.where) for one in effects]
    ).decode()


def decode(text: str) -> tuple[planner.Expected, ...]:
    """Raises StoreError for what `encode` did not write."""
    try:
        found = msgspec.json.decode(text, type=tuple[_Expected, ...])
        return tuple(
            planner.Expected(one.event, hashing.unhex(one.emitter, size=20), hashing.unhex(one.topic0), one.where)
            for one in found
        )
    except (msgspec.MsgspecError, errors.BadAnswer) as error:
        raise errors.StoreError("an attempt's expected effects cannot be read", value=str(error)) from None


def place(text: str, logs: Sequence[chain.Log]) -> int | None:
    """The log index, in its block, of the last of all expected logs; None when one is missing or nothing was expected."""
    places = planner.effects_of(decode(text), logs)
    return None if not places else logs[max(places)].log_index
