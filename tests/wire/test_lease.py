"""Leases on the wire: golden requests and grants, by us and by another library."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from domain import errors, hashing, lease, signatures, wire

VECTORS: list[dict[str, Any]] = json.loads(
    (Path(__file__).resolve().parents[2] / "docs" / "wire" / "vectors" / "lease.json").read_text()
)["vectors"]
REQUESTS, GRANTS = VECTORS[::2], VECTORS[1::2]


def salt(vector: dict[str, Any]) -> bytes:
    return hashing.unhex(vector["typedData"]["domain"]["salt"], size=32)


def request(vector: dict[str, Any], **changes: str) -> lease.Request:
    sent = {**vector["sent"], "lease": {**vector["sent"]["lease"], **changes}}
    return lease.request_from_wire(wire.decode(json.dumps(sent), lease.SignedRequest, what="request"))


@pytest.mark.parametrize("vector", REQUESTS, ids=lambda v: v["sent"]["lease"]["action"])
def test_a_request_hashes_and_recovers_to_its_account(vector: dict[str, Any]) -> None:
    digest = lease.request_digest(request(vector), deployment=salt(vector))
    assert hashing.hex0x(digest) == vector["digest"]
    signature = hashing.unhex(vector["sent"]["signature"], size=65)
    assert hashing.hex0x(signatures.recover(digest, signature)) == vector["sent"]["lease"]["account"]


@pytest.mark.parametrize(("asked", "vector"), list(zip(REQUESTS, GRANTS, strict=True)))
def test_a_grant_names_its_request_and_recovers_to_the_hub(asked: dict[str, Any], vector: dict[str, Any]) -> None:
    signed = wire.decode(json.dumps(vector["sent"]), lease.SignedGrant, what="grant")
    grant = lease.grant_from_wire(signed)
    assert hashing.hex0x(grant.request) == asked["digest"]
    digest = lease.grant_digest(grant, chain_id=int(signed.chain_id), deployment=salt(vector))
    assert hashing.hex0x(digest) == vector["digest"]
    signer = signatures.recover(digest, hashing.unhex(signed.signature, size=65))
    assert hashing.hex0x(signer) == vector["signatures"][0]["signer"]


@pytest.mark.parametrize("vector", VECTORS, ids=lambda v: v["typedData"]["primaryType"])
def test_another_library_recovers_the_same_signer(vector: dict[str, Any]) -> None:
    from eth_account import Account
    from eth_account.messages import encode_typed_data

    typed = vector["typedData"]
    numbers = {field["name"] for field in typed["types"][typed["primaryType"]] if field["type"].startswith("uint")}
    message = {name: int(text) if name in numbers else text for name, text in typed["message"].items()}
    domain = {**typed["domain"], "chainId": int(typed["domain"]["chainId"]), "salt": salt(vector)}
    encoded = encode_typed_data(domain_data=domain, message_types=typed["types"], message_data=message)
    for one in vector["signatures"]:
        assert Account.recover_message(encoded, signature=one["signature"]).lower() == one["signer"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("action", "steal"),
        ("account", "0x" + "AB" * 20),
        ("holder", "0x11"),
        ("ttl", "1"),
        ("ttl", "3601"),
        ("ttl", "060"),
        ("issuedAt", "-1"),
        ("lastToken", str(lease.MAX_TOKEN)),
    ],
)
def test_a_request_out_of_bounds_is_refused_by_its_field(name: str, value: str) -> None:
    with pytest.raises(errors.BadAnswer, match=rf"lease\.{name}"):
        request(REQUESTS[0], **{name: value})


def test_every_field_is_under_the_signature() -> None:
    base, other = request(REQUESTS[0]), lease.Request("renew", 1, bytes(20), bytes(32), 61, 1, 1)
    deployment = salt(REQUESTS[0])
    digests = {lease.request_digest(base, deployment=deployment), lease.request_digest(base, deployment=bytes(32))}
    for name in base.__struct_fields__:
        changed = lease.Request(**{f: getattr(other if f == name else base, f) for f in base.__struct_fields__})
        digests.add(lease.request_digest(changed, deployment=deployment))
    assert len(digests) == 2 + len(base.__struct_fields__)
