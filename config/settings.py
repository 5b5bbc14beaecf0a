"""Settings: one TOML file, environment overrides, read once. In: a path and an environment. Out: frozen values, or BadConfig.

An unknown key is refused with the nearest known one. File paths are relative to the folder of the settings file and come out absolute.
`STAKESIDE_<SECTION>__<KEY>` overrides a key of a table (`STAKESIDE_WEB__PORT=9000`). Every key is described in `docs/settings.md`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, TypeVar, cast
from urllib.parse import urlsplit

import msgspec

from config import sections, staking, toml
from domain import errors
from kit import logs, places

Port = sections.Port
Seconds = sections.Seconds
Count = sections.Count
Text = sections.Text
Amount = sections.Amount
SettingsT = TypeVar("SettingsT", bound=msgspec.Struct)

LOOPBACK = "127.0.0.1"


_Section = sections.Section


class AgentSection(_Section, frozen=True):
    """`store` is where the book lies: `sqlite:///file` (relative to the settings file) or a PostgreSQL address."""

    name: Text = "agent"
    store: Text = "sqlite:///stakeside.db"


class NodeSection(_Section, frozen=True):
    """`url` answers JSON-RPC over HTTP. `ws`, when given, announces new heads; without it the agent polls."""

    url: Text
    ws: Text | None = None
    timeout_s: Seconds = 10.0


class DeploymentSection(_Section, frozen=True):
    """`document` is the deployment document that agents, hub and verifier share."""

    document: Path


class ProtocolSection(_Section, frozen=True):
    """A protocol to index. `manifest` and `network` are names of shipped files or paths; `streams` are names of the document."""

    name: Text
    manifest: Text
    network: Text
    streams: tuple[Text, ...] = ()


class UpstreamSection(_Section, frozen=True):
    """`[hub]` of an agent: where attestations go. `token_file` holds the token for the hub's consumer API (adoption). `adopt`: whether a
    gap is closed by others' frames at once, or when a person says so. With https, `ca_file` says whom to trust instead of the system's
    list, and `certificate_file` with `key_file` is what the agent shows of itself. `insecure_http` lets the token travel without TLS."""

    url: Text
    token_file: Path | None = None
    insecure_http: bool = False
    ca_file: Path | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None
    adopt: Literal["auto", "ask"] = "auto"


class TlsSection(_Section, frozen=True):
    """`[web.tls]`: serve https. With `client_ca_file` only who shows a certificate of that authority is answered; `health_port` then answers
    probes in plain HTTP."""

    certificate_file: Path
    key_file: Path
    client_ca_file: Path | None = None
    health_port: Port | None = None


class WebSection(_Section, frozen=True):
    """Where to listen. Port 0 takes a free one; the port in use is in the `ready` line and in `web.port` beside the book. `read`: who may
    look: anyone who reaches the port, or only principals. Changes always need a role. `hosts`: names it is asked by on loopback."""

    host: Text = LOOPBACK
    port: Port = 8480
    hosts: tuple[Text, ...] = ()
    tls: TlsSection | None = None
    read: Literal["anyone", "viewer"] = "anyone"


class LogSection(_Section, frozen=True):
    format: logs.Format = "console"
    level: logs.Level = "info"


class LimitsSection(_Section, frozen=True):
    """`max_lag_blocks` is when readiness ends, `poll_s` how often the head is asked for without a websocket, `backfill_range` the
    most blocks one range request asks for."""

    max_lag_blocks: Count = 20
    poll_s: Seconds = 2.0
    backfill_range: Count = 2000


class RetentionSection(_Section, frozen=True):
    """Days after which rows that may go are deleted; 0 keeps them. What each table keeps is declared in `store/retention.py`."""

    orphaned_days: Annotated[int, msgspec.Meta(ge=0, le=36_500)] = 90
    journal_days: Annotated[int, msgspec.Meta(ge=0, le=36_500)] = 90


class AgentSettings(_Section, frozen=True):
    """`agent.toml`. Without `attester` the agent attests nothing; without `hub` it reports to nobody; without `delegator`, `submit` and `policy`
    it sends nothing: it only observes."""

    node: NodeSection
    deployment: DeploymentSection
    protocols: tuple[ProtocolSection, ...]
    agent: AgentSection = AgentSection()
    attester: dict[str, object] | None = None
    delegator: dict[str, object] | None = None
    submit: staking.SubmitSection | None = None
    policy: staking.PolicySection | None = None
    hub: UpstreamSection | None = None
    web: WebSection = WebSection()
    log: LogSection = LogSection()
    limits: LimitsSection = LimitsSection()
    retention: RetentionSection = RetentionSection()


class HubSection(_Section, frozen=True):
    name: Text = "hub"
    store: Text = "sqlite:///hub.db"


class HubDeploymentSection(_Section, frozen=True):
    """`chain_id` is the chain whose domain the hub's receipts are signed in."""

    document: Path
    chain_id: Annotated[int, msgspec.Meta(ge=1, le=2**53)]


