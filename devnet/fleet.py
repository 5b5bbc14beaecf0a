"""Agents and hubs as real processes. In: what each is to do. Out: their folders, their lives and deaths, their logs and status.

A process is `python -m cli.main …` of this very interpreter in its own session, ended by its process id. Every wait has a deadline and
says, when it passes, what the process wrote last.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import secrets
import signal
import sys
import tomllib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp
import msgspec
import tenacity

from devnet import anvil, documents
from domain import deployment, errors
from kit import imports

Json = Any
ROOT = Path(__file__).resolve().parents[1]

READY_S = 30.0
STOP_S = 20.0
COMMAND_S = 60.0
LOOK_S = 0.05
"""Between two looks at a condition that nobody announces."""
CRASH_AT = "STAKESIDE_CRASH_AT"


class Process:
    """One `stakeside` process that can be started again and again in its folder. Its output is appended to `<name>.log`."""

    def __init__(self, name: str, arguments: list[str], folder: Path, session: aiohttp.ClientSession) -> None:
        self.name = name
        self.folder = folder
        self.log_file = folder / f"{name}.log"
        self.url = ""
        self.starts = 0
        self._arguments = arguments
        self._session = session
        self._process: asyncio.subprocess.Process | None = None
        self._said_before = 0

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    @property
    def exit_code(self) -> int | None:
        """Of the last life; negative is the signal that ended it."""
        return None if self._process is None else self._process.returncode

    async def start(self, *, environment: Mapping[str, str] | None = None) -> None:
        """Start it and return at once."""
        if self.running:
            raise errors.StakesideError(f"{self.name} is running already", value=self.pid)
        self.url = ""
        self.starts += 1
        with self.log_file.open("ab") as said:
            self._said_before = said.tell()
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "cli.main", *self._arguments),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                cwd=self.folder,
                env=_environment(environment or {}),
                start_new_session=True,
            )

    async def listening(self, *, deadline_s: float = READY_S) -> dict[str, Json]:
        """Wait for the ready line; from then on `url` answers. Raises when the process ends instead."""

        async def announced() -> dict[str, Json] | None:
            self._must_run()
            return next((line for line in self.events() if line.get("event") == "ready" and "url" in line), None)

        line = await self.until(announced, what="its ready line", deadline_s=deadline_s)
        self.url = str(line["url"]).rstrip("/")
        return line

    async def ready(self, *, deadline_s: float = READY_S) -> None:
        """Wait until `/readyz` says yes."""
        if not self.url:
            await self.listening(deadline_s=deadline_s)

        async def said_yes() -> bool | None:
            self._must_run()
            answer = await self.get("/readyz")
            return True if answer is not None and answer[0] == 200 else None

        await self.until(said_yes, what="/readyz to say yes", deadline_s=deadline_s)

    async def until(
        self, condition: Callable[[], Awaitable[Json | None]], *, what: str, deadline_s: float = READY_S
    ) -> Json:
        """The first answer of `condition` that is not None. Raises StakesideError with the last log lines at the deadline."""
        look = tenacity.AsyncRetrying(
            stop=tenacity.stop_after_delay(deadline_s),
            wait=tenacity.wait_fixed(LOOK_S),
            retry=tenacity.retry_if_result(_is_none),
        )
        try:
            return await look(condition)
        except tenacity.RetryError:
            raise errors.StakesideError(f"{self.name}: waited {deadline_s:g} s for {what}", value=self.tail()) from None

    async def get(self, path: str, *, token: str | None = None) -> tuple[int, Json] | None:
        """GET on its own address: status and JSON (text where it is none); None when nobody answers."""
        if not self.url:
            return None
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        timeout = aiohttp.ClientTimeout(total=5)
        try:
            async with self._session.get(self.url + path, timeout=timeout, headers=headers) as answer:
                body = await answer.text()
        except (aiohttp.ClientError, TimeoutError):
            return None
        with contextlib.suppress(ValueError):
            return answer.status, json.loads(body)
        return answer.status, body

    async def post(self, path: str, body: Json, *, token: str | None = None) -> tuple[int, Json]:
        """POST JSON to its own address: status and JSON. Raises StakesideError when nobody answers."""
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        timeout = aiohttp.ClientTimeout(total=10)
        try:
            async with self._session.post(self.url + path, json=body, timeout=timeout, headers=headers) as answer:
                return answer.status, await answer.json(content_type=None)
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise errors.StakesideError(f"{self.name} did not answer POST {path}", value=str(error)) from None

    async def status(self) -> dict[str, Json] | None:
        """`/status`, or None while it does not answer."""
        answer = await self.get("/status")
        return answer[1] if answer is not None and answer[0] == 200 else None

    async def stop(self, *, deadline_s: float = STOP_S) -> int | None:
        """SIGTERM, then SIGKILL at the deadline. Returns the exit code."""
        if self._process is None:
            return None
        self.signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(self._process.wait(), deadline_s)
        except TimeoutError:
            await self.kill()
        return self._process.returncode

    async def kill(self) -> None:
        """SIGKILL, as a power cut would."""
        if self._process is not None:
            self.signal(signal.SIGKILL)
            await self._process.wait()

    async def restart(self, *, deadline_s: float = READY_S) -> None:
        await self.stop()
        await self.start()
        await self.listening(deadline_s=deadline_s)

    def signal(self, number: signal.Signals) -> None:
        """To this process, if it lives."""
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)

    async def ended(self, *, deadline_s: float) -> int | None:
        """Wait for it to end by itself: its exit code, or None at the deadline."""
        if self._process is None:
            return None
        try:
            return await asyncio.wait_for(self._process.wait(), deadline_s)
        except TimeoutError:
            return None

    def said(self) -> str:
        """Everything it wrote in its present, or last, life."""
        if not self.log_file.exists():
            return ""
        with self.log_file.open("rb") as file:
            file.seek(self._said_before)
            return file.read().decode(errors="replace")

    def events(self) -> list[dict[str, Json]]:
        """The JSON objects among its lines."""
        found: list[dict[str, Json]] = []
        for line in self.said().splitlines():
            if line.startswith("{"):
                with contextlib.suppress(ValueError):
                    found.append(json.loads(line))
        return found

    def tail(self, lines: int = 15) -> str:
        return "\n".join(self.said().splitlines()[-lines:])

    def _must_run(self) -> None:
        if not self.running:
            raise errors.StakesideError(f"{self.name} ended with {self.exit_code}", value=self.tail())


class Agent(Process):
    """`stakeside agent run` in its folder. `address` is its attester's, empty for an observer."""

    address = ""

    @property
    def book(self) -> Path:
        return self.folder / "stakeside.db"

    def rewrite(self, old: str, new: str) -> None:
        """Change `agent.toml`; it takes effect with the next start."""
        file = self.folder / "agent.toml"
        before = file.read_text()
        if old not in before:
            raise errors.StakesideError(f"{self.name}: agent.toml has no such text", value=old)
        file.write_text(before.replace(old, new))


