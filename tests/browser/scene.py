"""A served agent for the browser's tests: a real book, the real web server, and a treasury's day in it. In: what a test wants to have
happened. Out: addresses of pages and people's tokens."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from agent.web import items, live, metrics, people, server, view
from domain import chain, errors, hashing, intent
from kit import runtime
from store import (
    attempts,
    blocks,
    book,
    commands,
    cursors,
    decisions,
    gaps,
    inclusions,
    intents,
    latches,
    logs,
    parked,
    principals,
    reservations,
    slots,
    statements,
)
from store.connection import Connection
from tests.browser import chromium
from tests.store import belt, factory

NOW = 1_763_817_600
"""2025-11-22 13:20 UTC."""
PEOPLE: dict[str, tuple[str, ...]] = {
    "anna": ("admin",),
    "olga": ("operator",),
    "pavel": ("proposer",),
    "amir": ("approver",),
    "vera": ("viewer",),
}
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\u202eevil\x00\x1b[31m'\"&{{7*7}}javascript:alert(3)"
LONG = "W" * 10_000
VALIDATORS = {name: "0x" + hashing.keccak256(name.encode()).hex()[:40] for name in ("north", "south", "unknown")}
ACTIONS = [
    items.Action("devnet", "delegate", "in", [items.Field("validator", "address"), items.Field("amount", "uint256")]),
    items.Action(
        "devnet", "undelegate", "out", [items.Field("validator", "address"), items.Field("amount", "uint256")]
    ),
    items.Action(
        "devnet",
        "redelegate",
        "move",
        [items.Field("validator", "address"), items.Field("target", "address"), items.Field("amount", "uint256")],
    ),
    items.Action("devnet", "claim", "none", [items.Field("validator", "address")]),
]
FINDINGS = [
    ("allowed", "pass", "delegate on devnet is in [[policy.allow]]"),
    ("validator", "pass", f"validator {VALIDATORS['north']}"),
    ("amount", "pass", "32 coins of at most 100 coins"),
    ("day", "pass", "0 coins + 32 coins of 250 coins in 24 hours"),
    ("fee", "pass", "31 gwei of at most 200 gwei, tip 1 gwei of at most 3 gwei"),
    ("simulation", "pass", "1 effect as expected"),
    ("lease", "pass", "token 7"),
]


@dataclass
class Counts:
    lies: int = 0


@dataclass
class Index:
    """Stands for the index stage: what the web asks of it."""

    state: str = "following"
    reason: str = ""
    remote_head: chain.BlockRef | None = None
    counts: Counts = field(default_factory=Counts)


@dataclass
class Hub:
    url: str = "https://hub.example:8490"
    reachable: bool = True
    last_error: str = ""
    last_receipt: int = 412
    amnesia: int = 0
    refused: int = 0


@dataclass
class Lease:
    held: int | None = 7
    reason: str = ""

    def token(self) -> int | None:
        return self.held


class Idle:
    """A service that never has anything to do."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.bell = runtime.Bell()

    async def step(self) -> float:
        return 60.0


def validate(key: str, protocol: str, action: str, arguments: Mapping[str, str]) -> intent.Intent:
    """Stands for the planner: known actions, whole amounts, lower-case addresses."""
    known = next((one for one in ACTIONS if (one.protocol, one.name) == (protocol, action)), None)
    if known is None or {one.name for one in known.arguments} != set(arguments):
        raise errors.BadAnswer("there is no such action with these arguments", value=f"{action} on {protocol}")
    for one in known.arguments:
        given = arguments[one.name]
        if one.type == "uint256" and not (given.isascii() and given.isdecimal()):
            raise errors.BadAnswer(f"{one.name} must be a whole number of the smallest unit", value=given)
        if one.type == "address" and not (given.startswith("0x") and len(given) == 42):
            raise errors.BadAnswer(f"{one.name} must be an address", value=given, cure="0x and 40 hex digits")
    return intent.Intent(
        belt.CHAIN, belt.ACCOUNT, key, protocol, action, {name: text.lower() for name, text in arguments.items()}
    )


