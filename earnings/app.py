"""The hub's only wiring. In: settings. Out: a running hub, or an error that says what to do."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

import msgspec

from config import deployments, settings
from domain import deployment, errors, hashing
from earnings import book, caps, intake, leases, limits, notices, receipts, sealing, seats, votes
from earnings.bodies import Wants
from earnings.metrics import Metrics
from earnings.web import api, feed, guard, server, status
from kit import logs, runtime, tls
from signers import base, registry

log = logs.logger()


class Arguments(msgspec.Struct, frozen=True):
    """What a hub needs, read and built. `reread` gives the document as its file says now."""

    name: str
    store: str
    document: deployment.Document
    chain_id: int
    keys: tuple[base.Signer, ...]
    host: str = "127.0.0.1"
    port: int = 0
    hosts: tuple[str, ...] = ()
    tokens_file: Path | None = None
    reread: Callable[[], deployment.Document] | None = None
    rate: limits.Rate = limits.Rate()
    caps: tuple[sealing.Cap, ...] = ()
    accounts: frozenset[bytes] | None = None
    """Whose leases are granted, None for anybody's."""
    clock: runtime.Clock = runtime.SystemClock()
    tls: tls.Context | None = None
    health_port: int | None = None
    """Where probes are answered in plain HTTP, None for nowhere."""
    health_listening: Callable[[int], None] | None = None


async def run(loaded: settings.HubSettings, *, stop: asyncio.Event, ready: Callable[[dict[str, object]], None]) -> None:
    """Until `stop`. `ready` is called once, when the hub listens."""
    arguments = assemble(loaded)
    scheme = "http" if arguments.tls is None else "https"
    told: dict[str, object] = {"hub": arguments.name}

    def listening(port: int) -> None:
        file = settings.port_file(arguments.store)
        if file is not None:
            file.write_text(f"{port}\n")
        ready({**told, "port": port, "url": f"{scheme}://{arguments.host}:{port}/"})

    def health_listening(port: int) -> None:
        told["health_port"] = port

    arguments = msgspec.structs.replace(arguments, health_listening=health_listening)
    await serve(arguments, stop=stop, listening=listening)


def assemble(loaded: settings.HubSettings) -> Arguments:
    """Read every file the settings name. Raises BadConfig."""
    return Arguments(
        name=loaded.hub.name,
        store=loaded.hub.store,
        document=deployments.load(loaded.deployment.document),
        chain_id=loaded.deployment.chain_id,
        keys=tuple(registry.build(table, chain_id=loaded.deployment.chain_id) for table in loaded.receipt_tables),
        host=loaded.web.host,
        port=loaded.web.port,
        hosts=loaded.web.hosts,
        tokens_file=None if loaded.consumers is None else loaded.consumers.tokens_file,
        reread=lambda: deployments.load(loaded.deployment.document),
        caps=caps.build(loaded.caps.max_reward_growth, max_growth_bps=loaded.caps.max_growth_bps),
        accounts=None if loaded.leases.accounts is None else frozenset(map(hashing.unhex, loaded.leases.accounts)),
        tls=None if loaded.web.tls is None else tls.server(tls_files(loaded.web.tls)),
        health_port=None if loaded.web.tls is None else loaded.web.tls.health_port,
    )


def tls_files(section: settings.TlsSection) -> tls.Files:
    return tls.Files("web.tls", section.certificate_file, section.key_file, section.client_ca_file)


async def serve(arguments: Arguments, *, stop: asyncio.Event, listening: Callable[[int], None]) -> None:
    """The hub itself, with everything read. Raises BadConfig or StoreError before it listens."""
    places = seats.Seats(arguments.document)
    clerk = receipts.Clerk(arguments.keys, chain_id=arguments.chain_id, deployment=places.deployment)
    places.check_receipt_keys(clerk.addresses)
    tokens = guard.Tokens(arguments.tokens_file)
    metrics, clock, news = Metrics(), arguments.clock, notices.Notices()
    metrics.certificates = lambda: tls.terms(arguments.tls)
    async with AsyncExitStack() as stack:
        the_book = await book.open_book(arguments.store, deployment=places.deployment)
        stack.push_async_callback(the_book.close)
        await adopt_document(the_book, places)
        wires = intake.Wires(places, Wants(), runtime.Bell())
        taking = intake.Intake(the_book, wires, clerk, clock=clock, metrics=metrics, rate=arguments.rate)
        sealer = sealing.Sealer(the_book, wires, news, clock=clock, metrics=metrics, caps=arguments.caps)
        reloader = Reloader(the_book, wires, clerk, arguments.reread, tokens=tokens, context=arguments.tls)
        await sealer.recall()
        supervisor = runtime.Supervisor([sealer, reloader], clock=clock)
        shown = status.Status(arguments.name, the_book, wires, clerk, sealer, supervisor, metrics=metrics)
        desk = leases.Desk(the_book, wires, clerk, accounts=arguments.accounts, clock=clock, metrics=metrics)
        await desk.recall()
        the_api = api.Api(the_book, wires, taking, desk, clerk, sealer, tokens)
        the_feed = feed.Feed(the_book, news, stop, metrics=metrics)
        app = server.application(the_api, the_feed, shown, tokens, metrics=metrics, clock=clock)
        port = await stack.enter_async_context(
            server.serving(app, host=arguments.host, port=arguments.port, tls=arguments.tls, hosts=arguments.hosts)
        )
        await _serve_probes(stack, arguments, shown)
        stack.push_async_callback(news.publish)  # wakes the feeds, which see `stop`
        _on_hangup(stack, reloader.bell.ring)
        listening(port)
        log.info(
            "hub.started", hub=arguments.name, port=port, streams=[stream.name for stream in places.document.streams]
        )
        await supervisor.run(stop)
        log.info("hub.stopped", hub=arguments.name)


