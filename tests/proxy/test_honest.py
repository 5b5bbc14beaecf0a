"""Without a fault the lying node tells the truth, byte for byte."""

from __future__ import annotations

import json

from devnet import proxy
from tests.proxy.chain import BLOCKS, LOGS_PER_BLOCK, Chain
from tests.proxy.conftest import Lying

_CALLS = [
    ("eth_chainId", []),
    ("eth_blockNumber", []),
    ("eth_getBlockByNumber", ["latest", True]),
    ("eth_getBlockByNumber", ["0x0", False]),
    ("eth_getBlockReceipts", ["0x3"]),
    ("eth_getLogs", [{"fromBlock": "0x0", "toBlock": "latest"}]),
    ("eth_getLogs", [{"fromBlock": "0x0", "toBlock": "0x7777"}]),
    ("eth_noSuchMethod", []),
]


def _body(method: str, params: list[object], id_: object) -> dict[str, object]:
    return {"jsonrpc": "2.0", "id": id_, "method": method, "params": params}


async def test_every_answer_passes_byte_for_byte(chain: Chain, lying: Lying) -> None:
    async with lying() as node:
        for at, (method, params) in enumerate(_CALLS):
            body = json.dumps(_body(method, params, f"id-{at}")).encode()
            assert await chain.raw(body, url=node.url) == await chain.raw(body)


async def test_a_batch_passes_byte_for_byte(chain: Chain, lying: Lying) -> None:
    body = json.dumps([_body(m, p, i) for i, (m, p) in enumerate(_CALLS)]).encode()
    async with lying() as node:
        assert await chain.raw(body, url=node.url) == await chain.raw(body)


async def test_a_malformed_body_is_the_upstreams_business(chain: Chain, lying: Lying) -> None:
    async with lying("drop-all-logs") as node:
        for body in (b"{bad", b"[]", b"", b"7", b'{"jsonrpc":"2.0","id":1}'):
            assert await chain.raw(body, url=node.url) == await chain.raw(body)


async def test_a_fault_that_has_nothing_to_change_changes_no_byte(chain: Chain, lying: Lying) -> None:
    body = json.dumps([_body(m, p, i) for i, (m, p) in enumerate(_CALLS)]).encode()
    async with lying("drop-all-logs:skip=99", "refuse-range:blocks=99999999", "genesis:methods=eth_chainId") as node:
        assert await chain.raw(body, url=node.url) == await chain.raw(body)
        assert node.report()["fired"] == {}


async def test_in_a_batch_only_the_touched_answer_changes(chain: Chain, lying: Lying) -> None:
    body = json.dumps([_body(m, p, i) for i, (m, p) in enumerate(_CALLS)]).encode()
    _, truth = await chain.raw(body)
    async with lying("empty:methods=eth_getBlockReceipts") as node:
        _, told = await chain.raw(body, url=node.url)
    expected = json.loads(truth)
    expected[4]["result"] = []
    assert json.loads(told) == expected
    for answer in json.loads(truth)[:4]:
        assert json.dumps(answer, separators=(",", ":")).encode() in told


async def test_two_batch_calls_of_one_id_keep_their_places(chain: Chain, lying: Lying) -> None:
    calls = [_body("eth_chainId", [], 1), _body("eth_blockNumber", [], 1), _body("eth_getLogs", [chain.filter()], 1)]
    async with lying("drop-all-logs") as node:
        _, told = await chain.raw(json.dumps(calls).encode(), url=node.url)
    assert [a["result"] for a in json.loads(told)] == ["0x7a69", hex(BLOCKS + 1), []]


async def test_calls_and_bytes_are_counted_per_method(chain: Chain, lying: Lying) -> None:
    async with lying() as node:
        await chain.logs(url=node.url)
        await chain.logs(url=node.url)
        await chain.head(url=node.url)
        assert node.calls == {"eth_getLogs": 2, "eth_blockNumber": 1}
        assert node.bytes_out > node.bytes_in > 0


async def test_an_upstream_that_is_away_is_a_bad_gateway(chain: Chain) -> None:
    async with proxy.LyingNode("http://127.0.0.1:1") as node:
        status, _ = await chain.raw(b'{"jsonrpc":"2.0","id":1,"method":"eth_chainId","params":[]}', url=node.url)
    assert status == 502


async def test_the_sample_chain_is_what_the_other_tests_think(chain: Chain) -> None:
    assert len(await chain.logs()) == BLOCKS * LOGS_PER_BLOCK
    assert int((await chain.block("finalized"))["number"], 16) == await chain.head() - 4
