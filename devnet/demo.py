"""The main job on one machine: a chain that reorgs, three agents, a hub, and a judgement. In: a seed. Out: `Result`.

The story is fixed, its details are seeded: agents start at different times, one is killed, one is stopped through a reorg, the hub goes
away and comes back. Every wait is for a condition with a deadline. The judgement shares nothing with the product: rows are compared with
receipts, leaves with contract views, receipts are recovered by eth_account, and the statement file goes through `stakeside verify`.
"""

from __future__ import annotations

import asyncio
import bisect
import contextlib
import json
import re
import shutil
import sqlite3
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from devnet import anvil, books, demo_receipts, demo_treasury, documents, fleet, play, rpc, staking, truth
from domain import errors

FRAME_BLOCKS = 10
SLOTS = 11
"""Finality is twice this behind the head: just deep enough for a reorg of 20 blocks."""
DEADLINE_S = 60.0
LOOK_S = 0.05
MARKER = ".stakeside-demo"
STYLE = re.compile(r'<link rel="stylesheet" href="([^"]+)">')
STEPS = 35
"""Operations between two turns of the story."""
ACCOUNTS = 24
TREASURY = ACCOUNTS - 2
"""The account that the first agent delegates from: the player uses those before it and the last one."""


@dataclass(slots=True)
class Options:
    seed: int
    folder: Path
    plant_wrong_row: bool = False


@dataclass(slots=True)
class Result:
    """`ok` only if everything else is as it should be; `differences` says what is not."""

    seed: int
    ok: bool = False
    events_indexed: int = 0
    reorgs_healed: int = 0
    statements_sealed: int = 0
    receipts_verified: int = 0
    delegations_final: int = 0
    ground_truth_match: bool = False
    differences: list[str] = field(default_factory=list[str])

    def line(self) -> str:
        """The last line of the demo."""
        names = (
            "ok",
            "seed",
            "events_indexed",
            "reorgs_healed",
            "statements_sealed",
            "receipts_verified",
            "delegations_final",
            "ground_truth_match",
        )
        return json.dumps({name: getattr(self, name) for name in names}, separators=(",", ":"))


@dataclass(slots=True)
class View:
    """What a person watches: filled as the story goes on."""

    stage: str = "starting"
    head: int = 0
    final: int = 0
    operations: int = 0
    reorgs: list[str] = field(default_factory=list[str])
    sealed: int = 0
    agents: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    states: dict[str, str] = field(default_factory=dict[str, str])
    told: list[str] = field(default_factory=list[str])
    addresses: dict[str, str] = field(default_factory=dict[str, str])


Tell = Callable[[str], None]


