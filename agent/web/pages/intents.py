"""Intents: their list, one of them with everything that became of it, and the forms that propose new ones."""

from __future__ import annotations

from agent.web import items
from agent.web.pages.markup import (
    COMMAND_COLUMNS,
    INTENT_COLUMNS,
    NONE,
    amount,
    command_row,
    facts,
    field,
    form,
    has,
    intent_row,
    page,
    reason,
    section,
    short,
    state,
    text,
    when,
)
from domain import intent as intent_

NUMBERS = ("amount", "shares")


def intents(of: items.IntentsPage) -> str:
    """`GET /intents`."""
    options = "".join(
        f'<option value="{name}"{" selected" if name == of.state else ""}>{name.replace("_", " ")}</option>'
        for name in intent_.STATES
    )
    choose = (
        '<form method="get" action="/intents"><label>State<select name="state"><option value="">all</option>'
        f"{options}</select></label><button>Show</button></form>"
    )
    rows = section("Newest first", INTENT_COLUMNS, map(intent_row, of.intents), "there is none")
    state_ = "" if of.state is None else f"state={text(of.state)}&amp;"
    more = "" if of.next is None else f'<p><a href="/intents?{state_}before={text(of.next)}">Older ones</a></p>'
    return page(of.page, title="Intents", body=f"<h1>Intents</h1>{choose}{rows}{more}")


def intent(of: items.IntentPage) -> str:
    """`GET /intents/{id}`."""
    detail, shown = of.detail, of.detail.intent
    body = "".join(
        (
            f"<h1>{text(shown.action)} on {text(shown.protocol)}</h1>",
            f'<div class="verdict">{state(shown.state)}{f": {text(shown.why)}" if shown.why else ""}</div>',
            _asked(detail),
            _acts(shown),
            _proof(detail),
            section("Attempts", _ATTEMPT, map(_attempt, detail.attempts), "no transaction was made yet"),
            section("In blocks", _INCLUSION, map(_inclusion, detail.inclusions), ""),
            _decisions(detail),
            section("History", _TRANSITION, map(_transition, detail.transitions), ""),
            section("Commands", COMMAND_COLUMNS, map(command_row, detail.commands), ""),
        )
    )
    return page(of.page, title=f"{shown.action} {shown.id[:10]}", body=body)


def _asked(detail: items.IntentDetail) -> str:
    shown = detail.intent
    arguments = [
        (name, amount(value) if name in NUMBERS else f"<code>{text(value)}</code>")
        for name, value in shown.arguments.items()
    ]
    held = detail.reservation
    return facts(
        (
            *arguments,
            ("account", f"<code>{text(shown.account)}</code>"),
            ("nonce", NONE if detail.nonce is None else str(detail.nonce)),
            ("proposed by", f"{text(shown.proposer)}, {when(shown.proposed_at_s)} UTC"),
            ("because", text(shown.reason)),
            ("expires (UTC)", when(shown.expires_at_s)),
            ("approved by", text(", ".join(shown.approvals)) or NONE),
            ("holds of the budget", NONE if held is None or held.released_at_s is not None else amount(held.amount)),
            ("key", f"<code>{text(shown.key)}</code>"),
            ("payload", short(shown.payload_hash)),
        )
    )


def _acts(shown: items.Intent) -> str:
    target = f"/v1/intents/{shown.id}"
    parts: list[str] = []
    if "approve" in shown.may:
        hidden = {"payloadHash": shown.payload_hash}
        parts.append(form(f"{target}/approve", reason("Why it may go"), button="Approve", kind="act", hidden=hidden))
    if "reject" in shown.may:
        parts.append(form(f"{target}/reject", reason("Why it may not"), button="Reject", kind="stop"))
    if "cancel" in shown.may:
        parts.append(form(f"{target}/cancel", reason("Why it is taken back"), button="Cancel", kind="stop"))
    return f"<h2>Decide</h2>{''.join(parts)}" if parts else ""


