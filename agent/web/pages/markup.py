"""The parts that pages are made of. In: values. Out: HTML text, escaped.

Texts from the chain, the node, the hub and people are hostile: they are escaped, and what has no visible form is shown as its code point.
"""

from __future__ import annotations

import html
import time
from collections.abc import Iterable, Mapping, Sequence

from agent.web import items
from agent.web.pages import assets

SHOWN = 300
"""Longest foreign text on a page, in characters."""
LONG = ("reason", "why", "detail", "next frame", "what", "what changed", "what the node said")
"""Columns whose text may take several lines."""
SIGN_OUT = "/v1/session/end"
NAVIGATION = (("/", "Overview"), ("/intents", "Intents"), ("/propose", "Propose"), ("/commands", "Commands"))
NONE = '<span class="soft">none</span>'


def text(value: object) -> str:
    """Any value as safe HTML text: bounded, escaped, with invisible and direction-changing characters shown as code points."""
    raw = str(value)
    raw = raw if len(raw) <= SHOWN else raw[: SHOWN - 1] + "…"
    visible = "".join(c if c.isprintable() else f"\\u{{{ord(c):x}}}" for c in raw)
    return html.escape(visible)


def short(digest: str | None) -> str:
    """A hash by its beginning, whole in the title."""
    return NONE if digest is None else f'<code title="{text(digest)}">{text(digest[:12])}…</code>'


def word(value: str | None) -> str:
    """An address by its 20 bytes, another identity by its word."""
    if value is None:
        return ""
    return short("0x" + value[26:] if len(value) == 66 and value.startswith("0x" + "0" * 24) else value)


def amount(value: str) -> str:
    """Decimal text with its digits in groups, so that people can count them."""
    return text(f"{int(value):,}" if value.isascii() and value.isdecimal() else value)


def when(at_s: int | None) -> str:
    if at_s is None:
        return ""
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(at_s))
    except (ValueError, OverflowError, OSError):
        return text(at_s)


def shell(
    *,
    title: str,
    name: str,
    body: str,
    session: items.Session | None,
    path: str,
    live: bool = False,
    guest: bool = False,
) -> str:
    """A whole page. `guest`: nothing but this page may be seen yet, so there is nowhere to go."""
    script = f'<script src="{assets.SCRIPT_PATH}" defer></script>' if live else ""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<link rel="stylesheet" href="{assets.STYLE_PATH}">{script}<title>{text(title)} · {text(name)} · stakeside</title></head>'
        '<body><a class="skip" href="#main">To the content</a><header><div class="wide">'
        f'<span class="name">{text(name)}</span>{"" if guest else _navigation(session, path)}{_who(session, guest=guest)}'
        f'</div></header><main id="main" class="wide">{body}</main></body></html>'
    )


def page(of: items.Page, *, title: str, body: str, live: bool = False) -> str:
    """A page as everybody sees it, with what was just done."""
    said = ""
    if of.message is not None:
        said = f'<p class="message {"good" if of.message.good else "bad"}" role="status">{text(of.message.text)}</p>'
    return shell(title=title, name=of.status.name, body=said + body, session=of.session, path=of.path, live=live)


def _navigation(session: items.Session | None, path: str) -> str:
    places = [*NAVIGATION, *((("/people", "People"),) if session is not None and "admin" in session.roles else ())]
    here = path.partition("?")[0]
    links = "".join(
        f'<li><a href="{target}"{" aria-current=page" if target == here else ""}>{name}</a></li>'
        for target, name in places
    )
    return f'<nav aria-label="Pages"><ul>{links}</ul></nav>'


def _who(session: items.Session | None, *, guest: bool) -> str:
    if session is None:
        return "" if guest else '<div class="who"><a href="/login">Sign in</a></div>'
    roles = ", ".join(session.roles) or "no role"
    out = f'<form class="inline" method="post" action="{SIGN_OUT}"><button>Sign out</button></form>'
    return f'<div class="who"><span>{text(session.name)} <span class="soft">({text(roles)})</span></span>{out}</div>'


