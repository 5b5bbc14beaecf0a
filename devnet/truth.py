"""The ground truth: what the rows and leaves must be. In: receipts and contract views. Out: plain records, and differences.

Written apart from the indexer, the accounting and the shared vocabulary on purpose: decoding goes through the contract's ABI,
balances come from the contract's own views, and an agent's book is read with nothing but sqlite3.
"""

from __future__ import annotations

import functools
import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, cast

from eth_abi.abi import decode as abi_decode
from eth_utils.abi import event_abi_to_log_topic

from devnet import rpc, staking

PROTOCOL = "devnet"
SHOWN = 20
"""Differences listed before the rest is only counted."""

Parts = tuple[str, ...]
Leaves = dict[tuple[Parts, int], tuple[int, int]]
"""(readable parts of the subject, kind) to (cumulative reward, cumulative penalty); zero leaves are absent."""


@dataclass(frozen=True, slots=True, order=True)
class Row:
    """One canonical log and its normalised meaning. `validator` and `delegator` are 32-byte words, `topics` one after another,
    `detail` the remaining fields by name, integers as decimal strings."""

    number: int
    log_index: int
    block_hash: bytes
    tx_hash: bytes
    tx_index: int
    address: bytes
    topics: bytes
    data: bytes
    time: int
    kind: str | None
    validator: bytes | None
    delegator: bytes | None
    amount: int | None
    detail: tuple[tuple[str, str], ...]

    @property
    def key(self) -> tuple[int, bytes, int]:
        return self.number, self.block_hash, self.log_index


@dataclass(frozen=True, slots=True)
class _Event:
    name: str
    indexed: tuple[str, ...]
    plain: tuple[tuple[str, str], ...]


class Truth:
    """The truth of one contract on one node. Receipts are kept by block hash, so asking again costs what is new."""

    def __init__(self, node: rpc.Rpc, *, address: str = staking.ADDRESS, start_block: int = 0) -> None:
        self.node = node
        self.address = address.lower()
        self.start_block = start_block
        self._views = staking.Staking(node, address=address, accounts=(), start_block=start_block, chain_id=0)
        self._rows: dict[bytes, tuple[Row, ...]] = {}

    async def rows(self, *, first: int | None = None, last: int | str = "latest") -> list[Row]:
        """Every canonical row of the contract from block `first` to `last`, both included, ascending."""
        first = self.start_block if first is None else first
        if isinstance(last, str):
            last = int((await self.node.call("eth_getBlockByNumber", last, False))["number"], 16)
        calls: list[rpc.Call] = [("eth_getBlockByNumber", [hex(number), False]) for number in range(first, last + 1)]
        blocks = await self.node.batch(calls)
        await self._fetch([block for block in blocks if _unhex(block["hash"]) not in self._rows])
        return [row for block in blocks for row in self._rows[_unhex(block["hash"])]]

    async def leaves_at(self, block: int | bytes) -> Leaves:
        """Every leaf at the end of a block, by number or hash, from the contract's views at that very block."""
        at = ["0x" + block.hex(), False] if isinstance(block, bytes) else [hex(block), False]
        method = "eth_getBlockByHash" if isinstance(block, bytes) else "eth_getBlockByNumber"
        header = await self.node.call(method, *at)
        validators, delegators = participants(await self.rows(last=int(header["number"], 16)))
        wanted: list[tuple[Parts, int, bool, str, tuple[str, ...]]] = []
        for validator in validators:
            operator = ("operator", PROTOCOL, _hex(validator))
            wanted += [(operator, kind, False, view, (_account(validator),)) for kind, view in _OPERATOR_VIEWS]
            for delegator in delegators:
                holder = ("delegation", PROTOCOL, _hex(validator), _hex(delegator))
                pair = (_account(validator), _account(delegator))
                wanted += [(holder, kind, kind == 20, view, pair) for kind, view in _DELEGATION_VIEWS]
        answers = await self._views.read(
            [(view, arguments) for *_, view, arguments in wanted], block=_unhex(header["hash"])
        )
        return {
            (parts, kind): (0, amount) if penalty else (amount, 0)
            for (parts, kind, penalty, _, _), amount in zip(wanted, answers, strict=True)
            if amount
        }

    async def _fetch(self, blocks: Sequence[dict[str, Any]]) -> None:
        busy = [block for block in blocks if block["transactions"]]
        receipts = await self.node.batch([("eth_getBlockReceipts", [block["hash"]]) for block in busy])
        for block in blocks:
            self._rows[_unhex(block["hash"])] = ()
        for block, of_block in zip(busy, receipts, strict=True):
            logs = [log for receipt in of_block for log in receipt["logs"] if log["address"].lower() == self.address]
            time = int(block["timestamp"], 16)
            self._rows[_unhex(block["hash"])] = tuple(row_of_log(log, time=time) for log in logs)


