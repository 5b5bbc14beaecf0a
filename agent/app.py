"""The agent's only wiring. In: settings. Out: a running process, or an error that says what to do.

Everything is built here, inside one exit stack, so that it is torn down in reverse. The services know nothing of each other but bells.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import msgspec

from agent import staking
from agent.reporting import envelope
from agent.reporting.sinks import http as hub_http
from agent.services import adopt, attest, close, index, report, retention
from agent.services.plan import StreamPlan
from agent.web import items, metrics, server
from config import deployments, settings
from domain import chain, deployment, errors, hashing
from indexers.chain import heads, reader
from indexers.protocols import decoder, grammar, manifest
from kit import http, jsonrpc, logs, places, runtime, tls
from signers import base, registry
from store import book

log = logs.logger()


class Parts(msgspec.Struct, frozen=True):
    """What the settings and the document say, before anything is opened."""

    settings: settings.AgentSettings
    document: deployment.Document
    chain: deployment.Chain
    manifests: tuple[manifest.Manifest, ...]
    plans: tuple[StreamPlan, ...]

    @property
    def start(self) -> int:
        """The first block worth indexing."""
        starts = [plan.stream.start for plan in self.plans] or [source.start for source in self.manifests]
        return max(1, min(starts))

    @property
    def proof(self) -> str:
        """The level to index at: the strongest that any stream needs, and the strongest there is for a mere observer."""
        return max((plan.proof for plan in self.plans), key=chain.proof_rank, default=chain.PROOFS[-1])


def assemble(loaded: settings.AgentSettings) -> Parts:
    """Read every file the settings name. Raises BadConfig."""
    document = deployments.load(loaded.deployment.document)
    manifests: list[manifest.Manifest] = []
    plans: list[StreamPlan] = []
    for section in loaded.protocols:
        source = manifest.load(section.manifest, network=section.network)
        manifests.append(source)
        plans += [_plan(document, document.stream(name), source) for name in section.streams]
    staking.known(loaded, manifests)
    chains = {source.chain_id for source in manifests}
    if len(chains) != 1:
        raise errors.BadConfig("one agent indexes one chain", value=sorted(chains), cure="run one agent for each chain")
    found = next((item for item in document.chains if item.id in chains), None)
    if found is None:
        listed = ", ".join(str(item.id) for item in document.chains)
        raise errors.BadConfig(
            "the deployment document does not list the protocol's chain",
            value=min(chains),
            cure=f"use the network file of a listed chain ({listed}), or add the chain to the document",
        )
    return Parts(loaded, document, found, tuple(manifests), tuple(plans))


def _plan(document: deployment.Document, stream: deployment.Stream, source: manifest.Manifest) -> StreamPlan:
    """The document names a ruleset by its hash; the proof level that gives this hash is the one it means."""
    listed = {epoch.rulesets.get(stream.name) for epoch in document.epochs}
    rulesets = {level: source.ruleset(stream, proof=level) for level in chain.PROOFS}
    for level in reversed(chain.PROOFS):
        if hashing.hex0x(rulesets[level]) in listed:
            scale, fingerprint = int(source.document.earnings.scale or "1"), decoder.compile(source).fingerprint
            weaker = tuple((rulesets[other], other) for other in chain.PROOFS if other != level)
            return StreamPlan(stream, source.name, scale, level, rulesets[level], fingerprint, weaker)
    raise errors.BadConfig(
        f"the document's ruleset of stream {stream.name} is not this manifest's",
        value=sorted(f"{digest[:18]}…" for digest in listed if digest),
        cure=f"this manifest gives {hashing.hex0x(rulesets['receipts'])[:18]}… (receipts; `stakeside protocol ruleset` prints it whole): "
        "use the same manifest and network file everywhere",
    )


def _asset(document: grammar.Document) -> items.Asset:
    """In words: no manifest names the chain's own coin."""
    native = document.asset == "native"
    name, smallest = ("coins", document.unit) if native else (document.asset, "of its smallest unit")
    return items.Asset(document.decimals, name, smallest)


