"""Submit: frozen attempts become signed bytes in the book, and only then leave. In: attempt rows. Out: signed rows, sends, broadcast rows.

Signing happens outside any transaction; what came back is compared field by field, and kept in one transaction that looks once more at
latches, pause, lease and state. A batch of slots shares one such commit. What a node answers to a send is a hint: whatever it says, the
transaction may be on its way, and the confirm stage finds out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from agent.delegations import hints
from agent.services import delegator, nonce_audit, refusals
from domain import errors, hashing, intent, transaction
from indexers.chain import account
from kit import faults, logs, runtime
from signers import base, transactions
from store import attempts, book, commands, decisions, intents, outstanding, slots

POINTS = (
    "submit.before_audit", "submit.after_audit", *nonce_audit.POINTS, "submit.before_sign", "submit.after_sign",
    "submit.before_persist", "submit.after_persist", "submit.before_send", "submit.after_send", "submit.before_mark",
    "submit.after_mark",
)  # fmt: skip

BATCH = 16
"""Attempts that are signed, kept and sent together."""
SIGN_S = 30.0
"""How long one signature may take."""
SIGN_ALL_S = 60.0
"""When no further signature is begun in a step, which has to end in time."""
GAP = "see the intent that has it; if nothing can come of that one, cancel it"
log = logs.logger()


class Ready(msgspec.Struct, frozen=True):
    """A checked signature and the lease token it was made under."""

    frozen: attempts.Attempt
    signed: transaction.Signed
    fence: int


class Leaving(msgspec.Struct, frozen=True):
    """What is read back to be sent."""

    signed: attempts.SignedTx
    kind: intent.AttemptKind


class SubmitService:
    """A batch of signatures and a batch of sends a step, lowest nonce first."""

    name = "submit"

    def __init__(
        self,
        the: delegator.Delegator,
        signer: base.AnySigner,
        audit: nonce_audit.Audit,
        *,
        downstream: Sequence[runtime.Bell] = (),
    ) -> None:
        self.bell = runtime.Bell()
        self.blocked = ""
        self._the = the
        self._signer = signer
        self._audit = audit
        self._downstream = tuple(downstream)
        self._refused = refusals.Refusals(the)
        self._unsigned: dict[tuple[bytes, int], str] = {}
        self._failed: dict[tuple[bytes, int], float] = {}
        self._kinds: dict[tuple[bytes, int], intent.AttemptKind] = {}
        self._told: dict[tuple[bytes, int], str] = {}
        self._working: object = None
        self._began_s = 0.0
        self._used = 0

    def cursor(self) -> object:
        return self._working

    async def step(self) -> float:
        self._unsigned, self._kinds, before = {}, {}, dict(self._failed)
        self._began_s = self._the.clock.monotonic()
        refused = await self._sign_all(before, again=False)
        sent = await self._send_all()
        if before:
            # May take all its time once more, so what was signed at once is on its way before.
            refused = await self._sign_all(before, again=True) or refused
            sent = await self._send_all() or sent
        await self._tell_why()
        if sent:
            for bell in self._downstream:
                bell.ring()
        if refused is not None:
            raise refused
        return 0.0 if sent else self._the.timing.poll_s

    # --- signing ---

    async def _sign_all(
        self, before: Mapping[tuple[bytes, int], float], *, again: bool
    ) -> errors.StakesideError | None:
        """What kept one of the batch from being signed, after the others were kept. `before`: what failed in an earlier step, and when; that is
        tried `again` by itself, unless it has to fill a nonce that later ones wait for."""
        async with self._the.book.read() as c:
            held = await self._held(c)
            waiting, stale = await self._current(c, await self._waiting(c))
            bare = set((await outstanding.nonces(c, self._the.chain_id, self._the.address)).unsigned)
        late = [item for item in waiting if item.unsigned.nonce not in bare and (item.intent, item.number) in before]
        if again:
            waiting = sorted(late, key=lambda item: before[item.intent, item.number])
        else:
            waiting = [item for item in waiting if item not in late]
            known = {(item.intent, item.number) for item in (*waiting, *late)}
            self._failed = {key: when for key, when in self._failed.items() if key in known}
        self._kinds |= {(item.intent, item.number): item.kind for item in waiting}
        if stale:
            async with self._the.book.write() as c:
                for id, why in stale.items():
                    await outstanding.wait(c, id, why=why, next_s=self._the.now() + self._the.timing.poll_s)
        self.blocked = held
        if waiting and not held and any(item.kind == "original" for item in waiting):
            faults.point("submit.before_audit")
            standing = await self._the.node.standing()
            self._used = standing.count_finalized
            found = await self._audit.check(standing)
            faults.point("submit.after_audit")
            self.blocked = found.why if isinstance(found, nonce_audit.Held) else ""
        ready, refused = await self._sign(waiting, bare, originals=not self.blocked)
        if ready:
            faults.point("submit.before_persist")
            async with self._the.book.write() as c:
                await self._persist(c, ready)
            faults.point("submit.after_persist")
        await self._refused.tell()
        return refused

    async def _held(self, c: book.Connection) -> str:
        """Why no original is signed now; bumps and cancels of what is signed go on all the same."""
        pause = await commands.paused(c, now_s=self._the.now())
        return await nonce_audit.stopped(c) or ("" if pause is None else commands.why_paused(pause))

    async def _waiting(self, c: book.Connection) -> list[attempts.Attempt]:
        """The newest unsigned attempt of each intent; an original that somebody wants cancelled is signed no more."""
        found = await attempts.unsigned(c, self._the.chain_id, self._the.address, BATCH)
        newest: dict[bytes, attempts.Attempt] = {item.intent: item for item in found}
        forgetful = await nonce_audit.forgetful(c)
        wanted: list[attempts.Attempt] = []
        for item in newest.values():
            if self._refused.aside(item.intent) or (item.kind == "bump" and forgetful):
                continue
            with self._refused.one(item.intent, kind=item.kind):
                if item.kind != "original" or await commands.cancelled(c, item.intent) is None:
                    wanted.append(item)
        return wanted

    async def _current(
        self, c: book.Connection, waiting: Sequence[attempts.Attempt]
    ) -> tuple[list[attempts.Attempt], dict[bytes, str]]:
        """Without originals that were never signed and would not be allowed any more; and why, where that is not told yet."""
        wanted, told = list[attempts.Attempt](), dict[bytes, str]()
        for item in waiting:
            with self._refused.one(item.intent, kind=item.kind):
                stored = await intents.get(c, item.intent) if item.kind == "original" else None
                if stored is not None and stored.state == "needs_operator":
                    continue  # anything new waits for the person
                why = "" if stored is None else await self._outdated(c, stored)
                if not why:
                    wanted.append(item)
                elif stored is not None and stored.why != why:
                    told[item.intent] = why
        return wanted, told

    async def _outdated(self, c: book.Connection, stored: intents.Stored) -> str:
        """Why an original that nothing was signed for is not allowed any more."""
        if self._the.now() >= stored.expires_at_s:
            return "it expired before it was signed: cancel it, so that its nonce is free"
        allowed = [one.policy_hash for one in await decisions.for_intent(c, stored.id) if one.verdict == "allow"]
        if not allowed or allowed[-1] != self._the.policy.hash():
            return "the policy changed before it was signed: cancel it, and propose it again"
        return ""

    async def _sign(
        self, waiting: Sequence[attempts.Attempt], bare: set[int], *, originals: bool
    ) -> tuple[list[Ready], errors.StakesideError | None]:
        """`bare` are the nonces that nothing was ever signed for: no original goes past one that is not signed here."""
        ready = list[Ready]()
        refused: errors.StakesideError | None = None
        for item in waiting:
            key, original = (item.intent, item.number), item.kind == "original"
            token, guard = self._the.guard.token(), self._the.guard
            fence = token if original or token is not None else guard.following()
            if fence is None or (original and not originals):
                lease = f"the account's lease is not held: {guard.reason}"
                self._unsigned[key] = lease if fence is None and originals else self.blocked or lease
                self.blocked = self.blocked or lease
                continue
            gap = self._gap(item, bare - {one.frozen.unsigned.nonce for one in ready}) if original else None
            if gap is not None:
                self._unsigned[key] = f"nonce {gap} before it is not signed yet: {GAP}"
                continue
            if self._the.clock.monotonic() - self._began_s > SIGN_ALL_S:
                self._unsigned[key] = "the signer takes long"
                continue
            self._working = key
            faults.point("submit.before_sign")
            try:
                signed = await transactions.sign(self._signer, item.unsigned, timeout_s=SIGN_S)
            except errors.StakesideError as error:
                self._unsigned[key] = f"the signer: {error}"
                self._failed[key] = self._the.clock.monotonic()
                refused = refused or error
                continue
            faults.point("submit.after_sign")
            self._failed.pop(key, None)
            ready.append(Ready(item, signed, fence))
        return ready, refused

    def _gap(self, item: attempts.Attempt, bare: set[int]) -> int | None:
        """The nonce that keeps an original from being mined: whatever left after it would leave when nobody thinks of it any more."""
        return min((nonce for nonce in bare if self._used <= nonce < item.unsigned.nonce), default=None)

    async def _tell_why(self) -> None:
        """Whoever looks at an intent sees why it is not signed. Written when it changes."""
        said = {
            key: logs.line(f"{'' if kind == 'original' else f'{kind} '}not signed yet: {self._unsigned[key]}")
            for key, kind in self._kinds.items()
            if key in self._unsigned
        }
        if any(self._told.get(key) != why for key, why in said.items()):
            async with self._the.book.write() as c:
                for (id, _), why in said.items():
                    await outstanding.say(c, id, why=why, next_s=self._the.now() + self._the.timing.poll_s)
        self._told = said

    async def _persist(self, c: book.Connection, ready: Sequence[Ready]) -> None:
        """All of the batch that may still be signed, in this one transaction. What may not leaves nobody's hands."""
        held = await self._held(c)
        seen = await slots.highest_fence(c, self._the.chain_id, self._the.address)
        waiting = {(item.intent, item.number) for item in await self._waiting(c)}
        bare = set((await outstanding.nonces(c, self._the.chain_id, self._the.address)).unsigned)
        for one in sorted(ready, key=lambda one: one.frozen.unsigned.nonce):
            frozen, original = one.frozen, one.frozen.kind == "original"
            token = self._the.guard.token()
            lease = token if original or token is not None else self._the.guard.following()
            if lease != one.fence or one.fence < seen or (original and held):
                continue
            if (frozen.intent, frozen.number) not in waiting:
                continue
            if original and self._gap(frozen, bare) is not None:
                continue
            with self._refused.one(frozen.intent, kind=frozen.kind):
                async with c.savepoint():
                    await self._keep(c, one)
                bare.discard(frozen.unsigned.nonce)

    async def _keep(self, c: book.Connection, one: Ready) -> None:
        frozen, now = one.frozen, self._the.now()
        stored = await intents.get(c, frozen.intent)
        if stored is None:
            return
        await attempts.save_signed(
            c, frozen.intent, frozen.number, hash=one.signed.hash, raw=one.signed.raw, fence=one.fence, at_s=now
        )
        if stored.state == "reserved":
            why = f"attempt {frozen.number} with nonce {frozen.unsigned.nonce}"
            await intents.move(c, stored.id, expect="reserved", to="signed", why=why, at_s=now)
        elif (frozen.intent, frozen.number) in self._told:
            await outstanding.say(c, stored.id, why=f"{frozen.kind} {frozen.number} is signed", next_s=now)
        self._the.observe(frozen.kind, "signed")

    # --- sending ---

    async def _send_all(self) -> bool:
        """Nothing is sent that is not read back from the book. True when anything was sent."""
        async with self._the.book.read() as c:
            leaving: list[Leaving] = []
            for tx_hash in await outstanding.unsent(c, self._the.chain_id, self._the.address):
                leaving += await self._leaving(c, tx_hash) if len(leaving) < BATCH else []
            chosen = {one.signed.hash for one in leaving}
            for tx_hash in self._the.again.take(BATCH - len(leaving)):
                leaving += await self._leaving(c, tx_hash) if tx_hash not in chosen else []
        await self._refused.tell()
        if not leaving:
            return False
        signed = [one.signed for one in leaving]
        self._working = signed[0].hash
        faults.point("submit.before_send")
        said = await self._the.node.send([(item.hash, item.raw) for item in signed])
        faults.point("submit.after_send")
        faults.point("submit.before_mark")
        async with self._the.book.write() as c:
            for one, answer in zip(leaving, said, strict=True):
                with self._refused.one(one.signed.intent, kind=one.kind):
                    async with c.savepoint():
                        await self._mark(c, one.signed, answer.hint)
        faults.point("submit.after_mark")
        await self._refused.tell()
        self._tell(signed, said, [one.kind for one in leaving])
        return True

    async def _leaving(self, c: book.Connection, tx_hash: bytes) -> list[Leaving]:
        """Nothing when it never left, and a person wants it cancelled: then only the cancel leaves. Nothing of what is put aside either."""
        id = await attempts.owner(c, tx_hash)
        if id is None or self._refused.aside(id):
            return []
        with self._refused.one(id):
            item = await attempts.by_hash(c, tx_hash)
            if item is None:
                return []
            kind = (await attempts.of_intent(c, id))[item.number].kind
            if kind != "cancel" and await commands.cancelled(c, id) is not None:
                if tx_hash not in {row.hash for row in await attempts.broadcasts(c, id)}:
                    return []
            return [Leaving(item, kind)]
        return []

    async def _mark(self, c: book.Connection, item: attempts.SignedTx, hint: str) -> None:
        now = self._the.now()
        await attempts.sent(c, item.hash, hint=hint, at_s=now)
        stored = await intents.get(c, item.intent)
        if stored is not None and stored.state == "signed":
            await intents.move(
                c, stored.id, expect="signed", to="pending", why=f"sent attempt {item.number}: {hint}", at_s=now,
                next_s=now + self._the.timing.bump_after_s,
            )  # fmt: skip

    def _tell(
        self, signed: Sequence[attempts.SignedTx], said: Sequence[account.Sent], kinds: Sequence[intent.AttemptKind]
    ) -> None:
        """One line for each send. A node that names another hash is lying or broken, and the transaction is on its way all the same."""
        other: account.Sent | None = None
        for item, answer, kind in zip(signed, said, kinds, strict=True):
            self._the.observe(kind, f"sent_{hints.read(answer.hint)}")
            fields: Mapping[str, object] = {"intent": hashing.hex0x(item.intent), "hint": answer.hint}
            log.info("transaction.sent", attempt=item.number, tx=hashing.hex0x(item.hash), **fields)
            other = answer if answer.other else other
        if other is not None:
            raise errors.BadAnswer(
                "the node answered a sent transaction with another hash than its own",
                value=other.other,
                cure="use another node: this one changes what it is given, or invents answers",
            )
