"""The Kubernetes manifests: what they promise. Read as they stand, and as kustomize builds them where kubectl is here."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from typing import Any

import pytest
import yaml

from config import settings
from kit import runtime
from tests.deploy import manifests
from tests.deploy.test_compose import parsed
from tests.project import test_dockerfile

OBJECTS = [item for path in manifests.files() for item in manifests.parse(path.read_text())]
HUB = next(item for item in OBJECTS if isinstance(item, manifests.Deployment))
NODE = next(item for item in OBJECTS if isinstance(item, manifests.StatefulSet))
PODS = {"hub": HUB.spec.template.spec, "node": NODE.spec.template.spec}
CONTAINERS = {f"{pod}/{container.name}": container for pod in PODS for container in PODS[pod].all_containers}
OURS = {name: container for name, container in CONTAINERS.items() if container.image == "stakeside"}
SETTINGS = {"hub/hub": "hub/hub.toml", "node/agent": "agent/agent.toml"}
FOOTPRINT_BYTES = 95_000_000
"""What benchmarks/footprint allows an agent with both belts."""
EXPECTED = {
    "stakeside-agent-{}": {"attester.json", "attester.password", "hub.token"},
    "stakeside-hub": {"receipts.json", "receipts.password", "consumers"},
    "stakeside-deployment": {"deployment.toml", "protocol.toml", "network.toml"},
}
"""What an operator puts into each Secret and ConfigMap; docs/deploy.md says how."""


def size(text: str) -> int:
    number, unit = re.fullmatch(r"(\d+)(Mi|Gi)", text).groups()  # pyright: ignore[reportOptionalMemberAccess]
    return int(number) * {"Mi": 1 << 20, "Gi": 1 << 30}[unit]


@pytest.mark.parametrize("name", PODS)
def test_every_pod_fits_the_restricted_profile(name: str) -> None:
    pod = PODS[name]
    security = pod.security_context
    assert security.run_as_non_root and security.seccomp_profile.type == "RuntimeDefault"
    assert security.run_as_user >= 1000 and security.run_as_group >= 1000
    assert not pod.automount_service_account_token
    for container in pod.all_containers:
        confined = container.security_context
        assert confined.read_only_root_filesystem and confined.capabilities.drop == ["ALL"]
        assert not confined.allow_privilege_escalation and not confined.privileged


def test_our_containers_run_as_the_images_user() -> None:
    uid, _, gid = test_dockerfile.only("USER").partition(":")
    for pod in PODS.values():
        assert (pod.security_context.run_as_user, pod.security_context.run_as_group) == (int(uid), int(gid))


@pytest.mark.parametrize("name", OURS)
def test_every_command_and_every_setting_is_one_of_ours(name: str) -> None:
    container = OURS[name]
    assert callable(parsed(container.args).run)
    [config] = [mount for mount in container.volume_mounts if mount.mount_path == container.args[-1]]
    assert config.sub_path == config.mount_path.rpartition("/")[2] and config.read_only


@pytest.mark.parametrize("name", OURS)
def test_the_settings_load_and_name_only_files_that_are_mounted(name: str) -> None:
    container, file = OURS[name], manifests.FOLDER / SETTINGS[name]
    env = {key: value for key, value in test_dockerfile.environment().items() if key.startswith("STAKESIDE_")}
    env |= {
        item.name: item.value or "stakeside-node-a-0" for item in container.env if item.name.startswith("STAKESIDE_")
    }
    if name == "hub/hub":
        settings.load_hub(file, env)
    else:
        loaded = settings.load_agent(file, env)
        assert loaded.agent.name == "stakeside-node-a-0"
        assert loaded.web.read == "viewer", "it listens beyond loopback"
    pod = PODS[name.partition("/")[0]]
    volumes = {volume.name: volume for volume in pod.volumes}
    mounted = {mount.mount_path: mount.name for mount in container.volume_mounts}
    for path in sorted(set(re.findall(r'"(?:sqlite:///)?(/[^"]+)"', file.read_text()))):
        folder, _, base = path.rpartition("/")
        assert folder in mounted, path
        volume = volumes.get(mounted[folder])
        if volume is None:
            assert mounted[folder] in {claim.metadata.name for claim in NODE.spec.volume_claim_templates}
        elif volume.secret is not None:
            key = volume.secret.secret_name
            assert base in EXPECTED["stakeside-agent-{}" if key == "stakeside-agent" else key], path
        else:
            assert volume.config_map is not None and base in EXPECTED[volume.config_map.name], path


@pytest.mark.parametrize("name", OURS)
def test_every_mount_has_its_volume_and_only_books_and_scratch_can_be_written(name: str) -> None:
    pod = PODS[name.partition("/")[0]]
    known = {volume.name for volume in pod.volumes}
    if name.startswith("node/"):
        known |= {claim.metadata.name for claim in NODE.spec.volume_claim_templates}
    for mount in OURS[name].volume_mounts:
        assert mount.name in known
        assert mount.read_only or mount.name in ("book", "scratch"), mount.mount_path


@pytest.mark.parametrize("name", OURS)
def test_probes_ask_what_the_processes_answer(name: str) -> None:
    container = OURS[name]
    assert container.startup_probe and container.liveness_probe and container.readiness_probe
    ports = {port.name: port.container_port for port in container.ports}
    for probe, path in (
        (container.startup_probe, "/healthz"),
        (container.liveness_probe, "/healthz"),
        (container.readiness_probe, "/readyz"),
    ):
        assert probe.http_get.path == path
        assert ports[probe.http_get.port] == int(test_dockerfile.only("EXPOSE"))
    assert container.liveness_probe.period_seconds * container.liveness_probe.failure_threshold >= 60


def test_the_agent_is_a_native_sidecar_that_has_room_and_cannot_take_much() -> None:
    [agent] = PODS["node"].init_containers
    assert agent.restart_policy == "Always" and agent.image == "stakeside"
    assert size(agent.resources.requests["memory"]) >= FOOTPRINT_BYTES
    assert size(agent.resources.limits["memory"]) >= 2 * FOOTPRINT_BYTES
    assert "cpu" in agent.resources.limits


def test_the_grace_period_fits_the_shutdown() -> None:
    before = 5
    assert HUB.spec.template.spec.containers[0].lifecycle == manifests.Lifecycle(
        pre_stop=manifests.PreStop(exec=manifests.Exec(command=["sleep", str(before)]))
    )
    assert PODS["hub"].termination_grace_period_seconds >= before + runtime.SHUTDOWN_S + 5
    assert PODS["node"].termination_grace_period_seconds >= 300 + runtime.SHUTDOWN_S


def test_the_hub_is_several_processes_that_are_replaced_one_by_one() -> None:
    assert HUB.spec.replicas >= 2
    rolling = HUB.spec.strategy.rolling_update
    assert rolling is not None and rolling.max_unavailable == 0 and rolling.max_surge >= 1
    source = tomllib.loads((manifests.FOLDER / "hub" / "hub.toml").read_text())
    assert source["hub"]["store"].startswith("postgresql://"), "several processes need a shared database"


def test_a_node_is_one_agent_and_its_service_names_it_ready_or_not() -> None:
    assert NODE.spec.replicas == 1
    service = next(item for item in OBJECTS if isinstance(item, manifests.Service) and item.spec.cluster_ip == "None")
    assert service.metadata.name == NODE.spec.service_name and service.spec.publish_not_ready_addresses


def test_budgets_policies_services_and_monitors_select_the_pods_they_mean() -> None:
    pods = {"hub": HUB.spec.template.metadata.labels, "agent": NODE.spec.template.metadata.labels}
    for item in OBJECTS:
        match item:
            case manifests.Service():
                selector = item.spec.selector
            case manifests.NetworkPolicy():
                selector = item.spec.pod_selector.match_labels
                assert item.spec.policy_types == ["Ingress", "Egress"]
            case (
                manifests.PodDisruptionBudget()
                | manifests.PodMonitor()
                | manifests.Deployment()
                | manifests.StatefulSet()
            ):
                selector = item.spec.selector.match_labels
            case _:
                continue
        assert selector == pods[selector["app.kubernetes.io/component"]], item.metadata.name
    budgets = [item for item in OBJECTS if isinstance(item, manifests.PodDisruptionBudget)]
    assert {item.spec.selector.match_labels["app.kubernetes.io/component"] for item in budgets} == {"hub", "agent"}
    assert all((item.spec.min_available, item.spec.max_unavailable) in ((1, None), (None, 1)) for item in budgets)


def test_service_ports_lead_to_container_ports_and_policies_open_them() -> None:
    for item in OBJECTS:
        if not isinstance(item, manifests.Service):
            continue
        pod = "hub" if item.spec.selector["app.kubernetes.io/component"] == "hub" else "node"
        ports = {port.name: port.container_port for c in PODS[pod].all_containers for port in c.ports}
        [policy] = [
            other
            for other in OBJECTS
            if isinstance(other, manifests.NetworkPolicy) and other.spec.pod_selector.match_labels == item.spec.selector
        ]
        opened = {port.port for rule in policy.spec.ingress for port in rule.ports}
        for port in item.spec.ports:
            assert ports[port.target_port] == port.port
            assert port.port in opened
    agent = tomllib.loads((manifests.FOLDER / "agent" / "agent.toml").read_text())
    assert agent["hub"]["url"] == "http://stakeside-hub:8480"


def test_no_secret_has_its_value_here() -> None:
    for path in manifests.FOLDER.rglob("*"):
        if path.is_file():
            text = path.read_text()
            assert "kind: Secret" not in text and "secretGenerator" not in text, path
            assert not re.search(r"0x[0-9a-fA-F]{64}|(?i:-----BEGIN)", text), path
    for container in CONTAINERS.values():
        for item in container.env:
            assert item.value_from is not None or not re.search(r"(?i)password|token|key", item.name), item.name


def test_each_node_has_secrets_of_its_own() -> None:
    """Each overlay's patch is carried out on the base here, so that its places are right and its names differ."""
    base = yaml.safe_load_all((manifests.FOLDER / "agent" / "statefulset.yaml").read_text())
    statefulset = next(item for item in base if item["kind"] == "StatefulSet")
    found = manifests.kustomizations()
    instances = found["fleet"]["resources"]
    instances = [name for name in instances if not name.endswith(".yaml")]
    assert len(instances) == 3
    for name in instances:
        overlay = found[f"fleet/{name}"]
        assert overlay["nameSuffix"] == f"-{name}" and overlay["resources"] == ["../../agent"]
        assert overlay["labels"][0]["pairs"] == {"app.kubernetes.io/instance": name}
        replaced: list[str] = []
        for operation in yaml.safe_load(overlay["patches"][0]["patch"]):
            *parents, last = operation["path"].strip("/").split("/")
            at: Any = statefulset
            for part in parents:
                at = at[int(part) if part.isdecimal() else part]
            if operation["op"] == "test":
                assert at[last] == operation["value"]
            else:
                assert operation["op"] == "replace" and operation["value"] == f"{at[last]}-{name}"
                replaced.append(operation["value"])
        secrets = [v.secret.secret_name for v in PODS["node"].volumes if v.secret is not None]
        assert replaced == [f"{secret}-{name}" for secret in secrets]


