"""What a block commits to. In: a node's JSON answers. Out: recomputed header hashes and receipts roots, bloom membership.

Sources: the Yellow Paper (RLP, Merkle-Patricia trie, bloom), EIP-2718 (typed receipts), and the EIPs that appended header fields.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias

from verify.primitives import keccak
from verify.strict import Node

Item: TypeAlias = "bytes | Sequence[Item]"

_SIZES = {
    "parentHash": 32,
    "sha3Uncles": 32,
    "miner": 20,
    "stateRoot": 32,
    "transactionsRoot": 32,
    "receiptsRoot": 32,
    "logsBloom": 256,
}
_NUMBERS = ("difficulty", "number", "gasLimit", "gasUsed", "timestamp")
_APPENDED = (
    ("baseFeePerGas", True),  # EIP-1559
    ("withdrawalsRoot", False),  # EIP-4895
    ("blobGasUsed", True),  # EIP-4844
    ("excessBlobGas", True),
    ("parentBeaconBlockRoot", False),  # EIP-4788
    ("requestsHash", False),  # EIP-7685
    ("blockAccessListHash", False),  # EIP-7928
    ("slotNumber", True),  # EIP-7843
)


def rlp(item: Item) -> bytes:
    if isinstance(item, bytes):
        if len(item) == 1 and item[0] < 0x80:
            return item
        return _length(len(item), 0x80) + item
    content = b"".join(rlp(part) for part in item)
    return _length(len(content), 0xC0) + content


def _length(size: int, base: int) -> bytes:
    if size < 56:
        return bytes([base + size])
    encoded = number(size)
    return bytes([base + 55 + len(encoded)]) + encoded


def number(value: int) -> bytes:
    """An integer as RLP has it: big-endian without leading zeros, zero empty."""
    return value.to_bytes((value.bit_length() + 7) // 8, "big")


def header_hash(block: Node) -> bytes:
    """keccak256 of a header's RLP, with the fields its fork appended as far as the node sends them."""
    items: list[Item] = [block.get(name).hex(size) for name, size in _SIZES.items()]
    items += [number(block.get(name).quantity(256)) for name in _NUMBERS]
    items += [block.get("extraData").hex(), block.get("mixHash").hex(32), block.get("nonce").hex(8)]
    for name, is_number in _APPENDED:
        field = block.get(name)
        if not field.is_null():
            items.append(number(field.quantity(256)) if is_number else field.hex(32))
    return keccak(rlp(items))


def receipts_root(receipts: Iterable[Node]) -> bytes:
    """The root of the trie that maps RLP(index) to each consensus-encoded receipt."""
    pairs = [(rlp(number(index)), _receipt(receipt)) for index, receipt in enumerate(receipts)]
    return trie_root(pairs)


def _receipt(receipt: Node) -> bytes:
    kind = receipt.get("type")
    prefix = 0 if kind.is_null() else kind.quantity(8)
    if receipt.get("status").is_null():  # before EIP-658
        outcome = receipt.get("root").hex(32)
    else:
        outcome = number(receipt.get("status").quantity(8))
    logs: list[Item] = [
        [log.get("address").hex(20), [topic.hex(32) for topic in log.get("topics").items()], log.get("data").hex()]
        for log in receipt.get("logs").items()
    ]
    gas = number(receipt.get("cumulativeGasUsed").quantity())
    encoded = rlp([outcome, gas, receipt.get("logsBloom").hex(256), logs])
    return encoded if prefix == 0 else bytes([prefix]) + encoded


_EMPTY = keccak(b"\x80")


def trie_root(pairs: Sequence[tuple[bytes, bytes]]) -> bytes:
    """Merkle-Patricia root of distinct, non-empty keys."""
    if not pairs:
        return _EMPTY
    return keccak(rlp(_node([(_nibbles(key), value) for key, value in sorted(pairs)])))


def _nibbles(key: bytes) -> bytes:
    return bytes(nibble for byte in key for nibble in (byte >> 4, byte & 15))


def _node(pairs: list[tuple[bytes, bytes]]) -> Item:
    """The node over sorted (remaining nibbles, value) pairs: leaf, extension or branch."""
    if len(pairs) == 1:
        path, value = pairs[0]
        return [_compact(path, leaf=True), value]
    first, last = pairs[0][0], pairs[-1][0]
    shared = 0
    while shared < min(len(first), len(last)) and first[shared] == last[shared]:
        shared += 1
    if shared:
        return [_compact(first[:shared], leaf=False), _reference([(path[shared:], value) for path, value in pairs])]
    slots: list[Item] = []
    for nibble in range(16):
        below = [(path[1:], value) for path, value in pairs if path and path[0] == nibble]
        slots.append(_reference(below) if below else b"")
    slots.append(next((value for path, value in pairs if not path), b""))
    return slots


def _reference(pairs: list[tuple[bytes, bytes]]) -> Item:
    """A child inside its parent: itself when its RLP is short, else its hash."""
    node = _node(pairs)
    encoded = rlp(node)
    return node if len(encoded) < 32 else keccak(encoded)


def _compact(path: bytes, *, leaf: bool) -> bytes:
    flag = (2 if leaf else 0) + len(path) % 2
    nibbles = bytes([flag]) + path if len(path) % 2 else bytes([flag, 0]) + path
    return bytes(nibbles[i] << 4 | nibbles[i + 1] for i in range(0, len(nibbles), 2))


def bloom_bits(value: bytes) -> int:
    """The three bits that a value sets in a logs bloom, as a 2048-bit integer."""
    digest = keccak(value)
    bits = 0
    for i in (0, 2, 4):
        bits |= 1 << (int.from_bytes(digest[i : i + 2], "big") & 2047)
    return bits


def may_hold(bloom: bytes, *alternatives: Iterable[bytes]) -> bool:
    """Whether a block may hold a log with one value out of each of the groups."""
    have = int.from_bytes(bloom, "big")
    return all(any(bits & have == bits for bits in map(bloom_bits, group)) for group in alternatives)
