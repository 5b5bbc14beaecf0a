"""The statement: header, leaves, body and their digests, exactly as `docs/wire/statement.md` says.

In: plain values. Out: 32-byte digests. Every type here is part of the wire; golden vectors live in `docs/wire/`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from domain import chain, hashing, merkle

SCHEMA = 1

# Kinds are never renumbered. Below 40 is income and loss, 40 to 59 is movement, 60 is an adjustment.
REWARD, COMMISSION, ATTESTATION, PROPOSER, SYNC = 1, 2, 3, 4, 5
EXECUTION_FEE, EXECUTION_PAYMENT, UNATTRIBUTED = 6, 7, 8
SLASHED = 20
CLAIMED, PRINCIPAL_IN, PRINCIPAL_OUT = 40, 41, 42
ADJUSTMENT = 60

KIND_NAMES = {
    1: "reward", 2: "commission", 3: "attestation", 4: "proposer", 5: "sync", 6: "execution fee", 7: "execution payment",
    8: "unattributed", 20: "slashed", 40: "claimed", 41: "principal in", 42: "principal out", 60: "adjustment",
}  # fmt: skip

_string_hash = hashing.keccak256
HEADER_TYPE = (
    "Statement(uint16 schema,bytes32 ruleset,bytes32 stream,uint64 sequence,uint32 revision,"
    "uint64 fromPosition,bytes32 fromAnchor,uint64 toPosition,bytes32 toAnchor,uint64 toTime,bytes32 stateRoot,"
    "bytes32 evidence,bytes32 previous,bytes32 supersedes,"
    "bytes32 bodyRoot,uint64 leafCount,bytes32 carry,uint256 totalReward,uint256 totalPenalty)"
)
REPLACE_TYPE = (
    "Replace(bytes32 stream,uint64 sequence,uint32 revision,bytes32 withdrawn,bytes32 replacement,uint32 ballot)"
)
CONTEXT_TYPE = "Context(bytes32 statement,bytes32 contextHash)"
RECEIPT_TYPE = "Receipt(bytes32 digest,address attester,uint64 receiptNumber,bytes32 previousReceipt)"
DOMAIN_TYPE = "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract,bytes32 salt)"

_HEADER = _string_hash(HEADER_TYPE.encode())
_REPLACE = _string_hash(REPLACE_TYPE.encode())
_CONTEXT = _string_hash(CONTEXT_TYPE.encode())
_RECEIPT = _string_hash(RECEIPT_TYPE.encode())
_DOMAIN = _string_hash(DOMAIN_TYPE.encode())
_VERSION = _string_hash(b"1")


class Header(msgspec.Struct, frozen=True):
    """The countable part. Field order is the EIP-712 order; positions are block numbers, `to_time` is in seconds."""

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


class Domain(msgspec.Struct, frozen=True):
    """The EIP-712 domain of a frame: `salt` is the configDigest in force there."""

    chain_id: int
    config_digest: bytes
    verifying_contract: bytes = hashing.ZERO_ADDRESS
    name: str = "stakeside"

    def separator(self) -> bytes:
        return hashing.keccak256(
            hashing.abi_encode(
                _DOMAIN,
                _string_hash(self.name.encode()),
                _VERSION,
                self.chain_id,
                hashing.address_word(self.verifying_contract),
                self.config_digest,
            )
        )


def hub_domain(*, chain_id: int, deployment: bytes) -> Domain:
    """The domain of receipts: their salt is the deployment, so they outlive signer epochs."""
    return Domain(chain_id=chain_id, config_digest=deployment, name="stakeside hub")


def typed_digest(domain: Domain, struct_hash: bytes) -> bytes:
    """EIP-712's final hash."""
    return hashing.keccak256(b"\x19\x01" + domain.separator() + struct_hash)


def header_struct_hash(header: Header) -> bytes:
    return hashing.keccak256(hashing.abi_encode(_HEADER, *(getattr(header, name) for name in header.__struct_fields__)))


def header_digest(header: Header, domain: Domain) -> bytes:
    """The statement's identity: what agents sign and the hub counts."""
    return typed_digest(domain, header_struct_hash(header))


class Replace(msgspec.Struct, frozen=True):
    """A signer's own withdrawal of its vote; the highest ballot wins."""

    stream: bytes
    sequence: int
    revision: int
    withdrawn: bytes
    replacement: bytes
    ballot: int


def replace_digest(replace: Replace, domain: Domain) -> bytes:
    values = (getattr(replace, name) for name in replace.__struct_fields__)
    return typed_digest(domain, hashing.keccak256(hashing.abi_encode(_REPLACE, *values)))


