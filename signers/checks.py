"""What every signature must survive before it is stored or sent. In: digest, signature, address. Out: nothing, or BadAnswer."""

from __future__ import annotations

from domain import errors, hashing, signatures


def same_signer(digest: bytes, signature: bytes, address: bytes) -> bytes:
    """`signature` again, if it recovers to `address`."""
    found = signatures.recover(digest, signature)
    if found != address:
        raise errors.BadAnswer(
            f"the signer answered with the key of {hashing.hex0x(found)} where {hashing.hex0x(address)} was asked",
            cure="check which key the signer's configuration names",
        )
    return signature
