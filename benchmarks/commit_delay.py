"""How long a submission's commit waits while the index fills the same book at full speed.

    .venv/bin/python -m benchmarks.commit_delay --json [--quick]

One process, one book in a file, as in an agent: the index's own transactions (decoded, checked, written), one after the other without a
pause, and beside them a signature that is kept every few milliseconds. `p50_ms` and `p99_ms` are from the wish to write until the
commit; `alone_p99_ms` is the same without an index. `rows_per_s` is what the index wrote meanwhile, `backfill_ratio` that number
divided by what it writes in transactions of five times the size: what the bound on a transaction costs.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from pathlib import Path

import coincurve

from agent.services import chronicle, slices
from domain import chain, hashing, intent, signatures, transaction
from indexers.chain import evidence
from indexers.protocols import decoder, manifest
from kit import runtime
from store import attempts, book, commands, cursors, decisions, intents, reservations, slots

CHAIN = 31337
KEY = coincurve.PrivateKey(b"\x11" * 32)
ACCOUNT = signatures.address_of(KEY.public_key.format(compressed=False))
GENESIS = b"\x01" * 32
DELEGATED = hashing.keccak256(b"Delegated(address,address,uint256)")
LOGS_A_BLOCK = 10
PAUSE_S = 0.005
"""Between two signatures: far more than an agent makes, so that they meet every moment of the index's work."""
POLICY = '{"default":"deny"}'
WIDE = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print only the JSON object")
    parser.add_argument("--quick", action="store_true", help="fewer commits, within 20 s")
    args = parser.parse_args()
    result = asyncio.run(run(count=150 if args.quick else 600))
    if not args.json:
        for name, value in result.items():
            print(f"{name:>16}  {value}")
    print(json.dumps(result))


async def run(*, count: int) -> dict[str, float | int]:
    """The measured keys."""
    with tempfile.TemporaryDirectory(prefix="commit-delay-") as name:
        alone = await _measure(Path(name) / "alone.db", count=count, rows=0)
        bounded = await _measure(Path(name) / "bounded.db", count=count, rows=slices.MAX_ROWS)
        wide = await _measure(Path(name) / "wide.db", count=count // 3, rows=WIDE * slices.MAX_ROWS)
    return {
        "p50_ms": round(1000 * _quantile(bounded[0], 50), 1),
        "p99_ms": round(1000 * _quantile(bounded[0], 99), 1),
        "alone_p99_ms": round(1000 * _quantile(alone[0], 99), 1),
        "wide_p99_ms": round(1000 * _quantile(wide[0], 99), 1),
        "rows_per_s": round(bounded[1]),
        "backfill_ratio": round(bounded[1] / wide[1], 2),
        "commits": count,
    }


def _quantile(values: list[float], percent: int) -> float:
    return sorted(values)[min(len(values) - 1, len(values) * percent // 100)]


async def _measure(file: Path, *, count: int, rows: int) -> tuple[list[float], float]:
    """Seconds of each signature's commit, and rows a second of the index; `rows` a transaction, 0 for no index."""
    the_book = await book.open_book(f"sqlite:///{file}", deployment=GENESIS, chain_id=CHAIN, genesis=GENESIS)
    try:
        signed = await _prepare(the_book, count)
        stop = asyncio.Event()
        index = asyncio.create_task(_index(the_book, rows, stop)) if rows else None
        await asyncio.sleep(0.2)
        waits: list[float] = []
        for tx, id in signed:
            began = time.perf_counter()
            async with the_book.write() as c:
                await attempts.save_signed(c, id, 0, hash=tx.hash, raw=tx.raw, fence=1, at_s=2)
                await intents.move(c, id, expect="reserved", to="signed", why="", at_s=2)
            waits.append(time.perf_counter() - began)
            await asyncio.sleep(PAUSE_S)
        stop.set()
        return waits, 0.0 if index is None else await index
    finally:
        await the_book.close()


async def _index(the_book: book.Book, rows: int, stop: asyncio.Event) -> float:
    """Write until told to stop: rows a second."""
    source = manifest.load("devnet", network="devnet")
    emitter = next(iter(source.addresses.values()))
    history = chronicle.Chronicle(
        the_book, [decoder.compile(source)], clock=runtime.SystemClock(), depth=None, origin=None, start=1, proof="node"
    )
    cursor: cursors.Cursor | None = None
    number = written = 0
    began = time.perf_counter()
    while not stop.is_set():
        blocks = tuple(_block(number + offset, emitter) for offset in range(rows // LOGS_A_BLOCK))
        end = blocks[-1].header.ref
        slice_ = slices.Slice(number, end, blocks, history=True, final=False)
        cursor, _ = await history.commit(slice_, seen=cursor, close_gaps=False)
        number = end.number + 1
        written += rows
        await asyncio.sleep(0)
    return written / (time.perf_counter() - began)


def _block(number: int, emitter: bytes) -> evidence.Block:
    """Cheap to make: what is measured is the index, not its imitation."""
    ref = chain.BlockRef(number, hashing.word(number + 1))
    header = chain.Header(number, ref.hash, hashing.word(number), number * 12, GENESIS, GENESIS, bytes(256))
    tx_hash = hashing.word(1_000_000 + number)
    logs = tuple(
        chain.Log(
            ref, at, tx_hash, 0, emitter,
            (DELEGATED, hashing.word(7), hashing.word(1000 + at)), hashing.word(10**18 + number),
        )
        for at in range(LOGS_A_BLOCK)
    )  # fmt: skip
    return evidence.Block(header, logs, "node")


async def _prepare(the_book: book.Book, count: int) -> list[tuple[transaction.Signed, bytes]]:
    """Reserved intents, with the signatures that are to be kept."""
    async with the_book.write() as c:
        await decisions.save_policy(c, hashing.keccak256(POLICY.encode()), POLICY, 1)
        return [await _reserve(c, n) for n in range(count)]


async def _reserve(c: book.Connection, n: int) -> tuple[transaction.Signed, bytes]:
    wanted = intent.Intent(CHAIN, ACCOUNT, f"n{n}", "devnet", "delegate", {"amount": "1", "validator": "0x07"})
    await commands.propose(c, wanted, by="bench", reason="bench", at_s=1, expires_at_s=10**6)
    await intents.move(c, wanted.id, expect="new", to="planned", why="", at_s=1)
    await decisions.save(
        c,
        decisions.Decision(
            wanted.id, 1, "allow", "all", "", hashing.keccak256(POLICY.encode()), wanted.payload_hash, 1, GENESIS, "[]"
        ),
    )
    slot = await slots.reserve(c, chain_id=CHAIN, account=ACCOUNT, intent=wanted.id, floor=0, fence=1, at_s=1)
    tx = transaction.Unsigned(CHAIN, slot.nonce, 1, 10**9, 200_000, b"\x5f" * 20, 1, b"\x01\x02\x03\x04")
    await reservations.put(c, reservations.Reservation(wanted.id, "devnet", "delegate", 1, 1, 1, 1))
    await attempts.freeze(c, attempts.Attempt(wanted.id, 0, "original", tx, "[]", 1, 1))
    await intents.move(c, wanted.id, expect="planned", to="reserved", why="", at_s=1)
    signature = KEY.sign_recoverable(tx.digest(), hasher=None)
    return transaction.parse(transaction.join(tx, signature[:64] + bytes([27 + signature[64]]))), wanted.id


if __name__ == "__main__":
    main()
