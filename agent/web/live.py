"""The running process, as `agent.app` hands it to the web. In: its parts. Out: a frozen picture of a moment.

What the web asks of the stages is spelled here as protocols, because it knows none of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, Protocol
from urllib.parse import urlsplit

import msgspec

from agent.web import items, view
from domain import chain, intent
from kit import logs, runtime
from store import book


class Index(Protocol):
    """What is asked of the index stage."""

    @property
    def state(self) -> str: ...

    @property
    def reason(self) -> str: ...

    @property
    def remote_head(self) -> chain.BlockRef | None: ...

    @property
    def counts(self) -> Counts: ...


class Counts(Protocol):
    @property
    def lies(self) -> int: ...


class Hub(Protocol):
    """What is asked of the report stage about the hub."""

    @property
    def url(self) -> str: ...

    @property
    def reachable(self) -> bool: ...

    @property
    def last_error(self) -> str: ...

    @property
    def last_receipt(self) -> int: ...

    @property
    def amnesia(self) -> int: ...

    @property
    def refused(self) -> int: ...


class Waiting(Protocol):
    """Why a stream's next frame is open, as the close stage says it."""

    @property
    def sequence(self) -> int: ...

    @property
    def reason(self) -> str: ...


class LeaseGuard(Protocol):
    """What is asked of the lease."""

    def token(self) -> int | None: ...

    @property
    def reason(self) -> str: ...


Validate = Callable[[str, str, str, Mapping[str, str]], intent.Intent]
"""(key, protocol, action, arguments as a person wrote them) → the intent with canonical arguments. Raises StakesideError, which says what is
wrong with them and what to do."""


class Staking(msgspec.Struct, frozen=True):
    """The staking belt, where there is one. `policy_body` is canonical JSON; `ttl_s` is how long an intent lasts that says nothing else, and
    `approval_ttl_s` how long an approval counts."""

    account: bytes
    validate: Validate
    actions: Sequence[items.Action]
    policy_hash: bytes
    policy_body: bytes
    lease: LeaseGuard
    ttl_s: int = 3600
    approval_ttl_s: int | None = None


class Live(msgspec.Struct, frozen=True):
    """`streams` maps names to ids; `ring` wakes every stage after somebody changed something; without `staking` the agent observes.
    `assets` are by protocol, for people; `standing` is why it is not ready until it is started with other settings."""

    name: str
    chain_id: int
    deployment: bytes
    node_url: str
    max_lag_blocks: int
    streams: Mapping[str, bytes]
    book: book.Book
    index: Index
    supervisor: runtime.Supervisor
    clock: runtime.Clock
    waiting: Mapping[str, Waiting]
    hub: Hub | None = None
    attester: bytes | None = None
    staking: Staking | None = None
    ring: Callable[[], None] = lambda: None
    read: Literal["anyone", "viewer"] = "anyone"
    adopt: Literal["auto", "ask"] = "auto"
    assets: Mapping[str, items.Asset] = {}
    standing: tuple[str, ...] = ()

    def now(self) -> view.Live:
        """A frozen picture of this moment."""
        head = self.index.remote_head
        hub = self.hub
        staking = self.staking
        return view.Live(
            name=self.name,
            chain_id=self.chain_id,
            deployment=self.deployment,
            streams=self.streams,
            node=view.Node(
                name=urlsplit(self.node_url).netloc.rpartition("@")[2],
                state=self.index.state,
                reason=logs.scrub(self.index.reason),
                head=None if head is None else head.number,
                lies=self.index.counts.lies,
            ),
            services=tuple(self.supervisor.states.values()),
            stuck=tuple(self.supervisor.stuck()),
            attester=self.attester,
            hub=None
            if hub is None
            else view.Hub(
                url=logs.safe_url(hub.url),
                reachable=hub.reachable,
                last_error=logs.scrub(hub.last_error),
                last_receipt=hub.last_receipt,
                amnesia=hub.amnesia,
                refused=hub.refused,
            ),
            waiting={name: view.Waiting(item.sequence, item.reason) for name, item in self.waiting.items()},
            staking=None
            if staking is None
            else view.Staking(
                staking.account,
                view.Lease(staking.lease.token(), logs.scrub(staking.lease.reason)),
                staking.policy_hash,
            ),
        )
