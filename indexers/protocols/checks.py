"""Checks a manifest's text before anything runs on it. In: TOML text. Out: what it says, read and typed, and every problem found.

A problem names the line, what is wrong and what to write instead. All are collected, so an author mends a file in one round.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from typing import TypeVar, cast

import msgspec

from domain import errors, events
from indexers.protocols import expressions, grammar, places, signatures

T = TypeVar("T", bound=grammar.Table)
Path = places.Path

_ACTION = expressions.Scope("action")
_POSITION = expressions.Scope("position")
_WORD_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


class Problem(msgspec.Struct, frozen=True, order=True):
    line: int
    what: str
    cure: str = ""

    def __str__(self) -> str:
        return f"line {self.line}: {self.what}{'; ' + self.cure if self.cure else ''}"


class Rule(msgspec.Struct, frozen=True):
    """One event of a manifest, typed. `index` is its place in the file."""

    index: int
    id: str
    emitter: str
    signature: signatures.Signature
    means: str
    fields: Mapping[str, grammar.Source]
    event: grammar.Event


class Call(msgspec.Struct, frozen=True):
    """One action of a manifest, typed."""

    action: grammar.Action
    signature: signatures.Signature


class Examined(msgspec.Struct, frozen=True):
    """A manifest without problems. `lines` answers where something stands, for later complaints."""

    document: grammar.Document
    rules: tuple[Rule, ...]
    calls: tuple[Call, ...]
    lines: places.Places


def parse(text: str, type_: type[T]) -> tuple[T | None, places.Places, list[Problem]]:
    """TOML to one table of the grammar, or the reasons why not."""
    try:
        data: dict[str, object] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"line (\d+)", str(error))
        line = int(found[1]) if found else max(1, text.count("\n"))
        return None, places.Places(""), [Problem(line, f"this is not TOML: {error}", "see toml.io for the notation")]
    lines = places.Places(text)
    unknown = [
        Problem(lines.line(u.path), f"{_dotted(u.path)} is no key of the grammar", u.cure)
        for u in grammar.unknown_keys(data, type_)
    ]
    if unknown:
        return None, lines, unknown
    try:
        return msgspec.convert(data, type_), lines, []
    except msgspec.ValidationError as error:
        what, _, where = str(error).partition(" - at `$")
        path = _path(where.rstrip("`"))
        return None, lines, [Problem(lines.line(path), f"{_dotted(path) or 'the file'}: {what}")]


def examine(text: str) -> tuple[Examined | None, list[Problem]]:
    """A manifest's text checked as far as it can be without a network."""
    document, lines, problems = parse(text, grammar.Document)
    if document is None:
        return None, problems
    check = _Check(document, lines)
    rules, calls = check.run()
    problems = sorted(set(check.problems))
    return (None if problems else Examined(document, rules, calls, lines)), problems


