"""What became of a nonce, proven by one block: transactions of every type, rebuilt to the root of a real node's header; and every lie refused."""

from __future__ import annotations

import copy
import random
import threading
from collections.abc import AsyncIterator, Sequence
from typing import Any

import eth_account
import msgspec
import pytest

from devnet import anvil, rpc
from domain import chain, errors, hashing, rlp
from indexers.chain import outcomes, proof, transactions, wire
from kit import http, jsonrpc

GWEI = 10**9
KEY = "0x" + "46" * 32
SENDER = hashing.unhex(eth_account.Account.from_key(KEY).address.lower())
FAR = "0x" + "35" * 20
LIST = [{"address": FAR, "storageKeys": ["0x" + "00" * 31 + "07", "0x" + "ff" * 32]}]
MARKET = {"maxFeePerGas": 100 * GWEI, "maxPriorityFeePerGas": GWEI, "chainId": anvil.CHAIN_ID}


def signed(nonce: int, kind: int, **changes: Any) -> str:
    """By a library that is not ours."""
    plain: dict[str, Any] = {"nonce": nonce, "gas": 200_000, "to": FAR, "value": 1, "data": "0x" + "ab" * nonce}
    match kind:
        case -1:  # before EIP-155
            fields: dict[str, Any] = {"gasPrice": 50 * GWEI}
        case 0:
            fields = {"gasPrice": 50 * GWEI, "chainId": anvil.CHAIN_ID}
        case 1:
            fields = {"gasPrice": 50 * GWEI, "chainId": anvil.CHAIN_ID, "accessList": LIST, "type": 1}
        case 2:
            fields = {**MARKET, "accessList": LIST, "type": 2}
        case 3:
            names = ["0x01" + "ab" * 31, "0x01" + "cd" * 31]
            fields = {**MARKET, "accessList": LIST, "type": 3, "maxFeePerBlobGas": 7, "blobVersionedHashes": names}
        case _:
            allowed = {"chainId": anvil.CHAIN_ID, "address": "0x" + "77" * 20, "nonce": nonce + 1}
            one = eth_account.Account.sign_authorization(allowed, KEY)
            fields = {**MARKET, "type": 4, "authorizationList": [one]}
    done = eth_account.Account.sign_transaction({**plain, **fields, **changes}, KEY)
    return "0x" + bytes(done.raw_transaction).hex()


def shown(raw: str) -> dict[str, Any]:
    """As a node would show these bytes: read by hand, so that a type that the devnet does not take is tried too."""
    data = hashing.unhex(raw)
    kind = data[0] if data[0] < 0x80 else 0
    fields: Any = rlp.decode(data[1:] if kind else data)
    names = {
        0: "nonce gasPrice gas to value input v r s",
        3: "chainId nonce maxPriorityFeePerGas maxFeePerGas gas to value input accessList maxFeePerBlobGas "
        "blobVersionedHashes yParity r s",
    }[kind].split()
    found: dict[str, Any] = {"type": hex(kind)}
    for name, value in zip(names, fields, strict=True):
        if name in ("to", "input"):
            found[name] = hashing.hex0x(value)
        elif name == "accessList":
            found[name] = [
                {"address": hashing.hex0x(address), "storageKeys": [hashing.hex0x(key) for key in keys]}
                for address, keys in value
            ]
        elif name == "blobVersionedHashes":
            found[name] = [hashing.hex0x(item) for item in value]
        else:
            found[name] = hex(int.from_bytes(value, "big"))
    return found


def read(shown_: dict[str, Any]) -> transactions.Transaction:
    found = transactions.read(msgspec.convert(shown_, transactions.Wire))
    assert isinstance(found, transactions.Transaction)
    return found


def test_the_example_of_eip_155_encodes_to_its_bytes_and_its_sender() -> None:
    raw = (
        "0xf86c098504a817c800825208943535353535353535353535353535353535353535880de0b6b3a76400008025a028ef61340bd939bc21"
        "95fe537567866003e1a15d3c71ff63e1590620aa636276a067cbe9d8997f761aecb703304b3800ccf555c9f3dc64214b297fb1966a3b6d83"
    )
    found = read(shown(raw))
    assert found.raw == hashing.unhex(raw) and found.nonce == 9
    assert found.digest.hex() == "daf5a779ae972f972197303d7b574746c7ef83eadac0f2791ad23db92e4c8e53"
    assert hashing.hex0x(found.sender()) == "0x9d8a62f656a8d1615c1294fd71e9cfb3e4855a4f"


@pytest.mark.parametrize("kind", [-1, 0, 3])
def test_what_another_library_signed_encodes_to_the_same_bytes(kind: int) -> None:
    raw = signed(5, kind)
    found = read(shown(raw))
    assert (hashing.hex0x(found.raw), found.sender(), found.nonce) == (raw, SENDER, 5)


