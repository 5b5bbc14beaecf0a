"""The server against clients that send too much, too slowly, or nothing at all; and what open pages show."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from domain import hashing
from earnings.web import api, guard, server
from kit import places
from tests.earnings import factory, hub

FRAMES = factory.frames(2)


async def talk(h: hub.Hub, data: bytes, *, limit: int = 1 << 16) -> bytes:
    """What a raw socket hears until the hub closes it, or a whole answer has come."""
    reader, writer = await asyncio.open_connection("127.0.0.1", h.port)
    writer.write(data)
    async with asyncio.timeout(10):
        answer = await reader.read(limit)
    writer.close()
    await writer.wait_closed()
    return answer


@pytest.mark.parametrize(
    ("path", "limit"),
    [
        ("/v1/attestations", api.ATTESTATION_BYTES),
        ("/v1/replacements", api.REPLACEMENT_BYTES),
        ("/v1/bodies/0x" + "11" * 32, api.CHUNK_BYTES),
    ],
)
async def test_an_oversized_body_is_refused_before_it_is_read(tmp_path: Path, path: str, limit: int) -> None:
    async with hub.running(tmp_path) as h:
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {limit + 1}\r\n\r\n"
        answer = await talk(h, head.encode())  # not one byte of the body is sent
    assert answer.startswith(b"HTTP/1.1 413 ")


async def test_an_oversized_body_of_unknown_length_is_cut_off(tmp_path: Path) -> None:
    async with hub.running(tmp_path) as h:
        reader, writer = await asyncio.open_connection("127.0.0.1", h.port)
        writer.write(b"POST /v1/replacements HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(4):
            writer.write(b"1000\r\n" + b"x" * 4096 + b"\r\n")
        async with asyncio.timeout(10):
            answer = await reader.read(1 << 16)
        writer.close()
        await writer.wait_closed()
    assert answer.startswith(b"HTTP/1.1 413 ")


async def test_a_body_that_does_not_arrive_in_time_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "BODY_GRACE_S", 0.1)
    async with hub.running(tmp_path) as h:
        answer = await talk(h, b"POST /v1/attestations HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")
    assert answer.startswith(b"HTTP/1.1 503 ")


async def test_a_request_head_that_trickles_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "IDLE_CONNECTION_S", 0.2)
    async with hub.running(tmp_path) as h:
        assert await talk(h, b"GET /healthz HTTP/1.1\r\nHost:") == b""


async def test_requests_beyond_the_cap_are_told_to_come_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "MAX_IN_FLIGHT", places.Bounds(total=1, addresses=0, each=0))
    async with hub.running(tmp_path) as h:
        for path in ("/status", "/v1/receipts/0x" + "00" * 20):
            async with h.session.get(h.url + path) as response:
                assert (response.status, response.headers["Retry-After"]) == (503, "1")
        assert await h.metric('stakeside_hub_http_requests_total{route="/status",status="503"}') == 1
        assert (await h.get("/healthz", token=None))[0] == 200, "probes are answered even now"
        assert (await h.get("/v1/streams"))[0] == 200, "a place is kept for whoever shows a token"
        assert await h.wanted(factory.AGENTS[0]) == [], "what waits for nothing needs no place"


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/v1/bodies/0x" + "00" * 32), ("HEAD", "/v1/bodies/0x" + "00" * 32)]
)
async def test_asking_for_a_body_takes_a_place_and_sending_one_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, path: str
) -> None:
    monkeypatch.setattr(guard, "MAX_IN_FLIGHT", places.Bounds(total=0, addresses=0, each=0))
    async with hub.running(tmp_path) as h:
        async with h.session.request(method, h.url + path) as response:
            assert response.status == 503
        assert (await h.post(path, b"{}"))[0] == 409, "nobody asked for it; it has bounds of its own"


MALFORMED = {
    "an address that is none": b"GET /v1/wanted?attester=zz HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "an unprintable path": b"GET /v1/receipts/%00 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a body that is no gzip": b"POST /v1/leases HTTP/1.1\r\nHost: localhost\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc",
    "a body that breaks off": b"POST /v1/leases HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nabc",
}


@pytest.mark.parametrize("what", MALFORMED)
async def test_what_a_stranger_got_wrong_is_counted_as_his_error_and_not_as_the_hubs(tmp_path: Path, what: str) -> None:
    async with hub.running(tmp_path) as h:
        _, writer = await asyncio.open_connection("127.0.0.1", h.port)
        writer.write(MALFORMED[what])
        await writer.drain()
        writer.write_eof()

        async def counted() -> list[str]:
            text = (await h.get("/metrics"))[1].decode()
            return [line for line in text.splitlines() if line.startswith("stakeside_hub_http_requests_total{")]

        async def once() -> list[str] | None:
            return await counted() or None

        try:
            (line,) = await hub.until(once)
        finally:
            writer.close()
        assert 'status="400"' in line and line.endswith(" 1.0")


async def test_an_unknown_path_or_method_is_a_problem(tmp_path: Path) -> None:
    async with hub.running(tmp_path) as h:
        assert (await h.get("/v1/nothing"))[1]["status"] == 404
        assert (await h.get("/v1/attestations"))[1]["status"] == 405


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/status", "/metrics", "/"])
async def test_open_pages_answer_without_a_token(tmp_path: Path, path: str) -> None:
    async with hub.running(tmp_path) as h:
        assert (await h.get(path, token=None))[0] == 200


async def test_the_status_page_shows_hostile_words_as_words(tmp_path: Path) -> None:
    hostile = '{"agent":"<script>alert(1)</script>\\u0000\\u001b[31m","software":"\'\\"><img src=x onerror=alert(1)>"}'
    named = factory.document(
        streams=(factory.stream("<b>rewards</b>"),), epochs=(factory.epoch(streams=("<b>rewards</b>",)),)
    )
    made = factory.frames(1, of=named, name="<b>rewards</b>")[0]
    async with hub.running(tmp_path, named) as h:
        status, answer = await h.attest(factory.AGENTS[0], made, context=hostile)
        assert status == 200, answer
        async with h.session.get(h.url + "/") as response:
            policy = response.headers["Content-Security-Policy"]
            page = await response.text()
    assert "default-src 'none'" in policy and "script" not in policy and "unsafe" not in policy
    assert "&lt;script&gt;" in page
    for forbidden in ("<script", "<img", "<b>", "\x00", "\x1b", "onerror=alert(1)>"):
        assert forbidden not in page


async def test_the_status_page_shows_frames_votes_and_evidence(tmp_path: Path) -> None:
    async with hub.running(tmp_path) as h:
        await h.seal(FRAMES[0])
        await h.attest(factory.AGENTS[0], FRAMES[1])
        await h.attest(factory.AGENTS[0], FRAMES[1].but(evidence=hashing.keccak256(b"x")))
        page = (await h.get("/"))[1].decode()
    assert hashing.hex0x(FRAMES[0].digest) in page
    assert "quarantined" in page
    assert "Evidence of equivocation" in page


async def test_the_status_page_shows_what_agents_say_of_themselves_as_names_and_values(tmp_path: Path) -> None:
    async with hub.running(tmp_path) as h:
        await h.attest(factory.AGENTS[0], FRAMES[0], context='{"agent":"north","software":"stakeside 0.2.0"}')
        await h.attest(factory.AGENTS[1], FRAMES[0], context='{"agent":{"deep":1}}')
        page = (await h.get("/"))[1].decode()
    assert "<td>agent north, software stakeside 0.2.0</td>" in page
    assert "<td>{&quot;agent&quot;:{&quot;deep&quot;:1}}</td>" in page
    assert '<link rel="icon" href="data:,">' in page


async def test_metrics_follow_what_happened(tmp_path: Path) -> None:
    async with hub.running(tmp_path) as h:
        await h.seal(FRAMES[0])
        await h.attest(factory.STRANGER, FRAMES[0])
        assert await h.metric('stakeside_hub_sealed_frames_total{stream="rewards"}') == 1
        assert await h.metric('stakeside_hub_attestations_total{result="accepted"}') == 3
        assert await h.metric('stakeside_hub_attestations_total{result="unknown_attester"}') == 1
        assert await h.metric('stakeside_hub_receipts_total{kind="new"}') == 3
        assert await h.metric('stakeside_hub_next_sequence{stream="rewards"}') == 1
