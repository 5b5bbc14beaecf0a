"""What the staking services share: one account, its node, its lease, its policy. In: settings' plain values. Out: a frozen value each holds.

Nothing here is a stage; the stages meet in the book. The only thing that one tells another outside of it is a bell, and which signed
transactions are to be sent again: that is found again from the book after a crash.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

import msgspec

from agent.delegations import policy
from indexers.chain import account
from kit import runtime
from store import book

Observe = Callable[[str, str], None]
"""(kind of attempt, outcome): one for each thing that happens to a transaction."""
Balance = Callable[[int], None]
"""The account's coins in wei, whenever they were read."""

LEAST_S = 0.25
MOST_AGAIN = 256
"""Hashes that can be asked for again at once; what is beyond is asked for again later."""


class Guard(Protocol):
    """The account's lease, as `agent.services.lease` keeps it."""

    @property
    def reason(self) -> str: ...

    def token(self) -> int | None: ...

    def following(self) -> int | None: ...


class Timing(msgspec.Struct, frozen=True):
    """In seconds. `poll_s` is how often open intents are looked at; an approval is waited for `approval_ttl_s`."""

    poll_s: float
    resend_after_s: int
    bump_after_s: int
    approval_ttl_s: int


class Gentle(runtime.Bell):
    """Passes on a ring at most every `LEAST_S`: an index that backfills rings many times a second, and each look asks the node. What is
    not passed on is found by polling."""

    def __init__(self, bell: runtime.Bell, clock: runtime.Clock) -> None:
        super().__init__()
        self._bell = bell
        self._clock = clock
        self._rang: float | None = None

    def ring(self) -> None:
        now = self._clock.monotonic()
        if self._rang is None or now - self._rang >= LEAST_S:
            self._rang = now
            self._bell.ring()


class Again:
    """Hashes to be sent again, in the order they were asked for."""

    def __init__(self) -> None:
        self._hashes: dict[bytes, None] = {}

    def ask(self, hashes: Iterable[bytes]) -> None:
        for tx_hash in hashes:
            if len(self._hashes) < MOST_AGAIN:
                self._hashes[tx_hash] = None

    def take(self, most: int) -> list[bytes]:
        taken = list(self._hashes)[:most]
        for tx_hash in taken:
            del self._hashes[tx_hash]
        return taken


class Delegator(msgspec.Struct, frozen=True):
    """`address` has 20 bytes; `assets` are by protocol, for the words of decisions."""

    book: book.Book
    chain_id: int
    address: bytes
    node: account.Account
    policy: policy.Policy
    guard: Guard
    clock: runtime.Clock
    timing: Timing
    again: Again
    observe: Observe
    balance: Balance = lambda wei: None
    assets: Mapping[str, policy.Asset] = {}

    def now(self) -> int:
        return int(self.clock.now())
