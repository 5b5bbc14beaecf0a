"""Bodies: leaves and carry of a frame that k signers agreed on. In: uploaded chunks. Out: a body that provably is the signed one.

The hub asks for a body by its root and takes nothing else. Chunks are kept apart per uploader, so a hostile one can spoil only its own
copy; sizes are bounded by the signed `leafCount`. Checking recomputes every changed leaf and the whole tree, in a worker thread.
Nobody can keep a body from coming: a silent signer loses its turn, and copies of token holders are never thrown out for others'.
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
from earnings.ingest import Refused, malformed
from earnings.seats import Seat

WINDOW = 64
"""How many frames ahead of the next one bodies are asked for: enough to hide an upload, bounded on disk."""
LEASE_S = 5.0
"""One signer is asked first, alone; after this long without a chunk the others are asked too, and it last."""
MAX_LEASE_S = 30.0
"""Chunks prolong that no further: anybody can send some."""
MAX_SOURCES = 4
"""Copies of addresses at a time. Holders of tokens are known and few; each has its copy beside these."""
MAX_LEAF_PARTS = 4
MAX_PART_CHARACTERS = 200
LEAF_BYTES = 1024
"""JSON of a leaf: two words, two 78-digit amounts, its parts. A delegation has about 500."""
CARRY_BYTES = 128 << 20
"""JSON of the longest carry that `chunk_body` cuts into 64 parts: 64 Mi characters, every second one a quote to be escaped."""
MAX_CARRY_PARTS = 64
MAX_CARRY_CHARACTERS = 1 << 20
MAX_REMEMBERED = 256
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

    @property
    def bytes_limit(self) -> int:
        """Of one copy, all parts together."""
        return self.header.leaf_count * LEAF_BYTES + CARRY_BYTES


class _Lease(msgspec.Struct, frozen=True):
    """`holder` is asked alone until `until_s`."""

    holder: bytes
    since_s: float
    until_s: float


class Wants:
    """What is asked for now, and whom. Rebuilt from the book at every look, so a restart forgets nothing that matters."""

    def __init__(self) -> None:
        self._wants: dict[bytes, Want] = {}
        self._leases: dict[bytes, _Lease] = {}
        self._failed: dict[bytes, set[bytes]] = {}
        self._fed: dict[bytes, dict[str, None]] = {}
        self._look = 0
        self._added: dict[bytes, int] = {}

    def look(self) -> int:
        """Before the book is looked at: what is added from now on may be missing in what is found there."""
        self._look += 1
        return self._look

    def replace(self, stream: bytes, wants: Sequence[Want], *, look: int) -> None:
        """By what the look that began as `look` found; what was asked for since then stays."""
        added = self._added
        kept = {
            digest: want
            for digest, want in self._wants.items()
            if want.header.stream != stream or added.get(digest, 0) >= look
        }
        self._wants = kept | {want.digest: want for want in wants}
        self._leases = {digest: lease for digest, lease in self._leases.items() if digest in self._wants}
        self._failed = {digest: failed for digest, failed in self._failed.items() if digest in self._wants}
        self._fed = {digest: fed for digest, fed in self._fed.items() if digest in self._wants}
        self._added = {digest: number for digest, number in added.items() if digest in self._wants}

    def add(self, want: Want) -> None:
        self._wants.setdefault(want.digest, want)
        self._added[want.digest] = self._look

    def completed(self, digest: bytes) -> None:
        want = self._wants.get(digest)
        if want is not None:
            self._wants[digest] = msgspec.structs.replace(want, complete=True)

    def disappointed(self, digest: bytes) -> None:
        """The copy that came was wrong: whoever was asked is asked last now."""
        want = self._wants.get(digest)
        lease = self._leases.pop(digest, None)
        if want is None:
            return
        self._wants[digest] = msgspec.structs.replace(want, complete=False)
        failed = self._failed.setdefault(digest, set())
        if lease is not None:
            failed.add(lease.holder)
        if failed >= set(want.supporters):
            failed.clear()

    def drop(self, digest: bytes) -> None:
        for kept in (self._wants, self._leases, self._failed, self._fed, self._added):
            kept.pop(digest, None)

    def wanted(self, attester: bytes, *, now_s: float) -> tuple[bytes, ...]:
        """Roots this attester may deliver now, in frame order. Anybody may ask in anybody's name, so nothing changes by it."""
        return tuple(dict.fromkeys(want.header.body_root for want in self._open(attester, now_s)))

    def ask(self, attester: bytes, *, now_s: float) -> tuple[bytes, ...]:
        """As `wanted`, for an attester that proved itself: what nobody was asked for yet it is asked for alone, for `LEASE_S`. Being
        asked again prolongs nothing."""
        found = self._open(attester, now_s)
        for want in found:
            self._leases.setdefault(want.digest, _Lease(attester, now_s, now_s + LEASE_S))
        return tuple(dict.fromkeys(want.header.body_root for want in found))

    def _open(self, attester: bytes, now_s: float) -> list[Want]:
        found = [want for want in self._wants.values() if not want.complete and attester in want.supporters]
        found = [want for want in found if self._may(want, attester, now_s)]
        return sorted(found, key=lambda want: (want.header.sequence, want.header.stream))

    def _may(self, want: Want, attester: bytes, now_s: float) -> bool:
        lease = self._leases.get(want.digest)
        if lease is None:
            return attester not in self._failed.get(want.digest, ())
        if now_s < lease.until_s:
            return attester == lease.holder
        return attester != lease.holder or len(want.supporters) == 1 or now_s >= lease.until_s + LEASE_S

    def asks(self, root: bytes) -> bool:
        return any(want.header.body_root == root for want in self._wants.values())

    def find(self, chunk: wire.BodyChunk, root: bytes) -> Want | None:
        for want in self._wants.values():
            header = want.header
            named = (hashing.hex0x(header.stream), str(header.sequence), str(header.revision))
            if header.body_root == root and named == (chunk.stream, chunk.sequence, chunk.revision):
                return want
        return None

    def extend(self, digest: bytes, *, now_s: float) -> None:
        """A chunk was stored: the first turn lasts on, within `MAX_LEASE_S`."""
        lease = self._leases.get(digest)
        if lease is not None and now_s < lease.until_s:
            until = min(now_s + LEASE_S, lease.since_s + MAX_LEASE_S)
            self._leases[digest] = msgspec.structs.replace(lease, until_s=max(lease.until_s, until))

    def feed(self, digest: bytes, source: str) -> None:
        """`source` sent a chunk: it is the most recent uploader now."""
        fed = self._fed.setdefault(digest, {})
        fed.pop(source, None)
        fed[source] = None
        if len(fed) > MAX_REMEMBERED:
            del fed[next(iter(fed))]

    def recency(self, digest: bytes, source: str) -> int:
        """Higher: sent a chunk more recently. -1: not in this process's time, or long ago."""
        return next((n for n, name in enumerate(self._fed.get(digest, ())) if name == source), -1)

    @property
    def missing(self) -> int:
        """Bodies of which no copy is complete."""
        return sum(not want.complete for want in self._wants.values())

    def __len__(self) -> int:
        return len(self._wants)


