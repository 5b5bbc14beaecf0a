"""A chain and an agent in memory, for the tracker to be tried on. The agent's rows survive a crash; what it has in mind does not.

The chain has a pool with geth's replacement rule, blocks, reorgs above finality, and strangers who use the same account. The agent does what
the services do, one transaction at a time, with the real deciders.
"""

from __future__ import annotations

import dataclasses
import itertools
from typing import Literal

import msgspec

from agent.delegations import fees, nonces, questions, sight, tracker
from domain import hashing
from domain import intent as intents

End = Literal["ok", "reverted", "no_effect"]
CAPS = fees.Caps(max_fee=10_000, max_tip=1_000)
TIMING = sight.Timing(resend_after_s=30, bump_after_s=60, poll_s=2)
MARKET = fees.quote(fees.FeeHistory(100, (10,)), CAPS)


@dataclasses.dataclass(frozen=True)
class Tx:
    hash: bytes
    nonce: int
    tip: int
    max_fee: int
    kind: intents.AttemptKind | Literal["foreign"]


@dataclasses.dataclass(frozen=True)
class Mined:
    tx: Tx
    status: int
    effect: int | None


@dataclasses.dataclass(frozen=True)
class Block:
    number: int
    hash: bytes
    mined: tuple[Mined, ...] = ()


class Chain:
    def __init__(self) -> None:
        self._serial = itertools.count(1)
        self.blocks = [Block(0, self._hash("block"))]
        self.final = 0
        self.pool: dict[int, Tx] = {}

    def _hash(self, what: str) -> bytes:
        return hashing.keccak256(f"{what} {next(self._serial)}".encode())

    def count(self, number: int) -> int:
        return sum(len(block.mined) for block in self.blocks[: number + 1])

    @property
    def head(self) -> int:
        return len(self.blocks) - 1

    def receive(self, tx: Tx) -> None:
        """Into the pool, unless it is used up or too cheap to replace what is there."""
        there = self.pool.get(tx.nonce)
        if tx.nonce < self.count(self.head) or (there is not None and there.hash == tx.hash):
            return
        if there is not None and (tx.tip < fees.raised(there.tip) or tx.max_fee < fees.raised(there.max_fee)):
            return
        self.pool[tx.nonce] = tx

    def mine(self, ends: list[End]) -> None:
        """One block with at most one transaction for each end, in order of nonces."""
        mined: list[Mined] = []
        for end in ends:
            tx = self.pool.pop(self.count(self.head) + len(mined), None)
            if tx is None:
                break
            proven = end == "ok" and tx.kind in ("original", "bump")
            status = 0 if end == "reverted" and tx.kind in ("original", "bump") else 1
            mined.append(Mined(tx, status, len(mined) if proven else None))
        self.blocks.append(Block(len(self.blocks), self._hash("block"), tuple(mined)))

    def foreign(self) -> Tx:
        """Somebody else mines on the account's next nonce."""
        tx = Tx(self._hash("foreign"), self.count(self.head), 1, 1, "foreign")
        self.pool.pop(tx.nonce, None)
        self.blocks.append(Block(len(self.blocks), self._hash("block"), (Mined(tx, 1, None),)))
        return tx

    def reorg(self, depth: int, *, grown: int, kept: bool) -> None:
        """The last `depth` blocks above finality go; `grown` empty ones come. What was in them goes back to the pool, or is lost."""
        cut = max(self.final, self.head - depth) + 1
        gone = [mined.tx for block in self.blocks[cut:] for mined in block.mined]
        del self.blocks[cut:]
        for tx in gone if kept else []:
            self.pool.setdefault(tx.nonce, tx)
        for _ in range(grown):
            self.mine([])

    def drop(self) -> None:
        """The pool forgets everything."""
        self.pool.clear()

    def finalize(self, behind: int) -> None:
        self.final = max(self.final, self.head - behind)

    def receipt(self, hash_: bytes) -> sight.Receipt | None:
        for block in self.blocks:
            for index, mined in enumerate(block.mined):
                if mined.tx.hash == hash_:
                    return sight.Receipt(block.number, block.hash, index, mined.status, 21_000, 1, mined.effect)
        return None

    def settled(self, nonce: int) -> Mined | None:
        """What is final on a nonce."""
        flat = [mined for block in self.blocks[: self.final + 1] for mined in block.mined]
        return flat[nonce] if nonce < len(flat) else None


