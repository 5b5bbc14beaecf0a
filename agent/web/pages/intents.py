"""Intents: their list, one of them with everything that became of it, and the forms that propose new ones."""

from __future__ import annotations

from agent.web import items
from agent.web.pages import rows
from agent.web.pages.markup import (
    NONE,
    ago,
    amount,
    both,
    card,
    coins,
    facts,
    field,
    folded,
    form,
    gwei,
    has,
    live,
    long,
    page,
    prose,
    reason,
    section,
    short,
    table,
    tag,
    text,
    when,
    whole,
)
from domain import intent as intent_

STEPS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("Proposed", ("new",)),
    ("Approved", ("planned", "awaiting_approval")),
    ("Signed", ("reserved", "signed")),
    ("Sent", ("pending",)),
    ("In a block", ("included",)),
    ("Final", ()),
)
"""The way of an intent that goes well, and the states in which a step is what it waits for next or has just done."""


def intents(of: items.IntentsPage) -> str:
    """`GET /intents`."""
    options = "".join(
        f'<option value="{name}"{" selected" if name == of.state else ""}>{rows.words(name)}</option>'
        for name in intent_.STATES
    )
    choose = (
        '<form method="get" action="/intents"><label>State<select name="state"><option value="">all</option>'
        f"{options}</select></label><button>Show</button></form>"
    )
    found = table("Intents", rows.INTENTS, rows.intents(of.intents, of.page.assets))
    state = "" if of.state is None else f"state={whole(of.state)}&amp;"
    more = "" if of.next is None else f'<p><a href="/intents?{state}before={whole(of.next)}">Older ones</a></p>'
    listed = live("intents", f"{found or '<p>There is none.</p>'}{more}")
    return page(of.page, title="Intents", body=f"<h1>Intents</h1>{choose}{listed}")


# --- one intent ---


def intent(of: items.IntentPage) -> str:
    """`GET /intents/{id}`."""
    detail, shown, now_s = of.detail, of.detail.intent, of.page.now_s
    asset = of.page.assets.get(shown.protocol)
    parts = (
        ("verdict", _verdict(shown, now_s) + _steps(shown, detail)),
        ("asked", _asked(detail, asset, now_s)),
        ("acts", _acts(shown, of.page.session)),
        ("proof", _proof(detail, asset)),
        ("attempts", _attempts(detail)),
        ("inclusions", section("In blocks", _INCLUSION, map(_inclusion, detail.inclusions), "")),
        ("decisions", _decisions(detail)),
        ("history", section("History", _TRANSITION, map(_transition, detail.transitions), "")),
        ("commands", section("Commands", rows.COMMANDS, rows.commands(detail.commands, of.page.assets), "")),
    )
    title = f"{text(shown.action)} on {text(shown.protocol)}"
    body = f"<h1>{title}</h1>" + "".join(live(id_, part) for id_, part in parts)
    return page(of.page, title=f"{shown.action} {shown.id[:10]}", body=body)


def _verdict(shown: items.Intent, now_s: int) -> str:
    colour = rows.STATES.get(shown.state, "")
    said = f"<div>{prose(shown.why)}</div>" if shown.why else ""
    changed = f'<div class="soft small">since {when(shown.changed_at_s)} UTC, {ago(shown.changed_at_s, now_s)}</div>'
    return f'<div class="verdict {colour}"><strong>{text(rows.words(shown.state).capitalize())}</strong>{said}{changed}</div>'


def _steps(shown: items.Intent, detail: items.IntentDetail) -> str:
    """How far it came; nothing for what ended before it was signed."""
    if shown.final and not detail.attempts:
        return ""
    if shown.final:
        at = len(STEPS) - 1
    else:
        state = "reserved" if shown.state == "needs_operator" else shown.state
        at = next(number for number, (_, states) in enumerate(STEPS) if state in states)
    bad = " bad" if rows.STATES.get(shown.state) == "bad" else ""
    found = "".join(
        f"<li{' class=done' if number <= at else ''}{' aria-current=step' if number == at else ''}>{_step(shown, name)}</li>"
        for number, (name, _) in enumerate(STEPS)
    )
    return f'<ol class="steps{bad}" aria-label="How far it came">{found}</ol>'


