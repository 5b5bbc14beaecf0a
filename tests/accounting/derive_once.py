"""Derives one frame from fixed events and prints its digest: run under many hash seeds, its sets and maps reversed or shuffled."""

from __future__ import annotations

import random
import sys

from accounting import frames
from domain import chain, deployment, events, hashing
from store.logs import Indexed

ASSET = "0x" + "00" * 20
RULESET = "0x" + "11" * 32


def word(number: int) -> bytes:
    return number.to_bytes(32, "big")


def history() -> list[Indexed]:
    """Sixty events of five delegators with three validators, over twenty blocks; the logs' bytes are made up but fixed."""
    dice = random.Random(1)
    rows: list[Indexed] = []
    total = dict.fromkeys((1, 2, 3), 0)
    for number in range(60):
        block = chain.BlockRef(1 + number // 3, word(1000 + number // 3))
        log = chain.Log(block, number % 3, word(number), 0, bytes(20), (word(number),), b"data")
        at = events.At(block, number % 3, 10 * block.number, log.tx_hash)
        validator = dice.choice((1, 2, 3))
        event: events.StakingEvent
        if number < 30 or total[validator] == 0 or dice.random() < 0.4:
            amount = dice.randrange(1, 10**19)
            total[validator] += amount
            event = events.Delegated(at, word(validator), word(dice.randrange(10, 15)), amount)
        elif dice.random() < 0.8:
            event = events.RewardAccrued(at, word(validator), dice.randrange(1, 10**18))
        else:
            bps = dice.randrange(1, 3000)
            loss = total[validator] * bps // 10_000
            total[validator] -= loss
            event = events.Slashed(at, word(validator), loss, bps)
        rows.append(Indexed(log, at.time, "devnet", event, "receipts"))
    return rows


def document(signers: list[str]) -> deployment.Document:
    stream = deployment.Stream("main", "staking", 31337, "devnet", "main", "all", ASSET, 1, "blocks:20")
    other = deployment.Stream("other", "staking", 31337, "devnet", "other", "all", ASSET, 1, "blocks:20")
    names = ["main", "other"] if int(sys.argv[1]) % 2 else ["other", "main"]
    epoch = deployment.Epoch(0, tuple(signers), 2, dict.fromkeys(names, RULESET), dict.fromkeys(names, 0))
    chains = (deployment.Chain(31337, "0x" + "22" * 32),)
    return deployment.Document("test", chains, (stream, other), (epoch,))


def main() -> None:
    dice = random.Random(int(sys.argv[1]))
    signers = ["0x" + f"{n:040x}" for n in (7, 3, 5)]
    dice.shuffle(signers)
    doc = document(signers)
    rows = history()
    # Whatever order rows arrived in, the book hands them out ascending; this stands for its ORDER BY.
    dice.shuffle(rows)
    rows.sort(key=lambda row: (row.log.block.number, row.log.log_index))
    first = chain.Header(1, word(1000), word(999), 10, word(5), word(6), bytes(256))
    last = chain.Header(20, word(1019), word(1018), 200, word(7), word(8), bytes(256))
    entries = [frames.Entry(row.log, row.event) for row in rows if row.event is not None]
    frame = frames.derive(
        doc, doc.stream("main"), sequence=0, revision=0, supersedes=bytes(32), previous=None,
        first=first, last=last, entries=entries, scale=10**18,
    )  # fmt: skip
    sys.stdout.write(hashing.hex0x(frame.digest) + "\n")


if __name__ == "__main__":
    main()
