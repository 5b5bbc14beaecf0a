"""Decoding logs: our compiled decoder beside web3's event processing (eth_abi), on the same logs in one run.

    .venv/bin/python -m benchmarks.decode --json [--quick]

Prints one JSON object: microseconds per log of each side (the best of several alternating rounds) and how many times faster ours is,
for a log of static words (`words_*`) and one with a string (`text_*`). Both sides' results are compared before anything is timed.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from typing import Any, cast

from domain import chain, events
from indexers.protocols import decoder, manifest

ROUNDS = 5
LOGS = 20_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print only the JSON object")
    parser.add_argument("--quick", action="store_true", help="fewer logs")
    args = parser.parse_args()
    result = run(logs=2_000 if args.quick else LOGS)
    if not args.json:
        for name, value in result.items():
            print(f"{name:>16}  {value}")
    print(json.dumps(result))


def run(*, logs: int = LOGS, rounds: int = ROUNDS) -> dict[str, float | int]:
    """The measured keys; floats are microseconds and ratios, never money."""
    loaded = manifest.load("devnet", network="devnet")
    ours = decoder.compile(loaded)
    topics = {rule.id: rule.signature.topic0 for rule in loaded.rules}
    staking = ours.addresses[0]
    result: dict[str, float | int] = {"logs": logs}
    for name, sample in (
        ("words", _words(topics["Undelegated"], staking)),
        ("text", _text(topics["ValidatorUpdated"], staking)),
    ):
        theirs, raw = _web3(sample)
        _agree(ours.decode(sample, 1), theirs(raw))
        ours_us, theirs_us = _race(
            lambda log=sample: ours.decode(log, 1), lambda log=raw, f=theirs: f(log), logs, rounds
        )
        result |= {
            f"{name}_us": round(ours_us, 3),
            f"{name}_web3_us": round(theirs_us, 3),
            f"{name}_ratio": round(theirs_us / ours_us, 1),
        }
    return result


def _race(ours: Callable[[], object], theirs: Callable[[], object], logs: int, rounds: int) -> tuple[float, float]:
    """Best microseconds per call, the two sides taking turns so that a busy machine hinders both alike."""
    best = [float("inf"), float("inf")]
    for _ in range(rounds):
        for side, (call, count) in enumerate(((ours, logs), (theirs, max(1, logs // 10)))):
            start = time.perf_counter()
            for _ in range(count):
                call()
            best[side] = min(best[side], (time.perf_counter() - start) / count * 1e6)
    return best[0], best[1]


def _word(value: int) -> bytes:
    return value.to_bytes(32, "big")


def _log(topics: tuple[bytes, ...], data: bytes, address: bytes) -> chain.Log:
    return chain.Log(
        block=chain.BlockRef(1, b"\1" * 32),
        log_index=0,
        tx_hash=b"\2" * 32,
        tx_index=0,
        address=address,
        topics=topics,
        data=data,
    )


def _words(topic: bytes, staking: bytes) -> chain.Log:
    data = b"".join(_word(v) for v in (7, 10**21, 1_800_000_000))
    return _log((topic, _word(0xA1), _word(0xB0)), data, staking)


def _text(topic: bytes, staking: bytes) -> chain.Log:
    note = "Zürich validator, run with care".encode()
    data = _word(250) + _word(64) + _word(len(note)) + note + bytes(-len(note) % 32)
    return _log((topic, _word(0xA1)), data, staking)


_ABI: list[dict[str, object]] = [
    {
        "type": "event",
        "name": "Undelegated",
        "anonymous": False,
        "inputs": [
            {"name": "validator", "type": "address", "indexed": True},
            {"name": "delegator", "type": "address", "indexed": True},
            {"name": "id", "type": "uint256", "indexed": False},
            {"name": "amount", "type": "uint256", "indexed": False},
            {"name": "releaseTime", "type": "uint256", "indexed": False},
        ],
    },
    {
        "type": "event",
        "name": "ValidatorUpdated",
        "anonymous": False,
        "inputs": [
            {"name": "validator", "type": "address", "indexed": True},
            {"name": "commissionBps", "type": "uint256", "indexed": False},
            {"name": "metadata", "type": "string", "indexed": False},
        ],
    },
]


def _web3(log: chain.Log) -> tuple[Callable[[Any], dict[str, Any]], Any]:
    """web3's way from a log to named arguments, and the log as web3 wants it."""
    from hexbytes import HexBytes
    from web3 import Web3
    from web3.types import LogReceipt

    name = "Undelegated" if len(log.topics) == 3 else "ValidatorUpdated"
    contract = Web3().eth.contract(abi=cast("Any", _ABI))
    event: Any = contract.events[name]()
    raw = cast(
        "LogReceipt",
        {
            "address": Web3.to_checksum_address(log.address),
            "topics": [HexBytes(t) for t in log.topics],
            "data": HexBytes(log.data),
            "blockNumber": log.block.number,
            "blockHash": HexBytes(log.block.hash),
            "transactionHash": HexBytes(log.tx_hash),
            "transactionIndex": log.tx_index,
            "logIndex": log.log_index,
            "removed": False,
        },
    )

    def process(given: Any) -> dict[str, Any]:
        return dict(event.process_log(given)["args"])

    return process, raw


def _agree(event: events.StakingEvent, args: dict[str, Any]) -> None:
    match event:
        case events.Undelegated():
            ours: list[object] = [event.ticket, event.amount, event.release_time]
            theirs: list[object] = [args["id"], args["amount"], args["releaseTime"]]
        case events.CommissionChanged():
            ours, theirs = [event.rate_bps, event.note], [args["commissionBps"], args["metadata"]]
        case _:
            raise SystemExit(f"{event.kind} is not part of this benchmark")
    if ours != theirs or event.validator[12:].hex() != str(args["validator"])[2:].lower():
        raise SystemExit(f"the two sides decode differently: {ours} and {theirs}")


if __name__ == "__main__":
    main()
