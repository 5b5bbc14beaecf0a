"""What a policy says. In: the [policy] table. Out: one frozen value with one canonical body and one hash.

Two files that mean the same have one hash: lists are sets, order is nothing, an identity has one spelling, an omitted key is its default.
Nothing is allowed that is not listed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import msgspec

from agent.delegations import identities
from domain import errors, hashing, transaction

ANY = "*"
DAY_S = 86_400
"""Rolling caps look back this far."""
BUILT_IN = frozenset({"validator", "target", "recipient", "amount", "shares", "ticket"})
"""Arguments with a rule of their own; all others go by `arguments`."""


class AllowSection(Protocol):
    """`[[policy.allow]]` as the settings have it: amounts in decimal digits."""

    @property
    def protocol(self) -> str: ...
    @property
    def action(self) -> str: ...
    @property
    def validators(self) -> Sequence[str]: ...
    @property
    def targets(self) -> Sequence[str]: ...
    @property
    def recipients(self) -> Sequence[str]: ...
    @property
    def arguments(self) -> Mapping[str, Sequence[str]]: ...
    @property
    def max_amount(self) -> str | None: ...
    @property
    def max_amount_per_day(self) -> str | None: ...
    @property
    def max_value_wei(self) -> str | None: ...


class Section(Protocol):
    """`[policy]` as the settings have it: amounts in decimal digits."""

    @property
    def max_fee_per_gas_wei(self) -> str: ...
    @property
    def max_tip_wei(self) -> str: ...
    @property
    def max_gas(self) -> int: ...
    @property
    def min_balance_wei(self) -> str: ...
    @property
    def max_in_flight(self) -> int: ...
    @property
    def max_amount_per_day(self) -> str: ...
    @property
    def max_value_wei_per_day(self) -> str | None: ...
    @property
    def max_gas_wei_per_day(self) -> str: ...
    @property
    def approval_above(self) -> str | None: ...
    @property
    def approvals(self) -> int: ...
    @property
    def allow(self) -> Sequence[AllowSection]: ...


class Names(msgspec.Struct, frozen=True):
    """A set of identities, or everyone."""

    anyone: bool = False
    listed: frozenset[str] = frozenset()

    def admits(self, name: str) -> bool:
        return self.anyone or identities.plain(name) in self.listed

    def body(self) -> object:
        return ANY if self.anyone else sorted(self.listed)


class Allow(msgspec.Struct, frozen=True):
    """One allowed action. Caps in the asset's smallest unit, `max_value` in wei; None: no cap of its own."""

    protocol: str
    action: str
    validators: Names
    targets: Names
    recipients: Names
    arguments: Mapping[str, Names]
    max_amount: int | None
    max_amount_per_day: int | None
    max_value: int | None

    def body(self) -> dict[str, object]:
        return {
            "action": self.action,
            "arguments": {name: names.body() for name, names in self.arguments.items()},
            "maxAmount": _shown(self.max_amount),
            "maxAmountPerDay": _shown(self.max_amount_per_day),
            "maxValueWei": _shown(self.max_value),
            "protocol": self.protocol,
            "recipients": self.recipients.body(),
            "targets": self.targets.body(),
            "validators": self.validators.body(),
        }


class Caps(msgspec.Struct, frozen=True):
    """The most that is ever offered, in wei per unit of gas."""

    max_fee: int
    max_tip: int


class Policy(msgspec.Struct, frozen=True):
    """Money in wei, stake in the asset's smallest unit."""

    chain_id: int
    account: bytes
    caps: Caps
    max_gas: int
    min_balance: int
    max_in_flight: int
    max_amount_per_day: int
    max_value_per_day: int | None
    max_gas_wei_per_day: int
    approval_above: int | None
    approvals: int
    approval_ttl_s: int
    allow: Mapping[tuple[str, str], Allow]

    def body(self) -> dict[str, object]:
        """Plain values with one canonical JSON."""
        return {
            "account": hashing.hex0x(self.account),
            "allow": [self.allow[key].body() for key in sorted(self.allow)],
            "approvalAbove": _shown(self.approval_above),
            "approvalTtlSeconds": str(self.approval_ttl_s),
            "approvals": self.approvals,
            "chainId": str(self.chain_id),
            "maxAmountPerDay": str(self.max_amount_per_day),
            "maxFeePerGasWei": str(self.caps.max_fee),
            "maxGas": str(self.max_gas),
            "maxGasWeiPerDay": str(self.max_gas_wei_per_day),
            "maxInFlight": self.max_in_flight,
            "maxTipWei": str(self.caps.max_tip),
            "maxValueWeiPerDay": _shown(self.max_value_per_day),
            "minBalanceWei": str(self.min_balance),
        }

    def text(self) -> str:
        """The canonical JSON that the book keeps under `hash()`."""
        return hashing.canonical_json(self.body()).decode()

    def hash(self) -> bytes:
        """32 bytes; every decision names the policy it was made under."""
        return hashing.keccak256(self.text().encode())

    def worst_case(self, *, gas: int, value_wei: int) -> int:
        """The most that a transaction can take from the account, in wei, were it bumped up to the fee cap."""
        return value_wei + gas * self.caps.max_fee

    def least_share(self, *, gas: int, max_fee: int) -> int:
        """What a transaction needs of the day's gas, in wei: its own offer, and a cancel at the fee cap, which is to be possible always."""
        return max(gas * max_fee, transaction.PLAIN_GAS * self.caps.max_fee)

    def share(self, *, gas: int, max_fee: int, left: int) -> int:
        """What it gets of the `left` wei: all that bumps up to the fee cap can come to, or what there is."""
        return max(self.least_share(gas=gas, max_fee=max_fee), min(gas * self.caps.max_fee, left))


