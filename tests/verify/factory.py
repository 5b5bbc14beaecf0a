"""Statement files made by the producer's side: `domain` and `accounting`, never the verifier's own code.

A `History` invents valid staking histories, event by event; `Maker` turns its blocks into frames, signs them and writes the file.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from accounting import frames, reward_per_share
from domain import chain, deployment, events, hashing, statement, wire
from tests.wire import keys

SCALE = 10**18
STAKING = bytes.fromhex("5fbdb2315678afecb367f032d93f642f64180aa3")
CHAIN = 31337
START = 2
SIZE = 8
GENESIS = hashing.keccak256(b"genesis")
DELAY_S = 60
BLOCK_S = 12

_ADDRESS = ("address", True)
_EVENTS: tuple[tuple[str, str, tuple[tuple[str, str, bool], ...], dict[str, Any]], ...] = (
    (
        "Delegated", "Delegated",
        (("validator", *_ADDRESS), ("delegator", *_ADDRESS), ("amount", "uint256", False)),
        {"validator": "validator", "delegator": "delegator", "amount": "amount"},
    ),
    (
        "Undelegated", "Undelegated",
        (("validator", *_ADDRESS), ("delegator", *_ADDRESS), ("id", "uint256", False), ("amount", "uint256", False),
         ("releaseTime", "uint256", False)),
        {"validator": "validator", "delegator": "delegator", "amount": "amount", "ticket": "id", "release_time": "releaseTime"},
    ),
    (
        "Withdrawn", "Withdrawn",
        (("validator", *_ADDRESS), ("delegator", *_ADDRESS), ("id", "uint256", False), ("amount", "uint256", False)),
        {"validator": "validator", "delegator": "delegator", "amount": "amount", "ticket": "id"},
    ),
    (
        "Redelegated", "Moved",
        (("source", *_ADDRESS), ("target", *_ADDRESS), ("delegator", *_ADDRESS), ("amount", "uint256", False)),
        {"validator": "source", "target": "target", "delegator": "delegator", "amount": "amount"},
    ),
    (
        "RewardDistributed", "RewardAccrued",
        (("validator", *_ADDRESS), ("amount", "uint256", False), ("commission", "uint256", False),
         ("rewardPerShare", "uint256", False)),
        {"validator": "validator", "amount": "amount", "commission": "commission", "index": "rewardPerShare"},
    ),
    (
        "RewardClaimed", "RewardClaimed",
        (("validator", *_ADDRESS), ("delegator", *_ADDRESS), ("amount", "uint256", False)),
        {"validator": "validator", "delegator": "delegator", "amount": "amount", "role": ("literal", "delegator")},
    ),
    (
        "CommissionClaimed", "RewardClaimed",
        (("validator", *_ADDRESS), ("amount", "uint256", False)),
        {"validator": "validator", "delegator": "validator", "amount": "amount", "role": ("literal", "operator")},
    ),
    (
        "Slashed", "Slashed",
        (("validator", *_ADDRESS), ("bps", "uint256", False), ("amount", "uint256", False)),
        {"validator": "validator", "amount": "amount", "fraction_bps": "bps"},
    ),
    (
        "ValidatorUpdated", "CommissionChanged",
        (("validator", *_ADDRESS), ("commissionBps", "uint256", False), ("metadata", "string", False)),
        {"validator": "validator", "rate_bps": "commissionBps", "note": "metadata"},
    ),
)  # fmt: skip


def ruleset() -> dict[str, Any]:
    """The devnet contract's ruleset, as a manifest would render it."""
    listed: list[dict[str, Any]] = []
    for name, means, inputs, sources in _EVENTS:
        signature = f"{name}({','.join(kind for _, kind, _ in inputs)})"
        fields: dict[str, Any] = {}
        for field, source in sources.items():
            fields[field] = {"literal": source[1]} if isinstance(source, tuple) else {"field": source}
            if field == "amount":
                fields[field]["measure"] = "delta"
        listed.append(
            {
                "emitter": "staking",
                "signature": signature,
                "topic0": hashing.hex0x(hashing.keccak256(signature.encode())),
                "inputs": [{"name": n, "type": kind, "indexed": indexed} for n, kind, indexed in inputs],
                "means": means,
                "fields": fields,
            }
        )
    return {
        "protocol": "devnet",
        "asset": hashing.hex0x(hashing.ZERO_ADDRESS),
        "unit": "wei",
        "start": str(START),
        "proof": "receipts",
        "accounting": {"mode": "replay", "model": reward_per_share.NAME, "version": "1", "scale": str(SCALE)},
        "addresses": {"staking": hashing.hex0x(STAKING)},
        "children": [],
        "events": sorted(listed, key=lambda one: one["topic0"]),
    }


