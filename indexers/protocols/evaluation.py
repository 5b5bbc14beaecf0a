"""Expressions at work. In: what is asked for, by whom, and what is known so far. Out: values, and the reads that are still needed.

Evaluating never waits: where a value has to come from the chain, the read that would bring it is noted and the expression gives up.
The caller carries the reads out, pinned to one block hash, and evaluates again; views may need views, so this can take some rounds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import msgspec

from domain import errors, hashing
from indexers.protocols import abi, abitypes, encoding, expressions, grammar, manifest, problems, values

_DEEPEST = 24  # expressions inside expressions: views of contracts found by views


class Read(msgspec.Struct, frozen=True):
    """One `eth_call`, to be pinned to a block hash."""

    id: str
    to: bytes
    data: bytes


class Lookup(msgspec.Struct, frozen=True):
    """One search for the log that announced a child contract. `topics` as `eth_getLogs` takes them, None for any."""

    id: str
    event: str
    address: bytes
    topics: tuple[bytes | None, ...]
    key: str


class Missing(Exception):
    """A value has to be read first. `what` names it."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what


class Impossible(Exception):
    """The chain, as it is now, has no such thing: a child contract that does not exist."""


class Evaluator:
    """The expressions of one action for one intent. `arguments` are parsed; `known` holds what was read or happened before:
    `view.NAME` its outputs, `contract.NAME(key)` an address, `event.ID` a log's fields in order, `block.ID.timestamp`,
    `block.ID.number`, `block.timestamp`, `block.number`, and `provider.NAME`."""

    def __init__(
        self,
        source: manifest.Manifest,
        *,
        account: bytes,
        arguments: Mapping[str, abi.Value],
        known: Mapping[str, abi.Value],
    ) -> None:
        self._source = source
        self._names = source.names
        self._account = account
        self._arguments = arguments
        self._known = known
        self._depth = 0
        self.reads: dict[str, Read] = {}
        self.lookups: dict[str, Lookup] = {}

    def value(self, expression: object, want: abitypes.Type) -> abi.Value:
        """The value of a checked expression. Raises Missing, Impossible, or Refused."""
        match expression:
            case bool() | int():
                return literal(expression, want)
            case str():
                have, found = self.named(expression)
                return values.convert(found, have, want, what=expression)
            case list():
                return tuple([self.value(item, want.item) for item in cast("list[object]", expression)])
            case _:
                return self._table(cast("dict[str, object]", expression), want)

    def named(self, text: str) -> tuple[abitypes.Type, abi.Value]:
        """A dotted name's type and value."""
        if self._depth >= _DEEPEST:
            raise values.Refused(f"{text} depends on itself", cure="break the circle in the manifest")
        self._depth += 1
        try:
            return self._names.type_of(text, problems.ACTION), self._named(text)
        finally:
            self._depth -= 1

    def number(self, expression: object) -> int:
        """An expression's value where a number is needed."""
        found = self.value(expression, expressions.UINT)
        if not isinstance(found, int) or not 0 <= found <= hashing.UINT256_MAX:
            raise values.Refused("an amount does not fit uint256", value=found, cure="check what it is computed from")
        return found

    def clock(self, name: str) -> int:
        """What the block the plan is made on shows: `seconds` or `blocks`."""
        found = self._given("block.number" if name == "blocks" else "block.timestamp", "the block the plan is made on")
        return cast("int", found)

    def contract(self, name: str) -> bytes:
        """The address of a contract that is one."""
        where = self._names.contracts[name]
        if not isinstance(where, grammar.Located):
            return self._source.addresses[name]
        return self._there(name, self.value(f"view.{where.view}", expressions.ADDRESS))

    def target(self, text: str) -> bytes:
        """The address of a callee: `pool`, or `credit(intent.validator)`."""
        name, bracket, rest = text.partition("(")
        if not bracket:
            return self.contract(name)
        where = cast("grammar.Located", self._names.contracts[name])
        type_ = self._key_type(where)
        key = self.value(rest[:-1].strip(), type_)
        shown = values.text(key, type_)
        id_ = f"contract.{name}({shown})"
        if id_ in self._known:
            return self._there(f"{name} of {shown}", self._known[id_])
        if where.event:
            self.lookups[id_] = self._lookup(id_, where, key, shown)
        else:
            view, signature = self._names.views[where.view]
            self._note(id_, view, signature, {where.key: key})
        raise Missing(id_)

    def _named(self, text: str) -> abi.Value:
        root, _, rest = text.partition(".")
        match root:
            case "account":
                return self._account
            case "asset":
                return self.contract(self._names.assets[self._names.asset].token)
            case "contract":
                return self.contract(rest)
            case "intent":
                if rest not in self._arguments:
                    raise values.Refused(f"{rest} is missing", cure=f"give {rest}")
                return self._arguments[rest]
            case "view":
                name, _, path = rest.partition(".")
                signature = self._names.views[name][1]
                return self._part(text, signature.outputs, self._view(name), path)
            case "event":
                name, _, path = rest.partition(".")
                found = self._given(f"event.{name}", "the log of an earlier action")
                if not path:
                    return found
                return self._part(text, self._names.events[name].inputs, found, path)
            case "block":
                return self._given(text, "the block of an earlier action's log")
            case _:
                return self._provided(rest)

    def _part(self, text: str, params: Sequence[abitypes.Param], found: abi.Value, path: str) -> abi.Value:
        parts = cast("tuple[abi.Value, ...]", found)
        if not path:
            return parts[0]
        value = abi.pick(tuple(params), dict(zip([p.name for p in params], parts, strict=True)), path)
        if value is None:
            raise values.Refused(f"{text} lies past the end of its list", cure="the log or view holds fewer items")
        return value

    def _given(self, id_: str, what: str) -> abi.Value:
        if id_ not in self._known:
            raise values.Refused(
                f"{id_} is not known: it comes from {what}", cure="plan this action after the one it follows"
            )
        return self._known[id_]

    def _provided(self, rest: str) -> abi.Value:
        name, _, path = rest.partition(".")
        if f"provider.{name}" not in self._known:
            raise values.Refused(
                f"provider {name} is not configured, so this action cannot be planned here",
                value=name,
                cure="it must be computed off chain; use an agent that has this plug-in, or another action",
            )
        found = self._known[f"provider.{name}"]
        if not path:
            return found
        type_ = self._names.providers[name]
        return self._part(f"provider.{rest}", type_.components, found, path)

    def _view(self, name: str) -> abi.Value:
        id_ = f"view.{name}"
        if id_ not in self._known:
            view, signature = self._names.views[name]
            self._note(id_, view, signature, {})
            raise Missing(id_)
        return self._known[id_]

    def _note(
        self, id_: str, view: grammar.View, signature: abitypes.Signature, given: Mapping[str, abi.Value]
    ) -> None:
        if self._depth >= _DEEPEST:
            raise values.Refused(f"{id_} depends on itself", cure="break the circle in the manifest")
        self._depth += 1
        try:
            arguments = [
                given[p.name] if p.name in given else self.value(view.args[p.name], p.type) for p in signature.inputs
            ]
            self.reads[id_] = Read(id_, self.target(view.target), encode(signature, arguments, what=id_))
        finally:
            self._depth -= 1

    def _lookup(self, id_: str, where: grammar.Located, key: abi.Value, shown: str) -> Lookup:
        rule = next(r for r in self._source.rules if r.id == where.event)
        wanted = [
            encoding.encode([p.type], [key]) if p.name == where.key else None
            for p in rule.signature.inputs
            if p.indexed
        ]
        topics: list[bytes | None] = [rule.signature.topic0, *wanted] if rule.signature.kind == "event" else []
        while topics and topics[-1] is None:
            topics.pop()
        return Lookup(id_, where.event, self.contract(rule.emitter), tuple(topics), shown)

    def _key_type(self, where: grammar.Located) -> abitypes.Type:
        chooser = self._names.events[where.event] if where.event else self._names.views[where.view][1]
        found = abitypes.resolve(chooser.inputs, where.key)
        return found if found is not None else expressions.WORD

    def _there(self, what: str, address: abi.Value) -> bytes:
        if not isinstance(address, bytes) or len(address) != 20:
            raise values.Refused(f"the address of {what} is none", value=address)
        if not any(address):
            raise Impossible(f"there is no contract {what}")
        return address

    def _table(self, table: dict[str, object], want: abitypes.Type) -> abi.Value:
        if set(table) == {"literal"}:
            return literal(table["literal"], want)
        if "source" in table and set(table) <= {"source", "unit", "transform"}:
            return self._converted(table, want)
        return tuple([self.value(table[c.name], c.type) for c in want.components])

    def _converted(self, table: dict[str, object], want: abitypes.Type) -> abi.Value:
        transform = table.get("transform")
        unit = str(table.get("unit", "wei"))
        found = self.value(table["source"], expressions.UINT if transform is not None else want)
        if not isinstance(found, int):
            raise values.Refused(f"{table['source']} is no number", value=found)
        whole, rest = divmod(found, grammar.UNITS[unit])
        if rest:
            raise values.Refused(
                f"{table['source']} is not a whole number of {unit}",
                value=found,
                cure=f"give a multiple of {grammar.UNITS[unit]}",
            )
        return whole if transform is None else _little_endian(whole, want, str(table["source"]))


