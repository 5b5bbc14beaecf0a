"""The schema of the agent's book. In: nothing. Out: `metadata` with all tables, `create` and the DDL beside it.

Here are the tables of the earning belt; those of the staking belt and its people are in `store.staking`.

Rules that hold everywhere: natural keys; a block row is decided by its hash, a log row by (block hash, log index); facts are
append-only and triggers refuse anything else, so "why did this number change" stays answerable; what is derived from the chain is
never deleted by a reorg, it stops being canonical.
"""

from __future__ import annotations

import sqlalchemy as sa

from kit import columns
from store import schema, staking
from store.schema import metadata

# What this book is the book of: written once, compared at every start.
meta = sa.Table(
    "meta",
    metadata,
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
    **schema.KEYED,
)

# The number leads the key although the hash alone decides: rows then lie in chain order and a range is one walk.
block = sa.Table(
    "block",
    metadata,
    schema.whole("number", primary_key=True),
    schema.bytes_("hash", 32, primary_key=True),
    schema.bytes_("parent", 32),
    schema.whole("time"),
    schema.bytes_("state_root", 32),
    schema.bytes_("receipts_root", 32),
    schema.bytes_("bloom", 256),
    schema.whole("proof"),
    # NULL: canonical. Else the generation of the rollback that put it aside. The only column that ever changes.
    schema.whole("orphaned_generation", nullable=True),
    sa.UniqueConstraint("hash"),
    **schema.KEYED,
)
# Two canonical blocks at one height cannot even be written.
sa.Index(
    "uq_block_canonical",
    block.c.number,
    unique=True,
    sqlite_where=block.c.orphaned_generation.is_(None),
    postgresql_where=block.c.orphaned_generation.is_(None),
)

# Few rows, looked at by people: "what was put aside" without a walk over the chain.
sa.Index(
    "ix_block_orphaned",
    block.c.number,
    sqlite_where=block.c.orphaned_generation.is_not(None),
    postgresql_where=block.c.orphaned_generation.is_not(None),
)

# A later, stronger proof of a block that was stored with a weaker one; rows keep the level they arrived with.
proven = sa.Table(
    "proven",
    metadata,
    schema.bytes_("block_hash", 32, primary_key=True),
    schema.whole("proof", primary_key=True),
    **schema.KEYED,
)

log = sa.Table(
    "log",
    metadata,
    schema.whole("number", primary_key=True),
    schema.bytes_("block_hash", 32, primary_key=True),
    schema.whole("log_index", primary_key=True),
    schema.bytes_("tx_hash", 32),
    schema.whole("tx_index"),
    schema.bytes_("address", 20),
    sa.Column("topics", columns.Bytes(32, many=True), nullable=False),
    sa.Column("data", sa.LargeBinary, nullable=False),
    schema.whole("time"),
    sa.Column("protocol", sa.Text, nullable=False),
    # What the log means, as `domain.events.Row`. All NULL: nothing could be made of it (see `parked`).
    sa.Column("kind", sa.Text),
    schema.bytes_("validator", 32, nullable=True),
    schema.bytes_("delegator", 32, nullable=True),
    schema.amount("amount", nullable=True),
    # JSON text, integers as strings; NUL from the chain stays escaped, which PostgreSQL's text can hold.
    sa.Column("detail", sa.Text),
    schema.whole("proof"),
    *schema.amount_checks("amount"),
    sa.ForeignKeyConstraint(["number", "block_hash"], ["block.number", "block.hash"]),
    **schema.KEYED,
)

# Counting log rows reads the whole table, and a status page asks often; this follows in the same transaction.
tally = sa.Table("tally", metadata, sa.Column("name", sa.Text, primary_key=True), schema.whole("value"), **schema.KEYED)

cursor = sa.Table(
    "cursor",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    schema.whole("number"),
    schema.bytes_("hash", 32),
    schema.whole("generation"),
    **schema.KEYED,
)

# Which blocks were read for which logs (`store.coverage`): a row for each unbroken run.
coverage = sa.Table(
    "coverage",
    metadata,
    sa.Column("protocol", sa.Text, primary_key=True),
    schema.bytes_("fingerprint", 32, primary_key=True),
    schema.whole("proof", primary_key=True),
    schema.whole("first", primary_key=True),
    schema.whole("last"),
    **schema.KEYED,
)

