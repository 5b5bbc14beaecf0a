"""The overview: whether the agent is ready, both belts, what waits for a person, and the newest of everything."""

from __future__ import annotations

from collections.abc import Iterable

from agent.web import items, view
from agent.web.pages.markup import (
    COMMAND_COLUMNS,
    INTENT_COLUMNS,
    NONE,
    command_row,
    facts,
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
    word,
)

RESTORED = "submit.restored"


def overview(of: items.Overview) -> str:
    """`GET /`."""
    status = of.page.status
    live = "".join(
        (
            _verdict(status),
            _belts(status),
            _facts(status),
            section("Intents", INTENT_COLUMNS, map(intent_row, of.intents), "nobody proposed anything yet"),
            section("Streams", ("stream", "frame", "ends at", "digest", "next frame"), _streams(status), "no streams"),
            _delivery(status),
            section("Services", ("service", "state", "steps", "failures", "reason"), _services(status), "no services"),
            section("Parked", ("protocol", "block", "log", "reason"), _parked(status), ""),
            section("Commands", COMMAND_COLUMNS, map(command_row, of.commands), "nobody changed anything yet"),
            section("Newest events", _EVENT, map(_event, of.events), "no events yet"),
            f'<p class="soft">{when(of.page.now_s)} UTC. The same as <a href="/status">JSON</a>, and <a href="/metrics">metrics</a>.</p>',
        )
    )
    body = f'{_head(status)}{_waiting(of)}<div id="live" data-live>{live}</div>'
    return page(of.page, title="Overview", body=body, live=True)


def _head(status: view.Status) -> str:
    signs = "observes only" if status.attester is None else f"signs as <code>{text(status.attester)}</code>"
    return (
        f'<h1>{text(status.name)}</h1><div class="soft">stakeside agent {text(status.version)}, chain {text(status.chain_id)}, '
        f"{signs}</div>"
    )


def _verdict(status: view.Status) -> str:
    if status.ready:
        return '<div class="verdict good">Ready</div>'
    reasons = "".join(f"<li>{text(reason)}</li>" for reason in status.reasons)
    return f'<div class="verdict bad">Not ready<ul>{reasons}</ul></div>'


def _belts(status: view.Status) -> str:
    cards: list[str] = []
    colours = {"running": "good", "stopped": "bad", "paused": "warn", "waiting": "warn"}
    for belt in status.belts:
        why = "".join(f"<li>{text(item)}</li>" for item in belt.reasons)
        counts = ", ".join(f"{count} {state(name)}" for name, count in belt.counts.items() if count)
        cards.append(
            f'<div class="belt"><h2>{text(belt.name.capitalize())} belt</h2><span class="{colours.get(belt.state, "soft")}">'
            f"{text(belt.state)}</span>{f'<ul>{why}</ul>' if why else ''}{f'<div>{counts}</div>' if counts else ''}</div>"
        )
    return f'<div class="belts">{"".join(cards)}</div>'


def _facts(status: view.Status) -> str:
    return facts(
        (
            ("index head", _block(status.index)),
            ("finalized", _block(status.finalized)),
            ("behind the node", "unknown" if status.lag_blocks is None else f"{status.lag_blocks} blocks"),
            ("node", f"{text(status.node.name)}, {text(status.node.state)}"),
            ("events", f"{status.counts.logs:,}"),
            ("orphaned rows kept", f"{status.counts.logs_orphaned:,}"),
            ("generation", str(status.generation)),
            ("false answers of the node", str(status.node.lies)),
        )
    )


