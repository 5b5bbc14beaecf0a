"""Metrics for Prometheus. In: observations as they happen, and the status at a scrape. Out: the text format, from a registry of our own.

Names follow the field: `stakeside_` and the unit last, counters end in `_total`. Labels have few values by construction; nothing from
the chain becomes a label. Every name is described in `docs/metrics.md`.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from typing import get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, generate_latest

from agent.web import view
from domain import hashing, intent
from kit import runtime, tls
from store import queries

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SERVICE_STATES: tuple[runtime.Status, ...] = ("starting", "ok", "degraded", "latched", "stopped")
BELT_STATES = ("running", "stopped", "paused", "waiting", "off")
NODE_STATES = ("starting", "backfill", "following", "behind", "gap", "violated", "wrong-chain")
_SECONDS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_DEPTHS = (1, 2, 3, 5, 8, 13, 21, 34, 64, 128)
_ROWS = (0, 1, 10, 50, 100, 500, 1000, 2000, 5000)


class Metrics:
    """`node_exchange`, `index` and `step` are called by whoever `agent.app` hands them to; `render` is one scrape."""

    def __init__(self, *, version: str) -> None:
        registry = CollectorRegistry(auto_describe=True)
        self.registry = registry

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"stakeside_{name}", text, labels, registry=registry)

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"stakeside_{name}", text, labels, registry=registry)

        def histogram(name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
            return Histogram(f"stakeside_{name}", text, labels, buckets=buckets, registry=registry)

        self._build = Info("stakeside_build", "Version of this agent and of Python.", registry=registry)
        self._build.info({"version": version, "python": platform.python_version()})
        self._ready = gauge("ready", "1 when the agent is ready, as /readyz says.")
        self._alive = gauge("alive", "1 when every service stepped or waits with a deadline ahead, as /healthz says.")
        self._index_head = gauge("index_head_block", "Number of the last indexed block.")
        self._index_finalized = gauge("index_finalized_block", "Number of the last block the index holds as final.")
        self._index_generation = gauge("index_generation", "How often the index was moved other than forward.")
        self._lag = gauge("index_lag_blocks", "Blocks between the node's head and the index.")
        self._node_head = gauge("node_head_block", "Number of the node's head block.")
        self._node_state = gauge("node_state", "1 for the index stage's present state, 0 for the others.", "state")
        self._requests = histogram("node_request_seconds", "Time of one exchange with the node.", _SECONDS, "method")
        self._node_errors = counter("node_errors_total", "Failed exchanges with the node, by class of error.", "error")
        self._lies = counter("node_lies_total", "Answers of the node that were proven false.")
        self._reorgs = counter("reorgs_total", "Reorganisations indexed since the start.")
        self._depth = histogram("reorg_depth_blocks", "Blocks put aside by a reorganisation.", _DEPTHS)
        self._commit_rows = histogram("index_commit_rows", "Log rows of one index transaction.", _ROWS)
        self._commit_seconds = histogram("index_commit_seconds", "Time of one index transaction.", _SECONDS)
        self._events = counter("events_total", "Staking events written, orphaned ones included.", "kind")
        self._logs = gauge("logs", "Log rows in the book.", "chain")
        self._blocks = gauge("blocks", "Block rows in the book.", "chain")
        self._latch = gauge("latches", "Latches that are set: an operator must look.")
        self._parked = gauge("parked_items", "Logs that are set aside and hold up their stream's frame.")
        self._gaps = gauge("gaps_open", "Ranges this node cannot serve.")
        self._frame = gauge("frame_sequence", "Sequence of the newest closed frame.", "stream")
        self._frame_end = gauge("frame_end_block", "Last block of the newest closed frame.", "stream")
        self._statements = counter(
            "statements_total", "Frames this agent closed or adopted, first revisions.", "stream"
        )
        self._attested = counter("attestations_total", "Statements signed.")
        self._receipts = counter("receipts_total", "Verified receipts of the hub that are kept.")
        self._outbox = gauge("outbox_depth", "Items the hub has not yet signed for.")
        self._outbox_age = gauge("outbox_oldest_seconds", "Age of the oldest such item, 0 when there is none.")
        self._hub_up = gauge(
            "hub_reachable", "1 when the hub answered last time, 0 when not, absent without a hub.", "hub"
        )
        self._refused = counter("hub_refusals_total", "Items the hub refused.")
        self._amnesia = counter("hub_amnesia_total", "Times the hub's receipts showed that it had lost its memory.")
        self._belt = gauge("belt_state", "1 for a belt's present state, 0 for the others.", "belt", "state")
        self._paused = gauge("paused", "1 while a person keeps submission paused.")
        self._intents = gauge("intents", "Intents by state.", "state")
        self._intent_age = gauge(
            "intent_oldest_seconds", "Seconds since the oldest intent that is not final was proposed, 0 without one."
        )
        self._blocked = gauge("submission_blocked", "1 while nothing new is signed: a latch, a pause, or no lease.")
        self._left = gauge("left_intents", "Open intents of accounts whose key this agent does not have.")
        self._leased = gauge("lease_held", "1 while this agent holds its account's lease.")
        self._balance = gauge("account_balance_gwei", "Coins of the account, as of the last look, in whole gwei.")
        self._transactions = counter(
            "transactions_total", "What happened to transactions, by kind of attempt and outcome.", "kind", "outcome"
        )
        self._refused_requests = counter(
            "requests_refused_total",
            "Requests that were turned away, by HTTP status: 503 is one too many at a time.",
            "status",
        )
        self._expires = gauge(
            "certificate_expires_timestamp_seconds", "When a certificate in use ends, in unix seconds.", "use"
        )
        self._begins = gauge(
            "certificate_begins_timestamp_seconds",
            "From when on a certificate in use is valid, in unix seconds.",
            "use",
        )
        self._service = gauge("service_state", "1 for a service's present state, 0 for the others.", "service", "state")
        self._steps = histogram("service_step_seconds", "Time of one step.", _SECONDS, "service")
        self._failures = counter("service_failures_total", "Failed steps.", "service")
        self._scrape_seen: dict[object, float] = {}
        self._certificates: Callable[[], Mapping[str, tls.Term]] = dict

    def node_exchange(self, method: str, seconds: float, outcome: str) -> None:
        """One exchange with the node: `outcome` is "ok" or the error's class name."""
        self._requests.labels(method).observe(seconds)
        if outcome != "ok":
            self._node_errors.labels(outcome).inc()

    def index(self, name: str, value: float) -> None:
        """`reorg_depth` in blocks, `commit_rows`, `commit_s` in seconds."""
        match name:
            case "reorg_depth":
                self._reorgs.inc()
                self._depth.observe(value)
            case "commit_rows":
                self._commit_rows.observe(value)
            case "commit_s":
                self._commit_seconds.observe(value)
            case _:
                raise ValueError(f"no such observation: {name}")

    def step(self, service: str, seconds: float) -> None:
        self._steps.labels(service).observe(seconds)

    def transaction(self, kind: str, outcome: str) -> None:
        """`kind` of the attempt: original, bump or cancel."""
        self._transactions.labels(kind, outcome).inc()

    def account(self, balance_wei: int) -> None:
        self._balance.set(balance_wei // 10**9)

    def lease(self, held: Callable[[], bool]) -> None:
        """Ask `held` at every scrape."""
        self._leased.set_function(held)

    def certificates(self, terms: Callable[[], Mapping[str, tls.Term]]) -> None:
        """Ask `terms` at every scrape, by use."""
        self._certificates = terms

    def request_refused(self, status: int) -> None:
        """A request that came without the right to it, by HTTP status."""
        self._refused_requests.labels(str(status)).inc()

    def render(self, status: view.Status, *, alive: bool, now_s: int = 0, belt: queries.Belt | None = None) -> bytes:
        """The text of one scrape."""
        self._ready.set(status.ready)
        self._alive.set(alive)
        self._set_certificates()
        self._set_index(status)
        self._set_streams(status)
        self._set_delivery(status)
        self._set_services(status)
        self._set_people(status, belt, now_s)
        return generate_latest(self.registry)

    def _set_certificates(self) -> None:
        self._begins.clear()
        self._expires.clear()
        for use, term in self._certificates().items():
            self._begins.labels(use).set(term.begins_s)
            self._expires.labels(use).set(term.ends_s)

    def _set_index(self, status: view.Status) -> None:
        if status.index is not None:
            self._index_head.set(status.index.number)
        if status.finalized is not None:
            self._index_finalized.set(status.finalized.number)
        self._index_generation.set(status.generation)
        if status.lag_blocks is not None:
            self._lag.set(status.lag_blocks)
        if status.node.head is not None:
            self._node_head.set(status.node.head)
        for state in NODE_STATES:
            self._node_state.labels(state).set(state == status.node.state)
        self._raise_to(self._lies, status.node.lies)
        for kind, count in status.events.items():
            self._raise_to(self._events.labels(kind), count)
        counts = status.counts
        self._logs.labels("canonical").set(counts.logs)
        self._logs.labels("orphaned").set(counts.logs_orphaned)
        self._blocks.labels("canonical").set(counts.blocks)
        self._blocks.labels("orphaned").set(counts.blocks_orphaned)
        self._latch.set(len(status.latches))
        self._parked.set(len(status.parked))
        self._gaps.set(counts.gaps_open)

    def _set_streams(self, status: view.Status) -> None:
        for name, stream in status.streams.items():
            closed = 0 if stream.frame is None else stream.frame.sequence + 1
            self._raise_to(self._statements.labels(name), closed)
            if stream.frame is not None:
                self._frame.labels(name).set(stream.frame.sequence)
                self._frame_end.labels(name).set(stream.frame.to_position)

    def _set_delivery(self, status: view.Status) -> None:
        self._raise_to(self._attested, status.counts.votes)
        self._raise_to(self._receipts, status.counts.receipts)
        self._outbox.set(status.outbox.depth)
        self._outbox_age.set(status.outbox.oldest_s or 0)
        if status.hub is not None:
            self._hub_up.labels(status.hub.url).set(status.hub.reachable)
            self._raise_to(self._refused, status.hub.refused)
            self._raise_to(self._amnesia, status.hub.amnesia)

    def _set_services(self, status: view.Status) -> None:
        for name, service in status.services.items():
            for state in SERVICE_STATES:
                self._service.labels(name, state).set(state == service.status)
            self._raise_to(self._failures.labels(name), service.failures_total)

    def _set_people(self, status: view.Status, belt: queries.Belt | None, now_s: int) -> None:
        for item in status.belts:
            for state in BELT_STATES:
                self._belt.labels(item.name, state).set(state == item.state)
            if item.name == "staking":
                self._blocked.set(item.state not in ("running", "off"))
        if belt is None:
            return
        self._paused.set(belt.paused is not None)
        others = [count for address, count in belt.holding.items() if hashing.hex0x(address) != status.account]
        self._left.set(sum(others))
        for state in get_args(intent.State):
            self._intents.labels(state).set(belt.states.get(state, 0))
        self._intent_age.set(0 if belt.open_since_s is None else max(0, now_s - belt.open_since_s))

    def _raise_to(self, counter: Counter, value: int) -> None:
        """Bring a counter up to what the book counts. Never down: a counter that falls looks like a restart."""
        seen = self._scrape_seen.get(counter, 0.0)
        if value > seen:
            counter.inc(value - seen)
            self._scrape_seen[counter] = float(value)
