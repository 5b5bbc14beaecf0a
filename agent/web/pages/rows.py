"""Rows that several pages show: intents and commands. In: items. Out: HTML cells, and the words for states."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import msgspec

from agent.web import items
from agent.web.pages.markup import amount, folded, prose, short, tag, text, when, whole, word

_HASH = re.compile(r"0x(?:[0-9a-fA-F]{40}|[0-9a-fA-F]{64})")
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
    asset = assets.get(_after(item).get("protocol", ""))
    lines = [line for one in item.changes for line in _change(one, asset)]
    if len(lines) <= FEW:
        return "<br>".join(lines)
    return folded(f"command-{item.id}", _summary(item, assets), "<br>".join(lines))


def _summary(item: items.Command, assets: Assets) -> str:
    """Of a proposal what it is for; of anything else how much changed."""
    if item.kind == "propose":
        after = _after(item)
        arguments = pairs(after.get("arguments", "")) or {}
        return wanted(after.get("action", ""), arguments, assets.get(after.get("protocol", "")))
    return f"{len(item.changes)} values"


def _after(item: items.Command) -> dict[str, str]:
    return {one.name: one.after or "" for one in item.changes}


def _change(one: items.Change, asset: items.Asset | None) -> list[str]:
    """Lines; the arguments of an action are one each, amounts among them in whole units."""
    arguments = pairs(one.after or "") if one.name == "arguments" and one.before is None else None
    if arguments is not None:
        return [f"{_name(name)} {_argument(name, value, asset)}" for name, value in arguments.items()]
    after = _value(one.after)
    return [f"{_name(one.name)} {after}" if one.before is None else f"{_name(one.name)} {_value(one.before)} → {after}"]


def _name(name: str) -> str:
    return f'<span class="soft">{text(name.replace("_", " "))}</span>'


def _argument(name: str, value: str, asset: items.Asset | None) -> str:
    return amount(value, asset) if name in NUMBERS else _value(value)


def pairs(json: str) -> dict[str, str] | None:
    """Names and values of a flat JSON object; None for anything else."""
    try:
        return msgspec.json.decode(json, type=dict[str, str])
    except msgspec.DecodeError:
        return None


def _value(value: str | None) -> str:
    """Lists of names are written as people write them, addresses and hashes as in every table."""
    if value is None:
        return "–"
    if _HASH.fullmatch(value):
        return word(value)
    if not value.startswith("["):
        return text(value)
    try:
        return text(", ".join(msgspec.json.decode(value, type=list[str])) or "none")
    except msgspec.DecodeError:
        return text(value)