def read_root(text: str, wants: Wants) -> bytes | Refused:
    """The root a path names, when its body is asked for."""
    try:
        root = hashing.unhex_lower(text, size=32, what="root")
    except errors.BadAnswer as error:
        return malformed("root", error.what)
    return root if wants.asks(root) else _unrequested()


def _unrequested() -> Refused:
    return Refused(409, "unrequested body", "the hub does not ask for this body now", field="root")


def read_chunk(chunk: wire.BodyChunk, root: bytes, wants: Wants) -> Want | Refused:
    """What the chunk is for, when it was asked for and is within its bounds."""
    if chunk.root != hashing.hex0x(root):
        return malformed("root", "the chunk names another root than the path")
    want = wants.find(chunk, root)
    if want is None:
        return _unrequested()
    if not 1 <= chunk.parts <= want.parts_limit:
        return malformed("parts", f"a body with {want.header.leaf_count} leaves has at most {want.parts_limit} parts")
    if not 0 <= chunk.part < chunk.parts:
        return malformed("part", f"parts are numbered 0 to {chunk.parts - 1}")
    if len(chunk.leaves) > min(wire.MAX_CHUNK_LEAVES, want.header.leaf_count):
        return malformed("leaves", f"at most {min(wire.MAX_CHUNK_LEAVES, want.header.leaf_count)} leaves fit here")
    if len(chunk.carry) > MAX_CARRY_CHARACTERS:
        return malformed("carry", f"a slice of the carry has at most {MAX_CARRY_CHARACTERS} characters")
    for leaf in chunk.leaves:
        if len(leaf.parts) > MAX_LEAF_PARTS or any(len(part) > MAX_PART_CHARACTERS for part in leaf.parts):
            return malformed(
                "leaves.parts", f"a leaf has at most {MAX_LEAF_PARTS} parts of at most {MAX_PART_CHARACTERS} characters"
            )
    return want


