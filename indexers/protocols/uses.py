"""What an action takes, found by reading it. In: a checked manifest and one of its actions. Out: names and the types they must fit.

Everything an action refers to counts: its arguments, value, approval, requirements and effects, the views they read, and the views
that find the contracts of those.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import cast

import msgspec

from indexers.protocols import abitypes, actions, evaluation, expressions, grammar, manifest, problems, readiness


class Task(msgspec.Struct, frozen=True):
    """An action, alone or as a step of a saga. `arguments`: each intent field with the types it must fit; `events`: ids of earlier
    logs it takes values from; `providers`: plug-ins."""

    call: actions.Call
    require: tuple[grammar.Requirement, ...]
    waits: tuple[grammar.Wait, ...]
    arguments: Mapping[str, tuple[abitypes.Type, ...]]
    events: tuple[str, ...]
    providers: tuple[str, ...]

    def unmet(self, evaluator: evaluation.Evaluator) -> readiness.Unmet | None:
        """Why the chain is not ready, if so."""
        for wait in self.waits:
            found = readiness.waiting(evaluator, wait)
            if found is not None:
                return found
        return readiness.unmet(evaluator, self.require)


def task(source: manifest.Manifest, call: actions.Call, step: grammar.Step | None = None) -> Task:
    """An action with all it takes, and with what a saga's step asks besides."""
    walk = _Walk(source)
    walk.call(call)
    require, waits = list(call.action.require), [step.wait] if step is not None and step.wait is not None else []
    require += step.require if step is not None else []
    walk.requirements(require)
    for wait in waits:
        for value in (wait.until, wait.plus, wait.now or None):
            if value is not None:
                walk.expression(value, expressions.UINT)
    return walk.found(call, tuple(require), tuple(waits))


def keyed(contract: str | grammar.Located) -> bool:
    return isinstance(contract, grammar.Located) and contract.keyed


def token_contract(source: manifest.Manifest, token: str) -> str:
    """The contract of an `approve.token`: `asset`, or a name under [assets]."""
    return source.names.assets[source.names.asset if token == "asset" else token].token


class _Walk:
    def __init__(self, source: manifest.Manifest) -> None:
        self._source = source
        self._names = source.names
        self._arguments: dict[str, list[abitypes.Type]] = {}
        self._events: dict[str, None] = {}
        self._providers: dict[str, None] = {}
        self._seen: set[str] = set()

    def found(
        self, call: actions.Call, require: tuple[grammar.Requirement, ...], waits: tuple[grammar.Wait, ...]
    ) -> Task:
        arguments = {name: tuple(dict.fromkeys(types)) for name, types in self._arguments.items()}
        return Task(call, require, waits, arguments, tuple(self._events), tuple(self._providers))

    def call(self, call: actions.Call) -> None:
        action = call.action
        self.target(action.target)
        for param in call.signature.inputs:
            self.expression(action.args[param.name], param.type)
        if action.value is not None:
            self.expression(action.value, expressions.UINT)
        if action.approve is not None:
            self.contract(token_contract(self._source, action.approve.token))
            self.contract(action.approve.spender)
            self.expression(action.approve.amount, expressions.UINT)
        for effect in action.effects():
            for path, value in effect.where.items():
                type_ = abitypes.resolve(self._names.events[effect.event].inputs, path)
                self.expression(value, type_ or expressions.UINT)
            emitter = next(r.emitter for r in self._source.rules if r.id == effect.event)
            if not keyed(self._names.contracts[emitter]):
                self.contract(emitter)

    def requirements(self, found: Sequence[grammar.Requirement]) -> None:
        for requirement in found:
            type_ = self._names.type_of(requirement.of, problems.ACTION)
            self.expression(requirement.of, type_)
            for bound in (requirement.equals, requirement.differs, requirement.at_least, requirement.at_most):
                if bound is not None:
                    self.expression(bound, type_)

    def expression(self, value: object, want: abitypes.Type) -> None:
        match value:
            case str():
                self._named(value, want)
            case list():
                for item in cast("list[object]", value):
                    self.expression(item, want.item)
            case dict():
                for part, type_ in self._parts(cast("dict[str, object]", value), want):
                    self.expression(part, type_)
            case _:
                pass

    def contract(self, name: str) -> None:
        where = self._names.contracts[name]
        if isinstance(where, grammar.Located) and where.view and not where.keyed:
            self.expression(f"view.{where.view}", expressions.ADDRESS)

    def target(self, text: str) -> None:
        name, bracket, rest = text.partition("(")
        if not bracket:
            self.contract(name)
            return
        where = cast("grammar.Located", self._names.contracts[name])
        chooser = self._names.events[where.event] if where.event else self._names.views[where.view][1]
        self.expression(rest[:-1].strip(), abitypes.resolve(chooser.inputs, where.key) or expressions.WORD)
        if where.view:
            self._view(where.view, given=where.key)

    def _parts(self, table: dict[str, object], want: abitypes.Type) -> Iterator[tuple[object, abitypes.Type]]:
        if set(table) == {"literal"}:
            return
        if "source" in table and set(table) <= {"source", "unit", "transform"}:
            yield table["source"], expressions.UINT if table.get("transform") is not None else want
            return
        for component in want.components:
            yield table[component.name], component.type

    def _named(self, text: str, want: abitypes.Type) -> None:
        root, _, rest = text.partition(".")
        name = rest.partition(".")[0]
        match root:
            case "intent":
                self._arguments.setdefault(rest, []).append(want)
            case "view":
                self._view(name)
            case "contract":
                self.contract(name)
            case "asset":
                self.contract(self._names.assets[self._names.asset].token)
            case "event" | "block":
                self._events.setdefault(name)
            case "provider":
                self._providers.setdefault(name)
            case _:
                pass

    def _view(self, name: str, *, given: str = "") -> None:
        if name in self._seen:
            return
        self._seen.add(name)
        view, signature = self._names.views[name]
        self.target(view.target)
        for param in signature.inputs:
            if param.name != given:
                self.expression(view.args[param.name], param.type)