journal = sa.Table(
    "journal",
    metadata,
    schema.id_(),
    schema.whole("at_s"),
    sa.Column("kind", sa.Text, nullable=False),
    schema.whole("number"),
    schema.bytes_("hash", 32),
    schema.whole("generation"),
    **schema.STRICT,
)

# Few among very many. Spelled as a constant: SQLite uses a partial index only for a condition it can read while planning.
is_adoption = journal.c.kind == sa.literal_column("'adopted'")
sa.Index("ix_journal_adopted", journal.c.id, sqlite_where=is_adoption, postgresql_where=is_adoption)

latch = sa.Table(
    "latch",
    metadata,
    schema.id_(),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("reason", columns.Note, nullable=False),
    schema.whole("set_at_s"),
    sa.Column("cleared_by", columns.Note),
    schema.whole("cleared_at_s", nullable=True),
    **schema.STRICT,
)
# A latch is set once until somebody clears it: the first reason is the one that matters.
sa.Index(
    "uq_latch_active",
    latch.c.name,
    unique=True,
    sqlite_where=latch.c.cleared_at_s.is_(None),
    postgresql_where=latch.c.cleared_at_s.is_(None),
)

parked = sa.Table(
    "parked",
    metadata,
    sa.Column("subject", sa.Text, primary_key=True),
    schema.bytes_("block_hash", 32, primary_key=True),
    schema.whole("log_index", primary_key=True),
    sa.Column("reason", columns.Note, nullable=False),
    sa.Column("resolved_by", columns.Note),
    **schema.KEYED,
)

gap = sa.Table(
    "gap",
    metadata,
    schema.id_(),
    sa.Column("protocol", sa.Text, nullable=False),
    schema.whole("first"),
    schema.whole("last"),
    sa.Column("reason", columns.Note, nullable=False),
    schema.bytes_("closed_by", 32, nullable=True),
    **schema.STRICT,
)

# A line of frames that build on each other. A frame that does not build on the newest of its line (a revision, a frame derived
# anew, an adopted one) begins another line, so its leaves can never show in the line it left.
lineage = sa.Table(
    "lineage",
    metadata,
    schema.id_(),
    schema.bytes_("stream", 32),
    sa.Column("parent", sa.Integer().with_variant(sa.BigInteger(), "postgresql"), sa.ForeignKey("lineage.id")),
    schema.whole("forked_after", nullable=True),
    schema.whole("tip"),
    **schema.STRICT,
)

# Accounting state by its hash: frames without events share one row, and old ones can be pruned.
carry = sa.Table(
    "carry",
    metadata,
    schema.bytes_("hash", 32, primary_key=True),
    sa.Column("packed", sa.LargeBinary, nullable=False),
    **schema.STRICT,
)

statement = sa.Table(
    "statement",
    metadata,
    schema.bytes_("digest", 32, primary_key=True),
    # The header, in its EIP-712 order.
    schema.whole("schema"),
    schema.bytes_("ruleset", 32),
    schema.bytes_("stream", 32),
    schema.whole("sequence"),
    schema.whole("revision"),
    schema.whole("from_position"),
    schema.bytes_("from_anchor", 32),
    schema.whole("to_position"),
    schema.bytes_("to_anchor", 32),
    schema.whole("to_time"),
    schema.bytes_("state_root", 32),
    schema.bytes_("evidence", 32),
    schema.bytes_("previous", 32),
    schema.bytes_("supersedes", 32),
    schema.bytes_("body_root", 32),
    schema.whole("leaf_count"),
    schema.bytes_("carry", 32),
    schema.amount("total_reward"),
    schema.amount("total_penalty"),
    schema.bytes_("config_digest", 32),
    sa.Column("origin", sa.Text, nullable=False),
    sa.Column(
        "lineage", sa.Integer().with_variant(sa.BigInteger(), "postgresql"), sa.ForeignKey("lineage.id"), nullable=False
    ),
    schema.whole("saved_at_s"),
    # 1: in force for its (stream, sequence, revision). 0: replaced by a later derivation, kept. The only column that changes.
    schema.whole("current"),
    *schema.amount_checks("total_reward", "total_penalty"),
    **schema.STRICT,
)
# Spelled as a constant: SQLite uses a partial index only for a condition it can read while planning.
in_force = statement.c.current == sa.literal_column("1")
sa.Index(
    "uq_statement_current",
    statement.c.stream,
    statement.c.sequence,
    statement.c.revision,
    unique=True,
    sqlite_where=in_force,
    postgresql_where=in_force,
)
sa.Index("ix_statement_body_root", statement.c.body_root)
sa.Index("ix_statement_slot", statement.c.stream, statement.c.sequence, statement.c.revision)

