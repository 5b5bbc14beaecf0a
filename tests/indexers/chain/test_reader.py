"""Reads of a real node, and of one whose words are bent on the way."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import given

from devnet import anvil, proxy, rpc
from domain import chain, errors, hashing
from indexers.chain import reader, wire
from kit import jsonrpc
from tests.agent import indexing


@pytest.fixture
async def on() -> AsyncIterator[indexing.Chain]:
    async with indexing.running() as it:
        for _ in range(6):
            await it.emit(2)
        yield it


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


def reading(url: str, session: aiohttp.ClientSession, **options: Any) -> reader.Reader:
    return reader.Reader(jsonrpc.Endpoint(url, session=session, timeout_s=5), **options)


def filter_of(on: indexing.Chain) -> reader.Filter:
    return reader.Filter((bytes.fromhex(on.address[2:]),), (indexing.TOPIC,))


async def test_a_tip_is_one_exchange_with_chain_genesis_head_and_finality(
    on: indexing.Chain, session: aiohttp.ClientSession
) -> None:
    source = reading(on.url, session)
    await on.mine(20)
    tip = await source.tip()
    assert (tip.chain_id, tip.genesis, tip.head.number) == (anvil.CHAIN_ID, on.genesis, await on.head())
    assert tip.finalized is not None
    assert tip.finalized.number == tip.head.number - on.node.finality_depth
    assert source.endpoint.calls == 1
    assert (await source.finalized()) == tip.finalized
    assert (await source.chain_id(), await source.genesis()) == (tip.chain_id, tip.genesis)


async def test_headers_by_number_and_by_hash_agree(on: indexing.Chain, session: aiohttp.ClientSession) -> None:
    source = reading(on.url, session)
    headers = await source.headers_at([3, 1, 2])
    assert [header.number for header in headers] == [3, 1, 2]
    assert await source.header_by_hash(headers[0].hash) == headers[0]
    assert headers[0].parent == headers[2].hash


async def test_a_block_the_node_lacks_is_none_by_hash_and_an_error_by_number(
    on: indexing.Chain, session: aiohttp.ClientSession
) -> None:
    source = reading(on.url, session)
    assert await source.header_by_hash(bytes(32)) is None
    assert await source.receipts_of(chain.BlockRef(1, bytes(32))) is None
    with pytest.raises(jsonrpc.UnknownBlock):
        await source.header_at(10_000)


async def test_a_range_past_the_head_is_refused_although_the_node_would_clamp_it(
    on: indexing.Chain, session: aiohttp.ClientSession
) -> None:
    source = reading(on.url, session)
    head = await on.head()
    with pytest.raises(jsonrpc.UnknownBlock):
        await source.logs_in(filter_of(on), first=1, last=head + 50)
    with pytest.raises(jsonrpc.UnknownBlock):
        await source.logs_in(filter_of(on), first=head + 1, last=head + 50)


async def test_logs_of_a_block_that_was_replaced_are_an_unknown_block(
    on: indexing.Chain, session: aiohttp.ClientSession
) -> None:
    source = reading(on.url, session)
    ref = (await source.header_at(await on.head())).ref
    assert len((await source.logs_of(filter_of(on), [ref]))[0]) == 2
    await on.reorg(1)
    with pytest.raises(jsonrpc.UnknownBlock):
        await source.logs_of(filter_of(on), [ref])


@pytest.mark.parametrize(
    "fault",
    ["duplicate-logs", "reorder-logs", "alter-logs:what=address", "alter-logs:what=block", "alter-logs:what=index"],
)
async def test_logs_that_contradict_themselves_are_a_bad_answer(
    on: indexing.Chain, session: aiohttp.ClientSession, fault: str
) -> None:
    async with proxy.LyingNode(on.url, [fault]) as node:
        source = reading(node.url, session)
        ref = (await source.header_at(await on.head())).ref
        with pytest.raises(errors.BadAnswer):
            await source.logs_of(filter_of(on), [ref])


async def test_a_future_forks_header_says_which_field_and_what_to_do(
    on: indexing.Chain, session: aiohttp.ClientSession
) -> None:
    source = reading(on.url, session)
    answer = await on.block("latest")
    answer |= {"blockAccessListHash": "0x" + "00" * 32, "hash": "0x" + "11" * 32}
    with pytest.raises(errors.BadAnswer, match=r"blockAccessListHash.*upgrade"):
        source._header(msgspec.Raw(msgspec.json.encode(answer)))  # pyright: ignore[reportPrivateUsage]


async def test_without_recomputation_a_foreign_header_is_taken_at_its_word(
    on: indexing.Chain, session: aiohttp.ClientSession
) -> None:
    async with proxy.LyingNode(on.url, ["wrong-header:field=gasUsed"]) as node:
        assert (await reading(node.url, session, recompute=False).header_at(2)).number == 2
        with pytest.raises(errors.BadAnswer):
            await reading(node.url, session).header_at(2)


@given(st.text(alphabet="0x123456789abcdefABCDEFG_- +\u0661", max_size=70) | st.integers() | st.none())
def test_numbers_are_parsed_strictly_or_refused(text: object) -> None:
    try:
        value = wire.number(text, "n")
    except errors.BadAnswer:
        return
    assert isinstance(text, str)
    assert value == int(text, 16)
    assert 0 <= value < 1 << 64
    assert not set(text[2:]) - set("0123456789abcdefABCDEF")


@pytest.mark.parametrize("text", ["0x", "0x-1", "0x_1", "0x 1", "1", "0x1_0", "0X1", "0x" + "f" * 17, "0x1\n", "0x١"])
def test_odd_numbers_are_refused(text: str) -> None:
    with pytest.raises(errors.BadAnswer):
        wire.number(text, "n")


def test_a_height_beyond_a_database_integer_is_refused() -> None:
    with pytest.raises(errors.BadAnswer):
        wire.height("0x8000000000000000", "n")


@given(
    st.binary(min_size=20, max_size=20),
    st.lists(st.binary(min_size=32, max_size=32), max_size=4),
    st.binary(max_size=100),
    st.integers(0, (1 << 63) - 1),
)
def test_a_log_survives_the_wire(address: bytes, topics: list[bytes], data: bytes, number: int) -> None:
    raw = wire.Log(
        address=hashing.hex0x(address),
        topics=[hashing.hex0x(topic) for topic in topics],
        data=hashing.hex0x(data),
        blockNumber=hex(number),
        blockHash=hashing.hex0x(bytes(32)),
        transactionHash=hashing.hex0x(bytes(32)),
        transactionIndex="0x0",
        logIndex="0x7",
    )
    found = wire.log(raw)
    assert (found.address, list(found.topics), found.data, found.block.number) == (address, topics, data, number)


@pytest.mark.parametrize(
    "change",
    [{"removed": True}, {"topics": ["0x" + "00" * 32] * 5}, {"topics": ["0x00"]}, {"address": "0x00"}, {"data": "0x0"},
     {"data": "00"}, {"blockHash": "0x"}],
)  # fmt: skip
def test_a_malformed_or_removed_log_is_refused(change: dict[str, Any]) -> None:
    good = wire.Log("0x" + "00" * 20, [], "0x", "0x1", "0x" + "00" * 32, "0x" + "00" * 32, "0x0", "0x0")
    wire.log(good)
    with pytest.raises(errors.BadAnswer):
        wire.log(msgspec.structs.replace(good, **change))


async def test_the_client_of_the_devnet_and_the_reader_see_one_chain(
    on: indexing.Chain, session: aiohttp.ClientSession
) -> None:
    async with rpc.Rpc(on.url) as client:
        answer = await client.call("eth_getBlockByNumber", "latest", False)
    assert (await reading(on.url, session).header_at(await on.head())).hash.hex() == answer["hash"][2:]
