"""Whether the chain is ready for an action. In: requirements, a saga's wait, an evaluator. Out: nothing, or why not yet.

"Not yet" is a value, not an error: the plan is right, and may work later.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import msgspec

from indexers.protocols import evaluation, grammar, values
from indexers.protocols.abi import Value


class Unmet(msgspec.Struct, frozen=True):
    """The chain is not in a state in which this can work. It may be later."""

    reason: str


def unmet(evaluator: evaluation.Evaluator, requirements: Sequence[grammar.Requirement]) -> Unmet | None:
    """The first requirement that does not hold."""
    for requirement in requirements:
        type_, have = evaluator.named(requirement.of)
        for word, bound, holds in _COMPARED:
            limit: object = getattr(requirement, bound)
            if limit is None:
                continue
            want = evaluator.value(limit, type_)
            if not holds(have, want):
                shown = values.text(have, type_), values.text(want, type_)
                return Unmet(f"{requirement.of} is {shown[0]} where {word} {shown[1]} is needed")
    return None


def shown(requirement: grammar.Requirement) -> str:
    """A requirement as a person would say it."""
    limits = [(word, getattr(requirement, bound)) for word, bound, _ in _COMPARED]
    return " and ".join([f"{requirement.of} {word} {_said(limit)}" for word, limit in limits if limit is not None])


def _said(expression: object) -> str:
    if not isinstance(expression, dict):
        return str(expression)
    table = cast("dict[str, object]", expression)
    return str(table.get("literal", table.get("source", table)))


def waiting(evaluator: evaluation.Evaluator, wait: grammar.Wait) -> Unmet | None:
    """Whether the wait's moment has come, on its own clock. Seconds and blocks are those of the block the plan is made on."""
    until = evaluator.number(wait.until) + (0 if wait.plus is None else evaluator.number(wait.plus))
    now = evaluator.number(wait.now) if wait.now else evaluator.clock(wait.clock)
    return (
        None if now >= until else Unmet(f"it is {now} on the clock of {wait.clock}, and {until} must be reached first")
    )


def _number(value: Value) -> int:
    if not isinstance(value, int):
        raise values.Refused(
            "only numbers can be at least or at most something", value=value, cure="use equals or differs"
        )
    return value


_COMPARED: tuple[tuple[str, str, Callable[[Value, Value], bool]], ...] = (
    ("exactly", "equals", lambda have, want: have == want),
    ("anything but", "differs", lambda have, want: have != want),
    ("at least", "at_least", lambda have, want: _number(have) >= _number(want)),
    ("at most", "at_most", lambda have, want: _number(have) <= _number(want)),
)
