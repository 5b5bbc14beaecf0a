"""The staking belt in one process: a real node, a real book, the real services, stepped by hand. Time moves only when a test says so."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
from aiohttp import web

from agent.delegations import policy
from agent.services import confirm, decide, delegator, draft, index, nonce_audit, submit
from config import staking as sections
from devnet import anvil, rpc, staking
from domain import errors, hashing, intent
from indexers.chain import account, reader
from indexers.protocols import decoder, manifest, planner
from kit import http, jsonrpc, runtime
from signers import base, keys
from store import book, commands, decisions, intents, latches, outstanding

SECRET = b"\x0d" * 32
ADDRESS = keys.LocalKey(SECRET).address
GWEI = 10**9
ETHER = 10**18
TIMING = delegator.Timing(poll_s=1.0, resend_after_s=30, bump_after_s=60, approval_ttl_s=3600)
ALLOWED = ("delegate", "undelegate", "redelegate", "withdraw", "claim")


class Town:
    """A devnet with the staking contract, two validators, and an account with coins."""

    def __init__(self, client: rpc.Rpc, contract: staking.Staking, genesis: str, url: str) -> None:
        self.client = client
        self.contract = contract
        self.genesis = hashing.unhex(genesis)
        self.url = url
        self.manifest = manifest.load("devnet", network="devnet")
        self.validator, self.other = contract.accounts[1], contract.accounts[2]

    async def mine(self, blocks: int = 1) -> None:
        await self.client.call("anvil_mine", hex(blocks))

    async def finalize(self) -> None:
        """Mine until everything that is mined now is final."""
        await self.mine(5)

    async def effects(self, *, of: bytes = ADDRESS) -> list[int]:
        """The amounts of every Delegated log of the account on the node's chain."""
        topics = [
            hashing.hex0x(hashing.keccak256(b"Delegated(address,address,uint256)")),
            None,
            hashing.hex0x(hashing.address_word(of)),
        ]
        found = await self.client.call("eth_getLogs", {"fromBlock": "0x0", "toBlock": "latest", "topics": topics})
        return [int(log["data"], 16) for log in found]

    async def count(self, tag: str = "latest") -> int:
        return int(await self.client.call("eth_getTransactionCount", hashing.hex0x(ADDRESS), tag), 16)

    async def foreign(self, nonce: int) -> str:
        """Somebody else uses the key: a transaction that this agent knows nothing of."""
        key = keys.LocalKey(SECRET)
        return await self.send_signed(key, nonce=nonce, to=b"\x77" * 20)

    async def send_signed(self, key: keys.LocalKey, *, nonce: int, to: bytes, max_fee: int = 100 * GWEI) -> str:
        from domain import transaction

        tx = transaction.Unsigned(anvil.CHAIN_ID, nonce, GWEI, max_fee, 21_000, to, 1, b"")
        raw = transaction.join(tx, await key.sign_digest(tx.digest()))
        return await self.client.call("eth_sendRawTransaction", hashing.hex0x(raw))


@asynccontextmanager
async def town(**options: object) -> AsyncIterator[Town]:
    """`finalized` is four blocks behind the head."""
    node = anvil.Anvil(**{"slots_in_an_epoch": 2, "accounts": 8, **options})  # type: ignore[arg-type]
    async with node, rpc.Rpc(node.url) as client:
        contract = await staking.deploy(client)
        registered = [
            staking.register_validator(who, commission_bps=100, metadata="v") for who in contract.accounts[1:3]
        ]
        assert await contract.do(*registered) == [True, True]
        await client.call("anvil_setBalance", hashing.hex0x(ADDRESS), hex(1000 * ETHER))
        await client.call("anvil_mine", "0x1")
        genesis = (await client.call("eth_getBlockByNumber", "0x0", False))["hash"]
        yield Town(client, contract, genesis, node.url)


def limits(**changes: object) -> sections.PolicySection:
    allow = tuple(sections.AllowSection("devnet", name, validators=("*",), targets=("*",)) for name in ALLOWED)
    plain = sections.PolicySection(
        max_fee_per_gas_wei=str(200 * GWEI),
        max_tip_wei=str(20 * GWEI),
        max_amount_per_day=str(10_000 * ETHER),
        max_gas_wei_per_day=str(1000 * ETHER),
        allow=allow,
    )
    return msgspec.structs.replace(plain, **changes)


