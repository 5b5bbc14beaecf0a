"""What people and probes read: the status page, /status, /healthz, /readyz, /metrics. In: the book and the services. Out: HTML, JSON.

Everything that came from a peer or a document is escaped; the page loads one style sheet of its own and no script.
"""

from __future__ import annotations

import asyncio
import html
import json
from collections.abc import Mapping
from typing import cast

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST
from sqlalchemy.exc import DBAPIError

from domain import errors, hashing
from earnings import book, queries, receipts, sealing
from earnings.intake import Wires
from earnings.metrics import Metrics
from kit import http, runtime

RECENT = 8
STYLE = """
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:70rem;padding:0 1rem;color:#1b1f24;background:#fff}
h1{font-size:1.4rem}h2{font-size:1.1rem;margin-top:2rem}table{border-collapse:collapse;width:100%}
th,td{text-align:left;padding:.3rem .6rem;border-bottom:1px solid #d0d7de;vertical-align:top}
code{font-size:.9em;overflow-wrap:anywhere}.bad{color:#9a1b1b;font-weight:600}.good{color:#0f5f2c;font-weight:600}
@media (prefers-color-scheme:dark){body{color:#e6edf3;background:#0d1117}th,td{border-color:#30363d}.bad{color:#ff8b82}.good{color:#6fdd8b}}
"""


