"""What the statement services know of each stream. In: wiring. Out: plain frozen values."""

from __future__ import annotations

import msgspec

from domain import deployment


class StreamPlan(msgspec.Struct, frozen=True):
    """A stream this agent derives: `protocol` names its rows, `scale` is the accounting model's, `proof` the least level that
    may be signed, `ruleset` what this agent's own manifest hashes to."""

    stream: deployment.Stream
    protocol: str
    scale: int
    proof: str
    ruleset: bytes