@dataclasses.dataclass
class Row:
    """One intent with everything the book has of it."""

    number: int
    state: intents.State
    nonce: int
    attempts: list[sight.Attempt]
    history: list[intents.State]
    standing: sight.Inclusion | None = None
    cancel: str | None = None


@dataclasses.dataclass
class Looked:
    """What the node said at one moment."""

    counts: sight.Counts | None
    receipts: dict[bytes, sight.Receipt | None]


class Agent:
    def __init__(self, chain: Chain) -> None:
        self.chain = chain
        self.rows: list[Row] = []
        self.book_final = 0
        self.book_blocks: list[Block] = list(chain.blocks)
        self.latches: set[str] = set()
        self.accepted = 0
        self.now_s = 1000
        self._ids = itertools.count(1)
        self.again: list[bytes] = []  # in mind only
        self.looked: Looked | None = None  # in mind only

    # --- what the services do ---

    def crash(self) -> None:
        self.again.clear()
        self.looked = None

    def audit(self) -> nonces.Audit:
        chain = self.chain
        count = chain.count(chain.head)
        pending = count
        while pending in chain.pool:
            pending += 1
        opened = [row for row in self.rows if row.state not in intents.FINAL]
        mined = [row.nonce for row in self.rows if row.state in intents.FINAL]
        found = nonces.audit(
            nonces.View(
                latest=count,
                pending=pending,
                finalized=chain.count(chain.final),
                highest=max([row.nonce for row in self.rows], default=None),
                open=tuple(row.nonce for row in opened),
                unsigned=tuple(row.nonce for row in opened if all(attempt.hash is None for attempt in row.attempts)),
                settled=max(mined, default=None),
                accepted=self.accepted or None,
            )
        )
        if isinstance(found, nonces.Foreign | nonces.Gap):
            self.latches.add(nonces.FOREIGN)
        return found

    def propose(self) -> None:
        found = self.audit()
        if self.latches or not isinstance(found, nonces.Ok):
            return
        nonce = nonces.following(highest=max([row.nonce for row in self.rows], default=None), floor=found.floor)
        assert isinstance(MARKET, fees.Quote)
        first = sight.Attempt(0, "original", MARKET.tip, MARKET.max_fee)
        self.rows.append(Row(len(self.rows), "reserved", nonce, [first], ["reserved"]))

    def accept(self) -> None:
        """A person looked, and accepts what the chain counts."""
        found = self.audit()
        if isinstance(found, nonces.Foreign):
            self.accepted = found.floor
        self.latches.clear()

    def sign(self, row: Row) -> None:
        number = tracker.to_sign(tuple(row.attempts))
        if number is None or row.state in intents.FINAL:
            return
        attempt = row.attempts[number]
        if attempt.kind == "original":
            self.audit()
            if self.latches or row.cancel is not None:
                return
        hash_ = hashing.keccak256(f"{row.number} {row.nonce} {number}".encode())
        row.attempts[number] = msgspec.structs.replace(attempt, hash=hash_)
        if row.state == "reserved":
            self.move(row, "signed")

    def send(self, row: Row, *, delivered: bool, marked: bool) -> None:
        """Unsent ones, and those asked for again. A crash in between forgets the mark, not the transaction."""
        for index, attempt in enumerate(row.attempts):
            if attempt.hash is None or (attempt.sends and attempt.hash not in self.again):
                continue
            if delivered:
                self.chain.receive(Tx(attempt.hash, row.nonce, attempt.tip, attempt.max_fee, attempt.kind))
            if marked:
                first = attempt.first_s or self.now_s
                row.attempts[index] = msgspec.structs.replace(
                    attempt, sends=attempt.sends + 1, first_s=first, last_s=self.now_s
                )
                if row.state == "signed":
                    self.move(row, "pending")
        self.again = [hash_ for hash_ in self.again if hash_ not in {attempt.hash for attempt in row.attempts}]

    def look(self, *, silent: bool, mute: set[int]) -> None:
        """Counts and receipts of one moment. `mute`: attempts by number whose receipt is not answered."""
        chain = self.chain
        counts = sight.Counts(
            latest=chain.count(chain.head),
            finalized=chain.count(chain.final),
            finalized_number=chain.final,
            head=chain.head,
        )
        hashes = [a.hash for row in self.rows for a in row.attempts if a.hash is not None and a.number not in mute]
        self.looked = Looked(None if silent else counts, {hash_: chain.receipt(hash_) for hash_ in hashes})

    def confirm(self, row: Row, *, blind: bool) -> None:
        """With what was looked at, however long ago, and the blocks as they are now; `blind`: the node does not answer for blocks."""
        if self.looked is None:
            return
        view = sight.View(
            state=row.state,
            nonce=row.nonce,
            attempts=tuple(row.attempts),
            standing=row.standing,
            receipts=self.looked.receipts,
            canonical={} if blind else {block.number: block.hash for block in self.chain.blocks},
            counts=self.looked.counts,
            book=self.book(row.standing),
            timing=TIMING,
            now_s=self.now_s,
            cancel=row.cancel,
        )
        proof = None if blind else self.proof(row, tracker.question(view))
        for output in tracker.next(msgspec.structs.replace(view, proof=proof)):
            self.apply(row, output)

    def proof(self, row: Row, question: questions.Question | None) -> questions.Proof | None:
        """What the final blocks of our index say, whatever the node said."""
        final = [block for block in self.book_blocks if block.number <= self.book_final]
        match question:
            case questions.Mined():
                for block in final:
                    if block.hash == question.block_hash:
                        same = [m for m in block.mined if m.tx.hash == question.tx_hash]
                        if [(m.status, m.effect) for m in same] == [(question.status, question.effect)]:
                            return questions.Proven(block.number, block.hash, "by its block")
                return questions.Contradicted("the block says otherwise")
            case questions.Taken():
                ours = {attempt.hash for attempt in row.attempts}
                for block in final:
                    for mined in block.mined:
                        if mined.tx.nonce == question.nonce:
                            if mined.tx.hash in ours:
                                return questions.Contradicted("it is ours")
                            return questions.Proven(block.number, block.hash, "by its block")
                return None
            case None | questions.Link():
                return None

    def apply(self, row: Row, output: tracker.Output) -> None:
        match output:
            case tracker.Move():
                self.move(row, output.to)
            case tracker.Include():
                found = output.receipt
                assert row.standing is None
                row.standing = sight.Inclusion(
                    next(self._ids),
                    output.number,
                    output.tx_hash,
                    found.block_number,
                    found.block_hash,
                    found.status,
                    found.effect,
                    found.tx_index,
                    found.gas_used,
                )
            case tracker.Orphan():
                assert row.standing is not None
                assert row.standing.id == output.id
                row.standing = None
            case tracker.Finalize():
                assert row.standing is not None
                assert row.standing.id == output.id
            case tracker.Resend():
                self.again.append(output.hash)
            case tracker.Bump():
                offered = [(attempt.tip, attempt.max_fee) for attempt in row.attempts]
                quote = fees.bump(offered, MARKET, CAPS, kind=output.kind)
                if isinstance(quote, fees.Quote):
                    row.attempts.append(sight.Attempt(len(row.attempts), output.kind, quote.tip, quote.max_fee))
            case tracker.Alarm():
                self.latches.add(output.latch)
            case tracker.Say():
                pass
            case tracker.Timer():
                assert output.at_s >= self.now_s

    def move(self, row: Row, to: intents.State) -> None:
        assert intents.may_move(row.state, to), (row.state, to)
        row.state = to
        row.history.append(to)

    # --- our own index ---

    def index(self) -> None:
        """Catch up with the node, finality included."""
        self.book_blocks = list(self.chain.blocks)
        self.book_final = self.chain.final

    def book(self, standing: sight.Inclusion | None) -> sight.Book:
        """What stands is held to its own place, unless it reverted: then any log speaks against it."""
        logged = [(m.tx.hash, block.hash, m.effect) for block in self.book_blocks for m in block.mined]
        known = [place[0] for place in logged if place[2] is not None]
        if standing is not None and standing.status == 1:
            own = (standing.tx_hash, standing.block_hash, standing.effect)
            known = [hash_ for hash_ in known if hash_ != standing.tx_hash or own in logged]
        return sight.Book(self.book_final, {block.number: block.hash for block in self.book_blocks}, frozenset(known))