# The readable parts of a subject, once; its leaves repeat only the hash.
subject = sa.Table(
    "subject",
    metadata,
    schema.bytes_("hash", 32, primary_key=True),
    sa.Column("parts", sa.Text, nullable=False),
    **schema.KEYED,
)

# A leaf's value from frame `since` to before frame `until` of its line: a frame costs what changed in it.
leaf = sa.Table(
    "leaf",
    metadata,
    sa.Column(
        "lineage",
        sa.Integer().with_variant(sa.BigInteger(), "postgresql"),
        sa.ForeignKey("lineage.id"),
        primary_key=True,
        autoincrement=False,
    ),
    schema.bytes_("subject", 32, primary_key=True),
    schema.bytes_("asset", 20, primary_key=True),
    schema.whole("kind", primary_key=True),
    schema.whole("since", primary_key=True),
    schema.whole("until", nullable=True),
    schema.amount("reward"),
    schema.amount("penalty"),
    *schema.amount_checks("reward", "penalty"),
    **schema.KEYED,
)
# Finds a body: the values in force (until NULL), and those that ended later than an old frame.
sa.Index("ix_leaf_lineage_until", leaf.c.lineage, leaf.c.until)
# Finds what one frame changed.
sa.Index("ix_leaf_lineage_since", leaf.c.lineage, leaf.c.since)

vote = sa.Table(
    "vote",
    metadata,
    schema.id_(),
    schema.bytes_("signer", 20),
    schema.bytes_("stream", 32),
    schema.whole("sequence"),
    schema.whole("revision"),
    sa.Column("kind", sa.Text, nullable=False),
    schema.bytes_("digest", 32),
    schema.whole("ballot"),
    sa.Column("payload", sa.LargeBinary, nullable=False),
    schema.whole("at_s"),
    sa.UniqueConstraint("digest", "signer"),
    sa.Index("ix_vote_slot", "stream", "sequence", "revision", "signer"),
    **schema.STRICT,
)

outbox = sa.Table(
    "outbox",
    metadata,
    schema.id_("position"),
    schema.bytes_("id", 32),
    schema.bytes_("stream", 32),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("payload", sa.LargeBinary, nullable=False),
    schema.whole("attempts"),
    schema.whole("next_s"),
    sa.Column("why", columns.Note),
    # 1: rows behind it in its stream wait for it too.
    schema.whole("blocks"),
    # The receipt's own digest; NULL while the row is open.
    schema.bytes_("receipt", 32, nullable=True),
    sa.UniqueConstraint("id"),
    **schema.STRICT,
)
# With all that `due` asks, so that a long outage is not read through its payloads.
sa.Index(
    "ix_outbox_open",
    outbox.c.stream,
    outbox.c.position,
    outbox.c.next_s,
    outbox.c.blocks,
    sqlite_where=outbox.c.receipt.is_(None),
    postgresql_where=outbox.c.receipt.is_(None),
)

receipt = sa.Table(
    "receipt",
    metadata,
    schema.id_(),
    sa.Column("hub", sa.Text, nullable=False),
    schema.bytes_("attester", 20),
    schema.whole("number"),
    schema.bytes_("digest", 32),
    schema.bytes_("own", 32),
    schema.bytes_("previous", 32),
    schema.bytes_("signature", 65),
    schema.whole("at_s"),
    # Set when the hub lost its memory and numbers anew: the old chain stays as evidence.
    schema.whole("archived_at_s", nullable=True),
    **schema.STRICT,
)
sa.Index(
    "uq_receipt_number",
    receipt.c.attester,
    receipt.c.hub,
    receipt.c.number,
    unique=True,
    sqlite_where=receipt.c.archived_at_s.is_(None),
    postgresql_where=receipt.c.archived_at_s.is_(None),
)

