"""What a person wants done with stake, and how far it has come. In: who wants what. Out: frozen values with one identity.

An intent's key is bound to its payload: the same key with another payload is a conflict. States and their moves are closed here; what
causes a move is decided in `agent.delegations`. Source of the machine: the field's transaction managers, read for their failures
(docs/staking.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

import msgspec

from domain import hashing

State = Literal[
    "new",
    "planned",
    "awaiting_approval",
    "reserved",
    "signed",
    "pending",
    "included",
    "final_ok",
    "final_reverted",
    "final_no_effect",
    "rejected",
    "expired",
    "cancelled",
    "superseded",
    "needs_operator",
]
STATES: tuple[State, ...] = get_args(State)
FINAL: frozenset[State] = frozenset(
    {"final_ok", "final_reverted", "final_no_effect", "rejected", "expired", "cancelled", "superseded"}
)
"""Nothing moves on from here."""
UNSENT: frozenset[State] = frozenset({"new", "planned", "awaiting_approval"})
"""No nonce is taken yet: it can be given up at once."""
HOLDING: frozenset[State] = frozenset({"reserved", "signed", "pending", "included", "needs_operator"})
"""A nonce and a part of the budget belong to it."""

MOVES: Mapping[State, frozenset[State]] = {
    "new": frozenset({"planned", "rejected", "expired", "cancelled"}),
    "planned": frozenset({"awaiting_approval", "reserved", "rejected", "expired", "cancelled"}),
    "awaiting_approval": frozenset({"planned", "rejected", "expired", "cancelled"}),
    # A reserved intent whose transaction was never signed can still be given up: its nonce is filled by a cancel.
    "reserved": frozenset({"signed", "needs_operator", "superseded"}),
    "signed": frozenset({"pending", "included", "superseded", "needs_operator"}),
    "pending": frozenset({"included", "superseded", "needs_operator"}),
    "included": frozenset(
        {"pending", "final_ok", "final_reverted", "final_no_effect", "cancelled", "superseded", "needs_operator"}
    ),
    # The last four also by the word of a person; that it worked only our own index can say.
    "needs_operator": frozenset(
        {"pending", "included", "final_reverted", "final_no_effect", "cancelled", "superseded"}
    ),
    **{state: frozenset[State]() for state in FINAL},
}

Outcome = Literal["final_reverted", "final_no_effect", "cancelled", "superseded"]
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)
"""What a person may say became of an intent that needs one."""

AttemptKind = Literal["original", "bump", "cancel"]
"""All attempts of an intent share its nonce, so at most one of them is ever mined."""


class Intent(msgspec.Struct, frozen=True):
    """`arguments` in canonical text: amounts as decimal, identities and bytes as lower-case 0x-hex. `account` has 20 bytes."""

    chain_id: int
    account: bytes
    key: str
    protocol: str
    action: str
    arguments: Mapping[str, str]

    @property
    def id(self) -> bytes:
        """32 bytes: one for each (chain, account, key), whatever the payload."""
        return hashing.keccak256(hashing.abi_encode("stakeside/intent", self.chain_id, self._account, self.key))

    @property
    def payload_hash(self) -> bytes:
        """32 bytes over everything the key is bound to; approvals are for this."""
        return hashing.keccak256(
            hashing.canonical_json(
                {
                    "account": hashing.hex0x(self.account),
                    "action": self.action,
                    "arguments": dict(self.arguments),
                    "chainId": str(self.chain_id),
                    "key": self.key,
                    "protocol": self.protocol,
                }
            )
        )

    @property
    def _account(self) -> bytes:
        return hashing.address_word(self.account)


def may_move(state: State, following: State) -> bool:
    """Whether the machine has this move."""
    return following in MOVES[state]
