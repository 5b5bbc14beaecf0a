"""Adoption: may this agent go on from a frame that others signed? In: certificate, body, document. Out: a checked frame.

An agent that cannot derive a frame (its node no longer has the logs) takes it from the hub, but trusts the hub for nothing: the
document names the signers, k of them must have signed, and the body must hash to what they signed. It never signs such a frame.
"""

from __future__ import annotations

import msgspec

from domain import deployment, errors, hashing, signatures, statement, wire


class Adopted(msgspec.Struct, frozen=True):
    header: statement.Header
    digest: bytes
    config_digest: bytes
    body: statement.Body


class Certified(msgspec.Struct, frozen=True):
    """A header that the document's signers signed. Its body is still to be fetched: only now is its size known to be theirs."""

    header: statement.Header
    digest: bytes
    config_digest: bytes


def certify(document: deployment.Document, stream: deployment.Stream, certificate: wire.Certificate) -> Certified:
    """Raises BadAnswer naming the first thing that does not hold."""
    header = wire.header_from_wire(certificate.header)
    config_digest = document.config_digest(stream, header.sequence)
    if hashing.unhex(certificate.config_digest, size=32, what="configDigest") != config_digest:
        raise errors.BadAnswer(
            "the certificate is for another signer epoch or deployment", value=certificate.config_digest
        )
    domain = statement.Domain(chain_id=stream.chain, config_digest=config_digest)
    digest = statement.header_digest(header, domain)
    _check_header(document, stream, header)
    _check_signatures(document.epoch_at(stream, header.sequence), digest, certificate.signatures)
    return Certified(header, digest, config_digest)


def check(certified: Certified, body: statement.Body) -> Adopted:
    """The certified frame with its body, if the body is what was signed."""
    _check_body(certified.header, body)
    return Adopted(certified.header, certified.digest, certified.config_digest, body)


def _check_header(document: deployment.Document, stream: deployment.Stream, header: statement.Header) -> None:
    expected = {
        "schema": statement.SCHEMA,
        "stream": stream.id(),
        "ruleset": document.ruleset(stream, header.sequence),
        "revision": document.revision(stream, header.sequence),
        "from_position": stream.frame_range(header.sequence)[0],
        "to_position": stream.frame_range(header.sequence)[1],
    }
    for name, value in expected.items():
        found = getattr(header, name)
        if found != value:
            raise errors.BadAnswer(f"the certified header's {name} is not the document's ({value!r})", value=found)


def _check_signatures(epoch: deployment.Epoch, digest: bytes, votes: tuple[wire.Vote, ...]) -> None:
    if len(votes) > deployment.MAX_SIGNERS:
        raise errors.BadAnswer("a certificate has more signatures than a document can have signers", value=len(votes))
    allowed = set(epoch.addresses())
    signed = {signatures.recover(digest, hashing.unhex(vote.signature, size=65, what="signature")) for vote in votes}
    valid = signed & allowed
    if len(valid) < epoch.k:
        raise errors.BadAnswer(
            f"the certificate has {len(valid)} signatures of the document's signers", cure=f"{epoch.k} are needed"
        )


def _check_body(header: statement.Header, body: statement.Body) -> None:
    totals = statement.totals(body.leaves)
    found = (body.root(), len(body.leaves), body.carry_hash(), totals.reward, totals.penalty)
    expected = (header.body_root, header.leaf_count, header.carry, header.total_reward, header.total_penalty)
    for name, want, have in zip(("root", "leaf count", "carry", "reward", "penalty"), expected, found, strict=True):
        if want != have:
            raise errors.BadAnswer(f"the body's {name} is not what was signed", value=have)
