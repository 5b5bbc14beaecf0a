"""The systemd units: what they start, with which files, and how little they may do."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from config import settings
from kit import runtime
from tests.deploy.test_compose import parsed

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "deploy" / "systemd"
UNITS = ("stakeside-agent@.service", "stakeside-hub.service")
PROGRAM = "/opt/stakeside/bin/stakeside"
INSTANCE = "north"
CREDENTIALS = "/run/credentials/unit"
EXPOSURE = 15
"""In tenths, as `systemd-analyze security` counts; 1.5 is its "OK". An address allow list would differ on every site."""
needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="no systemd-analyze here: the units were only read line by line"
)


def directives(unit: str) -> dict[str, list[str]]:
    """Every directive's values in their order, as an instance sees them."""
    found: dict[str, list[str]] = {}
    for line in (FOLDER / unit).read_text().splitlines():
        if line and not line.startswith(("#", "[")):
            name, _, value = line.partition("=")
            found.setdefault(name, []).append(value.replace("%i", INSTANCE).replace("%d", CREDENTIALS))
    return found


def environment(unit: str) -> dict[str, str]:
    pairs = [pair for line in directives(unit)["Environment"] for pair in line.split()]
    return {name: value for name, _, value in (pair.partition("=") for pair in pairs)}


def command(unit: str) -> list[str]:
    program, *arguments = directives(unit)["ExecStart"][0].split()
    assert program == PROGRAM
    return arguments


@pytest.mark.parametrize("unit", UNITS)
def test_a_unit_starts_a_command_of_ours_with_settings_below_etc(unit: str) -> None:
    arguments = command(unit)
    assert callable(parsed(arguments).run)
    assert re.fullmatch(r"/etc/stakeside/(north/agent|hub/hub)\.toml", arguments[-1])


def test_the_agents_settings_load_and_its_secrets_come_from_credentials() -> None:
    env = {k: v for k, v in environment(UNITS[0]).items() if k.startswith("STAKESIDE_")}
    loaded = settings.load_agent(FOLDER / "agent.toml", env)
    assert loaded.agent.name == INSTANCE
    assert loaded.attester is not None and loaded.hub is not None
    named = {str(loaded.attester["path"]), str(loaded.attester["password_file"]), str(loaded.hub.token_file)}
    assert named == {f"{CREDENTIALS}/{name}" for name in credentials(UNITS[0])}
    assert loaded.log.format == "json"


def test_the_hubs_settings_load_and_its_secrets_come_from_credentials() -> None:
    env = {k: v for k, v in environment(UNITS[1]).items() if k.startswith("STAKESIDE_")}
    loaded = settings.load_hub(FOLDER / "hub.toml", env)
    [receipts] = loaded.receipt_tables
    assert loaded.consumers is not None
    named = {str(receipts["path"]), str(receipts["password_file"]), str(loaded.consumers.tokens_file)}
    assert named == {f"{CREDENTIALS}/{name}" for name in credentials(UNITS[1])}


def credentials(unit: str) -> list[str]:
    found: list[str] = []
    for line in directives(unit)["LoadCredential"]:
        name, _, path = line.partition(":")
        assert path == f"{Path(command(unit)[-1]).parent}/{name}", "each secret lies beside the settings"
        found.append(name)
    return found


def test_the_example_settings_also_serve_a_person_without_the_units_environment() -> None:
    for load, name in ((settings.load_agent, "agent.toml"), (settings.load_hub, "hub.toml")):
        assert load(FOLDER / name, {}) is not None


@pytest.mark.parametrize(("unit", "name"), [(UNITS[0], "agent.toml"), (UNITS[1], "hub.toml")])
def test_the_book_lies_where_the_unit_may_write(unit: str, name: str) -> None:
    text = (FOLDER / name).read_text().replace("NAME", INSTANCE)
    [store] = re.findall(r'^store = "sqlite:///(/.+)"$', text, re.MULTILINE)
    assert store.startswith(f"/var/lib/{directives(unit)['StateDirectory'][0]}/")


@pytest.mark.parametrize("unit", UNITS)
def test_a_stop_leaves_time_to_finish_a_step(unit: str) -> None:
    seconds = int(directives(unit)["TimeoutStopSec"][0].removesuffix("s"))
    assert seconds >= runtime.SHUTDOWN_S + 5
    assert directives(unit)["KillMode"] == ["mixed"]


@pytest.mark.parametrize("unit", UNITS)
def test_a_unit_is_confined(unit: str) -> None:
    found = directives(unit)
    assert found["User"] == ["stakeside"] and found["CapabilityBoundingSet"] == [""]
    for name in ("NoNewPrivileges", "PrivateTmp", "PrivateDevices", "ProtectHome", "MemoryDenyWriteExecute"):
        assert found[name] == ["yes"], name
    assert found["ProtectSystem"] == ["strict"]
    assert "ReadWritePaths" not in found and "PassEnvironment" not in found
    assert "u stakeside - " in (FOLDER / "stakeside.sysusers.conf").read_text()


@pytest.fixture
def installed(tmp_path: Path) -> list[Path]:
    """The units as on a machine that has the program, the template as an instance."""
    made: list[Path] = []
    for unit in UNITS:
        path = tmp_path / unit.replace("@.", f"@{INSTANCE}.")
        path.write_text((FOLDER / unit).read_text().replace(PROGRAM, sys.executable))
        made.append(path)
    return made


@needs_systemd
def test_systemd_finds_nothing_wrong(installed: list[Path]) -> None:
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *map(str, installed)], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")


@needs_systemd
@pytest.mark.parametrize("place", [0, 1], ids=UNITS)
def test_systemd_calls_the_exposure_low(installed: list[Path], place: int) -> None:
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", f"--threshold={EXPOSURE}", str(installed[place])],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
