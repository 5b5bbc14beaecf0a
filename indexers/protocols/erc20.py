"""What an action on a token needs first. In: the exact allowance. Out: the read of it, and the call that grants it.

Granting is a transaction of its own, proven like any other: by the token's Approval log in a finalized receipt.
"""

from __future__ import annotations

import msgspec

from domain import hashing
from indexers.protocols import effects, encoding, evaluation, signatures

ALLOWANCE = signatures.parse("function allowance(address owner, address spender) view returns (uint256)")
APPROVE = signatures.parse("function approve(address spender, uint256 amount) returns (bool)")
APPROVAL = signatures.parse("event Approval(address indexed owner, address indexed spender, uint256 value)")


class Approve(msgspec.Struct, frozen=True):
    """The exact ERC-20 allowance that must stand before the call."""

    token: bytes
    spender: bytes
    amount: int


def allowance(approve: Approve, *, account: bytes) -> evaluation.Read:
    """The read of what the spender may take now; its result is a number."""
    return evaluation.Read("allowance", approve.token, encoding.call(ALLOWANCE, [account, approve.spender]))


def grant(approve: Approve) -> bytes:
    """Calldata that grants exactly the amount, to be sent to the token."""
    return encoding.call(APPROVE, [approve.spender, approve.amount])


def granted(approve: Approve, *, account: bytes) -> effects.Expected:
    """The log that proves the grant."""
    where = (
        ("owner", hashing.hex0x(account)),
        ("spender", hashing.hex0x(approve.spender)),
        ("value", str(approve.amount)),
    )
    return effects.Expected(effects.declaration(APPROVAL), approve.token, APPROVAL.topic0, where)
