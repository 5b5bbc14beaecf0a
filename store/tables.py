"""The schema of the agent's book, all tables in one place. In: nothing. Out: `metadata`, `create` and the DDL beside it.

Rules that hold everywhere: natural keys; a block row is decided by its hash, a log row by (block hash, log index); facts are
append-only and triggers refuse anything else, so "why did this number change" stays answerable; what is derived from the chain is
never deleted by a reorg, it stops being canonical.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from kit import columns

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

_STRICT: dict[str, Any] = {"sqlite_strict": True}
# A table whose rows are mostly found by key is stored in key order: one tree instead of a table and an index.
_KEYED: dict[str, Any] = {"sqlite_strict": True, "sqlite_with_rowid": False}


def _bytes(name: str, size: int, *, nullable: bool = False, primary_key: bool = False) -> sa.Column[bytes]:
    # The check repeats the type's own: rows can also be written by hand, and a short hash would never be found again.
    check = sa.CheckConstraint(f"length({name}) = {size}")
    return sa.Column(name, columns.Bytes(size), check, nullable=nullable, primary_key=primary_key)


def _whole(name: str, *, nullable: bool = False, primary_key: bool = False) -> sa.Column[int]:
    return sa.Column(name, columns.Whole(), nullable=nullable, primary_key=primary_key, autoincrement=False)


def _id(name: str = "id") -> sa.Column[int]:
    """A number in order of insertion, where order itself is the fact."""
    return sa.Column(name, sa.Integer().with_variant(sa.BigInteger(), "postgresql"), primary_key=True)


def _amount(name: str, *, nullable: bool = False) -> sa.Column[int]:
    return sa.Column(name, columns.U256(), nullable=nullable)


def _amount_checks(*names: str) -> list[Any]:
    return [
        check
        for name in names
        for check in (
            sa.CheckConstraint(f"length({name}) = 32").ddl_if(dialect="sqlite"),
            sa.CheckConstraint(f"{name} >= 0 AND {name} < {columns.U256_LIMIT}").ddl_if(dialect="postgresql"),
        )
    ]


# What this book is the book of: written once, compared at every start.
meta = sa.Table(
    "meta",
    metadata,
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
    **_KEYED,
)

# The number leads the key although the hash alone decides: rows then lie in chain order and a range is one walk.
block = sa.Table(
    "block",
    metadata,
    _whole("number", primary_key=True),
    _bytes("hash", 32, primary_key=True),
    _bytes("parent", 32),
    _whole("time"),
    _bytes("state_root", 32),
    _bytes("receipts_root", 32),
    _bytes("bloom", 256),
    _whole("proof"),
    # NULL: canonical. Else the generation of the rollback that put it aside. The only column that ever changes.
    _whole("orphaned_generation", nullable=True),
    sa.UniqueConstraint("hash"),
    **_KEYED,
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
    _bytes("block_hash", 32, primary_key=True),
    _whole("proof", primary_key=True),
    **_KEYED,
)

log = sa.Table(
    "log",
    metadata,
    _whole("number", primary_key=True),
    _bytes("block_hash", 32, primary_key=True),
    _whole("log_index", primary_key=True),
    _bytes("tx_hash", 32),
    _whole("tx_index"),
    _bytes("address", 20),
    sa.Column("topics", columns.Bytes(32, many=True), nullable=False),
    sa.Column("data", sa.LargeBinary, nullable=False),
    _whole("time"),
    sa.Column("protocol", sa.Text, nullable=False),
    # What the log means, as `domain.events.Row`. All NULL: nothing could be made of it (see `parked`).
    sa.Column("kind", sa.Text),
    _bytes("validator", 32, nullable=True),
    _bytes("delegator", 32, nullable=True),
    _amount("amount", nullable=True),
    # JSON text, integers as strings; NUL from the chain stays escaped, which PostgreSQL's text can hold.
    sa.Column("detail", sa.Text),
    _whole("proof"),
    *_amount_checks("amount"),
    sa.ForeignKeyConstraint(["number", "block_hash"], ["block.number", "block.hash"]),
    **_KEYED,
)

# Counting log rows reads the whole table, and a status page asks often; this follows in the same transaction.
tally = sa.Table("tally", metadata, sa.Column("name", sa.Text, primary_key=True), _whole("value"), **_KEYED)

cursor = sa.Table(
    "cursor",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    _whole("number"),
    _bytes("hash", 32),
    _whole("generation"),
    **_KEYED,
)

# Which blocks were read for which logs (`store.coverage`): a row for each unbroken run.
coverage = sa.Table(
    "coverage",
    metadata,
    sa.Column("protocol", sa.Text, primary_key=True),
    _bytes("fingerprint", 32, primary_key=True),
    _whole("proof", primary_key=True),
    _whole("first", primary_key=True),
    _whole("last"),
    **_KEYED,
)

journal = sa.Table(
    "journal",
    metadata,
    _id(),
    _whole("at_s"),
    sa.Column("kind", sa.Text, nullable=False),
    _whole("number"),
    _bytes("hash", 32),
    _whole("generation"),
    **_STRICT,
)

# Few among very many. Spelled as a constant: SQLite uses a partial index only for a condition it can read while planning.
is_adoption = journal.c.kind == sa.literal_column("'adopted'")
sa.Index("ix_journal_adopted", journal.c.id, sqlite_where=is_adoption, postgresql_where=is_adoption)

latch = sa.Table(
    "latch",
    metadata,
    _id(),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("reason", columns.Note, nullable=False),
    _whole("set_at_s"),
    sa.Column("cleared_by", columns.Note),
    _whole("cleared_at_s", nullable=True),
    **_STRICT,
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
    _bytes("block_hash", 32, primary_key=True),
    _whole("log_index", primary_key=True),
    sa.Column("reason", columns.Note, nullable=False),
    sa.Column("resolved_by", columns.Note),
    **_KEYED,
)

gap = sa.Table(
    "gap",
    metadata,
    _id(),
    sa.Column("protocol", sa.Text, nullable=False),
    _whole("first"),
    _whole("last"),
    sa.Column("reason", columns.Note, nullable=False),
    _bytes("closed_by", 32, nullable=True),
    **_STRICT,
)

# A line of frames that build on each other. A frame that does not build on the newest of its line (a revision, a frame derived
# anew, an adopted one) begins another line, so its leaves can never show in the line it left.
lineage = sa.Table(
    "lineage",
    metadata,
    _id(),
    _bytes("stream", 32),
    sa.Column("parent", sa.Integer().with_variant(sa.BigInteger(), "postgresql"), sa.ForeignKey("lineage.id")),
    _whole("forked_after", nullable=True),
    _whole("tip"),
    **_STRICT,
)

# Accounting state by its hash: frames without events share one row, and old ones can be pruned.
carry = sa.Table(
    "carry",
    metadata,
    _bytes("hash", 32, primary_key=True),
    sa.Column("packed", sa.LargeBinary, nullable=False),
    **_STRICT,
)

statement = sa.Table(
    "statement",
    metadata,
    _bytes("digest", 32, primary_key=True),
    # The header, in its EIP-712 order.
    _whole("schema"),
    _bytes("ruleset", 32),
    _bytes("stream", 32),
    _whole("sequence"),
    _whole("revision"),
    _whole("from_position"),
    _bytes("from_anchor", 32),
    _whole("to_position"),
    _bytes("to_anchor", 32),
    _whole("to_time"),
    _bytes("state_root", 32),
    _bytes("evidence", 32),
    _bytes("previous", 32),
    _bytes("supersedes", 32),
    _bytes("body_root", 32),
    _whole("leaf_count"),
    _bytes("carry", 32),
    _amount("total_reward"),
    _amount("total_penalty"),
    _bytes("config_digest", 32),
    sa.Column("origin", sa.Text, nullable=False),
    sa.Column(
        "lineage", sa.Integer().with_variant(sa.BigInteger(), "postgresql"), sa.ForeignKey("lineage.id"), nullable=False
    ),
    _whole("saved_at_s"),
    # 1: in force for its (stream, sequence, revision). 0: replaced by a later derivation, kept. The only column that changes.
    _whole("current"),
    *_amount_checks("total_reward", "total_penalty"),
    **_STRICT,
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
    "subject", metadata, _bytes("hash", 32, primary_key=True), sa.Column("parts", sa.Text, nullable=False), **_KEYED
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
    _bytes("subject", 32, primary_key=True),
    _bytes("asset", 20, primary_key=True),
    _whole("kind", primary_key=True),
    _whole("since", primary_key=True),
    _whole("until", nullable=True),
    _amount("reward"),
    _amount("penalty"),
    *_amount_checks("reward", "penalty"),
    **_KEYED,
)
# Finds a body: the values in force (until NULL), and those that ended later than an old frame.
sa.Index("ix_leaf_lineage_until", leaf.c.lineage, leaf.c.until)
# Finds what one frame changed.
sa.Index("ix_leaf_lineage_since", leaf.c.lineage, leaf.c.since)

vote = sa.Table(
    "vote",
    metadata,
    _id(),
    _bytes("signer", 20),
    _bytes("stream", 32),
    _whole("sequence"),
    _whole("revision"),
    sa.Column("kind", sa.Text, nullable=False),
    _bytes("digest", 32),
    _whole("ballot"),
    sa.Column("payload", sa.LargeBinary, nullable=False),
    _whole("at_s"),
    sa.UniqueConstraint("digest", "signer"),
    sa.Index("ix_vote_slot", "stream", "sequence", "revision", "signer"),
    **_STRICT,
)

outbox = sa.Table(
    "outbox",
    metadata,
    _id("position"),
    _bytes("id", 32),
    _bytes("stream", 32),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("payload", sa.LargeBinary, nullable=False),
    _whole("attempts"),
    _whole("next_s"),
    sa.Column("why", columns.Note),
    # 1: rows behind it in its stream wait for it too.
    _whole("blocks"),
    # The receipt's own digest; NULL while the row is open.
    _bytes("receipt", 32, nullable=True),
    sa.UniqueConstraint("id"),
    **_STRICT,
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
    _id(),
    sa.Column("hub", sa.Text, nullable=False),
    _bytes("attester", 20),
    _whole("number"),
    _bytes("digest", 32),
    _bytes("own", 32),
    _bytes("previous", 32),
    _bytes("signature", 65),
    _whole("at_s"),
    # Set when the hub lost its memory and numbers anew: the old chain stays as evidence.
    _whole("archived_at_s", nullable=True),
    **_STRICT,
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

CANONICAL_EVENT = """\
CREATE VIEW canonical_event AS
SELECT log.number, log.block_hash, log.log_index, log.tx_hash, log.tx_index, log.address, log.topics, log.data, log.time,
  log.protocol, log.kind, log.validator, log.delegator, log.amount, log.detail,
  CASE coalesce((SELECT max(proven.proof) FROM proven WHERE proven.block_hash = log.block_hash), log.proof)
    WHEN 0 THEN 'node' WHEN 1 THEN 'bloom' ELSE 'receipts' END AS proof
