"""Counters and gauges of the hub, `stakeside_hub_*`. Labels come from fixed sets and from the document, never from a peer."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from kit import tls


class Metrics:
    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        r = self.registry
        self.attestations = Counter(
            "stakeside_hub_attestations", "Attestations received, by what became of them.", ["result"], registry=r
        )
        self.replacements = Counter(
            "stakeside_hub_replacements", "Replacements received, by what became of them.", ["result"], registry=r
        )
        self.chunks = Counter("stakeside_hub_body_chunks", "Body chunks received, by result.", ["result"], registry=r)
        self.bodies = Counter("stakeside_hub_bodies_checked", "Bodies recomputed, by result.", ["result"], registry=r)
        self.equivocations = Counter("stakeside_hub_equivocations", "Slots in which a signer equivocated.", registry=r)
        self.quarantined = Gauge(
            "stakeside_hub_quarantined_signers", "Signers whose votes do not count now.", registry=r
        )
        self.diverged = Gauge(
            "stakeside_hub_diverged_frames", "Unsealed frames with two valid digests.", ["stream"], registry=r
        )
        self.diverged_total = Counter(
            "stakeside_hub_divergent_votes", "Votes for another digest than an earlier or the sealed one.", registry=r
        )
        self.held = Gauge("stakeside_hub_held_frames", "Frames that wait for a person.", ["stream"], registry=r)
        self.contradicted = Gauge(
            "stakeside_hub_contradicted_frames", "Frames with a quorum that cannot be sealed.", ["stream"], registry=r
        )
        self.next_sequence = Gauge(
            "stakeside_hub_next_sequence", "The frame to be sealed next.", ["stream"], registry=r
        )
        self.sealed = Counter("stakeside_hub_sealed_frames", "Frames sealed by this process.", ["stream"], registry=r)
        self.last_seal = Gauge(
            "stakeside_hub_last_seal_timestamp_seconds", "When a frame last sealed.", ["stream"], registry=r
        )
        self.receipts = Counter("stakeside_hub_receipts", "Receipts handed out.", ["kind"], registry=r)
        self.leases = Counter(
            "stakeside_hub_leases", "Requests for leases, by what became of them.", ["result"], registry=r
        )
        self.wanted = Gauge("stakeside_hub_wanted_bodies", "Bodies asked for and not complete.", registry=r)
        self.requests = Counter("stakeside_hub_http_requests", "HTTP answers.", ["route", "status"], registry=r)
        self.request_seconds = Histogram(
            "stakeside_hub_http_request_duration_seconds",
            "Time to answer.",
            ["route"],
            registry=r,
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10),
        )
        self.in_flight = Gauge("stakeside_hub_http_requests_in_flight", "Requests being answered.", registry=r)
        self.subscribers = Gauge("stakeside_hub_feed_subscribers", "Open feeds.", registry=r)

        self.expires = Gauge(
            "stakeside_hub_certificate_expires_timestamp_seconds",
            "When a certificate in use ends, in unix seconds.",
            ["use"],
            registry=r,
        )
        self.begins = Gauge(
            "stakeside_hub_certificate_begins_timestamp_seconds",
            "From when on a certificate in use is valid, in unix seconds.",
            ["use"],
            registry=r,
        )
        self.certificates: Callable[[], Mapping[str, tls.Term]] = dict
        """Asked at every scrape."""

    def page(self) -> bytes:
        self.begins.clear()
        self.expires.clear()
        for use, term in self.certificates().items():
            self.begins.labels(use).set(term.begins_s)
            self.expires.labels(use).set(term.ends_s)
        return generate_latest(self.registry)