def document(
    rules: dict[str, Any] | None = None, *, start: int = START, size: int = SIZE, genesis: bytes = GENESIS
) -> deployment.Document:
    """Two streams of one ruleset, two epochs (the second from frame 2 on, with another signer), two hub keys."""
    name = hashing.hex0x(hashing.keccak256(hashing.canonical_json(rules or ruleset())))
    signers = [keys.address_text(key) for key in keys.KEYS]
    streams = tuple(
        deployment.Stream(
            name=label,
            kind="staking",
            chain=CHAIN,
            protocol="devnet",
            deployment="main",
            accounts=accounts,
            asset=hashing.hex0x(hashing.ZERO_ADDRESS),
            start=start,
            frame=f"blocks:{size}",
        )
        for label, accounts in (("devnet", "all"), ("devnet-ours", "ours"))
    )
    made = deployment.Document(
        name="example",
        chains=(deployment.Chain(CHAIN, hashing.hex0x(genesis)),),
        streams=streams,
        epochs=(
            deployment.Epoch(
                0, tuple(signers[:3]), 3, {"devnet": name, "devnet-ours": name}, {"devnet": 0, "devnet-ours": 0}
            ),
            deployment.Epoch(
                1, tuple(signers[:4]), 3, {"devnet": name, "devnet-ours": name}, {"devnet": 2, "devnet-ours": 2}
            ),
        ),
        receipt_keys=(
            deployment.ReceiptKey(keys.address_text(keys.HUB)),
            deployment.ReceiptKey(keys.address_text(keys.KEYS[4]), 1000),
        ),
    )
    deployment.check(made)
    return made


