"""secp256k1 recovery over digests. In: 32-byte digests and r‖s‖v. Out: 20-byte addresses.

Signing lives in `signers`; only recovery is here. Source of the low-s rule: EIP-2.
"""

from __future__ import annotations

import coincurve

from domain import errors, hashing

CURVE_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
HALF_ORDER = CURVE_ORDER // 2


def address_of(public_key: bytes) -> bytes:
    """The address of a 65-byte uncompressed public key."""
    if len(public_key) != 65 or public_key[0] != 4:
        raise ValueError("an uncompressed public key has 65 bytes and starts with 04")
    return hashing.keccak256(public_key[1:])[12:]


def recover(digest: bytes, signature: bytes) -> bytes:
    """Address that made `signature` (r‖s‖v, v 27 or 28, low s) over the 32-byte `digest`.

    Raises BadAnswer for a wrong length, a high s, another v, or a point that does not exist.
    """
    if len(signature) != 65:
        raise errors.BadAnswer("a signature has 65 bytes", value=len(signature))
    s = int.from_bytes(signature[32:64], "big")
    if not 0 < s <= HALF_ORDER:
        raise errors.BadAnswer("the signature's s is not in the lower half of the curve order")
    if signature[64] not in (27, 28):
        raise errors.BadAnswer("the signature's v is neither 27 nor 28", value=signature[64])
    try:
        key = coincurve.PublicKey.from_signature_and_message(
            signature[:64] + bytes([signature[64] - 27]), digest, hasher=None
        )
    except Exception as error:  # coincurve raises bare Exception for an unrecoverable point
        raise errors.BadAnswer("the signature does not recover to a key") from error
    return address_of(key.format(compressed=False))
