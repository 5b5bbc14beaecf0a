"""An agent and a hub over TLS, with certificates of the test's own: what works, and what each failure is called."""

from __future__ import annotations

import asyncio
import os
import signal
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp
import msgspec
import pytest
from aiohttp import web

from agent.reporting.sinks import http
from domain import errors
from earnings import metrics
from kit import doors, tls
from kit import http as kit_http
from tests import certificates, said
from tests.earnings import factory, hub


@pytest.fixture
def ours(tmp_path: Path) -> certificates.Authority:
    return certificates.Authority(tmp_path)


def client(ours: certificates.Authority, shown: tls.Files | None = None) -> tls.Context:
    """What an agent is configured with: whom it trusts and what it shows."""
    pair = {} if shown is None else {"certificate": shown.certificate, "key": shown.key}
    return tls.client(tls.Files("hub", ca=ours.ca_file, **pair))


def mutual(ours: certificates.Authority, *, ca: Path | None = None) -> tls.Context:
    return tls.server(msgspec.structs.replace(ours.issue("hub"), ca=ca or ours.ca_file))


async def asked(url: str, context: tls.Context | None) -> int:
    """How many streams the hub has; what `agent check` asks."""
    async with kit_http.client_session(timeout_s=20) as session:
        return await http.HubClient(url, session=session, token=factory.TOKEN, tls=context).streams()


async def test_an_agent_reports_over_tls(tmp_path: Path, ours: certificates.Authority) -> None:
    async with hub.running(tmp_path, context=tls.server(ours.issue("hub"))) as h:
        assert h.url.startswith("https://")
        assert await asked(h.url, client(ours)) == 1


async def test_the_name_may_be_one_of_several(tmp_path: Path, ours: certificates.Authority) -> None:
    async with hub.running(tmp_path, context=tls.server(ours.issue("hub"))) as h:
        assert await asked(h.url.replace("127.0.0.1", "localhost"), client(ours)) == 1


async def test_an_agent_shows_its_certificate_where_the_hub_wants_one(
    tmp_path: Path, ours: certificates.Authority
) -> None:
    async with hub.running(tmp_path, context=mutual(ours)) as h:
        assert await asked(h.url, client(ours, ours.issue("agent", "agent-1"))) == 1


async def test_a_hub_of_another_authority_is_refused(tmp_path: Path, ours: certificates.Authority) -> None:
    other = certificates.Authority(tmp_path, "theirs")
    async with hub.running(tmp_path, context=tls.server(other.issue("hub"))) as h:
        with pytest.raises(errors.Transient, match="the hub's certificate is signed by an authority that is not among"):
            await asked(h.url, client(ours))
        with pytest.raises(errors.Transient, match="the hub's certificate"):
            await asked(h.url, None)


async def test_a_hub_of_another_name_is_refused(tmp_path: Path, ours: certificates.Authority) -> None:
    async with hub.running(tmp_path, context=tls.server(ours.issue("hub", "hub.example"))) as h:
        with pytest.raises(errors.Transient, match="the hub's certificate is for another address"):
            await asked(h.url, client(ours))
        with pytest.raises(errors.Transient, match="the hub's certificate is for another name"):
            await asked(h.url.replace("127.0.0.1", "localhost"), client(ours))


async def test_a_hub_whose_certificate_ran_out_is_refused(tmp_path: Path, ours: certificates.Authority) -> None:
    files = ours.issue("hub", **certificates.PAST)
    with pytest.raises(errors.BadConfig, match="has expired"):
        tls.server(files)
    assert files.certificate is not None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)  # as of a hub that has run since before
    context.load_cert_chain(files.certificate, files.key)
    async with kit_http.serving(kit_http.application(), host="127.0.0.1", port=0, tls=context) as port:
        with pytest.raises(errors.Transient, match="the hub's certificate has expired"):
            await asked(f"https://127.0.0.1:{port}", client(ours))


async def test_an_agent_without_a_certificate_is_told_to_show_one(tmp_path: Path, ours: certificates.Authority) -> None:
    async with hub.running(tmp_path, context=mutual(ours)) as h:
        with pytest.raises(errors.Transient, match="the hub wants a client certificate") as refused:
            await asked(h.url, client(ours))
    assert "hub.certificate_file" in str(refused.value)


async def test_an_agent_of_another_authority_is_turned_away(tmp_path: Path, ours: certificates.Authority) -> None:
    other = certificates.Authority(tmp_path, "theirs")
    async with hub.running(tmp_path, context=mutual(ours)) as h:
        with pytest.raises(errors.Transient, match="the hub does not trust the authority of our certificate"):
            await asked(h.url, client(ours, other.issue("agent", "agent-1")))


async def test_http_to_a_tls_port_and_the_other_way_round_are_named(
    tmp_path: Path, ours: certificates.Authority
) -> None:
    async with hub.running(tmp_path, context=tls.server(ours.issue("hub"))) as h:
        with pytest.raises(errors.Transient, match="a hub that speaks TLS hangs up on http://"):
            await asked(h.url.replace("https:", "http:"), None)
    async with hub.running(tmp_path) as h:
        with pytest.raises(errors.Transient, match="the hub speaks no TLS there"):
            await asked(h.url.replace("http:", "https:"), client(ours))


async def test_another_authority_for_clients_holds_from_the_next_connection_on(
    tmp_path: Path, ours: certificates.Authority
) -> None:
    old, new = certificates.Authority(tmp_path, "old"), certificates.Authority(tmp_path, "new")
    before, after = client(ours, old.issue("before", "agent-1")), client(ours, new.issue("after", "agent-1"))
    trusted = tmp_path / "clients.pem"
    trusted.write_bytes(old.ca_file.read_bytes())
    async with hub.running(tmp_path, context=mutual(ours, ca=trusted)) as h:
        assert await asked(h.url, before) == 1
        trusted.write_bytes(new.ca_file.read_bytes())
        assert await asked(h.url, after) == 1
        with pytest.raises(errors.Transient, match="does not trust the authority"):
            await asked(h.url, before)


