"""From intents to calls. In: a bound manifest, an action, its arguments, and what was read from the chain. Out: a call with its proof.

    check    what a person wrote → canonical arguments
    reads    the views the action needs and that can be encoded by now; carry them out pinned to one block hash, and ask again
    result   the answer to one of them → a value to be `known`
    plan     everything known → target, calldata, value, allowance and the logs that will prove it; or Unmet, and why

Nothing here waits, keeps or sends anything. `planner.effects` judges receipts; the grammar is explained in docs/manifest.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, ParamSpec, cast

import msgspec

from domain import chain, errors, hashing
from indexers.protocols import (
    abi,
    abitypes,
    actions,
    decoder,
    effects,
    erc20,
    evaluation,
    expressions,
    grammar,
    manifest,
    readiness,
    uses,
    values,
)

Arguments = Mapping[str, str]
Value = abi.Value
Read = evaluation.Read
Lookup = evaluation.Lookup
Expected = effects.Expected
Simulated = effects.Simulated
Approve = erc20.Approve
Unmet = readiness.Unmet
Refused = values.Refused
Step = tuple[str, int]
"""A step of a saga, by the saga's name and the step's place from 0: an action with requirements of its own and a wait."""
Direction = Literal["in", "out", "move", "none"]
effect_of, effects_of, missing = effects.effect_of, effects.effects_of, effects.missing
logs_of_simulation, simulated, revert_reason = effects.logs_of_simulation, effects.simulated, effects.revert_reason
allowance = erc20.allowance

P = ParamSpec("P")

_DIRECTIONS: Mapping[str, Direction] = {
    "Delegated": "in",
    "Moved": "move",
    "Undelegated": "out",
    "Withdrawn": "out",
    "RewardClaimed": "out",
}
_STRICTEST: tuple[Direction, ...] = ("in", "move", "out")  # of an action with several effects, the first counts
_POSITIVE = ("amount", "shares")  # nobody means zero of these


class Call(msgspec.Struct, frozen=True):
    """A transaction to be. `selector` is empty for packed calldata. All of `effects` must be in the receipt.

    `amount` is what caps count, in the asset's smallest unit: the intent's amount, else what a stake brings in; None where the
    action names no amount. `direction` says where stake goes, by what its effects mean."""

    to: bytes
    data: bytes
    value: int
    selector: bytes
    approve: Approve | None
    effects: tuple[Expected, ...]
    amount: int | None
    direction: Direction


class ActionInfo(msgspec.Struct, frozen=True):
    """What an action is called with. `arguments` maps names to types as text; `events` and `providers` are what else it needs."""

    name: str
    contract: str
    signature: str
    selector: bytes
    payable: bool
    arguments: Mapping[str, str]
    events: tuple[str, ...]
    providers: tuple[str, ...]
    effects: tuple[str, ...]
    requires: tuple[str, ...]
    direction: Direction


class Planner:
    """The actions of one protocol on one network."""

    def __init__(self, source: manifest.Manifest) -> None:
        self._source = source
        self._rules = {rule.id: rule for rule in source.rules}
        self._tasks = {call.action.name: uses.task(source, call) for call in source.calls}
        self._steps = {
            saga.name: [uses.task(source, self._tasks[step.action].call, step) for step in saga.steps]
            for saga in source.document.sagas
        }
        self._types = {**expressions.INTENT, **source.names.inputs}
        self.protocol = source.name
        self.chain_id = source.chain_id
        self.actions: Mapping[str, ActionInfo] = {name: self._info(task) for name, task in self._tasks.items()}
        self.sagas: Mapping[str, tuple[str, ...]] = {
            saga.name: tuple([step.action for step in saga.steps]) for saga in source.document.sagas
        }

    def check(self, action: str, arguments: Mapping[str, object], *, step: Step | None = None) -> dict[str, str]:
        """Canonical arguments. Raises Refused naming the argument, its value and the cure. Checking twice changes nothing."""
        needed = self._task(action, step).arguments
        for name in arguments:
            if name not in needed:
                raise Refused(f"{action} takes no {name}", value=arguments[name], cure=grammar.nearest(name, needed))
        for name in needed:
            if name not in arguments:
                raise Refused(f"{action} needs {name}", cure=f"give {name}: {_wanted(self._types[name])}")
        return {name: self._canonical(name, arguments[name], needed[name]) for name in sorted(needed)}

    def reads(
        self,
        action: str,
        arguments: Mapping[str, object],
        *,
        account: bytes,
        known: Mapping[str, Value],
        step: Step | None = None,
    ) -> tuple[Read, ...]:
        """The reads that can be encoded by now; empty when there is nothing left to read. Raises Refused."""
        return tuple(self._tried(action, arguments, account=account, known=known, step=step).reads.values())

    def lookups(
        self,
        action: str,
        arguments: Mapping[str, object],
        *,
        account: bytes,
        known: Mapping[str, Value],
        step: Step | None = None,
    ) -> tuple[Lookup, ...]:
        """Logs that must be searched for, to find child contracts. As `reads`, these can come in rounds."""
        return tuple(self._tried(action, arguments, account=account, known=known, step=step).lookups.values())

    def result(self, read: Read, data: bytes) -> Value:
        """What goes into `known` under the read's id. Raises BadAnswer when the data is no encoding of what was asked for."""
        signature = self._signature(read.id)
        try:
            if signature.kind == "packed":
                found: tuple[Value, ...] = abi.packed(signature.outputs)(data)
            else:
                found = abi.members([p.type for p in signature.outputs])(data, 0, abi.room(data))
        except abi.Malformed as error:
            raise evaluation.unreadable(read.id, error) from None
        return found if read.id.startswith("view.") else found[0]

    def found(self, lookup: Lookup, logs: Sequence[chain.Log]) -> Value:
        """The child's address, from the logs of a lookup in their order: the last announcement counts, none is the zero address."""
        rule, where = self._rules[lookup.event], self._located(lookup.id)
        type_ = abitypes.resolve(rule.signature.inputs, where.key) or expressions.WORD
        address: Value = hashing.ZERO_ADDRESS
        for log in logs:
            if log.address != lookup.address or log.topics[:1] != lookup.topics[:1]:
                continue
            fields = decoder.fields(rule.signature)(log)
            key = abi.pick(rule.signature.inputs, fields, where.key)
            if (
                key is not None
                and values.text(key, type_) == lookup.key
                and self._meant(rule.event.when, rule.signature, fields)
            ):
                address = cast("bytes", abi.pick(rule.signature.inputs, fields, where.address))
        return address

    def learn(self, proven: Sequence[Expected], logs: Sequence[chain.Log], *, time: int) -> dict[str, Value]:
        """What an earlier action's effects make known to the ones after it. `logs` are its receipt's, `time` its block's."""
        found: dict[str, Value] = {}
        for expected in proven:
            place = effect_of(expected, logs)
            for rule in self._rules.values() if place is not None else ():
                log = logs[place or 0]
                if (
                    self._address(rule.emitter, log) != log.address
                    or effects.declaration(rule.signature) != expected.event
                ):
                    continue
                fields = decoder.fields(rule.signature)(log)
                if self._meant(rule.event.when, rule.signature, fields):
                    found[f"event.{rule.id}"] = tuple(fields.values())
                    found[f"block.{rule.id}.number"] = log.block.number
                    found[f"block.{rule.id}.timestamp"] = time
        return found

    def at(self, *, number: int, time: int) -> dict[str, Value]:
        """What the block the plan is made on makes known: only a saga's waits ask for it."""
        return {"block.number": number, "block.timestamp": time}

    def plan(
        self,
        action: str,
        arguments: Mapping[str, object],
        *,
        account: bytes,
        known: Mapping[str, Value],
        step: Step | None = None,
    ) -> Call | Unmet:
        """The call, or why the chain is not ready for it. Raises Refused when it can never be planned from this."""
        task = self._task(action, step)
        checked = self.check(action, arguments, step=step)
        evaluator = self._evaluator(checked, account=account, known=known)
        return _complete(lambda: task.unmet(evaluator) or self._planned(task.call, checked, evaluator))

    def draft(
        self, action: str, arguments: Mapping[str, object], *, account: bytes, known: Mapping[str, Value]
    ) -> Call | Unmet:
        """The call as it will be once the chain is ready for it: for people who look at a manifest, never to be sent."""
        checked = self.check(action, arguments)
        evaluator = self._evaluator(checked, account=account, known=known)
        return _complete(lambda: self._planned(self._task(action, None).call, checked, evaluator))

    def describe(self, action: str, arguments: Mapping[str, object]) -> str:
        """One line for people, exact to the last unit: `delegate: amount 1.5 (1500000000000000000 wei), validator 0x…`."""
        checked = self.check(action, arguments)
        shown = ", ".join([f"{name} {self._shown(name, text)}" for name, text in checked.items()])
        return f"{action}: {shown}" if shown else action

    def _planned(self, call: actions.Call, checked: Arguments, evaluator: evaluation.Evaluator) -> Call:
        action, signature = call.action, call.signature
        to = evaluator.target(action.target)
        parameters = [evaluator.value(action.args[p.name], p.type) for p in signature.inputs]
        value = 0 if action.value is None else evaluator.number(action.value)
        approve = None if action.approve is None else self._approve(action.approve, evaluator)
        direction = self._direction(action)
        return Call(
            to=to,
            data=evaluation.encode(signature, parameters, what=action.name),
            value=value,
            selector=_selector(signature),
            approve=approve,
            effects=tuple([self._expected(effect, action, evaluator, to=to) for effect in action.effects()]),
            amount=self._amount(checked, value, approve, direction),
            direction=direction,
        )

    def _amount(self, checked: Arguments, value: int, approve: Approve | None, direction: Direction) -> int | None:
        if "amount" in checked:
            return int(checked["amount"])
        if direction in ("out", "move"):
            return None
        if approve is not None:
            return approve.amount
        return value if direction == "in" and value else None

    def _approve(self, approve: grammar.Approve, evaluator: evaluation.Evaluator) -> Approve:
        return Approve(
            token=evaluator.contract(uses.token_contract(self._source, approve.token)),
            spender=evaluator.contract(approve.spender),
            amount=evaluator.number(approve.amount),
        )

    def _expected(
        self, effect: grammar.Effect, action: grammar.Action, evaluator: evaluation.Evaluator, *, to: bytes
    ) -> Expected:
        rule = self._rules[effect.event]
        signature = rule.signature
        if not uses.keyed(self._source.names.contracts[rule.emitter]):
            emitter = evaluator.contract(rule.emitter)
        elif action.target.partition("(")[0] == rule.emitter:
            emitter = to
        else:
            raise Refused(
                f"{effect.event} comes from one of many {rule.emitter}, and {action.name} does not say which",
                cure=f"{action.name} must call that {rule.emitter} itself, or be proven by another event",
            )
        meant: list[tuple[str, object]] = [(path, {"literal": value}) for path, value in rule.event.when.items()]
        where: list[tuple[str, str]] = []
        for path, expression in [*meant, *effect.where.items()]:
            type_ = abitypes.resolve(signature.inputs, path) or expressions.WORD
            found = evaluator.value(expression, type_)
            evaluation.fit(found, type_, what=path)
            where.append((path, values.text(found, type_)))
        topic0 = signature.topic0 if signature.kind == "event" else b""
        return Expected(effects.declaration(signature), emitter, topic0, tuple(dict.fromkeys(where)))

    def _tried(
        self,
        action: str,
        arguments: Mapping[str, object],
        *,
        account: bytes,
        known: Mapping[str, Value],
        step: Step | None,
    ) -> evaluation.Evaluator:
        """An evaluator that has tried everything the action says, and so has noted what it lacks."""
        task = self._task(action, step)
        evaluator = self._evaluator(self.check(action, arguments, step=step), account=account, known=known)
        for requirement in task.require:
            _try(readiness.unmet, evaluator, [requirement])
        for wait in task.waits:
            _try(readiness.waiting, evaluator, wait)
        for param in task.call.signature.inputs:
            _try(evaluator.value, task.call.action.args[param.name], param.type)
        _try(self._planned, task.call, {}, evaluator)
        return evaluator

    def _task(self, action: str, step: Step | None) -> uses.Task:
        if action not in self._tasks:
            raise Refused(
                f"{self.protocol} has no action {action}", value=action, cure=grammar.nearest(action, self._tasks)
            )
        if step is None:
            return self._tasks[action]
        saga, number = step
        if saga not in self._steps or not 0 <= number < len(self._steps[saga]):
            raise Refused(f"{self.protocol} has no such step", value=step, cure=grammar.nearest(saga, self._steps))
        found = self._steps[saga][number]
        if found.call.action.name != action:
            raise Refused(
                f"step {number} of {saga} is {found.call.action.name}", value=action, cure="plan the step's own action"
            )
        return found

    def _evaluator(self, checked: Arguments, *, account: bytes, known: Mapping[str, Value]) -> evaluation.Evaluator:
        if len(account) != 20:
            raise Refused("an account has 20 bytes", value=hashing.hex0x(account), cure="give the staking address")
        parsed = {name: values.read(text, self._types[name], what=name) for name, text in checked.items()}
        return evaluation.Evaluator(self._source, account=account, arguments=parsed, known=known)

    def _canonical(self, name: str, value: object, fits: Sequence[abitypes.Type]) -> str:
        type_ = self._types[name]
        found = values.read(value, type_, what=name)
        if name in _POSITIVE and found == 0:
            raise Refused(f"{name} is zero", value=value, cure="give what there is to move")
        if name == "recipient" and found == hashing.ZERO_ADDRESS:
            raise Refused(
                "recipient is the zero address, where everything is lost", value=value, cure="give an account"
            )
        for want in fits:
            values.convert(found, type_, want, what=name)
        return values.text(found, type_)

    def _signature(self, id_: str) -> abitypes.Signature:
        if id_ == "allowance":
            return erc20.ALLOWANCE
        name = id_.partition(".")[2]
        view = name if id_.startswith("view.") else self._located(id_).view
        return self._source.names.views[view][1]

    def _address(self, contract: str, log: chain.Log) -> bytes:
        """The fixed address of a contract; one that is found at run time may be any, as the effect has fixed it."""
        return self._source.addresses.get(contract, log.address)

    def _located(self, id_: str) -> grammar.Located:
        name = id_.removeprefix("contract.").partition("(")[0]
        return cast("grammar.Located", self._source.names.contracts[name])

    def _meant(
        self, when: Mapping[str, bool | int | str], signature: abitypes.Signature, fields: Mapping[str, Value]
    ) -> bool:
        for path, wanted in when.items():
            type_ = abitypes.resolve(signature.inputs, path) or expressions.WORD
            if abi.pick(signature.inputs, fields, path) != evaluation.literal(wanted, type_):
                return False
        return True

    def _direction(self, action: grammar.Action) -> Direction:
        found: set[Direction] = {_direction_of(self._rules[effect.event].means) for effect in action.effects()}
        for direction in _STRICTEST:
            if direction in found:
                return direction
        return "none"

    def _info(self, task: uses.Task) -> ActionInfo:
        call = task.call
        return ActionInfo(
            name=call.action.name,
            contract=call.action.target,
            signature=call.signature.canonical,
            selector=_selector(call.signature),
            payable=call.action.value is not None,
            arguments={name: _described(self._types[name]) for name in sorted(task.arguments)},
            events=task.events,
            providers=task.providers,
            effects=tuple([self._rules[effect.event].signature.canonical for effect in call.action.effects()]),
            requires=tuple([readiness.shown(requirement) for requirement in task.require]),
            direction=self._direction(call.action),
        )

    def _shown(self, name: str, text: str) -> str:
        if name == "amount":
            document = self._source.document
            native = document.asset == "native"
            unit = document.unit if native else f"of {document.asset}'s smallest unit"
            return f"{decimal(int(text), document.decimals)} ({text} {unit})"
        if self._types[name].kind == "word":
            number = int(text, 16)
            if number < 1 << 64:
                return str(number)
            return f"0x{manifest.checksum(number.to_bytes(20, 'big'))}" if number < 1 << 160 else text
        return errors.clip(text, 120)[1:-1]