class ConsumersSection(_Section, frozen=True):
    """`tokens_file` has one `name:sha256hex` a line; without it nobody can read statements."""

    tokens_file: Path


class HubWebSection(_Section, frozen=True):
    host: Text = LOOPBACK
    port: Port = 8490
    hosts: tuple[Text, ...] = ()
    tls: TlsSection | None = None


class CapsSection(_Section, frozen=True):
    """What a frame may add before a person has to look: `max_reward_growth` in the asset's smallest unit, `max_growth_bps` in 1/10,000 of
    the total before. None: no cap."""

    max_reward_growth: Amount | None = None
    max_growth_bps: Annotated[int, msgspec.Meta(ge=0, le=2**53)] | None = None


class LeasesSection(_Section, frozen=True):
    """`accounts` are those that agents may hold a lease of; None: anybody's, as long as there is room."""

    accounts: tuple[sections.Address, ...] | None = None


class HubSettings(_Section, frozen=True):
    """`hub.toml`. `receipts` is the signer table of the key that signs receipts, or a list of them while the document moves from one key
    to the next."""

    deployment: HubDeploymentSection
    receipts: dict[str, object] | tuple[dict[str, object], ...]
    hub: HubSection = HubSection()
    web: HubWebSection = HubWebSection()
    consumers: ConsumersSection | None = None
    caps: CapsSection = CapsSection()
    leases: LeasesSection = LeasesSection()
    log: LogSection = LogSection()

    @property
    def receipt_tables(self) -> tuple[dict[str, object], ...]:
        return (self.receipts,) if isinstance(self.receipts, dict) else self.receipts


def load_agent(path: Path, env: Mapping[str, str]) -> AgentSettings:
    """Raises BadConfig naming file, line or key, value and cure."""
    loaded = _load(path, env, AgentSettings)
    _address(loaded.node.url, "node.url", ("http", "https"))
    if loaded.node.ws is not None:
        _address(loaded.node.ws, "node.ws", ("ws", "wss"))
    if loaded.hub is not None:
        _address(loaded.hub.url, "hub.url", ("http", "https"))
    _distinct([p.name for p in loaded.protocols], "protocols.name")
    _distinct([s for p in loaded.protocols for s in p.streams], "protocols.streams")
    if not loaded.protocols:
        raise errors.BadConfig("no protocol is configured", cure="add a [[protocols]] table")
    staking.check(
        delegator=loaded.delegator,
        submit=loaded.submit,
        policy=loaded.policy,
        hub=loaded.hub is not None,
        store=loaded.agent.store,
        protocols=tuple([p.name for p in loaded.protocols]),
    )
    folder = path.absolute().parent
    return msgspec.structs.replace(
        loaded,
        agent=msgspec.structs.replace(loaded.agent, store=_store(loaded.agent.store, folder, "agent.store")),
        deployment=msgspec.structs.replace(loaded.deployment, document=folder / loaded.deployment.document),
        protocols=tuple(
            msgspec.structs.replace(p, manifest=_named(p.manifest, folder), network=_named(p.network, folder))
            for p in loaded.protocols
        ),
        attester=_signer(loaded.attester, folder, "attester"),
        delegator=_signer(loaded.delegator, folder, "delegator"),
        hub=_upstream(loaded.hub, folder),
        web=msgspec.structs.replace(loaded.web, tls=_tls(loaded.web.tls, folder)),
    )


