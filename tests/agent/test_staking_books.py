"""The staking belt and its book: on both databases, from a backup, and beside the other belt."""

from __future__ import annotations

import importlib.util
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from domain import hashing
from kit import backups, copying
from store import attempts, commands, latches, principals, reservations, settling
from store import copy as store_copy
from tests.agent import staking_belt
from tests.agent.staking_belt import ADDRESS, ETHER, GWEI
from tests.store import postgres

KINDS = (store_copy.BOOK,)


@pytest.fixture
async def town() -> AsyncIterator[staking_belt.Town]:
    async with staking_belt.town() as it:
        yield it


@pytest.fixture(scope="module")
def server() -> Iterator[postgres.Server]:
    if importlib.util.find_spec("asyncpg") is None:
        pytest.skip("POSTGRESQL IS NOT TESTED: asyncpg is not installed (pip install asyncpg)")
    try:
        started = postgres.Server()
    except postgres.Missing as why:
        pytest.skip(f"POSTGRESQL IS NOT TESTED: {why}")
    yield started
    started.stop()


# --- backups ---


async def test_a_restored_book_submits_nothing_until_a_person_has_accepted_it(
    town: staking_belt.Town, tmp_path: Path
) -> None:
    async with staking_belt.desk(town, tmp_path / "book.db") as desk:
        await desk.until(await desk.propose("a"), "final_ok")
        await backups.take(f"sqlite:///{tmp_path / 'book.db'}", tmp_path / "backup.db", KINDS, at_s=1)
        forgotten = await desk.propose("b")
        await desk.until(forgotten, "final_ok")
    await backups.restore(tmp_path / "backup.db", f"sqlite:///{tmp_path / 'again.db'}", KINDS, expect={}, at_s=2)
    async with staking_belt.desk(town, tmp_path / "again.db") as desk:
        with pytest.raises(AssertionError, match="nobody has accepted it yet"):
            await desk.propose("b")  # a client that was never told that it is done
        with pytest.raises(AssertionError, match="nobody has accepted it yet"):
            await desk.propose("c")
        await desk.run(3)
        assert await desk.latches() == ["submit.restored"] and await town.count("pending") == 2
        assert isinstance(await desk.clear("submit.restored"), commands.Done)
        later = await desk.propose("c")
        await desk.until(later, "final_ok")
        assert (await desk.nonces()).highest == 2 and await desk.latches() == []
        await desk.sound()


@pytest.mark.parametrize("by", ["accept-restored", "clear-latch"])
async def test_accepting_a_restored_book_repeats_nothing_that_may_have_been_done_since(
    town: staking_belt.Town, tmp_path: Path, by: str
) -> None:
    async with staking_belt.desk(town, tmp_path / "book.db") as desk:
        id = await desk.propose("a")
        await backups.take(f"sqlite:///{tmp_path / 'book.db'}", tmp_path / "backup.db", KINDS, at_s=1)
        await desk.until(id, "final_ok")
        now = int(desk.clock.now())
    await backups.restore(tmp_path / "backup.db", f"sqlite:///{tmp_path / 'again.db'}", KINDS, expect={}, at_s=now)
    async with staking_belt.desk(town, tmp_path / "again.db") as desk:
        await desk.run(2)
        assert await desk.latches() == ["submit.restored"] and await desk.state(id) == "new"
        async with desk.book.write() as c:
            if by == "accept-restored":
                done = await commands.accept_restored(c, by="otto", reason="compared with the chain", at_s=now + 1)
            else:
                done = await commands.clear_latch(c, "submit.restored", by="otto", reason="compared", at_s=now + 1)
        assert isinstance(done, commands.Done)
        assert await desk.state(id) == "expired"
        await desk.run(3)
        assert await town.count("pending") == 1
        await desk.sound()


async def test_a_restored_book_bumps_nothing_until_a_person_has_accepted_it(
    town: staking_belt.Town, tmp_path: Path
) -> None:
    """A cancel may have been signed after the backup: a bump would outbid it."""
    async with staking_belt.desk(town, tmp_path / "book.db") as desk:
        slow = await desk.propose("slow")
        await desk.until(slow, "pending")
        await backups.take(f"sqlite:///{tmp_path / 'book.db'}", tmp_path / "backup.db", KINDS, at_s=1)
    await backups.restore(tmp_path / "backup.db", f"sqlite:///{tmp_path / 'again.db'}", KINDS, expect={}, at_s=2)
    async with staking_belt.desk(town, tmp_path / "again.db") as desk:
        await town.client.call("anvil_setNextBlockBaseFeePerGas", hex(20 * GWEI))
        await town.mine()
        await desk.clock.advance(desk.delegator.timing.bump_after_s)
        await desk.run(3)
        async with desk.book.read() as c:
            assert len(await attempts.of_intent(c, slow)) == 1
        assert isinstance(await desk.clear("submit.restored"), commands.Done)
        await desk.clock.advance(desk.delegator.timing.bump_after_s)
        await desk.until(slow, "final_ok")
        async with desk.book.read() as c:
            assert len(await attempts.of_intent(c, slow)) == 2