def _waiting(of: items.Overview) -> str:
    """What stops the agent until a person acts, with the form to act. Not refreshed under the hands of whoever fills a form."""
    session = of.page.session
    operator = has(session, "operator")
    parts: list[str] = []
    rows = [(text(item.name), text(item.belt), text(item.reason), when(item.set_at_s)) for item in of.latches]
    parts.append(section("Latches", ("latch", "stops", "reason", "since (UTC)"), rows, ""))
    if operator:
        for item in of.latches:
            target = "/v1/restored/accept" if item.name == RESTORED else f"/v1/latches/{item.name}/clear"
            parts.append(
                form(target, reason(f"Why {item.name} may be cleared"), button=f"Clear {item.name}", kind="stop")
            )
    gaps = [
        (text(item.protocol), f"{item.first:,} to {item.last:,}", text(item.reason), text(item.adopt))
        for item in of.gaps
    ]
    parts.append(section("Gaps", ("protocol", "blocks", "reason", "adoption"), gaps, ""))
    if operator:
        for item in of.gaps:
            if item.adopt == "ask":
                label = f"Why blocks {item.first} to {item.last} may be taken from the hub"
                parts.append(form(f"/v1/gaps/{item.id}/adopt", reason(label), button="Adopt", kind="stop"))
    parts.append(_pause(of, operator=operator))
    return "".join(parts)


def _pause(of: items.Overview, *, operator: bool) -> str:
    if of.pause is not None:
        until = "until somebody resumes" if of.pause.until_s is None else f"until {when(of.pause.until_s)} UTC"
        said = f'<p class="verdict warn">Paused by {text(of.pause.principal)}, {until}: {text(of.pause.reason)}</p>'
        resume = form("/v1/resume", reason("Why submission may go on"), button="Resume", kind="act") if operator else ""
        return f"<h2>Pause</h2>{said}{resume}"
    if not operator or all(belt.state == "off" for belt in of.page.status.belts if belt.name == "staking"):
        return ""
    pause = form("/v1/pause", reason("Why submission must stop"), button="Pause submission", kind="stop")
    return f"<details><summary>Pause submission</summary>{pause}</details>"


def _block(block: view.Block | None) -> str:
    return NONE if block is None else f"{block.number:,} {short(block.hash)}"


def _streams(status: view.Status) -> Iterable[tuple[str, ...]]:
    for name, stream in status.streams.items():
        frame = stream.frame
        waits = "" if stream.next is None else f"{stream.next.sequence}: {stream.next.reason}"
        if frame is None:
            yield text(name), NONE, "", "", text(waits)
        else:
            label = f"{frame.sequence}" + (f" r{frame.revision}" if frame.revision else "")
            ends = f"{frame.to_position:,}"
            yield text(name), f"{label} {text(frame.origin)}", ends, short(frame.digest), text(waits)


def _services(status: view.Status) -> Iterable[tuple[str, ...]]:
    colours = {"ok": "good", "degraded": "warn", "latched": "bad"}
    for name, service in status.services.items():
        shown = f'<span class="{colours.get(service.status, "soft")}">{text(service.status)}</span>'
        yield text(name), shown, f"{service.steps:,}", f"{service.failures_total:,}", text(service.reason)


def _parked(status: view.Status) -> Iterable[tuple[str, ...]]:
    for item in status.parked:
        yield text(item.subject), short(item.block_hash), str(item.log_index), text(item.reason)


def _delivery(status: view.Status) -> str:
    hub = status.hub
    if hub is None:
        return '<h2>Hub</h2><p class="soft">no hub is configured: nothing is reported</p>'
    reach = '<span class="good">answers</span>' if hub.reachable else '<span class="bad">does not answer</span>'
    oldest = "" if status.outbox.oldest_s is None else f", the oldest for {status.outbox.oldest_s} s"
    shown = facts(
        (
            (hub.url, reach),
            ("waiting for a receipt", f"{status.outbox.depth}{oldest}"),
            ("receipts", f"{status.counts.receipts:,}, last number {hub.last_receipt}"),
            ("refused", str(hub.refused)),
        )
    )
    why = status.outbox.why or hub.last_error
    return "<h2>Hub</h2>" + shown + (f'<p class="warn">{text(why)}</p>' if why else "")


_EVENT = ("block", "kind", "validator", "delegator", "amount", "detail", "proof")


def _event(event: items.Event) -> tuple[str, ...]:
    return (
        f"{event.number:,}",
        text(event.kind or "parked"),
        word(event.validator),
        word(event.delegator),
        "" if event.amount is None else text(event.amount),
        text("" if event.detail in (None, "{}") else event.detail),
        text(event.proof),
    )
