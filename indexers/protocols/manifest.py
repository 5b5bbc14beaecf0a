"""A protocol on a network. In: a manifest and a network file (TOML). Out: a checked `Manifest`, and the ruleset statements name.

Names are packaged files (`config/protocols/NAME.toml`, `config/networks/NAME.toml`); anything that ends in `.toml` or contains a
slash is a path. Both files are checked whole before anything runs; a complaint names file, line and cure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from importlib import resources
from pathlib import Path

import msgspec

from domain import deployment, errors, hashing
from indexers.protocols import actions, checks, expressions, grammar, places, problems

_PLAIN = ("uint", "address", "bool", "fixed", "bytes", "string")


class File(msgspec.Struct, frozen=True):
    """`shown` is what complaints call it."""

    shown: str
    text: str


class Manifest(msgspec.Struct, frozen=True):
    """A protocol, checked and bound to one network. `start` is the first block that can hold one of its logs, 0 when the
    network file does not say; `addresses` are those of the contracts whose address is fixed."""

    file: str
    document: grammar.Document
    rules: tuple[checks.Rule, ...]
    calls: tuple[actions.Call, ...]
    lines: places.Places
    names: expressions.Names
    chain_id: int
    start: int
    addresses: Mapping[str, bytes]
    upgrades: Mapping[str, int]

    @property
    def name(self) -> str:
        return self.document.name

    def indexed(self) -> tuple[checks.Rule, ...]:
        """Rules that mean something, in the file's order. Raises BadConfig when this version cannot index them all."""
        found = not_indexable(self.document, self.rules, self.lines)
        if found:
            raise _refuse(self.file, found, "this version cannot index it: ")
        return tuple(rule for rule in self.rules if rule.means)

    def ruleset_json(self, stream: deployment.Stream, *, proof: str) -> dict[str, object]:
        """What statements of `stream` are derived by, complete enough to decode its logs without this manifest."""
        self._check_stream(stream)
        rules = self.indexed()
        earnings = self.document.earnings
        if earnings.mode != "replay":
            raise _refuse(
                self.file,
                [
                    problems.Problem(
                        self.lines.line(("earnings", "mode")),
                        f"statements follow earnings by replay in this version, not by {earnings.mode}",
                        "index it without a stream, or describe its arithmetic as a replay model",
                    )
                ],
            )
        emitters = sorted({rule.emitter for rule in rules})
        return {
            "protocol": self.name,
            "asset": hashing.hex0x(hashing.unhex(stream.asset, size=20, what=f"the asset of stream {stream.name}")),
            "unit": self.document.unit,
            "start": str(stream.start),
            "proof": proof,
            "accounting": {
                "mode": earnings.mode,
                "model": earnings.model,
                "version": earnings.version,
                "scale": earnings.scale,
            },
            "addresses": {name: hashing.hex0x(self.addresses[name]) for name in emitters},
            "children": [],
            "events": [_event_json(r) for r in sorted(rules, key=lambda r: (r.signature.topic0, r.emitter))],
        }

    def ruleset(self, stream: deployment.Stream, *, proof: str) -> bytes:
        """keccak256 of the RFC 8785 form of `ruleset_json`."""
        return hashing.keccak256(hashing.canonical_json(self.ruleset_json(stream, proof=proof)))

    def _check_stream(self, stream: deployment.Stream) -> None:
        if stream.kind != "staking" or stream.protocol != self.name:
            raise errors.BadConfig(
                f"stream {stream.name} is {stream.kind} of {stream.protocol}, the manifest is {self.name}",
                cure="name the stream under the protocol it belongs to",
            )
        if stream.chain != self.chain_id:
            raise errors.BadConfig(
                f"stream {stream.name} is on chain {stream.chain}, the network file is chain {self.chain_id}",
                cure="choose the network file of the stream's chain",
            )
        if stream.start > self.start and self.start:
            raise errors.BadConfig(
                f"stream {stream.name} starts at block {stream.start}, but {self.name} has logs from block {self.start} on",
                cure="a replay needs them all: start the stream there, or correct `start` in the network file",
            )


def load(name_or_path: str | Path, *, network: str | Path) -> Manifest:
    """Raises BadConfig naming file, line and cure."""
    file = open_file(name_or_path, folder="protocols")
    examined, found = checks.examine(file.text)
    if examined is None:
        raise _refuse(file.shown, found)
    return bind(examined, file=file.shown, network=open_file(network, folder="networks"))


def bind(examined: checks.Examined, *, file: str, network: File) -> Manifest:
    """A checked manifest with the addresses, blocks and chain of a network. Raises BadConfig."""
    bound, shown, found = try_bind(examined, file=file, network=network)
    if bound is None:
        raise _refuse(shown, found)
    return bound