class _Check:
    """Reads a document table by table; `problems` fills on the way."""

    def __init__(self, document: grammar.Document, lines: places.Places) -> None:
        self.document = document
        self.problems: list[Problem] = []
        self._lines = lines
        self._types = signatures.Types(document.types)
        self._events: dict[str, signatures.Signature] = {}
        self._names = expressions.Names({}, {}, {}, {}, {}, {}, "native")

    def run(self) -> tuple[tuple[Rule, ...], tuple[Call, ...]]:
        self._declarations()
        rules = self._rules()
        self._names = self._declared()
        self._contracts()
        for rule in rules:
            self._meaning(rule)
        self._collisions(rules)
        self._ways_of_earning()
        calls = self._calls()
        self._sagas({c.action.name: c for c in calls})
        return tuple(rules), tuple(calls)

    def _add(self, path: Path, what: str, cure: str = "") -> None:
        self.problems.append(Problem(self._lines.line(path), f"{_dotted(path)}: {what}", cure))

    def _wrong(self, path: Path, error: errors.StakesideError) -> None:
        shown = f" (at character {error.position})" if isinstance(error, signatures.BadSignature) else ""
        value = "" if error.value is None else f" (value: {errors.clip(error.value)})"
        self._add(path, f"{error.what}{value}{shown}", error.cure)

    def _known(self, path: Path, name: str, known: Mapping[str, object] | tuple[str, ...], what: str) -> bool:
        if name in known:
            return True
        self._add(path, f"there is no {what} {name}".rstrip(), grammar.nearest(name, known))
        return False

    def _declarations(self) -> None:
        document = self.document
        if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,62}", document.name):
            self._add(
                ("name",),
                "a protocol's name is lower-case letters, digits and dashes",
                "it is part of every stream's identity",
            )
        self._known(("unit",), document.unit, tuple(grammar.UNITS), "unit")
        self._known(("asset",), document.asset, ("native", *document.assets), "asset")
        for name in document.types:
            try:
                self._types.resolve(name)
            except signatures.BadSignature as error:
                self._wrong(("types", name), error)
        for name, asset in document.assets.items():
            self._known(("assets", name, "token"), asset.token, document.contracts, "contract")

    def _declared(self) -> expressions.Names:
        """What expressions may refer to; what cannot be read is reported and left out."""
        document = self.document
        inputs = {n: t for n, text in document.inputs.items() if (t := self._type(("inputs", n), text)) is not None}
        providers = {
            n: t
            for n, p in document.providers.items()
            if (t := self._type(("providers", n, "returns"), p.returns)) is not None
        }
        views = {n: (v, s) for n, v in document.views.items() if (s := self._view(n, v)) is not None}
        return expressions.Names(
            document.contracts, self._events, views, providers, inputs, document.assets, document.asset
        )

    def _type(self, path: Path, text: str) -> signatures.Type | None:
        try:
            return signatures.type_of(text, self._types)
        except signatures.BadSignature as error:
            self._wrong(path, error)
            return None

    def _signature(self, path: Path, text: str, kinds: tuple[str, ...]) -> signatures.Signature | None:
        try:
            found = signatures.parse(text, self._types)
        except signatures.BadSignature as error:
            self._wrong(path, error)
            return None
        if found.kind not in kinds:
            self._add(path, f"this is a {found.kind}", f"a signature here begins with {' or '.join(kinds)}")
            return None
        return found

    def _view(self, name: str, view: grammar.View) -> signatures.Signature | None:
        path = ("views", name, "call")
        found = self._signature(path, view.call, ("function", "packed"))
        self._known(("views", name, "target"), view.target.partition("(")[0], self.document.contracts, "contract")
        if found is None:
            return None
        if found.kind == "function" and found.mutability not in ("view", "pure"):
            self._add(path, f"{found.name} is not a view", "only a `view` or `pure` function can be read")
        if not found.outputs:
            self._add(path, f"{found.name} returns nothing", "add `returns (…)`")
            return None
        return found

    def _rules(self) -> list[Rule]:
        found: list[Rule] = []
        for index, event in enumerate(self.document.events):
            path: Path = ("events", index)
            self._known((*path, "emitter"), event.emitter, self.document.contracts, "contract")
            signature = self._signature((*path, "signature"), event.signature, ("event", "packed"))
            if signature is None:
                continue
            id_ = event.id or signature.name
            if signature.kind == "packed" and not event.id:
                self._add(path, "packed data has no name", 'add id = "…"')
            elif not _WORD_NAME.match(id_):
                self._add((*path, "id"), f"{id_} is no name", "letters, digits and underscores")
            if id_ in self._events:
                self._add(
                    path, f"a second event is called {id_}", f'tell them apart: add id = "{id_}2", or any other name'
                )
                continue
            self._events[id_] = signature
            found.append(Rule(index, id_, event.emitter, signature, event.means, event.sources(), event))
        return found

    def _contracts(self) -> None:
        for name, contract in self.document.contracts.items():
            path: Path = ("contracts", name)
            if not _WORD_NAME.match(name):
                self._add(path, f"{name} is no name", "letters, digits and underscores")
            if isinstance(contract, str):
                if contract != "network":
                    self._add(
                        path, f"a contract's address is not {contract}", 'write "network": network files keep addresses'
                    )
            elif contract.event and contract.address and contract.key and not contract.view:
                self._child(path, contract)
            elif contract.view and not (contract.event or contract.address or contract.key):
                self._expression(
                    (*path, "view"), f"view.{contract.view}", expressions.ADDRESS, expressions.Scope("position")
                )
            else:
                self._add(path, "neither a child nor a view", "give event, address and key, or view alone")

    def _child(self, path: Path, contract: grammar.Located) -> None:
        if not self._known((*path, "event"), contract.event, self._events, "event"):
            return
        for key, want in (("address", expressions.ADDRESS), ("key", expressions.WORD)):
            self._field((*path, key), contract.event, getattr(contract, key), want)

    def _field(self, path: Path, event: str, field: str, want: signatures.Type | None) -> signatures.Type | None:
        """The type of a log's field, which must be readable and fit."""
        scope = expressions.Scope("action")
        try:
            have = self._names.type_of(f"event.{event}.{field}", scope)
        except expressions.Wrong as error:
            self._wrong(path, error)
            return None
        if want is not None and not expressions.fits(have, want):
            self._add(path, f"{field} is {have.canonical}, which does not fit", "choose another field")
            return None
        return have

    def _expression(self, path: Path, value: object, want: signatures.Type, scope: expressions.Scope) -> None:
        try:
            self._names.check(value, want, scope)
        except expressions.Wrong as error:
            self._wrong(path, error)

    def _meaning(self, rule: Rule) -> None:
        path: Path = ("events", rule.index)
        for name, value in rule.event.when.items():
            have = self._field((*path, "when"), rule.id, name, None)
            if have is not None:
                self._expression((*path, "when"), {"literal": value}, have, _ACTION)
        if not rule.means:
            if rule.fields:
                name = next(iter(rule.fields))
                self._add(
                    (*path, name),
                    f"{name} is given, but the event means nothing",
                    f"add means = one of {', '.join(events.TYPES)}",
                )
            return
        if not self._known((*path, "means"), rule.means, events.TYPES, "normalised event"):
            return
        self._fields(rule, rule.means, path)
        amount = rule.fields.get("amount")
        signed = amount is not None and amount.measure == "signed"
        if signed and not rule.event.negative:
            self._add(
                (*path, "amount"), "a signed amount may be negative", 'add negative = "Slashed", or what a loss means'
            )
        if rule.event.negative:
            if not signed:
                self._add(
                    (*path, "negative"),
                    "the amount is never negative",
                    'remove it, or give amount the measure "signed"',
                )
            if self._known((*path, "negative"), rule.event.negative, events.TYPES, "normalised event"):
                self._needs(rule, rule.event.negative, path)

    def _needs(self, rule: Rule, means: str, path: Path) -> None:
        for name in grammar.required(means):
            if name not in rule.fields:
                self._add(
                    path, f"{rule.id} means {means}, which needs {name}", f'add {name} = "the field that holds it"'
                )

    def _fields(self, rule: Rule, means: str, path: Path) -> None:
        self._needs(rule, means, path)
        allowed = grammar.accepted(means)
        for name, source in rule.fields.items():
            if name not in allowed:
                self._add((*path, name), f"{means} has no {name}", f"it has {', '.join(allowed)}")
                continue
            self._source(rule, name, source, (*path, name))

    def _source(self, rule: Rule, name: str, source: grammar.Source, path: Path) -> None:
        given = [source.field, source.literal, source.view, source.emitter or None, source.child]
        if sum(g is not None for g in given) != 1:
            self._add(path, "a value comes from one place", "give one of field, literal, view, emitter, child")
            return
        kind = grammar.FIELD_KINDS[name]
        self._reading(name, kind, source, path)
        if kind == "role":
            if source.literal not in grammar.ROLES:
                self._add(path, "a role is a literal", 'write { literal = "operator" } or { literal = "delegator" }')
            return
        if source.literal is not None:
            want = expressions.WORD if kind == "identity" else expressions.UINT
            self._expression(
                path, {"literal": source.literal}, signatures.Type("string") if kind == "text" else want, _ACTION
            )
            return
        have = self._have(rule, source, path)
        if have is not None and not _fits_kind(have, kind, name, source):
            self._add(
                path,
                f"{have.declared or have.canonical} cannot be {'an' if kind[0] in 'aeiou' else 'a'} {kind}",
                _KIND_CURES[kind],
            )

    def _have(self, rule: Rule, source: grammar.Source, path: Path) -> signatures.Type | None:
        if source.field is not None:
            return self._field(path, rule.id, source.field, None)
        if source.emitter:
            return expressions.ADDRESS
        if source.view is not None:
            try:
                return self._names.type_of(f"view.{source.view}", expressions.Scope("event", rule.signature.inputs))
            except expressions.Wrong as error:
                self._wrong(path, error)
                return None
        contract = self.document.contracts.get(rule.emitter)
        if not isinstance(contract, grammar.Located) or not contract.event:
            self._add(
                path, f"{rule.emitter} is not a child contract", "child reads the event that announced the emitter"
            )
            return None
        return self._field(path, contract.event, source.child or "", None)

    def _reading(self, name: str, kind: str, source: grammar.Source, path: Path) -> None:
        """How a value is read must suit what it stands for."""
        self._known(path, source.measure, tuple(grammar.MEASURES), "measure")
        self._known(path, source.unit, tuple(grammar.UNITS), "unit")
        self._known(path, source.clock, grammar.CLOCKS, "clock")
        if source.transform:
            self._known(path, source.transform, tuple(grammar.TRANSFORMS), "transform")
        if source.asset:
            self._known(path, source.asset, ("native", *self.document.assets), "asset")
        money = name in ("amount", "commission")
        for key, given, good in (
            ("measure", source.measure != "delta", kind == "amount"),
            ("unit", source.unit != "wei", money),
            ("asset", bool(source.asset), money),
            ("clock", source.clock != "seconds", name == "release_time"),
            ("per", source.per != 10_000, name in ("rate_bps", "fraction_bps")),
        ):
            if given and not good:
                self._add(path, f"{name} has no {key}", f"remove {key}")
        if source.per < 1:
            self._add(path, "per is a denominator, at least 1")

    def _collisions(self, rules: list[Rule]) -> None:
        """Two events one log could be. Upgrades are told apart later, when the network says at which blocks they came."""
        for index, rule in enumerate(rules):
            for other in rules[:index]:
                if rule.emitter == other.emitter and may_collide(rule, other) and not (_ranged(rule) or _ranged(other)):
                    self._add(
                        ("events", rule.index),
                        f"{rule.id} and {other.id} are the same log of {rule.emitter}: {rule.signature.canonical}",
                        "tell them apart by `when` or by `since` and `until`, or remove one",
                    )

    def _ways_of_earning(self) -> None:
        earnings, path = self.document.earnings, ("earnings",)
        if not self._known((*path, "mode"), earnings.mode, grammar.EARNINGS, "way of earning"):
            return
        if earnings.mode == "replay":
            self._known((*path, "model"), earnings.model, grammar.REPLAY_MODELS, "replay model")
            if not (earnings.scale.isascii() and earnings.scale.isdecimal() and int(earnings.scale) > 0):
                self._add(
                    (*path, "scale"), "a replay needs the contract's own scale", 'as in scale = "1000000000000000000"'
                )
        elif earnings.model or earnings.scale:
            self._add(path, f"{earnings.mode} replays no model", "remove model and scale")
        if (earnings.mode == "equity") != bool(earnings.value):
            self._add(path, "equity, and only equity, has a view that values a position", 'value = "the view\'s name"')
        elif earnings.value:
            self._expression((*path, "value"), f"view.{earnings.value}", expressions.UINT, _POSITION)
        unbonding = self.document.unbonding
        self._known(("unbonding", "clock"), unbonding.clock, grammar.CLOCKS, "clock")
        for key in ("delay", "now"):
            value: object = getattr(unbonding, key)
            if value:
                self._expression(("unbonding", key), value, expressions.UINT, _ACTION)

    def _calls(self) -> list[Call]:
        found: dict[str, Call] = {}
        for index, action in enumerate(self.document.actions):
            path: Path = ("actions", index)
            if action.name in found or not _WORD_NAME.match(action.name):
                self._add(
                    (*path, "name"),
                    f"{action.name} is taken or is no name",
                    "letters, digits and underscores, each name once",
                )
            try:
                self._names.target(action.target, _ACTION)
            except expressions.Wrong as error:
                self._wrong((*path, "target"), error)
            signature = self._signature((*path, "call"), action.call, ("function", "packed"))
            self._effects(action, path)
            self._requirements(action.require, path, _ACTION)
            if signature is None:
                continue
            self._arguments(action, signature, path)
            found[action.name] = Call(action, signature)
        return list(found.values())

    def _arguments(self, action: grammar.Action, signature: signatures.Signature, path: Path) -> None:
        for below, wrong in self._names.call(signature, action.args, _ACTION):
            self._wrong((*path, *below), wrong)
        payable = signature.mutability == "payable"
        if signature.mutability in ("view", "pure"):
            self._add((*path, "call"), f"{signature.name} changes nothing", "declare a read under [views]")
        if payable != (action.value is not None):
            cure = 'add value = "intent.amount"' if payable else "remove value, or write `payable`"
            self._add((*path, "call"), "value is sent to a payable function, and always to one", cure)
        if action.value is not None:
            self._expression((*path, "value"), action.value, expressions.UINT, _ACTION)
        if action.approve is not None:
            approve = action.approve
            if approve.token != "asset":
                self._known((*path, "approve"), approve.token, self.document.assets, "asset")
            elif self.document.asset == "native":
                self._add((*path, "approve"), "the native asset needs no approval", "remove approve")
            self._expression((*path, "approve"), f"contract.{approve.spender}", expressions.ADDRESS, _ACTION)
            self._expression((*path, "approve"), approve.amount, expressions.UINT, _ACTION)

    def _effects(self, action: grammar.Action, path: Path) -> None:
        if not action.effects():
            self._add((*path, "effect"), f"nothing proves that {action.name} worked", "name the event that does")
        for effect in action.effects():
            if not self._known((*path, "effect"), effect.event, self._events, "event"):
                continue
            if not effect.where:
                self._add(
                    (*path, "effect"),
                    f"any {effect.event} would prove {action.name}",
                    'say whose, as in where = { … = "account" }',
                )
            for name, value in effect.where.items():
                have = self._field((*path, "effect"), effect.event, name, None)
                if have is not None:
                    self._expression((*path, "effect"), value, have, _ACTION)

    def _requirements(self, requirements: list[grammar.Requirement], path: Path, scope: expressions.Scope) -> None:
        path = (*path, "require")
        for requirement in requirements:
            bounds = [
                b
                for b in (requirement.equals, requirement.differs, requirement.at_least, requirement.at_most)
                if b is not None
            ]
            if len(bounds) != 1:
                self._add(path, "a requirement compares once", "give one of equals, differs, at_least, at_most")
                continue
            try:
                self._names.check(bounds[0], self._names.type_of(requirement.of, scope), scope)
            except expressions.Wrong as error:
                self._wrong(path, error)

    def _sagas(self, calls: dict[str, Call]) -> None:
        for index, saga in enumerate(self.document.sagas):
            seen: set[str] = set()
            if not saga.steps:
                self._add(("sagas", index), f"{saga.name} has no steps")
            for number, step in enumerate(saga.steps):
                path: Path = ("sagas", index, "steps", number)
                scope = expressions.Scope("action", seen=frozenset(seen))
                self._requirements(step.require, path, scope)
                if step.wait is not None:
                    self._wait(step.wait, (*path, "wait"), scope)
                if self._known((*path, "action"), step.action, calls, "action"):
                    seen.update(effect.event for effect in calls[step.action].action.effects())

    def _wait(self, wait: grammar.Wait, path: Path, scope: expressions.Scope) -> None:
        self._known(path, wait.clock, grammar.CLOCKS, "clock")
        self._expression(path, wait.until, expressions.UINT, scope)
        shown = wait.clock in ("seconds", "blocks")
        if shown == bool(wait.now):
            self._add(
                path,
                f"a block {'shows' if shown else 'does not show'} {wait.clock}",
                "remove now" if shown else 'add now = "view.NAME"',
            )
        elif wait.now:
            self._expression(path, wait.now, expressions.UINT, scope)


