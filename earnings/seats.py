"""Who may vote where. In: the deployment document. Out: the signer set, k and config digest in force at a frame, cached.

The document hashes the same way for every request of an epoch, so its digests are computed once here and not per attestation.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from domain import deployment, errors, hashing, statement


class Seat(msgspec.Struct, frozen=True):
    """What the document says of one frame. `faulty` is f: f+1 equal digests are "validated", `k` seal."""

    stream: deployment.Stream
    stream_id: bytes
    sequence: int
    revision: int
    config_digest: bytes
    ruleset: bytes
    signers: frozenset[bytes]
    k: int
    faulty: int
    first: int
    last: int

    @property
    def domain(self) -> statement.Domain:
        return statement.Domain(chain_id=self.stream.chain, config_digest=self.config_digest)


class SealedRange(msgspec.Struct, frozen=True):
    """Sealed frames of one stream that were signed under one configDigest: the first of them and the last."""

    stream: bytes
    config_digest: bytes
    first: int
    last: int


class _Rule(msgspec.Struct, frozen=True):
    config_digest: bytes
    ruleset: bytes
    signers: frozenset[bytes]
    k: int
    faulty: int


class Seats:
    """The document in force. A reload replaces it as a whole; it never changes."""

    def __init__(self, document: deployment.Document) -> None:
        deployment.check(document)
        self.document = document
        self.deployment = document.digest()
        self.encoded = msgspec.json.encode(document)
        self.streams = {stream.id(): stream for stream in document.streams}
        self.known = frozenset(address for epoch in document.epochs for address in epoch.addresses())
        self._rules: dict[tuple[str, int], _Rule] = {}

    def at(self, stream_id: bytes, sequence: int) -> Seat | None:
        """None for a stream that the document does not list."""
        stream = self.streams.get(stream_id)
        if stream is None:
            return None
        rule = self._rule(stream, sequence)
        first, last = stream.frame_range(sequence)
        return Seat(
            stream=stream,
            stream_id=stream_id,
            sequence=sequence,
            revision=self.document.revision(stream, sequence),
            config_digest=rule.config_digest,
            ruleset=rule.ruleset,
            signers=rule.signers,
            k=rule.k,
            faulty=rule.faulty,
            first=first,
            last=last,
        )

    def _rule(self, stream: deployment.Stream, sequence: int) -> _Rule:
        epoch = self.document.epoch_at(stream, sequence)
        key = (stream.name, epoch.signer_epoch)
        found = self._rules.get(key)
        if found is None:
            signers = epoch.addresses()
            found = self._rules[key] = _Rule(
                config_digest=self.document.config_digest(stream, sequence),
                ruleset=self.document.ruleset(stream, sequence),
                signers=frozenset(signers),
                k=epoch.k,
                faulty=(len(signers) - 1) // 3,
            )
        return found

    def receipt_key(self, number: int) -> bytes | None:
        """The hub key that signs receipt `number`: the last one listed whose first receipt is not after it."""
        found: str | None = None
        for key in self.document.receipt_keys:
            if key.first_receipt <= number:
                found = key.address
        return None if found is None else hashing.unhex(found, size=20, what="receipt key")

    def check_sealed(self, ranges: Iterable[SealedRange]) -> None:
        """Raises BadConfig when frames were sealed under another signer set than this document yields for them."""
        for sealed in ranges:
            stream = self.streams.get(sealed.stream)
            edges = (
                sealed.first,
                sealed.last,
            )  # an epoch is in force without a gap, so its edges speak for what is between
            if stream is None or any(self._rule(stream, at).config_digest != sealed.config_digest for at in edges):
                raise errors.BadConfig(
                    "the book has frames sealed under another signer set or ruleset than the document yields for them",
                    value=(hashing.hex0x(sealed.stream), sealed.first, sealed.last),
                    cure="use the document that was in force when they sealed, and append to it",
                )

    def check_receipt_keys(self, addresses: Iterable[bytes]) -> None:
        """Raises BadConfig when the document does not list a key of ours: agents would refuse every receipt."""
        ours = set(addresses)
        listed = {hashing.unhex(key.address, size=20, what="receipt key") for key in self.document.receipt_keys}
        strangers = sorted(ours - listed)
        if not ours or strangers:
            raise errors.BadConfig(
                "the deployment document does not list this hub's receipt key",
                value=[hashing.hex0x(address) for address in strangers],
                cure="add it to [[receipt_keys]] with its first receipt number, or configure the listed key",
            )


def succeed(old: deployment.Document, new: deployment.Document, *, sealed: dict[str, int], issued: int) -> None:
    """Raises BadConfig unless `new` only appends to `old`, revises no sealed frame and moves no receipt that is out.

    `sealed` is, by stream name, the highest sealed sequence; `issued` the highest receipt number of any attester."""
    deployment.check(new)
    if not deployment.extends(old, new):
        raise errors.BadConfig(
            "the deployment document changes what was already agreed",
            cure="only append epochs, receipt keys, revisions, members",
        )
    for epoch in new.epochs[len(old.epochs) :]:
        for name, sequence in epoch.from_sequence.items():
            if sequence <= sealed.get(name, -1):
                raise errors.BadConfig(
                    f"epoch {epoch.signer_epoch} starts at a sealed frame of stream {name}",
                    value=sequence,
                    cure=f"let it start after frame {sealed[name]}",
                )
    for key in new.receipt_keys[len(old.receipt_keys) :]:
        if key.first_receipt <= issued:
            raise errors.BadConfig(
                "a receipt key is listed from a receipt number on that is already out under the key before it",
                value=key.first_receipt,
                cure=f"let it begin at {issued + 1} or later, with room for what is issued until the document is everywhere",
            )
    for revision in new.revisions[len(old.revisions) :]:
        if revision.sequence <= sealed.get(revision.stream, -1):
            raise errors.BadConfig(
                f"a revision is listed for a sealed frame of stream {revision.stream}",
                value=revision.sequence,
                cure="correct sealed frames by adjustment leaves in a later one",
            )