def try_bind(
    examined: checks.Examined, *, file: str, network: File
) -> tuple[Manifest | None, str, list[problems.Problem]]:
    """What `bind` returns, or the file to mend and everything wrong with it."""
    table, lines, found = problems.parse(network.text, grammar.Network)
    name = examined.document.name
    if table is None:
        return None, network.shown, found
    if name not in table.protocols:
        cure = f"add [protocols.{name}.addresses]; {grammar.nearest(name, table.protocols)}"
        return None, network.shown, [problems.Problem(1, f"this network has no protocol {name}", cure)]
    instance = table.protocols[name]
    addresses: dict[str, bytes] = {}
    found = list(_bind_addresses(examined, instance, lines, addresses))
    found += _bind_upgrades(examined, instance, lines)
    if table.chain_id < 1 or instance.start < 0:
        line = lines.line(("protocols", name, "start") if instance.start < 0 else ("chain_id",))
        found.append(
            problems.Problem(line, "chain_id is at least 1 and start at least 0", "give the chain's own numbers")
        )
    if found:
        return None, network.shown, found
    found = list(_bound_collisions(examined, instance, addresses))
    if found:
        return None, file, found
    bound = Manifest(
        file=file,
        document=examined.document,
        rules=examined.rules,
        calls=examined.calls,
        lines=examined.lines,
        names=examined.names,
        chain_id=table.chain_id,
        start=instance.start,
        addresses=addresses,
        upgrades=instance.upgrades,
    )
    return bound, file, []


