"""The same frame gives the same digest, whatever the process's hash seed and the order in which things arrived."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

from domain import chain
from store import blocks, book, logs
from tests.accounting import derive_once

GOLDEN = "0x4ceb5c2484a2c8ae9d379c787b2e8775d6d55ce51262f6da5c29b9022a76ab2a"


def test_one_frame_has_one_digest_under_twenty_hash_seeds() -> None:
    found = set[str]()
    for seed in range(20):
        done = subprocess.run(
            [sys.executable, "-m", "tests.accounting.derive_once", str(seed)],
            env={**os.environ, "PYTHONHASHSEED": str(seed)}, capture_output=True, text=True, check=True,
        )  # fmt: skip
        found.add(done.stdout.strip())
    assert found == {GOLDEN}


async def test_rows_inserted_in_any_order_come_out_of_the_book_in_one(tmp_path: Path) -> None:
    rows = derive_once.history()
    headers = {
        row.log.block: chain.Header(
            row.log.block.number, row.log.block.hash, bytes(32), row.time, bytes(32), bytes(32), bytes(256)
        )
        for row in rows
    }
    read: list[list[logs.Indexed]] = []
    for seed in range(5):
        shuffled = list(rows)
        random.Random(seed).shuffle(shuffled)
        url = f"sqlite:///{tmp_path / f'{seed}.db'}"
        the_book = await book.open_book(url, deployment=bytes(32), chain_id=1, genesis=bytes(32))
        async with the_book.write() as c:
            await blocks.insert(c, list(headers.values()), proof="receipts")
            await logs.insert(c, shuffled)
        async with the_book.read() as c:
            read.append(await logs.between(c, protocol="devnet", first=1, last=20))
        await the_book.close()
    assert all(found == rows for found in read)