_DELEGATION_VIEWS = ((1, "earnedOf"), (20, "lostOf"), (40, "claimedOf"), (41, "principalInOf"), (42, "principalOutOf"))
_OPERATOR_VIEWS = ((2, "commissionEarnedOf"), (40, "commissionClaimedOf"))


def participants(rows: Iterable[Row]) -> tuple[list[bytes], list[bytes]]:
    """Every validator and every delegator that a row names, as ascending words."""
    validators: set[bytes] = set()
    delegators: set[bytes] = set()
    for row in rows:
        if row.validator is not None:
            validators.add(row.validator)
        if row.delegator is not None:
            delegators.add(row.delegator)
        validators |= {_unhex(text) for name, text in row.detail if name == "target"}
    return sorted(validators), sorted(delegators)


# --- what a log means -----------------------------------------------------------------------------------------------------


def row_of_log(log: Mapping[str, Any], *, time: int) -> Row:
    """A log of a receipt as a row. Raises KeyError for an event that the contract's ABI does not have."""
    topics = [_unhex(topic) for topic in log["topics"]]
    data = _unhex(log["data"])
    event = _events()[topics[0]]
    values: dict[str, Any] = dict(zip(event.indexed, topics[1:], strict=True))
    types = ["bytes" if kind == "string" else kind for _, kind in event.plain]
    values |= zip((name for name, _ in event.plain), abi_decode(types, data), strict=True)
    kind, validator, delegator, amount, detail = _meaning(event.name, values)
    return Row(
        number=int(log["blockNumber"], 16),
        log_index=int(log["logIndex"], 16),
        block_hash=_unhex(log["blockHash"]),
        tx_hash=_unhex(log["transactionHash"]),
        tx_index=int(log["transactionIndex"], 16),
        address=_unhex(log["address"]),
        topics=b"".join(topics),
        data=data,
        time=time,
        kind=kind,
        validator=validator,
        delegator=delegator,
        amount=amount,
        detail=tuple(sorted((name, str(value)) for name, value in detail.items())),
    )


def _meaning(name: str, values: dict[str, Any]) -> tuple[str, bytes, bytes | None, int | None, Mapping[str, object]]:
    """Kind, validator, delegator, amount and details of each event of the contract."""
    validator: bytes = values["source"] if name == "Redelegated" else values["validator"]
    match name:
        case "Delegated":
            return "Delegated", validator, values["delegator"], values["amount"], {}
        case "Undelegated":
            detail = {"ticket": values["id"], "release_time": values["releaseTime"]}
            return "Undelegated", validator, values["delegator"], values["amount"], detail
        case "Withdrawn":
            return "Withdrawn", validator, values["delegator"], values["amount"], {"ticket": values["id"]}
        case "Redelegated":
            return "Moved", validator, values["delegator"], values["amount"], {"target": _hex(values["target"])}
        case "RewardDistributed":
            detail = {"commission": values["commission"], "index": values["rewardPerShare"]}
            return "RewardAccrued", validator, None, values["amount"], detail
        case "RewardClaimed":
            return "RewardClaimed", validator, values["delegator"], values["amount"], {"role": "delegator"}
        case "CommissionClaimed":
            return "RewardClaimed", validator, validator, values["amount"], {"role": "operator"}
        case "Slashed":
            return "Slashed", validator, None, values["amount"], {"fraction_bps": values["bps"]}
        case "ValidatorUpdated":
            detail = {"rate_bps": values["commissionBps"], "note": shown(values["metadata"])}
            return "CommissionChanged", validator, None, None, detail
        case _:
            raise KeyError(name)


def shown(data: bytes) -> str:
    r"""A chain's bytes as text: UTF-8 where it is, `\xhh` for a byte that is not, and `\x5c` for a backslash that would make the
    text look like such an escape."""
    characters = data.decode("utf-8", "surrogateescape")
    out: list[str] = []
    for place, character in enumerate(characters):
        code = ord(character)
        if 0xDC80 <= code <= 0xDCFF:
            out.append(f"\\x{code - 0xDC00:02x}")
        elif character == "\\" and _is_escape(characters[place + 1 : place + 4]):
            out.append("\\x5c")
        else:
            out.append(character)
    return "".join(out)


