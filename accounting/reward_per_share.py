"""Integer replay of a staking pool that accrues reward per unit of stake. In: events, in order. Out: what everybody earned.

The rule, as the contract has it (`docs/accounting.md`):

* a reward R with commission c raises the pool's index: n = (R − c + held)·SCALE + remainder; acc += n // total; remainder = n % total.
  A pool without stake holds its reward for the next distribution.
* a position is settled when it is touched and at every slash: earned += stake·(acc_pool − acc_position) // SCALE.
* a slash of b basis points takes ⌈stake·b/10⁴⌉ of every position, the same of every unbonding that is not yet released, and
  ⌊total·b/10⁴⌋ of the pool, so the pool never holds less than its parts.
* a pool whose last counted position empties is swept: what rounding left in `total` is nobody's.

The contract walks its slashes lazily, one position at a time; here every slash reaches every position at once. Both divide at the
same points, so both give the same integers; `tests/accounting` and the ground truth of the devnet hold them together.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import assert_never

import msgspec

from domain import errors, events, hashing, statement

NAME = "reward-per-share"
VERSION = "1"
BASIS = 10_000


class Pool(msgspec.Struct):
    """One validator. All amounts in the asset's smallest unit; `acc` and `remainder` scaled by SCALE."""

    commission_bps: int = 0
    total_stake: int = 0
    acc: int = 0
    remainder: int = 0
    held: int = 0
    count: int = 0
    commission_earned: int = 0
    commission_claimed: int = 0


class Position(msgspec.Struct):
    """One delegator's stake with one validator. `earned`, `claimed`, `lost`, `put_in`, `taken_out` only grow."""

    stake: int = 0
    acc: int = 0
    earned: int = 0
    claimed: int = 0
    lost: int = 0
    put_in: int = 0
    taken_out: int = 0
    counted: bool = False


class Unbonding(msgspec.Struct):
    """Principal on its way out, still open to slashes before `release_time` (seconds)."""

    validator: bytes
    delegator: bytes
    amount: int
    lost: int
    release_time: int


