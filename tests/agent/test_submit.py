"""Sending: whatever a node or a signer says or does not say, an intent has one nonce and what was kept is what is sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import msgspec
import pytest

from agent.services import refusals, submit
from devnet import proxy
from domain import errors, transaction
from kit import runtime
from signers import base, keys, transactions
from store import attempts, commands, intents, latches
from tests.agent import staking_belt
from tests.agent.staking_belt import ADDRESS, ETHER, GWEI, SECRET

SEND = "eth_sendRawTransaction"


@pytest.fixture
async def town() -> AsyncIterator[staking_belt.Town]:
    async with staking_belt.town() as it:
        yield it


@pytest.fixture
async def liar(town: staking_belt.Town) -> AsyncIterator[proxy.LyingNode]:
    async with proxy.LyingNode(town.url) as it:
        yield it


async def _signed(desk: staking_belt.Desk, id: bytes) -> list[attempts.SignedTx]:
    async with desk.book.read() as c:
        return await attempts.signed_of(c, id)


async def _hints(desk: staking_belt.Desk, id: bytes) -> list[str]:
    async with desk.book.read() as c:
        return [item.hint for item in await attempts.broadcasts(c, id)]


# --- the node ---


@pytest.mark.parametrize("fault", ["swallow", "503", "html", "cut", "truncate"])
async def test_a_send_whose_reply_is_lost_keeps_its_hash_and_its_nonce(
    town: staking_belt.Town, liar: proxy.LyingNode, tmp_path: Path, fault: str
) -> None:
    async with staking_belt.desk(town, tmp_path / "book.db", url=liar.url) as desk:
        liar.set_faults([f"{fault}:methods={SEND},count=1"])
        id = await desk.propose("a")
        await desk.run(1)
        (before,) = await _signed(desk, id)
        assert await desk.state(id) == "pending" and await _hints(desk, id) != ["accepted"]
        await desk.clock.advance(desk.delegator.timing.resend_after_s)
        await desk.until(id, "final_ok")
        (after,) = await _signed(desk, id)
        assert after == before and await town.count() == 1 and await town.effects() == [ETHER]
        await desk.sound()


async def test_a_node_that_names_another_hash_raises_an_alarm_and_the_intent_goes_on(
    town: staking_belt.Town, tmp_path: Path
) -> None:
    other = "0x" + "ab" * 32
    async with (
        staking_belt.desk(town, tmp_path / "book.db") as desk,
        staking_belt.answering(town.url, SEND, {"result": other}) as url,
    ):
        desk.endpoint.url = url
        id = await desk.propose("a")
        await desk.step(desk.decide)
        with pytest.raises(errors.BadAnswer, match="another hash"):
            await desk.submit.step()
        assert await desk.state(id) == "pending"
        desk.endpoint.url = town.url
        await desk.clock.advance(desk.delegator.timing.resend_after_s)
        await desk.until(id, "final_ok")


WORDINGS = [
    (-32000, "already known"),
    (-32003, "transaction already imported"),
    (-32000, "Known transaction"),
    (-32000, "nonce too low: next nonce 5, tx nonce 0"),
    (-32000, "replacement transaction underpriced"),
    (-32000, "transaction underpriced: gas tip cap 0, minimum needed 1"),
    (-32003, "max fee per gas less than block base fee"),
    (-32000, "insufficient funds for gas * price + value: balance 0, tx cost 1"),
    (-32010, "FeeTooLow, MaxFeePerGas too low."),
    (-32000, "Upfront cost exceeds account balance"),
    (-32000, "txpool is full"),
    (-32603, "Internal error"),
    (-1, "\x00\x1b[31m" + "x" * 5000),
    (3, ""),
]


async def test_no_error_text_of_a_send_decides_anything(town: staking_belt.Town, tmp_path: Path) -> None:
    reply: dict[str, object] = {}
    async with (
        staking_belt.desk(town, tmp_path / "book.db") as desk,
        staking_belt.answering(town.url, SEND, reply) as url,
    ):
        desk.endpoint.url = url
        signed: dict[bytes, list[attempts.SignedTx]] = {}
        for n, (code, text) in enumerate(WORDINGS):
            reply["error"] = {"code": code, "message": text}
            id = await desk.propose(f"n{n}")
            await desk.step(desk.decide)
            await desk.step(desk.submit)
            assert await desk.state(id) == "pending", text
            (hint,) = await _hints(desk, id)
            assert len(hint) <= 200 and hint.isprintable()
            signed[id] = await _signed(desk, id)
        assert await town.count("pending") == 0
        desk.endpoint.url = town.url
        await desk.clock.advance(desk.delegator.timing.resend_after_s)
        await desk.run(2)
        assert await town.count("pending") == len(WORDINGS)
        assert {id: await _signed(desk, id) for id in signed} == signed


# --- the signer ---


class Hostile:
    """A signer that answers with a transaction of its own making."""

    def __init__(self, **changes: object) -> None:
        self._key = keys.LocalKey(SECRET)
        self._changes = changes

    @property
    def address(self) -> bytes:
        return ADDRESS

    async def sign_transaction(self, unsigned: transaction.Unsigned) -> bytes:
        changed = msgspec.structs.replace(unsigned, **self._changes)
        return transaction.join(changed, await self._key.sign_digest(changed.digest()))


@pytest.mark.parametrize(
    "changes",
    [{"chain_id": 1}, {"nonce": 9}, {"to": b"\x66" * 20}, {"value": 1}, {"data": b""}, {"gas": 21_000}, {"tip": 0}, {"max_fee": 1}],
    ids=lambda changes: next(iter(changes)),
)  # fmt: skip
async def test_a_signer_that_changes_a_field_gets_nothing_kept_and_nothing_sent(
    town: staking_belt.Town, tmp_path: Path, changes: dict[str, object]
) -> None:
    async with staking_belt.desk(town, tmp_path / "book.db", signer=Hostile(**changes)) as desk:
        id = await desk.propose("a")
        await desk.step(desk.decide)
        with pytest.raises(errors.BadAnswer):
            await desk.submit.step()
        assert await desk.state(id) == "reserved" and await _signed(desk, id) == []
        assert await town.count("pending") == 0


class Slow:
    """A signer that answers its first request too late."""

    def __init__(self) -> None:
        self._key = keys.LocalKey(SECRET)
        self.late = asyncio.Event()
        self.asked = 0

    @property
    def address(self) -> bytes:
        return ADDRESS

    async def sign_digest(self, digest: bytes) -> bytes:
        self.asked += 1
        if self.asked == 1:
            await self.late.wait()
        return await self._key.sign_digest(digest)


async def test_a_signer_that_hangs_is_asked_again_for_the_same_transaction(
    town: staking_belt.Town, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submit, "SIGN_S", 0.05)
    slow = Slow()
    async with staking_belt.desk(town, tmp_path / "book.db", signer=slow) as desk:
        id = await desk.propose("a")
        await desk.step(desk.decide)
        with pytest.raises(errors.Transient, match="signer"):
            await desk.submit.step()
        slow.late.set()
        nonces = await desk.nonces()
        await desk.until(id, "final_ok")
        assert len(await _signed(desk, id)) == 1 and (await desk.nonces()).highest == nonces.highest == 0
        assert await town.count() == 1


async def test_one_signature_that_fails_does_not_hold_up_those_before_it(
    town: staking_belt.Town, tmp_path: Path
) -> None:
    class Tired(Slow):
        async def sign_digest(self, digest: bytes) -> bytes:
            self.asked += 1
            if self.asked == 2:
                raise errors.Transient("the signer is away")
            return await self._key.sign_digest(digest)

    async with staking_belt.desk(town, tmp_path / "book.db", signer=Tired()) as desk:
        first, second = await desk.propose("a"), await desk.propose("b")
        await desk.step(desk.decide)
        with pytest.raises(errors.Transient, match="away"):
            await desk.submit.step()
        assert await desk.state(first) == "pending" and await desk.state(second) == "reserved"
        await desk.until(second, "final_ok")


class Picky(Slow):
    """A signer whose own policy refuses some transactions, whatever else it signs."""

    def __init__(self) -> None:
        super().__init__()
        self.refused: set[bytes] = set()

    async def sign_digest(self, digest: bytes) -> bytes:
        self.asked += 1
        if digest in self.refused:
            raise errors.Transient("the signer's policy refuses this fee")
        return await self._key.sign_digest(digest)


async def test_a_raise_that_the_signer_refuses_holds_up_no_other_intent(
    town: staking_belt.Town, tmp_path: Path
) -> None:
    signer = Picky()
    async with staking_belt.desk(town, tmp_path / "book.db", signer=signer) as desk:
        await town.client.call("evm_setAutomine", False)
        first = await desk.propose("a")
        await desk.until(first, "pending", mine=False)
        await town.client.call("anvil_setNextBlockBaseFeePerGas", hex(20 * GWEI))
        await desk.clock.advance(desk.delegator.timing.bump_after_s + 1)
        await desk.step(desk.confirm)
        async with desk.book.read() as c:
            original, bump = await attempts.of_intent(c, first)
        assert (original.kind, bump.kind) == ("original", "bump")
        signer.refused = {bump.unsigned.digest()}
        second = await desk.propose("b")
        await desk.step(desk.decide)
        with pytest.raises(errors.Transient, match="refuses this fee"):
            await desk.submit.step()
        assert await desk.state(second) == "pending" and len(await _signed(desk, second)) == 1
        assert "refuses this fee" in (await desk.look(first)).why
        # It is asked last from now on, should it take its time.
        third = await desk.propose("c")
        await desk.step(desk.decide)
        asked = list[bytes]()
        sign = signer.sign_digest

        async def seen(digest: bytes) -> bytes:
            asked.append(digest)
            return await sign(digest)

        signer.sign_digest = seen  # type: ignore[method-assign]
        with pytest.raises(errors.Transient, match="refuses this fee"):
            await desk.submit.step()
        assert len(await _signed(desk, third)) == 1 and asked[-1] == bump.unsigned.digest() and len(asked) == 2


async def test_no_original_goes_past_a_nonce_that_stays_without_a_signature(
    town: staking_belt.Town, tmp_path: Path
) -> None:
    """The first is cancelled before anything was signed for it, and its cancel is refused: what is sent behind that hole would fire whenever
    the hole is filled."""
    signer = Picky()
    async with staking_belt.desk(town, tmp_path / "book.db", signer=signer) as desk:
        first = await desk.propose("a")
        await desk.step(desk.decide)
        await desk.cancel(first)
        await desk.step(desk.confirm)
        async with desk.book.read() as c:
            cancel = (await attempts.of_intent(c, first))[-1]
        assert cancel.kind == "cancel"
        signer.refused = {cancel.unsigned.digest()}
        second = await desk.propose("b")
        await desk.step(desk.decide)
        for _ in range(3):
            with pytest.raises(errors.Transient, match="refuses this fee"):
                await desk.submit.step()
        stored = await desk.look(second)
        assert stored.state == "reserved" and "nonce 0 before it is not signed yet" in stored.why
        signer.refused = set()
        await desk.until(second, "final_ok")
        assert await desk.state(first) == "cancelled"


async def test_signatures_that_hang_take_turns_and_hold_up_nothing_that_is_signed_at_once(
    town: staking_belt.Town, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four of five cancels wait for a person's click at the signer, longer than a step lasts."""
    async with staking_belt.desk(town, tmp_path / "book.db") as desk:
        await town.client.call("evm_setAutomine", False)
        ids = [await desk.propose(f"k{number}") for number in range(5)]
        for id in ids:
            await desk.until(id, "pending", mine=False)
            await desk.cancel(id)
        await desk.step(desk.confirm)
        async with desk.book.read() as c:
            hanging = {(await attempts.of_intent(c, id))[-1].unsigned.digest() for id in ids[:4]}
        sign, send, took = transactions.sign, desk.delegator.node.send, list[str]()

        async def slow(signer: base.AnySigner, unsigned: transaction.Unsigned, *, timeout_s: float) -> object:
            if unsigned.digest() not in hanging:
                return await sign(signer, unsigned, timeout_s=timeout_s)
            took.append("hangs")
            await desk.clock.advance(31)
            raise errors.Transient("did not answer in time")

        async def sent(what: Sequence[tuple[bytes, bytes]]) -> object:
            took.append("sent")
            return await send(what)

        monkeypatch.setattr(transactions, "sign", slow)
        monkeypatch.setattr(desk.delegator.node, "send", sent)
        for _ in range(4):
            with pytest.raises(errors.Transient, match="in time"):
                await desk.submit.step()
        assert len(await _signed(desk, ids[4])) == 2, "the fifth had its turn"
        took.clear()
        await desk.propose("new")
        await desk.step(desk.decide)
        with pytest.raises(errors.Transient, match="in time"):
            await desk.submit.step()
        assert took[0] == "sent" and "hangs" in took


