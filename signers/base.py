"""The signer port. In: a 32-byte digest. Out: r‖s‖v with low s and v 27 or 28, checked before anyone else sees it."""

from __future__ import annotations

from typing import Protocol


class Signer(Protocol):
    """Whatever holds one secp256k1 key."""

    @property
    def address(self) -> bytes:
        """20 bytes."""
        ...

    async def sign_digest(self, digest: bytes) -> bytes:
        """65 bytes over the 32-byte digest. Raises Transient when the backend is away, BadAnswer when it answers wrongly."""
        ...
