"""Proofs over what a node answered. In: parsed headers and receipts. Out: hashes to compare, or logs that cannot be otherwise.

A header proves itself: its hash is keccak256 of its own RLP. Given a header, `receiptsRoot` proves its receipts: the trie is
rebuilt from all of them (Yellow Paper §4.3.1, appendix D; EIP-2718 for typed receipts), so a node can neither omit, invent,
alter nor reorder a log of a block whose header is right. Not proven by this: a log's transaction hash, which only the
transactions trie commits to; it is checked for consistency.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from domain import chain, errors, hashing, rlp
from indexers.chain import wire

EMPTY_TRIE = hashing.keccak256(b"\x80")
NO_BLOOM = bytes(256)

_MANDATORY = (
    "parentHash",
    "sha3Uncles",
    "miner",
    "stateRoot",
    "transactionsRoot",
    "receiptsRoot",
    "logsBloom",
    "difficulty",
    "number",
    "gasLimit",
    "gasUsed",
    "timestamp",
    "extraData",
    "mixHash",
    "nonce",
)

# In the order in which forks appended them. Some development nodes have a later one without the earlier; the hash decides.
_APPENDED = (
    "baseFeePerGas",  # London, EIP-1559
    "withdrawalsRoot",  # Shanghai, EIP-4895
    "blobGasUsed",  # Cancun, EIP-4844
    "excessBlobGas",  # Cancun, EIP-4844
    "parentBeaconBlockRoot",  # Cancun, EIP-4788
    "requestsHash",  # Prague, EIP-7685
)

_NUMBERS = frozenset(
    ("difficulty", "number", "gasLimit", "gasUsed", "timestamp", "baseFeePerGas", "blobGasUsed", "excessBlobGas")
)

# What blocks carry beside their header.
_BESIDE = frozenset(("hash", "size", "totalDifficulty", "transactions", "uncles", "withdrawals"))


def header(block: wire.Block) -> chain.Header:
    """The header of a block, its hash recomputed. Raises BadAnswer when it does not match, naming unknown fields if any."""
    claimed = wire.word(block.hash, "hash")
    if hashing.keccak256(header_rlp(block)) != claimed:
        raise errors.BadAnswer("a header's hash is not the hash of its fields", value=(block.number, block.hash))
    return wire.header(block)


def unknown_fields(names: Iterable[str]) -> list[str]:
    """Names in a block that this version cannot hash: after a fork the chain may have more fields than we know."""
    return sorted(set(names) - set(_MANDATORY) - set(_APPENDED) - _BESIDE)


def header_rlp(block: wire.Block) -> bytes:
    """The RLP whose keccak256 is the block hash. Raises BadAnswer for a missing or malformed field."""
    items: list[bytes] = []
    for name in _MANDATORY:
        text = getattr(block, name)
        if text is None:
            raise errors.BadAnswer("a header lacks a field", value=name)
        items.append(_header_item(name, text))
    for name in _APPENDED:
        text = getattr(block, name)
        if text is not None:
            items.append(_header_item(name, text))
    return rlp.items(items)


def _header_item(name: str, text: str) -> bytes:
    if name in _NUMBERS:
        return rlp.uint(wire.number(text, name, bits=256))
    return rlp.text(hashing.unhex(text, what=name))


# --- bloom (Yellow Paper §4.3.1, M3:2048) ---


def bloom_mask(value: bytes) -> int:
    """The three bits that an address or a topic sets, as an integer over the 256-byte filter."""
    digest = hashing.keccak256(value)
    mask = 0
    for at in (0, 2, 4):
        mask |= 1 << (int.from_bytes(digest[at : at + 2], "big") & 2047)
    return mask


def bloom_of(logs: Iterable[chain.Log]) -> bytes:
    """The filter that these logs produce."""
    bits = 0
    for log in logs:
        bits |= bloom_mask(log.address)
        for topic in log.topics:
            bits |= bloom_mask(topic)
    return bits.to_bytes(256, "big")


class BloomTest:
    """Whether a block can hold a log of one of `emitters`: pairs of addresses and topic0s (no topics: any)."""

    def __init__(self, emitters: Iterable[tuple[Sequence[bytes], Sequence[bytes]]]) -> None:
        self._pairs = [
            ([bloom_mask(address) for address in addresses], [bloom_mask(topic) for topic in topics])
            for addresses, topics in emitters
        ]

    def __call__(self, bloom: bytes) -> bool:
        """False proves absence, given a proven header; True may be chance."""
        bits = int.from_bytes(bloom, "big")
        if not bits:
            return False
        for addresses, topics in self._pairs:
            if any(bits & mask == mask for mask in addresses) and (
                not topics or any(bits & mask == mask for mask in topics)
            ):
                return True
        return False


# --- receipts ---


def proven_logs(head: chain.Header, receipts: Sequence[wire.Receipt]) -> list[chain.Log]:
    """All logs of a block, from receipts that hash to the header's root. `head` must be proven itself.

    Raises BadAnswer when the trie has another root, or when what the receipts say beside it contradicts it: order, block,
    log indexes that are not 0, 1, 2, …
    """
    root = receipts_root(receipts)
    if root != head.receipts_root:
        raise errors.BadAnswer(
            f"the receipts of block {head.ref} do not hash to its receiptsRoot",
            value=hashing.hex0x(root),
            cure="the node omits or alters receipts, or its database is damaged: use another node",
        )
    logs: list[chain.Log] = []
    seen: set[bytes] = set()
    for tx_index, receipt in enumerate(receipts):
        tx_hash = wire.word(receipt.transactionHash, "transactionHash")
        if wire.number(receipt.transactionIndex, "transactionIndex") != tx_index or tx_hash in seen:
            raise errors.BadAnswer(f"the receipts of block {head.ref} are out of order", value=receipt.transactionIndex)
        seen.add(tx_hash)
        for raw in receipt.logs:
            log = wire.log(raw)
            if log.block != head.ref or log.tx_hash != tx_hash or log.tx_index != tx_index:
                raise errors.BadAnswer(
                    f"a log in a receipt of block {head.ref} names another place", value=str(log.block)
                )
            if log.log_index != len(logs):
                raise errors.BadAnswer(f"the log indexes of block {head.ref} have a hole", value=log.log_index)
            logs.append(log)
    return logs


def receipts_root(receipts: Sequence[wire.Receipt]) -> bytes:
    """The root of the trie of a block's receipts, keyed by the RLP of their index."""
    return ordered_root([receipt_rlp(receipt) for receipt in receipts])


