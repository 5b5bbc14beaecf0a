"""The seeded simulator: a chain, an agent, a lying node between them, and everything that can go wrong, compared with the truth.

    python -m devnet.simulate --seeds 200 --first 1 --jobs 2

One seed: play operations and reorgs, tell lies, cut sockets, kill the agent at random moments and at crash points, start it again. Then
heal: no more lies, everything becomes final, and the agent has a deadline to catch up. Its rows must be the receipts' rows, its leaves
the contract's own views at each frame's last block, and nothing may be latched, parked or missing. One JSON line a seed; the exit
code is 1 when one differs. A seed fixes what is done and in which order; how far the agent is at each moment it does not.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from devnet import anvil, books, crash, documents, fleet, lying_menu, play, proxy, rpc, staking, truth
from domain import errors

FRAME_BLOCKS = 8
CATCH_UP_S = 30.0
PATIENCE_S = 2.5
"""How long a healed agent may wait out its own back-off before it is started anew."""
BREATH_S = 0.3
CRASH_S = 0.5
"""How long an armed agent is waited for to die before other things happen."""
UP_S = 5.0
"""How long an agent may take from its start to its first call before nobody waits for it."""
CHECKED_FRAMES = 3
"""Leaves are compared at the newest frames; they are cumulative, so an older mistake shows there too."""
MAX_DIFFERENCE = 2000
PROOF_WEIGHTS = {"receipts": 6, "bloom": 1, "node": 2}
"""At `receipts` every lie is told. Below, the node is trusted with what the level does not prove, so it only fails there."""

REFUSES_TO_RUN = 2
"""The exit code of a process that met the wrong chain at its start: right, while the lie is told."""


@dataclass(slots=True)
class Outcome:
    """One seed's result, as it is printed."""

    seed: int
    ok: bool = False
    proof: str = ""
    faults: list[str] = field(default_factory=list[str])
    fired: dict[str, int] = field(default_factory=dict[str, int])
    kills: int = 0
    crashes: list[str] = field(default_factory=list[str])
    restarts: int = 0
    refusals: int = 0
    reorgs: int = 0
    orphaned: int = 0
    rows: int = 0
    frames: int = 0
    seconds: float = 0.0
    difference: str | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """What is the same for every seed."""

    rulesets: Mapping[str, str]
    actions: int = 8
    keep: Path | None = None


