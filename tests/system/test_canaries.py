"""Secrets that would be recognised anywhere: an agent delegates, is misused and breaks, and none of them is found in anything it left."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import pytest

from devnet import anvil, documents, fleet, kill, proxy, rpc, staking
from signers import keystore

PASSWORD = "canary-keystore-password-5d1f"
PROVIDER = "canaryproviderkey00000000000000000001"
NODE_PASSWORD = "canary-node-password-77aa"
HUB_PASSWORD = "canary-hub-password-c0de"
DATABASE_PASSWORD = "canary-database-password-9e3b"
SECRET = bytes.fromhex("ca9a47" * 10 + "0102")
STATIC = (PASSWORD, PROVIDER, NODE_PASSWORD, HUB_PASSWORD, DATABASE_PASSWORD, SECRET.hex())


class Found:
    """Everything that was seen, and what is searched for in it."""

    def __init__(self) -> None:
        self.secrets: list[str] = [*STATIC]
        self.seen: dict[str, bytes] = {}

    def leaks(self) -> list[str]:
        spelled = {
            secret: {
                form for text in (secret, secret.upper()) for form in (text.encode(), text.encode().hex().encode())
            }
            | ({SECRET} if secret == SECRET.hex() else set())
            for secret in self.secrets
        }
        return [
            f"{secret[:16]}… in {place}"
            for place, content in self.seen.items()
            for secret, forms in spelled.items()
            if any(form in content for form in forms)
        ]

    def files(self, folder: Path, *patterns: str) -> None:
        for pattern in patterns:
            for path in folder.glob(pattern):
                self.seen[str(path)] = path.read_bytes()


class Misuser:
    """Somebody with a token, who does everything wrong; each answer is kept."""

    def __init__(self, url: str, found: Found, session: aiohttp.ClientSession) -> None:
        self.url = url
        self._found = found
        self._session = session

    async def ask(self, method: str, path: str, **sent: object) -> int:
        url = self.url + path
        try:
            async with self._session.request(method, url, allow_redirects=False, **sent) as answer:  # type: ignore[arg-type]
                body, status = await answer.read(), answer.status
                said = "\n".join(f"{name}: {value}" for name, value in answer.headers.items())
        except aiohttp.ClientError:
            return 0
        self._found.seen[f"{method} {path} {len(self._found.seen)}"] = said.encode() + b"\n" + body
        return status

    async def everything(self, token: str) -> None:
        good = {"Authorization": f"Bearer {token}"}
        for path in (
            "/",
            "/status",
            "/metrics",
            "/readyz",
            "/v1/commands",
            "/v1/intents",
            "/v1/policy",
            "/v1/principals",
        ):
            await self.ask("GET", path)
            await self.ask("GET", path, headers=good)
        proposal = {"protocol": "devnet", "action": "delegate", "arguments": {"amount": "1"}, "key": "m", "reason": "r"}
        for body in (
            {**proposal, "reason": f"my token is {token}"},
            {**proposal, "key": token},
            {**proposal, "arguments": {"validator": token}},
            {token: token},
            {**proposal, "action": token},
            {"name": "x", "roles": [token], "reason": "r"},
        ):
            for path in ("/v1/intents", "/v1/principals", "/v1/pause"):
                assert await self.ask("POST", path, json=body, headers=good) in (400, 403, 422)
        await self.ask("POST", "/v1/pause", data=f'{{"reason": "{token}'.encode(), headers=good)
        for text in (token + "x", token[:-1], f" {token} {token}"):
            await self.ask("GET", "/status", headers={"Authorization": f"Bearer {text}"})
        await self.ask("GET", f"/v1/events?before={token}")
        await self.ask("GET", f"/v1/intents?state={token}", headers=good)
        await self.ask("GET", f"/v1/intents/{token}", headers=good)
        await self.ask("GET", f"/{token}")
        await self.ask("POST", "/v1/session", json={"token": token}, headers={"Origin": "http://evil.example"})
        await self.ask("POST", "/v1/session", data={"token": token}, headers={"Origin": self.url})


@asynccontextmanager
async def treasury(folder: Path) -> AsyncIterator[tuple[anvil.Anvil, rpc.Rpc, kill.Desk, fleet.Fleet]]:
    async with (
        anvil.Anvil(slots_in_an_epoch=kill.SLOTS, accounts=4) as node,
        rpc.Rpc(node.url) as client,
        proxy.LyingNode(node.url) as liar,
        fleet.Fleet(folder) as ships,
    ):
        chain = await staking.deploy(client)
        await chain.do(staking.register_validator(chain.accounts[1], commission_bps=100, metadata="v"))
        account, receipts = ships.key("delegator", SECRET.hex()), ships.key("receipts")
        await client.call("anvil_setBalance", account.address, hex(10**5 * kill.ETHER))
        await chain.mine()
        genesis = (await client.call("eth_getBlockByNumber", "0x0", False))["hash"]
        document = kill.paper(chain, genesis, receipt_key=receipts.address)
        ships.publish(documents.with_ruleset(document, await ships.ruleset(document)))
        password = folder / "password"
        password.write_text(PASSWORD + "\n")
        password.chmod(0o600)
        keystore.create(folder / "delegator.json", password_file=password, secret=SECRET)
        signer = {"kind": "keystore", "path": str(folder / "delegator.json"), "password_file": str(password)}
        tables = [documents.table("delegator", signer), *kill.tables(account)[1:]]
        tables.append(documents.table("hub", {"url": f"http://agent:{HUB_PASSWORD}@127.0.0.1:9/"}))
        address = urlsplit(liar.url)
        agent = ships.agent(
            "canary",
            node_url=f"http://canary:{NODE_PASSWORD}@{address.netloc}/v3/{PROVIDER}",
            limits=fleet.Limits(poll_s=0.1),
            observe_only=True,
            level="debug",
            tables=tables,
        )
        yield node, client, kill.Desk(client, chain, ships, agent, account, await kill.hire(ships, agent)), ships


@pytest.mark.slow
async def test_no_secret_is_left_anywhere_by_success_misuse_or_failure(tmp_path: Path) -> None:
    found = Found()
    async with treasury(tmp_path) as (node, _, desk, ships), aiohttp.ClientSession() as session:
        found.secrets += desk.tokens.values()
        await desk.agent.start()
        await desk.agent.listening()
        assert await desk.propose("good", kill.ETHER) == 201

        async def final() -> bool | None:
            await desk.mine()
            return True if desk.state("good") == "final_ok" else None

        await desk.agent.until(final, what="the delegation to be final", deadline_s=60)
        misuser = Misuser(desk.agent.url, found, session)
        for token in desk.tokens.values():
            await misuser.everything(token)
        found.files(desk.agent.folder, "stakeside.db*")
        await node.stop()

        async def complains() -> bool | None:
            answer = await desk.agent.get("/readyz")
            return True if answer is not None and answer[0] == 503 else None

        await desk.agent.until(complains, what="it to miss its node", deadline_s=60)
        for path in ("/", "/status", "/metrics", "/readyz"):
            await misuser.ask("GET", path)
        await desk.agent.stop()
        await broken(desk.agent, tmp_path, found)
        said = await ships.run("agent", "check", "--config", str(desk.agent.folder / "agent.toml"), accept=(0, 1, 2))
        found.seen["agent check"] = said.encode()
        found.files(tmp_path, "**/stakeside.db*", "**/*.log", "**/web.port")
    assert len(found.seen) > 60
    assert any(b"canary" in content for content in found.seen.values()), "nothing of the agent was looked at"
    assert found.leaks() == []


async def broken(agent: fleet.Agent, folder: Path, found: Found) -> None:
    """Starts that fail: a wrong password, a key where no key belongs, a database that is away."""
    password, whole = folder / "password", (agent.folder / "agent.toml").read_text()
    password.write_text(PASSWORD + "-wrong\n")
    found.seen["wrong password"] = await output(agent, 2)
    password.write_text(PASSWORD + "\n" + SECRET.hex() + "\n")
    found.seen["a key in the password file"] = await output(agent, 2)
    password.write_text(PASSWORD + "\n")
    away = f"postgresql://agent:{DATABASE_PASSWORD}@127.0.0.1:9/book"
    (agent.folder / "agent.toml").write_text(whole.replace("sqlite:///stakeside.db", away))
    found.seen["a database that is away"] = await output(agent, 2)
    (agent.folder / "agent.toml").write_text(
        whole.replace("sqlite:///stakeside.db", away.replace("9/book", "port/book"))
    )
    found.seen["a malformed database address"] = await output(agent, 2)
    (agent.folder / "agent.toml").write_text(whole + f'\n[attester]\nkind = "dev"\nkey = "{SECRET.hex()}"\n')
    found.seen["a key in the settings"] = await output(agent, 2)
    (agent.folder / "agent.toml").write_text(whole)


async def output(agent: fleet.Agent, code: int) -> bytes:
    """All that one start says, with everything shown that can be."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "cli.main", "--debug", "agent", "run", "--config", "agent.toml"),
        cwd=agent.folder,
        env={**os.environ, "PYTHONPATH": str(fleet.ROOT)},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(60):
        said, _ = await process.communicate()
    assert process.returncode == code, said
    return said


def test_the_search_finds_what_it_looks_for() -> None:
    found = Found()
    found.seen = {"json": json.dumps({"error": PASSWORD}).encode(), "raw": b"\x00" + SECRET, "none": b"nothing"}
    assert [leak.rpartition(" ")[2] for leak in found.leaks()] == ["json", "raw"]
