"""What the book remembers: what was read for whom, and that an answer about a known block must be the known one."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest

from agent.services import chronicle
from domain import chain as domain_chain
from domain import errors, hashing
from indexers.chain import reader
from store import blocks, coverage, cursors, journal, latches
from tests.agent import indexing

OTHER = b"\x0e" * 32


async def grown(chain: indexing.Chain, count: int = 16) -> None:
    for n in range(count):
        await (chain.mine() if n % 3 == 2 else chain.emit(2))


async def missing(
    bench: indexing.Bench, first: int, last: int, *, fingerprint: bytes = indexing.FINGERPRINT, proof: str = "receipts"
) -> int | None:
    async with bench.book.read() as c:
        return await coverage.first_uncovered(
            c, protocol="tiny", fingerprint=fingerprint, first=first, last=last, proof=proof
        )


def understanding(bench: indexing.Bench, fingerprint: bytes) -> None:
    """A restart with a manifest that says something else."""
    decoder = indexing.Decoder(bytes.fromhex(bench.chain.address[2:]), fingerprint)
    bench.build(decoders=[decoder])


# --- what was read ---


@pytest.mark.parametrize("start", [0, 1, 7])
async def test_everything_from_the_start_on_was_read_at_the_level_of_the_index(
    chain: indexing.Chain, bench: indexing.Bench, start: int
) -> None:
    await grown(chain, 30)
    bench.build(proof="bloom", start=start, backfill_range=5)
    await bench.settle()
    head = await chain.head()
    assert await missing(bench, start, head, proof="bloom") is None
    assert await missing(bench, start, head, proof="node") is None
    assert await missing(bench, start, head) == start
    assert await missing(bench, start, head + 1, proof="bloom") == head + 1
    if start:
        assert await missing(bench, start - 1, head, proof="bloom") == start - 1


async def test_another_manifest_was_not_read_until_it_was_there(chain: indexing.Chain, bench: indexing.Bench) -> None:
    await grown(chain)
    await bench.settle()
    before = await chain.head()
    await grown(chain)
    understanding(bench, OTHER)
    await bench.settle()
    assert await missing(bench, 1, await chain.head(), fingerprint=OTHER) == 1
    assert await missing(bench, before + 1, await chain.head(), fingerprint=OTHER) is None
    assert await missing(bench, 1, await chain.head()) == before + 1


async def test_a_stronger_level_was_not_read_until_it_was_asked_for(
    chain: indexing.Chain, bench: indexing.Bench
) -> None:
    await grown(chain)
    bench.build(proof="node")
    await bench.settle()
    before = await chain.head()
    await grown(chain)
    bench.build(proof="receipts")
    await bench.settle()
    assert await missing(bench, 1, await chain.head()) == 1
    assert await missing(bench, before + 1, await chain.head()) is None
    assert await missing(bench, 1, await chain.head(), proof="node") is None


async def test_after_a_reorg_the_new_blocks_are_read_and_the_old_ones_do_not_count(
    chain: indexing.Chain, bench: indexing.Bench
) -> None:
    await grown(chain)
    await bench.settle()
    await chain.reorg(5, logs_at=[1])
    understanding(bench, OTHER)
    await bench.settle()
    head = await chain.head()
    assert await missing(bench, 1, head) == head - 4
    assert await missing(bench, head - 4, head, fingerprint=OTHER) is None


async def test_what_an_adoption_skips_was_not_read(chain: indexing.Chain, bench: indexing.Bench) -> None:
    await grown(chain, 30)
    await bench.steps(1)
    edge = bytes.fromhex((await chain.block(12))["hash"][2:])
    async with bench.book.write() as c:
        await cursors.put(c, "index", cursors.Cursor(12, edge, 1))
        await journal.append(c, "adopted", domain_chain.BlockRef(12, edge), 1, 0)
    await bench.settle()
    assert await missing(bench, 1, await chain.head()) == 1
    assert await missing(bench, 12, await chain.head()) == 12
    assert await missing(bench, 13, await chain.head()) is None


# --- an answer about a known block ---


async def left(bench: indexing.Bench) -> domain_chain.BlockRef:
    """The head is put aside by another hand; the node will show it again."""
    async with bench.book.write() as c:
        seen = await cursors.get(c, "index")
        assert seen is not None
        head = await blocks.by_hash(c, seen.hash)
        assert head is not None
        await blocks.orphan(c, [head.hash], generation=seen.generation + 1)
        await cursors.put(c, "index", cursors.Cursor(head.number - 1, head.parent, seen.generation + 1))
    return head.ref


def altered(bench: indexing.Bench, **fields: object) -> None:
    """From now on the node's lists of logs differ from the truth."""
    source = bench.service._source  # pyright: ignore[reportPrivateUsage]
    logs_of = source.logs_of

    async def lying(filter_: reader.Filter, heads: Sequence[domain_chain.BlockRef]) -> list[list[domain_chain.Log]]:
        found = await logs_of(filter_, heads)
        return [[msgspec.structs.replace(log, **fields) for log in logs] for logs in found]

    source.logs_of = lying


