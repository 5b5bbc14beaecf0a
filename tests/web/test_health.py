"""Liveness and readiness, with reasons."""

from __future__ import annotations

import json
import socket
from pathlib import Path

from agent.web import server
from domain import chain
from kit import http, runtime, tls
from tests import certificates
from tests.web.conftest import World


async def reasons(world: World) -> tuple[int, list[str]]:
    status, _, body = await world.get("/readyz")
    said = json.loads(body)
    assert said["ready"] is (status == 200)
    return status, said["reasons"]


async def test_an_agent_at_its_nodes_head_is_ready(world: World) -> None:
    await world.fill()
    assert await reasons(world) == (200, [])


async def test_an_agent_that_indexed_nothing_is_not_ready(world: World) -> None:
    assert await reasons(world) == (503, ["no block of the node is indexed yet"])


async def test_lag_beyond_its_limit_is_not_ready(world: World) -> None:
    await world.fill()
    world.index.remote_head = chain.BlockRef(9, b"\x01" * 32)
    assert (await reasons(world))[0] == 200
    world.index.remote_head = chain.BlockRef(10, b"\x01" * 32)
    assert await reasons(world) == (503, ["6 blocks behind the node's head, the limit is 5"])


async def test_a_node_that_is_behind_us_is_no_lag(world: World) -> None:
    await world.fill()
    world.index.remote_head = chain.BlockRef(1, b"\x01" * 32)
    assert (await reasons(world))[0] == 200


async def test_a_node_that_starts_anew_is_not_ready(world: World) -> None:
    """It has no lag, being the lower one; a few blocks are a balancer's."""
    await world.fill(12)
    world.index.state, world.index.reason = "behind", "the node's head is lower"
    world.index.remote_head = chain.BlockRef(7, b"\x01" * 32)
    assert (await reasons(world))[0] == 200
    world.index.remote_head = chain.BlockRef(0, b"\x01" * 32)
    assert await reasons(world) == (503, ["the node's head is 12 blocks lower than the index, the limit is 5"])


async def test_a_node_that_lacks_history_is_not_ready(world: World) -> None:
    await world.fill()
    world.index.state, world.index.reason = "gap", "no receipts for block 2"
    assert await reasons(world) == (
        503, ["the node lacks history that the index needs: no receipts for block 2"],
    )  # fmt: skip


async def test_a_latch_is_not_ready_and_says_why(world: World) -> None:
    await world.fill()
    await world.latch("block 2 was replaced")
    assert await reasons(world) == (503, ["latch finality: block 2 was replaced"])


async def test_another_chain_is_not_ready(world: World) -> None:
    await world.fill()
    world.index.state, world.index.reason = "wrong-chain", "chain id 1"
    assert await reasons(world) == (503, ["the node serves another chain: chain id 1"])


async def test_a_latched_service_is_not_ready(world: World) -> None:
    await world.fill()
    state = world.supervisor.states["close"]
    state.status, state.reason = "latched", "a hostile event"
    assert await reasons(world) == (503, ["service close stopped after repeated failures: a hostile event"])


async def test_one_hiccup_keeps_readiness_and_three_end_it(world: World) -> None:
    await world.fill()
    state = world.supervisor.states["index"]
    state.status, state.reason, state.in_a_row = "degraded", "the node is away", 2
    assert (await reasons(world))[0] == 200
    state.in_a_row = 3
    assert await reasons(world) == (503, ["service index keeps failing: the node is away"])


async def test_a_hub_that_is_away_keeps_readiness(world: World) -> None:
    await world.fill()
    state = world.supervisor.states["report"]
    state.status, state.reason, state.in_a_row = "degraded", "the hub is away", 50
    assert (await reasons(world))[0] == 200


async def test_a_reason_never_shows_a_key(world: World) -> None:
    await world.fill()
    await world.latch("0x" + "ab" * 32 + " at http://u:hunter2@node/")
    said = str(await reasons(world))
    assert "abab" not in said and "hunter2" not in said


async def test_a_hung_step_is_not_alive(world: World) -> None:
    assert (await world.get("/healthz"))[0] == 200
    world.supervisor.states["index"].next_due = 10.0
    await world.clock.advance(10.0 + runtime.GRACE_S + 1)
    status, _, body = await world.get("/healthz")
    assert (status, json.loads(body)) == (503, {"alive": False, "stuck": ["index"]})


async def test_probes_are_asked_by_the_names_of_the_settings_too(world: World, tmp_path: Path) -> None:
    context = tls.server(certificates.Authority(tmp_path).issue("web"))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    serving = server.serve(
        world.live(), world.meters, host="127.0.0.1", port=0, tls=context, health_port=port, hosts=["agent.example"]
    )
    async with http.client_session() as session, serving:
        found: list[int] = []
        for name in ("agent.example", "evil.example"):
            async with session.get(f"http://127.0.0.1:{port}/healthz", headers={"Host": name}) as answer:
                found.append(answer.status)
    assert found == [200, 421]
