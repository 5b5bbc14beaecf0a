"""The page about the lying node names every fault with its settings."""

from __future__ import annotations

import re
from pathlib import Path

from devnet.proxy import catalogue

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "lying-node.md").read_text(encoding="utf-8")


def _rows() -> dict[str, str]:
    return {match[1]: match[0] for match in re.finditer(r"^\| `([a-z0-9-]+)` \|.*$", PAGE, re.MULTILINE)}


def test_every_fault_has_a_row_with_its_settings() -> None:
    rows = _rows()
    for kind in catalogue.KINDS.values():
        assert kind.what in rows[kind.name]
        for key, value in kind.options.items():
            assert f"`{key}={value}`" in rows[kind.name]


def test_no_row_names_a_fault_that_is_not_there() -> None:
    common = {"methods", "p", "count", "skip"}
    assert set(_rows()) - common == set(catalogue.KINDS)


def test_every_example_is_a_fault() -> None:
    for text in re.findall(r"--fault (\S+)", PAGE):
        catalogue.parse(text)
