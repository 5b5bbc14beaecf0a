"""A ruleset and what its logs mean. In: the ruleset's JSON and raw logs. Out: the logs it matches, decoded into `Event`s.

The ruleset names everything: emitters, signatures, and which decoded value plays which part. Only the types that staking events
use are read: static words, `bytes` and `string`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from verify.contents import Log
from verify.primitives import hexed, keccak
from verify.report import Difference, Unusable, shown
from verify.strict import Node

_STATIC = re.compile(r"(?:uint(?P<uint>[0-9]{1,3})|bytes(?P<fixed>[0-9]{1,2})|address|bool)\Z")
Value = int | bytes


@dataclass(frozen=True, slots=True)
class Input:
    name: str
    type: str
    indexed: bool

    def is_static(self) -> bool:
        return self.type not in ("bytes", "string")


@dataclass(frozen=True, slots=True)
class Source:
    """Where a field of an event comes from: a decoded value or a text that the ruleset states."""

    field: str | None
    literal: str | None


@dataclass(frozen=True, slots=True)
class Rule:
    """One event of the ruleset."""

    path: str
    emitter: bytes
    topic: bytes
    inputs: tuple[Input, ...]
    means: str
    sources: Mapping[str, Source]

    @property
    def indexed(self) -> int:
        return sum(1 for item in self.inputs if item.indexed)


@dataclass(frozen=True, slots=True)
class Event:
    """What a log means. Addresses and fixed bytes are their 32-byte ABI word, everything else is an unsigned integer."""

    means: str
    place: str
    time: int
    values: Mapping[str, Value]
    texts: Mapping[str, str]

    def word(self, name: str) -> bytes:
        value = self._value(name)
        return value if isinstance(value, bytes) else value.to_bytes(32, "big")

    def number(self, name: str) -> int:
        value = self._value(name)
        return value if isinstance(value, int) else int.from_bytes(value, "big")

    def maybe(self, name: str) -> int | None:
        return self.number(name) if name in self.values else None

    def _value(self, name: str) -> Value:
        if name not in self.values:
            raise Unusable(self.place, f"the ruleset does not say what the {name} of {self.means} is")
        return self.values[name]


@dataclass(frozen=True, slots=True)
class Ruleset:
    protocol: str
    asset: bytes
    start: int
    model: str
    version: str
    scale: int
    rules: tuple[Rule, ...]

    def match(self, log: Log) -> Rule | None:
        """The rule of a log, None when the log is none of ours."""
        if not log.topics or log.number < self.start:
            return None
        for rule in self.rules:
            if rule.topic == log.topics[0] and rule.emitter == log.address:
                return rule
        return None

    def filters(self) -> tuple[set[bytes], set[bytes]]:
        """Emitters and first topics, for blooms and log queries."""
        return {rule.emitter for rule in self.rules}, {rule.topic for rule in self.rules}

    def decode(self, log: Log) -> Event:
        """Raises Difference for a log that the ruleset does not match or whose data does not fit."""
        rule = self.match(log)
        if rule is None:
            raise Difference(
                log.place(), "the ruleset does not match this log", got=log.topics[0] if log.topics else b""
            )
        decoded = _decode(rule, log)
        texts = {name: s.literal for name, s in rule.sources.items() if s.literal is not None}
        values = {
            name: decoded[s.field] for name, s in rule.sources.items() if s.field is not None and s.field in decoded
        }
        return Event(rule.means, log.place(), log.time, values, texts)


_EVENT = ("emitter", "signature", "topic0", "inputs", "means", "fields")


def read(node: Node) -> Ruleset:
    """Raises Unusable naming the place of a ruleset that this verifier cannot follow."""
    accounting = node.get("accounting")
    mode, model = accounting.get("mode").text(), accounting.get("model").text()
    if mode != "replay":
        accounting.get("mode").fail(f"{shown(mode)} is not replayable from events")
    if node.get("unit").text() not in ("wei", "1"):
        node.get("unit").fail("only amounts in the smallest unit can be replayed")
    if list(node.get("children").items()):
        node.get("children").fail("child contracts cannot be followed by this verifier")
    addresses = {name: item.hex(20) for name, item in node.get("addresses").entries().items()}
    rules = tuple(_rule(item, addresses) for item in node.get("events").items())
    if len({(rule.emitter, rule.topic) for rule in rules}) != len(rules):
        node.get("events").fail("two events of one emitter share a first topic")
    scale = accounting.get("scale").decimal(256)
    if scale == 0:
        accounting.get("scale").fail("a scale of zero")
    return Ruleset(
        protocol=node.get("protocol").text(),
        asset=node.get("asset").hex(20),
        start=node.get("start").decimal(64),
        model=model,
        version=accounting.get("version").text(),
        scale=scale,
        rules=rules,
    )


def _rule(item: Node, addresses: dict[str, bytes]) -> Rule:
    found = item.fields(*_EVENT)
    emitter = found["emitter"].text()
    if emitter not in addresses:
        found["emitter"].fail(f"the ruleset has no address for {shown(emitter)}")
    inputs = tuple(_input(one) for one in found["inputs"].items())
    signature = found["signature"].text()
    name = signature.partition("(")[0]
    written = f"{name}({','.join(one.type for one in inputs)})"
    if written != signature:
        found["signature"].fail(f"the inputs make it {shown(written)}")
    topic = found["topic0"].hex(32)
    if keccak(signature.encode()) != topic:
        raise Difference(
            found["topic0"].path, "not the hash of the signature", expected=keccak(signature.encode()), got=topic
        )
    known = {one.name: one for one in inputs}
    sources = {field: _source(source, known) for field, source in found["fields"].entries().items()}
    return Rule(item.path, addresses[emitter], topic, inputs, found["means"].text(), sources)


def _input(node: Node) -> Input:
    found = node.fields("name", "type", "indexed")
    kind = found["type"].text()
    if kind not in ("bytes", "string") and not _STATIC.match(kind):
        found["type"].fail(f"{shown(kind)} is a type that this verifier does not read")
    return Input(found["name"].text(), kind, found["indexed"].flag())


def _source(node: Node, known: Mapping[str, Input]) -> Source:
    found = node.fields(optional=("field", "literal", "measure"))
    if ("field" in found) == ("literal" in found):
        node.fail("needs either a field or a literal")
    if "measure" in found and found["measure"].text() != "delta":
        found["measure"].fail(
            f"amounts measured as {shown(found['measure'].text())} cannot be replayed by this verifier"
        )
    if "literal" in found:
        return Source(None, found["literal"].text())
    name = found["field"].text()
    if name not in known:
        found["field"].fail(f"the event has no value {shown(name)}")
    return Source(name, None)


def _decode(rule: Rule, log: Log) -> dict[str, Value]:
    """Static values by name. Dynamic ones are checked for their place and left out: no amount is a text."""
    if len(log.topics) != 1 + rule.indexed:
        raise Difference(
            log.place(), "another number of indexed values", expected=1 + rule.indexed, got=len(log.topics)
        )
    found: dict[str, Value] = {}
    topics = iter(log.topics[1:])
    position = 0
    for item in rule.inputs:
        if item.indexed:
            encoded = next(topics)
        else:
            encoded = log.data[position : position + 32]
            position += 32
            if len(encoded) != 32:
                raise Difference(log.place(), f"its data ends before {item.name}", got=hexed(log.data))
        if item.is_static():
            found[item.name] = _static(item, encoded, log)
        elif not item.indexed:
            _check_dynamic(item, int.from_bytes(encoded, "big"), log)
    return found


def _static(item: Input, encoded: bytes, log: Log) -> Value:
    """An ABI word, refused when its padding is not what the type demands."""
    kind = _STATIC.match(item.type)
    number = int.from_bytes(encoded, "big")
    if item.type == "address":
        bits, value = 160, encoded
    elif item.type == "bool":
        bits, value = 1, number
    elif kind is not None and kind["uint"] is not None:
        bits, value = int(kind["uint"]), number
    else:
        size = int(item.type.removeprefix("bytes"))
        if any(encoded[size:]):
            raise Difference(log.place(), f"{item.name} is no {item.type}", got=encoded)
        return encoded
    if number >> bits:
        raise Difference(log.place(), f"{item.name} does not fit {item.type}", got=encoded)
    return value


def _check_dynamic(item: Input, offset: int, log: Log) -> None:
    length = int.from_bytes(log.data[offset : offset + 32], "big")
    if offset + 32 > len(log.data) or offset + 32 + length > len(log.data):
        raise Difference(log.place(), f"its data ends before {item.name}", got=hexed(log.data))