# Up to where rows that may go have gone: the guards let nothing else be deleted. A row for each kind of pruning.
pruned = sa.Table(
    "pruned",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    schema.whole("below"),
    schema.whole("rows"),
    schema.whole("at_s"),
    **schema.KEYED,
)

# Facts, and the columns of them that may change.
_APPEND_ONLY: dict[sa.Table, tuple[str, ...]] = {
    block: ("orphaned_generation",),
    proven: (),
    log: (),
    journal: (),
    latch: ("cleared_by", "cleared_at_s"),
    lineage: ("tip",),
    statement: ("current",),
    subject: (),
    leaf: ("until",),
    vote: (),
    receipt: ("archived_at_s",),
    meta: (),
}

_BELOW = "coalesce((SELECT pruned.below FROM pruned WHERE pruned.name = '{name}'), 0)"
_FINAL = "coalesce((SELECT cursor.number FROM cursor WHERE cursor.name = 'finalized'), 0)"
_ORPHANED = _BELOW.format(name="orphaned")
MAY_GO: dict[str, str] = {
    "block": f"OLD.orphaned_generation IS NOT NULL AND OLD.number < {_ORPHANED} AND OLD.number < {_FINAL}",
    "log": f"OLD.number < {_ORPHANED} AND OLD.number < {_FINAL} AND EXISTS (SELECT 1 FROM block WHERE block.number = OLD.number "
    "AND block.hash = OLD.block_hash AND block.orphaned_generation IS NOT NULL)",
    "proven": "EXISTS (SELECT 1 FROM block WHERE block.hash = OLD.block_hash AND block.orphaned_generation IS NOT NULL "
    f"AND block.number < {_ORPHANED} AND block.number < {_FINAL})",
    "journal": f"OLD.kind IN ('committed', 'finalized') AND OLD.id < {_BELOW.format(name='journal')}",
}
"""Facts that may be deleted, when `pruned` says so: what a reorg put aside below finality, and routine entries of the journal."""

CANONICAL_EVENT = """\
CREATE VIEW canonical_event AS
SELECT log.number, log.block_hash, log.log_index, log.tx_hash, log.tx_index, log.address, log.topics, log.data, log.time,
  log.protocol, log.kind, log.validator, log.delegator, log.amount, log.detail,
  CASE coalesce((SELECT max(proven.proof) FROM proven WHERE proven.block_hash = log.block_hash), log.proof)
    WHEN 0 THEN 'node' WHEN 1 THEN 'bloom' ELSE 'receipts' END AS proof
FROM log JOIN block ON block.number = log.number AND block.hash = log.block_hash
WHERE block.orphaned_generation IS NULL"""
"""Every log of the canonical chain, in no order: ask for `ORDER BY number, log_index`."""


def beside(dialect: str) -> list[str]:
    """The DDL that table objects cannot say: the canonical view and the guards of append-only tables."""
    facts = {**_APPEND_ONLY, **staking.FACTS}
    guards = [text for table, changing in facts.items() for text in _guards(table, changing, dialect)]
    once = [text for table, changing in staking.FACTS.items() for text in schema.once(table, changing, dialect)]
    return [CANONICAL_EVENT, *([schema.PG_REFUSE] if dialect == "postgresql" else []), *guards, *once]


def _guards(table: sa.Table, changing: tuple[str, ...], dialect: str) -> list[str]:
    return schema.guards(table, changing, dialect, may_go=MAY_GO.get(table.name, ""))


def create(connection: sa.Connection) -> None:
    """The whole schema in an empty database."""
    metadata.create_all(connection, checkfirst=False)
    for text in beside(connection.dialect.name):
        connection.exec_driver_sql(text)


def rebind(connection: sa.Connection, bound: dict[str, str]) -> None:
    """Change what the book is the book of: only for one that holds nothing, which the caller has looked at in the same transaction."""
    dialect = connection.dialect.name
    guard = next(text for text in _guards(meta, (), dialect) if text.startswith("CREATE TRIGGER meta_no_update "))
    connection.exec_driver_sql("DROP TRIGGER meta_no_update" + (" ON meta" if dialect == "postgresql" else ""))
    for key, value in bound.items():
        connection.execute(meta.update().where(meta.c.key == key).values(value=value))
    connection.exec_driver_sql(guard)