async def test_a_bump_that_was_frozen_before_the_backup_is_not_signed_until_a_person_has_accepted_the_book(
    town: staking_belt.Town, tmp_path: Path
) -> None:
    async with staking_belt.desk(town, tmp_path / "book.db") as desk:
        slow = await desk.propose("slow")
        await desk.until(slow, "pending", mine=False)
        await town.client.call("anvil_dropAllTransactions")
        await desk.clock.advance(desk.delegator.timing.bump_after_s)
        await desk.step(desk.confirm)
        async with desk.book.read() as c:
            assert [item.kind for item in await attempts.of_intent(c, slow)] == ["original", "bump"]
        await backups.take(f"sqlite:///{tmp_path / 'book.db'}", tmp_path / "backup.db", KINDS, at_s=1)
    await backups.restore(tmp_path / "backup.db", f"sqlite:///{tmp_path / 'again.db'}", KINDS, expect={}, at_s=2)
    async with staking_belt.desk(town, tmp_path / "again.db") as desk:
        for _ in range(2):
            await desk.step(desk.submit)  # also before the latch is set: `meta` says that it was restored
            async with desk.book.read() as c:
                assert len(await attempts.signed_of(c, slow)) == 1
            await desk.step(desk.confirm)
        assert await desk.latches() == ["submit.restored"]
        assert isinstance(await desk.clear("submit.restored"), commands.Done)
        await desk.step(desk.submit)
        async with desk.book.read() as c:
            assert len(await attempts.signed_of(c, slow)) == 2


async def test_what_a_restored_book_forgot_of_its_own_is_nobodys_before_a_person_says_so(
    town: staking_belt.Town, tmp_path: Path
) -> None:
    """The backup holds it as reserved; it was signed, sent and done since. Its nonce is taken, by this book's own transaction."""
    async with staking_belt.desk(town, tmp_path / "book.db") as desk:
        id = await desk.propose("a")
        await desk.step(desk.decide)
        await backups.take(f"sqlite:///{tmp_path / 'book.db'}", tmp_path / "backup.db", KINDS, at_s=1)
        await desk.until(id, "final_ok")
        now = int(desk.clock.now())
    written = commands.restoring(by="local:otto", reason="the disk died")
    again = f"sqlite:///{tmp_path / 'again.db'}"
    await backups.restore(tmp_path / "backup.db", again, KINDS, expect={}, at_s=1, also=written)
    async with staking_belt.desk(town, tmp_path / "again.db") as desk:
        await desk.clock.advance(now - desk.clock.now())
        await desk.run(2)
        assert isinstance(await desk.clear("submit.restored"), commands.Done)
        for _ in range(4):
            await desk.clock.advance(60)
            await desk.run(1)
        stored = await desk.look(id)
        assert stored.state == "needs_operator" and "may be this book's own" in stored.why, stored.why
        async with desk.book.write() as c:
            held = await reservations.of_intent(c, id)
            assert held is not None and held.released_at_s is None
            at_s = desk.clock.now()
            await settling.settle(c, id, outcome="superseded", by="olga", reason="it is the same delegation", at_s=at_s)
        await desk.run(2)
        assert await desk.state(id) == "superseded" and await town.effects() == [ETHER]
        async with desk.book.read() as c:
            day = await reservations.spent(c, account=ADDRESS, since_s=0)
        assert day.amount == ETHER, "what another transaction did on the nonce may be as much"
        await desk.sound()


