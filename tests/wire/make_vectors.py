"""Write `docs/wire/vectors/`: `python -m tests.wire.make_vectors` (or `--check`, which changes nothing and says what differs).

Everything is made by `domain` and `accounting` with Anvil's public keys and nothing random, so the files never change by themselves. The
typed-data form beside each digest is what EIP-712 libraries take as input.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from domain import chain, deployment, hashing, lease, merkle, statement, wire
from tests.verify import factory
from tests.wire import keys

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "wire" / "vectors"
HEX = hashing.hex0x


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.wire.make_vectors", description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare with the committed files")
    wanted = parser.parse_args(arguments)
    FOLDER.mkdir(parents=True, exist_ok=True)
    stale: list[str] = []
    for name, content in files().items():
        text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
        path = FOLDER / name
        if not path.exists() or path.read_text() != text:
            stale.append(name)
            if not wanted.check:
                path.write_text(text)
    sys.stdout.write(f"{len(stale)} files differ: {', '.join(stale)}\n" if stale else "the vectors are current\n")
    return 1 if wanted.check and stale else 0


def files() -> dict[str, Any]:
    return {
        "canonical.json": canonical(),
        "document.json": documents(),
        "quorum.json": {"vectors": [{"signers": n, "k": deployment.quorum(n)} for n in range(1, 32)]},
        "header.json": headers(),
        "replace.json": replacements(),
        "context.json": contexts(),
        "receipt.json": receipts(),
        "lease.json": leases(),
        "subject.json": subjects(),
        "tree.json": trees(),
        "evidence.json": evidence(),
        "refused.json": refused(),
        "wire.json": messages(),
        "statement.json": factory.example(202, count=3, size=4, most=3),
    }


def canonical() -> dict[str, Any]:
    """RFC 8785: sorting by UTF-16 units (an emoji before U+FB33), escapes, nesting, integers at the edge of doubles."""
    values: list[Any] = [
        {},
        [],
        {"b": 1, "a": [True, False, None, "x"]},
        {
            "\u20ac": "Euro",
            "\r": "CR",
            "\ufb33": "Hebrew",
            "1": "One",
            "\U0001f600": "Smiley",
            "\u0080": "Control",
            "ö": "o",
        },
        {"text": 'quote " backslash \\ slash / tab \t newline \n bell \u0007 del \u007f nul \u0000'},
        {"low": -(2**53), "high": 2**53, "deep": {"c": {"b": {"a": "0"}}}},
    ]
    made = [hashing.canonical_json(value) for value in values]
    return {
        "vectors": [
            {"value": value, "canonical": text.decode(), "keccak256": HEX(hashing.keccak256(text))}
            for value, text in zip(values, made, strict=True)
        ]
    }


def documents() -> dict[str, Any]:
    document = factory.document()
    return {
        "vectors": [
            {
                "document": factory.plain(document),
                "deployment": HEX(document.digest()),
                "streams": {stream.name: HEX(stream.id()) for stream in document.streams},
                "frames": [
                    {
                        "stream": stream.name,
                        "sequence": sequence,
                        "signerEpoch": document.epoch_at(stream, sequence).signer_epoch,
                        "blocks": list(stream.frame_range(sequence)),
                        "configDigest": HEX(document.config_digest(stream, sequence)),
                    }
                    for stream in document.streams
                    for sequence in (0, 1, 2, 1000)
                ],
            }
        ],
        "streamIds": [
            {"text": "staking/31337/devnet/main/all/0x" + "00" * 20, "id": HEX(document.streams[0].id())},
            {"text": "validators/1/ours/0x" + "00" * 20, "id": HEX(_validator_stream().id())},
        ],
        "rulesets": [
            {"ruleset": factory.ruleset(), "digest": HEX(hashing.keccak256(hashing.canonical_json(factory.ruleset())))}
        ],
    }


def _validator_stream() -> deployment.Stream:
    return deployment.Stream(
        name="ours",
        kind="validators",
        chain=1,
        protocol="",
        deployment="",
        accounts="ours",
        asset=HEX(hashing.ZERO_ADDRESS),
        start=0,
        frame="blocks:7200",
    )


_TYPES = {
    text.partition("(")[0]: [
        {"name": name, "type": kind}
        for kind, name in (member.split(" ") for member in text.partition("(")[2].rstrip(")").split(","))
    ]
    for text in (
        statement.HEADER_TYPE,
        statement.REPLACE_TYPE,
        statement.CONTEXT_TYPE,
        statement.RECEIPT_TYPE,
        lease.REQUEST_TYPE,
        lease.GRANT_TYPE,
    )
}


def _typed(domain: statement.Domain, primary: str, message: dict[str, str], digest: bytes) -> dict[str, Any]:
    """What an EIP-712 library takes, what it must answer, and two signatures over it."""
    return {
        "typedData": {
            "domain": {
                "name": domain.name,
                "version": "1",
                "chainId": str(domain.chain_id),
                "verifyingContract": HEX(domain.verifying_contract),
                "salt": HEX(domain.config_digest),
            },
            "primaryType": primary,
            "types": {primary: _TYPES[primary]},
            "message": message,
        },
        "separator": HEX(domain.separator()),
        "digest": HEX(digest),
        "signatures": [
            {"signer": keys.address_text(key), "signature": HEX(keys.sign(key, digest))} for key in keys.KEYS[:2]
        ],
    }


def _domain(chain_id: int = factory.CHAIN, *, sequence: int = 0) -> statement.Domain:
    document = factory.document(size=4)
    return statement.Domain(chain_id, document.config_digest(document.streams[0], sequence))


def _headers() -> list[statement.Header]:
    most = statement.Header(
        schema=(1 << 16) - 1,
        ruleset=b"\xff" * 32,
        stream=hashing.keccak256(b"stream"),
        sequence=(1 << 64) - 1,
        revision=(1 << 32) - 1,
        from_position=(1 << 64) - 2,
        from_anchor=hashing.keccak256(b"from"),
        to_position=(1 << 64) - 1,
        to_anchor=hashing.keccak256(b"to"),
        to_time=(1 << 64) - 1,
        state_root=hashing.keccak256(b"state"),
        evidence=hashing.keccak256(b"evidence"),
        previous=hashing.keccak256(b"previous"),
        supersedes=hashing.keccak256(b"supersedes"),
        body_root=hashing.keccak256(b"body"),
        leaf_count=(1 << 64) - 1,
        carry=hashing.keccak256(b"carry"),
        total_reward=hashing.UINT256_MAX,
        total_penalty=hashing.UINT256_MAX,
    )
    example = factory.example(202, count=3, size=4, most=3)
    last = wire.decode(json.dumps(example["certificate"]), wire.Certificate, what="certificate")
    return [most, wire.header_from_wire(last.header)]


def headers() -> dict[str, Any]:
    found: list[dict[str, Any]] = []
    for header in _headers():
        for domain in (_domain(), _domain(1)):
            message = factory.plain(wire.header_to_wire(header))
            found.append(_typed(domain, "Statement", message, statement.header_digest(header, domain)))
    return {"vectors": found}


def replacements() -> dict[str, Any]:
    replace = statement.Replace(
        hashing.keccak256(b"stream"), 7, 1, hashing.keccak256(b"old"), hashing.keccak256(b"new"), 2
    )
    domain = _domain()
    message = factory.plain(wire.replace_to_wire(replace))
    return {"vectors": [_typed(domain, "Replace", message, statement.replace_digest(replace, domain))]}


def contexts() -> dict[str, Any]:
    found: list[dict[str, Any]] = []
    for text in (
        "",
        '{"agent":"a","software":"stakeside 0.1.0"}',
        'Ünïcode, "quotes" and \u0000 stay as they were sent',
    ):
        digest = hashing.keccak256(b"statement")
        message = {"statement": HEX(digest), "contextHash": HEX(hashing.keccak256(text.encode()))}
        typed = _typed(_domain(), "Context", message, statement.context_digest(digest, text.encode(), _domain()))
        found.append({"context": text, **typed})
    return {"vectors": found}


def receipts() -> dict[str, Any]:
    document = factory.document()
    domain = statement.hub_domain(chain_id=factory.CHAIN, deployment=document.digest())
    found: list[dict[str, Any]] = []
    previous = hashing.ZERO32
    for number in (1, 2, 3):
        receipt = statement.Receipt(
            hashing.keccak256(b"statement" + hashing.word(number)), keys.address(keys.KEYS[0]), number, previous
        )
        previous = statement.receipt_digest(receipt, domain)
        typed = _typed(domain, "Receipt", factory.plain(wire.receipt_to_wire(receipt)), previous)
        typed["signatures"] = [{"signer": keys.address_text(keys.HUB), "signature": HEX(keys.sign(keys.HUB, previous))}]
        found.append(typed)
    return {"about": "three receipts of one attester, each naming the digest of the one before", "vectors": found}


def leases() -> dict[str, Any]:
    """Each action's request, signed by the account, and the hub's grant, which names the request's digest."""
    deployment_id, account = factory.document().digest(), keys.KEYS[0]
    domain = lease.domain_of(chain_id=factory.CHAIN, deployment=deployment_id)
    holder = lease.holder_of("agent-1", random=bytes(range(24)))
    found: list[dict[str, Any]] = []
    for number, action in enumerate(lease.ACTIONS):
        request = lease.Request(
            action=action,
            chain_id=factory.CHAIN,
            account=keys.address(account),
            holder=holder,
            ttl_s=60,
            issued_at_s=1_700_000_000 + 20 * number,
            last_token=7 if number else 0,
        )
        digest = lease.request_digest(request, deployment=deployment_id)
        signature = keys.sign(account, digest)
        sent = lease.request_to_wire(request, deployment=deployment_id, signature=signature)
        asked = {**factory.plain(sent)["lease"], "chainId": str(factory.CHAIN)}
        typed = _typed(domain, "LeaseRequest", asked, digest)
        typed["signatures"] = [{"signer": keys.address_text(account), "signature": HEX(signature)}]
        grant = lease.Grant(digest, request.account, holder, 7, 0 if action == "release" else 60)
        granted = lease.grant_digest(grant, chain_id=factory.CHAIN, deployment=deployment_id)
        word = keys.sign(keys.HUB, granted)
        told = lease.grant_to_wire(grant, chain_id=factory.CHAIN, deployment=deployment_id, signature=word)
        answer = _typed(domain, "LeaseGrant", factory.plain(told)["grant"], granted)
        answer["signatures"] = [{"signer": keys.address_text(keys.HUB), "signature": HEX(word)}]
        found += [{**typed, "sent": factory.plain(sent)}, {**answer, "sent": factory.plain(told)}]
    return {"about": "requests for a lease, each followed by the hub's grant", "vectors": found}


