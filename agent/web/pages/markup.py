"""The parts that pages are made of. In: values. Out: HTML text, escaped.

Texts from the chain, the node, the hub and people are hostile: they are escaped, and what has no visible form is shown as its code point.
"""

from __future__ import annotations

import html
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from urllib.parse import quote

from agent.web import items
from agent.web.pages import assets
from domain import amounts

SHOWN = 300
"""Longest foreign text on a page, in characters."""
LONG = ("intent", "amount", "to", "reason", "why", "detail", "next frame", "what changed")
"""Columns whose text may take several lines."""
FIGURE = 40
"""Longest number that is kept in one piece: no chain has more of its coin, and a longer one would push all else aside."""
SIGN_OUT = "/v1/session/end"
NAVIGATION = (
    ("/", "Overview", ""), ("/intents", "Intents", ""), ("/propose", "Propose", "proposer"), ("/commands", "Commands", ""),
    ("/people", "People", "admin"),
)  # fmt: skip
"""Pages, and the role without which one is not shown the way to it."""
NONE = '<span class="soft">none</span>'
GWEI = 10**9
_DIGITS = 100
"""No amount has more; longer digits are a text like any other."""
_WORD = re.compile(r"0x[0-9a-f]{64}")
_LONG_NUMBER = re.compile(r"(?<![\w.,])[0-9]{7,78}(?![\w.,]?[\w])")
_FIGURE = re.compile(r"(?<![\w.,])[0-9](?:[0-9]|[.,](?=[0-9])){5,120}(?![\w])")
"""Long enough to be torn at the end of a line."""


# --- texts ---


def text(value: object) -> str:
    """Any value as safe HTML text: bounded, escaped, with invisible and direction-changing characters shown as code points."""
    return whole(_bounded(str(value)))


def _bounded(raw: str) -> str:
    return raw if len(raw) <= SHOWN else raw[: SHOWN - 1] + "…"


def whole(value: str) -> str:
    """The same without a bound: for attributes that are sent or read as a whole."""
    return html.escape("".join(c if c.isprintable() else f"\\u{{{ord(c):x}}}" for c in value))


def prose(value: str) -> str:
    """A sentence of ours with figures in it: long numbers get their digits in groups, and stay in one piece."""
    grouped_ = _LONG_NUMBER.sub(lambda found: f"{int(found[0]):,}", _bounded(value))
    parts: list[str] = []
    end = 0
    for found in _FIGURE.finditer(grouped_):
        parts += [whole(grouped_[end : found.start()]), number(found[0])]
        end = found.end()
    return "".join(parts) + whole(grouped_[end:])


def number(digits: str) -> str:
    """In one piece, unless a line is too short for all of it."""
    return f'<span class="figure">{whole(digits)}</span>' if len(digits) <= FIGURE else whole(digits)


def segment(name: str) -> str:
    """A name as one part of a path of ours."""
    return quote(name, safe="")


def short(digest: str | None) -> str:
    """A hash by its beginning and its end, whole in the title."""
    if digest is None:
        return NONE
    shown = digest if len(digest) <= 18 else f"{digest[:8]}…{digest[-4:]}"
    return f'<code title="{whole(digest[:SHOWN])}">{text(shown)}</code>'


def long(value: str | None) -> str:
    """A hash, an address or another identity, whole."""
    return NONE if value is None else f"<code>{text(bare(value))}</code>"


def bare(value: str) -> str:
    """A word of 32 bytes as what it holds: a small number, an address, or itself."""
    if len(value) != 66 or _WORD.fullmatch(value) is None:
        return value
    number = int(value, 16)
    return str(number) if number < 1 << 64 else "0x" + value[26:] if number < 1 << 160 else value


def word(value: str | None) -> str:
    """An identity by what its word holds; shortened, whole in the title."""
    return "" if value is None else short(bare(value))


# --- numbers ---


def grouped(value: str) -> str:
    """Decimal text with its digits in groups, so that people can count them."""
    return f"{int(value):,}"


def decimal(value: str, decimals: int) -> str:
    """An amount of smallest units in whole ones, every digit kept: `1500000000000000000` with 18 is `1.5`."""
    return amounts.decimal(int(value), decimals)


