"""Documents name only commands and files that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cli import main
from devnet import proxy

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "contracts").glob("*.md")])
COMMAND = re.compile(
    r"(?m:^ {4}|`)(?:\.venv/bin/)?stakeside ((?:agent|hub|devnet|verify|protocol|demo|principal|intents|delegate|undelegate|pause|resume)\b[^`\n|]*)"
)
OPTION = re.compile(r"(?<!\S)(--[a-z][a-z-]+)")


def commands() -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for page in PAGES:
        for match in COMMAND.finditer(page.read_text()):
            text = re.split(r"\s+#|[;)\]]|\s{2,}", match[1])[0].strip()
            found.append((page.name, text))
    return found


def help_of(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as ended:
        main.main([*words, "--help"])
    assert ended.value.code == 0, words
    return capsys.readouterr().out


def test_documents_name_commands() -> None:
    assert len(commands()) >= 5


@pytest.mark.parametrize(("page", "text"), sorted(set(commands())))
def test_every_command_in_a_document_exists_with_its_options(
    page: str, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = text.split()
    groups = ("agent", "hub", "devnet", "protocol", "store", "principal", "intents")
    alternatives = (
        words[1].split("|") if words[0] in groups and len(words) > 1 and not words[1].startswith("-") else [""]
    )
    for alternative in alternatives:
        shown = help_of([words[0], *([alternative.strip(".,:…")] if alternative.strip(".,:…") else [])], capsys)
        if len(alternatives) == 1:
            for option in OPTION.findall(text):
                assert option in shown, f"{page}: {text}"


def test_every_fault_in_a_document_exists() -> None:
    named = {fault for page in PAGES for fault in re.findall(r"--fault ([\w-]+)", page.read_text())}
    assert named
    for fault in named - {"help"}:
        proxy.parse(fault)


def test_make_targets_in_documents_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {
        name for page in PAGES for name in re.findall(r"(?:`|^    )make ([a-z][a-z-]+)", page.read_text(), re.MULTILINE)
    }
    assert named <= targets


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_named_files_exist(page: Path) -> None:
    text = page.read_text()
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", text):
        assert (page.parent / target).exists(), target
    named = re.findall(
        r"`((?:docs|deploy|config|contracts|agent|store|earnings|indexers|accounting|kit|verify|devnet|domain)/[\w./-]+\.\w+)`",
        text,
    )
    for target in named:
        assert (ROOT / target).exists() or (page.parent / target).exists(), target