@pytest.mark.parametrize("kind", ["0x5", "0x7e", "0xff"])
def test_a_type_that_is_not_known_is_a_value(kind: str) -> None:
    found = transactions.read(msgspec.convert({"type": kind, "mint": "0x1"}, transactions.Wire))
    assert found == transactions.Unknown(int(kind, 16))


@pytest.mark.parametrize("name", ["nonce", "gasPrice", "gas", "value", "input", "v", "r", "s"])
@pytest.mark.parametrize("wrong", [None, "", "0x", "1", "-0x1", "0x" + "f" * 65, "0x_1"])
def test_a_field_that_is_missing_or_malformed_is_refused(name: str, wrong: str | None) -> None:
    if name == "input" and wrong == "0x":
        return
    with pytest.raises(errors.BadAnswer):
        transactions.read(msgspec.convert({**shown(signed(5, 0)), name: wrong}, transactions.Wire))


# --- a real node ---


@pytest.fixture
async def node() -> AsyncIterator[rpc.Rpc]:
    async with anvil.Anvil() as running, rpc.Rpc(running.url) as client:
        await client.call("anvil_setBalance", hashing.hex0x(SENDER), hex(10**24))
        yield client


KINDS = (0, 1, 2, -1, 2, 2, 4)
FAILS = 5


async def mined(node: rpc.Rpc) -> dict[str, Any]:
    """One block with every type that Anvil takes as bytes. One creates a contract and fails; the last authorizes with the next nonce."""
    for nonce, kind in enumerate(KINDS):
        fails = {"to": b"", "data": "0xfe"} if nonce == FAILS else {}
        await node.call("eth_sendRawTransaction", signed(nonce, kind, **fails))
    await node.call("anvil_mine", "0x1")
    return await node.call("eth_getBlockByNumber", "latest", True)


def body_of(block: dict[str, Any]) -> outcomes.Body | outcomes.Unavailable:
    return outcomes.body(msgspec.convert(block, outcomes.Full), hashing.unhex(block["hash"]))


async def test_a_block_of_every_type_rebuilds_to_its_header_and_says_what_became_of_each(node: rpc.Rpc) -> None:
    block = await mined(node)
    found = body_of(block)
    assert isinstance(found, outcomes.Body)
    assert [tx.kind for tx in found.transactions] == [max(kind, 0) for kind in KINDS]
    assert {tx.sender() for tx in found.transactions} == {SENDER}
    receipts = await node.call("eth_getBlockReceipts", block["hash"])
    for index, (tx, receipt) in enumerate(zip(found.transactions, receipts, strict=True)):
        assert hashing.hex0x(tx.hash) == receipt["transactionHash"]
        assert found.place(tx.raw) == index
        ended = outcomes.outcome(found, index, msgspec.convert(receipts, list[wire.Receipt]))
        assert (ended.status, ended.gas_used) == (int(receipt["status"], 16), int(receipt["gasUsed"], 16))
    assert [int(receipt["status"], 16) for receipt in receipts] == [1] * FAILS + [0, 1]
    assert found.sent(SENDER, 3) == (3, found.transactions[3])
    assert found.sent(SENDER, 7) is None, "the authorization used it, and no transaction did"
    assert found.sent(b"\x35" * 20, 3) is None


