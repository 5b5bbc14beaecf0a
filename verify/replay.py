"""The reward-per-share pool, replayed the way the contract does it: lazily. In: a carry and events. Out: leaves and the next carry.

A slash is one entry in the validator's list; a position or an unbonding meets it when it is next touched, or read. The
producer of statements applies every slash to everybody at once; that two formulations give the same integers is the check.

    settle    for every slash not yet met: earned += stake·(its acc − acc)/SCALE, loss = ⌈stake·bps/10⁴⌉; then the same accrual
              up to the pool's acc
    reward    commission = ⌊value·bps/10⁴⌋; n = (value − commission + held)·SCALE + remainder; acc += n/total, remainder = n%total;
              without stake the reward is held
    slash     total −= ⌊total·bps/10⁴⌋; unbondings whose release lies after the slash lose ⌈amount·bps/10⁴⌉ too
    sweep     a counted position without stake is no longer counted; when the last one goes, total = 0
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from verify.decoding import Event
from verify.digests import Leaf, subject
from verify.primitives import canonical, hexed
from verify.report import Difference
from verify.strict import Json, Node, parse_text

MODEL, VERSION = "reward-per-share", "1"
BPS = 10_000


@dataclass(slots=True)
class Slash:
    bps: int
    acc: int
    time: int


@dataclass(slots=True)
class Validator:
    commission_bps: int = 0
    total: int = 0
    acc: int = 0
    remainder: int = 0
    held: int = 0
    count: int = 0
    commission_earned: int = 0
    commission_claimed: int = 0
    slashes: list[Slash] = field(default_factory=list[Slash])


@dataclass(slots=True)
class Position:
    stake: int = 0
    acc: int = 0
    earned: int = 0
    claimed: int = 0
    lost: int = 0
    principal_in: int = 0
    principal_out: int = 0
    counted: bool = False
    cursor: int = 0


@dataclass(slots=True)
class Unbonding:
    validator: bytes
    delegator: bytes
    amount: int
    release: int
    lost: int = 0
    cursor: int = 0


@dataclass(frozen=True, slots=True)
class View:
    """A position as it reads after the slashes it has not met yet."""

    stake: int
    acc: int
    earned: int
    lost: int


def _loss(amount: int, bps: int) -> int:
    whole, rest = divmod(amount * bps, BPS)
    return whole + (rest > 0)


class Ledger:
    """The state of one stream. Raises Difference, naming the log, where the chain contradicts the replay."""

    def __init__(self, scale: int) -> None:
        self.scale = scale
        self.validators: dict[bytes, Validator] = {}
        self.positions: dict[tuple[bytes, bytes], Position] = {}
        self.unbondings: dict[int, Unbonding] = {}

    def apply(self, event: Event) -> None:
        match event.means:
            case "Delegated":
                self._enter(event, event.word("validator"), event.word("delegator"), event.number("amount"))
            case "Undelegated":
                self._undelegate(event)
            case "Withdrawn":
                self._withdraw(event)
            case "Moved":
                source = self._leave(event, event.word("validator"), event.word("delegator"), event.number("amount"))
                source.principal_out += event.number("amount")
                self._enter(event, event.word("target"), event.word("delegator"), event.number("amount"))
            case "RewardAccrued":
                self._reward(event)
            case "RewardClaimed":
                self._claim(event)
            case "Slashed":
                self._slash(event)
            case "CommissionChanged":
                rate = event.number("rate_bps")
                if rate > BPS:
                    raise Difference(event.place, "a commission above 100 %", expected=BPS, got=rate)
                self._validator(event.word("validator")).commission_bps = rate
            case _:
                raise Difference(event.place, f"the model {MODEL} has no event {event.means}")

    def _validator(self, validator: bytes) -> Validator:
        return self.validators.setdefault(validator, Validator())

    def _position(self, validator: bytes, delegator: bytes) -> Position:
        return self.positions.setdefault((validator, delegator), Position())

    def _view(self, position: Position, pool: Validator) -> View:
        stake, acc, earned, lost = position.stake, position.acc, position.earned, position.lost
        for slash in pool.slashes[position.cursor :]:
            earned += stake * (slash.acc - acc) // self.scale
            taken = _loss(stake, slash.bps)
            stake, lost, acc = stake - taken, lost + taken, slash.acc
        return View(stake, acc, earned, lost)

    def _settle(self, validator: bytes, delegator: bytes) -> tuple[Validator, Position]:
        pool, position = self._validator(validator), self._position(validator, delegator)
        view = self._view(position, pool)
        position.stake, position.lost = view.stake, view.lost
        position.earned = view.earned + view.stake * (pool.acc - view.acc) // self.scale
        position.acc, position.cursor = pool.acc, len(pool.slashes)
        _sweep(pool, position)
        return pool, position

    def _enter(self, event: Event, validator: bytes, delegator: bytes, amount: int) -> None:
        if amount == 0:
            raise Difference(event.place, "a delegation of nothing")
        pool, position = self._settle(validator, delegator)
        position.stake += amount
        position.principal_in += amount
        pool.total += amount
        if not position.counted:
            position.counted = True
            pool.count += 1

    def _leave(self, event: Event, validator: bytes, delegator: bytes, amount: int) -> Position:
        pool, position = self._settle(validator, delegator)
        if amount == 0 or amount > position.stake:
            raise Difference(event.place, "stake leaves that is not there", expected=position.stake, got=amount)
        position.stake -= amount
        pool.total -= amount
        _sweep(pool, position)
        return position

    def _undelegate(self, event: Event) -> None:
        validator, delegator = event.word("validator"), event.word("delegator")
        ticket, amount = event.number("ticket"), event.number("amount")
        if ticket in self.unbondings:
            raise Difference(event.place, "this unbonding is open already", got=ticket)
        self._leave(event, validator, delegator, amount)
        seen = len(self.validators[validator].slashes)
        self.unbondings[ticket] = Unbonding(validator, delegator, amount, event.number("release_time"), cursor=seen)

    def _meet(self, entry: Unbonding) -> tuple[int, int]:
        """Amount and loss of an unbonding after the slashes that reach it."""
        amount, lost = entry.amount, entry.lost
        for slash in self._validator(entry.validator).slashes[entry.cursor :]:
            if slash.time < entry.release:
                taken = _loss(amount, slash.bps)
                amount, lost = amount - taken, lost + taken
        return amount, lost

    def _withdraw(self, event: Event) -> None:
        ticket = event.number("ticket")
        entry = self.unbondings.pop(ticket, None)
        owner = (event.word("validator"), event.word("delegator"))
        if entry is None or (entry.validator, entry.delegator) != owner:
            raise Difference(event.place, "a withdrawal without its unbonding", got=ticket)
        amount, lost = self._meet(entry)
        if amount != event.number("amount"):
            raise Difference(
                event.place, "a withdrawal pays another amount", expected=amount, got=event.number("amount")
            )
        position = self._position(*owner)
        position.lost += lost
        position.principal_out += amount

    def _reward(self, event: Event) -> None:
        pool, value = self._validator(event.word("validator")), event.number("amount")
        commission = value * pool.commission_bps // BPS
        told = event.maybe("commission")
        if told is not None and told != commission:
            raise Difference(event.place, "the reward has another commission", expected=commission, got=told)
        pool.commission_earned += commission
        net = value - commission + pool.held
        if pool.total:
            scaled = net * self.scale + pool.remainder
            pool.held, pool.acc, pool.remainder = 0, pool.acc + scaled // pool.total, scaled % pool.total
        else:
            pool.held = net
        index = event.maybe("index")
        if index is not None and index != pool.acc:
            raise Difference(event.place, "the reward per share is another one", expected=pool.acc, got=index)

    def _claim(self, event: Event) -> None:
        amount = event.number("amount")
        if event.texts.get("role", "delegator") == "operator":
            pool = self._validator(event.word("validator"))
            pool.commission_claimed += amount
            if pool.commission_claimed > pool.commission_earned:
                raise Difference(event.place, "more commission is claimed than was earned", got=amount)
            return
        _, position = self._settle(event.word("validator"), event.word("delegator"))
        due = position.earned - position.claimed
        if amount != due:
            raise Difference(event.place, "a claim pays another amount", expected=due, got=amount)
        position.claimed += amount

    def _slash(self, event: Event) -> None:
        pool, bps = self._validator(event.word("validator")), event.number("fraction_bps")
        if not 0 < bps <= BPS:
            raise Difference(event.place, "a slash of no possible fraction", got=bps)
        loss = pool.total * bps // BPS
        if loss != event.number("amount"):
            raise Difference(event.place, "a slash takes another amount", expected=loss, got=event.number("amount"))
        pool.total -= loss
        pool.slashes.append(Slash(bps, pool.acc, event.time))

    def leaves(self, *, protocol: str, asset: bytes) -> list[Leaf]:
        """Every non-zero cumulative balance, ascending by (subject, asset, kind)."""
        pending: dict[tuple[bytes, bytes], int] = {}
        for entry in self.unbondings.values():
            key = (entry.validator, entry.delegator)
            pending[key] = pending.get(key, 0) + self._meet(entry)[1]
        found: list[Leaf] = []
        for (validator, delegator), position in self.positions.items():
            pool = self._validator(validator)
            view = self._view(position, pool)
            earned = view.earned + view.stake * (pool.acc - view.acc) // self.scale
            lost = view.lost + pending.get((validator, delegator), 0)
            parts = ("delegation", protocol, hexed(validator), hexed(delegator))
            rows = ((1, earned, 0), (20, 0, lost), (40, position.claimed, 0))
            movements = ((41, position.principal_in, 0), (42, position.principal_out, 0))
            found += _nonzero(parts, asset, (*rows, *movements))
        for validator, pool in self.validators.items():
            parts = ("operator", protocol, hexed(validator))
            found += _nonzero(parts, asset, ((2, pool.commission_earned, 0), (40, pool.commission_claimed, 0)))
        return sorted(found, key=lambda leaf: leaf.key)

    def carry(self) -> Json:
        """The state as the format writes it: every slash met by everybody, accrual since then left open."""
        validators: dict[str, Json] = {hexed(name): _validator_json(pool) for name, pool in self.validators.items()}
        positions: dict[str, Json] = {}
        for (validator, delegator), position in self.positions.items():
            holders = positions.setdefault(hexed(validator), {})
            assert isinstance(holders, dict)
            holders[hexed(delegator)] = _position_json(position, self._view(position, self._validator(validator)))
        unbondings: dict[str, Json] = {}
        for ticket, entry in self.unbondings.items():
            amount, lost = self._meet(entry)
            unbondings[str(ticket)] = {
                "validator": hexed(entry.validator),
                "delegator": hexed(entry.delegator),
                "amount": str(amount),
                "lost": str(lost),
                "release_time": str(entry.release),
            }
        return {
            "model": MODEL,
            "version": VERSION,
            "validators": validators,
            "positions": positions,
            "unbondings": unbondings,
        }


def replay(ledger: Ledger, events: Iterable[Event]) -> Ledger:
    for event in events:
        ledger.apply(event)
    return ledger


def _sweep(pool: Validator, position: Position) -> None:
    if position.counted and not position.stake:
        position.counted = False
        pool.count -= 1
        if not pool.count:
            pool.total = 0


def _nonzero(parts: tuple[str, ...], asset: bytes, rows: Iterable[tuple[int, int, int]]) -> Iterator[Leaf]:
    name = subject(parts)
    return (Leaf(name, asset, kind, reward, penalty, parts) for kind, reward, penalty in rows if reward or penalty)


def _validator_json(pool: Validator) -> Json:
    return {
        "commission_bps": str(pool.commission_bps),
        "total_stake": str(pool.total),
        "acc": str(pool.acc),
        "remainder": str(pool.remainder),
        "held": str(pool.held),
        "count": str(pool.count),
        "commission_earned": str(pool.commission_earned),
        "commission_claimed": str(pool.commission_claimed),
    }


def _position_json(position: Position, view: View) -> Json:
    return {
        "stake": str(view.stake),
        "acc": str(view.acc),
        "earned": str(view.earned),
        "claimed": str(position.claimed),
        "lost": str(view.lost),
        "in": str(position.principal_in),
        "out": str(position.principal_out),
        "counted": "1" if position.counted else "0",
    }


# --- reading a carry --------------------------------------------------------------------------------------------------


_VALIDATOR = (
    "commission_bps", "total_stake", "acc", "remainder", "held", "count", "commission_earned", "commission_claimed",
)  # fmt: skip
_POSITION = ("stake", "acc", "earned", "claimed", "lost", "in", "out", "counted")


def read_carry(text: str, *, scale: int, where: str) -> Ledger:
    """Raises Unusable for a malformed carry, Difference for one that is not canonical."""
    node = parse_text(text, where)
    found = node.fields("model", "version", "validators", "positions", "unbondings")
    if (found["model"].text(), found["version"].text()) != (MODEL, VERSION):
        found["model"].fail(f"this verifier replays {MODEL} version {VERSION}")
    ledger = Ledger(scale)
    for name, item in found["validators"].entries().items():
        ledger.validators[_identity(name, item)] = _read_validator(item)
    for name, holders in found["positions"].entries().items():
        validator = _identity(name, holders)
        if validator not in ledger.validators:
            holders.fail("its validator is not in the carry")
        for delegator, item in holders.entries().items():
            ledger.positions[validator, _identity(delegator, item)] = _read_position(item)
    for ticket, item in found["unbondings"].entries().items():
        entry = _read_unbonding(item)
        if entry.validator not in ledger.validators:
            item.fail("its validator is not in the carry")
        ledger.unbondings[Node(ticket, f"{item.path} (its key)").decimal(256)] = entry
    if canonical(node.value, where=where).decode() != text:
        raise Difference(where, "the carry is not in canonical form")
    return ledger


def _identity(text: str, item: Node) -> bytes:
    return Node(text, f"{item.path} (its key)").hex(32)


def _amounts(item: Node, names: tuple[str, ...]) -> dict[str, int]:
    return {name: value.decimal(256) for name, value in item.fields(*names).items()}


def _read_validator(item: Node) -> Validator:
    found = _amounts(item, _VALIDATOR)
    total = found.pop("total_stake")
    return Validator(total=total, **found)  # pyright: ignore[reportArgumentType]  # eight names, checked by `fields`


def _read_position(item: Node) -> Position:
    found = _amounts(item, _POSITION)
    if found["counted"] > 1:
        item.get("counted").fail("must be 0 or 1")
    return Position(
        stake=found["stake"],
        acc=found["acc"],
        earned=found["earned"],
        claimed=found["claimed"],
        lost=found["lost"],
        principal_in=found["in"],
        principal_out=found["out"],
        counted=found["counted"] == 1,
    )


def _read_unbonding(item: Node) -> Unbonding:
    found = item.fields("validator", "delegator", "amount", "lost", "release_time")
    return Unbonding(
        validator=found["validator"].hex(32),
        delegator=found["delegator"].hex(32),
        amount=found["amount"].decimal(256),
        release=found["release_time"].decimal(256),
        lost=found["lost"].decimal(256),
    )
