"""Anvil's publicly known development keys, for vectors and test files only: never fund them."""

from __future__ import annotations

import coincurve

from domain import hashing, signatures

KEYS = tuple(
    bytes.fromhex(text)
    for text in (
        "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80",
        "59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d",
        "5de4111afa1a4b94908f83103eb1f1706367c2e68ca870fc3fb9a804cdab365a",
        "7c852118294e51e653712a81e05800f419141751be58f605c371e15141b007a6",
        "47e179ec197488593b187f80a00eb0da91f1b9d0b13f8733639f19c30a34926a",
    )
)
HUB = bytes.fromhex("2a871d0798f97d79848a013d4936a73bf4cc922c825d33c1cf7073dff6d409c6")


def address(key: bytes) -> bytes:
    return signatures.address_of(coincurve.PrivateKey(key).public_key.format(compressed=False))


def address_text(key: bytes) -> str:
    return hashing.hex0x(address(key))


def sign(key: bytes, digest: bytes) -> bytes:
    """r‖s‖v with v 27 or 28; libsecp256k1 makes low s, and the nonce is RFC 6979's, so the bytes never change."""
    compact = coincurve.PrivateKey(key).sign_recoverable(digest, hasher=None)
    return compact[:64] + bytes([compact[64] + 27])
