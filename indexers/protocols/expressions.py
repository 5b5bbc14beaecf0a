"""Expressions: where an argument or a bound comes from. In: TOML values and what the manifest declares. Out: their types.

    literal        `1`, `true`, `{ literal = "0x…" }`
    intent.NAME    a field of the intent (built in: validator, target, amount, shares, ticket, recipient; more under [inputs])
    account        the address that stakes           asset           the address of the manifest's asset
    contract.NAME  an address of the network file    provider.NAME   what a named plug-in returns
    event.ID.PATH  a field of an earlier log, or the whole of a struct in it
    block.ID.timestamp, block.ID.number              of the block of that log; inside an event `block.timestamp`
    view.NAME.PATH a read pinned to a block hash
    field.PATH, emitter                              of the log itself, inside an event
    position.validator, position.delegator           inside the view that values a position

A list is an array of expressions, a table the struct of its components; `{ source = "intent.amount", unit = "gwei" }` and
`{ source = …, transform = "uint_le" }` convert on the way.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar, cast

import msgspec

from domain import errors
from indexers.protocols import abitypes, grammar

T = TypeVar("T")

WORD = abitypes.Type("word")
"""An identity: 32 bytes that an address, a number or a bytes32 may stand in."""
UINT = abitypes.Type("uint", 256)
ADDRESS = abitypes.Type("address")

INTENT = {"validator": WORD, "target": WORD, "amount": UINT, "shares": UINT, "ticket": WORD, "recipient": ADDRESS}

ROOTS = {
    "event": ("field", "emitter", "block", "contract", "view"),
    "action": ("intent", "account", "asset", "contract", "event", "block", "view", "provider"),
    "position": ("position", "contract", "view"),
}
_MAX_VIEWS = 8  # views that take their arguments from views


class Wrong(errors.BadConfig):
    """An expression that means nothing here."""


class Scope(msgspec.Struct, frozen=True):
    """Where an expression stands: `kind` is a key of ROOTS, `fields` are the log's parameters inside an event."""

    kind: str
    fields: tuple[abitypes.Param, ...] = ()
    seen: frozenset[str] = frozenset()
    """Ids of events that came before, in a saga's step; outside one any event may have."""
    depth: int = 0


