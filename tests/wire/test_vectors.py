"""The golden vectors, by both implementations: what makes statements (`domain`) and what checks them (`verify`)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import verify
from domain import deployment, errors, hashing, merkle, signatures, statement, wire
from tests.wire import make_vectors
from verify import contents, digests, primitives
from verify import document as verified_document
from verify.report import Unusable
from verify.strict import Node

VECTORS = Path(__file__).resolve().parents[2] / "docs" / "wire" / "vectors"


def load(name: str) -> dict[str, Any]:
    return json.loads((VECTORS / f"{name}.json").read_text())


def node(value: Any) -> Node:
    return Node(value, "vector")


def domain_of(typed: dict[str, Any]) -> tuple[int, bytes]:
    return int(typed["domain"]["chainId"]), hashing.unhex(typed["domain"]["salt"])


def test_committed_vectors_are_what_the_script_makes() -> None:
    assert make_vectors.main(["--check"]) == 0, "run `python -m tests.wire.make_vectors` and say why the wire changed"


@pytest.mark.parametrize("vector", load("canonical")["vectors"])
def test_both_write_the_same_canonical_json(vector: dict[str, Any]) -> None:
    expected = vector["canonical"].encode()
    assert hashing.canonical_json(vector["value"]) == expected == primitives.canonical(vector["value"])
    assert hashing.hex0x(primitives.keccak(expected)) == vector["keccak256"]


def test_both_yield_deployment_stream_ids_and_config_digests() -> None:
    for vector in load("document")["vectors"]:
        ours = wire.decode(json.dumps(vector["document"]), deployment.Document, what="document")
        theirs = verified_document.read(node(vector["document"]))
        assert hashing.hex0x(ours.digest()) == vector["deployment"] == hashing.hex0x(theirs.deployment)
        for mine, other in zip(ours.streams, theirs.streams, strict=True):
            assert hashing.hex0x(mine.id()) == vector["streams"][mine.name] == hashing.hex0x(other.id)
        for frame in vector["frames"]:
            mine = ours.stream(frame["stream"])
            other = next(s for s in theirs.streams if s.name == frame["stream"])
            expected = hashing.unhex(frame["configDigest"])
            assert ours.config_digest(mine, frame["sequence"]) == expected
            assert theirs.config_digest(other, frame["sequence"]) == expected
            assert list(mine.frame_range(frame["sequence"])) == frame["blocks"] == list(other.span(frame["sequence"]))


def test_both_name_streams_by_the_hash_of_their_text() -> None:
    for vector in load("document")["streamIds"]:
        kind, chain_id, *middle, asset = vector["text"].split("/")
        protocol, name, accounts = middle if kind == "staking" else ("", "", *middle)
        stream = deployment.Stream("s", kind, int(chain_id), protocol, name, accounts, asset, 0, "blocks:1")
        assert hashing.hex0x(stream.id()) == vector["id"]
        assert hashing.hex0x(digests.stream_id(kind, int(chain_id), protocol, name, accounts, asset)) == vector["id"]


def test_both_know_the_least_quorum() -> None:
    for vector in load("quorum")["vectors"]:
        assert deployment.quorum(vector["signers"]) == vector["k"] == verified_document.quorum(vector["signers"])


def test_both_hash_headers_alike() -> None:
    for vector in load("header")["vectors"]:
        chain_id, config = domain_of(vector["typedData"])
        parsed = wire.decode(json.dumps(vector["typedData"]["message"]), wire.HeaderWire, what="header")
        ours = statement.header_digest(wire.header_from_wire(parsed), statement.Domain(chain_id, config))
        certificate = {
            "configDigest": hashing.hex0x(config),
            "chainId": str(chain_id),
            "digest": vector["digest"],
            "header": vector["typedData"]["message"],
            "signatures": vector["signatures"],
        }
        header = contents.certificate(node(certificate)).header
        theirs = digests.header_digest(header, chain_id=chain_id, config_digest=config)
        assert hashing.hex0x(ours) == vector["digest"] == hashing.hex0x(theirs)
        _signed(vector)


def test_both_hash_replacements_alike() -> None:
    for vector in load("replace")["vectors"]:
        chain_id, config = domain_of(vector["typedData"])
        message = vector["typedData"]["message"]
        ours = wire.replace_from_wire(wire.decode(json.dumps(message), wire.ReplaceWire, what="replace"))
        assert hashing.hex0x(statement.replace_digest(ours, statement.Domain(chain_id, config))) == vector["digest"]
        values = (
            hashing.unhex(message["stream"]),
            int(message["sequence"]),
            int(message["revision"]),
            hashing.unhex(message["withdrawn"]),
            hashing.unhex(message["replacement"]),
            int(message["ballot"]),
        )
        theirs = digests.replace_digest(*values, chain_id=chain_id, config_digest=config)
        assert hashing.hex0x(theirs) == vector["digest"]
        _signed(vector)


def test_both_hash_contexts_alike() -> None:
    for vector in load("context")["vectors"]:
        chain_id, config = domain_of(vector["typedData"])
        signed, text = hashing.unhex(vector["typedData"]["message"]["statement"]), vector["context"].encode()
        ours = statement.context_digest(signed, text, statement.Domain(chain_id, config))
        theirs = digests.context_digest(signed, text, chain_id=chain_id, config_digest=config)
        assert hashing.hex0x(ours) == vector["digest"] == hashing.hex0x(theirs)
        _signed(vector)


def test_both_hash_receipts_alike_and_the_chain_holds() -> None:
    previous = hashing.ZERO32
    for vector in load("receipt")["vectors"]:
        chain_id, salt = domain_of(vector["typedData"])
        parsed = wire.decode(json.dumps(vector["typedData"]["message"]), wire.ReceiptWire, what="receipt")
        receipt = wire.receipt_from_wire(parsed)
        assert receipt.previous_receipt == previous
        ours = statement.receipt_digest(receipt, statement.hub_domain(chain_id=chain_id, deployment=salt))
        values = (receipt.digest, receipt.attester, receipt.receipt_number, receipt.previous_receipt)
        theirs = digests.receipt_digest(*values, chain_id=chain_id, deployment=salt)
        assert hashing.hex0x(ours) == vector["digest"] == hashing.hex0x(theirs)
        previous = ours
        _signed(vector)


def _signed(vector: dict[str, Any]) -> None:
    digest = hashing.unhex(vector["digest"])
    for one in vector["signatures"]:
        signature = hashing.unhex(one["signature"], size=65)
        assert hashing.hex0x(signatures.recover(digest, signature)) == one["signer"]
        assert hashing.hex0x(primitives.recover(digest, signature)) == one["signer"]


def test_both_refuse_the_same_signatures() -> None:
    vectors = load("refused")
    digest, signer = hashing.unhex(vectors["digest"]), hashing.unhex(vectors["signer"])
    good = hashing.unhex(vectors["accepted"])
    assert signatures.recover(digest, good) == signer == primitives.recover(digest, good)
    for vector in vectors["vectors"]:
        bad = hashing.unhex(vector["signature"])
        with pytest.raises(errors.BadAnswer):
            signatures.recover(digest, bad)
        with pytest.raises(primitives.SignatureError):
            primitives.recover(digest, bad)


def test_both_hash_subjects_alike() -> None:
    for vector in load("subject")["vectors"]:
        expected = hashing.unhex(vector["subject"])
        assert statement.subject_hash(tuple(vector["parts"])) == expected == digests.subject(vector["parts"])


def test_both_build_the_same_trees() -> None:
    for vector in load("tree")["vectors"]:
        root = hashing.unhex(vector["root"])
        ours = [
            wire.leaf_from_wire(wire.decode(json.dumps(_plain(leaf)), wire.LeafWire, what="leaf"))
            for leaf in vector["leaves"]
        ]
        theirs = contents.body(node({"leaves": [_plain(leaf) for leaf in vector["leaves"]], "carry": ""})).leaves
        assert merkle.root([leaf.hash() for leaf in ours]) == root
        assert digests.merkle_root(leaf.hash() for leaf in theirs) == root
        totals = statement.totals(ours)
        assert (totals.reward, totals.penalty) == digests.totals(theirs)
        assert (str(totals.reward), str(totals.penalty)) == (vector["totalReward"], vector["totalPenalty"])
        for leaf, other, told in zip(ours, theirs, vector["leaves"], strict=True):
            assert leaf.hash() == other.hash() == hashing.unhex(told["hash"])
            assert merkle.verify(root, leaf.hash(), [hashing.unhex(step) for step in told["proof"]])


def _plain(leaf: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in leaf.items() if name not in ("hash", "proof")}


def test_an_inner_node_never_passes_for_a_leaf() -> None:
    hashes = [hashing.keccak256(bytes([n])) for n in range(4)]
    nodes = merkle.tree(hashes)
    inner = nodes[1]
    assert merkle.verify(nodes[0], inner, [nodes[2]])  # as a node it is in the tree …
    forged = min(nodes[3], nodes[4]) + max(nodes[3], nodes[4])
    assert merkle.leaf_hash(forged) != inner  # … but no 64-byte content hashes to it as a leaf


def test_both_fold_evidence_alike() -> None:
    digest = hashing.ZERO32
    for vector in load("evidence")["vectors"]:
        log = contents.log(node(vector["log"]))
        digest = digests.fold(digest, number=log.number, block=log.block, index=log.index, content=log.content())
        assert hashing.hex0x(digest) == vector["evidence"]


def test_the_example_statement_verifies() -> None:
    report = verify.check(VECTORS / "statement.json")
    assert report.exit_code == 0, report.lines()


def test_messages_read_back_as_they_are_written() -> None:
    vectors = load("wire")
    for name, type_ in (
        ("attestation", wire.Attestation),
        ("replacement", wire.Replacement),
        ("accepted", wire.Accepted),
        ("bodyChunk", wire.BodyChunk),
        ("problem", wire.Problem),
    ):
        parsed = wire.decode(json.dumps(vectors[name]), type_, what=name)
        assert json.loads(wire.encode(parsed)) == vectors[name]


def test_an_integer_that_no_double_holds_has_no_canonical_form() -> None:
    with pytest.raises(errors.BadConfig):
        hashing.canonical_json({"n": 2**53 + 1})
    with pytest.raises(Unusable):
        primitives.canonical({"n": 2**53 + 1})
