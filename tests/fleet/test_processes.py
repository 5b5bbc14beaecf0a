"""Starting, watching and ending real processes; the lying node is the one that needs nothing else."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from devnet import anvil, crash, fleet, proxy
from domain import errors


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
async def liar(tmp_path: Path, session: aiohttp.ClientSession) -> AsyncIterator[fleet.Process]:
    async with anvil.Anvil() as node:
        arguments = ["devnet", "proxy", "--upstream", node.url, "--port", "0", "--fault", "chain-id:id=5"]
        process = fleet.Process("liar", arguments, tmp_path, session)
        try:
            yield process
        finally:
            await process.kill()


async def test_the_lying_node_ships_as_a_command(liar: fleet.Process, session: aiohttp.ClientSession) -> None:
    await liar.start()
    line = await liar.listening()
    call = {"jsonrpc": "2.0", "id": 1, "method": "eth_chainId", "params": []}
    async with session.post(liar.url, json=call) as answer:
        assert (await answer.json())["result"] == "0x5"
    answer = await liar.get("/__faults")
    assert answer is not None
    assert answer[1]["fired"] == {"chain-id": 1}
    assert line["faults"] == ["chain-id:id=5"]
    assert await liar.stop() == 0
    assert liar.events()[-1]["event"] == "stopped"


async def test_a_process_lives_again_after_a_kill(liar: fleet.Process) -> None:
    for _ in range(2):
        await liar.start()
        await liar.listening()
        pid = liar.pid
        await liar.kill()
        assert (liar.running, liar.exit_code) == (False, -signal.SIGKILL)
        assert await liar.get("/__faults") is None
        assert len([e for e in liar.events() if e["event"] == "ready"]) == 1
    assert (liar.starts, liar.pid) == (2, pid)


async def test_a_process_that_ends_at_once_is_reported_with_its_words(
    tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    process = fleet.Process("typo", ["devnet", "proxy", "--upstream", "x", "--fault", "drop-lags"], tmp_path, session)
    await process.start()
    with pytest.raises(errors.StakesideError, match="drop-logs"):
        await process.listening()
    assert process.exit_code == 2


async def test_a_wait_ends_at_its_deadline(liar: fleet.Process) -> None:
    async def never() -> None:
        return None

    with pytest.raises(errors.StakesideError, match="for a miracle"):
        await liar.until(never, what="a miracle", deadline_s=0.1)


async def test_settings_of_the_caller_do_not_reach_the_process(
    liar: fleet.Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAKESIDE_WEB__PORT", "1")
    await liar.start()
    await liar.listening()
    environment = Path(f"/proc/{liar.pid}/environ").read_bytes()
    assert b"STAKESIDE_" not in environment


async def test_a_fleet_ends_everything_it_started(tmp_path: Path) -> None:
    async with anvil.Anvil() as node:
        async with fleet.Fleet(tmp_path) as ships, aiohttp.ClientSession() as session:
            process = fleet.Process(
                "liar", ["devnet", "proxy", "--upstream", node.url, "--port", "0"], tmp_path, session
            )
            ships.processes.append(process)
            await process.start()
            await process.listening()
        assert not process.running


async def test_a_command_that_fails_says_why(tmp_path: Path) -> None:
    async with fleet.Fleet(tmp_path) as ships:
        assert proxy.catalogue.describe() in await ships.run("devnet", "proxy", "--upstream", "x", "--fault", "help")
        with pytest.raises(errors.StakesideError, match="invalid choice"):
            await ships.run("devnet", "no-such-command")


def test_the_source_is_searched_for_crash_points() -> None:
    found = crash.points()
    assert {"index.before_commit", "index.after_commit", "store.before_commit"} <= set(found)
    assert found == sorted(set(found))
    assert all("." in name for name in found)


async def test_a_point_that_is_never_passed_is_reported(liar: fleet.Process) -> None:
    async def stir() -> None:
        return None

    done = await crash.crash(liar, "index.before_commit", stir=stir, deadline_s=0.5)
    assert (done.reached, done.ok, liar.running) == (False, False, False)