async def run(
    loaded: settings.AgentSettings, *, stop: asyncio.Event, ready: Callable[[dict[str, object]], None]
) -> None:
    """Until `stop`. `ready` is called once, when the agent listens; whether it is *ready* is for /readyz to say."""
    parts = assemble(loaded)
    signer = signer_of(parts)
    standing = [wrong for wrong in (unlisted(parts, signer),) if wrong is not None]
    for wrong in standing:
        log.warning("attester.unlisted", reason=wrong.fact, cure=wrong.cure)
    if (seen := open_to_all(loaded.web)) is not None:
        log.warning("web.open_to_all", reason=seen.fact, cure=seen.cure)
    async with AsyncExitStack() as stack:
        the_book = await open_book(parts, read_only=False)
        stack.push_async_callback(the_book.close)
        session = await stack.enter_async_context(http.client_session(timeout_s=loaded.node.timeout_s))
        meters = server.metrics()
        endpoint = jsonrpc.Endpoint(
            loaded.node.url, session=session, timeout_s=loaded.node.timeout_s, observe=meters.node_exchange
        )
        clock = runtime.SystemClock()
        belt = await staking.wire(
            loaded,
            document=parts.document,
            chain=parts.chain,
            manifests=parts.manifests,
            recompute=parts.proof != "node",
            the_book=the_book,
            endpoint=endpoint,
            session=session,
            upstream=hub_of(loaded, session),
            attester=signer,
            clock=clock,
            meters=meters,
        )
        wired = _wire(parts, the_book, endpoint, session, signer, meters, clock, belt)
        if wired.heads is not None:
            stack.push_async_callback(wired.heads.close)
        if belt is not None:
            stack.push_async_callback(belt.lease.close)
        supervisor = runtime.Supervisor(wired.services, clock=clock, on_step=meters.step)
        live = server.Live(
            name=loaded.agent.name,
            chain_id=parts.chain.id,
            deployment=parts.document.digest(),
            node_url=loaded.node.url,
            max_lag_blocks=loaded.limits.max_lag_blocks,
            streams={plan.stream.name: plan.stream.id() for plan in parts.plans},
            book=the_book,
            index=wired.index,
            supervisor=supervisor,
            clock=clock,
            waiting={} if wired.close is None else wired.close.waiting,
            hub=None if wired.report is None else wired.report.state,
            attester=None if signer is None else signer.address,
            staking=None if belt is None else belt.shown,
            ring=lambda: ring(wired.services),
            read=loaded.web.read,
            adopt="auto" if loaded.hub is None else loaded.hub.adopt,
            standing=tuple(str(wrong) for wrong in standing),
            assets={source.name: _asset(source.document) for source in parts.manifests},
        )
        file = settings.port_file(loaded.agent.store)
        web_tls = web_tls_of(loaded)
        hub_tls = None if loaded.hub is None else hub_tls_of(loaded.hub)
        meters.certificates(lambda: tls.terms(web_tls, hub_tls))
        port = await stack.enter_async_context(
            server.serve(
                live,
                meters,
                host=loaded.web.host,
                port=loaded.web.port,
                port_file=file,
                tls=web_tls,
                health_port=None if loaded.web.tls is None else loaded.web.tls.health_port,
                hosts=loaded.web.hosts,
            )
        )
        scheme = "http" if loaded.web.tls is None else "https"
        ready({"agent": loaded.agent.name, "port": port, "url": f"{scheme}://{loaded.web.host}:{port}/"})
        log.info("agent.started", agent=loaded.agent.name, port=port, proof=parts.proof, start=parts.start)
        await supervisor.run(stop)
        log.info("agent.stopped", agent=loaded.agent.name)


def ring(services: Sequence[runtime.Service]) -> None:
    """A person changed something: every stage looks at the book again."""
    for service in services:
        service.bell.ring()


class Wired(msgspec.Struct, frozen=True):
    """The services and what the web shows of them."""

    services: tuple[runtime.Service, ...]
    index: index.IndexService
    heads: heads.HeadWatch | None
    close: close.CloseService | None
    report: report.ReportService | None


def _wire(
    parts: Parts,
    the_book: book.Book,
    endpoint: jsonrpc.Endpoint,
    session: aiohttp.ClientSession,
    signer: base.Signer | None,
    meters: metrics.Metrics,
    clock: runtime.Clock,
    belt: staking.Belt | None,
) -> Wired:
    """Services from last to first, since each rings the one after it."""
    loaded, document = parts.settings, parts.document
    services: list[runtime.Service] = []
    source = reader.Reader(endpoint, finality_tag=parts.chain.finality == "tag")
    hub = hub_of(loaded, session)
    reporting: report.ReportService | None = None
    closing: close.CloseService | None = None
    after_close: list[runtime.Bell] = []
    if signer is not None and parts.plans:
        after_attest: list[runtime.Bell] = []
        if hub is not None:
            reporting = report.ReportService(
                the_book,
                document,
                hub,
                attester=signer.address,
                chain_id=parts.chain.id,
                clock=clock,
                acts=loaded.submit is not None,
            )
            services.append(reporting)
            after_attest.append(reporting.bell)
        attesting = attest.AttestService(
            the_book,
            document,
            parts.plans,
            signer,
            context=envelope.Context(loaded.agent.name, server.software(), "", parts.proof, 0),
            describe=lambda: node_version(endpoint),
            clock=clock,
            downstream=after_attest,
        )
        services.append(attesting)
        after_close.append(attesting.bell)
    after_index: list[runtime.Bell] = []
    if parts.plans:
        closing = close.CloseService(the_book, document, parts.plans, clock=clock, downstream=after_close)
        services.append(closing)
        after_index.append(closing.bell)
    if belt is not None:
        services += belt.services
        after_index.append(belt.confirm)
    indexing = _index(parts, the_book, source, clock, meters, after_index)
    if hub is not None and parts.plans:
        woken = [indexing.bell, *after_index]
        asking = loaded.hub is not None and loaded.hub.adopt == "ask"
        adopting = adopt.AdoptService(
            the_book, document, parts.plans, hub, source, clock=clock, ask=asking, downstream=woken
        )
        services.append(adopting)
        after_index.append(adopting.bell)
    services.append(indexing)
    watch = heads.HeadWatch(loaded.node.ws, indexing.bell.ring, clock=clock) if loaded.node.ws else None
    if watch is not None:
        services.append(watch)
    kept = loaded.retention
    services.append(
        retention.RetentionService(
            the_book, orphaned_days=kept.orphaned_days, journal_days=kept.journal_days, clock=clock
        )
    )
    return Wired(tuple(services), indexing, watch, closing, reporting)


