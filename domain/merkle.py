"""OpenZeppelin StandardMerkleTree over statement leaves. In: 32-byte leaf hashes. Out: root and proofs.

Leaves are sorted by hash and laid out at the end of a heap-shaped array, pairs are sorted before hashing, so roots and proofs
equal those of npm `@openzeppelin/merkle-tree`. No leaves give the zero root (`statement.md`).
"""

from __future__ import annotations

from collections.abc import Sequence

from domain import hashing


def leaf_hash(encoded: bytes) -> bytes:
    """Double keccak of the ABI-encoded leaf, so that an inner node can never pass for a leaf."""
    return hashing.keccak256(hashing.keccak256(encoded))


def _pair(a: bytes, b: bytes) -> bytes:
    return hashing.keccak256(a + b if a < b else b + a)


def tree(leaves: Sequence[bytes]) -> list[bytes]:
    """The whole heap: `tree[0]` is the root, the sorted leaves stand reversed at the end."""
    if not leaves:
        return [hashing.ZERO32]
    ordered = sorted(leaves)
    size = 2 * len(ordered) - 1
    nodes = [b""] * size
    for index, leaf in enumerate(ordered):
        nodes[size - 1 - index] = leaf
    for index in range(size - 1 - len(ordered), -1, -1):
        nodes[index] = _pair(nodes[2 * index + 1], nodes[2 * index + 2])
    return nodes


def root(leaves: Sequence[bytes]) -> bytes:
    return tree(leaves)[0]


def proof(nodes: Sequence[bytes], leaf: bytes) -> list[bytes]:
    """Sibling hashes from `leaf` up to the root of `nodes` (as `tree` made them). Raises KeyError for a foreign leaf."""
    try:
        index = nodes.index(leaf, len(nodes) // 2)
    except ValueError:
        raise KeyError(leaf.hex()) from None
    path: list[bytes] = []
    while index > 0:
        path.append(nodes[index + 1 if index % 2 else index - 1])
        index = (index - 1) // 2
    return path


def verify(root_hash: bytes, leaf: bytes, path: Sequence[bytes]) -> bool:
    node = leaf
    for sibling in path:
        node = _pair(node, sibling)
    return node == root_hash