def _parts() -> list[tuple[str, ...]]:
    validator, delegator = hashing.word(0xA1), hashing.word(0xD1)
    return [
        statement.delegation_parts(protocol="devnet", validator=validator, delegator=delegator),
        statement.delegation_parts(
            protocol="a protocol whose name is longer than one word", validator=validator, delegator=delegator
        ),
        statement.delegation_parts(protocol="", validator=hashing.ZERO32, delegator=b"\xff" * 32),
        statement.operator_parts(protocol="devnet", validator=validator),
        ("validator", HEX(bytes(range(48)))),
    ]


def subjects() -> dict[str, Any]:
    return {"vectors": [{"parts": list(parts), "subject": HEX(statement.subject_hash(parts))} for parts in _parts()]}


def _leaves(count: int) -> list[statement.Leaf]:
    kinds = sorted(statement.KIND_NAMES)
    found: list[statement.Leaf] = []
    for index in range(count):
        parts = statement.delegation_parts(
            protocol="devnet", validator=hashing.word(index % 3), delegator=hashing.word(index)
        )
        amount = hashing.UINT256_MAX if index == 0 else index * 10**17 + 1
        kind = kinds[index % len(kinds)]
        reward, penalty = (0, amount) if kind == statement.SLASHED else (amount, index % 2)
        found.append(statement.Leaf(statement.subject_hash(parts), hashing.ZERO_ADDRESS, kind, reward, penalty, parts))
    return sorted(found)


