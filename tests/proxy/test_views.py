"""Lies about what the node has: ranges, heads, forks, history, identity."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from devnet import anvil, proxy
from domain import errors
from tests.proxy.chain import BLOCKS, LOGS_PER_BLOCK, Chain
from tests.proxy.conftest import Lying

Json = Any
ALL = BLOCKS * LOGS_PER_BLOCK


async def test_an_answer_is_empty_or_null(chain: Chain, lying: Lying) -> None:
    async with lying("empty", "null:methods=eth_getBlockByNumber") as node:
        assert await chain.logs(url=node.url) == []
        assert await chain.receipts(5, url=node.url) == []
        assert await chain.block(5, url=node.url) is None
        assert node.fired == {"empty": 2, "null": 1}


async def test_an_error_has_the_wanted_code_and_words(chain: Chain, lying: Lying) -> None:
    async with lying("error:methods=eth_getLogs,code=-32005,message=daily limit reached") as node:
        answer = await chain.ask("eth_getLogs", chain.filter(), url=node.url)
    assert answer == {"jsonrpc": "2.0", "id": 1, "error": {"code": -32005, "message": "daily limit reached"}}


async def test_a_range_past_the_head_is_cut_without_a_word(chain: Chain, lying: Lying) -> None:
    head = await chain.head()
    async with lying("clamp-range:k=3") as node:
        told = await chain.logs(0, head + 50, url=node.url)
        assert await chain.logs(0, "latest", url=node.url) == told
        assert await chain.logs(head - 2, head, url=node.url) == []
        assert await chain.logs(0, 5, url=node.url) == await chain.logs(0, 5)
    assert told == await chain.logs(0, head - 3)


@pytest.mark.parametrize("style", proxy.wordings.STYLES["refuse-range"])
async def test_a_wide_range_is_refused_in_a_providers_words(chain: Chain, lying: Lying, style: str) -> None:
    async with lying(f"refuse-range:blocks=5,style={style}") as node:
        answer = await chain.ask("eth_getLogs", chain.filter(2, 7), url=node.url)
        assert len(await chain.logs(2, 6, url=node.url)) == 5 * LOGS_PER_BLOCK
    assert isinstance(answer["error"]["code"], int)
    suggestion = re.search(r"\[(0x\w+), (0x\w+)\]", answer["error"]["message"])
    assert suggestion is None or suggestion.groups() == ("0x2", "0x6")


@pytest.mark.parametrize("style", proxy.wordings.STYLES["refuse-size"])
async def test_a_large_answer_is_refused_in_a_providers_words(chain: Chain, lying: Lying, style: str) -> None:
    limit = 2 * LOGS_PER_BLOCK
    async with lying(f"refuse-size:logs={limit},style={style}") as node:
        answer = await chain.ask("eth_getLogs", chain.filter(2, 5), url=node.url)
        assert len(await chain.logs(2, 3, url=node.url)) == limit
    assert "result" not in answer
    assert "{" not in answer["error"]["message"]


async def test_one_method_lags_while_headers_see_the_head(chain: Chain, lying: Lying) -> None:
    head = await chain.head()
    async with lying("lag:k=5") as node:
        assert await chain.head(url=node.url) == head
        assert await chain.block(head, url=node.url) == await chain.block(head)
        assert await chain.logs(url=node.url) == await chain.logs(0, head - 5)
        by_hash = {"blockHash": (await chain.block(head))["hash"]}
        assert await chain.call("eth_getLogs", by_hash, url=node.url) == []


async def test_a_lagging_node_may_say_so(chain: Chain, lying: Lying) -> None:
    head = await chain.head()
    async with lying("lag:k=5,beyond=error") as node:
        by_range = await chain.ask("eth_getLogs", chain.filter(0, head), url=node.url)
        by_hash = await chain.ask("eth_getLogs", {"blockHash": (await chain.block(head))["hash"]}, url=node.url)
        assert await chain.logs(0, head - 5, url=node.url) == await chain.logs(0, head - 5)
    assert by_range["error"]["code"] == -32602
    assert by_hash["error"] == {"code": -32000, "message": "unknown block"}


async def test_the_whole_node_falls_back_and_catches_up(chain: Chain, lying: Lying) -> None:
    head, tip = await chain.head(), await chain.block("latest")
    async with lying("head-back:k=3") as node:
        assert await chain.head(url=node.url) == head - 3
        assert await chain.block("latest", url=node.url) == await chain.block(head - 3)
        assert await chain.block(head, url=node.url) is None
        assert await chain.call("eth_getBlockByHash", tip["hash"], False, url=node.url) is None
        assert await chain.receipts(head, url=node.url) is None
        assert await chain.logs(url=node.url) == await chain.logs(0, head - 3)
        assert await chain.block("finalized", url=node.url) == await chain.block("finalized")
        node.clear()
        assert await chain.block("latest", url=node.url) == tip


async def test_the_fork_is_swapped_between_header_and_logs(chain: Chain, lying: Lying) -> None:
    head = await chain.head()
    async with lying("swap-fork:count=1") as node:
        seen = await chain.block(head, url=node.url)
        told = await chain.logs(head, head, url=node.url)
        answer = await chain.ask("eth_getLogs", {"blockHash": seen["hash"]}, url=node.url)
    assert told == []
    assert answer["error"]["message"] == "unknown block"
    assert await chain.head() == head
    assert (await chain.block(head))["hash"] != seen["hash"]


async def test_a_second_reorg_comes_while_the_first_is_walked(chain: Chain, lying: Lying) -> None:
    head = await chain.head()
    hashes = [(await chain.block(head - back))["hash"] for back in range(4)]
    async with lying("swap-fork:methods=eth_getBlockByHash,skip=1,count=1,depth=3") as node:
        walked = [await chain.call("eth_getBlockByHash", each, False, url=node.url) for each in hashes]
    assert [block is not None for block in walked] == [True, False, False, True]


async def test_a_swap_inside_a_batch_comes_between_its_calls(chain: Chain, lying: Lying) -> None:
    head = await chain.head()
    before = (await chain.block(head))["hash"]
    batch = (
        b'[{"jsonrpc":"2.0","id":1,"method":"eth_getBlockByNumber","params":["latest",false]},'
        b'{"jsonrpc":"2.0","id":2,"method":"eth_getLogs","params":[{"fromBlock":"latest","toBlock":"latest"}]}]'
    )
    async with lying("swap-fork") as node:
        _, body = await chain.raw(batch, url=node.url)
    answers: list[Json] = json.loads(body)
    assert answers[0]["result"]["hash"] == before
    assert answers[1]["result"] == []


async def test_a_swap_never_reaches_below_finality_by_itself(chain: Chain, lying: Lying) -> None:
    final = await chain.block("finalized")
    async with lying("swap-fork:depth=9,count=1") as node:
        await chain.logs(url=node.url)
    assert await chain.block(int(final["number"], 16)) == final


async def test_a_swap_can_be_played_by_the_caller(chain: Chain) -> None:
    depths: list[int] = []

    async def fork(depth: int) -> None:
        depths.append(depth)

    async with proxy.LyingNode(chain.url, ["swap-fork:depth=3,count=1"], fork=fork) as node:
        assert len(await chain.logs(url=node.url)) == ALL
    assert depths == [3]


async def test_one_method_is_answered_by_another_node(chain: Chain) -> None:
    async with anvil.Anvil() as other, proxy.LyingNode(chain.url, [f"other-node:url={other.url}"]) as node:
        assert await chain.logs(url=node.url) == []
        assert await chain.head(url=node.url) == await chain.head()


async def test_another_chain_id_is_claimed(chain: Chain, lying: Lying) -> None:
    async with lying("chain-id:id=5") as node:
        assert await chain.call("eth_chainId", url=node.url) == "0x5"
        assert await chain.call("net_version", url=node.url) == "5"


async def test_another_genesis_is_claimed_everywhere(chain: Chain, lying: Lying) -> None:
    real = await chain.block(0)
    async with lying("genesis", seed=4) as node:
        told, child = await chain.block(0, url=node.url), await chain.block(1, url=node.url)
        assert told == {**real, "hash": told["hash"]}
        assert await chain.block(5, url=node.url) == await chain.block(5)
    assert told["hash"] != real["hash"]
    assert child["parentHash"] == told["hash"]


@pytest.mark.parametrize(
    "field", ["stateRoot", "receiptsRoot", "parentHash", "hash", "logsBloom", "timestamp", "number"]
)
async def test_a_field_of_a_header_is_wrong(chain: Chain, lying: Lying, field: str) -> None:
    async with lying(f"wrong-header:field={field}") as node:
        told, truth = await chain.block(5, url=node.url), await chain.block(5)
    assert [key for key in truth if truth[key] != told[key]] == [field]
    assert len(truth[field]) == len(told[field])


_GONE = {
    "geth": "pruned history unavailable",
    "reth": "pruned history unavailable",
    "nethermind": "Pruned history unavailable",
    "erigon": "old data not available due to pruning: requested block 2, history is available from block 6",
    "trie": "missing trie node",
}


@pytest.mark.parametrize("style", _GONE)
async def test_pruned_history_is_refused_in_a_clients_words(chain: Chain, lying: Lying, style: str) -> None:
    async with lying(f"pruned:before=6,style={style}") as node:
        logs = await chain.ask("eth_getLogs", chain.filter(2, 8), url=node.url)
        old = {"blockHash": (await chain.block(5))["hash"]}
        by_hash = await chain.ask("eth_getLogs", old, url=node.url)
        receipts = await chain.ask("eth_getBlockReceipts", "0x5", url=node.url)
        assert await chain.logs(6, 8, url=node.url) == await chain.logs(6, 8)
        assert await chain.block(5, url=node.url) == await chain.block(5)
        assert "error" in await chain.ask("eth_getBalance", chain.address, "0x5", url=node.url)
        assert await chain.call("eth_getBalance", chain.address, "latest", url=node.url) == "0x0"
    assert logs["error"]["message"].startswith(_GONE[style])
    assert by_hash["error"]["code"] == receipts["error"]["code"] == logs["error"]["code"]


async def test_pruned_history_may_be_silently_empty(chain: Chain, lying: Lying) -> None:
    async with lying("pruned:before=6,style=silent,receipts=null,headers=null") as node:
        assert await chain.logs(2, 5, url=node.url) == []
        assert await chain.logs(2, 8, url=node.url) == await chain.logs(6, 8)
        assert await chain.call("eth_getLogs", {"blockHash": (await chain.block(5))["hash"]}, url=node.url) == []
        assert await chain.receipts(5, url=node.url) is None
        assert await chain.block(5, url=node.url) is None
        assert await chain.block(0, url=node.url) == await chain.block(0)
        assert await chain.receipts(6, url=node.url) == await chain.receipts(6)


async def test_pruning_can_follow_the_head(chain: Chain, lying: Lying) -> None:
    head = await chain.head()
    async with lying("pruned:keep=3,style=silent") as node:
        assert await chain.logs(0, head, url=node.url) == await chain.logs(head - 3, head)
        assert await chain.receipts(head - 4, url=node.url) == []


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("drop-lags", "drop-logs"), ("drop-logs:kk=1", "'k'"), ("drop-logs:k=x", "wants int"), ("drop-logs:k", "key=value"),
        ("refuse-range:style=foo", "infura"), ("alter-logs:what=hash", "topic"), ("hang:seconds=-1", "not negative"),
        ("pruned:style=besu", "silent"), ("lag:beyond=maybe", "clamp"), ("drop-logs:p=often", "wants float"),
    ],
)  # fmt: skip
def test_a_mistyped_fault_is_explained(text: str, advice: str) -> None:
    with pytest.raises(errors.BadConfig, match=re.escape(advice)):
        proxy.parse(text)


@pytest.mark.parametrize("name", proxy.catalogue.KINDS)
def test_a_fault_reads_back_as_it_is_written(name: str) -> None:
    plain = proxy.parse(name)
    busy = proxy.parse(f"{name}:methods=a|b,p=0.25,count=2,skip=1,for_s=3.5")
    assert proxy.parse(str(plain)) == plain
    assert str(plain) == name
    assert proxy.parse(str(busy)) == busy
    assert proxy.parse(name.replace("-", "_")) == plain