def load_hub(path: Path, env: Mapping[str, str]) -> HubSettings:
    """Raises BadConfig naming file, line or key, value and cure."""
    loaded = _load(path, env, HubSettings)
    folder = path.absolute().parent
    consumers = loaded.consumers
    if consumers is not None:
        consumers = msgspec.structs.replace(consumers, tokens_file=folder / consumers.tokens_file)
    return msgspec.structs.replace(
        loaded,
        hub=msgspec.structs.replace(loaded.hub, store=_store(loaded.hub.store, folder, "hub.store")),
        deployment=msgspec.structs.replace(loaded.deployment, document=folder / loaded.deployment.document),
        receipts=_signers(loaded.receipts, folder, "receipts"),
        consumers=consumers,
        web=msgspec.structs.replace(loaded.web, tls=_tls(loaded.web.tls, folder)),
    )


def read_secret(path: Path, *, what: str) -> str:
    """The content of a token or password file without its line end. Raises BadConfig that names the file, never the content."""
    try:
        with path.open("rb") as file:
            data = file.read(4097)
        text = data.decode().strip()
    except OSError as error:
        raise errors.BadConfig(
            f"{what} cannot be read: {error.strerror}", value=str(path), cure="check the path and who may read it"
        ) from None
    except UnicodeDecodeError:
        raise errors.BadConfig(f"{what} is not text", value=str(path)) from None
    if not text or len(data) > 4096 or not text.isprintable():
        raise errors.BadConfig(f"{what} must hold one line of text", value=str(path))
    return text


def port_file(store: str) -> Path | None:
    """Where a process writes the port it listens on: `web.port` beside its SQLite book. None for other databases."""
    scheme, _, rest = store.partition("://")
    return Path(rest[1:]).parent / "web.port" if scheme.startswith("sqlite") else None


def redacted(settings: AgentSettings | HubSettings) -> dict[str, object]:
    """The settings as plain values for a person's eyes: secrets and the secret parts of addresses are gone."""
    plain = cast("dict[str, object]", msgspec.to_builtins(settings, enc_hook=str))
    return cast("dict[str, object]", _redact("", plain))


def _redact(name: str, value: object) -> object:
    if isinstance(value, dict):
        items = cast("dict[str, object]", value)
        return {key: _redact(key, item) for key, item in items.items()}
    if isinstance(value, list | tuple):
        return [_redact(name, item) for item in cast("list[object]", value)]
    if isinstance(value, str):
        return logs.HIDDEN if logs.secret_name(name) else logs.scrub(value)
    return value


def _load(path: Path, env: Mapping[str, str], type_: type[SettingsT]) -> SettingsT:
    source = toml.read(path)
    toml.override(source, env, type_)
    return toml.convert(source, type_)


def _address(url: str, key: str, schemes: tuple[str, ...]) -> None:
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in schemes or not rest or any(c.isspace() for c in url):
        raise errors.BadConfig(
            f"{key} is not an address", value=logs.safe_url(url), cure=f"write {schemes[0]}://host:port"
        )


def _distinct(names: list[str], key: str) -> None:
    for name in names:
        if names.count(name) > 1:
            raise errors.BadConfig(f"{key} is used twice", value=name, cure="each may be there once")


