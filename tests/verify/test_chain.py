"""Statements about a real chain, verified against it, and against nodes that lie about it."""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio

import verify
from accounting import frames, reward_per_share
from devnet import anvil, play, rpc, staking, truth
from devnet.proxy import node as proxy
from domain import chain, deployment, hashing
from indexers.protocols import decoder, manifest
from tests.verify import factory
from verify import rpc as verify_rpc

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(180)]

SIZE = 14
FRAMES = 4


class Played:
    """A devnet with a finalized history, and the statements that honest agents would make of it."""

    def __init__(self, node: anvil.Anvil, contract: staking.Staking, rules: dict[str, Any], genesis: bytes) -> None:
        self.url = node.url
        self.contract = contract
        self.rules = rules
        self.document = factory.document(rules, start=contract.start_block, size=SIZE, genesis=genesis)
        self.headers: dict[int, chain.Header] = {}
        self.entries: list[frames.Entry] = []

    def maker(
        self, *, entries: list[frames.Entry] | None = None, document: deployment.Document | None = None
    ) -> factory.Maker:
        return factory.Maker(
            document or self.document, self.rules, self.headers, self.entries if entries is None else entries
        )

    def file(self, count: int = FRAMES) -> dict[str, Any]:
        maker = self.maker()
        return maker.file(maker.frames(count))


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def played(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Played]:
    network = tmp_path_factory.mktemp("network") / "devnet.toml"
    async with staking.up(anvil.Anvil(slots_in_an_epoch=12), network_file=network) as devnet:
        contract = devnet.staking
        player = play.Player(contract, 11, validators=3, delegators=6)
        await player.run(160, reorgs=(play.SAME_HEIGHT, play.THREE))
        last = contract.start_block + FRAMES * SIZE - 1
        height = await contract.height()
        if height < last:
            await player.mine(last - height)
        await player.settle(last)
        loaded = manifest.load("devnet", network=network)
        genesis = await contract.node.call("eth_getBlockByNumber", "0x0", False)
        stream = factory.document(start=contract.start_block, size=SIZE).streams[0]
        rules = factory.plain(loaded.ruleset_json(stream, proof="receipts"))
        found = Played(devnet.node, contract, rules, hashing.unhex(genesis["hash"]))
        await _read(found, decoder.compile(loaded), last)
        yield found


async def _read(found: Played, means: decoder.Decoder, last: int) -> None:
    """Headers and logs, as a plain reader gets them from an honest node."""
    node, first = found.contract.node, found.contract.start_block
    blocks = await node.batch([("eth_getBlockByNumber", [hex(n), False]) for n in range(first, last + 1)])
    for block in blocks:
        header = chain.Header(
            number=int(block["number"], 16),
            hash=hashing.unhex(block["hash"]),
            parent=hashing.unhex(block["parentHash"]),
            time=int(block["timestamp"], 16),
            state_root=hashing.unhex(block["stateRoot"]),
            receipts_root=hashing.unhex(block["receiptsRoot"]),
            bloom=hashing.unhex(block["logsBloom"]),
        )
        found.headers[header.number] = header
    query = {"address": found.contract.address, "fromBlock": hex(first), "toBlock": hex(last)}
    for told in await node.call("eth_getLogs", query):
        header = found.headers[int(told["blockNumber"], 16)]
        log = chain.Log(
            block=header.ref,
            log_index=int(told["logIndex"], 16),
            tx_hash=hashing.unhex(told["transactionHash"]),
            tx_index=int(told["transactionIndex"], 16),
            address=hashing.unhex(told["address"]),
            topics=tuple(hashing.unhex(topic) for topic in told["topics"]),
            data=hashing.unhex(told["data"]),
        )
        assert means.wants(log)
        found.entries.append(frames.Entry(log, means.decode(log, header.time)))


async def judged(folder: Path, content: dict[str, Any], **options: Any) -> verify.Report:
    path = factory.write(folder / "statement.json", content)
    return await asyncio.to_thread(verify.check, path, **options)