async def test_signatures_that_hang_are_asked_for_in_turns(
    town: staking_belt.Town, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step has time for two of four: those that were asked for longest ago come first, whatever their nonces are."""
    async with staking_belt.desk(town, tmp_path / "book.db") as desk:
        await town.client.call("evm_setAutomine", False)
        ids = [await desk.propose(f"k{number}") for number in range(4)]
        for id in ids:
            await desk.until(id, "pending", mine=False)
        for id in ids:
            await desk.cancel(id)
        await desk.step(desk.confirm)
        asked = list[int]()

        async def slow(signer: base.AnySigner, unsigned: transaction.Unsigned, *, timeout_s: float) -> object:
            asked.append(unsigned.nonce)
            await desk.clock.advance(submit.SIGN_ALL_S / 2 + 1)
            raise errors.Transient("did not answer in time")

        monkeypatch.setattr(transactions, "sign", slow)
        for _ in range(4):
            with pytest.raises(errors.Transient, match="in time"):
                await desk.submit.step()
        assert asked == [0, 1, 2, 3, 0, 1, 2, 3]


async def test_what_is_signed_at_another_try_leaves_in_the_same_step(town: staking_belt.Town, tmp_path: Path) -> None:
    signer = Picky()
    async with staking_belt.desk(town, tmp_path / "book.db", signer=signer) as desk:
        await town.client.call("evm_setAutomine", False)
        id = await desk.propose("a")
        await desk.until(id, "pending", mine=False)
        await desk.cancel(id)
        await desk.step(desk.confirm)
        async with desk.book.read() as c:
            signer.refused = {(await attempts.of_intent(c, id))[-1].unsigned.digest()}
        with pytest.raises(errors.Transient, match="refuses this fee"):
            await desk.submit.step()
        assert len(await _hints(desk, id)) == 1
        signer.refused = set()
        await desk.submit.step()
        assert await _hints(desk, id) == ["accepted", "accepted"]


async def test_what_a_signature_was_made_for_and_then_lost_is_not_kept(town: staking_belt.Town, tmp_path: Path) -> None:
    """The lease ends while the signer works: its signature leaves nobody's hands."""

    class Losing(Slow):
        desk: staking_belt.Desk | None = None

        async def sign_digest(self, digest: bytes) -> bytes:
            assert self.desk is not None
            self.desk.lease.held = None
            return await self._key.sign_digest(digest)

    signer = Losing()
    async with staking_belt.desk(town, tmp_path / "book.db", signer=signer) as desk:
        signer.desk = desk
        id = await desk.propose("a")
        await desk.step(desk.decide)
        await desk.step(desk.submit)
        assert await desk.state(id) == "reserved" and await _signed(desk, id) == []
        assert await town.count("pending") == 0


async def test_nothing_is_signed_before_the_nonces_were_audited(town: staking_belt.Town, tmp_path: Path) -> None:
    async with staking_belt.desk(town, tmp_path / "book.db") as desk:
        id = await desk.propose("a")
        await desk.step(desk.decide)
        await town.foreign(0)
        await town.mine()
        await desk.step(desk.submit)
        assert await desk.state(id) == "reserved" and await desk.latches() == ["submit.nonces"]
        assert await _signed(desk, id) == []
        await desk.until(id, "superseded")


async def test_what_was_never_signed_is_not_signed_after_its_time(town: staking_belt.Town, tmp_path: Path) -> None:
    async with staking_belt.desk(town, tmp_path / "book.db") as desk:
        id = await desk.propose("a")
        await desk.step(desk.decide)
        assert await desk.state(id) == "reserved"
        stored = await desk.look(id)
        await desk.clock.advance(stored.expires_at_s - desk.clock.now() + 1)
        await desk.step(desk.submit)
        assert await _signed(desk, id) == [] and "it expired" in (await desk.look(id)).why
        await desk.cancel(id)
        await desk.until(id, "cancelled")
        await desk.sound()


async def test_what_another_policy_allowed_is_not_signed_until_that_policy_is_back(
    town: staking_belt.Town, tmp_path: Path
) -> None:
    where, tighter = tmp_path / "book.db", staking_belt.limits(max_in_flight=3)
    async with staking_belt.desk(town, where) as desk:
        id = await desk.propose("a")
        await desk.step(desk.decide)
    async with staking_belt.desk(town, where, section=tighter) as desk:
        await desk.run(2)
        assert await desk.state(id) == "reserved" and await _signed(desk, id) == []
        assert "the policy changed before it was signed" in (await desk.look(id)).why
    async with staking_belt.desk(town, where) as desk:
        await desk.until(id, "final_ok")
        await desk.sound()


async def test_what_was_signed_and_never_sent_does_not_leave_once_a_person_wants_it_cancelled(
    town: staking_belt.Town, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await town.client.call("evm_setAutomine", False)

    async def nothing() -> bool:
        return False

    async with staking_belt.desk(town, tmp_path / "book.db") as desk:
        id = await desk.propose("a")
        with monkeypatch.context() as patch:
            patch.setattr(desk.submit, "_send_all", nothing)
            await desk.step(desk.decide)
            await desk.step(desk.submit)
        assert await desk.state(id) == "signed"
        await desk.cancel(id)
        await desk.step(desk.submit)
        assert (await town.client.call("txpool_status"))["pending"] == "0x0"
        await desk.until(id, "cancelled")
        signed, hints = await _signed(desk, id), await _hints(desk, id)
        assert [item.number for item in signed] == [0, 1] and len(hints) == 1  # only the cancel left
        assert await town.effects() == []
        await desk.sound()


async def test_a_reserved_intent_says_why_it_is_not_signed(town: staking_belt.Town, tmp_path: Path) -> None:
    """A pause, a latch, a lease, a signer that refuses with a secret in its words: each is told, scrubbed, and once."""
    secret = "0x" + "5e" * 32

    class Refusing(Slow):
        async def sign_digest(self, digest: bytes) -> bytes:
            if not self.late.is_set():
                raise errors.Transient(f"policy of https://user:{'hunter2'}@vault/ refuses\n{secret}")
            return await self._key.sign_digest(digest)

    signer = Refusing()
    async with staking_belt.desk(town, tmp_path / "book.db", signer=signer) as desk:
        id, behind = await desk.propose("a"), await desk.propose("b")
        await desk.step(desk.decide)

        async def told() -> str:
            await desk.clock.advance(1)
            await desk.step(desk.submit)
            assert await desk.state(id) == "reserved"
            return (await desk.look(id)).why

        async with desk.book.write() as c:
            await commands.pause(c, by="olga", reason="lunch", at_s=desk.clock.now())
        assert await told() == "not signed yet: paused: lunch"
        async with desk.book.write() as c:
            await commands.resume(c, by="olga", reason="back", at_s=desk.clock.now())
            await latches.set(c, "submit.effect", reason="x", at_s=1)
        assert await told() == "not signed yet: latched: submit.effect"
        await desk.clear("submit.effect")
        desk.lease.held = None
        assert await told() == "not signed yet: the account's lease is not held: another agent holds it"
        desk.lease.held = 1
        why = await told()
        assert why.startswith("not signed yet: the signer: policy of") and "refuses" in why
        assert secret not in why and "hunter2" not in why and why.isprintable()
        assert "nonce 0 before it is not signed yet" in (await desk.look(behind)).why
        signer.late.set()
        await desk.until(behind, "final_ok")


# --- nonces that nothing is signed for ---


async def test_no_original_goes_past_one_that_expired_unsigned(town: staking_belt.Town, tmp_path: Path) -> None:
    """It would be mined whenever that one is cancelled, long after its own time."""
    signer = Slow()
    async with staking_belt.desk(town, tmp_path / "book.db", signer=signer) as desk:
        first, second = await desk.propose("a", ttl_s=100), await desk.propose("b", ttl_s=10_000)
        await desk.step(desk.decide)
        await desk.step(desk.decide)
        await desk.clock.advance(200)
        signer.late.set()
        for _ in range(3):
            await desk.submit.step()
        assert "expired before it was signed" in (await desk.look(first)).why
        assert await _signed(desk, second) == []
        assert "nonce 0 before it is not signed yet" in (await desk.look(second)).why
        await desk.cancel(first)
        await desk.until(second, "final_ok")
        assert await desk.state(first) == "cancelled"


async def test_no_original_goes_past_one_whose_cancel_is_not_made_yet(town: staking_belt.Town, tmp_path: Path) -> None:
    async with staking_belt.desk(town, tmp_path / "book.db") as desk:
        first = await desk.propose("a")
        await desk.step(desk.decide)
        await desk.cancel(first)
        second = await desk.propose("b")
        await desk.step(desk.decide)
        await desk.step(desk.submit)
        assert await _signed(desk, second) == []
        await desk.until(second, "final_ok")
        assert await desk.state(first) == "cancelled"


async def test_no_original_goes_past_one_whose_signature_the_book_refuses(
    town: staking_belt.Town, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They were signed together, and one of them was not kept."""
    async with staking_belt.desk(town, tmp_path / "book.db") as desk:
        first, second = await desk.propose("a"), await desk.propose("b")
        await desk.step(desk.decide)
        await desk.step(desk.decide)
        save = attempts.save_signed

        async def refusing(c: object, intent: bytes, number: int, **rest: object) -> None:
            if intent == first:
                raise errors.StoreError("a stored row is not what it says")
            await save(c, intent, number, **rest)  # type: ignore[arg-type]

        with monkeypatch.context() as patch:
            patch.setattr(attempts, "save_signed", refusing)
            for _ in range(3):
                await desk.step(desk.submit)
            assert await _signed(desk, second) == []
        await desk.clock.advance(refusals.AGAIN_S)
        await desk.until(first, "final_ok")
        await desk.until(second, "final_ok")


async def test_a_nonce_that_waits_for_a_person_unsigned_holds_the_others_until_its_cancel(
    town: staking_belt.Town, tmp_path: Path
) -> None:
    """A node said that it is used, and takes it back: nothing new is signed for it but a cancel."""
    async with staking_belt.desk(town, tmp_path / "book.db") as desk:
        first, second = await desk.propose("a"), await desk.propose("b")
        await desk.step(desk.decide)
        async with desk.book.write() as c:
            await intents.move(c, first, expect="reserved", to="needs_operator", why="no proof", at_s=1)
        await desk.run(3)
        assert await _signed(desk, first) == await _signed(desk, second) == []
        await desk.cancel(first)
        await desk.until(second, "final_ok")
        assert await desk.state(first) == "cancelled" and await town.effects() == [ETHER]
        await desk.sound()


async def test_a_count_that_is_taken_back_lets_no_original_past_an_unsigned_nonce(
    town: staking_belt.Town, tmp_path: Path
) -> None:
    """For a moment a node said that the nonce is used, so that nothing would wait for it."""
    signer = Slow()
    async with (
        staking_belt.desk(town, tmp_path / "book.db", signer=signer) as desk,
        staking_belt.answering(town.url, "eth_getTransactionCount", change=lambda count: "0x1") as url,
    ):
        first, second = await desk.propose("a", ttl_s=100), await desk.propose("b", ttl_s=10_000)
        await desk.step(desk.decide)
        await desk.clock.advance(200)
        signer.late.set()
        desk.endpoint.url = url
        await desk.submit.step()
        assert "submit.nonces" in await desk.latches()
        desk.endpoint.url = town.url
        await desk.clear("submit.nonces")
        await town.finalize()
        for _ in range(3):
            await desk.step(desk.index)
            await desk.submit.step()
        assert await desk.latches() == []
        assert await _signed(desk, second) == [] and "nonce 0 before it" in (await desk.look(second)).why
        await desk.cancel(first)
        await desk.until(second, "final_ok")
        assert await desk.state(first) == "cancelled"


# --- signers that answer nonsense ---


class Broken(Slow):
    """Answers some digests with what is no signature, or raises it."""

    def __init__(self, what: object) -> None:
        super().__init__()
        self.what = what
        self.broken: set[bytes] = set()

    async def sign_digest(self, digest: bytes) -> bytes:
        if digest not in self.broken:
            return await self._key.sign_digest(digest)
        if isinstance(self.what, Exception):
            raise self.what
        return self.what  # type: ignore[return-value]


@pytest.mark.parametrize(
    "what",
    [None, "text", b"", b"\xff" * 65, b"\x01" * 66, 7, ValueError(SECRET.hex()), KeyError("y"), OSError("pipe"), errors.BadConfig("no")],
    ids=repr,
)  # fmt: skip
async def test_a_signer_that_breaks_at_one_transaction_signs_the_others(
    town: staking_belt.Town, tmp_path: Path, what: object
) -> None:
    signer = Broken(what)
    async with staking_belt.desk(town, tmp_path / "book.db", signer=signer) as desk:
        await town.client.call("evm_setAutomine", False)
        first = await desk.propose("a")
        await desk.until(first, "pending", mine=False)
        await desk.cancel(first)
        await desk.step(desk.confirm)
        async with desk.book.read() as c:
            signer.broken = {(await attempts.of_intent(c, first))[-1].unsigned.digest()}
        second = await desk.propose("b")
        await desk.step(desk.decide)
        for _ in range(4):
            with pytest.raises(errors.Transient):  # which the supervisor counts towards no latch
                await desk.submit.step()
        assert await desk.state(second) == "pending"
        why = (await desk.look(first)).why
        assert "not signed yet" in why and SECRET.hex() not in why


# --- time ---


async def test_a_step_of_slow_signatures_ends_long_before_it_looks_stuck(
    town: staking_belt.Town, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some failed before, some are new: both have one time together."""
    async with staking_belt.desk(town, tmp_path / "book.db") as desk:
        await town.client.call("evm_setAutomine", False)
        ids = [await desk.propose(f"k{number}") for number in range(8)]
        for id in ids:
            await desk.until(id, "pending", mine=False)

        async def slow(*_: object, **__: object) -> None:
            await desk.clock.advance(submit.SIGN_S - 1)
            raise errors.Transient("the signer did not answer")

        monkeypatch.setattr(transactions, "sign", slow)
        for some in (ids[:4], ids[4:]):
            for id in some:
                await desk.cancel(id)
            await desk.step(desk.confirm)
            began = desk.clock.monotonic()
            with pytest.raises(errors.Transient):
                await desk.submit.step()
            assert desk.clock.monotonic() - began <= submit.SIGN_ALL_S + submit.SIGN_S < runtime.STEP_LIMIT_S


async def test_the_reason_of_an_end_is_not_written_over(
    town: staking_belt.Town, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The original becomes final while the signer thinks about its raise."""
    async with staking_belt.desk(town, tmp_path / "book.db") as desk:
        await town.client.call("evm_setAutomine", False)
        id = await desk.propose("a")
        await desk.until(id, "pending", mine=False)
        await town.client.call("anvil_setNextBlockBaseFeePerGas", hex(20 * GWEI))
        await desk.clock.advance(desk.delegator.timing.bump_after_s + 1)
        await desk.step(desk.confirm)

        async def hanging(*_: object, **__: object) -> None:
            await town.client.call("anvil_setNextBlockBaseFeePerGas", hex(GWEI))
            await town.mine(9)
            for _ in range(4):
                await desk.clock.advance(1)
                await desk.step(desk.index)
                await desk.step(desk.confirm)
            raise errors.Transient("the signer did not answer")

        monkeypatch.setattr(transactions, "sign", hanging)
        with pytest.raises(errors.Transient):
            await desk.submit.step()
        stored = await desk.look(id)
        assert stored.state == "final_ok" and "proves the effect" in stored.why


@pytest.mark.parametrize("stop", ["pause", "latch", "cancel"])
async def test_what_was_stopped_while_the_signer_signed_does_not_leave(
    town: staking_belt.Town, tmp_path: Path, stop: str
) -> None:
    """A person pauses or cancels, or a latch is set, between the signature and the commit that would keep it."""

    class Thinking(Slow):
        async def sign_digest(self, digest: bytes) -> bytes:
            async with desk.book.write() as c:
                if stop == "pause":
                    await commands.pause(c, by="olga", reason="lunch", at_s=desk.clock.now())
                elif stop == "cancel":
                    await commands.cancel(c, id, by="olga", reason="no longer", at_s=desk.clock.now())
                else:
                    await latches.set(c, "submit.effect", reason="x", at_s=1)
            return await self._key.sign_digest(digest)

    async with staking_belt.desk(town, tmp_path / "book.db", signer=Thinking()) as desk:
        id = await desk.propose("a")
        await desk.step(desk.decide)
        await desk.step(desk.submit)
        assert await desk.state(id) == "reserved" and await _signed(desk, id) == []
        assert await town.count("pending") == 0
