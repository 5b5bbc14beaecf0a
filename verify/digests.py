"""The digests of the statement format, written from its page (`docs/wire/statement.md`) alone.

In: plain values. Out: 32-byte digests: EIP-712 hashes, stream ids, subjects, leaves, Merkle roots, the evidence fold.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields

from verify.primitives import ZERO, keccak, padded, tail, word, words
from verify.strict import unhex

HEADER_TYPE = (
    "Statement("
    "uint16 schema,bytes32 ruleset,bytes32 stream,uint64 sequence,uint32 revision,uint64 fromPosition,bytes32 fromAnchor,"
    "uint64 toPosition,bytes32 toAnchor,uint64 toTime,bytes32 stateRoot,bytes32 evidence,bytes32 previous,bytes32 supersedes,"
    "bytes32 bodyRoot,uint64 leafCount,bytes32 carry,uint256 totalReward,uint256 totalPenalty)"
)
REPLACE_TYPE = (
    "Replace(bytes32 stream,uint64 sequence,uint32 revision,bytes32 withdrawn,bytes32 replacement,uint32 ballot)"
)
CONTEXT_TYPE = "Context(bytes32 statement,bytes32 contextHash)"
RECEIPT_TYPE = "Receipt(bytes32 digest,address attester,uint64 receiptNumber,bytes32 previousReceipt)"
_DOMAIN_TYPE = "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract,bytes32 salt)"

INCOME_BELOW, ADJUSTMENT = 40, 60
KINDS = {
    1: "reward",
    2: "commission",
    3: "attestation",
    4: "proposer",
    5: "sync",
    6: "execution fee",
    7: "execution payment",
    8: "unattributed",
    20: "slashed",
    40: "claimed",
    41: "principal in",
    42: "principal out",
    60: "adjustment",
}


@dataclass(frozen=True, slots=True)
class Header:
    """Field order is the EIP-712 order."""

    schema: int
    ruleset: bytes
    stream: bytes
    sequence: int
    revision: int
    from_position: int
    from_anchor: bytes
    to_position: int
    to_anchor: bytes
    to_time: int
    state_root: bytes
    evidence: bytes
    previous: bytes
    supersedes: bytes
    body_root: bytes
    leaf_count: int
    carry: bytes
    total_reward: int
    total_penalty: int

    def values(self) -> list[tuple[str, int | bytes]]:
        return [(f.name, getattr(self, f.name)) for f in fields(self)]


def typed(separator: bytes, type_text: str, *values: int | bytes) -> bytes:
    """EIP-712 for a struct of static members."""
    return keccak(b"\x19\x01" + separator + keccak(keccak(type_text.encode()) + words(*values)))


def separator(*, name: str, chain_id: int, salt: bytes) -> bytes:
    """All five fields; `verifyingContract` is the zero address."""
    names = (keccak(_DOMAIN_TYPE.encode()), keccak(name.encode()), keccak(b"1"))
    return keccak(words(*names, chain_id, padded(bytes(20)), salt))


def header_digest(header: Header, *, chain_id: int, config_digest: bytes) -> bytes:
    domain = separator(name="stakeside", chain_id=chain_id, salt=config_digest)
    return typed(domain, HEADER_TYPE, *(value for _, value in header.values()))


def receipt_digest(
    digest: bytes, attester: bytes, number: int, previous: bytes, *, chain_id: int, deployment: bytes
) -> bytes:
    domain = separator(name="stakeside hub", chain_id=chain_id, salt=deployment)
    return typed(domain, RECEIPT_TYPE, digest, padded(attester), number, previous)


def replace_digest(
    stream: bytes,
    sequence: int,
    revision: int,
    withdrawn: bytes,
    replacement: bytes,
    ballot: int,
    *,
    chain_id: int,
    config_digest: bytes,
) -> bytes:
    domain = separator(name="stakeside", chain_id=chain_id, salt=config_digest)
    return typed(domain, REPLACE_TYPE, stream, sequence, revision, withdrawn, replacement, ballot)


def context_digest(statement: bytes, context: bytes, *, chain_id: int, config_digest: bytes) -> bytes:
    domain = separator(name="stakeside", chain_id=chain_id, salt=config_digest)
    return typed(domain, CONTEXT_TYPE, statement, keccak(context))


def subject(parts: Sequence[str]) -> bytes:
    """keccak256(abi.encode(…)) of readable parts. Raises ValueError when they are of no known form."""
    return _subject(tuple(parts))


@functools.lru_cache(maxsize=1 << 16)
def _subject(parts: tuple[str, ...]) -> bytes:
    """Kept, because a subject has several leaves, in both frames of a file and in the replay."""
    match list(parts):
        case ["delegation", protocol, validator, delegator]:
            kind, name = tail(b"delegation"), tail(protocol.encode())
            head = words(128, 128 + len(kind), _word(validator), _word(delegator))
            return keccak(head + kind + name)
        case ["operator", protocol, validator]:
            kind, name = tail(b"operator"), tail(protocol.encode())
            return keccak(words(96, 96 + len(kind), _word(validator)) + kind + name)
        case ["validator", public_key]:
            kind, key = tail(b"validator"), tail(unhex(public_key, 48))
            return keccak(words(64, 64 + len(kind)) + kind + key)
        case _:
            raise ValueError("they name no known subject")


def _word(text: str) -> bytes:
    return unhex(text, 32)


@dataclass(frozen=True, slots=True)
class Leaf:
    subject: bytes
    asset: bytes
    kind: int
    reward: int
    penalty: int
    parts: tuple[str, ...]

    @property
    def key(self) -> tuple[bytes, bytes, int]:
        return (self.subject, self.asset, self.kind)

    def hash(self) -> bytes:
        return keccak(keccak(words(self.subject, padded(self.asset), self.kind, self.reward, self.penalty)))

    def name(self) -> str:
        return f"leaf ({', '.join(self.parts)}) kind {self.kind} ({KINDS.get(self.kind, 'unknown')})"


def totals(leaves: Iterable[Leaf]) -> tuple[int, int]:
    """Reward and penalty over income, losses and adjustments; movements are not counted."""
    reward = penalty = 0
    for leaf in leaves:
        if leaf.kind < INCOME_BELOW or leaf.kind == ADJUSTMENT:
            reward += leaf.reward
            penalty += leaf.penalty
    return reward, penalty


def merkle_root(hashes: Iterable[bytes]) -> bytes:
    """OpenZeppelin StandardMerkleTree. No leaves: 32 zero bytes.

    Its array is a heap (node i hashes 2i+1 and 2i+2, the smaller first) that ends in the leaves, largest first. Read backwards
    it is a queue: the leaves ascending, then every next two nodes give the next parent, until one is left: the root.
    """
    queue = sorted(hashes)
    if not queue:
        return ZERO
    taken = 0
    while taken < len(queue) - 1:
        left, right = queue[taken], queue[taken + 1]
        queue.append(keccak(min(left, right) + max(left, right)))
        taken += 2
    return queue[-1]


def fold(evidence: bytes, *, number: int, block: bytes, index: int, content: bytes) -> bytes:
    """One step of the evidence chain; `content` is address ‖ topics ‖ data."""
    return keccak(words(evidence, number, block, index, keccak(content)))


def stream_id(kind: str, chain: int, protocol: str, deployment: str, accounts: str, asset: str) -> bytes:
    if kind == "validators":
        return keccak(f"validators/{chain}/{accounts}/{asset}".encode())
    return keccak(f"{kind}/{chain}/{protocol}/{deployment}/{accounts}/{asset}".encode())


def config_digest(
    deployment: bytes, signer_epoch: int, signers: Sequence[bytes], k: int, rulesets: Iterable[tuple[bytes, bytes]]
) -> bytes:
    """abi.encode(bytes32, uint64, address[], uint16, bytes32); signers and (stream, ruleset) pairs in ascending order."""
    packed = keccak(b"".join(stream + ruleset for stream, ruleset in sorted(rulesets)))
    head = words(deployment, signer_epoch, 5 * 32, k, packed)
    return keccak(head + word(len(signers)) + words(*map(padded, sorted(signers))))
