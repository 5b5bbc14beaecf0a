"""The first book: blocks, logs, cursors, statements, votes, delivery."""

from __future__ import annotations

from alembic import op

revision = "0001"
down_revision = None

SQLITE = (
    """\
CREATE TABLE meta (
    "key" TEXT NOT NULL,
    value TEXT NOT NULL,
    CONSTRAINT pk_meta PRIMARY KEY ("key")
)
 WITHOUT ROWID,
 STRICT""",
    """\
CREATE TABLE block (
    number INTEGER NOT NULL,
    hash BLOB NOT NULL CHECK (length(hash) = 32),
    parent BLOB NOT NULL CHECK (length(parent) = 32),
    time INTEGER NOT NULL,
    state_root BLOB NOT NULL CHECK (length(state_root) = 32),
    receipts_root BLOB NOT NULL CHECK (length(receipts_root) = 32),
    bloom BLOB NOT NULL CHECK (length(bloom) = 256),
    proof INTEGER NOT NULL,
    orphaned_generation INTEGER,
    CONSTRAINT pk_block PRIMARY KEY (number, hash),
    CONSTRAINT uq_block_hash UNIQUE (hash)
)
 WITHOUT ROWID,
 STRICT""",
    """\
CREATE UNIQUE INDEX uq_block_canonical ON block (number) WHERE orphaned_generation IS NULL""",
    """\
CREATE INDEX ix_block_orphaned ON block (number) WHERE orphaned_generation IS NOT NULL""",
    """\
CREATE TABLE proven (
    block_hash BLOB NOT NULL CHECK (length(block_hash) = 32),
    proof INTEGER NOT NULL,
    CONSTRAINT pk_proven PRIMARY KEY (block_hash, proof)
)
 WITHOUT ROWID,
 STRICT""",
    """\
CREATE TABLE tally (
    name TEXT NOT NULL,
    value INTEGER NOT NULL,
    CONSTRAINT pk_tally PRIMARY KEY (name)
)
 WITHOUT ROWID,
 STRICT""",
    """\
CREATE TABLE cursor (
    name TEXT NOT NULL,
    number INTEGER NOT NULL,
    hash BLOB NOT NULL CHECK (length(hash) = 32),
    generation INTEGER NOT NULL,
    CONSTRAINT pk_cursor PRIMARY KEY (name)
)
 WITHOUT ROWID,
 STRICT""",
    """\
CREATE TABLE coverage (
    protocol TEXT NOT NULL,
    fingerprint BLOB NOT NULL CHECK (length(fingerprint) = 32),
    proof INTEGER NOT NULL,
    first INTEGER NOT NULL,
    last INTEGER NOT NULL,
    CONSTRAINT pk_coverage PRIMARY KEY (protocol, fingerprint, proof, first)
)
 WITHOUT ROWID,
 STRICT""",
    """\
CREATE TABLE journal (
    id INTEGER NOT NULL,
    at_s INTEGER NOT NULL,
    kind TEXT NOT NULL,
    number INTEGER NOT NULL,
    hash BLOB NOT NULL CHECK (length(hash) = 32),
    generation INTEGER NOT NULL,
    CONSTRAINT pk_journal PRIMARY KEY (id)
)
 STRICT""",
    """\
CREATE INDEX ix_journal_adopted ON journal (id) WHERE kind = 'adopted'""",
    """\
CREATE TABLE latch (
    id INTEGER NOT NULL,
    name TEXT NOT NULL,
    reason TEXT NOT NULL,
    set_at_s INTEGER NOT NULL,
    cleared_by TEXT,
    cleared_at_s INTEGER,
    CONSTRAINT pk_latch PRIMARY KEY (id)
)
 STRICT""",
    """\
CREATE UNIQUE INDEX uq_latch_active ON latch (name) WHERE cleared_at_s IS NULL""",
    """\
CREATE TABLE parked (
    subject TEXT NOT NULL,
    block_hash BLOB NOT NULL CHECK (length(block_hash) = 32),
    log_index INTEGER NOT NULL,
    reason TEXT NOT NULL,
    resolved_by TEXT,
    CONSTRAINT pk_parked PRIMARY KEY (subject, block_hash, log_index)
)
 WITHOUT ROWID,
 STRICT""",
    """\
CREATE TABLE gap (
    id INTEGER NOT NULL,
    protocol TEXT NOT NULL,
    first INTEGER NOT NULL,
    last INTEGER NOT NULL,
    reason TEXT NOT NULL,
    closed_by BLOB CHECK (length(closed_by) = 32),
    CONSTRAINT pk_gap PRIMARY KEY (id)
)
 STRICT""",
    """\
CREATE TABLE lineage (
    id INTEGER NOT NULL,
    stream BLOB NOT NULL CHECK (length(stream) = 32),
    parent INTEGER,
    forked_after INTEGER,
    tip INTEGER NOT NULL,
    CONSTRAINT pk_lineage PRIMARY KEY (id),
    CONSTRAINT fk_lineage_lineage FOREIGN KEY(parent) REFERENCES lineage (id)
)
 STRICT""",
    """\
CREATE TABLE carry (
    hash BLOB NOT NULL CHECK (length(hash) = 32),
    packed BLOB NOT NULL,
    CONSTRAINT pk_carry PRIMARY KEY (hash)
)
 STRICT""",
    """\
CREATE TABLE subject (
    hash BLOB NOT NULL CHECK (length(hash) = 32),
    parts TEXT NOT NULL,
    CONSTRAINT pk_subject PRIMARY KEY (hash)
)
 WITHOUT ROWID,
 STRICT""",
    """\
CREATE TABLE vote (
    id INTEGER NOT NULL,
    signer BLOB NOT NULL CHECK (length(signer) = 20),
    stream BLOB NOT NULL CHECK (length(stream) = 32),
    sequence INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    kind TEXT NOT NULL,
    digest BLOB NOT NULL CHECK (length(digest) = 32),
    ballot INTEGER NOT NULL,
    payload BLOB NOT NULL,
    at_s INTEGER NOT NULL,
    CONSTRAINT pk_vote PRIMARY KEY (id),
    CONSTRAINT uq_vote_digest_signer UNIQUE (digest, signer)
)
 STRICT""",
    """\
CREATE INDEX ix_vote_slot ON vote (stream, sequence, revision, signer)""",
    """\
CREATE TABLE outbox (
    position INTEGER NOT NULL,
    id BLOB NOT NULL CHECK (length(id) = 32),
    stream BLOB NOT NULL CHECK (length(stream) = 32),
    kind TEXT NOT NULL,
    payload BLOB NOT NULL,
    attempts INTEGER NOT NULL,
    next_s INTEGER NOT NULL,
    why TEXT,
    blocks INTEGER NOT NULL,
    receipt BLOB CHECK (length(receipt) = 32),
    CONSTRAINT pk_outbox PRIMARY KEY (position),
    CONSTRAINT uq_outbox_id UNIQUE (id)
)
 STRICT""",
    """\
CREATE INDEX ix_outbox_open ON outbox (stream, position, next_s, blocks) WHERE receipt IS NULL""",
    """\
CREATE TABLE receipt (
    id INTEGER NOT NULL,
    hub TEXT NOT NULL,
    attester BLOB NOT NULL CHECK (length(attester) = 20),
    number INTEGER NOT NULL,
    digest BLOB NOT NULL CHECK (length(digest) = 32),
    own BLOB NOT NULL CHECK (length(own) = 32),
    previous BLOB NOT NULL CHECK (length(previous) = 32),
    signature BLOB NOT NULL CHECK (length(signature) = 65),
    at_s INTEGER NOT NULL,
    archived_at_s INTEGER,
    CONSTRAINT pk_receipt PRIMARY KEY (id)
)
 STRICT""",
    """\
CREATE UNIQUE INDEX uq_receipt_number ON receipt (attester, hub, number) WHERE archived_at_s IS NULL""",
    """\
CREATE TABLE log (
    number INTEGER NOT NULL,
    block_hash BLOB NOT NULL CHECK (length(block_hash) = 32),
    log_index INTEGER NOT NULL,
    tx_hash BLOB NOT NULL CHECK (length(tx_hash) = 32),
    tx_index INTEGER NOT NULL,
    address BLOB NOT NULL CHECK (length(address) = 20),
    topics BLOB NOT NULL,
    data BLOB NOT NULL,
    time INTEGER NOT NULL,
    protocol TEXT NOT NULL,
    kind TEXT,
    validator BLOB CHECK (length(validator) = 32),
    delegator BLOB CHECK (length(delegator) = 32),
    amount BLOB,
    detail TEXT,
    proof INTEGER NOT NULL,
    CONSTRAINT pk_log PRIMARY KEY (number, block_hash, log_index),
    CHECK (length(amount) = 32),
    CONSTRAINT fk_log_block FOREIGN KEY(number, block_hash) REFERENCES block (number, hash)
)
 WITHOUT ROWID,
 STRICT""",
    """\
CREATE TABLE statement (
    digest BLOB NOT NULL CHECK (length(digest) = 32),
    schema INTEGER NOT NULL,
    ruleset BLOB NOT NULL CHECK (length(ruleset) = 32),
    stream BLOB NOT NULL CHECK (length(stream) = 32),
    sequence INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    from_position INTEGER NOT NULL,
    from_anchor BLOB NOT NULL CHECK (length(from_anchor) = 32),
    to_position INTEGER NOT NULL,
    to_anchor BLOB NOT NULL CHECK (length(to_anchor) = 32),
    to_time INTEGER NOT NULL,
    state_root BLOB NOT NULL CHECK (length(state_root) = 32),
    evidence BLOB NOT NULL CHECK (length(evidence) = 32),
    previous BLOB NOT NULL CHECK (length(previous) = 32),
    supersedes BLOB NOT NULL CHECK (length(supersedes) = 32),
    body_root BLOB NOT NULL CHECK (length(body_root) = 32),
    leaf_count INTEGER NOT NULL,
    carry BLOB NOT NULL CHECK (length(carry) = 32),
    total_reward BLOB NOT NULL,
    total_penalty BLOB NOT NULL,
    config_digest BLOB NOT NULL CHECK (length(config_digest) = 32),
    origin TEXT NOT NULL,
    lineage INTEGER NOT NULL,
    saved_at_s INTEGER NOT NULL,
    current INTEGER NOT NULL,
    CONSTRAINT pk_statement PRIMARY KEY (digest),
    CHECK (length(total_reward) = 32),
    CHECK (length(total_penalty) = 32),
    CONSTRAINT fk_statement_lineage FOREIGN KEY(lineage) REFERENCES lineage (id)
)
 STRICT""",
    """\
CREATE INDEX ix_statement_body_root ON statement (body_root)""",
    """\
CREATE UNIQUE INDEX uq_statement_current ON statement (stream, sequence, revision) WHERE current = 1""",
    """\
CREATE INDEX ix_statement_slot ON statement (stream, sequence, revision)""",
    """\
CREATE TABLE leaf (
    lineage INTEGER NOT NULL,
    subject BLOB NOT NULL CHECK (length(subject) = 32),
    asset BLOB NOT NULL CHECK (length(asset) = 20),
    kind INTEGER NOT NULL,
    since INTEGER NOT NULL,
    until INTEGER,
    reward BLOB NOT NULL,
    penalty BLOB NOT NULL,
    CONSTRAINT pk_leaf PRIMARY KEY (lineage, subject, asset, kind, since),
    CHECK (length(reward) = 32),
    CHECK (length(penalty) = 32),
    CONSTRAINT fk_leaf_lineage FOREIGN KEY(lineage) REFERENCES lineage (id)
)
 WITHOUT ROWID,
 STRICT""",
    """\
CREATE INDEX ix_leaf_lineage_until ON leaf (lineage, until)""",
    """\
CREATE INDEX ix_leaf_lineage_since ON leaf (lineage, since)""",
    """\
CREATE VIEW canonical_event AS
SELECT log.number, log.block_hash, log.log_index, log.tx_hash, log.tx_index, log.address, log.topics, log.data, log.time,
  log.protocol, log.kind, log.validator, log.delegator, log.amount, log.detail,
  CASE coalesce((SELECT max(proven.proof) FROM proven WHERE proven.block_hash = log.block_hash), log.proof)
    WHEN 0 THEN 'node' WHEN 1 THEN 'bloom' ELSE 'receipts' END AS proof
FROM log JOIN block ON block.number = log.number AND block.hash = log.block_hash
WHERE block.orphaned_generation IS NULL""",
    """\
CREATE TRIGGER block_no_update BEFORE UPDATE OF "number", "hash", "parent", "time", "state_root", "receipts_root", "bloom", "proof" ON "block" BEGIN SELECT RAISE(ABORT, 'append-only: rows of block cannot be changed'); END""",
    """\
CREATE TRIGGER block_no_delete BEFORE DELETE ON "block" BEGIN SELECT RAISE(ABORT, 'append-only: rows of block cannot be changed'); END""",
    """\
CREATE TRIGGER proven_no_update BEFORE UPDATE OF "block_hash", "proof" ON "proven" BEGIN SELECT RAISE(ABORT, 'append-only: rows of proven cannot be changed'); END""",
    """\
CREATE TRIGGER proven_no_delete BEFORE DELETE ON "proven" BEGIN SELECT RAISE(ABORT, 'append-only: rows of proven cannot be changed'); END""",
    """\
CREATE TRIGGER log_no_update BEFORE UPDATE OF "number", "block_hash", "log_index", "tx_hash", "tx_index", "address", "topics", "data", "time", "protocol", "kind", "validator", "delegator", "amount", "detail", "proof" ON "log" BEGIN SELECT RAISE(ABORT, 'append-only: rows of log cannot be changed'); END""",
    """\
CREATE TRIGGER log_no_delete BEFORE DELETE ON "log" BEGIN SELECT RAISE(ABORT, 'append-only: rows of log cannot be changed'); END""",
    """\
CREATE TRIGGER journal_no_update BEFORE UPDATE OF "id", "at_s", "kind", "number", "hash", "generation" ON "journal" BEGIN SELECT RAISE(ABORT, 'append-only: rows of journal cannot be changed'); END""",
    """\
CREATE TRIGGER journal_no_delete BEFORE DELETE ON "journal" BEGIN SELECT RAISE(ABORT, 'append-only: rows of journal cannot be changed'); END""",
    """\
CREATE TRIGGER latch_no_update BEFORE UPDATE OF "id", "name", "reason", "set_at_s" ON "latch" BEGIN SELECT RAISE(ABORT, 'append-only: rows of latch cannot be changed'); END""",
    """\
CREATE TRIGGER latch_no_delete BEFORE DELETE ON "latch" BEGIN SELECT RAISE(ABORT, 'append-only: rows of latch cannot be changed'); END""",
    """\
CREATE TRIGGER lineage_no_update BEFORE UPDATE OF "id", "stream", "parent", "forked_after" ON "lineage" BEGIN SELECT RAISE(ABORT, 'append-only: rows of lineage cannot be changed'); END""",
    """\
CREATE TRIGGER lineage_no_delete BEFORE DELETE ON "lineage" BEGIN SELECT RAISE(ABORT, 'append-only: rows of lineage cannot be changed'); END""",
    """\
CREATE TRIGGER statement_no_update BEFORE UPDATE OF "digest", "schema", "ruleset", "stream", "sequence", "revision", "from_position", "from_anchor", "to_position", "to_anchor", "to_time", "state_root", "evidence", "previous", "supersedes", "body_root", "leaf_count", "carry", "total_reward", "total_penalty", "config_digest", "origin", "lineage", "saved_at_s" ON "statement" BEGIN SELECT RAISE(ABORT, 'append-only: rows of statement cannot be changed'); END""",
    """\
CREATE TRIGGER statement_no_delete BEFORE DELETE ON "statement" BEGIN SELECT RAISE(ABORT, 'append-only: rows of statement cannot be changed'); END""",
    """\
CREATE TRIGGER subject_no_update BEFORE UPDATE OF "hash", "parts" ON "subject" BEGIN SELECT RAISE(ABORT, 'append-only: rows of subject cannot be changed'); END""",
    """\
CREATE TRIGGER subject_no_delete BEFORE DELETE ON "subject" BEGIN SELECT RAISE(ABORT, 'append-only: rows of subject cannot be changed'); END""",
    """\
CREATE TRIGGER leaf_no_update BEFORE UPDATE OF "lineage", "subject", "asset", "kind", "since", "reward", "penalty" ON "leaf" BEGIN SELECT RAISE(ABORT, 'append-only: rows of leaf cannot be changed'); END""",
    """\
CREATE TRIGGER leaf_no_delete BEFORE DELETE ON "leaf" BEGIN SELECT RAISE(ABORT, 'append-only: rows of leaf cannot be changed'); END""",
    """\
CREATE TRIGGER vote_no_update BEFORE UPDATE OF "id", "signer", "stream", "sequence", "revision", "kind", "digest", "ballot", "payload", "at_s" ON "vote" BEGIN SELECT RAISE(ABORT, 'append-only: rows of vote cannot be changed'); END""",
    """\
CREATE TRIGGER vote_no_delete BEFORE DELETE ON "vote" BEGIN SELECT RAISE(ABORT, 'append-only: rows of vote cannot be changed'); END""",
    """\
CREATE TRIGGER receipt_no_update BEFORE UPDATE OF "id", "hub", "attester", "number", "digest", "own", "previous", "signature", "at_s" ON "receipt" BEGIN SELECT RAISE(ABORT, 'append-only: rows of receipt cannot be changed'); END""",
    """\
CREATE TRIGGER receipt_no_delete BEFORE DELETE ON "receipt" BEGIN SELECT RAISE(ABORT, 'append-only: rows of receipt cannot be changed'); END""",
    """\
CREATE TRIGGER meta_no_update BEFORE UPDATE OF "key", "value" ON "meta" BEGIN SELECT RAISE(ABORT, 'append-only: rows of meta cannot be changed'); END""",
    """\
CREATE TRIGGER meta_no_delete BEFORE DELETE ON "meta" BEGIN SELECT RAISE(ABORT, 'append-only: rows of meta cannot be changed'); END""",
)