def _is_escape(after: str) -> bool:
    return len(after) == 3 and after[0] == "x" and set(after[1:]) <= set("0123456789abcdef")


@functools.cache
def _events() -> dict[bytes, _Event]:
    found: dict[bytes, _Event] = {}
    for entry in staking.artifact()["abi"]:
        if entry["type"] == "event":
            indexed = tuple(part["name"] for part in entry["inputs"] if part["indexed"])
            plain = tuple((part["name"], part["type"]) for part in entry["inputs"] if not part["indexed"])
            found[bytes(event_abi_to_log_topic(entry))] = _Event(entry["name"], indexed, plain)
    return found


# --- an agent's book --------------------------------------------------------------------------------------------------------

_COLUMNS = "number, log_index, block_hash, tx_hash, tx_index, address, topics, data, time, kind, validator, delegator, amount, detail"


def rows_of_book(path: Path | str, *, first: int = 0, last: int = 2**63 - 1, protocol: str = PROTOCOL) -> list[Row]:
    """The canonical rows in an agent's SQLite book, read from its view `canonical_event` and never written to."""
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)
    try:
        found = connection.execute(
            f"select {_COLUMNS} from canonical_event where protocol = ? and number between ? and ? order by number, log_index",
            (protocol, first, last),
        ).fetchall()
    finally:
        connection.close()
    return [_row_of_record(record) for record in found]


def _row_of_record(record: Sequence[Any]) -> Row:
    *plain, amount, detail = record
    parsed = cast("dict[str, object]", json.loads(detail)) if detail else {}
    return Row(
        *plain,
        amount=int.from_bytes(amount, "big") if isinstance(amount, bytes) else amount,
        detail=tuple(sorted((name, str(value)) for name, value in parsed.items())),
    )


# --- comparing --------------------------------------------------------------------------------------------------------------


def compare_rows(expected: Iterable[Row], got: Iterable[Row]) -> list[str]:
    """What differs, one sentence each, lowest block first; empty when everything is equal."""
    wanted, found = {row.key: row for row in expected}, list(got)
    present = {row.key: row for row in found}
    differences = [] if len(present) == len(found) else [f"{len(found) - len(present)} rows are there twice"]
    for key in sorted(wanted.keys() | present.keys()):
        place = f"block {key[0]} 0x{key[1].hex()[:8]}, log {key[2]}"
        row, other = wanted.get(key), present.get(key)
        if other is None:
            assert row is not None
            differences.append(f"{place}: {row.kind} is missing")
        elif row is None:
            differences.append(f"{place}: {other.kind} is not on the chain")
        elif row != other:
            differences += [f"{place}: {text}" for text in _unequal_fields(row, other)]
    return _cut(differences)


def compare_leaves(expected: Leaves, got: Leaves) -> list[str]:
    """What differs, one sentence each; empty when everything is equal."""
    differences: list[str] = []
    for key in sorted(expected.keys() | got.keys()):
        parts, kind = key
        wanted, found = expected.get(key, (0, 0)), got.get(key, (0, 0))
        if key in got and found == (0, 0):
            differences.append(f"{'/'.join(parts)}, kind {kind}: a zero leaf is there")
        elif wanted != found:
            differences.append(
                f"{'/'.join(parts)}, kind {kind}: (reward, penalty) is {found}, the contract says {wanted}"
            )
    return _cut(differences)


def _unequal_fields(row: Row, other: Row) -> list[str]:
    pairs = [(f.name, getattr(row, f.name), getattr(other, f.name)) for f in fields(Row)]
    return [
        f"{name} is {_short(found)}, the chain says {_short(wanted)}"
        for name, wanted, found in pairs
        if wanted != found
    ]


def _short(value: object) -> str:
    text = "0x" + value.hex() if isinstance(value, bytes) else repr(value)
    return text if len(text) <= 120 else f"{text[:117]}…"


def _cut(differences: list[str]) -> list[str]:
    rest = len(differences) - SHOWN
    return differences if rest <= 0 else [*differences[:SHOWN], f"and {rest} more differences"]


def _unhex(text: str) -> bytes:
    return bytes.fromhex(text[2:])


def _hex(data: bytes) -> str:
    return "0x" + data.hex()


def _account(word: bytes) -> str:
    return "0x" + word[12:].hex()