def approval(approve: Approve, *, account: bytes) -> Call:
    """The call that grants exactly what is needed. It moves nothing and counts against no cap; the action after it does."""
    return Call(
        to=approve.token,
        data=erc20.grant(approve),
        value=0,
        selector=erc20.APPROVE.selector,
        approve=None,
        effects=(erc20.granted(approve, account=account),),
        amount=None,
        direction="none",
    )


def address(text: object, *, what: str) -> bytes:
    """An address as a person writes it. Raises Refused."""
    found = values.read(text, expressions.ADDRESS, what=what)
    return found if isinstance(found, bytes) else bytes(20)


def decimal(amount: int, decimals: int) -> str:
    """A number of smallest units as people write it, every digit kept: 1500000000000000000 with 18 is `1.5`."""
    whole, rest = divmod(amount, 10**decimals)
    return f"{whole}.{rest:0{decimals}d}".rstrip("0") if rest else str(whole)


def _complete(evaluate: Callable[[], Call | Unmet]) -> Call | Unmet:
    """A plan from an evaluator that has everything, or the refusal that says what it lacks."""
    try:
        return evaluate()
    except evaluation.Missing as error:
        raise Refused(f"{error.what} has not been read", cure="carry out `reads` and `lookups` first") from None
    except evaluation.Impossible as error:
        return Unmet(str(error))


def _try(evaluate: Callable[P, object], *arguments: P.args, **named: P.kwargs) -> None:
    """Evaluate for what it notes."""
    try:
        evaluate(*arguments, **named)
    except (evaluation.Missing, evaluation.Impossible):
        pass


def _direction_of(means: str) -> Direction:
    return _DIRECTIONS.get(means, "none")


def _selector(signature: abitypes.Signature) -> bytes:
    return signature.selector if signature.kind == "function" else b""


def _wanted(type_: abitypes.Type) -> str:
    return "an identity as 0x-hex, such as an address" if type_.kind == "word" else f"a {effects.spelled(type_)}"


def _described(type_: abitypes.Type) -> str:
    return "identity" if type_.kind == "word" else effects.spelled(type_)
