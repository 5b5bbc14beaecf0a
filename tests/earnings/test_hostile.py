"""What one hostile peer, one silent signer or one stale process cannot do to a hub."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import sqlite3
import threading
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from domain import deployment, errors, hashing, wire
from earnings import bodies, book, seats
from earnings.web import api, guard
from signers import keys
from tests.earnings import factory, hub

FRAMES = factory.frames(3)
ROOT = hashing.hex0x(FRAMES[0].header.body_root)
NEW = [factory.key(n) for n in (1, 2, 3, 8)]
CHANGED = factory.document(epochs=(factory.epoch(), factory.epoch(1, agents=NEW, start=1)))
A, B, C = (key.address for key in factory.AGENTS[:3])


async def votes(h: hub.Hub, made: factory.Frame) -> None:
    for agent in factory.AGENTS[:3]:
        status, answer = await h.attest(agent, made)
        assert status == 200, answer


def rows(folder: Path, query: str, *values: object) -> list[tuple[Any, ...]]:
    """Straight from a running hub's file."""
    connection = sqlite3.connect(folder / "hub.db", timeout=10)
    with connection:
        found = connection.execute(query, values).fetchall()
    connection.close()
    return found


# --- signer sets


async def test_a_frame_is_not_sealed_by_signers_that_a_new_document_took_off_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checking, go_on = threading.Event(), threading.Event()
    check = bodies.check

    def slow(want: bodies.Want, *others: Any) -> object:
        if want.header.sequence == 1:
            checking.set()
            assert go_on.wait(20)
        return check(want, *others)

    monkeypatch.setattr(bodies, "check", slow)
    current = [factory.document()]
    async with hub.running(tmp_path, reread=lambda: current[0]) as h:
        await h.seal(FRAMES[0])
        await votes(h, FRAMES[1])
        await h.deliver(FRAMES[1], factory.AGENTS[0])
        await asyncio.to_thread(checking.wait, 20)
        current[0] = CHANGED
        os.kill(os.getpid(), signal.SIGHUP)
        made = factory.frames(2, of=CHANGED)[1]

        async def taken_up() -> bool | None:
            return True if (await h.attest(NEW[3], made))[0] == 200 else None

        await hub.until(taken_up)
        go_on.set()

        async def counted_anew() -> bool | None:
            return True if (await h.get("/status"))[1]["streams"][0]["state"] == "collecting" else None

        await hub.until(counted_anew)
        assert (await h.get("/status"))[1]["sealed"] == 1


async def test_a_process_whose_document_is_older_than_the_books_neither_seals_nor_stores(tmp_path: Path) -> None:
    async with hub.running(tmp_path) as h:
        await votes(h, FRAMES[0])
        newer = msgspec.json.encode(CHANGED)  # as another process on the same database would
        rows(tmp_path, "UPDATE hub_meta SET value = ? WHERE name = 'document'", newer)
        await h.deliver(FRAMES[0], factory.AGENTS[0])

        async def says_why() -> bool | None:
            line = (await h.get("/status"))[1]["streams"][0]
            return True if "newer document" in line["reason"] else None

        await hub.until(says_why)
        status, problem = await h.attest(factory.AGENTS[3], FRAMES[0])
        assert (status, problem["title"]) == (503, "document changed")
        assert rows(tmp_path, "SELECT count(*) FROM hub_sealed") == [(0,)]


async def test_a_book_with_a_frame_sealed_under_other_signers_keeps_the_hub_from_starting(tmp_path: Path) -> None:
    async with hub.running(tmp_path) as h:
        await h.seal(FRAMES[0])
    other = factory.document(epochs=(factory.epoch(agents=NEW),))
    rows(tmp_path, "UPDATE hub_meta SET value = ? WHERE name = 'document'", msgspec.json.encode(other))
    with pytest.raises(errors.BadConfig, match="sealed under another signer set"):
        async with hub.running(tmp_path, other):
            pass


