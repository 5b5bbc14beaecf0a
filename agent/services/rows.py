"""Logs become rows. In: blocks with evidence, compiled decoders. Out: rows to insert, and what could not be decoded.

A log that matches a protocol and cannot be decoded is a row all the same, without a meaning: the evidence fold covers it, and a
statement over it waits until somebody looks (a parked row stops its stream's frames, nothing else).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

import msgspec

from domain import chain, errors, events
from indexers.chain import evidence
from store import logs


class Decoder(Protocol):
    """A protocol, compiled: which logs are its own and what they mean."""

    @property
    def name(self) -> str: ...

    @property
    def fingerprint(self) -> bytes:
        """Of all that decides which logs are its own and what they mean."""
        ...

    @property
    def addresses(self) -> tuple[bytes, ...]: ...

    @property
    def topics(self) -> tuple[bytes, ...]: ...

    def wants(self, log: chain.Log) -> bool: ...

    def decode(self, log: chain.Log, time: int) -> events.StakingEvent:
        """Raises Parked."""
        ...


class Undecoded(msgspec.Struct, frozen=True):
    """A log whose meaning is missing."""

    protocol: str
    block: chain.BlockRef
    log_index: int
    reason: str


class Rows(msgspec.Struct, frozen=True):
    indexed: tuple[logs.Indexed, ...]
    undecoded: tuple[Undecoded, ...]


def decode(decoders: Sequence[Decoder], found: Iterable[evidence.Block]) -> Rows:
    """Rows of all blocks, in the blocks' order. A log belongs to the first protocol that wants it."""
    indexed: list[logs.Indexed] = []
    undecoded: list[Undecoded] = []
    for block in found:
        for log in block.logs:
            decoder = next((d for d in decoders if d.wants(log)), None)
            if decoder is None:
                continue
            event: events.StakingEvent | None = None
            try:
                event = decoder.decode(log, block.header.time)
            except errors.Parked as error:
                undecoded.append(Undecoded(decoder.name, log.block, log.log_index, str(error)))
            indexed.append(logs.Indexed(log, block.header.time, decoder.name, event, block.proof))
    return Rows(tuple(indexed), tuple(undecoded))


def check(decoders: Sequence[Decoder]) -> None:
    """Raises BadConfig when two protocols claim one log: a row has one meaning."""
    claimed: dict[tuple[bytes, bytes], str] = {}
    names: set[str] = set()
    for decoder in decoders:
        if decoder.name in names:
            raise errors.BadConfig("two protocols share a name", value=decoder.name)
        names.add(decoder.name)
        for address in decoder.addresses:
            for topic in decoder.topics or (b"",):
                other = claimed.setdefault((address, topic), decoder.name)
                if other != decoder.name:
                    raise errors.BadConfig(
                        f"protocols {other} and {decoder.name} both claim an event of one contract",
                        value="0x" + address.hex(),
                        cure="remove it from one of the two manifests",
                    )
