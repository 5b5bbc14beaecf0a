"""The manifest's grammar: one frozen struct per table of the TOML. In: parsed TOML. Out: values that `checks` examines.

`docs/manifest.md` explains every key. A value that comes from somewhere (an argument, an amount, a bound) is an *expression*: text
like `intent.amount`, or a table where more must be said. Expressions keep their TOML shape here; `expressions` gives them types.
"""

from __future__ import annotations

import difflib
import typing
from collections.abc import Iterator
from typing import cast

import msgspec

from domain import events
from indexers.protocols import places

MEASURES = {
    "delta": "the amount itself was added, removed or paid",
    "total": "the position's new total; the change is its difference from the one before",
    "cumulative": "a counter that only grows; the change is its difference from the one before",
    "shares": "pool shares, worth their rate",
    "signed": "a gain when positive, a loss when negative",
}
CLOCKS = ("seconds", "blocks", "epochs", "rounds")
UNITS = {"wei": 1, "gwei": 10**9}
TRANSFORMS = {"uint_le": "little-endian bytes to an unsigned integer"}
EARNINGS = ("replay", "equity", "claimed")
REPLAY_MODELS = ("reward-per-share",)
ROLES = ("delegator", "operator")

FIELD_KINDS = {
    "validator": "identity",
    "delegator": "identity",
    "target": "identity",
    "amount": "amount",
    "shares": "number",
    "ticket": "number",
    "release_time": "number",
    "commission": "number",
    "index": "number",
    "fraction_bps": "number",
    "rate_bps": "number",
    "numerator": "number",
    "denominator": "number",
    "role": "role",
    "note": "text",
}
"""What a value must be to stand for a field of a normalised event."""


class Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Every table of the grammar refuses keys it does not know."""


class Source(Table, frozen=True):
    """Where a field of a normalised event comes from: exactly one of the first five, and how to read it.

    `per` is the denominator of a rate that is not in basis points; `clock` is what a release time counts."""

    field: str | None = None
    literal: int | str | None = None
    view: str | None = None
    emitter: bool = False
    child: str | None = None
    measure: str = "delta"
    unit: str = "wei"
    asset: str = ""
    transform: str = ""
    clock: str = "seconds"
    per: int = 10_000


class Event(Table, frozen=True):
    """A log and its meaning. Without `means` it is only known, for effects, arguments and children to refer to.

    `since` and `until` name upgrades, whose blocks the network file tells: the first block it is in force, the first it is not.
    `when` restricts it to logs whose fields have these values; `negative` is what a negative `signed` amount means."""

    emitter: str
    signature: str
    id: str = ""
    means: str = ""
    negative: str = ""
    since: str = ""
    until: str = ""
    when: dict[str, bool | int | str] = {}
    validator: str | Source | None = None
    delegator: str | Source | None = None
    target: str | Source | None = None
    amount: str | Source | None = None
    shares: str | Source | None = None
    ticket: str | Source | None = None
    release_time: str | Source | None = None
    commission: str | Source | None = None
    index: str | Source | None = None
    fraction_bps: str | Source | None = None
    rate_bps: str | Source | None = None
    numerator: str | Source | None = None
    denominator: str | Source | None = None
    role: str | Source | None = None
    note: str | Source | None = None

    def sources(self) -> dict[str, Source]:
        """The mapped fields, in the vocabulary's order. A bare string is a field of the log."""
        found: dict[str, Source] = {}
        for name in FIELD_KINDS:
            value: str | Source | None = getattr(self, name)
            if value is not None:
                found[name] = Source(field=value) if isinstance(value, str) else value
        return found


class Located(Table, frozen=True):
    """A contract whose address no file can know: a child that `event` announced in its field `address` and that goes by its field
    `key`; or one whose address a `view` returns, one of many when `key` names the view's parameter that chooses."""

    event: str = ""
    address: str = ""
    key: str = ""
    view: str = ""

    @property
    def keyed(self) -> bool:
        """Whether a target must say which one."""
        return bool(self.key)


class Asset(Table, frozen=True):
    """An ERC-20: the contract that is the token."""

    token: str
    decimals: int = 18


class View(Table, frozen=True):
    """A read, always pinned to a block hash: the log's block, the frame's last, or the one a plan is made on."""

    target: str
    call: str
    args: dict[str, object] = {}


class Provider(Table, frozen=True):
    """A named plug-in that supplies what no chain read can (a Merkle proof); `returns` is the type it must give."""

    returns: str


class Unbonding(Table, frozen=True):
    clock: str = "seconds"
    delay: object = None
    now: str = ""


