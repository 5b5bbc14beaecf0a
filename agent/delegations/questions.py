"""What the end of an intent needs proven, and the answers. In: nothing. Out: plain values.

The tracker asks, a final block of the book answers (`agent.services.proving`). What a node says beside its blocks answers nothing.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec


class Link(msgspec.Struct, frozen=True):
    """Which block is canonical at a final height that the book keeps no block of."""

    number: int


class Mined(msgspec.Struct, frozen=True):
    """That a final block holds the attempt `number`, at this place and with this outcome. As `sight.Inclusion`."""

    number: int
    tx_hash: bytes
    block_number: int
    block_hash: bytes
    status: int
    effect: int | None
    tx_index: int
    gas_used: int


class Taken(msgspec.Struct, frozen=True):
    """That a final block holds another transaction of the account with this nonce."""

    nonce: int


Question: TypeAlias = Link | Mined | Taken


class Proven(msgspec.Struct, frozen=True):
    """By this block; it counts while the book has it as final. `known` are the hashes that `why` names. `same`: what took the nonce makes the
    very call that the intent wants."""

    number: int
    hash: bytes
    why: str
    known: tuple[bytes, ...] = ()
    same: bool = False


class Contradicted(msgspec.Struct, frozen=True):
    """A final block shows that what the node says is untrue."""

    why: str


class Unavailable(msgspec.Struct, frozen=True):
    """It could not be proven, since then."""

    why: str
    since_s: int


Proof: TypeAlias = Proven | Contradicted | Unavailable