class Lease:
    """A lease that a test gives and takes."""

    def __init__(self) -> None:
        self.held: int | None = 1
        self.taken = False

    @property
    def reason(self) -> str:
        return "" if self.held is not None else "another agent holds it"

    def token(self) -> int | None:
        return self.held

    def following(self) -> int | None:
        return None if self.taken else 1


class Desk:
    """One agent's book and services."""

    def __init__(
        self,
        the: Town,
        the_book: book.Book,
        session: aiohttp.ClientSession,
        *,
        url: str,
        section: sections.PolicySection,
        signer: base.AnySigner,
        timing: delegator.Timing,
        exclusive: bool,
    ) -> None:
        self.town = the
        self.book = the_book
        self.clock = runtime.ManualClock()
        self.lease = Lease()
        self.seen: list[tuple[str, str]] = []
        self.endpoint = jsonrpc.Endpoint(url, session=session, timeout_s=5)
        self.policy = policy.build(
            section, chain_id=anvil.CHAIN_ID, account=ADDRESS, approval_ttl_s=timing.approval_ttl_s
        )
        self.planner = planner.Planner(the.manifest)
        self.index = index.IndexService(
            the_book,
            reader.Reader(self.endpoint),
            [decoder.compile(the.manifest)],
            chain_id=anvil.CHAIN_ID,
            genesis=the.genesis,
            start=1,
            marks=lambda first, last: set[int](),
            clock=self.clock,
        )
        self.delegator = delegator.Delegator(
            book=the_book,
            chain_id=anvil.CHAIN_ID,
            address=ADDRESS,
            node=account.Account(self.endpoint, chain_id=anvil.CHAIN_ID, address=ADDRESS),
            policy=self.policy,
            guard=self.lease,
            clock=self.clock,
            timing=timing,
            again=delegator.Again(),
            observe=lambda kind, outcome: self.seen.append((kind, outcome)),
            assets={"devnet": policy.Asset(18, "coins")},
        )
        audit = nonce_audit.NonceAudit(self.delegator, exclusive=exclusive)
        drafter = draft.Drafter(self.delegator.node, {"devnet": self.planner}, self.policy.caps)
        self.decide = decide.DecideService(self.delegator, drafter, audit)
        self.submit = submit.SubmitService(self.delegator, signer, audit)
        self.confirm = confirm.ConfirmService(self.delegator, audit)

    # --- people ---

    async def propose(
        self, key: str, action: str = "delegate", *, by: str = "tess", ttl_s: int = 86_400, **arguments: object
    ) -> bytes:
        """What the API does with `POST /v1/intents`. A delegation without arguments is one of a coin to the first validator."""
        asked = (
            {"validator": self.town.validator, "amount": str(ETHER)}
            if action == "delegate" and not arguments
            else arguments
        )
        wanted = intent.Intent(anvil.CHAIN_ID, ADDRESS, key, "devnet", action, self.planner.check(action, asked))
        now = int(self.clock.now())
        async with self.book.write() as c:
            done = await commands.propose(c, wanted, by=by, reason="test", at_s=now, expires_at_s=now + ttl_s)
        assert isinstance(done, commands.Done), done
        return wanted.id

    async def approve(self, id: bytes, *, by: str = "adam") -> commands.Done | commands.Refused:
        async with self.book.write() as c:
            stored = await intents.get(c, id)
            assert stored is not None
            return await commands.approve(
                c, id, payload_hash=stored.payload_hash, by=by, reason="fine", at_s=self.clock.now()
            )

    async def cancel(self, id: bytes) -> commands.Done | commands.Refused:
        async with self.book.write() as c:
            return await commands.cancel(c, id, by="olga", reason="no longer wanted", at_s=self.clock.now())

    async def clear(self, latch: str) -> commands.Done | commands.Refused:
        async with self.book.write() as c:
            return await commands.clear_latch(c, latch, by="olga", reason="looked", at_s=self.clock.now())

    # --- running ---

    async def step(self, service: runtime.Service, *, most: int = 200) -> None:
        """Until it has nothing to do at once. What a node or signer did wrong is swallowed, as by the supervisor."""
        for _ in range(most):
            try:
                if await service.step() != 0.0:
                    return
            except errors.Transient:
                return
        raise AssertionError(f"{service.name} does not come to rest")

    async def run(self, rounds: int = 2) -> None:
        """All services in turn; a second passes each round."""
        for _ in range(rounds):
            await self.clock.advance(1)
            for service in (self.index, self.decide, self.submit, self.confirm):
                await self.step(service)

    async def until(self, id: bytes, *states: intent.State, mine: bool = True, rounds: int = 40) -> intents.Stored:
        """Run, and mine a block a round, until the intent is there."""
        for _ in range(rounds):
            await self.run(1)
            stored = await self.look(id)
            if stored.state in states:
                return stored
            if mine:
                await self.town.mine()
        raise AssertionError(f"the intent is {stored.state} ({stored.why}), not {states}")

    # --- looking ---

    async def look(self, id: bytes) -> intents.Stored:
        async with self.book.read() as c:
            stored = await intents.get(c, id)
        assert stored is not None
        return stored

    async def state(self, id: bytes) -> intent.State:
        return (await self.look(id)).state

    async def way(self, id: bytes) -> list[str]:
        async with self.book.read() as c:
            return [step.to_state for step in await intents.history(c, id)]

    async def verdicts(self, id: bytes) -> list[tuple[str, str]]:
        async with self.book.read() as c:
            return [(item.verdict, item.rule) for item in await decisions.for_intent(c, id)]

    async def latches(self) -> list[str]:

        async with self.book.read() as c:
            return [latch.name for latch in await latches.active(c)]

    async def nonces(self) -> outstanding.Nonces:
        async with self.book.read() as c:
            return await outstanding.nonces(c, anvil.CHAIN_ID, ADDRESS)

    async def sound(self) -> None:
        async with self.book.read() as c:
            assert await intents.audit(c) == []


