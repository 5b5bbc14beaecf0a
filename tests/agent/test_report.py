"""Delivery: what reaches the hub in which order, and what keeps it back."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest

from agent.reporting.sinks import http
from agent.services import report
from devnet import anvil
from domain import deployment, errors, hashing, statement, wire
from kit import runtime
from signers import keys
from store import backup, book, latches, outbox, statements, votes
from tests.agent import belt

HUB_KEY = keys.LocalKey(belt.SECRETS[8])
ATTESTER = keys.LocalKey(belt.SECRETS[0]).address
STREAM = bytes([7]) * 32


def document() -> deployment.Document:
    stream = deployment.Stream(
        "main", "staking", anvil.CHAIN_ID, "devnet", "main", "all", "0x" + "00" * 20, 1, "blocks:5"
    )
    epoch = deployment.Epoch(0, (hashing.hex0x(ATTESTER),), 1, {"main": "0x" + "11" * 32}, {"main": 0})
    return deployment.Document(
        "test", (deployment.Chain(anvil.CHAIN_ID, "0x" + "22" * 32),), (stream,), (epoch,),
        (deployment.ReceiptKey(hashing.hex0x(HUB_KEY.address)),),
    )  # fmt: skip


class Hub:
    """Takes everything and signs chained receipts, like the real one; `refuse` names ids it answers 409."""

    url = "http://hub"

    def __init__(self) -> None:
        self.taken: list[bytes] = []
        self.issued: list[wire.SignedReceipt] = []
        self.refuse: set[bytes] = set()
        self.away = False
        self.broken = False

    async def attest(self, payload: bytes) -> wire.Accepted:
        if self.away:
            raise errors.Transient("the hub does not answer")
        if payload in self.refuse:
            raise http.Refused(409, wire.Problem(title="frame sealed", status=409))
        return wire.Accepted(receipt=await self.issue(payload))

    replace = attest

    async def issue(self, digest: bytes) -> wire.SignedReceipt:
        for signed in self.issued:
            if signed.receipt.digest == hashing.hex0x(digest):
                return signed
        domain = statement.hub_domain(chain_id=anvil.CHAIN_ID, deployment=document().digest())
        link = hashing.ZERO32
        if self.issued:
            link = statement.receipt_digest(wire.receipt_from_wire(self.issued[-1].receipt), domain)
        receipt = statement.Receipt(digest, ATTESTER, len(self.issued) + 1, link)
        signed = wire.SignedReceipt(
            chain_id=str(anvil.CHAIN_ID),
            deployment=hashing.hex0x(document().digest()),
            receipt=wire.receipt_to_wire(receipt),
            signature=hashing.hex0x(await HUB_KEY.sign_digest(statement.receipt_digest(receipt, domain))),
        )
        self.taken.append(digest)
        self.issued.append(signed)
        return signed

    async def wanted(self, attester: bytes) -> tuple[bytes, ...]:
        if self.broken:
            raise errors.Transient("the hub refuses /v1/wanted", retry_after_s=30)
        return ()

    async def receipts(self, attester: bytes, *, first: int) -> tuple[wire.SignedReceipt, ...]:
        return tuple(self.issued[first - 1 :])


class Bench:
    def __init__(self, the_book: book.Book, hub: Hub) -> None:
        self.book = the_book
        self.hub = hub
        self.clock = runtime.ManualClock()
        self.service = self.start()

    def start(self, *, acts: bool = False) -> report.ReportService:
        self.service = report.ReportService(
            self.book,
            document(),
            cast("http.HubClient", self.hub),
            attester=ATTESTER,
            chain_id=anvil.CHAIN_ID,
            clock=self.clock,
            acts=acts,
        )
        return self.service

    async def put(self, number: int, kind: str = "attestation", *, sequence: int = 0) -> bytes:
        """An item whose payload is its id: the hub here does not read it."""
        id_ = bytes([number]) * 32
        async with self.book.write() as c:
            ballot = 0 if kind == "attestation" else number
            vote = votes.Attested(id_, STREAM, sequence, 0, ATTESTER, id_, kind, ballot)
            await votes.save(c, vote, at_s=0)
            await outbox.put(c, id=id_, stream=STREAM, kind=kind, payload=id_)
        return id_

    async def depth(self) -> int:
        async with self.book.read() as c:
            return await outbox.depth(c)


@pytest.fixture
async def bench(tmp_path: Path):  # type: ignore[no-untyped-def]
    the_book = await book.open_book(
        f"sqlite:///{tmp_path / 'a.db'}", deployment=document().digest(), chain_id=anvil.CHAIN_ID, genesis=bytes(32)
    )
    yield Bench(the_book, Hub())
    await the_book.close()


async def test_a_withdrawn_vote_that_was_never_delivered_leaves_after_its_withdrawal(bench: Bench) -> None:
    wrong = await bench.put(1)
    other = await bench.put(2, sequence=1)
    replace = await bench.put(3, "replacement")
    right = await bench.put(4)
    await bench.service.step()
    assert bench.hub.taken == [replace, wrong, other, right]
    assert await bench.depth() == 0


async def test_after_amnesia_withdrawals_go_first_again(bench: Bench) -> None:
    await bench.put(1)
    await bench.service.step()
    replace = await bench.put(2, "replacement")
    await bench.put(3)
    await bench.service.step()
    assert len(bench.hub.taken) == 3
    bench.hub.issued.clear()
    bench.hub.taken.clear()
    await bench.put(4, sequence=1)
    for _ in range(4):
        await bench.clock.advance(60)
        await bench.service.step()
    assert bench.service.state.amnesia == 1
    assert bench.hub.taken.index(replace) < bench.hub.taken.index(bytes([1]) * 32)
    assert await bench.depth() == 0


async def test_a_refused_withdrawal_holds_its_stream_so_that_no_second_vote_follows(bench: Bench) -> None:
    await bench.put(1)
    await bench.service.step()
    bench.hub.refuse.add(await bench.put(2, "replacement"))
    await bench.put(3)
    await bench.service.step()
    await bench.clock.advance(5)
    await bench.service.step()
    assert bench.hub.taken == [bytes([1]) * 32]
    assert bench.service.state.refused == 1


async def test_votes_that_were_signed_before_a_latch_do_not_leave_after_it(bench: Bench) -> None:
    await bench.put(1)
    async with bench.book.write() as c:
        await latches.set(c, "finality", reason="test", at_s=0)
    await bench.service.step()
    assert bench.hub.taken == []
    async with bench.book.write() as c:
        await latches.clear(c, "finality", by="tester", at_s=1)
    await bench.service.step()
    assert len(bench.hub.taken) == 1


async def test_a_book_that_does_not_know_its_own_votes_signs_nothing_more_until_a_person_decides(bench: Bench) -> None:
    await bench.hub.issue(bytes([99]) * 32)  # another life of this signer voted this
    await bench.put(1)
    await bench.service.step()
    assert bench.hub.taken == [bytes([99]) * 32]
    async with bench.book.read() as c:
        assert [latch.name for latch in await latches.active(c)] == ["votes"]
    async with bench.book.write() as c:
        await latches.clear(c, "votes", by="tester", at_s=1)
    await bench.start().step()  # the agent was stopped for it
    async with bench.book.read() as c:
        assert await latches.active(c) == []
    assert bench.hub.taken == [bytes([99]) * 32, bytes([1]) * 32]


async def test_a_book_older_than_the_hubs_memory_submits_nothing_either_until_a_person_accepts(bench: Bench) -> None:
    await bench.hub.issue(bytes([99]) * 32)  # a vote that the newer book sent, before this one was put back by hand
    await bench.start(acts=True).step()
    async with bench.book.read() as c:
        assert [latch.name for latch in await latches.active(c)] == ["votes", backup.LATCH]


async def test_a_reply_that_was_lost_is_no_foreign_vote(bench: Bench) -> None:
    await bench.hub.issue(await bench.put(1))
    await bench.put(2, sequence=1)
    await bench.service.step()
    assert len(bench.hub.taken) == 2
    assert await bench.depth() == 0


async def test_a_hub_that_refuses_a_question_is_asked_again_and_delivery_goes_on(bench: Bench) -> None:
    bench.hub.broken = True
    for _ in range(5):
        with pytest.raises(errors.Transient):
            await bench.service.step()
    await bench.put(1)
    await bench.service.step()
    assert await bench.depth() == 0


async def test_a_hub_that_is_away_gets_everything_when_it_is_back(bench: Bench) -> None:
    bench.hub.away = True
    for number in (1, 2, 3):
        await bench.put(number, sequence=number)
    with pytest.raises(errors.Transient):
        await bench.service.step()
    bench.hub.away = False
    await bench.clock.advance(60)
    await bench.service.step()
    assert [digest[0] for digest in bench.hub.taken] == [1, 2, 3]


def slim(sequence: int, carry: int) -> statements.Slim:
    header = statement.Header(
        1, bytes(32), STREAM, sequence, 0, 0, bytes(32), 0, bytes(32), 0, bytes(32), bytes(32), bytes(32), bytes(32),
        bytes(32), 0, bytes([carry]) * 32, 0, 0,
    )  # fmt: skip
    return statements.Slim(STREAM, sequence, 0, bytes([sequence]) * 32, bytes(32), header, "derived")


def test_a_frame_whose_carry_returned_to_an_older_one_is_offered_too() -> None:
    offers = report._offers([slim(1, 7), slim(2, 8), slim(3, 7), slim(4, 7)])
    assert [offer.sequence for offer in offers] == [1, 2, 3]
