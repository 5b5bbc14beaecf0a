"""The deployment document as the verifier reads it. In: the document's JSON. Out: frames, epochs, revisions and their digests.

The immutable part (name, chains, streams) is hashed to `deployment`; a frame's configDigest binds it to one signer epoch.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import cast

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
    """`signers` ascending: their order in the document means nothing."""

    signer_epoch: int
    signers: tuple[bytes, ...]
    k: int
    rulesets: dict[str, bytes]
    from_sequence: dict[str, int]


@dataclass(frozen=True, slots=True)
class Revision:
    stream: str
    sequence: int
    through: int
    revision: int
    reason: str


@dataclass(frozen=True, slots=True)
class ReceiptKey:
    address: bytes
    first_receipt: int


@dataclass(frozen=True, slots=True)
class Member:
    accounts: str
    address: bytes
    from_sequence: int


Entry = Epoch | Revision | ReceiptKey | Member


@dataclass(frozen=True, slots=True)
class Document:
    name: str
    deployment: bytes
    chains: tuple[Chain, ...]
    streams: tuple[Stream, ...]
    epochs: tuple[Epoch, ...]
    revisions: tuple[Revision, ...]
    receipt_keys: tuple[ReceiptKey, ...]
    members: tuple[Member, ...]

    def appended(self) -> dict[str, tuple[Entry, ...]]:
        """The append-only lists, defaults filled in."""
        return {
            "epochs": self.epochs,
            "receipt_keys": self.receipt_keys,
            "revisions": self.revisions,
            "members": self.members,
        }

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
            if epoch.from_sequence.get(stream.name, sequence + 1) <= sequence:
                return epoch
        raise Unusable("document.epochs", f"no epoch covers frame {sequence} of stream {shown(stream.name)}")

    def ruleset(self, stream: Stream, sequence: int) -> bytes:
        epoch = self.epoch(stream, sequence)
        if stream.name not in epoch.rulesets:
            raise Unusable(
                f"document.epochs[{epoch.signer_epoch}].rulesets", f"no ruleset for stream {shown(stream.name)}"
            )
        return epoch.rulesets[stream.name]

    def config_digest(self, stream: Stream, sequence: int) -> bytes:
        epoch = self.epoch(stream, sequence)
        ids = {listed.name: listed.id for listed in self.streams}
        pairs = [(ids[name], ruleset) for name, ruleset in epoch.rulesets.items()]
        return digests.config_digest(self.deployment, epoch.signer_epoch, epoch.signers, epoch.k, pairs)

    def revision(self, stream: Stream, sequence: int) -> int:
        """The highest revision listed for a frame."""
        numbers = [
            r.revision for r in self.revisions if r.stream == stream.name and r.sequence <= sequence <= r.through
        ]
        return max(numbers, default=0)

    def revision_before(self, stream: Stream, sequence: int, revision: int) -> int:
        """Which revision of frame `sequence` − 1 a frame's revision follows: its highest, or for a superseded revision of
        this frame the one that was the highest then."""
        highest = self.revision(stream, sequence - 1)
        return highest if revision == self.revision(stream, sequence) else min(revision, highest)

    def receipt_key(self, number: int) -> bytes | None:
        """The hub key in force at a receipt number: the last one listed that starts at or before it."""
        return next((key.address for key in reversed(self.receipt_keys) if key.first_receipt <= number), None)


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
    appended = {key: found.get(key, empty) for key in ("receipt_keys", "revisions", "members")}
    document = Document(
        name=name,
        deployment=keccak(canonical(immutable, where=node.path)),
        chains=chains,
        streams=streams,
        epochs=_epochs(found["epochs"], names),
        revisions=tuple(_revision(item, names) for item in appended["revisions"].items()),
        receipt_keys=_receipt_keys(appended["receipt_keys"]),
        members=tuple(_member(item) for item in appended["members"].items()),
    )
    _refuse_holes(document, found["epochs"])
    return document


def check_against(ours: Document, theirs: Document) -> None:
    """`theirs` (in the file) may be older than `ours` (the reader's own copy), never different. Raises Difference.

    Values are compared, not their spelling: a default may be left out, the signers of an epoch may stand in any order."""
    if ours.deployment != theirs.deployment:
        raise Difference("document", "it is another deployment", expected=ours.deployment, got=theirs.deployment)
    for key, items in theirs.appended().items():
        known = ours.appended()[key]
        for index, item in enumerate(items):
            where = f"document.{key}[{index}]"
            if index >= len(known):
                raise Difference(where, "your copy of the document does not have it")
            for field in fields(item):
                expected, got = getattr(known[index], field.name), getattr(item, field.name)
                if expected != got:
                    raise Difference(
                        f"{where}.{field.name}", "not your document's", expected=_written(expected), got=_written(got)
                    )


def _written(value: object) -> object:
    """A value of an entry for people: bytes inside of lists and maps as hex, too."""
    if isinstance(value, tuple):
        return ", ".join(shown(item) for item in cast("tuple[object, ...]", value))
    if isinstance(value, dict):
        pairs = sorted(cast("dict[str, object]", value).items())
        return ", ".join(f"{shown(name)}: {shown(item)}" for name, item in pairs)
    return value


def _refuse_holes(document: Document, node: Node) -> None:
    """Every stream has signers from frame 0 on, and every epoch that begins for a stream names its ruleset."""
    for stream in document.streams:
        starting = [epoch for epoch in document.epochs if stream.name in epoch.from_sequence]
        if not starting or starting[0].from_sequence[stream.name] != 0:
            node.fail(f"no epoch covers frame 0 of stream {shown(stream.name)}")
        for epoch in starting:
            if stream.name not in epoch.rulesets:
                where = f"{node.path}[{epoch.signer_epoch}].rulesets"
                raise Unusable(where, f"no ruleset for stream {shown(stream.name)}")


def _chains(node: Node) -> tuple[tuple[Chain, ...], list[Json]]:
    chains: list[Chain] = []
    kept: list[Json] = []
    for item in node.items():
        chain = item.fields("id", "genesis", optional=("finality",))
        if chain["id"].integer() in {listed.id for listed in chains}:
            chain["id"].fail("the chain is listed twice")
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
    numbers = {"chain": found["chain"].integer(), "start": found["start"].integer(low=1)}
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
        if epoch.signer_epoch != index:
            item.fail(f"is numbered {epoch.signer_epoch}; epochs are numbered 0, 1, 2, … in order")
        for name, sequence in epoch.from_sequence.items():
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
    revision = Revision(
        found["stream"].text(),
        found["sequence"].integer(),
        found["through"].integer(),
        found["revision"].integer(low=1, high=(1 << 32) - 1),
        found["reason"].text() if "reason" in found else "",
    )
    if revision.stream not in names or revision.through < revision.sequence:
        item.fail("names a listed stream and runs from `sequence` through `through`")
    return revision


def _receipt_keys(node: Node) -> tuple[ReceiptKey, ...]:
    keys: list[ReceiptKey] = []
    for item in node.items():
        found = item.fields("address", optional=("first_receipt",))
        first = found["first_receipt"].integer(low=1) if "first_receipt" in found else 1
        if keys and first <= keys[-1].first_receipt:
            raise Unusable(f"{item.path}.first_receipt", "not after the first receipt of the key before it")
        keys.append(ReceiptKey(found["address"].hex(20), first))
    return tuple(keys)


def _member(item: Node) -> Member:
    found = item.fields("accounts", "address", "from_sequence")
    return Member(found["accounts"].text(), found["address"].hex(20), found["from_sequence"].integer())
