"""What a node cannot, or will not, say about one intent: that one waits and says so, and the others go on."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from aiohttp import web

from agent.delegations import sight
from domain import errors, hashing
from indexers.chain import account, proof, wire
from kit import http, jsonrpc
from store import attempts, inclusions
from tests.agent import staking_belt

RECEIPT = "eth_getTransactionReceipt"
INDEXING = {"error": {"code": -32000, "message": "transaction indexing is in progress"}}
Json = Any


@pytest.fixture
async def town() -> AsyncIterator[staking_belt.Town]:
    async with staking_belt.town() as it:
        yield it


@pytest.fixture
async def desk(town: staking_belt.Town, tmp_path: Path) -> AsyncIterator[staking_belt.Desk]:
    async with staking_belt.desk(town, tmp_path / "book.db") as it:
        yield it
        await it.sound()


@asynccontextmanager
async def saying(
    town: staking_belt.Town, desk: staking_belt.Desk, lie: Callable[[str, list[Any], Json], Json]
) -> AsyncIterator[str]:
    """The desk's node says of every call what `lie` makes of the honest envelope."""
    async with aiohttp.ClientSession() as session:

        async def handle(request: web.Request) -> web.Response:
            body = await request.read()
            whole, asked = body[:1] == b"[", json.loads(body)
            many: list[Json] = asked if whole else [asked]
            async with session.post(town.url, json=many) as answer:
                said = {item["id"]: item for item in await answer.json(content_type=None)}
            told = [
                {"jsonrpc": "2.0", "id": item["id"]} | lie(item["method"], item["params"], said[item["id"]])
                for item in many
            ]
            return web.json_response(told if whole else told[0])

        app = web.Application()
        app.router.add_post("/", handle)
        async with http.serving(app, host="127.0.0.1", port=0) as port:
            desk.endpoint.url = f"http://127.0.0.1:{port}/"
            yield desk.endpoint.url
            desk.endpoint.url = town.url


async def sent(town: staking_belt.Town, desk: staking_belt.Desk, *keys: str) -> list[bytes]:
    """Intents whose transactions wait in the node's pool."""
    await town.client.call("evm_setAutomine", False)
    ids = [await desk.propose(key) for key in keys]
    for id in ids:
        await desk.until(id, "pending", mine=False)
    return ids


async def hashes(desk: staking_belt.Desk, id: bytes) -> list[str]:
    async with desk.book.read() as c:
        return [hashing.hex0x(item.hash) for item in await attempts.signed_of(c, id)]


async def test_a_receipt_that_the_node_cannot_tell_holds_up_no_other_intent_and_is_no_absent_one(
    town: staking_belt.Town, desk: staking_belt.Desk
) -> None:
    bad, good = await sent(town, desk, "bad", "good")
    (untold,) = await hashes(desk, bad)

    def lie(method: str, params: list[Any], said: Json) -> Json:
        return INDEXING if method == RECEIPT and params == [untold] else said

    async with saying(town, desk, lie):
        await desk.until(good, "final_ok")
        await desk.confirm.step()  # that the node cannot tell is no failure of the stage
        assert await desk.state(bad) == "pending"
        assert await desk.latches() == []
    await desk.until(bad, "final_ok")


async def test_a_receipt_that_no_node_tells_for_an_hour_is_a_persons_matter_until_one_does(
    town: staking_belt.Town, desk: staking_belt.Desk
) -> None:
    """The nonce is used for good, so nothing more can come of it; whoever settles it looks elsewhere."""
    (id,) = await sent(town, desk, "a")
    (untold,) = await hashes(desk, id)

    async with saying(town, desk, lambda method, params, said: INDEXING if method == RECEIPT else said):
        await town.mine(12)
        for _ in range(4):
            await desk.run(1)
            await desk.clock.advance(sight.UNTOLD_S / 4 - 60)
        assert await desk.state(id) == "pending"
        await desk.clock.advance(sight.UNTOLD_S / 4)
        await desk.run(2)
        stored = await desk.look(id)
        assert stored.state == "needs_operator" and untold in stored.why and "settle it" in stored.why
        assert await desk.latches() == []
    assert (await desk.until(id, "final_ok")).state == "final_ok"


@pytest.mark.parametrize(
    "error", [{"code": 429, "message": "too many requests per second"}, {"code": -32601, "message": "no such method"}]
)
async def test_a_node_that_wants_to_be_asked_less_or_cannot_be_asked_at_all_degrades_the_stage(
    town: staking_belt.Town, desk: staking_belt.Desk, error: Json
) -> None:
    await sent(town, desk, "a")
    async with saying(town, desk, lambda method, params, said: {"error": error} if method == RECEIPT else said):
        with pytest.raises(jsonrpc.RpcError):
            await desk.confirm.step()