class Hub(Process):
    """`stakeside hub run` in its folder. `token` opens its consumer API."""

    token = ""

    @property
    def book(self) -> Path:
        return self.folder / "hub.db"


@dataclass(slots=True)
class Key:
    """A development key in a file. `address` is lower-case 0x-hex."""

    file: Path
    address: str


@dataclass(slots=True)
class Limits:
    """Short, since a devnet's blocks are."""

    poll_s: float = 0.2
    timeout_s: float = 5.0
    max_lag_blocks: int = 20
    backfill_range: int = 2000


@dataclass(slots=True)
class Fleet:
    """`async with Fleet(folder) as fleet`: everything started in it ends with it."""

    folder: Path
    network: str = "devnet"
    processes: list[Process] = field(default_factory=list[Process])
    _session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._session = aiohttp.ClientSession()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.gather(*(process.stop() for process in self.processes))
        if self._session is not None:
            await self._session.close()

    # --- papers

    def key(self, name: str, secret: str | None = None) -> Key:
        """A key file under `keys/`. Without `secret` it is random; with one (64 hex digits) it is always the same."""
        with imports.guarded():
            from eth_account import Account

        file = self.folder / "keys" / name
        file.parent.mkdir(exist_ok=True)
        if not file.exists():
            file.write_text(f"0x{secret or secrets.token_hex(32)}\n")
            file.chmod(0o600)
        account: Json = Account.from_key(file.read_text().strip())  # pyright: ignore[reportUnknownMemberType]
        return Key(file, str(account.address).lower())

    def funded_key(self, name: str, *, account: int) -> Key:
        """The key of one of Anvil's own accounts, which own coins from the first block on."""
        with imports.guarded():
            from eth_account import Account

        Account.enable_unaudited_hdwallet_features()
        path = f"m/44'/60'/0'/0/{account}"
        found: Json = Account.from_mnemonic(anvil.MNEMONIC, account_path=path)  # pyright: ignore[reportUnknownMemberType]
        return self.key(name, bytes(found.key).hex())

    @property
    def document_file(self) -> Path:
        """Shared by everybody in the fleet."""
        return self.folder / "deployment.toml"

    def publish(self, document: deployment.Document) -> None:
        """Write the shared document; a reader sees the old one or the new one, never half of it."""
        draft = self.document_file.with_suffix(".draft")
        draft.write_text(documents.text(document))
        draft.replace(self.document_file)

    async def ruleset(
        self, document: deployment.Document, *, stream: str = documents.STREAM, proof: str = "receipts"
    ) -> str:
        """What the product says the stream's ruleset hash is, as 0x-hex."""
        draft = self.folder / "ruleset.toml"
        draft.write_text(documents.text(document))
        said = await self.run(
            *("protocol", "ruleset", "--document", str(draft), "--stream", stream),
            *("--manifest", "devnet", "--network", self.network, "--proof", proof),
        )
        return said.split()[-1]

    async def run(self, *arguments: str, deadline_s: float = COMMAND_S, accept: tuple[int, ...] = (0,)) -> str:
        """One command of the product to its end: what it printed. Raises StakesideError for another exit code."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "cli.main", *arguments),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=self.folder,
            env=_environment({}),
        )
        try:
            said, complained = await asyncio.wait_for(process.communicate(), deadline_s)
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            raise
        if process.returncode not in accept:
            raise errors.StakesideError(
                f"stakeside {' '.join(arguments)} ended with {process.returncode}",
                value=complained.decode(errors="replace"),
            )
        return said.decode()

    # --- members

    def agent(
        self,
        name: str,
        *,
        node_url: str,
        ws_url: str | None = None,
        attester: Key | None = None,
        hub: Hub | None = None,
        limits: Limits | None = None,
        observe_only: bool = False,
        level: str = "info",
        tables: Sequence[str] = (),
    ) -> Agent:
        """An agent's folder and settings; it is not started yet. Without `attester`, or with `observe_only`, it signs nothing;
        an observer has no streams either. `tables` are further parts of `agent.toml` (`documents.table`)."""
        limits = limits or Limits()
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        streams = [] if observe_only else [stream.name for stream in self.document().streams]
        text = [
            documents.table("agent", {"name": name, "store": "sqlite:///stakeside.db"}),
            documents.table("node", {"url": node_url, "ws": ws_url, "timeout_s": limits.timeout_s}),
            documents.table("deployment", {"document": str(self.document_file)}),
            documents.table(
                "[protocols]", {"name": "devnet", "manifest": "devnet", "network": self.network, "streams": streams}
            ),
            documents.table("web", {"host": "127.0.0.1", "port": 0}),
            documents.table("log", {"format": "json", "level": level}),
            documents.table(
                "limits",
                {
                    "max_lag_blocks": limits.max_lag_blocks,
                    "poll_s": limits.poll_s,
                    "backfill_range": limits.backfill_range,
                },
            ),
        ]
        if attester is not None and not observe_only:
            text.append(documents.table("attester", {"kind": "dev", "key_file": str(attester.file)}))
        if hub is not None:
            token_file = folder / "hub.token"
            token_file.write_text(hub.token + "\n")
            token_file.chmod(0o600)
            text.append(documents.table("hub", {"url": hub.url or self._address(hub), "token_file": str(token_file)}))
        (folder / "agent.toml").write_text("\n".join([*text, *tables]))
        made = Agent(name, ["agent", "run", "--config", "agent.toml"], folder, self._http())
        made.address = attester.address if attester is not None and not observe_only else ""
        self.processes.append(made)
        return made

    def hub(self, name: str = "hub", *, chain_id: int, receipt_key: Key, port: int = 0, level: str = "info") -> Hub:
        """A hub's folder and settings; it is not started yet. Its port stays the same through restarts."""
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        token = secrets.token_hex(16)
        (folder / "consumers").write_text(f"devnet:{hashlib.sha256(token.encode()).hexdigest()}\n")
        text = [
            documents.table("hub", {"name": name, "store": "sqlite:///hub.db"}),
            documents.table("deployment", {"document": str(self.document_file), "chain_id": chain_id}),
            documents.table("receipts", {"kind": "dev", "key_file": str(receipt_key.file)}),
            documents.table("consumers", {"tokens_file": str(folder / "consumers")}),
            documents.table("web", {"host": "127.0.0.1", "port": port or anvil.free_port()}),
            documents.table("log", {"format": "json", "level": level}),
        ]
        (folder / "hub.toml").write_text("\n".join(text))
        made = Hub(name, ["hub", "run", "--config", "hub.toml"], folder, self._http())
        made.token = token
        self.processes.append(made)
        return made

    def _address(self, hub: Hub) -> str:
        """Where a hub that is not started yet will listen."""
        lines = (hub.folder / "hub.toml").read_text().splitlines()
        port = next(line.partition("=")[2].strip() for line in lines if line.startswith("port ="))
        return f"http://127.0.0.1:{port}"

    def document(self) -> deployment.Document:
        return msgspec.convert(tomllib.loads(self.document_file.read_text()), deployment.Document)

    def _http(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise RuntimeError("the fleet is used outside its `async with`")
        return self._session


def _is_none(found: object) -> bool:
    return found is None


def _environment(extra: Mapping[str, str]) -> dict[str, str]:
    """Ours without settings that would override the files, and with this project importable from any folder."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("STAKESIDE_")}
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    return {**kept, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1", **extra}
