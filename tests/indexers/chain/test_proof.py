"""Header hashes, receipts roots and blooms: against Anvil, against independent libraries, and against mutation."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from typing import Any

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import given, settings

from devnet import anvil, rpc
from domain import errors, hashing
from domain import rlp as own_rlp
from indexers.chain import proof, wire

rlp = pytest.importorskip("rlp")

_RUNTIME = "365f5f37" + "3360aa365fa2" + "60bb365fa1" + "00"
_CREATION = "0x60" + f"{len(_RUNTIME) // 2:02x}" + "600a5f3960" + f"{len(_RUNTIME) // 2:02x}" + "5ff3" + _RUNTIME


@pytest.fixture
async def node() -> AsyncIterator[rpc.Rpc]:
    async with anvil.Anvil() as running, rpc.Rpc(running.url) as client:
        yield client


async def populated(node: rpc.Rpc, *counts: int) -> None:
    """Blocks of so many transactions of all types Anvil signs: legacy, access list, fee market."""
    accounts = await node.call("eth_accounts")
    await node.call("eth_sendTransaction", {"from": accounts[0], "data": _CREATION, "gas": "0x186a0"})
    await node.call("anvil_mine", "0x1")
    address = (await node.call("eth_getBlockReceipts", "latest"))[0]["contractAddress"]
    kinds: list[dict[str, Any]] = [
        {"gasPrice": "0x77359400", "type": "0x0"},
        {"gasPrice": "0x77359400", "type": "0x1", "accessList": []},
        {"maxFeePerGas": "0x77359400", "maxPriorityFeePerGas": "0x0"},
    ]
    nonces = {account: int(account == accounts[0]) for account in accounts}
    for count in counts:
        calls: list[rpc.Call] = []
        for i in range(count):
            sender = accounts[i % 40]
            data = "0x" + "ab" * (i % 90)
            calls.append(
                (
                    "eth_sendTransaction",
                    [
                        {
                            "from": sender,
                            "to": address,
                            "data": data,
                            "gas": "0x186a0",
                            "nonce": hex(nonces[sender]),
                            **kinds[i % 3],
                        }
                    ],
                )
            )
            nonces[sender] += 1
        await node.batch(calls)
        await node.call("anvil_mine", "0x1")


def block_of(answer: dict[str, Any]) -> wire.Block:
    return msgspec.convert(answer, wire.Block)


def receipts_of(answer: list[dict[str, Any]]) -> list[wire.Receipt]:
    return msgspec.convert(answer, list[wire.Receipt])


async def test_every_header_and_receipts_root_of_a_real_node_recomputes(node: rpc.Rpc) -> None:
    await populated(node, 0, 1, 2, 15, 16, 17, 127, 128, 129, 300)
    for number in range(12):
        header = proof.header(block_of(await node.call("eth_getBlockByNumber", hex(number), False)))
        receipts = receipts_of(await node.call("eth_getBlockReceipts", hex(number)))
        logs = proof.proven_logs(header, receipts)
        assert len(logs) == sum(len(receipt.logs) for receipt in receipts)
        assert proof.bloom_of(logs) == header.bloom


async def test_headers_recompute_after_a_reorg(node: rpc.Rpc) -> None:
    await populated(node, 3, 4, 5)
    await node.call("anvil_reorg", 3, [])
    for number in range(5):
        proof.header(block_of(await node.call("eth_getBlockByNumber", hex(number), False)))


@pytest.mark.parametrize("hardfork", ["london", "paris", "shanghai", "cancun", "prague"])
async def test_headers_of_every_fork_since_london_recompute(hardfork: str) -> None:
    async with anvil.Anvil(extra=["--hardfork", hardfork]) as running, rpc.Rpc(running.url) as client:
        await client.call("anvil_mine", "0x3")
        for number in range(4):
            proof.header(block_of(await client.call("eth_getBlockByNumber", hex(number), False)))


async def test_any_changed_field_changes_the_hash(node: rpc.Rpc) -> None:
    await populated(node, 2)
    answer = await node.call("eth_getBlockByNumber", "latest", False)
    for name in block_of(answer).__struct_fields__:
        if name == "hash":
            continue
        text = answer[name]
        changed = text[:-1] + ("1" if text[-1] != "1" else "2") if text != "0x" else "0x00"
        with pytest.raises(errors.BadAnswer):
            proof.header(block_of({**answer, name: changed}))


@pytest.mark.parametrize("name", ["withdrawalsRoot", "baseFeePerGas", "requestsHash", "gasLimit", "nonce"])
async def test_a_header_without_one_of_its_fields_is_refused(node: rpc.Rpc, name: str) -> None:
    answer = await node.call("eth_getBlockByNumber", "latest", False)
    del answer[name]
    with pytest.raises(errors.BadAnswer):
        proof.header(block_of(answer))


def test_fields_of_a_future_fork_are_named() -> None:
    assert proof.unknown_fields(["hash", "number", "blockAccessListHash", "transactions"]) == ["blockAccessListHash"]


MAINNET_1 = {
    # Block 1 of mainnet: a header from before London, as any archive shows it.
    "number": "0x1",
    "hash": "0x88e96d4537bea4d9c05d12549907b32561d3bf31f45aae734cdc119f13406cb6",
    "parentHash": "0xd4e56740f876aef8c010b86a40d5f56745a118d0906a34e69aec8c0db1cb8fa3",
    "sha3Uncles": "0x1dcc4de8dec75d7aab85b567b6ccd41ad312451b948a7413f0a142fd40d49347",
    "miner": "0x05a56e2d52c817161883f50c441c3228cfe54d9f",
    "stateRoot": "0xd67e4d450343046425ae4271474353857ab860dbc0a1dde64b41b5cd3a532bf3",
    "transactionsRoot": "0x56e81f171bcc55a6ff8345e692c0f86e5b48e01b996cadc001622fb5e363b421",
    "receiptsRoot": "0x56e81f171bcc55a6ff8345e692c0f86e5b48e01b996cadc001622fb5e363b421",
    "logsBloom": "0x" + "00" * 256,
    "difficulty": "0x3ff800000",
    "gasLimit": "0x1388",
    "gasUsed": "0x0",
    "timestamp": "0x55ba4224",
    "extraData": "0x476574682f76312e302e302f6c696e75782f676f312e342e32",
    "mixHash": "0x969b900de27b6ac6a67742365dd65f55a0526c41fd18e1b16f1a1215c2e66f59",
    "nonce": "0x539bd4979fef1ec4",
}


def test_block_one_of_mainnet_recomputes() -> None:
    assert proof.header(block_of(MAINNET_1)).number == 1


async def test_every_mutation_of_receipts_is_caught(node: rpc.Rpc) -> None:
    await populated(node, 40)
    header = proof.header(block_of(await node.call("eth_getBlockByNumber", "latest", False)))
    answer = await node.call("eth_getBlockReceipts", "latest")
    rng = random.Random(7)
    proof.proven_logs(header, receipts_of(answer))
    for _ in range(300):
        copy = msgspec.json.decode(msgspec.json.encode(answer))
        mutate(copy, rng)
        if copy == answer:
            continue
        with pytest.raises(errors.BadAnswer):
            proof.proven_logs(header, receipts_of(copy))


def mutate(receipts: list[dict[str, Any]], rng: random.Random) -> None:
    at = rng.randrange(len(receipts))
    logs = receipts[at]["logs"]
    log = rng.choice(logs)
    match rng.randrange(11):
        case 0:
            logs.remove(log)
        case 1:
            logs.append(dict(log))
        case 2:
            logs.reverse()
        case 3:
            log["data"] = log["data"] + "00"
        case 4:
            log["topics"].append("0x" + "00" * 32)
        case 5:
            log["address"] = "0x" + "11" * 20
        case 6:
            log["logIndex"] = hex(int(log["logIndex"], 16) + 1)
        case 7:
            receipts.pop(at)
        case 8:
            receipts.insert(at, receipts[at])
        case 9:
            log["blockHash"] = "0x" + "22" * 32
        case _:
            receipts[at]["status"] = "0x0"


@given(st.lists(st.binary(min_size=1, max_size=200), max_size=300))
@settings(max_examples=60, deadline=None)
def test_the_trie_equals_an_independent_implementation(values: list[bytes]) -> None:
    assert proof.ordered_root(values) == _reference_root(values)


def _reference_root(values: list[bytes]) -> bytes:
    """The Yellow Paper's c(J, i), written as it is printed, on the `rlp` library."""
    pairs = {
        tuple(n for byte in rlp.encode(i) for n in (byte >> 4, byte & 15)): value for i, value in enumerate(values)
    }
    if not pairs:
        return hashing.keccak256(rlp.encode(b""))
    return hashing.keccak256(rlp.encode(_composed(pairs, 0)))