class Scene:
    """The agent, whose parts a test can change while it is served."""

    def __init__(self, the_book: book.Book, *, staking: bool, read: str) -> None:
        self.book = the_book
        self.clock = runtime.ManualClock(NOW)
        self.index = Index()
        self.hub = Hub()
        self.lease = Lease()
        self.staking = staking
        self.read = read
        names = ("index", "close", "attest", "report") + (("decide", "submit", "confirm") if staking else ())
        self.supervisor = runtime.Supervisor([Idle(name) for name in names], clock=self.clock)
        for state in self.supervisor.states.values():
            state.status, state.steps = "ok", 48_211
        self.waiting: dict[str, view.Waiting] = {"main": view.Waiting(3, "block 40 is not finalized yet")}
        self.tokens: dict[str, str] = {}
        self.intents: dict[str, str] = {}
        self.url = ""

    def live(self) -> live.Live:
        return live.Live(
            name="treasury-1",
            chain_id=belt.CHAIN,
            deployment=factory.DEPLOYMENT,
            node_url="http://node.example:8545",
            max_lag_blocks=5,
            streams={"main": factory.STREAM},
            book=self.book,
            index=self.index,
            supervisor=self.supervisor,
            clock=self.clock,
            waiting=self.waiting,
            hub=self.hub,
            attester=b"\xaa" * 20,
            staking=live.Staking(
                account=belt.ACCOUNT,
                validate=validate,
                actions=ACTIONS,
                policy_hash=belt.POLICY_HASH,
                policy_body=belt.POLICY.encode(),
                lease=self.lease,
            )
            if self.staking
            else None,
            read=self.read,  # type: ignore[arg-type]
            assets={"devnet": items.Asset(18, "coins", "wei")},
        )

    def page(self, name: str) -> str:
        """The page of one of the story's intents."""
        return f"/intents/{self.intents[name]}"

    async def sign_in(self, page: chromium.Page, name: str) -> None:
        await page.goto(f"{self.url}/login")
        await page.fill("input[name=token]", self.tokens[name])
        async with page.going():
            await page.click("main button")
        assert await page.path() == "/", await page.text()

    # --- what happened ---

    async def chain(self, note: str = "North Star Validator") -> None:
        """Eight blocks, the finalized one two below the head; an event in each, the last with a text that its validator chose."""
        headers = [factory.header(number) for number in range(1, 9)]
        rows = [
            factory.row(header, amount=32 * 10**18, validator=int(VALIDATORS["north"], 16), delegator=9)
            for header in headers[:-1]
        ]
        async with self.book.write() as c:
            await blocks.insert(c, headers, proof="receipts")
            await logs.insert(c, [*rows, factory.noted(headers[-1], 0, note)])
            await cursors.put(c, "index", cursors.Cursor(8, headers[-1].hash, 2))
            await cursors.put(c, "finalized", cursors.Cursor(6, headers[-3].hash, 0))
            made: list[statements.Stored] = []
            for sequence in range(3):
                leaf = factory.leaf(1, 10**15 * sequence + 1)
                made.append(factory.frame(sequence, [leaf], previous=made[-1] if made else None))
                await statements.save(c, made[-1], at_s=NOW - 3600)
        self.index.remote_head = headers[-1].ref

    async def people(self) -> None:
        async with self.book.write() as c:
            for name, roles in PEOPLE.items():
                await self.add(c, name, roles)

    async def add(self, c: Connection, name: str, roles: tuple[str, ...]) -> None:
        token = people.new_token()
        done = await principals.add(
            c, name, roles, people.hash_of(token), by="console", reason=f"{name} joins the treasury", at_s=NOW - 86_400
        )
        assert isinstance(done, commands.Done), done
        self.tokens[name] = token

    async def day(self) -> None:
        """Intents in every state that a person may meet."""
        async with self.book.write() as c:
            await decisions.save_policy(c, belt.POLICY_HASH, belt.POLICY, NOW - 86_400)
            await self._final(c)
            await self._refused(c)
            await self._cancelled(c)
            await self._pending(c)
            await self._stuck(c)
            await self.awaiting(c)
            await self.propose(c, "new", "claim", {"validator": VALIDATORS["south"]}, at_s=NOW - 20)

    async def propose(
        self,
        c: Connection,
        name: str,
        action: str,
        arguments: dict[str, str],
        *,
        at_s: int,
        reason: str = "the quarter's plan, ticket FIN-118",
    ) -> intents.Stored:
        what = intent.Intent(belt.CHAIN, belt.ACCOUNT, name, "devnet", action, arguments)
        done = await commands.propose(c, what, by="pavel", reason=reason, at_s=at_s, expires_at_s=at_s + 3600)
        assert isinstance(done, commands.Done), done
        self.intents[name] = hashing.hex0x(what.id)
        found = await intents.get(c, what.id)
        assert found is not None
        return found

    async def awaiting(self, c: Connection, name: str = "large", *, why: str = "") -> intents.Stored:
        at_s = NOW - 600
        arguments = {"validator": VALIDATORS["north"], "amount": str(64 * 10**18 + 123_456_789)}
        of = await self.propose(c, name, "delegate", arguments, at_s=at_s)
        why = why or "64.000000000123456789 coins is above the 50 coins of approval_above: 0 of 1 approvals"
        asked = [*FINDINGS, ("approval", "ask", why)]
        await self._decide(c, of, "ask", "approval", why, asked, at_s=at_s + 4)
        await self._walk(c, of, ("planned", "awaiting_approval"), why, at_s=at_s + 4)
        return of

    async def _final(self, c: Connection) -> None:
        """Approved, bumped once, reorged out and back, final."""
        at_s = NOW - 5400
        arguments = {"validator": VALIDATORS["north"], "amount": str(32 * 10**18)}
        of = await self.propose(c, "final", "delegate", arguments, at_s=at_s)
        why = "32 coins is above the 10 coins of approval_above: 0 of 1 approvals"
        await self._decide(c, of, "ask", "approval", why, [*FINDINGS, ("approval", "ask", why)], at_s=at_s + 3)
        await self._walk(c, of, ("planned", "awaiting_approval"), why, at_s=at_s + 3)
        done = await commands.approve(
            c, of.id, payload_hash=of.payload_hash, by="amir", reason="checked against FIN-118", at_s=at_s + 240
        )
        assert isinstance(done, commands.Done), done
        await self._walk(c, of, ("planned",), "approved by amir", at_s=at_s + 241, at="awaiting_approval")
        await self._decide(c, of, "allow", "all", "every rule passed", FINDINGS, at_s=at_s + 242)
        await self._reserve(c, of, amount=32 * 10**18, at_s=at_s + 242)
        original = await self._submit(c, of, at_s=at_s + 243, hint="accepted")
        frozen = (await attempts.of_intent(c, of.id))[0]
        dearer = msgspec.structs.replace(frozen.unsigned, tip=2 * 10**9, max_fee=34 * 10**9)
        await attempts.freeze(c, attempts.Attempt(of.id, 1, "bump", dearer, "[]", 7, at_s + 303))
        await self._sign(c, of.id, 1, at_s=at_s + 303, hint="already known")
        lost = inclusions.Inclusion(
            of.id, 0, original, 5, factory.header(5, "b").hash, 3, 1, 61_204, 30 * 10**9, None, at_s + 330
        )
        lost_id = await inclusions.save(c, lost)
        await self._walk(c, of, ("included",), "seen in block 5", at_s=at_s + 330, at="pending")
        await inclusions.orphan(c, lost_id, at_s + 360)
        await self._walk(c, of, ("pending",), "block 5 left the chain", at_s=at_s + 360, at="included")
        header = factory.header(6)
        plain = factory.row(header, 1, amount=32 * 10**18, validator=int(VALIDATORS["north"], 16))
        log = msgspec.structs.replace(plain.log, tx_hash=original)
        at = msgspec.structs.replace(plain.event.at, tx_hash=original)  # type: ignore[union-attr]
        event = msgspec.structs.replace(plain.event, at=at)  # type: ignore[type-var]
        await logs.insert(c, [msgspec.structs.replace(plain, log=log, event=event)])
        found = inclusions.Inclusion(
            of.id, 0, original, 6, header.hash, 1, 1, 61_204, 30 * 10**9, log.log_index, at_s + 372
        )
        kept = await inclusions.save(c, found)
        await self._walk(c, of, ("included",), "seen in block 6", at_s=at_s + 372, at="pending")
        await inclusions.finalize(c, kept, at_s + 1140)
        await self._walk(c, of, ("final_ok",), "Delegated is final in block 6, log 1", at_s=at_s + 1140, at="included")
        await reservations.release(c, of.id, "final", at_s + 1140)

    async def _refused(self, c: Connection) -> None:
        at_s = NOW - 4000
        arguments = {"validator": VALIDATORS["unknown"], "amount": str(10**18)}
        of = await self.propose(c, "refused", "delegate", arguments, at_s=at_s)
        why = f"validator {VALIDATORS['unknown']} is not among the 2 validators of its [[policy.allow]]"
        await self._decide(c, of, "deny", "validator", why, [("validator", "deny", why)], at_s=at_s + 2)
        await self._walk(c, of, ("planned", "rejected"), why, at_s=at_s + 2)

    async def _cancelled(self, c: Connection) -> None:
        of = await self.propose(c, "cancelled", "claim", {"validator": VALIDATORS["north"]}, at_s=NOW - 3000)
        done = await commands.cancel(c, of.id, by="pavel", reason="proposed twice", at_s=NOW - 2990)
        assert isinstance(done, commands.Done), done

    async def _pending(self, c: Connection) -> None:
        at_s = NOW - 240
        arguments = {"validator": VALIDATORS["south"], "amount": str(2 * 10**18)}
        of = await self.propose(c, "pending", "undelegate", arguments, at_s=at_s)
        await self._decide(c, of, "allow", "all", "every rule passed", FINDINGS, at_s=at_s + 3)
        await self._walk(c, of, ("planned",), "", at_s=at_s + 3)
        await self._reserve(c, of, amount=0, at_s=at_s + 3)
        await self._submit(c, of, at_s=at_s + 4, hint="accepted")

    async def _stuck(self, c: Connection) -> None:
        at_s = NOW - 1800
        arguments = {"validator": VALIDATORS["north"], "amount": str(5 * 10**18)}
        of = await self.propose(c, "stuck", "delegate", arguments, at_s=at_s)
        await self._decide(c, of, "allow", "all", "every rule passed", FINDINGS, at_s=at_s + 3)
        await self._walk(c, of, ("planned",), "", at_s=at_s + 3)
        await self._reserve(c, of, amount=5 * 10**18, at_s=at_s + 3)
        why = "the signer refused: the key is locked; unlock it, then resume"
        await self._walk(c, of, ("reserved", "needs_operator"), why, at_s=at_s + 4, at="planned")

    async def _walk(
        self, c: Connection, of: intents.Stored, way: tuple[intent.State, ...], why: str, *, at_s: int,
        at: intent.State = "new",
    ) -> None:  # fmt: skip
        for to in way:
            await intents.move(c, of.id, expect=at, to=to, why=why, at_s=at_s)
            at = to

    async def _decide(
        self, c: Connection, of: intents.Stored, verdict: decisions.Verdict, rule: str, why: str,
        findings: list[tuple[str, str, str]], *, at_s: int,
    ) -> None:  # fmt: skip
        body = json.dumps([dict(zip(("rule", "outcome", "detail"), row, strict=True)) for row in findings])
        await decisions.save(
            c,
            decisions.Decision(
                of.id, at_s, verdict, rule, why, belt.POLICY_HASH, of.payload_hash, 6, factory.header(6).hash, body
            ),
        )

    async def decide_again(self, c: Connection, id_: str) -> None:
        """One more decision about an intent."""
        of = await intents.get(c, hashing.unhex(id_))
        assert of is not None
        await self._decide(c, of, "allow", "all", "looked at once more", FINDINGS, at_s=NOW)

    async def _reserve(self, c: Connection, of: intents.Stored, *, amount: int, at_s: int) -> None:
        slot = await slots.reserve(
            c, chain_id=belt.CHAIN, account=belt.ACCOUNT, intent=of.id, floor=412, fence=7, at_s=at_s
        )
        tx = belt.unsigned(slot.nonce, max_fee=31 * 10**9, value=amount)
        await reservations.put(
            c,
            reservations.Reservation(
                of.id, of.intent.protocol, of.intent.action, amount, amount, tx.gas * tx.max_fee, at_s
            ),
        )
        await attempts.freeze(c, attempts.Attempt(of.id, 0, "original", tx, '[{"kind":"Delegated"}]', 7, at_s))

    async def _submit(self, c: Connection, of: intents.Stored, *, at_s: int, hint: str) -> bytes:
        """From planned to pending; the original's hash."""
        await self._walk(c, of, ("reserved",), "", at_s=at_s, at="planned")
        made = await self._sign(c, of.id, 0, at_s=at_s, hint=hint)
        await self._walk(c, of, ("signed", "pending"), hint, at_s=at_s + 1, at="reserved")
        return made

    async def _sign(self, c: Connection, id: bytes, number: int, *, at_s: int, hint: str) -> bytes:
        frozen = (await attempts.of_intent(c, id))[number]
        made = belt.sign(frozen.unsigned)
        await attempts.save_signed(c, id, number, hash=made.hash, raw=made.raw, fence=7, at_s=at_s)
        await attempts.sent(c, made.hash, hint=hint, at_s=at_s + 1)
        return made.hash

    async def stop(self) -> None:
        """What keeps an agent from being ready, and waits for a person."""
        async with self.book.write() as c:
            await latches.set(
                c,
                "finality",
                reason="block 6 was finalized as 0x51f0…, the node now says 0x9c2e…: compare with another node before clearing",
                at_s=NOW - 900,
            )
            await latches.set(
                c,
                "submit.nonces",
                reason="the chain has mined 414 transactions of the account, this agent knows of 413",
                at_s=NOW - 840,
            )
            await gaps.open_(c, protocol="devnet", first=1_000, last=1_999, reason="the node pruned these receipts")
        self.supervisor.states["report"].status = "degraded"
        self.supervisor.states["report"].reason = "the hub does not answer: connection refused"
        self.hub.reachable, self.hub.last_error = False, "connection refused"

    async def hostile(self) -> None:
        """Every text that others choose is as bad as it can be."""
        bad = HOSTILE + LONG
        await self.chain(note=bad)
        self.index.reason = self.hub.last_error = bad
        self.lease.held, self.lease.reason = None, bad
        self.waiting["main"] = view.Waiting(3, bad)
        self.supervisor.states["close"].status, self.supervisor.states["close"].reason = "latched", bad
        printable = "".join(char for char in bad if char.isprintable())[:500]
        async with self.book.write() as c:
            await decisions.save_policy(c, belt.POLICY_HASH, belt.POLICY, NOW - 86_400)
            await latches.set(c, "finality", reason=bad, at_s=NOW)
            await latches.set(c, "submit.a/../b?c=d&e'\"<x>", reason=bad, at_s=NOW)
            await gaps.open_(c, protocol="devnet", first=1, last=2**62, reason=bad)
            await parked.add(c, stream_or_protocol="devnet", block_hash=factory.header(2).hash, log_index=1, reason=bad)
            done = await commands.pause(c, by="olga", reason=printable, at_s=NOW)
            assert isinstance(done, commands.Done), done
            arguments = {"validator": printable, "amount": "9" * 78, "note": printable}
            of = await self.propose(c, "hostile'\"><script>", "<b>delegate</b>", arguments, at_s=NOW, reason=printable)
            self.intents["hostile"] = hashing.hex0x(of.id)
            await self._decide(c, of, "ask", "<i>rule</i>", bad, [("<u>", "<i>", bad)], at_s=NOW)
            await self._walk(c, of, ("planned",), bad, at_s=NOW)
            await self._decide(c, of, "allow", "<i>rule</i>", bad, [("<u>", "<i>", bad)], at_s=NOW)
            await self._reserve(c, of, amount=2**200, at_s=NOW)
            await self._submit(c, of, at_s=NOW, hint=bad)
            await self.awaiting(c, "waits", why=bad)


@asynccontextmanager
async def served(folder: Path, *, staking: bool = True, read: str = "anyone") -> AsyncIterator[Scene]:
    """A new agent with people and nothing else, listening."""
    the_book = await factory.open_book(f"sqlite:///{folder}/book.db")
    made = Scene(the_book, staking=staking, read=read)
    await made.people()
    async with server.serve(made.live(), metrics.Metrics(version="1.2.3"), host="127.0.0.1", port=0) as port:
        made.url = f"http://127.0.0.1:{port}"
        yield made
    await the_book.close()
