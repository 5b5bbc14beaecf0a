"""What consumers read: authenticated, paged, tagged; and the feed that misses nothing."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import web

from agent.reporting import adoption
from domain import errors, hashing, merkle, wire
from earnings.web import feed, guard
from tests.earnings import factory, hub

FRAMES = factory.frames(3)
ID = hashing.hex0x(factory.stream().id())
FIRST = FRAMES[0]
DIGEST, ROOT = hashing.hex0x(FIRST.digest), hashing.hex0x(FIRST.header.body_root)
SUBJECT = hashing.hex0x(FIRST.changed[0].subject)

CONSUMED = [
    "/v1/streams",
    f"/v1/streams/{ID}/frames",
    f"/v1/statements/{DIGEST}",
    f"/v1/bodies/{ROOT}",
    f"/v1/proofs/{DIGEST}/{SUBJECT}",
    "/v1/feed",
]


@pytest.mark.parametrize("path", CONSUMED)
@pytest.mark.parametrize("token", [None, "a wrong token", ""])
async def test_without_a_token_nothing_is_told(tmp_path: Path, path: str, token: str | None) -> None:
    async with hub.running(tmp_path) as h:
        status, problem = await h.get(path, token=token)
    assert (status, problem["title"]) == (401, "token needed")


@pytest.mark.parametrize("path", CONSUMED[:-1])
async def test_an_answer_the_consumer_has_is_not_sent_again(tmp_path: Path, path: str) -> None:
    async with hub.running(tmp_path) as h:
        await h.seal(FIRST)
        auth = {"Authorization": f"Bearer {factory.TOKEN}"}
        tag = ""
        async with asyncio.timeout(30):
            while True:  # right after a seal the hub still says otherwise why the next frame is open
                async with h.session.get(h.url + path, headers={**auth, "If-None-Match": tag}) as response:
                    body = await response.read()
                if response.status == 304:
                    break
                assert response.status == 200
                tag = response.headers["ETag"]
        assert (body, response.headers["ETag"]) == (b"", tag)


@pytest.mark.usefixtures("database")
async def test_a_joined_signature_changes_the_tag_of_the_certificate(tmp_path: Path) -> None:
    async with hub.running(tmp_path) as h:
        await h.seal(FIRST)
        tags: list[str] = []
        for agent in (None, factory.AGENTS[3]):
            if agent is not None:
                await h.attest(agent, FIRST)
            headers = {"Authorization": f"Bearer {factory.TOKEN}"}
            async with h.session.get(f"{h.url}/v1/statements/{DIGEST}", headers=headers) as response:
                tags.append(response.headers["ETag"])
    assert tags[0] != tags[1]


async def test_an_agent_can_adopt_what_a_consumer_reads(tmp_path: Path) -> None:
    async with hub.running(tmp_path) as h:
        for made in FRAMES:
            await h.seal(made)
        last = FRAMES[2]
        digest = hashing.hex0x(last.digest)
        certificate = msgspec.convert((await h.get(f"/v1/statements/{digest}"))[1], wire.Certificate)
        page = (await h.get(f"/v1/bodies/{hashing.hex0x(last.header.body_root)}?digest={digest}"))[1]
    assert (page.pop("page"), page.pop("pages")) == (0, 1)
    body = wire.body_from_wire(msgspec.convert(page, wire.BodyWire))
    certified = adoption.certify(factory.document(), factory.stream(), certificate)
    adopted = adoption.check(certified, body)
    assert adopted.body.leaves == last.body.leaves


@pytest.mark.usefixtures("database")
async def test_a_body_of_an_old_frame_is_what_it_was(tmp_path: Path) -> None:
    async with hub.running(tmp_path) as h:
        for made in FRAMES:
            await h.seal(made)
        for made in FRAMES:
            page = (await h.get(f"/v1/bodies/{hashing.hex0x(made.header.body_root)}"))[1]
            found = [wire.leaf_from_wire(msgspec.convert(leaf, wire.LeafWire)) for leaf in page["leaves"]]
            assert tuple(found) == made.body.leaves


async def test_a_large_body_comes_in_pages(tmp_path: Path) -> None:
    made = factory.frames(1, holders=5000)[0]
    root = hashing.hex0x(made.header.body_root)
    async with hub.running(tmp_path) as h:
        await h.seal(made)
        pages = [(await h.get(f"/v1/bodies/{root}?page={n}"))[1] for n in range(2)]
        assert (await h.get(f"/v1/bodies/{root}?page=2"))[0] == 404
    assert [(len(p["leaves"]), p["pages"], "carry" in p) for p in pages] == [(4096, 2, True), (905, 2, False)]
    found = [wire.leaf_from_wire(msgspec.convert(leaf, wire.LeafWire)) for page in pages for leaf in page["leaves"]]
    assert tuple(found) == made.body.leaves


@pytest.mark.usefixtures("database")
async def test_a_proof_leads_from_the_leaf_to_the_signed_root(tmp_path: Path) -> None:
    async with hub.running(tmp_path) as h:
        await h.seal(FIRST)
        answer = (await h.get(f"/v1/proofs/{DIGEST}/{SUBJECT}"))[1]
        assert (await h.get(f"/v1/proofs/{DIGEST}/0x{'00' * 32}"))[0] == 404
        assert (await h.get(f"/v1/proofs/0x{'00' * 32}/{SUBJECT}"))[0] == 404
    (found,) = answer["leaves"]
    leaf = wire.leaf_from_wire(msgspec.convert(found["leaf"], wire.LeafWire))
    path = [hashing.unhex(node, size=32) for node in found["proof"]]
    assert merkle.verify(FIRST.header.body_root, leaf.hash(), path)


@pytest.mark.usefixtures("database")
async def test_a_stream_names_the_digest_of_its_newest_sealed_frame(tmp_path: Path) -> None:
    async def newest() -> tuple[str | None, str | None]:
        (stream,) = (await h.get("/v1/streams"))[1]["streams"]
        return stream["sealed"], stream["digest"]

    async with hub.running(tmp_path) as h:
        assert await newest() == (None, None)
        for number, made in enumerate(FRAMES[:2]):
            await h.seal(made)
            assert await newest() == (str(number), hashing.hex0x(made.digest))


@pytest.mark.usefixtures("database")
async def test_frames_are_paged_by_sequence(tmp_path: Path) -> None:
    async with hub.running(tmp_path) as h:
        for made in FRAMES:
            await h.seal(made)
        first = (await h.get(f"/v1/streams/{ID}/frames?limit=2"))[1]
        assert [frame["sequence"] for frame in first["frames"]] == ["0", "1"]
        rest = (await h.get(f"/v1/streams/{ID}/frames?from={first['next']}&limit=2"))[1]
        assert ([frame["sequence"] for frame in rest["frames"]], rest["next"]) == (["2"], None)
        (stream,) = (await h.get("/v1/streams"))[1]["streams"]
        assert (stream["id"], stream["sealed"], stream["next"]) == (ID, "2", "3")


@pytest.mark.parametrize(
    "path",
    [
        f"/v1/streams/{ID}/frames?from=-1",
        f"/v1/streams/{ID}/frames?limit=257",
        "/v1/statements/0x1",
        f"/v1/bodies/{ROOT}?page=²",
    ],
)
async def test_a_malformed_question_is_refused(tmp_path: Path, path: str) -> None:
    async with hub.running(tmp_path) as h:
        assert (await h.get(path))[0] == 400


async def events(h: hub.Hub, count: int, *, after: str | None = None) -> list[tuple[str, dict[str, Any]]]:
    """The next `count` events of a new subscription."""
    headers = {"Authorization": f"Bearer {factory.TOKEN}"} | ({} if after is None else {"Last-Event-ID": after})
    found: list[tuple[str, dict[str, Any]]] = []
    async with asyncio.timeout(20), h.session.get(h.url + "/v1/feed", headers=headers) as response:
        assert response.content_type == "text/event-stream"
        number = ""
        async for line in response.content:
            name, _, value = line.decode().strip().partition(": ")
            number = value if name == "id" else number
            if name == "data":
                found.append((number, msgspec.json.decode(value)))
                if len(found) == count:
                    return found
    raise AssertionError("the feed ended")


@pytest.mark.usefixtures("database")
async def test_the_feed_tells_of_every_seal_and_resumes_where_it_broke_off(tmp_path: Path) -> None:
    async with hub.running(tmp_path) as h:
        waiting = asyncio.create_task(events(h, 1))

        async def subscribed() -> bool | None:
            return True if await h.metric("stakeside_hub_feed_subscribers") == 1 else None

        await hub.until(subscribed)
        for made in FRAMES:
            await h.seal(made)
        ((number, data),) = await waiting
        assert data == {"stream": ID, "sequence": "0", "revision": "0", "digest": DIGEST}
        later = await events(h, 2, after=number)
        assert [item["digest"] for _, item in later] == [hashing.hex0x(made.digest) for made in FRAMES[1:]]
        assert [number for number, _ in await events(h, 3, after="0")] == ["1", "2", "3"]


async def test_a_subscriber_that_reads_nothing_makes_room_for_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, deaf = web.StreamResponse.write, list[web.StreamResponse]()

    async def writing(response: web.StreamResponse, data: bytes) -> None:
        """The first subscriber's connection takes nothing more."""
        deaf.append(response)
        await (asyncio.Event().wait() if response is deaf[0] else write(response, data))

    monkeypatch.setattr(web.StreamResponse, "write", writing)
    monkeypatch.setattr(feed, "WRITE_TIMEOUT_S", 0.1)
    monkeypatch.setattr(feed, "MAX_SUBSCRIBERS", 1)
    async with hub.running(tmp_path) as h:
        headers = {"Authorization": f"Bearer {factory.TOKEN}"}
        async with h.session.get(h.url + "/v1/feed", headers=headers) as unread:
            assert unread.status == 200

            async def heard() -> bytes | None:
                async with h.session.get(h.url + "/v1/feed", headers=headers) as response:
                    return await response.content.readline() if response.status == 200 else None

            assert await hub.until(heard) == b"retry: 2000\n"


async def test_an_open_feed_does_not_keep_the_hub_from_stopping(tmp_path: Path) -> None:
    async with hub.running(tmp_path) as h:
        headers = {"Authorization": f"Bearer {factory.TOKEN}"}
        response = await h.session.get(h.url + "/v1/feed", headers=headers)
        h.stop.set()
        async with asyncio.timeout(5):
            assert b"retry: 2000" in await response.read()


@pytest.mark.parametrize("text", ["no colon", "name:12", f"a:{'0' * 64}\na:{'1' * 64}", "näme:" + "0" * 64])
def test_a_malformed_tokens_file_is_refused_by_its_line(tmp_path: Path, text: str) -> None:
    file = tmp_path / "tokens"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(errors.BadConfig):
        guard.Tokens(file)