class Earnings(Table, frozen=True):
    """How what was earned is known. `replay` names the accounting model; `equity` the view that values a position."""

    mode: str
    model: str = ""
    version: str = "1"
    scale: str = ""
    value: str = ""


class Approve(Table, frozen=True):
    """The exact ERC-20 allowance an action needs first."""

    token: str
    spender: str
    amount: object


class Effect(Table, frozen=True):
    """The log that proves an action worked, and what its fields must be."""

    event: str
    where: dict[str, object] = {}


class Requirement(Table, frozen=True):
    """What must hold before: `of` compared with exactly one of the others."""

    of: str
    equals: object = None
    differs: object = None
    at_least: object = None
    at_most: object = None


class Action(Table, frozen=True):
    name: str
    target: str
    call: str
    effect: Effect | list[Effect]
    args: dict[str, object] = {}
    value: object = None
    approve: Approve | None = None
    require: list[Requirement] = []

    def effects(self) -> list[Effect]:
        return [self.effect] if isinstance(self.effect, Effect) else self.effect


class Wait(Table, frozen=True):
    """Until `until` (`plus` so much) has passed on `clock`; `now` reads the clock where a block does not show it (epochs, rounds)."""

    until: str
    plus: object = None
    clock: str = "seconds"
    now: str = ""


class Step(Table, frozen=True):
    action: str
    wait: Wait | None = None
    require: list[Requirement] = []


class Saga(Table, frozen=True):
    name: str
    steps: list[Step]


class Document(Table, frozen=True):
    """A whole manifest."""

    name: str
    earnings: Earnings
    events: list[Event]
    contracts: dict[str, str | Located]
    asset: str = "native"
    unit: str = "wei"
    types: dict[str, str] = {}
    inputs: dict[str, str] = {}
    assets: dict[str, Asset] = {}
    views: dict[str, View] = {}
    providers: dict[str, Provider] = {}
    unbonding: Unbonding = Unbonding()
    actions: list[Action] = []
    sagas: list[Saga] = []

    @property
    def decimals(self) -> int:
        """Of its asset; every chain's native coin has 18."""
        return 18 if self.asset == "native" else self.assets[self.asset].decimals


class Instance(Table, frozen=True):
    """A protocol on a network: the first block that can hold one of its logs, its contracts, its upgrades' first blocks."""

    addresses: dict[str, str]
    start: int = 0
    upgrades: dict[str, int] = {}


class Network(Table, frozen=True):
    chain_id: int
    protocols: dict[str, Instance] = {}


def required(means: str) -> tuple[str, ...]:
    """Fields a normalised event cannot be without."""
    return tuple(f.name for f in msgspec.structs.fields(events.TYPES[means]) if f.required and f.name != "at")


def accepted(means: str) -> tuple[str, ...]:
    return tuple(f.name for f in msgspec.structs.fields(events.TYPES[means]) if f.name != "at")


class Unknown(msgspec.Struct, frozen=True):
    """A key no table has, and the nearest one that the table does have."""

    path: places.Path
    cure: str


def unknown_keys(data: object, type_: object, path: places.Path = ()) -> Iterator[Unknown]:
    """Every key of parsed TOML that the grammar does not have, at any depth."""
    if isinstance(data, list):
        items = cast("list[object]", data)
        for index, item in enumerate(items):
            yield from unknown_keys(item, _argument(type_, list), (*path, index))
    elif isinstance(data, dict):
        table = cast("dict[str, object]", data)
        struct = _struct(type_)
        if struct is None:
            inner = _argument(type_, dict)
            for key, value in table.items():
                yield from unknown_keys(value, inner, (*path, key))
            return
        known = typing.get_type_hints(struct)
        for key, value in table.items():
            if key in known:
                yield from unknown_keys(value, known[key], (*path, key))
            else:
                yield Unknown((*path, key), nearest(key, known))


def nearest(name: str, known: typing.Iterable[str]) -> str:
    """Advice: the known name closest to a wrong one, else all of them."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    if close:
        return f"did you mean {close[0]}?"
    return f"known are: {', '.join(names)}" if names else "there are none"


def _struct(type_: object) -> type[Table] | None:
    options: tuple[object, ...] = typing.get_args(type_) or (type_,)
    if typing.get_origin(type_) in (dict, list):
        return None
    return next((o for o in options if isinstance(o, type) and issubclass(o, Table)), None)


def _argument(type_: object, container: type) -> object:
    """The item type of `list[X]` or `dict[str, X]`, also inside a union; `object` where anything goes."""
    for option in (type_, *typing.get_args(type_)):
        if typing.get_origin(option) is container:
            return typing.get_args(option)[-1]
    return object
