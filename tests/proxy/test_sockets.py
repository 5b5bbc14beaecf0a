"""Websockets through the lying node, spoken to with a client library of another make."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest
import websockets.asyncio.client as client
from websockets.exceptions import ConnectionClosed, InvalidStatus

from devnet import proxy
from tests.proxy.chain import LOGS_PER_BLOCK, Chain
from tests.proxy.conftest import Lying

Json = Any
Socket = client.ClientConnection
PATIENCE_S = 10


async def _ask(socket: Socket, method: str, *params: Json, id_: int = 1) -> Json:
    await socket.send(json.dumps({"jsonrpc": "2.0", "id": id_, "method": method, "params": list(params)}))
    while True:
        answer = json.loads(await asyncio.wait_for(socket.recv(), PATIENCE_S))
        if answer.get("id") == id_:
            return answer


async def _heard(socket: Socket) -> Json:
    return json.loads(await asyncio.wait_for(socket.recv(), PATIENCE_S))["params"]["result"]


async def _until(node: proxy.LyingNode, method: str, count: int) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while node.calls[method] < count:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


async def test_new_heads_pass_byte_for_byte(chain: Chain, lying: Lying) -> None:
    async with lying() as node, client.connect(node.ws_url) as told, client.connect(chain.ws_url) as truth:
        first = await _ask(told, "eth_subscribe", "newHeads")
        second = await _ask(truth, "eth_subscribe", "newHeads")
        for _ in range(3):
            await chain.mine()
            a, b = await told.recv(), await truth.recv()
            assert a == str(b).replace(second["result"], first["result"])


async def test_calls_and_batches_are_answered_on_the_socket(chain: Chain, lying: Lying) -> None:
    async with lying("drop-all-logs") as node, client.connect(node.ws_url, max_size=None) as socket:
        assert (await _ask(socket, "eth_chainId"))["result"] == "0x7a69"
        assert (await _ask(socket, "eth_getLogs", chain.filter()))["result"] == []
        calls = [
            {"jsonrpc": "2.0", "id": i, "method": m, "params": []} for i, m in enumerate(("eth_chainId", "net_version"))
        ]
        await socket.send(json.dumps(calls))
        answers = json.loads(await asyncio.wait_for(socket.recv(), PATIENCE_S))
        assert [a["result"] for a in answers] == ["0x7a69", "31337"]


async def test_log_messages_pass_and_can_be_altered(chain: Chain, lying: Lying) -> None:
    async with lying("alter-logs:count=1") as node, client.connect(node.ws_url) as socket:
        await _ask(socket, "eth_subscribe", "logs", {"address": chain.address})
        await chain.mine()
        told = [await _heard(socket) for _ in range(LOGS_PER_BLOCK)]
        truth = await chain.logs(await chain.head(), "latest")
    assert [a["data"] == b["data"] for a, b in zip(told, truth, strict=True)].count(False) == 1


async def test_the_socket_drops_instead_of_telling(chain: Chain, lying: Lying) -> None:
    async with lying("ws-drop:skip=1,count=1") as node:
        async with client.connect(node.ws_url) as socket:
            await _ask(socket, "eth_subscribe", "newHeads")
            await chain.mine()
            await _heard(socket)
            await chain.mine()
            with pytest.raises(ConnectionClosed):
                await _heard(socket)
        async with client.connect(node.ws_url) as socket:
            await _ask(socket, "eth_subscribe", "newHeads")
            await chain.mine()
            assert int((await _heard(socket))["number"], 16) == await chain.head()


async def test_the_socket_goes_silent_but_stays_open(chain: Chain, lying: Lying) -> None:
    async with lying("ws-silent:count=1") as node, client.connect(node.ws_url) as socket:
        await _ask(socket, "eth_subscribe", "newHeads")
        for _ in range(3):
            await chain.mine()
        await _until(node, "newHeads", 3)
        await asyncio.wait_for(await socket.ping(), PATIENCE_S)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(socket.recv(), 0.2)
        async with client.connect(node.ws_url) as another:
            await _ask(another, "eth_subscribe", "newHeads")
            await chain.mine()
            assert int((await _heard(another))["number"], 16) == await chain.head()


@pytest.mark.parametrize(("fault", "offsets"), [("ws-skip", [2]), ("ws-repeat", [1, 1, 2])])
async def test_a_message_is_lost_or_repeated(chain: Chain, lying: Lying, fault: str, offsets: list[int]) -> None:
    head = await chain.head()
    async with lying(f"{fault}:count=1") as node, client.connect(node.ws_url) as socket:
        await _ask(socket, "eth_subscribe", "newHeads")
        for _ in range(2):
            await chain.mine()
        assert [int((await _heard(socket))["number"], 16) - head for _ in offsets] == offsets


async def test_announced_heads_can_be_old_wrong_or_of_another_chain(chain: Chain, lying: Lying) -> None:
    async with lying("head-back:k=2,methods=newHeads,count=1", "wrong-header:skip=1,count=1") as node:
        async with client.connect(node.ws_url) as socket:
            await _ask(socket, "eth_subscribe", "newHeads")
            await chain.mine()
            old = await _heard(socket)
            await chain.mine()
            wrong = await _heard(socket)
        truth = await chain.block("latest")
    assert int(old["number"], 16) == await chain.head() - 3
    assert (wrong["hash"], wrong["stateRoot"] == truth["stateRoot"]) == (truth["hash"], False)


async def test_the_handshake_is_refused(chain: Chain, lying: Lying) -> None:
    async with lying("ws-refuse:count=1") as node:
        with pytest.raises(InvalidStatus):
            async with client.connect(node.ws_url):
                pass
        async with client.connect(node.ws_url) as socket:
            assert (await _ask(socket, "eth_chainId"))["result"] == "0x7a69"


async def test_subscriptions_can_be_unknown_to_the_node(chain: Chain, lying: Lying) -> None:
    fault = "error:methods=eth_subscribe,code=-32601,message=notifications not supported,count=1"
    async with lying(fault) as node, client.connect(node.ws_url) as socket:
        assert (await _ask(socket, "eth_subscribe", "newHeads"))["error"]["code"] == -32601
        assert "result" in await _ask(socket, "eth_subscribe", "newHeads")


async def test_faults_of_every_method_leave_subscriptions_alone(chain: Chain, lying: Lying) -> None:
    async with lying("hang:seconds=60", "429") as node, client.connect(node.ws_url) as socket:
        await _ask(socket, "eth_subscribe", "newHeads")
        await chain.mine()
        await _heard(socket)


@pytest.mark.parametrize("fault", ["swallow", "cut"])
async def test_a_lost_reply_closes_the_socket(chain: Chain, lying: Lying, fault: str) -> None:
    async with lying(fault) as node, client.connect(node.ws_url) as socket:
        with pytest.raises(ConnectionClosed):
            await _ask(socket, "eth_chainId")


async def test_a_refusal_over_the_socket_is_not_json(chain: Chain, lying: Lying) -> None:
    async with lying("429") as node, client.connect(node.ws_url) as socket:
        await socket.send('{"jsonrpc":"2.0","id":1,"method":"eth_chainId","params":[]}')
        assert await asyncio.wait_for(socket.recv(), PATIENCE_S) == "Too Many Requests"


async def test_every_socket_can_be_dropped_at_once(chain: Chain, lying: Lying) -> None:
    async with lying() as node, client.connect(node.ws_url) as one, client.connect(node.ws_url) as two:
        await _ask(one, "eth_chainId")
        await _ask(two, "eth_chainId")
        assert node.drop_sockets() == 2
        for socket in (one, two):
            with pytest.raises(ConnectionClosed):
                await asyncio.wait_for(socket.recv(), PATIENCE_S)


async def test_a_socket_to_an_upstream_that_is_away_is_refused() -> None:
    async with proxy.LyingNode("http://127.0.0.1:1") as node:
        with pytest.raises(InvalidStatus):
            async with client.connect(node.ws_url):
                pass