class Names(msgspec.Struct, frozen=True):
    """What a manifest declares, read and typed."""

    contracts: Mapping[str, str | grammar.Located]
    events: Mapping[str, abitypes.Signature]
    views: Mapping[str, tuple[grammar.View, abitypes.Signature]]
    providers: Mapping[str, abitypes.Type]
    inputs: Mapping[str, abitypes.Type]
    assets: Mapping[str, grammar.Asset]
    asset: str

    def check(self, value: object, want: abitypes.Type, scope: Scope) -> None:
        """Raises Wrong unless `value` yields a `want`."""
        match value:
            case bool() | int():
                _literal(value, want)
            case str():
                have = self.type_of(value, scope)
                if not fits(have, want):
                    raise Wrong(f"{value} is {_named(have)} where {_named(want)} is needed")
            case list():
                self._list(cast("list[object]", value), want, scope)
            case dict():
                self._table(cast("dict[str, object]", value), want, scope)
            case _:
                raise Wrong(f"{type(value).__name__} is no expression", value=value)

    def type_of(self, text: str, scope: Scope) -> abitypes.Type:
        root, _, rest = text.partition(".")
        if root not in ROOTS[scope.kind]:
            raise Wrong(
                f"{text} means nothing {_PLACES[scope.kind]}",
                cure=f"expressions here begin with {', '.join(ROOTS[scope.kind])}; write {{ literal = … }} for a constant",
            )
        match root:
            case "account" | "emitter":
                return _bare(text, rest, ADDRESS)
            case "asset":
                if self.asset == "native":
                    raise Wrong("the native asset has no address", cure="name the token's contract: contract.NAME")
                return _bare(text, rest, ADDRESS)
            case "contract":
                return self._contract(rest, scope)
            case "intent":
                known = {**INTENT, **self.inputs}
                return _known(known, rest, "intent", "; declare further ones under [inputs]")
            case "position":
                return _known({"validator": WORD, "delegator": ADDRESS}, rest, "position")
            case "field":
                return _path(scope.fields, rest, "the log")
            case "event":
                return self._event(rest, scope)
            case "block":
                return self._block(rest, scope)
            case "view":
                return self._view(rest, scope)
            case _:
                name, _, path = rest.partition(".")
                return _within(_known(self.providers, name, "provider"), path, f"provider {name}")

    def target(self, text: str, scope: Scope) -> None:
        """A callee: a contract's name, or `child(key)` for a contract that is found by its key."""
        name, bracket, rest = text.partition("(")
        contract = self.contracts.get(name)
        if contract is None:
            raise Wrong(f"there is no contract {name}", cure=grammar.nearest(name, self.contracts))
        keyed = isinstance(contract, grammar.Located) and contract.keyed
        if keyed != bool(bracket) or (bracket and not rest.endswith(")")):
            raise Wrong(
                f"{text} does not name one contract",
                cure=f'write "{name}(intent.validator)": {name} is one of many' if keyed else f'write "{name}"',
            )
        if isinstance(contract, grammar.Located) and keyed:
            view = self.views.get(contract.view)
            chooser = self.events.get(contract.event) if contract.event else view and view[1]
            want = None if chooser is None else abitypes.resolve(chooser.inputs, contract.key)
            if want is not None:
                self.check(rest[:-1].strip(), want, scope)
        self._findable(contract, scope)

    def call(
        self, signature: abitypes.Signature, args: Mapping[str, object], scope: Scope
    ) -> list[tuple[tuple[str, ...], Wrong]]:
        """Whether the arguments are exactly the parameters; every wrong one, with its path below the table."""
        found: list[tuple[tuple[str, ...], Wrong]] = []
        for name in args:
            if signature.input(name) is None:
                cure = grammar.nearest(name, [p.name for p in signature.inputs])
                found.append((("args", name), Wrong(f"{signature.name} has no parameter {name}", cure=cure)))
        for param in signature.inputs:
            if param.name not in args:
                found.append(
                    (("args",), Wrong(f"{signature.name} needs {param.name}", cure=f"add {param.name} to args"))
                )
                continue
            try:
                self.check(args[param.name], param.type, scope)
            except Wrong as wrong:
                found.append((("args", param.name), wrong))
        return found

    def _contract(self, name: str, scope: Scope) -> abitypes.Type:
        contract = _known(self.contracts, name, "contract")
        if isinstance(contract, grammar.Located) and contract.keyed:
            raise Wrong(f"{name} is one of many contracts", cure="only a target can be found by its key")
        self._findable(contract, scope)
        return ADDRESS

    def _findable(self, contract: str | grammar.Located, scope: Scope) -> None:
        """Whether a contract that a view finds can be found from here, and not by way of itself."""
        if not isinstance(contract, grammar.Located) or not contract.view:
            return
        if not contract.keyed:
            self.type_of(f"view.{contract.view}", scope)
        elif contract.view in self.views:
            view, signature = self.views[contract.view]
            inner = _deeper(scope, contract.view)
            self.target(view.target, inner)
            others = tuple(p for p in signature.inputs if p.name != contract.key)
            for _, wrong in self.call(msgspec.structs.replace(signature, inputs=others), view.args, inner):
                raise wrong

    def _event(self, rest: str, scope: Scope) -> abitypes.Type:
        name, _, path = rest.partition(".")
        signature = _known(self.events, name, "event")
        self._came_before(name, scope)
        if not path:
            return abitypes.Type("tuple", components=signature.inputs)
        found = _path(signature.inputs, path, f"event {name}")
        param = signature.input(path.split(".")[0].split("[")[0])
        if param is not None and param.indexed and not param.type.value:
            raise Wrong(f"{path} is indexed, so {name} keeps only its hash", cure="take it from somewhere else")
        return found

    def _block(self, rest: str, scope: Scope) -> abitypes.Type:
        name, _, what = rest.partition(".")
        if scope.kind == "event" and not what:
            name, what = "", name
        else:
            _known(self.events, name, "event")
            self._came_before(name, scope)
        if what not in ("timestamp", "number"):
            raise Wrong(f"a block has no {what or 'nothing'}", cure="timestamp or number")
        return UINT

    def _came_before(self, name: str, scope: Scope) -> None:
        if scope.seen and name not in scope.seen:
            raise Wrong(
                f"no earlier step has the effect {name}", cure=f"earlier steps have {', '.join(sorted(scope.seen))}"
            )

    def _view(self, rest: str, scope: Scope) -> abitypes.Type:
        name, _, path = rest.partition(".")
        view, signature = _known(self.views, name, "view")
        inner = _deeper(scope, name)
        self.target(view.target, inner)
        for _, wrong in self.call(signature, view.args, inner):
            raise Wrong(f"view {name} cannot be read {_PLACES[scope.kind]}: {wrong.what}", cure=wrong.cure)
        if not path and len(signature.outputs) == 1:
            return signature.outputs[0].type
        if not path:
            raise Wrong(f"view {name} returns {len(signature.outputs)} values", cure=f"choose one: view.{name}.NAME")
        return _path(signature.outputs, path, f"view {name}")

    def _list(self, items: list[object], want: abitypes.Type, scope: Scope) -> None:
        if want.kind != "array":
            raise Wrong(f"a list stands where {_named(want)} is needed")
        if want.length is not None and want.length != len(items):
            raise Wrong(f"{len(items)} items stand where {_named(want)} is needed")
        for item in items:
            self.check(item, want.item, scope)

    def _table(self, table: dict[str, object], want: abitypes.Type, scope: Scope) -> None:
        if set(table) == {"literal"}:
            _literal(table["literal"], want)
        elif "source" in table and set(table) <= {"source", "unit", "transform"}:
            self._converted(table, want, scope)
        elif want.kind == "tuple":
            for _, wrong in self.call(abitypes.Signature("function", _named(want), want.components), table, scope):
                raise wrong
        else:
            raise Wrong(
                f"a table stands where {_named(want)} is needed",
                cure="{ literal = … } or { source = …, unit = …, transform = … }",
            )

    def _converted(self, table: dict[str, object], want: abitypes.Type, scope: Scope) -> None:
        unit, transform = table.get("unit", "wei"), table.get("transform")
        if unit not in grammar.UNITS:
            raise Wrong(f"{unit} is no unit", cure=grammar.nearest(str(unit), grammar.UNITS))
        if transform is not None and transform not in grammar.TRANSFORMS:
            raise Wrong(f"{transform} is no transform", cure=grammar.nearest(str(transform), grammar.TRANSFORMS))
        if transform is not None and want.kind not in ("bytes", "fixed"):
            raise Wrong(f"{transform} makes bytes where {_named(want)} is needed")
        self.check(table["source"], UINT if transform is not None else want, scope)


