"""docs/deploy.md names settings, alerts, secrets and files that exist."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import yaml

from config import settings
from tests.deploy import compose, manifests, test_kubernetes

ROOT = compose.ROOT
PAGE = (ROOT / "docs" / "deploy.md").read_text()


def blocks() -> list[str]:
    """Indented blocks, without their indentation."""
    found = re.findall(r"(?:^ {4}.*\n|^\n(?= {4}))+", PAGE, re.MULTILINE)
    return [re.sub(r"^ {4}", "", block, flags=re.MULTILINE).strip() for block in found]


def test_the_settings_of_the_page_load(tmp_path: Path) -> None:
    tables = [block for block in blocks() if re.match(r"\[(web\.tls|hub)\]", block)]
    assert len(tables) == 2
    hub = (ROOT / "deploy" / "kubernetes" / "hub" / "hub.toml").read_text()
    (tmp_path / "hub.toml").write_text(f"{hub}\n{tables[0]}\n")
    loaded = settings.load_hub(tmp_path / "hub.toml", {})
    assert loaded.web.tls is not None and loaded.web.tls.health_port == 8481
    agent = (ROOT / "deploy" / "kubernetes" / "agent" / "agent.toml").read_text().partition("[hub]")[0]
    (tmp_path / "agent.toml").write_text(f"{agent}\n{tables[1]}\n")  # without the tables after [hub]
    upstream = settings.load_agent(tmp_path / "agent.toml", {}).hub
    assert upstream is not None and upstream.ca_file == Path("/run/stakeside/tls/ca.crt")


def test_no_hub_that_is_deployed_leases_any_account() -> None:
    """It lists accounts, and the page tells that they are to be listed."""
    files = sorted((ROOT / "deploy").rglob("hub.toml"))
    assert len(files) == 4
    for file in files:
        assert tomllib.loads(file.read_text())["leases"] == {"accounts": []}, file
    assert "leases.accounts" in PAGE.partition("## Compose")[0]


def test_every_alert_that_pages_is_in_the_table_and_no_other() -> None:
    rules = [
        rule
        for path in (ROOT / "deploy" / "prometheus").glob("*.yml")
        for group in yaml.safe_load(path.read_text())["groups"]
        for rule in group["rules"]
    ]
    paging = {rule["alert"] for rule in rules if rule["labels"]["severity"] == "page"}
    assert set(re.findall(r"^\| `(\w+)` \|", PAGE.partition("## What to alert on")[2], re.MULTILINE)) == paging


def test_the_page_makes_every_secret_and_map_that_the_manifests_read() -> None:
    made = {
        name: set(re.findall(r"--from-(?:file|literal)=([\w.]+)", line))
        for line in PAGE.splitlines()
        for name in re.findall(r"create (?:secret generic|configmap) (\S+)", line)
    }
    for name, keys in test_kubernetes.EXPECTED.items():
        assert made[name.format("a")] == keys
    needed: set[str] = set()
    for pod in test_kubernetes.PODS.values():
        needed |= {v.secret.secret_name for v in pod.volumes if v.secret is not None}
    assert {name.removesuffix("-a") for name in made} == needed | {"stakeside-deployment"}
    hub = test_kubernetes.CONTAINERS["hub/hub"]
    read = {e.value_from.secret_key_ref.key for e in hub.env if e.value_from and e.value_from.secret_key_ref}
    assert read | {"ca.crt"} == made["stakeside-hub-database"]


def test_the_ports_of_the_page_are_the_compose_files() -> None:
    published = {port.split(":")[1] for service in compose.load().services.values() for port in service.ports}
    assert published == {"8490", "8481", "8482", "8483"}
    assert "ports 8490 (hub) and 8481 to 8483 (agents)" in PAGE


def test_the_drop_in_for_an_observer_leaves_the_unit_its_other_variables() -> None:
    unit = (ROOT / "deploy" / "systemd" / "stakeside-agent@.service").read_text()
    kept = {word for line in re.findall(r"^Environment=(.+)$", unit, re.MULTILINE) for word in line.split()}
    kept = {word for word in kept if "%d" not in word}
    [dropin] = [block for block in blocks() if block.startswith("[Service]")]
    again = {word for line in re.findall(r"^Environment=(.+)$", dropin, re.MULTILINE) for word in line.split()}
    assert again == {word.replace("%i", "north") for word in kept}
    assert "LoadCredential=\n" in dropin


def test_the_releases_that_the_page_upgrades_are_tested() -> None:
    assert (ROOT / "tests" / "system" / "test_upgrade.py").exists()
    kustomization = manifests.kustomizations()["."]
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert kustomization["images"] == [{"name": "stakeside", "newTag": version}]
