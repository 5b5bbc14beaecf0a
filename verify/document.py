"""The deployment document as the verifier reads it. In: the document's JSON. Out: frames, epochs, revisions and their digests.

The immutable part (name, chains, streams) is hashed to `deployment`; a frame's configDigest binds it to one signer epoch.
"""

from __future__ import annotations

from dataclasses import dataclass

from verify import digests
from verify.primitives import canonical, hexed, keccak
from verify.report import Difference, Unusable, shown
from verify.strict import Json, Node

MAX_SIGNERS = 31


@dataclass(frozen=True, slots=True)
class Chain:
    id: int
    genesis: bytes
    finality_depth: int | None
    """None: the node's `finalized` tag."""


@dataclass(frozen=True, slots=True)
class Stream:
    name: str
    kind: str
    chain: int
    protocol: str
    asset: bytes
    start: int
    size: int
    id: bytes

    def span(self, sequence: int) -> tuple[int, int]:
        """First and last block of a frame."""
        first = self.start + sequence * self.size
        return first, first + self.size - 1


@dataclass(frozen=True, slots=True)
class Epoch:
    number: int
    signers: tuple[bytes, ...]
    k: int
    rulesets: dict[str, bytes]
    starts: dict[str, int]


@dataclass(frozen=True, slots=True)
class Revision:
    stream: str
    sequence: int
    through: int
    number: int


@dataclass(frozen=True, slots=True)
class Document:
    name: str
    deployment: bytes
    chains: tuple[Chain, ...]
    streams: tuple[Stream, ...]
    epochs: tuple[Epoch, ...]
    revisions: tuple[Revision, ...]
    receipt_keys: tuple[tuple[bytes, int], ...]
    appended: dict[str, tuple[Json, ...]]
    """The append-only lists as they stand in the file, for comparison with another copy of the document."""

    def chain(self, stream: Stream) -> Chain:
        return next(chain for chain in self.chains if chain.id == stream.chain)

    def stream(self, stream_id: bytes) -> Stream:
        for stream in self.streams:
            if stream.id == stream_id:
                return stream
        raise Difference("statement.certificate.header.stream", "the document has no such stream", got=stream_id)

    def epoch(self, stream: Stream, sequence: int) -> Epoch:
        """The last epoch that starts for the stream at or before the frame."""
        for epoch in reversed(self.epochs):
            if epoch.starts.get(stream.name, sequence + 1) <= sequence:
                return epoch
        raise Unusable("document.epochs", f"no epoch covers frame {sequence} of stream {shown(stream.name)}")

    def ruleset(self, stream: Stream, sequence: int) -> bytes:
        epoch = self.epoch(stream, sequence)
        if stream.name not in epoch.rulesets:
            raise Unusable(f"document.epochs[{epoch.number}].rulesets", f"no ruleset for stream {shown(stream.name)}")
        return epoch.rulesets[stream.name]

    def config_digest(self, stream: Stream, sequence: int) -> bytes:
        epoch = self.epoch(stream, sequence)
        ids = {listed.name: listed.id for listed in self.streams}
        pairs = [(ids[name], ruleset) for name, ruleset in epoch.rulesets.items()]
        return digests.config_digest(self.deployment, epoch.number, epoch.signers, epoch.k, pairs)

    def revision(self, stream: Stream, sequence: int) -> int:
        """The highest revision listed for a frame."""
        numbers = [r.number for r in self.revisions if r.stream == stream.name and r.sequence <= sequence <= r.through]
        return max(numbers, default=0)

    def revision_before(self, stream: Stream, sequence: int, revision: int) -> int:
        """Which revision of frame `sequence` − 1 a frame's revision follows: its highest, or for a superseded revision of
        this frame the one that was the highest then."""
        highest = self.revision(stream, sequence - 1)
        return highest if revision == self.revision(stream, sequence) else min(revision, highest)

    def receipt_key(self, number: int) -> bytes | None:
        """The hub key in force at a receipt number: the last one listed that starts at or before it."""
        return next((address for address, first in reversed(self.receipt_keys) if first <= number), None)


