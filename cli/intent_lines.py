"""Intents as a person reads them in a terminal. In: the agent's answers. Out: lines; foreign text is made printable, times are UTC.

A word of 32 bytes that holds an address is written as that address, with its checksum; other hashes stay whole, to be compared.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

import msgspec

from agent.delegations import identities
from cli import asking
from domain import amounts, errors

QUIET = ("pass", "skipped")
"""Outcomes of rules that nobody has to look at."""
_WORD = re.compile(r"0x(?:[0-9a-f]{64}|[0-9a-f]{40})\Z")
_T = TypeVar("_T")


class _Row(msgspec.Struct, frozen=True, rename="camel"):
    """Of what the agent answers, what is shown here."""


class Intent(_Row, frozen=True):
    id: str
    key: str
    account: str
    protocol: str
    action: str
    arguments: dict[str, str]
    payload_hash: str
    proposer: str
    reason: str
    proposed_at_s: int
    expires_at_s: int
    state: str
    final: bool
    why: str
    changed_at_s: int
    approvals: list[str]


class Finding(_Row, frozen=True):
    rule: str
    outcome: str
    detail: str


class Decision(_Row, frozen=True):
    at_s: int
    verdict: str
    rule: str
    why: str
    policy_hash: str
    payload_hash: str
    block_number: int
    block_hash: str
    findings: list[Finding]


class Attempt(_Row, frozen=True):
    number: int
    kind: str
    nonce: int
    tip_wei: str
    max_fee_wei: str
    gas: int
    to: str
    value_wei: str
    at_s: int
    hash: str | None
    sends: int
    last_sent_s: int | None
    hint: str


class Inclusion(_Row, frozen=True):
    number: int
    tx_hash: str
    block_number: int
    block_hash: str
    status: int
    fee_wei: str
    seen_at_s: int
    orphaned_at_s: int | None
    final_at_s: int | None


class Transition(_Row, frozen=True):
    from_state: str
    to_state: str
    why: str
    at_s: int


class Command(_Row, frozen=True):
    at_s: int
    principal: str
    kind: str
    reason: str


class Event(_Row, frozen=True):
    number: int
    log_index: int
    tx_hash: str
    kind: str | None
    amount: str | None


class Reservation(_Row, frozen=True):
    amount: str
    value_wei: str
    max_fee_wei: str
    released_at_s: int | None


class Detail(_Row, frozen=True):
    intent: Intent
    nonce: int | None
    reservation: Reservation | None
    attempts: list[Attempt]
    decisions: list[Decision]
    transitions: list[Transition]
    inclusions: list[Inclusion]
    commands: list[Command]
    event: Event | None


def parse(answer: object, type_: type[_T]) -> _T:
    """Raises BadAnswer."""
    try:
        return msgspec.convert(answer, type_)
    except msgspec.ValidationError as error:
        raise errors.BadAnswer(
            f"the answer is not an agent's of this version: {error}", cure="use the agent's own version, or --json"
        ) from None


def line(of: Intent) -> str:
    """An intent of a list."""
    given = " ".join(f"{name}={value(text)}" for name, text in of.arguments.items())
    shown = f"{of.id} {when(of.proposed_at_s)} {of.action} {given} by {of.proposer}: {of.state}"
    return asking.plain(shown + (f" ({of.why})" if of.why else ""))


def lines(of: Detail, *, all_: bool) -> Iterator[str]:
    """An intent with all that became of it. Without `all_` the rules that were passed are named on one line."""
    shown = of.intent
    why = f": {shown.why}" if shown.why else ""
    yield asking.plain(f"{shown.action} on {shown.protocol}, {shown.state} since {when(shown.changed_at_s)}{why}")
    yield from _pairs(_asked(of))
    for number, decision in enumerate(of.decisions, 1):
        yield from _decision(number, decision, all_=all_)
    for attempt in of.attempts:
        yield f"transaction {attempt.number}, {attempt.kind}, nonce {attempt.nonce}"
        yield from _pairs(_attempt(attempt, of.inclusions))
    yield from _told("history", (_moved(one) for one in of.transitions))
    yield from _told(
        "commands", (f"{when(one.at_s)}  {one.principal}  {one.kind}: {one.reason}" for one in of.commands)
    )


def _asked(of: Detail) -> Iterator[tuple[str, str]]:
    shown, held, event = of.intent, of.reservation, of.event
    yield "id", shown.id
    yield from ((name, value(text)) for name, text in shown.arguments.items())
    yield "from account", value(shown.account)
    yield "proposed", f"{when(shown.proposed_at_s)} by {shown.proposer}: {shown.reason}"
    if not shown.final:
        yield "expires", when(shown.expires_at_s)
    yield "approved by", ", ".join(shown.approvals) or "nobody"
    yield "payload", shown.payload_hash
    yield "key", shown.key
    if of.nonce is not None:
        yield "nonce", str(of.nonce)
    if held is not None and held.released_at_s is None:
        value_ = "" if held.value_wei == "0" else f", {held.value_wei} wei are sent"
        yield "holds", f"{held.amount} of the caps on amounts{value_}, {gwei(held.max_fee_wei)} for gas"
    if event is not None:
        amount = "" if event.amount is None else f" of {event.amount}"
        yield "proof", f"{event.kind}{amount}, log {event.log_index} of block {event.number}, {event.tx_hash}"


def _decision(number: int, of: Decision, *, all_: bool) -> Iterator[str]:
    rule = "" if of.rule == "all" else f" by the rule {of.rule}"
    yield asking.plain(f"decision {number}, {when(of.at_s)}: {of.verdict}{rule}: {of.why}")
    yield f"  at block {of.block_number} {of.block_hash}"
    yield f"  policy {of.policy_hash}, payload {of.payload_hash}"
    loud = [one for one in of.findings if all_ or one.outcome not in QUIET]
    yield from (asking.plain(f"  {one.outcome} {one.rule}: {one.detail}") for one in loud)
    for outcome in () if all_ else QUIET:
        if named := [one.rule for one in of.findings if one.outcome == outcome]:
            yield asking.plain(f"  {outcome} {', '.join(named)}")


def _attempt(of: Attempt, inclusions: Iterable[Inclusion]) -> Iterator[tuple[str, str]]:
    yield "hash", of.hash or "not signed yet"
    yield "to", value(of.to)
    yield (
        "offers",
        f"at most {gwei(of.max_fee_wei)} per gas, tip {gwei(of.tip_wei)}, at most {of.gas} gas; value {of.value_wei} wei",
    )
    last = "" if of.last_sent_s is None else f", last {when(of.last_sent_s)}"
    yield (
        "sent",
        f"{'once' if of.sends == 1 else f'{of.sends} times'}{last}"
        + (f"; the node said: {of.hint}" if of.hint else ""),
    )
    for one in inclusions:
        if one.number != of.number:
            continue
        outcome = "succeeded" if one.status else "reverted"
        yield "in block", f"{one.block_number} {one.block_hash}, {outcome}, fee {gwei(one.fee_wei)}, {_standing(one)}"


def _standing(of: Inclusion) -> str:
    if of.orphaned_at_s is not None:
        return f"left the chain {when(of.orphaned_at_s)}"
    return f"seen {when(of.seen_at_s)}" if of.final_at_s is None else f"final {when(of.final_at_s)}"


def _moved(of: Transition) -> str:
    return f"{when(of.at_s)}  {of.from_state} → {of.to_state}" + (f": {of.why}" if of.why else "")


def _told(title: str, found: Iterable[str]) -> Iterator[str]:
    shown = [f"  {asking.plain(one)}" for one in found]
    yield from (title, *shown) if shown else ()


def _pairs(found: Iterable[tuple[str, str]]) -> Iterator[str]:
    rows = [(asking.plain(name), asking.plain(text)) for name, text in found]
    width = max([len(name) for name, _ in rows], default=0)
    yield from (f"  {name.ljust(width)}  {text}" for name, text in rows)


def value(text: str) -> str:
    """An argument or an account: an address where it holds one, a number where it holds a small one, else as it is."""
    if _WORD.match(text) is None:
        return text
    number = int(text, 16)
    return str(number) if len(text) == 66 and number < 1 << 64 else identities.shown(text)


def gwei(wei: str) -> str:
    return amounts.gwei(int(wei)) if wei.isascii() and wei.isdecimal() else f"{wei} wei"


def when(at_s: int) -> str:
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(at_s))
    except (ValueError, OverflowError, OSError):
        return str(at_s)