async def test_a_document_whose_new_epoch_starts_at_a_sealed_frame_is_refused(tmp_path: Path) -> None:
    async with hub.running(tmp_path) as h:
        for made in FRAMES[:2]:
            await h.seal(made)
    with pytest.raises(errors.BadConfig, match="starts at a sealed frame"):
        async with hub.running(tmp_path, CHANGED):
            pass


# --- who is asked


def wants(*supporters: bytes) -> bodies.Wants:
    found = bodies.Wants()
    seat = seats.Seats(factory.document()).at(FRAMES[0].header.stream, 0)
    assert seat is not None
    found.add(bodies.Want(seat, FRAMES[0].header, FRAMES[0].digest, supporters, next_=True))
    return found


def test_being_asked_again_prolongs_nothing() -> None:
    asked = wants(A, B, C)
    assert asked.ask(A, now_s=0)
    for now_s in (1, 2, 3, 4):
        assert asked.ask(A, now_s=now_s)
        assert not asked.ask(B, now_s=now_s)
    late = bodies.LEASE_S + 0.1
    assert asked.ask(B, now_s=late) and asked.ask(C, now_s=late), "now anybody may deliver"
    assert not asked.ask(A, now_s=late), "and the silent one comes last"
    assert asked.ask(A, now_s=late + bodies.LEASE_S)


def test_a_stored_chunk_keeps_the_turn_for_a_while_and_not_for_ever() -> None:
    asked = wants(A, B)
    asked.ask(A, now_s=0)
    for now_s in range(4, 60, 4):
        asked.extend(FRAMES[0].digest, now_s=now_s)
    assert not asked.ask(B, now_s=20)
    assert asked.ask(B, now_s=bodies.MAX_LEASE_S + 0.1)


def test_asking_in_anothers_name_changes_nothing() -> None:
    asked = wants(A, B)
    for now_s in range(20):
        assert asked.wanted(A, now_s=now_s) and asked.wanted(B, now_s=now_s), "nobody has a turn yet"
    assert asked.ask(B, now_s=20)
    for now_s in (21, 22):
        assert asked.wanted(B, now_s=now_s) and not asked.wanted(A, now_s=now_s)
    assert asked.wanted(A, now_s=26)


def test_a_single_signer_is_asked_until_it_delivers() -> None:
    asked = wants(A)
    assert all(asked.ask(A, now_s=now_s) and asked.wanted(A, now_s=now_s) for now_s in range(0, 30, 3))


async def test_a_silent_signer_that_keeps_asking_does_not_keep_a_frame_from_sealing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "LEASE_S", 0.3)
    silent, other = factory.AGENTS[2], factory.AGENTS[0]  # the third vote made the quorum
    async with hub.running(tmp_path) as h:
        await votes(h, FRAMES[0])
        assert await h.wanted(silent) and not await h.wanted(other)

        async def fails_over() -> bool | None:
            await h.wanted(silent)
            await h.attest(silent, FRAMES[0])
            return True if ROOT in await h.wanted(other) else None

        await hub.until(fails_over, deadline_s=5)
        assert await h.upload(FRAMES[0]) == [202]
        await h.sealed(FRAMES[0])


# --- places


