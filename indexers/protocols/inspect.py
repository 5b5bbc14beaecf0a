"""For authors of manifests. In: a manifest, and logs of one transaction. Out: problems, and lines that say what the logs mean.

`stakeside protocol check`, `test` and `plan` print what these functions return. Unlike the decoder they show everything
the grammar can say, indexed or not, so that a manifest can be tried on real transactions before anything depends on it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from domain import chain, errors, hashing
from indexers.protocols import abi, abitypes, checks, decoder, grammar, manifest, planner

_WIDTH = 160  # characters of one shown value: a signature or proof need not fill the screen


class Verdict(msgspec.Struct, frozen=True):
    """`problems` must be mended; `notes` say what is right but not indexed by this version; `summary` what there is."""

    problems: tuple[str, ...]
    notes: tuple[str, ...] = ()
    summary: tuple[str, ...] = ()


def check(name_or_path: str | Path, *, network: str | Path | None = None) -> Verdict:
    """Every problem of a manifest, and with `network` whether it has what the manifest needs there."""
    try:
        file = manifest.open_file(name_or_path, folder="protocols")
        place = None if network is None else manifest.open_file(network, folder="networks")
    except errors.BadConfig as error:
        return Verdict((str(error),))
    examined, problems = checks.examine(file.text)
    if examined is None:
        return Verdict(tuple(f"{file.shown}, {problem}" for problem in problems))
    if place is not None:
        _, shown, problems = manifest.try_bind(examined, file=file.shown, network=place)
        if problems:
            return Verdict(tuple(f"{shown}, {problem}" for problem in sorted(problems)))
    notes = manifest.not_indexable(examined.document, examined.rules, examined.lines)
    return Verdict((), tuple(f"{file.shown}, {note}" for note in notes), tuple(_summary(examined)))


def plan(
    made: planner.Planner, action: str, arguments: planner.Arguments, *, account: bytes, known: Mapping[str, abi.Value]
) -> Verdict:
    """The call an action would be: `summary` tells it, `notes` what it rests on, `problems` why it cannot be sent (yet)."""
    summary, problems = [made.describe(action, arguments)], list[str]()
    notes = [f"requires  {text}" for text in made.actions[action].requires]
    reads = made.reads(action, arguments, account=account, known=known)
    lookups = made.lookups(action, arguments, account=account, known=known)
    notes += [f"read      {id_} = {_cut(repr(value))}" for id_, value in known.items()]
    notes += [f"read      {r.id}: call {hashing.hex0x(r.to)} with {hashing.hex0x(r.data)}" for r in reads]
    notes += [f"look up   {found.id}: logs of {hashing.hex0x(found.address)}, event {found.event}" for found in lookups]
    for make in (made.plan, made.draft):
        try:
            call = make(action, arguments, account=account, known=known)
        except planner.Refused as error:
            cure = "give --rpc, and it will be" if reads or lookups else error.cure
            problems.append(f"not yet: {error.what}; {cure}")
            continue
        if isinstance(call, planner.Unmet):
            problems.append(f"not now: {call.reason}")
            continue
        return Verdict(tuple(problems), tuple(notes), (*summary, *_call_lines(call)))
    return Verdict(tuple(dict.fromkeys(problems)), tuple(notes), tuple(summary))


def _call_lines(call: planner.Call) -> Iterator[str]:
    yield f"to        {hashing.hex0x(call.to)}"
    yield f"data      {hashing.hex0x(call.data)}"
    yield f"value     {call.value} wei"
    yield f"counts    {'nothing' if call.amount is None else call.amount} against caps, direction {call.direction}"
    if call.approve is not None:
        approve = call.approve
        yield (
            f"approve   {approve.amount} of {hashing.hex0x(approve.token)} "
            f"to {hashing.hex0x(approve.spender)}: {hashing.hex0x(planner.approval(approve, account=bytes(20)).data)}"
        )
    for effect in call.effects:
        where = ", ".join([f"{path} = {errors.clip(text, _WIDTH)[1:-1]}" for path, text in effect.where])
        yield f"proof     {effect.name} from {hashing.hex0x(effect.emitter)} where {where}"


class Known:
    """The rules that logs are shown by. Without a network any emitter with the right topic counts."""

    def __init__(self, examined: checks.Examined, addresses: Mapping[str, bytes] | None = None) -> None:
        self._examined = examined
        self._addresses = addresses

    def explain(self, logs: Sequence[chain.Log]) -> list[str]:
        """One block of lines per log, in the order given."""
        lines: list[str] = []
        for log in logs:
            rules = [rule for rule in self._examined.rules if self._may_be(rule, log)]
            where = f"log {log.log_index} of {hashing.hex0x(log.address)}"
            if not rules:
                topic = hashing.hex0x(log.topics[0]) if log.topics else "none"
                lines.append(f"{where}: no event of {self._examined.document.name} (topic {topic})")
            for rule in rules:
                lines += [f"{where}: {rule.id} from {rule.emitter}, {rule.signature.canonical}", *self._told(rule, log)]
        return lines

    def _may_be(self, rule: checks.Rule, log: chain.Log) -> bool:
        if self._addresses is not None and self._addresses.get(rule.emitter, log.address) != log.address:
            return False
        if rule.signature.kind == "packed":
            return not log.topics and (self._addresses is None or rule.emitter in self._addresses)
        return bool(log.topics) and log.topics[0] == rule.signature.topic0

    def _told(self, rule: checks.Rule, log: chain.Log) -> Iterator[str]:
        try:
            values = decoder.fields(rule.signature)(log)
        except errors.Parked as error:
            yield f"    cannot be decoded: {error}"
            return
        for param in rule.signature.inputs:
            yield f"    {param.name} = {show(values[param.name], param.type)}"
        for name, wanted in rule.event.when.items():
            found = abi.pick(rule.signature.inputs, values, name)
            if found != wanted:
                yield f"    not meant: {name} is not {wanted}"
                return
        if rule.means:
            yield f"  means {rule.means}"
            for name, source in rule.fields.items():
                yield f"    {name} = {_meant(rule, source, values, log)}"
        proven = [c.action.name for c in self._examined.calls if any(e.event == rule.id for e in c.action.effects())]
        if proven:
            yield f"  may prove {', '.join(proven)}"


def known(examined: checks.Examined) -> Known:
    """Rules for logs of any emitter."""
    return Known(examined)


def bound(loaded: manifest.Manifest) -> Known:
    """Rules for logs of the network's contracts; of children, any emitter counts."""
    return Known(
        checks.Examined(loaded.document, loaded.rules, loaded.calls, loaded.lines, loaded.names), loaded.addresses
    )


