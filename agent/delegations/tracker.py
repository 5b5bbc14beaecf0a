"""What became of an intent whose nonce is taken. In: a view of rows, node and book. Out: outputs, to be applied in their order.

    reserved → signed → pending ⇄ included → final_ok | final_reverted | final_no_effect | cancelled
    superseded: another transaction is final on the nonce; needs_operator: the facts contradict each other

The tracker remembers nothing: it sees the rows again each time, so a crash forgets nothing that counts. What is not known is not assumed: a
node that does not answer moves nothing. Send errors are no input at all. Finality is the book's, never a node's word for one transaction:
an outcome needs the book's finalized cursor at or above the block and the book's canonical hash there. A chain's mined count says that a
nonce is used; only receipts of every hash, asked at a head above finality, say that none of ours used it. Neither is believed for good: that it
reverted, did nothing, was cancelled or lost its nonce is proven by a final block of the book (`question`), or left to a person.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import msgspec

from agent.delegations import questions, sight
from domain import intent as intents

FOREIGN = "submit.nonces"
EFFECT = "submit.effect"
"""Latches: somebody else used the account's nonce; a final transaction did not do what the manifest says it does."""


# --- what it says ---


class Move(msgspec.Struct, frozen=True):
    """`known` are the hashes that `why` names. `proven`: a final block proves it; a person's word does not."""

    to: intents.State
    why: str
    known: tuple[bytes, ...] = ()
    proven: bool = False


class Include(msgspec.Struct, frozen=True):
    """Insert an inclusion row of the attempt."""

    number: int
    tx_hash: bytes
    receipt: sight.Receipt


class Orphan(msgspec.Struct, frozen=True):
    """The inclusion row `id` left the canonical chain."""

    id: int
    why: str


class Finalize(msgspec.Struct, frozen=True):
    """The inclusion row `id` is final."""

    id: int


class Resend(msgspec.Struct, frozen=True):
    """Send these bytes again, after the commit."""

    hash: bytes


class Bump(msgspec.Struct, frozen=True):
    """Freeze another attempt at the same nonce: quote it, and where the fees say Wait, keep what there is."""

    kind: intents.AttemptKind
    why: str


class Timer(msgspec.Struct, frozen=True):
    """Look again then."""

    at_s: int


class Alarm(msgspec.Struct, frozen=True):
    """Set the latch."""

    latch: str
    reason: str


class Say(msgspec.Struct, frozen=True):
    """What it waits for."""

    why: str


Output: TypeAlias = Move | Include | Orphan | Finalize | Resend | Bump | Timer | Alarm | Say


# --- deciding ---


def next(view: sight.View) -> tuple[Output, ...]:
    """Nothing for an intent that holds no nonce."""
    if view.state not in intents.HOLDING:
        return ()
    found = _changing(view, _follow(view))
    if view.state != "needs_operator" or view.settle is None:
        return found
    if any(isinstance(output, Move | Include | Orphan | Finalize | Alarm) for output in found):
        return found  # the chain settles it
    said = _settled(view, view.settle)
    if isinstance(said, Say):
        return found if any(isinstance(output, Bump) for output in found) else (said, *found)
    return (*said, _again(view))


def _follow(view: sight.View) -> tuple[Output, ...]:
    seen = sight.seen(view)
    if len(seen) > 1:
        return _contradiction(view, seen)
    standing, outputs = view.standing, list[Output]()
    left = "" if standing is None else sight.left(view, standing)
    if standing is not None and left:
        outputs.append(Orphan(standing.id, left))
        standing = None
    if standing is not None:
        return (*_settle(view, standing), _again(view))
    if seen and (view.state != "needs_operator" or _counts_again(view, seen[0])):
        if _early(view, outputs):
            return (*outputs, *_returned(view, left), *_cancel(view), _again(view))
        return (*outputs, *_include(view, seen[0]), Timer(view.now_s))
    if outputs:
        return (*outputs, *_returned(view, left), _again(view))
    return _waiting(view)


