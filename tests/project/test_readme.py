"""What the README and the page that goes on from it tell a newcomer to type works as written, against a real chain."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import shutil
import signal
import socket
import sys
from asyncio.subprocess import PIPE, Process
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from devnet import anvil, rpc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ROOT = Path(__file__).resolve().parents[2]
PORT, HUB_PORT = "8545", "8490"
STAYS = ("devnet up", "agent run", "hub run")
ENV = {"PYTHONPATH": str(ROOT), "PATH": f"{anvil.binary().parent}:{os.environ['PATH']}"}


def steps(number: int) -> list[str]:
    """The commands of a step, without their comments."""
    part = (ROOT / "README.md").read_text().partition(f"**{number}. ")[2].partition(f"**{number + 1}. ")[0]
    return [re.split(r"\s+#", line)[0].strip() for line in typed_lines(part)]


def typed_lines(text: str) -> list[str]:
    return re.findall(r"^ {4}(.+)$", text, re.MULTILINE)


def free_port() -> str:
    with socket.socket() as asked:
        asked.bind(("127.0.0.1", 0))
        return str(asked.getsockname()[1])


@asynccontextmanager
async def typed(command: str, folder: Path, port: str, *, web_port: str = "0") -> AsyncIterator[Process]:
    """As from a shell in a clone whose node has another port, so that tests can run side by side."""
    words = shlex.split(command.replace(PORT, port))
    if words[0].endswith("/stakeside"):
        words[:1] = [sys.executable, "-m", "cli.main"]
    if command.endswith("devnet up"):
        words += ["--port", port]
    env = {**ENV, "STAKESIDE_WEB__PORT": web_port}
    process = await asyncio.create_subprocess_exec(*words, cwd=folder, env=env, stdout=PIPE, stderr=PIPE)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
            await process.communicate()


async def ready(process: Process) -> dict[str, Any]:
    assert process.stdout is not None and process.stderr is not None
    async with asyncio.timeout(60):
        said = await process.stdout.readline()
        if not said:
            raise AssertionError((await process.stderr.read()).decode())
    return json.loads(said)


@asynccontextmanager
async def hurried(port: str) -> AsyncIterator[None]:
    """Blocks come faster than one would wait for them."""

    async def mine(node: rpc.Rpc) -> None:
        while True:
            await node.call("anvil_mine", "0x4")
            await asyncio.sleep(0.2)

    async with rpc.Rpc(f"http://127.0.0.1:{port}") as node:
        mining = asyncio.create_task(mine(node))
        try:
            yield
        finally:
            mining.cancel()
            with suppress(asyncio.CancelledError):
                await mining


async def ended(command: str, process: Process) -> bytes:
    async with asyncio.timeout(90):
        out, err = await process.communicate()
    assert process.returncode == 0, (command, out, err)
    return out + err


async def laptop(stack: AsyncExitStack, folder: Path, port: str) -> Process:
    """Step 3, until the agent that stays is ready."""
    (folder / "deploy").symlink_to(ROOT / "deploy")
    url, agent = "", None
    for command in steps(3):
        process = await stack.enter_async_context(typed(command, folder, port))
        if command.startswith("cp "):
            assert await process.wait() == 0
            copied = folder / "agent.toml"
            copied.write_text(copied.read_text().replace(PORT, port))
        elif any(stays in command for stays in STAYS):
            url, agent = str((await ready(process))["url"]), process
        else:
            said = await ended(command, process)
            assert b"FAIL" not in said and b"warn" not in said, said
    async with aiohttp.ClientSession() as session, asyncio.timeout(60):
        while True:
            async with session.get(f"{url.rstrip('/')}/readyz") as answer:
                if answer.status == 200:
                    break
            await asyncio.sleep(0.1)
    assert agent is not None
    return agent


@pytest.mark.slow
async def test_the_commands_of_the_readme_start_an_agent_beside_a_devnet_and_delegate_through_it(
    tmp_path: Path,
) -> None:
    port, said = free_port(), b""
    assert all(any(part in command for command in steps(3)) for part in ("devnet up", "agent check", "agent run"))
    assert any("principal add root --role admin" in command for command in steps(3)), "the first one lets others in"
    assert any("--role approver" in command for command in steps(4)) and "--wait" in steps(4)[-1]
    async with AsyncExitStack() as stack:
        await laptop(stack, tmp_path, port)
        await stack.enter_async_context(hurried(port))
        for command in steps(4):
            said = await ended(command, await stack.enter_async_context(typed(command, tmp_path, port)))
        assert b"final_ok" in said, said
    assert (tmp_path / "run" / "laptop" / "agent.db").exists()


async def shell(lines: list[str], folder: Path, ports: dict[str, str]) -> str:
    """What a shell says that stops at the first command that fails."""
    for name, module in (("stakeside", "-m cli.main "), ("python", "")):
        word = folder / ".venv" / "bin" / name
        word.parent.mkdir(parents=True, exist_ok=True)
        word.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {module}"$@"\n')
        word.chmod(0o755)
    script = "\n".join(["set -euo pipefail", *lines])
    for written, real in ports.items():
        script = script.replace(written, real)
    process = await asyncio.create_subprocess_exec("bash", "-c", script, cwd=folder, env=ENV, stdout=PIPE, stderr=PIPE)
    return (await ended(script, process)).decode()


async def sealed(folder: Path, hub_port: str, *, block: int) -> None:
    """Until the newest statement reaches as far as `block`."""
    token = (folder / "run" / "laptop" / "agent-1" / "hub.token").read_text().strip()
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"}) as session, asyncio.timeout(60):
        while True:
            async with session.get(f"http://127.0.0.1:{hub_port}/v1/streams") as answer:
                newest = (await answer.json())["streams"][0]["sealed"]
            if newest is not None and 10 * (int(newest) + 1) >= block:
                return
            await asyncio.sleep(0.1)


@pytest.mark.slow
async def test_the_page_from_a_number_to_a_block_works_as_written_where_the_readme_ends(tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("the page's commands need curl")
    port, hub_port = free_port(), free_port()
    ports = {PORT: port, HUB_PORT: hub_port}
    pending: list[str] = []
    async with AsyncExitStack() as stack:
        agent = await laptop(stack, tmp_path, port)
        async with hurried(port):
            for command in steps(4):
                await ended(command, await stack.enter_async_context(typed(command, tmp_path, port)))
        for line in typed_lines((ROOT / "docs" / "number-to-block.md").read_text()):
            if not any(stays in line for stays in STAYS):
                pending.append(line)
                continue
            await shell(pending, tmp_path, ports)
            pending.clear()
            if "agent run" in line:
                agent.send_signal(signal.SIGTERM)
                await agent.wait()
            started = typed(line.partition("#")[0].strip(), tmp_path, port, web_port=hub_port if "hub" in line else "0")
            await ready(await stack.enter_async_context(started))
        assert "devnet play" in pending[0]
        await shell(pending[:1], tmp_path, ports)
        async with hurried(port), rpc.Rpc(f"http://127.0.0.1:{port}") as node:
            await sealed(tmp_path, hub_port, block=int(await node.call("eth_blockNumber"), 16))
        said = await shell(pending[1:], tmp_path, ports)
    rows = dict(re.findall(r"^kind (\d+) (\d+) ", said, re.MULTILINE))
    assert (rows["41"], int(rows["1"]) > 0) == (str(10**18), True), said
    folded = set(re.findall(r"^kind .* root (0x\w{64})$", said, re.MULTILINE))
    assert folded == set(re.findall(r"^signed root (0x\w{64})$", said, re.MULTILINE)), said
    assert said.count("VERIFIED: everything that was checked holds") == 2
    assert "is on the chain and final" in said
