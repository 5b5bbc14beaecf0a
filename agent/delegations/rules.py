"""Every rule of the policy. In: policy, proposal, facts. Out: one finding each, with the figures it compared.

A rule says what it saw even when an earlier one has decided already, so that a person mends everything in one go.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from agent.delegations import identities, proposals, terms
from domain import amounts, hashing, transaction

APPROVE_SELECTOR = bytes.fromhex("095ea7b3")
"""ERC-20 approve(address,uint256)."""
STOPPING = "submit."
"""Latches of the staking belt. Of the earning belt's only `finality` stops it too: a chain that breaks finality proves nothing."""

Finding = proposals.Finding


class Case(msgspec.Struct, frozen=True):
    """What a rule may look at. `allow` is the entry of the allow-list that fits, when there is one."""

    policy: terms.Policy
    proposal: proposals.Proposal
    facts: proposals.Facts
    allow: terms.Allow | None


def find(policy: terms.Policy, proposal: proposals.Proposal, facts: proposals.Facts) -> tuple[Finding, ...]:
    """All findings, in the order of `proposals.RULES`."""
    allow = policy.allow.get((proposal.intent.protocol, proposal.action))
    case = Case(policy, proposal, facts, allow)
    return tuple([Finding(rule, *RULES[rule](case)) for rule in proposals.RULES])


Found = tuple[proposals.Outcome, str]


def _chain(case: Case) -> Found:
    wanted, intent, node = case.policy.chain_id, case.proposal.intent.chain_id, case.facts.chain_id
    if wanted == intent == node:
        return "pass", f"chain {wanted}"
    return "deny", f"the intent is for chain {intent}, the node serves {node}, the policy is for {wanted}"


def _account(case: Case) -> Found:
    wanted, intent, signer = case.policy.account, case.proposal.intent.account, case.facts.account
    if wanted == intent == signer:
        return "pass", hashing.hex0x(wanted)
    return "deny", (
        f"the intent is for {hashing.hex0x(intent)}, the signer is {hashing.hex0x(signer)}, the policy is for "
        f"{hashing.hex0x(wanted)}"
    )


def _action(case: Case) -> Found:
    name = f"{case.proposal.intent.protocol} {case.proposal.action}"
    if case.allow is None:
        return "deny", f"{name} is in no [[policy.allow]]"
    return "pass", name


def _contract(case: Case) -> Found:
    proposal, pin = case.proposal, case.proposal.pin
    if proposal.call_to != pin.to:
        return "deny", f"calls {hashing.hex0x(proposal.call_to)} where the manifest gives {hashing.hex0x(pin.to)}"
    if proposal.selector != pin.selector:
        return "deny", (
            f"selector {hashing.hex0x(proposal.selector)} where the manifest gives {hashing.hex0x(pin.selector)}"
        )
    if proposal.data != pin.data:
        return "deny", "the calldata is not what the manifest gives for these arguments"
    if proposal.value_wei != pin.value_wei:
        sent, given = amounts.coins(proposal.value_wei), amounts.coins(pin.value_wei)
        return "deny", f"sends {sent} where the manifest gives {given}"
    return "pass", f"{hashing.hex0x(pin.to)} selector {hashing.hex0x(pin.selector)}"


def _validators(case: Case) -> Found:
    return _listed(case, "validator", "validators")


def _targets(case: Case) -> Found:
    return _listed(case, "target", "targets")


def _listed(case: Case, argument: str, key: str) -> Found:
    name = case.proposal.intent.arguments.get(argument)
    if name is None:
        return "skipped", f"names no {argument}"
    if case.allow is None:
        return "skipped", "no [[policy.allow]] to check it by"
    names: terms.Names = getattr(case.allow, key)
    if names.admits(name):
        return "pass", f"{argument} {identities.shown(name)}" + (" (any is allowed)" if names.anyone else "")
    return (
        "deny",
        f"{argument} {identities.shown(name)} is not among the {len(names.listed)} {key} of its [[policy.allow]]",
    )


