"""The lying node: a reverse proxy in front of an EVM node that tells the truth until a fault says otherwise.

In: JSON-RPC over HTTP (single and batch) and websocket, plus faults from `catalogue`. Out: the upstream's own bytes, or a lie.

A body that no armed fault concerns is passed through byte for byte; in a batch, so are the results beside a changed one. Each call
meets the stages in this order: `before` (refusals), `request` (answered or rewritten without the upstream's knowledge), the
upstream, `result` (its answer bent), `after` (the reply lost or broken).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import Any, Self

import aiohttp
import msgspec
from aiohttp import web

from devnet.proxy import armed, catalogue, delivery, lies, sockets, upstream, views, wordings
from domain import errors, hashing

Json = Any
Forker = Callable[[int], Awaitable[None]]
MAX_BODY_BYTES = 256 << 20


class LyingNode:
    """`async with LyingNode(url, ["drop-logs:k=1"], seed=7) as node:` then use `node.url` and `node.ws_url`.

    `fork(depth)` replaces the last blocks of the upstream for the fault `swap-fork`; without it `anvil_reorg` does, never below the
    finalized block. `calls` counts calls per method (subscription messages as `newHeads` and `logs`), `fired` counts lies per fault."""

    def __init__(
        self,
        upstream_url: str,
        faults: Iterable[str | catalogue.Fault] = (),
        seed: int = 0,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        ws_upstream_url: str = "",
        fork: Forker | None = None,
    ) -> None:
        self._upstream_url = upstream_url
        self.ws_upstream_url = ws_upstream_url or upstream_url.replace("http", "ws", 1)
        self._host, self._port, self._seed = host, port, seed
        self._fork = fork or self._reorg
        self._armed: list[armed.Armed] = []
        self._released = asyncio.Event()
        self._template: Json = None
        self._genesis = ""
        self._relays: set[sockets.Relay] = set()
        self._runner: web.AppRunner | None = None
        self.session: aiohttp.ClientSession
        self.node: upstream.Upstream
        self.calls: Counter[str] = Counter()
        self.fired: Counter[str] = Counter()
        self.bytes_in = self.bytes_out = 0
        self.set_faults(faults)

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(limit=0)
        self.session = aiohttp.ClientSession(connector=connector)
        self.node = upstream.Upstream(self.session, self._upstream_url)
        app = web.Application(client_max_size=MAX_BODY_BYTES)
        app.router.add_route("*", "/__faults", self._control)
        app.router.add_route("*", "/{path:.*}", self._serve)
        self._runner = runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=0.1)
        try:
            await runner.setup()
            await web.TCPSite(runner, self._host, self._port, reuse_address=True).start()
        except BaseException:
            await self.__aexit__()
            raise
        self._port = int(runner.addresses[0][1])
        return self

    async def __aexit__(self, *_: object) -> None:
        self._released.set()
        for relay in list(self._relays):
            relay.cut()
        if self._runner is not None:
            await self._runner.cleanup()
        await self.session.close()

    @property
    def url(self) -> str:
        return f"http://{self._host}:{self._port}"

    @property
    def ws_url(self) -> str:
        return f"ws://{self._host}:{self._port}"

    @property
    def faults(self) -> list[catalogue.Fault]:
        return [a.fault for a in self._armed]

    def set_faults(self, faults: Iterable[str | catalogue.Fault], *, seed: int | None = None) -> None:
        """Replaces the faults in force, from the next stage of each call on. Calls that hang are released."""
        parsed = [catalogue.parse(f) if isinstance(f, str) else f for f in faults]
        if seed is not None:
            self._seed = seed
        self._armed = armed.arm(parsed, seed=self._seed)
        self._released.set()
        self._released = asyncio.Event()
        self._genesis = ""

    def clear(self) -> None:
        self.set_faults(())

    def drop_sockets(self) -> int:
        """Cuts every websocket now; how many there were."""
        relays = list(self._relays)
        for relay in relays:
            relay.cut()
        return len(relays)

    # --- HTTP

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("Upgrade", "").lower() == "websocket":
            return await self._relay(request)
        body = await request.read()
        self.bytes_in += len(body)
        try:
            outcome = await self.respond(body)
        except (aiohttp.ClientError, TimeoutError, errors.Transient) as error:
            return web.Response(status=502, text=f"upstream: {error}")
        self.bytes_out += len(outcome.reply.body)
        return await delivery.deliver(request, outcome.reply, outcome.shot)

    async def respond(self, body: bytes) -> delivery.Outcome:
        """What to answer to a body and how to deliver it. Raises what `Upstream.forward` raises."""
        try:
            batch = body.lstrip()[:1] == b"["
            parsed = msgspec.json.decode(body, type=list[upstream.Call] if batch else upstream.Call)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return delivery.Outcome(await self.node.forward(body))
        calls: list[upstream.Call] = parsed if isinstance(parsed, list) else [parsed]
        self.calls.update(call.method for call in calls)
        if not any(a.fault.matches(call.method) for a in self._armed for call in calls):
            return delivery.Outcome(await self.node.forward(body))
        refusal = await self._before(calls)
        if refusal is not None:
            return refusal
        reply = await self._answer(calls, body, batch=batch)
        for call in calls:
            for shot in self.draw(call.method, "after"):
                if shot.fault.name != "hang":
                    return delivery.Outcome(reply, shot)
                await self._hang(shot)
        return delivery.Outcome(reply)

    def draw(self, method: str, stage: str) -> Iterator[armed.Shot]:
        """The faults of a stage that fire at this call, in the order they were given. Who stops early leaves the rest unfired."""
        for candidate in self._armed:
            if candidate.fault.stage != stage:
                continue
            shot = candidate.draw(method)
            if shot is not None:
                self.fired[shot.fault.name] += 1
                yield shot

    def concerns(self, method: str) -> bool:
        """Whether a fault in force names this very method."""
        return any(method in a.fault.methods for a in self._armed)

    def missed(self, shot: armed.Shot) -> None:
        """The shot had nothing to change: as if it had not been fired."""
        shot.miss()
        self.fired[shot.fault.name] -= 1

    async def _before(self, calls: Sequence[upstream.Call]) -> delivery.Outcome | None:
        for call in calls:
            for shot in self.draw(call.method, "before"):
                if shot.fault.name == "hang":
                    await self._hang(shot)
                else:
                    return delivery.refusal(shot)
        return None

    async def _hang(self, shot: armed.Shot) -> None:
        try:
            await asyncio.wait_for(self._released.wait(), float(shot.fault.options["seconds"]))
        except TimeoutError:
            return

    async def _answer(self, calls: Sequence[upstream.Call], body: bytes, *, batch: bool) -> upstream.Reply:
        done: dict[int, upstream.Envelope] = {}
        waiting: list[tuple[int, upstream.Call]] = []
        touched = False
        verbatim: upstream.Reply | None = None
        for at, call in enumerate(calls):
            for shot in self.draw(call.method, "request"):
                if shot.fault.name == "swap-fork":
                    await self._forward(waiting, done)
                    touched, waiting = touched or bool(at), []
                    await self._swap(shot)
                    continue
                bent = await self._bend(shot, call)
                if bent is None:
                    self.missed(shot)
                    continue
                touched = True
                if isinstance(bent, upstream.Envelope):
                    done[at] = bent
                    break
                call = bent
            if at not in done:
                waiting.append((at, call))
        if touched:
            await self._forward(waiting, done)
        else:
            verbatim = await self.node.forward(body)
            try:
                self._sort(verbatim.body, calls, done, batch=batch)
            except msgspec.MsgspecError:
                return verbatim
        for at, call in enumerate(calls):
            told = await self._lie(call, done[at]) if at in done else None
            if told is not None:
                done[at], verbatim = told, None
        if verbatim is not None:
            return verbatim
        answers = [done[at] for at in range(len(calls)) if at in done]
        return upstream.Reply(200, "application/json", msgspec.json.encode(answers if batch else answers[0]))

    async def _forward(self, waiting: Sequence[tuple[int, upstream.Call]], done: dict[int, upstream.Envelope]) -> None:
        if not waiting:
            return
        reply = await self.node.forward(msgspec.json.encode([call for _, call in waiting]))
        answers: dict[int, upstream.Envelope] = {}
        self._sort(reply.body, [call for _, call in waiting], answers, batch=True)
        done.update({waiting[at][0]: answer for at, answer in answers.items()})

    @staticmethod
    def _sort(body: bytes, calls: Sequence[upstream.Call], done: dict[int, upstream.Envelope], *, batch: bool) -> None:
        parsed = msgspec.json.decode(body, type=list[upstream.Envelope] if batch else upstream.Envelope)
        answers: list[upstream.Envelope] = parsed if isinstance(parsed, list) else [parsed]
        open_: dict[bytes, list[int]] = {}
        for at, call in enumerate(calls):
            open_.setdefault(bytes(call.id), []).append(at)
        for answer in answers:
            places = open_.get(bytes(answer.id))
            if places:
                done[places.pop(0)] = answer

    # --- lies

    async def _bend(self, shot: armed.Shot, call: upstream.Call) -> upstream.Envelope | upstream.Call | None:
        if shot.fault.name == "other-node":
            other = upstream.Upstream(self.session, shot.fault.text("url"))
            reply = await other.forward(msgspec.json.encode(call))
            return msgspec.json.decode(reply.body, type=upstream.Envelope)
        bent = await views.bend(shot, call, self.node)
        return upstream.envelope(call, bent) if isinstance(bent, upstream.Answer) else bent

    async def _lie(self, call: upstream.Call, answer: upstream.Envelope) -> upstream.Envelope | None:
        told: upstream.Envelope | None = None
        for shot in self.draw(call.method, "result"):
            changed = await self._bent_result(shot, call, told or answer)
            if changed is None:
                self.missed(shot)
            else:
                told = changed
        return told

    async def _bent_result(
        self, shot: armed.Shot, call: upstream.Call, answer: upstream.Envelope
    ) -> upstream.Envelope | None:
        if answer.result is msgspec.UNSET:
            return None
        match shot.fault.name:
            case "chain-id":
                claimed = shot.fault.integer("id")
                return _with(answer, hex(claimed) if call.method == "eth_chainId" else str(claimed))
            case "genesis":
                raw = bytes(answer.result)
                real, fake = await self.genesis()
                lied = raw.replace(real.encode(), fake.encode())
                return None if lied == raw else msgspec.structs.replace(answer, result=msgspec.Raw(lied))
            case "refuse-size":
                result = answer.parsed()
                limit = shot.fault.integer("logs")
                span = await views.log_range(call, self.node)
                if span is None or len(result) <= limit:
                    return None
                error = wordings.too_many_logs(shot.fault.text("style"), first=span[0], last=span[1], limit=limit)
                return upstream.envelope(call, upstream.Answer(error=error))
            case _:
                lied = await self.lie_about(shot, call, answer.parsed())
                return None if lied is None else _with(answer, lied)

    async def lie_about(self, shot: armed.Shot, call: upstream.Call, result: Json) -> Json | None:
        """The parsed result (or subscription message) changed; None when there was nothing to change."""
        match shot.fault.name:
            case "wrong-header":
                return lies.header(shot, result)
            case "drop-receipts":
                return lies.receipts(shot, result)
            case "invent-logs":
                return lies.logs(shot, result, template=await self._model(call, result))
            case _:
                return lies.logs(shot, result)

    async def genesis(self) -> tuple[str, str]:
        """The upstream's genesis hash and the one claimed instead."""
        if not self._genesis:
            self._genesis = (await self.node.call("eth_getBlockByNumber", "0x0", False))["hash"]
        return self._genesis, "0x" + hashing.keccak256(f"{self._seed}:{self._genesis}".encode()).hex()

    async def _model(self, call: upstream.Call, result: Json) -> Json:
        """A genuine log of the kind asked for, moved into the block asked about."""
        if call.method == "eth_getLogs":
            query = upstream.as_object(call.argument(0)) or {}
            if result:
                self._template = result[-1]
                return None
            if self._template is None:
                wide = {k: v for k, v in query.items() if k in ("address", "topics")}
                found = await self.node.call("eth_getLogs", {**wide, "fromBlock": "0x0", "toBlock": "latest"})
                self._template = found[-1] if found else None
            block = await self._block(query.get("blockHash") or query.get("toBlock", "latest"))
            if self._template is None or block is None:
                return None
            return {**self._template, "blockHash": block["hash"], "blockNumber": block["number"], "logIndex": "0x0"}
        return self._template

    async def _block(self, which: str) -> Json:
        return await self.node.call(f"eth_getBlockBy{'Hash' if len(which) == 66 else 'Number'}", which, False)

    async def _swap(self, shot: armed.Shot) -> None:
        await self._fork(shot.fault.integer("depth"))

    async def _reorg(self, depth: int) -> None:
        head, final = await self.node.head(), await self.node.number_of("finalized") or 0
        if min(depth, head - final) > 0:
            await self.node.call("anvil_reorg", min(depth, head - final), [])

    # --- websocket and control

    async def _relay(self, request: web.Request) -> web.StreamResponse:
        if next(self.draw("websocket", "handshake"), None):
            return web.Response(status=503, text="no websocket here")
        relay = sockets.Relay(self, request)
        self._relays.add(relay)
        try:
            return await relay.run()
        finally:
            self._relays.discard(relay)

    async def _control(self, request: web.Request) -> web.Response:
        """GET: faults and counters. POST {"faults": […], "seed": n, "drop_sockets": true}: replaces the faults. DELETE: the truth again.
        Only from this machine, and only as JSON, which a web page cannot send unasked."""
        if request.remote not in ("127.0.0.1", "::1"):
            return web.Response(status=403, text="only from this machine")
        if request.method == "POST":
            if request.content_type != "application/json":
                return web.Response(status=415, text="send application/json")
            try:
                wish = msgspec.json.decode(await request.read(), type=_Wish)
                if wish.faults is not None:
                    self.set_faults(wish.faults, seed=wish.seed)
            except (msgspec.MsgspecError, errors.BadConfig) as error:
                return web.Response(status=400, text=str(error))
            if wish.drop_sockets:
                self.drop_sockets()
        elif request.method == "DELETE":
            self.clear()
        elif request.method != "GET":
            return web.Response(status=405)
        return web.Response(body=msgspec.json.encode(self.report()), content_type="application/json")

    def report(self) -> dict[str, Json]:
        return {
            "faults": [str(a.fault) for a in self._armed],
            "seed": self._seed,
            "calls": dict(self.calls),
            "fired": {name: n for name, n in self.fired.items() if n},
            "bytes_in": self.bytes_in,
            "bytes_out": self.bytes_out,
            "sockets": len(self._relays),
        }


class _Wish(msgspec.Struct, forbid_unknown_fields=True):
    faults: list[str] | None = None
    seed: int | None = None
    drop_sockets: bool = False


def _with(answer: upstream.Envelope, result: Json) -> upstream.Envelope:
    return msgspec.structs.replace(answer, result=msgspec.Raw(msgspec.json.encode(result)))
