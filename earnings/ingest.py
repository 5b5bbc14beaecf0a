"""Reading what agents send: pure. In: request bytes and the document. Out: a checked vote or withdrawal, or a refusal that says why.

Nothing here looks into the book or at a clock; `intake` stores what passed.
"""

from __future__ import annotations

import re
from typing import TypeVar

import msgspec

from domain import errors, hashing, signatures, statement, wire
from earnings import quorum, votes
from earnings.seats import Seat, Seats

MAX_CONTEXT_BYTES = 4096
T = TypeVar("T")
_PATH = re.compile(r" - at `\$\.?(?P<path>[^`]{1,120})`")


class Refused(msgspec.Struct, frozen=True):
    """A refusal is an answer, not an error: it becomes a `wire.Problem`."""

    status: int
    title: str
    detail: str = ""
    field: str | None = None
    has: bytes | None = None
    retry_after_s: int | None = None

    def problem(self) -> wire.Problem:
        return wire.Problem(
            title=self.title,
            status=self.status,
            detail=self.detail,
            field=self.field,
            has=None if self.has is None else hashing.hex0x(self.has),
        )


class Vote(msgspec.Struct, frozen=True):
    """An attestation whose form, place in the document and signatures are right."""

    seat: Seat
    header: statement.Header
    digest: bytes
    signer: bytes
    signature: bytes
    context: bytes
    context_signature: bytes

    @property
    def place(self) -> votes.Place:
        return votes.Place(self.header.stream, self.header.sequence, self.header.revision)


class Withdrawal(msgspec.Struct, frozen=True):
    """A Replace whose form, place and signature are right."""

    seat: Seat
    place: votes.Place
    ballot: quorum.Ballot
    signer: bytes
    signature: bytes


class _Malformed(Exception):
    def __init__(self, field: str, detail: str) -> None:
        self.refused = malformed(field, detail)
        super().__init__(detail)


def malformed(field: str, detail: str) -> Refused:
    return Refused(400, "malformed", detail, field=field)


def parse(data: bytes, type_: type[T], *, what: str) -> T | Refused:
    """JSON of a peer. A refusal names the field that msgspec stopped at."""
    try:
        return wire.decode(data, type_, what=what)
    except errors.BadAnswer as error:
        found = _PATH.search(error.what)
        return malformed(found["path"] if found else "", error.what)


def read_attestation(data: bytes, seats: Seats) -> Vote | Refused:
    """Everything that can be judged without the book: form, deployment, epoch, signer, geometry, signatures."""
    sent = parse(data, wire.Attestation, what="the attestation")
    if isinstance(sent, Refused):
        return sent
    try:
        header = _header(sent.header)
        seat = _seat(
            seats, stream=header.stream, sequence=header.sequence, revision=header.revision, place="header.",
            chain_id=sent.chain_id, config_digest=sent.config_digest,
        )  # fmt: skip
        if isinstance(seat, Refused):
            return seat
        signer = _seated(seat, sent.signer)
        if isinstance(signer, Refused):
            return signer
        wrong = misplaced(header, seat)
        if wrong is not None:
            return wrong
        digest = statement.header_digest(header, seat.domain)
        signature = _signed(digest, sent.signature, signer, field="signature")
        context = sent.context.encode("utf-8", "surrogatepass")
        if len(context) > MAX_CONTEXT_BYTES:
            return malformed("context", f"the context has {len(context)} bytes where {MAX_CONTEXT_BYTES} are allowed")
        context_digest = statement.context_digest(digest, context, seat.domain)
        context_signature = _signed(context_digest, sent.context_signature, signer, field="contextSignature")
    except _Malformed as error:
        return error.refused
    return Vote(seat, header, digest, signer, signature, context, context_signature)


def read_replacement(data: bytes, seats: Seats) -> Withdrawal | Refused:
    sent = parse(data, wire.Replacement, what="the replacement")
    if isinstance(sent, Refused):
        return sent
    try:
        replace = _replace(sent.replace)
        seat = _seat(
            seats, stream=replace.stream, sequence=replace.sequence, revision=replace.revision, place="replace.",
            chain_id=sent.chain_id, config_digest=sent.config_digest,
        )  # fmt: skip
        if isinstance(seat, Refused):
            return seat
        signer = _seated(seat, sent.signer)
        if isinstance(signer, Refused):
            return signer
        if replace.withdrawn == replace.replacement:
            return malformed("replace.replacement", "a digest cannot replace itself")
        digest = statement.replace_digest(replace, seat.domain)
        signature = _signed(digest, sent.signature, signer, field="signature")
    except _Malformed as error:
        return error.refused
    place = votes.Place(replace.stream, replace.sequence, replace.revision)
    ballot = quorum.Ballot(replace.withdrawn, replace.replacement, replace.ballot, digest)
    return Withdrawal(seat, place, ballot, signer, signature)