def _proof(detail: items.IntentDetail) -> str:
    event = detail.event
    if event is None:
        return ""
    value = "" if event.amount is None else f" of {amount(event.amount)}"
    return (
        f"<h2>Proof</h2><p>The chain logged <strong>{text(event.kind)}</strong>{value} in block {event.number:,} {short(event.block_hash)}, "
        f"log {event.log_index}, transaction {short(event.tx_hash)}, proven by {text(event.proof)}.</p>"
    )


_ATTEMPT = ("no.", "kind", "nonce", "max fee", "tip", "gas", "hash", "sent", "what the node said")


def _attempt(item: items.Attempt) -> tuple[str, ...]:
    sent = f"{item.sends} times, last {when(item.last_sent_s)}" if item.sends else "not yet"
    fees = (amount(item.max_fee_wei), amount(item.tip_wei), f"{item.gas:,}")
    return str(item.number), text(item.kind), str(item.nonce), *fees, short(item.hash), sent, text(item.hint)


_INCLUSION = ("attempt", "block", "outcome", "fee in wei", "seen (UTC)", "final (UTC)", "orphaned (UTC)")


def _inclusion(item: items.Inclusion) -> tuple[str, ...]:
    effect = " with its effect" if item.effect_log_index is not None else ""
    outcome = f"succeeded{effect}" if item.status else '<span class="bad">reverted</span>'
    block = f"{item.block_number:,} {short(item.block_hash)}"
    times = (when(item.seen_at_s), when(item.final_at_s), when(item.orphaned_at_s))
    return str(item.number), block, outcome, amount(item.fee_wei), *times


def _decisions(detail: items.IntentDetail) -> str:
    parts: list[str] = []
    for item in detail.decisions:
        rows = ((text(found.rule), text(found.outcome), text(found.detail)) for found in item.findings)
        title = f"{item.verdict} by {item.rule}, {when(item.at_s)} UTC at block {item.block_number:,}"
        table = section(title, ("rule", "outcome", "detail"), rows, "no rule was asked")
        parts.append(
            f"<details><summary>{text(title)}: {text(item.why)}</summary>{table}"
            f'<p class="soft">policy {short(item.policy_hash)}, payload {short(item.payload_hash)}</p></details>'
        )
    return f"<h2>Decisions</h2>{''.join(parts)}" if parts else ""


_TRANSITION = ("no.", "from", "to", "why", "at (UTC)")


def _transition(item: items.Transition) -> tuple[str, ...]:
    return str(item.number), state(item.from_state), state(item.to_state), text(item.why), when(item.at_s)


def propose(of: items.ProposePage) -> str:
    """`GET /propose`."""
    if not of.actions:
        body = '<h1>Propose</h1><p class="soft">This agent only observes: it has no key to delegate with.</p>'
        return page(of.page, title="Propose", body=body)
    lead = f"<h1>Propose</h1><p>For the account <code>{text(of.account)}</code>. Amounts are in the smallest unit, digits only.</p>"
    if not has(of.page.session, "proposer"):
        lead += '<p class="warn">This needs the role proposer.</p>'
    return page(of.page, title="Propose", body=lead + "".join(_action(of, item) for item in of.actions))


def _action(of: items.ProposePage, action: items.Action) -> str:
    given = of.filled
    mine = given.get("protocol") == action.protocol and given.get("action") == action.name
    inputs = [
        field(
            f"{item.name} ({item.type})",
            f"arguments.{item.name}",
            value=given.get(f"arguments.{item.name}", "") if mine else "",
            class_="number" if item.name in NUMBERS else "grow",
            more=' required autocomplete="off" spellcheck="false"'
            + (' inputmode="numeric"' if item.name in NUMBERS else ""),
        )
        for item in action.arguments
    ]
    hidden = {"protocol": action.protocol, "action": action.name, "key": of.key}
    sent = form("/v1/intents", *inputs, reason(), button=f"Propose to {action.name}", kind="act", hidden=hidden)
    opened = " open" if mine or len(of.actions) == 1 else ""
    return f"<details{opened}><summary>{text(action.name)} on {text(action.protocol)}</summary>{sent}</details>"