@asynccontextmanager
async def trickling(h: hub.Hub, path: str, count: int) -> AsyncGenerator[None, None]:
    """Open uploads that never end."""
    writers: list[asyncio.StreamWriter] = []
    for _ in range(count):
        _, writer = await asyncio.open_connection("127.0.0.1", h.port)
        writer.write(f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n{{".encode())
        await writer.drain()
        writers.append(writer)
    await asyncio.sleep(0)
    yield
    for writer in writers:
        writer.close()
        await writer.wait_closed()


async def in_flight(h: hub.Hub, least: int) -> None:
    async def there() -> bool | None:
        return True if await h.metric("stakeside_hub_http_requests_in_flight") >= least else None

    await hub.until(there)


async def test_where_strangers_have_no_room_to_upload_a_token_holder_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "CHUNKS", guard.Reading(total=8, each=8, bytes_total=100, bytes_each=100))
    async with hub.running(tmp_path) as h:
        await votes(h, FRAMES[0])
        async with trickling(h, f"/v1/bodies/{ROOT}", 2):
            await in_flight(h, 2)
            assert await h.upload(FRAMES[0]) == [503], "it is longer than what is held of strangers"
            assert await upload(h, FRAMES[0], token=factory.TOKEN) == [202]
            await h.sealed(FRAMES[0])


async def test_an_unwanted_body_is_refused_before_it_is_read(tmp_path: Path) -> None:
    async with hub.running(tmp_path) as h:
        reader, writer = await asyncio.open_connection("127.0.0.1", h.port)
        writer.write(f"POST /v1/bodies/{ROOT} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n{{".encode())
        async with asyncio.timeout(4):
            assert (await reader.read(100)).startswith(b"HTTP/1.1 409 ")
        writer.close()
        await writer.wait_closed()


async def test_an_upload_that_trickles_loses_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "BODY_GRACE_S", 0.2)
    async with hub.running(tmp_path) as h:
        await votes(h, FRAMES[0])
        reader, writer = await asyncio.open_connection("127.0.0.1", h.port)
        writer.write(f"POST /v1/bodies/{ROOT} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n".encode())
        answer = asyncio.create_task(reader.read(100))
        started = time.monotonic()
        while not answer.done() and time.monotonic() - started < 4:
            writer.write(b" ")
            await asyncio.wait([answer], timeout=0.05)
        assert answer.done() and answer.result().startswith(b"HTTP/1.1 503 ")
        writer.close()


async def upload(h: hub.Hub, made: factory.Frame, *, token: str | None = None, parts: slice = slice(None)) -> list[int]:
    found: list[int] = []
    for chunk in made.chunks()[parts]:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        data = io.BytesIO(wire.encode(chunk))
        async with h.session.post(f"{h.url}/v1/bodies/{chunk.root}", data=data, headers=headers) as response:
            found.append(response.status)
    return found


# --- copies


@asynccontextmanager
async def opened(folder: Path) -> AsyncGenerator[book.Book, None]:
    the_book = await book.open_book(f"sqlite:///{folder / 'hub.db'}", deployment=factory.document().digest())
    try:
        yield the_book
    finally:
        await the_book.close()


LARGE = factory.frames(1, holders=9000)[0]


def want_of(made: factory.Frame) -> bodies.Want:
    seat = seats.Seats(factory.document()).at(made.header.stream, 0)
    assert seat is not None
    return bodies.Want(seat, made.header, made.digest, (A,), next_=True)


async def put(the_book: book.Book, found: bodies.Wants, source: str, part: int, *, pad: int = 0) -> object:
    chunk = LARGE.chunks()[part]
    async with the_book.write() as c:
        kept = await bodies.keep(
            c, want_of(LARGE), chunk, found, source=source, payload=wire.encode(chunk) + b" " * pad
        )
    if isinstance(kept, bool):
        found.feed(LARGE.digest, source)
    return kept


async def test_addresses_evict_neither_token_holders_nor_complete_copies_but_the_oldest_unfinished_one(
    tmp_path: Path,
) -> None:
    found = bodies.Wants()
    async with opened(tmp_path) as the_book:
        await put(the_book, found, "token:alice", 0)
        for part in range(3):
            await put(the_book, found, "addr:9", part)
        await put(the_book, found, "addr:2", 0)
        await put(the_book, found, "addr:1", 0)
        await put(the_book, found, "addr:3", 0)
        await put(the_book, found, "addr:2", 1)
        await put(the_book, found, "addr:5", 0)
        async with the_book.read() as c:
            kept = await bodies.sources(c, LARGE.digest)
        assert set(kept) == {"token:alice", "addr:9", "addr:2", "addr:3", "addr:5"}
        for source in ("addr:2", "addr:3", "addr:5"):
            for part in range(3):
                await put(the_book, found, source, part)
        refused = await put(the_book, found, "addr:6", 0)
        assert isinstance(refused, bodies.Refused) and refused.status == 503
        assert await put(the_book, found, "token:bob", 0) is False


async def test_a_copy_cannot_grow_beyond_what_its_leaf_count_allows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "CARRY_BYTES", 1 << 20)
    found = bodies.Wants()
    async with opened(tmp_path) as the_book:
        assert await put(the_book, found, "addr:1", 0, pad=4 << 20) is False
        refused = await put(the_book, found, "addr:1", 1, pad=4 << 20)
        assert isinstance(refused, bodies.Refused) and refused.status == 413
        assert await put(the_book, found, "addr:1", 0, pad=5 << 20) is False, "a part again replaces itself"
        assert await put(the_book, found, "addr:1", 1) is False


