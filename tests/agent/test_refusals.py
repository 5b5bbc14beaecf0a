"""What the book refuses of one intent stops that one only; what is wrong with the book itself stops the belt."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from agent.services import refusals
from domain import errors
from store import attempts, book, commands, decisions, inclusions, intents
from tests.agent import staking_belt
from tests.store import postgres
from tests.store.conftest import postgres_server  # noqa: F401


@pytest.fixture
async def town() -> AsyncIterator[staking_belt.Town]:
    async with staking_belt.town() as it:
        yield it


@pytest.fixture(params=["sqlite", "postgresql"])
async def desk(
    request: pytest.FixtureRequest, town: staking_belt.Town, tmp_path: Path
) -> AsyncIterator[staking_belt.Desk]:
    where: Path | str = tmp_path / "book.db"
    if request.param == "postgresql":
        server: postgres.Server = request.getfixturevalue("postgres_server")
        where = server.empty()
    async with staking_belt.desk(town, where) as it:
        yield it


async def damage(desk: staking_belt.Desk, id: bytes) -> None:
    """A hand at the book: the intent moved once more than its history says, so none of its moves is sound."""
    async with desk.book.write() as c:
        await c.change(sa.text("UPDATE progress SET moves = moves + 1 WHERE intent = :id").bindparams(id=id))


async def mend(desk: staking_belt.Desk, id: bytes) -> None:
    async with desk.book.write() as c:
        await c.change(sa.text("UPDATE progress SET moves = moves - 1 WHERE intent = :id").bindparams(id=id))


async def test_an_intent_whose_move_is_refused_says_why_and_the_others_go_on(
    town: staking_belt.Town, desk: staking_belt.Desk
) -> None:
    await town.client.call("evm_setAutomine", False)
    bad, good = await desk.propose("bad"), await desk.propose("good")
    await desk.until(bad, "pending", mine=False)
    await desk.until(good, "pending", mine=False)
    await damage(desk, bad)
    await desk.until(good, "final_ok")
    stuck = await desk.look(bad)
    assert stuck.state == "pending" and "the book refuses what follows" in stuck.why and "transitions" in stuck.why
    assert ("original", "refused") in desk.seen
    async with desk.book.read() as c:
        assert await inclusions.of_intent(c, bad) == []  # nothing of the refused step was kept
    told = desk.seen.count(("original", "refused"))
    await desk.run(3)
    assert desk.seen.count(("original", "refused")) == told  # it is put aside for a while
    await mend(desk, bad)
    await desk.clock.advance(refusals.AGAIN_S)
    await desk.until(bad, "final_ok")
    await desk.sound()


async def test_an_alarm_stands_although_the_move_that_goes_with_it_is_refused(
    town: staking_belt.Town, desk: staking_belt.Desk
) -> None:
    await town.client.call("evm_setAutomine", False)
    id = await desk.propose("a")
    await desk.until(id, "pending", mine=False)
    await town.client.call("anvil_setCode", town.contract.address, "0x00")  # succeeds, and logs nothing
    await desk.until(id, "included")
    await damage(desk, id)
    for _ in range(8):
        await town.mine()
        await desk.run(1)
    stored = await desk.look(id)
    assert stored.state == "included" and "the book refuses" in stored.why
    assert await desk.latches() == ["submit.effect"]


async def test_an_intent_that_cannot_be_read_holds_up_nobody_else(
    town: staking_belt.Town, desk: staking_belt.Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    await town.client.call("evm_setAutomine", False)
    bad, good = await desk.propose("bad"), await desk.propose("good")
    await desk.until(good, "pending", mine=False)
    get = intents.get

    async def damaged(c: book.Connection, id: bytes) -> Any:
        if id == bad:
            raise errors.StoreError("a stored intent is not what its id says")
        return await get(c, id)

    with monkeypatch.context() as patch:
        patch.setattr(intents, "get", damaged)
        for _ in range(12):
            await town.mine()
            for service in (desk.index, desk.confirm):
                await desk.step(service)
    assert await desk.state(good) == "final_ok"
    assert "not what its id says" in (await desk.look(bad)).why


async def test_an_intent_that_cannot_be_reserved_does_not_end_the_belt(
    desk: staking_belt.Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = await desk.propose("bad")
    await damage(desk, bad)
    good = await desk.propose("good")
    await desk.run(3)
    assert await desk.state(good) != "new"
    assert (await desk.look(bad)).state == "new" and "the book refuses" in (await desk.look(bad)).why


@pytest.mark.parametrize("error", [errors.Unusable("the disk is full"), errors.Transient("the connection was lost")])
async def test_a_book_that_cannot_be_used_is_no_refusal_of_one_intent(
    town: staking_belt.Town, desk: staking_belt.Desk, monkeypatch: pytest.MonkeyPatch, error: errors.StakesideError
) -> None:
    id = await desk.propose("a")
    await desk.until(id, "pending", mine=False)

    async def broken(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(inclusions, "save", broken)
    await town.mine()
    with pytest.raises(type(error), match=error.what):
        await desk.confirm.step()
    assert ("original", "refused") not in desk.seen and "refuses" not in (await desk.look(id)).why


async def test_an_expiry_that_is_refused_ends_nobody_elses_turn(desk: staking_belt.Desk) -> None:
    bad = await desk.propose("bad", ttl_s=60)
    await damage(desk, bad)
    await desk.clock.advance(61)
    good = await desk.propose("good")
    for _ in range(3):
        await desk.decide.step()
    stuck = await desk.look(bad)
    assert stuck.state == "new" and "the book refuses" in stuck.why
    assert await desk.state(good) == "reserved"
    await mend(desk, bad)
    await desk.clock.advance(refusals.AGAIN_S)
    await desk.step(desk.decide)
    assert await desk.state(bad) == "expired"
    await desk.sound()


async def test_an_intent_that_is_refused_again_and_again_takes_ever_fewer_turns(desk: staking_belt.Desk) -> None:
    bad = await desk.propose("bad")
    await damage(desk, bad)
    await desk.step(desk.decide)
    for turn in range(6):
        refused, wait = desk.seen.count(("original", "refused")), min(60 * 2**turn, 900)
        assert (await desk.look(bad)).why.endswith(f"; tried again in {wait} s")
        assert (await desk.look(bad)).next_s == int(desk.clock.now()) + wait
        await desk.clock.advance(wait)
        good = await desk.propose(f"good {turn}")
        async with desk.book.write() as c:
            await intents.timer(c, good, desk.clock.now())  # it has waited once already
        await desk.step(desk.decide, most=8)  # it comes to rest
        assert await desk.state(good) == "reserved"
        assert desk.seen.count(("original", "refused")) == refused + 1


async def test_bytes_whose_send_the_book_refuses_to_note_leave_ever_more_rarely(
    town: staking_belt.Town, desk: staking_belt.Desk
) -> None:
    await town.client.call("evm_setAutomine", False)
    id = await desk.propose("a")
    await desk.step(desk.decide)
    await desk.submit._sign_all({}, again=False)  # pyright: ignore[reportPrivateUsage]
    assert await desk.state(id) == "signed"
    await damage(desk, id)
    for _ in range(120):  # an hour
        await desk.step(desk.submit)
        await desk.clock.advance(30)
    sends = [outcome for _, outcome in desk.seen if outcome.startswith("sent")]
    assert len(sends) == 7  # at 0, 1, 3, 7, 15, 30 and 45 minutes
    assert "the book refuses what follows" in (await desk.look(id)).why and await desk.state(id) == "signed"
    await mend(desk, id)
    await desk.clock.advance(refusals.LONGEST_S)
    await desk.until(id, "final_ok")
    await desk.clock.advance(2 * refusals.LONGEST_S)  # long after: from the beginning
    with desk.submit._refused.one(id):  # pyright: ignore[reportPrivateUsage]
        raise errors.StoreError("refused")
    await desk.clock.advance(refusals.AGAIN_S)
    assert not desk.submit._refused.aside(id)  # pyright: ignore[reportPrivateUsage]


async def test_a_refused_intent_that_is_woken_waits_its_minute_all_the_same(desk: staking_belt.Desk) -> None:
    bad = await desk.propose("bad")
    await damage(desk, bad)
    await desk.step(desk.decide)
    async with desk.book.write() as c:
        await intents.timer(c, bad, None)
    refused = desk.seen.count(("original", "refused"))
    assert await desk.decide.step() > 0
    assert desk.seen.count(("original", "refused")) == refused


async def test_what_was_sent_is_marked_although_the_book_refuses_it_of_one_of_the_batch(
    town: staking_belt.Town, desk: staking_belt.Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    await town.client.call("evm_setAutomine", False)
    bad, good = await desk.propose("bad"), await desk.propose("good")

    async def nothing() -> bool:
        return False

    with monkeypatch.context() as patch:
        patch.setattr(desk.submit, "_send_all", nothing)
        await desk.run(2)
    assert [await desk.state(bad), await desk.state(good)] == ["signed", "signed"]
    await damage(desk, bad)
    await desk.run(3)
    assert await desk.state(good) == "pending"
    stuck = await desk.look(bad)
    assert stuck.state == "signed" and "the book refuses" in stuck.why
    async with desk.book.read() as c:
        assert [row.sends for row in await attempts.broadcasts(c, good)] == [1]
    await mend(desk, bad)
    await desk.clock.advance(refusals.AGAIN_S)
    await desk.until(bad, "final_ok")
    await desk.until(good, "final_ok")
    await desk.sound()


@pytest.mark.parametrize("where", ["by_hash", "unreadable arguments", "decisions", "cancelled"])
async def test_rows_of_one_intent_that_cannot_be_read_hold_up_no_signature_of_others(
    town: staking_belt.Town, desk: staking_belt.Desk, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    await town.client.call("evm_setAutomine", False)
    bad, good = await desk.propose("bad"), await desk.propose("good")
    if where == "unreadable arguments":
        async with desk.book.write() as c:
            on = " ON intent" if c.dialect.name == "postgresql" else ""
            await c.change(sa.text(f"DROP TRIGGER intent_no_update{on}"))
            await c.change(sa.text("UPDATE intent SET arguments = '{' WHERE id = :id").bindparams(id=bad))
        await desk.run(3)
        assert await desk.state(good) == "pending"
        return
    for _ in range(2):
        await desk.step(desk.decide)
    module, name = {
        "by_hash": (attempts, "by_hash"), "decisions": (decisions, "for_intent"), "cancelled": (commands, "cancelled"),
    }[where]  # fmt: skip
    honest, broken = getattr(module, name), errors.StoreError("a stored row is not what it says")

    async def damaged(c: book.Connection, key: bytes) -> Any:
        if bad in (key, await attempts.owner(c, key)):
            raise broken
        return await honest(c, key)

    with monkeypatch.context() as patch:
        patch.setattr(module, name, damaged)
        await desk.submit.step()
        await desk.submit.step()
    assert await desk.state(bad) != "pending" and "a stored row is not what it says" in (await desk.look(bad)).why
    if where == "by_hash":
        assert await desk.state(good) == "pending"
        return
    # Nothing is signed for the first nonce, so the chain would take nothing after it: that one is not left behind with a node.
    assert await desk.state(good) == "reserved" and "nonce 0 before it is not signed yet" in (await desk.look(good)).why
    await desk.clock.advance(refusals.AGAIN_S)
    await desk.until(bad, "final_ok")
    await desk.until(good, "final_ok")


@pytest.mark.parametrize("error", [errors.Unusable("the disk is full"), errors.Transient("the connection was lost")])
@pytest.mark.parametrize("service", ["decide", "submit"])
async def test_a_book_that_cannot_be_used_stops_decisions_and_sends_too(
    desk: staking_belt.Desk, monkeypatch: pytest.MonkeyPatch, error: errors.StakesideError, service: str
) -> None:
    id = await desk.propose("a")
    if service == "submit":
        await desk.step(desk.decide)

    async def broken(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(intents if service == "decide" else attempts, "move" if service == "decide" else "sent", broken)
    with pytest.raises(type(error), match=error.what):
        await getattr(desk, service).step()
    assert ("original", "refused") not in desk.seen and "refuses" not in (await desk.look(id)).why