@asynccontextmanager
async def desk(
    the: Town,
    path: Path | str,
    *,
    url: str = "",
    section: sections.PolicySection | None = None,
    signer: base.AnySigner | None = None,
    timing: delegator.Timing = TIMING,
    exclusive: bool = True,
) -> AsyncIterator[Desk]:
    """`path` is a file for the book, or the address of a database."""
    store = path if isinstance(path, str) else f"sqlite:///{path}"
    the_book = await book.open_book(store, deployment=b"\x01" * 32, chain_id=anvil.CHAIN_ID, genesis=the.genesis)
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(the_book.close)
        session = await stack.enter_async_context(http.client_session())
        yield Desk(
            the,
            the_book,
            session,
            url=url or the.url,
            section=section or limits(),
            signer=signer or keys.LocalKey(SECRET),
            timing=timing,
            exclusive=exclusive,
        )


Change = Callable[[Any], Any]


@asynccontextmanager
async def answering(
    upstream: str,
    method: str,
    reply: dict[str, Any] | None = None,
    *,
    change: Change | None = None,
    when: Callable[[list[Any]], bool] = lambda params: True,
) -> AsyncIterator[str]:
    """A node that answers one method in its own way: with `reply`, which it does not forward, or with what `change` makes of the result;
    with `when` for some parameters only. For the words and the lies of clients that are not here."""
    async with aiohttp.ClientSession() as session:

        async def forward(asked: list[dict[str, Any]]) -> dict[int, dict[str, Any]]:
            if not asked:
                return {}
            async with session.post(upstream, json=asked) as answer:
                return {item["id"]: item for item in await answer.json(content_type=None)}

        async def handle(request: web.Request) -> web.Response:
            asked = json.loads(await request.read())
            many = asked if isinstance(asked, list) else [asked]
            touched = [item for item in many if item["method"] == method and when(item["params"])]
            said = await forward([item for item in many if change is not None or item not in touched])
            for item in touched:
                if change is None:
                    said[item["id"]] = {"jsonrpc": "2.0", "id": item["id"], **(reply or {})}
                elif said[item["id"]].get("result") is not None:
                    said[item["id"]]["result"] = change(said[item["id"]]["result"])
            return web.json_response(
                [said[item["id"]] for item in many] if isinstance(asked, list) else said[asked["id"]]
            )

        app = web.Application()
        app.router.add_post("/", handle)
        async with http.serving(app, host="127.0.0.1", port=0) as port:
            yield f"http://127.0.0.1:{port}/"
