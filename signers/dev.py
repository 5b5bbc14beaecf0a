"""A plain key file for devnets. In: a file with 0x-hex. Out: a signer, on a devnet chain id only."""

from __future__ import annotations

from pathlib import Path

from domain import errors, hashing
from signers import files, keys

DEVNET_CHAINS = frozenset({31337, 1337})
"""Chain ids of Anvil, Hardhat and Ganache: nobody's money lives there."""


def load(path: Path, *, chain_id: int) -> keys.LocalKey:
    """Refuses off a devnet, since the file is not encrypted."""
    if chain_id not in DEVNET_CHAINS:
        raise errors.BadConfig(
            "a signer of kind dev works on a devnet only", value=chain_id, cure='use kind = "keystore"'
        )
    try:
        secret = hashing.unhex(files.read(path, what="the key file").decode("ascii").strip(), size=32, what="key")
    except (UnicodeDecodeError, errors.BadAnswer):
        raise errors.BadConfig(
            "the key file does not hold 32 bytes of 0x-hex", value=str(path), cure="write 0x and 64 hex digits into it"
        ) from None
    return keys.LocalKey(secret)
