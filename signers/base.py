"""The signer port. In: a 32-byte digest, or a whole transaction. Out: a signature or raw bytes, checked before anyone else sees them.

    digest        r‖s‖v over a digest; we build the transaction around it (keystore, dev, key management services, HSMs)
    transaction   the raw signed transaction; the backend has a say in its fields, so every one is compared (remote signers)

A signer declares its shape by the method it has. Statements are signed as digests, so an attester must have that shape.
"""

from __future__ import annotations

from typing import Literal, Protocol, runtime_checkable

from domain import transaction

Shape = Literal["digest", "transaction"]


@runtime_checkable
class Signer(Protocol):
    """Whatever holds one secp256k1 key and signs digests."""

    @property
    def address(self) -> bytes:
        """20 bytes."""
        ...

    async def sign_digest(self, digest: bytes) -> bytes:
        """65 bytes over the 32-byte digest, low s, v 27 or 28. Raises Transient when the backend is away, BadAnswer when it answers wrongly."""
        ...


@runtime_checkable
class TransactionSigner(Protocol):
    """Whatever holds one secp256k1 key and signs whole transactions only."""

    @property
    def address(self) -> bytes:
        """20 bytes."""
        ...

    async def sign_transaction(self, unsigned: transaction.Unsigned) -> bytes:
        """The raw transaction. Raises as `Signer.sign_digest`."""
        ...


AnySigner = Signer | TransactionSigner


def shape(signer: AnySigner) -> Shape:
    """A signer that could do both is used as the stricter one: it sees what it signs."""
    return "transaction" if isinstance(signer, TransactionSigner) else "digest"