async def test_blocks_of_many_transactions_rebuild(node: rpc.Rpc) -> None:
    accounts = await node.call("eth_accounts")
    for count in (0, 1, 130):
        plain = {"to": FAR, "gas": "0x5208", "value": hex(count)}
        first = int(count > 1)  # the first account has sent one by then
        sent = [
            (
                "eth_sendTransaction",
                [{**plain, "from": accounts[1 + n % 39], "nonce": hex(n // 39 + first * (n % 39 == 0))}],
            )
            for n in range(count)
        ]
        await node.batch(sent)
        await node.call("anvil_mine", "0x1")
        found = body_of(await node.call("eth_getBlockByNumber", "latest", True))
        assert isinstance(found, outcomes.Body) and len(found.transactions) == count


async def test_no_change_of_a_block_or_its_receipts_is_believed(node: rpc.Rpc) -> None:
    """Every field of every transaction and receipt that says what happened, changed one at a time, and entries moved, left out, doubled."""
    block = await mined(node)
    honest = body_of(block)
    assert isinstance(honest, outcomes.Body)
    rng = random.Random(7)
    tried = 0
    for index, tx in enumerate(block["transactions"]):
        for name in {*transactions.Wire.__struct_fields__} & {*tx}:
            changed = copy.deepcopy(block)
            old = tx[name]
            changed["transactions"][index][name] = (
                [] if isinstance(old, list) and old else [{"address": FAR, "storageKeys": []}]
                if isinstance(old, list) else None if old is None else old[:-1] + rng.choice("0123456789abcdef")
            )  # fmt: skip
            if changed == block:
                continue
            try:
                found = body_of(changed)
            except (errors.BadAnswer, msgspec.ValidationError):
                found = None
            # Beside the encoding a node may say what it likes: `v` next to `yParity`, the chain of a legacy transaction.
            assert found is None or isinstance(found, outcomes.Unavailable) or found == honest, (index, name)
            tried += 1
    listed: list[Any] = block["transactions"]
    for lie in (listed[::-1], listed[1:], [*listed, listed[0]], [], [listed[-1], *listed[1:]]):
        with pytest.raises(errors.BadAnswer):
            body_of({**block, "transactions": lie})
    receipts = await node.call("eth_getBlockReceipts", block["hash"])
    swapped = [*receipts[:5], receipts[6], receipts[5]]
    for lie in (
        swapped,
        receipts[:6],
        [*receipts, receipts[0]],
        [],
        [*receipts[:5], receipts[5] | {"status": "0x1"}, receipts[6]],
        [receipts[0] | {"status": "0x0"}, *receipts[1:]],
        [receipts[0] | {"cumulativeGasUsed": "0x1"}, *receipts[1:]],
        [receipts[0] | {"transactionHash": "0x" + "ab" * 32}, *receipts[1:]],
    ):
        with pytest.raises(errors.BadAnswer):
            outcomes.outcome(honest, 0, msgspec.convert(lie, list[wire.Receipt]))
    assert tried > 60
    for name in ("transactionsRoot", "receiptsRoot", "parentHash", "hash"):
        with pytest.raises(errors.BadAnswer):
            outcomes.body(
                msgspec.convert({**block, name: "0x" + "ab" * 32}, outcomes.Full), hashing.unhex(block["hash"])
            )
    with pytest.raises(errors.BadAnswer):
        outcomes.body(msgspec.convert(block, outcomes.Full), b"\x01" * 32)


async def test_a_block_is_asked_for_searched_for_and_linked_to(node: rpc.Rpc) -> None:
    await node.call("anvil_mine", "0x5")
    block = await mined(node)
    number = int(block["number"], 16)
    await node.call("anvil_mine", hex(outcomes.LINKS + 40))
    top = proof.header(msgspec.convert(await node.call("eth_getBlockByNumber", "latest", False), wire.Block))
    async with http.client_session() as session:
        asking = outcomes.Outcomes(jsonrpc.Endpoint(node.url, session=session, timeout_s=10), address=SENDER)
        for nonce in (0, 3, 7):
            for free in (0, number - 1, number, top.number, 10**9):  # a block at which it was not free costs time only
                found = await asking.search(nonce, free=free, last=top.number)
                calls = 0
                while isinstance(found, outcomes.Search) and not found.found:
                    found, calls = await asking.narrow(nonce, found), calls + 1
                assert isinstance(found, outcomes.Search) and found.high == number
                assert calls <= 8
        assert await asking.search(8, free=0, last=top.number) is None
        at: chain.BlockRef | outcomes.Unavailable = top.ref
        steps = 0
        while isinstance(at, chain.BlockRef) and at.number > number:
            at, steps = await asking.link(number, at), steps + 1
        assert at == chain.BlockRef(number, hashing.unhex(block["hash"])) and steps == 2
        other = msgspec.structs.replace(top.ref, hash=b"\x01" * 32)
        assert isinstance(await asking.link(number, other), outcomes.Unavailable)
        far = msgspec.structs.replace(top.ref, number=9999)
        assert isinstance(await asking.link(number, far), outcomes.Unavailable)
        assert isinstance(await asking.body(b"\x01" * 32), outcomes.Unavailable)
        found = await asking.body(hashing.unhex(block["hash"]))
        assert isinstance(found, outcomes.Body)
        ended = await asking.outcome(found, found.transactions[FAILS].raw)
        assert isinstance(ended, outcomes.Outcome) and (ended.index, ended.status) == (FAILS, 0)
        assert await asking.outcome(found, b"\x02\xc0") is None


async def test_a_block_is_hashed_beside_the_event_loop(node: rpc.Rpc, monkeypatch: pytest.MonkeyPatch) -> None:
    block = await mined(node)
    seen = set[int]()
    honest = proof.ordered_root

    def watched(values: Sequence[bytes]) -> bytes:
        seen.add(threading.get_ident())
        return honest(values)

    monkeypatch.setattr(proof, "ordered_root", watched)
    async with http.client_session() as session:
        asking = outcomes.Outcomes(jsonrpc.Endpoint(node.url, session=session, timeout_s=10), address=SENDER)
        found = await asking.body(hashing.unhex(block["hash"]))
        assert isinstance(found, outcomes.Body)
        assert isinstance(await asking.outcome(found, found.transactions[FAILS].raw), outcomes.Outcome)
    assert seen and threading.get_ident() not in seen
