"""The Kubernetes manifests as typed values. In: YAML files, or what kustomize makes of them. Out: frozen structs.

The structs hold the part of the API that the manifests use (strictly validated against the schemas of 1.32 when it was written), so a
misspelled field, which a cluster would silently drop or refuse, is an error here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import yaml

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "deploy" / "kubernetes"
STOPPED = FOLDER / "stopped" / "patch.yaml"
Strings = dict[str, str]


class _Part(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, rename="camel"):
    """Base: what is not listed is refused."""


class Metadata(_Part):
    name: str
    namespace: str | None = None
    labels: Strings = {}
    annotations: Strings = {}


class Selector(_Part):
    match_labels: Strings


class Reference(_Part):
    name: str
    key: str | None = None


class FieldReference(_Part):
    field_path: str
    api_version: str = "v1"


class ValueFrom(_Part):
    secret_key_ref: Reference | None = None
    field_ref: FieldReference | None = None


class Env(_Part):
    name: str
    value: str | None = None
    value_from: ValueFrom | None = None


class ContainerPort(_Part):
    name: str
    container_port: int
    protocol: Literal["TCP", "UDP"] = "TCP"


class HttpGet(_Part):
    path: str
    port: str
    scheme: Literal["HTTP", "HTTPS"] = "HTTP"


class Probe(_Part):
    http_get: HttpGet
    period_seconds: int
    timeout_seconds: int
    failure_threshold: int


class Exec(_Part):
    command: list[str]


class PreStop(_Part):
    exec: Exec


class Lifecycle(_Part):
    pre_stop: PreStop


class Resources(_Part):
    requests: Strings
    limits: Strings = {}


class Capabilities(_Part):
    drop: list[str]


class Confinement(_Part):
    allow_privilege_escalation: bool
    read_only_root_filesystem: bool
    privileged: bool
    capabilities: Capabilities


class VolumeMount(_Part):
    name: str
    mount_path: str
    sub_path: str | None = None
    read_only: bool = False


class Container(_Part):
    name: str
    image: str
    image_pull_policy: Literal["IfNotPresent"]
    args: list[str]
    resources: Resources
    security_context: Confinement
    env: list[Env] = []
    ports: list[ContainerPort] = []
    startup_probe: Probe | None = None
    liveness_probe: Probe | None = None
    readiness_probe: Probe | None = None
    lifecycle: Lifecycle | None = None
    restart_policy: Literal["Always"] | None = None
    volume_mounts: list[VolumeMount] = []


class Seccomp(_Part):
    type: str


class PodSecurity(_Part):
    run_as_non_root: bool
    run_as_user: int
    run_as_group: int
    fs_group: int
    seccomp_profile: Seccomp
    fs_group_change_policy: str | None = None


class Item(_Part):
    key: str
    path: str


class SecretVolume(_Part):
    secret_name: str
    default_mode: int | None = None
    items: list[Item] = []


class EmptyDir(_Part):
    size_limit: str


class Volume(_Part):
    name: str
    config_map: Reference | None = None
    secret: SecretVolume | None = None
    empty_dir: EmptyDir | None = None


class Spread(_Part):
    max_skew: int
    topology_key: str
    when_unsatisfiable: str
    label_selector: Selector


class AffinityTerm(_Part):
    topology_key: str
    label_selector: Selector


class Preferred(_Part):
    weight: int
    pod_affinity_term: AffinityTerm


class AntiAffinity(_Part):
    preferred: list[Preferred] = msgspec.field(name="preferredDuringSchedulingIgnoredDuringExecution")


class Affinity(_Part):
    pod_anti_affinity: AntiAffinity


class Pod(_Part):
    service_account_name: str
    automount_service_account_token: bool
    enable_service_links: bool
    termination_grace_period_seconds: int
    security_context: PodSecurity
    containers: list[Container]
    volumes: list[Volume]
    init_containers: list[Container] = []
    topology_spread_constraints: list[Spread] = []
    affinity: Affinity | None = None

    @property
    def all_containers(self) -> list[Container]:
        return [*self.init_containers, *self.containers]


class TemplateMetadata(_Part):
    labels: Strings


class Template(_Part):
    metadata: TemplateMetadata
    spec: Pod


class RollingUpdate(_Part):
    max_surge: int
    max_unavailable: int


class Strategy(_Part):
    type: Literal["RollingUpdate"]
    rolling_update: RollingUpdate | None = None


class ClaimMetadata(_Part):
    name: str
    labels: Strings = {}


class ClaimSpec(_Part):
    access_modes: list[str]
    resources: Resources


class Claim(_Part):
    metadata: ClaimMetadata
    spec: ClaimSpec


class DeploymentSpec(_Part):
    replicas: int
    revision_history_limit: int
    strategy: Strategy
    selector: Selector
    template: Template


class StatefulSetSpec(_Part):
    replicas: int
    revision_history_limit: int
    service_name: str
    update_strategy: Strategy
    selector: Selector
    template: Template
    volume_claim_templates: list[Claim]


class ServicePort(_Part):
    name: str
    port: int
    target_port: str


class ServiceSpec(_Part):
    selector: Strings
    ports: list[ServicePort]
    cluster_ip: str | None = msgspec.field(name="clusterIP", default=None)
    publish_not_ready_addresses: bool = False


class BudgetSpec(_Part):
    selector: Selector
    min_available: int | None = None
    max_unavailable: int | None = None
    unhealthy_pod_eviction_policy: str | None = None


class IpBlock(_Part):
    cidr: str
    # The API's own name for it.
    except_: list[str] = msgspec.field(name="except", default_factory=list[str])


class Peer(_Part):
    pod_selector: Selector | None = None
    namespace_selector: Selector | None = None
    ip_block: IpBlock | None = None


class PolicyPort(_Part):
    protocol: str
    port: int


class Ingress(_Part):
    ports: list[PolicyPort]
    from_: list[Peer] = msgspec.field(name="from", default_factory=list[Peer])


class Egress(_Part):
    to: list[Peer]
    ports: list[PolicyPort] = []


class PolicySpec(_Part):
    pod_selector: Selector
    policy_types: list[str]
    ingress: list[Ingress]
    egress: list[Egress]


class Endpoint(_Part):
    port: str
    path: str
    interval: str


class PodMonitorSpec(_Part):
    selector: Selector
    pod_metrics_endpoints: list[Endpoint]


class _Object(_Part, tag_field="kind"):
    api_version: str
    metadata: Metadata


class Namespace(_Object, tag=True):
    pass


class ServiceAccount(_Object, tag=True):
    automount_service_account_token: bool


class ConfigMap(_Object, tag=True):
    data: Strings


class Service(_Object, tag=True):
    spec: ServiceSpec


class Deployment(_Object, tag=True):
    spec: DeploymentSpec


class StatefulSet(_Object, tag=True):
    spec: StatefulSetSpec


class PodDisruptionBudget(_Object, tag=True):
    spec: BudgetSpec


class NetworkPolicy(_Object, tag=True):
    spec: PolicySpec


class PodMonitor(_Object, tag=True):
    spec: PodMonitorSpec


Object = Annotated[
    Namespace
    | ServiceAccount
    | ConfigMap
    | Service
    | Deployment
    | StatefulSet
    | PodDisruptionBudget
    | NetworkPolicy
    | PodMonitor,
    "an object of the API",
]


def parse(text: str) -> list[Object]:
    """Every document of a YAML text."""
    return [msgspec.convert(plain, Object) for plain in yaml.safe_load_all(text)]  # pyright: ignore[reportReturnType, reportArgumentType]


def kustomizations() -> dict[str, dict[str, Any]]:
    """Folder → its kustomization, relative to deploy/kubernetes."""
    found = sorted(FOLDER.rglob("kustomization.yaml"))
    return {str(path.parent.relative_to(FOLDER)): yaml.safe_load(path.read_text()) for path in found}


def files() -> list[Path]:
    """The files with objects in them."""
    return sorted(path for path in FOLDER.rglob("*.yaml") if path.name not in ("kustomization.yaml", STOPPED.name))
