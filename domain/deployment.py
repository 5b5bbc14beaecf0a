"""The deployment document: what agents, hub and verifier agree on before the first statement.

In: a parsed document. Out: its digests and the frame geometry of each stream. Reading the TOML is `config.deployments`'s work.
The immutable part hashes to `deployment`; signer epochs, revisions, receipt keys and members are append-only.
"""

from __future__ import annotations

import msgspec

from domain import errors, hashing

MAX_SIGNERS = 31


class Chain(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`finality` is "tag" (the node's `finalized` block) or "depth:N"."""

    id: int
    genesis: str
    finality: str = "tag"


class Stream(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One sequence of frames. `deployment` names the protocol's instance, `accounts` the account set ("all": everyone)."""

    name: str
    kind: str
    chain: int
    protocol: str
    deployment: str
    accounts: str
    asset: str
    start: int
    frame: str

    def id(self) -> bytes:
        """keccak256 of `staking/<chain id>/<protocol>/<deployment name>/<account set>/<asset>`, or of
        `validators/<chain id>/<watch set>/<asset>`."""
        if self.kind == "validators":
            return hashing.keccak256(f"validators/{self.chain}/{self.accounts}/{self.asset}".encode())
        text = f"{self.kind}/{self.chain}/{self.protocol}/{self.deployment}/{self.accounts}/{self.asset}"
        return hashing.keccak256(text.encode())

    def frame_size(self) -> int:
        """Blocks a frame, for the rule `blocks:<size>`."""
        rule, _, size = self.frame.partition(":")
        if rule != "blocks" or not size.isdecimal() or int(size) < 1:
            raise errors.BadConfig(
                f"stream {self.name} has a frame rule this version cannot follow",
                value=self.frame,
                cure='use "blocks:<size>"',
            )
        return int(size)

    def frame_range(self, sequence: int) -> tuple[int, int]:
        """First and last block of a frame, inclusive."""
        size = self.frame_size()
        first = self.start + sequence * size
        return first, first + size - 1

    def sequence_at(self, block: int) -> int:
        """The frame that holds `block`; negative before the stream's start."""
        return (block - self.start) // self.frame_size()


class Epoch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A signer set and rulesets, in force per stream from a sequence on. Addresses are lower-case 0x-hex."""

    signer_epoch: int
    signers: tuple[str, ...]
    k: int
    rulesets: dict[str, str]
    from_sequence: dict[str, int]

    def addresses(self) -> tuple[bytes, ...]:
        """Ascending."""
        return tuple(sorted(hashing.unhex_lower(text, size=20, what="signer") for text in self.signers))


class Revision(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Frames `sequence` to `through` are to be derived anew, none of them sealed yet. `revision` starts at 1.

    `through` is the last frame anybody voted on when the revision was listed: later frames start at revision 0 again, with the
    revised digest as their `previous`."""

    stream: str
    sequence: int
    through: int
    revision: int
    reason: str = ""


class ReceiptKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A hub key and the first receipt number it may sign."""

    address: str
    first_receipt: int = 1


class Member(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An account of an account set, counted from `from_sequence` on. Members never leave."""

    accounts: str
    address: str
    from_sequence: int


class Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    chains: tuple[Chain, ...]
    streams: tuple[Stream, ...]
    epochs: tuple[Epoch, ...]
    receipt_keys: tuple[ReceiptKey, ...] = ()
    revisions: tuple[Revision, ...] = ()
    members: tuple[Member, ...] = ()

    def digest(self) -> bytes:
        """`deployment`: keccak256 of the RFC 8785 JSON of the immutable part."""
        immutable = {
            "name": self.name,
            "chains": msgspec.to_builtins(self.chains),
            "streams": msgspec.to_builtins(self.streams),
        }
        return hashing.keccak256(hashing.canonical_json(immutable))

    def stream(self, name: str) -> Stream:
        for stream in self.streams:
            if stream.name == name:
                return stream
        names = ", ".join(stream.name for stream in self.streams)
        raise errors.BadConfig("the deployment document has no such stream", value=name, cure=f"it has {names}")

    def stream_by_id(self, stream_id: bytes) -> Stream | None:
        return next((s for s in self.streams if s.id() == stream_id), None)

    def epoch_at(self, stream: Stream, sequence: int) -> Epoch:
        """The epoch in force at a frame: the last one whose `from_sequence` for the stream is not after it."""
        found: Epoch | None = None
        for epoch in self.epochs:
            start = epoch.from_sequence.get(stream.name)
            if start is not None and start <= sequence:
                found = epoch
        if found is None:
            raise errors.BadConfig(f"no epoch of the document covers frame {sequence} of stream {stream.name}")
        return found

    def config_digest(self, stream: Stream, sequence: int) -> bytes:
        """The salt of the frame's EIP-712 domain: one deployment, one signer set, one k, one set of rulesets."""
        epoch = self.epoch_at(stream, sequence)
        pairs = sorted(
            (self.stream(name).id(), hashing.unhex_lower(ruleset, size=32, what="ruleset"))
            for name, ruleset in epoch.rulesets.items()
        )
        rulesets = hashing.keccak256(b"".join(stream_id + ruleset for stream_id, ruleset in pairs))
        signers = [hashing.address_word(address) for address in epoch.addresses()]
        # abi.encode(bytes32, uint64, address[], uint16, bytes32): one dynamic value, so its offset is 5 words.
        encoded = b"".join(
            (
                self.digest(),
                hashing.word(epoch.signer_epoch),
                hashing.word(160),
                hashing.word(epoch.k),
                rulesets,
                hashing.word(len(signers)),
                *signers,
            )
        )
        return hashing.keccak256(encoded)

    def ruleset(self, stream: Stream, sequence: int) -> bytes:
        text = self.epoch_at(stream, sequence).rulesets.get(stream.name)
        if text is None:
            raise errors.BadConfig(f"the epoch at frame {sequence} names no ruleset for stream {stream.name}")
        return hashing.unhex_lower(text, size=32, what="ruleset")

    def revision(self, stream: Stream, sequence: int) -> int:
        """The highest revision the document lists for a frame, 0 when none."""
        listed = (r for r in self.revisions if r.stream == stream.name and r.sequence <= sequence <= r.through)
        return max((r.revision for r in listed), default=0)

    def previous_revision(self, stream: Stream, sequence: int, revision: int) -> int:
        """The revision of frame `sequence` − 1 that (`sequence`, `revision`) names as its `previous`."""
        return (
            min(revision, self.revision(stream, sequence - 1))
            if revision < self.revision(stream, sequence)
            else (self.revision(stream, sequence - 1))
        )


def quorum(signers: int) -> int:
    """The least k for n signers: ⌊(n+f)/2⌋+1 with f = ⌊(n−1)/3⌋."""
    faulty = (signers - 1) // 3
    return (signers + faulty) // 2 + 1


def check(document: Document) -> None:
    """Raises BadConfig for a document that cannot work: names the field, the value and the cure."""
    if not document.chains or not document.streams or not document.epochs:
        raise errors.BadConfig("a deployment document needs at least one chain, one stream and one epoch")
    chains = {c.id for c in document.chains}
    names = [s.name for s in document.streams]
    if len(set(names)) != len(names):
        raise errors.BadConfig("two streams share a name", value=names)
    for chain in document.chains:
        hashing.unhex_lower(chain.genesis, size=32, what="genesis")
        rule, _, depth = chain.finality.partition(":")
        if chain.finality != "tag" and not (rule == "depth" and depth.isdecimal()):
            raise errors.BadConfig(
                f"chain {chain.id} has an unknown finality rule", value=chain.finality, cure='use "tag" or "depth:N"'
            )
    ids = [stream.id() for stream in document.streams]
    if len(set(ids)) != len(ids):
        raise errors.BadConfig(
            "two streams are the same one",
            value=names,
            cure="streams differ in chain, protocol, deployment, accounts or asset",
        )
    for stream in document.streams:
        _check_stream(document, stream, chains)
    _check_epochs(document)
    last_receipt = 0
    for key in document.receipt_keys:
        hashing.unhex_lower(key.address, size=20, what="receipt key")
        if key.first_receipt <= last_receipt:
            raise errors.BadConfig("receipt keys are listed by their first receipt, from 1 on", value=key.first_receipt)
        last_receipt = key.first_receipt
    for revision in document.revisions:
        document.stream(revision.stream)
        if revision.revision < 1 or revision.through < revision.sequence:
            raise errors.BadConfig(
                "a revision is numbered from 1 and runs from `sequence` through `through`",
                value=msgspec.to_builtins(revision),
            )


def _check_stream(document: Document, stream: Stream, chains: set[int]) -> None:
    name = stream.name
    if stream.chain not in chains:
        raise errors.BadConfig(
            f"stream {name} is on a chain the document does not list",
            value=stream.chain,
            cure=f"correct it, or add the chain: listed are {', '.join(map(str, sorted(chains)))}",
        )
    hashing.unhex_lower(stream.asset, size=20, what=f"the asset of stream {name}")
    if stream.kind not in ("staking", "validators"):
        raise errors.BadConfig(f"stream {name} is of an unknown kind", value=stream.kind, cure='use "staking"')
    if stream.start < 1:
        raise errors.BadConfig(
            f"stream {name} starts at block {stream.start}", cure="the first block that can count is 1"
        )
    stream.frame_size()
    # Wherever an epoch begins for the stream everything a frame asks of it must be there: a hole would stop all agents at one frame.
    starts = [epoch.from_sequence[name] for epoch in document.epochs if name in epoch.from_sequence]
    for sequence in [0, *starts]:
        document.config_digest(stream, sequence)
        document.ruleset(stream, sequence)


def _check_epochs(document: Document) -> None:
    last: dict[str, int] = {}
    for index, epoch in enumerate(document.epochs):
        count = len(set(epoch.addresses()))
        if count != len(epoch.signers) or not 1 <= count <= MAX_SIGNERS:
            raise errors.BadConfig(
                f"epoch {epoch.signer_epoch} needs 1 to {MAX_SIGNERS} distinct signers", value=len(epoch.signers)
            )
        if not quorum(count) <= epoch.k <= count:
            raise errors.BadConfig(
                f"epoch {epoch.signer_epoch} has k={epoch.k} for {count} signers",
                cure=f"k must be {quorum(count)} to {count}",
            )
        for name, ruleset in epoch.rulesets.items():
            document.stream(name)
            hashing.unhex_lower(ruleset, size=32, what=f"the ruleset of stream {name} in epoch {epoch.signer_epoch}")
        if epoch.signer_epoch != index:
            raise errors.BadConfig("signer epochs are numbered 0, 1, 2, … in order", value=epoch.signer_epoch)
        for name, sequence in epoch.from_sequence.items():
            document.stream(name)
            if sequence < last.get(name, 0) or (name in last and sequence == last[name]):
                raise errors.BadConfig(
                    f"epoch {epoch.signer_epoch} starts before the one it follows", value=(name, sequence)
                )
            last[name] = sequence


def check_supported(document: Document) -> None:
    """Raises BadConfig for what the format can say and this version cannot do yet. Accepting it would mean to sign something else than
    the document says."""
    if len(document.chains) != 1:
        raise errors.BadConfig(
            "this version serves one chain a document",
            value=[c.id for c in document.chains],
            cure="write a document for each chain",
        )
    for stream in document.streams:
        if stream.kind != "staking" or stream.accounts != "all":
            raise errors.BadConfig(
                f"this version cannot derive stream {stream.name}",
                value=(stream.kind, stream.accounts),
                cure='use kind = "staking" and accounts = "all"',
            )
    if document.members:
        raise errors.BadConfig(
            "this version cannot count members of an account set", cure='remove them and use accounts = "all"'
        )


def extends(old: Document, new: Document) -> bool:
    """Whether `new` only appends to `old`: same immutable part, every append-only list a continuation."""
    return (
        old.digest() == new.digest()
        and new.epochs[: len(old.epochs)] == old.epochs
        and new.receipt_keys[: len(old.receipt_keys)] == old.receipt_keys
        and new.revisions[: len(old.revisions)] == old.revisions
        and new.members[: len(old.members)] == old.members
    )
