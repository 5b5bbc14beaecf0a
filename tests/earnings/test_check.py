"""`stakeside hub check` finds what is wrong before a hub is started, and writes nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cli import main
from domain import hashing
from tests import certificates, said
from tests.earnings import hub, test_crashes

TLS = '[web.tls]\ncertificate_file = "hub.pem"\nkey_file = "hub.key"\nclient_ca_file = "ca-ours.pem"\n'


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """The command configures logging for its process, which here is everybody's."""
    with said.heard():
        yield


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    test_crashes.write(tmp_path)
    certificates.Authority(tmp_path).issue("hub")
    settings = (tmp_path / "hub.toml").read_text()
    (tmp_path / "hub.toml").write_text(settings + TLS)
    return tmp_path


def check(folder: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, Any]]:
    """Exit code, and the checks by name."""
    code = main.main(["hub", "check", "--config", str(folder / "hub.toml"), "--json"])
    told = json.loads(capsys.readouterr().out)
    assert told["ok"] is (code == 0)
    return code, {item["name"]: item for item in told["checks"]}


def test_everything_is_tried_and_nothing_is_written(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path.name for path in folder.iterdir()}
    code, checks = check(folder, capsys)
    assert code == 0, checks
    assert set(checks) == {"configuration", "tls", "receipts", "consumers", "leases", "book"}
    assert "127.0.0.1" in checks["tls"]["detail"] and "clients have to show" in checks["tls"]["detail"]
    assert {path.name for path in folder.iterdir()} == before


def _listed(folder: Path, accounts: str) -> None:
    file = folder / "hub.toml"
    file.write_text(file.read_text() + f"[leases]\naccounts = {accounts}\n")


def test_a_hub_that_leases_any_account_is_warned_of(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, checks = check(folder, capsys)
    told = checks["leases"]
    assert code == 0 and told["ok"] and told["warning"]
    assert "any account" in told["detail"] and 'accounts = ["0x…"]' in told["advice"]
    assert main.main(["hub", "check", "--config", str(folder / "hub.toml")]) == 0
    out = capsys.readouterr().out
    assert "  warn leases: for any account" in out and 'accounts = ["0x…"]' in out and "  ok   book" in out


@pytest.mark.parametrize(
    ("accounts", "detail"), [("[]", "for no account"), (f'["0x{"ac" * 20}"]', f"for 0x{'ac' * 20} only")]
)
def test_whose_leases_a_hub_grants_is_said(
    accounts: str, detail: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _listed(folder, accounts)
    told = check(folder, capsys)[1]["leases"]
    assert told["ok"] and not told["warning"] and detail in told["detail"]


def _expired(folder: Path) -> None:
    certificates.Authority(folder, "other").issue("hub", **certificates.PAST)


def _other_key(folder: Path) -> None:
    (folder / "hub.key").write_bytes((folder / "spare.key").read_bytes())


def _stranger(folder: Path) -> None:
    (folder / "key").write_text(hashing.hex0x(hashing.keccak256(b"test key 66")))


def _no_book(folder: Path) -> None:
    (folder / "hub.db").write_bytes(b"this is no database" * 100)


@pytest.mark.parametrize(
    ("spoil", "name", "said"),
    [
        (_expired, "tls", "has expired"),
        (_other_key, "tls", "is not the key of"),
        (lambda folder: (folder / "ca-ours.pem").unlink(), "tls", "client_ca_file cannot be read"),
        (_stranger, "receipts", "does not list this hub's receipt key"),
        (lambda folder: (folder / "tokens").write_text("nonsense"), "consumers", "line 1 of the tokens file"),
        (_no_book, "book", "damaged"),
    ],
    ids=["expired", "another key", "no authority", "another receipt key", "tokens", "book"],
)
def test_what_is_wrong_is_named(
    folder: Path, capsys: pytest.CaptureFixture[str], spoil: Any, name: str, said: str
) -> None:
    certificates.Authority(folder, "spare").issue("spare")
    spoil(folder)
    code, checks = check(folder, capsys)
    wrong = {item["name"]: item for item in checks.values() if not item["ok"]}
    assert code == 1
    assert said in wrong[name]["detail"] and wrong[name]["advice"]


async def test_a_running_hub_is_not_disturbed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import asyncio

    async with hub.running(folder) as h:
        code, checks = await asyncio.to_thread(check, folder, capsys)
        assert (code, checks["book"]["detail"]) == (0, "belongs to this deployment"), checks
        assert (await h.get("/readyz"))[0] == 200


def test_no_key_is_shown(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main.main(["hub", "check", "--config", str(folder / "hub.toml")])
    shown = capsys.readouterr().out
    secrets = [*(folder / "hub.key").read_text().splitlines()[1:-1], (folder / "key").read_text()]
    assert not any(secret in shown for secret in secrets)


async def test_a_hub_runs_as_its_settings_say_with_certificates_and_a_port_for_probes(folder: Path) -> None:
    import asyncio

    import aiohttp

    from config import settings
    from earnings import app
    from kit import tls

    with (folder / "hub.toml").open("a") as file:
        file.write("health_port = 0\n")
    told: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
    stop = asyncio.Event()
    task = asyncio.create_task(
        app.run(settings.load_hub(folder / "hub.toml", {}), stop=stop, ready=lambda event: told.set_result(event))
    )
    try:
        async with asyncio.timeout(20):
            await asyncio.wait([task, told], return_when=asyncio.FIRST_COMPLETED)
            ready = told.result()
            ours = tls.client(tls.Files("hub", folder / "hub.pem", folder / "hub.key", folder / "ca-ours.pem"))
            async with aiohttp.ClientSession() as session:
                async with session.get(ready["url"] + "readyz", ssl=ours) as response:
                    assert response.status == 200
                async with session.get(f"http://127.0.0.1:{ready['health_port']}/readyz") as response:
                    assert response.status == 200
        assert ready["url"] == f"https://127.0.0.1:{ready['port']}/"
        assert (folder / "web.port").read_text() == f"{ready['port']}\n"
    finally:
        stop.set()
        await task
