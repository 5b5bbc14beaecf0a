"""What the README tells a newcomer to type works as written, against a real chain."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
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
PORT = "8545"
STAYS = ("devnet up", "agent run")


def steps(number: int) -> list[str]:
    """The commands of a step, without their comments."""
    part = (ROOT / "README.md").read_text().partition(f"**{number}. ")[2].partition(f"**{number + 1}. ")[0]
    return [re.split(r"\s+#", line)[0].strip() for line in re.findall(r"^ {4}(.+)$", part, re.MULTILINE)]


def free_port() -> str:
    with socket.socket() as asked:
        asked.bind(("127.0.0.1", 0))
        return str(asked.getsockname()[1])


@asynccontextmanager
async def typed(command: str, folder: Path, port: str) -> AsyncIterator[Process]:
    """As from a shell in a clone whose node has another port, so that tests can run side by side."""
    words = shlex.split(command.replace(PORT, port))
    if words[0].endswith("/stakeside"):
        words[:1] = [sys.executable, "-m", "cli.main"]
    if command.endswith("devnet up"):
        words += ["--port", port]
    path = f"{anvil.binary().parent}:{os.environ['PATH']}"
    env = {"PYTHONPATH": str(ROOT), "PATH": path, "STAKESIDE_WEB__PORT": "0"}
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


@pytest.mark.slow
async def test_the_commands_of_the_readme_start_an_agent_beside_a_devnet_and_delegate_through_it(
    tmp_path: Path,
) -> None:
    (tmp_path / "deploy").symlink_to(ROOT / "deploy")
    port, url, said = free_port(), "", b""
    assert all(any(part in command for command in steps(3)) for part in ("devnet up", "agent check", "agent run"))
    assert any("principal add root --role admin" in command for command in steps(3)), "the first one lets others in"
    assert any("--role approver" in command for command in steps(4)) and "--wait" in steps(4)[-1]
    async with AsyncExitStack() as stack:
        for command in steps(3):
            process = await stack.enter_async_context(typed(command, tmp_path, port))
            if command.startswith("cp "):
                assert await process.wait() == 0
                copied = tmp_path / "agent.toml"
                copied.write_text(copied.read_text().replace(PORT, port))
            elif any(stays in command for stays in STAYS):
                url = str((await ready(process))["url"])
            else:
                said = await ended(command, process)
                assert b"FAIL" not in said and b"warn" not in said, said
        async with aiohttp.ClientSession() as session, asyncio.timeout(60):
            while True:
                async with session.get(f"{url.rstrip('/')}/readyz") as answer:
                    if answer.status == 200:
                        break
                await asyncio.sleep(0.1)
        await stack.enter_async_context(hurried(port))
        for command in steps(4):
            said = await ended(command, await stack.enter_async_context(typed(command, tmp_path, port)))
        assert b"final_ok" in said, said
    assert (tmp_path / "run" / "laptop" / "agent.db").exists()