def trees() -> dict[str, Any]:
    found: list[dict[str, Any]] = []
    for count in (0, 1, 2, 3, 7, 16, 33):
        leaves = _leaves(count)
        hashes = [leaf.hash() for leaf in leaves]
        nodes = merkle.tree(hashes)
        totals = statement.totals(leaves)
        found.append(
            {
                "root": HEX(nodes[0]),
                "totalReward": str(totals.reward),
                "totalPenalty": str(totals.penalty),
                "leaves": [
                    {
                        **factory.plain(wire.leaf_to_wire(leaf)),
                        "hash": HEX(digest),
                        "proof": [HEX(node) for node in merkle.proof(nodes, digest)],
                    }
                    for leaf, digest in zip(leaves, hashes, strict=True)
                ],
            }
        )
    return {"vectors": found}


def evidence() -> dict[str, Any]:
    logs = [
        chain.Log(chain.BlockRef(9, hashing.keccak256(b"9")), 0, bytes(32), 0, factory.STAKING, (), b""),
        chain.Log(
            chain.BlockRef(9, hashing.keccak256(b"9")), 4, bytes(32), 0, factory.STAKING, (hashing.word(1),), b"\1\2\3"
        ),
        chain.Log(
            chain.BlockRef(2**63, hashing.keccak256(b"far")),
            2**32,
            bytes(32),
            0,
            b"\xff" * 20,
            tuple(hashing.word(n) for n in range(4)),
            bytes(range(100)),
        ),
    ]
    steps: list[dict[str, Any]] = []
    digest = hashing.ZERO32
    for log in logs:
        digest = statement.fold_evidence(digest, log)
        steps.append({"log": factory.log_json(log, 0), "evidence": HEX(digest)})
    return {"about": "the fold after each log, from 32 zero bytes; times do not enter it", "vectors": steps}


