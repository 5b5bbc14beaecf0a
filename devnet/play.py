"""A seeded scenario on the staking contract. In: a deployed contract and a seed. Out: blocks, reorgs, and a count of both.

The same seed on a fresh devnet gives the same chain, hash by hash. Several operations share a block, some blocks are empty, some
operations are refused by the contract, pools run out of stake, and validators describe themselves in hostile text. A reorg never
reaches the finalized block unless it is asked to.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from devnet import rpc, staking
from devnet.staking import Operation, Staking
from domain import errors

ETHER = 10**18
DUST = (1, 2, 3, 7, 97, 10_007, 1_000_003, 10**9 + 7, 10**18 - 1, 10**18 + 9)
"""Amounts that do not divide: one wei, primes, and the neighbours of a whole coin."""
RATES_BPS = (0, 1, 333, 500, 1_000, 3_333, 9_999, 10_000)
SLASHES_BPS = (1, 3, 100, 333, 500, 1_000, 5_000, 9_999, 10_000)
HOSTILE: tuple[str | bytes, ...] = (
    "",
    "plain",
    "nul\0in the middle\0",
    "'; drop table block; --",
    "quotes \" ' ` and a backslash \\ and a newline \n",
    "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "\u202eright to left\u202c \u2066isolated\u2069 \u200fmark",
    "{{7*7}} ${jndi:ldap://x} %s %n {0}",
    "\x1b[2J\x1b[31mterminal\x07",
    "\\x00 looks escaped \\u0000",
    "zero\u200bwidth \ufeff \U0001f480 e\u0301",
    b"\xff\xfe not \xc3\x28 utf-8 \xed\xa0\x80",
    "long " * 2_000,
)

SAME_HEIGHT, THREE, TWENTY, CASCADING, OFFLINE = "same-height", "depth-3", "depth-20", "cascading", "offline"
REORGS = (SAME_HEIGHT, THREE, TWENTY, CASCADING, OFFLINE)
"""The kinds of reorg a scenario plays. `offline` is framed by the events `offline:begin` and `offline:end`."""

On = Callable[[str], Awaitable[None]]

_WEIGHTS = {
    "delegate": 26, "undelegate": 14, "withdraw": 9, "redelegate": 9, "claim": 10, "claim_commission": 3, "reward": 16,
    "slash": 4, "slash_while_unbonding": 2, "set_commission": 3, "set_metadata": 2, "invalid": 2,
}  # fmt: skip


async def _nobody(_: str) -> None:
    """No agent to tell."""


@dataclass(frozen=True, slots=True)
class Reorg:
    """One replacement: how deep, the hashes of the blocks that vanished and of those that took their place, lowest first."""

    kind: str
    depth: int
    first: int
    orphaned: tuple[bytes, ...]
    replaced_by: tuple[bytes, ...]
    resent: int


@dataclass(slots=True)
class Played:
    """What a scenario did so far. `succeeded` counts by function name; vanished operations stay counted."""

    operations: int = 0
    blocks: int = 0
    refused: int = 0
    succeeded: dict[str, int] = field(default_factory=dict[str, int])
    reorgs: list[Reorg] = field(default_factory=list[Reorg])


class Player:
    """Plays on `chain`. Accounts: the owner first, then `validators` operators, then `delegators`; the last one pays rewards.

    `on` is awaited at `reorg:before:<kind>`, `reorg:between:<kind>` (a cascade), `reorg:after:<kind>`, `offline:begin` and
    `offline:end`, so that a caller can stop and start agents at exactly that moment.
    """

    def __init__(
        self, chain: Staking, seed: int, *, validators: int = 5, delegators: int = 30, on: On = _nobody
    ) -> None:
        if len(chain.accounts) < validators + delegators + 2:
            raise errors.BadConfig(
                "the node has too few accounts", value=len(chain.accounts), cure="raise Anvil's --accounts"
            )
        self.chain = chain
        self.seed = seed
        self.played = Played()
        self.validators = chain.accounts[1 : 1 + validators]
        self.delegators = chain.accounts[1 + validators : 1 + validators + delegators]
        self.payer = chain.accounts[-1]
        self._on = on
        self._random = random.Random(seed)
        self._floor: int | None = None
        self._pairs: list[tuple[str, str]] = []
        self._leaving: list[tuple[str, str]] = []

    # --- the scenario ---------------------------------------------------------------------------------------------------

    async def run(self, steps: int, *, reorgs: Sequence[str] = ()) -> Played:
        """At least `steps` random operations, with `reorgs` spread evenly among them. Registers the validators first."""
        await self.prepare()
        until = self.played.operations + steps
        async with self.chain.still():
            for number, kind in enumerate(reorgs):
                await self._play_until(until - steps + steps * (number + 1) // (len(reorgs) + 1))
                await self.reorg_kind(kind)
            await self._play_until(until)
        return self.played

    async def prepare(self) -> None:
        """Register every validator, once. No reorg reaches below this block."""
        if self._floor is not None:
            return
        rates = [self._random.choice(RATES_BPS) for _ in self.validators]
        known = await self.chain.read([("validatorOf", (validator,)) for validator in self.validators])
        operations = [
            staking.register_validator(operator, commission_bps=rate, metadata=f"validator {number}")
            for number, (operator, rate, state) in enumerate(zip(self.validators, rates, known, strict=True))
            if not state[0]
        ]
        if operations:
            await self._mine(operations)
        self._floor = await self.chain.height()

    async def mine(self, blocks: int = 1) -> None:
        """Empty blocks."""
        await self.chain.mine(blocks)
        self.played.blocks += blocks

    async def settle(self, block: int | None = None) -> int:
        """Mine until `block` (the current head, if not given) is finalized. Returns the finalized number."""
        wanted = await self.chain.height() if block is None else block
        while True:
            finalized = await self.chain.height("finalized")
            if finalized >= wanted:
                return finalized
            await self.mine(wanted - finalized)

    async def _play_until(self, operations: int) -> None:
        while self.played.operations < operations:
            dice = self._random.random()
            if dice < 0.08:
                await self.mine(self._random.randint(1, 3))
            elif dice < 0.12:
                await self._jump()
            elif dice < 0.15:
                await self._drain()
            else:
                await self._block(min(self._random.randint(1, 6), operations - self.played.operations))

    async def _jump(self) -> None:
        """The next block is minutes, hours or days later: unbondings mature all at once."""
        head = await self.chain.node.call("eth_getBlockByNumber", "latest", False)
        later = int(head["timestamp"], 16) + self._random.choice((60, 119, 120, 121, 3_600, 86_400))
        await self.chain.node.call("evm_setNextBlockTimestamp", later)
        await self.mine()

    async def _block(self, size: int) -> None:
        """One block of random operations. What is possible is read from the chain first, then counted down within the block."""
        drawn = [self._draw() for _ in range(size)]
        pairs = sorted({pair for _, pair in drawn})
        views: list[tuple[str, Sequence[Any]]] = []
        for pair in pairs:
            views += [("stakeOf", pair), ("openUnbondingsOf", pair), ("earnedOf", pair), ("claimedOf", pair)]
        answers = await self.chain.read(views)
        known = {
            pair: _Known(stake, list(tickets), earned > claimed)
            for pair, (stake, tickets, earned, claimed) in zip(pairs, _by(4, answers), strict=True)
        }
        operations: list[Operation] = []
        for kind, pair in drawn:
            operations += self._operations(kind, pair, known[pair])
        await self._mine(operations)

    async def _drain(self) -> None:
        """A pool without stake: everybody leaves, a reward comes and is held, then one wei (or a little dust) stakes again."""
        validator = self._random.choice(self.validators)
        stakes = await self.chain.read([("stakeOf", (validator, delegator)) for delegator in self.delegators])
        leaving = [
            staking.undelegate(delegator, validator, stake)
            for delegator, stake in zip(self.delegators, stakes, strict=True)
            if stake
        ]
        self._leaving += [(validator, operation.sender) for operation in leaving]
        await self._mine(leaving)
        first = self._random.choice(self.delegators)
        self._pairs.append((validator, first))
        await self._mine([staking.distribute_reward(self.payer, validator, self._amount())])
        await self._mine([staking.delegate(first, validator, self._random.choice(DUST[:5])),
                          staking.distribute_reward(self.payer, validator, self._random.choice(DUST))])  # fmt: skip

    async def _mine(self, operations: Sequence[Operation]) -> None:
        """One block with `operations` in it, and the book-keeping."""
        succeeded = await self.chain.do(*operations)
        self.played.blocks += 1
        self.played.operations += len(operations)
        for operation, done in zip(operations, succeeded, strict=True):
            if done:
                self.played.succeeded[operation.function] = self.played.succeeded.get(operation.function, 0) + 1
            else:
                self.played.refused += 1

    # --- single operations ------------------------------------------------------------------------------------------------

    def _draw(self) -> tuple[str, tuple[str, str]]:
        kind = self._random.choices(list(_WEIGHTS), list(_WEIGHTS.values()))[0]
        if kind in ("withdraw", "slash_while_unbonding") and self._leaving:
            return kind, self._random.choice(self._leaving)
        if kind == "delegate" or not self._pairs or self._random.random() < 0.05:
            return kind, (self._random.choice(self.validators), self._random.choice(self.delegators))
        return kind, self._random.choice(self._pairs)

    def _operations(self, kind: str, pair: tuple[str, str], known: _Known) -> list[Operation]:
        """What a drawn kind becomes. What cannot be done now becomes a delegation."""
        validator, delegator = pair
        match kind:
            case "undelegate" if known.stake:
                amount = known.take(self._part(known.stake))
                self._leaving.append(pair)
                return [staking.undelegate(delegator, validator, amount)]
            case "redelegate" if known.stake:
                target = self._random.choice([v for v in self.validators if v != validator])
                amount = known.take(self._part(known.stake))
                self._pairs.append((target, delegator))
                return [staking.redelegate(delegator, source=validator, target=target, amount_wei=amount)]
            case "withdraw" if known.tickets:
                return [staking.withdraw(delegator, known.tickets.pop(self._random.randrange(len(known.tickets))))]
            case "claim" if known.claimable:
                known.claimable = False
                return [staking.claim(delegator, validator)]
            case "claim_commission":
                return [staking.claim_commission(validator)]
            case "reward":
                return [staking.distribute_reward(self.payer, validator, self._amount())]
            case "slash":
                return [self._slash(validator)]
            case "slash_while_unbonding" if known.stake:
                self._leaving.append(pair)
                leave = staking.undelegate(delegator, validator, known.take(self._part(known.stake)))
                return [leave, self._slash(validator)]
            case "set_commission":
                return [staking.set_commission(validator, commission_bps=self._random.choice(RATES_BPS))]
            case "set_metadata":
                return [staking.set_metadata(validator, self._random.choice(HOSTILE))]
            case "invalid":
                return [self._invalid(validator, delegator)]
            case _:
                self._pairs.append(pair)
                return [staking.delegate(delegator, validator, self._amount())]

    def _delegation(self) -> Operation:
        pair = (self._random.choice(self.validators), self._random.choice(self.delegators))
        self._pairs.append(pair)
        return staking.delegate(pair[1], pair[0], self._amount())

    def _slash(self, validator: str) -> Operation:
        return staking.slash(self.chain.owner, validator, fraction_bps=self._random.choice(SLASHES_BPS))

    def _invalid(self, validator: str, delegator: str) -> Operation:
        """Something the contract must refuse: it leaves a transaction without logs."""
        return self._random.choice(
            (
                staking.slash(delegator, validator, fraction_bps=1),
                staking.withdraw(delegator, 10**9),
                staking.delegate(delegator, delegator, 1),
                staking.undelegate(delegator, validator, 2**255),
                staking.redelegate(delegator, source=validator, target=validator, amount_wei=1),
                staking.set_commission(validator, commission_bps=10_001),
            )
        )

    def _amount(self) -> int:
        match self._random.randrange(3):
            case 0:
                return self._random.choice(DUST)
            case 1:
                return self._random.randint(1, 500) * ETHER
            case _:
                return self._random.randint(1, 1_000 * ETHER)

    def _part(self, whole: int) -> int:
        """Some of it: often all, sometimes one wei."""
        match self._random.randrange(4):
            case 0:
                return whole
            case 1:
                return 1
            case _:
                return self._random.randint(1, whole)

    # --- reorgs -----------------------------------------------------------------------------------------------------------

    async def reorg_kind(self, kind: str) -> None:
        """One of `REORGS`, with its events."""
        await self.prepare()
        match kind:
            case "same-height":
                await self._mine([self._delegation(), self._delegation()])
                await self.reorg(1, kind=kind)
            case "depth-3":
                await self.reorg(3, kind=kind)
            case "depth-20":
                await self.reorg(20, kind=kind)
            case "cascading":
                await self.reorg(3, kind=kind)
                await self._on(f"reorg:between:{kind}")
                await self.reorg(5, kind=kind)
            case "offline":
                await self._on("offline:begin")
                await self.reorg(self._random.randint(2, 8), kind=kind)
                await self._play_until(self.played.operations + 4)
                await self._on("offline:end")
            case _:
                raise errors.BadConfig("there is no such reorg", value=kind, cure=f"use one of {', '.join(REORGS)}")

    async def reorg(self, depth: int, *, kind: str = "plain", violate_finality: bool = False) -> Reorg:
        """Replace the last `depth` blocks at the same height. Of the operations that vanish, some come back at once in other
        blocks, some as new transactions after the reorg in another order (unless the head must stay where it is), some never.

        Mines first where the chain is too short. Raises BadConfig when `depth` would reach the finalized block and
        `violate_finality` was not asked for.
        """
        await self.prepare()
        async with self.chain.still():
            head = await self._room(depth, violate_finality=violate_finality)
            numbers = range(head - depth + 1, head + 1)
            before = await self._blocks(numbers)
            back, dropped = await self._sort_vanished(before)
            pairs: list[list[Any]] = [[raw, offset] for raw, offset in back]
            await self._on(f"reorg:before:{kind}")
            await self.chain.node.call("anvil_reorg", depth, pairs)
            after = await self._blocks(numbers)
            resent = len(back)
            if kind != SAME_HEIGHT and dropped:
                resent += await self._resend(dropped)
        done = Reorg(kind, depth, numbers.start, _hashes(before), _hashes(after), resent)
        self.played.reorgs.append(done)
        await self._on(f"reorg:after:{kind}")
        return done

    async def _room(self, depth: int, *, violate_finality: bool) -> int:
        """The head to reorg from: `depth` blocks above the registrations and, unless asked otherwise, above finality."""
        assert self._floor is not None
        head = await self.chain.height()
        if head - depth < self._floor:
            await self.mine(self._floor + depth - head)
            head = await self.chain.height()
        finalized = await self.chain.height("finalized")
        if not violate_finality and head - depth < finalized:
            raise errors.BadConfig(
                f"a reorg of {depth} blocks would reach finality, {head - finalized} blocks back",
                cure="raise Anvil's --slots-in-an-epoch, or ask for the violation",
            )
        return head

    async def _blocks(self, numbers: Sequence[int]) -> list[dict[str, Any]]:
        return await self.chain.node.batch([("eth_getBlockByNumber", [hex(number), True]) for number in numbers])

    async def _sort_vanished(
        self, blocks: Sequence[dict[str, Any]]
    ) -> tuple[list[tuple[str, int]], list[dict[str, Any]]]:
        """Which transactions come back in the new blocks (raw, by offset) and which do not. A sender's nonces only fit in
        order, so of each sender a prefix comes back; across senders the order is new."""
        by_sender: dict[str, list[dict[str, Any]]] = {}
        for block in blocks:
            for transaction in block["transactions"]:
                by_sender.setdefault(transaction["from"], []).append(transaction)
        back: list[tuple[str, int]] = []
        dropped: list[dict[str, Any]] = []
        senders = sorted(by_sender)
        self._random.shuffle(senders)
        for sender in senders:
            transactions = by_sender[sender]
            kept = self._random.randint(0, len(transactions))
            offsets = sorted(self._random.randrange(len(blocks)) for _ in range(kept))
            raws = await self.chain.node.batch(
                [("eth_getRawTransactionByHash", [t["hash"]]) for t in transactions[:kept]]
            )
            back += zip(raws, offsets, strict=True)
            dropped += transactions[kept:]
        return back, dropped

    async def _resend(self, dropped: Sequence[dict[str, Any]]) -> int:
        """Some of the dropped operations as new transactions, in another order, in one or two new blocks."""
        chosen = self._random.sample(list(dropped), self._random.randint(1, len(dropped)))
        half = self._random.randint(0, len(chosen))
        for part in (chosen[:half], chosen[half:]):
            if not part:
                continue
            senders = sorted({t["from"] for t in part})
            counts = await self.chain.node.batch(
                [("eth_getTransactionCount", [sender, "pending"]) for sender in senders]
            )
            nonces = {sender: int(count, 16) for sender, count in zip(senders, counts, strict=True)}
            calls: list[rpc.Call] = []
            for transaction in part:
                request = {
                    key: transaction[key]
                    for key in ("from", "to", "value", "gas", "maxFeePerGas", "maxPriorityFeePerGas")
                }
                request |= {"data": transaction["input"], "nonce": hex(nonces[transaction["from"]])}
                nonces[transaction["from"]] += 1
                calls.append(("eth_sendTransaction", [request]))
            await self.chain.node.batch(calls)
            await self.mine()
        return len(chosen)


class _Known:
    """What a position can still do within the block being made."""

    def __init__(self, stake: int, tickets: list[int], claimable: bool) -> None:
        self.stake = stake
        self.tickets = tickets
        self.claimable = claimable

    def take(self, amount: int) -> int:
        self.stake -= amount
        return amount


def _by(size: int, values: Sequence[Any]) -> list[Sequence[Any]]:
    return [values[start : start + size] for start in range(0, len(values), size)]


def _hashes(blocks: Sequence[dict[str, Any]]) -> tuple[bytes, ...]:
    return tuple(bytes.fromhex(block["hash"][2:]) for block in blocks)
