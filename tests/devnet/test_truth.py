"""The ground truth agrees with itself by other ways of asking, and finds whatever is planted."""

from __future__ import annotations

import dataclasses
import json
import sqlite3
from pathlib import Path

import pytest

from devnet import play, staking, truth
from domain import chain as domain_chain
from domain import events
from indexers.protocols import decoder, manifest


@pytest.fixture
async def rows(chain: staking.Staking, told: truth.Truth) -> list[truth.Row]:
    await play.Player(chain, 4).run(80)
    return await told.rows()


async def test_receipts_and_logs_tell_the_same_rows(
    chain: staking.Staking, told: truth.Truth, rows: list[truth.Row]
) -> None:
    logs = await chain.node.call("eth_getLogs", {"fromBlock": "0x0", "toBlock": "latest", "address": chain.address})
    times = {row.number: row.time for row in rows}
    assert [truth.row_of_log(log, time=times[int(log["blockNumber"], 16)]) for log in logs] == rows


async def test_rows_follow_a_reorg(chain: staking.Staking, told: truth.Truth) -> None:
    player = play.Player(chain, 9)
    await player.run(40)
    before = await told.rows()
    reorg = await player.reorg(5)
    after = await told.rows()
    assert {row.block_hash for row in after}.isdisjoint(reorg.orphaned)
    assert [row for row in after if row.number < reorg.first] == [row for row in before if row.number < reorg.first]


async def test_leaves_by_number_and_by_hash_are_the_same(
    chain: staking.Staking, told: truth.Truth, rows: list[truth.Row]
) -> None:
    middle = rows[len(rows) // 2]
    assert await told.leaves_at(middle.number) == await told.leaves_at(middle.block_hash)
    assert await told.leaves_at(middle.number) != await told.leaves_at(rows[-1].number)


@pytest.mark.parametrize("seed", range(4))
async def test_the_indexers_decoder_reads_every_log_the_same_way(
    devnet: staking.Devnet, told: truth.Truth, tmp_path: Path, seed: int
) -> None:
    """Hostile texts included, and with the network file that the devnet wrote."""
    chain, path = devnet.staking, tmp_path / "devnet.toml"
    path.write_text(devnet.network)
    decode = decoder.compile(manifest.load("devnet", network=path)).decode
    player = play.Player(chain, 100 + seed)
    await player.run(200)
    for text in play.HOSTILE:
        await chain.do(staking.set_metadata(player.validators[0], text))
    rows = await told.rows()
    assert [_meaning(events.to_row(decode(_log(row), row.time))) for row in rows] == [
        (row.kind, row.validator, row.delegator, row.amount, row.detail) for row in rows
    ]


def _log(row: truth.Row) -> domain_chain.Log:
    topics = tuple(row.topics[start : start + 32] for start in range(0, len(row.topics), 32))
    block = domain_chain.BlockRef(row.number, row.block_hash)
    return domain_chain.Log(block, row.log_index, row.tx_hash, row.tx_index, row.address, topics, row.data)


def _meaning(row: events.Row) -> tuple[object, ...]:
    detail = tuple(sorted(json.loads(row.detail).items()))
    return row.kind, row.validator, row.delegator, row.amount, detail


async def test_an_operator_that_stakes_with_itself_has_both_leaves(chain: staking.Staking, told: truth.Truth) -> None:
    operator = chain.accounts[1]
    assert all(await chain.do(
        staking.register_validator(operator, commission_bps=1_000, metadata=""),
        staking.delegate(operator, operator, 100),
        staking.distribute_reward(operator, operator, 50),
        staking.claim_commission(operator),
    ))  # fmt: skip
    word = "0x" + operator[2:].rjust(64, "0")
    holder, role = ("delegation", "devnet", word, word), ("operator", "devnet", word)
    assert await told.leaves_at(await chain.height()) == {
        (holder, 1): (45, 0), (holder, 41): (100, 0), (role, 2): (5, 0), (role, 40): (5, 0),
    }  # fmt: skip


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(truth.Row)])
async def test_one_wrong_field_in_one_row_is_found(rows: list[truth.Row], field: str) -> None:
    place = next(i for i, row in enumerate(rows) if row.kind == "Undelegated")
    value = getattr(rows[place], field)
    wrong = _wrong(value)
    planted = [*rows[:place], dataclasses.replace(rows[place], **{field: wrong}), *rows[place + 1 :]]
    assert truth.compare_rows(rows, rows) == []
    assert truth.compare_rows(rows, planted) != []


def _wrong(value: object) -> object:
    match value:
        case int():
            return value + 1
        case bytes():
            return value[:-1] + b"\x99"
        case tuple():
            return (("release_time", "1"), *value[1:])
        case _:
            return "Delegated"


async def test_missing_invented_and_doubled_rows_are_named(rows: list[truth.Row]) -> None:
    assert "is missing" in truth.compare_rows(rows, rows[1:])[0]
    invented = dataclasses.replace(rows[-1], log_index=999)
    assert "is not on the chain" in truth.compare_rows(rows, [*rows, invented])[0]
    assert truth.compare_rows(rows, [*rows, rows[0]]) == ["1 rows are there twice"]


async def test_wrong_missing_and_zero_leaves_are_named(chain: staking.Staking, told: truth.Truth) -> None:
    await play.Player(chain, 4).run(60)
    leaves = await told.leaves_at(await chain.height())
    assert truth.compare_leaves(leaves, dict(leaves)) == []
    key, (reward, penalty) = next(iter(leaves.items()))
    assert len(truth.compare_leaves(leaves, {**leaves, key: (reward + 1, penalty)})) == 1
    assert len(truth.compare_leaves(leaves, {k: v for k, v in leaves.items() if k != key})) == 1
    assert len(truth.compare_leaves(leaves, {**leaves, (("operator", "devnet", "0x00"), 2): (0, 0)})) == 1


async def test_a_long_list_of_differences_is_cut(rows: list[truth.Row]) -> None:
    found = truth.compare_rows(rows, [])
    assert len(found) == truth.SHOWN + 1
    assert found[-1] == f"and {len(rows) - truth.SHOWN} more differences"


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"plain \xe2\x82\xac\0", "plain €\0"),
        (b"\xff\xc3(", "\\xff\\xc3("),
        (b"\\xff", "\\x5cxff"),
        (b"\\xFF \\x4 \\y \\", "\\xFF \\x4 \\y \\"),
        (b"\xed\xa0\x80", "\\xed\\xa0\\x80"),
    ],
)
def test_bytes_that_are_no_text_are_shown_without_ambiguity(data: bytes, text: str) -> None:
    assert truth.shown(data) == text


async def test_a_book_is_read_through_its_canonical_view(rows: list[truth.Row], tmp_path: Path) -> None:
    path = tmp_path / "book.db"
    names = [field.name for field in dataclasses.fields(truth.Row)]
    connection = sqlite3.connect(path)
    connection.execute(f"create table event ({', '.join(names)}, protocol)")
    for row in reversed(rows):
        record = {name: getattr(row, name) for name in names}
        record["amount"] = None if row.amount is None else row.amount.to_bytes(32, "big")
        record["detail"] = json.dumps(dict(row.detail))
        connection.execute(
            f"insert into event values ({', '.join('?' * len(names))}, 'devnet')", [record[name] for name in names]
        )
    connection.execute("create view canonical_event as select * from event")
    connection.commit()
    connection.close()
    assert truth.compare_rows(rows, truth.rows_of_book(path)) == []
    assert truth.rows_of_book(path, protocol="other") == []
    assert {row.number for row in truth.rows_of_book(path, first=5, last=6)} <= {5, 6}