def may_collide(rule: Rule, other: Rule) -> bool:
    """Whether one log of one address could be both, block ranges aside."""
    if rule.signature.kind != other.signature.kind:
        return False
    if rule.signature.kind == "event" and rule.signature.topic0 != other.signature.topic0:
        return False
    shared = rule.event.when.keys() & other.event.when.keys()
    return all(rule.event.when[name] == other.event.when[name] for name in shared)


_KIND_CURES = {
    "identity": "an identity is an address, an unsigned number or a bytes32",
    "number": "it is an unsigned number",
    "amount": 'an amount is an unsigned number, or a signed one with measure = "signed"',
    "text": "it is a string",
}


def _fits_kind(have: signatures.Type, kind: str, name: str, source: grammar.Source) -> bool:
    if source.transform:
        return have.kind in ("bytes", "fixed") and kind in ("amount", "number")
    match kind:
        case "identity":
            return expressions.fits(have, expressions.WORD)
        case "amount":
            return have.kind == ("int" if source.measure == "signed" else "uint")
        case "number":
            return have.kind == "uint" or (name == "ticket" and have.kind == "fixed" and have.size == 32)
        case _:
            return have.kind == "string"


def _ranged(rule: Rule) -> bool:
    return bool(rule.event.since or rule.event.until)


def _path(where: str) -> Path:
    """msgspec's `.events[0].amount` as a path."""
    parts = cast("list[tuple[str, str]]", re.findall(r"\.([^.\[\]]+)|\[(\d+|\.\.\.)\]", where))
    return tuple(int(index) if index.isdecimal() else name for name, index in parts if name or index.isdecimal())


def _dotted(path: Path) -> str:
    """A path as an author would say it; items of a list count from 1."""
    return "".join(f"[{p + 1}]" if isinstance(p, int) else f".{p}" for p in path).lstrip(".")
