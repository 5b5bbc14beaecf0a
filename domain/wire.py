"""The JSON that crosses the wire. In: bytes from a peer. Out: frozen values, or BadAnswer naming the field; and back.

Integers of the header are decimal strings, bytes are 0x-hex, `context` is the exact text that was signed. Unknown fields are
refused: a peer that sends more than the format has a different idea of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TypeVar

import msgspec

from domain import errors, hashing, statement

MAX_CHUNK_LEAVES = 4096
MAX_PARTS_CHARACTERS = 512
"""The longest subject is a delegation: two words and two short names."""
RECEIPT_NUMBER_BITS = 63
"""Databases count in signed 64-bit integers."""
T = TypeVar("T")
_DECIMAL = re.compile(r"(?:0|[1-9][0-9]{0,77})\Z")


class _Wire(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """Base of everything on the wire."""


class HeaderWire(_Wire, frozen=True):
    schema: str
    ruleset: str
    stream: str
    sequence: str
    revision: str
    from_position: str
    from_anchor: str
    to_position: str
    to_anchor: str
    to_time: str
    state_root: str
    evidence: str
    previous: str
    supersedes: str
    body_root: str
    leaf_count: str
    carry: str
    total_reward: str
    total_penalty: str


class Attestation(_Wire, frozen=True):
    """`POST /v1/attestations`. `signature` counts; `context` (at most 4 KiB of JSON text) is signed apart and never counts."""

    config_digest: str
    chain_id: str
    header: HeaderWire
    signer: str
    signature: str
    context: str
    context_signature: str


class ReplaceWire(_Wire, frozen=True):
    stream: str
    sequence: str
    revision: str
    withdrawn: str
    replacement: str
    ballot: str


class Replacement(_Wire, frozen=True):
    """`POST /v1/replacements`: a signer withdraws its vote for another one."""

    config_digest: str
    chain_id: str
    replace: ReplaceWire
    signer: str
    signature: str


class ReceiptWire(_Wire, frozen=True):
    digest: str
    attester: str
    receipt_number: str
    previous_receipt: str


class SignedReceipt(_Wire, frozen=True):
    """`signature` is over the Receipt in the `stakeside hub` domain of chain `chainId` with salt `deployment`."""

    chain_id: str
    deployment: str
    receipt: ReceiptWire
    signature: str


class Accepted(_Wire, frozen=True):
    """The hub's 200 to an attestation. `wanted` lists body roots it would like from this attester."""

    receipt: SignedReceipt
    wanted: tuple[str, ...] = ()


class LeafWire(_Wire, frozen=True):
    subject: str
    asset: str
    kind: int
    cumulative_reward: str
    cumulative_penalty: str
    parts: tuple[str, ...]


class BodyChunk(_Wire, frozen=True):
    """`POST /v1/bodies/{root}`: part `part` of `parts` (from 0). `leaves` holds at most 4,096 leaves that changed since the
    previous sealed frame of the stream; `carry` is this part's slice of the canonical JSON text, in order."""

    root: str
    stream: str
    sequence: str
    revision: str
    part: int
    parts: int
    leaves: tuple[LeafWire, ...]
    carry: str


class BodyWire(_Wire, frozen=True):
    """`GET /v1/bodies/{root}?page=`, and the body inside statement.json."""

    leaves: tuple[LeafWire, ...]
    carry: str


class Vote(_Wire, frozen=True):
    signer: str
    signature: str


class Certificate(_Wire, frozen=True):
    """k or more signatures over one header: anyone checks it against the document."""

    config_digest: str
    chain_id: str
    digest: str
    header: HeaderWire
    signatures: tuple[Vote, ...]


class Problem(_Wire, frozen=True):
    """Every refusal: RFC 9457's `title` and `detail`, the offending `field`, and on a conflict the digest the hub `has`."""

    title: str
    status: int
    detail: str = ""
    field: str | None = None
    has: str | None = None


def decode(data: bytes | str, type_: type[T], *, what: str) -> T:
    """Parse hostile JSON. Raises BadAnswer naming what and where."""
    try:
        return msgspec.json.decode(data, type=type_)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise errors.BadAnswer(f"{what} is malformed: {error}") from None


def encode(value: object) -> bytes:
    return msgspec.json.encode(value)


def uint(text: str, *, bits: int, what: str) -> int:
    """A canonical decimal string below 2**bits."""
    if not _DECIMAL.match(text):
        raise errors.BadAnswer(f"{what} is not a decimal integer", value=text)
    value = int(text)
    if value >= 1 << bits:
        raise errors.BadAnswer(f"{what} does not fit {bits} bits", value=text)
    return value


_BITS = {
    "schema": 16, "sequence": 64, "revision": 32, "from_position": 64, "to_position": 64, "to_time": 64,
    "leaf_count": 64, "total_reward": 256, "total_penalty": 256, "ballot": 32,
}  # fmt: skip


def header_to_wire(header: statement.Header) -> HeaderWire:
    return HeaderWire(**_texts(header))


def header_from_wire(wire: HeaderWire) -> statement.Header:
    return statement.Header(**_values(wire))  # pyright: ignore[reportArgumentType]


