"""Files that hold, and what is said of files that do not."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import verify
from devnet import documents
from domain import deployment, hashing, statement
from tests.verify import factory
from tests.wire import keys

SHARED = [HealthCheck.function_scoped_fixture]


def judged(tmp_path: Path, content: object, **options: Any) -> verify.Report:
    return verify.check(factory.write(tmp_path / "statement.json", content), **options)


def maker(seed: int = 5, *, count: int = 3, document: deployment.Document | None = None) -> factory.Maker:
    rules = factory.ruleset()
    history = factory.History(seed)
    history.play(factory.START, factory.START + count * factory.SIZE - 1)
    return factory.Maker(document or factory.document(rules), rules, history.headers, history.entries)


@settings(max_examples=40, deadline=None, suppress_health_check=SHARED)
@given(seed=st.integers(0, 10**9), count=st.integers(1, 4), size=st.integers(1, 20), most=st.integers(0, 6))
def test_files_about_any_history_verify(tmp_path: Path, seed: int, count: int, size: int, most: int) -> None:
    report = judged(tmp_path, factory.example(seed, count=count, size=size, most=most))
    assert report.exit_code == 0, "\n".join(report.lines())


def test_how_a_history_is_cut_into_frames_does_not_change_its_leaves(tmp_path: Path) -> None:
    bodies: list[Any] = []
    for size in (1, 2, 3, 4, 6, 12):
        content = factory.example(77, count=24 // size, size=size, most=5)
        assert judged(tmp_path, content).exit_code == 0
        bodies.append(content["body"])
    assert all(body == bodies[0] for body in bodies)


def test_one_of_a_thing_is_told_as_one(tmp_path: Path) -> None:
    """Two histories: of one log, and of one leaf."""
    said: list[str] = []
    for seed, size in ((0, 1), (40, 2)):
        said += judged(tmp_path, factory.example(seed, count=1, size=size, most=1)).lines()
    text = "\n".join(said)
    assert not re.search(r"\b1 (?:leaves|logs|receipts|votes|frames)\b", text)
    assert "the fold of 1 log is" in text and "1 leaf, " in text


def test_an_empty_first_frame_has_no_leaves_and_verifies(tmp_path: Path) -> None:
    content = factory.example(1, count=1, most=0)
    assert content["body"]["leaves"] == [] and content["certificate"]["header"]["bodyRoot"] == "0x" + "00" * 32
    assert judged(tmp_path, content).exit_code == 0


def test_a_revised_frame_and_its_follower_verify(tmp_path: Path) -> None:
    listed = (
        deployment.Revision("devnet", 1, 2, 1, "a rule was wrong"),
        deployment.Revision("devnet", 2, 2, 2, "and again"),
    )
    document = msgspec.structs.replace(factory.document(), revisions=listed)
    revised = maker(count=4, document=document)
    made = revised.frames(4)
    assert [one.frame.header.revision for one in made] == [0, 1, 2, 0]
    for count in (2, 3, 4):
        report = judged(tmp_path, revised.file(made[:count]))
        assert report.exit_code == 0, "\n".join(report.lines())


def test_a_superseded_revision_is_named(tmp_path: Path) -> None:
    revised = maker(count=2)
    content = revised.file(revised.frames(2))
    content["document"]["revisions"] = [{"stream": "devnet", "sequence": 1, "through": 1, "revision": 1, "reason": ""}]
    first = judged(tmp_path, content).first_difference
    assert first is not None and first.where == "statement.certificate.header.revision"


def test_the_other_stream_of_the_document_has_other_digests(tmp_path: Path) -> None:
    content = factory.example(4)
    other = factory.document().streams[1].id()
    content["certificate"]["header"]["stream"] = hashing.hex0x(other)
    report = judged(tmp_path, content)
    assert {f.where for f in report.findings if f.status == "difference"} >= {
        "statement.certificate.digest",
        "statement.previous",
    }


def test_fewer_than_k_signatures_are_too_few(tmp_path: Path) -> None:
    content = factory.example(4)
    content["certificate"]["signatures"].pop()
    first = judged(tmp_path, content).first_difference
    assert first is not None and (first.where, first.expected, first.got) == (
        "statement.certificate.signatures",
        "3",
        "2",
    )


def test_one_signer_twice_is_no_quorum(tmp_path: Path) -> None:
    content = factory.example(4)
    votes = content["certificate"]["signatures"]
    votes[2] = votes[0]
    first = judged(tmp_path, content).first_difference
    assert first is not None and "same signer twice" in first.text


def test_a_signer_of_another_epoch_does_not_count(tmp_path: Path) -> None:
    old = maker(count=2)
    made = old.frames(2)
    outsider = old.certificate(made[1].frame.header, signers=[keys.KEYS[0], keys.KEYS[1], keys.KEYS[3]])
    content = old.file([made[0], factory.Made(made[1].frame, outsider, made[1].entries)])
    first = judged(tmp_path, content).first_difference
    assert first is not None and "no signer of epoch 0" in first.text


def test_a_high_s_twin_of_a_signature_is_refused(tmp_path: Path) -> None:
    content = factory.example(4)
    vote = content["certificate"]["signatures"][1]
    raw = hashing.unhex(vote["signature"])
    order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
    twin = raw[:32] + hashing.word(order - int.from_bytes(raw[32:64], "big")) + bytes([55 - raw[64]])
    vote["signature"] = hashing.hex0x(twin)
    first = judged(tmp_path, content).first_difference
    assert first is not None and first.where == "statement.certificate.signatures[1]" and "lower half" in first.text


def test_a_certificate_of_another_deployment_is_refused(tmp_path: Path) -> None:
    content = factory.example(4)
    content["document"]["name"] = "another"
    first = judged(tmp_path, content).first_difference
    assert first is not None and first.where == "statement.certificate.configDigest"


def test_an_unsafe_quorum_is_unusable(tmp_path: Path) -> None:
    content = factory.example(4)
    content["document"]["epochs"][1]["k"] = 2
    report = judged(tmp_path, content)
    assert report.exit_code == 2 and report.unusable is not None
    assert report.unusable.where == "statement.document.epochs[1].k" and "3 to 4" in report.unusable.text


def test_a_broken_receipt_chain_is_named(tmp_path: Path) -> None:
    signed = maker()
    made = signed.frames(2)
    content = signed.file(made)
    receipt = statement.Receipt(made[-1].frame.digest, keys.address(keys.KEYS[0]), 2, hashing.keccak256(b"elsewhere"))
    content["receipts"][1] = factory.plain(signed.receipt(receipt))
    first = judged(tmp_path, content).first_difference
    assert first is not None and first.where == "statement.receipts[1].receipt.previousReceipt"


def test_one_receipt_number_for_two_things_is_named(tmp_path: Path) -> None:
    signed = maker()
    content = signed.file(signed.frames(1))
    again = statement.Receipt(hashing.keccak256(b"else"), keys.address(keys.KEYS[1]), 1, hashing.ZERO32)
    content["receipts"].append(factory.plain(signed.receipt(again)))
    first = judged(tmp_path, content).first_difference
    assert first is not None and "twice" in first.text


def test_the_hub_key_must_be_the_one_in_force(tmp_path: Path) -> None:
    signed = maker()
    content = signed.file(signed.frames(1))
    late = statement.Receipt(hashing.keccak256(b"late"), keys.address(keys.KEYS[1]), 1000, hashing.keccak256(b"999"))
    content["receipts"].append(factory.plain(signed.receipt(late)))
    first = judged(tmp_path, content).first_difference
    assert first is not None and "hub key in force" in first.text


@pytest.mark.parametrize("form", ["json", "toml"])
def test_the_readers_own_document_must_agree(tmp_path: Path, form: str) -> None:
    content = factory.example(4)
    later = deployment.Revision("devnet", 90, 91, 1, "listed after this frame")
    document = msgspec.structs.replace(factory.document(), revisions=(later,))
    own = tmp_path / f"document.{form}"
    own.write_text(json.dumps(factory.plain(document)) if form == "json" else documents.text(document))
    assert judged(tmp_path, content, document_path=own).exit_code == 0
    content["document"]["receipt_keys"][0]["first_receipt"] = 2
    first = judged(tmp_path, content, document_path=own).first_difference
    assert first is not None and (first.where, first.expected, first.got) == (
        "document.receipt_keys[0].first_receipt",
        "1",
        "2",
    )


def spare(document: dict[str, Any]) -> dict[str, Any]:
    """The same document as somebody else writes it: defaults left out, signers in another order."""
    spared = copy.deepcopy(document)
    for chain in spared["chains"]:
        assert chain.pop("finality") == "tag"
    for epoch in spared["epochs"]:
        epoch["signers"].reverse()
        epoch["rulesets"] = dict(reversed(epoch["rulesets"].items()))
    assert spared["receipt_keys"][0].pop("first_receipt") == 1
    for revision in spared["revisions"]:
        assert revision.pop("reason") == ""
    if not spared["revisions"]:
        del spared["revisions"]
    assert spared.pop("members") == []
    return spared


@pytest.mark.parametrize("revisions", [(), (deployment.Revision("devnet", 2, 2, 1),)])
def test_an_honest_copy_may_leave_out_defaults_and_order_signers_otherwise(
    tmp_path: Path, revisions: tuple[deployment.Revision, ...]
) -> None:
    made = maker(count=3, document=msgspec.structs.replace(factory.document(), revisions=revisions))
    content = made.file(made.frames(3))
    full = content["document"]
    for theirs, ours in ((full, spare(full)), (spare(full), full), (spare(full), spare(full))):
        own = factory.write(tmp_path / "own.json", ours)
        report = judged(tmp_path, {**content, "document": theirs}, document_path=own)
        assert report.exit_code == 0, "\n".join(report.lines())


@pytest.mark.parametrize(
    ("key", "entry", "where"),
    [
        ("receipt_keys", {"address": "0x" + "11" * 20}, "document.receipt_keys[0].address"),
        (
            "revisions",
            {"stream": "devnet", "sequence": 50, "through": 50, "revision": 1},
            "document.revisions[0].reason",
        ),
        (
            "members",
            {"accounts": "ours", "address": "0x" + "22" * 20, "from_sequence": 1},
            "document.members[0].address",
        ),
    ],
)
def test_a_difference_from_the_readers_own_document_names_the_field(
    tmp_path: Path, key: str, entry: dict[str, Any], where: str
) -> None:
    own = factory.plain(factory.document())
    own["revisions"] = [{"stream": "devnet", "sequence": 50, "through": 50, "revision": 1, "reason": "said"}]
    own["members"] = [{"accounts": "ours", "address": "0x" + "33" * 20, "from_sequence": 1}]
    content = factory.example(4)
    content["document"][key] = [entry]
    first = judged(tmp_path, content, document_path=factory.write(tmp_path / "own.json", own)).first_difference
    assert first is not None and first.where == where and first.expected != first.got


def test_signers_who_were_replaced_do_not_count_for_a_reader_who_knows_it(tmp_path: Path) -> None:
    """An older document is a document too, but the reader's own, longer one decides who signs and which revision counts."""
    now = factory.document()
    old = maker(count=3, document=msgspec.structs.replace(now, epochs=now.epochs[:1]))
    content = old.file(old.frames(3))
    assert judged(tmp_path, content).exit_code == 0
    own = factory.write(tmp_path / "own.json", factory.plain(now))
    first = judged(tmp_path, content, document_path=own).first_difference
    assert first is not None and first.where == "statement.certificate.configDigest"
    revised = msgspec.structs.replace(now, revisions=(deployment.Revision("devnet", 2, 2, 1, "wrong"),))
    own = factory.write(tmp_path / "own.json", factory.plain(revised))
    first = judged(tmp_path, factory.example(4), document_path=own).first_difference
    assert first is not None and first.where == "statement.certificate.header.revision"