class Book:
    """The accounting state: mutable inside one fold, read from and written to the canonical carry at its edges."""

    def __init__(self, *, scale: int) -> None:
        self.scale = scale
        self.pools: dict[bytes, Pool] = {}
        self.positions: dict[bytes, dict[bytes, Position]] = {}
        self.unbondings: dict[int, Unbonding] = {}

    def apply(self, event: events.StakingEvent) -> None:
        """Fold one event in. Raises Parked when the event contradicts the state: the replay and the contract disagree."""
        match event:
            case events.Delegated():
                self._put_in(event, event.validator, event.delegator, event.amount)
            case events.Undelegated():
                self._undelegate(event)
            case events.Withdrawn():
                self._withdraw(event)
            case events.Moved():
                self._take_stake(event, event.validator, event.delegator, event.amount)
                self._position(event.validator, event.delegator).taken_out += event.amount
                self._put_in(event, event.target, event.delegator, event.amount)
            case events.RewardAccrued():
                self._accrue(event)
            case events.RewardClaimed():
                self._claim(event)
            case events.Slashed():
                self._slash(event)
            case events.CommissionChanged():
                if event.rate_bps > BASIS:
                    raise _disagree(event, "a commission above 100 %", expected=BASIS, found=event.rate_bps)
                self._pool(event.validator).commission_bps = event.rate_bps
            case events.RateChanged():
                raise _disagree(
                    event, "an exchange rate in a pool without shares", expected=None, found=event.numerator
                )
            case _:
                assert_never(event)

    def leaves(self, *, protocol: str, asset: bytes) -> tuple[statement.Leaf, ...]:
        """Every non-zero cumulative balance, ascending by (subject, asset, kind)."""
        found: list[statement.Leaf] = []
        pending_losses = self._pending_losses()
        for validator, holders in self.positions.items():
            pool = self.pools[validator]
            for delegator, position in holders.items():
                accrued = position.stake * (pool.acc - position.acc) // self.scale
                lost = position.lost + pending_losses.get((validator, delegator), 0)
                parts = statement.delegation_parts(protocol=protocol, validator=validator, delegator=delegator)
                found += _leaves(
                    parts,
                    asset,
                    (
                        (statement.REWARD, position.earned + accrued, 0),
                        (statement.SLASHED, 0, lost),
                        (statement.CLAIMED, position.claimed, 0),
                        (statement.PRINCIPAL_IN, position.put_in, 0),
                        (statement.PRINCIPAL_OUT, position.taken_out, 0),
                    ),
                )
        for validator, pool in self.pools.items():
            parts = statement.operator_parts(protocol=protocol, validator=validator)
            found += _leaves(
                parts,
                asset,
                (
                    (statement.COMMISSION, pool.commission_earned, 0),
                    (statement.CLAIMED, pool.commission_claimed, 0),
                ),
            )
        return tuple(sorted(found))

    def _pending_losses(self) -> dict[tuple[bytes, bytes], int]:
        losses: dict[tuple[bytes, bytes], int] = {}
        for entry in self.unbondings.values():
            key = (entry.validator, entry.delegator)
            losses[key] = losses.get(key, 0) + entry.lost
        return losses

    def _pool(self, validator: bytes) -> Pool:
        return self.pools.setdefault(validator, Pool())

    def _position(self, validator: bytes, delegator: bytes) -> Position:
        return self.positions.setdefault(validator, {}).setdefault(delegator, Position())

    def _settle(self, validator: bytes, delegator: bytes) -> Position:
        pool, position = self._pool(validator), self._position(validator, delegator)
        position.earned += position.stake * (pool.acc - position.acc) // self.scale
        position.acc = pool.acc
        _sweep(pool, position)
        return position

    def _put_in(self, event: events.StakingEvent, validator: bytes, delegator: bytes, amount: int) -> None:
        if amount == 0:
            raise _disagree(event, "a delegation of nothing", expected=1, found=0)
        position, pool = self._settle(validator, delegator), self._pool(validator)
        position.stake += amount
        position.put_in += amount
        pool.total_stake += amount
        if not position.counted:
            position.counted = True
            pool.count += 1

    def _take_stake(self, event: events.StakingEvent, validator: bytes, delegator: bytes, amount: int) -> None:
        position, pool = self._settle(validator, delegator), self._pool(validator)
        if not 0 < amount <= position.stake:
            raise _disagree(event, "stake leaves that is not there", expected=position.stake, found=amount)
        position.stake -= amount
        pool.total_stake -= amount
        _sweep(pool, position)

    def _undelegate(self, event: events.Undelegated) -> None:
        if event.ticket is None or event.release_time is None:
            raise _disagree(event, "an unbonding without ticket or release time", expected="both", found=event.ticket)
        if event.ticket in self.unbondings:
            raise _disagree(event, "an unbonding ticket that is already open", expected=None, found=event.ticket)
        self._take_stake(event, event.validator, event.delegator, event.amount)
        self.unbondings[event.ticket] = Unbonding(event.validator, event.delegator, event.amount, 0, event.release_time)

    def _withdraw(self, event: events.Withdrawn) -> None:
        entry = self.unbondings.pop(-1 if event.ticket is None else event.ticket, None)
        if entry is None or (entry.validator, entry.delegator) != (event.validator, event.delegator):
            raise _disagree(event, "a withdrawal without its unbonding", expected=None, found=event.ticket)
        if entry.amount != event.amount:
            raise _disagree(event, "a withdrawal of another amount", expected=entry.amount, found=event.amount)
        position = self._position(event.validator, event.delegator)
        position.lost += entry.lost
        position.taken_out += entry.amount

    def _accrue(self, event: events.RewardAccrued) -> None:
        pool = self._pool(event.validator)
        commission = event.amount * pool.commission_bps // BASIS
        if event.commission is not None and event.commission != commission:
            raise _disagree(event, "another commission", expected=commission, found=event.commission)
        pool.commission_earned += commission
        net = event.amount - commission + pool.held
        if pool.total_stake == 0:
            pool.held = net
        else:
            pool.held = 0
            step, pool.remainder = divmod(net * self.scale + pool.remainder, pool.total_stake)
            pool.acc += step
        if event.index is not None and event.index != pool.acc:
            raise _disagree(event, "another reward per share", expected=pool.acc, found=event.index)

    def _claim(self, event: events.RewardClaimed) -> None:
        if event.role == "operator":
            pool = self._pool(event.validator)
            pool.commission_claimed += event.amount
            if pool.commission_claimed > pool.commission_earned:
                raise _disagree(
                    event, "more commission than was earned", expected=pool.commission_earned, found=event.amount
                )
            return
        position = self._settle(event.validator, event.delegator)
        position.claimed += event.amount
        if position.claimed != position.earned:
            raise _disagree(event, "a claim of another amount", expected=position.earned, found=position.claimed)

    def _slash(self, event: events.Slashed) -> None:
        bps = event.fraction_bps
        if bps is None or not 0 < bps <= BASIS:
            raise _disagree(event, "a slash without a fraction", expected="1 to 10000", found=bps)
        pool = self._pool(event.validator)
        loss = pool.total_stake * bps // BASIS
        if loss != event.amount:
            raise _disagree(event, "a slash of another amount", expected=loss, found=event.amount)
        for position in self.positions.get(event.validator, {}).values():
            position.earned += position.stake * (pool.acc - position.acc) // self.scale
            position.acc = pool.acc
            part = _share_up(position.stake, bps)
            position.stake -= part
            position.lost += part
        for entry in self.unbondings.values():
            if entry.validator == event.validator and event.at.time < entry.release_time:
                part = _share_up(entry.amount, bps)
                entry.amount -= part
                entry.lost += part
        pool.total_stake -= loss


def fold(carry: bytes | None, happened: Iterable[events.StakingEvent], *, scale: int) -> Book:
    """The state after `happened`, from the previous frame's carry (None before the first frame)."""
    book = Book(scale=scale) if carry is None else parse_carry(carry, scale=scale)
    for event in happened:
        book.apply(event)
    return book


