"""What the tracker sees of an intent, and what that shows by itself. In: rows, what the node said in one exchange, our own index. Out: views.

A node's word is weighed here: a receipt counts in a block that the node has below its head, an inclusion stands until its block leaves, until
a proof or the account's count speaks against it, or until it has been above the node's head for too long.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from agent.delegations import questions
from domain import intent as intents

SETTLE_S = 120
"""How long a node may be unable to show what decides (a proof, or a block that it once showed), and how long its answers may change."""
UNTOLD_S = 3600
"""How long a node may leave open whether it has a receipt, once the nonce is used for good, before a person is asked: an index of its own takes
minutes, seldom longer."""
OFTEN = 3
"""Inclusions of one intent that were put aside, from which on it is no ordinary reorg."""
LATEST_S = 600
"""How long at most the next one waits then: twice as long each time, so that answers that change do not fill the book."""


class Attempt(msgspec.Struct, frozen=True):
    """`hash` is None until it is signed. `sends` and the times are those of its broadcast row; 0: never sent."""

    number: int
    kind: intents.AttemptKind
    tip: int
    max_fee: int
    hash: bytes | None = None
    sends: int = 0
    first_s: int = 0
    last_s: int = 0


class Inclusion(msgspec.Struct, frozen=True):
    """A row that is not orphaned: at most one for an intent. `effect` is the log index of the effect in its block, None where there is none."""

    id: int
    number: int
    tx_hash: bytes
    block_number: int
    block_hash: bytes
    status: int
    effect: int | None
    tx_index: int = 0
    gas_used: int = 0


class Receipt(msgspec.Struct, frozen=True):
    """What the node answered for one hash. `effect` as in `Inclusion`: the log index in the block of the (last) expected log."""

    block_number: int
    block_hash: bytes
    tx_index: int
    status: int
    gas_used: int
    gas_price_wei: int
    effect: int | None


class Counts(msgspec.Struct, frozen=True):
    """`latest` and `finalized` count transactions; `finalized_number` is the block the latter was asked at, None before there is one.
    `head` is the height of the node's head when the receipts were asked for."""

    latest: int
    finalized: int
    finalized_number: int | None
    head: int


class Book(msgspec.Struct, frozen=True):
    """Our own index: its finalized cursor, its canonical hash by height (a missing height is unknown), and the transactions of this intent
    whose effect it holds as a canonical log."""

    finalized: int | None
    canonical: Mapping[int, bytes]
    effects: frozenset[bytes]


class Timing(msgspec.Struct, frozen=True):
    """Seconds."""

    resend_after_s: int
    bump_after_s: int
    poll_s: int


class Aside(msgspec.Struct, frozen=True):
    """Inclusions that stand no longer: how many, when the first of them was found, and when the last was put aside."""

    count: int = 0
    since_s: int = 0
    last_s: int = 0


class Settlement(msgspec.Struct, frozen=True):
    """What a person says became of it. `logged`: the book holds a canonical log of one of its transactions."""

    outcome: intents.Outcome
    why: str
    logged: bool


class View(msgspec.Struct, frozen=True):
    """`receipts` holds an entry for every hash the node answered: None where it knows no receipt; a missing hash was not answered. `canonical`
    are the node's block hashes at the heights of all receipts and of `standing`; a missing height was not answered. `counts` is None when
    the node did not say. `cancel` is the reason of the person who wants it cancelled."""

    state: intents.State
    nonce: int
    attempts: tuple[Attempt, ...]
    standing: Inclusion | None
    receipts: Mapping[bytes, Receipt | None]
    canonical: Mapping[int, bytes]
    counts: Counts | None
    book: Book
    timing: Timing
    now_s: int
    cancel: str | None = None
    since_s: int = 0
    """When the intent came into its state."""
    untold_s: int = 0
    """How long some receipt has been left open since the nonce was used for good."""
    settle: Settlement | None = None
    """The newest since then."""
    restored: bool = False
    """It came from a backup: the book may have forgotten transactions of its own."""
    proof: questions.Proof | None = None
    """The answer to this view's `question`; None while there is none."""
    aside: Aside = Aside()


# --- what is to be seen in it ---


def final(view: View, number: int, hash_: bytes) -> bool:
    finalized = view.book.finalized
    return finalized is not None and number <= finalized and view.book.canonical.get(number) == hash_