def refused() -> dict[str, Any]:
    """Signatures over one digest that no reader may accept, and the one that it may."""
    key, digest = keys.KEYS[0], hashing.keccak256(b"statement")
    good = keys.sign(key, digest)
    order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
    high = good[:32] + hashing.word(order - int.from_bytes(good[32:64], "big")) + bytes([55 - good[64]])
    bad = {
        "high s": high,
        "v 0 or 1": good[:64] + bytes([good[64] - 27]),
        "v 29": good[:64] + b"\x1d",
        "s zero": good[:32] + bytes(32) + good[64:],
        "r zero": bytes(32) + good[32:],
        "r is the order": hashing.word(order) + good[32:],
        "r is no point": hashing.word(5) + good[32:],
    }
    return {
        "digest": HEX(digest),
        "signer": keys.address_text(key),
        "accepted": HEX(good),
        "vectors": [{"why": why, "signature": HEX(signature)} for why, signature in bad.items()],
    }


def messages() -> dict[str, Any]:
    """One of each message that crosses the wire, signed; the deployment is that of `statement.json`."""
    header = _headers()[1]
    document, domain = factory.document(size=4), _domain(sequence=header.sequence)
    key, context = keys.KEYS[0], '{"agent":"a","software":"stakeside 0.1.0"}'
    digest = statement.header_digest(header, domain)
    replace = statement.Replace(header.stream, header.sequence, 0, digest, hashing.keccak256(b"new"), 1)
    receipt = statement.Receipt(digest, keys.address(key), 1, hashing.ZERO32)
    hub = statement.hub_domain(chain_id=factory.CHAIN, deployment=document.digest())
    signed_receipt = wire.SignedReceipt(
        str(factory.CHAIN),
        HEX(document.digest()),
        wire.receipt_to_wire(receipt),
        HEX(keys.sign(keys.HUB, statement.receipt_digest(receipt, hub))),
    )
    attestation = wire.Attestation(
        config_digest=HEX(domain.config_digest),
        chain_id=str(domain.chain_id),
        header=wire.header_to_wire(header),
        signer=keys.address_text(key),
        signature=HEX(keys.sign(key, digest)),
        context=context,
        context_signature=HEX(keys.sign(key, statement.context_digest(digest, context.encode(), domain))),
    )
    replacement = wire.Replacement(
        config_digest=HEX(domain.config_digest),
        chain_id=str(domain.chain_id),
        replace=wire.replace_to_wire(replace),
        signer=keys.address_text(key),
        signature=HEX(keys.sign(key, statement.replace_digest(replace, domain))),
    )
    return {
        "attestation": factory.plain(attestation),
        "replacement": factory.plain(replacement),
        "accepted": factory.plain(wire.Accepted(signed_receipt, (HEX(header.body_root),))),
        "bodyChunk": factory.plain(wire.chunk_body(_leaves(3), b"{}", header)[0]),
        "problem": factory.plain(
            wire.Problem("conflict", 409, "another digest holds this slot", "header", HEX(hashing.keccak256(b"other")))
        ),
    }


if __name__ == "__main__":
    sys.exit(main())
