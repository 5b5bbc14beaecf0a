"""Every example of docs/manifest.md is run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from domain import events
from indexers.protocols import checks, grammar, manifest

PAGE = (Path(__file__).parents[3] / "docs" / "manifest.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)(?: (\w+))?\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
FIRST = next(text for _, mark, text in BLOCKS if mark == "manifest")
MANIFESTS = [text for _, mark, text in BLOCKS if mark == "manifest"]
ADDED = [text for _, mark, text in BLOCKS if mark == "add"]
WRONG = [(text, BLOCKS[place + 1][2].strip()) for place, (_, mark, text) in enumerate(BLOCKS) if mark == "wrong"]
NETWORK = next(text for _, mark, text in BLOCKS if mark == "network")


def test_every_toml_block_is_marked() -> None:
    marks = [mark for language, mark, _ in BLOCKS if language == "toml"]
    assert len(marks) >= 12
    assert set(marks) == {"manifest", "network", "add", "wrong"}


@pytest.mark.parametrize("place", range(len(MANIFESTS)))
def test_a_whole_example_has_no_problems(place: int) -> None:
    examined, problems = checks.examine(MANIFESTS[place])
    assert problems == []
    assert examined is not None


@pytest.mark.parametrize("place", range(len(ADDED)))
def test_an_added_example_has_no_problems(place: int) -> None:
    examined, problems = checks.examine(FIRST + "\n" + ADDED[place])
    assert problems == []
    assert examined is not None


def test_all_added_examples_fit_together() -> None:
    examined, problems = checks.examine("\n".join([FIRST, *ADDED]))
    assert problems == []
    assert examined is not None


@pytest.mark.parametrize("place", range(len(WRONG)))
def test_a_wrong_example_is_refused_with_the_words_on_the_page(place: int) -> None:
    text, words = WRONG[place]
    examined, problems = checks.examine(FIRST + "\n" + text)
    assert examined is None
    assert any(words in str(problem) for problem in problems), [str(p) for p in problems]


def test_the_network_example_fits_the_manifest() -> None:
    examined, _ = checks.examine("\n".join([FIRST, *ADDED]))
    assert examined is not None
    bound = manifest.bind(examined, file="page", network=manifest.File("page", NETWORK))
    assert bound.start == 12
    assert bound.upgrades == {"v2": 900}


def test_the_first_example_can_be_indexed() -> None:
    from indexers.protocols import decoder

    examined, _ = checks.examine(FIRST)
    assert examined is not None
    network = NETWORK.split("[protocols.pool.upgrades]")[0]
    compiled = decoder.compile(manifest.bind(examined, file="page", network=manifest.File("page", network)))
    assert len(compiled.topics) == 1


def test_the_table_of_meanings_is_the_vocabulary() -> None:
    rows = {
        cells[0].strip(): [set(filter(None, re.split(r",\s*", cell.strip()))) for cell in cells[1:3]]
        for cells in (line.strip("|").split("|") for line in PAGE.splitlines() if line.startswith("| "))
        if cells[0].strip() in events.TYPES
    }
    assert set(rows) == set(events.TYPES)
    for means, (needs, may) in rows.items():
        assert needs == set(grammar.required(means)), means
        assert needs | may == set(grammar.accepted(means)), means


def test_every_key_of_the_grammar_is_on_the_page() -> None:
    tables = (
        grammar.Document, grammar.Event, grammar.Source, grammar.Located, grammar.Asset, grammar.View, grammar.Provider, grammar.Unbonding,
        grammar.Earnings, grammar.Approve, grammar.Effect, grammar.Requirement, grammar.Action, grammar.Wait, grammar.Step,
        grammar.Saga, grammar.Instance, grammar.Network,
    )  # fmt: skip
    missing = {
        f"{table.__name__}.{field}"
        for table in tables
        for field in table.__struct_fields__
        if not re.search(rf"\b{field}\b", PAGE)
    }
    assert missing == set()
    for names in (grammar.MEASURES, grammar.CLOCKS, grammar.TRANSFORMS, grammar.EARNINGS, grammar.UNITS):
        assert all(re.search(rf"\b{name}\b", PAGE) for name in names)


def test_every_command_on_the_page_exists(capsys: pytest.CaptureFixture[str]) -> None:
    from cli import main

    for words in sorted(set(re.findall(r"stakeside protocol (\w+)", PAGE))):
        with pytest.raises(SystemExit) as ended:
            main.main(["protocol", words, "--help"])
        assert ended.value.code == 0
    assert "usage" in capsys.readouterr().out
