"""Lies about logs, receipts and headers: pure functions over parsed JSON-RPC results.

In: the honest result and a shot. Out: the changed result, or None when there was nothing to lie about. Logs are handled in groups,
one per receipt (one group for eth_getLogs), so that the same lie can be told in both answers.
"""

from __future__ import annotations

import copy
import random
from typing import Any

from devnet.proxy import armed, upstream
from domain import hashing

Json = Any
Groups = list[list[dict[str, Json]]]


def logs(shot: armed.Shot, result: Json, *, template: Json = None) -> Json | None:
    """Tells a log lie about the result of eth_getLogs, eth_getBlockReceipts, eth_getTransactionReceipt or a `logs` message.
    `template` is a genuine log, dressed up when something is to be invented where nothing was."""
    one = upstream.as_object(result)
    if one is not None and "logs" in one:
        lied = logs(shot, [one], template=template)
        return lied[0] if lied else None
    if one is not None and "topics" in one:
        told = _tell(shot, [[one]], template)
        return told[0][0] if told and told[0] else None
    items: list[dict[str, Json]] | None = upstream.as_list(result)
    if items is None:
        return None
    receipts = bool(items) and "logs" in items[0]
    groups: Groups = [list(r["logs"]) for r in items] if receipts else [list(items)]
    groups_told = _tell(shot, groups, template if template is None or not receipts else _moved(template, items[0]))
    if groups_told is None:
        return None
    if not receipts:
        return groups_told[0]
    receipts_told = [{**receipt, "logs": group} for receipt, group in zip(items, groups_told, strict=True)]
    return _covered(receipts_told) if shot.fault.integer("cover") else receipts_told


def receipts(shot: armed.Shot, result: Json) -> Json | None:
    """Leaves out k receipts."""
    items = upstream.as_list(result)
    if not items:
        return None
    gone = set(shot.dice.sample(range(len(items)), min(shot.fault.integer("k"), len(items))))
    return [r for i, r in enumerate(items) if i not in gone]


def header(shot: armed.Shot, result: Json) -> Json | None:
    """Changes one field and leaves the hash as it was."""
    field, found = shot.fault.text("field"), upstream.as_object(result) or {}
    text = found.get(field)
    if not isinstance(text, str):
        return None
    return {**found, field: hex(int(text, 16) + 1) if len(text) < 20 else flip(text, shot.dice)}


def flip(text: str, dice: random.Random) -> str:
    """Another value for one byte of 0x-hex; of nothing, one word of noise."""
    count = len(text) // 2 - 1
    if count < 1:
        return "0x" + dice.randbytes(32).hex()
    raw = bytearray.fromhex(text[2:])
    raw[dice.randrange(count)] ^= dice.randrange(1, 256)
    return "0x" + raw.hex()


def _tell(shot: armed.Shot, groups: Groups, template: Json) -> Groups | None:
    places = [(g, i) for g, group in enumerate(groups) for i in range(len(group))]
    match shot.fault.name:
        case "drop-logs" | "drop-all-logs":
            gone = _chosen(shot, groups, places) if shot.fault.name == "drop-logs" else set(places)
            return (
                [[x for i, x in enumerate(gr) if (g, i) not in gone] for g, gr in enumerate(groups)] if gone else None
            )
        case "duplicate-logs":
            twice = _chosen(shot, groups, places)
            told = [[y for i, x in enumerate(gr) for y in [x] * (1 + ((g, i) in twice))] for g, gr in enumerate(groups)]
            return told if twice else None
        case "alter-logs":
            touched = _chosen(shot, groups, places)
            for g, i in sorted(touched):
                groups[g][i] = _altered(shot, groups[g][i])
            return groups if touched else None
        case "reorder-logs":
            return _reordered(shot, groups, places)
        case "invent-logs":
            return _invented(shot, groups, places, template)
        case _:
            return None


def _chosen(shot: armed.Shot, groups: Groups, places: list[tuple[int, int]]) -> set[tuple[int, int]]:
    k, of = shot.fault.integer("k"), shot.fault.integer("of")
    if not of:
        return set(shot.dice.sample(places, min(k, len(places))))

    def fated(place: tuple[int, int]) -> bool:
        log = groups[place[0]][place[1]]
        return random.Random(f"{shot.armed.seed}:{log['blockNumber']}:{log['logIndex']}").randrange(of) < k

    return {place for place in places if fated(place)}


def _altered(shot: armed.Shot, log: dict[str, Json]) -> dict[str, Json]:
    changed = copy.deepcopy(log)
    match shot.fault.text("what"):
        case "topic" if changed["topics"]:
            at = len(changed["topics"]) - 1
            changed["topics"][at] = flip(changed["topics"][at], shot.dice)
        case "address":
            changed["address"] = flip(changed["address"], shot.dice)
        case "index":
            changed["logIndex"] = hex(int(changed["logIndex"], 16) + 1)
        case "tx":
            changed["transactionHash"] = flip(changed["transactionHash"], shot.dice)
        case "block":
            changed["blockNumber"] = hex(int(changed["blockNumber"], 16) + 1)
        case _:
            changed["data"] = flip(changed["data"], shot.dice)
    return changed


def _reordered(shot: armed.Shot, groups: Groups, places: list[tuple[int, int]]) -> Groups | None:
    if len(places) < 2:
        return None
    flat = [groups[g][i] for g, i in places]
    mixed = list(flat)
    shot.dice.shuffle(mixed)
    if mixed == flat:
        mixed = mixed[1:] + mixed[:1]
    for (g, i), log in zip(places, mixed, strict=True):
        groups[g][i] = log
    return groups


def _invented(shot: armed.Shot, groups: Groups, places: list[tuple[int, int]], template: Json) -> Groups | None:
    if not groups or (not places and template is None):
        return None
    for _ in range(shot.fault.integer("k")):
        g, model = shot.dice.randrange(len(groups)), template
        if places:
            g, i = places[-1]
            model = groups[g][i]
        fake = copy.deepcopy(model)
        fake["data"] = flip(fake["data"], shot.dice)
        fake["logIndex"] = hex(int(fake["logIndex"], 16) + 1)
        groups[g].append(fake)
        places.append((g, len(groups[g]) - 1))
    return groups


def _moved(log: dict[str, Json], receipt: dict[str, Json]) -> dict[str, Json]:
    same = ("blockHash", "blockNumber", "transactionHash", "transactionIndex")
    return {**log, **{key: receipt[key] for key in same}, "logIndex": "0x0"}


def _covered(told: list[dict[str, Json]]) -> list[dict[str, Json]]:
    """Counts log indices anew and makes each receipt's bloom fit, so that only the receipts root still tells the truth."""
    index = 0
    for receipt in told:
        bloom = 0
        for at, log in enumerate(receipt["logs"]):
            receipt["logs"][at] = {**log, "logIndex": hex(index)}
            index += 1
            for value in (log["address"], *log["topics"]):
                digest = hashing.keccak256(bytes.fromhex(value[2:]))
                for pair in (0, 2, 4):
                    bloom |= 1 << (int.from_bytes(digest[pair : pair + 2], "big") & 2047)
        receipt["logsBloom"] = f"0x{bloom:0512x}"
    return told