@pytest.mark.parametrize(
    "text",
    [
        "n = " + "9" * 5000,
        "n = 1979-13-40",
        "",
        "name = ",
        "\0",
        "[[chains]]\nid = 1.5",
        "x" * 1000,
        "name = 'a'\n" * 2,
    ],
)
def test_an_unreadable_document_of_the_readers_own_is_said_to_be_so(tmp_path: Path, text: str) -> None:
    own = tmp_path / "document.toml"
    own.write_text(text)
    report = judged(tmp_path, factory.example(4), document_path=own)
    assert report.exit_code == 2 and report.unusable is not None


def test_a_file_whose_document_names_other_signers_fails_against_the_readers_own(tmp_path: Path) -> None:
    ours = factory.document()
    forged = msgspec.structs.replace(
        ours,
        epochs=(
            msgspec.structs.replace(ours.epochs[0], signers=(keys.address_text(keys.KEYS[4]),), k=1),
            ours.epochs[1],
        ),
    )
    history = maker(count=1, document=forged)
    content = history.file(history.frames(1))
    assert judged(tmp_path, content).exit_code == 0  # by itself it is consistent: whoever wrote it chose the signers
    own = factory.write(tmp_path / "own.json", factory.plain(ours))
    first = judged(tmp_path, content, document_path=own).first_difference
    assert first is not None and first.where == "document.epochs[0].signers"


