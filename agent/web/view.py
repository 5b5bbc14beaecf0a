"""What people and machines see of an agent. In: the book's summary and live values. Out: readiness with reasons, and the status document.

Live values come from `agent.app` as one frozen `Live`; everything else is read from the book, so a page and a restart agree. What is shown
of the staking belt and its people is in `agent.web.items`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from domain import hashing
from kit import logs, runtime
from store import queries

FAILURES_TO_REPORT = 3
"""A single hiccup of a node must not flip readiness; three in a row mean that it is away."""
OPTIONAL = ("report", "adopt", "heads", "lease")
"""Services that can fail while the agent is of use: a hub that is away stops no indexing and no attesting, and polling replaces a
websocket."""


class Node(msgspec.Struct, frozen=True):
    """`name` is host and port only. `state` and `reason` are the index stage's own words; `head` is the node's, in blocks."""

    name: str
    state: str
    reason: str = ""
    head: int | None = None
    lies: int = 0


class Hub(msgspec.Struct, frozen=True):
    url: str
    reachable: bool
    last_error: str = ""
    last_receipt: int = 0
    amnesia: int = 0
    refused: int = 0


class Waiting(msgspec.Struct, frozen=True):
    """Why a stream's next frame is still open."""

    sequence: int
    reason: str


class Belt(msgspec.Struct, frozen=True):
    """`earning` or `staking`. `off`: not configured; `stopped`: by a latch; `paused`: by a person; `waiting`: for its lease. `reasons`
    say why it does not run; `counts` are of intents by state (staking) or empty."""

    name: str
    state: str
    reasons: list[str]
    counts: dict[str, int] = {}


class Lease(msgspec.Struct, frozen=True):
    """`token` is None while it is not held, and then `reason` says why."""

    token: int | None
    reason: str = ""


class Staking(msgspec.Struct, frozen=True):
    """The staking belt as the running process knows it; amounts nowhere."""

    account: bytes
    lease: Lease
    policy_hash: bytes


class Live(msgspec.Struct, frozen=True):
    """What only the running process knows. `streams` maps names to ids; `attester` is None for an agent that only observes."""

    name: str
    chain_id: int
    deployment: bytes
    streams: Mapping[str, bytes]
    node: Node
    services: Sequence[runtime.ServiceState]
    stuck: Sequence[str] = ()
    attester: bytes | None = None
    hub: Hub | None = None
    waiting: Mapping[str, Waiting] = {}
    staking: Staking | None = None


class Block(msgspec.Struct, frozen=True):
    number: int
    hash: str


class Frame(msgspec.Struct, frozen=True):
    """The newest frame of a stream; `evidence` is the hash chain over its logs."""

    sequence: int
    revision: int
    digest: str
    evidence: str
    origin: str
    to_position: int


class StreamStatus(msgspec.Struct, frozen=True):
    id: str
    frame: Frame | None
    next: Waiting | None


class ServiceStatus(msgspec.Struct, frozen=True):
    status: str
    reason: str
    steps: int
    failures_total: int


class LatchStatus(msgspec.Struct, frozen=True):
    name: str
    reason: str
    set_at_s: int


class ParkedStatus(msgspec.Struct, frozen=True):
    subject: str
    block_hash: str
    log_index: int
    reason: str


class OutboxStatus(msgspec.Struct, frozen=True):
    depth: int
    oldest_s: int | None
    why: str


class Counts(msgspec.Struct, frozen=True):
    blocks: int
    blocks_orphaned: int
    logs: int
    logs_orphaned: int
    gaps_open: int
    votes: int
    receipts: int


class Status(msgspec.Struct, frozen=True):
    """`GET /status`. Hashes and digests are 0x-hex, times unix seconds, amounts nowhere."""

    name: str
    version: str
    chain_id: int
    deployment: str
    attester: str | None
    ready: bool
    reasons: list[str]
    index: Block | None
    finalized: Block | None
    generation: int
    lag_blocks: int | None
    node: Node
    services: dict[str, ServiceStatus]
    latches: list[LatchStatus]
    parked: list[ParkedStatus]
    streams: dict[str, StreamStatus]
    outbox: OutboxStatus
    hub: Hub | None
    counts: Counts
    events: dict[str, int]
    belts: list[Belt]
    account: str | None
    policy: str | None


def lag_blocks(live: Live, summary: queries.Summary) -> int | None:
    """Blocks between the node's head and ours; None while one of them is unknown."""
    index = summary.cursors.get("index")
    if live.node.head is None or index is None:
        return None
    return max(0, live.node.head - index.number)