class Demo:
    """`async with Demo(options, tell) as demo: result = await demo.run()`; `view` is live meanwhile."""

    def __init__(self, options: Options, tell: Tell) -> None:
        self.options = options
        self.view = View()
        self._tell = tell
        self._stack = contextlib.AsyncExitStack()
        self.agents: list[fleet.Agent] = []
        self.astray: list[str] = []

    async def __aenter__(self) -> Demo:
        folder = self.options.folder
        clear(folder)
        node = anvil.Anvil(slots_in_an_epoch=SLOTS, accounts=ACCOUNTS)
        self.node = await self._stack.enter_async_context(node)
        self.client = await self._stack.enter_async_context(rpc.Rpc(node.url))
        self.fleet = await self._stack.enter_async_context(fleet.Fleet(folder))
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._stack.aclose()

    async def run(self) -> Result:
        watching = asyncio.create_task(self._watch())
        try:
            await self._found()
            await self._story()
            return await self._judge()
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)

    # --- the story

    async def _found(self) -> None:
        """Contract, keys, document, hub."""
        self._stage("deploying the staking contract")
        self.contract = await staking.deploy(self.client)
        keys = [self.fleet.key(f"agent-{number}") for number in (1, 2, 3)]
        receipt_key = self.fleet.key("hub")
        genesis = (await self.client.call("eth_getBlockByNumber", "0x0", False))["hash"]
        document = documents.document(
            chain_id=anvil.CHAIN_ID,
            genesis=genesis,
            start=self.contract.start_block,
            signers=[key.address for key in keys],
            frame_blocks=FRAME_BLOCKS,
            receipt_key=receipt_key.address,
        )
        self.document = documents.with_ruleset(document, await self.fleet.ruleset(document))
        self.fleet.publish(self.document)
        self.hub = self.fleet.hub(chain_id=anvil.CHAIN_ID, receipt_key=receipt_key)
        self.player = play.Player(self.contract, self.options.seed, validators=4, delegators=16, on=self._on)
        treasury_key = self.fleet.funded_key("treasury", account=TREASURY)
        allowed, stranger = self.player.validators[:2]
        acting = demo_treasury.tables(treasury_key.file, validator=allowed, hub=True)
        self.agents = [
            self.fleet.agent(
                f"agent-{number}",
                node_url=self.node.url,
                ws_url=self.node.ws_url,
                attester=key,
                hub=self.hub,
                tables=acting if number == 1 else (),
            )
            for number, key in zip((1, 2, 3), keys, strict=True)
        ]
        self.treasury = demo_treasury.Treasury(self.agents[0], treasury_key.address, allowed, stranger)
        await self.treasury.hire(self.fleet)
        self._stage("starting the hub and the first agent")
        await asyncio.gather(self._start(self.hub), self._start(self.agents[0]))

    async def _story(self) -> None:
        first, second, third = self.agents
        await self._play("a quiet morning")
        await self._delegate()
        await self._reorg(play.SAME_HEIGHT)
        self._stage("a second agent joins")
        await self._start(second)
        await self._play("two agents follow")
        await self._lose_and_find()
        self._say("agent-2 is killed with SIGKILL")
        self.view.states["agent-2"] = "killed"
        await second.kill()
        await self._play("one agent left")
        await self._reorg(play.CASCADING)
        self._stage("agent-2 is back, agent-3 joins late")
        await asyncio.gather(self._start(second), self._start(third))
        await self._play("three agents follow")
        self._say("the hub goes away")
        self.view.states["hub"] = "down"
        await self.hub.stop()
        await self._reorg(play.TWENTY)
        await self._play("nobody upstream: votes wait in the outboxes", most=STEPS // 2)
        await self.player.mine(5 * FRAME_BLOCKS)
        self._stage("the hub is back")
        await self._start(self.hub)
        await self._reorg(play.OFFLINE)
        del first
        self._stage("mining until everything is final")
        self.view.final = await self.player.settle()
        self.head = await self.contract.height()

    async def _delegate(self) -> None:
        """One delegation goes by itself, one needs a second person, one is refused."""
        treasury = self.treasury
        self._stage("Tess proposes three delegations to agent-1")
        for which in (demo_treasury.SMALL, demo_treasury.LARGE, demo_treasury.REFUSED):
            await treasury.propose(which)
        await self._until(treasury.reaches(demo_treasury.REFUSED, "rejected"), "the policy to refuse one")
        self._say(f"the policy refuses one: {(await treasury.seen(demo_treasury.REFUSED))['intent']['why']}")
        await self._until(treasury.reaches(demo_treasury.LARGE, "awaiting_approval"), "one to wait for approval")
        if not await treasury.cannot_approve_herself(demo_treasury.LARGE):
            self.astray.append("the proposer could approve her own intent")
        self._say(
            f"{demo_treasury.AMOUNTS[demo_treasury.LARGE] // demo_treasury.ETHER} ETH need a second person: Adam approves, Tess could not"
        )
        await treasury.approve(demo_treasury.LARGE)
        for which in (demo_treasury.SMALL, demo_treasury.LARGE):
            await self._until(treasury.reaches(which, "pending"), f"the {which} delegation to be sent")
        await self.player.mine()
        for which in (demo_treasury.SMALL, demo_treasury.LARGE):
            await self._until(treasury.reaches(which, "included"), f"the {which} delegation to be in a block")

    async def _lose_and_find(self) -> None:
        """A delegation whose block vanishes: it is found missing, sent again, and found in another block."""
        treasury, which = self.treasury, demo_treasury.REORGED
        self._stage("Tess delegates once more, and a reorg takes the block away")
        await treasury.propose(which)
        await self._until(treasury.reaches(which, "pending"), "the delegation to be sent")
        await self.player.mine()
        await self._until(treasury.reaches(which, "included"), "the delegation to be in a block")
        await self._reorg(play.THREE)

        async def back() -> bool:
            return await treasury.came_back(which)

        async def there_again() -> bool:
            return await self._in_pool() or await back()

        await self._until(there_again, "the delegation to be sent again")
        if not await back():
            await self.player.mine()
        await self._until(back, "the delegation to be in a block again")
        self._say("the delegation is back, in another block")

    async def _in_pool(self) -> bool:
        """Whether the node holds a transaction of the treasury that is in no block."""
        counts = await self.client.batch(
            [("eth_getTransactionCount", [self.treasury.account, at]) for at in ("latest", "pending")]
        )
        return int(counts[1], 16) > int(counts[0], 16)

    async def _on(self, event: str) -> None:
        """What the player announces: agents must have seen what is about to vanish, or there would be nothing to heal."""
        if event.startswith(("reorg:before", "reorg:between")):
            await self._followed()
        elif event == "offline:begin":
            await self._followed()
            self._say("agent-3 is stopped through the next reorg")
            self.view.states["agent-3"] = "stopped"
            await self.agents[2].stop()
        elif event == "offline:end":
            await self._start(self.agents[2])

    async def _play(self, what: str, *, most: int = STEPS) -> None:
        self._stage(what)
        await self.player.run(most)
        self.view.operations = self.player.played.operations
        await self._followed()

    async def _reorg(self, kind: str) -> None:
        self._stage(f"reorg: {kind}")
        await self.player.reorg_kind(kind)
        depths = [str(r.depth) for r in self.player.played.reorgs if r.kind == kind]
        self.view.reorgs.append(f"{kind} ({'+'.join(depths)})")
        await self._followed()

    async def _start(self, process: fleet.Process) -> None:
        await process.start()
        await process.listening(deadline_s=DEADLINE_S)
        self.view.addresses[process.name] = process.url
        self.view.states[process.name] = "up"
        self._say(f"{process.name} listens at {process.url}/")

    async def _followed(self) -> None:
        """Until every running agent's canonical head is the chain's."""
        block = await self.client.call("eth_getBlockByNumber", "latest", False)
        for agent in self.agents:
            if agent.running:
                await self._until(
                    lambda agent=agent: _is_at(agent, block["hash"]), f"{agent.name} to reach {block['hash'][:10]}…"
                )

    async def _until(self, condition: Callable[[], Awaitable[bool]], what: str) -> None:
        end = time.monotonic() + DEADLINE_S
        while not await condition():
            if time.monotonic() > end:
                tails = "\n".join(f"--- {p.name}\n{p.tail(6)}" for p in self.fleet.processes)
                raise errors.StakesideError(f"waited {DEADLINE_S:g} s for {what}\n{tails}")
            await asyncio.sleep(LOOK_S)

    # --- the judgement

    async def _judge(self) -> Result:
        result = Result(self.options.seed)
        stream = self.document.streams[0]
        expected = stream.sequence_at(self.view.final + 1)
        self._stage(f"waiting for {expected} sealed statements")
        await self._until(lambda: self._sealed(expected), f"{expected} sealed statements")
        for agent in self.agents:
            await self._until(
                lambda agent=agent: _is_done(agent, expected), f"{agent.name} to deliver {expected} votes"
            )
        result.statements_sealed = expected
        if self.options.plant_wrong_row:
            plant(self.agents[1].book)
            self._say("one wrong row was planted in agent-2's book")
        self._stage("comparing every row with receipts and every leaf with contract views")
        result.differences += await self._compare(result)
        result.ground_truth_match = not result.differences
        self._stage("checking receipts and the statement file")
        for agent in self.agents:
            count, wrong = demo_receipts.verify(agent.book, self.document, attester=agent.address)
            result.receipts_verified += count
            result.differences += wrong
            if count < expected:
                result.differences.append(f"{agent.name} holds {count} receipts for {expected} statements")
        for which in demo_treasury.WANTED:
            await self._until(self.treasury.reaches(which, "final_ok"), f"the {which} delegation to be final")
        ground = truth.Truth(self.client, start_block=self.contract.start_block)
        result.delegations_final, wrong = await self.treasury.judge(ground, last=self.head)
        result.differences += [*self.astray, *wrong]
        result.reorgs_healed = self._healed(result)
        result.differences += await self._verify()
        await self._keep_page()
        result.ok = not result.differences and min(result.events_indexed, result.reorgs_healed, expected) > 0
        return result

    async def _compare(self, result: Result) -> list[str]:
        ground = truth.Truth(self.client, start_block=self.contract.start_block)
        rows = await ground.rows(last=self.head)
        wrong: list[str] = []
        frames = {agent.name: books.Book(agent.book).frames() for agent in self.agents}
        for agent in self.agents:
            book = books.Book(agent.book)
            stored = book.rows(last=self.head)
            result.events_indexed = max(result.events_indexed, len(stored))
            wrong += [f"{agent.name}: {text}" for text in truth.compare_rows(rows, stored)]
            for frame in frames[agent.name]:
                leaves = await ground.leaves_at(frame.to_anchor)
                wrong += [
                    f"{agent.name}, frame {frame.sequence}: {text}"
                    for text in truth.compare_leaves(leaves, book.leaves(frame))
                ]
        digests = {tuple(frame.digest for frame in found) for found in frames.values()}
        if len(digests) != 1:
            wrong.append("the agents' digests are not byte-identical")
        return wrong

    def _healed(self, result: Result) -> int:
        """Reorgs whose vanished blocks an agent had indexed, and put aside."""
        healed = 0
        for reorg in self.player.played.reorgs:
            if any(_holds_orphaned(agent.book, reorg.orphaned) for agent in self.agents):
                healed += 1
            elif reorg.kind != play.OFFLINE:
                result.differences.append(f"nobody saw the blocks that reorg {reorg.kind} removed")
        return healed

    async def _verify(self) -> list[str]:
        """The newest sealed statement with logs in it, as a file, through the independent verifier."""
        self.statement = self.options.folder / "statement.json"
        settings, book = self.agents[0].folder / "agent.toml", books.Book(self.agents[0].book)
        chosen = newest_with_logs(book.frames()[: self.view.sealed], [row.number for row in book.rows(last=self.head)])
        named = ("--sequence", str(chosen), "--out", str(self.statement))
        await self.fleet.run("agent", "export", "--config", str(settings), *named)
        file = str(self.statement)
        wrong: list[str] = []
        for options in ((), ("--rpc", self.node.url), ("--rpc", self.node.url, "--full")):
            said = await self.fleet.run("verify", file, *options, accept=(0, 1, 2))
            if "VERIFIED" not in said:
                wrong.append(f"stakeside verify {' '.join(options)}: {said.strip().splitlines()[-1]}")
        return wrong

    async def _keep_page(self) -> None:
        """The status page as it was at the end, for when nobody listens any more."""
        answer = await self.agents[0].get("/")
        named = None if answer is None else STYLE.search(str(answer[1]))
        style = None if named is None else await self.agents[0].get(named[1])
        if answer is None or style is None or (answer[0], style[0]) != (200, 200):
            raise errors.StakesideError("the status page or its style is not there", value=self.agents[0].url)
        (self.options.folder / "status.html").write_text(alone(str(answer[1]), str(style[1])))

    async def _sealed(self, expected: int) -> bool:
        answer = await self.hub.get("/v1/streams", token=self.hub.token)
        if answer is None or answer[0] != 200:
            return False
        sealed = answer[1]["streams"][0]["sealed"]
        self.view.sealed = 0 if sealed is None else int(sealed) + 1
        return self.view.sealed >= expected

    async def _watch(self) -> None:
        """Fill the view; what does not answer is left as it was."""
        while True:
            for agent in self.agents:
                status = await agent.status() if agent.running else None
                if status is not None:
                    self.view.agents[agent.name] = status
            with contextlib.suppress(errors.StakesideError, OSError, AttributeError):
                self.view.head = await self.contract.height()
                self.view.final = await self.contract.height("finalized")
                self.view.operations = self.player.played.operations
                await self._sealed(0)
            await asyncio.sleep(0.25)

    def _stage(self, what: str) -> None:
        self.view.stage = what
        self._say(what)

    def _say(self, what: str) -> None:
        self.view.told.append(what)
        self._tell(what)


def clear(folder: Path) -> None:
    """An empty folder of our own. Raises BadConfig rather than empty somebody else's."""
    if folder.exists() and any(folder.iterdir()):
        if not (folder / MARKER).exists():
            raise errors.BadConfig(
                "the folder holds files that are not a demo's",
                value=str(folder),
                cure="choose another --folder, or empty it yourself",
            )
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARKER).write_text("stakeside demo empties this folder at every start\n")


