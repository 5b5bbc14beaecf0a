"""What the statement services know of each stream. In: wiring. Out: plain frozen values."""

from __future__ import annotations

import msgspec

from domain import deployment


class StreamPlan(msgspec.Struct, frozen=True):
    """A stream this agent derives: `protocol` names its rows, `scale` is the accounting model's, `proof` the strongest level that the
    document asks for, `ruleset` what this agent's own manifest hashes to at that level, `fingerprint` what its decoder wants of a
    block. `weaker` are the rulesets of the same manifest at other levels, for epochs that ask for less."""

    stream: deployment.Stream
    protocol: str
    scale: int
    proof: str
    ruleset: bytes
    fingerprint: bytes
    weaker: tuple[tuple[bytes, str], ...] = ()

    def level_of(self, ruleset: bytes) -> str | None:
        """The proof level that a document's ruleset asks for; None when it is not of this agent's manifest."""
        return self.proof if ruleset == self.ruleset else dict(self.weaker).get(ruleset)


WITHDRAWN_LATCH = "withdrawn-vote"
"""The latch of a vote that returned to what it had withdrawn. It keeps votes from leaving until a person has looked; frames are closed
and judged on below it, so that one look serves all of them."""
