"""Lies about logs, in eth_getLogs, in receipts and in both."""

from __future__ import annotations

from typing import Any

import pytest

from domain import hashing
from tests.proxy.chain import BLOCKS, LOGS_PER_BLOCK, Chain
from tests.proxy.conftest import Lying

Json = Any
ALL = BLOCKS * LOGS_PER_BLOCK


def _flat(receipts: list[Json]) -> list[Json]:
    return [log for receipt in receipts for log in receipt["logs"]]


def _keys(logs: list[Json]) -> list[tuple[str, str]]:
    return [(log["blockHash"], log["logIndex"]) for log in logs]


async def test_k_logs_go_missing(chain: Chain, lying: Lying) -> None:
    async with lying("drop-logs:k=3") as node:
        told, truth = await chain.logs(url=node.url), await chain.logs()
    assert len(told) == ALL - 3
    assert [log for log in truth if log in told] == told


async def test_k_logs_go_missing_from_a_blocks_receipts(chain: Chain, lying: Lying) -> None:
    async with lying("drop-logs:k=2") as node:
        told, truth = await chain.receipts(5, url=node.url), await chain.receipts(5)
    assert len(told) == len(truth)
    assert len(_flat(told)) == LOGS_PER_BLOCK - 2
    assert [r["logsBloom"] for r in told] == [r["logsBloom"] for r in truth]


async def test_some_of_n_are_the_same_logs_in_every_answer(chain: Chain, lying: Lying) -> None:
    async with lying("drop-logs:k=1,of=3") as node:
        whole = await chain.logs(url=node.url)
        again = await chain.logs(url=node.url)
        by_block = [log for n in range(BLOCKS + 2) for log in await chain.logs(n, n, url=node.url)]
        by_receipts = [log for n in range(BLOCKS + 2) for log in _flat(await chain.receipts(n, url=node.url))]
    assert 0 < len(whole) < ALL
    assert whole == again == by_block
    assert _keys(by_receipts) == _keys(whole)


async def test_all_logs_go_missing(chain: Chain, lying: Lying) -> None:
    async with lying("drop-all-logs") as node:
        assert await chain.logs(url=node.url) == []
        assert _flat(await chain.receipts(5, url=node.url)) == []


@pytest.mark.parametrize(
    ("what", "field"),
    [
        ("data", "data"), ("topic", "topics"), ("address", "address"),
        ("index", "logIndex"), ("tx", "transactionHash"), ("block", "blockNumber"),
    ],
)  # fmt: skip
async def test_one_field_of_one_log_changes(chain: Chain, lying: Lying, what: str, field: str) -> None:
    async with lying(f"alter-logs:what={what}") as node:
        told, truth = await chain.logs(url=node.url), await chain.logs()
    wrong = [(a, b) for a, b in zip(truth, told, strict=True) if a != b]
    assert len(wrong) == 1
    assert [key for key in wrong[0][0] if wrong[0][0][key] != wrong[0][1][key]] == [field]
    assert len(str(wrong[0][0][field])) == len(str(wrong[0][1][field]))


async def test_a_log_is_said_twice(chain: Chain, lying: Lying) -> None:
    async with lying("duplicate-logs:k=2") as node:
        told, truth = await chain.logs(url=node.url), await chain.logs()
    assert len(told) == ALL + 2
    assert len(set(_keys(told))) == ALL
    assert [log for at, log in enumerate(told) if at == 0 or log != told[at - 1]] == truth


async def test_logs_come_in_another_order(chain: Chain, lying: Lying) -> None:
    async with lying("reorder-logs") as node:
        told, truth = await chain.logs(url=node.url), await chain.logs()
        receipts = await chain.receipts(5, url=node.url)
    assert told != truth
    assert sorted(map(str, told)) == sorted(map(str, truth))
    assert _flat(receipts) != _flat(await chain.receipts(5))


async def test_a_log_is_invented(chain: Chain, lying: Lying) -> None:
    async with lying("invent-logs:k=2") as node:
        told, truth = await chain.logs(url=node.url), await chain.logs()
        receipts = await chain.receipts(5, url=node.url)
    invented = [log for log in told if log not in truth]
    assert len(invented) == 2
    assert all(log["address"] == chain.address for log in invented)
    assert len(_flat(receipts)) == LOGS_PER_BLOCK + 2