def _early(view: sight.View, aside: Sequence[Output]) -> bool:
    """Whether what is shown is not included yet, because so much that was shown before did not stand. `aside` is what is put aside now."""
    count = view.aside.count + len(aside)
    if count < sight.OFTEN:
        return False
    wait_s = min(1 << min(count - sight.OFTEN, 16), sight.LATEST_S)
    last_s = view.now_s if aside else view.aside.last_s
    return last_s <= view.now_s < last_s + wait_s


def _changing(view: sight.View, outputs: tuple[Output, ...]) -> tuple[Output, ...]:
    """What is now so and now otherwise comes to no end as long as it is: the intent says it, and goes on."""
    left = [output.why for output in outputs if isinstance(output, Orphan)]
    count, for_s = view.aside.count + len(left), view.now_s - view.aside.since_s
    if count < sight.OFTEN or for_s < sight.SETTLE_S:
        return outputs
    if not any(isinstance(output, Include | Orphan) for output in outputs):
        return outputs
    last = f", the last because {left[-1]}" if left else ""
    what = f"{count} inclusions of it were put aside in {for_s} s{last}"
    return (
        *outputs,
        Say(f"the answers about it change, so it comes to no end: {what}; ask one node, not several in turn"),
    )


def question(view: sight.View) -> questions.Question | None:
    """What a block has to prove before the intent can end; None where nothing has to, or not yet."""
    place, final = sight.place(view), view.book.finalized
    if view.state not in intents.HOLDING or len(sight.seen(view)) > 1:
        return None
    if place is None:
        return questions.Taken(view.nonce) if view.counts is not None and _looks_taken(view, view.counts) else None
    if final is None or place.block_number > final:
        return None
    if place.block_number not in view.book.canonical:
        return questions.Link(place.block_number)
    if not sight.final(view, place.block_number, place.block_hash):
        return None
    if view.standing is None and view.state != "needs_operator":
        return None  # it is included first
    ok = place.status == 1 and place.effect is not None and not sight.cancels(view, place)
    if ok and place.tx_hash in view.book.effects:
        return None  # that it worked is proven by our own index
    claim = msgspec.structs.asdict(place)
    del claim["id"]
    return questions.Mined(**claim)


def resend_order(attempts: tuple[sight.Attempt, ...]) -> list[bytes]:
    """Every signed hash, highest fee first."""
    signed = [attempt for attempt in attempts if attempt.hash is not None]
    signed.sort(key=lambda attempt: (-attempt.max_fee, -attempt.tip, -attempt.number))
    return [attempt.hash for attempt in signed if attempt.hash is not None]


def to_sign(attempts: tuple[sight.Attempt, ...]) -> int | None:
    """The number of the attempt to sign next: the newest, so that an original that was given up before it was signed never is."""
    unsigned = [attempt.number for attempt in attempts if attempt.hash is None]
    newest = max([attempt.number for attempt in attempts], default=None)
    return newest if newest in unsigned else None


def _counts_again(view: sight.View, found: tuple[sight.Attempt, sight.Receipt]) -> bool:
    """What once contradicted itself counts again when the book's finality and an answer for every hash settle it, unless its block disproves it."""
    receipt = found[1]
    if view.standing is None and isinstance(view.proof, questions.Contradicted):
        return False
    answered = all(attempt.hash is None or attempt.hash in view.receipts for attempt in view.attempts)
    return answered and sight.final(view, receipt.block_number, receipt.block_hash)


def _returned(view: sight.View, why: str) -> list[Output]:
    """Back among the pending, after a reorg or a wrong answer: every byte string again, the dearest first."""
    if view.state != "included":
        return []
    return [Move("pending", why), *[Resend(hash_) for hash_ in resend_order(view.attempts)]]


