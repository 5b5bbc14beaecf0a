"""Deployment documents for devnets. In: chain, signers, frames. Out: `domain.deployment.Document` values and their TOML.

Appending is the only change that a document allows: `with_epoch`, `with_revision` and `with_receipt_key` return the longer document.
A ruleset hash comes from the product itself (`fleet.Fleet.ruleset`); until it is known it is `NO_RULESET`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import msgspec

from domain import deployment

NO_RULESET = "0x" + 64 * "0"
NATIVE = "0x" + 40 * "0"
STREAM = "devnet-rewards"


def document(
    *,
    chain_id: int,
    genesis: str,
    start: int,
    signers: Sequence[str],
    frame_blocks: int = 10,
    k: int | None = None,
    ruleset: str = NO_RULESET,
    receipt_key: str | None = None,
    finality: str = "tag",
    name: str = "devnet",
    stream: str = STREAM,
) -> deployment.Document:
    """One chain, one stream of everyone's rewards, one epoch. `k` is the least that is allowed, unless given."""
    return deployment.Document(
        name=name,
        chains=(deployment.Chain(id=chain_id, genesis=genesis, finality=finality),),
        streams=(
            deployment.Stream(
                name=stream,
                kind="staking",
                chain=chain_id,
                protocol="devnet",
                deployment=name,
                accounts="all",
                asset=NATIVE,
                start=start,
                frame=f"blocks:{frame_blocks}",
            ),
        ),
        epochs=(_epoch(0, signers, k, {stream: ruleset}, {stream: 0}),),
        receipt_keys=() if receipt_key is None else (deployment.ReceiptKey(address=receipt_key),),
    )


def with_ruleset(old: deployment.Document, ruleset: str, *, stream: str = STREAM) -> deployment.Document:
    """Fills in the ruleset of every epoch: only before anybody has signed."""
    epochs = tuple(msgspec.structs.replace(epoch, rulesets={**epoch.rulesets, stream: ruleset}) for epoch in old.epochs)
    return msgspec.structs.replace(old, epochs=epochs)


def with_epoch(
    old: deployment.Document,
    *,
    signers: Sequence[str],
    from_sequence: int,
    k: int | None = None,
    stream: str = STREAM,
) -> deployment.Document:
    """Another signer set from a frame on; rulesets stay."""
    last = old.epochs[-1]
    epoch = _epoch(last.signer_epoch + 1, signers, k, dict(last.rulesets), {stream: from_sequence})
    return msgspec.structs.replace(old, epochs=(*old.epochs, epoch))


def with_revision(
    old: deployment.Document, *, sequence: int, through: int, reason: str, stream: str = STREAM
) -> deployment.Document:
    """Frames `sequence` to `through` once more, as the next revision."""
    number = 1 + max((r.revision for r in old.revisions if r.stream == stream), default=0)
    revision = deployment.Revision(stream=stream, sequence=sequence, through=through, revision=number, reason=reason)
    return msgspec.structs.replace(old, revisions=(*old.revisions, revision))


def with_receipt_key(old: deployment.Document, address: str, *, first_receipt: int) -> deployment.Document:
    key = deployment.ReceiptKey(address=address, first_receipt=first_receipt)
    return msgspec.structs.replace(old, receipt_keys=(*old.receipt_keys, key))


def text(value: deployment.Document) -> str:
    """The document as TOML."""
    plain = cast("dict[str, object]", msgspec.to_builtins(value))
    lines = ["# What agents, hub and verifier agree on. Only appending is allowed.", f"name = {literal(plain['name'])}"]
    for field in ("chains", "streams", "epochs", "receipt_keys", "revisions", "members"):
        for entry in cast("Sequence[dict[str, object]]", plain[field]):
            lines += ["", f"[[{field}]]", *(f"{key} = {literal(item)}" for key, item in entry.items())]
    return "\n".join(lines) + "\n"


def table(name: str, values: dict[str, object]) -> str:
    """One TOML table; None values are left out."""
    kept = [f"{key} = {literal(value)}" for key, value in values.items() if value is not None]
    return "\n".join([f"[{name}]", *kept]) + "\n"


def literal(value: object) -> str:
    """A TOML value, inline."""
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float():
            return repr(value)
        case str():
            return msgspec.json.encode(value).decode()  # a TOML basic string takes JSON's escapes
        case list() | tuple():
            return "[" + ", ".join(literal(item) for item in cast("Sequence[object]", value)) + "]"
        case dict():
            items = cast("dict[str, object]", value).items()
            return "{" + ", ".join(f"{literal(key)} = {literal(item)}" for key, item in items) + "}"
        case _:
            raise TypeError(f"no TOML for {type(value).__name__}")


def _epoch(
    number: int, signers: Sequence[str], k: int | None, rulesets: dict[str, str], starts: dict[str, int]
) -> deployment.Epoch:
    return deployment.Epoch(
        signer_epoch=number,
        signers=tuple(sorted(signer.lower() for signer in signers)),
        k=deployment.quorum(len(signers)) if k is None else k,
        rulesets=rulesets,
        from_sequence=starts,
    )
