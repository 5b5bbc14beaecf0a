"""The JSON-RPC client against servers that answer anything."""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import hypothesis.strategies as st
import msgspec
import pytest
from aiohttp import web
from hypothesis import HealthCheck, given, settings

from domain import errors
from kit import jsonrpc

Answer = Callable[[web.Request, Any], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def serving(answer: Answer, **options: Any) -> AsyncIterator[jsonrpc.Endpoint]:
    async def handle(request: web.Request) -> web.StreamResponse:
        return await answer(request, await request.json())

    app = web.Application()
    app.router.add_post("/{key:.*}", handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    try:
        async with aiohttp.ClientSession() as session:
            yield jsonrpc.Endpoint(
                f"http://127.0.0.1:{port}/secret-key", session=session, **{"timeout_s": 2, **options}
            )
    finally:
        await runner.cleanup()


def result(value: Any, **more: Any) -> Answer:
    async def answer(_: web.Request, call: Any) -> web.StreamResponse:
        return web.json_response({"jsonrpc": "2.0", "id": call["id"], "result": value, **more})

    return answer


def error(code: int, message: str, **more: Any) -> Answer:
    async def answer(_: web.Request, call: Any) -> web.StreamResponse:
        body = {"code": code, "message": message, **more}
        if isinstance(call, list):
            return web.json_response({"jsonrpc": "2.0", "id": None, "error": body})
        return web.json_response({"jsonrpc": "2.0", "id": call["id"], "error": body})

    return answer


def raw(body: bytes, *, status: int = 200, headers: dict[str, str] | None = None) -> Answer:
    async def answer(_: web.Request, call: Any) -> web.StreamResponse:
        return web.Response(body=body, status=status, headers=headers or {})

    return answer


async def test_a_result_comes_typed() -> None:
    async with serving(result("0x10")) as endpoint:
        assert await endpoint.call("eth_blockNumber", [], str) == "0x10"


async def test_a_result_of_another_type_is_a_bad_answer_that_names_the_method() -> None:
    async with serving(result({"number": 1})) as endpoint:
        with pytest.raises(errors.BadAnswer, match="eth_blockNumber"):
            await endpoint.call("eth_blockNumber", [], str)


async def test_null_where_a_value_was_asked_for_is_a_bad_answer() -> None:
    async with serving(result(None)) as endpoint:
        with pytest.raises(errors.BadAnswer):
            await endpoint.call("eth_blockNumber", [], str)
        assert jsonrpc.head(await endpoint.call("eth_blockNumber", [], msgspec.Raw), 9) == b"null"


@pytest.mark.parametrize(
    "body",
    [
        b'{"jsonrpc":"2.0","id":999,"result":"0x1"}',
        b'{"jsonrpc":"2.0","result":"0x1"}',
        b'{"jsonrpc":"2.0","id":1}',
        b'{"jsonrpc":"2.0","id":"1","result":"0x1"}',
        b'{"jsonrpc":"2.0","id":1,"result":"0x1"]',
        b'{"jsonrpc":"2.0","id":1,"result":"\xff\xfe"}',
        b'{"jsonrpc":"2.0","id":1,"error":"no"}',
        b'{"jsonrpc":"2.0","id":1,"error":{"message":"no code"}}',
        b"[" * 100_000,
        b"[]",
        b"{}",
        b'{"id":1e999,"result":1}',
    ],
)
async def test_malformed_answers_are_bad_answers(body: bytes) -> None:
    async with serving(raw(body)) as endpoint:
        with pytest.raises(errors.BadAnswer):
            await endpoint.call("eth_blockNumber", [], str)


@pytest.mark.parametrize("status", [200, 404, 500])
@pytest.mark.parametrize(
    "body",
    [b'{"jsonrpc":"2.0","id":1,"result":"0x1"', b"<html>busy</html>", b"", b"upstream error", b"\0\0\0", b'"text"'],
)
async def test_what_is_no_json_object_is_transient(body: bytes, status: int) -> None:
    async with serving(raw(body, status=status)) as endpoint:
        with pytest.raises(errors.Transient):
            await endpoint.call("eth_blockNumber", [], str)


@pytest.mark.parametrize(
    ("header", "low", "high"),
    [("7", 7, 7), ("0", 0, 0), ("999999999999999", 300, 300), ("Wed, 21 Oct 2099 07:28:00 GMT", 300, 300),
     ("Wed, 21 Oct 2015 07:28:00 GMT", 0, 0)],
)  # fmt: skip
@pytest.mark.parametrize("status", [429, 503])
async def test_a_peers_wish_to_wait_is_carried_and_bounded(status: int, header: str, low: float, high: float) -> None:
    async with serving(raw(b"{}", status=status, headers={"retry-after": header})) as endpoint:
        with pytest.raises(errors.Transient) as caught:
            await endpoint.call("eth_blockNumber", [], str)
        assert caught.value.retry_after_s is not None
        assert low <= caught.value.retry_after_s <= high


@pytest.mark.parametrize("header", ["soon", "-1", "", "²"])
async def test_a_senseless_wish_is_ignored(header: str) -> None:
    async with serving(
        raw(b"{}", status=429, headers={"retry-after": header} if header.isascii() else None)
    ) as endpoint:
        with pytest.raises(errors.Transient) as caught:
            await endpoint.call("eth_blockNumber", [], str)
        assert caught.value.retry_after_s is None


async def test_an_error_object_under_an_error_status_is_read() -> None:
    async def answer(_: web.Request, call: Any) -> web.StreamResponse:
        return web.json_response({"id": call["id"], "error": {"code": -32000, "message": "unknown block"}}, status=400)

    async with serving(answer) as endpoint:
        with pytest.raises(jsonrpc.UnknownBlock):
            await endpoint.call("eth_getLogs", [], list[str])


async def test_a_body_is_cut_off_while_it_streams() -> None:
    sent = 0

    async def answer(request: web.Request, _: Any) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(10_000):
            try:
                await response.write(b" " * 65536)
            except (ConnectionError, asyncio.CancelledError):
                break
            sent += 65536
        return response

    async with serving(answer, max_bytes=1 << 20) as endpoint:
        with pytest.raises(jsonrpc.RangeRefused):
            await endpoint.call("eth_getLogs", [], list[str])
    assert sent < 64 << 20


@pytest.mark.parametrize("layers", [1, 2])
async def test_a_gzip_bomb_stays_small_in_memory(layers: int) -> None:
    bomb = b" " * (100 << 20)
    for _ in range(layers):
        bomb = gzip.compress(bomb)
    async with serving(raw(bomb, headers={"content-encoding": "gzip"}), max_bytes=1 << 20) as endpoint:
        with pytest.raises(errors.Transient):
            await endpoint.call("eth_getLogs", [], list[str])
        assert endpoint.bytes_received <= 1 << 20


@pytest.mark.parametrize(("name", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
async def test_compressed_answers_are_read(name: str, pack: Callable[[bytes], bytes]) -> None:
    body = pack(b'{"jsonrpc":"2.0","id":1,"result":"0x1"}')
    async with serving(raw(body, headers={"content-encoding": name})) as endpoint:
        assert await endpoint.call("eth_blockNumber", [], str) == "0x1"


@pytest.mark.parametrize(
    ("body", "encoding"),
    [(gzip.compress(b"{}" * 1000, mtime=0)[:-9], "gzip"), (b"not gzip", "gzip"), (b"{}", "br"), (b"{}", "gzip, gzip")],
)
async def test_damaged_or_unoffered_compression_is_transient(body: bytes, encoding: str) -> None:
    async with serving(raw(body, headers={"content-encoding": encoding})) as endpoint:
        with pytest.raises(errors.Transient):
            await endpoint.call("eth_blockNumber", [], str)


async def test_a_silent_server_is_given_up() -> None:
    async def answer(*_: Any) -> web.StreamResponse:
        await asyncio.sleep(30)
        return web.Response()

    async with serving(answer, timeout_s=0.1) as endpoint:
        with pytest.raises(errors.Transient, match=r"0\.1 s"):
            await endpoint.call("eth_blockNumber", [], str)


async def test_a_server_that_drips_is_given_up() -> None:
    async def answer(request: web.Request, _: Any) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(100):
            await response.write(b" ")
            await asyncio.sleep(0.05)
        return response

    async with serving(answer, timeout_s=0.2) as endpoint:
        with pytest.raises(errors.Transient):
            await endpoint.call("eth_blockNumber", [], str)


async def test_a_redirect_is_not_followed() -> None:
    async with serving(raw(b"", status=307, headers={"location": "http://127.0.0.1:9/"})) as endpoint:
        with pytest.raises(errors.Transient, match="307"):
            await endpoint.call("eth_blockNumber", [], str)


async def test_no_error_shows_the_path_of_the_address() -> None:
    async with aiohttp.ClientSession() as session:
        endpoint = jsonrpc.Endpoint("http://127.0.0.1:9/v3/secret-key", session=session, timeout_s=1)
        with pytest.raises(errors.Transient) as caught:
            await endpoint.call("eth_blockNumber", [], str)
    assert "secret" not in str(caught.value)
    assert "127.0.0.1:9" in str(caught.value)


# --- batches ---


def in_order(shuffle: Callable[[list[Any]], list[Any]]) -> Answer:
    async def answer(_: web.Request, calls: Any) -> web.StreamResponse:
        if isinstance(calls, dict):
            return web.json_response({"id": calls["id"], "result": calls["params"][0]})
        return web.json_response(shuffle([{"id": call["id"], "result": call["params"][0]} for call in calls]))

    return answer


def calls(count: int) -> list[jsonrpc.Call]:
    return [("echo", [f"v{n}"]) for n in range(count)]


@pytest.mark.parametrize("shuffle", [lambda x: x, lambda x: x[::-1], lambda x: sorted(x, key=lambda e: e["result"])])
async def test_a_batch_answers_in_the_order_of_the_calls(shuffle: Callable[[list[Any]], list[Any]]) -> None:
    async with serving(in_order(shuffle)) as endpoint:
        assert await endpoint.batch(calls(12), str) == [f"v{n}" for n in range(12)]
        assert await endpoint.batch([], str) == []
        assert await endpoint.batch(calls(1), str) == ["v0"]


@pytest.mark.parametrize(
    "shuffle",
    [lambda x: x[:-1], lambda x: [x[0], *x], lambda x: [*x[:-1], {**x[-1], "id": 10_000}], lambda _: [], lambda x: [*x, {"id": None}]],
)  # fmt: skip
async def test_a_batch_with_missing_repeated_or_foreign_ids_is_a_bad_answer(
    shuffle: Callable[[list[Any]], list[Any]],
) -> None:
    async with serving(in_order(shuffle)) as endpoint:
        with pytest.raises(errors.BadAnswer):
            await endpoint.batch(calls(3), str)


async def test_one_failing_item_fails_the_batch_with_its_error() -> None:
    async def answer(_: web.Request, batch: Any) -> web.StreamResponse:
        first, *others = batch
        answers = [
            {"id": other["id"], "error": {"code": 4444, "message": "pruned history unavailable"}} for other in others
        ]
        return web.json_response([{"id": first["id"], "result": "0x1"}, *answers])

    async with serving(answer) as endpoint:
        with pytest.raises(errors.HistoryUnavailable):
            await endpoint.batch(calls(3), str)


async def test_history_that_is_gone_is_the_answer_of_one_that_is_asked_alone() -> None:
    async with serving(error(4444, "pruned history unavailable")) as endpoint:
        (found,) = await endpoint.each(calls(1), str)
    assert isinstance(found, errors.HistoryUnavailable)


async def test_what_stands_for_itself_fails_by_itself() -> None:
    def answered(call: Any) -> Any:
        if call["params"] == ["v1"]:
            return {"id": call["id"], "error": {"code": -32000, "message": "transaction indexing is in progress"}}
        return {"id": call["id"], "result": call["params"][0]}

    async def answer(_: web.Request, asked: Any) -> web.StreamResponse:
        if isinstance(asked, list) and len(asked) > 2:
            return await error(-32600, "batch too large")(_, asked)
        return web.json_response([answered(call) for call in asked] if isinstance(asked, list) else answered(asked))

    async with serving(answer) as endpoint:
        for count in (2, 5):
            said = await endpoint.each(calls(count), str)
            assert isinstance(said[1], jsonrpc.RpcError)
            assert [said[0], *said[2:]] == [f"v{n}" for n in range(count) if n != 1]
        (alone,) = await endpoint.each(calls(2)[1:], str)
        assert isinstance(alone, jsonrpc.RpcError)
        endpoint.timeout_s, endpoint.url = 0.1, "http://127.0.0.1:9/"
        with pytest.raises(errors.Transient):
            await endpoint.each(calls(1), str)


@pytest.mark.parametrize("limit", [1, 3, 50])
async def test_a_refused_batch_shrinks_until_it_fits(limit: int) -> None:
    async def answer(request: web.Request, batch: Any) -> web.StreamResponse:
        if isinstance(batch, list) and len(batch) > limit:
            return await error(-32600, "batch too large")(request, batch)
        return await in_order(lambda x: x)(request, batch)

    async with serving(answer) as endpoint:
        assert await endpoint.batch(calls(120), str) == [f"v{n}" for n in range(120)]
        assert endpoint.max_batch <= max(limit, 1)


async def test_a_node_that_once_refused_a_batch_is_asked_for_as_many_again_after_a_while() -> None:
    """Each piece is a request, and a balancer's other backends may take them whole."""
    refusing, asked = [True], list[int]()

    async def answer(request: web.Request, batch: Any) -> web.StreamResponse:
        asked.append(len(batch) if isinstance(batch, list) else 1)
        if refusing[0] and isinstance(batch, list):
            return await error(-32600, "batch too large")(request, batch)
        return await in_order(lambda x: x)(request, batch)

    async with serving(answer) as endpoint:
        await endpoint.each(calls(4), str)
        assert endpoint.max_batch == 1
        refusing[0] = False
        for _ in range(8 * jsonrpc.GROWS_AFTER):
            await endpoint.each(calls(4), str)
        assert asked[-1] == 4


@pytest.mark.parametrize("text", ["daily request count exceeded, request rate limited", "too many requests"])
async def test_a_batch_that_is_throttled_is_not_asked_again_in_smaller_ones(text: str) -> None:
    asked = list[int]()

    async def answer(request: web.Request, batch: Any) -> web.StreamResponse:
        asked.append(len(batch))
        return await error(-32005, text)(request, batch)

    async with serving(answer) as endpoint:
        with pytest.raises(jsonrpc.Throttled):
            await endpoint.each(calls(11), str)
    assert asked == [11] and endpoint.max_batch == jsonrpc.FIRST_BATCH


# --- wordings ---


@pytest.mark.parametrize(
    ("code", "text", "expected", "blocks"),
    [
        (-32005, "query returned more than 10000 results. Try with this block range [0x64, 0xc7].", jsonrpc.RangeRefused, 100),
        (-32602, "Log response size exceeded. You can make eth_getLogs requests with up to a 2K block range and no limit on the "
         "response size. Based on your parameters, this block range should work: [0x0, 0x9]", jsonrpc.RangeRefused, 10),
        (-32600, "block range is too wide", jsonrpc.RangeRefused, None),
        (-32614, "eth_getLogs is limited to a 10,000 range", jsonrpc.RangeRefused, 10_000),
        (-32602, "eth_getLogs is limited to 1024 block range", jsonrpc.RangeRefused, 1024),
        (-32000, "requested too many blocks from 1 to 5000, maximum is set to 2048", jsonrpc.RangeRefused, 2048),
        (-32047, "Invalid eth_getLogs request. 'fromBlock'-'toBlock' range too large. Max range: 800", jsonrpc.RangeRefused, 800),
        (-32005, "Maximum allowed number of requested blocks is 1000", jsonrpc.RangeRefused, 1000),
        (-32701, "exceed maximum block range: 50000", jsonrpc.RangeRefused, 50_000),
        (-32602, "query exceeds max results 20000, retry with the range 1-2", jsonrpc.RangeRefused, None),
        (-32602, "query exceeds max block range 100000", jsonrpc.RangeRefused, 100_000),
        (-32000, "logs matched by query exceeds limit of 10000", jsonrpc.RangeRefused, None),
        (-32020, "backend response too large", jsonrpc.RangeRefused, None),
        (-32000, "response size should not greater than 10000000 bytes", jsonrpc.RangeRefused, None),
        (-32000, "Block range limit exceeded. See more details at the docs", jsonrpc.RangeRefused, None),
        (-32602, "please limit the query to at most 1,000 blocks", jsonrpc.RangeRefused, 1000),
        (-32000, "query timeout exceeded. Consider reducing your block range.", jsonrpc.RangeRefused, None),
        (-32005, "Requested range exceeds maximum RPC range limit", jsonrpc.RangeRefused, None),
        (-32000, "Too many logs requested. Max logs per response is 20000.", jsonrpc.RangeRefused, None),
        (4444, "pruned history unavailable", errors.HistoryUnavailable, None),
        (-32000, "Pruned history unavailable", errors.HistoryUnavailable, None),
        (-32000, "Receipt not available for From block 14319330.", errors.HistoryUnavailable, None),
        (-32000, "getReceipt error: ReceiptsGen: PrepareEnv: bn=71837901, old data not available due to pruning",
         errors.HistoryUnavailable, None),
        (-32000, "state transitaion failed: seek with txNum=1962853355 but data before txNum=2662500000 is not available",
         errors.HistoryUnavailable, None),
        (-32000, "missing trie node abc (path ) state 0xabc is not available, not found", errors.HistoryUnavailable, None),
        (-32002, "No state available for block 12", errors.HistoryUnavailable, None),
        (-32000, "World state unavailable", errors.HistoryUnavailable, None),
        (-32000, "required historical state unavailable (reexec=128)", errors.HistoryUnavailable, None),
        (-32000, "unknown block", jsonrpc.UnknownBlock, None),
        (-32000, "header not found", jsonrpc.UnknownBlock, None),
        (-32000, "header for hash not found", jsonrpc.UnknownBlock, None),
        (-32000, "block not found 11185311", jsonrpc.UnknownBlock, None),
        (-32001, "block not found: hash 0xabcdef", jsonrpc.UnknownBlock, None),
        (-32000, "Block not found", jsonrpc.UnknownBlock, None),
        (-32001, "One of the blocks specified in filter (fromBlock, toBlock or blockHash) cannot be found.", jsonrpc.UnknownBlock,
         None),
        (-32602, "BlockOutOfRangeError: block height is 4 but requested was 153", jsonrpc.UnknownBlock, None),
        (-32602, "block range extends beyond current head block", jsonrpc.UnknownBlock, None),
        (-32601, "Method not found", jsonrpc.MethodMissing, None),
        (-32601, "the method eth_getBlockReceipts does not exist/is not available", jsonrpc.MethodMissing, None),
        (-32005, "rate limit exceeded", jsonrpc.Throttled, None),
        (429, "Your app has exceeded its compute units per second capacity", jsonrpc.Throttled, None),
        (3, "execution reverted: rate limit", jsonrpc.RpcError, None),
        (-32015, "Reverted: over capacity", jsonrpc.RpcError, None),
        (-32603, "internal error", jsonrpc.RpcError, None),
        (-32000, "", jsonrpc.RpcError, None),
    ],
)  # fmt: skip
async def test_wordings_of_nodes_and_providers_are_understood(
    code: int, text: str, expected: type[Exception], blocks: int | None
) -> None:
    async with serving(error(code, text)) as endpoint:
        with pytest.raises(expected) as caught:
            await endpoint.call("eth_getLogs", [], list[str])
    assert type(caught.value) is expected
    assert getattr(caught.value, "blocks", None) == blocks


async def test_a_hostile_error_text_is_clipped() -> None:
    async with serving(error(-32000, "\0\x1b[31m" + "x" * 100_000)) as endpoint:
        with pytest.raises(jsonrpc.RpcError) as caught:
            await endpoint.call("eth_getLogs", [], list[str])
    assert len(str(caught.value)) < 600
    assert "\x1b" not in str(caught.value)


# --- fuzz ---


@given(
    st.one_of(
        st.binary(max_size=200),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
            lambda inner: (
                st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["id", "result", "error", "code"]), inner)
            ),
            max_leaves=12,
        ).map(lambda value: json.dumps(value).encode()),
    )
)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_answer_crashes_the_client(body: bytes) -> None:
    async def ask() -> None:
        async with serving(raw(body)) as endpoint:
            for question in (
                endpoint.call("m", [], dict[str, str]),
                endpoint.batch([("m", []), ("m", [])], dict[str, str]),
            ):
                try:
                    await question
                except errors.StakesideError as caught:
                    assert "127.0.0.1" in str(caught)

    asyncio.run(ask())


async def test_every_exchange_is_observed() -> None:
    seen: list[tuple[str, str]] = []
    async with serving(
        error(-32000, "unknown block"), observe=lambda m, _, outcome: seen.append((m, outcome))
    ) as endpoint:
        with pytest.raises(jsonrpc.UnknownBlock):
            await endpoint.call("eth_getLogs", [], list[str])
    assert seen == [("eth_getLogs", "ok")]
    assert endpoint.calls == 1


async def test_batches_of_every_size_are_observed_under_one_name_and_fail_under_their_size() -> None:
    seen: set[str] = set()
    async with serving(error(-32000, "no"), observe=lambda m, _, __: seen.add(m)) as endpoint:
        for size in (1, 2, 7, 30):
            with pytest.raises(jsonrpc.RpcError) as caught:
                await endpoint.batch([("eth_getBlockByNumber", [])] * size, list[str])
            assert size == 1 or f"batch of {size} (eth_getBlockByNumber)" in str(caught.value)
    assert seen == {"eth_getBlockByNumber"}