def _include(view: sight.View, found: tuple[sight.Attempt, sight.Receipt]) -> list[Output]:
    attempt, receipt = found
    assert attempt.hash is not None
    outputs: list[Output] = [Include(attempt.number, attempt.hash, receipt)]
    if view.state != "included":
        said = "succeeded" if receipt.status == 1 else "reverted"
        what = "the cancel" if attempt.kind == "cancel" else f"attempt {attempt.number}"
        outputs.append(Move("included", f"{what} {said} in block {receipt.block_number}"))
    return outputs


def _settle(view: sight.View, standing: sight.Inclusion) -> list[Output]:
    """An inclusion that stands: final, or on its way there."""
    if not sight.final(view, standing.block_number, standing.block_hash):
        return _unproven(view, view.proof, "", latch=EFFECT) if isinstance(view.proof, questions.Unavailable) else []
    back: list[Output] = [] if view.state == "included" else [Move("included", "its block is final")]
    at = f"block {standing.block_number} is final"
    if sight.cancels(view, standing):
        return _by_proof(view, standing, back, "cancelled", f"the cancel took the nonce; {at}", latch=FOREIGN)
    if standing.status == 0 and standing.tx_hash in view.book.effects:
        why = f"the receipt says that it reverted, and the book has a log of it; {at}"
        return [] if view.state == "needs_operator" else [Move("needs_operator", why), Alarm(EFFECT, why)]
    if standing.status == 0:
        return _by_proof(view, standing, back, "final_reverted", f"the call reverted; {at}", latch=EFFECT)
    if standing.effect is None:
        why = f"the call succeeded without its expected event; {at}"
        found = _by_proof(view, standing, back, "final_no_effect", why, latch=EFFECT)
        return [*found, Alarm(EFFECT, why)] if isinstance(view.proof, questions.Proven) else found
    if standing.tx_hash in view.book.effects:
        return [*back, Finalize(standing.id), Move("final_ok", f"log {standing.effect} proves the effect; {at}")]
    if view.state == "needs_operator":
        return []
    why = f"the receipt shows the effect at log {standing.effect} of block {standing.block_number}, and the book has no such log"
    return [Move("needs_operator", why), Alarm(EFFECT, why)]


def _by_proof(
    view: sight.View, standing: sight.Inclusion, back: list[Output], to: intents.State, why: str, *, latch: str
) -> list[Output]:
    """An end that the index says nothing of: only a block proves it."""
    match view.proof:
        case questions.Proven() if sight.holds(view, view.proof):
            move = Move(to, f"{why}; {view.proof.why}", view.proof.known, proven=True)
            return [*back, Finalize(standing.id), move]
        case None | questions.Proven():
            return []
        case questions.Contradicted() | questions.Unavailable():
            return _unproven(view, view.proof, f"{to} cannot be: ", latch=latch)


def _unproven(
    view: sight.View, proof: questions.Contradicted | questions.Unavailable, wrong: str, *, latch: str
) -> list[Output]:
    """For a person: at once when the node is shown to be wrong, after a while when nothing can be shown."""
    if view.state == "needs_operator":
        return []
    if isinstance(proof, questions.Contradicted):
        return [Move("needs_operator", f"{wrong}{proof.why}"), Alarm(latch, f"{wrong}{proof.why}")]
    why = f"no proof of what became of nonce {view.nonce}: {proof.why}"
    return [Say(why)] if view.now_s < proof.since_s + sight.SETTLE_S else [Move("needs_operator", why)]


def _contradiction(view: sight.View, seen: list[tuple[sight.Attempt, sight.Receipt]]) -> tuple[Output, ...]:
    numbers = ", ".join([str(attempt.number) for attempt, _ in seen])
    why = f"the node shows attempts {numbers} of one nonce as mined"
    if view.state == "needs_operator":
        return (_again(view),)
    return (Move("needs_operator", why), Alarm(FOREIGN, why), _again(view))


