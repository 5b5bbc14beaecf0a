"""Report: envelopes go to the hub until it signed for them. In: outbox rows. Out: receipts, and closed outbox rows.

A row closes only on a verified receipt of the document's hub key. Nothing is dropped: a hub that is away or busy is asked again, a
refusal is kept with its reason and asked again rarely, and neither ever stops indexing. Bodies follow only when the hub asks.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from agent.reporting import receipts as judge
from agent.reporting.sinks import http
from domain import deployment, errors, hashing, wire
from kit import faults, runtime
from store import backup, book, latches, outbox, receipts, statements, votes

IDLE_S = 1.0
LATCHED_S = 5.0
BATCH = 16
LATCH = "votes"
MAX_UPLOADS = 16
"""Frames of one wanted root to offer in one step: a root repeats while nobody earns, but its carry rarely changes."""
REFUSED_RETRY_S = 60
"""A refusal is a matter of documents or keys: a person changes those, so a minute is soon enough."""


class HubState(msgspec.Struct):
    """What the status page shows of the hub."""

    url: str
    reachable: bool = False
    last_error: str = ""
    last_receipt: int = 0
    amnesia: int = 0
    refused: int = 0


class ReportService:
    """A batch of outbox rows a step, then the bodies the hub asked for."""

    name = "report"

    def __init__(
        self,
        the_book: book.Book,
        document: deployment.Document,
        hub: http.HubClient,
        *,
        attester: bytes,
        chain_id: int,
        clock: runtime.Clock,
        acts: bool = False,
    ) -> None:
        """`acts`: the same book holds the nonces of a staking belt, so that an older book must not submit either."""
        self.bell = runtime.Bell()
        self.state = HubState(hub.url)
        self._book = the_book
        self._document = document
        self._hub = hub
        self._attester = attester
        self._chain_id = chain_id
        self._clock = clock
        self._acts = acts
        self._wanted: dict[bytes, None] = {}
        self._working: str = ""
        self._greeted = False
        self._offered: dict[bytes, int] = {}

    def cursor(self) -> object:
        return self._working

    async def step(self) -> float:
        async with self._book.read() as c:
            held_by = [latch for latch in await latches.active(c) if latches.blocks_earning(latch)]
            due = await outbox.due(c, now_s=int(self._clock.now()), limit=BATCH)
        if held_by:
            # What was signed before somebody saw the trouble must not leave after it.
            self.state.last_error = f"votes are held back by latch {held_by[0].name}"
            return LATCHED_S
        try:
            if not await self._greet():
                return LATCHED_S
            held: set[bytes] = set()
            for item in due:
                self._working = item.id.hex()
                if item.stream not in held and not await self._deliver(item):
                    held.add(item.stream)
            if not due:
                self._wanted.update(dict.fromkeys(await self._hub.wanted(self._attester)))
            uploaded = await self._upload_wanted()
        except errors.Transient as error:
            self.state.reachable, self.state.last_error = False, str(error)
            raise
        self.state.reachable, self.state.last_error = True, ""
        return 0.0 if len(due) == BATCH or uploaded else IDLE_S

    async def _greet(self) -> bool:
        """Once a start: what the hub holds of this signer beyond our receipts must be votes of this book. A book that was lost or set
        up anew would sign a second time without knowing the first, which is equivocation. False when that is so."""
        if self._greeted:
            return True
        async with self._book.read() as c:
            last = await receipts.last(c, hub=self._hub.url, attester=self._attester)
        number = 0 if last is None else last.number
        found: list[judge.Kept] = []
        while page := await self._hub.receipts(self._attester, first=number + 1):
            for signed in page:
                kept = judge.verify(signed, document=self._document, chain_id=self._chain_id, attester=self._attester)
                if kept.number <= number:
                    raise errors.BadAnswer("the hub's receipts do not ascend", value=kept.number)
                found.append(kept)
                number = kept.number
        foreign = await self._foreign(found)
        if foreign is not None:
            await self._latch(foreign, found)
            return False
        self._greeted = True
        return True

    async def _foreign(self, found: Sequence[judge.Kept]) -> judge.Kept | None:
        async with self._book.read() as c:
            for kept in found:
                if await votes.by_digest(c, kept.digest) is None:
                    return kept
        return None

    async def _latch(self, foreign: judge.Kept, found: Sequence[judge.Kept]) -> None:
        """The receipts go into the book with the latch: once a person cleared it they are known, and the chain goes on from them."""
        reason = (
            f"the hub holds vote {hashing.hex0x(foreign.digest)} of this signer (receipt {foreign.number}), which this book does not "
            "know: restore the newest book, or clear this latch if the old votes are known to be the same"
        )
        at_s = int(self._clock.now())
        async with self._book.write() as c:
            await latches.set(c, LATCH, reason=reason, at_s=at_s)
            if self._acts:
                await latches.set(
                    c, backup.LATCH, reason=f"this book is older than the hub's memory of it: {reason}", at_s=at_s
                )
            for kept in found:
                await receipts.save(c, hub=self._hub.url, attester=self._attester, kept=kept, at_s=at_s)
        self.state.last_error = reason

    async def _deliver(self, item: outbox.Item) -> bool:
        """False when the rest of the item's stream has to wait for it.

        A refused Replace holds its stream: the vote behind it would be a second one in its slot, which is equivocation. This agent
        then disagrees with a sealed frame, and a person has to look."""
        faults.point("report.before_send")
        try:
            send = self._hub.attest if item.kind == "attestation" else self._hub.replace
            accepted = await send(item.payload)
            faults.point("report.after_send")
            receipt = judge.verify(
                accepted.receipt, document=self._document, chain_id=self._chain_id, attester=self._attester
            )
            if receipt.digest != item.id:
                raise errors.BadAnswer("the receipt is for another item", value=hashing.hex0x(receipt.digest))
        except http.Refused as error:
            self.state.refused += 1
            blocks = item.kind == "replacement"
            await self._defer(item, wait_s=REFUSED_RETRY_S, why=str(error), blocks=blocks)
            return not blocks
        except errors.Transient as error:
            wait = int(error.retry_after_s or min(60, 2 ** min(item.attempts, 6)))
            await self._defer(item, wait_s=wait, why=str(error), blocks=True)
            if error.retry_after_s is None:
                raise
            return False
        self._wanted.update(dict.fromkeys(hashing.unhex(text, size=32, what="wanted root") for text in accepted.wanted))
        await self._keep(item, receipt)
        return True

    async def _keep(self, item: outbox.Item, receipt: judge.Kept) -> None:
        async with self._book.read() as c:
            last = await receipts.last(c, hub=self._hub.url, attester=self._attester)
            same = await receipts.at(c, hub=self._hub.url, attester=self._attester, number=receipt.number)
        verdict = judge.judge(receipt, last=last, at_number=same)
        if verdict == "gap":
            await self._fill_gap(last, receipt)
        if verdict == "amnesia":
            await self._start_over(receipt)
            return
        faults.point("report.before_commit")
        async with self._book.write() as c:
            await receipts.save(
                c, hub=self._hub.url, attester=self._attester, kept=receipt, at_s=int(self._clock.now())
            )
            await outbox.close(c, item.id, receipt.id)
        faults.point("report.after_commit")
        self.state.last_receipt = max(receipt.number, self.state.last_receipt)

    async def _fill_gap(self, last: judge.Kept | None, until: judge.Kept) -> None:
        """Fetch the receipts between, so that the chain in the book has no hole."""
        number = 0 if last is None else last.number
        link = hashing.ZERO32 if last is None else last.id
        found: list[judge.Kept] = []
        while number + 1 < until.number:
            page = await self._hub.receipts(self._attester, first=number + 1)
            if not page:
                raise errors.BadAnswer("the hub skipped a receipt and cannot show it", value=number + 1)
            for signed in page:
                kept = judge.verify(signed, document=self._document, chain_id=self._chain_id, attester=self._attester)
                if (kept.number, kept.previous) != (number + 1, link):
                    raise errors.BadAnswer("the hub's receipts do not chain", value=kept.number)
                number, link = kept.number, kept.id
                if kept.number < until.number:
                    found.append(kept)
        if found and until.previous != found[-1].id:
            raise errors.BadAnswer("the hub's receipts do not chain", value=until.number)
        async with self._book.write() as c:
            for kept in found:
                await receipts.save(
                    c, hub=self._hub.url, attester=self._attester, kept=kept, at_s=int(self._clock.now())
                )

    async def _start_over(self, receipt: judge.Kept) -> None:
        """The hub numbers anew: keep its old receipts as history and send everything again."""
        self.state.amnesia += 1
        async with self._book.write() as c:
            await receipts.archive(c, hub=self._hub.url, attester=self._attester, at_s=int(self._clock.now()))
            await outbox.reopen_all(c)
        self.state.last_receipt = 0
        self.state.last_error = f"the hub lost its memory at receipt {receipt.number}; everything is sent again"

    async def _defer(self, item: outbox.Item, *, wait_s: int, why: str, blocks: bool) -> None:
        async with self._book.write() as c:
            await outbox.defer(
                c, item.id, next_s=int(self._clock.now()) + wait_s, attempts=item.attempts + 1, why=why, blocks=blocks
            )

    async def _upload_wanted(self) -> bool:
        """Send the bodies of wanted roots that this agent derived itself; True when there were any."""
        uploaded = False
        for root in list(self._wanted):
            async with self._book.read() as c:
                found = await statements.headers_by_body_root(c, root)
            offers = _offers(found)
            start = self._offered.get(root, 0)
            taken = await self._offer(root, offers[start : start + MAX_UPLOADS])
            # What was refused is not what the hub means now: the next poll goes on behind it, and around again.
            self._offered[root] = start + MAX_UPLOADS if not taken and start + MAX_UPLOADS < len(offers) else 0
            uploaded = taken or uploaded
            self._wanted.pop(root)
        return uploaded

    async def _offer(self, root: bytes, offers: Sequence[statements.Slim]) -> bool:
        taken = False
        for slim in offers:
            taken = await self._upload(slim) or taken
        if taken:
            self._offered.pop(root, None)
        return taken

    async def _upload(self, slim: statements.Slim) -> bool:
        async with self._book.read() as c:
            changed = await statements.changed(c, slim.digest)
            carry = await statements.carry_text(c, slim.header.carry)
        for chunk in wire.chunk_body(changed, carry, slim.header):
            faults.point("report.before_upload")
            try:
                await self._hub.upload(chunk)
            except http.Refused as error:
                if error.status != 409:  # 409: not this frame, or somebody else's copy arrived first
                    self.state.refused += 1
                    self.state.last_error = str(error)
                return False
        return True


def _offers(found: Sequence[statements.Slim]) -> list[statements.Slim]:
    """The frames a hub can mean by a root, ascending: those whose body differs from the frame's before. `found` are all frames with
    this root, so a frame without its predecessor among them begins a run of it."""
    carries = {slim.sequence: slim.header.carry for slim in found}
    return sorted(
        (s for s in found if s.origin == "derived" and carries.get(s.sequence - 1) != s.header.carry),
        key=lambda slim: slim.sequence,
    )