class Simulation:
    """One seed. Use `simulate`."""

    def __init__(self, seed: int, plan: Plan, folder: Path) -> None:
        self.outcome = Outcome(seed)
        self._plan = plan
        self._folder = folder
        self._dice = random.Random(f"simulate:{seed}")
        self._points = [name for name in crash.points() if name.split(".")[0] in ("index", "close", "attest", "store")]
        self._playing = asyncio.Lock()
        self._denials = 0
        self._armed = ""
        self._calls_before_start = 0
        self._proof = self._dice.choices(list(PROOF_WEIGHTS), list(PROOF_WEIGHTS.values()))[0]

    async def run(self) -> Outcome:
        started = time.monotonic()
        slots = self._dice.choice((4, 4, 12))
        async with (
            anvil.Anvil(slots_in_an_epoch=slots) as node,
            rpc.Rpc(node.url) as client,
            fleet.Fleet(self._folder) as ships,
        ):
            self._chain = await staking.deploy(client)
            self._player = play.Player(self._chain, self.outcome.seed, validators=3, delegators=6)
            self._truth = truth.Truth(client, start_block=self._chain.start_block)
            self._deepest = node.finality_depth - 1
            await self._player.prepare()
            async with proxy.LyingNode(node.url, (), self.outcome.seed, fork=self._fork) as liar:
                self._liar = liar
                self._agent = await self._make_agent(ships, client)
                self._book = books.Book(self._agent.book)
                try:
                    await self._live()
                    self.outcome.difference = await self._verdict()
                except errors.StakesideError as error:
                    self.outcome.difference = str(error.value or error)[-MAX_DIFFERENCE:] + f" ({error.what})"
                self.outcome.fired = {name: count for name, count in sorted(liar.fired.items()) if count}
        self.outcome.proof = self._proof
        self.outcome.reorgs = len(self._player.played.reorgs)
        self.outcome.ok = self.outcome.difference is None
        self.outcome.seconds = round(time.monotonic() - started, 2)
        return self.outcome

    async def _make_agent(self, ships: fleet.Fleet, client: rpc.Rpc) -> fleet.Agent:
        key = ships.key("attester", secret=f"{self.outcome.seed + 1:064x}")
        genesis = await client.call("eth_getBlockByNumber", "0x0", False)
        document = documents.document(
            chain_id=self._chain.chain_id,
            genesis=genesis["hash"],
            start=self._chain.start_block,
            signers=[key.address],
            frame_blocks=FRAME_BLOCKS,
            ruleset=self._plan.rulesets[self._proof],
        )
        ships.publish(document)
        limits = fleet.Limits(poll_s=0.1, timeout_s=1.0, backfill_range=self._dice.choice((3, 10, 2000)))
        socket = self._liar.ws_url if self._dice.random() < 0.5 else None
        return ships.agent("agent", node_url=self._liar.url, ws_url=socket, attester=key, limits=limits)

    # --- the bad days

    async def _live(self) -> None:
        await self._start()
        actions: list[tuple[int, Callable[[], Awaitable[None]]]] = [
            (6, self._operate), (5, self._reorg), (6, self._lie), (2, self._tell_the_truth), (2, self._kill),
            (3, self._crash), (1, self._stop_and_start), (1, self._drop_sockets), (1, self._while_away),
        ]  # fmt: skip
        await self._operate()
        await self._lie()
        for _ in range(self._plan.actions):
            weights = [weight for weight, _ in actions]
            await self._dice.choices([action for _, action in actions], weights)[0]()
            await self._breathe()
            await self._notice_end()

    async def _operate(self) -> None:
        async with self._playing:
            await self._player.run(self._dice.randint(3, 12))

    async def _reorg(self) -> None:
        async with self._playing:
            if self._dice.random() < 0.3:
                await self._player.reorg_kind(self._dice.choice((play.SAME_HEIGHT, play.CASCADING)))
            else:
                await self._player.reorg(self._dice.randint(1, min(10, self._deepest - 1)))

    async def _fork(self, depth: int) -> None:
        """A reorg in the middle of the agent's own call."""
        async with self._playing:
            await self._player.reorg(min(depth, self._deepest - 1), kind="between-calls")

    async def _lie(self) -> None:
        faults = lying_menu.choose(self._dice, head=await self._chain.height(), proof=self._proof)
        self._liar.set_faults(faults)
        self.outcome.faults += faults

    async def _tell_the_truth(self) -> None:
        self._liar.clear()

    async def _drop_sockets(self) -> None:
        self._liar.drop_sockets()

    async def _kill(self) -> None:
        await self._agent.kill()
        self.outcome.kills += 1
        if self._dice.random() < 0.5:
            await self._operate()
        await self._start()

    async def _crash(self) -> None:
        """Start it with a crash point armed; it dies there sooner or later, or never."""
        await self._agent.kill()
        self.outcome.kills += 1
        await self._start(at=f"{self._dice.choice(self._points)}:{self._dice.choice((1, 1, 2, 4))}")
        await self._breathe()
        await self._operate()
        await self._agent.ended(deadline_s=CRASH_S)

    async def _stop_and_start(self) -> None:
        await self._agent.stop()
        self.outcome.restarts += 1
        await self._start()

    async def _while_away(self) -> None:
        """Offline reorg: the agent finds another chain than the one it left."""
        await self._agent.kill()
        self.outcome.kills += 1
        await self._reorg()
        await self._operate()
        await self._start()

    async def _start(self, *, at: str = "") -> None:
        self._armed = at
        self._denials = self._denied()
        self._calls_before_start = self._liar.calls.total()
        await self._agent.start(environment={fleet.CRASH_AT: at} if at else {})

    def _denied(self) -> int:
        """How often the node has denied its chain so far: by id, by genesis, or by a hash that may have been the genesis'."""
        return sum(self._liar.fired[name] for name in ("chain-id", "genesis", "wrong-header"))

    async def _breathe(self) -> None:
        """Let the agent meet what was prepared for it: some calls, or a moment once it is up."""
        served = self._liar.calls.total() + self._dice.randint(4, 60)
        end = time.monotonic() + BREATH_S
        up_by = time.monotonic() + UP_S
        while self._liar.calls.total() < served and self._agent.running and time.monotonic() < end:
            if self._liar.calls.total() == self._calls_before_start and time.monotonic() < up_by:
                end = time.monotonic() + BREATH_S
            await self._agent.ended(deadline_s=0.01)

    async def _notice_end(self) -> None:
        """An agent that ended by itself is started again, if it had a good reason. Raises StakesideError otherwise."""
        if self._agent.running:
            return
        code = self._agent.exit_code
        if self._armed and code == -signal.SIGKILL:
            self.outcome.crashes.append(self._armed)
        elif code == REFUSES_TO_RUN and self._denied() > self._denials:
            self.outcome.refusals += 1
        else:
            raise errors.StakesideError(f"the agent ended by itself with {code}", value=self._agent.tail())
        await self._start()

    # --- the good day

    async def _verdict(self) -> str | None:
        """Heals everything, waits, compares. None when all is as it should be."""
        self._liar.clear()
        async with self._playing:
            await self._player.settle()
            await self._player.mine(FRAME_BLOCKS)
        await self._notice_end()
        if self._armed:
            await self._agent.kill()
            await self._start()
        await self._catch_up()
        return await self._compare()

    async def _catch_up(self) -> None:
        head = await self._chain.height()
        final = await self._chain.height("finalized")
        frames = (final - self._chain.start_block + 1) // FRAME_BLOCKS
        begin = time.monotonic()
        renewed = False
        while True:
            await self._notice_end()
            index = self._book.cursor("index")
            there = index is not None and index[0] >= head and len(self._book.frames()) >= frames
            if there or self._book.latches():
                return
            waited = time.monotonic() - begin
            if waited > PATIENCE_S and not renewed:
                renewed = True
                await self._refuse_latched()
                self.outcome.restarts += 1
                await self._agent.kill()
                await self._start()
            if waited > CATCH_UP_S:
                where = f"index {index and index[0]} of {head}, {len(self._book.frames())} of {frames} frames"
                raise errors.StakesideError(f"the healed agent did not catch up: {where}", value=self._agent.tail())
            await asyncio.sleep(fleet.LOOK_S)

    async def _refuse_latched(self) -> None:
        """A restart would hide a service that gave up: a lie must never be enough for that."""
        status = await self._agent.status()
        services: dict[str, dict[str, str]] = {} if status is None else status["services"]
        gone = {name: state["reason"] for name, state in services.items() if state["status"] == "latched"}
        if gone:
            raise errors.StakesideError("a service of the healed agent had given up", value=gone)

    async def _compare(self) -> str | None:
        wrong = [f"latched: {reason}" for reason in self._book.latches()]
        wrong += [f"parked: {reason}" for reason in self._book.parked()]
        wrong += [f"history is missing: {gap}" for gap in self._book.gaps()]
        expected, got = await self._truth.rows(), self._book.rows()
        wrong += truth.compare_rows(expected, got)
        frames = self._book.frames()
        for frame in frames[-CHECKED_FRAMES:]:
            differences = truth.compare_leaves(await self._truth.leaves_at(frame.to_position), self._book.leaves(frame))
            wrong += [f"frame {frame.sequence}: {text}" for text in differences]
        canonical = await self._chain.node.batch(
            [("eth_getBlockByNumber", [hex(frame.to_position), False]) for frame in frames]
        )
        for frame, block in zip(frames, canonical, strict=True):
            if block["hash"] != "0x" + frame.to_anchor.hex():
                wrong.append(f"frame {frame.sequence} ends at a block that is not on the chain")
        self.outcome.rows, self.outcome.frames = len(got), len(frames)
        self.outcome.orphaned = self._book.orphaned()
        return "; ".join(wrong)[:MAX_DIFFERENCE] or None