def _step(shown: items.Intent, name: str) -> str:
    """In the words of what is going on."""
    now = {
        "awaiting_approval": ("Approved", "Waits for approval"),
        "planned": ("Approved", "Being decided"),
        "reserved": ("Signed", "To be signed"),
        "needs_operator": ("Signed", "Needs an operator"),
        "superseded": ("Final", "Superseded"),
        "cancelled": ("Final", "Cancelled"),
    }.get(shown.state)
    if now is not None and now[0] == name:
        return now[1]
    return "Decided" if name == "Approved" and not shown.approvals else name


def _asked(detail: items.IntentDetail, asset: items.Asset | None, now_s: int) -> str:
    shown = detail.intent
    arguments = [
        (name, both(value, asset) if name in rows.NUMBERS else long(value))
        for name, value in sorted(shown.arguments.items(), key=lambda item: item[0] not in rows.NUMBERS)
    ]
    held = detail.reservation
    held_ = NONE if held is None or held.released_at_s is not None else amount(held.amount, asset)
    ends = () if shown.final else (("expires", f"{when(shown.expires_at_s)} UTC, {ago(shown.expires_at_s, now_s)}"),)
    what = facts((("action", text(shown.action)), *arguments, ("from account", long(shown.account))), long_=True)
    who = facts(
        (
            ("proposed by", text(shown.proposer)),
            ("at", f"{when(shown.proposed_at_s)} UTC, {ago(shown.proposed_at_s, now_s)}"),
            ("because", text(shown.reason)),
            ("approved by", text(", ".join(shown.approvals)) or NONE),
            *ends,
            ("nonce", NONE if detail.nonce is None else f"{detail.nonce:,}"),
            ("holds of the budget", held_),
            ("key", f"<code>{text(shown.key)}</code>"),
            ("payload", long(shown.payload_hash)),
        ),
        long_=True,
    )
    return f'<h2>What is wanted</h2><div class="cards stretch">{card("What", what)}{card("Who and why", who)}</div>'


def _acts(shown: items.Intent, session: items.Session | None) -> str:
    target = f"/v1/intents/{whole(shown.id)}"
    parts: list[str] = []
    if "approve" in shown.may:
        hidden = {"payloadHash": shown.payload_hash}
        approve = form(f"{target}/approve", reason("Why it may go"), button="Approve", kind="act", hidden=hidden)
        parts.append(
            card("Approve", '<p class="soft small">Exactly what is shown above, and nothing else.</p>', approve)
        )
    if "reject" in shown.may:
        parts.append(card("Reject", form(f"{target}/reject", reason("Why it may not"), button="Reject", kind="stop")))
    if "cancel" in shown.may:
        end = form(f"{target}/cancel", reason("Why it is taken back"), button="Cancel", kind="stop")
        parts.append(card("Cancel", _cancels(shown), end))
    if "settle" in shown.may:
        parts.append(card("Settle", SETTLES, _settle(target)))
    why = _cannot(shown, session)
    if not parts:
        return why
    return f'<h2>Decide</h2>{why}<div class="cards">{"".join(parts)}</div>'


SETTLES = (
    '<p class="soft small">Say what became of it, when you know it from elsewhere. It ends so once its nonce is used in a final block, '
    "and never against the agent's own index.</p>"
)
OUTCOMES_MEAN = {
    "final_reverted": "its transaction is in a block, and failed there: nothing moved but the fee",
    "final_no_effect": "its transaction is in a block and succeeded, and did not do what was wanted",
    "cancelled": "the transaction that does nothing was mined in its place; only where a cancel was signed",
    "superseded": "a transaction that is not the agent's has its nonce",
}