def _recipients(case: Case) -> Found:
    name = case.proposal.intent.arguments.get("recipient")
    if name is None:
        return "skipped", "names no recipient"
    own = terms.Names(listed=frozenset([hashing.hex0x(hashing.address_word(case.policy.account))]))
    if own.admits(name):
        return "pass", "the account itself"
    if case.allow is None:
        return "skipped", "no [[policy.allow]] to check it by"
    if case.allow.recipients.admits(name):
        return "pass", f"recipient {name}"
    return "deny", f"recipient {name} is neither the account itself nor among the recipients of its [[policy.allow]]"


def _arguments(case: Case) -> Found:
    others = {name: text for name, text in case.proposal.intent.arguments.items() if name not in terms.BUILT_IN}
    if not others:
        return "skipped", "no further arguments"
    if case.allow is None:
        return "skipped", "no [[policy.allow]] to check them by"
    for name, text in sorted(others.items()):
        names = case.allow.arguments.get(name)
        if names is None:
            return "deny", f"argument {name} is not named by its [[policy.allow]]"
        if not names.admits(text):
            return "deny", f"{name} {text} is not among the {len(names.listed)} allowed"
    return "pass", ", ".join(sorted(others))


def _approve(case: Case) -> Found:
    proposal, approve = case.proposal, case.proposal.approve
    if approve is None:
        if proposal.selector == APPROVE_SELECTOR:
            return "deny", "grants an allowance without being the step of an action that needs it"
        return "skipped", "no allowance is granted"
    exact = APPROVE_SELECTOR + hashing.address_word(approve.spender) + hashing.word(approve.amount)
    if proposal.call_to != approve.token:
        return (
            "deny",
            f"is sent to {hashing.hex0x(proposal.call_to)}, the token is {hashing.hex0x(approve.token)}",
        )
    if proposal.data != exact or proposal.value_wei:
        return "deny", f"is not an allowance of exactly {approve.amount} to {hashing.hex0x(approve.spender)}"
    return "pass", f"exactly {approve.amount} to {hashing.hex0x(approve.spender)} for {approve.action}"


def _effects(case: Case) -> Found:
    if case.proposal.effects < 1:
        return "deny", "no event would prove that it worked"
    return "pass", f"{case.proposal.effects} expected"


def _gas(case: Case) -> Found:
    most = min(case.policy.max_gas, transaction.MAX_GAS)
    if 0 < case.proposal.gas <= most:
        return "pass", f"{case.proposal.gas} of at most {most}"
    return "deny", f"{case.proposal.gas} gas, at most {most}"


def _value(case: Case) -> Found:
    """What is sent besides the stake itself: a fee that the protocol takes."""
    value, stake = case.proposal.value_wei, case.proposal.stake
    most = 0 if case.allow is None or case.allow.max_value is None else case.allow.max_value
    if value in (0, stake):
        return "pass", amounts.coins(value) + (", the stake itself" if value else "")
    if value <= most:
        return "pass", f"{amounts.coins(value)} of at most {amounts.coins(most)}"
    return (
        "deny",
        f"sends {amounts.coins(value)}, which is not its amount of stake; max_value_wei allows {amounts.coins(most)}",
    )


def _amount(case: Case) -> Found:
    proposal, allow = case.proposal, case.allow
    amount = proposal.amount if proposal.approve is None else proposal.approve.amount
    if amount is None:
        return _unnamed(case)
    if amount < 0:
        return "deny", f"the amount {amount} is below zero"
    shown = _stake(case, amount)
    if allow is None or allow.max_amount is None:
        return "pass", f"{shown}, no cap for one transaction"
    if amount > allow.max_amount:
        return "deny", f"{shown} is above the {_stake(case, allow.max_amount)} of max_amount"
    return "pass", f"{shown} of at most {_stake(case, allow.max_amount)}"