def _index(
    parts: Parts,
    the_book: book.Book,
    source: reader.Reader,
    clock: runtime.Clock,
    meters: metrics.Metrics,
    downstream: list[runtime.Bell],
) -> index.IndexService:
    streams = [plan.stream for plan in parts.plans]
    return index.IndexService(
        the_book,
        source,
        [decoder.compile(item) for item in parts.manifests],
        chain_id=parts.chain.id,
        genesis=hashing.unhex(parts.chain.genesis, size=32, what="genesis"),
        start=parts.start,
        marks=lambda first, last: edges(streams, first, last),
        clock=clock,
        proof=parts.proof,
        finality=parts.chain.finality,
        poll_s=parts.settings.limits.poll_s,
        backfill_range=parts.settings.limits.backfill_range,
        downstream=downstream,
        observe=meters.index,
    )


def edges(streams: Sequence[deployment.Stream], first: int, last: int) -> set[int]:
    """Blocks in [first, last] whose header a statement names: every frame's last, and the one before every frame's first."""
    found: set[int] = set()
    for stream in streams:
        found |= {stream.start - 1} if first <= stream.start - 1 <= last else set()
        for sequence in range(max(0, stream.sequence_at(first)), stream.sequence_at(last) + 1):
            end = stream.frame_range(sequence)[1]
            found |= {end} if first <= end <= last else set()
    return found


def signer_of(parts: Parts) -> base.Signer | None:
    if parts.settings.attester is None:
        return None
    return registry.build(parts.settings.attester, chain_id=parts.chain.id)


def unlisted(parts: Parts, signer: base.Signer | None) -> errors.BadConfig | None:
    """That nobody counts what this agent attests. It runs all the same: a document that names its key can be on its way, and what it indexes
    and delegates does not depend on it; but it is not ready, and says so."""
    if signer is None:
        return None
    address = hashing.hex0x(signer.address)
    if any(address in epoch.signers for epoch in parts.document.epochs):
        return None
    return errors.BadConfig(
        f"no epoch of the deployment document lists the attester {address}: nobody counts its statements",
        cure="add it to the document, here and at the hub, use the key that is listed, or remove [attester]",
    )


def open_to_all(web: settings.WebSection) -> errors.BadConfig | None:
    """That everything but changes is for whoever is on the network, and passes it unencrypted. It can be meant so, behind a proxy or a policy
    of the network, and is not refused."""
    if web.read != "anyone" or web.tls is not None or places.loopback(web.host):
        return None
    return errors.BadConfig(
        "whoever reaches this address may look, and what people send passes in plain text",
        value=f"{web.host}:{web.port}",
        cure='set web.read = "viewer" and [web.tls], or let only a proxy reach it',
    )


def hub_of(loaded: settings.AgentSettings, session: aiohttp.ClientSession) -> hub_http.HubClient | None:
    if loaded.hub is None:
        return None
    token = None if loaded.hub.token_file is None else _secret(loaded.hub.token_file, setting="hub.token_file")
    return hub_http.HubClient(loaded.hub.url, session=session, token=token, tls=hub_tls_of(loaded.hub))


def hub_tls_of(hub: settings.UpstreamSection) -> tls.Context | None:
    """None for plain HTTP. Raises BadConfig for files that cannot be used."""
    if not hub.url.startswith("https://"):
        return None
    return tls.client(tls.Files("hub", hub.certificate_file, hub.key_file, hub.ca_file))


def web_tls_of(loaded: settings.AgentSettings) -> tls.Context | None:
    section = loaded.web.tls
    if section is None:
        return None
    return tls.server(tls.Files("web.tls", section.certificate_file, section.key_file, section.client_ca_file))


def _secret(file: Path, *, setting: str) -> str:
    try:
        return file.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not ASCII text"
        raise errors.BadConfig(
            f"{setting} cannot be read: {reason}", value=str(file), cure="check the path and who may read it"
        ) from None


async def open_book(parts: Parts, *, read_only: bool) -> book.Book:
    return await book.open_book(
        parts.settings.agent.store,
        deployment=parts.document.digest(),
        chain_id=parts.chain.id,
        genesis=hashing.unhex(parts.chain.genesis, size=32, what="genesis"),
        read_only=read_only,
    )


async def node_version(endpoint: jsonrpc.Endpoint) -> str:
    """For the context of a vote, where nothing depends on it."""
    try:
        return await endpoint.call("web3_clientVersion", [], str)
    except errors.StakesideError:
        return "unknown"
