"""The overview: whether the agent is ready, what waits for a person, both belts, and the newest of everything."""

from __future__ import annotations

from collections.abc import Iterator

from agent.web import items, view
from agent.web.pages import rows
from agent.web.pages.markup import (
    NONE,
    ago,
    amount,
    card,
    facts,
    folded,
    form,
    has,
    live,
    long,
    page,
    prose,
    reason,
    section,
    segment,
    short,
    tag,
    text,
    when,
    whole,
    word,
)

RESTORED, NONCES = "submit.restored", "submit.nonces"
WAITING = ("needs_operator", "awaiting_approval")
"""States that only a person ends."""
STOPS = {"both": "both belts", "earning": "the earning belt", "staking": "the staking belt"}


def overview(of: items.Overview) -> str:
    """`GET /`. Every part is fresh for itself, so that what somebody reads or fills in stays when another part changes."""
    status = of.page.status
    parts = (
        ("verdict", _verdict(status)),
        ("todo", _todo(of)),
        ("belts", _belts(of)),
        ("intents", section("Intents", rows.INTENTS, rows.intents(of.intents, of.page.assets), _no_intents(status))),
        (
            "streams",
            section("Streams", ("stream", "frame", "ends at", "digest", "next frame"), _streams(status), "no streams"),
        ),
        ("node", _node(status)),
        ("hub", _delivery(status)),
        ("services", _services(status)),
        ("parked", section("Parked", ("protocol", "block", "log", "reason"), _parked(status), "")),
        ("gaps", _gaps(of)),
        (
            "commands",
            section(
                "Newest commands",
                rows.COMMANDS[:-1],
                map(rows.brief, of.commands),
                "nobody changed anything yet",
                dense=True,
            ),
        ),
        (
            "events",
            section(
                "Newest events",
                _EVENT,
                (_event(item, of.page.assets) for item in of.events),
                "no events yet",
                dense=True,
            ),
        ),
    )
    foot = '<p class="soft small">The same for programs: <a href="/status">status</a> and <a href="/metrics">metrics</a>.</p>'
    body = _head(status) + "".join(live(id_, part) for id_, part in parts) + foot
    return page(of.page, title="Overview", body=body)


def _head(status: view.Status) -> str:
    return f'<h1>{text(status.name)}</h1><p class="soft">stakeside agent {text(status.version)} on chain {status.chain_id}</p>'


def _verdict(status: view.Status) -> str:
    if status.ready:
        return '<div class="verdict good"><strong>Ready</strong></div>'
    reasons = "".join(f"<li>{prose(_brief(status, reason))}</li>" for reason in status.reasons)
    return f'<div class="verdict bad"><strong>Not ready</strong><ul>{reasons}</ul></div>'


def _brief(status: view.Status, reason: str) -> str:
    """A latch by its name: what it is about is told below, where it can be cleared."""
    for latch in status.latches:
        if reason.startswith(f"latch {latch.name}: "):
            return f"latch {latch.name} is set"
    return reason


# --- what waits for a person ---


def _todo(of: items.Overview) -> str:
    """What does not go on until a person acts, with the form to act."""
    operator = has(of.page.session, "operator")
    cards = [_latch(item, of.page.now_s, operator=operator) for item in of.latches]
    cards += [_gap(item, operator=operator) for item in of.gaps if item.adopt == "ask"]
    if of.pause is not None:
        cards.append(_paused(of.pause, of.page.now_s, operator=operator))
    waiting = [item for item in of.intents if item.state in WAITING]
    waiting.sort(key=lambda item: ("approve" not in item.may, WAITING.index(item.state)))
    cards += [_intent(item, of.page) for item in waiting]
    if not cards:
        return '<p class="soft">Nothing waits for a person.</p>'
    return f'<h2>Waiting for a person</h2><div class="cards">{"".join(cards)}</div>'


def _latch(item: items.Latch, now_s: int, *, operator: bool) -> str:
    said = f'<p>{prose(item.reason)}</p><p class="soft small">Stops {STOPS.get(item.belt, text(item.belt))} since {_since(item.set_at_s, now_s)}.</p>'
    act = ""
    if operator:
        target = "/v1/restored/accept" if item.name == RESTORED else f"/v1/latches/{segment(item.name)}/clear"
        inner = [reason("Why it may be cleared")]
        act = folded(f"latch-{item.name}", "Clear it…", form(target, *inner, button=f"Clear {item.name}", kind="stop"))
    return card(f"Latch {text(item.name)}", said, act, colour="bad")


