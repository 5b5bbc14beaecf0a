"""Normalised staking events: what a protocol's logs mean. In: decoded fields. Out: frozen values and their row form.

Identities of validators and delegators are 32-byte ABI words (an address is left-padded), so that a protocol which numbers its
validators and one which names them by address look alike. Amounts are unsigned integers in the asset's smallest unit.
"""

from __future__ import annotations

from typing import ClassVar, assert_never

import msgspec

from domain import chain, errors


class At(msgspec.Struct, frozen=True, order=True):
    """Where an event happened. `time` is the block's timestamp in seconds."""

    block: chain.BlockRef
    log_index: int
    time: int
    tx_hash: bytes


class Delegated(msgspec.Struct, frozen=True, tag=True):
    """Principal went in. `amount` is what was added; `shares` what was minted for it, where the protocol has shares."""

    kind: ClassVar[str] = "Delegated"
    at: At
    validator: bytes
    delegator: bytes
    amount: int
    shares: int | None = None


class Undelegated(msgspec.Struct, frozen=True, tag=True):
    """Principal left the stake and waits under `ticket` until `release_time` (seconds), still open to slashing."""

    kind: ClassVar[str] = "Undelegated"
    at: At
    validator: bytes
    delegator: bytes
    amount: int
    ticket: int | None = None
    release_time: int | None = None
    shares: int | None = None


class Withdrawn(msgspec.Struct, frozen=True, tag=True):
    """Unbonded principal was paid out; `amount` is what arrived, after slashing."""

    kind: ClassVar[str] = "Withdrawn"
    at: At
    validator: bytes
    delegator: bytes
    amount: int
    ticket: int | None = None


class RewardAccrued(msgspec.Struct, frozen=True, tag=True):
    """A validator's pool earned `amount` gross, of which `commission` went to the operator. `index` is the pool's
    reward per share afterwards, as the contract reports it: a cross-check, never an input."""

    kind: ClassVar[str] = "RewardAccrued"
    at: At
    validator: bytes
    amount: int
    commission: int | None = None
    index: int | None = None


class RewardClaimed(msgspec.Struct, frozen=True, tag=True):
    """Earned reward was paid to `delegator`; with `role` "operator" it was commission."""

    kind: ClassVar[str] = "RewardClaimed"
    at: At
    validator: bytes
    delegator: bytes
    amount: int
    role: str = "delegator"


class Slashed(msgspec.Struct, frozen=True, tag=True):
    """A validator lost `fraction_bps` of its stake; `amount` is the loss of the active pool as the contract reports it."""

    kind: ClassVar[str] = "Slashed"
    at: At
    validator: bytes
    amount: int
    fraction_bps: int | None = None


class Moved(msgspec.Struct, frozen=True, tag=True):
    """`amount` of stake went from `validator` to `target` without unbonding."""

    kind: ClassVar[str] = "Moved"
    at: At
    validator: bytes
    target: bytes
    delegator: bytes
    amount: int


class CommissionChanged(msgspec.Struct, frozen=True, tag=True):
    """The operator's share is `rate_bps` from here on. `note` is the validator's own text: hostile until rendered."""

    kind: ClassVar[str] = "CommissionChanged"
    at: At
    validator: bytes
    rate_bps: int
    note: str = ""


class RateChanged(msgspec.Struct, frozen=True, tag=True):
    """Shares are worth `numerator`/`denominator` of the asset from here on (zero validator: the whole protocol)."""

    kind: ClassVar[str] = "RateChanged"
    at: At
    validator: bytes
    numerator: int
    denominator: int


StakingEvent = (
    Delegated
    | Undelegated
    | Withdrawn
    | RewardAccrued
    | RewardClaimed
    | Slashed
    | Moved
    | CommissionChanged
    | RateChanged
)

TYPES: dict[str, type[StakingEvent]] = {
    t.kind: t
    for t in (
        Delegated,
        Undelegated,
        Withdrawn,
        RewardAccrued,
        RewardClaimed,
        Slashed,
        Moved,
        CommissionChanged,
        RateChanged,
    )
}

_COLUMNS = {"at", "validator", "delegator", "amount"}


class Row(msgspec.Struct, frozen=True):
    """An event as columns: what queries filter and sum stands alone, the rest is `detail` (JSON, integers as strings)."""

    kind: str
    validator: bytes
    delegator: bytes | None
    amount: int | None
    detail: str


def to_row(event: StakingEvent) -> Row:
    match event:
        case Delegated() | Undelegated() | Withdrawn() | RewardClaimed() | Moved():
            delegator, amount = event.delegator, event.amount
        case RewardAccrued() | Slashed():
            delegator, amount = None, event.amount
        case CommissionChanged() | RateChanged():
            delegator, amount = None, None
        case _:
            assert_never(event)
    detail: dict[str, str] = {}
    for name in event.__struct_fields__:
        value = getattr(event, name)
        if name in _COLUMNS or value is None:
            continue
        detail[name] = "0x" + value.hex() if isinstance(value, bytes) else str(value)
    return Row(event.kind, event.validator, delegator, amount, msgspec.json.encode(detail).decode())


def from_row(row: Row, at: At) -> StakingEvent:
    """The event that `to_row` took apart. Raises BadAnswer when the row is not of our making."""
    try:
        type_ = TYPES[row.kind]
        fields: dict[str, object] = {"at": at, "validator": row.validator}
        if row.delegator is not None:
            fields["delegator"] = row.delegator
        if row.amount is not None:
            fields["amount"] = row.amount
        for name, text in msgspec.json.decode(row.detail, type=dict[str, str]).items():
            if name in ("role", "note"):
                fields[name] = text
            elif name == "target":
                fields[name] = bytes.fromhex(text[2:])
            else:
                fields[name] = int(text)
        return type_(**fields)  # pyright: ignore[reportArgumentType]
    except (KeyError, ValueError, TypeError, msgspec.MsgspecError) as error:
        raise errors.StoreError(
            "an event row cannot be read back", value=row.kind, cure="run `stakeside agent check` and restore the book"
        ) from error
