"""Log rows into PostgreSQL: COPY beside a multi-row insert, the same rows in turns, on a server of its own (synced to disk).

    .venv/bin/python -m benchmarks.store --json [--quick] [--partitions]

Prints one JSON object: rows a second by each way for slices of several sizes, and the ratio. `--partitions` compares, instead, the plain
`log` table with one in ranges of block numbers: filling, reading a range of canonical events, and one block's look-up.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Callable

import sqlalchemy as sa

from kit import databases, rows
from store import tables

SIZES = (8, 32, 128, 512, 2000)
ROWS = 20_000
BLOCKS, EACH = 40_000, 10
WIDTH = 5_000
"""Blocks in one partition: a day and a half of Ethereum's events would be some ten thousand."""
ROUNDS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print only the JSON object")
    parser.add_argument("--quick", action="store_true", help="fewer rows")
    parser.add_argument("--partitions", action="store_true", help="compare a partitioned table instead")
    args = parser.parse_args()
    result = measure(quick=args.quick, partitions=args.partitions)
    if not args.json:
        for name, value in result.items():
            print(f"{name:>24}  {value}")
    print(json.dumps(result))


def measure(*, quick: bool, partitions: bool) -> dict[str, float | int | str]:
    from tests.store import postgres

    try:
        server = postgres.Server(synced=True)
    except postgres.Missing as why:
        return {"skipped": str(why)}
    try:
        url = server.empty()
        if partitions:
            return asyncio.run(_in(url, lambda sync: _partitions(sync, blocks=BLOCKS // (10 if quick else 1))))
        return asyncio.run(_in(url, lambda sync: _ways(sync, count=ROWS // (10 if quick else 1))))
    finally:
        server.stop()


async def _in(url: str, work: Callable[[sa.Connection], dict[str, float | int | str]]) -> dict[str, float | int | str]:
    engine = databases.backend(url).writer()
    try:
        async with databases.transaction(engine) as sync:
            return await databases.run(lambda: work(sync))
    finally:
        await databases.run(engine.dispose)


def _ways(sync: sa.Connection, *, count: int) -> dict[str, float | int | str]:
    """In one transaction each slice, as the index commits them, into the real schema with its keys and guards."""
    tables.create(sync)
    _commit(sync)
    result: dict[str, float | int | str] = {"rows": count}
    block = 0
    for size in SIZES:
        best = {"insert": 0.0, "copy": 0.0}
        slices = max(1, min(count // size, 200))
        for _ in range(ROUNDS):
            for way, copy_from in (("insert", 1 << 60), ("copy", 1)):
                took = 0.0
                for _ in range(slices):
                    block += 1
                    rows.insert(sync, tables.block, [_block(block)])
                    logs = [_log(block, index) for index in range(size)]
                    start = time.perf_counter()
                    rows.insert(sync, tables.log, logs, copy_from=copy_from)
                    took += time.perf_counter() - start
                    _commit(sync)
                best[way] = max(best[way], slices * size / took)
        result |= {f"{way}_{size}": round(rate) for way, rate in best.items()}
        result[f"ratio_{size}"] = round(best["copy"] / best["insert"], 2)
    return result


def _partitions(sync: sa.Connection, *, blocks: int) -> dict[str, float | int | str]:
    """Seconds. Both tables have the columns and the primary key of `log`; neither has its foreign key or guards."""
    names = [column.name for column in tables.log.columns]
    tables.create(sync)
    for text in (
        "CREATE TABLE plain (LIKE log INCLUDING ALL)",
        "CREATE TABLE ranged (LIKE log INCLUDING ALL) PARTITION BY RANGE (number)",
        *(
            f"CREATE TABLE ranged_{start} PARTITION OF ranged FOR VALUES FROM ({start}) TO ({start + WIDTH})"
            for start in range(0, blocks + 1, WIDTH)
        ),
    ):
        sync.exec_driver_sql(text)
    _commit(sync)
    result: dict[str, float | int | str] = {"rows": blocks * EACH, "partitions": blocks // WIDTH + 1}
    kinds = {
        name: sa.Table(name, sa.MetaData(), *(sa.Column(n, tables.log.c[n].type) for n in names))
        for name in ("plain", "ranged")
    }
    took = dict.fromkeys(kinds, 0.0)
    step = 200
    for first in range(0, blocks, step):
        found = [_log(number, index) for number in range(first, first + step) for index in range(EACH)]
        for name, table in kinds.items():
            start = time.perf_counter()
            rows.insert(sync, table, found)
            _commit(sync)
            took[name] += time.perf_counter() - start
    result |= {f"fill_{name}_s": round(value, 2) for name, value in took.items()}
    for name in kinds:
        sync.exec_driver_sql(f"ANALYZE {name}")
    _commit(sync)
    for name in kinds:
        result[f"range_{name}_ms"] = _best(
            sync,
            f"SELECT count(amount), max(number) FROM {name} WHERE number BETWEEN {blocks // 2} AND {blocks // 2 + 1999}",
            20,
        )
        result[f"look_{name}_ms"] = _best(
            sync, f"SELECT 1 FROM {name} WHERE number IN ({', '.join(str(n * 97 % blocks) for n in range(50))})", 50
        )
        size = sync.execute(
            sa.text("SELECT sum(pg_total_relation_size(relid)) FROM pg_partition_tree(:name)"), {"name": name}
        ).scalar()
        result[f"bytes_{name}"] = int(size or 0) or int(
            sync.execute(sa.text("SELECT pg_total_relation_size(CAST(:name AS regclass))"), {"name": name}).scalar()
            or 0
        )
    return result


def _best(sync: sa.Connection, text: str, times: int) -> float:
    best = float("inf")
    for _ in range(times):
        start = time.perf_counter()
        sync.exec_driver_sql(text).all()
        best = min(best, time.perf_counter() - start)
    return round(best * 1000, 3)


def _commit(sync: sa.Connection) -> None:
    sync.commit()
    sync.begin()


def _word(*parts: int) -> bytes:
    return b"".join(part.to_bytes(8, "big") for part in parts).ljust(32, b"\x5a")


def _block(number: int) -> tuple[object, ...]:
    return number, _word(number), _word(number - 1), number, _word(1), _word(2), bytes(256), 2, None


def _log(number: int, index: int) -> tuple[object, ...]:
    topics = _word(7) + _word(number % 100) + _word(index)
    data = _word(number, index) * 3
    return (
        number, _word(number), index, _word(number, index), index, b"\x5f" * 20, topics, data, number, "devnet", "delegated",
        _word(number % 100), _word(index), 10**18 + number, "{}", 2,
    )  # fmt: skip


if __name__ == "__main__":
    main()
