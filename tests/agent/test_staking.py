"""The staking belt on a real node: an intent becomes an effect, once, and its end is what the chain shows."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from devnet import staking
from domain import errors, hashing, intent, transaction
from signers import keys
from store import attempts, commands, inclusions, latches, reservations, settling
from tests.agent import staking_belt
from tests.agent.staking_belt import ETHER, GWEI


@pytest.fixture
async def town() -> AsyncIterator[staking_belt.Town]:
    async with staking_belt.town() as it:
        yield it


@pytest.fixture
async def desk(town: staking_belt.Town, tmp_path: Path) -> AsyncIterator[staking_belt.Desk]:
    async with staking_belt.desk(town, tmp_path / "book.db") as it:
        yield it
        await it.sound()


# --- the happy way ---


async def test_a_delegation_goes_from_intent_to_a_final_effect(
    town: staking_belt.Town, desk: staking_belt.Desk
) -> None:
    id = await desk.propose("a")
    await desk.until(id, "final_ok")
    assert await town.effects() == [ETHER]
    assert await desk.way(id) == ["planned", "reserved", "signed", "pending", "included", "final_ok"]
    assert await desk.verdicts(id) == [("allow", "all")]


async def test_every_action_of_the_manifest_ends_in_its_effect(
    town: staking_belt.Town, desk: staking_belt.Desk
) -> None:
    await desk.until(await desk.propose("delegate", amount=str(10 * ETHER), validator=town.validator), "final_ok")
    move = {"validator": town.validator, "target": town.other, "amount": str(4 * ETHER)}
    await desk.until(await desk.propose("move", "redelegate", **move), "final_ok")
    await town.contract.do(*[_reward(town, validator) for validator in (town.validator, town.other)])
    await desk.until(await desk.propose("claim", "claim", validator=town.validator), "final_ok")
    leave = {"validator": town.validator, "amount": str(2 * ETHER)}
    await desk.until(await desk.propose("leave", "undelegate", **leave), "final_ok")
    await town.mine(12)  # twelve seconds each: the unbonding time is over
    await desk.until(await desk.propose("out", "withdraw", ticket="1"), "final_ok")
    assert await town.count() == 5
    assert await desk.latches() == []


def _reward(town: staking_belt.Town, validator: str) -> staking.Operation:
    return staking.distribute_reward(town.contract.owner, validator, ETHER)


async def test_an_intent_that_is_proposed_twice_has_one_effect(
    town: staking_belt.Town, desk: staking_belt.Desk
) -> None:
    assert await desk.propose("a") == await desk.propose("a", by="tom")
    await desk.until(await desk.propose("a"), "final_ok")
    await desk.propose("a")
    await desk.run(3)
    assert await town.effects() == [ETHER] and await town.count() == 1


async def test_eight_intents_of_one_account_are_mined_in_order(
    town: staking_belt.Town, desk: staking_belt.Desk
) -> None:
    ids = [await desk.propose(f"n{n}", validator=town.validator, amount=str(n + 1)) for n in range(8)]
    await desk.run(2)
    assert {await desk.state(id) for id in ids} == {"pending"}
    await town.mine()
    assert await town.effects() == [1, 2, 3, 4, 5, 6, 7, 8]
    for id in ids:
        await desk.until(id, "final_ok")


async def test_what_depends_on_an_earlier_intent_waits_for_it(town: staking_belt.Town, desk: staking_belt.Desk) -> None:
    first = await desk.propose("in", validator=town.validator, amount=str(ETHER))
    await desk.run(1)
    second = await desk.propose("out", "undelegate", validator=town.validator, amount=str(ETHER))
    await desk.run(1)
    stored = await desk.look(second)
    assert stored.state in ("new", "planned") and "under way" in stored.why
    await desk.until(first, "final_ok")
    await desk.until(second, "final_ok")


# --- policy and people ---


async def test_what_no_rule_allows_is_rejected_with_the_rule_and_every_finding(
    town: staking_belt.Town, tmp_path: Path
) -> None:
    nothing = staking_belt.limits(allow=())
    async with staking_belt.desk(town, tmp_path / "book.db", section=nothing) as desk:
        id = await desk.propose("a")
        await desk.run(1)
        stored = await desk.look(id)
        assert stored.state == "rejected" and "[[policy.allow]]" in stored.why
        assert await desk.verdicts(id) == [("deny", "action")]
        assert await town.count() == 0


async def test_of_fifty_intents_against_a_cap_for_ten_exactly_ten_are_reserved(
    town: staking_belt.Town, tmp_path: Path
) -> None:
    cap = staking_belt.limits(max_amount_per_day=str(10 * ETHER), max_in_flight=50)
    async with staking_belt.desk(town, tmp_path / "book.db", section=cap) as desk:
        ids = [await desk.propose(f"n{n}") for n in range(50)]
        await desk.step(desk.decide)
        states = [await desk.state(id) for id in ids]
        assert states.count("reserved") == 10 and states.count("rejected") == 40
        await desk.sound()


async def test_what_is_above_the_threshold_waits_for_another_person(town: staking_belt.Town, tmp_path: Path) -> None:
    asking = staking_belt.limits(approval_above=str(ETHER // 2))
    async with staking_belt.desk(town, tmp_path / "book.db", section=asking) as desk:
        id = await desk.propose("a", by="tess")
        await desk.run(3)
        assert await desk.state(id) == "awaiting_approval" and await town.count() == 0
        assert isinstance(await desk.approve(id, by="tess"), commands.Refused)
        assert isinstance(await desk.approve(id, by="adam"), commands.Done)
        await desk.until(id, "final_ok")
        assert await desk.verdicts(id) == [("ask", "approval"), ("allow", "all")]
        assert await town.effects() == [ETHER]


@pytest.mark.parametrize(
    ("changed", "ends"),
    [({}, "final_ok"), ({"approval_above": str(2 * ETHER)}, "final_ok"), ({"max_amount_per_day": "1"}, "rejected")],
    ids=["none asks any more", "the threshold is higher", "it is not allowed any more"],
)
async def test_what_waits_for_approval_is_judged_again_when_the_policy_is_another_one(
    town: staking_belt.Town, tmp_path: Path, changed: dict[str, str], ends: intent.State
) -> None:
    asking = staking_belt.limits(approval_above=str(ETHER // 2))
    async with staking_belt.desk(town, tmp_path / "book.db", section=asking) as desk:
        id = await desk.propose("a")
        await desk.run(2)
        assert await desk.state(id) == "awaiting_approval"
    async with staking_belt.desk(town, tmp_path / "book.db", section=staking_belt.limits(**changed)) as desk:
        await desk.clock.advance(30)
        await desk.until(id, ends)
        await desk.sound()


async def test_another_policy_that_still_asks_is_one_more_decision_and_no_more(
    town: staking_belt.Town, tmp_path: Path
) -> None:
    async with staking_belt.desk(town, tmp_path / "book.db", section=staking_belt.limits(approval_above="0")) as desk:
        id = await desk.propose("a")
        await desk.run(2)
    async with staking_belt.desk(town, tmp_path / "book.db", section=staking_belt.limits(approval_above="5")) as desk:
        await desk.clock.advance(30)
        for _ in range(4):
            await desk.clock.advance(20)
            await desk.run(1)
        assert await desk.verdicts(id) == [("ask", "approval"), ("ask", "approval")]
        assert isinstance(await desk.approve(id), commands.Done)
        await desk.until(id, "final_ok")


async def test_what_nobody_approves_in_time_expires(town: staking_belt.Town, tmp_path: Path) -> None:
    asking = staking_belt.limits(approval_above="0")
    async with staking_belt.desk(town, tmp_path / "book.db", section=asking) as desk:
        id = await desk.propose("a")
        await desk.run(1)
        await desk.clock.advance(desk.delegator.timing.approval_ttl_s + 1)
        await desk.run(1)
        assert await desk.state(id) == "expired"


async def test_an_intent_expires_when_nothing_was_reserved_in_time(
    town: staking_belt.Town, desk: staking_belt.Desk
) -> None:
    desk.lease.held = None
    id = await desk.propose("a", ttl_s=10)
    await desk.run(1)
    assert "lease" in (await desk.look(id)).why
    await desk.clock.advance(20)
    desk.lease.held = 1
    await desk.run(2)
    assert await desk.state(id) == "expired" and await town.count() == 0


async def test_what_was_approved_says_that_it_is_and_what_it_waits_for(town: staking_belt.Town, tmp_path: Path) -> None:
    asking = staking_belt.limits(approval_above="0", approvals=1)
    async with staking_belt.desk(town, tmp_path / "book.db", section=asking) as desk:
        id = await desk.propose("a")
        await desk.run(2)
        asked = (await desk.look(id)).why
        assert asked == "1 coin is above the 0 coins of approval_above: 0 of 1 approvals"
        until = int(desk.clock.now()) + 7200
        async with desk.book.write() as c:
            await commands.pause(c, by="olga", reason="an upgrade", at_s=desk.clock.now(), until_s=until)
        await desk.clock.advance(20)
        await desk.run(1)
        assert (await desk.look(id)).why == asked
        assert isinstance(await desk.approve(id), commands.Done)
        await desk.clock.advance(20)
        await desk.run(1)
        why = (await desk.look(id)).why
        assert why.startswith("approved, and waits: paused until 20") and why.endswith(" UTC: an upgrade")


async def test_a_pause_stops_reservations_and_signatures_and_a_resume_lets_them_go_on(
    town: staking_belt.Town, desk: staking_belt.Desk
) -> None:
    reserved = await desk.propose("a")
    await desk.step(desk.decide)
    async with desk.book.write() as c:
        await commands.pause(c, by="olga", reason="an upgrade", at_s=desk.clock.now())
    later = await desk.propose("b")
    await desk.run(3)
    assert await desk.state(reserved) == "reserved" and await desk.state(later) == "new"
    assert (await desk.look(later)).why == "paused: an upgrade" and await town.count("pending") == 0
    async with desk.book.write() as c:
        await commands.resume(c, by="olga", reason="done", at_s=desk.clock.now())
    await desk.until(reserved, "final_ok")
    await desk.until(later, "final_ok")


async def test_a_latch_of_finality_stops_new_reservations_and_follows_what_was_sent(
    town: staking_belt.Town, desk: staking_belt.Desk
) -> None:
    sent = await desk.propose("a")
    await desk.run(1)
    assert await desk.state(sent) == "pending"
    async with desk.book.write() as c:
        await latches.set(c, "finality", reason="a test", at_s=1)
    later = await desk.propose("b")
    await town.mine()
    await desk.run(2)
    assert await desk.state(sent) == "included"
    stored = await desk.look(later)
    assert stored.state in ("new", "planned") and "finality" in stored.why


async def test_a_call_that_reverts_when_simulated_is_refused(town: staking_belt.Town, desk: staking_belt.Desk) -> None:
    id = await desk.propose("a", "withdraw", ticket="7")
    await desk.run(1)
    assert await desk.state(id) == "rejected" and await desk.verdicts(id) == [("deny", "simulation")]
    assert await town.count() == 0


async def test_requirements_of_the_manifest_are_checked_against_the_chain(
    town: staking_belt.Town, desk: staking_belt.Desk
) -> None:
    id = await desk.propose("a", "undelegate", validator=town.validator, amount="5")
    await desk.run(1)
    stored = await desk.look(id)
    assert stored.state == "rejected" and "view.stake is 0" in stored.why


# --- the chain changes its mind ---


@pytest.mark.parametrize("how", ["anvil_reorg", "anvil_rollback", "evm_revert"])
async def test_a_reorg_drops_the_transaction_and_it_is_sent_again_and_final_in_another_block(
    town: staking_belt.Town, desk: staking_belt.Desk, how: str
) -> None:
    before_it = await town.client.call("evm_snapshot")
    id = await desk.propose("a")
    await desk.until(id, "included")
    before = await _standing(desk, id)
    arguments = {"anvil_reorg": (2, []), "anvil_rollback": (1,), "evm_revert": (before_it,)}[how]
    await town.client.call(how, *arguments)
    await town.client.call("anvil_dropAllTransactions")
    await town.client.call("evm_increaseTime", 7)  # or the same block would come again
    await town.mine(3)  # the branch without it is longer
    assert await town.effects() == []
    await desk.run(2)
    assert "pending" in (await desk.way(id))[4:], await desk.way(id)
    await desk.until(id, "final_ok")
    after = await _standing(desk, id)
    assert after.tx_hash == before.tx_hash and after.block_hash != before.block_hash
    assert await town.effects() == [ETHER] and await town.count() == 1


async def _standing(desk: staking_belt.Desk, id: bytes) -> inclusions.Inclusion:
    async with desk.book.read() as c:
        found = await inclusions.standing(c, id)
    assert found is not None
    return found


async def test_a_revert_that_a_reorg_turns_into_a_success_was_never_final(
    town: staking_belt.Town, desk: staking_belt.Desk
) -> None:
    """The rich branch has the stake that the call needs, the poor one has not."""
    await desk.until(await desk.propose("in", validator=town.validator, amount=str(ETHER)), "final_ok")
    out = await desk.propose("out", "undelegate", validator=town.validator, amount=str(ETHER))
    await desk.run(1)
    assert await desk.state(out) == "pending"
    raw = await _raw(desk, out)
    slash = town.contract.request(staking.slash(town.contract.owner, town.validator, fraction_bps=10_000))
    await town.client.call("anvil_dropAllTransactions")
    await town.client.call("eth_sendTransaction", slash)
    await town.mine()
    await town.client.call("eth_sendRawTransaction", raw)
    await town.mine()
    await desk.run(2)
    assert await desk.state(out) == "included" and (await _standing(desk, out)).status == 0
    await town.client.call("anvil_reorg", 2, [[raw, 0]])
    await town.mine(1)
    await desk.until(out, "final_ok")
    assert "final_reverted" not in await desk.way(out)


async def test_a_revert_is_final_when_its_block_is(town: staking_belt.Town, desk: staking_belt.Desk) -> None:
    await desk.until(await desk.propose("in", validator=town.validator, amount=str(ETHER)), "final_ok")
    out = await desk.propose("out", "undelegate", validator=town.validator, amount=str(ETHER))
    await desk.run(1)
    raw = await _raw(desk, out)
    slash = town.contract.request(staking.slash(town.contract.owner, town.validator, fraction_bps=10_000))
    await town.client.call("anvil_dropAllTransactions")
    await town.client.call("eth_sendTransaction", slash)
    await town.mine()
    await town.client.call("eth_sendRawTransaction", raw)
    await town.mine()
    await desk.run(2)
    assert await desk.state(out) == "included"
    await desk.until(out, "final_reverted")
    assert await desk.latches() == []


async def _raw(desk: staking_belt.Desk, id: bytes) -> str:
    async with desk.book.read() as c:
        return hashing.hex0x((await attempts.signed_of(c, id))[-1].raw)


# --- fees and cancels ---


async def _base_fee(town: staking_belt.Town, wei: int) -> None:
    await town.client.call("anvil_setNextBlockBaseFeePerGas", hex(wei))


async def test_a_stuck_transaction_is_outbid_by_geths_rule_and_mined_once(
    town: staking_belt.Town, desk: staking_belt.Desk
) -> None:
    id = await desk.propose("a")
    await desk.run(1)
    assert await desk.state(id) == "pending"
    await _base_fee(town, 20 * GWEI)
    await town.mine()
    assert await town.count() == 0, "the base fee is above what was offered"
    await desk.clock.advance(desk.delegator.timing.bump_after_s)
    await desk.run(2)
    async with desk.book.read() as c:
        original, *bumps = await attempts.of_intent(c, id)
    assert [bump.kind for bump in bumps] == ["bump"]
    for name in ("tip", "max_fee"):
        old, new = getattr(original.unsigned, name), getattr(bumps[0].unsigned, name)
        assert new > old and new * 100 >= old * 110
    assert bumps[0].unsigned.max_fee >= 20 * GWEI
    await desk.until(id, "final_ok")
    assert await town.effects() == [ETHER] and await town.count() == 1
    assert ("bump", "final_ok") in desk.seen


async def test_above_the_cap_a_bump_waits_and_says_so(town: staking_belt.Town, tmp_path: Path) -> None:
    low = staking_belt.limits(max_fee_per_gas_wei=str(5 * GWEI), max_tip_wei=str(GWEI))
    async with staking_belt.desk(town, tmp_path / "book.db", section=low) as desk:
        id = await desk.propose("a")
        await desk.run(1)
        await _base_fee(town, 50 * GWEI)
        await town.mine()
        await desk.clock.advance(desk.delegator.timing.bump_after_s)
        await desk.run(2)
        stored = await desk.look(id)
        assert stored.state == "pending" and "a bump waits" in stored.why
        async with desk.book.read() as c:
            assert len(await attempts.of_intent(c, id)) == 1
        await _base_fee(town, GWEI)
        await town.mine()
        await desk.until(id, "final_ok")


async def test_a_cancel_that_wins_the_race_ends_the_intent_without_an_effect(
    town: staking_belt.Town, desk: staking_belt.Desk
) -> None:
    id = await desk.propose("a")
    await desk.run(1)
    assert isinstance(await desk.cancel(id), commands.Done)
    await desk.run(2)
    await desk.until(id, "cancelled")
    assert await town.effects() == [] and await town.count() == 1
    async with desk.book.read() as c:
        held = await reservations.of_intent(c, id)
    assert held is not None and held.released_at_s is not None


async def test_a_cancel_that_comes_too_late_leaves_the_effect(town: staking_belt.Town, desk: staking_belt.Desk) -> None:
    id = await desk.propose("a")
    await desk.run(1)
    await town.mine()  # it is mined while the person still decides
    assert isinstance(await desk.cancel(id), commands.Done)
    await desk.until(id, "final_ok")
    assert await town.effects() == [ETHER]


async def test_a_reserved_intent_that_is_cancelled_is_never_signed_and_its_nonce_is_filled(
    town: staking_belt.Town, desk: staking_belt.Desk
) -> None:
    id = await desk.propose("a")
    await desk.step(desk.decide)
    assert await desk.state(id) == "reserved"
    await desk.cancel(id)
    behind = await desk.propose("b")
    await desk.until(id, "cancelled")
    await desk.until(behind, "final_ok")
    async with desk.book.read() as c:
        signed = await attempts.signed_of(c, id)
    assert [item.number for item in signed] == [1]
    assert await town.effects() == [ETHER]


async def test_an_intent_is_cancelled_at_once_while_nothing_is_reserved(
    town: staking_belt.Town, desk: staking_belt.Desk
) -> None:
    id = await desk.propose("a")
    await desk.cancel(id)
    await desk.run(2)
    assert await desk.state(id) == "cancelled" and await town.count() == 0


# --- somebody else has the key ---


async def test_a_foreign_nonce_stops_new_signatures_until_a_person_accepts_it(
    town: staking_belt.Town, desk: staking_belt.Desk
) -> None:
    await desk.until(await desk.propose("a"), "final_ok")
    await town.foreign(1)
    await town.mine()
    later = await desk.propose("b")
    await desk.run(3)
    assert await desk.latches() == ["submit.nonces"]
    assert await desk.state(later) == "new" and "submit.nonces" in (await desk.look(later)).why
    assert isinstance(await desk.clear("submit.nonces"), commands.Done)
    await desk.until(later, "final_ok")
    assert (await desk.nonces()).highest == 2
    assert await desk.latches() == []


async def test_a_foreign_transaction_that_is_only_pending_stops_too_and_what_comes_after_it_waits_in_line(
    town: staking_belt.Town, desk: staking_belt.Desk
) -> None:
    await desk.until(await desk.propose("a"), "final_ok")
    await town.foreign(1)
    later = await desk.propose("b")
    await desk.run(2)
    assert await desk.latches() == ["submit.nonces"]
    await desk.clear("submit.nonces")
    await desk.until(later, "pending", mine=False)
    assert await desk.latches() == [] and (await desk.nonces()).open == (2,)
    await desk.until(later, "final_ok")


async def test_what_is_pending_is_followed_and_bumped_while_a_foreign_nonce_has_halted_the_rest(
    town: staking_belt.Town, desk: staking_belt.Desk
) -> None:
    id = await desk.propose("a")
    await desk.run(1)
    async with desk.book.write() as c:
        await latches.set(c, "submit.nonces", reason="a foreign nonce", at_s=1)
    later = await desk.propose("b")
    await _base_fee(town, 20 * GWEI)
    await town.mine()
    await desk.clock.advance(desk.delegator.timing.bump_after_s)
    await desk.run(3)
    async with desk.book.read() as c:
        assert len(await attempts.signed_of(c, id)) == 2
    await desk.until(id, "final_ok")
    assert await desk.state(later) == "new"


async def test_a_foreign_transaction_on_our_nonce_supersedes_the_intent(
    town: staking_belt.Town, desk: staking_belt.Desk
) -> None:
    id = await desk.propose("a")
    await desk.run(1)
    await town.client.call("anvil_dropAllTransactions")
    other = await town.foreign(0)
    await town.mine()
    stored = await desk.until(id, "superseded")
    assert await town.effects() == [] and "submit.nonces" in await desk.latches()
    assert f"transaction 0, {other}" in stored.why, "an auditor finds whose transaction it was"
    async with desk.book.read() as c:
        day = await reservations.spent(c, account=staking_belt.ADDRESS, since_s=0)
    assert day.amount == ETHER, "whoever has the key may have moved as much"


async def test_the_same_call_by_another_transaction_is_no_reason_to_propose_it_again(
    town: staking_belt.Town, tmp_path: Path
) -> None:
    """A wallet's "speed up", or a bump that was lost with the database: the stake moved, and the day's cap has to know."""
    section = staking_belt.limits(max_amount_per_day=str(ETHER))
    async with staking_belt.desk(town, tmp_path / "same.db", section=section) as desk:
        await town.client.call("evm_setAutomine", False)
        id = await desk.propose("a")
        await desk.until(id, "pending", mine=False)
        async with desk.book.read() as c:
            (own,) = await attempts.of_intent(c, id)
        faster = msgspec.structs.replace(
            own.unsigned, tip=2 * own.unsigned.tip + GWEI, max_fee=2 * own.unsigned.max_fee + GWEI
        )
        signature = await keys.LocalKey(staking_belt.SECRET).sign_digest(faster.digest())
        await town.client.call("eth_sendRawTransaction", hashing.hex0x(transaction.join(faster, signature)))
        stored = await desk.until(id, "needs_operator")
        assert "the very call that was wanted" in stored.why and "submit.nonces" in await desk.latches()
        assert await town.effects() == [ETHER]
        await desk.clear("submit.nonces")
        again = await desk.propose("b")
        stored = await desk.until(again, "rejected")
        assert "amount_per_day" in stored.why and await town.effects() == [ETHER]
        await desk.run(2)
        assert await desk.state(id) == "needs_operator" and await desk.latches() == [], "it is said once"


class Away:
    """A signer that is not there until it is needed."""

    address = staking_belt.ADDRESS
    there = False

    async def sign_digest(self, digest: bytes) -> bytes:
        if not self.there:
            raise errors.Transient("the signer is away")
        return await keys.LocalKey(staking_belt.SECRET).sign_digest(digest)


async def test_a_nonce_that_nothing_was_signed_for_here_is_settled_before_its_latch_is_cleared(
    town: staking_belt.Town, tmp_path: Path
) -> None:
    """The very call was mined by bytes that this book does not have; both reasons say what has to come first."""
    signer = Away()
    async with staking_belt.desk(town, tmp_path / "book.db", signer=signer, exclusive=False) as desk:
        id = await desk.propose("a")
        await desk.run(1)
        async with desk.book.read() as c:
            (own,) = await attempts.of_intent(c, id)
        other = msgspec.structs.replace(own.unsigned, tip=own.unsigned.tip + 1)
        signature = await keys.LocalKey(staking_belt.SECRET).sign_digest(other.digest())
        await town.client.call("eth_sendRawTransaction", hashing.hex0x(transaction.join(other, signature)))
        await town.mine()
        signer.there = True
        stored = await desk.until(id, "needs_operator")
        assert "settle this before submit.nonces is cleared" in stored.why
        await desk.clear("submit.nonces")
        await desk.run(2)
        async with desk.book.read() as c:
            (latch,) = await latches.active(c)
        assert latch.name == "submit.nonces" and "as long as the intent that has it is open" in latch.reason
        async with desk.book.write() as c:
            await settling.settle(c, id, outcome="superseded", by="olga", reason="seen", at_s=desk.clock.now())
        await desk.until(id, "superseded")
        await desk.clear("submit.nonces")
        await desk.until(await desk.propose("b"), "final_ok")
        assert await desk.latches() == [] and await town.effects() == [ETHER, ETHER]
        await desk.sound()


@pytest.mark.parametrize("field", ["to", "value", "data"])
async def test_a_call_that_differs_in_anything_is_another_one(
    town: staking_belt.Town, desk: staking_belt.Desk, field: str
) -> None:
    """What was wanted is not done by it, so nobody has to be asked whether it is."""
    await town.client.call("evm_setAutomine", False)
    id = await desk.propose("a")
    await desk.until(id, "pending", mine=False)
    async with desk.book.read() as c:
        (own,) = await attempts.of_intent(c, id)
    changed: dict[str, Any] = {"to": b"\x77" * 20, "value": own.unsigned.value + 1, "data": own.unsigned.data + b"\0"}
    other = msgspec.structs.replace(
        own.unsigned,
        tip=2 * own.unsigned.tip + GWEI,
        max_fee=2 * own.unsigned.max_fee + GWEI,
        gas=2 * own.unsigned.gas,
        **{field: changed[field]},
    )
    signature = await keys.LocalKey(staking_belt.SECRET).sign_digest(other.digest())
    await town.client.call("eth_sendRawTransaction", hashing.hex0x(transaction.join(other, signature)))
    assert (await desk.until(id, "superseded", "needs_operator")).state == "superseded"
    async with desk.book.read() as c:
        spent = await reservations.spent(c, account=staking_belt.ADDRESS, since_s=0)
    assert spent.amount == ETHER, "whoever else has the key may have moved stake with it"


async def test_the_nonces_of_an_account_that_lived_before_begin_at_what_the_chain_has_mined(
    town: staking_belt.Town, desk: staking_belt.Desk
) -> None:
    for nonce in range(3):
        await town.foreign(nonce)
    await town.mine()
    id = await desk.propose("a")
    await desk.until(id, "final_ok")
    assert (await desk.nonces()).highest == 3 and await desk.latches() == []


async def test_without_the_lease_nothing_is_reserved_or_signed_and_what_is_out_is_followed(
    town: staking_belt.Town, desk: staking_belt.Desk
) -> None:
    sent = await desk.propose("a")
    await desk.run(1)
    reserved = await desk.propose("b")
    await desk.step(desk.decide)
    desk.lease.held = None
    later = await desk.propose("c")
    await desk.run(2)
    await town.mine()
    await desk.run(2)
    assert await desk.state(later) == "new" and "lease" in (await desk.look(later)).why
    await desk.until(sent, "final_ok")
    assert await desk.state(reserved) == "reserved"
    desk.lease.held = 2
    await desk.until(reserved, "final_ok")
    await desk.until(later, "final_ok")


async def test_a_stale_lease_token_cannot_be_written(town: staking_belt.Town, desk: staking_belt.Desk) -> None:
    desk.lease.held = 5
    await desk.until(await desk.propose("a"), "final_ok")
    desk.lease.held = 4
    id = await desk.propose("b")
    await desk.run(3)
    stored = await desk.look(id)
    assert (stored.state, stored.why) == ("planned", "the account's lease is not held: its token is stale")
    assert await town.count("pending") == 1


async def test_a_backend_that_is_behind_gives_out_no_nonce_that_a_person_accepted_as_used(
    town: staking_belt.Town, tmp_path: Path
) -> None:
    async with staking_belt.desk(town, tmp_path / "book.db") as desk:
        first = await desk.propose("first")
        await desk.until(first, "final_ok")
        for nonce in (1, 2):
            await town.foreign(nonce)
        await town.mine()
        await desk.clock.advance(60)
        await desk.run(3)
        assert "submit.nonces" in await desk.latches()
        await desk.clear("submit.nonces")
        async with staking_belt.answering(town.url, "eth_getTransactionCount", change=lambda _: "0x1") as url:
            desk.endpoint.url = url
            second = await desk.propose("second")
            await desk.step(desk.decide)
            stored = await desk.look(second)
            assert stored.state == "new" and "behind" in stored.why, stored.why
        desk.endpoint.url = town.url
        await desk.clock.advance(60)
        await desk.until(second, "final_ok")
        assert await desk.latches() == [] and await town.count() == 4