def _stake(case: Case, amount: int) -> str:
    """In whole units where the asset is known. An allowance may be of another token."""
    asset = None if case.proposal.approve is not None else case.proposal.asset
    return str(amount) if asset is None else _of(asset, amount)


def _of(asset: proposals.Asset, amount: int) -> str:
    digits = amounts.decimal(amount, asset.decimals)
    return f"{digits} {amounts.unit(digits, asset.name)}"


def _unnamed(case: Case) -> Found:
    """Stake that goes out comes home; stake that goes in or elsewhere has to be counted."""
    if case.proposal.direction in ("out", "none"):
        return "skipped", "names no amount and moves stake to nobody"
    return "deny", "moves stake without naming how much, so no cap can hold it"


def _simulation(case: Case) -> Found:
    found = case.facts.simulated
    match found.outcome:
        case "ok":
            return "pass", found.why or "succeeds with its effects"
        case "failed":
            return "deny", f"the call fails: {found.why}"
        case "unavailable":
            return "wait", f"cannot be simulated now: {found.why}"


def _amount_per_day(case: Case) -> Found:
    stake, spent = case.proposal.stake, case.facts.spent_day.amount
    alone, own = case.facts.spent_action.amount, None if case.allow is None else case.allow.max_amount_per_day
    most, asset = case.policy.max_amount_per_day, case.proposal.asset
    if spent + stake > most:
        return "deny", _beyond(*_day(asset, spent, stake, most), key="max_amount_per_day")
    if own is not None and alone + stake > own:
        shown = [_stake(case, figure) for figure in (alone, stake, own)]
        of = f"{case.proposal.intent.protocol} {case.proposal.action}"
        return "deny", f"{_beyond(*shown, key='max_amount_per_day')} of {of}"
    return "pass", "{} + {} of {} in 24 hours".format(*_day(asset, spent, stake, most))


def _day(asset: proposals.Asset | None, *figures: int) -> list[str]:
    """Sums over all protocols have a unit only where they all have one asset."""
    if asset is None or not asset.only:
        return [str(figure) for figure in figures]
    return [_of(asset, figure) for figure in figures]


def _value_per_day(case: Case) -> Found:
    value, spent, most = case.proposal.value_wei, case.facts.spent_day.value_wei, case.policy.max_value_per_day
    if most is None:
        return "skipped", "no cap"
    shown = [amounts.coins(figure) for figure in (spent, value, most)]
    if spent + value > most:
        return "deny", _beyond(*shown, key="max_value_wei_per_day")
    return "pass", "{} + {} of {} in 24 hours".format(*shown)


def _gas_per_day(case: Case) -> Found:
    """What is under way is only a worst case and comes back, so it is waited for."""
    paid, open_, most = case.facts.gas_paid_wei, case.facts.gas_open_wei, case.policy.max_gas_wei_per_day
    least = case.policy.least_share(gas=case.proposal.gas, max_fee=case.proposal.max_fee)
    shown = [amounts.gwei(figure) for figure in (paid, open_, least, most)]
    if paid + least > most:
        return "deny", _beyond(shown[0], shown[2], shown[3], key="max_gas_wei_per_day")
    if paid + open_ + least > most:
        return "wait", (
            "{} paid in the last 24 hours, {} under way and {} more are above the {} of max_gas_wei_per_day".format(
                *shown
            )
        )
    return "pass", "{} paid + {} under way + {} of {} in 24 hours".format(*shown)


def _beyond(spent: str, more: str, most: str, *, key: str) -> str:
    return f"{spent} in the last 24 hours and {more} more are above the {most} of {key}"


def _balance(case: Case) -> Found:
    """What is committed to others is only a worst case and comes back, so it is waited for."""
    facts, least = case.facts, case.policy.min_balance
    worst = case.policy.worst_case(gas=case.proposal.gas, value_wei=case.proposal.value_wei)
    left = facts.balance_wei - worst
    shown = f"{amounts.coins(facts.balance_wei)} − {amounts.coins(worst)} at worst"
    below = f"below the {amounts.coins(least)} of min_balance_wei"
    if left < least:
        return "deny", f"{shown} leaves {amounts.coins(left)}, {below}"
    shown += f" − {amounts.coins(facts.committed_wei)} committed leaves {amounts.coins(left - facts.committed_wei)}"
    return ("wait", f"{shown}, {below}") if left - facts.committed_wei < least else ("pass", shown)