@pytest.mark.parametrize("parts", [("x",) * 5, ("x" * 201,)])
async def test_a_leaf_with_outsize_parts_is_refused_before_it_is_stored(tmp_path: Path, parts: tuple[str, ...]) -> None:
    chunk = FRAMES[0].chunks()[0]
    leaf = msgspec.structs.replace(chunk.leaves[0], parts=parts)
    async with hub.running(tmp_path) as h:
        await votes(h, FRAMES[0])
        status, problem = await h.post(f"/v1/bodies/{ROOT}", msgspec.structs.replace(chunk, leaves=(leaf,)))
        assert (status, problem["field"]) == (400, "leaves.parts")
        assert rows(tmp_path, "SELECT count(*) FROM hub_chunk") == [(0,)]


async def test_wanted_bodies_do_not_count_those_that_are_here(tmp_path: Path) -> None:
    async with hub.running(tmp_path) as h:
        for made in FRAMES:
            await votes(h, made)

        async def missing(count: int) -> None:
            async def there() -> bool | None:
                return True if await h.metric("stakeside_hub_wanted_bodies") == count else None

            await hub.until(there)

        await missing(3)
        assert await h.upload(FRAMES[1]) == [202]
        await missing(2)
        assert await h.upload(FRAMES[2]) == [202]
        await missing(1)


# --- what is served


async def test_a_damaged_leaf_is_never_served_however_often_it_is_asked_for(tmp_path: Path) -> None:
    digest = hashing.hex0x(FRAMES[0].digest)
    subject = hashing.hex0x(FRAMES[0].changed[0].subject)
    async with hub.running(tmp_path) as h:
        await h.seal(FRAMES[0])
        rows(tmp_path, "UPDATE hub_leaf SET reward = ?", (77).to_bytes(32, "big"))
        for path in (f"/v1/proofs/{digest}/{subject}", f"/v1/bodies/{ROOT}", f"/v1/bodies/{ROOT}?digest={digest}"):
            assert [(await h.get(path))[0] for _ in range(2)] == [500, 500], path


async def test_a_damaged_carry_is_not_served(tmp_path: Path) -> None:
    import zlib

    async with hub.running(tmp_path) as h:
        await h.seal(FRAMES[0])
        rows(tmp_path, "UPDATE hub_carry SET packed = ?", zlib.compress(b"{}"))
        assert (await h.get(f"/v1/bodies/{ROOT}"))[0] == 500


LAST = 'stakeside_hub_last_seal_timestamp_seconds{stream="rewards"}'


async def test_a_restart_does_not_hide_that_nothing_seals(tmp_path: Path) -> None:
    started = int(time.time())
    async with hub.running(tmp_path) as h:
        assert await h.metric(LAST) >= started, "nothing sealed yet: since the start"
        await h.seal(FRAMES[0])
    rows(tmp_path, "UPDATE hub_sealed SET at_s = 1234")
    async with hub.running(tmp_path) as h:
        assert await h.metric(LAST) == 1234


