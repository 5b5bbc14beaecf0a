"""Bodies: leaves and carry of a frame that k signers agreed on. In: uploaded chunks. Out: a body that provably is the signed one.

The hub asks for a body by its root and takes nothing else. Chunks are kept apart per uploader, so a hostile one can spoil only its own
copy; sizes are bounded by the signed `leafCount`. Checking recomputes every changed leaf and the whole tree, in a worker thread.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence

import msgspec
import sqlalchemy as sa

from domain import errors, hashing, merkle, statement, wire
from earnings import tables, votes
from earnings.book import Connection
from earnings.ingest import Refused, malformed, parse
from earnings.seats import Seat

WINDOW = 64
"""How many frames ahead of the next one bodies are asked for: enough to hide an upload, bounded on disk."""
LEASE_S = 5.0
"""One signer is asked at a time; after this long without a word from it the next one is."""
MAX_SOURCES = 4
MAX_CARRY_PARTS = 64
MAX_CARRY_CHARACTERS = 1 << 20
MAX_PENDING_BYTES = 1 << 30
"""Unverified uploads on disk, over all frames but the one that is next."""

Key = tuple[bytes, bytes, int]


class Want(msgspec.Struct, frozen=True):
    """A body the hub needs. `supporters` signed its root; `next_` is the frame that seals as soon as it is here; `complete` while a
    copy waits to be checked, so that nobody is asked for another one, though one that is under way is still taken."""

    seat: Seat
    header: statement.Header
    digest: bytes
    supporters: tuple[bytes, ...]
    next_: bool
    complete: bool = False

    @property
    def parts_limit(self) -> int:
        return max(math.ceil(self.header.leaf_count / wire.MAX_CHUNK_LEAVES), MAX_CARRY_PARTS)


class Wants:
    """What is asked for now, and whom. Rebuilt from the book at every look, so a restart forgets nothing that matters."""

    def __init__(self) -> None:
        self._wants: dict[bytes, Want] = {}
        self._asked: dict[bytes, tuple[bytes, float]] = {}
        self._failed: dict[bytes, set[bytes]] = {}

    def replace(self, stream: bytes, wants: Sequence[Want]) -> None:
        kept = {digest: want for digest, want in self._wants.items() if want.header.stream != stream}
        self._wants = kept | {want.digest: want for want in wants}
        self._asked = {digest: asked for digest, asked in self._asked.items() if digest in self._wants}
        self._failed = {digest: failed for digest, failed in self._failed.items() if digest in self._wants}

    def add(self, want: Want) -> None:
        self._wants.setdefault(want.digest, want)

    def completed(self, digest: bytes) -> None:
        want = self._wants.get(digest)
        if want is not None:
            self._wants[digest] = msgspec.structs.replace(want, complete=True)

    def disappointed(self, digest: bytes) -> None:
        """The copy that came was wrong: whoever was asked is asked last now."""
        want = self._wants.get(digest)
        asked, _ = self._asked.pop(digest, (None, 0.0))
        if want is None:
            return
        self._wants[digest] = msgspec.structs.replace(want, complete=False)
        failed = self._failed.setdefault(digest, set())
        if asked is not None:
            failed.add(asked)
        if failed >= set(want.supporters):
            failed.clear()

    def drop(self, digest: bytes) -> None:
        self._wants.pop(digest, None)
        self._asked.pop(digest, None)
        self._failed.pop(digest, None)

    def ask(self, attester: bytes, *, now_s: float) -> tuple[bytes, ...]:
        """Roots to ask this attester for, in frame order. Whoever is asked first has `LEASE_S` to deliver."""
        found: dict[bytes, None] = {}
        for want in sorted(self._wants.values(), key=lambda w: (w.header.sequence, w.header.stream)):
            if want.complete or attester not in want.supporters or attester in self._failed.get(want.digest, ()):
                continue
            asked, until = self._asked.get(want.digest, (attester, 0.0))
            if asked == attester or until <= now_s:
                self._asked[want.digest] = (attester, now_s + LEASE_S)
                found[want.header.body_root] = None
        return tuple(found)

    def find(self, chunk: wire.BodyChunk, root: bytes) -> Want | None:
        for want in self._wants.values():
            header = want.header
            named = (hashing.hex0x(header.stream), str(header.sequence), str(header.revision))
            if header.body_root == root and named == (chunk.stream, chunk.sequence, chunk.revision):
                return want
        return None

    def extend(self, digest: bytes, *, now_s: float) -> None:
        """A chunk arrived: whoever sends it keeps the lease."""
        asked = self._asked.get(digest)
        if asked is not None:
            self._asked[digest] = (asked[0], now_s + LEASE_S)

    def __len__(self) -> int:
        return len(self._wants)


def read_chunk(data: bytes, root_text: str, wants: Wants) -> tuple[Want, wire.BodyChunk] | Refused:
    """A chunk of a body that was asked for, within its bounds."""
    try:
        root = hashing.unhex(root_text, size=32, what="root")
    except errors.BadAnswer as error:
        return malformed("root", error.what)
    chunk = parse(data, wire.BodyChunk, what="the body chunk")
    if isinstance(chunk, Refused):
        return chunk
    if chunk.root != hashing.hex0x(root):
        return malformed("root", "the chunk names another root than the path")
    want = wants.find(chunk, root)
    if want is None:
        return Refused(409, "unrequested body", "the hub does not ask for this body now", field="root")
    if not 1 <= chunk.parts <= want.parts_limit:
        return malformed("parts", f"a body with {want.header.leaf_count} leaves has at most {want.parts_limit} parts")
    if not 0 <= chunk.part < chunk.parts:
        return malformed("part", f"parts are numbered 0 to {chunk.parts - 1}")
    if len(chunk.leaves) > min(wire.MAX_CHUNK_LEAVES, want.header.leaf_count):
        return malformed("leaves", f"at most {min(wire.MAX_CHUNK_LEAVES, want.header.leaf_count)} leaves fit here")
    if len(chunk.carry) > MAX_CARRY_CHARACTERS:
        return malformed("carry", f"a slice of the carry has at most {MAX_CARRY_CHARACTERS} characters")
    return want, chunk


async def keep(c: Connection, want: Want, chunk: wire.BodyChunk, *, source: str, payload: bytes) -> Refused | bool:
    """Store a chunk; True when its uploader's copy is complete now. A second copy of a part replaces the first."""
    table = tables.chunk
    if not want.next_ and await _pending_bytes(c) + len(payload) > MAX_PENDING_BYTES:
        return Refused(503, "too many bodies pending", "the hub is still checking earlier frames", retry_after_s=5)
    counts = await sources(c, want.digest)
    if source not in counts and len(counts) >= MAX_SOURCES:
        await discard(c, want.digest, source=min(counts, key=lambda name: (counts[name].have, name)))
    mine = sa.and_(table.c.digest == want.digest, table.c.source == source)
    if source in counts and counts[source].parts != chunk.parts:
        await discard(c, want.digest, source=source)
    await c.execute(table.delete().where(mine, table.c.part == chunk.part))
    await c.execute(
        table.insert().values(digest=want.digest, source=source, part=chunk.part, parts=chunk.parts, payload=payload)
    )
    return (await sources(c, want.digest))[source].complete


