"""What keeps two agents from signing for one account has to be named, and what is named has to be able to."""

from __future__ import annotations

from pathlib import Path

import pytest

from config import settings
from domain import errors

BASE = """\
[node]
url = "http://127.0.0.1:8545"
[deployment]
document = "deployment.toml"
[[protocols]]
name = "devnet"
manifest = "devnet"
network = "devnet"
[delegator]
kind = "dev"
key_file = "key"
[policy]
max_fee_per_gas_wei = "1"
max_tip_wei = "1"
max_amount_per_day = "1"
max_gas_wei_per_day = "1"
[agent]
store = "postgresql://agent@db/one"
"""


def load(folder: Path, text: str) -> settings.AgentSettings:
    path = folder / "agent.toml"
    path.write_text(BASE + text)
    return settings.load_agent(path, {})


@pytest.mark.parametrize(
    "store", ["", 'lease_store = "sqlite:///leases.db"', 'lease_store = "postgresql://agent@db/one"']
)
def test_leases_in_a_database_that_nobody_shares_are_refused(tmp_path: Path, store: str) -> None:
    with pytest.raises(errors.BadConfig, match="needs a database that all agents of the account share"):
        load(tmp_path, f'[submit]\nlease = "postgresql"\n{store}\n')


def test_leases_in_a_shared_database_are_taken(tmp_path: Path) -> None:
    loaded = load(tmp_path, '[submit]\nlease = "postgresql"\nlease_store = "postgresql://agent:canary@db/leases"\n')
    assert loaded.submit is not None and loaded.submit.lease_store == "postgresql://agent:canary@db/leases"
    assert "canary" not in repr(settings.redacted(loaded))


@pytest.mark.parametrize("text", ["[submit]\n", '[submit]\nexclusive = true\nlease = "hub"\n'])
def test_submission_has_one_way_to_be_alone(tmp_path: Path, text: str) -> None:
    with pytest.raises(errors.BadConfig):
        load(tmp_path, text)


def test_certificates_lie_beside_the_settings(tmp_path: Path) -> None:
    loaded = load(
        tmp_path,
        '[submit]\nlease = "hub"\n[hub]\nurl = "https://hub"\nca_file = "ca.pem"\ncertificate_file = "a.pem"\nkey_file = "a.key"\n'
        '[web.tls]\ncertificate_file = "web.pem"\nkey_file = "/keys/web.key"\nclient_ca_file = "clients.pem"\nhealth_port = 8481\n',
    )
    assert loaded.hub is not None and loaded.web.tls is not None
    assert (loaded.hub.ca_file, loaded.hub.key_file) == (tmp_path / "ca.pem", tmp_path / "a.key")
    assert (loaded.web.tls.certificate_file, loaded.web.tls.key_file) == (tmp_path / "web.pem", Path("/keys/web.key"))
    assert (loaded.web.tls.client_ca_file, loaded.web.tls.health_port) == (tmp_path / "clients.pem", 8481)


@pytest.mark.parametrize(
    ("hub", "said"),
    [
        ('url = "http://hub"\nca_file = "ca.pem"', "hub.ca_file has no use without TLS"),
        ('url = "https://hub"\nkey_file = "a.key"', "belong together"),
        ('url = "https://hub"\ncertificate_file = "a.pem"', "belong together"),
    ],
)
def test_half_a_certificate_is_refused(tmp_path: Path, hub: str, said: str) -> None:
    with pytest.raises(errors.BadConfig, match=said):
        load(tmp_path, f'[submit]\nlease = "hub"\n[hub]\n{hub}\n')


def test_https_needs_both_files(tmp_path: Path) -> None:
    with pytest.raises(errors.BadConfig, match="key_file"):
        load(tmp_path, '[submit]\nexclusive = true\n[web.tls]\ncertificate_file = "web.pem"\n')