def invented(bench: indexing.Bench) -> None:
    """From now on the node adds a log to every list."""
    source = bench.service._source  # pyright: ignore[reportPrivateUsage]
    logs_of = source.logs_of
    address = bytes.fromhex(bench.chain.address[2:])

    async def lying(filter_: reader.Filter, heads: Sequence[domain_chain.BlockRef]) -> list[list[domain_chain.Log]]:
        found = await logs_of(filter_, heads)
        return [
            [*logs, domain_chain.Log(ref, 90, b"\x07" * 32, 90, address, (indexing.TOPIC, hashing.word(5)), bytes(32))]
            for ref, logs in zip(heads, found, strict=True)
        ]

    source.logs_of = lying


async def rows_latch(bench: indexing.Bench) -> str | None:
    async with bench.book.read() as c:
        return next((la.reason for la in await latches.active(c) if la.name == chronicle.ROWS_LATCH), None)


async def test_one_altered_answer_about_a_known_block_is_asked_again(
    chain: indexing.Chain, bench: indexing.Bench
) -> None:
    await grown(chain)
    await chain.emit(2)
    bench.build(proof="node")
    await bench.settle()
    await left(bench)
    bench.build(proof="node")
    altered(bench, data=bytes(32))
    with pytest.raises(errors.BadAnswer, match="a log differs"):
        await bench.steps(3)
    assert bench.service.counts.lies == 1
    bench.build(proof="node")
    await bench.settle()
    await bench.is_exact()
    assert await rows_latch(bench) is None


async def test_another_transaction_hash_alone_stops_nothing(chain: indexing.Chain, bench: indexing.Bench) -> None:
    """No receipt proves it; the row keeps the one it came with."""
    await grown(chain)
    await bench.settle()
    bench.build(proof="node")
    altered(bench, tx_hash=b"\x07" * 32)
    await chain.emit(2)
    await bench.settle()
    await left(bench)
    bench.build(proof="receipts")
    await bench.settle()
    await bench.is_exact()


@pytest.mark.parametrize("lie", ["altered", "invented"])
async def test_a_stored_row_that_receipts_disprove_latches_and_never_reads_as_proven(
    chain: indexing.Chain, bench: indexing.Bench, lie: str
) -> None:
    await grown(chain)
    await bench.settle()
    bench.build(proof="node")
    if lie == "altered":
        altered(bench, data=bytes(32))
        await chain.emit(2)
    else:
        invented(bench)
        await chain.mine()
    await bench.settle()
    false = (await bench.rows())[-1]
    ref = await left(bench)
    assert false.log.block == ref
    bench.build(proof="receipts")
    with pytest.raises(errors.BadAnswer):
        await bench.steps(3)
    reason = await rows_latch(bench)
    assert reason is not None
    assert "stakeside agent reindex" in reason
    await bench.steps(3)
    assert bench.service.state == "violated"
    assert not [row for row in await bench.rows() if row.log.block == ref]
    bench.build(proof="receipts")
    await bench.steps(2)
    assert bench.service.state == "violated"


async def test_a_weaker_answer_that_leaves_out_a_known_log_is_asked_again(
    chain: indexing.Chain, bench: indexing.Bench
) -> None:
    await grown(chain)
    await chain.emit(2)
    await bench.settle()
    await left(bench)
    bench.build(proof="node")
    source = bench.service._source  # pyright: ignore[reportPrivateUsage]
    logs_of = source.logs_of

    async def shorter(filter_: reader.Filter, heads: Sequence[domain_chain.BlockRef]) -> list[list[domain_chain.Log]]:
        return [logs[:1] for logs in await logs_of(filter_, heads)]

    source.logs_of = shorter
    with pytest.raises(errors.BadAnswer, match="not in the answer"):
        await bench.steps(3)
    bench.build(proof="node")
    await bench.settle()
    await bench.is_exact()
    assert await rows_latch(bench) is None


async def test_a_known_block_whose_logs_mean_something_else_now_latches(
    chain: indexing.Chain, bench: indexing.Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    await grown(chain)
    await chain.emit(2)
    await bench.settle()
    await left(bench)
    decode = indexing.Decoder.decode

    def otherwise(self: indexing.Decoder, log: domain_chain.Log, time: int) -> object:
        return msgspec.structs.replace(decode(self, log, time), validator=hashing.word(2))  # pyright: ignore[reportCallIssue]

    monkeypatch.setattr(indexing.Decoder, "decode", otherwise)
    understanding(bench, OTHER)
    with pytest.raises(errors.BadAnswer, match="another meaning"):
        await bench.steps(3)
    assert "reindex" in (await rows_latch(bench) or "")