def amount(value: str, asset: items.Asset | None) -> str:
    """For a line: in whole units where the asset is known, with the smallest ones in the title."""
    if not _is_number(value):
        return text(value)
    if asset is None:
        return number(grouped(value))
    title = f"{grouped(value)} {asset.smallest}"
    return f'<span title="{whole(title)}">{_of(value, asset)}</span>'


def both(value: str, asset: items.Asset | None) -> str:
    """For whoever decides: in whole units, and every digit of the smallest ones."""
    if not _is_number(value):
        return f'<span class="big">{text(value)}</span>'
    if asset is None:
        return f'<span class="big">{number(grouped(value))}</span>'
    small = f'<br><small class="soft">{number(grouped(value))} {text(asset.smallest)}</small>'
    return f'<span class="big">{_of(value, asset)}</span>{small}'


def coins(wei: str) -> str:
    """Of the chain itself."""
    return amount(wei, items.Asset(amounts.WEI_DIGITS, amounts.COINS, "wei"))


def _of(value: str, asset: items.Asset) -> str:
    digits = decimal(value, asset.decimals)
    return f"{number(digits)} {text(amounts.unit(digits, asset.name))}"


def gwei(wei: str) -> str:
    """What gas costs, in the unit people know it by."""
    return f'<span title="{grouped(wei)} wei">{number(decimal(wei, 9))} gwei</span>' if _is_number(wei) else text(wei)


def _is_number(value: str) -> bool:
    return value.isascii() and value.isdecimal() and len(value) <= _DIGITS


# --- times ---


def when(at_s: int | None) -> str:
    if at_s is None:
        return ""
    try:
        at = time.gmtime(at_s)
    except (ValueError, OverflowError, OSError):
        return text(at_s)
    iso = time.strftime("%Y-%m-%dT%H:%M:%SZ", at)
    return f'<time datetime="{iso}">{time.strftime("%Y-%m-%d %H:%M:%S", at)}</time>'


def ago(at_s: int, now_s: int) -> str:
    """How far away a moment is, roughly: `12 min ago`, `in 2 h`."""
    seconds = abs(now_s - at_s)
    for size, unit, least in ((86_400, "days", 2), (3_600, "h", 2), (60, "min", 1)):
        if seconds >= size * least:
            return f"{seconds // size} {unit} ago" if at_s <= now_s else f"in {seconds // size} {unit}"
    return "just now" if at_s <= now_s else "in less than a minute"


# --- pages ---


def shell(
    *,
    title: str,
    name: str,
    body: str,
    session: items.Session | None,
    path: str,
    guest: bool = False,
    at: str = "",
) -> str:
    """A whole page. `guest`: nothing but this page may be seen yet, so there is nowhere to go. `at`: for the answer to a form, the page
    that the browser is to be at afterwards."""
    goes = f' data-at="{whole(at)}"' if at else ""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">'
        f'<link rel="stylesheet" href="{assets.STYLE_PATH}"><script src="{assets.SCRIPT_PATH}" defer></script>'
        f"<title>{text(title)} · {text(name)} · stakeside</title></head>"
        '<body><a class="skip" href="#main">To the content</a><header><div class="wide">'
        f'<span class="name">{text(name)}</span>{"" if guest else _navigation(session, path)}{_who(session, guest=guest)}'
        f'</div></header><main id="main" class="wide" tabindex="-1"{goes}>{body}</main></body></html>'
    )


def page(of: items.Page, *, title: str, body: str, at: str = "") -> str:
    """A page as everybody sees it, with what was just done; `at` as in `shell`."""
    said = ""
    if of.message is not None:
        colour, role = ("good", "status") if of.message.good else ("bad", "alert")
        said = f'<p class="message {colour}" role="{role}">{text(of.message.text)}</p>'
    away = '<p class="message bad" id="away" role="alert" hidden>The agent does not answer. This page shows what it said at <span></span> UTC.</p>'
    foot = live("at", f'<p class="soft small">As of {when(of.now_s)} UTC.</p>')
    return shell(
        title=title, name=of.status.name, body=away + said + body + foot, session=of.session, path=of.path, at=at
    )


def live(id_: str, body: str) -> str:
    """A part of a page that the script keeps fresh."""
    return f'<div id="{id_}" data-live>{body}</div>'