def replace_to_wire(replace: statement.Replace) -> ReplaceWire:
    return ReplaceWire(**_texts(replace))


def replace_from_wire(wire: ReplaceWire) -> statement.Replace:
    return statement.Replace(**_values(wire))  # pyright: ignore[reportArgumentType]


def _texts(value: msgspec.Struct) -> dict[str, str]:
    fields = ((name, getattr(value, name)) for name in value.__struct_fields__)
    return {name: hashing.hex0x(v) if isinstance(v, bytes) else str(v) for name, v in fields}


def _values(wire: msgspec.Struct) -> dict[str, int | bytes]:
    found: dict[str, int | bytes] = {}
    for name in wire.__struct_fields__:
        text: str = getattr(wire, name)
        if name in _BITS:
            found[name] = uint(text, bits=_BITS[name], what=name)
        else:
            found[name] = hashing.unhex_lower(text, size=32, what=name)
    return found


def receipt_to_wire(receipt: statement.Receipt) -> ReceiptWire:
    return ReceiptWire(**_texts(receipt))


def receipt_from_wire(wire: ReceiptWire) -> statement.Receipt:
    return statement.Receipt(
        digest=hashing.unhex_lower(wire.digest, size=32, what="receipt.digest"),
        attester=hashing.unhex_lower(wire.attester, size=20, what="receipt.attester"),
        receipt_number=uint(wire.receipt_number, bits=RECEIPT_NUMBER_BITS, what="receipt.receiptNumber"),
        previous_receipt=hashing.unhex_lower(wire.previous_receipt, size=32, what="receipt.previousReceipt"),
    )


def leaf_to_wire(leaf: statement.Leaf) -> LeafWire:
    return LeafWire(
        subject=hashing.hex0x(leaf.subject),
        asset=hashing.hex0x(leaf.asset),
        kind=leaf.kind,
        cumulative_reward=str(leaf.reward),
        cumulative_penalty=str(leaf.penalty),
        parts=leaf.parts,
    )


def leaf_from_wire(wire: LeafWire) -> statement.Leaf:
    """The leaf, with its subject recomputed from its readable parts."""
    subject = hashing.unhex_lower(wire.subject, size=32, what="leaf.subject")
    if sum(map(len, wire.parts)) > MAX_PARTS_CHARACTERS:
        raise errors.BadAnswer("leaf.parts are too long", value=wire.parts[:1])
    try:
        recomputed = statement.subject_hash(wire.parts)
    except ValueError:
        raise errors.BadAnswer("leaf.parts name no known subject", value=wire.parts[:1]) from None
    if recomputed != subject:
        raise errors.BadAnswer("leaf.subject is not the hash of its parts", value=wire.subject)
    if wire.kind not in statement.KIND_NAMES:
        raise errors.BadAnswer("leaf.kind is unknown", value=wire.kind)
    return statement.Leaf(
        subject=subject,
        asset=hashing.unhex_lower(wire.asset, size=20, what="leaf.asset"),
        kind=wire.kind,
        reward=uint(wire.cumulative_reward, bits=256, what="leaf.cumulativeReward"),
        penalty=uint(wire.cumulative_penalty, bits=256, what="leaf.cumulativePenalty"),
        parts=wire.parts,
    )


def body_to_wire(body: statement.Body) -> BodyWire:
    return BodyWire(leaves=tuple(leaf_to_wire(leaf) for leaf in body.leaves), carry=body.carry.decode())


def body_from_wire(wire: BodyWire) -> statement.Body:
    return statement.Body(leaves=tuple(leaf_from_wire(leaf) for leaf in wire.leaves), carry=wire.carry.encode())


def chunk_body(
    changed: Sequence[statement.Leaf], carry: bytes, header: statement.Header, *, carry_slice: int = 1 << 20
) -> list[BodyChunk]:
    """Cut a body into uploads: leaves by 4,096, the carry text by `carry_slice` characters. At least one chunk."""
    text = carry.decode()
    leaf_parts = [changed[i : i + MAX_CHUNK_LEAVES] for i in range(0, len(changed), MAX_CHUNK_LEAVES)]
    carry_parts = [text[i : i + carry_slice] for i in range(0, len(text), carry_slice)]
    parts = max(len(leaf_parts), len(carry_parts), 1)
    return [
        BodyChunk(
            root=hashing.hex0x(header.body_root),
            stream=hashing.hex0x(header.stream),
            sequence=str(header.sequence),
            revision=str(header.revision),
            part=part,
            parts=parts,
            leaves=tuple(leaf_to_wire(leaf) for leaf in (leaf_parts[part] if part < len(leaf_parts) else ())),
            carry=carry_parts[part] if part < len(carry_parts) else "",
        )
        for part in range(parts)
    ]


def merge_leaves(previous: Iterable[statement.Leaf], changed: Iterable[statement.Leaf]) -> tuple[statement.Leaf, ...]:
    """The frame's leaves from the previous frame's and the changed ones, ascending by (subject, asset, kind)."""
    merged = {(leaf.subject, leaf.asset, leaf.kind): leaf for leaf in previous}
    merged.update({(leaf.subject, leaf.asset, leaf.kind): leaf for leaf in changed})
    return tuple(merged[key] for key in sorted(merged))
