"""What the statement services know of each stream. In: wiring. Out: plain frozen values."""

from __future__ import annotations

import msgspec

from domain import deployment


class StreamPlan(msgspec.Struct, frozen=True):
    """A stream this agent derives: `protocol` names its rows, `scale` is the accounting model's, `proof` the least level that
    may be signed, `ruleset` what this agent's own manifest hashes to, `fingerprint` what its decoder wants of a block."""

    stream: deployment.Stream
    protocol: str
    scale: int
    proof: str
    ruleset: bytes
    fingerprint: bytes


WITHDRAWN_LATCH = "withdrawn-vote"
"""The latch of a vote that returned to what it had withdrawn. It keeps votes from leaving until a person has looked; frames are closed
and judged on below it, so that one look serves all of them."""
