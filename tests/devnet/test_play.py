"""The scenario player: the same seed, the same chain; reorgs that really happen, above finality."""

from __future__ import annotations

import pytest

from devnet import anvil, play, rpc, staking, truth
from domain import errors


async def _played(seed: int) -> tuple[str, truth.Leaves, play.Played]:
    async with staking.up() as devnet:
        player = play.Player(devnet.staking, seed)
        played = await player.run(120, reorgs=play.REORGS)
        head = await devnet.staking.node.call("eth_getBlockByNumber", "latest", False)
        told = truth.Truth(devnet.staking.node, start_block=devnet.staking.start_block)
        return head["hash"], await told.leaves_at(int(head["number"], 16)), played


async def test_the_same_seed_gives_the_same_chain_and_the_same_leaves() -> None:
    assert await _played(7) == await _played(7)


async def test_another_seed_gives_another_chain() -> None:
    assert (await _played(1))[0] != (await _played(2))[0]


async def test_every_kind_of_reorg_happens_in_the_order_asked(chain: staking.Staking) -> None:
    events: list[tuple[str, int]] = []

    async def on(name: str) -> None:
        events.append((name, await chain.height()))

    player = play.Player(chain, 3, on=on)
    played = await player.run(100, reorgs=play.REORGS)
    depths = [(reorg.kind, reorg.depth) for reorg in played.reorgs]
    assert depths[:-1] == [("same-height", 1), ("depth-3", 3), ("depth-20", 20), ("cascading", 3), ("cascading", 5)]
    assert depths[-1][0] == "offline"
    for reorg in played.reorgs:
        assert len(reorg.orphaned) == len(reorg.replaced_by) == reorg.depth
        assert not set(reorg.orphaned) & set(reorg.replaced_by)
        gone = [("eth_getBlockByHash", ["0x" + block.hex(), False]) for block in reorg.orphaned]
        assert await chain.node.batch(gone) == [None] * reorg.depth
    assert [name for name, _ in events] == [
        "reorg:before:same-height", "reorg:after:same-height", "reorg:before:depth-3", "reorg:after:depth-3",
        "reorg:before:depth-20", "reorg:after:depth-20", "reorg:before:cascading", "reorg:after:cascading",
        "reorg:between:cascading", "reorg:before:cascading", "reorg:after:cascading",
        "offline:begin", "reorg:before:offline", "reorg:after:offline", "offline:end",
    ]  # fmt: skip
    assert events[0][1] == events[1][1], "a same-height replacement leaves the head where it was"


async def test_a_same_height_replacement_takes_rows_away(chain: staking.Staking, told: truth.Truth) -> None:
    player = play.Player(chain, 5)
    await player.run(10)
    seen: list[list[truth.Row]] = []

    async def on(_: str) -> None:
        seen.append(await told.rows())

    player = play.Player(chain, 5, on=on)
    await player.reorg_kind(play.SAME_HEIGHT)
    before, after = seen
    lost = {row.key for row in before} - {row.key for row in after}
    assert lost
    assert {row.number for row in before if row.key in lost} == {await chain.height()}


async def test_a_transaction_can_come_back_in_another_block(chain: staking.Staking, told: truth.Truth) -> None:
    seen: dict[bytes, set[bytes]] = {}

    async def on(_: str) -> None:
        for row in await told.rows():
            seen.setdefault(row.tx_hash, set()).add(row.block_hash)

    await play.Player(chain, 11, on=on).run(120, reorgs=(play.THREE, play.TWENTY))
    assert any(len(blocks) > 1 for blocks in seen.values())


async def test_a_reorg_never_reaches_finality_unless_asked() -> None:
    async with anvil.Anvil(slots_in_an_epoch=2) as node, rpc.Rpc(node.url) as client:
        chain = await staking.deploy(client)
        player = play.Player(chain, 1)
        await player.run(20)
        await player.settle()
        finalized = await client.call("eth_getBlockByNumber", "finalized", False)
        await player.reorg(node.finality_depth)
        assert await client.call("eth_getBlockByNumber", finalized["number"], False) == finalized
        with pytest.raises(errors.BadConfig, match="would reach finality"):
            await player.reorg(node.finality_depth + 1)
        await player.reorg(node.finality_depth + 1, violate_finality=True)
        assert (await client.call("eth_getBlockByNumber", finalized["number"], False))["hash"] != finalized["hash"]


async def test_settling_finalizes_what_was_the_head(chain: staking.Staking) -> None:
    player = play.Player(chain, 1)
    await player.run(10)
    head = await chain.height()
    assert await player.settle() >= head
    assert await chain.height("finalized") >= head


async def test_hostile_text_reaches_the_chain_byte_by_byte(chain: staking.Staking, told: truth.Truth) -> None:
    operator = chain.accounts[1]
    assert await chain.do(staking.register_validator(operator, commission_bps=0, metadata=play.HOSTILE[0])) == [True]
    for text in play.HOSTILE:
        assert await chain.do(staking.set_metadata(operator, text)) == [True]
        (state,) = await chain.read([("validatorOf", (operator,))])
        assert state[-1] == (text if isinstance(text, bytes) else text.encode())
    notes = [dict(row.detail)["note"] for row in await told.rows()][1:]
    plain = [text for text in play.HOSTILE if isinstance(text, str) and "\\x" not in text]
    assert [note for note in notes if note in plain] == plain


async def test_too_few_accounts_are_named_before_anything_is_played() -> None:
    async with anvil.Anvil(accounts=5) as node, rpc.Rpc(node.url) as client:
        with pytest.raises(errors.BadConfig, match="too few accounts"):
            play.Player(await staking.deploy(client), 1)


@pytest.mark.parametrize("mining", ["auto", 1])
async def test_a_node_that_mines_by_itself_is_held_back_and_then_let_go(mining: str | int) -> None:
    async with staking.up(anvil.Anvil(mining=mining)) as devnet:
        node = devnet.staking.node
        modes: list[rpc.Call] = [("anvil_getAutomine", []), ("anvil_getIntervalMining", [])]
        before = await node.batch(modes)
        await play.Player(devnet.staking, 3).run(60, reorgs=(play.SAME_HEIGHT, play.CASCADING))
        assert await node.batch(modes) == before
        assert await node.call("txpool_status") == {"pending": "0x0", "queued": "0x0"}
