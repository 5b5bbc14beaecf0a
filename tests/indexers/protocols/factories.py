"""Logs and manifests for tests."""

from __future__ import annotations

from pathlib import Path

from domain import chain, deployment
from indexers.protocols import abitypes, manifest

HERE = Path(__file__).parent
MANIFESTS = HERE / "manifests"
NETWORK = HERE / "networks" / "placeholders.toml"
STAKING = bytes.fromhex("5fbdb2315678afecb367f032d93f642f64180aa3")
ALICE, BOB, CAROL = (bytes([n]) * 20 for n in (0xA1, 0xB0, 0xCA))


def devnet() -> manifest.Manifest:
    return manifest.load("devnet", network="devnet")


def stream(**changes: object) -> deployment.Stream:
    fields: dict[str, object] = {
        "name": "rewards",
        "kind": "staking",
        "chain": 31337,
        "protocol": "devnet",
        "deployment": "main",
        "accounts": "all",
        "asset": "0x" + "00" * 20,
        "start": 1,
        "frame": "blocks:16",
    }
    return deployment.Stream(**(fields | changes))  # type: ignore[arg-type]


def log(*, topics: tuple[bytes, ...], data: bytes = b"", address: bytes = STAKING, index: int = 0) -> chain.Log:
    return chain.Log(
        block=chain.BlockRef(7, b"\x07" * 32),
        log_index=index,
        tx_hash=b"\x0a" * 32,
        tx_index=0,
        address=address,
        topics=topics,
        data=data,
    )


def word(value: int | bytes) -> bytes:
    return value.to_bytes(32, "big") if isinstance(value, int) else value.rjust(32, b"\0")


def rule(loaded: manifest.Manifest, id_: str) -> abitypes.Signature:
    return next(r.signature for r in loaded.rules if r.id == id_)
