"""The reorg follower: a state machine without I/O. In: what the node shows. Out: what the caller must do next.

It holds the unfinalized part of the chain that is in the book, linked by parent hash onto `anchor` (the finalized block; or, until
`settled`, a block of history that no finalized header was linked to yet), and compares it with headers of the remote chain:

    duplicate   the remote head is ours                      → Idle
    behind      the remote head is lower than ours           → Behind   (a node that lags, rolled back or restarted: wait)
    next        the remote head's parent is our head         → Committed
    fork, gap   anything else                                → Need the parent, by hash, until one is ours, then
                                                               Reverted (down to the common ancestor) and Committed
                or the walk passes below the anchor          → Violation

Nothing is reverted before its whole replacement is known and at least as high. The machine proposes; its state changes only when the
caller reports with `applied` what it has committed. Losing an output therefore loses nothing: show the next head.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

import msgspec

from domain import chain

MAX_GAP = 1024
"""Blocks that a walk may lie above our head. The caller closes a longer gap in pieces: it shows a header nearer to our head."""


class Idle(msgspec.Struct, frozen=True):
    """Nothing to do."""


class Behind(msgspec.Struct, frozen=True):
    """The remote head is lower than ours. Wait; never revert for this."""

    remote: chain.BlockRef
    local: chain.BlockRef


class Need(msgspec.Struct, frozen=True):
    """Fetch this header by hash and pass it to `parent`; or `missing` when the node does not have it."""

    number: int
    hash: bytes


class Reverted(msgspec.Struct, frozen=True):
    """These blocks of ours, newest first, are no longer canonical."""

    headers: tuple[chain.Header, ...]
    ancestor: chain.BlockRef


class Committed(msgspec.Struct, frozen=True):
    """These blocks, oldest first, follow on our head. A prefix may be applied alone."""

    headers: tuple[chain.Header, ...]


class Finalized(msgspec.Struct, frozen=True):
    """Blocks up to `ref` are final: it is ours, and by its hash the remote's finalized block (or `depth` below our head)."""

    ref: chain.BlockRef


class Violation(msgspec.Struct, frozen=True):
    """The remote chain contradicts our anchor: what is final here, or, unsettled, only what was read before."""

    final: chain.BlockRef
    remote: chain.BlockRef


class Refused(msgspec.Struct, frozen=True):
    """The remote's statement contradicts itself and is ignored."""

    why: str


Output = Idle | Behind | Need | Reverted | Committed | Violation


