"""What people look at: the status page, the command line, the API. In: filters and a place to go on from. Out: frozen read models.

Pages go by key, never by offset: a page costs the same wherever it lies, and rows that arrive meanwhile do not shift it.
"""

from __future__ import annotations

import msgspec
import sqlalchemy as sa

from domain import chain
from domain import statement as domain_statement
from kit import columns
from store import cursors, event_rows, latches, outbox, parked, tally
from store import gaps as gap_rows
from store.connection import AnySelect, Connection
from store.event_rows import EventRow as EventRow
from store.event_rows import events as events
from store.intent_rows import AttemptRow as AttemptRow
from store.intent_rows import Belt as Belt
from store.intent_rows import IntentDetail as IntentDetail
from store.intent_rows import IntentRow as IntentRow
from store.intent_rows import belt as belt
from store.intent_rows import commands as commands
from store.intent_rows import intent as intent
from store.intent_rows import intents as intents
from store.intent_rows import principals as principals
from store.tables import block, cursor, gap, in_force, leaf, lineage, log, receipt, statement, subject, vote
from store.tables import outbox as outbox_table


class Tip(msgspec.Struct, frozen=True):
    """The newest frame of a stream that is in the book."""

    stream: bytes
    sequence: int
    revision: int
    digest: bytes
    origin: str
    to_position: int
    evidence: bytes


class Summary(msgspec.Struct, frozen=True):
    """The state of the book in one look. Counts of blocks and logs are of the canonical chain, orphaned ones apart; `events` by kind
    counts every row ever written. `outbox_since_s` is when the oldest open item was signed."""

    cursors: dict[str, cursors.Cursor]
    blocks: int
    blocks_orphaned: int
    logs: int
    logs_orphaned: int
    latches: list[latches.Latch]
    parked: list[parked.Parked]
    gaps_open: int
    outbox_depth: int
    outbox_why: str
    outbox_since_s: int | None
    votes: int
    receipts: int
    events: dict[str, int]
    tips: list[Tip]


class FrameRow(msgspec.Struct, frozen=True):
    """`current` is 1 for the frame in force in its slot. `receipt`: its digest, once the hub has signed for our vote."""

    stream: bytes
    sequence: int
    revision: int
    digest: bytes
    origin: str
    current: int
    from_position: int
    to_position: int
    to_time: int
    leaf_count: int
    total_reward: int
    total_penalty: int
    saved_at_s: int
    receipt: bytes | None


class BlockRow(msgspec.Struct, frozen=True):
    number: int
    hash: bytes
    parent: bytes
    time: int
    proof: str
    logs: int
    orphaned_generation: int | None


class LeafRow(msgspec.Struct, frozen=True):
    """A value that a leaf had from frame `since` to before `until` (None: until now)."""

    lineage: int
    kind: int
    since: int
    until: int | None
    reward: int
    penalty: int
    parts: str


async def summary(c: Connection) -> Summary:
    counts = await tally.read(c)
    waiting = sa.select(outbox_table.c.why).where(outbox_table.c.receipt.is_(None), outbox_table.c.why.is_not(None))
    oldest = sa.select(sa.func.min(vote.c.at_s)).join(outbox_table, outbox_table.c.id == vote.c.digest)
    oldest = oldest.where(outbox_table.c.receipt.is_(None))
    return Summary(
        cursors={
            row.name: cursors.Cursor(row.number, row.hash, row.generation) for row in await c.rows(sa.select(cursor))
        },
        blocks=counts["block"] - counts["block_orphaned"],
        blocks_orphaned=counts["block_orphaned"],
        logs=counts["log"] - counts["log_orphaned"],
        logs_orphaned=counts["log_orphaned"],
        latches=await latches.active(c),
        parked=await parked.open_(c),
        gaps_open=await _count(c, sa.select(sa.func.count()).select_from(gap).where(gap.c.closed_by.is_(None))),
        outbox_depth=await outbox.depth(c),
        outbox_why=await c.scalar(waiting.order_by(outbox_table.c.stream, outbox_table.c.position).limit(1)) or "",
        outbox_since_s=await c.scalar(oldest),
        votes=await _count(c, sa.select(sa.func.count(vote.c.id))),
        receipts=await _count(
            c, sa.select(sa.func.count()).select_from(receipt).where(receipt.c.archived_at_s.is_(None))
        ),
        events=await tally.events(c),
        tips=await tips(c),
    )


async def gaps(c: Connection) -> list[gap_rows.Gap]:
    """Those that nothing has closed yet."""
    return await gap_rows.pending(c)


async def tips(c: Connection) -> list[Tip]:
    """One for each stream, by stream id."""
    columns_ = [statement.c[name] for name in Tip.__struct_fields__]
    found: list[Tip] = []
    for stream in await _streams(c):
        query = sa.select(*columns_).where(statement.c.stream == stream, in_force)
        row = await c.row(query.order_by(statement.c.sequence.desc(), statement.c.revision.desc()).limit(1))
        if row is not None:
            found.append(Tip(*row))
    return found