class History:
    """A random but valid history of the devnet contract, as logs with their meaning."""

    def __init__(self, seed: int, *, validators: int = 3, delegators: int = 4) -> None:
        self.random = random.Random(seed)
        self.book = reward_per_share.Book(scale=SCALE)
        self.entries: list[frames.Entry] = []
        self.headers: dict[int, chain.Header] = {}
        self._validators = [hashing.word(0xA0 + n) for n in range(validators)]
        self._delegators = [hashing.word(0xD0 + n) for n in range(delegators)]
        self._ticket = 0
        self._parent = hashing.keccak256(b"before the start")

    def play(self, first: int, last: int, *, most: int = 4) -> None:
        """Blocks `first` to `last`, each with up to `most` random events."""
        for number in range(first, last + 1):
            self.script(number, *[self._draw] * self.random.randint(0, most))

    def script(self, number: int, *makers: Callable[[events.At], events.StakingEvent]) -> None:
        """One block with the events that the makers return."""
        header = chain.Header(
            number=number,
            hash=hashing.keccak256(b"block" + hashing.word(number)),
            parent=self._parent,
            time=1_700_000_000 + number * BLOCK_S,
            state_root=hashing.keccak256(b"state" + hashing.word(number)),
            receipts_root=hashing.keccak256(b"receipts" + hashing.word(number)),
            bloom=bytes(256),
        )
        self._parent = header.hash
        self.headers[number] = header
        for index, make in enumerate(makers):
            tx_hash = hashing.keccak256(hashing.word(number) + hashing.word(index))
            event = make(events.At(header.ref, index * 2 + 1, header.time, tx_hash))
            self.book.apply(event)
            self.entries.append(frames.Entry(log_of(event), event))

    def _draw(self, at: events.At) -> events.StakingEvent:
        choice, book = self.random, self.book
        validator, delegator = choice.choice(self._validators), choice.choice(self._delegators)
        pool = book.pools.get(validator)
        if pool is None:
            return events.CommissionChanged(at, validator, choice.randint(0, 3000), note="a \0 \u202e name")
        position = book.positions.get(validator, {}).get(delegator, reward_per_share.Position())
        due = position.earned + position.stake * (pool.acc - position.acc) // SCALE - position.claimed
        released = [t for t, u in book.unbondings.items() if u.release_time <= at.time]
        possible: list[events.StakingEvent] = [
            events.Delegated(at, validator, delegator, choice.choice((1, 7, choice.randint(1, 10**20)))),
            self.reward(at, validator, pool),
            self.reward(at, validator, pool),
            events.CommissionChanged(at, validator, choice.choice((0, 10_000, choice.randint(0, 10_000)))),
        ]
        if position.stake:
            amount = choice.choice((position.stake, choice.randint(1, position.stake)))
            target = choice.choice([v for v in self._validators if v != validator])
            self._ticket += 1
            possible += [
                events.Undelegated(at, validator, delegator, amount, self._ticket, at.time + DELAY_S),
                events.Moved(at, validator, target, delegator, amount),
            ]
        if due:
            possible.append(events.RewardClaimed(at, validator, delegator, due))
        if released:
            entry = book.unbondings[released[0]]
            possible.append(events.Withdrawn(at, entry.validator, entry.delegator, entry.amount, released[0]))
        if owed := pool.commission_earned - pool.commission_claimed:
            possible.append(events.RewardClaimed(at, validator, validator, owed, "operator"))
        if choice.random() < 0.5:
            bps = choice.choice((1, 333, 10_000 if choice.random() < 0.2 else 5_000))
            possible.append(events.Slashed(at, validator, pool.total_stake * bps // 10_000, bps))
        return choice.choice(possible)

    def reward(
        self, at: events.At, validator: bytes, pool: reward_per_share.Pool, amount: int | None = None
    ) -> events.RewardAccrued:
        """A reward as the contract would report it, commission and index included."""
        if amount is None:
            amount = self.random.choice((1, 3, self.random.randint(1, 10**19)))
        commission = amount * pool.commission_bps // 10_000
        after = msgspec.structs.replace(pool)
        book = reward_per_share.Book(scale=SCALE)
        book.pools[validator] = after
        book.apply(events.RewardAccrued(at, validator, amount))
        return events.RewardAccrued(at, validator, amount, commission, after.acc)


def log_of(event: events.StakingEvent) -> chain.Log:
    """The log that the contract would have written for an event."""
    operator = isinstance(event, events.RewardClaimed) and event.role == "operator"
    wanted = {"RewardClaimed": "CommissionClaimed" if operator else "RewardClaimed"}.get(event.kind)
    name, _, inputs, sources = next(
        one for one in _EVENTS if one[1] == event.kind and (wanted is None or one[0] == wanted)
    )
    by_input = {source: getattr(event, field) for field, source in sources.items() if isinstance(source, str)}
    signature = f"{name}({','.join(kind for _, kind, _ in inputs)})"
    topics = [hashing.keccak256(signature.encode())]
    topics += [by_input[n] for n, _, indexed in inputs if indexed]
    head, tail = b"", b""
    plain = [(n, kind) for n, kind, indexed in inputs if not indexed]
    for field, kind in plain:
        if kind == "string":
            text = by_input[field].encode()
            head += hashing.word(32 * len(plain) + len(tail))
            tail += hashing.word(len(text)) + text + bytes(-len(text) % 32)
        else:
            head += hashing.word(by_input[field])
    at = event.at
    return chain.Log(at.block, at.log_index, at.tx_hash, 0, STAKING, tuple(topics), head + tail)


class Made:
    """A signed frame."""

    def __init__(self, frame: frames.Frame, certificate: wire.Certificate, entries: Sequence[frames.Entry]) -> None:
        self.frame = frame
        self.certificate = certificate
        self.entries = entries


def _handed_on(frame: frames.Frame) -> frames.Previous:
    return frames.Previous(frame.digest, frame.header.to_position, frame.header.to_anchor, frame.body)


class Maker:
    """Frames of the document's first stream, signed by k signers of the epoch."""

    def __init__(
        self,
        the_document: deployment.Document,
        rules: dict[str, Any],
        headers: dict[int, chain.Header],
        entries: Sequence[frames.Entry],
    ) -> None:
        self.document = the_document
        self.rules = rules
        self.stream = the_document.streams[0]
        self._headers = headers
        self._entries = entries

    def frames(self, count: int) -> list[Made]:
        """Frames 0 to `count` − 1, each at its highest listed revision."""
        made: list[Made] = []
        before: dict[int, frames.Frame] = {}
        for sequence in range(count):
            first, last = self.stream.frame_range(sequence)
            entries = [e for e in self._entries if first <= e.log.block.number <= last]
            before = self._revisions(sequence, entries, before)
            frame = before[max(before)]
            made.append(Made(frame, self.certificate(frame.header), entries))
        return made

    def _revisions(
        self, sequence: int, entries: Sequence[frames.Entry], before: dict[int, frames.Frame]
    ) -> dict[int, frames.Frame]:
        """A frame in every revision that the document lists for it."""
        first, last = self.stream.frame_range(sequence)
        derived: dict[int, frames.Frame] = {}
        supersedes = hashing.ZERO32
        for revision in range(self.document.revision(self.stream, sequence) + 1):
            earlier = before.get(self.document.previous_revision(self.stream, sequence, revision)) if sequence else None
            derived[revision] = frames.derive(
                self.document,
                self.stream,
                sequence=sequence,
                revision=revision,
                supersedes=supersedes,
                previous=None if earlier is None else _handed_on(earlier),
                first=self._headers[first],
                last=self._headers[last],
                entries=entries,
                scale=SCALE,
            )
            supersedes = derived[revision].digest
        return derived

    def certificate(self, header: statement.Header, *, signers: Sequence[bytes] | None = None) -> wire.Certificate:
        config = self.document.config_digest(self.stream, header.sequence)
        digest = statement.header_digest(header, statement.Domain(CHAIN, config))
        epoch = self.document.epoch_at(self.stream, header.sequence)
        by_address = {keys.address(key): key for key in keys.KEYS}
        chosen = [by_address[a] for a in epoch.addresses()][: epoch.k] if signers is None else signers
        return wire.Certificate(
            config_digest=hashing.hex0x(config),
            chain_id=str(CHAIN),
            digest=hashing.hex0x(digest),
            header=wire.header_to_wire(header),
            signatures=tuple(
                wire.Vote(keys.address_text(key), hashing.hex0x(keys.sign(key, digest))) for key in chosen
            ),
        )

    def receipts(self, made: Made) -> list[wire.SignedReceipt]:
        """One receipt for each vote, and for the first signer the one before it as well."""
        found: list[wire.SignedReceipt] = []
        for index, vote in enumerate(made.certificate.signatures):
            previous, number = hashing.ZERO32, 1
            if index == 0:
                earlier = statement.Receipt(
                    hashing.keccak256(b"earlier"), hashing.unhex(vote.signer), 1, hashing.ZERO32
                )
                found.append(self.receipt(earlier))
                previous = statement.receipt_digest(earlier, self._hub())
                number = 2
            found.append(
                self.receipt(statement.Receipt(made.frame.digest, hashing.unhex(vote.signer), number, previous))
            )
        return found

    def _hub(self) -> statement.Domain:
        return statement.hub_domain(chain_id=CHAIN, deployment=self.document.digest())

    def receipt(self, receipt: statement.Receipt) -> wire.SignedReceipt:
        signature = keys.sign(keys.HUB, statement.receipt_digest(receipt, self._hub()))
        return wire.SignedReceipt(
            str(CHAIN), hashing.hex0x(self.document.digest()), wire.receipt_to_wire(receipt), hashing.hex0x(signature)
        )

    def file(self, made: Sequence[Made]) -> dict[str, Any]:
        """The statement file of the last frame of `made`."""
        last = made[-1]
        before = made[-2] if len(made) > 1 else None
        return {
            "format": "stakeside-statement/1",
            "document": plain(self.document),
            "rulesets": {hashing.hex0x(hashing.keccak256(hashing.canonical_json(self.rules))): self.rules},
            "certificate": plain(last.certificate),
            "body": plain(wire.body_to_wire(last.frame.body)),
            "previous": None
            if before is None
            else {"certificate": plain(before.certificate), "body": plain(wire.body_to_wire(before.frame.body))},
            "receipts": plain(self.receipts(last)),
            "logs": [log_json(e.log, self._headers[e.log.block.number].time) for e in last.entries],
        }


def plain(value: object) -> Any:
    return msgspec.json.decode(msgspec.json.encode(value))


def log_json(log: chain.Log, time: int) -> dict[str, Any]:
    return {
        "number": str(log.block.number),
        "hash": hashing.hex0x(log.block.hash),
        "time": str(time),
        "logIndex": str(log.log_index),
        "txHash": hashing.hex0x(log.tx_hash),
        "address": hashing.hex0x(log.address),
        "topics": [hashing.hex0x(topic) for topic in log.topics],
        "data": hashing.hex0x(log.data),
    }


def example(seed: int, *, count: int = 3, size: int = SIZE, most: int = 4) -> dict[str, Any]:
    """A whole statement file about a random history of `count` frames."""
    rules = ruleset()
    history = History(seed)
    history.play(START, START + count * size - 1, most=most)
    maker = Maker(document(rules, size=size), rules, history.headers, history.entries)
    return maker.file(maker.frames(count))


def write(path: Path, content: object) -> Path:
    path.write_text(json.dumps(content, ensure_ascii=False))
    return path