def _navigation(session: items.Session | None, path: str) -> str:
    places = [(target, name) for target, name, role in NAVIGATION if not role or has(session, role)]
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


def has(session: items.Session | None, *roles: str) -> bool:
    """Whether to offer a form at all; the API decides."""
    return session is not None and bool(set(roles) & set(session.roles))


# --- parts ---


def tag(words: str, colour: str = "") -> str:
    return f'<span class="tag {colour}">{text(words)}</span>'


def table(title: str, names: Sequence[str], rows: Iterable[Sequence[str]], *, dense: bool = False) -> str:
    """`rows` hold HTML; empty without any. Columns of `LONG` may wrap; a narrow window shows each row as a block, and the roles say that it
    still is a table. `dense`: as running text there, for what is rarely read."""
    found: list[str] = []
    for row in rows:
        cells = "".join(
            f'<td role="cell" class="{"text" if name in LONG else ""}{"" if cell else " none"}" data-name="{name}">{_div(cell)}</td>'
            for name, cell in zip(names, row, strict=True)
        )
        found.append(f'<tr role="row">{cells}</tr>')
    if not found:
        return ""
    header = "".join(f'<th role="columnheader" scope="col">{name}</th>' for name in names)
    shape = ' class="dense"' if dense else ""
    return (
        f'<div class="table"><table{shape} role="table" aria-label="{text(title)}"><thead role="rowgroup"><tr role="row">{header}</tr></thead>'
        f'<tbody role="rowgroup">{"".join(found)}</tbody></table></div>'
    )


def _div(cell: str) -> str:
    """One box beside the column's name in a narrow window, whatever the cell is made of."""
    return f"<div>{cell}</div>" if cell else ""


def section(title: str, names: Sequence[str], rows: Iterable[Sequence[str]], empty: str, *, dense: bool = False) -> str:
    """A headed table, or what to say when there is nothing; nothing at all without that."""
    found = table(title, names, rows, dense=dense) or (f'<p class="soft">{text(empty)}</p>' if empty else "")
    return f"<h2>{text(title)}</h2>{found}" if found else ""


def facts(pairs: Iterable[tuple[str, str]], *, long_: bool = False) -> str:
    """Names and values; values hold HTML. `long_`: one below the other."""
    inner = "".join(f"<div><dt>{text(name)}</dt><dd>{value}</dd></div>" for name, value in pairs)
    return f"<dl{' class=long' if long_ else ''}>{inner}</dl>"


def card(title: str, *inner: str, colour: str = "", mark: str = "") -> str:
    """`title` and `mark` hold HTML."""
    return f'<div class="card {colour}"><div class="head"><h3>{title}</h3>{mark}</div>{"".join(inner)}</div>'


def folded(id_: str, summary: str, *inner: str, opened: bool = False, box: bool = False) -> str:
    """Closed until somebody wants it; by its id it stays as it was when its part is made fresh. `summary` holds HTML."""
    class_ = ' class="box"' if box else ""
    return f'<details id="{whole(id_)}"{class_}{" open" if opened else ""}><summary>{summary}</summary>{"".join(inner)}</details>'


def form(
    action: str, *inner: str, button: str, kind: str = "", hidden: Mapping[str, str] | None = None, column: bool = False
) -> str:
    """A form that posts to a route of the API. `kind`: `act` for what goes on, `stop` for what ends something."""
    concealed = "".join(
        f'<input type="hidden" name="{whole(name)}" value="{whole(value)}">' for name, value in (hidden or {}).items()
    )
    class_ = f' class="{kind}"' if kind else ""
    shape = ' class="column"' if column else ""
    return f'<form{shape} method="post" action="{whole(action)}">{concealed}{"".join(inner)}<button{class_}>{text(button)}</button></form>'


def field(label: str, name: str, *, value: str = "", type_: str = "text", class_: str = "", more: str = "") -> str:
    """An input with its label. `more` is further attributes of our own."""
    style = f' class="{class_}"' if class_ else ""
    given = f' value="{whole(value)}"' if value else ""
    return f'<label>{text(label)}<input{style} type="{type_}" name="{whole(name)}"{given}{more}></label>'


def reason(label: str = "Why") -> str:
    """Every change says why."""
    return field(label, "reason", class_="grow", more=' required maxlength="500" autocomplete="off"')
