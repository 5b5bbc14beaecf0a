"""A real hub process, killed at each of its crash points, goes on where it was: no vote lost, no receipt number twice."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from domain import hashing
from tests.earnings import factory, hub

ROOT = Path(__file__).parents[2]
FRAMES = factory.frames(2)
POINTS = [
    "hub.before_commit:2",
    "hub.after_commit:2",
    "hub.before_chunk_commit",
    "hub.after_chunk_commit",
    "hub.before_seal_commit",
    "hub.after_seal_commit",
]

DOCUMENT = """\
name = "test"
[[chains]]
id = 31337
genesis = "0x{genesis}"
[[streams]]
name = "rewards"
kind = "staking"
chain = 31337
protocol = "devnet"
deployment = "rewards"
accounts = "all"
asset = "{asset}"
start = 1
frame = "blocks:10"
[[epochs]]
signer_epoch = 0
signers = {signers}
k = 3
rulesets = {{ rewards = "{ruleset}" }}
from_sequence = {{ rewards = 0 }}
[[receipt_keys]]
address = "{key}"
"""

SETTINGS = """\
[hub]
name = "crashing"
[deployment]
document = "document.toml"
chain_id = 31337
[receipts]
kind = "dev"
key_file = "key"
[web]
port = 0
[consumers]
tokens_file = "tokens"
"""


def write(folder: Path) -> None:
    epoch = factory.epoch()
    (folder / "document.toml").write_text(
        DOCUMENT.format(
            genesis="11" * 32,
            asset=factory.ASSET,
            signers=json.dumps(epoch.signers),
            ruleset=epoch.rulesets["rewards"],
            key=factory.address(factory.HUB),
        )
    )
    (folder / "hub.toml").write_text(SETTINGS)
    (folder / "key").write_text(hashing.hex0x(hashing.keccak256(b"test key 100")))
    (folder / "tokens").write_text(f"test:{hashlib.sha256(factory.TOKEN.encode()).hexdigest()}\n")


@asynccontextmanager
async def process(folder: Path, *, crash_at: str = "") -> AsyncIterator[tuple[hub.Hub, asyncio.subprocess.Process]]:
    """`stakeside hub run`, listening."""
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "cli.main",
        "hub",
        "run",
        "--config",
        str(folder / "hub.toml"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        cwd=ROOT,
        env={**os.environ, "STAKESIDE_CRASH_AT": crash_at},
    )
    try:
        assert child.stdout is not None
        async with asyncio.timeout(30):
            line = await child.stdout.readline()
        event = json.loads(line)
        assert (event["event"], (folder / "web.port").read_text().strip()) == ("ready", str(event["port"]))
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session:
            yield hub.Hub(session, event["port"], asyncio.Event()), child
    finally:
        with contextlib.suppress(ProcessLookupError):
            child.terminate()
        await child.wait()


async def belt(h: hub.Hub) -> None:
    """What agents do until everything is sealed: send, and send again what has no receipt."""
    for made in FRAMES:
        for agent in factory.AGENTS[:3]:
            status, answer = await h.attest(agent, made)
            assert status == 200, answer

    async def sealed() -> bool | None:
        for made in FRAMES:
            root = hashing.hex0x(made.header.body_root)
            if any([root in await h.wanted(agent) for agent in factory.AGENTS[:3]]):
                await h.upload(made)
        found = [(await h.get(f"/v1/statements/{hashing.hex0x(made.digest)}"))[0] for made in FRAMES]
        return True if found == [200, 200] else None

    await hub.until(sealed)


@pytest.mark.parametrize("point", POINTS)
async def test_a_hub_killed_at_a_crash_point_goes_on_where_it_was(tmp_path: Path, point: str) -> None:
    write(tmp_path)
    async with process(tmp_path, crash_at=point) as (h, child):
        with pytest.raises(aiohttp.ClientError):
            await belt(h)
        assert await child.wait() == -signal.SIGKILL
    async with process(tmp_path) as (h, child):
        await belt(h)
        for agent in factory.AGENTS[:3]:
            page = (await h.get(f"/v1/receipts/{factory.address(agent)}", token=None))[1]["receipts"]
            assert [item["receipt"]["receiptNumber"] for item in page] == ["1", "2"]
            assert [item["receipt"]["digest"] for item in page] == [hashing.hex0x(made.digest) for made in FRAMES]
        assert (await h.get("/status"))[1]["evidence"] == []
        child.terminate()
        assert await child.wait() == 0, "SIGTERM is a clean end"