async def test_a_hangup_reads_the_certificates_anew_and_survives_bad_ones(
    tmp_path: Path, ours: certificates.Authority
) -> None:
    files = ours.issue("hub")
    assert files.key is not None
    secret = files.key.read_text()
    with said.heard() as log:
        async with hub.running(tmp_path, context=tls.server(files)) as h:

            async def refused() -> bool | None:
                return True if "hub.certificate_refused" in log.getvalue() else None

            async def rotated() -> bool | None:
                return True if "tls.rotated" in log.getvalue() else None

            files.key.write_text("rubbish")
            os.kill(os.getpid(), signal.SIGHUP)
            await hub.until(refused)
            assert await asked(h.url, client(ours)) == 1, "the old pair is in force"
            ours.issue("hub")
            os.kill(os.getpid(), signal.SIGHUP)
            await hub.until(rotated)
            assert await asked(h.url, client(ours)) == 1
    for line in secret.splitlines()[1:-1]:
        assert line not in log.getvalue()


async def test_probes_are_answered_without_a_certificate_on_a_port_of_their_own(
    tmp_path: Path, ours: certificates.Authority
) -> None:
    async with hub.running(tmp_path, context=mutual(ours), health_port=0) as h:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{h.health_port}") as session:
            found: dict[str, int] = {}
            for path in ("/healthz", "/readyz", "/metrics", "/", "/status", "/v1/streams", "/v1/leases"):
                async with session.get(path) as response:
                    found[path] = response.status
    assert {path for path, status in found.items() if status == 200} == {"/healthz", "/readyz", "/metrics"}
    assert {status for status in found.values() if status != 200} == {404}


async def test_probes_are_asked_by_the_names_of_the_settings_too(tmp_path: Path, ours: certificates.Authority) -> None:
    async with hub.running(tmp_path, context=mutual(ours), health_port=0, hosts=("hub.example",)) as h:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{h.health_port}") as session:
            found: list[int] = []
            for name in ("hub.example", "evil.example"):
                async with session.get("/healthz", headers={"Host": name}) as response:
                    found.append(response.status)
    assert found == [200, 421]


async def test_the_hub_says_when_its_certificates_end(tmp_path: Path, ours: certificates.Authority) -> None:
    context = mutual(ours)
    async with hub.running(tmp_path, context=context, health_port=0) as h:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{h.health_port}") as session:
            async with session.get("/metrics") as response:
                text = await response.text()
    shown = {
        name: int(float(value))
        for name, _, value in (row.rpartition(" ") for row in text.splitlines())
        if "{use=" in name
    }
    assert shown == {
        f'stakeside_hub_certificate_{verb}_timestamp_seconds{{use="{use}"}}': at_s
        for use, term in context.terms().items()
        for verb, at_s in (("begins", term.begins_s), ("expires", term.ends_s))
    }
    assert set(context.terms()) == {"server", "clients-ca"}


def test_the_hub_forgets_a_certificate_that_is_no_longer_in_use() -> None:
    meters, found = metrics.Metrics(), {"server": tls.Term(1, 2), "clients-ca": tls.Term(3, 4)}
    meters.certificates = lambda: found
    assert b'use="clients-ca"' in meters.page()
    del found["clients-ca"]
    assert b'use="clients-ca"' not in meters.page() and b'use="server"' in meters.page()


@asynccontextmanager
async def silent(ours: certificates.Authority) -> AsyncIterator[str]:
    """A TLS server that takes requests and hangs up."""

    async def hang_up(request: web.Request) -> web.Response:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    app = kit_http.application()
    app.add_routes([web.get("/v1/streams", hang_up)])
    async with kit_http.serving(app, host="127.0.0.1", port=0, tls=tls.server(ours.issue("hub"))) as port:
        yield f"https://127.0.0.1:{port}"


async def test_a_hub_that_hangs_up_is_no_matter_of_certificates(ours: certificates.Authority) -> None:
    async with silent(ours) as url:
        with pytest.raises(errors.Transient, match="the hub does not answer"):
            await asked(url, client(ours))


HOLDING = """
import socket, sys
held = [socket.create_connection(("127.0.0.1", int(sys.argv[1]))) for _ in range(500)]
print("held", flush=True)
sys.stdin.read()
"""


async def turned_away(port: int, stack: AsyncExitStack) -> bool:
    """Whether one more connection is closed before a handshake."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    stack.callback(writer.close)
    try:
        async with asyncio.timeout(0.5):
            return await reader.read(1) == b""
    except TimeoutError:
        return False
    except ConnectionError:
        return True


async def test_probes_are_answered_however_many_connections_strangers_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Handshakes that never come fill the port of the agents, not the one of the probes."""
    monkeypatch.setattr(doors.resource, "getrlimit", lambda _which: (400, 400))
    async with AsyncExitStack() as stack:
        h = await stack.enter_async_context(
            hub.running(tmp_path, context=mutual(certificates.Authority(tmp_path)), health_port=0)
        )
        stranger = await asyncio.create_subprocess_exec(
            sys.executable, "-c", HOLDING, str(h.port), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        stack.push_async_callback(stranger.communicate, b"")
        assert stranger.stdout is not None and await stranger.stdout.readline() == b"held\n"
        while not await turned_away(h.port, stack):
            pass
        session = await stack.enter_async_context(kit_http.client_session())
        async with session.get(f"http://127.0.0.1:{h.health_port}/healthz") as answer:
            assert answer.status == 200
