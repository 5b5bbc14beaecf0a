"""The page says what the code does: kinds, types, files and commands."""

from __future__ import annotations

import json
import re
from pathlib import Path

import msgspec
import pytest

from domain import deployment, errors, lease, statement, wire
from earnings import quorum
from verify import contents, digests

WIRE = Path(__file__).resolve().parents[2] / "docs" / "wire"
PAGE = (WIRE / "statement.md").read_text()


def test_the_kinds_of_the_page_are_those_of_both_implementations_and_the_schema() -> None:
    table = PAGE.split("### Kinds")[1].split("###")[0]
    rows = {
        int(n): (name, counted)
        for n, name, counted in re.findall(r"^\| (\d+) \| ([a-z ]+) \| (yes|no) \|", table, re.M)
    }
    assert {n: name for n, (name, _) in rows.items()} == statement.KIND_NAMES == digests.KINDS
    for kind, (_, counted) in rows.items():
        leaf = statement.Leaf(bytes(32), bytes(20), kind, 5, 7)
        mine = digests.Leaf(bytes(32), bytes(20), kind, 5, 7, ())
        expected = (5, 7) if counted == "yes" else (0, 0)
        totals = statement.totals([leaf])
        assert (totals.reward, totals.penalty) == expected == digests.totals([mine])
    types = json.loads((WIRE / "types.schema.json").read_text())
    assert types["$defs"]["leaf"]["properties"]["kind"]["enum"] == sorted(rows)


def test_the_types_of_the_page_are_those_that_are_signed() -> None:
    flat = re.sub(r"\s+", "", PAGE)
    for ours, theirs in (
        (statement.HEADER_TYPE, digests.HEADER_TYPE),
        (statement.REPLACE_TYPE, digests.REPLACE_TYPE),
        (statement.CONTEXT_TYPE, digests.CONTEXT_TYPE),
        (statement.RECEIPT_TYPE, digests.RECEIPT_TYPE),
    ):
        assert ours == theirs
        assert re.sub(r"\s+", "", ours) in flat


def test_every_schema_and_vector_that_the_page_names_is_there_and_the_other_way_round() -> None:
    named = set(re.findall(r"[a-z-]+\.schema\.json", PAGE)) | {"types.schema.json"}
    assert {path.name for path in WIRE.glob("*.schema.json")} - named == set()
    for name in re.findall(r"vectors: `([a-z]+\.json)`", PAGE):
        assert (WIRE / "vectors" / name).exists(), name


def test_the_schemas_have_the_fields_of_the_wire() -> None:
    types = json.loads((WIRE / "types.schema.json").read_text())["$defs"]
    assert list(types["header"]["properties"]) == _fields(wire.HeaderWire)
    assert list(types["leaf"]["properties"]) == _fields(wire.LeafWire)
    for name, type_ in (
        ("attestation", wire.Attestation),
        ("replacement", wire.Replacement),
        ("receipt", wire.SignedReceipt),
        ("accepted", wire.Accepted),
        ("body", wire.BodyWire),
        ("body-chunk", wire.BodyChunk),
        ("certificate", wire.Certificate),
        ("problem", wire.Problem),
        ("lease-request", lease.SignedRequest),
        ("lease-grant", lease.SignedGrant),
    ):
        schema = json.loads((WIRE / f"{name}.schema.json").read_text())
        assert list(schema["properties"]) == _fields(type_), name


def test_the_defaults_and_bounds_of_the_page_are_those_of_the_code() -> None:
    assert (deployment.Chain(1, "").finality, deployment.ReceiptKey("").first_receipt) == ("tag", 1)
    assert deployment.Revision("", 0, 0, 1).reason == ""
    assert '(`finality`\n"tag", `first_receipt` 1, `reason` "", empty lists)' in PAGE
    assert f"fit {wire.RECEIPT_NUMBER_BITS} bits" in PAGE
    bound = (1 << wire.RECEIPT_NUMBER_BITS) - 1
    receipt = json.loads((WIRE / "vectors" / "receipt.json").read_text())["vectors"][0]["typedData"]["message"]
    fits = wire.ReceiptWire(
        **{
            "digest": receipt["digest"],
            "attester": receipt["attester"].lower(),
            "receipt_number": str(bound),
            "previous_receipt": receipt["previousReceipt"],
        }
    )
    assert wire.receipt_from_wire(fits).receipt_number == bound
    with pytest.raises(errors.BadAnswer):
        wire.receipt_from_wire(msgspec.structs.replace(fits, receipt_number=str(bound + 1)))


def test_what_the_page_says_of_a_sealed_frame_is_what_the_hub_does() -> None:
    """Equivocation after sealing, refusal to withdraw what is sealed, and the way back to it."""
    sealed, other = bytes([1] * 32), bytes([2] * 32)
    frame = quorum.Frame({b"signer": quorum.Slot(attested=(sealed,))}, sealed)
    second = quorum.attest(frame, b"signer", other)
    assert isinstance(second, quorum.Taken) and second.conflict == (sealed, other)
    assert quorum.replace(frame, b"signer", quorum.Ballot(sealed, other, 1, bytes(32))) == quorum.Frozen(sealed)
    back = quorum.replace(frame.put(b"signer", second.slot, {}), b"signer", quorum.Ballot(other, sealed, 1, bytes(32)))
    assert isinstance(back, quorum.Taken) and back.conflict is None and back.joins


def _fields(type_: type[msgspec.Struct]) -> list[str]:
    return [contents.camel(name) for name in type_.__struct_fields__]


def test_the_lease_page_has_the_types_that_are_signed_and_the_bounds_of_the_code() -> None:
    page = (WIRE / "lease.md").read_text()
    flat = re.sub(r"\s+", "", page)
    for text in (lease.REQUEST_TYPE, lease.GRANT_TYPE):
        assert re.sub(r"\s+", "", text) in flat
    assert f"{lease.MIN_TTL_S} to {lease.MAX_TTL_S:,} seconds" in page and f"{lease.SKEW_S} seconds" in page
    for name, inner, type_ in (
        ("lease-request", "lease", lease.RequestWire),
        ("lease-grant", "grant", lease.GrantWire),
    ):
        schema = json.loads((WIRE / f"{name}.schema.json").read_text())
        assert list(schema["properties"][inner]["properties"]) == _fields(type_)