def quorum(signers: int) -> int:
    """n = 3f + 1 signers bear f faulty ones; two sets of ⌊(n+f)/2⌋ + 1 share an honest signer."""
    return (signers + (signers - 1) // 3) // 2 + 1


def read(node: Node) -> Document:
    """Raises Unusable naming the field for a document that is malformed or cannot work."""
    found = node.fields("name", "chains", "streams", "epochs", optional=("receipt_keys", "revisions", "members"))
    name = found["name"].text()
    chains, chain_json = _chains(found["chains"])
    streams, stream_json = _streams(found["streams"], {chain.id for chain in chains})
    names = {stream.name for stream in streams}
    empty = Node([], node.path)
    immutable: Json = {"name": name, "chains": chain_json, "streams": stream_json}
    appended = {key: found.get(key, empty) for key in ("epochs", "receipt_keys", "revisions", "members")}
    document = Document(
        name=name,
        deployment=keccak(canonical(immutable, where=node.path)),
        chains=chains,
        streams=streams,
        epochs=_epochs(found["epochs"], names),
        revisions=tuple(_revision(item, names) for item in appended["revisions"].items()),
        receipt_keys=tuple(_receipt_key(item) for item in appended["receipt_keys"].items()),
        appended={key: tuple(item.value for item in value.items()) for key, value in appended.items()},
    )
    for item in appended["members"].items():
        member = item.fields("accounts", "address", "from_sequence")
        member["accounts"].text()
        member["address"].hex(20)
        member["from_sequence"].integer()
    return document


def check_against(ours: Document, theirs: Document) -> None:
    """`theirs` (in the file) may be older than `ours` (the reader's own copy), never different. Raises Difference."""
    if ours.deployment != theirs.deployment:
        raise Difference("document", "it is another deployment", expected=ours.deployment, got=theirs.deployment)
    for key, items in theirs.appended.items():
        known = ours.appended[key]
        for index, item in enumerate(items):
            if index >= len(known):
                raise Difference(f"document.{key}[{index}]", "your copy of the document does not have it", got=item)
            if known[index] != item:
                raise Difference(f"document.{key}[{index}]", "not your document's", expected=known[index], got=item)


def _chains(node: Node) -> tuple[tuple[Chain, ...], list[Json]]:
    chains: list[Chain] = []
    kept: list[Json] = []
    for item in node.items():
        chain = item.fields("id", "genesis", optional=("finality",))
        finality = chain["finality"].text() if "finality" in chain else "tag"
        rule, _, depth = finality.partition(":")
        if finality != "tag" and not (rule == "depth" and depth.isascii() and depth.isdigit() and len(depth) < 10):
            chain["finality"].fail(f'{shown(finality)} is neither "tag" nor "depth:N"')
        chains.append(Chain(chain["id"].integer(), chain["genesis"].hex(32), None if finality == "tag" else int(depth)))
        kept.append({"id": chains[-1].id, "genesis": hexed(chains[-1].genesis), "finality": finality})
    if not chains:
        node.fail("lists no chain")
    return tuple(chains), kept


def _streams(node: Node, chains: set[int]) -> tuple[tuple[Stream, ...], list[Json]]:
    streams: list[Stream] = []
    kept: list[Json] = []
    for item in node.items():
        stream, as_json = _stream(item)
        if stream.chain not in chains:
            item.fail(f"chain {stream.chain} is not listed")
        if any(stream.name == other.name or stream.id == other.id for other in streams):
            item.fail(f"the name or id of stream {shown(stream.name)} is taken")
        streams.append(stream)
        kept.append(as_json)
    if not streams:
        node.fail("lists no stream")
    return tuple(streams), kept


_STREAM = ("name", "kind", "chain", "protocol", "deployment", "accounts", "asset", "start", "frame")


def _stream(item: Node) -> tuple[Stream, Json]:
    found = item.fields(*_STREAM)
    numbers = {name: found[name].integer() for name in ("chain", "start")}
    texts = {name: found[name].text() for name in _STREAM if name not in numbers}
    if texts["kind"] not in ("staking", "validators"):
        found["kind"].fail(f"{shown(texts['kind'])} is no kind of stream")
    rule, _, size = texts["frame"].partition(":")
    if rule != "blocks" or not size.isascii() or not size.isdigit() or len(size) > 12 or int(size) == 0:
        found["frame"].fail(f"{shown(texts['frame'])} is a frame rule this verifier cannot follow")
    asset = found["asset"].hex(20)
    stream = Stream(
        name=texts["name"],
        kind=texts["kind"],
        chain=numbers["chain"],
        protocol=texts["protocol"],
        asset=asset,
        start=numbers["start"],
        size=int(size),
        id=digests.stream_id(
            texts["kind"], numbers["chain"], texts["protocol"], texts["deployment"], texts["accounts"], texts["asset"]
        ),
    )
    return stream, {**texts, **numbers}


def _epochs(node: Node, names: set[str]) -> tuple[Epoch, ...]:
    epochs: list[Epoch] = []
    latest: dict[str, int] = {}
    for index, item in enumerate(node.items()):
        epoch = _epoch(item, names)
        if epoch.number != index:
            item.fail(f"is numbered {epoch.number}; epochs are numbered 0, 1, 2, … in order")
        for name, sequence in epoch.starts.items():
            if sequence <= latest.get(name, -1):
                item.fail(f"starts for stream {shown(name)} not after the epoch before it")
            latest[name] = sequence
        epochs.append(epoch)
    if not epochs:
        node.fail("lists no epoch")
    return tuple(epochs)


def _epoch(item: Node, names: set[str]) -> Epoch:
    found = item.fields("signer_epoch", "signers", "k", "rulesets", "from_sequence")
    signers = sorted(signer.hex(20) for signer in found["signers"].items())
    if len(set(signers)) != len(signers) or not 1 <= len(signers) <= MAX_SIGNERS:
        found["signers"].fail(f"needs 1 to {MAX_SIGNERS} distinct signers")
    k = found["k"].integer(high=MAX_SIGNERS)
    if not quorum(len(signers)) <= k <= len(signers):
        found["k"].fail(f"{k} is no safe quorum of {len(signers)} signers: {quorum(len(signers))} to {len(signers)}")
    rulesets = {name: ruleset.hex(32) for name, ruleset in found["rulesets"].entries().items()}
    starts = {name: start.integer() for name, start in found["from_sequence"].entries().items()}
    for name in (*rulesets, *starts):
        if name not in names:
            item.fail(f"names the stream {shown(name)}, which is not listed")
    return Epoch(found["signer_epoch"].integer(), tuple(signers), k, rulesets, starts)


def _revision(item: Node, names: set[str]) -> Revision:
    found = item.fields("stream", "sequence", "through", "revision", optional=("reason",))
    if "reason" in found:
        found["reason"].text()
    revision = Revision(
        found["stream"].text(),
        found["sequence"].integer(),
        found["through"].integer(),
        found["revision"].integer(low=1, high=(1 << 32) - 1),
    )
    if revision.stream not in names or revision.through < revision.sequence:
        item.fail("names a listed stream and runs from `sequence` through `through`")
    return revision


def _receipt_key(item: Node) -> tuple[bytes, int]:
    found = item.fields("address", optional=("first_receipt",))
    first = found["first_receipt"].integer(low=1) if "first_receipt" in found else 1
    return found["address"].hex(20), first