POSTGRESQL = (
    """\
CREATE TABLE meta (
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    CONSTRAINT pk_meta PRIMARY KEY (key)
)""",
    """\
CREATE TABLE block (
    number BIGINT NOT NULL,
    hash BYTEA NOT NULL CHECK (length(hash) = 32),
    parent BYTEA NOT NULL CHECK (length(parent) = 32),
    time BIGINT NOT NULL,
    state_root BYTEA NOT NULL CHECK (length(state_root) = 32),
    receipts_root BYTEA NOT NULL CHECK (length(receipts_root) = 32),
    bloom BYTEA NOT NULL CHECK (length(bloom) = 256),
    proof BIGINT NOT NULL,
    orphaned_generation BIGINT,
    CONSTRAINT pk_block PRIMARY KEY (number, hash),
    CONSTRAINT uq_block_hash UNIQUE (hash)
)""",
    """\
CREATE UNIQUE INDEX uq_block_canonical ON block (number) WHERE orphaned_generation IS NULL""",
    """\
CREATE INDEX ix_block_orphaned ON block (number) WHERE orphaned_generation IS NOT NULL""",
    """\
CREATE TABLE proven (
    block_hash BYTEA NOT NULL CHECK (length(block_hash) = 32),
    proof BIGINT NOT NULL,
    CONSTRAINT pk_proven PRIMARY KEY (block_hash, proof)
)""",
    """\
CREATE TABLE tally (
    name TEXT NOT NULL,
    value BIGINT NOT NULL,
    CONSTRAINT pk_tally PRIMARY KEY (name)
)""",
    """\
CREATE TABLE cursor (
    name TEXT NOT NULL,
    number BIGINT NOT NULL,
    hash BYTEA NOT NULL CHECK (length(hash) = 32),
    generation BIGINT NOT NULL,
    CONSTRAINT pk_cursor PRIMARY KEY (name)
)""",
    """\
CREATE TABLE coverage (
    protocol TEXT NOT NULL,
    fingerprint BYTEA NOT NULL CHECK (length(fingerprint) = 32),
    proof BIGINT NOT NULL,
    first BIGINT NOT NULL,
    last BIGINT NOT NULL,
    CONSTRAINT pk_coverage PRIMARY KEY (protocol, fingerprint, proof, first)
)""",
    """\
CREATE TABLE journal (
    id BIGSERIAL NOT NULL,
    at_s BIGINT NOT NULL,
    kind TEXT NOT NULL,
    number BIGINT NOT NULL,
    hash BYTEA NOT NULL CHECK (length(hash) = 32),
    generation BIGINT NOT NULL,
    CONSTRAINT pk_journal PRIMARY KEY (id)
)""",
    """\
CREATE INDEX ix_journal_adopted ON journal (id) WHERE kind = 'adopted'""",
    """\
CREATE TABLE latch (
    id BIGSERIAL NOT NULL,
    name TEXT NOT NULL,
    reason TEXT NOT NULL,
    set_at_s BIGINT NOT NULL,
    cleared_by TEXT,
    cleared_at_s BIGINT,
    CONSTRAINT pk_latch PRIMARY KEY (id)
)""",
    """\
CREATE UNIQUE INDEX uq_latch_active ON latch (name) WHERE cleared_at_s IS NULL""",
    """\
CREATE TABLE parked (
    subject TEXT NOT NULL,
    block_hash BYTEA NOT NULL CHECK (length(block_hash) = 32),
    log_index BIGINT NOT NULL,
    reason TEXT NOT NULL,
    resolved_by TEXT,
    CONSTRAINT pk_parked PRIMARY KEY (subject, block_hash, log_index)
)""",
    """\
CREATE TABLE gap (
    id BIGSERIAL NOT NULL,
    protocol TEXT NOT NULL,
    first BIGINT NOT NULL,
    last BIGINT NOT NULL,
    reason TEXT NOT NULL,
    closed_by BYTEA CHECK (length(closed_by) = 32),
    CONSTRAINT pk_gap PRIMARY KEY (id)
)""",
    """\
CREATE TABLE lineage (
    id BIGSERIAL NOT NULL,
    stream BYTEA NOT NULL CHECK (length(stream) = 32),
    parent BIGINT,
    forked_after BIGINT,
    tip BIGINT NOT NULL,
    CONSTRAINT pk_lineage PRIMARY KEY (id),
    CONSTRAINT fk_lineage_lineage FOREIGN KEY(parent) REFERENCES lineage (id)
)""",
    """\
CREATE TABLE carry (
    hash BYTEA NOT NULL CHECK (length(hash) = 32),
    packed BYTEA NOT NULL,
    CONSTRAINT pk_carry PRIMARY KEY (hash)
)""",
    """\
CREATE TABLE subject (
    hash BYTEA NOT NULL CHECK (length(hash) = 32),
    parts TEXT NOT NULL,
    CONSTRAINT pk_subject PRIMARY KEY (hash)
)""",
    """\
CREATE TABLE vote (
    id BIGSERIAL NOT NULL,
    signer BYTEA NOT NULL CHECK (length(signer) = 20),
    stream BYTEA NOT NULL CHECK (length(stream) = 32),
    sequence BIGINT NOT NULL,
    revision BIGINT NOT NULL,
    kind TEXT NOT NULL,
    digest BYTEA NOT NULL CHECK (length(digest) = 32),
    ballot BIGINT NOT NULL,
    payload BYTEA NOT NULL,
    at_s BIGINT NOT NULL,
    CONSTRAINT pk_vote PRIMARY KEY (id),
    CONSTRAINT uq_vote_digest_signer UNIQUE (digest, signer)
)""",
    """\
CREATE INDEX ix_vote_slot ON vote (stream, sequence, revision, signer)""",
    """\
CREATE TABLE outbox (
    position BIGSERIAL NOT NULL,
    id BYTEA NOT NULL CHECK (length(id) = 32),
    stream BYTEA NOT NULL CHECK (length(stream) = 32),
    kind TEXT NOT NULL,
    payload BYTEA NOT NULL,
    attempts BIGINT NOT NULL,
    next_s BIGINT NOT NULL,
    why TEXT,
    blocks BIGINT NOT NULL,
    receipt BYTEA CHECK (length(receipt) = 32),
    CONSTRAINT pk_outbox PRIMARY KEY (position),
    CONSTRAINT uq_outbox_id UNIQUE (id)
)""",
    """\
CREATE INDEX ix_outbox_open ON outbox (stream, position, next_s, blocks) WHERE receipt IS NULL""",
    """\
CREATE TABLE receipt (
    id BIGSERIAL NOT NULL,
    hub TEXT NOT NULL,
    attester BYTEA NOT NULL CHECK (length(attester) = 20),
    number BIGINT NOT NULL,
    digest BYTEA NOT NULL CHECK (length(digest) = 32),
    own BYTEA NOT NULL CHECK (length(own) = 32),
    previous BYTEA NOT NULL CHECK (length(previous) = 32),
    signature BYTEA NOT NULL CHECK (length(signature) = 65),
    at_s BIGINT NOT NULL,
    archived_at_s BIGINT,
    CONSTRAINT pk_receipt PRIMARY KEY (id)
)""",
    """\
CREATE UNIQUE INDEX uq_receipt_number ON receipt (attester, hub, number) WHERE archived_at_s IS NULL""",
    """\
CREATE TABLE log (
    number BIGINT NOT NULL,
    block_hash BYTEA NOT NULL CHECK (length(block_hash) = 32),
    log_index BIGINT NOT NULL,
    tx_hash BYTEA NOT NULL CHECK (length(tx_hash) = 32),
    tx_index BIGINT NOT NULL,
    address BYTEA NOT NULL CHECK (length(address) = 20),
    topics BYTEA NOT NULL,
    data BYTEA NOT NULL,
    time BIGINT NOT NULL,
    protocol TEXT NOT NULL,
    kind TEXT,
    validator BYTEA CHECK (length(validator) = 32),
    delegator BYTEA CHECK (length(delegator) = 32),
    amount NUMERIC(78, 0),
    detail TEXT,
    proof BIGINT NOT NULL,
    CONSTRAINT pk_log PRIMARY KEY (number, block_hash, log_index),
    CHECK (amount >= 0 AND amount < 115792089237316195423570985008687907853269984665640564039457584007913129639936),
    CONSTRAINT fk_log_block FOREIGN KEY(number, block_hash) REFERENCES block (number, hash)
)""",
    """\
CREATE TABLE statement (
    digest BYTEA NOT NULL CHECK (length(digest) = 32),
    schema BIGINT NOT NULL,
    ruleset BYTEA NOT NULL CHECK (length(ruleset) = 32),
    stream BYTEA NOT NULL CHECK (length(stream) = 32),
    sequence BIGINT NOT NULL,
    revision BIGINT NOT NULL,
    from_position BIGINT NOT NULL,
    from_anchor BYTEA NOT NULL CHECK (length(from_anchor) = 32),
    to_position BIGINT NOT NULL,
    to_anchor BYTEA NOT NULL CHECK (length(to_anchor) = 32),
    to_time BIGINT NOT NULL,
    state_root BYTEA NOT NULL CHECK (length(state_root) = 32),
    evidence BYTEA NOT NULL CHECK (length(evidence) = 32),
    previous BYTEA NOT NULL CHECK (length(previous) = 32),
    supersedes BYTEA NOT NULL CHECK (length(supersedes) = 32),
    body_root BYTEA NOT NULL CHECK (length(body_root) = 32),
    leaf_count BIGINT NOT NULL,
    carry BYTEA NOT NULL CHECK (length(carry) = 32),
    total_reward NUMERIC(78, 0) NOT NULL,
    total_penalty NUMERIC(78, 0) NOT NULL,
    config_digest BYTEA NOT NULL CHECK (length(config_digest) = 32),
    origin TEXT NOT NULL,
    lineage BIGINT NOT NULL,
    saved_at_s BIGINT NOT NULL,
    current BIGINT NOT NULL,
    CONSTRAINT pk_statement PRIMARY KEY (digest),
    CHECK (total_reward >= 0 AND total_reward < 115792089237316195423570985008687907853269984665640564039457584007913129639936),
    CHECK (total_penalty >= 0 AND total_penalty < 115792089237316195423570985008687907853269984665640564039457584007913129639936),
    CONSTRAINT fk_statement_lineage FOREIGN KEY(lineage) REFERENCES lineage (id)
)""",
    """\
CREATE INDEX ix_statement_body_root ON statement (body_root)""",
    """\
CREATE UNIQUE INDEX uq_statement_current ON statement (stream, sequence, revision) WHERE current = 1""",
    """\
CREATE INDEX ix_statement_slot ON statement (stream, sequence, revision)""",
    """\
CREATE TABLE leaf (
    lineage BIGINT NOT NULL,
    subject BYTEA NOT NULL CHECK (length(subject) = 32),
    asset BYTEA NOT NULL CHECK (length(asset) = 20),
    kind BIGINT NOT NULL,
    since BIGINT NOT NULL,
    until BIGINT,
    reward NUMERIC(78, 0) NOT NULL,
    penalty NUMERIC(78, 0) NOT NULL,
    CONSTRAINT pk_leaf PRIMARY KEY (lineage, subject, asset, kind, since),
    CHECK (reward >= 0 AND reward < 115792089237316195423570985008687907853269984665640564039457584007913129639936),
    CHECK (penalty >= 0 AND penalty < 115792089237316195423570985008687907853269984665640564039457584007913129639936),
    CONSTRAINT fk_leaf_lineage FOREIGN KEY(lineage) REFERENCES lineage (id)
)""",
    """\
CREATE INDEX ix_leaf_lineage_until ON leaf (lineage, until)""",
    """\
CREATE INDEX ix_leaf_lineage_since ON leaf (lineage, since)""",
    """\
CREATE VIEW canonical_event AS
SELECT log.number, log.block_hash, log.log_index, log.tx_hash, log.tx_index, log.address, log.topics, log.data, log.time,
  log.protocol, log.kind, log.validator, log.delegator, log.amount, log.detail,
  CASE coalesce((SELECT max(proven.proof) FROM proven WHERE proven.block_hash = log.block_hash), log.proof)
    WHEN 0 THEN 'node' WHEN 1 THEN 'bloom' ELSE 'receipts' END AS proof
FROM log JOIN block ON block.number = log.number AND block.hash = log.block_hash
WHERE block.orphaned_generation IS NULL""",
    """\
CREATE FUNCTION append_only() RETURNS trigger LANGUAGE plpgsql AS $body$
BEGIN RAISE EXCEPTION 'append-only: rows of % cannot be changed by %', TG_TABLE_NAME, TG_OP; END $body$""",
    """\
CREATE TRIGGER block_no_update BEFORE UPDATE OF "number", "hash", "parent", "time", "state_root", "receipts_root", "bloom", "proof" ON "block" FOR EACH ROW EXECUTE FUNCTION append_only()""",
    """\
CREATE TRIGGER block_no_delete BEFORE DELETE ON "block" FOR EACH ROW EXECUTE FUNCTION append_only()""",
    """\
CREATE TRIGGER block_no_truncate BEFORE TRUNCATE ON "block" FOR EACH STATEMENT EXECUTE FUNCTION append_only()""",
    """\
CREATE TRIGGER proven_no_update BEFORE UPDATE OF "block_hash", "proof" ON "proven" FOR EACH ROW EXECUTE FUNCTION append_only()""",
    """\
CREATE TRIGGER proven_no_delete BEFORE DELETE ON "proven" FOR EACH ROW EXECUTE FUNCTION append_only()""",
    """\
CREATE TRIGGER proven_no_truncate BEFORE TRUNCATE ON "proven" FOR EACH STATEMENT EXECUTE FUNCTION append_only()""",
    """\
CREATE TRIGGER log_no_update BEFORE UPDATE OF "number", "block_hash", "log_index", "tx_hash", "tx_index", "address", "topics", "data", "time", "protocol", "kind", "validator", "delegator", "amount", "detail", "proof" ON "log" FOR EACH ROW EXECUTE FUNCTION append_only()""",
    """\
CREATE TRIGGER log_no_delete BEFORE DELETE ON "log" FOR EACH ROW EXECUTE FUNCTION append_only()""",
    """\
CREATE TRIGGER log_no_truncate BEFORE TRUNCATE ON "log" FOR EACH STATEMENT EXECUTE FUNCTION append_only()""",
    """\
CREATE TRIGGER journal_no_update BEFORE UPDATE OF "id", "at_s", "kind", "number", "hash", "generation" ON "journal" FOR EACH ROW EXECUTE FUNCTION append_only()""",
    """\
CREATE TRIGGER journal_no_delete BEFORE DELETE ON "journal" FOR EACH ROW EXECUTE FUNCTION append_only()""",
    """\
CREATE TRIGGER journal_no_truncate BEFORE TRUNCATE ON "journal" FOR EACH STATEMENT EXECUTE FUNCTION append_only()""",
    """\
CREATE TRIGGER latch_no_update BEFORE UPDATE OF "id", "name", "reason", "set_at_s" ON "latch" FOR EACH ROW EXECUTE FUNCTION append_only()""",
    """\
CREATE TRIGGER latch_no_delete BEFORE DELETE ON "latch" FOR EACH ROW EXECUTE FUNCTION append_only()""",
    """\
CREATE TRIGGER latch_no_truncate BEFORE TRUNCATE ON "latch" FOR EACH STATEMENT EXECUTE FUNCTION append_only()""",
    """\
CREATE TRIGGER lineage_no_update BEFORE UPDATE OF "id", "stream", "parent", "forked_after" ON "lineage" FOR EACH ROW EXECUTE FUNCTION append_only()""",
    """\
CREATE TRIGGER lineage_no_delete BEFORE DELETE ON "lineage" FOR EACH ROW EXECUTE FUNCTION append_only()""",
    """\
CREATE TRIGGER lineage_no_truncate BEFORE TRUNCATE ON "lineage" FOR EACH STATEMENT EXECUTE FUNCTION append_only()""",
    """\
CREATE TRIGGER statement_no_update BEFORE UPDATE OF "digest", "schema", "ruleset", "stream", "sequence", "revision", "from_position", "from_anchor", "to_position", "to_anchor", "to_time", "state_root", "evidence", "previous", "supersedes", "body_root", "leaf_count", "carry", "total_reward", "total_penalty", "config_digest", "origin", "lineage", "saved_at_s" ON "statement" FOR EACH ROW EXECUTE FUNCTION append_only()""",
    """\
CREATE TRIGGER statement_no_delete BEFORE DELETE ON "statement" FOR EACH ROW EXECUTE FUNCTION append_only()""",
    """\
CREATE TRIGGER statement_no_truncate BEFORE TRUNCATE ON "statement" FOR EACH STATEMENT EXECUTE FUNCTION append_only()""",
    """\
CREATE TRIGGER subject_no_update BEFORE UPDATE OF "hash", "parts" ON "subject" FOR EACH ROW EXECUTE FUNCTION append_only()""",
    """\
CREATE TRIGGER subject_no_delete BEFORE DELETE ON "subject" FOR EACH ROW EXECUTE FUNCTION append_only()""",
    """\
CREATE TRIGGER subject_no_truncate BEFORE TRUNCATE ON "subject" FOR EACH STATEMENT EXECUTE FUNCTION append_only()""",
    """\
CREATE TRIGGER leaf_no_update BEFORE UPDATE OF "lineage", "subject", "asset", "kind", "since", "reward", "penalty" ON "leaf" FOR EACH ROW EXECUTE FUNCTION append_only()""",
    """\
CREATE TRIGGER leaf_no_delete BEFORE DELETE ON "leaf" FOR EACH ROW EXECUTE FUNCTION append_only()""",
    """\
CREATE TRIGGER leaf_no_truncate BEFORE TRUNCATE ON "leaf" FOR EACH STATEMENT EXECUTE FUNCTION append_only()""",
    """\
CREATE TRIGGER vote_no_update BEFORE UPDATE OF "id", "signer", "stream", "sequence", "revision", "kind", "digest", "ballot", "payload", "at_s" ON "vote" FOR EACH ROW EXECUTE FUNCTION append_only()""",
    """\
CREATE TRIGGER vote_no_delete BEFORE DELETE ON "vote" FOR EACH ROW EXECUTE FUNCTION append_only()""",
    """\
CREATE TRIGGER vote_no_truncate BEFORE TRUNCATE ON "vote" FOR EACH STATEMENT EXECUTE FUNCTION append_only()""",
    """\
CREATE TRIGGER receipt_no_update BEFORE UPDATE OF "id", "hub", "attester", "number", "digest", "own", "previous", "signature", "at_s" ON "receipt" FOR EACH ROW EXECUTE FUNCTION append_only()""",
    """\
CREATE TRIGGER receipt_no_delete BEFORE DELETE ON "receipt" FOR EACH ROW EXECUTE FUNCTION append_only()""",
    """\
CREATE TRIGGER receipt_no_truncate BEFORE TRUNCATE ON "receipt" FOR EACH STATEMENT EXECUTE FUNCTION append_only()""",
    """\
CREATE TRIGGER meta_no_update BEFORE UPDATE OF "key", "value" ON "meta" FOR EACH ROW EXECUTE FUNCTION append_only()""",
    """\
CREATE TRIGGER meta_no_delete BEFORE DELETE ON "meta" FOR EACH ROW EXECUTE FUNCTION append_only()""",
    """\
CREATE TRIGGER meta_no_truncate BEFORE TRUNCATE ON "meta" FOR EACH STATEMENT EXECUTE FUNCTION append_only()""",
)


def upgrade() -> None:
    connection = op.get_bind()
    for text in POSTGRESQL if connection.dialect.name == "postgresql" else SQLITE:
        connection.exec_driver_sql(text)
