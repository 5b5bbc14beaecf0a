"""An open intent as the tracker sees it. In: its rows, what the node said, our own index. Out: `sight.View`.

Reading only. The rows are read before the node is asked; the index's are read in the transaction that writes what follows.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import msgspec

from agent.delegations import questions, sight, tracker
from agent.services import delegator, proofs
from domain import errors, transaction
from indexers.chain import account
from store import (
    attempts,
    backup,
    blocks,
    book,
    commands,
    cursors,
    decisions,
    inclusions,
    intents,
    outstanding,
    settling,
    slots,
)


class Open(msgspec.Struct, frozen=True):
    """An intent with a nonce, and all its rows. `signed` by attempt number, `broadcasts` by hash; `cancel` is the reason of who wants it
    cancelled."""

    stored: intents.Stored
    nonce: int
    frozen: tuple[attempts.Attempt, ...]
    signed: Mapping[int, transaction.Signed]
    broadcasts: Mapping[bytes, attempts.Broadcast]
    standing: inclusions.Inclusion | None
    cancel: str | None

    def heights(self, receipts: Mapping[bytes, account.Receipt | None]) -> set[int]:
        """The blocks in question."""
        found = {receipt.block.number for tx in self.signed.values() if (receipt := receipts.get(tx.hash)) is not None}
        return found if self.standing is None else found | {self.standing.block_number}


class Facts(msgspec.Struct, frozen=True):
    """What the node said, all of one step. `blocks` by height; `linked` are hashes at final heights that the book keeps no block of, `proofs`
    what blocks proved, by intent, each with the question it answers."""

    standing: account.Standing
    receipts: Mapping[bytes, account.Receipt | None]
    blocks: Mapping[int, account.Block]
    wrong: tuple[errors.StakesideError, ...] = ()
    """Receipts and blocks that cannot be, or that the node could not tell; they count as not answered."""
    linked: Mapping[int, bytes] = {}
    proofs: Mapping[bytes, tuple[questions.Question, questions.Proof]] = {}


async def read(c: book.Connection, slot: slots.Slot) -> Open:
    stored = await intents.get(c, slot.intent)
    assert stored is not None
    frozen = await attempts.of_intent(c, slot.intent)
    signed = await attempts.signed_of(c, slot.intent)
    cancel = await commands.cancelled(c, slot.intent)
    return Open(
        stored=stored,
        nonce=slot.nonce,
        frozen=tuple(frozen),
        signed={
            one.number: transaction.Signed(frozen[one.number].unsigned, slot.account, one.hash, one.raw)
            for one in signed
        },
        broadcasts={one.hash: one for one in await attempts.broadcasts(c, slot.intent)},
        standing=await inclusions.standing(c, slot.intent),
        cancel=None if cancel is None else cancel.reason,
    )


async def view(
    c: book.Connection, one: Open, facts: Facts, *, timing: delegator.Timing, now_s: int, untold_s: int = 0
) -> sight.View:
    heights = one.heights(facts.receipts)
    answered = facts.proofs.get(one.stored.id)
    # A hash whose receipt cannot be true was not answered: that is not the same as an answer that there is none.
    receipts = {tx.hash: _receipt(one, number, facts) for number, tx in one.signed.items() if tx.hash in facts.receipts}
    found = sight.View(
        state=one.stored.state,
        nonce=one.nonce,
        attempts=tuple(_attempt(one, item) for item in one.frozen),
        standing=None if one.standing is None else _standing(one.standing),
        receipts=receipts,
        canonical={number: facts.blocks[number].header.hash for number in heights if number in facts.blocks},
        counts=sight.Counts(
            latest=facts.standing.count_latest,
            finalized=facts.standing.count_finalized,
            finalized_number=facts.standing.finalized,
            head=facts.standing.head.header.number,
        ),
        book=await _book(c, one, receipts, heights, facts, proof=None if answered is None else answered[1]),
        timing=sight.Timing(
            resend_after_s=timing.resend_after_s,
            bump_after_s=timing.bump_after_s,
            poll_s=max(1, int(timing.poll_s)),
        ),
        now_s=now_s,
        since_s=one.stored.changed_at_s,
        untold_s=untold_s,
        cancel=one.cancel,
        settle=await _settlement(c, one),
        aside=sight.Aside(*await inclusions.put_aside(c, one.stored.id)),
        restored=await backup.before_restore(c, one.stored.id, proposed_at_s=one.stored.proposed_at_s),
    )
    if answered is None or tracker.question(found) != answered[0]:
        return found
    return msgspec.structs.replace(found, proof=answered[1])


async def _settlement(c: book.Connection, one: Open) -> sight.Settlement | None:
    """As it is in this transaction: the newest word counts."""
    said = await settling.settled(c, one.stored)
    return None if said is None else sight.Settlement(said.outcome, said.why, await settling.logged(c, one.stored.id))


def _standing(item: inclusions.Inclusion) -> sight.Inclusion:
    return sight.Inclusion(
        id=item.id,
        number=item.number,
        tx_hash=item.tx_hash,
        block_number=item.block_number,
        block_hash=item.block_hash,
        status=item.status,
        effect=item.effect_log_index,
        tx_index=item.tx_index,
        gas_used=item.gas_used,
    )


def _attempt(one: Open, item: attempts.Attempt) -> sight.Attempt:
    signed = one.signed.get(item.number)
    sent = None if signed is None else one.broadcasts.get(signed.hash)
    return sight.Attempt(
        number=item.number,
        kind=item.kind,
        tip=item.unsigned.tip,
        max_fee=item.unsigned.max_fee,
        hash=None if signed is None else signed.hash,
        sends=0 if sent is None else sent.sends,
        first_s=0 if sent is None else sent.first_s,
        last_s=0 if sent is None else sent.last_s,
    )


def _receipt(one: Open, number: int, facts: Facts) -> sight.Receipt | None:
    """Its fee follows from the block's base fee and what was signed; what the node says was paid is not asked."""
    tx = one.signed[number].unsigned
    found = facts.receipts.get(one.signed[number].hash)
    if found is None:
        return None
    block = facts.blocks.get(found.block.number)
    return sight.Receipt(
        block_number=found.block.number,
        block_hash=found.block.hash,
        tx_index=found.tx_index,
        status=found.status,
        gas_used=found.gas_used,
        gas_price_wei=tx.max_fee if block is None else min(tx.max_fee, block.base_fee + tx.tip),
        effect=proofs.place(one.frozen[number].effects, found.logs),
    )


