"""Rows that several pages show: intents and commands. In: items. Out: HTML cells, and the words for states."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from agent.web import items
from agent.web.pages.markup import amount, folded, prose, short, tag, text, when, whole, word

Assets = Mapping[str, items.Asset]
"""By protocol, as far as the agent knows."""
NUMBERS = ("amount", "shares")
"""Arguments that are amounts."""
STATES = {
    "new": "calm",
    "planned": "calm",
    "awaiting_approval": "warn",
    "reserved": "calm",
    "signed": "calm",
    "pending": "calm",
    "included": "calm",
    "final_ok": "good",
    "final_reverted": "bad",
    "final_no_effect": "bad",
    "rejected": "bad",
    "needs_operator": "bad",
    "superseded": "bad",
}


def words(name: str) -> str:
    """A state's name as words."""
    return name.replace("_", " ")


def state(name: str) -> str:
    return tag(words(name), STATES.get(name, ""))


def wanted(action: str, arguments: Mapping[str, str], asset: items.Asset | None) -> str:
    """What is to be done, in few words."""
    given = next((arguments[name] for name in NUMBERS if name in arguments), None)
    return text(action) if given is None else f"{text(action)} {amount(given, asset)}"


def link(intent: items.Intent, assets: Assets) -> str:
    """What is wanted, leading to all that became of it."""
    return f'<a href="/intents/{whole(intent.id)}">{wanted(intent.action, intent.arguments, assets.get(intent.protocol))}</a>'


INTENTS = ("intent", "validator", "state", "why", "proposed by", "at (UTC)")


def intents(rows: Sequence[items.Intent], assets: Assets) -> list[tuple[str, ...]]:
    """Rows of `INTENTS`."""
    return [
        (
            link(item, assets),
            word(item.arguments.get("validator")),
            state(item.state),
            prose(item.why),
            text(item.proposer),
            when(item.proposed_at_s),
        )
        for item in rows
    ]


COMMANDS = ("at (UTC)", "who", "did", "to", "reason", "what changed")
FEW = 2
"""Lines of a diff that are shown at once; more are folded."""


def commands(rows: Sequence[items.Command], assets: Assets) -> list[tuple[str, ...]]:
    """Rows of `COMMANDS`."""
    return [(*brief(item), _changes(item, assets)) for item in rows]


def brief(item: items.Command) -> tuple[str, ...]:
    """The row without what changed."""
    subject = text(item.subject)
    if len(item.subject) == 66:
        subject = f'<a href="/intents/{whole(item.subject)}">intent {short(item.subject)}</a>'
    return when(item.at_s), text(item.principal), text(item.kind.replace("-", " ")), subject, text(item.reason)


def _changes(item: items.Command, assets: Assets) -> str:
    lines = [_change(one) for one in item.changes]
    if len(lines) <= FEW:
        return "<br>".join(lines)
    return folded(f"command-{item.id}", _summary(item, assets), "<br>".join(lines))


def _summary(item: items.Command, assets: Assets) -> str:
    """Of a proposal what it is for; of anything else how much changed."""
    after = {one.name: one.after or "" for one in item.changes}
    if item.kind == "propose":
        try:
            arguments = msgspec.json.decode(after.get("arguments", ""), type=dict[str, object])
        except msgspec.DecodeError:
            arguments = {}
        plain = {name: value for name, value in arguments.items() if isinstance(value, str)}
        return wanted(after.get("action", ""), plain, assets.get(after.get("protocol", "")))
    return f"{len(item.changes)} values"


def _change(one: items.Change) -> str:
    name = f'<span class="soft">{text(one.name.replace("_", " "))}</span>'
    return f"{name} {_value(one.after)}" if one.before is None else f"{name} {_value(one.before)} → {_value(one.after)}"


def _value(value: str | None) -> str:
    """Lists of names are written as people write them."""
    if value is None:
        return "–"
    if not value.startswith("["):
        return text(value)
    try:
        return text(", ".join(msgspec.json.decode(value, type=list[str])) or "none")
    except msgspec.DecodeError:
        return text(value)
