"""Is the account still only ours? In: what the chain counts and what the book holds. Out: go on, or why not to sign.

Nonces are rows, not a counter: nothing drifts by itself. So whatever does not fit was somebody else with the same key, or a book that is
older than the chain (a restored backup). Both are for a person: no new signature until one has accepted (`accept-restored`), which sets a
new floor.
"""

from __future__ import annotations

import itertools
from typing import TypeAlias

import msgspec

FOREIGN = "submit.nonces"
MOST_TOLD = 100
"""Missing nonces that are named."""
RESTORED = "submit.restored"


class View(msgspec.Struct, frozen=True):
    """Counts are numbers of transactions: the account's next nonce at `latest`, in the pool, and at `finalized`.

    `highest` is the highest nonce of any slot of the book, `open` the nonces of slots whose intent is not final, `unsigned` those of them
    that nothing was ever signed for, `settled` the highest nonce that the book has seen final on chain. `accepted` is the floor that a
    person accepted last, offered when the index was at height `offered_at`; `final_height` is the block of the count at `finalized`.
    `restored`: the book was put back from a backup and nobody has accepted that yet. `exclusive`: nobody else may
    have held the account, as there is no lease."""

    latest: int
    pending: int
    finalized: int
    highest: int | None = None
    open: tuple[int, ...] = ()
    unsigned: tuple[int, ...] = ()
    settled: int | None = None
    accepted: int | None = None
    offered_at: int | None = None
    final_height: int | None = None
    restored: bool = False
    exclusive: bool = True


class Ok(msgspec.Struct, frozen=True):
    """`floor` is the least nonce to reserve."""

    floor: int


class Foreign(msgspec.Struct, frozen=True):
    """Somebody else used the key, or this book forgot what it did: set the latch `FOREIGN`. `floor` is what accepting it would set."""

    why: str
    floor: int


class Restored(msgspec.Struct, frozen=True):
    """Set the latch `RESTORED`. `floor` is what accepting it would set."""

    why: str
    floor: int


class Gap(msgspec.Struct, frozen=True):
    """Nonces that nothing of ours fills, so that everything after them waits for ever: set the latch `FOREIGN`."""

    missing: tuple[int, ...]
    why: str


class Behind(msgspec.Struct, frozen=True):
    """The node knows less than the book, or the pool has not settled: ask again later, and reserve nothing meanwhile."""

    why: str


Audit: TypeAlias = Ok | Foreign | Restored | Gap | Behind


def audit(view: View) -> Audit:
    """At the start, and whenever counts were read."""
    count = max(view.latest, view.finalized)
    # What a person accepted silences a latch and raises nothing: a count that one node invented once would jam the account for ever.
    floor = max(count, view.pending, 0 if view.highest is None else view.highest + 1)
    if view.restored:
        return Restored(
            f"this book was restored from a backup; the chain counts {count}, the book's slots end at {_end(view)}",
            floor,
        )
    if view.settled is not None and count <= view.settled:
        return Behind(f"the node counts {count} transactions, nonce {view.settled} was final already: it is behind")
    if view.accepted is not None and max(count, view.pending) < view.accepted and not _outlived(view):
        why = f"the node counts {count} transactions, {view.accepted} were accepted as made: it is behind"
        return Behind(f"{why}, unless a final block above {view.offered_at} says so too")
    return _foreign(view, count, floor) or _gap(view) or Ok(floor)


def following(*, highest: int | None, floor: int) -> int:
    """The nonce of the next slot."""
    return floor if highest is None else max(highest + 1, floor)


def _outlived(view: View) -> bool:
    """Whether a count below what was accepted is of a block from after it, and final: then what was offered was a wrong answer."""
    return view.offered_at is None or (view.final_height is not None and view.final_height > view.offered_at)


def _foreign(view: View, count: int, floor: int) -> Foreign | Behind | None:
    used = [nonce for nonce in view.unsigned if nonce < count]
    if used:
        why = f"nonce {min(used)} is used on chain, and nothing was ever signed for it here"
        return Foreign(f"{why}: as long as the intent that has it is open, clearing the latch sets it again", floor)
    if view.exclusive and view.unsigned and view.pending > min(view.unsigned):
        return Foreign(f"the pool holds nonce {min(view.unsigned)}, and nothing was ever signed for it here", floor)
    if view.highest is None and view.accepted is None:
        # The first start: what the account did before is nobody's fault, unless some of it is still on its way.
        if view.pending > count:
            return Foreign(
                f"the pool holds transactions up to nonce {view.pending - 1} that are not this book's", floor
            )
        return None
    known = max(_end(view), view.accepted or 0)
    if count > known:
        return Foreign(f"the chain counts {count} transactions, this book knows of {known}", floor)
    if view.pending > known:
        why = f"the pool holds transactions up to nonce {view.pending - 1}, this book knows of {known}"
        # A lease's former holder may have left something on its way: it is foreign when it is mined.
        return Foreign(why, floor) if view.exclusive else Behind(why)
    return None


def _gap(view: View) -> Gap | None:
    """Every nonce that is not mined and below one of ours must be ours too."""
    if not view.open:
        return None
    # What a person accepted may still be in the pool, and will be mined before ours; once it is dropped there, it is a gap.
    first = max(view.latest, min(view.pending, view.accepted or 0))
    # A lying node may have made the distance any length: only as many are looked at as are told.
    ours = frozenset(view.open)
    missing = tuple(itertools.islice((nonce for nonce in range(first, max(ours)) if nonce not in ours), MOST_TOLD))
    if not missing:
        return None
    return Gap(missing, f"nonce {missing[0]} is free, and {max(view.open)} waits behind it")


def _end(view: View) -> int:
    """One more than the highest nonce of a slot."""
    return 0 if view.highest is None else view.highest + 1
