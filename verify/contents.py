"""What a statement file holds. In: its bytes. Out: typed contents, or Unusable naming the place that is malformed.

Shape only: whether the contents are true is decided by `checks`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

from verify import document, strict
from verify.digests import KINDS, Header, Leaf, subject
from verify.primitives import canonical, keccak
from verify.report import Difference, Unusable, shown
from verify.strict import Json, Node

FORMAT = "stakeside-statement/1"
MAX_BYTES = 256 << 20
"""A frame with 250,000 leaves and its predecessor fit."""


@dataclass(frozen=True, slots=True)
class Vote:
    signer: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class Certificate:
    path: str
    config_digest: bytes
    chain_id: int
    digest: bytes
    header: Header
    votes: tuple[Vote, ...]


@dataclass(frozen=True, slots=True)
class Body:
    path: str
    leaves: tuple[Leaf, ...]
    carry: str


@dataclass(frozen=True, slots=True)
class Signed:
    """A frame with what it was signed by and what it stands for."""

    certificate: Certificate
    body: Body


@dataclass(frozen=True, slots=True)
class Receipt:
    path: str
    chain_id: int
    deployment: bytes
    digest: bytes
    attester: bytes
    number: int
    previous: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class Log:
    number: int
    block: bytes
    time: int
    index: int
    tx_hash: bytes
    address: bytes
    topics: tuple[bytes, ...]
    data: bytes

    def place(self) -> str:
        return f"block {self.number}, log {self.index}"

    def content(self) -> bytes:
        return self.address + b"".join(self.topics) + self.data


@dataclass(frozen=True, slots=True)
class Statement:
    document: document.Document
    rulesets: dict[bytes, Node]
    signed: Signed
    previous: Signed | None
    receipts: tuple[Receipt, ...]
    logs: tuple[Log, ...]


def load(path: str | Path) -> Statement:
    """Raises Unusable for anything that is not a statement file."""
    return read(strict.parse(slurp(path), "statement"))


def slurp(path: str | Path) -> bytes:
    """A file's bytes, at most 256 MiB of them."""
    try:
        with Path(path).open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise Unusable("file", f"it cannot be read: {reason}") from None
    if len(data) > MAX_BYTES:
        raise Unusable("file", f"it is larger than {MAX_BYTES >> 20} MiB")
    if not data.strip():
        raise Unusable("file", "it is empty")
    return data


def read(node: Node) -> Statement:
    names = ("format", "document", "rulesets", "certificate", "body", "previous", "receipts", "logs")
    if not isinstance(node.value, dict) or node.value.get("format") != FORMAT:
        node.get("format").fail(f"must be {FORMAT}")
    found = node.fields(*names)
    previous = found["previous"]
    return Statement(
        document=document.read(found["document"]),
        rulesets=_rulesets(found["rulesets"]),
        signed=Signed(certificate(found["certificate"]), body(found["body"])),
        previous=None if previous.is_null() else _signed(previous),
        receipts=tuple(_receipt(item) for item in found["receipts"].items()),
        logs=tuple(log(item) for item in found["logs"].items()),
    )


def _rulesets(node: Node) -> dict[bytes, Node]:
    found: dict[bytes, Node] = {}
    for key, item in node.entries().items():
        ruleset = Node(key, f"{node.path} (a key)").hex(32)
        digest = keccak(canonical(item.value, where=item.path))
        if digest != ruleset:
            raise Difference(item.path, "the ruleset does not hash to its name", expected=ruleset, got=digest)
        found[ruleset] = item
    return found


def _signed(node: Node) -> Signed:
    found = node.fields("certificate", "body")
    return Signed(certificate(found["certificate"]), body(found["body"]))


