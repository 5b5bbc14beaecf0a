"""Checks what a manifest says can be done. In: its actions and sagas, and everything they may refer to. Out: typed calls.

An action is checked like a call in a typed language: the callee exists, every argument fits its parameter, value goes to payable
functions only, and a log that the manifest knows proves that it worked.
"""

from __future__ import annotations

import msgspec

from indexers.protocols import abitypes, expressions, grammar, problems


class Call(msgspec.Struct, frozen=True):
    """One action of a manifest, typed."""

    action: grammar.Action
    signature: abitypes.Signature


class Actions:
    """The actions and sagas of one document; problems go to the report."""

    def __init__(self, report: problems.Report) -> None:
        self._report = report

    def calls(self) -> list[Call]:
        found: dict[str, Call] = {}
        for index, action in enumerate(self._report.document.actions):
            path: problems.Path = ("actions", index)
            if action.name in found or not problems.NAME.match(action.name):
                self._report.add(
                    (*path, "name"),
                    f"{action.name} is taken or is no name",
                    "letters, digits and underscores, each name once",
                )
            try:
                self._report.names.target(action.target, problems.ACTION)
            except expressions.Wrong as error:
                self._report.wrong((*path, "target"), error)
            signature = self._report.signature((*path, "call"), action.call, ("function", "packed"))
            self._effects(action, path)
            self._requirements(action.require, path, problems.ACTION)
            if signature is None:
                continue
            self._arguments(action, signature, path)
            found[action.name] = Call(action, signature)
        return list(found.values())

    def _arguments(self, action: grammar.Action, signature: abitypes.Signature, path: problems.Path) -> None:
        for below, wrong in self._report.names.call(signature, action.args, problems.ACTION):
            self._report.wrong((*path, *below), wrong)
        payable = signature.mutability == "payable"
        if signature.mutability in ("view", "pure"):
            self._report.add((*path, "call"), f"{signature.name} changes nothing", "declare a read under [views]")
        if payable != (action.value is not None):
            cure = 'add value = "intent.amount"' if payable else "remove value, or write `payable`"
            self._report.add((*path, "call"), "value is sent to a payable function, and always to one", cure)
        if action.value is not None:
            self._report.expression((*path, "value"), action.value, expressions.UINT, problems.ACTION)
        if action.approve is not None:
            approve = action.approve
            if approve.token != "asset":
                self._report.known((*path, "approve"), approve.token, self._report.document.assets, "asset")
            elif self._report.document.asset == "native":
                self._report.add((*path, "approve"), "the native asset needs no approval", "remove approve")
            self._report.expression(
                (*path, "approve"), f"contract.{approve.spender}", expressions.ADDRESS, problems.ACTION
            )
            self._report.expression((*path, "approve"), approve.amount, expressions.UINT, problems.ACTION)

    def _effects(self, action: grammar.Action, path: problems.Path) -> None:
        if not action.effects():
            self._report.add((*path, "effect"), f"nothing proves that {action.name} worked", "name the event that does")
        for effect in action.effects():
            if not self._report.known((*path, "effect"), effect.event, self._report.names.events, "event"):
                continue
            if not effect.where:
                self._report.add(
                    (*path, "effect"),
                    f"any {effect.event} would prove {action.name}",
                    'say whose, as in where = { … = "account" }',
                )
            emitter = self._report.emitters.get(effect.event, "")
            contract = self._report.document.contracts.get(emitter)
            if isinstance(contract, grammar.Located) and contract.keyed and emitter != action.target.partition("(")[0]:
                self._report.add(
                    (*path, "effect"),
                    f"{effect.event} comes from one of many {emitter}, and {action.name} does not say which",
                    f"call that {emitter} itself, or name an event of a contract with one address",
                )
            for name, value in effect.where.items():
                have = self._report.field((*path, "effect"), effect.event, name, None)
                if have is not None:
                    self._report.expression((*path, "effect"), value, have, problems.ACTION)

    def _requirements(
        self, requirements: list[grammar.Requirement], path: problems.Path, scope: expressions.Scope
    ) -> None:
        path = (*path, "require")
        for requirement in requirements:
            bounds = [
                b
                for b in (requirement.equals, requirement.differs, requirement.at_least, requirement.at_most)
                if b is not None
            ]
            if len(bounds) != 1:
                self._report.add(path, "a requirement compares once", "give one of equals, differs, at_least, at_most")
                continue
            try:
                have = self._report.names.type_of(requirement.of, scope)
                self._report.names.check(bounds[0], have, scope)
                if requirement.equals is None and requirement.differs is None and have.kind not in ("uint", "int"):
                    self._report.add(path, f"{requirement.of} is no number to be at least or at most another")
            except expressions.Wrong as error:
                self._report.wrong(path, error)

    def sagas(self, calls: dict[str, Call]) -> None:
        for index, saga in enumerate(self._report.document.sagas):
            seen: set[str] = set()
            if not saga.steps:
                self._report.add(("sagas", index), f"{saga.name} has no steps")
            for number, step in enumerate(saga.steps):
                path: problems.Path = ("sagas", index, "steps", number)
                scope = expressions.Scope("action", seen=frozenset(seen))
                self._requirements(step.require, path, scope)
                if step.wait is not None:
                    self._wait(step.wait, (*path, "wait"), scope)
                if self._report.known((*path, "action"), step.action, calls, "action"):
                    seen.update(effect.event for effect in calls[step.action].action.effects())

    def _wait(self, wait: grammar.Wait, path: problems.Path, scope: expressions.Scope) -> None:
        self._report.known(path, wait.clock, grammar.CLOCKS, "clock")
        for value in (wait.until, wait.plus):
            if value is not None:
                self._report.expression(path, value, expressions.UINT, scope)
        shown = wait.clock in ("seconds", "blocks")
        if shown == bool(wait.now):
            self._report.add(
                path,
                f"a block {'shows' if shown else 'does not show'} {wait.clock}",
                "remove now" if shown else 'add now = "view.NAME"',
            )
        elif wait.now:
            self._report.expression(path, wait.now, expressions.UINT, scope)