class Copy(msgspec.Struct, frozen=True):
    """How much of a body one uploader has sent."""

    have: int
    parts: int

    @property
    def complete(self) -> bool:
        return self.have == self.parts


async def sources(c: Connection, digest: bytes) -> dict[str, Copy]:
    table = tables.chunk
    query = sa.select(table.c.source, sa.func.count().label("have"), sa.func.max(table.c.parts).label("parts"))
    rows = await c.execute(query.where(table.c.digest == digest).group_by(table.c.source))
    return {row.source: Copy(row.have, row.parts) for row in rows}


async def _pending_bytes(c: Connection) -> int:
    return await c.scalar(sa.select(sa.func.coalesce(sa.func.sum(sa.func.length(tables.chunk.c.payload)), 0))) or 0


async def load(c: Connection, digest: bytes, *, source: str) -> list[bytes]:
    table = tables.chunk
    query = sa.select(table.c.payload).where(table.c.digest == digest, table.c.source == source)
    return list(await c.scalars(query.order_by(table.c.part)))


async def discard(c: Connection, digest: bytes, *, source: str | None = None) -> None:
    """All copies, or one uploader's."""
    table = tables.chunk
    where = [table.c.digest == digest] + ([] if source is None else [table.c.source == source])
    await c.execute(table.delete().where(*where))