def _gap(item: items.Gap, *, operator: bool) -> str:
    act = '<p class="soft small">An operator can have them taken from frames that others signed.</p>'
    if operator:
        adopt = form(
            f"/v1/gaps/{item.id}/adopt", reason("Why they may be taken from others"), button="Adopt", kind="stop"
        )
        act = folded(f"gap-{item.id}", "Take them from what others signed…", adopt)
    return card(
        f"Blocks {item.first:,} to {item.last:,} of {text(item.protocol)} are missing",
        f"<p>{prose(item.reason)}</p>",
        act,
        colour="warn",
    )


def _gaps(of: items.Overview) -> str:
    """Those that nobody has to do anything about any more."""
    how = {
        "auto": "taken from frames that others signed",
        "asked": "taken from frames that others signed, as a person wants it",
    }
    shown = [
        (text(item.protocol), f"{item.first:,} to {item.last:,}", how[item.adopt], prose(item.reason))
        for item in of.gaps
        if item.adopt in how
    ]
    return section("Missing blocks", ("protocol", "blocks", "what is done", "reason"), shown, "")


def _paused(item: items.Pause, now_s: int, *, operator: bool) -> str:
    until = (
        "until somebody resumes it"
        if item.until_s is None
        else f"until {when(item.until_s)} UTC, {ago(item.until_s, now_s)}"
    )
    said = f'<p>{text(item.reason)}</p><p class="soft small">By {text(item.principal)}, since {_since(item.at_s, now_s)}, {until}.</p>'
    resume = form("/v1/resume", reason("Why it may go on"), button="Resume", kind="act") if operator else ""
    return card("Submission is paused", said, resume, colour="warn")


def _intent(item: items.Intent, of: items.Page) -> str:
    decides = "approve" in item.may
    ends = f", expires {ago(item.expires_at_s, of.now_s)}" if item.state == "awaiting_approval" else ""
    validator = word(item.arguments.get("validator"))
    said = (
        f"<p>{prose(item.why)}</p>"
        f'<p class="soft small">By {text(item.proposer)}, {ago(item.proposed_at_s, of.now_s)}{ends}: {text(item.reason)}</p>'
    )
    to = f'<a class="button{" act" if decides else ""}" href="/intents/{whole(item.id)}">{"Review and decide" if decides else "Look at it"}</a>'
    title = rows.wanted(item.action, item.arguments, of.assets.get(item.protocol))
    title += f" for {validator}" if validator else ""
    return card(title, said, to, colour=rows.STATES[item.state], mark=rows.state(item.state))


def _since(at_s: int, now_s: int) -> str:
    return f"{when(at_s)} UTC, {ago(at_s, now_s)}"


# --- the belts ---

COLOURS = {"running": "good", "stopped": "bad", "paused": "warn", "waiting": "warn"}


def _belts(of: items.Overview) -> str:
    status = of.page.status
    cards = "".join(_belt(of, belt) for belt in status.belts)
    return f'<h2>Belts</h2><div class="cards stretch">{cards}</div>'


def _belt(of: items.Overview, belt: view.Belt) -> str:
    status = of.page.status
    why = "".join(f"<li>{prose(_brief(status, item))}</li>" for item in belt.reasons)
    mark = tag(belt.state, COLOURS.get(belt.state, ""))
    if belt.name == "earning":
        signs = NONE if status.attester is None else long(status.attester)
        figures = facts(
            (("index head", _block(status.index)), ("finalized", _block(status.finalized)), ("attests as", signs)),
            long_=True,
        )
        return card("Earning", f"<ul>{why}</ul>" if why else "", figures, mark=mark)
    counts = "".join(
        f'<li><a href="/intents?state={segment(name)}">{count:,} {text(rows.words(name))}</a></li>'
        for name, count in belt.counts.items()
        if count
    )
    shown = f'<ul class="chips">{counts}</ul>' if counts else ""
    figures = "" if status.account is None else facts((("delegates as", long(status.account)),), long_=True)
    return card("Staking", f"<ul>{why}</ul>" if why else "", shown, figures, _pause(of, belt), mark=mark)


