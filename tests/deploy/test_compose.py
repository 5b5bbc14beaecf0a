"""The compose file: what it promises, and the whole stack run from it as processes of this machine instead of containers."""

from __future__ import annotations

import asyncio
import re
import shlex
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from cli import main
from config import settings
from devnet import anvil, fleet, rpc
from tests.deploy import compose
from tests.project import test_dockerfile

FOLDER = compose.FILE.parent
COMPOSE = compose.load()
OURS = {name: service for name, service in COMPOSE.services.items() if service.image == "stakeside:local"}
LIMIT_S = 60.0


def parsed(command: list[str]) -> Any:
    """What the console script makes of a command line. Ends the test when it refuses."""
    return main._parser(command).parse_args(command)  # pyright: ignore[reportPrivateUsage]


@pytest.mark.parametrize("name", COMPOSE.services)
def test_every_service_is_confined(name: str) -> None:
    service = COMPOSE.services[name]
    uid, _, gid = service.user.partition(":")
    assert int(uid) >= 1000 and int(gid) >= 1000
    assert service.read_only and service.init
    assert service.cap_drop == ["ALL"] and service.security_opt == ["no-new-privileges:true"]
    limits = service.deploy.resources.limits
    assert limits.cpus and limits.memory and limits.pids
    assert set(service.networks) <= set(COMPOSE.networks)


@pytest.mark.parametrize("name", OURS)
def test_every_command_is_one_of_ours(name: str) -> None:
    command = OURS[name].command
    if command != ["--version"]:
        assert callable(parsed(command).run)


@pytest.mark.parametrize("name", COMPOSE.services)
def test_every_mount_names_something_that_is_there(name: str) -> None:
    service = COMPOSE.services[name]
    for mount in service.mounts:
        assert mount.source in COMPOSE.volumes
    for use in service.configs:
        assert (FOLDER / COMPOSE.configs[use.source].file).is_file()
        assert use.target in service.command
    targets = [mount.target for mount in service.mounts] + [use.target for use in service.configs]
    assert len(targets) == len(set(targets))


def test_nothing_writes_where_nothing_can_be_written() -> None:
    """The books are on volumes, whose folder in the image belongs to the user; all else is read-only or in memory."""
    for name in ("hub", "agent-1", "agent-2", "agent-3"):
        writable = [m.target for m in OURS[name].mounts if not m.read_only]
        assert writable == ["/var/lib/stakeside"]
    assert test_dockerfile.only("VOLUME") == "/var/lib/stakeside"
    assert all(service.user == test_dockerfile.only("USER") for service in OURS.values())


def test_an_agent_sees_its_own_key_only_and_keeps_its_own_book() -> None:
    agents = {name: service for name, service in OURS.items() if name.startswith("agent-")}
    assert len(agents) == 3
    for name, service in agents.items():
        seen = {(m.source, m.volume.subpath if m.volume else None) for m in service.mounts}
        assert seen == {(name, None), ("papers", f"papers/{name}")}
        assert service.environment == {"STAKESIDE_AGENT__NAME": name}


def test_only_loopback_of_the_host_is_published() -> None:
    published = [port for service in COMPOSE.services.values() for port in service.ports]
    assert published and all(port.startswith("127.0.0.1:") for port in published)
    assert len({port.split(":")[1] for port in published}) == len(published)
    assert {port.split(":")[2] for port in published} == {test_dockerfile.only("EXPOSE")}


def test_what_runs_is_watched_and_what_runs_once_is_not() -> None:
    for name, service in COMPOSE.services.items():
        once = service.restart == "no"
        assert service.healthcheck.disable == once, name
        needed = [s.depends_on[name].condition for s in COMPOSE.services.values() if name in s.depends_on]
        assert set(needed) <= ({"service_completed_successfully"} if once else {"service_healthy", "service_started"})
    assert test_dockerfile.only("HEALTHCHECK")


def test_no_secret_stands_in_the_folder() -> None:
    names = [path.name for path in FOLDER.rglob("*") if path.is_file()]
    assert sorted(names) == ["agent.toml", "compose.yaml", "hub.toml"]


def test_the_shipped_settings_load_as_the_image_would_load_them() -> None:
    image = test_dockerfile.environment()
    env = {key: value for key, value in image.items() if key.startswith("STAKESIDE_")}
    agent = settings.load_agent(FOLDER / "settings" / "agent.toml", {**env, **OURS["agent-2"].environment})
    hub = settings.load_hub(FOLDER / "settings" / "hub.toml", env)
    assert agent.agent.name == "agent-2" and agent.hub is not None
    assert agent.hub.url == f"http://hub:{hub.web.port}"
    assert agent.node.url == f"http://anvil:{_option(COMPOSE.services['anvil'].command, '--port')}"
    assert str(hub.deployment.chain_id) == _option(COMPOSE.services["anvil"].command, "--chain-id")
    assert {agent.web.host, hub.web.host} == {"0.0.0.0"}