def certificate(node: Node) -> Certificate:
    found = node.fields("configDigest", "chainId", "digest", "header", "signatures")
    votes: list[Vote] = []
    for item in found["signatures"].items():
        vote = item.fields("signer", "signature")
        votes.append(Vote(vote["signer"].hex(20), vote["signature"].hex(65)))
    return Certificate(
        path=node.path,
        config_digest=found["configDigest"].hex(32),
        chain_id=found["chainId"].decimal(256),
        digest=found["digest"].hex(32),
        header=_header(found["header"]),
        votes=tuple(votes),
    )


_BITS = {
    "schema": 16,
    "sequence": 64,
    "revision": 32,
    "from_position": 64,
    "to_position": 64,
    "to_time": 64,
    "leaf_count": 64,
    "total_reward": 256,
    "total_penalty": 256,
}


def _header(node: Node) -> Header:
    names = {camel(field.name): field.name for field in fields(Header)}
    found = node.fields(*names)
    numbers = {names[n]: item.decimal(_BITS[names[n]]) for n, item in found.items() if names[n] in _BITS}
    hashes = {names[n]: item.hex(32) for n, item in found.items() if names[n] not in _BITS}
    return Header(**numbers, **hashes)  # pyright: ignore[reportArgumentType]  # the table above says which is which


def camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)


def body(node: Node) -> Body:
    found = node.fields("leaves", "carry")
    return Body(node.path, tuple(_leaf(item) for item in found["leaves"].items()), found["carry"].text())


def _leaf(node: Node) -> Leaf:
    found = node.fields("subject", "asset", "kind", "cumulativeReward", "cumulativePenalty", "parts")
    parts = tuple(part.text() for part in found["parts"].items())
    leaf = Leaf(
        subject=found["subject"].hex(32),
        asset=found["asset"].hex(20),
        kind=found["kind"].integer(high=(1 << 16) - 1),
        reward=found["cumulativeReward"].decimal(256),
        penalty=found["cumulativePenalty"].decimal(256),
        parts=parts,
    )
    if leaf.kind not in KINDS:
        found["kind"].fail(f"there is no kind {leaf.kind}")
    try:
        derived = subject(parts)
    except ValueError as error:
        found["parts"].fail(str(error))
    if derived != leaf.subject:
        raise Difference(
            found["subject"].path,
            f"not the hash of its parts {shown(', '.join(parts))}",
            expected=derived,
            got=leaf.subject,
        )
    return leaf


def _receipt(node: Node) -> Receipt:
    found = node.fields("chainId", "deployment", "receipt", "signature")
    inner = found["receipt"].fields("digest", "attester", "receiptNumber", "previousReceipt")
    return Receipt(
        path=node.path,
        chain_id=found["chainId"].decimal(256),
        deployment=found["deployment"].hex(32),
        digest=inner["digest"].hex(32),
        attester=inner["attester"].hex(20),
        number=inner["receiptNumber"].decimal(63),
        previous=inner["previousReceipt"].hex(32),
        signature=found["signature"].hex(65),
    )


def log(node: Node) -> Log:
    found = node.fields("number", "hash", "time", "logIndex", "txHash", "address", "topics", "data")
    topics = tuple(topic.hex(32) for topic in found["topics"].items())
    if len(topics) > 4:
        found["topics"].fail("a log has at most four topics")
    return Log(
        number=found["number"].decimal(64),
        block=found["hash"].hex(32),
        time=found["time"].decimal(64),
        index=found["logIndex"].decimal(64),
        tx_hash=found["txHash"].hex(32),
        address=found["address"].hex(20),
        topics=topics,
        data=found["data"].hex(),
    )


def as_json(log: Log) -> dict[str, Json]:
    """A log as the file writes it, for comparisons that name a field."""
    return {
        "number": str(log.number),
        "hash": "0x" + log.block.hex(),
        "time": str(log.time),
        "logIndex": str(log.index),
        "txHash": "0x" + log.tx_hash.hex(),
        "address": "0x" + log.address.hex(),
        "topics": ["0x" + topic.hex() for topic in log.topics],
        "data": "0x" + log.data.hex(),
    }
