"""What the hub's book keeps. In: nothing. Out: a declaration for every table.

Nearly all of it is evidence or money; what is not is deleted by the room that wrote it, in the transaction that makes it useless.
"""

from __future__ import annotations

from kit import retention
from kit.retention import Bounded, Forever, Working

_EVIDENCE = "it is evidence: who signed what, and when"
_SEALED = "consumers read sealed frames from the first one on"

RULES: dict[str, retention.Rule] = {
    "hub_meta": Working("a fact about this book: its deployment, the document in force"),
    "hub_statement": Forever("votes refer to it"),
    "hub_vote": Forever(_EVIDENCE),
    "hub_ballot": Forever(_EVIDENCE),
    "hub_evidence": Forever(_EVIDENCE),
    "hub_receipt": Forever("the hub signed for it, and numbers go on from it"),
    "hub_sealed": Forever(_SEALED),
    "hub_certificate": Forever(_SEALED),
    "hub_leaf": Forever("it is what was earned"),
    "hub_carry": Forever(_SEALED),
    "hub_chunk": Bounded("pieces of a body whose frame was sealed, or which proved wrong"),
    "hub_hold": Forever("it says what a person released"),
    "hub_lease": Working("an account whose lease is held or was held; tokens are counted over all, so none comes back"),
    "hub_lease_seen": Bounded("requests too old to be replayed"),
}