def _sweep(pool: Pool, position: Position) -> None:
    if position.counted and position.stake == 0:
        position.counted = False
        pool.count -= 1
        if pool.count == 0:
            pool.total_stake = 0


def _share_up(amount: int, bps: int) -> int:
    return -(-amount * bps // BASIS)


def _leaves(parts: tuple[str, ...], asset: bytes, amounts: Iterable[tuple[int, int, int]]) -> list[statement.Leaf]:
    present = [(kind, reward, penalty) for kind, reward, penalty in amounts if reward or penalty]
    if not present:
        return []
    subject = statement.subject_hash(parts)
    return [statement.Leaf(subject, asset, kind, reward, penalty, parts) for kind, reward, penalty in present]


def _disagree(event: events.StakingEvent, what: str, *, expected: object, found: object) -> errors.Parked:
    return errors.Parked(
        f"{event.kind} at block {event.at.block}, log {event.at.log_index}: {what} (the replay has {expected})",
        value=found,
        cure="the rows are incomplete or the contract follows another rule: compare the block with "
        "`stakeside verify --full` and check the manifest",
    )


# --- the carry: canonical JSON, integers as decimal strings, identities as 32-byte 0x-hex ---------------------------------


def write_carry(book: Book) -> bytes:
    return hashing.canonical_json(
        {
            "model": NAME,
            "version": VERSION,
            "validators": {
                hashing.hex0x(validator): {
                    "commission_bps": str(pool.commission_bps),
                    "total_stake": str(pool.total_stake),
                    "acc": str(pool.acc),
                    "remainder": str(pool.remainder),
                    "held": str(pool.held),
                    "count": str(pool.count),
                    "commission_earned": str(pool.commission_earned),
                    "commission_claimed": str(pool.commission_claimed),
                }
                for validator, pool in book.pools.items()
            },
            "positions": {
                hashing.hex0x(validator): {
                    hashing.hex0x(delegator): {
                        "stake": str(position.stake),
                        "acc": str(position.acc),
                        "earned": str(position.earned),
                        "claimed": str(position.claimed),
                        "lost": str(position.lost),
                        "in": str(position.put_in),
                        "out": str(position.taken_out),
                        "counted": "1" if position.counted else "0",
                    }
                    for delegator, position in holders.items()
                }
                for validator, holders in book.positions.items()
            },
            "unbondings": {
                str(ticket): {
                    "validator": hashing.hex0x(entry.validator),
                    "delegator": hashing.hex0x(entry.delegator),
                    "amount": str(entry.amount),
                    "lost": str(entry.lost),
                    "release_time": str(entry.release_time),
                }
                for ticket, entry in book.unbondings.items()
            },
        }
    )


class _Carry(msgspec.Struct, forbid_unknown_fields=True):
    model: str
    version: str
    validators: dict[str, dict[str, str]]
    positions: dict[str, dict[str, dict[str, str]]]
    unbondings: dict[str, dict[str, str]]


def parse_carry(carry: bytes, *, scale: int) -> Book:
    """The state a carry stands for. Raises BadAnswer: a carry may come from a peer, though its hash was checked."""
    try:
        parsed = msgspec.json.decode(carry, type=_Carry)
        if (parsed.model, parsed.version) != (NAME, VERSION):
            raise errors.BadAnswer("the carry is of another accounting model", value=(parsed.model, parsed.version))
        book = Book(scale=scale)
        for text, fields in parsed.validators.items():
            book.pools[_identity(text)] = Pool(**{name: _amount(value) for name, value in fields.items()})
        for text, holders in parsed.positions.items():
            if _identity(text) not in book.pools:
                raise ValueError("a position without its validator")
            book.positions[_identity(text)] = {_identity(d): _position_of(f) for d, f in holders.items()}
        for ticket, fields in parsed.unbondings.items():
            book.unbondings[_amount(ticket)] = Unbonding(
                validator=_identity(fields["validator"]),
                delegator=_identity(fields["delegator"]),
                amount=_amount(fields["amount"]),
                lost=_amount(fields["lost"]),
                release_time=_amount(fields["release_time"]),
            )
    except (msgspec.MsgspecError, KeyError, TypeError, ValueError) as error:
        # TypeError: an unknown field of a pool
        raise errors.BadAnswer(f"the carry is malformed: {error}") from None
    if write_carry(book) != carry:
        raise errors.BadAnswer("the carry is not in canonical form")
    return book


def _position_of(fields: dict[str, str]) -> Position:
    return Position(
        stake=_amount(fields["stake"]),
        acc=_amount(fields["acc"]),
        earned=_amount(fields["earned"]),
        claimed=_amount(fields["claimed"]),
        lost=_amount(fields["lost"]),
        put_in=_amount(fields["in"]),
        taken_out=_amount(fields["out"]),
        counted=fields["counted"] == "1",
    )


def _identity(text: str) -> bytes:
    return hashing.unhex(text, size=32, what="identity in the carry")


def _amount(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise ValueError(f"{errors.clip(text)} is not a decimal integer")
    return int(text)