def encode(signature: abitypes.Signature, arguments: Sequence[abi.Value], *, what: str) -> bytes:
    """Calldata. Raises Refused where a value does not fit."""
    try:
        return encoding.call(signature, arguments)
    except encoding.Unfit as error:
        raise values.Refused(f"{what} cannot be encoded: {error.what}", value=error.value, cure=error.cure) from None


def fit(value: abi.Value, type_: abitypes.Type, *, what: str) -> None:
    """Raises Refused when no log could ever hold the value."""
    try:
        encoding.encode([type_], [value])
    except encoding.Unfit as error:
        raise values.Refused(f"{what} can never be that: {error.what}", value=error.value, cure=error.cure) from None


def literal(value: object, want: abitypes.Type) -> abi.Value:
    """A checked literal as a value."""
    if isinstance(value, str) and want.kind not in ("word", "uint", "string"):
        return hashing.unhex(value, what="a literal")
    if want.kind == "word":
        if isinstance(value, str) and value.startswith("0x"):
            return hashing.unhex(value, what="a literal").rjust(32, b"\0")
        return hashing.word(int(cast("int | str", value)))
    if want.kind == "uint" and isinstance(value, str):
        return int(value)
    return cast("bool | int | str", value)


def _little_endian(number: int, want: abitypes.Type, what: str) -> bytes:
    """`bytes` take eight, as the deposit contract's amount does; `bytesN` take N."""
    size = want.size if want.kind == "fixed" else 8
    try:
        return number.to_bytes(size, "little")
    except OverflowError:
        raise values.Refused(f"{what} does not fit {size} bytes", value=number, cure="give a smaller one") from None


def unreadable(id_: str, error: errors.StakesideError) -> errors.BadAnswer:
    """A read whose answer is no encoding of what the manifest says it returns."""
    return errors.BadAnswer(
        f"{id_} answered something else than the manifest says: {error.what}",
        value=error.value,
        cure="compare the view's signature with the contract, and its address with the network file",
    )