FROM log JOIN block ON block.number = log.number AND block.hash = log.block_hash
WHERE block.orphaned_generation IS NULL"""
"""Every log of the canonical chain, in no order: ask for `ORDER BY number, log_index`."""

_PG_REFUSE = """\
CREATE FUNCTION append_only() RETURNS trigger LANGUAGE plpgsql AS $body$
BEGIN RAISE EXCEPTION 'append-only: rows of % cannot be changed by %', TG_TABLE_NAME, TG_OP; END $body$"""


def _guards(table: sa.Table, changing: tuple[str, ...], dialect: str) -> list[str]:
    fixed = ", ".join(f'"{column.name}"' for column in table.columns if column.name not in changing)
    if dialect == "sqlite":
        refuse = f"BEGIN SELECT RAISE(ABORT, 'append-only: rows of {table.name} cannot be changed'); END"
        return [
            f'CREATE TRIGGER {table.name}_no_update BEFORE UPDATE OF {fixed} ON "{table.name}" {refuse}',
            f'CREATE TRIGGER {table.name}_no_delete BEFORE DELETE ON "{table.name}" {refuse}',
        ]
    run = "EXECUTE FUNCTION append_only()"
    return [
        f'CREATE TRIGGER {table.name}_no_update BEFORE UPDATE OF {fixed} ON "{table.name}" FOR EACH ROW {run}',
        f'CREATE TRIGGER {table.name}_no_delete BEFORE DELETE ON "{table.name}" FOR EACH ROW {run}',
        f'CREATE TRIGGER {table.name}_no_truncate BEFORE TRUNCATE ON "{table.name}" FOR EACH STATEMENT {run}',
    ]


def beside(dialect: str) -> list[str]:
    """The DDL that table objects cannot say: the canonical view and the guards of append-only tables."""
    guards = [text for table, changing in _APPEND_ONLY.items() for text in _guards(table, changing, dialect)]
    return [CANONICAL_EVENT, *([_PG_REFUSE] if dialect == "postgresql" else []), *guards]


def create(connection: sa.Connection) -> None:
    """The whole schema in an empty database."""
    metadata.create_all(connection, checkfirst=False)
    for text in beside(connection.dialect.name):
        connection.exec_driver_sql(text)