def receipt_rlp(receipt: wire.Receipt) -> bytes:
    """Consensus form: `type ‖ rlp([status or root, cumulativeGasUsed, bloom, logs])`, the type only from EIP-2718 on."""
    kind = wire.number(receipt.type, "receipt type", bits=8) if receipt.type is not None else 0
    if receipt.status is not None:
        outcome = rlp.uint(wire.number(receipt.status, "status", bits=8))
    elif receipt.root is not None:  # before Byzantium (EIP-658)
        outcome = rlp.text(wire.word(receipt.root, "root"))
    else:
        raise errors.BadAnswer("a receipt has neither status nor root", value=receipt.transactionHash)
    logs = (
        rlp.items(
            (
                rlp.text(hashing.unhex(log.address, size=20, what="address")),
                rlp.items(rlp.text(wire.word(topic, "topic")) for topic in log.topics),
                rlp.text(hashing.unhex(log.data, what="data")),
            )
        )
        for log in receipt.logs
    )
    payload = rlp.items(
        (
            outcome,
            rlp.uint(wire.number(receipt.cumulativeGasUsed, "cumulativeGasUsed")),
            rlp.text(hashing.unhex(receipt.logsBloom, size=256, what="logsBloom")),
            rlp.items(logs),
        )
    )
    return bytes((kind,)) + payload if kind else payload


# --- the ordered trie ---


def ordered_root(values: Sequence[bytes]) -> bytes:
    """Root of the Merkle-Patricia trie of `rlp(index) → value`. Values are never empty."""
    if not values:
        return EMPTY_TRIE
    pairs = sorted((_nibbles(rlp.uint(index)), value) for index, value in enumerate(values))
    return hashing.keccak256(_node(pairs, 0))


def _node(pairs: Sequence[tuple[bytes, bytes]], depth: int) -> bytes:
    """RLP of the node over `pairs` (sorted, distinct keys), the first `depth` nibbles of each being spent."""
    first = pairs[0][0]
    if len(pairs) == 1:
        return rlp.items((rlp.text(_hex_prefix(first[depth:], leaf=True)), rlp.text(pairs[0][1])))
    shared = _shared(first, pairs[-1][0], depth)
    if shared > depth:
        child = _reference(_node(pairs, shared))
        return rlp.items((rlp.text(_hex_prefix(first[depth:shared], leaf=False)), child))
    # rlp(index) keys are prefix-free, so no branch holds a value of its own.
    items = [b"\x80"] * 17
    start = 0
    while start < len(pairs):
        nibble = pairs[start][0][depth]
        end = start
        while end < len(pairs) and pairs[end][0][depth] == nibble:
            end += 1
        items[nibble] = _reference(_node(pairs[start:end], depth + 1))
        start = end
    return rlp.items(items)


def _reference(node: bytes) -> bytes:
    """A node shorter than 32 bytes stands for itself, a longer one is named by its hash."""
    return node if len(node) < 32 else rlp.text(hashing.keccak256(node))


def _shared(first: bytes, last: bytes, depth: int) -> int:
    """Where two keys part; in a sorted list the ends decide for all between."""
    end = min(len(first), len(last))
    while depth < end and first[depth] == last[depth]:
        depth += 1
    return depth


def _nibbles(key: bytes) -> bytes:
    return bytes(nibble for byte in key for nibble in (byte >> 4, byte & 15))


def _hex_prefix(nibbles: bytes, *, leaf: bool) -> bytes:
    """Yellow Paper, appendix C."""
    flag = 2 if leaf else 0
    if len(nibbles) % 2:
        nibbles = bytes((flag + 1,)) + nibbles
    else:
        nibbles = bytes((flag, 0)) + nibbles
    return bytes(nibbles[i] << 4 | nibbles[i + 1] for i in range(0, len(nibbles), 2))
