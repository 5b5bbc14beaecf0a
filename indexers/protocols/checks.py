"""Checks a manifest before anything runs on it. In: TOML text. Out: what it says, read and typed, and every problem found.

This module knows declarations and events; `actions` knows what can be done, `problems` how a complaint is made.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

from domain import events
from indexers.protocols import abitypes, actions, expressions, grammar, places, problems, signatures


class Rule(msgspec.Struct, frozen=True):
    """One event of a manifest, typed. `index` is its place in the file."""

    index: int
    id: str
    emitter: str
    signature: abitypes.Signature
    means: str
    fields: Mapping[str, grammar.Source]
    event: grammar.Event


class Examined(msgspec.Struct, frozen=True):
    """A manifest without problems. `lines` answers where something stands, for later complaints; `names` types its expressions."""

    document: grammar.Document
    rules: tuple[Rule, ...]
    calls: tuple[actions.Call, ...]
    lines: places.Places
    names: expressions.Names


def examine(text: str) -> tuple[Examined | None, list[problems.Problem]]:
    """A manifest's text checked as far as it can be without a network."""
    document, lines, found = problems.parse(text, grammar.Document)
    if document is None:
        return None, found
    report = problems.Report(document, lines)
    rules = Events(report).rules()
    plans = actions.Actions(report)
    calls = plans.calls()
    plans.sagas({c.action.name: c for c in calls})
    found = sorted(set(report.problems))
    return (None if found else Examined(document, tuple(rules), tuple(calls), lines, report.names)), found