def test_every_kustomization_names_files_that_exist_and_leaves_none_out() -> None:
    used = set[str]()
    for folder, content in manifests.kustomizations().items():
        here = manifests.FOLDER / folder
        for name in content["resources"]:
            assert (here / name).exists(), f"{folder}: {name}"
            used.add(str((here / name).resolve()))
        for generated in content.get("configMapGenerator", []):
            for name in generated["files"]:
                assert (here / name).is_file()
                used.add(str((here / name).resolve()))
    left = [
        p
        for p in manifests.FOLDER.rglob("*")
        if p.is_file() and p.name != "kustomization.yaml" and p != manifests.STOPPED
    ]
    assert [str(path) for path in left if str(path) not in used] == []


@pytest.mark.skipif(
    shutil.which("kubectl") is None, reason="no kubectl here: the manifests were only read file by file"
)
@pytest.mark.parametrize("folder", [".", "monitoring"])
def test_kustomize_builds_what_a_cluster_would_get(folder: str) -> None:
    done = subprocess.run(
        ["kubectl", "kustomize", str(manifests.FOLDER / folder)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    objects = manifests.parse(done.stdout)
    assert all(item.metadata.namespace == "stakeside" for item in objects if not isinstance(item, manifests.Namespace))
    if folder == "monitoring":
        return
    maps = {item.metadata.name for item in objects if isinstance(item, manifests.ConfigMap)}
    nodes = [item for item in objects if isinstance(item, manifests.StatefulSet)]
    assert [item.metadata.name for item in nodes] == [f"stakeside-node-{name}" for name in "abc"]
    seen: set[str] = set()
    for item in nodes:
        pod = item.spec.template.spec
        secrets = {v.secret.secret_name for v in pod.volumes if v.secret is not None}
        assert len(secrets) == 2 and not secrets & seen
        seen |= secrets
        settings_map = next(v.config_map for v in pod.volumes if v.name == "settings")
        assert settings_map is not None and settings_map.name in maps
        assert item.spec.service_name == item.metadata.name
        assert item.spec.template.metadata.labels["app.kubernetes.io/instance"] == item.metadata.name[-1]
        assert re.fullmatch(r"stakeside:\d+\.\d+\.\d+", pod.init_containers[0].image)


def test_an_agent_can_be_stopped_without_its_node() -> None:
    """The patch names the sidecar, replaces what it runs by something that ends at once when asked, and takes every probe away."""
    patch = yaml.safe_load(manifests.STOPPED.read_text())
    [changed] = patch["spec"]["template"]["spec"]["initContainers"]
    [agent] = PODS["node"].init_containers
    assert changed.pop("name") == agent.name
    command = changed.pop("command")
    assert changed == {"startupProbe": None, "livenessProbe": None, "readinessProbe": None}
    waiting = subprocess.Popen([*command, *agent.args])
    try:
        with pytest.raises(subprocess.TimeoutExpired):
            waiting.wait(0.5)
        waiting.terminate()
        assert waiting.wait(10) == 0
    finally:
        waiting.kill()
        waiting.wait()