def _pause(of: items.Overview, belt: view.Belt) -> str:
    if of.pause is not None or belt.state == "off" or not has(of.page.session, "operator"):
        return ""
    pause = form("/v1/pause", reason("Why it must stop"), button="Pause submission", kind="stop")
    return folded("pause", "Pause submission…", pause)


def _no_intents(status: view.Status) -> str:
    return "" if status.account is None else "nobody proposed anything yet"


# --- everything else ---


def _block(block: view.Block | None) -> str:
    return NONE if block is None else f"{block.number:,} {short(block.hash)}"


def _node(status: view.Status) -> str:
    """The node and what the index made of it."""
    node = status.node
    lag = (
        "unknown"
        if status.lag_blocks is None
        else f"{status.lag_blocks:,} block{'' if status.lag_blocks == 1 else 's'}"
    )
    lies = f'<span class="bad">{node.lies:,}</span>' if node.lies else "0"
    shown = facts(
        (
            ("address", text(node.name)),
            ("state", text(node.state)),
            ("index is behind by", lag),
            ("events", f"{status.counts.logs:,}"),
            ("orphaned, kept", f"{status.counts.logs_orphaned:,}"),
            ("reorgs followed", str(status.generation)),
            ("false answers", lies),
        )
    )
    return "<h2>Node and index</h2>" + shown + (f'<p class="warn">{prose(node.reason)}</p>' if node.reason else "")


def _streams(status: view.Status) -> Iterator[tuple[str, ...]]:
    for name, stream in status.streams.items():
        frame = stream.frame
        waits = "" if stream.next is None else f"{stream.next.sequence:,}: {prose(stream.next.reason)}"
        if frame is None:
            yield text(name), NONE, "", "", waits
        else:
            label = f"{frame.sequence:,}" + (f" r{frame.revision}" if frame.revision else "")
            yield text(name), f"{label} {text(frame.origin)}", f"{frame.to_position:,}", short(frame.digest), waits


def _services(status: view.Status) -> str:
    """All in one line while they do what they should."""
    colours = {"ok": "good", "degraded": "warn", "latched": "bad"}
    chips = "".join(
        f'<li>{text(name)} <span class="{colours.get(item.status, "soft")}">{text(item.status)}</span></li>'
        for name, item in status.services.items()
    )
    wrong = [
        (text(name), f"{item.failures_total:,}", prose(item.reason))
        for name, item in status.services.items()
        if item.status not in ("ok", "starting") and item.reason
    ]
    found = section("Services that fail", ("service", "failures", "reason"), wrong, "")
    return f'<h2>Services</h2><ul class="chips">{chips}</ul>{found}'


def _parked(status: view.Status) -> Iterator[tuple[str, ...]]:
    for item in status.parked:
        yield text(item.subject), short(item.block_hash), str(item.log_index), prose(item.reason)


def _delivery(status: view.Status) -> str:
    hub = status.hub
    if hub is None:
        return '<h2>Hub</h2><p class="soft">No hub is configured: nothing is reported.</p>'
    reach = '<span class="good">answers</span>' if hub.reachable else '<span class="bad">does not answer</span>'
    oldest = "" if status.outbox.oldest_s is None else f", the oldest for {status.outbox.oldest_s:,} s"
    shown = facts(
        (
            ("address", text(hub.url)),
            ("state", reach),
            ("waiting for a receipt", f"{status.outbox.depth:,}{oldest}"),
            ("receipts", f"{status.counts.receipts:,}, last number {hub.last_receipt:,}"),
            ("refused", f"{hub.refused:,}"),
        )
    )
    why = status.outbox.why or hub.last_error
    return "<h2>Hub</h2>" + shown + (f'<p class="warn">{prose(why)}</p>' if why else "")


_EVENT = ("block", "event", "validator", "delegator", "amount", "detail", "proof")


def _event(event: items.Event, assets: rows.Assets) -> tuple[str, ...]:
    return (
        f"{event.number:,}",
        text(event.kind or "parked"),
        word(event.validator),
        word(event.delegator),
        "" if event.amount is None else amount(event.amount, assets.get(event.protocol)),
        text(_detail(event.detail or "")),
        text(event.proof),
    )


def _detail(json: str) -> str:
    """What else the event says, as names and values."""
    found = rows.pairs(json)
    return json if found is None else ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in found.items())