def by_token(source: str) -> bool:
    """Whether an uploader showed a token. The others are known by their address alone, and addresses are cheap."""
    return source.startswith("token:")


async def keep(
    c: Connection, want: Want, chunk: wire.BodyChunk, wants: Wants, *, source: str, payload: bytes
) -> Refused | bool:
    """Store a chunk; True when its uploader's copy is complete now. A second copy of a part replaces the first."""
    table = tables.chunk
    if await votes.next_sequence(c, want.header.stream) > want.header.sequence:
        return _unrequested()  # it was sealed since `want` was found
    if not want.next_ and await _pending_bytes(c) + len(payload) > MAX_PENDING_BYTES:
        return Refused(503, "too many bodies pending", "the hub is still checking earlier frames", retry_after_s=5)
    counts = await sources(c, want.digest)
    mine = sa.and_(table.c.digest == want.digest, table.c.source == source)
    if source in counts and counts[source].parts != chunk.parts:
        await discard(c, want.digest, source=source)
        del counts[source]
    there = await c.scalar(sa.select(sa.func.length(table.c.payload)).where(mine, table.c.part == chunk.part)) or 0
    held = counts[source].bytes if source in counts else 0
    if held - there + len(payload) > want.bytes_limit:
        return Refused(
            413, "too large", f"a body with {want.header.leaf_count} leaves has {want.bytes_limit} bytes at most"
        )
    if source not in counts and not by_token(source):
        addresses = {name: copy for name, copy in counts.items() if not by_token(name)}
        if len(addresses) >= MAX_SOURCES:
            unfinished = [name for name, copy in addresses.items() if not copy.complete]
            if not unfinished:
                return Refused(503, "enough copies", "copies of this body wait to be checked", retry_after_s=5)
            await discard(c, want.digest, source=min(unfinished, key=lambda name: wants.recency(want.digest, name)))
    await c.execute(table.delete().where(mine, table.c.part == chunk.part))
    await c.execute(
        table.insert().values(digest=want.digest, source=source, part=chunk.part, parts=chunk.parts, payload=payload)
    )
    return (await sources(c, want.digest))[source].complete


class Copy(msgspec.Struct, frozen=True):
    """How much of a body one uploader has sent."""

    have: int
    parts: int
    bytes: int

    @property
    def complete(self) -> bool:
        return self.have == self.parts


async def sources(c: Connection, digest: bytes) -> dict[str, Copy]:
    table = tables.chunk
    query = sa.select(
        table.c.source,
        sa.func.count().label("have"),
        sa.func.max(table.c.parts).label("parts"),
        sa.func.sum(sa.func.length(table.c.payload)).label("bytes"),
    )
    rows = await c.execute(query.where(table.c.digest == digest).group_by(table.c.source))
    return {row.source: Copy(row.have, row.parts, int(row.bytes)) for row in rows}


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


async def discard_sealed(c: Connection, stream: bytes, *, sequence: int) -> None:
    """All copies for frames up to the sealed `sequence`, by whatever digest: of one that lost its quorum too."""
    table, header = tables.chunk, tables.statement
    query = sa.select(table.c.digest).distinct().join(header, header.c.digest == table.c.digest)
    for digest in list(await c.scalars(query.where(header.c.stream == stream, header.c.sequence <= sequence))):
        await discard(c, digest)


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
    carry = b""
    if payloads is not None:
        slices: list[bytes] = []
        try:
            for payload in payloads:  # one at a time: parsed, a chunk takes many times its bytes
                chunk = wire.decode(payload, wire.BodyChunk, what="a stored chunk")
                slices.append(chunk.carry.encode())
                changed += map(wire.leaf_from_wire, chunk.leaves)
                if len(changed) > want.header.leaf_count:
                    return Wrong("more leaves changed than were signed")
        except errors.BadAnswer as error:
            return Wrong(str(error))
        except UnicodeEncodeError:
            return Wrong("the carry is not text")
        carry = b"".join(slices)
        if hashing.keccak256(carry) != want.header.carry:
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
    packed = None if payloads is None else zlib.compress(carry, 6)
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
