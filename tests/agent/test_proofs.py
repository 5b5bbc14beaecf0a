"""A node that lies consistently until finality: no end is reached on its word, only by a block that proves it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from agent.delegations import questions, sight
from agent.services import proving
from devnet import staking
from domain import hashing
from kit import http, jsonrpc
from store import attempts, blocks, decisions, intents
from tests.agent import staking_belt
from tests.agent.staking_belt import ETHER

Json = Any
FAILED = ("final_reverted", "final_no_effect", "cancelled", "superseded")


@pytest.fixture
async def town() -> AsyncIterator[staking_belt.Town]:
    async with staking_belt.town() as it:
        yield it


@pytest.fixture
async def desk(town: staking_belt.Town, tmp_path: Path) -> AsyncIterator[staking_belt.Desk]:
    async with staking_belt.desk(town, tmp_path / "book.db") as it:
        yield it
        await it.sound()


@contextlib.asynccontextmanager
async def liar(town: staking_belt.Town, lie: Callable[[str, list[Any], Json], Json]) -> AsyncIterator[str]:
    """A node that says of every call what `lie` makes of the honest answer, each time."""
    async with aiohttp.ClientSession() as session:

        async def handle(request: web.Request) -> web.Response:
            asked: Json = json.loads(await request.read())
            whole = isinstance(asked, list)
            many: list[Json] = list(asked) if whole else [asked]  # pyright: ignore[reportUnknownArgumentType]
            async with session.post(town.url, json=many) as answer:
                said = {item["id"]: item for item in await answer.json(content_type=None)}
            for item in many:
                if "result" in said[item["id"]]:
                    told = lie(item["method"], item["params"], said[item["id"]]["result"])
                    said[item["id"]] = {"jsonrpc": "2.0", "id": item["id"], "result": told}
            found = [said[item["id"]] for item in many]
            return web.json_response(found if whole else found[0])

        app = web.Application()
        app.router.add_post("/", handle)
        async with http.serving(app, host="127.0.0.1", port=0) as port:
            yield f"http://127.0.0.1:{port}/"


async def hashes(desk: staking_belt.Desk, id: bytes) -> list[str]:
    async with desk.book.read() as c:
        return [hashing.hex0x(item.hash) for item in await attempts.signed_of(c, id)]


async def through(town: staking_belt.Town, desk: staking_belt.Desk, id: bytes, *, rounds: int = 14) -> list[str]:
    """Everything that happens while the chain goes on past finality and every patience."""
    for _ in range(rounds):
        await desk.run(1)
        await town.mine()
        await desk.clock.advance(sight.SETTLE_S / 6)
    return await desk.way(id)


@pytest.mark.parametrize("bodies", [True, False], ids=["a block proves the opposite", "no block is shown"])
async def test_a_revert_that_was_none_is_never_final(
    town: staking_belt.Town, desk: staking_belt.Desk, bodies: bool
) -> None:
    """The index misses the log too: it has no word against the revert."""
    id = await desk.propose("a")
    await desk.run(1)
    await town.client.call("anvil_setCode", town.contract.address, "0x00")  # succeeds, and logs nothing
    await town.mine()

    def lie(method: str, params: list[Any], honest: Json) -> Json:
        if method == "eth_getTransactionReceipt" and honest is not None:
            return honest | {"status": "0x0", "logs": []}
        return None if method == "eth_getBlockByHash" and params[1] and not bodies else honest

    async with liar(town, lie) as url:
        desk.endpoint.url = url
        way = await through(town, desk, id)
    stored = await desk.look(id)
    assert stored.state == "needs_operator" and not set(way) & set(FAILED)
    if bodies:
        assert "status 0" in stored.why and "proves" in stored.why and "submit.effect" in await desk.latches()
    else:
        assert "no proof" in stored.why and "does not have block" in stored.why
    desk.endpoint.url = town.url
    await desk.until(id, "final_no_effect")  # what it was in truth


async def test_the_place_of_anothers_reverted_receipt_is_not_ours(
    town: staking_belt.Town, desk: staking_belt.Desk
) -> None:
    id = await desk.propose("a")
    await desk.run(1)
    other = await town.client.call(
        "eth_sendTransaction", town.contract.request(staking.slash(town.other, town.validator, fraction_bps=1))
    )
    await town.mine()
    theirs = await town.client.call("eth_getTransactionReceipt", other)
    assert theirs["status"] == "0x0"
    (ours,) = await hashes(desk, id)

    def lie(method: str, params: list[Any], honest: Json) -> Json:
        if method == "eth_getTransactionReceipt" and params[0] == ours and honest is not None:
            place = {name: theirs[name] for name in ("transactionIndex", "gasUsed", "cumulativeGasUsed")}
            return honest | place | {"status": "0x0", "logs": []}
        return [] if method == "eth_getLogs" else honest

    async with liar(town, lie) as url:
        desk.endpoint.url = url
        way = await through(town, desk, id)
    assert not set(way) & set(FAILED) and await desk.state(id) == "needs_operator"
    desk.endpoint.url = town.url


async def test_a_cancel_that_was_not_mined_cancels_nothing(town: staking_belt.Town, desk: staking_belt.Desk) -> None:
    id = await desk.propose("a")
    await desk.run(1)
    await town.mine()  # the original
    await desk.clock.advance(1)
    async with staking_belt.answering(town.url, "eth_getTransactionReceipt", {"result": None}) as url:
        desk.endpoint.url = url
        async with staking_belt.answering(url, "eth_getTransactionCount", {"result": "0x0"}) as slow:
            desk.endpoint.url = slow  # a node that is behind: the nonce looks free
            await desk.cancel(id)
            await desk.run(3)
    original, cancel = await hashes(desk, id)

    def lie(method: str, params: list[Any], honest: Json) -> Json:
        if method == "eth_getTransactionReceipt" and params[0] == original:
            return None
        return honest

    mined = await town.client.call("eth_getTransactionReceipt", original)

    def invent(method: str, params: list[Any], honest: Json) -> Json:
        if method == "eth_getTransactionReceipt" and params[0] == cancel:
            return mined | {"transactionHash": cancel, "to": mined["from"], "gasUsed": "0x5208", "logs": []}
        return lie(method, params, honest)

    async with liar(town, invent) as url:
        desk.endpoint.url = url
        way = await through(town, desk, id)
    stored = await desk.look(id)
    assert not set(way) & set(FAILED) and stored.state == "needs_operator", stored
    assert "does not hold" in stored.why and "submit.nonces" in await desk.latches()
    desk.endpoint.url = town.url
    await desk.until(id, "final_ok")
    assert await town.effects() == [ETHER]


async def test_a_nonce_that_nobody_took_is_not_given_up(town: staking_belt.Town, desk: staking_belt.Desk) -> None:
    """The node hides the receipt and the logs, and counts on."""
    id = await desk.propose("a")
    await desk.run(1)
    await town.client.call("anvil_setCode", town.contract.address, "0x00")
    await town.mine()

    def lie(method: str, params: list[Any], honest: Json) -> Json:
        return None if method == "eth_getTransactionReceipt" else honest

    async with liar(town, lie) as url:
        desk.endpoint.url = url
        way = await through(town, desk, id)
    stored = await desk.look(id)
    assert not set(way) & set(FAILED) and stored.state == "needs_operator"
    assert "is attempt 0, and the node knows no receipt of it" in stored.why
    assert "submit.nonces" in await desk.latches()
    desk.endpoint.url = town.url
    await desk.until(id, "final_no_effect")


async def test_a_count_that_is_too_high_gives_nothing_up(town: staking_belt.Town, desk: staking_belt.Desk) -> None:
    """The transaction still waits; the node says that the nonce was used long ago."""
    id = await desk.propose("a")
    await desk.run(1)
    await town.client.call("anvil_dropAllTransactions")

    def lie(method: str, params: list[Any], honest: Json) -> Json:
        return "0x1" if method == "eth_getTransactionCount" else honest

    async with liar(town, lie) as url:
        desk.endpoint.url = url
        way = await through(town, desk, id)
    stored = await desk.look(id)
    assert not set(way) & set(FAILED) and stored.state == "needs_operator" and "no proof" in stored.why
    desk.endpoint.url = town.url


async def test_a_revert_is_proven_by_receipts_one_by_one_where_the_node_has_no_others(
    town: staking_belt.Town, desk: staking_belt.Desk
) -> None:
    id = await desk.propose("a")
    await desk.run(1)
    await town.client.call("anvil_setCode", town.contract.address, "0x5f5ffd")  # reverts
    await town.mine()
    gone = {"error": {"code": -32601, "message": "the method eth_getBlockReceipts does not exist"}}
    async with staking_belt.answering(town.url, "eth_getBlockReceipts", gone) as url:
        desk.endpoint.url = url
        stored = await desk.until(id, "final_reverted")
    desk.endpoint.url = town.url
    block = (await town.client.call("eth_getTransactionReceipt", (await hashes(desk, id))[0]))["blockHash"]
    assert f"{block}: transaction 0, status 0" in stored.why, stored.why
    assert await desk.latches() == []


async def test_a_revert_in_a_block_that_the_book_passed_over_is_proven_by_the_blocks_above_it(
    town: staking_belt.Town, desk: staking_belt.Desk
) -> None:
    """The agent was away: history is kept sparsely, and a block without logs is not in it."""
    id = await desk.propose("a")
    await desk.run(1)
    await town.client.call("anvil_setCode", town.contract.address, "0x5f5ffd")
    await town.mine(40)
    stored = await desk.until(id, "final_reverted")
    receipt = await town.client.call("eth_getTransactionReceipt", (await hashes(desk, id))[0])
    async with desk.book.read() as c:
        assert await blocks.canonical_at(c, int(receipt["blockNumber"], 16)) is None
        assert [step.to_state for step in await intents.history(c, id)][-2:] == ["included", "final_reverted"]
    assert receipt["blockHash"] in stored.why


async def test_an_effect_whose_log_the_receipt_leaves_out_is_not_given_up(
    town: staking_belt.Town, desk: staking_belt.Desk
) -> None:
    id = await desk.propose("a")
    await desk.run(1)
    await town.mine()

    def lie(method: str, params: list[Any], honest: Json) -> Json:
        if method == "eth_getTransactionReceipt" and honest is not None:
            return honest | {"logs": []}
        return honest

    async with liar(town, lie) as url:
        desk.endpoint.url = url
        way = await through(town, desk, id)
    stored = await desk.look(id)
    assert not set(way) & set(FAILED) and stored.state == "needs_operator" and "other logs" in stored.why
    desk.endpoint.url = town.url
    await desk.until(id, "final_ok")
    assert await town.effects() == [ETHER]


async def test_a_revert_or_a_taken_nonce_is_never_believed_against_a_log_of_our_own_index(
    town: staking_belt.Town, desk: staking_belt.Desk
) -> None:
    """One is said to have reverted, of the other no receipt is known; the book holds the effects of both."""
    reverted, taken = await desk.propose("reverted"), await desk.propose("taken")
    await desk.run(1)
    await town.mine()
    ((first,), (second,)) = [await hashes(desk, id) for id in (reverted, taken)]

    def lie(method: str, params: list[Any], honest: Json) -> Json:
        if method == "eth_getTransactionReceipt" and params == [first] and honest is not None:
            return honest | {"status": "0x0", "logs": []}
        return None if method == "eth_getTransactionReceipt" and params == [second] else honest

    async with liar(town, lie) as url:
        desk.endpoint.url = url
        ways = [await through(town, desk, reverted), await desk.way(taken)]
    assert not {state for way in ways for state in way} & set(FAILED)
    for id, why in ((reverted, "it reverted, and the book has a log of it"), (taken, "the book holds the effect of")):
        stored = await desk.look(id)
        assert stored.state == "needs_operator" and why in stored.why, stored.why
    desk.endpoint.url = town.url
    for id in (reverted, taken):
        await desk.until(id, "final_ok")


async def test_a_receipt_that_cannot_be_true_is_no_answer_that_there_is_none(
    town: staking_belt.Town, desk: staking_belt.Desk
) -> None:
    """Or a mined cancel would look like another's transaction: nothing is given up, nothing is asked of a block, and the truth still counts."""
    id = await desk.propose("given up")
    await desk.step(desk.decide)
    await desk.cancel(id)
    await desk.run(2)
    await town.mine()
    await town.finalize()

    def bent(receipt: Json) -> Json:
        return None if receipt is None else receipt | {"contractAddress": "0x" + "00" * 20}

    async with staking_belt.answering(town.url, "eth_getTransactionReceipt", change=bent) as url:
        desk.endpoint.url = url
        for _ in range(3):
            await desk.clock.advance(sight.SETTLE_S)
            await desk.step(desk.index)
            await desk.step(desk.confirm)
        assert await desk.state(id) == "pending" and await desk.latches() == []
    desk.endpoint.url = town.url
    assert (await desk.until(id, "cancelled")).state == "cancelled"


