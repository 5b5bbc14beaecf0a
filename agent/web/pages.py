"""The status page. In: the status document and the newest events. Out: one HTML page, rendered here, no script, no other host.

Texts from the chain, the node and the hub are hostile: they are escaped, and what has no visible form is shown as its code point.
"""

from __future__ import annotations

import html
import time
from collections.abc import Iterable, Sequence

from agent.web import view
from store import queries

REFRESH_S = 5
SHOWN = 300
"""Longest foreign text on the page, in characters."""

LONG = ("reason", "detail", "next frame")
"""Columns whose text may take several lines."""

STYLE = """
:root { color-scheme: light dark; --ink: #1c2430; --soft: #5b6675; --line: #d9dee5; --paper: #fff; --good: #17703a; --bad: #b3261e;
  --warn: #8a5a00; --tint: #f5f7fa; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6eaf0; --soft: #9aa5b4; --line: #333c48; --paper: #14181e; --good: #5fce8b;
  --bad: #ff8a80; --warn: #f0b95a; --tint: #1c222a; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 68rem; padding: 1rem; font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); }
h1 { font-size: 1.3rem; margin: 0 0 .25rem; }
h2 { font-size: 1rem; margin: 1.75rem 0 .5rem; }
.verdict { padding: .6rem .8rem; border-left: .3rem solid; background: var(--tint); margin: .75rem 0 1rem; }
.good { color: var(--good); } .bad { color: var(--bad); } .warn { color: var(--warn); } .soft { color: var(--soft); }
.verdict ul { margin: .25rem 0 0; padding-left: 1.2rem; color: var(--ink); }
dl { display: grid; grid-template-columns: repeat(auto-fit, minmax(9rem, 1fr)); gap: .5rem 1rem; margin: .75rem 0 0; }
dt { color: var(--soft); font-size: .85rem; overflow-wrap: anywhere; }
dd { margin: 0; font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
.table { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; }
th, td { text-align: left; padding: .3rem .6rem .3rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
th { color: var(--soft); font-weight: 500; }
td { font-variant-numeric: tabular-nums; white-space: nowrap; }
td.text { white-space: normal; overflow-wrap: anywhere; min-width: 12rem; }
code { font: .85em ui-monospace, monospace; } a { color: inherit; }
"""


def status_page(status: view.Status, events: Sequence[queries.EventRow], *, now_s: int) -> str:
    parts = [
        _head(status),
        _verdict(status),
        _stops(status),
        _facts(status),
        _section("Streams", ("stream", "frame", "ends at", "digest", "next frame"), _stream_rows(status), "no streams"),
        _section("Services", ("service", "state", "steps", "failures", "reason"), _service_rows(status), "no services"),
        _delivery(status),
        _section(
            "Newest events",
            ("block", "kind", "validator", "delegator", "amount", "detail", "proof"),
            map(_event_row, events),
            "no events yet",
        ),
        f'<p class="soft">{text(time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(now_s)))} UTC, again every {REFRESH_S} s. The same as '
        '<a href="/status">JSON</a>, and <a href="/metrics">metrics</a>.</p></body></html>',
    ]
    return "".join(parts)


def text(value: object) -> str:
    """Any value as safe HTML text: bounded, escaped, with invisible and direction-changing characters shown as code points."""
    raw = str(value)
    raw = raw if len(raw) <= SHOWN else raw[: SHOWN - 1] + "…"
    visible = "".join(c if c.isprintable() else f"\\u{{{ord(c):x}}}" for c in raw)
    return html.escape(visible)


def _short(digest: str | None) -> str:
    """A hash by its beginning, whole in the title."""
    if digest is None:
        return '<span class="soft">none</span>'
    return f'<code title="{text(digest)}">{text(digest[:12])}…</code>'


def _head(status: view.Status) -> str:
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="refresh" content="{REFRESH_S}"><link rel="stylesheet" href="/style.css">'
        f"<title>{text(status.name)} · stakeside</title></head><body>"
        f'<h1>{text(status.name)}</h1><div class="soft">stakeside agent {text(status.version)}, chain {text(status.chain_id)}, '
        + ("observes only" if status.attester is None else f"signs as <code>{text(status.attester)}</code>")
        + "</div>"
    )


def _verdict(status: view.Status) -> str:
    if status.ready:
        return '<div class="verdict good" role="status">Ready</div>'
    reasons = "".join(f"<li>{text(reason)}</li>" for reason in status.reasons)
    return f'<div class="verdict bad" role="status">Not ready<ul>{reasons}</ul></div>'