def show(value: abi.Value, type_: abitypes.Type) -> str:
    """A value for a person: hex, decimals, structs by name; hostile text escaped, long values cut."""
    return _cut(_text(value, type_))


def _text(value: abi.Value, type_: abitypes.Type) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case bytes():
            return hashing.hex0x(value)
        case str():
            return repr(value)
        case _:
            if type_.kind == "tuple":
                parts = [f"{c.name}: {_text(v, c.type)}" for c, v in zip(type_.components, value, strict=True)]
                return "{" + ", ".join(parts) + "}"
            return "[" + ", ".join([_text(v, type_.item) for v in value]) + "]"


def _cut(text: str) -> str:
    return text if len(text) <= _WIDTH else f"{text[: _WIDTH - 1]}…"


def _meant(rule: checks.Rule, source: grammar.Source, values: Mapping[str, abi.Value], log: chain.Log) -> str:
    if source.literal is not None:
        return str(source.literal)
    if source.emitter:
        return hashing.hex0x(log.address)
    if source.field is None:
        return (
            f"read from view {source.view}"
            if source.view
            else f"{source.child} of the event that announced the emitter"
        )
    value = abi.pick(rule.signature.inputs, values, source.field)
    type_ = abitypes.resolve(rule.signature.inputs, source.field)
    if value is None or type_ is None:
        return f"nothing: {source.field} lies past the end"
    if source.transform and isinstance(value, bytes):
        value = int.from_bytes(value, "little")
    if isinstance(value, int) and not isinstance(value, bool):
        value *= grammar.UNITS[source.unit]
    marks = [source.measure] if source.measure != "delta" else []
    marks += [source.clock] if source.clock != "seconds" else []
    marks += [f"per {source.per}"] if source.per != 10_000 else []
    marks += [source.asset] if source.asset else []
    return _cut(_text(value, type_)) + (f" ({', '.join(marks)})" if marks else "")


def _summary(examined: checks.Examined) -> Iterator[str]:
    document = examined.document
    yield f"{document.name}: asset {document.asset}, earnings by {document.earnings.mode}"
    for rule in examined.rules:
        topic = "no topic" if rule.signature.kind == "packed" else hashing.hex0x(rule.signature.topic0)
        yield f"event {rule.id} of {rule.emitter}: {rule.means or 'known only'}, {rule.signature.canonical}, {topic}"
    for call in examined.calls:
        selector = "no selector" if call.signature.kind == "packed" else hashing.hex0x(call.signature.selector)
        effects = " and ".join(effect.event for effect in call.action.effects())
        yield f"action {call.action.name} on {call.action.target}: {call.signature.canonical}, {selector}, proven by {effects}"
    for saga in document.sagas:
        yield f"saga {saga.name}: {', then '.join(step.action for step in saga.steps)}"
