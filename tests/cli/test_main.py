"""The console script's manners."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from cli import main, serving
from domain import errors

HEAVY = ("aiohttp", "sqlalchemy", "web3", "eth_account", "structlog", "coincurve", "rich")


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    return done.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ["--version"],
        ["agent", "--help"],
        ["devnet", "--help"],
        ["hub", "run", "--help"],
        ["delegate", "--help"],
        ["principal", "add", "--help"],
    ],
)
def test_asking_for_version_or_help_imports_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys\nfrom cli import main\n"
        f"try:\n    main.main({arguments!r})\nexcept SystemExit:\n    pass\n"
        f"print('heavy:', [name for name in {HEAVY!r} if name in sys.modules])"
    )
    assert python(code).strip().endswith("heavy: []")


def test_every_command_module_that_exists_registers_and_has_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main.main(["--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    for name in ("agent", "hub", "verify", "devnet"):
        assert name in shown


def test_an_error_of_ours_is_one_line_and_exit_code_two(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["agent", "run", "--config", str(tmp_path / "none.toml")]) == main.UNUSABLE
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "cannot read the file" in said and "none.toml" in said and "check the path" in said


def test_debug_shows_the_traceback(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["--debug", "agent", "check", "--config", str(tmp_path / "none.toml")]) == main.UNUSABLE
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize("debug", [False, True])
def test_an_unexpected_error_prints_no_key(debug: bool) -> None:
    key = "4c0883a69102937d6231471b5dbb6204fe5129617082792ae468d01a3f362318"
    code = (
        "import sys\nfrom cli import agent, main\n"
        f"def broken(args):\n    raise ValueError('bad key 0x{key} at http://u:hunter2@host/')\n"
        "agent.check = broken\n"
        f"main.main({['--debug'] if debug else []!r} + ['agent', 'check'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert ("Traceback" in done.stderr) == debug
    assert "ValueError" in done.stderr
    # The source line of a traceback is the program's text; a key is never in there, this test's own code apart.
    said = done.stderr.replace(code, "")
    assert key not in said and "hunter2" not in said


def test_a_group_of_our_errors_is_reported_as_its_first(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_args: object) -> int:
        inner = ExceptionGroup("tasks", [errors.WrongChain("the node serves another chain", value=1)])
        raise ExceptionGroup("outer", [inner])

    monkeypatch.setattr("cli.agent.check", broken)
    assert main.main(["agent", "check"]) == main.UNUSABLE
    assert "the node serves another chain (value: 1)" in capsys.readouterr().err


def test_status_of_an_agent_that_is_not_there_is_a_clear_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "agent.toml"
    config.write_text(
        '[node]\nurl = "http://127.0.0.1:1"\n[deployment]\ndocument = "d.toml"\n[web]\nport = 1\n'
        '[[protocols]]\nname = "devnet"\nmanifest = "devnet"\nnetwork = "devnet"\n'
    )
    assert main.main(["agent", "status", "--config", str(config)]) == main.UNUSABLE
    assert "nobody answers there" in capsys.readouterr().err
    assert main.main(["agent", "status", "--quiet", "--config", str(config)]) == main.UNUSABLE
    assert capsys.readouterr().err == ""


def test_json_is_outlined_without_control_characters() -> None:
    lines = serving.outline({"a": {"b": "x\x1b[31m"}, "c": [{"d": True, "e": None}], "f": []})
    assert lines == ["a:", "  b: 'x\\x1b[31m'", "c:", "  - d: yes", "    e: -", "f: -"]
