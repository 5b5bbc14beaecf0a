"""What the book refuses of one intent stops that one only; what is wrong with the book itself stops the belt."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from agent.services import refusals
from domain import errors
from store import book, inclusions, intents
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