def _deeper(scope: Scope, view: str) -> Scope:
    if scope.depth >= _MAX_VIEWS:
        raise Wrong(f"view {view} takes its arguments from itself", cure="break the circle")
    return msgspec.structs.replace(scope, depth=scope.depth + 1)


def fits(have: abitypes.Type, want: abitypes.Type) -> bool:
    """Whether a value of one type can stand for another. Any number may for any other: its range is checked when it is encoded."""
    if want.kind == "word" or have.kind == "word":
        other = have if want.kind == "word" else want
        return other.kind in ("word", "address", "uint") or (other.kind == "fixed" and other.size == 32)
    if have.kind != want.kind:
        return {have.kind, want.kind} == {"uint", "int"}
    match have.kind:
        case "fixed":
            return have.size == want.size
        case "array":
            return fits(have.item, want.item) and want.length in (None, have.length)
        case "tuple":
            pairs = zip(have.components, want.components, strict=False)
            return len(have.components) == len(want.components) and all(fits(h.type, w.type) for h, w in pairs)
        case _:
            return True


_PLACES = {"event": "in an event", "action": "in an action", "position": "where a position is valued"}


def _literal(value: object, want: abitypes.Type) -> None:
    bits = want.size
    match value:
        case bool():
            good = want.kind == "bool"
        case int():
            good = (
                (want.kind == "uint" and 0 <= value < (want.members or 1 << bits))
                or (want.kind == "int" and -(1 << bits - 1) <= value < 1 << bits - 1)
                or (want.kind == "word" and 0 <= value < 1 << 256)
            )
        case str() if want.kind == "string":
            good = True
        case str() if want.kind in ("uint", "word") and value.isascii() and value.isdecimal():
            good = int(value) < 1 << (bits or 256)
        case str():
            sizes = {"address": (20,), "fixed": (want.size,), "word": (20, 32)}.get(want.kind)
            good = (sizes is not None or want.kind == "bytes") and _is_hex(value, sizes)
        case _:
            good = False
    if not good:
        raise Wrong(f"this literal is not {_named(want)}", value=value)


def _is_hex(text: str, sizes: tuple[int, ...] | None) -> bool:
    try:
        data = bytes.fromhex(text[2:]) if text.startswith("0x") else None
    except ValueError:
        return False
    return data is not None and len(text) == 2 + 2 * len(data) and (sizes is None or len(data) in sizes)


def _named(type_: abitypes.Type) -> str:
    return {"word": "an identity"}.get(type_.kind, type_.declared or type_.canonical)


def _bare(text: str, rest: str, type_: abitypes.Type) -> abitypes.Type:
    if rest:
        raise Wrong(f"{text.partition('.')[0]} has no parts", cure=f"write {text.partition('.')[0]}")
    return type_


def _within(type_: abitypes.Type, path: str, what: str) -> abitypes.Type:
    if not path:
        return type_
    return _path(type_.components, path, what)


def _path(params: tuple[abitypes.Param, ...], path: str, what: str) -> abitypes.Type:
    found = abitypes.resolve(params, path)
    if found is None:
        raise Wrong(f"{what} has no field {path}", cure=grammar.nearest(path, [p.name for p in params]))
    return found


def _known(table: Mapping[str, T], name: str, what: str, more: str = "") -> T:
    if name not in table:
        raise Wrong(f"there is no {what} {name}".rstrip(), cure=grammar.nearest(name, table) + more)
    return table[name]
