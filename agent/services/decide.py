"""Decide: an intent becomes a reservation, a question to people, or a refusal. In: intent rows. Out: decision rows, nonces, frozen attempts.

What the chain says is read first, at one block, outside any transaction. Whether it may be done is judged inside the transaction that
reserves, with the budget, the approvals, the latches and the lease as they are there: decision, nonce slot, reservation and the unsigned
transaction are one commit, so no two intents can spend the same budget or get the same nonce. What has to wait stays where it is and
says why; nothing is refused because a node was away.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from agent.delegations import fees, policy
from agent.services import delegator, draft, nonce_audit, proofs, refusals
from domain import errors, hashing, intent, transaction
from kit import faults, logs, runtime
from store import (
    attempts,
    book,
    commands,
    decisions,
    intents,
    latches,
    outstanding,
    reservations,
    slots,
)

POINTS = (
    *draft.POINTS, *nonce_audit.POINTS, "decide.before_wait", "decide.after_wait", "decide.before_reserve",
    "decide.after_reserve",
)  # fmt: skip

LONGEST_WAIT_S = 15
"""How rarely an intent that waits is looked at again at most; what may end its wait also wakes it."""
PATIENCE = 8
"""An intent that has waited for n seconds is looked at again after n/8: most waits end soon or last."""
CHAIN_SAYS = frozenset({"plan", "gas", "simulation", "balance"})
"""Rules that deny by what the chain is like; they need a head that is not older than what the book has seen."""
log = logs.logger()


class Found(msgspec.Struct, frozen=True):
    """What an intent comes to for now. `rule` and `findings` go into the decision row; `proposal` is what was judged."""

    kind: policy.Kind
    rule: str
    why: str
    findings: str = "[]"
    proposal: policy.Proposal | None = None
    gas_wei: int = 0
    """Its share of the day's gas."""