def _option(command: list[str], name: str) -> str:
    return command[command.index(name) + 1]


class Stack:
    """The services as processes. A volume is a folder; a path of a container is rewritten to where it is here."""

    def __init__(self, folder: Path, office: fleet.Fleet) -> None:
        self.folder = folder
        self.office = office
        self.ports = {name: anvil.free_port() for name in ("anvil", "hub", "agent-1", "agent-2", "agent-3")}
        self.running: dict[str, fleet.Process] = {}

    def place(self, service: str, text: str) -> str:
        for mount in COMPOSE.services[service].mounts:
            below = mount.volume.subpath if mount.volume else ""
            here = self.folder / "volumes" / mount.source / below
            if mount.read_only:
                assert here.is_dir(), f"{service}: {mount.source}/{below} was not made by those it waits for"
            else:
                here.mkdir(parents=True, exist_ok=True)
            text = re.sub(rf"(?<![\w.]){mount.target}\b", str(here), text)
        for use in COMPOSE.services[service].configs:
            text = text.replace(use.target, str(self.folder / service / Path(use.target).name))
        for host, port in (("anvil", 8545), ("hub", 8480)):
            text = text.replace(f"//{host}:{port}", f"//127.0.0.1:{self.ports[host]}")
        return text

    def process(self, service: str) -> fleet.Process:
        home = self.folder / service
        home.mkdir(exist_ok=True)
        for use in COMPOSE.services[service].configs:
            text = (FOLDER / COMPOSE.configs[use.source].file).read_text()
            (home / Path(use.target).name).write_text(self.place(service, text))
        arguments = [self.place(service, argument) for argument in COMPOSE.services[service].command]
        made = fleet.Process(service, arguments, home, self.office._http())  # pyright: ignore[reportPrivateUsage]
        self.office.processes.append(made)
        return made

    async def start(self, service: str) -> None:
        """Start it and wait for what those behind it wait for."""
        made = self.running[service] = self.process(service)
        image = {k: v for k, v in test_dockerfile.environment().items() if k.startswith("STAKESIDE_")}
        mine = {"STAKESIDE_WEB__HOST": "127.0.0.1", "STAKESIDE_WEB__PORT": str(self.ports.get(service, 0))}
        await made.start(environment={**image, **COMPOSE.services[service].environment, **mine})
        if COMPOSE.services[service].restart == "no":
            assert await made.ended(deadline_s=LIMIT_S) == 0, made.said()
        else:
            await made.listening(deadline_s=LIMIT_S)

    @asynccontextmanager
    async def chain(self) -> AsyncIterator[rpc.Rpc]:
        """Anvil with the compose file's own options."""
        service = COMPOSE.services["anvil"]
        assert service.entrypoint == ["anvil"]
        text = self.place("anvil", shlex.join(service.command))
        text = text.replace("0.0.0.0", "127.0.0.1").replace("8545", str(self.ports["anvil"]))
        process = await asyncio.create_subprocess_exec(anvil.binary(), *shlex.split(text), cwd=self.folder)
        try:
            async with rpc.Rpc(f"http://127.0.0.1:{self.ports['anvil']}") as client:
                yield client
        finally:
            process.terminate()
            await process.wait()


async def _answers(client: rpc.Rpc) -> None:
    from domain import errors

    for _ in range(600):
        try:
            await client.call("eth_blockNumber")
        except errors.Transient:
            await asyncio.sleep(0.05)
        else:
            return
    raise AssertionError("Anvil does not answer")


@pytest.mark.slow
async def test_the_stack_comes_up_in_its_order_and_seals(tmp_path: Path) -> None:
    async with fleet.Fleet(tmp_path) as office:
        stack = Stack(tmp_path, office)
        async with stack.chain() as client:
            await _answers(client)
            for name in COMPOSE.in_order():
                if name != "anvil":
                    await stack.start(name)
            papers = tmp_path / "volumes" / "papers" / "papers"
            assert sorted(path.name for path in papers.iterdir()) == ["agent-1", "agent-2", "agent-3", "hub"]
            modes = {stat.S_IMODE(path.stat().st_mode) for path in papers.rglob("*") if path.is_file()}
            assert modes == {0o600}
            documents = {(path / "deployment.toml").read_bytes() for path in papers.iterdir()}
            assert len(documents) == 1

            await client.call("anvil_mine", hex(40))
            hub = stack.running["hub"]

            async def sealed() -> bool | None:
                status = await hub.status()
                return True if status and status["streams"][0]["sealed"] not in (None, "0") else None

            await hub.until(sealed, what="two sealed frames", deadline_s=LIMIT_S)

            before = {path: path.read_bytes() for path in papers.rglob("*") if path.is_file()}
            await stack.start("papers")
            assert {path: path.read_bytes() for path in before} == before, "a second start must change no key"
            for name in ("agent-1", "hub"):
                assert await stack.running[name].stop(deadline_s=LIMIT_S) == 0
