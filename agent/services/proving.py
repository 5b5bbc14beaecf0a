"""What blocks prove of open intents. In: questions of the tracker. Out: answers, remembered as long as the process lives.

An answer rests on the header hash that the book holds as canonical and final at the height, on nothing that a node says beside it. Asked only when
an inclusion's block is final in the book, or the finalized count is above a nonce that nobody of ours used.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import TypeVar

import msgspec

from agent.delegations import questions
from agent.services import delegator, following, proofs
from domain import chain, hashing
from indexers.chain import account, outcomes
from store import blocks, cursors, decisions

K = TypeVar("K")
V = TypeVar("V")

MOST = 8
"""Questions answered in one step: each may cost a whole block."""
BUDGET_S = 20.0
"""How long a step asks; what is left is asked in the next one, which goes on where this one stopped."""
RETRY_S = 30
"""What could not be proven is tried again then."""
KEPT = 1024

Asked = tuple[following.Open, questions.Question]


class OutOfTime(Exception):
    """The rest is asked in the next step."""


class Prover:
    """`linked` and `proofs` are what `following.Facts` holds."""

    def __init__(self, the: delegator.Delegator) -> None:
        self.linked: dict[int, bytes] = {}
        self.proofs: dict[bytes, tuple[questions.Question, questions.Proof]] = {}
        self._the = the
        self._next: dict[bytes, int] = {}
        self._began = 0.0
        self._turns = 0
        self._turn_of: dict[bytes, int] = {}
        self._searches: dict[bytes, outcomes.Search] = {}
        self._links: dict[int, chain.BlockRef] = {}

    def turn(self, asked: Sequence[Asked]) -> Iterator[Asked]:
        """What is asked in this step, as long as its time lasts: first what was not asked for longest."""
        self._began = self._the.clock.monotonic()
        self._turns += 1
        for item in sorted(asked, key=lambda item: self._turn_of.get(item[0].stored.id, 0))[:MOST]:
            if self._spent():
                return
            yield item

    def due(self, one: following.Open, question: questions.Question | None) -> list[Asked]:
        """The question, where it is to be asked now."""
        if question is None:
            self._forget(one.stored.id)
            return []
        return [(one, question)] if self._due(one, question) else []

    def _forget(self, id: bytes) -> None:
        """That something could not be shown: what comes up anew waits anew. What was shown of a block stays true."""
        known = self.proofs.get(id)
        if known is not None and isinstance(known[1], questions.Unavailable):
            del self.proofs[id]
            self._next.pop(id, None)

    async def ask(self, one: following.Open, question: questions.Question, standing: account.Standing) -> None:
        """Never raises for what a node says, so that nobody waits for another's proof. Raises StoreError for rows that cannot be read. Where
        the step's time is over before there is an answer, the question stays due."""
        try:
            await self._answer(one, question, standing)
        except OutOfTime:
            return
        _keep(self._turn_of, one.stored.id, self._turns)

    async def _answer(self, one: following.Open, question: questions.Question, standing: account.Standing) -> None:
        id = one.stored.id
        match question:
            case questions.Link():
                found = await self._canonical(question.number)
                answer = found.why if isinstance(found, outcomes.Unavailable) else None
            case questions.Mined():
                answer = await self._mined(one, question)
            case questions.Taken():
                answer = await self._taken(one, standing)
                self._searches.pop(id, None)  # whatever came of it: a search that led nowhere begins anew
        if answer is None:
            self._next.pop(id, None)
            self.proofs.pop(id, None)
            return
        if isinstance(answer, str):
            answer = questions.Unavailable(answer, self._since(id, question))
            _keep(self._next, id, self._the.now() + RETRY_S)
        _keep(self.proofs, id, (question, answer))

    def _due(self, one: following.Open, question: questions.Question) -> bool:
        known = self.proofs.get(one.stored.id)
        if known is None or known[0] != question:
            return True
        return isinstance(known[1], questions.Unavailable) and self._the.now() >= self._next.get(one.stored.id, 0)

    def _since(self, id: bytes, question: questions.Question) -> int:
        known = self.proofs.get(id)
        if known is not None and known[0] == question and isinstance(known[1], questions.Unavailable):
            return known[1].since_s
        return self._the.now()

    def _spent(self) -> bool:
        return self._the.clock.monotonic() - self._began >= BUDGET_S

    def _in_time(self) -> None:
        if self._spent():
            raise OutOfTime

    # --- a string is why it cannot be shown ---

    async def _mined(self, one: following.Open, said: questions.Mined) -> questions.Proof | str:
        body = await self._the.node.outcomes.body(said.block_hash)
        if isinstance(body, outcomes.Unavailable):
            return body.why
        at = f"block {body.header.ref}"
        found = await self._the.node.outcomes.outcome(body, one.signed[said.number].raw)
        if isinstance(found, outcomes.Unavailable):
            return found.why
        if found is None:
            return questions.Contradicted(f"{at} does not hold the transaction that the node shows in it")
        shown = f"transaction {found.index}, status {found.status}, gas {found.gas_used}"
        effect = proofs.place(one.frozen[said.number].effects, found.logs)
        if (found.index, found.status, found.gas_used) != (said.tx_index, said.status, said.gas_used):
            told = f"transaction {said.tx_index}, status {said.status}, gas {said.gas_used}"
            return questions.Contradicted(f"the node says {told}, and {at} proves {shown}")
        if effect != said.effect:
            return questions.Contradicted(f"the node shows other logs than {at} proves of transaction {found.index}")
        return _proven(body.header, shown)

    async def _taken(self, one: following.Open, standing: account.Standing) -> questions.Proof | str | None:
        found = await self._search(one, standing)
        if found is None:
            return None
        block_hash = await self._canonical(found.high) if isinstance(found, outcomes.Search) else found
        if isinstance(block_hash, outcomes.Unavailable):
            return block_hash.why
        self._in_time()
        body = await self._the.node.outcomes.body(block_hash)
        if isinstance(body, outcomes.Unavailable):
            return body.why
        at = f"block {body.header.ref}"
        for attempt, tx in one.signed.items():
            if (index := body.place(tx.raw)) is not None:
                return questions.Contradicted(
                    f"transaction {index} of {at} is attempt {attempt}, and the node knows no receipt of it"
                )
        taken = await asyncio.to_thread(body.sent, self._the.address, one.nonce)
        if taken is None:
            return (
                f"{at}, where the node's count passes it, has no transaction of the account with it: an EIP-7702 "
                "authorization may have used it, or the node has dropped the state that the search needs"
            )
        index, other = taken
        proven = _proven(body.header, f"transaction {index}, {hashing.hex0x(other.hash)}", other.hash)
        wanted = one.frozen[0].unsigned
        same = (other.to, other.value, other.data) == (wanted.to, wanted.value, wanted.data)
        return msgspec.structs.replace(proven, same=same)

    async def _search(
        self, one: following.Open, standing: account.Standing
    ) -> outcomes.Search | outcomes.Unavailable | None:
        """Where the nonce was used, as far as the node says; from the block on at which it was decided about, when the nonce was free. None
        while our own index is behind."""
        id, node = one.stored.id, self._the.node.outcomes
        found: outcomes.Search | outcomes.Unavailable | None = self._searches.get(id)
        if found is None:
            async with self._the.book.read() as c:
                final = await cursors.get(c, "finalized")
                allowed = [item.block_number for item in await decisions.for_intent(c, id) if item.verdict == "allow"]
            if final is None or standing.finalized is None:
                return None
            last = min(final.number, standing.finalized)
            found = await node.search(one.nonce, free=allowed[-1] if allowed else 0, last=last)
        while isinstance(found, outcomes.Search):
            _keep(self._searches, id, found)
            if found.found:
                break
            self._in_time()
            found = await node.narrow(one.nonce, found)
        return found

    async def _canonical(self, number: int) -> bytes | outcomes.Unavailable:
        """At a final height of the book: what it keeps, or what its next block links to."""
        async with self._the.book.read() as c:
            final = await cursors.get(c, "finalized")
            kept = None if final is None else await blocks.next_canonical(c, number, at_most=final.number)
        if kept is None:
            return outcomes.Unavailable(f"the book has no final block from {number} on")
        if kept.number == number:
            return kept.hash
        if number in self.linked:
            return self.linked[number]
        at = self._links.pop(number, kept)
        while at.number > number:
            _keep(self._links, number, at)
            self._in_time()
            found = await self._the.node.outcomes.link(number, at)
            if isinstance(found, outcomes.Unavailable):
                del self._links[number]
                return found
            at = found
        self._links.pop(number, None)
        _keep(self.linked, number, at.hash)
        return at.hash


def _proven(header: chain.Header, shown: str, *known: bytes) -> questions.Proven:
    why = f"proven by block {header.number} {hashing.hex0x(header.hash)}: {shown}"
    return questions.Proven(header.number, header.hash, why, (header.hash, *known))


def _keep(where: dict[K, V], key: K, value: V) -> None:
    """The oldest goes when there are too many: it is asked for again."""
    where.pop(key, None)
    where[key] = value
    if len(where) > KEPT:
        del where[next(iter(where))]