class DecideService:
    """One intent a step: first those without a timer, then the one that has waited longest."""

    name = "decide"

    def __init__(
        self,
        the: delegator.Delegator,
        drafter: draft.Drafter,
        audit: nonce_audit.NonceAudit,
        *,
        downstream: Sequence[runtime.Bell] = (),
    ) -> None:
        self.bell = runtime.Bell()
        self._the = the
        self._drafter = drafter
        self._audit = audit
        self._downstream = tuple(downstream)
        self._refused = refusals.Refusals(the)
        self._working = b""

    def cursor(self) -> object:
        return self._working

    async def step(self) -> float:
        async with self._the.book.read() as c:
            due = await intents.due(c, intent.UNSENT, self._the.now(), 1, apart_from=self._refused.all())
        for id in due:
            self._working = id
            with self._refused.one(id):
                await self._turn(id)
        await self._refused.tell()
        return 0.0 if due else self._the.timing.poll_s

    async def _turn(self, id: bytes) -> None:
        async with self._the.book.read() as c:
            stored = await intents.get(c, id)
            if stored is None:
                return
            why = await self._early(c, stored)
            # Before the node is asked: what is indexed while it answers says nothing about its head.
            seen = await outstanding.height(c, self._the.chain_id, self._the.address)
        if why is not None:
            await self._wait(stored, why)
            return
        if self._end(stored) is not None:
            await self._write(stored, None, floor=0)
            return
        try:
            found = await self._drafter.draft(stored.intent)
        except draft.Untold as error:
            await self._wait(stored, f"the node cannot say: {error.what}")
            return
        except errors.Transient as error:
            # Its turn is over: what a node cannot say about one intent must not hold up the others.
            await self._wait(stored, f"the node cannot be asked: {error.what}")
            raise
        self._the.balance(found.standing.balance)
        allowed = await self._audit.check(found.standing)
        if isinstance(allowed, nonce_audit.Held):
            await self._wait(stored, allowed.why)
            return
        await self._write(stored, found, floor=allowed.floor, seen=seen)

    # --- before anything is read from the chain ---

    async def _early(self, c: book.Connection, stored: intents.Stored) -> str | None:
        """Why there is no use in asking the node now."""
        if self._end(stored) is not None:
            return None
        asked = await self._asked(c, stored) if stored.state == "awaiting_approval" else None
        if asked is not None and len(await self._approvals(c, stored)) < self._the.policy.approvals:
            return asked
        held = await self._held(c)
        return held if held is None or asked is None else f"approved, and waits: {held}"

    async def _held(self, c: book.Connection) -> str | None:
        """What keeps every intent of the account from going on."""
        held = await nonce_audit.stopped(c)
        if held:
            return held
        under_way = await reservations.in_flight(c, self._the.chain_id, self._the.address)
        if under_way >= self._the.policy.max_in_flight:
            return f"{under_way} are under way, the policy has room for {self._the.policy.max_in_flight}"
        pause = await commands.paused(c, now_s=self._the.now())
        if pause is not None:
            return commands.why_paused(pause)
        return None if self._the.guard.token() is not None else _lease(self._the.guard)

    async def _asked(self, c: book.Connection, stored: intents.Stored) -> str | None:
        """What people were asked, unless the policy in force is not the one that asked: another one may ask for nothing, or refuse."""
        made = await decisions.for_intent(c, stored.id)
        return made[-1].why if made and made[-1].policy_hash == self._the.policy.hash() else None

    def _end(self, stored: intents.Stored) -> str | None:
        """Why its time is over."""
        if self._the.now() >= stored.expires_at_s:
            return "nothing was reserved for it in time"
        asked_s = stored.changed_at_s + self._the.timing.approval_ttl_s
        if stored.state == "awaiting_approval" and self._the.now() >= asked_s:
            return f"not approved within {self._the.timing.approval_ttl_s} s"
        return None

    async def _wait(self, stored: intents.Stored, why: str) -> None:
        why = logs.line(why)
        faults.point("decide.before_wait")
        async with self._the.book.write() as c:
            if await self._unchanged(c, stored):
                await self._postpone(c, stored, why)
        faults.point("decide.after_wait")

    async def _postpone(self, c: book.Connection, stored: intents.Stored, why: str) -> None:
        now = self._the.now()
        patience = min(LONGEST_WAIT_S, max(1, (now - stored.changed_at_s) // PATIENCE))
        if why != stored.why:
            log.info("intent.waits", intent=hashing.hex0x(stored.id), why=why)
        await outstanding.wait(c, stored.id, why=why, next_s=now + patience)

    async def _unchanged(self, c: book.Connection, stored: intents.Stored) -> bool:
        """Whether nobody moved it since it was read: a person may have, and then this step was for nothing."""
        found = await intents.get(c, stored.id)
        return found is not None and found.moves == stored.moves

    # --- the one transaction ---

    async def _write(
        self,
        stored: intents.Stored,
        read: draft.Draft | draft.Unready | draft.Impossible | None,
        *,
        floor: int,
        seen: int = 0,
    ) -> None:
        """`read` is None for an intent whose time is over."""
        faults.point("decide.before_reserve")
        async with self._the.book.write() as c:
            if not await self._unchanged(c, stored):
                return
            if read is None:
                await intents.move(
                    c, stored.id, expect=stored.state, to="expired", why=self._end(stored) or "", at_s=self._the.now()
                )
                return
            found = _unless_behind(await self._judge(c, stored, read), read, seen)
            await self._apply(c, stored, read, found, floor=floor)
        faults.point("decide.after_reserve")
        if found.kind != "wait":
            log.info(
                "intent.decided", intent=hashing.hex0x(stored.id), verdict=found.kind, rule=found.rule, why=found.why
            )
        if found.kind == "allow":
            for bell in self._downstream:
                bell.ring()

    async def _judge(
        self, c: book.Connection, stored: intents.Stored, read: draft.Draft | draft.Unready | draft.Impossible
    ) -> Found:
        """With the rows as they are in this transaction."""
        if isinstance(read, draft.Impossible):
            return Found("deny", "plan", read.reason)
        in_flight = await reservations.in_flight(c, self._the.chain_id, self._the.address)
        earlier = f"{in_flight} earlier intents of this account are still under way"
        if isinstance(read, draft.Unready):
            if in_flight:
                return Found("wait", "plan", f"{read.reason}; {earlier}")
            return Found("deny", "plan", read.reason)
        simulated = policy.Simulation(read.simulated, read.why)
        if in_flight and read.simulated == "failed":
            # What is under way may be just what it needs.
            simulated = policy.Simulation("unavailable", f"{read.why}; {earlier}")
        quote = read.market if isinstance(read.market, fees.Quote) else None
        proposal = self._proposal(stored, read, quote)
        facts = await self._facts(c, stored, read, simulated, in_flight)
        verdict = policy.judge(self._the.policy, proposal, facts)
        encoded = policy.encode(verdict.findings)
        if verdict.kind == "allow" and isinstance(read.market, fees.Wait):
            return Found("wait", "fees", read.market.why, encoded, proposal)
        left = self._the.policy.max_gas_wei_per_day - facts.gas_paid_wei - facts.gas_open_wei
        share = self._the.policy.share(gas=proposal.gas, max_fee=proposal.max_fee, left=left)
        return Found(verdict.kind, verdict.rule, verdict.why, encoded, proposal, share)

    def _proposal(self, stored: intents.Stored, read: draft.Draft, quote: fees.Quote | None) -> policy.Proposal:
        call, most = read.call, min(self._the.policy.max_gas, transaction.MAX_GAS)
        # Without a quote it waits for one, and nothing is held against it that a price decides.
        known = quote or fees.Quote(1, 1)
        return policy.Proposal(
            intent=stored.intent,
            call_to=call.to,
            data=call.data,
            value_wei=call.value,
            # The quarter above the estimate is given up before the cap is; without an estimate the cap is what could be asked for.
            gas=max(read.estimate, min(read.gas, most)) or most,
            max_fee=known.max_fee,
            tip=known.tip,
            pin=policy.Pin(call.to, call.data, call.value),
            effects=len(call.effects),
            amount=call.amount,
            direction=call.direction,
            asset=self._the.assets.get(stored.intent.protocol),
        )

    async def _facts(
        self,
        c: book.Connection,
        stored: intents.Stored,
        read: draft.Draft,
        simulated: policy.Simulation,
        in_flight: int,
    ) -> policy.Facts:
        now, since = self._the.now(), self._the.now() - policy.DAY_S
        pause = await commands.paused(c, now_s=now)
        token = self._the.guard.token()
        stale = token is not None and token < await slots.highest_fence(c, self._the.chain_id, self._the.address)
        day = await reservations.spent(c, account=self._the.address, since_s=since)
        alone = await reservations.spent(
            c, account=self._the.address, since_s=since, protocol=stored.intent.protocol, action=stored.intent.action
        )
        gas = await reservations.gas(c, account=self._the.address, since_s=since)
        open_ = await outstanding.originals(c, self._the.chain_id, self._the.address)
        return policy.Facts(
            now_s=now,
            chain_id=self._the.chain_id,
            account=self._the.address,
            proposer=stored.proposer,
            balance_wei=read.standing.balance,
            committed_wei=sum(self._the.policy.worst_case(gas=gas, value_wei=value) for gas, value in open_),
            in_flight=in_flight,
            spent_day=policy.Spent(day.amount, day.value_wei),
            spent_action=policy.Spent(alone.amount, alone.value_wei),
            gas_paid_wei=gas.paid,
            gas_open_wei=gas.open,
            simulated=simulated,
            approvals=tuple(await self._approvals(c, stored)),
            paused=None if pause is None else commands.why_paused(pause),
            latches=tuple(latch.name for latch in await latches.active(c)),
            lease_held=token is not None and not stale,
            lease_why="its token is stale" if stale else self._the.guard.reason,
        )

    async def _approvals(self, c: book.Connection, stored: intents.Stored) -> list[policy.Approval]:
        found = await commands.approvals(
            c, stored.id, stored.payload_hash, now_s=self._the.now(), ttl_s=self._the.timing.approval_ttl_s
        )
        return [policy.Approval(item.principal, item.at_s, item.payload_hash or b"") for item in found]

    # --- what follows from it ---

    async def _apply(
        self,
        c: book.Connection,
        stored: intents.Stored,
        read: draft.Draft | draft.Unready | draft.Impossible,
        found: Found,
        *,
        floor: int,
    ) -> None:
        now = self._the.now()
        state = stored.state
        if found.kind == "wait":
            if state == "new" and found.proposal is not None:
                await intents.move(c, stored.id, expect="new", to="planned", why=found.why, at_s=now)
            await self._postpone(c, stored, found.why)
            return
        if found.kind == "ask" and state == "awaiting_approval":
            if await self._asked(c, stored) is None:
                await self._note(c, stored, read, found)
            await self._postpone(c, stored, found.why)
            return
        await self._note(c, stored, read, found)
        if found.kind == "deny":
            await intents.move(c, stored.id, expect=state, to="rejected", why=f"{found.rule}: {found.why}", at_s=now)
            return
        if state != "planned":
            why = "approved" if state == "awaiting_approval" else "it can be done"
            await intents.move(c, stored.id, expect=state, to="planned", why=why, at_s=now)
        if found.kind == "ask":
            await intents.move(
                c, stored.id, expect="planned", to="awaiting_approval", why=found.why, at_s=now, next_s=now + 1
            )
        elif found.proposal is not None and isinstance(read, draft.Draft):
            await self._reserve(c, stored, read, found.proposal, gas_wei=found.gas_wei, floor=floor)

    async def _reserve(
        self,
        c: book.Connection,
        stored: intents.Stored,
        read: draft.Draft,
        proposal: policy.Proposal,
        *,
        gas_wei: int,
        floor: int,
    ) -> None:
        """Nonce, budget and the frozen transaction. The decision is there already, in this transaction."""
        now, token = self._the.now(), self._the.guard.token()
        if token is None:
            raise errors.Transient(_lease(self._the.guard))  # it ended this very moment: nothing is written
        slot = await slots.reserve(
            c, chain_id=self._the.chain_id, account=self._the.address, intent=stored.id, floor=floor, fence=token,
            at_s=now,
        )  # fmt: skip
        await reservations.put(
            c,
            reservations.Reservation(
                intent=stored.id,
                protocol=stored.intent.protocol,
                action=stored.intent.action,
                amount=proposal.stake,
                value_wei=proposal.value_wei,
                max_fee_wei=gas_wei,
                at_s=now,
            ),
        )
        unsigned = transaction.Unsigned(
            chain_id=self._the.chain_id,
            nonce=slot.nonce,
            tip=proposal.tip,
            max_fee=proposal.max_fee,
            gas=proposal.gas,
            to=proposal.call_to,
            value=proposal.value_wei,
            data=proposal.data,
        )
        effects = proofs.encode(read.call.effects)
        await attempts.freeze(c, attempts.Attempt(stored.id, 0, "original", unsigned, effects, token, now))
        await intents.move(
            c, stored.id, expect="planned", to="reserved", why=f"nonce {slot.nonce} under lease token {token}", at_s=now
        )

    async def _note(
        self,
        c: book.Connection,
        stored: intents.Stored,
        read: draft.Draft | draft.Unready | draft.Impossible,
        found: Found,
    ) -> None:
        """The decision row, and the policy it was made by."""
        if found.kind == "wait":
            return
        head = read.standing.head.header
        body = self._the.policy.text()
        await decisions.save_policy(c, self._the.policy.hash(), body, self._the.now())
        await decisions.save(
            c,
            decisions.Decision(
                intent=stored.id,
                at_s=self._the.now(),
                verdict=found.kind,
                rule=found.rule,
                why=found.why,
                policy_hash=self._the.policy.hash(),
                payload_hash=stored.payload_hash,
                block_number=head.number,
                block_hash=head.hash,
                findings=found.findings,
            ),
        )


def _unless_behind(found: Found, read: draft.Draft | draft.Unready | draft.Impossible, seen: int) -> Found:
    """Behind a balancer one node may not know yet what another has shown already: it refuses nothing."""
    if found.kind != "deny" or found.rule not in CHAIN_SAYS or read.standing.head.header.number >= seen:
        return found
    why = f"{found.why}; so says a node that is behind blocks that were seen here already"
    return msgspec.structs.replace(found, kind="wait", why=why)


def _lease(guard: delegator.Guard) -> str:
    return f"the account's lease is not held: {guard.reason}"