def _facts(status: view.Status) -> str:
    facts = (
        ("index head", _block(status.index)),
        ("finalized", _block(status.finalized)),
        ("behind the node", "unknown" if status.lag_blocks is None else f"{status.lag_blocks} blocks"),
        ("node", f"{text(status.node.name)}, {text(status.node.state)}"),
        ("events", f"{status.counts.logs:,}"),
        ("orphaned rows kept", f"{status.counts.logs_orphaned:,}"),
        ("generation", str(status.generation)),
        ("false answers of the node", str(status.node.lies)),
    )
    return "<dl>" + "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in facts) + "</dl>"


def _block(block: view.Block | None) -> str:
    return '<span class="soft">none</span>' if block is None else f"{block.number:,} {_short(block.hash)}"


def _stream_rows(status: view.Status) -> Iterable[tuple[str, ...]]:
    for name, stream in status.streams.items():
        frame = stream.frame
        waits = "" if stream.next is None else f"{stream.next.sequence}: {stream.next.reason}"
        if frame is None:
            yield text(name), '<span class="soft">none</span>', "", "", text(waits)
        else:
            label = f"{frame.sequence}" + (f" r{frame.revision}" if frame.revision else "")
            yield (
                text(name),
                f"{label} {text(frame.origin)}",
                f"{frame.to_position:,}",
                _short(frame.digest),
                text(waits),
            )


def _service_rows(status: view.Status) -> Iterable[tuple[str, ...]]:
    colours = {"ok": "good", "degraded": "warn", "latched": "bad"}
    for name, service in status.services.items():
        state = f'<span class="{colours.get(service.status, "soft")}">{text(service.status)}</span>'
        yield text(name), state, f"{service.steps:,}", f"{service.failures_total:,}", text(service.reason)


def _delivery(status: view.Status) -> str:
    hub = status.hub
    if hub is None:
        return '<h2>Hub</h2><p class="soft">no hub is configured: nothing is reported</p>'
    reach = '<span class="good">answers</span>' if hub.reachable else '<span class="bad">does not answer</span>'
    oldest = "" if status.outbox.oldest_s is None else f", the oldest for {status.outbox.oldest_s} s"
    facts = (
        (text(hub.url), reach),
        ("waiting for a receipt", f"{status.outbox.depth}{oldest}"),
        ("receipts", f"{status.counts.receipts:,}, last number {hub.last_receipt}"),
        ("refused", str(hub.refused)),
    )
    why = (
        f'<p class="warn">{text(status.outbox.why or hub.last_error)}</p>'
        if status.outbox.why or hub.last_error
        else ""
    )
    return "<h2>Hub</h2><dl>" + "".join(f"<div><dt>{n}</dt><dd>{v}</dd></div>" for n, v in facts) + "</dl>" + why


def _stops(status: view.Status) -> str:
    """Latches and parked items, when there are any."""
    parts: list[str] = []
    if status.latches:
        rows = ((text(item.name), text(item.reason), _when(item.set_at_s)) for item in status.latches)
        parts.append(_section("Latches", ("latch", "reason", "since"), rows, ""))
    if status.parked:
        rows = ((text(i.subject), _short(i.block_hash), str(i.log_index), text(i.reason)) for i in status.parked)
        parts.append(_section("Parked", ("protocol", "block", "log", "reason"), rows, ""))
    return "".join(parts)


def _when(at_s: int) -> str:
    return text(time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(at_s)))


def _event_row(event: queries.EventRow) -> tuple[str, ...]:
    return (
        f"{event.number:,}",
        text(event.kind or "parked"),
        _word(event.validator),
        _word(event.delegator),
        "" if event.amount is None else str(event.amount),
        text("" if event.detail in (None, "{}") else event.detail),
        text(event.proof),
    )


def _word(word: bytes | None) -> str:
    """An address by its 20 bytes, another identity by its word."""
    if word is None:
        return ""
    return _short("0x" + (word[12:] if word[:12] == bytes(12) else word).hex())


def _section(title: str, names: tuple[str, ...], rows: Iterable[tuple[str, ...]], empty: str) -> str:
    classes = [' class="text"' if name in LONG else "" for name in names]
    cells = ["".join(f"<td{class_}>{cell}</td>" for class_, cell in zip(classes, row, strict=True)) for row in rows]
    if not cells:
        return f'<h2>{title}</h2><p class="soft">{empty}</p>'
    header = "".join(f'<th scope="col">{name}</th>' for name in names)
    body = "".join(f"<tr>{cell}</tr>" for cell in cells)
    return (
        f'<h2>{title}</h2><div class="table"><table><thead><tr>{header}</tr></thead><tbody>{body}</tbody></table></div>'
    )
