"""The lying node: what a provider can do to you, on demand. `LyingNode` for programs, `main` for `stakeside devnet proxy`."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from typing import Protocol

import msgspec

from devnet.proxy import catalogue, wordings
from devnet.proxy.catalogue import Fault, parse
from devnet.proxy.node import LyingNode

__all__ = ["Fault", "LyingNode", "Options", "catalogue", "main", "parse", "wordings"]


class Options(Protocol):
    """`fault` holds texts as in `catalogue`; port 0 takes any free port."""

    upstream: str
    port: int
    fault: list[str]
    seed: int


async def main(options: Options) -> int:
    """Lies until SIGINT or SIGTERM. Prints one JSON line when ready and one with its counters at the end."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError):
            loop.add_signal_handler(number, stop.set)
    async with LyingNode(options.upstream, options.fault, options.seed, port=options.port) as node:
        _say(
            {
                "event": "ready",
                "url": node.url,
                "ws_url": node.ws_url,
                "control": f"{node.url}/__faults",
                **node.report(),
            }
        )
        await stop.wait()
        _say({"event": "stopped", **node.report()})
    return 0


def _say(line: dict[str, object]) -> None:
    sys.stdout.write(msgspec.json.encode(line).decode() + "\n")
    sys.stdout.flush()
