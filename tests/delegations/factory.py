"""Policies, proposals and facts of one account that stakes the chain's own coin. Everything can be replaced."""

from __future__ import annotations

from typing import Any

import msgspec

from agent.delegations import policy, terms
from config import staking
from domain import hashing, intent

CHAIN = 31337
ACCOUNT = bytes.fromhex("11" * 20)
STAKING = bytes.fromhex("22" * 20)
TOKEN = bytes.fromhex("33" * 20)
VALIDATOR = "0x" + "00" * 12 + "44" * 20
STRANGER = "0x" + "00" * 12 + "55" * 20
GWEI = 10**9
COIN = 10**18
NOW = 1_800_000_000
DELEGATE = bytes.fromhex("5c19a95c") + hashing.unhex(VALIDATOR)

ALLOW: dict[str, Any] = {
    "protocol": "devnet",
    "action": "delegate",
    "validators": (VALIDATOR,),
    "max_amount": str(4 * COIN),
}
POLICY: dict[str, Any] = {
    "max_fee_per_gas_wei": str(100 * GWEI),
    "max_tip_wei": str(3 * GWEI),
    "max_amount_per_day": str(10 * COIN),
    "max_gas_wei_per_day": str(COIN),
    "min_balance_wei": str(COIN),
    "max_in_flight": 4,
}


def section(*allow: dict[str, Any], **changes: Any) -> staking.PolicySection:
    entries = [msgspec.convert(entry, staking.AllowSection) for entry in allow]
    return msgspec.convert({**POLICY, "allow": entries, **changes}, staking.PolicySection)


def terms_of(*allow: dict[str, Any], **changes: Any) -> terms.Policy:
    """With one allowed action unless some are given."""
    return policy.build(section(*(allow or (ALLOW,)), **changes), chain_id=CHAIN, account=ACCOUNT, approval_ttl_s=3600)


def wanted(action: str = "delegate", **arguments: str) -> intent.Intent:
    given = arguments or {"validator": VALIDATOR, "amount": str(COIN)}
    return intent.Intent(CHAIN, ACCOUNT, "key-1", "devnet", action, given)


def proposal(asked: intent.Intent | None = None, **changes: Any) -> policy.Proposal:
    """Delegates one coin; `amount` also sets the value, as it does for a native asset."""
    amount = changes.get("amount", COIN)
    value = changes.pop("value_wei", amount or 0)
    data = changes.pop("data", DELEGATE)
    made = policy.Proposal(
        intent=asked or wanted(),
        call_to=STAKING,
        data=data,
        value_wei=value,
        gas=200_000,
        max_fee=20 * GWEI,
        tip=GWEI,
        pin=policy.Pin(STAKING, data, value),
        effects=1,
        amount=amount,
        direction="in",
    )
    return msgspec.structs.replace(made, **changes)


def facts(**changes: Any) -> policy.Facts:
    plain = policy.Facts(
        now_s=NOW,
        chain_id=CHAIN,
        account=ACCOUNT,
        proposer="ann",
        balance_wei=100 * COIN,
        committed_wei=0,
        in_flight=0,
        spent_day=policy.Spent(),
        spent_action=policy.Spent(),
        simulated=policy.Simulation("ok"),
        lease_held=True,
    )
    return msgspec.structs.replace(plain, **changes)