async def test_a_proof_that_takes_long_goes_on_in_the_next_step_where_it_stopped(
    town: staking_belt.Town, desk: staking_belt.Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node that needs five seconds for each count of the past."""
    await town.mine(400)
    await town.client.call("evm_setAutomine", False)
    id = await desk.propose("a")
    await desk.until(id, "pending", mine=False)
    async with desk.book.read() as c:
        decided = (await decisions.for_intent(c, id))[-1].block_number
    await town.client.call("anvil_dropAllTransactions")
    await town.mine(100)
    await town.foreign(0)
    await town.mine(100)
    call, asked = jsonrpc.Endpoint.call, list[int]()

    async def slow(self: jsonrpc.Endpoint, method: str, params: Any, *more: Any, **named: Any) -> Any:
        if method == "eth_getTransactionCount" and str(params[1]).startswith("0x"):
            asked.append(int(params[1], 16))
            await desk.clock.advance(5)
        return await call(self, method, params, *more, **named)

    monkeypatch.setattr(jsonrpc.Endpoint, "call", slow)
    longest = 0.0
    for _ in range(20):
        await desk.step(desk.index)
        began = desk.clock.monotonic()
        await desk.confirm.step()
        longest = max(longest, desk.clock.monotonic() - began)
        await desk.clock.advance(1)
    assert await desk.state(id) == "superseded"
    assert proving.BUDGET_S <= longest <= proving.BUDGET_S + 5
    assert min(asked) >= decided  # the nonce was free there
    assert len(asked) == len(set(asked)) <= 11  # nothing is asked twice


async def test_no_question_waits_for_ever_behind_others_that_have_no_answer_yet(
    desk: staking_belt.Desk,
) -> None:
    prover = proving.Prover(desk.delegator)
    standing: Any = SimpleNamespace(finalized=None)
    asked: Any = [
        (SimpleNamespace(stored=SimpleNamespace(id=bytes([nonce]) * 32), nonce=nonce), questions.Taken(nonce))
        for nonce in range(proving.MOST + 3)
    ]
    seen = set[int]()
    for _ in range(2):
        for one, question in prover.turn(asked):
            seen.add(one.nonce)
            await prover.ask(one, question, standing)
    assert seen == set(range(proving.MOST + 3))