class Events:
    """Declarations and events of one document; problems go to the report."""

    def __init__(self, report: problems.Report) -> None:
        self._report = report
        self._events: dict[str, abitypes.Signature] = {}

    def rules(self) -> list[Rule]:
        """Every event that could be read. Afterwards the report knows all names that expressions may use."""
        self._declarations()
        rules = self._rules()
        self._report.names = self._declared()
        self._contracts()
        for rule in rules:
            self._meaning(rule)
        self._collisions(rules)
        self._ways_of_earning()
        return rules

    def _declarations(self) -> None:
        document = self._report.document
        if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,62}", document.name):
            self._report.add(
                ("name",),
                "a protocol's name is lower-case letters, digits and dashes",
                "it is part of every stream's identity",
            )
        self._report.known(("unit",), document.unit, tuple(grammar.UNITS), "unit")
        self._report.known(("asset",), document.asset, ("native", *document.assets), "asset")
        for name in document.types:
            try:
                self._report.types.resolve(name)
            except signatures.BadSignature as error:
                self._report.wrong(("types", name), error)
        for name, asset in document.assets.items():
            self._report.known(("assets", name, "token"), asset.token, document.contracts, "contract")

    def _declared(self) -> expressions.Names:
        """What expressions may refer to; what cannot be read is reported and left out."""
        document = self._report.document
        inputs = {
            n: t
            for n, text in document.inputs.items()
            if (t := self._report.type_(("inputs", n), text, wide=True)) is not None
        }
        providers = {
            n: t
            for n, p in document.providers.items()
            if (t := self._report.type_(("providers", n, "returns"), p.returns)) is not None
        }
        views = {n: (v, s) for n, v in document.views.items() if (s := self._view(n, v)) is not None}
        return expressions.Names(
            document.contracts, self._events, views, providers, inputs, document.assets, document.asset
        )

    def _view(self, name: str, view: grammar.View) -> abitypes.Signature | None:
        path = ("views", name, "call")
        found = self._report.signature(path, view.call, ("function", "packed"))
        self._report.known(
            ("views", name, "target"), view.target.partition("(")[0], self._report.document.contracts, "contract"
        )
        if found is None:
            return None
        if found.kind == "function" and found.mutability not in ("view", "pure"):
            self._report.add(path, f"{found.name} is not a view", "only a `view` or `pure` function can be read")
        if not found.outputs:
            self._report.add(path, f"{found.name} returns nothing", "add `returns (…)`")
            return None
        return found

    def _rules(self) -> list[Rule]:
        found: list[Rule] = []
        for index, event in enumerate(self._report.document.events):
            path: problems.Path = ("events", index)
            self._report.known((*path, "emitter"), event.emitter, self._report.document.contracts, "contract")
            signature = self._report.signature((*path, "signature"), event.signature, ("event", "packed"))
            if signature is None:
                continue
            id_ = event.id or signature.name
            if signature.kind == "packed" and not event.id:
                self._report.add(path, "packed data has no name", 'add id = "…"')
            elif not problems.NAME.match(id_):
                self._report.add((*path, "id"), f"{id_} is no name", "letters, digits and underscores")
            if id_ in self._events:
                self._report.add(
                    path, f"a second event is called {id_}", f'tell them apart: add id = "{id_}2", or any other name'
                )
                continue
            self._events[id_] = signature
            self._report.emitters[id_] = event.emitter
            found.append(Rule(index, id_, event.emitter, signature, event.means, event.sources(), event))
        return found

    def _contracts(self) -> None:
        for name, contract in self._report.document.contracts.items():
            path: problems.Path = ("contracts", name)
            if not problems.NAME.match(name):
                self._report.add(path, f"{name} is no name", "letters, digits and underscores")
            if isinstance(contract, str):
                if contract != "network":
                    self._report.add(
                        path, f"a contract's address is not {contract}", 'write "network": network files keep addresses'
                    )
            elif contract.event and contract.address and contract.key and not contract.view:
                self._child(path, contract)
            elif contract.view and not (contract.event or contract.address):
                self._found_by_view(path, contract)
            else:
                self._report.add(
                    path, "neither a child nor a view", "give event, address and key; or view; or view and key"
                )

    def _child(self, path: problems.Path, contract: grammar.Located) -> None:
        if not self._report.known((*path, "event"), contract.event, self._events, "event"):
            return
        for key, want in (("address", expressions.ADDRESS), ("key", expressions.WORD)):
            self._report.field((*path, key), contract.event, getattr(contract, key), want)

    def _found_by_view(self, path: problems.Path, contract: grammar.Located) -> None:
        if not contract.keyed:
            self._report.expression((*path, "view"), f"view.{contract.view}", expressions.ADDRESS, problems.POSITION)
            return
        if not self._report.known((*path, "view"), contract.view, self._report.names.views, "view"):
            return
        view, signature = self._report.names.views[contract.view]
        chooser = signature.input(contract.key)
        if chooser is None:
            cure = grammar.nearest(contract.key, [p.name for p in signature.inputs])
            self._report.add((*path, "key"), f"view {contract.view} has no parameter {contract.key}", cure)
            return
        if [p.type.kind for p in signature.outputs] != ["address"]:
            self._report.add((*path, "view"), f"view {contract.view} does not return one address")
        others = tuple(p for p in signature.inputs if p is not chooser)
        rest = msgspec.structs.replace(signature, inputs=others)
        for _, wrong in self._report.names.call(rest, view.args, problems.POSITION):
            self._report.wrong((*path, "view"), wrong)

    def _meaning(self, rule: Rule) -> None:
        path: problems.Path = ("events", rule.index)
        for name, value in rule.event.when.items():
            have = self._report.field((*path, "when"), rule.id, name, None)
            if have is not None:
                self._report.expression((*path, "when"), {"literal": value}, have, problems.ACTION)
        if not rule.means:
            if rule.fields:
                name = next(iter(rule.fields))
                self._report.add(
                    (*path, name),
                    f"{name} is given, but the event means nothing",
                    f"add means = one of {', '.join(events.TYPES)}",
                )
            return
        if not self._report.known((*path, "means"), rule.means, events.TYPES, "normalised event"):
            return
        self._fields(rule, rule.means, path)
        amount = rule.fields.get("amount")
        signed = amount is not None and amount.measure == "signed"
        if signed and not rule.event.negative:
            self._report.add(
                (*path, "amount"), "a signed amount may be negative", 'add negative = "Slashed", or what a loss means'
            )
        if rule.event.negative:
            if not signed:
                self._report.add(
                    (*path, "negative"),
                    "the amount is never negative",
                    'remove it, or give amount the measure "signed"',
                )
            if self._report.known((*path, "negative"), rule.event.negative, events.TYPES, "normalised event"):
                self._needs(rule, rule.event.negative, path)

    def _needs(self, rule: Rule, means: str, path: problems.Path) -> None:
        for name in grammar.required(means):
            if name not in rule.fields:
                self._report.add(
                    path, f"{rule.id} means {means}, which needs {name}", f'add {name} = "the field that holds it"'
                )

    def _fields(self, rule: Rule, means: str, path: problems.Path) -> None:
        self._needs(rule, means, path)
        allowed = grammar.accepted(means)
        for name, source in rule.fields.items():
            if name not in allowed:
                self._report.add((*path, name), f"{means} has no {name}", f"it has {', '.join(allowed)}")
                continue
            self._source(rule, name, source, (*path, name))

    def _source(self, rule: Rule, name: str, source: grammar.Source, path: problems.Path) -> None:
        given = [source.field, source.literal, source.view, source.emitter or None, source.child]
        if sum(g is not None for g in given) != 1:
            self._report.add(path, "a value comes from one place", "give one of field, literal, view, emitter, child")
            return
        kind = grammar.FIELD_KINDS[name]
        self._reading(name, kind, source, path)
        if kind == "role":
            if source.literal not in grammar.ROLES:
                self._report.add(
                    path, "a role is a literal", 'write { literal = "operator" } or { literal = "delegator" }'
                )
            return
        if source.literal is not None:
            want = expressions.WORD if kind == "identity" else expressions.UINT
            self._report.expression(
                path,
                {"literal": source.literal},
                abitypes.Type("string") if kind == "text" else want,
                problems.ACTION,
            )
            return
        have = self._have(rule, source, path)
        if have is not None and not _fits_kind(have, kind, name, source):
            self._report.add(
                path,
                f"{have.declared or have.canonical} cannot be {'an' if kind[0] in 'aeiou' else 'a'} {kind}",
                _KIND_CURES[kind],
            )

    def _have(self, rule: Rule, source: grammar.Source, path: problems.Path) -> abitypes.Type | None:
        if source.field is not None:
            return self._report.field(path, rule.id, source.field, None)
        if source.emitter:
            return expressions.ADDRESS
        if source.view is not None:
            try:
                return self._report.names.type_of(
                    f"view.{source.view}", expressions.Scope("event", rule.signature.inputs)
                )
            except expressions.Wrong as error:
                self._report.wrong(path, error)
                return None
        contract = self._report.document.contracts.get(rule.emitter)
        if not isinstance(contract, grammar.Located) or not contract.event:
            self._report.add(
                path, f"{rule.emitter} is not a child contract", "child reads the event that announced the emitter"
            )
            return None
        return self._report.field(path, contract.event, source.child or "", None)

    def _reading(self, name: str, kind: str, source: grammar.Source, path: problems.Path) -> None:
        """How a value is read must suit what it stands for."""
        self._report.known(path, source.measure, tuple(grammar.MEASURES), "measure")
        self._report.known(path, source.unit, tuple(grammar.UNITS), "unit")
        self._report.known(path, source.clock, grammar.CLOCKS, "clock")
        if source.transform:
            self._report.known(path, source.transform, tuple(grammar.TRANSFORMS), "transform")
        if source.asset:
            self._report.known(path, source.asset, ("native", *self._report.document.assets), "asset")
        money = name in ("amount", "commission")
        for key, given, good in (
            ("measure", source.measure != "delta", kind == "amount"),
            ("unit", source.unit != "wei", money),
            ("asset", bool(source.asset), money),
            ("clock", source.clock != "seconds", name == "release_time"),
            ("per", source.per != 10_000, name in ("rate_bps", "fraction_bps")),
        ):
            if given and not good:
                self._report.add(path, f"{name} has no {key}", f"remove {key}")
        if source.per < 1:
            self._report.add(path, "per is a denominator, at least 1")

    def _collisions(self, rules: list[Rule]) -> None:
        """Two events one log could be. Upgrades are told apart later, when the network says at which blocks they came."""
        for index, rule in enumerate(rules):
            for other in rules[:index]:
                if rule.emitter == other.emitter and may_collide(rule, other) and not (_ranged(rule) or _ranged(other)):
                    self._report.add(
                        ("events", rule.index),
                        f"{rule.id} and {other.id} are the same log of {rule.emitter}: {rule.signature.canonical}",
                        "tell them apart by `when` or by `since` and `until`, or remove one",
                    )

    def _ways_of_earning(self) -> None:
        earnings, path = self._report.document.earnings, ("earnings",)
        if not self._report.known((*path, "mode"), earnings.mode, grammar.EARNINGS, "way of earning"):
            return
        if earnings.mode == "replay":
            self._report.known((*path, "model"), earnings.model, grammar.REPLAY_MODELS, "replay model")
            if not (earnings.scale.isascii() and earnings.scale.isdecimal() and int(earnings.scale) > 0):
                self._report.add(
                    (*path, "scale"), "a replay needs the contract's own scale", 'as in scale = "1000000000000000000"'
                )
        elif earnings.model or earnings.scale:
            self._report.add(path, f"{earnings.mode} replays no model", "remove model and scale")
        if (earnings.mode == "equity") != bool(earnings.value):
            self._report.add(
                path, "equity, and only equity, has a view that values a position", 'value = "the view\'s name"'
            )
        elif earnings.value:
            self._report.expression((*path, "value"), f"view.{earnings.value}", expressions.UINT, problems.POSITION)
        unbonding = self._report.document.unbonding
        self._report.known(("unbonding", "clock"), unbonding.clock, grammar.CLOCKS, "clock")
        for key in ("delay", "now"):
            value: object = getattr(unbonding, key)
            if value:
                self._report.expression(("unbonding", key), value, expressions.UINT, problems.ACTION)


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


def _fits_kind(have: abitypes.Type, kind: str, name: str, source: grammar.Source) -> bool:
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