def misplaced(header: statement.Header, seat: Seat) -> Refused | None:
    """What the document alone says about a header: schema, ruleset, frame edges, and which fields must be zero."""
    expected = (
        ("schema", statement.SCHEMA),
        ("ruleset", seat.ruleset),
        ("fromPosition", seat.first),
        ("toPosition", seat.last),
    )
    values = (header.schema, header.ruleset, header.from_position, header.to_position)
    for (name, want), have in zip(expected, values, strict=True):
        if want != have:
            shown = hashing.hex0x(want) if isinstance(want, bytes) else want
            return malformed(f"header.{name}", f"the document says {shown} for frame {header.sequence}")
    zeros = (
        ("previous", header.previous == hashing.ZERO32, header.sequence == 0),
        ("supersedes", header.supersedes == hashing.ZERO32, header.revision == 0),
        ("bodyRoot", header.body_root == hashing.ZERO32, header.leaf_count == 0),
    )
    for name, is_zero, must_be_zero in zeros:
        if is_zero != must_be_zero:
            return malformed(f"header.{name}", "must be zero here" if must_be_zero else "must not be zero here")
    return None


def _seat(
    seats: Seats, *, stream: bytes, sequence: int, revision: int, place: str, chain_id: str, config_digest: str
) -> Seat | Refused:
    seat = seats.at(stream, sequence)
    if seat is None:
        return malformed(f"{place}stream", "the hub's deployment document has no such stream")
    if _uint(chain_id, bits=256, field="chainId") != seat.stream.chain:
        return malformed("chainId", f"the stream is on chain {seat.stream.chain}")
    if _unhex(config_digest, size=32, field="configDigest") != seat.config_digest:
        return malformed(
            "configDigest",
            f"frame {sequence} is under {hashing.hex0x(seat.config_digest)}: another deployment, signer epoch or ruleset signed this",
        )
    if revision > seat.revision:
        return Refused(
            409,
            "unlisted revision",
            f"the hub's document lists revision {seat.revision} for frame {sequence}",
            field=f"{place}revision",
        )
    return seat


def _seated(seat: Seat, signer: str) -> bytes | Refused:
    address = _unhex(signer, size=20, field="signer")
    if address not in seat.signers:
        return Refused(
            401, "unknown attester", f"the document does not list this signer for frame {seat.sequence}", field="signer"
        )
    return address


def _signed(digest: bytes, signature: str, signer: bytes, *, field: str) -> bytes:
    raw = _unhex(signature, size=65, field=field)
    try:
        found = signatures.recover(digest, raw)
    except errors.BadAnswer as error:
        raise _Malformed(field, error.what) from None
    if found != signer:
        raise _Malformed(field, f"it recovers to {hashing.hex0x(found)} over digest {hashing.hex0x(digest)}")
    return raw


def _header(sent: wire.HeaderWire) -> statement.Header:
    try:
        return wire.header_from_wire(sent)
    except errors.BadAnswer as error:
        raise _Malformed(f"header.{_camel(error.what)}", error.what) from None


def _replace(sent: wire.ReplaceWire) -> statement.Replace:
    try:
        return wire.replace_from_wire(sent)
    except errors.BadAnswer as error:
        raise _Malformed(f"replace.{_camel(error.what)}", error.what) from None


def _camel(what: str) -> str:
    """`wire` begins its message with the field's name; the wire spells it in camel case."""
    first, *rest = what.split(" ", 1)[0].split("_")
    return first + "".join(part.title() for part in rest)


def _unhex(text: str, *, size: int, field: str) -> bytes:
    try:
        return hashing.unhex_lower(text, size=size, what=field)
    except errors.BadAnswer as error:
        raise _Malformed(field, error.what) from None


def _uint(text: str, *, bits: int, field: str) -> int:
    try:
        return wire.uint(text, bits=bits, what=field)
    except errors.BadAnswer as error:
        raise _Malformed(field, error.what) from None