async def test_a_log_is_invented_where_there_was_none(chain: Chain, lying: Lying) -> None:
    await chain.mine(0)
    empty = await chain.head()
    block = await chain.block(empty)
    async with lying("invent-logs") as node:
        told = await chain.logs(empty, empty, url=node.url)
        by_hash = {"address": chain.address, "blockHash": block["hash"]}
        told += await chain.call("eth_getLogs", by_hash, url=node.url)
    assert [log["blockHash"] for log in told] == [block["hash"]] * 2
    assert [log["blockNumber"] for log in told] == [block["number"]] * 2


async def test_a_covered_lie_about_receipts_is_consistent_in_itself(chain: Chain, lying: Lying) -> None:
    async with lying("drop-logs:k=2,cover=1") as node:
        told, truth = await chain.receipts(5, url=node.url), await chain.receipts(5)
    assert [log["logIndex"] for log in _flat(told)] == [hex(i) for i in range(LOGS_PER_BLOCK - 2)]
    for receipt in told:
        assert receipt["logsBloom"] == _bloom(receipt["logs"])
    assert [_bloom(receipt["logs"]) for receipt in truth] == [receipt["logsBloom"] for receipt in truth]
    assert told != truth


async def test_receipts_go_missing(chain: Chain, lying: Lying) -> None:
    async with lying("drop-receipts:k=2") as node:
        told, truth = await chain.receipts(5, url=node.url), await chain.receipts(5)
    assert len(told) == 1
    assert told[0] in truth


async def test_a_receipt_alone_is_lied_about_too(chain: Chain, lying: Lying) -> None:
    receipt = (await chain.receipts(5))[0]
    async with lying("drop-logs") as node:
        told = await chain.call("eth_getTransactionReceipt", receipt["transactionHash"], url=node.url)
    assert len(told["logs"]) == len(receipt["logs"]) - 1


async def test_one_seed_tells_the_same_lies_twice(chain: Chain, lying: Lying) -> None:
    async def told(seed: int) -> list[Json]:
        async with lying("drop-logs:p=0.5", "alter-logs:p=0.5,k=2", seed=seed) as node:
            return [await chain.logs(url=node.url) for _ in range(6)]

    assert await told(7) == await told(7)
    assert await told(7) != await told(8)


async def test_calls_of_another_method_do_not_change_the_lies(chain: Chain, lying: Lying) -> None:
    async def told(*, between: bool) -> list[Json]:
        answers: list[Json] = []
        async with lying("drop-logs:p=0.5", seed=3) as node:
            for _ in range(6):
                answers.append(await chain.logs(url=node.url))
                if between:
                    await chain.receipts(5, url=node.url)
        return answers

    assert await told(between=True) == await told(between=False)


async def test_filters_say_when_a_fault_fires(chain: Chain, lying: Lying) -> None:
    async with lying("drop-all-logs:methods=eth_getLogs,skip=1,count=2") as node:
        counts = [len(await chain.logs(url=node.url)) for _ in range(5)]
        assert counts == [ALL, 0, 0, ALL, ALL]
        assert len(_flat(await chain.receipts(5, url=node.url))) == LOGS_PER_BLOCK
        assert node.fired["drop-all-logs"] == 2


async def test_an_answer_without_logs_uses_up_no_lie(chain: Chain, lying: Lying) -> None:
    async with lying("drop-all-logs:count=1") as node:
        assert await chain.logs(0, 0, url=node.url) == []
        assert node.fired["drop-all-logs"] == 0
        assert await chain.logs(url=node.url) == []
        assert len(await chain.logs(url=node.url)) == ALL


def _bloom(logs: list[Json]) -> str:
    bits = 0
    for log in logs:
        for value in (log["address"], *log["topics"]):
            digest = hashing.keccak256(bytes.fromhex(value[2:]))
            for at in (0, 2, 4):
                bits |= 1 << (int.from_bytes(digest[at : at + 2], "big") & 2047)
    return f"0x{bits:0512x}"
