"""An agent's receipts, checked by a library that is not ours. In: a book. Out: how many hold, and what is wrong with the others.

Signatures are recovered by eth_account from EIP-712 typed data, and the chain of each attester must have no hole.
"""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from typing import Any

from eth_utils.crypto import keccak

from domain import deployment, hashing
from kit import imports

with imports.guarded():
    from eth_account import Account
    from eth_account.messages import SignableMessage, encode_typed_data

TYPES = {
    "Receipt": [
        {"name": "digest", "type": "bytes32"},
        {"name": "attester", "type": "address"},
        {"name": "receiptNumber", "type": "uint64"},
        {"name": "previousReceipt", "type": "bytes32"},
    ]
}


def verify(book: Path, document: deployment.Document, *, attester: str) -> tuple[int, list[str]]:
    """The number of receipts in an unbroken, rightly signed chain from the first on."""
    with contextlib.closing(sqlite3.connect(f"file:{book}?mode=ro", uri=True, timeout=10)) as connection:
        rows = connection.execute(
            "select number, digest, previous, signature from receipt where archived_at_s is null order by number"
        ).fetchall()
    wrong: list[str] = []
    link = bytes(32)
    for count, (number, digest, previous, signature) in enumerate(rows, 1):
        message = _message(document, attester, number, digest, previous)
        signer = str(Account.recover_message(message, signature=signature)).lower()  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]
        if number != count or previous != link:
            wrong.append(f"{attester}: receipt {number} does not continue the one before it")
        if signer != document.receipt_keys[0].address:
            wrong.append(f"{attester}: receipt {number} is signed by {signer}")
        link = keccak(b"\x19\x01" + message.header + message.body)
    return len(rows), wrong


def _message(
    document: deployment.Document, attester: str, number: int, digest: bytes, previous: bytes
) -> SignableMessage:
    domain: dict[str, Any] = {
        "name": "stakeside hub",
        "version": "1",
        "chainId": document.chains[0].id,
        "verifyingContract": hashing.hex0x(hashing.ZERO_ADDRESS),
        "salt": document.digest(),
    }
    fields = {"digest": digest, "attester": attester, "receiptNumber": number, "previousReceipt": previous}
    return encode_typed_data(domain, TYPES, fields)