def _waiting(view: sight.View) -> tuple[Output, ...]:
    """Nothing of ours is known to be mined."""
    counts = view.counts
    if counts is None:
        return (_again(view),)
    if counts.finalized > view.nonce:
        return _superseded(view, counts)
    if counts.latest > view.nonce:
        return _used(view)
    if view.state == "reserved":
        return (*_cancel(view), _again(view))
    outputs = _cancel(view) or _bump(view, counts)
    if view.state == "needs_operator":
        # Sending again what is signed is always safe, and a cancel is what a person asked for; anything else that is new waits for one.
        outputs = [output for output in outputs if output.kind == "cancel"]
    due = tuple([attempt for attempt in view.attempts if _resend_due(view, attempt)])
    return (*outputs, *[Resend(hash_) for hash_ in resend_order(due)], _again(view))


def _used(view: sight.View) -> tuple[Output, ...]:
    """By us or by another: receipts tell, or finality does. A node that says so for long and shows nothing may be wrong: what is signed is sent
    again, and a cancel that a person wants is signed, for at the same nonce both are safe whatever is true."""
    if view.now_s < view.since_s + sight.SETTLE_S:
        return (*_silent(view), _again(view))
    outputs = _cancel(view)
    due = tuple([a for a in view.attempts if _resend_due(view, a) and view.now_s >= a.last_s + sight.SETTLE_S])
    return (*(outputs or _silent(view)), *[Resend(hash_) for hash_ in resend_order(due)], _again(view))


def _silent(view: sight.View) -> list[Say]:
    """Why nothing follows from a count. What a person is needed for is not said over."""
    if view.state == "needs_operator":
        return []
    known = [view.receipts.get(a.hash) for a in view.attempts if a.hash is not None and a.hash in view.receipts]
    shown = [receipt for receipt in known if receipt is not None]
    if any(sight.denied(view, receipt.block_number, receipt.block_hash) for receipt in shown):
        what = "its receipt is of another block than the book's final one"
    elif shown:
        what = "its receipt is of a block that the node does not show"
    elif len(known) < sum(a.hash is not None for a in view.attempts):
        what = "the node does not say whether it has a receipt of it"
    else:
        what = "the node has no receipt of it"
    return [Say(f"the node counts nonce {view.nonce} as used, and {what}")]


def _looks_taken(view: sight.View, counts: sight.Counts) -> bool:
    """A node that could tell knows no receipt of ours, and counts the nonce as used in a final block."""
    answered = all(a.hash is None or (a.hash in view.receipts and view.receipts[a.hash] is None) for a in view.attempts)
    return counts.finalized > view.nonce and answered and sight.able(counts)


def _superseded(view: sight.View, counts: sight.Counts) -> tuple[Output, ...]:
    if not _looks_taken(view, counts):
        if view.untold_s >= sight.UNTOLD_S and view.state != "needs_operator":
            untold = tuple([a.hash for a in view.attempts if a.hash is not None and a.hash not in view.receipts])
            why = (
                f"nonce {view.nonce} is used in a final block, and for {view.untold_s // 60} minutes the node has not said whether it has a "
                f"receipt of {' and '.join([f'0x{hash_.hex()}' for hash_ in untold])}: ask another node, or settle it by what an explorer shows"
            )
            return (Move("needs_operator", why, untold), _again(view))
        late = view.now_s >= view.since_s + sight.SETTLE_S
        return (*((_cancel(view) if late else []) or _silent(view)), _again(view))
    if view.book.effects.intersection(attempt.hash for attempt in view.attempts if attempt.hash is not None):
        why = f"the book holds the effect of nonce {view.nonce}, and the node knows no receipt of it"
        return (*([] if view.state == "needs_operator" else [Move("needs_operator", why)]), _again(view))
    match view.proof:
        case questions.Proven() if sight.holds(view, view.proof):
            why = f"another transaction is final on nonce {view.nonce}"
            if view.restored:
                # What a restored book forgot may well be its own, and have done what the intent wants.
                why = f"{why}, and it may be this book's own, forgotten with the backup; {view.proof.why}"
                moved = [] if view.state == "needs_operator" else [Move("needs_operator", why, view.proof.known)]
                return (*moved, _again(view))
            if view.proof.same:
                # Whoever proposes it again does it twice: that is for a person to see first.
                why = f"{why}, and makes the very call that was wanted, so it may be done already"
                if all(attempt.hash is None for attempt in view.attempts):
                    why += f", and nothing was signed for it here: settle this before {FOREIGN} is cleared, or it is set again"
                why += f"; {view.proof.why}"
                alone = view.state == "needs_operator"
                moved = [] if alone else [Move("needs_operator", why, view.proof.known), Alarm(FOREIGN, why)]
                return (*moved, _again(view))
            return (Move("superseded", f"{why}; {view.proof.why}", view.proof.known), Alarm(FOREIGN, why))
        case questions.Contradicted() | questions.Unavailable():
            found = _unproven(view, view.proof, f"nonce {view.nonce} is not another's: ", latch=FOREIGN)
            if isinstance(view.proof, questions.Unavailable):
                found += [Alarm(FOREIGN, output.why) for output in found if isinstance(output, Move)]
            return (*found, _again(view))
        case None | questions.Proven():
            return (_again(view),)


