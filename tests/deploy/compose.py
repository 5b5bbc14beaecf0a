"""The compose file as typed values. In: deploy/compose/compose.yaml. Out: its services, or a complaint about a key nobody knows.

The structs hold the part of the Compose Specification that the file uses, so a misspelled key is an error here too.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

import msgspec
import yaml

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "deploy" / "compose" / "compose.yaml"


class _Part(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Base: what is not listed is refused."""


class Build(_Part):
    context: str


class Limits(_Part):
    memory: str
    cpus: str | None = None
    pids: int | None = None


class Resources(_Part):
    limits: Limits
    reservations: Limits | None = None


class Deploy(_Part):
    resources: Resources


class Healthcheck(_Part):
    test: list[str] | None = None
    interval: str | None = None
    timeout: str | None = None
    start_period: str | None = None
    retries: int | None = None
    disable: bool = False


class Subpath(_Part):
    subpath: str


class Mount(_Part):
    type: Literal["volume"]
    source: str
    target: str
    read_only: bool = False
    volume: Subpath | None = None


class ConfigUse(_Part):
    source: str
    target: str


class Dependency(_Part):
    condition: Literal["service_started", "service_healthy", "service_completed_successfully"]


class Logging(_Part):
    driver: str
    options: dict[str, str]


class Service(_Part):
    image: str
    user: str
    read_only: bool
    init: bool
    cap_drop: list[str]
    security_opt: list[str]
    tmpfs: list[str]
    networks: list[str]
    logging: Logging
    command: list[str]
    deploy: Deploy
    healthcheck: Healthcheck
    restart: Literal["no", "unless-stopped"]
    build: Build | None = None
    entrypoint: list[str] | None = None
    environment: dict[str, str] = {}
    configs: list[ConfigUse] = []
    volumes: list[str | Mount] = []
    ports: list[str] = []
    depends_on: dict[str, Dependency] = {}
    stop_grace_period: str | None = None

    @property
    def mounts(self) -> list[Mount]:
        """Every volume in its long form."""
        return [_mount(item) if isinstance(item, str) else item for item in self.volumes]


class ConfigFile(_Part):
    file: str


class Compose(_Part):
    name: str
    services: dict[str, Service]
    configs: dict[str, ConfigFile]
    volumes: dict[str, None]
    networks: dict[str, None]

    def in_order(self) -> list[str]:
        """Services after those they depend on."""
        found: list[str] = []

        def visit(name: str, above: tuple[str, ...]) -> None:
            assert name not in above, f"{name} waits for itself"
            for other in self.services[name].depends_on:
                visit(other, (*above, name))
            if name not in found:
                found.append(name)

        for name in self.services:
            visit(name, ())
        return found


def load() -> Compose:
    """Anchors resolved, extension fields (`x-…`) gone, variables at their defaults."""
    text = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", FILE.read_text())
    assert "${" not in text, "a variable without a default"
    plain: dict[str, Any] = yaml.safe_load(text)
    return msgspec.convert({key: value for key, value in plain.items() if not key.startswith("x-")}, Compose)


def _mount(text: str) -> Mount:
    source, target, *rest = text.split(":")
    return Mount(type="volume", source=source, target=target, read_only="ro" in rest)