async def _book(
    c: book.Connection,
    one: Open,
    receipts: Mapping[bytes, sight.Receipt | None],
    heights: Collection[int],
    facts: Facts,
    *,
    proof: questions.Proof | None,
) -> sight.Book:
    """Our own index, for the blocks in question."""
    final = await cursors.get(c, "finalized")
    canonical: dict[int, bytes] = {}
    for number in sorted({*heights, proof.number} if isinstance(proof, questions.Proven) else heights):
        header = await blocks.canonical_at(c, number)
        if header is not None:
            canonical[number] = header.hash
        elif number in facts.linked:
            canonical[number] = facts.linked[number]
    proven = {
        (tx_hash, found.block_hash, found.effect)
        for tx_hash, found in receipts.items()
        if found is not None and found.effect is not None
    }
    if (
        one.standing is not None
    ):  # the row that stands is what would become final, so its own place has to be in the book
        proven = {place for place in proven if place[0] != one.standing.tx_hash}
    if one.standing is not None and one.standing.effect_log_index is not None:
        proven.add((one.standing.tx_hash, one.standing.block_hash, one.standing.effect_log_index))
    logs = await outstanding.logs_of(c, {place[0] for place in proven}, numbers=heights) if proven else []
    wanted = {tx.hash: one.frozen[number].effects for number, tx in one.signed.items()}
    # What the receipt shows is the node's word: all of the effects have to be in the logs that we keep ourselves, at the same place.
    effects = {
        tx_hash
        for tx_hash, block_hash, index in proven
        if tx_hash in wanted
        and proofs.place(
            wanted[tx_hash], [log for log in logs if (log.tx_hash, log.block.hash) == (tx_hash, block_hash)]
        )
        == index
    }
    if one.standing is not None and one.standing.status == 0:
        # Nothing of a call that reverted can be logged.
        effects |= await outstanding.held_since(c, {one.standing.tx_hash}, first=one.standing.block_number)
    if facts.standing.count_finalized > one.nonce and one.standing is None and not any(receipts.values()):
        # The nonce is used, and the node knows none of ours: our own index has a word in that too.
        decided = await decisions.for_intent(c, one.stored.id)
        first = min([item.block_number for item in decided], default=0)
        effects |= await outstanding.held_since(c, {tx.hash for tx in one.signed.values()}, first=first)
    return sight.Book(
        finalized=None if final is None else final.number, canonical=canonical, effects=frozenset(effects)
    )
