"""Reorgs on a real Anvil: rows equal the receipts, orphaned rows stay, and nothing final ever changes."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from agent.services import index
from devnet import proxy
from domain import errors
from indexers.chain import reader
from store import blocks, cursors, logs
from tests.agent import indexing


async def grown(chain: indexing.Chain, count: int = 20) -> None:
    for n in range(count):
        await (chain.mine() if n % 3 == 2 else chain.emit(2))


@pytest.mark.parametrize("proof", ["node", "bloom", "receipts"])
async def test_rows_equal_the_receipts_at_every_proof_level(
    chain: indexing.Chain, bench: indexing.Bench, proof: str
) -> None:
    await grown(chain)
    bench.build(proof=proof)
    await bench.settle()
    await bench.is_exact()
    assert {row.proof for row in await bench.rows()} == {proof}


async def test_a_same_height_replacement_changes_the_rows(chain: indexing.Chain, bench: indexing.Bench) -> None:
    await grown(chain)
    await bench.settle()
    before = await bench.keys()
    await chain.emit(3)
    await bench.settle()
    await chain.reorg(1, logs_at=[0])
    await bench.settle()
    await bench.is_exact()
    assert len(await bench.keys()) == len(before) + 1
    assert bench.service.counts.reorgs == 1
    assert "reverted" in await bench.kinds()


@pytest.mark.parametrize("depth", [3, 6])
async def test_a_fork_with_a_higher_new_tip_is_noticed(
    chain: indexing.Chain, bench: indexing.Bench, depth: int
) -> None:
    await grown(chain)
    await bench.settle()
    await chain.reorg(depth, logs_at=[0, 1, 1])
    await chain.emit(2)
    await chain.mine()
    await bench.settle()
    await bench.is_exact()
    assert bench.service.counts.reverted_blocks == depth


async def test_a_reorg_of_twenty_blocks_is_followed(tmp_path: Path) -> None:
    async with indexing.running(slots_in_an_epoch=16) as chain, indexing.bench(chain, tmp_path) as bench:
        await grown(chain, 30)
        await bench.settle()
        await chain.reorg(20, logs_at=list(range(0, 20, 2)))
        await bench.settle()
        await bench.is_exact()
        assert bench.service.counts.reverted_blocks == 20


async def test_a_reorg_while_the_agent_was_down_is_healed_at_the_next_start(
    chain: indexing.Chain, bench: indexing.Bench
) -> None:
    await grown(chain)
    await bench.settle()
    await chain.reorg(5, logs_at=[1])
    await chain.emit()
    bench.build()
    await bench.settle()
    await bench.is_exact()


async def test_a_reorg_while_down_is_healed_even_when_its_blocks_are_final_by_then(
    chain: indexing.Chain, bench: indexing.Bench
) -> None:
    await grown(chain)
    await bench.settle()
    await chain.reorg(5, logs_at=[1, 3])
    await grown(chain, 30)
    bench.build()
    await bench.settle()
    await bench.is_exact()
    assert not await bench.latched()


async def test_orphaned_rows_stay_and_are_marked(chain: indexing.Chain, bench: indexing.Bench) -> None:
    await grown(chain)
    await chain.emit(2)
    await bench.settle()
    old = bench.service.head
    assert old is not None
    await chain.reorg(1)
    await bench.settle()
    async with bench.book.read() as c:
        assert len(await logs.of_block(c, old)) == 2
        assert not await blocks.is_canonical(c, old.hash)


async def test_one_transaction_in_two_blocks_is_two_rows_of_which_one_is_canonical(
    chain: indexing.Chain, bench: indexing.Bench
) -> None:
    await grown(chain, 12)
    sender = chain.accounts[0]
    nonce = await chain.call("eth_getTransactionCount", sender, "latest")
    tx = {**chain.transaction(), "from": sender, "nonce": nonce, "gasPrice": "0x77359400", "type": "0x0"}
    await chain.call("eth_sendTransaction", tx)
    await chain.mine()
    await chain.mine()
    await bench.settle()
    (before,) = [row.log for row in await bench.rows() if row.log.block.number == await chain.head() - 1]
    await chain.call("anvil_reorg", 2, [[tx, 1]])
    await bench.settle()
    await bench.is_exact()
    after = (await bench.rows())[-1].log
    assert after.tx_hash == before.tx_hash
    assert after.block.number == before.block.number + 1
    async with bench.book.read() as c:
        assert [row.log for row in await logs.of_block(c, before.block)] == [before]


async def test_a_second_reorg_during_the_walk_is_followed_too(chain: indexing.Chain, bench: indexing.Bench) -> None:
    await grown(chain)
    await bench.settle()
    async with proxy.LyingNode(chain.url, ["swap-fork:depth=4,count=1,methods=eth_getBlockByHash"]) as node:
        bench.build(url=node.url)
        await chain.reorg(5, logs_at=[0, 2])
        await bench.until(lambda: node.fired["swap-fork"] == 1, tolerate=True)
        await bench.settle(tolerate=True)
        await bench.is_exact()


@pytest.mark.parametrize(("proof", "method"), [("bloom", "eth_getLogs"), ("receipts", "eth_getBlockReceipts")])
async def test_a_fork_between_header_and_logs_never_mixes_them(
    chain: indexing.Chain, bench: indexing.Bench, proof: str, method: str
) -> None:
    await grown(chain)
    await bench.settle()
    async with proxy.LyingNode(chain.url, [f"swap-fork:depth=2,count=1,methods={method}"]) as node:
        bench.build(url=node.url, proof=proof)
        await chain.emit(2)
        await bench.until(lambda: node.fired["swap-fork"] == 1, tolerate=True)
        await bench.settle(tolerate=True)
        await bench.is_exact()


async def test_a_head_that_goes_backwards_is_waited_out(chain: indexing.Chain, bench: indexing.Bench) -> None:
    await grown(chain)
    await bench.settle()
    before, head = await bench.keys(), bench.service.head
    await chain.call("anvil_rollback", 4)
    await bench.steps(5)
    assert bench.service.state == "behind"
    assert (await bench.keys(), bench.service.head) == (before, head)
    assert bench.service.counts.reorgs == 0
    for _ in range(5):
        await chain.emit()
    await bench.settle()
    await bench.is_exact()


async def test_a_node_that_synchronises_anew_is_waited_out(chain: indexing.Chain, bench: indexing.Bench) -> None:
    await grown(chain)
    await bench.settle()
    before = await bench.keys()
    async with proxy.LyingNode(chain.url, ["head-back:k=15"]) as node:
        bench.build(url=node.url)
        await bench.steps(5)
        assert bench.service.state == "behind"
        assert await bench.keys() == before
        node.clear()
        await bench.settle()
    await bench.is_exact()


async def violated(chain: indexing.Chain, bench: indexing.Bench) -> list[tuple[bytes, int, bytes]]:
    """A fork below what the book holds as final."""
    await grown(chain, 12)
    await bench.settle()
    before = await bench.keys()
    await chain.reorg(6, logs_at=[0])
    await bench.until(lambda: bench.service.state == "violated")
    return before


async def test_a_fork_below_finality_latches_and_deletes_nothing(tmp_path: Path) -> None:
    async with indexing.running(slots_in_an_epoch=1) as chain, indexing.bench(chain, tmp_path) as bench:
        before = await violated(chain, bench)
        await chain.emit(2)
        await bench.steps(5)
        assert await bench.latched()
        assert await bench.keys() == before
        assert (await bench.kinds())[-1] == "violated"


async def test_the_finality_latch_survives_a_restart_and_a_failing_node(tmp_path: Path) -> None:
    async with indexing.running(slots_in_an_epoch=1) as chain, indexing.bench(chain, tmp_path) as bench:
        before = await violated(chain, bench)
        async with proxy.LyingNode(chain.url, ["503"]) as node:
            bench.build(url=node.url)
            await bench.steps(3)
        bench.build()
        await bench.steps(3)
        assert bench.service.state == "violated"
        assert await bench.latched()
        assert await bench.keys() == before


async def test_empty_blocks_around_finality_do_not_hide_a_violation(tmp_path: Path) -> None:
    async with indexing.running(slots_in_an_epoch=1) as chain, indexing.bench(chain, tmp_path) as bench:
        await chain.emit(2)
        await chain.mine(20)
        await bench.settle()
        await chain.reorg(3)
        await bench.until(lambda: bench.service.state == "violated")


async def test_one_lying_answer_about_a_final_block_does_not_latch(
    chain: indexing.Chain, bench: indexing.Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What would stop the agent is asked once more; a node that then takes it back is counted as a liar."""
    await grown(chain)
    await bench.settle()
    source = bench.service._source  # pyright: ignore[reportPrivateUsage]
    honest = await source.tip()
    assert honest.finalized is not None
    rogue = msgspec.structs.replace(honest.finalized, hash=bytes(31) + b"\1")

    async def lying() -> reader.Tip:
        return msgspec.structs.replace(honest, finalized=rogue)

    with monkeypatch.context() as patch:
        patch.setattr(source, "tip", lying)
        with pytest.raises(errors.BadAnswer, match="contradicts itself"):
            await bench.steps(1)
    assert not await bench.latched()
    assert bench.service.counts.lies == 1
    await chain.emit()
    await bench.settle()
    await bench.is_exact()


