"""`stakeside verify`: what a person reads, what a machine reads, and the exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cli import main
from tests.verify import factory


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return factory.write(tmp_path / "statement.json", factory.example(202, count=3, size=4, most=3))


def test_a_good_file_exits_with_zero_and_says_verified(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["verify", str(file)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("frame 2 revision 0 of stream devnet, deployment example")
    assert lines[-1].startswith("VERIFIED")


def test_a_difference_exits_with_one_and_is_the_last_line(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = json.loads(file.read_text())
    content["body"]["leaves"][0]["cumulativeReward"] = "9"
    factory.write(file, content)
    assert main.main(["verify", str(file)]) == 1
    assert capsys.readouterr().out.splitlines()[-1].startswith("DIFFERENT: body, statement.body.leaves: ")


def test_an_unusable_file_exits_with_two(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["verify", str(tmp_path / "nowhere.json")]) == 2
    said = capsys.readouterr()
    assert "No such file" in said.out and "Traceback" not in said.out + said.err


def test_json_is_one_object_with_the_first_difference(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = json.loads(file.read_text())
    content["logs"][0]["data"] += "00"
    factory.write(file, content)
    assert main.main(["verify", "--json", str(file)]) == 1
    said = json.loads(capsys.readouterr().out)
    assert said["ok"] is False and said["exit_code"] == 1
    assert said["first_difference"]["check"] == "evidence"
    assert {"status", "check", "where", "text", "expected", "got"} == set(said["findings"][0])


def test_full_needs_a_node(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["verify", str(file), "--full"]) == 2
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("NOT CHECKED") and "needs a node: pass --rpc" in last
