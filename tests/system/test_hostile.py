"""What an agent process does with a bad node, a bad file or a second copy of itself: a clear word, and nothing lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from devnet import anvil, books, proxy, rpc, staking, truth
from tests.system import belt

pytestmark = pytest.mark.timeout(180)


async def test_another_chain_id_ends_the_process_with_both_ids_and_a_cure(tmp_path: Path) -> None:
    async with belt.field(tmp_path) as field:
        keys = await field.found(1)
        async with proxy.LyingNode(field.node.url, ["chain-id:id=5"]) as node:
            agent = field.agent(0, keys[0], url=node.url)
            await agent.start()
            assert await agent.ended(deadline_s=30) == 2
            assert "chain 5, not 31337" in agent.said()


async def test_another_genesis_ends_the_process_and_writes_no_row(tmp_path: Path) -> None:
    async with belt.field(tmp_path) as field:
        keys = await field.found(1)
        async with anvil.Anvil(genesis_time=1_600_000_000) as node:
            agent = field.agent(0, keys[0], url=node.url)
            await agent.start()
            assert await agent.ended(deadline_s=30) == 2
            assert "genesis" in agent.said()
            assert books.Book(agent.book).rows() == []


async def test_a_node_that_is_down_at_the_start_is_waited_for(tmp_path: Path) -> None:
    async with belt.field(tmp_path) as field:
        keys = await field.found(1)
        agent = field.agent(0, keys[0])
        await field.player.run(20)
        height = await field.contract.height()
        async with proxy.LyingNode(field.node.url, ["cut"]) as node:
            agent = field.agent(0, keys[0], url=node.url)
            await agent.start()
            await agent.listening()
            answer = await agent.get("/readyz")
            assert answer is not None and answer[0] == 503 and answer[1]["reasons"]
            node.clear()

            async def caught_up() -> bool:
                status = await agent.status()
                return bool(status and status["index"] and status["index"]["number"] == height)

            await field.until(caught_up, "the agent to catch up")


async def test_a_node_that_starts_again_at_block_zero_is_refused_and_the_rows_stay(tmp_path: Path) -> None:
    async with belt.field(tmp_path) as field:
        keys = await field.found(1)
        agent = field.agent(0, keys[0])
        await belt.start(agent)
        await field.player.run(30)
        await field.player.settle()
        await agent.ready()
        height = await field.contract.height()

        async def caught_up() -> bool:
            status = await agent.status()
            return bool(status and status["index"] and status["index"]["number"] == height)

        await field.until(caught_up, "the agent to catch up")
        before = books.Book(agent.book).rows()
        port = field.node.port
        await field.node.stop()
        async with anvil.Anvil(port=port, genesis_time=1_600_000_000) as other, rpc.Rpc(other.url) as client:
            await staking.deploy(client)

            async def refused() -> bool:
                answer = await agent.get("/readyz")
                return answer is not None and answer[0] == 503 and "genesis" in str(answer[1])

            await field.until(refused, "the agent to refuse the new chain")
            assert agent.running
            assert truth.compare_rows(before, books.Book(agent.book).rows()) == []
            await agent.stop()


async def test_a_truncated_settings_file_is_refused_with_its_line(tmp_path: Path) -> None:
    async with belt.field(tmp_path) as field:
        keys = await field.found(1)
        agent = field.agent(0, keys[0])
        file = agent.folder / "agent.toml"
        file.write_text(file.read_text()[:-20])
        await agent.start()
        assert await agent.ended(deadline_s=30) == 2
        assert "agent.toml" in agent.said() and "Traceback" not in agent.said()


async def test_a_second_process_on_the_same_book_refuses_and_the_first_goes_on(tmp_path: Path) -> None:
    async with belt.field(tmp_path) as field:
        keys = await field.found(1)
        agent = field.agent(0, keys[0])
        await belt.start(agent)
        said = await field.fleet.run("agent", "run", "--config", str(agent.folder / "agent.toml"), accept=(2,))
        assert said == ""
        assert agent.running


async def test_hostile_strings_of_the_chain_reach_rows_status_page_and_statement_unharmed(tmp_path: Path) -> None:
    async with belt.field(tmp_path) as field:
        keys = await field.found(1)
        agent = field.agent(0, keys[0])
        await belt.start(agent)
        await field.player.prepare()
        operator = field.player.validators[0]
        hostile = "nul\0 <script>alert(1)</script> \u202e' ; drop table log"
        await field.contract.do(staking.set_metadata(operator, hostile))
        await field.player.mine(2 * belt.FRAME)
        await field.all_sealed()
        ground = truth.Truth(field.client, start_block=1)
        rows = books.Book(agent.book).rows()
        assert truth.compare_rows(await ground.rows(), rows) == []
        assert any(value == hostile for row in rows for _, value in row.detail)
        page = await agent.get("/")
        assert page is not None and page[0] == 200 and "<script>" not in str(page[1])
        file = tmp_path / "statement.json"
        config = str(agent.folder / "agent.toml")
        await field.fleet.run("agent", "export", "--config", config, "--sequence", "0", "--out", str(file))
        assert "VERIFIED" in await field.fleet.run("verify", str(file), "--rpc", field.node.url, "--full")
