"""Envelopes: what is signed, and the JSON that carries it. In: statements and signatures. Out: wire bytes and outbox ids.

A vote is a signature over the statement's digest; its context is signed apart and never counted (`docs/wire/statement.md`).
"""

from __future__ import annotations

import msgspec

from domain import hashing, statement, wire

MAX_CONTEXT_BYTES = 4096


class Context(msgspec.Struct, frozen=True):
    """What this agent saw, beside what everybody signs. `observed_at` is in seconds."""

    agent: str
    software: str
    node: str
    proof: str
    observed_at: int

    def encode(self) -> bytes:
        """The exact bytes that are signed and sent, at most 4 KiB: long names are cut, not refused."""
        cut = msgspec.structs.replace(self, agent=self.agent[:128], node=self.node[:256])
        return msgspec.json.encode(cut)


class Signed(msgspec.Struct, frozen=True):
    """One item for the outbox. `id` is the digest the hub's receipt must name."""

    id: bytes
    kind: str
    payload: bytes


def attestation(
    header: statement.Header,
    domain: statement.Domain,
    *,
    signer: bytes,
    signature: bytes,
    context: bytes,
    context_signature: bytes,
) -> Signed:
    payload = wire.Attestation(
        config_digest=hashing.hex0x(domain.config_digest),
        chain_id=str(domain.chain_id),
        header=wire.header_to_wire(header),
        signer=hashing.hex0x(signer),
        signature=hashing.hex0x(signature),
        context=context.decode(),
        context_signature=hashing.hex0x(context_signature),
    )
    return Signed(statement.header_digest(header, domain), "attestation", wire.encode(payload))


def replacement(replace: statement.Replace, domain: statement.Domain, *, signer: bytes, signature: bytes) -> Signed:
    payload = wire.Replacement(
        config_digest=hashing.hex0x(domain.config_digest),
        chain_id=str(domain.chain_id),
        replace=wire.replace_to_wire(replace),
        signer=hashing.hex0x(signer),
        signature=hashing.hex0x(signature),
    )
    return Signed(statement.replace_digest(replace, domain), "replacement", wire.encode(payload))
