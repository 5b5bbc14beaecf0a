"""From logs to normalised events. In: logs as the chain has them. Out: `domain.events` values, or Parked with the reason.

`compile` turns a manifest into closures once, so that per log nothing is looked up by name: every word's place, check and meaning
is fixed beforehand. What counts as a valid encoding, and how strings are shown, is `indexers.protocols.abi`'s to say.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import cast

import msgspec

from domain import chain, errors, events, hashing
from indexers.protocols import abi, abitypes, checks, grammar, manifest

Handler = Callable[[chain.Log, int], events.StakingEvent]
Check = Callable[[bytes], None]
Get = Callable[[tuple[bytes, ...], bytes], object]
"""Takes one field of an event out of topics and data that passed the checks."""


class Decoder:
    """The logs of one protocol on one network."""

    def __init__(self, name: str, handlers: Mapping[bytes, Handler], *, fingerprint: bytes) -> None:
        """`fingerprint` names all that decides which logs are wanted and what they mean."""
        self.name = name
        self.fingerprint = fingerprint
        self._handlers = dict(handlers)
        self.addresses: tuple[bytes, ...] = tuple(sorted({key[:20] for key in handlers}))
        self.topics: tuple[bytes, ...] = tuple(sorted({key[20:] for key in handlers}))

    def wants(self, log: chain.Log) -> bool:
        """Whether a rule of the manifest names this log's emitter and first topic."""
        topics = log.topics
        return bool(topics) and log.address + topics[0] in self._handlers

    def decode(self, log: chain.Log, time: int) -> events.StakingEvent:
        """What a wanted log means. Raises Parked when its bytes are no encoding of its signature."""
        try:
            return self._handlers[log.address + log.topics[0]](log, time)
        except abi.Malformed as error:
            raise _parked(self.name, log, error) from None
        except LookupError:
            raise errors.Parked(
                f"{self.name} has no rule for this log", value=_shown(log), cure="ask `wants` first"
            ) from None


def compile(source: manifest.Manifest) -> Decoder:
    """Raises BadConfig for a manifest that can say more than this version can index."""
    handlers = {source.addresses[rule.emitter] + rule.signature.topic0: _handler(rule) for rule in source.indexed()}
    return Decoder(source.name, handlers, fingerprint=_fingerprint(source))


def fields(signature: abitypes.Signature) -> Callable[[chain.Log], dict[str, abi.Value]]:
    """Every parameter of a log by name, of any type the signature can say: for people and plans, not for the bulk path.

    An indexed string, array or struct is the hash its topic holds. The function raises Parked."""
    decode = _packed_fields(signature) if signature.kind == "packed" else _event_fields(signature)

    def read_fields(log: chain.Log) -> dict[str, abi.Value]:
        try:
            return decode(log)
        except abi.Malformed as error:
            raise _parked(signature.name, log, error) from None

    return read_fields


def _fingerprint(source: manifest.Manifest) -> bytes:
    """keccak256 of the rules as canonical JSON, in no order of a file. How well logs are proven and where they begin is not in it."""
    rules = [
        {
            "address": hashing.hex0x(source.addresses[rule.emitter]),
            "topic0": hashing.hex0x(rule.signature.topic0),
            "kind": rule.signature.kind,
            "inputs": [[p.name, p.type.canonical, p.indexed] for p in rule.signature.inputs],
            "means": rule.means,
            "fields": {name: _source(field) for name, field in rule.fields.items()},
        }
        for rule in source.indexed()
    ]
    return hashing.keccak256(hashing.canonical_json(sorted(rules, key=hashing.canonical_json)))


def _source(field: grammar.Source) -> dict[str, object]:
    # An integer may be wider than JSON's.
    return {name: str(value) if type(value) is int else value for name, value in msgspec.structs.asdict(field).items()}


def _handler(rule: checks.Rule) -> Handler:
    """One rule as a closure. The bulk path: static words, strings and bytes."""
    type_ = cast("Callable[..., events.StakingEvent]", events.TYPES[rule.means])
    layout = _Layout(rule.signature)
    getters = tuple([_getter(rule, name, rule.fields.get(name), layout) for name in grammar.accepted(rule.means)])
    check = layout.check()
    at_type = events.At

    def handle(log: chain.Log, time: int) -> events.StakingEvent:
        topics, data = log.topics, log.data
        check(topics, data)
        return type_(at_type(log.block, log.log_index, time, log.tx_hash), *[get(topics, data) for get in getters])

    return handle