def context_digest(statement: bytes, context: bytes, domain: Domain) -> bytes:
    """What a signer signs over the exact context bytes it sends. Never counted."""
    return typed_digest(domain, hashing.keccak256(hashing.abi_encode(_CONTEXT, statement, hashing.keccak256(context))))


class Receipt(msgspec.Struct, frozen=True):
    """The hub's word that it *stored* an attestation, chained per attester. Numbers start at 1."""

    digest: bytes
    attester: bytes
    receipt_number: int
    previous_receipt: bytes


def receipt_digest(receipt: Receipt, domain: Domain) -> bytes:
    """Also what the next receipt names as its `previous_receipt`. `domain` is `hub_domain(...)`."""
    return typed_digest(
        domain,
        hashing.keccak256(
            hashing.abi_encode(
                _RECEIPT,
                receipt.digest,
                hashing.address_word(receipt.attester),
                receipt.receipt_number,
                receipt.previous_receipt,
            )
        ),
    )


class Leaf(msgspec.Struct, frozen=True, order=True):
    """One cumulative balance. `parts` are the readable values that `subject` is the hash of, e.g.
    ("delegation", "devnet", "0x…validator word", "0x…delegator word")."""

    subject: bytes
    asset: bytes
    kind: int
    reward: int
    penalty: int
    parts: tuple[str, ...] = ()

    def hash(self) -> bytes:
        return merkle.leaf_hash(
            self.subject
            + hashing.address_word(self.asset)
            + hashing.word(self.kind)
            + hashing.word(self.reward)
            + hashing.word(self.penalty)
        )


def subject_hash(parts: Sequence[str]) -> bytes:
    """keccak256(abi.encode(…)) of a leaf's readable parts. Raises ValueError for an unknown form."""
    match parts:
        case ["delegation", protocol, validator, delegator]:
            return hashing.keccak256(hashing.abi_encode("delegation", protocol, _word(validator), _word(delegator)))
        case ["operator", protocol, validator]:
            return hashing.keccak256(hashing.abi_encode("operator", protocol, _word(validator)))
        case ["validator", public_key]:
            return hashing.keccak256(
                hashing.abi_encode("validator", hashing.Dynamic(hashing.unhex_lower(public_key, size=48)))
            )
        case _:
            raise ValueError(f"no subject has the parts {parts!r}")


def _word(text: str) -> bytes:
    return hashing.unhex_lower(text, size=32, what="subject word")


def delegation_parts(*, protocol: str, validator: bytes, delegator: bytes) -> tuple[str, ...]:
    return ("delegation", protocol, hashing.hex0x(validator), hashing.hex0x(delegator))


def operator_parts(*, protocol: str, validator: bytes) -> tuple[str, ...]:
    return ("operator", protocol, hashing.hex0x(validator))


class Totals(msgspec.Struct, frozen=True):
    """Sums over the kinds that are income or loss (below 40, and 60)."""

    reward: int
    penalty: int


def totals(leaves: Iterable[Leaf]) -> Totals:
    counted = [leaf for leaf in leaves if leaf.kind < CLAIMED or leaf.kind == ADJUSTMENT]
    return Totals(sum(leaf.reward for leaf in counted), sum(leaf.penalty for leaf in counted))


class Body(msgspec.Struct, frozen=True):
    """What the header's `body_root` and `carry` stand for. `leaves` in ascending (subject, asset, kind) order;
    `carry` is the canonical JSON of the accounting state taken into the next frame."""

    leaves: tuple[Leaf, ...]
    carry: bytes

    def root(self) -> bytes:
        return merkle.root([leaf.hash() for leaf in self.leaves])

    def carry_hash(self) -> bytes:
        return hashing.keccak256(self.carry)


def fold_evidence(previous: bytes, log: chain.Log) -> bytes:
    """One step of the evidence chain; the frame starts from 32 zero bytes."""
    content = hashing.keccak256(log.address + b"".join(log.topics) + log.data)
    return hashing.keccak256(hashing.abi_encode(previous, log.block.number, log.block.hash, log.log_index, content))


def evidence(logs: Iterable[chain.Log]) -> bytes:
    """The fold over every canonical log that the ruleset matches, which must come in ascending order."""
    digest = hashing.ZERO32
    last = (-1, -1)
    for log in logs:
        place = (log.block.number, log.log_index)
        if place <= last:
            raise ValueError(f"logs are out of order at {place}")
        last = place
        digest = fold_evidence(digest, log)
    return digest
