"""Confirm: what was sent is followed to its end. In: the account's counts, receipts, the book's own index. Out: inclusions, moves, bumps.

Every hash of every open intent is asked for in the exchange that reads the counts. What that means is decided by `delegations.tracker`, inside
the transaction that writes it, with the book's finalized cursor and canonical blocks as they are there. An intent is done when its effect
is a log of a finalized block that this agent indexed itself, and given up when a final block proves what became of it; nothing is done
because a node said so.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TypeAlias

from agent.delegations import fees, policy, sight, tracker
from agent.services import delegator, draft, following, nonce_audit, proving, refusals
from domain import errors, hashing, intent, transaction
from kit import faults, jsonrpc, logs, runtime
from store import attempts, book, inclusions, intents, latches, outstanding, reservations, slots

POINTS = (
    "confirm.before_facts", "confirm.after_facts", "confirm.before_commit", "confirm.after_commit", "confirm.before_bump",
    "confirm.after_bump", "confirm.before_look", "confirm.after_look", "confirm.before_proof", "confirm.after_proof",
)  # fmt: skip

PAGE = 64
"""Open intents that are looked at in one step, lowest nonces first; the next step goes on behind them."""
IDLE_AUDIT_S = 30.0
"""How often the account is audited while nothing of it is open."""
REFRESH_S = 300
"""How old the figures may be in the reason that a bump waits for."""
FIGURES = re.compile(r"\d+")
RELEASED: frozenset[intent.State] = frozenset({"cancelled"})
"""States that give the stake back where a block proves them: none was moved. A reverted call's goes on counting: what reverts again and
again must meet the day's caps. So does that of a nonce which another transaction took: whoever has the key may have moved as much. Gas is
counted by what was mined."""
Planned: TypeAlias = tuple[following.Open, tuple[tracker.Output, ...]]
log = logs.logger()


class ConfirmService:
    """A page of open intents a step. `submit` is rung when there is something to sign or send, `freed` when an intent is final."""

    name = "confirm"

    def __init__(
        self,
        the: delegator.Delegator,
        audit: nonce_audit.Audit,
        *,
        submit: Sequence[runtime.Bell] = (),
        freed: Sequence[runtime.Bell] = (),
    ) -> None:
        self.bell = runtime.Bell()
        self._the = the
        self._audit = audit
        self._prover = proving.Prover(the)
        self._submit = tuple(submit)
        self._freed = tuple(freed)
        self._refused = refusals.Refusals(the)
        self._behind = -1
        self._looked: float | None = None
        self._said = ""
        self._silent: dict[bytes, float] = {}

    def cursor(self) -> object:
        return self._behind

    async def step(self) -> float:
        page, more = await self._page()
        if not page:
            await self._refused.tell()
            await self._look_around()
            return self._the.timing.poll_s
        faults.point("confirm.before_facts")
        facts = await self._facts(page)
        faults.point("confirm.after_facts")
        self._listen(page, facts)
        async with self._the.book.read() as c:
            asked: list[proving.Asked] = []
            for one in page:
                with self._refused.one(one.stored.id):
                    asked += self._prover.due(one, tracker.question(await self._view(c, one, facts)))
        for one, question in self._prover.turn(asked):
            faults.point("confirm.before_proof")
            with self._refused.one(one.stored.id):
                await self._prover.ask(one, question, facts.standing)
            faults.point("confirm.after_proof")
        async with self._the.book.read() as c:
            planned: list[Planned] = []
            for one in page:
                if self._refused.aside(one.stored.id):
                    continue
                with self._refused.one(one.stored.id):
                    planned.append((one, await self._next(c, one, facts)))
        moved = False
        if any(_writes(one, outputs) for one, outputs in planned):
            faults.point("confirm.before_commit")
            async with self._the.book.write() as c:
                for one, _ in planned:
                    with self._refused.one(one.stored.id):
                        moved = await self._settle(c, one, facts) or moved
                if moved:
                    held = await reservations.in_flight(c, self._the.chain_id, self._the.address)
                    await outstanding.wake(c, self._the.policy.max_in_flight - held)
            faults.point("confirm.after_commit")
        again = [output.hash for _, outputs in planned for output in outputs if isinstance(output, tracker.Resend)]
        self._the.again.ask(again)
        for bell in (*(self._submit if again else ()), *(self._freed if moved else ())):
            bell.ring()
        await self._refused.tell()
        self._the.balance(facts.standing.balance)
        await self._audit.check(facts.standing)
        # The last: it asks the node for more, and what fails with it must not keep anything of the above.
        if await self._bump_all(planned):
            for bell in self._submit:
                bell.ring()
        await self._refused.tell()
        self._raise(facts.wrong)  # after everything that the others' receipts say was done
        return 0.0 if more or moved else self._the.timing.poll_s

    def _raise(self, wrong: Sequence[errors.StakesideError]) -> None:
        """For what cannot be, or should not be asked. A node that cannot tell yet (it may be indexing) is no reason to ask more rarely."""
        said = "; ".join(str(error) for error in wrong)
        if said and said != self._said:
            log.warning("confirm.unanswered", error=said)
        self._said = said
        for error in wrong:
            if isinstance(error, errors.BadAnswer | jsonrpc.Throttled | jsonrpc.MethodMissing):
                raise error

    async def _look_around(self) -> None:
        """With nothing to follow, the account is looked at rarely: somebody else may use its key, and its coins may run out."""
        now = self._the.clock.monotonic()
        if self._looked is not None and now - self._looked < IDLE_AUDIT_S:
            return
        faults.point("confirm.before_look")
        standing = await self._the.node.standing()
        faults.point("confirm.after_look")
        self._the.balance(standing.balance)
        await self._audit.check(standing)
        self._looked = now

    async def _page(self) -> tuple[list[following.Open], bool]:
        """The next open intents, and whether there are others behind them."""
        async with self._the.book.read() as c:
            found = await slots.open(c, self._the.chain_id, self._the.address)
            behind = [slot for slot in found if slot.nonce > self._behind] or found
            page: list[following.Open] = []
            for slot in behind[:PAGE]:
                if not self._refused.aside(slot.intent):
                    with self._refused.one(slot.intent):
                        page.append(await following.read(c, slot))
        more = len(behind) > PAGE
        self._behind = behind[PAGE - 1].nonce if more else -1
        return page, more

    async def _facts(self, page: Sequence[following.Open]) -> following.Facts:
        standing, receipts, lie = await self._the.node.look([tx for one in page for tx in one.signed.values()])
        heights = {number for one in page for number in one.heights(receipts)}
        found, other = await self._the.node.blocks(sorted(heights))
        wrong = tuple(error for error in (lie, other) if error is not None)
        return following.Facts(standing, receipts, found, wrong, self._prover.linked, self._prover.proofs)

    async def _view(self, c: book.Connection, one: following.Open, facts: following.Facts) -> sight.View:
        since = self._silent.get(one.stored.id)
        untold_s = 0 if since is None else int(self._the.clock.monotonic() - since)
        return await following.view(c, one, facts, timing=self._the.timing, now_s=self._the.now(), untold_s=untold_s)

    def _listen(self, page: Sequence[following.Open], facts: following.Facts) -> None:
        """Since when the node has not said whether it has a receipt, of nonces that it counts as used for good. A restart begins anew."""
        now = self._the.clock.monotonic()
        for one in page:
            untold = any(tx.hash not in facts.receipts for tx in one.signed.values())
            if untold and facts.standing.count_finalized > one.nonce:
                self._silent.setdefault(one.stored.id, now)
            else:
                self._silent.pop(one.stored.id, None)
        if self._behind < 0 and len(page) < PAGE:  # all there are
            self._silent = {id: since for id, since in self._silent.items() if id in {one.stored.id for one in page}}

    async def _next(
        self, c: book.Connection, one: following.Open, facts: following.Facts
    ) -> tuple[tracker.Output, ...]:
        return tracker.next(await self._view(c, one, facts))

    # --- writing ---

    async def _settle(self, c: book.Connection, one: following.Open, facts: following.Facts) -> bool:
        """Apply what the tracker says of the rows as they are in this transaction. True when the intent moved."""
        async with c.savepoint():
            stored = await intents.get(c, one.stored.id)
            if stored is None or stored.moves != one.stored.moves:
                return False  # sent, or moved by a person, meanwhile: the next step sees it as it is
            outputs = await self._next(c, one, facts)
            await self._alarm(c, outputs)  # stays where the book refuses the rest
        async with c.savepoint():
            return await self._apply(c, one, outputs, of=stored.state)

    async def _alarm(self, c: book.Connection, outputs: Sequence[tracker.Output]) -> None:
        for output in outputs:
            if not isinstance(output, tracker.Alarm):
                continue
            if await latches.set(c, output.latch, reason=output.reason, at_s=self._the.now()):
                log.error("submit.latched", latch=output.latch, error=output.reason)

    async def _apply(
        self, c: book.Connection, one: following.Open, outputs: Sequence[tracker.Output], *, of: intent.State
    ) -> bool:
        state, now = of, self._the.now()
        for output in outputs:
            match output:
                case tracker.Include():
                    await self._include(c, one, output)
                case tracker.Orphan():
                    await inclusions.orphan(c, output.id, now)
                    self._observe(one, "orphaned")
                case tracker.Finalize():
                    await inclusions.finalize(c, output.id, now)
                case tracker.Move():
                    await self._move(c, one, output, expect=state)
                    state = output.to
                case tracker.Say():
                    await outstanding.say(c, one.stored.id, why=output.why, next_s=now + 1)
                case tracker.Alarm() | tracker.Timer() | tracker.Resend() | tracker.Bump():
                    pass
        return state != of

    async def _include(self, c: book.Connection, one: following.Open, output: tracker.Include) -> None:
        found = output.receipt
        await inclusions.save(
            c,
            inclusions.Inclusion(
                intent=one.stored.id,
                number=output.number,
                tx_hash=output.tx_hash,
                block_number=found.block_number,
                block_hash=found.block_hash,
                tx_index=found.tx_index,
                status=found.status,
                gas_used=found.gas_used,
                gas_price_wei=found.gas_price_wei,
                effect_log_index=found.effect,
                seen_at_s=self._the.now(),
            ),
        )
        self._the.observe(one.frozen[output.number].kind, "included")

    async def _move(
        self, c: book.Connection, one: following.Open, output: tracker.Move, *, expect: intent.State
    ) -> None:
        now = self._the.now()
        await intents.move(c, one.stored.id, expect=expect, to=output.to, why=output.why, at_s=now, known=output.known)
        if output.to in RELEASED and output.proven:
            await reservations.release(c, one.stored.id, output.to, now)
        if output.to in intent.FINAL:
            self._observe(one, output.to)
        log.info("intent.moved", intent=hashing.hex0x(one.stored.id), nonce=one.nonce, state=output.to, why=output.why)

    def _observe(self, one: following.Open, outcome: str) -> None:
        number = len(one.frozen) - 1 if one.standing is None else one.standing.number
        self._the.observe(one.frozen[number].kind, outcome)

    # --- another attempt at the same nonce ---

    async def _bump_all(self, planned: Sequence[Planned]) -> bool:
        wanted = [(one, output) for one, outputs in planned for output in outputs if isinstance(output, tracker.Bump)]
        if not wanted:
            return False
        history = await draft.history(self._the.node)
        frozen = False
        for one, output in wanted:
            with self._refused.one(one.stored.id, kind=output.kind):
                frozen = await self._bump(one, output, history) or frozen
        return frozen

    async def _bump(self, one: following.Open, output: tracker.Bump, history: fees.FeeHistory) -> bool:
        """Freeze it; True when it was. Above the caps, or without a lease, what is signed stays as it is and says why."""
        fence = self._the.guard.token() or self._the.guard.following()
        faults.point("confirm.before_bump")
        async with self._the.book.write() as c:
            stored = await intents.get(c, one.stored.id)
            same = stored is not None and stored.state == one.stored.state
            if stored is None or not same or len(await attempts.of_intent(c, stored.id)) != len(one.frozen):
                return False
            if output.kind == "bump" and await nonce_audit.forgetful(c):
                return False
            seen = await slots.highest_fence(c, self._the.chain_id, self._the.address)
            quote = await self._quote(c, one, output.kind, history)
            why = _held_up(output, quote, fence=fence, seen=seen, reason=self._the.guard.reason)
            if isinstance(quote, fees.Wait) or fence is None or why:
                if self._news(stored, why):
                    await outstanding.wait(c, stored.id, why=why, next_s=self._the.now() + 1)
                return False
            number = len(one.frozen)
            unsigned = self._replacement(one, output.kind, quote)
            effects = one.frozen[0].effects if output.kind == "bump" else "[]"
            await attempts.freeze(
                c, attempts.Attempt(stored.id, number, output.kind, unsigned, effects, fence, self._the.now())
            )
        faults.point("confirm.after_bump")
        log.info(
            "intent.bumped", intent=hashing.hex0x(one.stored.id), nonce=one.nonce, kind=output.kind, why=output.why
        )
        return True

    def _news(self, stored: intents.Stored, why: str) -> bool:
        """Whether it waits for something else than it did. Figures that move with every block are written again only now and then."""
        if stored.why == why:
            return False
        old = stored.next_s is None or self._the.now() >= stored.next_s + REFRESH_S
        return old or FIGURES.sub("", stored.why) != FIGURES.sub("", why)

    async def _quote(
        self, c: book.Connection, one: following.Open, kind: intent.AttemptKind, history: fees.FeeHistory
    ) -> fees.Answer:
        """A bump stays within the intent's share of the day's gas, or within what is left of the day when that is more. A cancel asks for
        neither: every share has room for one."""
        caps, most, now = self._the.policy.caps, self._the.policy.max_gas_wei_per_day, self._the.now()
        if kind == "bump":
            day = await reservations.gas(
                c, account=self._the.address, since_s=now - policy.DAY_S, apart_from=one.stored.id
            )
            held = await reservations.of_intent(c, one.stored.id)
            room = max(0 if held is None else held.max_fee_wei, most - day.paid - day.open)
            caps = fees.within(caps, room // one.frozen[0].unsigned.gas)
        # What was not signed by now was never sent, and behind this attempt it is not signed any more.
        signed = {item.number for item in await attempts.signed_of(c, one.stored.id)}
        previous = [(item.unsigned.tip, item.unsigned.max_fee) for item in one.frozen if item.number in signed]
        quote = fees.bump(previous, fees.quote(history, caps, kind=kind), caps, kind=kind)
        if isinstance(quote, fees.Wait) and caps != self._the.policy.caps:
            return fees.Wait(f"{quote.why}; its share of the {most} of max_gas_wei_per_day ends there")
        return quote

    def _replacement(self, one: following.Open, kind: intent.AttemptKind, quote: fees.Quote) -> transaction.Unsigned:
        original = one.frozen[0].unsigned
        cancel = kind == "cancel"
        return transaction.Unsigned(
            chain_id=original.chain_id,
            nonce=original.nonce,
            tip=quote.tip,
            max_fee=quote.max_fee,
            gas=transaction.PLAIN_GAS if cancel else original.gas,
            to=self._the.address if cancel else original.to,
            value=0 if cancel else original.value,
            data=b"" if cancel else original.data,
        )


def _writes(one: following.Open, outputs: Sequence[tracker.Output]) -> bool:
    """Whether any of it is a row."""
    return any(
        output.why != one.stored.why
        if isinstance(output, tracker.Say)
        else not isinstance(output, tracker.Timer | tracker.Resend | tracker.Bump)
        for output in outputs
    )


def _held_up(output: tracker.Bump, quote: fees.Answer, *, fence: int | None, seen: int, reason: str) -> str:
    """Why another attempt cannot be frozen now; empty when it can."""
    if fence is None or fence < seen:
        return f"a {output.kind} waits for the account's lease: {reason}"
    return f"a {output.kind} waits: {quote.why}" if isinstance(quote, fees.Wait) else ""