async def test_a_node_that_refuses_the_whole_exchange_for_lack_of_history_latches_no_service(
    town: staking_belt.Town, desk: staking_belt.Desk
) -> None:
    await sent(town, desk, "a")

    async def refuse(request: web.Request) -> web.Response:
        error = {"code": 4444, "message": "pruned history unavailable"}
        return web.json_response({"jsonrpc": "2.0", "id": None, "error": error})

    app = web.Application()
    app.router.add_post("/", refuse)
    async with http.serving(app, host="127.0.0.1", port=0) as port:
        desk.endpoint.url = f"http://127.0.0.1:{port}/"
        with pytest.raises(account.Away):
            await desk.confirm.step()


async def test_a_receipt_that_is_gone_for_a_while_does_not_put_an_inclusion_aside(
    town: staking_belt.Town, desk: staking_belt.Desk
) -> None:
    (id,) = await sent(town, desk, "a")
    await town.mine()
    await desk.run(1)
    assert await desk.state(id) == "included"

    def lie(method: str, params: list[Any], said: Json) -> Json:
        if method == "eth_getTransactionCount":
            return {"result": "0x0"}
        return INDEXING if method == RECEIPT else said

    async with saying(town, desk, lie):
        await town.finalize()
        for _ in range(3):
            await desk.step(desk.confirm)
        assert await desk.state(id) == "included"


async def test_a_receipt_in_a_block_that_does_not_hash_holds_up_no_other_intent(
    town: staking_belt.Town, desk: staking_belt.Desk
) -> None:
    bad, good = await sent(town, desk, "bad", "good")
    (wrong,) = await hashes(desk, bad)

    def lie(method: str, params: list[Any], said: Json) -> Json:
        if method == RECEIPT and params == [wrong] and said["result"] is not None:
            return {"result": said["result"] | {"blockNumber": "0x2", "logs": []}}
        if method == "eth_getBlockByNumber" and params[0] == "0x2":
            return {"result": said["result"] | {"gasUsed": "0x1"}}
        return said

    await desk.step(desk.index)
    await town.mine()
    async with saying(town, desk, lie):
        with pytest.raises(errors.BadAnswer, match="hash"):  # it is said all the same, last
            await desk.confirm.step()
        assert await desk.state(good) == "included"
        assert await desk.state(bad) == "pending"
    await desk.until(bad, "final_ok")


async def test_an_inclusion_in_a_block_that_the_books_final_one_contradicts_is_put_aside(
    town: staking_belt.Town, desk: staking_belt.Desk
) -> None:
    """The node's header is one that hashes, and none of the chain that the book indexed."""
    (id,) = await sent(town, desk, "a")
    (tx_hash,) = await hashes(desk, id)
    await town.client.call("anvil_dropTransaction", tx_hash)
    await town.mine()
    forged = await town.client.call("eth_getBlockByNumber", "latest", False) | {"extraData": "0xdeadbeef"}
    fields = {name: forged.get(name) for name in wire.Block.__struct_fields__}
    block = msgspec.convert({name: value for name, value in fields.items() if value is not None}, wire.Block)
    forged["hash"] = hashing.hex0x(hashing.keccak256(proof.header_rlp(block)))
    async with desk.book.read() as c:
        (frozen,) = await attempts.of_intent(c, id)
    receipt: Json = {
        "transactionHash": tx_hash, "transactionIndex": "0x0", "blockHash": forged["hash"], "blockNumber": forged["number"],
        "from": hashing.hex0x(staking_belt.ADDRESS), "to": hashing.hex0x(frozen.unsigned.to), "gasUsed": "0x5208",
        "status": "0x0", "logs": [], "type": "0x2",
    }  # fmt: skip
    resent = 0

    def lie(method: str, params: list[Any], said: Json) -> Json:
        nonlocal resent
        resent += method == "eth_sendRawTransaction"
        if method == RECEIPT:
            return {"result": receipt}
        return {"result": forged} if method == "eth_getBlockByNumber" and params[0] == forged["number"] else said

    async with saying(town, desk, lie) as url:
        for _ in range(8):
            desk.endpoint.url = town.url
            await desk.step(desk.index)
            desk.endpoint.url = url
            await desk.step(desk.confirm)
            await desk.step(desk.submit)
            await town.mine()
    assert await desk.way(id) == ["planned", "reserved", "signed", "pending", "included", "pending"]
    assert resent >= 1  # and so it is mined, whatever the node shows of it
    await desk.until(id, "final_ok")


