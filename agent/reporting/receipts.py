"""Receipts: is this the hub's word that it stored our item? In: the hub's answer and the last receipt. Out: a verdict.

Receipts are chained per attester, so a hub that lost its memory shows as a number we have already seen with another digest, and a
lost reply shows as a gap that the hub can fill.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from domain import deployment, errors, hashing, signatures, statement, wire
from store import receipts as rows

Kept = rows.Kept
"""A verified receipt, as the book keeps it: `id` is its own digest, which the next receipt names."""

Verdict = Literal["next", "known", "gap", "amnesia"]
"""next: continues the chain. known: the same receipt again. gap: later ones exist, fetch those between.
amnesia: the hub numbers anew; everything has to be sent to it once more."""


def verify(signed: wire.SignedReceipt, *, document: deployment.Document, chain_id: int, attester: bytes) -> Kept:
    """The receipt, if one of the document's hub keys signed it for us. Raises BadAnswer otherwise."""
    if wire.uint(signed.chain_id, bits=256, what="chainId") != chain_id:
        raise errors.BadAnswer("the receipt is for another chain", value=signed.chain_id)
    if hashing.unhex(signed.deployment, size=32, what="deployment") != document.digest():
        raise errors.BadAnswer("the receipt is for another deployment", value=signed.deployment)
    receipt = wire.receipt_from_wire(signed.receipt)
    if receipt.attester != attester:
        raise errors.BadAnswer("the receipt is for another attester", value=signed.receipt.attester)
    digest = statement.receipt_digest(receipt, statement.hub_domain(chain_id=chain_id, deployment=document.digest()))
    signature = hashing.unhex(signed.signature, size=65, what="receipt signature")
    signer = hashing.hex0x(signatures.recover(digest, signature))
    if signer != key_in_force(document.receipt_keys, receipt.receipt_number):
        raise errors.BadAnswer("the receipt is not signed by the document's hub key", value=signer)
    return Kept(receipt.receipt_number, receipt.digest, digest, receipt.previous_receipt, signature)


def key_in_force(keys: Sequence[deployment.ReceiptKey], number: int) -> str | None:
    """The hub key that signs receipt `number`: the last one listed whose first receipt is not after it."""
    found = None
    for key in keys:
        if key.first_receipt <= number:
            found = key.address
    return found


def judge(receipt: Kept, *, last: Kept | None, at_number: Kept | None) -> Verdict:
    """`last` is the highest receipt we hold, `at_number` the one we hold under the same number."""
    if at_number is not None:
        return "known" if at_number.id == receipt.id else "amnesia"
    expected = (1, hashing.ZERO32) if last is None else (last.number + 1, last.id)
    if receipt.number == expected[0]:
        return "next" if receipt.previous == expected[1] else "amnesia"
    return "gap"