async def test_the_history_is_rich_enough(played: Played) -> None:
    kinds = {entry.event.kind for entry in played.entries}
    assert {"Delegated", "Undelegated", "RewardAccrued", "Moved", "Slashed", "RewardClaimed"} <= kinds
    assert len(played.entries) > 100


async def test_an_honest_statement_verifies_in_every_mode(tmp_path: Path, played: Played) -> None:
    for count in (1, 2, FRAMES):
        content = played.file(count)
        for options in ({}, {"rpc": played.url}, {"rpc": played.url, "full": True}):
            report = await judged(tmp_path, content, **options)
            assert report.exit_code == 0, "\n".join(report.lines())


async def test_the_replay_equals_the_contracts_own_views(tmp_path: Path, played: Played) -> None:
    content = played.file()
    assert (await judged(tmp_path, content, rpc=played.url)).exit_code == 0
    told = truth.Truth(played.contract.node, start_block=played.contract.start_block)
    views = await told.leaves_at(hashing.unhex(content["certificate"]["header"]["toAnchor"]))
    leaves = {
        (tuple(leaf["parts"]), leaf["kind"]): (int(leaf["cumulativeReward"]), int(leaf["cumulativePenalty"]))
        for leaf in content["body"]["leaves"]
    }
    assert leaves == views


async def test_revised_frames_verify_in_full(tmp_path: Path, played: Played) -> None:
    listed = (deployment.Revision("devnet", 1, 2, 1, "a rule was wrong"),)
    document = msgspec.structs.replace(played.document, revisions=listed)
    maker = played.maker(document=document)
    report = await judged(tmp_path, maker.file(maker.frames(FRAMES)), rpc=played.url, full=True)
    assert report.exit_code == 0, "\n".join(report.lines())


async def test_a_row_that_every_agent_missed_is_named(tmp_path: Path, played: Played) -> None:
    """Signed by everybody and consistent in itself: only the chain knows better."""
    last = played.document.streams[0].frame_range(1)[1]
    place = max(i for i, entry in enumerate(played.entries) if entry.log.block.number <= last)
    missed = played.entries[place].log
    maker = played.maker(entries=played.entries[:place] + played.entries[place + 1 :])
    content = maker.file(maker.frames(2))
    assert (await judged(tmp_path, content)).exit_code == 0
    difference = (await judged(tmp_path, content, rpc=played.url)).first_difference
    assert difference is not None and difference.check == "logs"
    assert difference.where.startswith(f"block {missed.block.number}, log {missed.log_index}")


async def test_a_row_that_every_agent_altered_is_named(tmp_path: Path, played: Played) -> None:
    place = next(i for i, entry in enumerate(played.entries) if entry.event.kind == "CommissionChanged")
    honest = played.entries[place]
    altered = msgspec.structs.replace(honest.log, data=honest.log.data[:-1] + b"\1")
    entries = list(played.entries)
    entries[place] = frames.Entry(altered, honest.event)
    maker = played.maker(entries=entries)
    content = maker.file(maker.frames(1))
    assert (await judged(tmp_path, content)).exit_code == 0
    difference = (await judged(tmp_path, content, rpc=played.url)).first_difference
    assert (
        difference is not None
        and difference.where == f"block {honest.log.block.number}, log {honest.log.log_index}: data"
    )


@pytest.mark.parametrize("name", ["txHash", "time"])
async def test_what_the_evidence_does_not_bind_the_node_does(tmp_path: Path, played: Played, name: str) -> None:
    content = played.file()
    log = content["logs"][0]
    log[name] = log[name][:-1] + ("0" if log[name][-1] != "0" else "1")
    difference = (await judged(tmp_path, content, rpc=played.url)).first_difference
    assert difference is not None and difference.check in ("logs", "evidence")


