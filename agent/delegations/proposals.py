"""What a policy judges, by which facts, and what comes out. In: what services read. Out: frozen values without behaviour.

Amounts of stake are in the asset's smallest unit, everything named `…_wei` in wei; accounts have 20 bytes.
"""

from __future__ import annotations

from typing import Literal, get_args

import msgspec

from domain import intent as intents

Kind = Literal["allow", "deny", "ask", "wait"]
"""`wait`: not now. The intent stays where it is and shows the reason."""
Outcome = Literal["pass", "deny", "ask", "wait", "skipped"]
"""`skipped`: nothing to check here, or nothing to check it by."""
Rule = Literal[
    "chain",
    "account",
    "action",
    "contract",
    "validators",
    "targets",
    "recipients",
    "arguments",
    "approve",
    "effects",
    "gas",
    "value",
    "amount",
    "simulation",
    "amount_per_day",
    "value_per_day",
    "gas_per_day",
    "balance",
    "approval",
    "latches",
    "pause",
    "lease",
    "in_flight",
    "fees",
]
RULES: tuple[Rule, ...] = get_args(Rule)
"""In their order: the first that is not passed decides. What never changes comes first, then what costs money, then a person's word, then
what is only a matter of time."""
Direction = Literal["in", "out", "move", "none"]
"""Where stake goes: `out` and `none` bring nothing to anybody else."""


class Approve(msgspec.Struct, frozen=True):
    """Marks a step that only grants an allowance: exactly `amount` of `token` to `spender`, so that `action` can follow."""

    action: str
    token: bytes
    spender: bytes
    amount: int


class Pin(msgspec.Struct, frozen=True):
    """What the planner of the intent's protocol gives for its action and arguments: the only call that is meant."""

    to: bytes
    data: bytes
    value_wei: int

    @property
    def selector(self) -> bytes:
        return self.data[:4]


class Asset(msgspec.Struct, frozen=True):
    """What amounts of stake are of. `only`: no protocol of this agent has another one, so sums over all of them are in its unit too."""

    decimals: int
    name: str
    only: bool = True


class Proposal(msgspec.Struct, frozen=True):
    """The transaction that would be frozen. `effects` counts the logs that would prove it; `amount` is its normalised stake amount, None where
    it names none; `asset` None leaves figures of stake in the smallest unit."""

    intent: intents.Intent
    call_to: bytes
    data: bytes
    value_wei: int
    gas: int
    max_fee: int
    tip: int
    pin: Pin
    effects: int
    amount: int | None
    direction: Direction
    approve: Approve | None = None
    asset: Asset | None = None

    @property
    def selector(self) -> bytes:
        return self.data[:4]

    @property
    def action(self) -> str:
        """The action whose entry of the allow-list counts."""
        return self.intent.action if self.approve is None else self.approve.action

    @property
    def stake(self) -> int:
        """What the rolling caps count. An allowance moves nothing yet: the action after it counts."""
        return 0 if self.approve is not None or self.amount is None else self.amount


class Spent(msgspec.Struct, frozen=True):
    """Sums of unreleased reservations of the last 24 hours."""

    amount: int = 0
    value_wei: int = 0


class Approval(msgspec.Struct, frozen=True):
    """One person's word for one payload."""

    principal: str
    at_s: int
    payload_hash: bytes


class Simulation(msgspec.Struct, frozen=True):
    """`ok`: the call did not revert and every expected effect was among its logs. `unavailable`: the node could not say."""

    outcome: Literal["ok", "failed", "unavailable"]
    why: str = ""


class Facts(msgspec.Struct, frozen=True):
    """What is true in the transaction that would reserve. `spent_action` counts the proposal's (protocol, action) alone; `committed_wei` is the
    sum of `Policy.worst_case` over the account's open intents; `paused` says by which pause; `latches` are all that are set."""

    now_s: int
    chain_id: int
    account: bytes
    proposer: str
    balance_wei: int
    committed_wei: int
    in_flight: int
    spent_day: Spent
    spent_action: Spent
    simulated: Simulation
    gas_paid_wei: int = 0
    """For gas, by what became final in the last 24 hours."""
    gas_open_wei: int = 0
    """The most that what is under way can pay for gas."""
    approvals: tuple[Approval, ...] = ()
    paused: str | None = None
    latches: tuple[str, ...] = ()
    lease_held: bool = False
    lease_why: str = ""


class Finding(msgspec.Struct, frozen=True):
    """One rule, with its figures."""

    rule: Rule
    outcome: Outcome
    detail: str


class Verdict(msgspec.Struct, frozen=True):
    """`rule` is the first that was not passed, or "all"."""

    kind: Kind
    rule: str
    why: str
    findings: tuple[Finding, ...]