def build(section: Section, *, chain_id: int, account: bytes, approval_ttl_s: int) -> Policy:
    """Raises BadConfig naming the key, its value and the cure."""
    allow: dict[tuple[str, str], Allow] = {}
    for entry in section.allow:
        key = (entry.protocol, entry.action)
        if key in allow:
            raise errors.BadConfig(
                "policy.allow lists an action twice",
                value=" ".join(key),
                cure="put all its validators into one [[policy.allow]]",
            )
        allow[key] = _allow(entry)
    if not 0 < section.max_gas <= transaction.MAX_GAS:
        raise errors.BadConfig(
            "policy.max_gas is beyond what a transaction may ask for",
            value=section.max_gas,
            cure=f"1 to {transaction.MAX_GAS} (EIP-7825)",
        )
    caps = Caps(
        max_fee=_amount(section.max_fee_per_gas_wei, "max_fee_per_gas_wei"),
        max_tip=_amount(section.max_tip_wei, "max_tip_wei"),
    )
    if not 0 < caps.max_tip <= caps.max_fee:
        raise errors.BadConfig(
            "policy.max_tip_wei is zero or above policy.max_fee_per_gas_wei",
            value=section.max_tip_wei,
            cure="the tip is a part of the fee",
        )
    return Policy(
        chain_id=chain_id,
        account=account,
        caps=caps,
        max_gas=section.max_gas,
        min_balance=_amount(section.min_balance_wei, "min_balance_wei"),
        max_in_flight=section.max_in_flight,
        max_amount_per_day=_amount(section.max_amount_per_day, "max_amount_per_day"),
        max_value_per_day=_optional(section.max_value_wei_per_day, "max_value_wei_per_day"),
        max_gas_wei_per_day=_amount(section.max_gas_wei_per_day, "max_gas_wei_per_day"),
        approval_above=_optional(section.approval_above, "approval_above"),
        # Without a threshold nobody is asked: how many would have been asked means nothing then.
        approvals=section.approvals if section.approval_above is not None else 0,
        approval_ttl_s=approval_ttl_s if section.approval_above is not None else 0,
        allow=allow,
    )


def _allow(entry: AllowSection) -> Allow:
    where = f"policy.allow {entry.protocol} {entry.action}"
    for name in entry.arguments:
        if name in BUILT_IN:
            raise errors.BadConfig(
                f"{where}: arguments may not name {name}", cure=f"{name} has a key of its own, or needs none"
            )
    return Allow(
        protocol=entry.protocol,
        action=entry.action,
        validators=_names(entry.validators, f"{where}: validators"),
        targets=_names(entry.targets, f"{where}: targets"),
        recipients=_names(entry.recipients, f"{where}: recipients"),
        arguments={
            name: _names(listed, f"{where}: {name}", free=True) for name, listed in sorted(entry.arguments.items())
        },
        max_amount=_optional(entry.max_amount, "allow.max_amount"),
        max_amount_per_day=_optional(entry.max_amount_per_day, "allow.max_amount_per_day"),
        max_value=_optional(entry.max_value_wei, "allow.max_value_wei"),
    )


def _names(listed: Iterable[str], what: str, *, free: bool = False) -> Names:
    """`free`: an argument of any type, so what is no identity stands for itself."""
    names = list(listed)
    if ANY in names:
        if len(names) > 1:
            raise errors.BadConfig(f"{what} lists * and more", value=names, cure='write ["*"] alone, or the list alone')
        return Names(anyone=True)
    return Names(listed=frozenset([identities.read(name, what=what, free=free) for name in names]))


def _amount(text: str, key: str) -> int:
    if not text.isascii() or not text.isdecimal() or len(text) > 78:
        raise errors.BadConfig(f"policy.{key} is no amount", value=text, cure='decimal digits as text: "5000"')
    return int(text)


def _optional(text: str | None, key: str) -> int | None:
    return None if text is None else _amount(text, key)


def _shown(amount: int | None) -> str | None:
    return None if amount is None else str(amount)
