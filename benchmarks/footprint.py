"""What an agent costs: seconds from its start until `/readyz` says yes, and its memory ten seconds later.

    .venv/bin/python -m benchmarks.footprint --json [--quick]

A real process beside a real Anvil with a played history. Prints one JSON object: the median of several starts, after one that fills the
byte-code cache. `rss_mb` is resident memory in MiB as the kernel counts it; `listening_s` is when the process answers at all. These are of
an agent that only observes; `both_…` are of one with both belts: it attests, and it delegates under a policy.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from pathlib import Path

import msgspec

from devnet import demo_treasury, documents, fleet, play, staking

SETTLE_S = 10.0
DEADLINE_S = 30.0
STEPS = 150


class Start(msgspec.Struct, frozen=True):
    """One start. `rss_mb` is None where the kernel does not say (only Linux does)."""

    listening_s: float
    ready_s: float
    rss_mb: float | None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print only the JSON object")
    parser.add_argument("--quick", action="store_true", help="one start, within 45 s")
    args = parser.parse_args()
    result = asyncio.run(run(starts=1 if args.quick else 5))
    if not args.json:
        for name, value in result.items():
            print(f"{name:>12}  {value}")
    print(json.dumps(result))


async def run(*, starts: int) -> dict[str, float | int | None]:
    """The measured keys."""
    with tempfile.TemporaryDirectory(prefix="footprint-") as name:
        folder = Path(name)
        network = folder / "network.toml"
        async with staking.up(network_file=network) as devnet, fleet.Fleet(folder / "fleet", str(network)) as members:
            chain = devnet.staking
            await play.Player(chain, 1, validators=3, delegators=8).run(STEPS)
            genesis = await _genesis(devnet)
            attester, treasury = (
                members.key("attester"),
                members.funded_key("treasury", account=len(chain.accounts) - 2),
            )
            document = documents.document(
                chain_id=devnet.node.chain_id,
                genesis=genesis,
                start=chain.start_block,
                signers=[attester.address],
            )
            members.publish(documents.with_ruleset(document, await members.ruleset(document)))
            observer = members.agent("observer", node_url=devnet.node.url, ws_url=devnet.node.ws_url, observe_only=True)
            acting = members.agent(
                "both",
                node_url=devnet.node.url,
                ws_url=devnet.node.ws_url,
                attester=attester,
                tables=demo_treasury.tables(treasury.file, validator=chain.accounts[1], hub=False),
            )
            observed, acted = await _measure(observer, starts=starts), await _measure(acting, starts=starts)
    return {**observed, **{f"both_{name}": value for name, value in acted.items()}, "starts": starts}


async def _measure(agent: fleet.Agent, *, starts: int) -> dict[str, float | None]:
    """Medians of `starts`, after one that nobody counts."""
    await _start(agent, settle_s=0.0)
    measured = [await _start(agent, settle_s=SETTLE_S) for _ in range(starts)]
    memory = [start.rss_mb for start in measured if start.rss_mb is not None]
    return {
        "ready_s": round(statistics.median(start.ready_s for start in measured), 3),
        "rss_mb": round(statistics.median(memory), 1) if memory else None,
        "listening_s": round(statistics.median(start.listening_s for start in measured), 3),
    }


async def _genesis(devnet: staking.Devnet) -> str:
    from devnet import rpc

    async with rpc.Rpc(devnet.node.url) as client:
        return str((await client.call("eth_getBlockByNumber", "0x0", False))["hash"])


async def _start(agent: fleet.Agent, *, settle_s: float) -> Start:
    """Start in an empty book, wait, measure, stop."""
    for file in agent.folder.glob("stakeside.db*"):
        file.unlink()
    began = time.perf_counter()
    await agent.start()
    while not any(event.get("event") == "ready" for event in agent.events()):
        _in_time(began, agent)
        await asyncio.sleep(0.005)
    listening = time.perf_counter() - began
    await agent.listening()
    while (answer := await agent.get("/readyz")) is None or answer[0] != 200:
        _in_time(began, agent)
        await asyncio.sleep(0.01)
    ready = time.perf_counter() - began
    await asyncio.sleep(settle_s)
    memory = _resident_mb(agent.pid) if settle_s else None
    await agent.stop()
    return Start(listening, ready, memory)


def _in_time(began: float, agent: fleet.Agent) -> None:
    if time.perf_counter() - began > DEADLINE_S:
        raise TimeoutError(f"the agent is not ready after {DEADLINE_S:.0f} s:\n{agent.log_file.read_text()[-2000:]}")


def _resident_mb(pid: int | None) -> float | None:
    status = Path(f"/proc/{pid}/status")
    if not status.exists():
        return None
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    main()
