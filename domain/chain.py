"""Blocks, headers and logs as the chain has them. In: parsed JSON-RPC. Out: frozen values.

Hash recomputation and receipt proofs live in `indexers.chain.proof`; these are only the shapes.
"""

from __future__ import annotations

import msgspec


class BlockRef(msgspec.Struct, frozen=True, order=True):
    """A block by number and hash. The hash decides; the number is for order."""

    number: int
    hash: bytes

    def __str__(self) -> str:
        return f"{self.number}:0x{self.hash.hex()[:8]}"


class Header(msgspec.Struct, frozen=True):
    """What the book keeps of a header. `bloom` is the 256-byte logsBloom; `time` is in seconds."""

    number: int
    hash: bytes
    parent: bytes
    time: int
    state_root: bytes
    receipts_root: bytes
    bloom: bytes

    @property
    def ref(self) -> BlockRef:
        return BlockRef(self.number, self.hash)


class Log(msgspec.Struct, frozen=True):
    """One log of one block. `log_index` counts within the block."""

    block: BlockRef
    log_index: int
    tx_hash: bytes
    tx_index: int
    address: bytes
    topics: tuple[bytes, ...]
    data: bytes


PROOFS = ("node", "bloom", "receipts")
"""Proof levels, weakest first. `node`: the node said so and its answer is consistent. `bloom`: every header of the range is
hash-linked and recomputed, and no bloom contradicts the logs. `receipts`: the receipts trie was rebuilt to the header's root."""


def proof_rank(level: str) -> int:
    """0 for `node`, 1 for `bloom`, 2 for `receipts`; ValueError for anything else."""
    return PROOFS.index(level)
