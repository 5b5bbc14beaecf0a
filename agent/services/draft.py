"""A draft: everything the chain says about an intent. In: an intent and the account's node. Out: a call, simulated and priced at one block.

Views and the simulation are pinned to one block by its hash, so a reorg between two reads shows as a missing block and never as a mixture.
Nothing is decided or written here, and a node that is away, or lacks a method, is never a reason against an intent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

from agent.delegations import fees
from domain import chain, errors, intent
from indexers.chain import account
from indexers.protocols import planner
from kit import faults, jsonrpc, logs

POINTS = ("decide.before_reads", "decide.after_reads")

ROUNDS = 8
"""Views may need views; more rounds than this are a manifest that never ends."""
Outcome = Literal["ok", "failed", "unavailable"]


class Draft(msgspec.Struct, frozen=True):
    """`estimate` is the gas it takes, `gas` the limit to ask for: a quarter more; both are 0 where the simulation was not `ok`. `why` says why
    it failed or was not to be had, or that the node showed no logs, so that its effect was not seen."""

    standing: account.Standing
    call: planner.Call
    simulated: Outcome
    why: str
    estimate: int
    gas: int
    market: fees.Answer


class Unready(msgspec.Struct, frozen=True):
    """The chain is not in a state in which this can work: now, at this block."""

    standing: account.Standing
    reason: str


class Impossible(msgspec.Struct, frozen=True):
    """This can never be planned: what it names does not exist here."""

    standing: account.Standing
    reason: str


class Untold(errors.Transient):
    """What the node, or a contract through it, says about this intent is of no use now; it says nothing about the next one."""


class Drafter:
    """Reads for one account. `planners` by protocol."""

    def __init__(self, node: account.Account, planners: Mapping[str, planner.Planner], caps: fees.Caps) -> None:
        self._node = node
        self._planners = planners
        self._caps = caps

    async def draft(self, wanted: intent.Intent) -> Draft | Unready | Impossible:
        """Raises Transient when the node cannot be asked, Untold when it was."""
        faults.point("decide.before_reads")
        standing = await self._node.standing()
        source = self._planners.get(wanted.protocol)
        if source is None:
            return Impossible(standing, f"this agent knows no protocol {wanted.protocol}")
        header = standing.head.header
        known: dict[str, planner.Value] = {"block.number": header.number, "block.timestamp": header.time}
        blocks = len(known)
        try:
            call = await self._plan(source, wanted, standing, known)
            if isinstance(call, str):
                return Unready(standing, call)
            simulated, why, estimate = await self._simulate(call, standing)
        except planner.Refused as error:
            # What the chain was asked for may be otherwise at another block.
            return Impossible(standing, str(error)) if len(known) == blocks else Unready(standing, str(error))
        except (jsonrpc.Throttled, jsonrpc.MethodMissing):
            raise
        except (jsonrpc.RpcError, errors.BadAnswer, account.Away) as error:
            said = f": {logs.line(error.text)}" if isinstance(error, jsonrpc.RpcError) else ""
            raise Untold(f"{error.what}{said}") from error
        found = Draft(
            standing=standing,
            call=call,
            simulated=simulated,
            why=why,
            estimate=estimate,
            gas=_limit(estimate),
            market=await market(self._node, self._caps),
        )
        faults.point("decide.after_reads")
        return found

    async def _plan(
        self,
        source: planner.Planner,
        wanted: intent.Intent,
        standing: account.Standing,
        known: dict[str, planner.Value],
    ) -> planner.Call | str:
        """The call; a text says why the chain is not ready for it. `known` gets what the views say."""
        header = standing.head.header
        for _ in range(ROUNDS):
            reads = source.reads(wanted.action, wanted.arguments, account=wanted.account, known=known)
            lookups = source.lookups(wanted.action, wanted.arguments, account=wanted.account, known=known)
            if lookups:
                return f"{wanted.action} needs the address of a child contract, which this version does not look up"
            if not reads:
                break
            for read in reads:
                try:
                    answer = await self._node.call(to=read.to, data=read.data, at=header.ref)
                except jsonrpc.RpcError as error:
                    if error.code != jsonrpc.REVERTED:
                        raise
                    return f"the contract refuses to say {read.id}: {logs.line(error.text)}"
                known[read.id] = source.result(read, answer)
        found = source.plan(wanted.action, wanted.arguments, account=wanted.account, known=known)
        if isinstance(found, planner.Unmet):
            return found.reason
        return found if found.approve is None else await self._allowed(source, found, header.ref)

    async def _allowed(self, source: planner.Planner, call: planner.Call, at: chain.BlockRef) -> planner.Call | str:
        """The call, once the token's allowance for it stands."""
        approve = call.approve
        if approve is None:
            return call
        read = planner.allowance(approve, account=self._node.address)
        have = source.result(read, await self._node.call(to=read.to, data=read.data, at=at))
        if isinstance(have, int) and have >= approve.amount:
            return call
        return f"the token's allowance for 0x{approve.spender.hex()} is {have} where {approve.amount} is needed"

    async def _simulate(self, call: planner.Call, standing: account.Standing) -> tuple[Outcome, str, int]:
        """How it went, why, and the gas it takes. `why` names no block: a wait that goes on has one text."""
        at = standing.head.header.ref
        if standing.balance < call.value:
            return "failed", f"it sends {call.value} wei, the account has {standing.balance}", 0
        used, shown = 0, "this node shows no logs of simulations, so the effect was not seen"
        try:
            answer = planner.simulated(await self._node.simulate(to=call.to, data=call.data, value=call.value, at=at))
            if len(answer) != 1:
                raise errors.BadAnswer("eth_simulateV1 answered another number of calls", value=len(answer))
            if not answer[0].ok:
                return "failed", logs.line(answer[0].reason), 0
            lacking = planner.missing(call.effects, answer[0].logs)
            if lacking:
                return "failed", f"it succeeds without the {lacking[0].name} that has to prove it", 0
            used, shown = answer[0].gas_used, ""
        except jsonrpc.MethodMissing:
            pass  # the estimate is a simulation too, only without logs
        except jsonrpc.Throttled:
            raise
        except jsonrpc.RpcError as error:
            return "unavailable", f"eth_simulateV1: {logs.line(error.text)}", 0
        try:
            estimate = await self._node.estimate(to=call.to, data=call.data, value=call.value, at=at)
        except jsonrpc.Throttled:
            raise
        except jsonrpc.RpcError as error:
            return (
                "failed" if error.code == jsonrpc.REVERTED else "unavailable",
                f"eth_estimateGas: {logs.line(error.text)}",
                0,
            )
        return "ok", shown, max(estimate, used)


async def market(node: account.Account, caps: fees.Caps) -> fees.Answer:
    """What a transaction should offer now."""
    return fees.quote(await history(node), caps)


async def history(node: account.Account) -> fees.FeeHistory:
    found = await node.fees()
    return fees.FeeHistory(found.base_fee_next, found.tips)


def _limit(estimate: int) -> int:
    """A quarter more than the estimate: state may differ a little when it is mined."""
    return (estimate * 5 + 3) // 4