def _settle(target: str) -> str:
    outcomes = "".join(f'<option value="{name}">{rows.words(name)}</option>' for name in intent_.OUTCOMES)
    choose = f'<label>It is<select name="outcome" required><option value="">choose</option>{outcomes}</select></label>'
    lines = "".join(f"<li><strong>{rows.words(name)}</strong>: {means}</li>" for name, means in OUTCOMES_MEAN.items())
    told = f'<ul class="soft small">{lines}</ul>'
    return told + form(f"{target}/settle", choose, reason("How you know"), button="Settle")


def _cancels(shown: items.Intent) -> str:
    if shown.state in intent_.UNSENT:
        return '<p class="soft small">Nothing was signed: it ends at once.</p>'
    return '<p class="soft small">Its nonce is taken: a transaction that does nothing is sent in its place, if it is not too late.</p>'


def _cannot(shown: items.Intent, session: items.Session | None) -> str:
    """Why an approver is not offered to approve what waits for it."""
    if shown.state != "awaiting_approval" or session is None or not has(session, "approver") or "approve" in shown.may:
        return ""
    given = session.name in shown.approvals
    return f'<p class="soft">{"You approved it already." if given else "You proposed it: somebody else has to approve it."}</p>'


def _proof(detail: items.IntentDetail, asset: items.Asset | None) -> str:
    event = detail.event
    if event is None:
        return ""
    value = () if event.amount is None else (("amount", both(event.amount, asset)),)
    shown = facts(
        (
            ("event", f"<strong>{text(event.kind)}</strong>"),
            *value,
            ("transaction", long(event.tx_hash)),
            ("block", f"{event.number:,}, log {event.log_index:,}, {when(event.time)} UTC"),
            ("block hash", long(event.block_hash)),
            ("proven by", text(event.proof)),
        ),
        long_=True,
    )
    return f'<h2>Proof</h2><p class="soft">The event on the chain that shows that it worked.</p>{shown}'


def _attempts(detail: items.IntentDetail) -> str:
    if not detail.attempts:
        return ""
    mined = {one.number: one for one in detail.inclusions if one.orphaned_at_s is None}
    cards = "".join(_attempt(item, mined.get(item.number)) for item in detail.attempts)
    return f'<h2>Transactions</h2><p class="soft">All have one nonce: at most one of them is ever mined.</p><div class="cards">{cards}</div>'


def _attempt(item: items.Attempt, mined: items.Inclusion | None) -> str:
    times = "once" if item.sends == 1 else f"{item.sends:,} times"
    sent = f"{times}, last {when(item.last_sent_s)} UTC" if item.sends else '<span class="soft">not yet</span>'
    shown = facts(
        (
            ("nonce", f"{item.nonce:,}"),
            ("fee per gas", f"at most {gwei(item.max_fee_wei)}, tip {gwei(item.tip_wei)}"),
            ("gas", f"at most {item.gas:,}"),
            ("value", coins(item.value_wei)),
            ("to", long(item.to)),
            ("hash", '<span class="soft">not signed yet</span>' if item.hash is None else long(item.hash)),
            ("sent", sent),
            *((("the node said", text(item.hint)),) if item.hint else ()),
        ),
        long_=True,
    )
    mark = "" if mined is None else tag("final", "good") if mined.final_at_s is not None else tag("in a block", "calm")
    return card(f"{item.number:,} · {text(item.kind)}", shown, mark=mark)


_INCLUSION = ("transaction", "block", "outcome", "fee", "seen (UTC)", "final (UTC)", "left the chain (UTC)")


def _inclusion(item: items.Inclusion) -> tuple[str, ...]:
    if item.orphaned_at_s is not None:
        outcome = '<span class="warn">left the chain</span>'
    elif not item.status:
        outcome = '<span class="bad">reverted</span>'
    else:
        outcome = "with its event" if item.effect_log_index is not None else "succeeded"
    block = f"{item.block_number:,} {short(item.block_hash)}"
    times = (when(item.seen_at_s), when(item.final_at_s), when(item.orphaned_at_s))
    return f"{item.number:,}", block, outcome, gwei(item.fee_wei), *times


