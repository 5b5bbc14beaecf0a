"""A secp256k1 key held in this process: what `dev` and `keystore` share. In: 32 secret bytes. Out: signatures."""

from __future__ import annotations

import coincurve

from domain import errors, hashing, signatures
from signers import checks


class LocalKey:
    """Signs with deterministic nonces (RFC 6979); libsecp256k1 gives low s by itself, the check stays."""

    def __init__(self, secret: bytes) -> None:
        try:
            self._key = coincurve.PrivateKey(secret)
        except ValueError:
            raise errors.BadConfig("the key is not a secp256k1 private key", cure="make a new one") from None
        self._address = signatures.address_of(self._key.public_key.format(compressed=False))

    @property
    def address(self) -> bytes:
        return self._address

    async def sign_digest(self, digest: bytes) -> bytes:
        if len(digest) != 32:
            raise ValueError(f"a digest has 32 bytes, not {len(digest)}")
        compact = self._key.sign_recoverable(digest, hasher=None)
        signature = compact[:64] + bytes([compact[64] + 27])
        return checks.same_signer(digest, signature, self._address)

    def __repr__(self) -> str:
        return f"LocalKey({hashing.hex0x(self._address)})"
