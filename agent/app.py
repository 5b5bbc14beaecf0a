"""The agent's only wiring. In: settings. Out: a running process, or an error that says what to do.

Everything is built here, inside one exit stack, so that it is torn down in reverse. The services know nothing of each other but bells.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import msgspec

from agent import export
from agent.reporting.sinks import http as hub_http
from agent.services import index
from agent.services.plan import StreamPlan
from agent.web import metrics as meters
from agent.web import server
from config import deployments, settings
from domain import chain, deployment, errors, hashing
from indexers.chain import heads, reader
from indexers.protocols import decoder, manifest
from kit import http, jsonrpc, logs, runtime
from signers import base
from store import book, cursors, latches, statements

log = logs.logger()
CHECK_S = 5.0
"""Longest wait for one connection in `check`."""


class Check(msgspec.Struct, frozen=True):
    """One line of `agent check`."""

    name: str
    ok: bool
    detail: str
    advice: str = ""


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
    chains = {source.chain_id for source in manifests}
    if len(chains) != 1:
        raise errors.BadConfig("one agent indexes one chain", value=sorted(chains), cure="run one agent for each chain")
    found = next((item for item in document.chains if item.id in chains), None)
    if found is None:
        raise errors.BadConfig("the deployment document does not list the protocol's chain", value=sorted(chains))
    return Parts(loaded, document, found, tuple(manifests), tuple(plans))


def _plan(document: deployment.Document, stream: deployment.Stream, source: manifest.Manifest) -> StreamPlan:
    """The document names a ruleset by its hash; the proof level that gives this hash is the one it means."""
    listed = {epoch.rulesets.get(stream.name) for epoch in document.epochs}
    rulesets = {level: source.ruleset(stream, proof=level) for level in chain.PROOFS}
    for level in reversed(chain.PROOFS):
        if hashing.hex0x(rulesets[level]) in listed:
            return StreamPlan(stream, source.name, int(source.document.earnings.scale or "1"), level, rulesets[level])
    raise errors.BadConfig(
        f"the document's ruleset of stream {stream.name} is not this manifest's",
        value=sorted(filter(None, listed)),
        cure=f"this manifest gives {hashing.hex0x(rulesets['receipts'])} (receipts): use the same manifest and network file everywhere",
    )


async def run(
    loaded: settings.AgentSettings, *, stop: asyncio.Event, ready: Callable[[dict[str, object]], None]
) -> None:
    """Until `stop`. `ready` is called once, when the agent listens; whether it is *ready* is for /readyz to say."""
    parts = assemble(loaded)
    signer = _signer(parts)
    async with AsyncExitStack() as stack:
        the_book = await _open(parts, read_only=False)
        stack.push_async_callback(the_book.close)
        session = await stack.enter_async_context(http.client_session(timeout_s=loaded.node.timeout_s))
        metrics = server.metrics()
        endpoint = jsonrpc.Endpoint(
            loaded.node.url, session=session, timeout_s=loaded.node.timeout_s, observe=metrics.node_exchange
        )
        wired = _wire(parts, the_book, endpoint, session, signer, metrics)
        if wired.heads is not None:
            stack.push_async_callback(wired.heads.close)
        supervisor = runtime.Supervisor(wired.services, clock=wired.clock, on_step=metrics.step)
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
            clock=wired.clock,
            waiting=wired.waiting,
            hub=wired.report_state,
            attester=None if signer is None else signer.address,
        )
        port_file = settings.port_file(loaded.agent.store)
        listening = server.serve(live, metrics, host=loaded.web.host, port=loaded.web.port, port_file=port_file)
        port = await stack.enter_async_context(listening)
        ready({"agent": loaded.agent.name, "port": port, "url": f"http://{loaded.web.host}:{port}/"})
        log.info("agent.started", agent=loaded.agent.name, port=port, proof=parts.proof, start=parts.start)
        await supervisor.run(stop)
        log.info("agent.stopped", agent=loaded.agent.name)


class Wired(msgspec.Struct, frozen=True):
    services: tuple[runtime.Service, ...]
    index: index.IndexService
    heads: heads.HeadWatch | None
    clock: runtime.Clock
    waiting: Mapping[str, server.Waiting]
    report_state: server.Hub | None


def _wire(
    parts: Parts,
    the_book: book.Book,
    endpoint: jsonrpc.Endpoint,
    session: aiohttp.ClientSession,
    signer: base.Signer | None,
    metrics: meters.Metrics,
) -> Wired:
    """Services from last to first, since each rings the one after it."""
    loaded, document, clock = parts.settings, parts.document, runtime.SystemClock()
    services: list[runtime.Service] = []
    source = reader.Reader(endpoint, finality_tag=parts.chain.finality == "tag")
    hub = _hub(loaded, session)
    after_close: list[runtime.Bell] = []
    report_state: server.Hub | None = None
    if signer is not None and parts.plans:
        from agent.reporting import envelope
        from agent.services import attest, report

        after_attest: list[runtime.Bell] = []
        if hub is not None:
            reporting = report.ReportService(
                the_book, document, hub, attester=signer.address, chain_id=parts.chain.id, clock=clock
            )
            services.append(reporting)
            after_attest.append(reporting.bell)
            report_state = reporting.state
        context = envelope.Context(loaded.agent.name, server.software(), "", parts.proof, 0)
        attesting = attest.AttestService(
            the_book,
            document,
            parts.plans,
            signer,
            context=context,
            describe=lambda: _node_version(endpoint),
            clock=clock,
            downstream=after_attest,
        )
        services.append(attesting)
        after_close.append(attesting.bell)
    downstream: list[runtime.Bell] = []
    waiting: Mapping[str, server.Waiting] = {}
    if parts.plans:
        from agent.services import close

        closing = close.CloseService(the_book, document, parts.plans, clock=clock, downstream=after_close)
        services.append(closing)
        downstream.append(closing.bell)
        waiting = closing.waiting
    indexing = _index(parts, the_book, source, clock, metrics, downstream)
    if hub is not None and parts.plans:
        from agent.services import adopt

        services.append(
            adopt.AdoptService(
                the_book, document, parts.plans, hub, source, clock=clock, downstream=[indexing.bell, *after_close]
            )
        )
    services.append(indexing)
    watch = heads.HeadWatch(loaded.node.ws, indexing.bell.ring, clock=clock) if loaded.node.ws else None
    if watch is not None:
        services.append(watch)
    return Wired(tuple(services), indexing, watch, clock, waiting, report_state)


def _index(
    parts: Parts,
    the_book: book.Book,
    source: reader.Reader,
    clock: runtime.Clock,
    metrics: meters.Metrics,
    downstream: Sequence[runtime.Bell],
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
        observe=metrics.index,
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


def _signer(parts: Parts) -> base.Signer | None:
    if parts.settings.attester is None:
        return None
    from signers import registry

    return registry.build(parts.settings.attester, chain_id=parts.chain.id)


def _hub(loaded: settings.AgentSettings, session: aiohttp.ClientSession) -> hub_http.HubClient | None:
    if loaded.hub is None:
        return None
    token = None if loaded.hub.token_file is None else settings.read_secret(loaded.hub.token_file, what="hub.token_file")
    return hub_http.HubClient(loaded.hub.url, session=session, token=token)


async def _open(parts: Parts, *, read_only: bool) -> book.Book:
    return await book.open_book(
        parts.settings.agent.store,
        deployment=parts.document.digest(),
        chain_id=parts.chain.id,
        genesis=hashing.unhex(parts.chain.genesis, size=32, what="genesis"),
        read_only=read_only,
    )


async def _node_version(endpoint: jsonrpc.Endpoint) -> str:
    """For the context of a vote, where nothing depends on it."""
    try:
        return await endpoint.call("web3_clientVersion", [], str)
    except errors.StakesideError:
        return "unknown"


# --- what an operator does while the agent is stopped -----------------------------------------------------------------------


async def clear_latch(loaded: settings.AgentSettings, name: str, *, by: str, at_s: float) -> bool:
    """False when no such latch is set. `by` stays in the book."""
    the_book = await _open(assemble(loaded), read_only=False)
    try:
        async with the_book.write() as c:
            return await latches.clear(c, name, by=by, at_s=at_s)
    finally:
        await the_book.close()


async def rederive(loaded: settings.AgentSettings, stream_name: str, *, first: int) -> int:
    """Set the statements of a stream from frame `first` on aside, so that the next run derives and votes them anew; returns how
    many. What changed is voted by a Replace: for frames that are sealed already the hub will refuse it."""
    parts = assemble(loaded)
    plan = next((plan for plan in parts.plans if plan.stream.name == stream_name), None)
    if plan is None:
        raise errors.BadConfig("this agent has no such stream", value=stream_name)
    the_book = await _open(parts, read_only=False)
    try:
        async with the_book.write() as c:
            found = 0
            sequence = first
            while (stored := await statements.first_from(c, plan.stream.id(), sequence)) is not None:
                if stored.origin == "derived":
                    await statements.supersede(c, stored.digest)
                    found += 1
                sequence = stored.sequence + 1
            seen = await cursors.get(c, f"attest:{stream_name}")
            if seen is not None and seen.number > first:
                await cursors.put(c, f"attest:{stream_name}", cursors.Cursor(first, hashing.ZERO32, 0))
            return found
    finally:
        await the_book.close()


async def export_statement(loaded: settings.AgentSettings, stream_name: str | None, *, sequence: int | None) -> bytes:
    """`statement.json` of a frame (the newest sealed one without `sequence`). Works beside the running agent."""
    parts = assemble(loaded)
    names = [plan.stream.name for plan in parts.plans]
    if not names or (stream_name is not None and stream_name not in names):
        raise errors.BadConfig("this agent has no such stream", value=stream_name, cure=f"it has {names}")
    plan = parts.plans[0 if stream_name is None else names.index(stream_name)]
    source = next(item for item in parts.manifests if item.name == plan.protocol)
    the_book = await _open(parts, read_only=True)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(the_book.close)
        session = await stack.enter_async_context(http.client_session())
        hub = _hub(loaded, session)
        if sequence is None:
            sequence = await _newest(the_book, plan, hub)
        return await export.build(
            the_book,
            parts.document,
            plan.stream,
            protocol=plan.protocol,
            rulesets={plan.ruleset: source.ruleset_json(plan.stream, proof=plan.proof)},
            sequence=sequence,
            hub=hub,
        )


async def _newest(the_book: book.Book, plan: StreamPlan, hub: hub_http.HubClient | None) -> int:
    async with the_book.read() as c:
        latest = await statements.latest(c, plan.stream.id())
    sealed = None if hub is None else await hub.last_sealed(plan.stream.id())
    known = [n for n in (None if latest is None else latest.sequence, sealed) if n is not None]
    if latest is None or (hub is not None and sealed is None):
        raise errors.BadConfig(f"stream {plan.stream.name} has no sealed frame yet", cure="wait for the first one")
    return min(known)


# --- check ------------------------------------------------------------------------------------------------------------------


async def check(loaded: settings.AgentSettings) -> list[Check]:
    """Try everything the settings name, one after the other, without writing anything but an empty book."""
    try:
        parts = assemble(loaded)
    except errors.StakesideError as error:
        return [Check("configuration", False, error.what, str(error))]
    done = [Check("configuration", True, f"deployment {hashing.hex0x(parts.document.digest())[:18]}…, proof {parts.proof}")]
    done.append(await _try("book", _check_book(parts)))
    async with http.client_session(timeout_s=CHECK_S) as session:
        endpoint = jsonrpc.Endpoint(loaded.node.url, session=session, timeout_s=CHECK_S)
        done.append(await _try("node", _check_node(parts, endpoint)))
        done.append(await _try("attester", _check_signer(parts)))
        if loaded.hub is not None:
            done.append(await _try("hub", _check_hub(loaded, session)))
    return done


async def _try(name: str, attempt: Awaitable[str]) -> Check:
    try:
        return Check(name, True, await attempt)
    except errors.StakesideError as error:
        return Check(name, False, error.what, error.cure or str(error))


async def _check_book(parts: Parts) -> str:
    file = Path(parts.settings.agent.store.removeprefix("sqlite:///"))
    if parts.settings.agent.store.startswith("sqlite:///") and not file.exists():
        return f"will be created at {file}"
    the_book = await _open(parts, read_only=True)
    await the_book.close()
    return "belongs to this deployment and chain"


async def _check_node(parts: Parts, endpoint: jsonrpc.Endpoint) -> str:
    tip = await reader.Reader(endpoint, finality_tag=parts.chain.finality == "tag").tip()
    if tip.chain_id != parts.chain.id or hashing.hex0x(tip.genesis) != parts.chain.genesis:
        raise errors.WrongChain(
            f"the node serves chain {tip.chain_id} with genesis {hashing.hex0x(tip.genesis)[:18]}…",
            cure=f"the document is about chain {parts.chain.id}, genesis {parts.chain.genesis[:18]}…",
        )
    final = "no finalized block yet" if tip.finalized is None else f"finalized {tip.finalized.number}"
    return f"{await _node_version(endpoint)}, chain {tip.chain_id}, head {tip.head.number}, {final}"


async def _check_signer(parts: Parts) -> str:
    signer = _signer(parts)
    if signer is None:
        return "none: this agent only observes"
    await signer.sign_digest(hashing.keccak256(b"stakeside agent check"))
    address = hashing.hex0x(signer.address)
    if not any(address in epoch.signers for epoch in parts.document.epochs):
        raise errors.BadConfig(f"no epoch of the document lists {address}", cure="add the signer to the document or use another key")
    return f"{address} signs and is listed in the document"


async def _check_hub(loaded: settings.AgentSettings, session: aiohttp.ClientSession) -> str:
    hub = _hub(loaded, session)
    assert hub is not None
    await hub.streams()
    return f"answers at {loaded.hub.url if loaded.hub else ''}"
