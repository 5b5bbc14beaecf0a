"""The first hub book: votes, evidence, receipts, seals, leaves."""

from __future__ import annotations

from alembic import op

revision = "0001"
down_revision = None

SQLITE = (
    """\
CREATE TABLE hub_ballot (
    signer BLOB NOT NULL,
    stream BLOB NOT NULL,
    sequence INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    id BLOB NOT NULL,
    position INTEGER NOT NULL,
    ballot INTEGER NOT NULL,
    withdrawn BLOB NOT NULL,
    replacement BLOB NOT NULL,
    signature BLOB NOT NULL,
    at_s INTEGER NOT NULL,
    PRIMARY KEY (signer, stream, sequence, revision, id)
)
 STRICT""",
    """\
CREATE INDEX hub_ballot_frame ON hub_ballot (stream, sequence, revision)""",
    """\
CREATE TABLE hub_carry (
    hash BLOB NOT NULL,
    packed BLOB NOT NULL,
    PRIMARY KEY (hash)
)
 STRICT""",
    """\
CREATE TABLE hub_certificate (
    digest BLOB NOT NULL,
    signer BLOB NOT NULL,
    signature BLOB NOT NULL,
    PRIMARY KEY (digest, signer)
)
 STRICT""",
    """\
CREATE TABLE hub_chunk (
    digest BLOB NOT NULL,
    source TEXT NOT NULL,
    part INTEGER NOT NULL,
    parts INTEGER NOT NULL,
    payload BLOB NOT NULL,
    PRIMARY KEY (digest, source, part)
)
 STRICT""",
    """\
CREATE TABLE hub_evidence (
    signer BLOB NOT NULL,
    stream BLOB NOT NULL,
    sequence INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    first BLOB NOT NULL,
    second BLOB NOT NULL,
    repeats INTEGER NOT NULL,
    open INTEGER NOT NULL,
    at_s INTEGER NOT NULL,
    PRIMARY KEY (signer, stream, sequence, revision)
)
 STRICT""",
    """\
CREATE TABLE hub_hold (
    digest BLOB NOT NULL,
    stream BLOB NOT NULL,
    sequence INTEGER NOT NULL,
    reason TEXT NOT NULL,
    at_s INTEGER NOT NULL,
    released_by TEXT,
    released_at_s INTEGER,
    PRIMARY KEY (digest)
)
 STRICT""",
    """\
CREATE TABLE hub_leaf (
    stream BLOB NOT NULL,
    subject BLOB NOT NULL,
    asset BLOB NOT NULL,
    kind INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    reward BLOB NOT NULL,
    penalty BLOB NOT NULL,
    parts BLOB NOT NULL,
    PRIMARY KEY (stream, subject, asset, kind, sequence)
)
 STRICT""",
    """\
CREATE TABLE hub_meta (
    name TEXT NOT NULL,
    value BLOB NOT NULL,
    PRIMARY KEY (name)
)
 STRICT""",
    """\
CREATE TABLE hub_receipt (
    attester BLOB NOT NULL,
    number INTEGER NOT NULL,
    digest BLOB NOT NULL,
    previous BLOB NOT NULL,
    id BLOB NOT NULL,
    signature BLOB NOT NULL,
    at_s INTEGER NOT NULL,
    PRIMARY KEY (attester, number),
    CONSTRAINT hub_receipt_once UNIQUE (attester, digest)
)
 STRICT""",
    """\
CREATE TABLE hub_sealed (
    stream BLOB NOT NULL,
    sequence INTEGER NOT NULL,
    number INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    digest BLOB NOT NULL,
    carry BLOB NOT NULL,
    at_s INTEGER NOT NULL,
    PRIMARY KEY (stream, sequence),
    UNIQUE (number),
    UNIQUE (digest)
)
 STRICT""",
    """\
CREATE TABLE hub_statement (
    digest BLOB NOT NULL,
    stream BLOB NOT NULL,
    sequence INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    config_digest BLOB NOT NULL,
    chain_id INTEGER NOT NULL,
    body_root BLOB NOT NULL,
    header BLOB NOT NULL,
    PRIMARY KEY (digest)
)
 STRICT""",
    """\
CREATE INDEX hub_statement_frame ON hub_statement (stream, sequence, revision)""",
    """\
CREATE INDEX hub_statement_root ON hub_statement (body_root)""",
    """\
CREATE TABLE hub_vote (
    signer BLOB NOT NULL,
    stream BLOB NOT NULL,
    sequence INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    digest BLOB NOT NULL,
    position INTEGER NOT NULL,
    signature BLOB NOT NULL,
    context BLOB NOT NULL,
    context_signature BLOB NOT NULL,
    at_s INTEGER NOT NULL,
    PRIMARY KEY (signer, stream, sequence, revision, digest)
)
 STRICT""",
    """\
CREATE INDEX hub_vote_frame ON hub_vote (stream, sequence, revision)""",
)