async def repeats(c: Connection, header: statement.Header) -> bool:
    """Whether the frame leaves everything as the one it names as `previous`: then there is no body to ask for."""
    before = await votes.header(c, header.previous)
    return before is not None and (before.header.body_root, before.header.carry) == (header.body_root, header.carry)


class Entry(msgspec.Struct, frozen=True):
    """A leaf with its hash, so that an unchanged leaf is never hashed again."""

    leaf: statement.Leaf
    hash: bytes


class Checked(msgspec.Struct, frozen=True):
    """The body is the signed one. `entries` are all leaves of the frame, `packed` the zlib-packed carry."""

    changed: tuple[statement.Leaf, ...]
    entries: Mapping[Key, Entry]
    packed: bytes | None


class Wrong(msgspec.Struct, frozen=True):
    """These chunks are not the signed body: ask somebody else."""

    reason: str


class Contradiction(msgspec.Struct, frozen=True):
    """The signed header itself cannot be true: k signers agreed on nonsense, and a person has to look."""

    reason: str


def check(want: Want, before: Mapping[Key, Entry], payloads: Sequence[bytes] | None) -> Checked | Wrong | Contradiction:
    """Blocking: run it in a worker thread. `payloads` None: the frame says that nothing changed since `before`."""
    changed: list[statement.Leaf] = []
    carry = ""
    if payloads is not None:
        try:
            chunks = [wire.decode(payload, wire.BodyChunk, what="a stored chunk") for payload in payloads]
            changed = [wire.leaf_from_wire(leaf) for chunk in chunks for leaf in chunk.leaves]
            carry = "".join(chunk.carry for chunk in chunks)
            packed_carry = carry.encode()
        except errors.BadAnswer as error:
            return Wrong(str(error))
        except UnicodeEncodeError:
            return Wrong("the carry is not text")
        if hashing.keccak256(packed_carry) != want.header.carry:
            return Wrong("the carry does not hash to the signed one")
    entries = dict(before)
    for leaf in changed:
        entries[(leaf.subject, leaf.asset, leaf.kind)] = Entry(leaf, leaf.hash())
    if len({(leaf.subject, leaf.asset, leaf.kind) for leaf in changed}) != len(changed):
        return Wrong("a leaf comes twice")
    if merkle.root([entry.hash for entry in entries.values()]) != want.header.body_root:
        return Wrong("the leaves do not hash to the signed root")
    reason = _contradiction(want, before, changed, entries)
    if reason is not None:
        return Contradiction(reason)
    packed = None if payloads is None else zlib.compress(carry.encode(), 6)
    news = [
        leaf
        for leaf in changed
        if (old := before.get((leaf.subject, leaf.asset, leaf.kind))) is None or old.leaf != leaf
    ]
    return Checked(tuple(news), entries, packed)


def _contradiction(
    want: Want, before: Mapping[Key, Entry], changed: Sequence[statement.Leaf], entries: Mapping[Key, Entry]
) -> str | None:
    header, stream = want.header, want.seat.stream
    if len(entries) != header.leaf_count:
        return f"the header counts {header.leaf_count} leaves, the body has {len(entries)}"
    for leaf in changed:
        named = " ".join(leaf.parts)[:200]
        old = before.get((leaf.subject, leaf.asset, leaf.kind))
        if old is not None and (leaf.reward < old.leaf.reward or leaf.penalty < old.leaf.penalty):
            return f"a cumulative leaf falls: {named}, kind {leaf.kind}"
        if leaf.reward == 0 and leaf.penalty == 0:
            return f"a leaf of zero amounts: {named}, kind {leaf.kind}"
        if hashing.hex0x(leaf.asset) != stream.asset:
            return f"a leaf is in another asset than the stream: {named}"
        if leaf.parts[0] != "validator" and leaf.parts[1] != stream.protocol:
            return f"a leaf is of another protocol than the stream: {named}"
    totals = statement.totals(entry.leaf for entry in entries.values())
    if (totals.reward, totals.penalty) != (header.total_reward, header.total_penalty):
        return f"the leaves sum to {totals.reward} and {totals.penalty}, the header says otherwise"
    return None