def _composed(pairs: dict[tuple[int, ...], bytes], at: int) -> Any:
    if len(pairs) == 1:
        ((key, value),) = pairs.items()
        return [_packed(key[at:], True), value]
    keys = list(pairs)
    end = at
    while all(len(key) > end and key[end] == keys[0][end] for key in keys):
        end += 1
    if end > at:
        return [_packed(keys[0][at:end], False), _named(pairs, end)]
    branch: list[Any] = []
    for nibble in range(16):
        below = {key: value for key, value in pairs.items() if key[at] == nibble}
        branch.append(_named(below, at + 1) if below else b"")
    return [*branch, b""]


def _named(pairs: dict[tuple[int, ...], bytes], at: int) -> Any:
    node = _composed(pairs, at)
    encoded = rlp.encode(node)
    return node if len(encoded) < 32 else hashing.keccak256(encoded)


def _packed(nibbles: tuple[int, ...], leaf: bool) -> bytes:
    flag = 2 * leaf
    padded = (flag + 1, *nibbles) if len(nibbles) % 2 else (flag, 0, *nibbles)
    return bytes(16 * padded[i] + padded[i + 1] for i in range(0, len(padded), 2))


@given(st.recursive(st.binary(max_size=80), lambda inner: st.lists(inner, max_size=6), max_leaves=30))
def test_rlp_equals_the_library(value: Any) -> None:
    def encode(item: Any) -> bytes:
        return own_rlp.text(item) if isinstance(item, bytes) else own_rlp.items(encode(part) for part in item)

    assert encode(value) == rlp.encode(value)


@given(st.integers(0, 2**256 - 1))
def test_rlp_integers_equal_the_library(value: int) -> None:
    assert own_rlp.uint(value) == rlp.encode(value)


@given(
    st.lists(st.binary(min_size=20, max_size=20), min_size=1, max_size=5),
    st.lists(st.binary(min_size=32, max_size=32), min_size=1, max_size=5),
    st.lists(st.binary(min_size=1, max_size=40), max_size=20),
)
def test_a_bloom_never_denies_what_is_in_it(addresses: list[bytes], topics: list[bytes], noise: list[bytes]) -> None:
    bits = proof.bloom_mask(addresses[-1]) | proof.bloom_mask(topics[-1])
    for other in noise:
        bits |= proof.bloom_mask(other)
    bloom = bits.to_bytes(256, "big")
    assert proof.BloomTest([(addresses, topics)])(bloom)
    assert proof.BloomTest([(addresses, ())])(bloom)
    assert not proof.BloomTest([(addresses, topics)])(bytes(256))