# --- votes after sealing


async def test_a_second_digest_excused_beforehand_is_evidence_after_sealing(tmp_path: Path) -> None:
    alice = factory.AGENTS[0]
    other = FRAMES[0].but(evidence=hashing.keccak256(b"other"))
    async with hub.running(tmp_path) as h:
        await h.seal(FRAMES[0])
        assert (await h.replace(alice, other, FRAMES[0]))[0] == 200
        for _ in range(2):
            status, problem = await h.attest(alice, other)
            assert (status, problem["title"], problem["has"]) == (409, "equivocation", hashing.hex0x(FRAMES[0].digest))
        shown = (await h.get("/status"))[1]
        assert [item["open"] for item in shown["evidence"]] == [True]
        assert len((await h.sealed(FRAMES[0]))["signatures"]) == 3
        assert (await h.replace(alice, other, FRAMES[0], ballot=2))[0] == 200, "its own later Replace lifts it"
        assert [item["open"] for item in (await h.get("/status"))[1]["evidence"]] == [False]


async def test_a_vote_withdrawn_before_the_signer_agreed_may_come_late(tmp_path: Path) -> None:
    dave = factory.AGENTS[3]
    wrong, worse = (FRAMES[0].but(evidence=hashing.keccak256(text)) for text in (b"wrong", b"worse"))
    async with hub.running(tmp_path) as h:
        await h.seal(FRAMES[0])
        assert (await h.replace(dave, wrong, worse))[0] == 200
        assert (await h.replace(dave, worse, FRAMES[0], ballot=2))[0] == 200
        for made in (wrong, worse, FRAMES[0]):
            assert (await h.attest(dave, made))[0] == 200
        assert len((await h.sealed(FRAMES[0]))["signatures"]) == 4
        assert (await h.get("/status"))[1]["evidence"] == []


# --- receipts


class Broken(keys.LocalKey):
    """Answers with something that is no signature of its key."""

    def __init__(self, answer: bytes) -> None:
        super().__init__(hashing.keccak256(b"test key 100"))
        self._answer = answer

    async def sign_digest(self, digest: bytes) -> bytes:
        del digest
        return self._answer


@pytest.mark.parametrize("answer", [bytes(65), b"short", factory.sign(factory.STRANGER, hashing.keccak256(b"x"))])
async def test_a_broken_receipt_signer_is_the_hubs_fault_and_not_the_agents(tmp_path: Path, answer: bytes) -> None:
    async with hub.running(tmp_path, keys_=(Broken(answer),)) as h:
        assert (await h.attest(factory.AGENTS[0], FRAMES[0]))[0] == 503
        assert await h.frame(0) == {}


async def test_a_receipt_key_cannot_take_over_numbers_that_are_out(tmp_path: Path) -> None:
    async with hub.running(tmp_path) as h:
        for made in FRAMES[:2]:
            await h.attest(factory.AGENTS[0], made)
        await h.attest(factory.AGENTS[1], FRAMES[0])

    def document(first: int) -> deployment.Document:
        old, new = factory.address(factory.HUB), factory.address(factory.NEXT_HUB)
        return factory.document(receipt_keys=(deployment.ReceiptKey(old), deployment.ReceiptKey(new, first)))

    both = (factory.HUB, factory.NEXT_HUB)
    with pytest.raises(errors.BadConfig, match="already out under the key before it"):
        async with hub.running(tmp_path, document(2), keys_=both):
            pass
    async with hub.running(tmp_path, document(3), keys_=both) as h:
        assert (await h.attest(factory.AGENTS[1], FRAMES[1]))[0] == 200, "number 2, still under the first key"
        assert (await h.attest(factory.AGENTS[0], FRAMES[2]))[0] == 200, "number 3, under the second"
