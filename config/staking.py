"""The tables of the staking belt: [delegator], [submit], [policy]. In: TOML. Out: frozen values that go together, or BadConfig.

Amounts are decimal digits as text, in wei or the asset's smallest unit: TOML's integers end at 64 bits.
"""

from __future__ import annotations

import difflib
from typing import Annotated, Literal

import msgspec

from config import sections
from domain import errors, lease
from kit import logs

Duration = Annotated[int, msgspec.Meta(ge=1, le=31_536_000)]
Ttl = Annotated[int, msgspec.Meta(ge=lease.MIN_TTL_S, le=lease.MAX_TTL_S)]
Name = Annotated[str, msgspec.Meta(pattern=r"\A[A-Za-z][A-Za-z0-9_-]{0,63}\Z")]
Names = tuple[Annotated[str, msgspec.Meta(min_length=1, max_length=200)], ...]


class SubmitSection(sections.Section, frozen=True):
    """Exactly one of `lease` and `exclusive` says why nobody else signs for the account. Times in seconds."""

    lease: Literal["hub", "postgresql"] | None = None
    lease_store: sections.Text | None = None
    exclusive: bool = False
    lease_ttl_s: Ttl = 30
    poll_s: sections.Seconds = 2.0
    resend_after_s: Duration = 30
    bump_after_s: Duration = 90
    intent_ttl_s: Duration = 86_400
    approval_ttl_s: Duration = 86_400


class AllowSection(sections.Section, frozen=True):
    """One action that is allowed, and with what."""

    protocol: sections.Text
    action: Name
    validators: Names = ()
    targets: Names = ()
    recipients: Names = ()
    arguments: dict[str, Names] = msgspec.field(default_factory=dict[str, Names])
    max_amount: sections.Amount | None = None
    max_amount_per_day: sections.Amount | None = None
    max_value_wei: sections.Amount | None = None


class PolicySection(sections.Section, frozen=True):
    """What the agent may do with the account at most. What has no default must be said: no limit is assumed."""

    max_fee_per_gas_wei: sections.Amount
    max_tip_wei: sections.Amount
    max_amount_per_day: sections.Amount
    max_gas_wei_per_day: sections.Amount
    max_value_wei_per_day: sections.Amount | None = None
    max_gas: Annotated[int, msgspec.Meta(ge=21_000, le=1 << 24)] = 1_000_000
    min_balance_wei: sections.Amount = "0"
    max_in_flight: sections.Count = 16
    approval_above: sections.Amount | None = None
    approvals: Annotated[int, msgspec.Meta(ge=1, le=100)] = 1
    allow: tuple[AllowSection, ...] = ()


def check(
    *,
    delegator: dict[str, object] | None,
    submit: SubmitSection | None,
    policy: PolicySection | None,
    hub: bool,
    store: str,
    protocols: tuple[str, ...],
) -> None:
    """Raises BadConfig unless the three tables are there together or not at all, with one way to be the only one who signs."""
    have = {"delegator": delegator is not None, "submit": submit is not None, "policy": policy is not None}
    if not any(have.values()):
        return
    for name, there in have.items():
        if not there:
            others = " and ".join([f"[{other}]" for other in have if have[other]])
            raise errors.BadConfig(
                f"{others} without [{name}]", cure=f"add [{name}], or remove {others}: the agent only observes then"
            )
    assert submit is not None and policy is not None
    _one_writer(submit, hub=hub, store=store)
    for entry in policy.allow:
        if entry.protocol not in protocols:
            raise errors.BadConfig(
                "policy.allow names a protocol that is not configured",
                value=entry.protocol,
                cure=_near(entry.protocol, protocols),
            )


def _near(name: str, protocols: tuple[str, ...]) -> str:
    close = difflib.get_close_matches(name, protocols, n=1)
    meant = f"did you mean {close[0]}? " if close else ""
    return f"{meant}use a name of [[protocols]]: {', '.join(protocols)}"


def _one_writer(submit: SubmitSection, *, hub: bool, store: str) -> None:
    if submit.exclusive == (submit.lease is not None):
        raise errors.BadConfig(
            "[submit] needs one way to be the only one who signs"
            if not submit.exclusive
            else "submit.lease and submit.exclusive exclude each other",
            cure='lease = "hub" (leases from the hub), lease = "postgresql" (from a shared database), or exclusive = true '
            "(this agent is the only one with the key, and halts on the first foreign nonce)",
        )
    if submit.lease == "hub" and not hub:
        raise errors.BadConfig('submit.lease = "hub" without [hub]', cure="add [hub] with its url")
    if submit.lease == "postgresql":
        _shared(submit.lease_store, store)
    if submit.lease_store is not None and submit.lease != "postgresql":
        raise errors.BadConfig(
            'submit.lease_store is for lease = "postgresql" only', cure="remove it, or change submit.lease"
        )


def _shared(address: str | None, store: str) -> None:
    """A book is one agent's own, so leases kept in it would keep nobody out."""
    if address is None or not address.startswith("postgresql") or address == store:
        raise errors.BadConfig(
            'submit.lease = "postgresql" needs a database that all agents of the account share',
            value=None if address is None else logs.safe_url(address),
            cure='name it: lease_store = "postgresql://…"; it is not the book of one of them',
        )