def _store(url: str, folder: Path, key: str) -> str:
    """SQLite files become absolute; PostgreSQL addresses stay."""
    scheme, separator, rest = url.partition("://")
    if not separator or scheme.partition("+")[0] not in ("sqlite", "postgresql"):
        raise errors.BadConfig(
            f"{key} is not a database address",
            value=logs.safe_url(url),
            cure='write "sqlite:///file.db" or "postgresql://…"',
        )
    if not scheme.startswith("sqlite"):
        return url
    if not rest.startswith("/") or len(rest) < 2:
        raise errors.BadConfig(f"{key} names no file", value=url, cure='write three slashes: "sqlite:///file.db"')
    return f"{scheme}:///{folder / rest[1:]}"


def _named(text: str, folder: Path) -> str:
    """A shipped name stays; a path becomes absolute."""
    is_path = "/" in text or text.endswith(".toml")
    return str(folder / text) if is_path else text


def _upstream(hub: UpstreamSection | None, folder: Path) -> UpstreamSection | None:
    if hub is None:
        return None
    files: dict[str, Path | None] = {
        "ca_file": hub.ca_file,
        "certificate_file": hub.certificate_file,
        "key_file": hub.key_file,
    }
    named = [name for name, file in files.items() if file is not None]
    if named and not hub.url.startswith("https://"):
        raise errors.BadConfig(
            f"hub.{named[0]} has no use without TLS", value=logs.safe_url(hub.url), cure="write https:// in hub.url"
        )
    if (hub.certificate_file is None) != (hub.key_file is None):
        raise errors.BadConfig(
            "hub.certificate_file and hub.key_file belong together", cure="name both, or neither: the hub may not ask"
        )
    parts = urlsplit(hub.url)
    sends_token = hub.token_file is not None and parts.scheme == "http" and not places.loopback(parts.hostname or "")
    if sends_token and not hub.insecure_http:
        raise errors.BadConfig(
            "hub.token_file would be sent in plain HTTP, to be read by whoever listens",
            value=logs.safe_url(hub.url),
            cure="write https:// in hub.url, leave the token out, or accept it with hub.insecure_http = true",
        )
    return msgspec.structs.replace(
        hub,
        token_file=_beside(hub.token_file, folder),
        ca_file=_beside(hub.ca_file, folder),
        certificate_file=_beside(hub.certificate_file, folder),
        key_file=_beside(hub.key_file, folder),
    )


def _tls(section: TlsSection | None, folder: Path) -> TlsSection | None:
    if section is None:
        return None
    return msgspec.structs.replace(
        section,
        certificate_file=folder / section.certificate_file,
        key_file=folder / section.key_file,
        client_ca_file=_beside(section.client_ca_file, folder),
    )


def _beside(file: Path | None, folder: Path) -> Path | None:
    return None if file is None else folder / file


def _signers(
    tables: dict[str, object] | tuple[dict[str, object], ...], folder: Path, section: str
) -> dict[str, object] | tuple[dict[str, object], ...]:
    if isinstance(tables, dict):
        return _signer(tables, folder, section) or {}
    return tuple(_signer(table, folder, section) or {} for table in tables)


def _signer(table: dict[str, object] | None, folder: Path, section: str) -> dict[str, object] | None:
    """A signer's table: `kind` and the kind's own keys. Secrets belong into files, whose paths become absolute."""
    if table is None:
        return None
    if not isinstance(table.get("kind"), str):
        raise errors.BadConfig(f"[{section}] needs `kind`", cure='for example kind = "keystore"')
    resolved: dict[str, object] = {}
    for key, value in table.items():
        if key == "password_fd":
            resolved[key] = (
                int(value) if isinstance(value, str) and value.isdecimal() else value
            )  # as a variable has it
            continue
        if isinstance(value, str) and logs.secret_name(key):
            raise errors.BadConfig(
                f"{section}.{key} would hold a secret", cure=f"put it into a file and name {key}_file"
            )
        is_path = isinstance(value, str) and (key == "path" or key.endswith(("_file", "_path")))
        resolved[key] = str(folder / str(value)) if is_path else value
    return resolved