def denied(view: View, number: int, hash_: bytes) -> bool:
    """Whether the book has another block as final at that height."""
    finalized = view.book.finalized
    return finalized is not None and number <= finalized and view.book.canonical.get(number, hash_) != hash_


def holds(view: View, proof: questions.Proven) -> bool:
    return final(view, proof.number, proof.hash)


def able(counts: Counts) -> bool:
    """Whether the node was asked at a head that could tell what is final."""
    return counts.finalized_number is not None and counts.head >= counts.finalized_number


def cancels(view: View, standing: Inclusion) -> bool:
    return any(attempt.number == standing.number and attempt.kind == "cancel" for attempt in view.attempts)


def seen(view: View) -> list[tuple[Attempt, Receipt]]:
    """Receipts in blocks that the node itself has as canonical, none of them above its head or against a final block of the book."""
    found: list[tuple[Attempt, Receipt]] = []
    for attempt in view.attempts:
        receipt = None if attempt.hash is None else view.receipts.get(attempt.hash)
        if receipt is None or (view.counts is not None and receipt.block_number > view.counts.head):
            continue
        if denied(view, receipt.block_number, receipt.block_hash):
            continue
        if view.canonical.get(receipt.block_number) == receipt.block_hash:
            found.append((attempt, receipt))
    return found


def place(view: View) -> Inclusion | None:
    """Where it is: the inclusion that stands, or the one that the node shows now, with `id` 0."""
    if view.standing is not None:
        return view.standing
    for attempt, receipt in seen(view):
        assert attempt.hash is not None
        return Inclusion(
            0, attempt.number, attempt.hash, receipt.block_number, receipt.block_hash, receipt.status, receipt.effect,
            receipt.tx_index, receipt.gas_used,
        )  # fmt: skip
    return None


def left(view: View, standing: Inclusion) -> str:
    """Why the inclusion stands no longer; empty while it does. One wrong answer must not stay, and a head that went backwards is waited out.
    Final is final, but a block's finality says nothing of what the node made up about it. What is put aside in error is found again."""
    if denied(view, standing.block_number, standing.block_hash):
        return f"the book has another block than the node's {standing.block_number} as final"
    shown = seen(view)
    for attempt, receipt in shown:
        if attempt.hash == standing.tx_hash and receipt.block_hash == standing.block_hash:
            said = (receipt.status, receipt.effect, receipt.tx_index, receipt.gas_used)
            same = said == (standing.status, standing.effect, standing.tx_index, standing.gas_used)
            return "" if same else f"the node says otherwise of block {standing.block_number} now"
    if isinstance(view.proof, questions.Contradicted) and (shown or _unknown(view, standing)):
        return f"the node takes back what was wrong: {view.proof.why}"
    if _denied(view, standing):
        return f"the node takes it back: nonce {view.nonce} is not used in its final blocks"
    if final(view, standing.block_number, standing.block_hash):
        return ""
    gone = f"block {standing.block_number} left the chain with it"
    now = view.canonical.get(standing.block_number)
    if now is not None:
        return gone if now != standing.block_hash else ""
    # Too high for the node now; a nonce is used once, so another canonical block with it says enough.
    return gone if shown or _too_high(view, standing) else ""


def _unknown(view: View, standing: Inclusion) -> bool:
    return standing.tx_hash in view.receipts and view.receipts[standing.tx_hash] is None


def _denied(view: View, standing: Inclusion) -> bool:
    """Whether the node knows no receipt of it and counts the nonce as unused at a final block from the inclusion's on. Nothing but our own index
    stands against that."""
    counts = view.counts
    if counts is None or counts.finalized_number is None or not able(counts) or not _unknown(view, standing):
        return False
    unused = counts.finalized_number >= standing.block_number and counts.finalized <= view.nonce
    return unused and standing.tx_hash not in view.book.effects


def _too_high(view: View, standing: Inclusion) -> bool:
    """Whether the node answers for the transaction, shows nothing of it, and has not come up to its block for a while: a backend that is
    behind catches up, an invented height does not."""
    above = view.counts is not None and standing.block_number > view.counts.head
    return above and standing.tx_hash in view.receipts and view.now_s >= view.since_s + SETTLE_S