async def test_an_answer_under_way_is_not_committed_after_the_index_moved(
    chain: indexing.Chain, bench: indexing.Bench
) -> None:
    await grown(chain)
    await bench.settle()
    await chain.emit(2)
    source = bench.service._source  # pyright: ignore[reportPrivateUsage]
    receipts_of = source.receipts_of

    async def slow(*args: object) -> object:
        """While this fetch is under way another hand moves the index."""
        seen = await bench.cursor()
        assert seen is not None
        async with bench.book.write() as c:
            await cursors.put(c, "index", cursors.Cursor(seen.number, seen.hash, seen.generation + 1))
        source.receipts_of = receipts_of
        return await receipts_of(*args)  # pyright: ignore[reportArgumentType]

    source.receipts_of = slow  # pyright: ignore[reportAttributeAccessIssue]
    before = await bench.keys()
    with pytest.raises(errors.Transient, match="fenced"):
        await bench.steps(3)
    assert await bench.keys() == before
    assert bench.service.counts.fenced == 1
    await bench.settle()
    await bench.is_exact()


async def test_a_removed_log_is_never_needed_to_heal(chain: indexing.Chain, bench: indexing.Bench) -> None:
    """Anvil sends no `removed: true`; the service subscribes to no logs at all."""
    await grown(chain)
    await bench.settle()
    await chain.reorg(4)
    await bench.settle()
    await bench.is_exact()


async def test_rows_of_finality_by_depth_are_final_so_many_blocks_behind(
    chain: indexing.Chain, bench: indexing.Bench
) -> None:
    await grown(chain)
    bench.build(finality="depth:3")
    await bench.settle()
    await bench.steps(2)
    final = await bench.cursor(index.FINALIZED)
    assert final is not None
    assert final.number == await chain.head() - 3
    await chain.reorg(2, logs_at=[0])
    await bench.settle()
    await bench.is_exact()
    await chain.reorg(6)
    await bench.until(lambda: bench.service.state == "violated")