def test_full_without_a_node_is_unusable(tmp_path: Path) -> None:
    report = judged(tmp_path, factory.example(4), full=True)
    assert report.exit_code == 2 and report.unusable is not None and report.unusable.where == "--full"


def test_a_missing_log_is_found_by_the_evidence(tmp_path: Path) -> None:
    content = factory.example(4)
    content["logs"].pop(1)
    first = judged(tmp_path, content).first_difference
    assert first is not None and (first.check, first.where) == ("evidence", "statement.certificate.header.evidence")


def test_logs_out_of_order_are_named(tmp_path: Path) -> None:
    content = factory.example(4)
    logs = content["logs"]
    logs[0], logs[1] = logs[1], logs[0]
    first = judged(tmp_path, content).first_difference
    assert first is not None and first.check == "evidence" and "not after" in first.text


def test_a_signed_fall_of_a_leaf_is_named(tmp_path: Path) -> None:
    """k signers may err together: a cumulative amount that falls is found although everything is signed."""
    signed = maker()
    made = signed.frames(2)
    body = made[0].frame.body
    raised = tuple(
        msgspec.structs.replace(leaf, reward=10**30) if leaf.kind == statement.PRINCIPAL_IN else leaf
        for leaf in body.leaves
    )
    content = resigned(signed, made, statement.Body(raised, body.carry))
    falls = [f for f in judged(tmp_path, content).findings if f.status == "difference"]
    assert falls[0].check == "previous" and "fell" in falls[0].text and "principal in" in falls[0].where