def newest_with_logs(frames: Sequence[books.Frame], heights: Iterable[int]) -> int:
    """The sequence of the last frame in which there is a log of these heights; of the very last one if none has any. `frames` ascend."""
    held = {bisect.bisect_left(frames, height, key=lambda frame: frame.to_position) for height in heights}
    return max((frames[at].sequence for at in held if at < len(frames)), default=frames[-1].sequence)


def alone(page: str, style: str) -> str:
    """A page that needs nothing but itself: its style is in it, and its script is gone, for there is nobody to ask."""
    styled = STYLE.sub(lambda _: f"<style>{style}</style>", page, count=1)
    return re.sub(r"<script src=[^>]*></script>", "", styled)


def plant(book: Path) -> None:
    """Add one wei to the first delegation of a book, as a bug or an intruder might."""
    with contextlib.closing(sqlite3.connect(book, timeout=10)) as connection:
        guards = connection.execute(
            "select name from sqlite_master where type = 'trigger' and tbl_name = 'log' and sql like '%BEFORE UPDATE%'"
        )
        for (name,) in guards.fetchall():
            connection.execute(f"drop trigger {name}")
        number, index, amount = connection.execute(
            "select number, log_index, amount from canonical_event where kind = 'Delegated' order by number, log_index limit 1"
        ).fetchone()
        wrong = (int.from_bytes(amount, "big") + 1).to_bytes(32, "big")
        connection.execute("update log set amount = ? where number = ? and log_index = ?", (wrong, number, index))
        connection.commit()


async def _is_at(agent: fleet.Agent, block_hash: str) -> bool:
    status = await agent.status()
    return status is not None and status["index"] is not None and status["index"]["hash"] == block_hash


async def _is_done(agent: fleet.Agent, frames: int) -> bool:
    status = await agent.status()
    if status is None or status["outbox"]["depth"]:
        return False
    newest = [stream["frame"] for stream in status["streams"].values()]
    return all(frame is not None and frame["sequence"] + 1 >= frames for frame in newest)


def _holds_orphaned(book: Path, hashes: tuple[bytes, ...]) -> bool:
    with contextlib.closing(sqlite3.connect(f"file:{book}?mode=ro", uri=True, timeout=10)) as connection:
        marks = ",".join("?" * len(hashes))
        query = f"select 1 from block where orphaned_generation is not null and hash in ({marks}) limit 1"
        return connection.execute(query, hashes).fetchone() is not None