class _Layout:
    """Where each parameter of an event lies: a topic's index, or an offset into the data."""

    def __init__(self, signature: abitypes.Signature) -> None:
        self.topics: dict[str, int] = {}
        self.offsets: dict[str, int] = {}
        self.types = {p.name: p.type for p in signature.inputs}
        self._name = signature.canonical
        self._head = 0
        for param in signature.inputs:
            if param.indexed:
                self.topics[param.name] = 1 + len(self.topics)
            else:
                self.offsets[param.name] = self._head
                self._head += 32 * param.type.words

    def check(self) -> Callable[[tuple[bytes, ...], bytes], None]:
        """Whether topics and data are an encoding of the signature, mapped parameters or not."""
        count, head, name = 1 + len(self.topics), self._head, self._name
        topic_checks: list[tuple[int, Check]] = []
        word_checks: list[tuple[int, int, Check]] = []
        for param, type_ in self.types.items():
            test = abi.word_check(type_) if type_.value else None
            if test is None:
                continue
            if param in self.topics:
                topic_checks.append((self.topics[param], test))
            else:
                word_checks.append((self.offsets[param], self.offsets[param] + 32, test))
        tails = tuple(place for param, place in self.offsets.items() if not self.types[param].value)

        def check(topics: tuple[bytes, ...], data: bytes) -> None:
            if len(topics) != count:
                raise abi.Malformed(f"{name} has {count} topics, not {len(topics)}")
            if len(data) < head:
                raise abi.Malformed(f"the data of {name} ends after {len(data)} of {head} bytes")
            for place, test in topic_checks:
                test(topics[place])
            for start, end, test in word_checks:
                test(data[start:end])
            if tails:
                room = abi.room(data)
                for place in tails:
                    abi.tail(data, place, room)

        return check


def _getter(rule: checks.Rule, name: str, source: grammar.Source | None, layout: _Layout) -> Get:
    if source is None:
        default = _default(rule.means, name)
        return lambda topics, data: default
    if source.literal is not None:
        literal = source.literal
        return lambda topics, data: literal
    param = source.field or ""
    identity = grammar.FIELD_KINDS[name] == "identity"
    if param in layout.topics:
        return _topic_getter(layout.topics[param], identity=identity)
    return _data_getter(layout.offsets[param], layout.types[param], identity=identity)


def _topic_getter(place: int, *, identity: bool) -> Get:
    if identity:
        return lambda topics, data: topics[place]
    return lambda topics, data: int.from_bytes(topics[place], "big")


def _data_getter(start: int, type_: abitypes.Type, *, identity: bool) -> Get:
    end = start + 32
    if not type_.value:
        return lambda topics, data: abi.text(abi.tail(data, start, abi.room(data)))
    if identity:
        return lambda topics, data: data[start:end]
    return lambda topics, data: int.from_bytes(data[start:end], "big")


def _default(means: str, name: str) -> object:
    field = next(f for f in msgspec.structs.fields(events.TYPES[means]) if f.name == name)
    return field.default


def _event_fields(signature: abitypes.Signature) -> Callable[[chain.Log], dict[str, abi.Value]]:
    indexed = [p for p in signature.inputs if p.indexed]
    plain = [p for p in signature.inputs if not p.indexed]
    topics = [abi.read(p.type) if p.type.value else _whole for p in indexed]
    data = abi.members([p.type for p in plain])
    names = [p.name for p in signature.inputs]

    def read_event(log: chain.Log) -> dict[str, abi.Value]:
        if len(log.topics) != 1 + len(topics):
            raise abi.Malformed(f"{signature.canonical} has {1 + len(topics)} topics, not {len(log.topics)}")
        room = abi.room(log.data)
        found: dict[str, abi.Value] = {
            p.name: read(topic, 0, room) for p, read, topic in zip(indexed, topics, log.topics[1:], strict=True)
        }
        found.update(zip([p.name for p in plain], data(log.data, 0, room), strict=True))
        return {name: found[name] for name in names}

    return read_event


def _packed_fields(signature: abitypes.Signature) -> Callable[[chain.Log], dict[str, abi.Value]]:
    read = abi.packed(signature.inputs)
    names = [p.name for p in signature.inputs]

    def read_log(log: chain.Log) -> dict[str, abi.Value]:
        if log.topics:
            raise abi.Malformed(f"packed data comes without topics, not with {len(log.topics)}")
        return dict(zip(names, read(log.data), strict=True))

    return read_log


def _whole(data: bytes, at: int, room: abi.Room) -> abi.Value:
    return data


def _shown(log: chain.Log) -> str:
    return f"block {log.block}, log {log.log_index}, transaction 0x{log.tx_hash.hex()}"


def _parked(name: str, log: chain.Log, error: abi.Malformed) -> errors.Parked:
    detail = "" if error.value is None else f" ({errors.clip(error.value, 80)})"
    return errors.Parked(
        f"a log of {name} does not decode: {error.what}{detail}",
        value=_shown(log),
        cure="compare the manifest's signature with the contract; `stakeside protocol test` shows the transaction",
    )