async def test_a_machine_whose_clock_is_behind_restores_no_token_and_does_nothing_twice(
    town: staking_belt.Town, tmp_path: Path
) -> None:
    async with staking_belt.desk(town, tmp_path / "book.db") as desk:
        id = await desk.propose("a")
        now = desk.clock.now()
        async with desk.book.write() as c:
            await principals.add(c, "mallory", ["admin"], b"\x07" * 32, by="x", reason="r", at_s=now)
        await backups.take(f"sqlite:///{tmp_path / 'book.db'}", tmp_path / "backup.db", KINDS, at_s=1)
        await desk.until(id, "final_ok")
    written = commands.restoring(by="local:otto", reason="the disk died")
    again = f"sqlite:///{tmp_path / 'again.db'}"
    await backups.restore(tmp_path / "backup.db", again, KINDS, expect={}, at_s=1, also=written)
    async with staking_belt.desk(town, tmp_path / "again.db") as desk:
        await desk.clock.advance(60)
        async with desk.book.write() as c:
            assert await principals.by_token_hash(c, b"\x07" * 32) is None
            done = await principals.rotate(c, "mallory", b"\x08" * 32, by="local:otto", reason="r", at_s=5)
            assert isinstance(done, commands.Done)
            known = await principals.by_token_hash(c, b"\x08" * 32)
            assert known is not None and known.name == "mallory", "a new token is good, whatever the clock says"
        await desk.run(2)
        assert isinstance(await desk.clear("submit.restored"), commands.Done)
        for _ in range(6):
            await desk.run(1)
            await town.mine()
        assert await desk.state(id) == "expired" and await town.effects() == [ETHER]


async def test_an_old_copy_of_the_book_halts_at_the_nonces_it_does_not_know(
    town: staking_belt.Town, tmp_path: Path
) -> None:
    """Nobody said that it was restored: somebody put the file back by hand."""
    async with staking_belt.desk(town, tmp_path / "book.db") as desk:
        await desk.until(await desk.propose("a"), "final_ok")
    old = (tmp_path / "book.db").read_bytes()
    async with staking_belt.desk(town, tmp_path / "book.db") as desk:
        await desk.until(await desk.propose("b"), "final_ok")
    for file in tmp_path.glob("book.db*"):
        file.unlink()
    (tmp_path / "book.db").write_bytes(old)
    async with staking_belt.desk(town, tmp_path / "book.db") as desk:
        await desk.run(1)
        assert await desk.latches() == ["submit.nonces"]
        again = await desk.propose("b")
        await desk.run(2)
        assert await desk.state(again) == "new" and await town.count() == 2


# --- both databases ---


async def _story(town: staking_belt.Town, path: Path | str) -> list[tuple[str, list[str], list[bytes]]]:
    """Delegations that go well, are bumped, cancelled, refused and reorged: the way and the hashes of each."""
    async with staking_belt.desk(town, path) as desk:
        good = await desk.propose("good")
        await desk.until(good, "included")
        await town.client.call("anvil_reorg", 1, [])
        await town.mine(2)
        await desk.until(good, "final_ok")
        refused = await desk.propose("refused", "withdraw", ticket="7")
        slow = await desk.propose("slow", validator=town.validator, amount=str(2 * ETHER))
        await desk.run(1)
        await town.client.call("anvil_setNextBlockBaseFeePerGas", hex(20 * GWEI))
        await town.mine()
        await desk.clock.advance(desk.delegator.timing.bump_after_s)
        await desk.until(slow, "final_ok")
        given_up = await desk.propose("given up")
        await desk.run(1)
        await desk.cancel(given_up)
        await desk.run(2)
        await desk.until(given_up, "cancelled")
        await desk.sound()
        found: list[tuple[str, list[str], list[bytes]]] = []
        for id in (good, refused, slow, given_up):
            async with desk.book.read() as c:
                hashes = [item.hash for item in await attempts.signed_of(c, id)]
            found.append((hashing.hex0x(id), await desk.way(id), hashes))
        return found


@pytest.mark.slow
async def test_the_same_story_on_both_databases_leaves_the_same_book(server: postgres.Server, tmp_path: Path) -> None:
    stories: list[object] = []
    digests: list[bytes] = []
    for url in (f"sqlite:///{tmp_path / 'book.db'}", server.empty()):
        async with staking_belt.town() as town:
            stories.append(await _story(town, url))
        digests.append((await copying.digest(url, KINDS)).whole)
    assert stories[0] == stories[1]
    assert digests[0] == digests[1]


# --- beside the other belt ---


async def test_a_latch_of_this_belt_leaves_the_index_and_the_statements_alone(
    town: staking_belt.Town, tmp_path: Path
) -> None:
    async with staking_belt.desk(town, tmp_path / "book.db") as desk:
        async with desk.book.write() as c:
            await latches.set(c, "submit.effect", reason="a test", at_s=1)
            stopping = [latch for latch in await latches.active(c) if latches.blocks_earning(latch)]
        assert stopping == []
        await town.mine(3)
        await desk.run(2)
        assert desk.index.lag_blocks == 0