async def _serve_probes(stack: AsyncExitStack, arguments: Arguments, shown: status.Status) -> None:
    if arguments.health_port is None:
        return
    port = await stack.enter_async_context(
        server.serving(
            server.probes(shown),
            host=arguments.host,
            port=arguments.health_port,
            setting="web.tls.health_port",
            hosts=arguments.hosts,
            probes=True,
        )
    )
    if arguments.health_listening is not None:
        arguments.health_listening(port)
    log.info("hub.probes", port=port)


async def adopt_document(the_book: book.Book, places: seats.Seats) -> None:
    """Accept the document only if it continues the one this hub counted votes under. Raises BadConfig."""
    async with the_book.write() as c:
        stored = await book.meta(c, "document")
        if stored is not None:
            old = msgspec.json.decode(stored, type=deployment.Document)
            sealed = {
                stream.name: await votes.next_sequence(c, stream_id) - 1 for stream_id, stream in places.streams.items()
            }
            seats.succeed(old, places.document, sealed=sealed, issued=await receipts.highest(c))
        places.check_sealed(await votes.sealed_ranges(c))
        await book.put_meta(c, "document", places.encoded)


class Reloader:
    """Reads document, tokens and certificates anew when SIGHUP rings. A document that does not continue the one in force is refused and
    logged, and so are tokens and certificates that are not good: what was in force stays."""

    name = "reload"

    def __init__(
        self,
        the_book: book.Book,
        wires: intake.Wires,
        clerk: receipts.Clerk,
        reread: Callable[[], deployment.Document] | None,
        *,
        tokens: guard.Tokens,
        context: tls.Context | None,
    ) -> None:
        self._tokens = tokens
        self._tls = context
        self._started = False
        self.bell = runtime.Bell()
        self.refused = ""
        self._book = the_book
        self._wires = wires
        self._clerk = clerk
        self._reread = reread

    async def step(self) -> float:
        if self._reread is not None:
            await self._reload(self._reread)
        if self._started:
            self._renew()
        self._started = True
        return 3600.0

    def _renew(self) -> None:
        try:
            self._tokens.reload()
        except errors.BadConfig as error:
            log.error("hub.tokens_refused", error=str(error))
        try:
            if self._tls is not None:
                self._tls.reload()
        except errors.BadConfig as error:
            log.error("hub.certificate_refused", error=str(error))

    async def _reload(self, reread: Callable[[], deployment.Document]) -> None:
        try:
            document = await asyncio.to_thread(reread)
            if document == self._wires.seats.document:
                return
            places = seats.Seats(document)
            places.check_receipt_keys(self._clerk.addresses)
            await adopt_document(self._book, places)
        except errors.BadConfig as error:
            self.refused = str(error)
            log.error("hub.document_refused", error=str(error))
            return
        self.refused = ""
        self._wires.seats = places
        self._wires.bell.ring()
        log.info("hub.document_reloaded", epochs=len(document.epochs), revisions=len(document.revisions))


def _on_hangup(stack: AsyncExitStack, ring: Callable[[], None]) -> None:
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGHUP, ring)
    stack.callback(loop.remove_signal_handler, signal.SIGHUP)


async def release(loaded: settings.HubSettings, digest: bytes, *, by: str, reason: str, at_s: int) -> bool:
    """A person lets a held frame go on, while the hub is stopped. False when it is not held."""
    document = deployments.load(loaded.deployment.document)
    the_book = await book.open_book(loaded.hub.store, deployment=document.digest())
    try:
        async with the_book.write() as c:
            return await sealing.release(c, digest, by=by, reason=reason, at_s=at_s)
    finally:
        await the_book.close()
