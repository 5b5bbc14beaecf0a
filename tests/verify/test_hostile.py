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
