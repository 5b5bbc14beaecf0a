"""The demo's folder is its own, and its verdict is not easily pleased."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from agent.web import pages
from agent.web.pages import markup
from devnet import books, demo
from domain import errors


def test_a_folder_with_somebody_elses_files_is_not_emptied(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("ten years of work")
    with pytest.raises(errors.BadConfig, match="not a demo's"):
        demo.clear(tmp_path)
    assert (tmp_path / "thesis.tex").exists()


def test_the_folder_of_an_earlier_demo_is_emptied(tmp_path: Path) -> None:
    folder = tmp_path / "run" / "demo"
    demo.clear(folder)
    (folder / "old").write_text("x")
    demo.clear(folder)
    assert [file.name for file in folder.iterdir()] == [demo.MARKER]


def test_the_result_line_says_all_that_was_promised() -> None:
    keys = [
        "ok",
        "seed",
        "events_indexed",
        "reorgs_healed",
        "statements_sealed",
        "receipts_verified",
        "delegations_final",
        "ground_truth_match",
    ]
    line = demo.Result(seed=7).line()
    assert [part.split('"')[1] for part in line.strip("{}").split(",")] == keys
    assert line.startswith('{"ok":false,"seed":7,')


def test_planting_changes_exactly_one_row(tmp_path: Path) -> None:
    book = tmp_path / "book.db"
    with sqlite3.connect(book) as connection:
        connection.execute("create table log (number, log_index, amount, kind)")
        connection.execute("create view canonical_event as select * from log")
        rows = [(n, 0, (100 + n).to_bytes(32, "big"), "Delegated") for n in range(3)]
        connection.executemany("insert into log values (?, ?, ?, ?)", rows)
    demo.plant(book)
    with sqlite3.connect(book) as connection:
        found = connection.execute("select * from log order by number").fetchall()
    assert [a != b for a, b in zip(rows, found, strict=True)] == [True, False, False]


def test_the_kept_page_holds_its_style_and_no_script() -> None:
    page = markup.shell(title="Overview", name="agent-1", body="<h1>Ready</h1>", session=None, path="/")
    named = demo.STYLE.search(page)
    assert named is not None and named[1] == pages.STYLE_PATH
    kept = demo.alone(page, pages.STYLE)
    assert "<h1>Ready</h1>" in kept and "main { padding-block" in kept
    assert "<script" not in kept and "/assets/" not in kept


@pytest.mark.parametrize(
    ("heights", "chosen"),
    [((3, 12, 20), 1), ((3, 21), 2), ((1,), 0), ((), 2), ((10,), 0), ((11,), 1), ((31, 5), 0)],
)
def test_the_statement_to_verify_is_the_newest_one_with_logs(heights: tuple[int, ...], chosen: int) -> None:
    frames = [books.Frame(n, 0, bytes(32), 10 * n + 10, bytes(32), "closed") for n in range(3)]
    assert demo.newest_with_logs(frames, heights) == chosen