def section(title: str, names: Sequence[str], rows: Iterable[Sequence[str]], empty: str) -> str:
    """A headed table; `rows` hold HTML. Columns of `LONG` may wrap."""
    classes = [' class="text"' if name in LONG else "" for name in names]
    cells = ["".join(f"<td{class_}>{cell}</td>" for class_, cell in zip(classes, row, strict=True)) for row in rows]
    if not cells:
        return f'<h2>{text(title)}</h2><p class="soft">{text(empty)}</p>' if empty else ""
    header = "".join(f'<th scope="col">{name or _HIDDEN}</th>' for name in names)
    body = "".join(f"<tr>{cell}</tr>" for cell in cells)
    return (
        f'<h2>{text(title)}</h2><div class="table" tabindex="0" role="region" aria-label="{text(title)}"><table><thead><tr>{header}</tr>'
        f"</thead><tbody>{body}</tbody></table></div>"
    )


_HIDDEN = '<span class="soft">do</span>'


def facts(pairs: Iterable[tuple[str, str]], *, long: bool = False) -> str:
    """Names and values; values hold HTML."""
    inner = "".join(f"<div><dt>{text(name)}</dt><dd>{value}</dd></div>" for name, value in pairs)
    return f"<dl{' class=long' if long else ''}>{inner}</dl>"


def form(action: str, *inner: str, button: str, kind: str = "", hidden: Mapping[str, str] | None = None) -> str:
    """A form that posts to a route of the API. `kind`: `act` for what goes on, `stop` for what ends something."""
    concealed = "".join(
        f'<input type="hidden" name="{text(name)}" value="{text(value)}">' for name, value in (hidden or {}).items()
    )
    class_ = f' class="{kind}"' if kind else ""
    return f'<form method="post" action="{text(action)}">{concealed}{"".join(inner)}<button{class_}>{text(button)}</button></form>'


def field(label: str, name: str, *, value: str = "", type_: str = "text", class_: str = "", more: str = "") -> str:
    """An input with its label. `more` is further attributes of our own."""
    style = f' class="{class_}"' if class_ else ""
    return f'<label>{text(label)}<input{style} type="{type_}" name="{text(name)}" value="{text(value)}"{more}></label>'


def reason(label: str = "Why") -> str:
    """Every change says why."""
    return field(label, "reason", class_="grow", more=' required maxlength="500" autocomplete="off"')


def has(session: items.Session | None, *roles: str) -> bool:
    """Whether to offer a form at all; the API decides."""
    return session is not None and bool(set(roles) & set(session.roles))


STATES = {
    "final_ok": "good",
    "final_reverted": "bad",
    "final_no_effect": "bad",
    "rejected": "bad",
    "needs_operator": "bad",
    "superseded": "bad",
    "awaiting_approval": "warn",
    "expired": "soft",
    "cancelled": "soft",
}


def state(name: str) -> str:
    """An intent's state in words."""
    return f'<span class="{STATES.get(name, "")}">{text(name.replace("_", " "))}</span>'


def link(intent: items.Intent) -> str:
    """What is wanted, leading to all that became of it."""
    given = intent.arguments
    parts = [text(intent.action)]
    if "amount" in given:
        parts.append(amount(given["amount"]))
    return f'<a href="/intents/{text(intent.id)}">{" ".join(parts)}</a>'


def intent_row(intent: items.Intent) -> tuple[str, ...]:
    """The row of `INTENT_COLUMNS`."""
    return (
        link(intent),
        word(intent.arguments.get("validator")),
        state(intent.state),
        text(intent.why),
        text(intent.proposer),
        when(intent.proposed_at_s),
    )


INTENT_COLUMNS = ("intent", "validator", "state", "why", "proposed by", "at (UTC)")


def command_row(command: items.Command) -> tuple[str, ...]:
    """The row of `COMMAND_COLUMNS`."""
    changes = "; ".join(
        f"{item.name}: {'–' if item.before is None else item.before} → {'–' if item.after is None else item.after}"
        for item in command.changes
    )
    subject = (
        f'<a href="/intents/{text(command.subject)}">{text(command.subject[:12])}…</a>'
        if len(command.subject) == 66
        else text(command.subject)
    )
    return (
        when(command.at_s),
        text(command.principal),
        text(command.kind),
        subject,
        text(command.reason),
        text(changes),
    )


COMMAND_COLUMNS = ("at (UTC)", "who", "did", "to", "reason", "what changed")