def resigned(signed: factory.Maker, made: list[factory.Made], body: statement.Body) -> dict[str, Any]:
    """The second frame's file, with another, properly signed body in the first frame."""
    totals = statement.totals(body.leaves)
    header = msgspec.structs.replace(
        made[0].frame.header,
        body_root=body.root(),
        leaf_count=len(body.leaves),
        carry=body.carry_hash(),
        total_reward=totals.reward,
        total_penalty=totals.penalty,
    )
    first = signed.certificate(header)
    changed = msgspec.structs.replace(made[0].frame, header=header, body=body)
    second = msgspec.structs.replace(made[1].frame.header, previous=hashing.unhex(first.digest))
    follower = msgspec.structs.replace(made[1].frame, header=second)
    return signed.file(
        [
            factory.Made(changed, first, made[0].entries),
            factory.Made(follower, signed.certificate(second), made[1].entries),
        ]
    )


@pytest.mark.parametrize(
    ("carry", "says"),
    [
        ("[" * 50_000, "nested"),
        ("{}", "missing"),
        ('{"model":"x","version":"1","validators":{},"positions":{},"unbondings":{}}', "replays"),
        ('{ "model":"reward-per-share","positions":{},"unbondings":{},"validators":{},"version":"1"}', "canonical"),
        ('{"model":"reward-per-share","positions":[],"unbondings":{},"validators":{},"version":"1"}', "object"),
        ("\0", "JSON"),
    ],
)
def test_a_signed_but_malformed_carry_is_named(tmp_path: Path, carry: str, says: str) -> None:
    signed = maker()
    made = signed.frames(2)
    report = judged(tmp_path, resigned(signed, made, statement.Body(made[0].frame.body.leaves, carry.encode())))
    assert report.exit_code != 0
    assert any(says in f.text and "carry" in f.where for f in report.findings if f.status != "ok"), report.lines()