def open_file(name_or_path: str | Path, *, folder: str) -> File:
    """A packaged file by name, or any by path. Raises BadConfig when there is none or it is no text."""
    text = str(name_or_path)
    if isinstance(name_or_path, Path) or text.endswith(".toml") or "/" in text:
        path = Path(name_or_path)
    else:
        packaged = resources.files("config") / folder
        known = sorted(entry.name.removesuffix(".toml") for entry in packaged.iterdir() if entry.name.endswith(".toml"))
        if text not in known:
            raise errors.BadConfig(
                f"there is no file config/{folder}/{text}.toml", cure=f"{grammar.nearest(text, known)} Or give a path."
            )
        return File(f"config/{folder}/{text}.toml", (packaged / f"{text}.toml").read_text(encoding="utf-8"))
    try:
        return File(text, path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise errors.BadConfig(
            f"{text} cannot be read: {error}", cure="give the path of a TOML file in UTF-8"
        ) from None


def not_indexable(
    document: grammar.Document, rules: Iterable[checks.Rule], lines: places.Places
) -> list[problems.Problem]:
    """What of a checked manifest this version can say but not index: exactly what a ruleset has no words for, because no agent
    may index what the verifier cannot decode again."""
    meaning = [rule for rule in rules if rule.means]
    if not meaning:
        return [problems.Problem(1, "no event means anything", "give at least one event a `means`")]
    return [problem for rule in meaning for problem in _not_sayable(document, rule, lines)]


def _not_sayable(document: grammar.Document, rule: checks.Rule, lines: places.Places) -> Iterator[problems.Problem]:
    path: places.Path = ("events", rule.index)
    if document.contracts[rule.emitter] != "network":
        yield problems.Problem(
            lines.line((*path, "emitter")),
            f"{rule.id} comes from {rule.emitter}, whose address is found at run time",
            _LATER,
        )
    if rule.signature.kind == "packed":
        yield problems.Problem(lines.line((*path, "signature")), f"{rule.id} has no topic to be found by", _LATER)
    for param in rule.signature.inputs:
        if param.type.kind not in _PLAIN:
            what = f"{rule.id} carries {param.name}, a {param.type.canonical}, which rulesets cannot describe"
            yield problems.Problem(lines.line((*path, "signature")), what, _LATER)
    for key in ("when", "since", "until", "negative"):
        if getattr(rule.event, key):
            yield problems.Problem(lines.line((*path, key)), f"{rule.id} has a condition: {key}", _LATER)
    for name, source in rule.fields.items():
        for what, advice in _source_not_sayable(name, source):
            yield problems.Problem(lines.line((*path, name)), f"{name} of {rule.id} {what}", advice)


def _source_not_sayable(name: str, source: grammar.Source) -> Iterator[tuple[str, str]]:
    if source.measure != "delta":
        cure = "map the field that holds the change, if the event has one; otherwise leave out `means`, and it is only known"
        yield f"is measured as {source.measure}: {grammar.MEASURES[source.measure]}, which needs state to decode", cure
    if source.view is not None or source.child is not None or source.emitter:
        yield "is not in the log", "map a field of the log, or leave out `means`"
    if source.literal is not None and name not in ("role", "note"):
        yield "is a literal", "only role and note may be; map a field of the log"
    if source.field is not None and ("." in source.field or "[" in source.field):
        yield "lies inside a struct or array", _LATER
    for key, plain in (("unit", "wei"), ("transform", ""), ("asset", ""), ("clock", "seconds"), ("per", 10_000)):
        if getattr(source, key) != plain:
            yield f"is converted: {key} = {getattr(source, key)}", _LATER


_LATER = "leave out `means`: the event is then known to actions, but not indexed"


def _event_json(rule: checks.Rule) -> dict[str, object]:
    return {
        "emitter": rule.emitter,
        "signature": rule.signature.canonical,
        "topic0": hashing.hex0x(rule.signature.topic0),
        "inputs": [{"name": p.name, "type": p.type.canonical, "indexed": p.indexed} for p in rule.signature.inputs],
        "means": rule.means,
        "fields": {name: _field_json(name, source) for name, source in rule.fields.items()},
    }


def _field_json(name: str, source: grammar.Source) -> dict[str, object]:
    if source.literal is not None:
        return {"literal": str(source.literal)}
    return {"field": source.field, "measure": source.measure} if name == "amount" else {"field": source.field}


def _bind_addresses(
    examined: checks.Examined, instance: grammar.Instance, lines: places.Places, found: dict[str, bytes]
) -> Iterator[problems.Problem]:
    name = examined.document.name
    path: places.Path = ("protocols", name, "addresses")
    fixed = [contract for contract, where in examined.document.contracts.items() if where == "network"]
    for contract in fixed:
        if contract not in instance.addresses:
            yield problems.Problem(
                lines.line(path), f"{name} needs the address of {contract}", f'add {contract} = "0x…"'
            )
    for contract, text in instance.addresses.items():
        line = lines.line((*path, contract))
        if contract not in fixed:
            yield problems.Problem(
                line, f"{name} has no contract {contract} with a fixed address", grammar.nearest(contract, fixed)
            )
            continue
        address = _address(text)
        if address is None:
            yield problems.Problem(
                line,
                f"{contract} is not an address: {errors.clip(text, 60)}",
                "40 hex digits after 0x; copy it again, checksum included",
            )
            continue
        found[contract] = address


def _address(text: str) -> bytes | None:
    """20 bytes; None when malformed, zero, or in mixed case with a wrong EIP-55 checksum (a typing error)."""
    try:
        address = hashing.unhex(text, size=20)
    except errors.BadAnswer:
        return None
    digits = text[2:]
    if digits not in (digits.lower(), digits.upper()) and digits != checksum(address):
        return None
    return address if any(address) else None


def checksum(address: bytes) -> str:
    """The 40 hex digits in EIP-55 case."""
    digits = address.hex()
    guide = hashing.keccak256(digits.encode()).hex()
    return "".join(d.upper() if int(g, 16) >= 8 else d for d, g in zip(digits, guide, strict=False))


def _bind_upgrades(
    examined: checks.Examined, instance: grammar.Instance, lines: places.Places
) -> Iterator[problems.Problem]:
    path: places.Path = ("protocols", examined.document.name, "upgrades")
    named = {n for rule in examined.rules for n in (rule.event.since, rule.event.until) if n}
    for name in sorted(named - instance.upgrades.keys()):
        yield problems.Problem(
            lines.line(path), f"the manifest speaks of an upgrade {name}", f"add its first block: {name} = …"
        )
    for name in sorted(instance.upgrades.keys() - named):
        yield problems.Problem(
            lines.line((*path, name)), f"the manifest has no upgrade {name}", grammar.nearest(name, named)
        )


def _bound_collisions(
    examined: checks.Examined, instance: grammar.Instance, addresses: Mapping[str, bytes]
) -> Iterator[problems.Problem]:
    """Two rules that one log of one address in one block would fit."""
    for index, rule in enumerate(examined.rules):
        for other in examined.rules[:index]:
            same = rule.emitter == other.emitter or (
                rule.emitter in addresses and addresses[rule.emitter] == addresses.get(other.emitter)
            )
            if same and checks.may_collide(rule, other) and _overlap(rule, other, instance.upgrades):
                yield problems.Problem(
                    examined.lines.line(("events", rule.index)),
                    f"{rule.id} and {other.id} are the same log, from the same address in the same blocks",
                    "part them by `since` and `until`, or give the contracts their own addresses",
                )


def _overlap(rule: checks.Rule, other: checks.Rule, upgrades: Mapping[str, int]) -> bool:
    def span(event: grammar.Event) -> tuple[int, int]:
        return upgrades.get(event.since, 0), upgrades.get(event.until, 1 << 64)

    (first, end), (other_first, other_end) = span(rule.event), span(other.event)
    return first < other_end and other_first < end


def _refuse(file: str, found: list[problems.Problem], prefix: str = "") -> errors.BadConfig:
    """The first problem, and how many more `stakeside protocol check` would show."""
    first, *rest = sorted(found)
    more = f" (and {len(rest)} more: run `stakeside protocol check`)" if rest else ""
    return errors.BadConfig(f"{file}, line {first.line}: {prefix}{first.what}{more}", cure=first.cure)
