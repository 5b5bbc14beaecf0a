"""What is kept, and for how long. In: a declaration for every table. Out: its words, for code, documents and tests.

Each room declares all of its tables; a test finds one that is missing.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec


class Forever(msgspec.Struct, frozen=True):
    """Rows are added and never deleted, because of `why`."""

    why: str


class Working(msgspec.Struct, frozen=True):
    """State, rewritten in place: `what` there is one row for. It does not grow with time."""

    what: str


class Bounded(msgspec.Struct, frozen=True):
    """Rows go when they are what `what` says. `setting` bounds it, where an operator chooses."""

    what: str
    setting: str = ""


Rule: TypeAlias = Forever | Working | Bounded
