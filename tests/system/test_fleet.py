"""Agents and hub as real processes through everything that happens to a fleet in its life."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from devnet import books, documents, proxy, staking
from tests.system import belt

pytestmark = pytest.mark.timeout(300)


async def test_a_fleet_seals_in_order_through_late_starts_kills_a_down_hub_and_a_signer_change(tmp_path: Path) -> None:
    async with belt.field(tmp_path) as field:
        keys = await field.found(3)
        first, second, third = (field.agent(number, key) for number, key in enumerate(keys))
        await belt.start(first)
        await field.player.run(30)
        await belt.start(second)
        await field.player.run(30)
        await field.all_sealed()

        await second.kill()
        await field.player.run(20)
        await belt.start(second, third)
        await field.player.run(20)
        await field.all_sealed()

        await field.hub.stop()
        before = await field.final_frames()
        await field.player.run(20)
        await field.player.mine(10 * belt.FRAME)
        await field.player.settle()
        assert await field.final_frames() >= before + 10

        async def votes_wait() -> bool:
            wanted = await field.final_frames()
            return all(len(books.Book(agent.book).frames()) == wanted for agent in (first, second, third))

        await field.until(votes_wait, "ten frames signed while nobody is upstream")
        await belt.start(field.hub)
        await field.all_sealed()

        fourth_key = field.fleet.key("agent-3")
        boundary = await field.final_frames() + 3
        field.document = documents.with_epoch(
            field.document, signers=[keys[1].address, keys[2].address, fourth_key.address], from_sequence=boundary
        )
        field.fleet.publish(field.document)
        field.hub.signal(signal.SIGHUP)
        fourth = field.agent(3, fourth_key)
        for agent in (first, second, third):
            await agent.restart()
        await belt.start(fourth)
        await field.player.run(30)
        await field.player.mine(5 * belt.FRAME)
        sealed = await field.all_sealed()
        assert sealed > boundary + 1
        await field.delivered([first, second, third, fourth])
        await field.check([first, second, third, fourth])

        frames = await field.frames()
        voted = {int(f["sequence"]): {v["signer"] for v in f["votes"] if v["digest"]} for f in frames}
        assert all(fourth.address not in voted[n] for n in range(boundary))
        assert all(first.address not in voted[n] and fourth.address in voted[n] for n in range(boundary, sealed))


async def test_an_agent_whose_node_has_no_history_adopts_a_sealed_frame_and_signs_the_next(tmp_path: Path) -> None:
    async with belt.field(tmp_path) as field:
        keys = await field.found(3)
        first, second = (field.agent(number, keys[number]) for number in (0, 1))
        await belt.start(first, second)
        await field.player.run(60)
        sealed = await field.all_sealed()
        pruned = f"pruned:before={await field.contract.height() - 6},style=geth,receipts=error"
        async with proxy.LyingNode(field.node.url, [pruned]) as node:
            late = field.agent(2, keys[2], url=node.url)
            await belt.start(late)

            async def adopted() -> bool:
                return any(frame.origin == "adopted" for frame in books.Book(late.book).frames())

            await field.until(adopted, "an adopted frame")
            await first.stop()  # two of three: from here on nothing seals without the late agent's vote
            await field.player.run(30)
            assert await field.all_sealed() > sealed
            await field.delivered([second, late])
            await belt.start(first)
            await field.all_sealed()
            await field.delivered([first, second, late])
            await field.check([first, second, late])
            found = books.Book(late.book).frames()
            assert [frame.origin for frame in found].count("adopted") == 1
            assert found[0].origin == "adopted" and found[0].sequence > 0
            frames = await field.frames()
            signed = {
                int(f["sequence"]) for f in frames for v in f["votes"] if v["signer"] == late.address and v["digest"]
            }
            assert min(signed) == found[0].sequence + 1


async def test_a_wrong_vote_is_withdrawn_after_repair_and_the_frame_seals_with_the_new_one(tmp_path: Path) -> None:
    async with belt.field(tmp_path) as field:
        keys = await field.found(3, k=3)
        agents = [field.agent(number, key) for number, key in enumerate(keys)]
        await belt.start(*agents)
        await field.player.run(30)
        sealed = await field.all_sealed()
        damaged = agents[2]
        anna, validator = field.contract.accounts[9], field.player.validators[0]
        await field.contract.do(staking.delegate(anna, validator, 12_345))

        async def seen() -> bool:
            status = await damaged.status()
            return status is not None and status["index"]["number"] == await field.contract.height()

        await field.until(seen, "the last delegation in the book")
        final = await field.contract.height("finalized")
        await damaged.stop()
        block = belt.change_amount(damaged.book, above=final, by=1)
        broken = field.document.streams[0].sequence_at(block)
        await belt.start(damaged)
        await field.player.mine(2 * belt.FRAME)
        await field.player.settle()

        async def diverged() -> bool:
            return any(frame["diverged"] for frame in await field.frames())

        await field.until(diverged, "the hub to see two digests")

        async def sealed_up_to_it() -> bool:
            return await field.sealed() >= broken

        await field.until(sealed_up_to_it, "the frames before it to be sealed")
        assert await field.sealed() == broken >= sealed

        await damaged.stop()
        assert belt.change_amount(damaged.book, above=final, by=-1) == block
        said = await field.fleet.run(
            "agent", "rederive", "--config", str(damaged.folder / "agent.toml"),
            "--stream", documents.STREAM, "--from", str(broken),
        )  # fmt: skip
        assert "derived anew" in said
        await belt.start(damaged)
        await field.all_sealed()
        await field.delivered(agents)
        await field.check(agents)


async def test_a_hub_that_lost_its_memory_gets_everything_again(tmp_path: Path) -> None:
    async with belt.field(tmp_path) as field:
        keys = await field.found(3)
        agents = [field.agent(number, key) for number, key in enumerate(keys)]
        await belt.start(*agents)
        await field.player.run(40)
        sealed = await field.all_sealed()
        await field.delivered(agents)
        digests = [frame["digest"] for frame in await field.frames()][:sealed]
        await field.hub.stop()
        for file in field.hub.folder.glob("hub.db*"):
            file.unlink()
        await belt.start(field.hub)
        await field.player.run(10)
        await field.player.mine(2 * belt.FRAME)
        await field.all_sealed()
        await field.delivered(agents)
        assert [frame["digest"] for frame in await field.frames()][:sealed] == digests
        await field.check(agents)


async def test_an_exported_statement_verifies_in_full_and_a_changed_one_does_not(tmp_path: Path) -> None:
    async with belt.field(tmp_path) as field:
        keys = await field.found(3)
        agents = [field.agent(number, key) for number, key in enumerate(keys)]
        await belt.start(*agents)
        await field.player.run(40)
        await field.all_sealed()
        file = tmp_path / "statement.json"
        await field.fleet.run("agent", "export", "--config", str(agents[0].folder / "agent.toml"), "--out", str(file))
        for options in ((), ("--rpc", field.node.url), ("--rpc", field.node.url, "--full")):
            assert "VERIFIED" in await field.fleet.run("verify", str(file), *options)
        text = file.read_text()
        reward = text.index('"cumulativeReward": "') + len('"cumulativeReward": "')
        file.write_text(text[:reward] + "9" + text[reward:])
        assert "VERIFIED" not in await field.fleet.run("verify", str(file), accept=(1,))
