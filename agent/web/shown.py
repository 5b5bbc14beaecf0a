"""Rows of the staking belt and of its people, as they are shown. In: read models of the book. Out: `agent.web.items`."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import msgspec

from agent.web import items, people, reads, view
from domain import hashing, intent
from kit import logs
from store import commands, principals, queries

FINALITY, STAKING = "finality", "submit."
"""The latch that stops both belts, since nothing is reserved on a chain that contradicts what was final; and the beginning of those that
stop the staking belt alone."""


def intents_row(row: queries.IntentRow, approvals: Iterable[str], who: people.Who | None) -> items.Intent:
    return items.Intent(
        id=hashing.hex0x(row.id),
        key=row.key,
        chain_id=row.chain_id,
        account=hashing.hex0x(row.account),
        protocol=row.protocol,
        action=row.action,
        arguments=row.arguments,
        payload_hash=hashing.hex0x(row.payload_hash),
        proposer=row.proposer,
        reason=row.reason,
        proposed_at_s=row.proposed_at_s,
        expires_at_s=row.expires_at_s,
        state=row.state,
        final=row.state in intent.FINAL,
        why=logs.scrub(row.why),
        changed_at_s=row.changed_at_s,
        next_s=row.next_s,
        approvals=list(approvals),
        may=may(row, approvals, who),
    )


def may(row: queries.IntentRow, approvals: Iterable[str], who: people.Who | None) -> list[str]:
    """What this person could do about it now; the book decides in the end."""
    if who is None or row.state in intent.FINAL:
        return []
    found: list[str] = []
    if "approver" in who.roles and row.state in intent.UNSENT:
        own = who.name.casefold() == row.proposer.casefold()
        found += [] if own or who.name in approvals else ["approve"]
        found += ["reject"]
    if "operator" in who.roles or ("proposer" in who.roles and who.name == row.proposer):
        found += ["cancel"]
    if "operator" in who.roles and row.state == "needs_operator":
        found += ["settle"]
    return found


def detail(found: queries.IntentDetail, approvals: Collection[str], who: people.Who | None) -> items.IntentDetail:
    proof = next((one.effect_log_index for one in found.inclusions if one.orphaned_at_s is None), None)
    proven = next((row for row in found.events if row.log_index == proof and not row.orphaned), None)
    held = found.reservation
    return items.IntentDetail(
        intent=intents_row(found.intent, approvals, who),
        nonce=None if found.slot is None else found.slot.nonce,
        reservation=None
        if held is None
        else items.Reservation(
            str(held.amount),
            str(held.value_wei),
            str(held.max_fee_wei),
            held.at_s,
            held.released_at_s,
            held.why_released,
        ),
        attempts=[_attempt(row) for row in found.attempts],
        decisions=[
            items.Decision(
                row.at_s,
                row.verdict,
                row.rule,
                logs.scrub(row.why),
                hashing.hex0x(row.policy_hash),
                hashing.hex0x(row.payload_hash),
                row.block_number,
                hashing.hex0x(row.block_hash),
                findings(row.findings),
            )
            for row in found.decisions
        ],
        transitions=[
            items.Transition(row.number, row.from_state, row.to_state, logs.scrub(row.why), row.at_s)
            for row in found.transitions
        ],
        inclusions=[
            items.Inclusion(
                row.number,
                hashing.hex0x(row.tx_hash),
                row.block_number,
                hashing.hex0x(row.block_hash),
                row.tx_index,
                row.status,
                row.gas_used,
                str(row.gas_price_wei),
                str(row.gas_used * row.gas_price_wei),
                row.effect_log_index,
                row.seen_at_s,
                row.orphaned_at_s,
                row.final_at_s,
            )
            for row in found.inclusions
        ],
        commands=[command(row) for row in found.commands],
        event=None if proven is None else reads.event(proven),
    )


def _attempt(row: queries.AttemptRow) -> items.Attempt:
    return items.Attempt(
        number=row.number,
        kind=row.kind,
        nonce=row.nonce,
        tip_wei=str(row.tip),
        max_fee_wei=str(row.max_fee),
        gas=row.gas,
        to=hashing.hex0x(row.to),
        value_wei=str(row.value_wei),
        selector=hashing.hex0x(row.data[:4]),
        data_bytes=len(row.data),
        at_s=row.frozen_at_s,
        hash=None if row.hash is None else hashing.hex0x(row.hash),
        signed_at_s=row.signed_at_s,
        sends=row.sends,
        last_sent_s=row.last_sent_s,
        hint=logs.scrub(row.hint),
    )


def findings(text: str) -> list[items.Finding]:
    """As the policy wrote them: objects with rule, outcome and detail."""
    rows: list[dict[str, object]] = msgspec.json.decode(text, type=list[dict[str, object]])
    return [
        items.Finding(*(logs.scrub(_plain(row.get(name)) or "") for name in ("rule", "outcome", "detail")))
        for row in rows
    ]


def command(row: commands.Command) -> items.Command:
    before = msgspec.json.decode(row.before, type=dict[str, object])
    after = msgspec.json.decode(row.after, type=dict[str, object])
    return items.Command(
        id=row.id,
        at_s=row.at_s,
        principal=row.principal,
        kind=row.kind,
        subject=row.subject,
        reason=row.reason,
        changes=[
            items.Change(name, _plain(before.get(name)), _plain(after.get(name)))
            for name in sorted(before.keys() | after.keys())
        ],
        payload_hash=None if row.payload_hash is None else hashing.hex0x(row.payload_hash),
    )


def _plain(value: object) -> str | None:
    """A value of a diff as text; None: it is not there."""
    if value is None or isinstance(value, str):
        return value
    return msgspec.json.encode(value).decode()


def principal(row: principals.Principal) -> items.Principal:
    return items.Principal(row.id, row.name, sorted(row.roles), row.since_s, row.until_s)


def latch(name: str, *, reason: str, set_at_s: int) -> items.Latch:
    return items.Latch(name, logs.scrub(reason), set_at_s, stops(name))


def stops(latch_name: str) -> str:
    """Which belt a latch stops."""
    if latch_name == FINALITY:
        return "both"
    return "staking" if latch_name.startswith(STAKING) else "earning"


def pause(belt: queries.Belt) -> items.Pause | None:
    found = belt.paused
    return None if found is None else items.Pause(found.principal, found.reason, found.at_s, belt.paused_until_s)


def left(live: view.Live, belt: queries.Belt) -> list[str]:
    """Accounts with open intents whose key this agent does not have."""
    account = None if live.staking is None else live.staking.account
    state = "nobody follows them" if account is None else "they are followed and sent again, not bumped or cancelled"
    return [
        f"{count} open intents of {hashing.hex0x(address)}, whose key is not configured: {state}"
        for address, count in sorted(belt.holding.items())
        if address != account
    ]


def belts(live: view.Live, summary: queries.Summary, belt: queries.Belt) -> list[view.Belt]:
    """What runs, and what keeps it from running."""
    set_ = [(stops(item.name), f"latch {item.name}: {logs.scrub(item.reason)}") for item in summary.latches]
    earning = [reason for which, reason in set_ if which != "staking"]
    found = [view.Belt("earning", "stopped" if earning else "running", earning)]
    if live.staking is None:
        return [*found, view.Belt("staking", "off", ["this agent only observes", *left(live, belt)])]
    reasons = [reason for which, reason in set_ if which != "earning"]
    state = "stopped" if reasons else "running"
    reasons += left(live, belt)
    if belt.paused is not None:
        ends = commands.ends(belt.paused_until_s)
        reasons.append(f"paused by {belt.paused.principal}{ends}: {belt.paused.reason}")
        state = "paused" if state == "running" else state
    if live.staking.lease.token is None:
        reasons.append(f"no lease: {live.staking.lease.reason}")
        state = "waiting" if state == "running" else state
    return [*found, view.Belt("staking", state, reasons, belt.states)]