class Follower:
    """One chain's unfinalized window. `depth` is the finality rule where the chain has no `finalized` tag."""

    def __init__(
        self,
        anchor: chain.BlockRef,
        headers: Sequence[chain.Header] = (),
        *,
        depth: int | None = None,
        settled: bool = True,
    ) -> None:
        self._anchor = anchor
        self._settled = settled
        self._depth = depth
        self._chain: list[chain.Header] = []
        self._walk: list[chain.Header] = []  # newest first
        for header in headers:
            self._append(header)

    def __repr__(self) -> str:
        return f"Follower({self._anchor} +{len(self._chain)}, walk {len(self._walk)})"

    @property
    def anchor(self) -> chain.BlockRef:
        """The newest final block, or where our knowledge of links begins; nothing at or below it changes by this machine."""
        return self._anchor

    @property
    def settled(self) -> bool:
        """Whether the anchor is known to be final."""
        return self._settled

    @property
    def head(self) -> chain.BlockRef:
        return self._chain[-1].ref if self._chain else self._anchor

    @property
    def window(self) -> tuple[chain.Header, ...]:
        return tuple(self._chain)

    def at(self, number: int) -> chain.BlockRef | None:
        """Our block at a height, if the window or the anchor has it."""
        if number == self._anchor.number:
            return self._anchor
        index = number - self._anchor.number - 1
        return self._chain[index].ref if 0 <= index < len(self._chain) else None

    # --- inputs ---

    def seen(self, remote: chain.Header) -> Output:
        """The remote chain's head. Any walk in progress is dropped: what was the head no longer is."""
        self._walk.clear()
        head = self.head
        if remote.hash == head.hash:
            return Idle()
        if remote.number < head.number:
            return Behind(remote.ref, head)
        return self._step(remote)

    def parent(self, header: chain.Header) -> Output:
        """The header that `Need` asked for. Another one ends the walk."""
        if not self._walk or header.hash != self._walk[-1].parent or header.number != self._walk[-1].number - 1:
            self._walk.clear()
            return Idle()
        return self._step(header)

    def missing(self) -> Output:
        """The node no longer has the header that `Need` asked for: the fork moved on. Show the new head."""
        self._walk.clear()
        return Idle()

    def finality(self, remote: chain.Header | None, *, best: chain.Header) -> Finalized | Violation | Refused | Idle:
        """The remote chain's finalized block (None under the depth rule) and its head."""
        if self._depth is not None:
            ours = self.at(self.head.number - self._depth)
            return Idle() if ours is None or (ours == self._anchor and self._settled) else Finalized(ours)
        if remote is None:
            return Idle()
        if remote.number > best.number or (remote.number == best.number and remote.hash != best.hash):
            return Refused(f"the finalized block {remote.ref} is not an ancestor of the head {best.ref}")
        ours = self.at(remote.number)
        if ours is None:
            return Idle()  # below the anchor: nothing new; above our head: deferred until we have the block
        if ours.hash == remote.hash:
            return Idle() if ours == self._anchor and self._settled else Finalized(ours)
        # Above the anchor a mismatch only means that our window is on a fork not yet left.
        return Violation(ours, remote.ref) if ours == self._anchor else Idle()

    def applied(self, done: Reverted | Committed | Finalized) -> None:
        """What the caller has committed to the book."""
        match done:
            case Reverted():
                for header in done.headers:
                    _require(
                        bool(self._chain) and self._chain[-1].hash == header.hash, "a revert takes blocks off the head"
                    )
                    self._chain.pop()
            case Committed():
                for header in done.headers:
                    self._append(header)
            case Finalized():
                _require(self.at(done.ref.number) == done.ref, "only a block of the window becomes final")
                del self._chain[: done.ref.number - self._anchor.number]
                self._anchor = done.ref
                self._settled = True
            case _:
                assert_never(done)
        self._walk.clear()

    # --- the decision ---

    def _step(self, header: chain.Header) -> Output:
        """One header down the remote chain; it is not ours."""
        if header.number <= self._anchor.number:
            return self._violated(header.ref)
        self._walk.append(header)
        below = self.at(header.number - 1)
        if below is not None and below.hash == header.parent:
            return self._found(below)
        if header.number - 1 == self._anchor.number:
            return self._violated(chain.BlockRef(header.number - 1, header.parent))
        if len(self._walk) > len(self._chain) + MAX_GAP:
            self._walk.clear()
            return Idle()
        return Need(header.number - 1, header.parent)

    def _found(self, ancestor: chain.BlockRef) -> Reverted | Committed:
        keep = ancestor.number - self._anchor.number
        if keep < len(self._chain):
            return Reverted(tuple(reversed(self._chain[keep:])), ancestor)
        headers = tuple(reversed(self._walk))
        self._walk.clear()
        return Committed(headers)

    def _violated(self, remote: chain.BlockRef) -> Violation:
        self._walk.clear()
        return Violation(self._anchor, remote)

    def _append(self, header: chain.Header) -> None:
        head = self.head
        _require(
            header.number == head.number + 1 and header.parent == head.hash, f"{header.ref} does not follow on {head}"
        )
        self._chain.append(header)


def _require(condition: bool, rule: str) -> None:
    """An invariant of the machine: breaking one is our bug, and no state may be built on it."""
    if not condition:
        raise AssertionError(rule)