def _approval(case: Case) -> Found:
    above, needed = case.policy.approval_above, case.policy.approvals
    amount = case.proposal.amount if case.proposal.approve is None else case.proposal.approve.amount
    if above is None or not needed:
        return "skipped", "no threshold"
    if amount is None and case.proposal.direction in ("out", "none"):
        return "skipped", "moves stake to nobody"
    if amount is not None and amount <= above:
        return "pass", f"{_stake(case, amount)} is not above the {_stake(case, above)} of approval_above"
    given = sorted({found.principal for found in case.facts.approvals if _counts(case, found)})
    have = f"{len(given)} of {needed} approvals" + (f" ({', '.join(given)})" if given else "")
    if len(given) >= needed:
        return "pass", have
    shown = "an unnamed amount" if amount is None else _stake(case, amount)
    return "ask", f"{shown} is above the {_stake(case, above)} of approval_above: {have}"


def _counts(case: Case, found: proposals.Approval) -> bool:
    """Of this very payload, not by the proposer, not grown old."""
    return (
        found.payload_hash == case.proposal.intent.payload_hash
        and found.principal != case.facts.proposer
        and case.facts.now_s < found.at_s + case.policy.approval_ttl_s
    )


def _latches(case: Case) -> Found:
    stopping = [name for name in sorted(case.facts.latches) if name.startswith(STOPPING) or name == "finality"]
    if stopping:
        return "wait", f"latched: {', '.join(stopping)}"
    return "pass", "none"


def _pause(case: Case) -> Found:
    if case.facts.paused is None:
        return "pass", "not paused"
    return "wait", case.facts.paused


def _lease(case: Case) -> Found:
    if case.facts.lease_held:
        return "pass", "held"
    return "wait", f"the account's lease is not held: {case.facts.lease_why}"


def _in_flight(case: Case) -> Found:
    most = case.policy.max_in_flight
    if case.facts.in_flight >= most:
        return "wait", f"{case.facts.in_flight} in flight, at most {most}"
    return "pass", f"{case.facts.in_flight} of at most {most}"


def _fees(case: Case) -> Found:
    proposal, caps = case.proposal, case.policy.caps
    fee, tip = amounts.gwei(proposal.max_fee), amounts.gwei(proposal.tip)
    if proposal.max_fee > caps.max_fee:
        return "wait", f"{fee} per gas are above the {amounts.gwei(caps.max_fee)} of max_fee_per_gas_wei"
    if not 0 <= proposal.tip <= min(caps.max_tip, proposal.max_fee):
        most = amounts.gwei(min(caps.max_tip, proposal.max_fee))
        return "wait", f"the tip {tip} is above the {most} that max_tip_wei and the fee allow"
    return "pass", f"{fee} of at most {amounts.gwei(caps.max_fee)}, tip {tip} of at most {amounts.gwei(caps.max_tip)}"


RULES: Mapping[proposals.Rule, Callable[[Case], Found]] = {
    "chain": _chain,
    "account": _account,
    "action": _action,
    "contract": _contract,
    "validators": _validators,
    "targets": _targets,
    "recipients": _recipients,
    "arguments": _arguments,
    "approve": _approve,
    "effects": _effects,
    "gas": _gas,
    "value": _value,
    "amount": _amount,
    "simulation": _simulation,
    "amount_per_day": _amount_per_day,
    "value_per_day": _value_per_day,
    "gas_per_day": _gas_per_day,
    "balance": _balance,
    "approval": _approval,
    "latches": _latches,
    "pause": _pause,
    "lease": _lease,
    "in_flight": _in_flight,
    "fees": _fees,
}