def _settled(view: sight.View, said: sight.Settlement) -> list[Output] | Say:
    """A person's word counts once nothing of ours can be mined any more, and never against our own index."""
    wish = f"{said.outcome} ({said.why})"
    if said.logged:
        return Say(f"{wish} is contradicted: the book holds a log of it")
    standing, counts = view.standing, view.counts
    place = sight.place(view)
    if isinstance(view.proof, questions.Contradicted) and said.outcome == (
        "superseded" if place is None else _shows(view, place)
    ):
        return Say(f"{wish} is contradicted: {view.proof.why}")
    heights = [standing.block_number] if standing is not None else [seen[1].block_number for seen in sight.seen(view)]
    if heights and (view.book.finalized is None or max(heights) > view.book.finalized):
        return Say(f"{wish} waits until block {max(heights)} is final in the book")
    # That the block is final in which the node once showed it proves nothing: the node may have made it up, and our bytes wait still.
    used = counts is not None and counts.finalized > view.nonce and sight.able(counts)
    proven = standing is not None and isinstance(view.proof, questions.Proven) and sight.holds(view, view.proof)
    if not used and not proven:
        return Say(f"{wish} waits until nonce {view.nonce} is used in a final block")
    outputs: list[Output] = []
    if standing is not None:
        final = sight.final(view, standing.block_number, standing.block_hash)
        agrees = final and _shows(view, standing) == said.outcome
        outputs.append(Finalize(standing.id) if agrees else Orphan(standing.id, said.why))
    return [*outputs, Move(said.outcome, said.why)]


def _shows(view: sight.View, standing: sight.Inclusion) -> intents.Outcome:
    """What an inclusion comes to whose effect no index has."""
    if sight.cancels(view, standing):
        return "cancelled"
    return "final_no_effect" if standing.status else "final_reverted"


def _cancel(view: sight.View) -> list[Bump]:
    if view.cancel is None or any(attempt.kind == "cancel" for attempt in view.attempts):
        return []
    return [Bump("cancel", view.cancel)]


def _bump(view: sight.View, counts: sight.Counts) -> list[Bump]:
    """Only the account's next nonce is held up by its own fee; one attempt at a time."""
    newest = max(view.attempts, key=lambda attempt: attempt.number)
    if newest.hash is None or not newest.sends or counts.latest != view.nonce:
        return []
    if view.now_s < newest.first_s + view.timing.bump_after_s:
        return []
    kind: intents.AttemptKind = "cancel" if newest.kind == "cancel" else "bump"
    return [Bump(kind, f"attempt {newest.number} waits since {view.now_s - newest.first_s} s")]


def _resend_due(view: sight.View, attempt: sight.Attempt) -> bool:
    return not attempt.sends or view.now_s >= attempt.last_s + view.timing.resend_after_s


def _again(view: sight.View) -> Timer:
    return Timer(view.now_s + view.timing.poll_s)
