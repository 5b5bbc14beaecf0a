"""Export: one statement as the file people exchange. In: the book and the hub. Out: `statement.json` (`docs/wire/statement.md`).

Everything an outsider needs to check a number is in the file: document, ruleset, header, signatures, body, the frame before it, receipts
and this frame's logs. The producer's own certificate stands in when no hub is configured; a verifier then says how many signatures lack.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from agent.reporting.sinks import http
from domain import deployment, errors, hashing, statement, wire
from store import book, logs, receipts, statements, votes

FORMAT = "stakeside-statement/1"


async def build(
    the_book: book.Book,
    document: deployment.Document,
    stream: deployment.Stream,
    *,
    protocol: str,
    rulesets: Mapping[bytes, Mapping[str, object]],
    sequence: int,
    hub: http.HubClient | None,
) -> bytes:
    """The file's bytes. Raises BadConfig when the book has no such frame."""
    async with the_book.read() as c:
        stored = await _current(c, document, stream, sequence)
        before = None if sequence == 0 else await _current(c, document, stream, sequence - 1)
        rows = await logs.between(
            c, protocol=protocol, first=stored.header.from_position, last=stored.header.to_position
        )
        kept = await receipts.for_digest(c, stored.digest)
        own = await votes.by_digest(c, stored.digest)
        own_before = None if before is None else await votes.by_digest(c, before.digest)
    previous = None
    if before is not None:
        previous = {
            "certificate": msgspec.to_builtins(await _certificate(hub, stream, before, own_before)),
            "body": msgspec.to_builtins(wire.body_to_wire(before.body)),
        }
    content = {
        "format": FORMAT,
        "document": msgspec.to_builtins(document),
        "rulesets": {hashing.hex0x(digest): ruleset for digest, ruleset in rulesets.items()},
        "certificate": msgspec.to_builtins(await _certificate(hub, stream, stored, own)),
        "body": msgspec.to_builtins(wire.body_to_wire(stored.body)),
        "previous": previous,
        "receipts": [msgspec.to_builtins(_receipt(document, stream, item)) for item in kept],
        "logs": [_log(row) for row in rows],
    }
    return msgspec.json.format(msgspec.json.encode(content), indent=1)


async def _current(
    c: book.Connection, document: deployment.Document, stream: deployment.Stream, sequence: int
) -> statements.Stored:
    found = await statements.current(c, stream.id(), sequence, document.revision(stream, sequence))
    if found is None:
        raise errors.BadConfig(
            f"the book has no frame {sequence} of stream {stream.name}",
            cure="see `stakeside agent status` for the frames there are",
        )
    return found


async def _certificate(
    hub: http.HubClient | None, stream: deployment.Stream, stored: statements.Stored, own: votes.Attested | None
) -> wire.Certificate:
    if hub is not None:
        try:
            return await hub.certificate(stored.digest)
        except http.Refused as error:
            raise errors.BadConfig(
                f"the hub has no certificate for frame {stored.sequence}", cure="choose a sealed frame, or wait"
            ) from error
    cast = [] if own is None else [wire.decode(own.payload, wire.Attestation, what="own vote")]
    return wire.Certificate(
        config_digest=hashing.hex0x(stored.config_digest),
        chain_id=str(stream.chain),
        digest=hashing.hex0x(stored.digest),
        header=wire.header_to_wire(stored.header),
        signatures=tuple(wire.Vote(signer=vote.signer, signature=vote.signature) for vote in cast),
    )


def _receipt(document: deployment.Document, stream: deployment.Stream, item: receipts.Received) -> wire.SignedReceipt:
    receipt = statement.Receipt(item.digest, item.attester, item.number, item.previous)
    return wire.SignedReceipt(
        chain_id=str(stream.chain),
        deployment=hashing.hex0x(document.digest()),
        receipt=wire.receipt_to_wire(receipt),
        signature=hashing.hex0x(item.signature),
    )


def _log(row: logs.Indexed) -> dict[str, object]:
    return {
        "number": str(row.log.block.number),
        "hash": hashing.hex0x(row.log.block.hash),
        "time": str(row.time),
        "logIndex": str(row.log.log_index),
        "txHash": hashing.hex0x(row.log.tx_hash),
        "address": hashing.hex0x(row.log.address),
        "topics": [hashing.hex0x(topic) for topic in row.log.topics],
        "data": hashing.hex0x(row.log.data),
    }