async def test_an_error_in_an_earlier_frame_is_found_in_full(
    tmp_path: Path, played: Played, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every step from the certified frame before is right, so only the whole way shows it."""

    def share_down(amount: int, bps: int) -> int:
        return amount * bps // 10_000

    slashed = next(e for e in played.entries if e.event.kind == "Slashed").log.block.number
    wrong = played.document.streams[0].sequence_at(slashed)
    assert wrong < FRAMES - 1
    maker = played.maker()
    monkeypatch.setattr(reward_per_share, "_share_up", share_down)
    monkeypatch.setattr(reward_per_share, "_disagree", _quiet)
    first = maker.file(maker.frames(wrong + 1))
    report = await judged(tmp_path, first, rpc=played.url, full=True)
    found = {f.check for f in report.findings if f.status == "difference"}
    assert {"leaves", "full"} <= found
    full = next(f for f in report.findings if f.check == "full")
    assert full.where.startswith("statement.certificate.header.")


def _quiet(*_: object, **__: object) -> Exception:
    raise AssertionError("the producer would have noticed by itself")


async def test_a_wrong_carry_handed_on_is_found_only_in_full(tmp_path: Path, played: Played) -> None:
    """The second frame follows rightly from a first one that k signers got wrong."""
    maker = played.maker()
    made = maker.frames(1)
    body = made[0].frame.body
    carry = json.loads(body.carry)
    validator = next(iter(carry["validators"]))
    carry["validators"][validator]["held"] = str(int(carry["validators"][validator]["held"]) + 1)
    spoiled = msgspec.structs.replace(body, carry=hashing.canonical_json(carry))
    header = msgspec.structs.replace(made[0].frame.header, carry=spoiled.carry_hash())
    certificate = maker.certificate(header)
    first = msgspec.structs.replace(
        made[0].frame, header=header, body=spoiled, digest=hashing.unhex(certificate.digest)
    )
    span = played.document.streams[0].frame_range(1)
    entries = [e for e in played.entries if span[0] <= e.log.block.number <= span[1] and e.event.kind == "Delegated"][
        :0
    ]
    quiet = frames.derive(
        played.document,
        maker.stream,
        sequence=1,
        revision=0,
        supersedes=hashing.ZERO32,
        previous=frames.Previous(first.digest, header.to_position, header.to_anchor, spoiled),
        first=played.headers[span[0]],
        last=played.headers[span[1]],
        entries=entries,
        scale=factory.SCALE,
    )
    content = maker.file(
        [
            factory.Made(first, certificate, made[0].entries),
            factory.Made(quiet, maker.certificate(quiet.header), entries),
        ]
    )
    assert (await judged(tmp_path, content)).exit_code == 0  # offline every step holds
    report = await judged(tmp_path, content, rpc=played.url, full=True)
    full = next(f for f in report.findings if f.check == "full")
    assert full.status == "difference" and full.where == "statement.previous.certificate.digest"


async def test_a_frame_that_is_not_final_is_refused(tmp_path: Path, played: Played) -> None:
    document = msgspec.structs.replace(
        played.document, chains=(msgspec.structs.replace(played.document.chains[0], finality="depth:100000"),)
    )
    maker = played.maker(document=document)
    difference = (await judged(tmp_path, maker.file(maker.frames(1)), rpc=played.url)).first_difference
    assert difference is not None and "not finalized" in difference.text


async def test_a_statement_about_another_chain_is_refused(tmp_path: Path, played: Played) -> None:
    async with anvil.Anvil(genesis_time=anvil.GENESIS_TIME + 1) as other:
        difference = (await judged(tmp_path, played.file(1), rpc=other.url)).first_difference
    assert difference is not None and "genesis" in difference.text
    async with anvil.Anvil(chain_id=4711) as other:
        difference = (await judged(tmp_path, played.file(1), rpc=other.url)).first_difference
    assert difference is not None and "another chain" in difference.text


async def test_a_statement_about_a_fork_is_refused(tmp_path: Path, played: Played) -> None:
    async with staking.up() as devnet:  # the same genesis and contract, another history
        last = played.document.streams[0].frame_range(0)[1]
        await devnet.staking.mine(last + 100)
        difference = (await judged(tmp_path, played.file(1), rpc=devnet.node.url)).first_difference
    assert difference is not None and difference.where == "statement.certificate.header.toAnchor"


LIES = {
    "drop-logs:k=1": 1,
    "drop-logs:k=1,cover=1": 1,
    "drop-all-logs": 1,
    "drop-all-logs:cover=1": 1,
    "alter-logs:what=data": 1,
    "alter-logs:what=topic": 1,
    "alter-logs:what=address,cover=1": 1,
    "duplicate-logs:k=1": 1,
    "reorder-logs": 1,
    "invent-logs:k=1": 1,
    "invent-logs:k=1,cover=1": 1,
    "drop-receipts:k=1": 1,
    "wrong-header:field=stateRoot": 1,
    "wrong-header:field=logsBloom": 1,
    "wrong-header:field=receiptsRoot": 1,
    "wrong-header:field=timestamp": 1,
    "chain-id:id=1": 1,
    "genesis": 1,
    "empty": 1,
    "null": 2,
    "error": 2,
    "cut": 2,
    "429": 2,
    "503": 2,
    "html": 2,
    "truncate": 2,
    "truncate:how=stream": 2,
    "swallow": 2,
    "hang:seconds=5": 2,
}


@pytest.mark.parametrize("lie", LIES)
async def test_a_lying_or_broken_node_never_verifies(
    tmp_path: Path, played: Played, monkeypatch: pytest.MonkeyPatch, lie: str
) -> None:
    monkeypatch.setattr(verify_rpc, "TIMEOUT_S", 1.0 if lie.startswith("hang") else 20.0)
    content = played.file(2)
    async with proxy.LyingNode(played.url, [lie], seed=3) as liar:
        report = await judged(tmp_path, content, rpc=liar.url)
        assert sum(liar.fired.values()) > 0, "the fault never fired"
    assert report.exit_code == LIES[lie], "\n".join(report.lines())


async def test_a_node_without_block_receipts_is_asked_for_each_one(tmp_path: Path, played: Played) -> None:
    content = played.file(2)
    async with proxy.LyingNode(played.url, ["error:code=-32601,methods=eth_getBlockReceipts"]) as node:
        report = await judged(tmp_path, content, rpc=node.url, full=True)
        assert node.fired and node.calls["eth_getTransactionReceipt"] > 0
    assert report.exit_code == 0, "\n".join(report.lines())


async def test_urls_that_are_no_node_are_refused_without_showing_secrets(tmp_path: Path, played: Played) -> None:
    content = copy.deepcopy(played.file(1))
    for url in (
        "file:///etc/passwd",
        "ftp://host/",
        "nonsense",
        "http://",
        "http://[::1",
        "http://user:secret@127.0.0.1:1/key",
    ):
        report = await judged(tmp_path, content, rpc=url)
        assert report.exit_code == 2, url
        assert not any("secret" in line or "key" in line.split("cannot")[0][-8:] for line in report.lines())


async def test_a_large_block_has_the_receipts_root_that_we_compute(played: Played) -> None:
    """More than 128 transactions: RLP keys of one and two bytes, branches below branches."""
    async with staking.up() as devnet, rpc.Rpc(devnet.node.url) as node:
        accounts = devnet.staking.accounts
        await devnet.staking.do(staking.register_validator(accounts[1], commission_bps=1, metadata="v"))
        await devnet.staking.send([staking.delegate(accounts[2], accounts[1], n + 1) for n in range(300)])
        await devnet.staking.mine()
        block = await node.call("eth_getBlockByNumber", "latest", False)
        assert len(block["transactions"]) == 300
        receipts = await node.call("eth_getBlockReceipts", block["hash"])
    from verify import proofs, strict

    read = strict.parse(json.dumps(receipts).encode(), "receipts")
    assert proofs.receipts_root(read.items()) == hashing.unhex(block["receiptsRoot"])
    header = strict.parse(json.dumps(block).encode(), "block")
    assert proofs.header_hash(header) == hashing.unhex(block["hash"])