VERDICTS = {"allow": ("allowed", "good"), "ask": ("asks for approval", "warn"), "deny": ("refused", "bad")}
OUTCOMES = {"pass": "good", "deny": "bad", "ask": "warn", "wait": "warn"}


def _decisions(detail: items.IntentDetail) -> str:
    parts: list[str] = []
    for number, item in enumerate(detail.decisions):
        name, colour = VERDICTS.get(item.verdict, (item.verdict, ""))
        found = [
            (
                text(one.rule),
                f'<span class="{OUTCOMES.get(one.outcome, "soft")}">{text(one.outcome)}</span>',
                prose(one.detail),
            )
            for one in item.findings
        ]
        title = f"{tag(name, colour)} {prose(item.why)}"
        rule = "" if item.rule == "all" else f"by rule {text(item.rule)}, "
        told = (
            f'<p class="soft small">{rule}{when(item.at_s)} UTC, looking at block {item.block_number:,} {short(item.block_hash)}; '
            f"policy {short(item.policy_hash)}, payload {long(item.payload_hash)}</p>"
        )
        shown = table(f"Rules, decision {number + 1}", ("rule", "outcome", "detail"), found)
        parts.append(folded(f"decision-{number}", title, told, shown, box=True))
    return f"<h2>Decisions of the policy</h2>{''.join(parts)}" if parts else ""


_TRANSITION = ("at (UTC)", "from", "to", "why")


def _transition(item: items.Transition) -> tuple[str, ...]:
    return when(item.at_s), text(rows.words(item.from_state)), rows.state(item.to_state), prose(item.why)


# --- proposing ---


def propose(of: items.ProposePage) -> str:
    """`GET /propose`."""
    if not of.actions:
        body = '<h1>Propose</h1><p class="soft">This agent only observes: it has no key to delegate with.</p>'
        return page(of.page, title="Propose", body=body)
    lead = (
        f"<h1>Propose</h1><p>From the account {long(of.account)}.</p>"
        '<p class="soft">The policy decides what becomes of it: it goes on, waits for somebody else to approve it, or is refused with the reason.</p>'
    )
    if not has(of.page.session, "proposer"):
        lead += '<p class="warn">This needs the role proposer.</p>'
    return page(of.page, title="Propose", body=lead + "".join(_action(of, item) for item in of.actions), at="/propose")


GOES = {"in": "adds stake", "out": "takes stake out", "move": "moves stake", "none": "moves no stake"}


def _action(of: items.ProposePage, action: items.Action) -> str:
    given = of.filled
    mine = given.get("protocol") == action.protocol and given.get("action") == action.name
    asset = of.page.assets.get(action.protocol)
    inputs = [
        _argument(item, given.get(f"arguments.{item.name}", "") if mine else "", asset) for item in action.arguments
    ]
    hidden = {"protocol": action.protocol, "action": action.name, "key": of.key}
    why = field(
        "Why",
        "reason",
        value=given.get("reason", "") if mine else "",
        class_="grow",
        more=' required maxlength="500" autocomplete="off"',
    )
    sent = form("/v1/intents", *inputs, why, button=f"Propose to {action.name}", kind="act", hidden=hidden, column=True)
    summary = f'<strong>{text(action.name)}</strong> <span class="soft">on {text(action.protocol)}, {GOES.get(action.direction, "")}</span>'
    opened = mine or len(of.actions) == 1
    return folded(f"action-{action.protocol}-{action.name}", summary, sent, opened=opened, box=True)


def _argument(item: items.Field, value: str, asset: items.Asset | None) -> str:
    more = ' required autocomplete="off" spellcheck="false"'
    if item.name in rows.NUMBERS:
        shown = "" if asset is None else f' data-decimals="{asset.decimals}" data-unit="{whole(asset.name)}"'
        label = f"{item.name} in {asset.smallest if asset else 'the smallest unit'}, digits only"
        return field(
            label, f"arguments.{item.name}", value=value, class_="grow", more=f'{more} inputmode="numeric"{shown}'
        )
    return field(f"{item.name} ({item.type})", f"arguments.{item.name}", value=value, class_="grow code", more=more)