def _ahead_blocks(live: Live, summary: queries.Summary) -> int:
    """How far the index is beyond the node: a node that starts anew has no lag, and no use. Some blocks are a balancer's."""
    index = summary.cursors.get("index")
    return 0 if live.node.head is None or index is None else max(0, index.number - live.node.head)


def not_ready(live: Live, summary: queries.Summary, *, max_lag_blocks: int) -> list[str]:
    """Why this agent should not be relied on now; empty when it can be."""
    reasons = [f"latch {latch.name}: {latch.reason}" for latch in summary.latches]
    if live.node.state == "wrong-chain":
        reasons.append(f"the node serves another chain: {live.node.reason}")
    elif live.node.state == "gap":
        reasons.append(f"the node lacks history that the index needs: {live.node.reason}")
    lag = lag_blocks(live, summary)
    if lag is None:
        reasons.append("no block of the node is indexed yet")
    elif lag > max_lag_blocks:
        reasons.append(f"{lag} blocks behind the node's head, the limit is {max_lag_blocks}")
    ahead = _ahead_blocks(live, summary)
    if ahead > max_lag_blocks:
        reasons.append(f"the node's head is {ahead} blocks lower than the index, the limit is {max_lag_blocks}")
    for service in live.services:
        if service.status == "latched":
            reasons.append(f"service {service.name} stopped after repeated failures: {service.reason}")
        elif service.status == "degraded" and service.name not in OPTIONAL and service.in_a_row >= FAILURES_TO_REPORT:
            reasons.append(f"service {service.name} keeps failing: {service.reason}")
    return [logs.scrub(reason) for reason in reasons]


def status(
    live: Live,
    summary: queries.Summary,
    *,
    max_lag_blocks: int,
    now_s: int,
    version: str,
    belts: Sequence[Belt] = (),
    waiting_gaps: Sequence[str] = (),
    left: Sequence[str] = (),
) -> Status:
    """`waiting_gaps` names gaps that nobody has adopted yet where a person has to; `left` is what else keeps it from
    being ready: open intents whose key is not here, a key that nobody lists."""
    reasons = not_ready(live, summary, max_lag_blocks=max_lag_blocks)
    reasons += [f"{gap} waits for a person to adopt it" for gap in waiting_gaps] + [*left]
    index = summary.cursors.get("index")
    finalized = summary.cursors.get("finalized")
    tips = {tip.stream: tip for tip in summary.tips}
    since = summary.outbox_since_s
    return Status(
        name=live.name,
        version=version,
        chain_id=live.chain_id,
        deployment=hashing.hex0x(live.deployment),
        attester=None if live.attester is None else hashing.hex0x(live.attester),
        ready=not reasons,
        reasons=reasons,
        index=None if index is None else Block(index.number, hashing.hex0x(index.hash)),
        finalized=None if finalized is None else Block(finalized.number, hashing.hex0x(finalized.hash)),
        generation=0 if index is None else index.generation,
        lag_blocks=lag_blocks(live, summary),
        node=live.node,
        services={s.name: ServiceStatus(s.status, s.reason, s.steps, s.failures_total) for s in live.services},
        latches=[LatchStatus(item.name, item.reason, item.set_at_s) for item in summary.latches],
        parked=[
            ParkedStatus(item.subject, hashing.hex0x(item.block_hash), item.log_index, item.reason)
            for item in summary.parked
        ],
        streams={
            name: StreamStatus(hashing.hex0x(id_), _frame(tips.get(id_)), live.waiting.get(name))
            for name, id_ in live.streams.items()
        },
        outbox=OutboxStatus(summary.outbox_depth, None if since is None else max(0, now_s - since), summary.outbox_why),
        hub=live.hub,
        counts=Counts(
            blocks=summary.blocks,
            blocks_orphaned=summary.blocks_orphaned,
            logs=summary.logs,
            logs_orphaned=summary.logs_orphaned,
            gaps_open=summary.gaps_open,
            votes=summary.votes,
            receipts=summary.receipts,
        ),
        events=summary.events,
        belts=list(belts),
        account=None if live.staking is None else hashing.hex0x(live.staking.account),
        policy=None if live.staking is None else hashing.hex0x(live.staking.policy_hash),
    )


def _frame(tip: queries.Tip | None) -> Frame | None:
    if tip is None:
        return None
    return Frame(
        sequence=tip.sequence,
        revision=tip.revision,
        digest=hashing.hex0x(tip.digest),
        evidence=hashing.hex0x(tip.evidence),
        origin=tip.origin,
        to_position=tip.to_position,
    )
