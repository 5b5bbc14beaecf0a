"""Input that is no statement: a clear word about where it is broken, exit code 2, never a traceback."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import verify
from tests.verify import factory
from verify import digests, primitives

TEXT = json.dumps(factory.example(202, count=3, size=4, most=3))
DATA = TEXT.encode()


def judged(tmp_path: Path, data: bytes) -> verify.Report:
    path = tmp_path / "statement.json"
    path.write_bytes(data)
    report = verify.check(path)
    assert all(line.isprintable() for line in report.lines()), "hostile text must not reach the terminal"
    json.dumps(report.to_json()).encode()
    return report


@pytest.mark.parametrize("part", range(0, 100, 9))
def test_a_truncated_file_says_where_it_ends(tmp_path: Path, part: int) -> None:
    report = judged(tmp_path, DATA[: len(DATA) * part // 100])
    assert report.exit_code == 2 and report.unusable is not None
    assert report.unusable.where.startswith(("statement line 1 column", "file"))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "empty"),
        (b" \n", "empty"),
        (b"\0" * 100, "not JSON"),
        (b"\xff\xfe{}", "UTF-8"),
        (b"\xef\xbb\xbf{}", "BOM"),
        (b"null", "must be an object"),
        (b"[]", "must be an object"),
        (b"{}", "must be stakeside-statement/1"),
        (b'{"format":"stakeside-statement/2"}', "must be stakeside-statement/1"),
        (b'{"format":"stakeside-statement/1"}', "missing"),
        (b'{"a":1,"a":1}', "twice"),
        (b'{"a":1.0}', "not an integer"),
        (b'{"a":1e3}', "not an integer"),
        (b'{"a":NaN}', "not an integer"),
        (b'{"a":Infinity}', "not an integer"),
        (b'{"a":-0}', "64-bit"),
        (b'{"a":' + b"9" * 100_000 + b"}", "64-bit"),
        (b'{"a":"\\ud800"}', "surrogate"),
        (b'{"\\udfff":1}', "surrogate"),
        (b"[" * 100_000, "nested"),
        (b'{"a":' * 100_000, "nested"),
        (b"[" * 40 + b"]" * 40, "nested"),
        (DATA + b"x", "not JSON"),
        (DATA + DATA, "not JSON"),
        (DATA.replace(b"stakeside-statement/1", b"stakeside\\u0000statement/1"), "must be stakeside-statement/1"),
    ],
)
def test_what_is_no_statement_file_is_refused_with_a_reason(tmp_path: Path, data: bytes, says: str) -> None:
    report = judged(tmp_path, data)
    assert report.exit_code == 2 and report.unusable is not None
    assert says in report.unusable.text, report.unusable


def test_a_file_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    assert "No such file" in str(verify.check(tmp_path / "nowhere.json").unusable)
    assert "directory" in str(verify.check(tmp_path).unusable)
    assert verify.check("nul\0byte").exit_code == 2


def test_an_endless_file_is_cut_off() -> None:
    if not os.access("/dev/zero", os.R_OK):
        pytest.skip("no /dev/zero here")
    report = verify.check("/dev/zero")
    assert report.exit_code == 2 and "larger than" in str(report.unusable)


def test_hostile_text_in_a_name_is_escaped(tmp_path: Path) -> None:
    content = json.loads(TEXT)
    content["document"]["name"] = "\x1b[2J\u202e\0<script>" + "x" * 10_000
    content["document"]["streams"][0]["name"] = "\x1b]0;title\x07"
    report = judged(tmp_path, json.dumps(content).encode())
    assert report.exit_code != 0 and max(len(line) for line in report.lines()) < 1200


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=200))
def test_any_bytes_are_refused_calmly(tmp_path: Path, data: bytes) -> None:
    assert judged(tmp_path, data).exit_code == 2


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, len(DATA) - 1), byte=st.integers(0, 255))
def test_one_damaged_byte_never_raises(tmp_path: Path, place: int, byte: int) -> None:
    judged(tmp_path, DATA[:place] + bytes([byte]) + DATA[place + 1 :])


def test_deep_nesting_is_refused_even_where_the_recursion_limit_was_raised(tmp_path: Path) -> None:
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(1_000_000)
    try:
        for data in (b"[" * 1_000_000, b'{"a":' * 1_000_000, b'{"a":"[[[[' + b"[" * 1_000_000):
            assert judged(tmp_path, data).exit_code == 2
    finally:
        sys.setrecursionlimit(limit)


def changed(*steps: str | int, value: object) -> bytes:
    content = json.loads(TEXT)
    at = content
    for step in steps[:-1]:
        at = at[step]
    at[steps[-1]] = value
    return json.dumps(content).encode()


DOCUMENTS = [
    (("streams", 1, "accounts"), "all", "streams[1]", "is taken"),
    (("streams", 1, "name"), "devnet", "streams[1]", "is taken"),
    (("streams", 0, "start"), 0, "streams[0].start", "outside 1"),
    (("streams", 0, "chain"), 1, "streams[0]", "not listed"),
    (("streams", 0, "asset"), "0x" + "\t" * 40, "streams[0].asset", "hex"),
    (("chains", 0, "genesis"), "0x" + "AB" * 32, "chains[0].genesis", "hex"),
    (("epochs", 0, "rulesets"), {}, "epochs[0].rulesets", "no ruleset for stream \"devnet\""),
    (("epochs", 1, "rulesets"), {"devnet": "0x" + "00" * 32}, "epochs[1].rulesets", "no ruleset for stream \"devnet-ours\""),
    (("epochs", 1, "rulesets", "devnet-ours"), "0x" + "AB" * 32, "epochs[1].rulesets[\"devnet-ours\"]", "hex"),
    (("epochs", 1, "rulesets", "devnet-ours"), "0x" + "00" * 31, "epochs[1].rulesets[\"devnet-ours\"]", "31 bytes"),
    (("epochs", 1, "rulesets", "devnet-ours"), None, "epochs[1].rulesets[\"devnet-ours\"]", "string"),
    (("epochs", 1, "signers", 3), "0x" + "\t" * 40, "epochs[1].signers[3]", "hex"),
    (("epochs", 1, "signers", 3), "0x12", "epochs[1].signers[3]", "1 bytes"),
    (("epochs", 1, "signers"), [], "epochs[1].signers", "distinct"),
    (("epochs", 1, "from_sequence"), {"nowhere": 1}, "epochs[1]", "not listed"),
    (("epochs", 0, "from_sequence"), {"devnet": 0}, "epochs", "no epoch covers frame 0 of stream \"devnet-ours\""),
    (("epochs", 0, "from_sequence", "devnet"), 1, "epochs", "no epoch covers frame 0 of stream \"devnet\""),
    (("receipt_keys", 1, "first_receipt"), 1, "receipt_keys[1].first_receipt", "after"),
    (("receipt_keys", 1, "address"), "0x\n", "receipt_keys[1].address", "hex"),
    (("members",), [{"accounts": "ours", "address": "0xAB", "from_sequence": 0}], "members[0].address", "hex"),
    (("revisions",), [{"stream": "nowhere", "sequence": 0, "through": 0, "revision": 1}], "revisions[0]", "listed"),
]  # fmt: skip


@pytest.mark.parametrize(("place", "value", "where", "says"), DOCUMENTS)
def test_a_document_that_cannot_work_is_named_wherever_it_comes_from(
    tmp_path: Path, place: tuple[str | int, ...], value: object, where: str, says: str
) -> None:
    broken = changed("document", *place, value=value)
    own = tmp_path / "own.json"
    own.write_text(json.dumps(json.loads(broken)["document"]))
    (tmp_path / "good.json").write_bytes(DATA)
    for report, root in (
        (judged(tmp_path, broken), "statement.document."),
        (verify.check(tmp_path / "good.json", document_path=own), "your document."),
    ):
        assert report.exit_code == 2 and report.unusable is not None, report.lines()
        assert report.unusable.where == root + where and says in report.unusable.text, report.unusable


def test_a_chain_that_is_listed_twice_is_named(tmp_path: Path) -> None:
    chains = json.loads(TEXT)["document"]["chains"]
    report = judged(tmp_path, changed("document", "chains", value=[*chains, *chains]))
    assert report.exit_code == 2 and "twice" in str(report.unusable)


def test_a_receipt_number_of_64_bits_is_refused(tmp_path: Path) -> None:
    data = changed("receipts", 0, "receipt", "receiptNumber", value=str(1 << 63))
    report = judged(tmp_path, data)
    assert report.exit_code == 2 and "63 bits" in str(report.unusable)


@pytest.mark.parametrize("key", ["\t" * 64, " " * 64, "\n" * 2 + "0" * 61 + "a0", "0" * 61 + "A0", "a0"])
def test_an_identity_in_another_spelling_names_no_subject(key: str) -> None:
    for parts in (("operator", "devnet", "0x" + key), ("delegation", "devnet", "0x" + "00" * 32, "0x" + key)):
        with pytest.raises(ValueError, match=r"lower-case 0x-hex|1 bytes where"):
            digests.subject(parts)
    with pytest.raises(ValueError, match=r"lower-case 0x-hex|1 bytes where"):
        digests.subject(("validator", "0x" + key + "\t" * (96 - len(key))))


def test_a_word_of_bytes_has_exactly_32_of_them() -> None:
    for size in (0, 1, 20, 31, 33):
        with pytest.raises(ValueError, match="32 bytes"):
            primitives.word(bytes(size))
    for size in (0, 19, 21, 32):
        with pytest.raises(ValueError, match="20 bytes"):
            primitives.padded(bytes(size))


def test_the_last_line_says_why_nothing_was_checked(tmp_path: Path) -> None:
    last = verify.check(tmp_path / "nowhere.json").lines()[-1]
    assert last.startswith("NOT CHECKED") and "file: " in last and "No such file" in last
