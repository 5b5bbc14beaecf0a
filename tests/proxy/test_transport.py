"""Replies that are lost, late, broken or refused, over HTTP."""

from __future__ import annotations

import asyncio
import json
import time

import aiohttp
import pytest

from devnet import proxy
from tests.proxy.chain import BLOCKS, LOGS_PER_BLOCK, Chain
from tests.proxy.conftest import Lying

ALL = BLOCKS * LOGS_PER_BLOCK
CALL = b'{"jsonrpc":"2.0","id":1,"method":"eth_chainId","params":[]}'
JSON = {"Content-Type": "application/json"}


async def test_the_reply_is_swallowed_after_forwarding(chain: Chain, lying: Lying) -> None:
    head = await chain.head()
    async with lying("swallow:methods=evm_mine") as node:
        with pytest.raises(aiohttp.ClientError):
            await chain.call("evm_mine", url=node.url)
        assert await chain.head(url=node.url) == head + 1


async def test_the_connection_is_cut_without_forwarding(chain: Chain, lying: Lying) -> None:
    head = await chain.head()
    async with lying("cut:methods=evm_mine") as node:
        with pytest.raises(aiohttp.ClientError):
            await chain.call("evm_mine", url=node.url)
        assert await chain.head(url=node.url) == head


@pytest.mark.parametrize("status", [429, 503])
async def test_a_refusal_names_when_to_come_back_or_not(
    chain: Chain, lying: Lying, session: aiohttp.ClientSession, status: int
) -> None:
    async with lying(f"{status}:count=1", f"{status}:retry_after=7,count=1") as node:
        seen: list[tuple[int, str | None]] = []
        for _ in range(3):
            async with session.post(node.url, data=CALL, headers=JSON) as answer:
                seen.append((answer.status, answer.headers.get("Retry-After")))
    assert seen == [(status, None), (status, "7"), (200, None)]


async def test_a_page_comes_instead_of_json(chain: Chain, lying: Lying, session: aiohttp.ClientSession) -> None:
    async with lying("html") as node, session.post(node.url, data=CALL, headers=JSON) as answer:
        assert (answer.status, answer.content_type) == (200, "text/html")
        assert (await answer.text()).startswith("<!DOCTYPE html>")


async def test_the_body_is_half(chain: Chain, lying: Lying) -> None:
    async with lying("truncate") as node:
        status, body = await chain.raw(CALL, url=node.url)
    assert (status, body) == (200, (await chain.raw(CALL))[1][: len(body)])
    with pytest.raises(json.JSONDecodeError):
        json.loads(body)


async def test_the_stream_ends_too_early(chain: Chain, lying: Lying) -> None:
    async with lying("truncate:how=stream") as node:
        with pytest.raises(aiohttp.ClientPayloadError):
            await chain.raw(CALL, url=node.url)


async def test_the_body_is_huge_and_arrives_in_pieces(
    chain: Chain, lying: Lying, session: aiohttp.ClientSession
) -> None:
    async with lying(f"huge:bytes={8 << 20}") as node:
        _, body = await chain.raw(CALL, url=node.url)
        assert len(body) > 8 << 20
        assert json.loads(body)["result"] == "0x7a69"
        node.set_faults([f"huge:bytes={1 << 40}"])
        async with session.post(node.url, data=CALL, headers=JSON) as answer:
            assert len(await answer.content.readexactly(4 << 20)) == 4 << 20


async def test_a_call_hangs_until_the_client_gives_up(chain: Chain, lying: Lying) -> None:
    async with lying("hang:seconds=30,methods=eth_chainId") as node:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(chain.raw(CALL, url=node.url), 0.3)
        assert await chain.head(url=node.url) == await chain.head()


@pytest.mark.parametrize(("when", "mined"), [("before", 0), ("after", 1)])
async def test_a_hanging_call_was_forwarded_first_or_not(chain: Chain, lying: Lying, when: str, mined: int) -> None:
    head = await chain.head()
    async with lying(f"hang:methods=evm_mine,when={when}") as node:
        asked = asyncio.create_task(chain.call("evm_mine", url=node.url))
        deadline = time.monotonic() + 10
        while not node.fired["hang"] or await chain.head() != head + mined:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)
        assert not asked.done()
        node.clear()
        await asyncio.wait_for(asked, 5)
    assert await chain.head() == head + 1


async def test_a_short_hang_ends_by_itself(chain: Chain, lying: Lying) -> None:
    async with lying("hang:seconds=0.2") as node:
        started = time.monotonic()
        assert (await chain.raw(CALL, url=node.url))[0] == 200
        assert time.monotonic() - started >= 0.2


async def test_one_bad_call_spoils_its_whole_batch(chain: Chain, lying: Lying) -> None:
    batch = b"[" + CALL + b"," + CALL.replace(b"eth_chainId", b"eth_blockNumber") + b"]"
    async with lying("503:methods=eth_blockNumber,count=1", "swallow:methods=eth_blockNumber,count=1") as node:
        assert (await chain.raw(batch, url=node.url))[0] == 503
        with pytest.raises(aiohttp.ClientError):
            await chain.raw(batch, url=node.url)
        assert await chain.raw(batch, url=node.url) == await chain.raw(batch)


async def test_a_fault_ends_with_its_time(chain: Chain, lying: Lying) -> None:
    async with lying("503:for_s=0.3") as node:
        assert (await chain.raw(CALL, url=node.url))[0] == 503
        deadline = time.monotonic() + 10
        while (await chain.raw(CALL, url=node.url))[0] != 200:
            assert time.monotonic() < deadline


async def test_faults_are_switched_from_another_process(
    chain: Chain, lying: Lying, session: aiohttp.ClientSession
) -> None:
    async with lying() as node:
        control = f"{node.url}/__faults"
        async with session.post(control, json={"faults": ["drop-all-logs"], "seed": 9}) as answer:
            assert (await answer.json())["faults"] == ["drop-all-logs"]
        assert await chain.logs(url=node.url) == []
        async with session.get(control) as answer:
            report = await answer.json()
        assert (report["fired"], report["seed"]) == ({"drop-all-logs": 1}, 9)
        async with session.delete(control) as answer:
            assert (await answer.json())["faults"] == []
        assert len(await chain.logs(url=node.url)) == ALL


async def test_a_mistyped_wish_changes_nothing(chain: Chain, lying: Lying, session: aiohttp.ClientSession) -> None:
    async with lying("empty") as node:
        control = f"{node.url}/__faults"
        async with session.post(control, json={"faults": ["dorp-logs"]}) as answer:
            assert (answer.status, "drop-logs" in await answer.text()) == (400, True)
        async with session.post(control, data='{"faults":[]}', headers={"Content-Type": "text/plain"}) as answer:
            assert answer.status == 415
        async with session.post(control, json={"fault": []}) as answer:
            assert answer.status == 400
        assert [str(f) for f in node.faults] == ["empty"]


async def test_the_same_port_can_be_had_again(chain: Chain) -> None:
    async with proxy.LyingNode(chain.url) as node:
        port = int(node.url.rsplit(":", 1)[1])
    async with proxy.LyingNode(chain.url, port=port) as node:
        assert await chain.head(url=node.url) == await chain.head()