async def test_a_receipt_that_changes_at_every_look_does_not_fill_the_book(
    town: staking_belt.Town, desk: staking_belt.Desk
) -> None:
    (id,) = await sent(town, desk, "a")
    await town.mine()
    looks = 0

    def lie(method: str, params: list[Any], said: Json) -> Json:
        nonlocal looks
        if method != RECEIPT:
            return said
        looks += 1
        return {"result": said["result"] | {"gasUsed": hex(30_000 + looks % 2)}}

    async with saying(town, desk, lie):
        for _ in range(40):
            await desk.clock.advance(1)
            await desk.confirm.step()
        assert looks >= 40
        async with desk.book.read() as c:
            assert len(await inclusions.of_intent(c, id)) <= 10
        await desk.clock.advance(sight.SETTLE_S)
        await desk.run(2)
        assert "the answers about it change" in (await desk.look(id)).why
    await desk.clock.advance(sight.LATEST_S)
    await desk.until(id, "final_ok")


async def test_a_count_that_no_receipt_bears_out_is_said_and_does_not_keep_a_cancel_from_being_sent(
    town: staking_belt.Town, desk: staking_belt.Desk
) -> None:
    (id,) = await sent(town, desk, "a")
    (tx_hash,) = await hashes(desk, id)
    await town.client.call("anvil_dropTransaction", tx_hash)

    def lie(method: str, params: list[Any], said: Json) -> Json:
        if method == "eth_getTransactionCount" and params[1] in ("latest", "pending"):
            return {"result": "0x1"}
        return said

    async with saying(town, desk, lie):
        await desk.cancel(id)
        await desk.run(1)
        assert (await desk.look(id)).why == "the node counts nonce 0 as used, and the node has no receipt of it"
        await desk.clock.advance(sight.SETTLE_S)
        await desk.until(id, "cancelled")
    assert await town.effects() == []


@pytest.mark.parametrize(
    "answer",
    [
        {"error": {"code": -32015, "message": "VM execution error"}},
        {"error": {"code": -32000, "message": "missing trie node 1234"}},
        {"result": "0x01"},
    ],
)
async def test_what_cannot_be_said_of_one_intent_slows_down_no_other(
    town: staking_belt.Town, desk: staking_belt.Desk, answer: Json
) -> None:
    odd = town.other.lower().removeprefix("0x")
    bad = [
        await desk.propose(f"bad {n}", "undelegate", validator=town.other, amount=str(staking_belt.ETHER))
        for n in range(3)
    ]
    good = await desk.propose("good")

    def lie(method: str, params: list[Any], said: Json) -> Json:
        return answer if method == "eth_call" and odd in params[0]["data"].lower() else said

    async with saying(town, desk, lie):
        for _ in range(4):
            assert await desk.decide.step() == 0.0  # no backing off
        assert await desk.state(good) == "reserved"
        for id in bad:
            stored = await desk.look(id)
            assert stored.state == "new" and stored.why.startswith("the node cannot say: ")


@pytest.mark.parametrize("throttled", ["eth_call", "eth_simulateV1", "eth_estimateGas"])
async def test_a_node_that_throttles_what_a_decision_needs_is_asked_less(
    town: staking_belt.Town, desk: staking_belt.Desk, throttled: str
) -> None:
    id = (
        await desk.propose("a", "undelegate", validator=town.other, amount=str(staking_belt.ETHER))
        if throttled == "eth_call"
        else await desk.propose("a")
    )
    less = {"error": {"code": 429, "message": "too many requests per second"}}
    async with saying(town, desk, lambda method, params, said: less if method == throttled else said):
        with pytest.raises(jsonrpc.Throttled):
            await desk.decide.step()
        assert "the node cannot be asked" in (await desk.look(id)).why


async def test_a_node_that_throttles_one_receipt_is_asked_less_whatever_it_says_of_another(
    town: staking_belt.Town, desk: staking_belt.Desk
) -> None:
    one, _ = await sent(town, desk, "a", "b")
    (throttled,) = await hashes(desk, one)

    def lie(method: str, params: list[Any], said: Json) -> Json:
        if method != RECEIPT:
            return said
        return {"error": {"code": 429, "message": "too many requests"}} if params == [throttled] else INDEXING

    async with saying(town, desk, lie):
        with pytest.raises(jsonrpc.Throttled):
            await desk.confirm.step()