class Status:
    def __init__(
        self,
        name: str,
        the_book: book.Book,
        wires: Wires,
        clerk: receipts.Clerk,
        sealer: sealing.Sealer,
        supervisor: runtime.Supervisor,
        *,
        metrics: Metrics,
    ) -> None:
        self._name = name
        self._book = the_book
        self._wires = wires
        self._clerk = clerk
        self._sealer = sealer
        self._supervisor = supervisor
        self._metrics = metrics
        self._probing = asyncio.Lock()
        self._probes_begun = 0
        self._probed = ""

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/", self.page),
            web.get("/style.css", self.style),
            web.get("/status", self.status),
            web.get("/healthz", self.healthz),
            web.get("/readyz", self.readyz),
            web.get("/metrics", self.metrics),
        ]

    async def healthz(self, _request: web.Request) -> web.Response:
        """Alive: every service stepped, or waits with a deadline that has not passed."""
        stuck = self._supervisor.stuck()
        return http.json_response({"alive": not stuck, "stuck": stuck}, status=503 if stuck else 200)

    async def readyz(self, _request: web.Request) -> web.Response:
        reasons = await self._reasons()
        return http.json_response({"ready": not reasons, "reasons": reasons}, status=503 if reasons else 200)

    async def metrics(self, _request: web.Request) -> web.Response:
        return web.Response(body=self._metrics.page(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def style(self, _request: web.Request) -> web.Response:
        return web.Response(text=STYLE, content_type="text/css", headers={"Cache-Control": "max-age=3600"})

    async def status(self, _request: web.Request) -> web.Response:
        return http.json_response(await self._view())

    async def page(self, _request: web.Request) -> web.Response:
        seats = self._wires.seats
        parts: list[str] = []
        async with self._book.look() as c:
            streams = await queries.streams(c, seats, self._sealer.waiting)
            for stream in streams:
                stream_id = hashing.unhex(stream.id, size=32)
                first = max(0, int(stream.next) - RECENT)
                frames = await queries.frames(
                    c, seats, stream_id, first=first, limit=2 * RECENT, waiting=self._sealer.waiting.get(stream_id)
                )
                parts.append(_stream(stream, frames))
            agents = await queries.agents(c, seats)
            evidence = await queries.evidence(c)
        return web.Response(
            text=_page(self._name, hashing.hex0x(seats.deployment), await self._reasons(), parts, agents, evidence),
            content_type="text/html",
        )

    async def _reasons(self) -> list[str]:
        """Why this hub should not be sent anything now; empty when it should."""
        found = [
            f"{state.name}: {state.status}: {state.reason}"
            for state in self._supervisor.states.values()
            if state.status in ("degraded", "latched", "stopped")
        ]
        unreadable = await self._unreadable()
        return [*found, unreadable] if unreadable else found

    async def _unreadable(self) -> str:
        """Why the book cannot be read or takes no writes. Whoever asks while others wait for their turn shares the next one's answer."""
        asked = self._probes_begun
        async with self._probing:
            if self._probes_begun == asked:
                self._probes_begun += 1
                self._probed = ""
                self._probed = await self._probe()
            return self._probed

    async def _probe(self) -> str:
        try:
            async with self._book.probe() as c:
                await queries.last_seal(c)
                if not await book.only_reads(c):
                    return ""
        except errors.StakesideError as error:
            return str(error)
        except DBAPIError as error:
            return f"the hub's database refuses: {error.orig}"
        self._book.connect_anew()
        return book.READ_ONLY

    async def _view(self) -> Mapping[str, object]:
        seats = self._wires.seats
        async with self._book.look() as c:
            streams = await queries.streams(c, seats, self._sealer.waiting)
            agents = await queries.agents(c, seats)
            evidence = await queries.evidence(c)
            sealed = await queries.last_seal(c)
        return {
            "name": self._name,
            "deployment": hashing.hex0x(seats.deployment),
            "receiptKeys": [hashing.hex0x(address) for address in self._clerk.addresses],
            "sealed": sealed,
            "wanted": len(self._wires.wants),
            "streams": streams,
            "attesters": agents,
            "evidence": evidence,
            "services": [
                {"name": s.name, "status": s.status, "reason": s.reason} for s in self._supervisor.states.values()
            ],
            "reasons": await self._reasons(),
        }


def _page(
    name: str,
    deployment: str,
    reasons: list[str],
    streams: list[str],
    agents: tuple[queries.Agent, ...],
    evidence: tuple[queries.Evidence, ...],
) -> str:
    state = (
        '<span class="good">ready</span>'
        if not reasons
        else f'<span class="bad">not ready: {_text("; ".join(reasons))}</span>'
    )
    signers = "".join(
        f"<tr><td><code>{_text(agent.address)}</code></td><td>{_text(agent.receipts)}</td>"
        f"<td>{'<span class=bad>quarantined</span>' if agent.quarantined else 'counts'}</td><td>{_text(_words(agent.context), 160)}</td></tr>"
        for agent in agents
    )
    proofs = "".join(
        f"<tr><td><code>{_text(item.signer)}</code></td><td>{_text(item.sequence)}</td><td><code>{_text(item.first)}</code><br>"
        f"<code>{_text(item.second)}</code></td><td>{item.repeats}</td><td>{'open' if item.open else 'explained'}</td></tr>"
        for item in evidence
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f'<link rel="icon" href="data:,"><meta http-equiv="refresh" content="5"><title>{_text(name)} · stakeside hub</title>'
        '<link rel="stylesheet" href="/style.css"></head><body>'
        f"<h1>{_text(name)}: stakeside hub, {state}</h1><p>Deployment <code>{_text(deployment)}</code> · "
        '<a href="/status">JSON</a> · <a href="/metrics">metrics</a></p>'
        + "".join(streams)
        + "<h2>Attesters</h2><table><tr><th>Signer</th><th>Receipts</th><th>Votes</th><th>Says of itself (unverified)</th></tr>"
        + signers
        + "</table>"
        + (
            "<h2>Evidence of equivocation</h2><table><tr><th>Signer</th><th>Frame</th><th>Signed</th><th>More</th><th>State</th></tr>"
            + proofs
            + "</table>"
            if evidence
            else ""
        )
        + "</body></html>"
    )


def _words(context: str) -> str:
    """What an agent says of itself, as names and values; as it is where it is no flat JSON object, or was cut off."""
    try:
        said: object = json.loads(context)
    except ValueError:
        return context
    if not isinstance(said, dict):
        return context
    pairs = cast("dict[str, object]", said).items()
    if any(isinstance(value, dict | list) for _, value in pairs):
        return context
    return ", ".join(f"{name} {value}" for name, value in pairs)


def _stream(stream: queries.StreamView, frames: queries.Frames) -> str:
    rows = "".join(
        f"<tr><td>{_text(frame.sequence)}</td><td>{_state(frame)}</td><td>{sum(vote.counts for vote in frame.votes)} of "
        f"{len(frame.votes)}, {frame.needed} needed</td><td><code>{_text(frame.digest or '')}</code></td></tr>"
        for frame in reversed(frames.frames)
    )
    reason = f" · {_text(stream.reason)}" if stream.reason else ""
    return (
        f"<h2>{_text(stream.name)}</h2><p>Frame {_text(stream.next)} is next: {_text(stream.state)}{reason}</p>"
        f"<table><tr><th>Frame</th><th>State</th><th>Equal votes</th><th>Digest</th></tr>{rows}</table>"
    )


def _state(frame: queries.FrameView) -> str:
    colour = "good" if frame.state == "sealed" else "bad" if frame.state in ("held", "contradicted") else ""
    flag = ' <span class="bad">diverged</span>' if frame.diverged else ""
    return f'<span class="{colour}">{_text(frame.state)}</span>{flag}'


def _text(value: object, limit: int = 200) -> str:
    """Escaped, clipped, and without control characters: a NUL or an escape sequence is shown, not sent."""
    text = str(value)
    text = text if len(text) <= limit else text[: limit - 1] + "…"
    return html.escape("".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text))
