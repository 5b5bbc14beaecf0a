"""The wire format against viem, ethers, @openzeppelin/merkle-tree and ajv."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.wire import node

HERE = Path(__file__).resolve().parent
WIRE = HERE.parents[1] / "docs" / "wire"


@pytest.mark.timeout(400)
def test_vectors_hold_in_viem_ethers_openzeppelin_and_ajv() -> None:
    said = node.run(HERE / "js", "check.mjs", str(WIRE))
    counts = json.loads(said.splitlines()[-1])
    assert counts.pop("ok")
    assert {name for name, number in counts.items() if number < 1} == set()
    assert counts["proofs"] >= 60 and counts["signatures"] >= 30 and counts["schema checks"] >= 12


def test_lock_file_names_no_registry() -> None:
    lock = json.loads((HERE / "js" / "package-lock.json").read_text())
    assert [name for name, package in lock["packages"].items() if "resolved" in package] == []
    assert all("integrity" in package for name, package in lock["packages"].items() if name)