POSTGRESQL = (
    """\
CREATE TABLE hub_ballot (
    signer BYTEA NOT NULL,
    stream BYTEA NOT NULL,
    sequence BIGINT NOT NULL,
    revision BIGINT NOT NULL,
    id BYTEA NOT NULL,
    position BIGINT NOT NULL,
    ballot BIGINT NOT NULL,
    withdrawn BYTEA NOT NULL,
    replacement BYTEA NOT NULL,
    signature BYTEA NOT NULL,
    at_s BIGINT NOT NULL,
    PRIMARY KEY (signer, stream, sequence, revision, id)
)""",
    """\
CREATE INDEX hub_ballot_frame ON hub_ballot (stream, sequence, revision)""",
    """\
CREATE TABLE hub_carry (
    hash BYTEA NOT NULL,
    packed BYTEA NOT NULL,
    PRIMARY KEY (hash)
)""",
    """\
CREATE TABLE hub_certificate (
    digest BYTEA NOT NULL,
    signer BYTEA NOT NULL,
    signature BYTEA NOT NULL,
    PRIMARY KEY (digest, signer)
)""",
    """\
CREATE TABLE hub_chunk (
    digest BYTEA NOT NULL,
    source TEXT NOT NULL,
    part BIGINT NOT NULL,
    parts BIGINT NOT NULL,
    payload BYTEA NOT NULL,
    PRIMARY KEY (digest, source, part)
)""",
    """\
CREATE TABLE hub_evidence (
    signer BYTEA NOT NULL,
    stream BYTEA NOT NULL,
    sequence BIGINT NOT NULL,
    revision BIGINT NOT NULL,
    first BYTEA NOT NULL,
    second BYTEA NOT NULL,
    repeats BIGINT NOT NULL,
    open BIGINT NOT NULL,
    at_s BIGINT NOT NULL,
    PRIMARY KEY (signer, stream, sequence, revision)
)""",
    """\
CREATE TABLE hub_hold (
    digest BYTEA NOT NULL,
    stream BYTEA NOT NULL,
    sequence BIGINT NOT NULL,
    reason TEXT NOT NULL,
    at_s BIGINT NOT NULL,
    released_by TEXT,
    released_at_s BIGINT,
    PRIMARY KEY (digest)
)""",
    """\
CREATE TABLE hub_leaf (
    stream BYTEA NOT NULL,
    subject BYTEA NOT NULL,
    asset BYTEA NOT NULL,
    kind BIGINT NOT NULL,
    sequence BIGINT NOT NULL,
    reward NUMERIC(78, 0) NOT NULL,
    penalty NUMERIC(78, 0) NOT NULL,
    parts BYTEA NOT NULL,
    PRIMARY KEY (stream, subject, asset, kind, sequence)
)""",
    """\
CREATE TABLE hub_meta (
    name TEXT NOT NULL,
    value BYTEA NOT NULL,
    PRIMARY KEY (name)
)""",
    """\
CREATE TABLE hub_receipt (
    attester BYTEA NOT NULL,
    number BIGINT NOT NULL,
    digest BYTEA NOT NULL,
    previous BYTEA NOT NULL,
    id BYTEA NOT NULL,
    signature BYTEA NOT NULL,
    at_s BIGINT NOT NULL,
    PRIMARY KEY (attester, number),
    CONSTRAINT hub_receipt_once UNIQUE (attester, digest)
)""",
    """\
CREATE TABLE hub_sealed (
    stream BYTEA NOT NULL,
    sequence BIGINT NOT NULL,
    number BIGINT NOT NULL,
    revision BIGINT NOT NULL,
    digest BYTEA NOT NULL,
    carry BYTEA NOT NULL,
    at_s BIGINT NOT NULL,
    PRIMARY KEY (stream, sequence),
    UNIQUE (number),
    UNIQUE (digest)
)""",
    """\
CREATE TABLE hub_statement (
    digest BYTEA NOT NULL,
    stream BYTEA NOT NULL,
    sequence BIGINT NOT NULL,
    revision BIGINT NOT NULL,
    config_digest BYTEA NOT NULL,
    chain_id BIGINT NOT NULL,
    body_root BYTEA NOT NULL,
    header BYTEA NOT NULL,
    PRIMARY KEY (digest)
)""",
    """\
CREATE INDEX hub_statement_frame ON hub_statement (stream, sequence, revision)""",
    """\
CREATE INDEX hub_statement_root ON hub_statement (body_root)""",
    """\
CREATE TABLE hub_vote (
    signer BYTEA NOT NULL,
    stream BYTEA NOT NULL,
    sequence BIGINT NOT NULL,
    revision BIGINT NOT NULL,
    digest BYTEA NOT NULL,
    position BIGINT NOT NULL,
    signature BYTEA NOT NULL,
    context BYTEA NOT NULL,
    context_signature BYTEA NOT NULL,
    at_s BIGINT NOT NULL,
    PRIMARY KEY (signer, stream, sequence, revision, digest)
)""",
    """\
CREATE INDEX hub_vote_frame ON hub_vote (stream, sequence, revision)""",
)


def upgrade() -> None:
    connection = op.get_bind()
    for text in POSTGRESQL if connection.dialect.name == "postgresql" else SQLITE:
        connection.exec_driver_sql(text)