async def simulate(seed: int, plan: Plan) -> Outcome:
    """One seed in a folder of its own, which is kept when the seed fails and `plan.keep` names a place."""
    folder = Path(tempfile.mkdtemp(prefix=f"stakeside-{seed}-"))
    try:
        outcome = await Simulation(seed, plan, folder).run()
        if not outcome.ok and plan.keep is not None:
            shutil.copytree(folder, plan.keep / str(seed), dirs_exist_ok=True)
        return outcome
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def rulesets() -> dict[str, str]:
    """The devnet's ruleset hash at each proof level, asked of the product once."""
    with tempfile.TemporaryDirectory(prefix="stakeside-") as folder:
        async with fleet.Fleet(Path(folder)) as ships:
            nobody = documents.document(
                chain_id=anvil.CHAIN_ID, genesis=documents.NO_RULESET, start=1, signers=["0x" + 40 * "1"],
                frame_blocks=FRAME_BLOCKS,
            )  # fmt: skip
            return {proof: await ships.ruleset(nobody, proof=proof) for proof in PROOF_WEIGHTS}


async def run(seeds: Sequence[int], *, jobs: int, plan: Plan, say: Callable[[str], None]) -> bool:
    """All seeds, `jobs` at a time, one JSON line each and a summary. Whether all were right."""
    turn = asyncio.Semaphore(jobs)
    outcomes: list[Outcome] = []

    async def one(seed: int) -> None:
        async with turn:
            try:
                outcome = await simulate(seed, plan)
            except (errors.StakesideError, OSError) as error:
                outcome = Outcome(seed, difference=f"the simulator itself failed: {error}"[:MAX_DIFFERENCE])
            outcomes.append(outcome)
            say(json.dumps(asdict(outcome)))

    await asyncio.gather(*(one(seed) for seed in seeds))
    fired: Counter[str] = Counter()
    for outcome in outcomes:
        fired.update(outcome.fired)
    summary = {
        "ok": all(outcome.ok for outcome in outcomes),
        "seeds": len(outcomes),
        "failed": sorted(outcome.seed for outcome in outcomes if not outcome.ok),
        "kills": sum(outcome.kills for outcome in outcomes),
        "crashes": sum(len(outcome.crashes) for outcome in outcomes),
        "reorgs": sum(outcome.reorgs for outcome in outcomes),
        "rows": sum(outcome.rows for outcome in outcomes),
        "fired": dict(sorted(fired.items())),
        "mean_s": round(sum(outcome.seconds for outcome in outcomes) / max(1, len(outcomes)), 2),
    }
    say(json.dumps(summary))
    return bool(summary["ok"])


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m devnet.simulate", description="Compare an agent in trouble with the truth."
    )
    parser.add_argument("--seeds", type=int, default=20, help="how many")
    parser.add_argument("--first", type=int, default=1, help="the first seed")
    parser.add_argument("--jobs", type=int, default=2, help="seeds at a time")
    parser.add_argument("--actions", type=int, default=8, help="things that happen in a seed")
    parser.add_argument("--keep", type=Path, help="keep the folders of failed seeds here")
    wanted = parser.parse_args(arguments)

    async def body() -> bool:
        plan = Plan(await rulesets(), wanted.actions, wanted.keep)
        seeds = range(wanted.first, wanted.first + wanted.seeds)
        return await run(seeds, jobs=wanted.jobs, plan=plan, say=_say)

    with contextlib.suppress(KeyboardInterrupt):
        return 0 if asyncio.run(body()) else 1
    return 130


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