async def frames(
    c: Connection, *, limit: int, stream: bytes | None = None, before: int | None = None, superseded: bool = False
) -> list[FrameRow]:
    """Newest first by sequence, with the receipt's digest once the hub has signed for it. `before` is a sequence: the page holds
    whole sequences below it only if `limit` allows, so ask for one stream when paging."""
    found: list[FrameRow] = []
    for one in await _streams(c) if stream is None else [stream]:
        found += await _frames_of(c, one, limit=limit, before=before, superseded=superseded)
    return sorted(found, key=lambda row: (-row.sequence, -row.revision, row.stream, -row.current, -row.saved_at_s))[
        :limit
    ]


async def _frames_of(
    c: Connection, stream: bytes, *, limit: int, before: int | None, superseded: bool
) -> list[FrameRow]:
    names = [name for name in FrameRow.__struct_fields__ if name != "receipt"]
    query = (
        sa.select(*(statement.c[name] for name in names), outbox_table.c.receipt)
        .outerjoin(outbox_table, outbox_table.c.id == statement.c.digest)
        .where(statement.c.stream == stream)
        .order_by(
            statement.c.sequence.desc(),
            statement.c.revision.desc(),
            statement.c.current.desc(),
            statement.c.saved_at_s.desc(),
        )
        .limit(limit)
    )
    if before is not None:
        query = query.where(statement.c.sequence < before)
    if not superseded:
        query = query.where(in_force)
    rows = await c.rows(query)
    return [FrameRow(**dict(zip(FrameRow.__struct_fields__, row, strict=True))) for row in rows]


async def _streams(c: Connection) -> list[bytes]:
    """Asked of the lines, which are few, not of the statements."""
    return [row[0] for row in await c.rows(sa.select(lineage.c.stream).distinct().order_by(lineage.c.stream))]


class HeaderRow(msgspec.Struct, frozen=True):
    """A statement without its body."""

    digest: bytes
    config_digest: bytes
    origin: str
    current: int
    saved_at_s: int
    header: domain_statement.Header


async def header(c: Connection, digest: bytes) -> HeaderRow | None:
    row = await c.row(sa.select(statement).where(statement.c.digest == digest))
    if row is None:
        return None
    fields = {name: getattr(row, name) for name in domain_statement.Header.__struct_fields__}
    found = domain_statement.Header(**fields)
    return HeaderRow(row.digest, row.config_digest, row.origin, row.current, row.saved_at_s, found)


async def blocks(
    c: Connection, *, limit: int, before: int | None = None, orphaned: bool | None = None
) -> list[BlockRow]:
    """Newest first; canonical and orphaned ones, or only one kind."""
    logs_of = (
        sa.select(sa.func.count())
        .select_from(log)
        .where(log.c.number == block.c.number, log.c.block_hash == block.c.hash)
        .scalar_subquery()
    )
    query = sa.select(
        block.c.number, block.c.hash, block.c.parent, block.c.time, event_rows.proof(block.c.hash, block.c.proof), logs_of,
        block.c.orphaned_generation,
    ).order_by(block.c.number.desc(), block.c.hash).limit(limit)  # fmt: skip
    if before is not None:
        query = query.where(block.c.number < before)
    if orphaned is not None:
        mark = block.c.orphaned_generation
        query = query.where(mark.is_not(None) if orphaned else mark.is_(None))
    return [
        BlockRow(row[0], row[1], row[2], row[3], chain.PROOFS[int(row[4])], row[5], row[6])
        for row in await c.rows(query)
    ]


async def leaf_history(c: Connection, subject_hash: bytes, *, limit: int) -> list[LeafRow]:
    """Every value that a subject's leaves ever had, newest first."""
    query = (
        sa.select(
            leaf.c.lineage, leaf.c.kind, leaf.c.since, leaf.c.until, leaf.c.reward, leaf.c.penalty, subject.c.parts
        )
        .join(subject, subject.c.hash == leaf.c.subject)
        # Every line is named, so that the key finds the leaf in each.
        .where(leaf.c.lineage.in_(sa.select(lineage.c.id)), leaf.c.subject == subject_hash)
        .order_by(leaf.c.since.desc(), leaf.c.kind, leaf.c.lineage.desc())
        .limit(limit)
    )
    return [LeafRow(*row) for row in await c.rows(query)]


async def amount_by_kind(c: Connection, *, protocol: str) -> dict[str, int]:
    """The exact sum of canonical events' amounts, by kind."""
    total: sa.ColumnElement[int] = columns.u256_sum(log.c.amount)
    query = (
        sa.select(log.c.kind, total)
        .join(block, sa.and_(block.c.number == log.c.number, block.c.hash == log.c.block_hash))
        .where(log.c.protocol == protocol, block.c.orphaned_generation.is_(None), log.c.amount.is_not(None))
        .group_by(log.c.kind)
        .order_by(log.c.kind)
    )
    return {row[0]: row[1] for row in await c.rows(query)}


async def _count(c: Connection, query: AnySelect) -> int:
    return int(await c.scalar(query) or 0)
