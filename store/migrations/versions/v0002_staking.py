"""Intents, what became of them, and the people who said so."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"

SQLITE = (
    """\
CREATE TABLE command (
    id INTEGER NOT NULL,
    at_s INTEGER NOT NULL,
    principal TEXT NOT NULL,
    kind TEXT NOT NULL,
    subject TEXT NOT NULL,
    reason TEXT NOT NULL,
    "before" TEXT NOT NULL,
    "after" TEXT NOT NULL,
    payload_hash BLOB CHECK (length(payload_hash) = 32),
    CONSTRAINT pk_command PRIMARY KEY (id)
)
 STRICT""",
    """\
CREATE INDEX ix_command_kind ON command (kind, id)""",
    """\
CREATE INDEX ix_command_subject ON command (subject, id)""",
    """\
CREATE TABLE intent (
    position INTEGER NOT NULL,
    id BLOB NOT NULL CHECK (length(id) = 32),
    chain_id INTEGER NOT NULL,
    account BLOB NOT NULL CHECK (length(account) = 20),
    "key" TEXT NOT NULL,
    payload_hash BLOB NOT NULL CHECK (length(payload_hash) = 32),
    protocol TEXT NOT NULL,
    action TEXT NOT NULL,
    arguments TEXT NOT NULL,
    proposer TEXT NOT NULL,
    reason TEXT NOT NULL,
    proposed_at_s INTEGER NOT NULL,
    expires_at_s INTEGER NOT NULL,
    CONSTRAINT pk_intent PRIMARY KEY (position),
    CONSTRAINT uq_intent_id UNIQUE (id),
    CONSTRAINT uq_intent_chain_id_account_key UNIQUE (chain_id, account, "key")
)
 STRICT""",
    """\
CREATE TABLE policy (
    hash BLOB NOT NULL CHECK (length(hash) = 32),
    body TEXT NOT NULL,
    first_seen_s INTEGER NOT NULL,
    CONSTRAINT pk_policy PRIMARY KEY (hash)
)
 WITHOUT ROWID,
 STRICT""",
    """\
CREATE TABLE decision (
    id INTEGER NOT NULL,
    intent BLOB NOT NULL CHECK (length(intent) = 32),
    at_s INTEGER NOT NULL,
    verdict TEXT NOT NULL,
    rule TEXT NOT NULL,
    why TEXT NOT NULL,
    policy_hash BLOB NOT NULL CHECK (length(policy_hash) = 32),
    payload_hash BLOB NOT NULL CHECK (length(payload_hash) = 32),
    block_number INTEGER NOT NULL,
    block_hash BLOB NOT NULL CHECK (length(block_hash) = 32),
    findings TEXT NOT NULL,
    CONSTRAINT pk_decision PRIMARY KEY (id),
    CONSTRAINT fk_decision_intent FOREIGN KEY(intent) REFERENCES intent (id),
    CONSTRAINT fk_decision_policy FOREIGN KEY(policy_hash) REFERENCES policy (hash)
)
 STRICT""",
    """\
CREATE INDEX ix_decision_intent ON decision (intent, id)""",
    """\
CREATE TABLE nonce_slot (
    chain_id INTEGER NOT NULL,
    account BLOB NOT NULL CHECK (length(account) = 20),
    nonce INTEGER NOT NULL,
    intent BLOB NOT NULL CHECK (length(intent) = 32),
    fence INTEGER NOT NULL,
    reserved_at_s INTEGER NOT NULL,
    CONSTRAINT pk_nonce_slot PRIMARY KEY (chain_id, account, nonce),
    CONSTRAINT uq_nonce_slot_intent UNIQUE (intent),
    CONSTRAINT uq_nonce_slot_intent_chain_id_nonce UNIQUE (intent, chain_id, nonce),
    CONSTRAINT fk_nonce_slot_intent FOREIGN KEY(intent) REFERENCES intent (id)
)
 WITHOUT ROWID,
 STRICT""",
    """\
CREATE TABLE principal (
    id INTEGER NOT NULL,
    name TEXT NOT NULL,
    roles TEXT NOT NULL,
    token_hash BLOB NOT NULL CHECK (length(token_hash) = 32),
    since_s INTEGER NOT NULL,
    until_s INTEGER,
    command INTEGER NOT NULL,
    CONSTRAINT pk_principal PRIMARY KEY (id),
    CONSTRAINT uq_principal_token_hash UNIQUE (token_hash),
    CONSTRAINT fk_principal_command FOREIGN KEY(command) REFERENCES command (id)
)
 STRICT""",
    """\
CREATE UNIQUE INDEX uq_principal_active ON principal (name) WHERE until_s IS NULL""",
    """\
CREATE TABLE progress (
    intent BLOB NOT NULL CHECK (length(intent) = 32),
    state TEXT NOT NULL,
    why TEXT NOT NULL,
    changed_at_s INTEGER NOT NULL,
    next_s INTEGER,
    moves INTEGER NOT NULL,
    CONSTRAINT pk_progress PRIMARY KEY (intent),
    CONSTRAINT fk_progress_intent FOREIGN KEY(intent) REFERENCES intent (id)
)
 WITHOUT ROWID,
 STRICT""",
    """\
CREATE INDEX ix_progress_state ON progress (state)""",
    """\
CREATE TABLE reservation (
    intent BLOB NOT NULL CHECK (length(intent) = 32),
    protocol TEXT NOT NULL,
    action TEXT NOT NULL,
    amount BLOB NOT NULL,
    value_wei BLOB NOT NULL,
    max_fee_wei BLOB NOT NULL,
    at_s INTEGER NOT NULL,
    released_at_s INTEGER,
    why_released TEXT,
    CONSTRAINT pk_reservation PRIMARY KEY (intent),
    CHECK (length(amount) = 32),
    CHECK (length(value_wei) = 32),
    CHECK (length(max_fee_wei) = 32),
    CONSTRAINT fk_reservation_intent FOREIGN KEY(intent) REFERENCES intent (id)
)
 WITHOUT ROWID,
 STRICT""",
    """\
CREATE TABLE transition (
    id INTEGER NOT NULL,
    intent BLOB NOT NULL CHECK (length(intent) = 32),
    number INTEGER NOT NULL,
    from_state TEXT NOT NULL,
    to_state TEXT NOT NULL,
    why TEXT NOT NULL,
    at_s INTEGER NOT NULL,
    CONSTRAINT pk_transition PRIMARY KEY (id),
    CONSTRAINT uq_transition_intent_number UNIQUE (intent, number),
    CONSTRAINT fk_transition_intent FOREIGN KEY(intent) REFERENCES intent (id)
)
 STRICT""",
    """\
CREATE TABLE attempt (
    intent BLOB NOT NULL CHECK (length(intent) = 32),
    number INTEGER NOT NULL,
    kind TEXT NOT NULL,
    chain_id INTEGER NOT NULL,
    nonce INTEGER NOT NULL,
    tip BLOB NOT NULL,
    max_fee BLOB NOT NULL,
    gas INTEGER NOT NULL,
    recipient BLOB NOT NULL CHECK (length(recipient) = 20),
    value_wei BLOB NOT NULL,
    data BLOB NOT NULL,
    effects TEXT NOT NULL,
    fence INTEGER NOT NULL,
    at_s INTEGER NOT NULL,
    CONSTRAINT pk_attempt PRIMARY KEY (intent, number),
    CHECK (length(tip) = 32),
    CHECK (length(max_fee) = 32),
    CHECK (length(value_wei) = 32),
    CONSTRAINT fk_attempt_nonce_slot FOREIGN KEY(intent, chain_id, nonce) REFERENCES nonce_slot (intent, chain_id, nonce)
)
 WITHOUT ROWID,
 STRICT""",
    """\
CREATE TABLE session (
    token_hash BLOB NOT NULL CHECK (length(token_hash) = 32),
    principal TEXT NOT NULL,
    principal_id INTEGER NOT NULL,
    created_s INTEGER NOT NULL,
    expires_s INTEGER NOT NULL,
    CONSTRAINT pk_session PRIMARY KEY (token_hash),
    CONSTRAINT fk_session_principal FOREIGN KEY(principal_id) REFERENCES principal (id)
)
 WITHOUT ROWID,
 STRICT""",
    """\
CREATE INDEX ix_session_principal_id ON session (principal_id)""",
    """\
CREATE TABLE signed_tx (
    intent BLOB NOT NULL CHECK (length(intent) = 32),
    number INTEGER NOT NULL,
    hash BLOB NOT NULL CHECK (length(hash) = 32),
    raw BLOB NOT NULL,
    fence INTEGER NOT NULL,
    signed_at_s INTEGER NOT NULL,
    CONSTRAINT pk_signed_tx PRIMARY KEY (intent, number),
    CONSTRAINT uq_signed_tx_hash UNIQUE (hash),
    CONSTRAINT uq_signed_tx_intent_number_hash UNIQUE (intent, number, hash),
    CONSTRAINT fk_signed_tx_attempt FOREIGN KEY(intent, number) REFERENCES attempt (intent, number)
)
 WITHOUT ROWID,
 STRICT""",
    """\
CREATE TABLE broadcast (
    hash BLOB NOT NULL CHECK (length(hash) = 32),
    sends INTEGER NOT NULL,
    first_s INTEGER NOT NULL,
    last_s INTEGER NOT NULL,
    hint TEXT NOT NULL,
    CONSTRAINT pk_broadcast PRIMARY KEY (hash),
    CONSTRAINT fk_broadcast_signed_tx FOREIGN KEY(hash) REFERENCES signed_tx (hash)
)
 WITHOUT ROWID,
 STRICT""",
    """\
CREATE TABLE inclusion (
    id INTEGER NOT NULL,
    intent BLOB NOT NULL CHECK (length(intent) = 32),
    number INTEGER NOT NULL,
    tx_hash BLOB NOT NULL CHECK (length(tx_hash) = 32),
    block_number INTEGER NOT NULL,
    block_hash BLOB NOT NULL CHECK (length(block_hash) = 32),
    tx_index INTEGER NOT NULL,
    status INTEGER NOT NULL,
    gas_used INTEGER NOT NULL,
    gas_price_wei BLOB NOT NULL,
    effect_log_index INTEGER,
    seen_at_s INTEGER NOT NULL,
    orphaned_at_s INTEGER,
    final_at_s INTEGER,
    CONSTRAINT pk_inclusion PRIMARY KEY (id),
    CHECK (length(gas_price_wei) = 32),
    CHECK (status IN (0, 1)),
    CHECK (orphaned_at_s IS NULL OR final_at_s IS NULL),
    CONSTRAINT fk_inclusion_signed_tx FOREIGN KEY(intent, number, tx_hash) REFERENCES signed_tx (intent, number, hash)
)
 STRICT""",
    """\
CREATE INDEX ix_inclusion_intent ON inclusion (intent, id)""",
    """\
CREATE UNIQUE INDEX uq_inclusion_standing ON inclusion (intent) WHERE orphaned_at_s IS NULL""",
    """\
CREATE TRIGGER intent_no_update BEFORE UPDATE OF "position", "id", "chain_id", "account", "key", "payload_hash", "protocol", "action", "arguments", "proposer", "reason", "proposed_at_s", "expires_at_s" ON "intent" BEGIN SELECT RAISE(ABORT, 'append-only: rows of intent cannot be changed'); END""",
    """\
CREATE TRIGGER intent_no_delete BEFORE DELETE ON "intent" BEGIN SELECT RAISE(ABORT, 'append-only: rows of intent cannot be changed'); END""",
    """\
CREATE TRIGGER transition_no_update BEFORE UPDATE OF "id", "intent", "number", "from_state", "to_state", "why", "at_s" ON "transition" BEGIN SELECT RAISE(ABORT, 'append-only: rows of transition cannot be changed'); END""",
    """\
CREATE TRIGGER transition_no_delete BEFORE DELETE ON "transition" BEGIN SELECT RAISE(ABORT, 'append-only: rows of transition cannot be changed'); END""",
    """\
CREATE TRIGGER policy_no_update BEFORE UPDATE OF "hash", "body", "first_seen_s" ON "policy" BEGIN SELECT RAISE(ABORT, 'append-only: rows of policy cannot be changed'); END""",
    """\
CREATE TRIGGER policy_no_delete BEFORE DELETE ON "policy" BEGIN SELECT RAISE(ABORT, 'append-only: rows of policy cannot be changed'); END""",
    """\
CREATE TRIGGER decision_no_update BEFORE UPDATE OF "id", "intent", "at_s", "verdict", "rule", "why", "policy_hash", "payload_hash", "block_number", "block_hash", "findings" ON "decision" BEGIN SELECT RAISE(ABORT, 'append-only: rows of decision cannot be changed'); END""",
    """\
CREATE TRIGGER decision_no_delete BEFORE DELETE ON "decision" BEGIN SELECT RAISE(ABORT, 'append-only: rows of decision cannot be changed'); END""",
    """\
CREATE TRIGGER nonce_slot_no_update BEFORE UPDATE OF "chain_id", "account", "nonce", "intent", "fence", "reserved_at_s" ON "nonce_slot" BEGIN SELECT RAISE(ABORT, 'append-only: rows of nonce_slot cannot be changed'); END""",
    """\
CREATE TRIGGER nonce_slot_no_delete BEFORE DELETE ON "nonce_slot" BEGIN SELECT RAISE(ABORT, 'append-only: rows of nonce_slot cannot be changed'); END""",
    """\
CREATE TRIGGER reservation_no_update BEFORE UPDATE OF "intent", "protocol", "action", "amount", "value_wei", "max_fee_wei", "at_s" ON "reservation" BEGIN SELECT RAISE(ABORT, 'append-only: rows of reservation cannot be changed'); END""",
    """\
CREATE TRIGGER reservation_no_delete BEFORE DELETE ON "reservation" BEGIN SELECT RAISE(ABORT, 'append-only: rows of reservation cannot be changed'); END""",
    """\
CREATE TRIGGER attempt_no_update BEFORE UPDATE OF "intent", "number", "kind", "chain_id", "nonce", "tip", "max_fee", "gas", "recipient", "value_wei", "data", "effects", "fence", "at_s" ON "attempt" BEGIN SELECT RAISE(ABORT, 'append-only: rows of attempt cannot be changed'); END""",
    """\
CREATE TRIGGER attempt_no_delete BEFORE DELETE ON "attempt" BEGIN SELECT RAISE(ABORT, 'append-only: rows of attempt cannot be changed'); END""",
    """\
CREATE TRIGGER signed_tx_no_update BEFORE UPDATE OF "intent", "number", "hash", "raw", "fence", "signed_at_s" ON "signed_tx" BEGIN SELECT RAISE(ABORT, 'append-only: rows of signed_tx cannot be changed'); END""",
    """\
CREATE TRIGGER signed_tx_no_delete BEFORE DELETE ON "signed_tx" BEGIN SELECT RAISE(ABORT, 'append-only: rows of signed_tx cannot be changed'); END""",
    """\
CREATE TRIGGER inclusion_no_update BEFORE UPDATE OF "id", "intent", "number", "tx_hash", "block_number", "block_hash", "tx_index", "status", "gas_used", "gas_price_wei", "effect_log_index", "seen_at_s" ON "inclusion" BEGIN SELECT RAISE(ABORT, 'append-only: rows of inclusion cannot be changed'); END""",
    """\
CREATE TRIGGER inclusion_no_delete BEFORE DELETE ON "inclusion" BEGIN SELECT RAISE(ABORT, 'append-only: rows of inclusion cannot be changed'); END""",
    """\
CREATE TRIGGER command_no_update BEFORE UPDATE OF "id", "at_s", "principal", "kind", "subject", "reason", "before", "after", "payload_hash" ON "command" BEGIN SELECT RAISE(ABORT, 'append-only: rows of command cannot be changed'); END""",
    """\
CREATE TRIGGER command_no_delete BEFORE DELETE ON "command" BEGIN SELECT RAISE(ABORT, 'append-only: rows of command cannot be changed'); END""",
    """\
CREATE TRIGGER principal_no_update BEFORE UPDATE OF "id", "name", "roles", "token_hash", "since_s", "command" ON "principal" BEGIN SELECT RAISE(ABORT, 'append-only: rows of principal cannot be changed'); END""",
    """\
CREATE TRIGGER principal_no_delete BEFORE DELETE ON "principal" BEGIN SELECT RAISE(ABORT, 'append-only: rows of principal cannot be changed'); END""",
    """\
CREATE TRIGGER reservation_released_at_s_once BEFORE UPDATE OF "released_at_s" ON "reservation" WHEN (OLD."released_at_s" IS NOT NULL) BEGIN SELECT RAISE(ABORT, 'append-only: reservation.released_at_s is set'); END""",
    """\
CREATE TRIGGER reservation_why_released_once BEFORE UPDATE OF "why_released" ON "reservation" WHEN (OLD."why_released" IS NOT NULL) BEGIN SELECT RAISE(ABORT, 'append-only: reservation.why_released is set'); END""",
    """\
CREATE TRIGGER inclusion_orphaned_at_s_once BEFORE UPDATE OF "orphaned_at_s" ON "inclusion" WHEN (OLD."orphaned_at_s" IS NOT NULL) BEGIN SELECT RAISE(ABORT, 'append-only: inclusion.orphaned_at_s is set'); END""",
    """\
CREATE TRIGGER inclusion_final_at_s_once BEFORE UPDATE OF "final_at_s" ON "inclusion" WHEN (OLD."final_at_s" IS NOT NULL) BEGIN SELECT RAISE(ABORT, 'append-only: inclusion.final_at_s is set'); END""",
    """\
CREATE TRIGGER principal_until_s_once BEFORE UPDATE OF "until_s" ON "principal" WHEN (OLD."until_s" IS NOT NULL) BEGIN SELECT RAISE(ABORT, 'append-only: principal.until_s is set'); END""",
)

POSTGRESQL = (
    """\
CREATE TABLE command (
    id BIGSERIAL NOT NULL,
    at_s BIGINT NOT NULL,
    principal TEXT NOT NULL,
    kind TEXT NOT NULL,
    subject TEXT NOT NULL,
    reason TEXT NOT NULL,
    before TEXT NOT NULL,
    after TEXT NOT NULL,
    payload_hash BYTEA CHECK (length(payload_hash) = 32),
    CONSTRAINT pk_command PRIMARY KEY (id)
)""",
    """\
CREATE INDEX ix_command_kind ON command (kind, id)""",
    """\
CREATE INDEX ix_command_subject ON command (subject, id)""",
    """\
CREATE TABLE intent (
    position BIGSERIAL NOT NULL,
    id BYTEA NOT NULL CHECK (length(id) = 32),
    chain_id BIGINT NOT NULL,
    account BYTEA NOT NULL CHECK (length(account) = 20),
    key TEXT NOT NULL,
    payload_hash BYTEA NOT NULL CHECK (length(payload_hash) = 32),
    protocol TEXT NOT NULL,
    action TEXT NOT NULL,
    arguments TEXT NOT NULL,
    proposer TEXT NOT NULL,
    reason TEXT NOT NULL,
    proposed_at_s BIGINT NOT NULL,
    expires_at_s BIGINT NOT NULL,
    CONSTRAINT pk_intent PRIMARY KEY (position),
    CONSTRAINT uq_intent_id UNIQUE (id),
    CONSTRAINT uq_intent_chain_id_account_key UNIQUE (chain_id, account, key)
)""",
    """\
CREATE TABLE policy (
    hash BYTEA NOT NULL CHECK (length(hash) = 32),
    body TEXT NOT NULL,
    first_seen_s BIGINT NOT NULL,
    CONSTRAINT pk_policy PRIMARY KEY (hash)
)""",
    """\
CREATE TABLE decision (
    id BIGSERIAL NOT NULL,
    intent BYTEA NOT NULL CHECK (length(intent) = 32),
    at_s BIGINT NOT NULL,
    verdict TEXT NOT NULL,
    rule TEXT NOT NULL,
    why TEXT NOT NULL,
    policy_hash BYTEA NOT NULL CHECK (length(policy_hash) = 32),
    payload_hash BYTEA NOT NULL CHECK (length(payload_hash) = 32),
    block_number BIGINT NOT NULL,
    block_hash BYTEA NOT NULL CHECK (length(block_hash) = 32),
    findings TEXT NOT NULL,
    CONSTRAINT pk_decision PRIMARY KEY (id),
    CONSTRAINT fk_decision_intent FOREIGN KEY(intent) REFERENCES intent (id),
    CONSTRAINT fk_decision_policy FOREIGN KEY(policy_hash) REFERENCES policy (hash)
)""",
    """\
CREATE INDEX ix_decision_intent ON decision (intent, id)""",
    """\
CREATE TABLE nonce_slot (
    chain_id BIGINT NOT NULL,
    account BYTEA NOT NULL CHECK (length(account) = 20),
    nonce BIGINT NOT NULL,
    intent BYTEA NOT NULL CHECK (length(intent) = 32),
    fence BIGINT NOT NULL,
    reserved_at_s BIGINT NOT NULL,
    CONSTRAINT pk_nonce_slot PRIMARY KEY (chain_id, account, nonce),
    CONSTRAINT uq_nonce_slot_intent UNIQUE (intent),
    CONSTRAINT uq_nonce_slot_intent_chain_id_nonce UNIQUE (intent, chain_id, nonce),
    CONSTRAINT fk_nonce_slot_intent FOREIGN KEY(intent) REFERENCES intent (id)
)""",
    """\
CREATE TABLE principal (
    id BIGSERIAL NOT NULL,
    name TEXT NOT NULL,
    roles TEXT NOT NULL,
    token_hash BYTEA NOT NULL CHECK (length(token_hash) = 32),
    since_s BIGINT NOT NULL,
    until_s BIGINT,
    command BIGINT NOT NULL,
    CONSTRAINT pk_principal PRIMARY KEY (id),
    CONSTRAINT uq_principal_token_hash UNIQUE (token_hash),
    CONSTRAINT fk_principal_command FOREIGN KEY(command) REFERENCES command (id)
)""",
    """\
CREATE UNIQUE INDEX uq_principal_active ON principal (name) WHERE until_s IS NULL""",
    """\
CREATE TABLE progress (
    intent BYTEA NOT NULL CHECK (length(intent) = 32),
    state TEXT NOT NULL,
    why TEXT NOT NULL,
    changed_at_s BIGINT NOT NULL,
    next_s BIGINT,
    moves BIGINT NOT NULL,
    CONSTRAINT pk_progress PRIMARY KEY (intent),
    CONSTRAINT fk_progress_intent FOREIGN KEY(intent) REFERENCES intent (id)
)""",
    """\
CREATE INDEX ix_progress_state ON progress (state)""",
    """\
CREATE TABLE reservation (
    intent BYTEA NOT NULL CHECK (length(intent) = 32),
    protocol TEXT NOT NULL,
    action TEXT NOT NULL,
    amount NUMERIC(78, 0) NOT NULL,
    value_wei NUMERIC(78, 0) NOT NULL,
    max_fee_wei NUMERIC(78, 0) NOT NULL,
    at_s BIGINT NOT NULL,
    released_at_s BIGINT,
    why_released TEXT,
    CONSTRAINT pk_reservation PRIMARY KEY (intent),
    CHECK (amount >= 0 AND amount < 115792089237316195423570985008687907853269984665640564039457584007913129639936),
    CHECK (value_wei >= 0 AND value_wei < 115792089237316195423570985008687907853269984665640564039457584007913129639936),
    CHECK (max_fee_wei >= 0 AND max_fee_wei < 115792089237316195423570985008687907853269984665640564039457584007913129639936),
    CONSTRAINT fk_reservation_intent FOREIGN KEY(intent) REFERENCES intent (id)
)""",
    """\
CREATE TABLE transition (
    id BIGSERIAL NOT NULL,
    intent BYTEA NOT NULL CHECK (length(intent) = 32),
    number BIGINT NOT NULL,
    from_state TEXT NOT NULL,
    to_state TEXT NOT NULL,
    why TEXT NOT NULL,
    at_s BIGINT NOT NULL,
    CONSTRAINT pk_transition PRIMARY KEY (id),
    CONSTRAINT uq_transition_intent_number UNIQUE (intent, number),
    CONSTRAINT fk_transition_intent FOREIGN KEY(intent) REFERENCES intent (id)
)""",
    """\
CREATE TABLE attempt (
    intent BYTEA NOT NULL CHECK (length(intent) = 32),
    number BIGINT NOT NULL,
    kind TEXT NOT NULL,
    chain_id BIGINT NOT NULL,
    nonce BIGINT NOT NULL,
    tip NUMERIC(78, 0) NOT NULL,
    max_fee NUMERIC(78, 0) NOT NULL,
    gas BIGINT NOT NULL,
    recipient BYTEA NOT NULL CHECK (length(recipient) = 20),
    value_wei NUMERIC(78, 0) NOT NULL,
    data BYTEA NOT NULL,
    effects TEXT NOT NULL,
    fence BIGINT NOT NULL,
    at_s BIGINT NOT NULL,
    CONSTRAINT pk_attempt PRIMARY KEY (intent, number),
    CHECK (tip >= 0 AND tip < 115792089237316195423570985008687907853269984665640564039457584007913129639936),
    CHECK (max_fee >= 0 AND max_fee < 115792089237316195423570985008687907853269984665640564039457584007913129639936),
    CHECK (value_wei >= 0 AND value_wei < 115792089237316195423570985008687907853269984665640564039457584007913129639936),
    CONSTRAINT fk_attempt_nonce_slot FOREIGN KEY(intent, chain_id, nonce) REFERENCES nonce_slot (intent, chain_id, nonce)
)""",
    """\
CREATE TABLE session (
    token_hash BYTEA NOT NULL CHECK (length(token_hash) = 32),
    principal TEXT NOT NULL,
    principal_id BIGINT NOT NULL,
    created_s BIGINT NOT NULL,
    expires_s BIGINT NOT NULL,
    CONSTRAINT pk_session PRIMARY KEY (token_hash),
    CONSTRAINT fk_session_principal FOREIGN KEY(principal_id) REFERENCES principal (id)
)""",
    """\
CREATE INDEX ix_session_principal_id ON session (principal_id)""",
    """\
CREATE TABLE signed_tx (
    intent BYTEA NOT NULL CHECK (length(intent) = 32),
    number BIGINT NOT NULL,
    hash BYTEA NOT NULL CHECK (length(hash) = 32),
    raw BYTEA NOT NULL,
    fence BIGINT NOT NULL,
    signed_at_s BIGINT NOT NULL,
    CONSTRAINT pk_signed_tx PRIMARY KEY (intent, number),
    CONSTRAINT uq_signed_tx_hash UNIQUE (hash),
    CONSTRAINT uq_signed_tx_intent_number_hash UNIQUE (intent, number, hash),
    CONSTRAINT fk_signed_tx_attempt FOREIGN KEY(intent, number) REFERENCES attempt (intent, number)
)""",
    """\
CREATE TABLE broadcast (
    hash BYTEA NOT NULL CHECK (length(hash) = 32),
    sends BIGINT NOT NULL,
    first_s BIGINT NOT NULL,
    last_s BIGINT NOT NULL,
    hint TEXT NOT NULL,
    CONSTRAINT pk_broadcast PRIMARY KEY (hash),
    CONSTRAINT fk_broadcast_signed_tx FOREIGN KEY(hash) REFERENCES signed_tx (hash)
)""",
    """\
CREATE TABLE inclusion (
    id BIGSERIAL NOT NULL,
    intent BYTEA NOT NULL CHECK (length(intent) = 32),
    number BIGINT NOT NULL,
    tx_hash BYTEA NOT NULL CHECK (length(tx_hash) = 32),
    block_number BIGINT NOT NULL,
    block_hash BYTEA NOT NULL CHECK (length(block_hash) = 32),
    tx_index BIGINT NOT NULL,
    status BIGINT NOT NULL,
    gas_used BIGINT NOT NULL,
    gas_price_wei NUMERIC(78, 0) NOT NULL,
    effect_log_index BIGINT,
    seen_at_s BIGINT NOT NULL,
    orphaned_at_s BIGINT,
    final_at_s BIGINT,
    CONSTRAINT pk_inclusion PRIMARY KEY (id),
    CHECK (gas_price_wei >= 0 AND gas_price_wei < 115792089237316195423570985008687907853269984665640564039457584007913129639936),
    CHECK (status IN (0, 1)),
    CHECK (orphaned_at_s IS NULL OR final_at_s IS NULL),
    CONSTRAINT fk_inclusion_signed_tx FOREIGN KEY(intent, number, tx_hash) REFERENCES signed_tx (intent, number, hash)
)""",
    """\
CREATE INDEX ix_inclusion_intent ON inclusion (intent, id)""",
    """\
CREATE UNIQUE INDEX uq_inclusion_standing ON inclusion (intent) WHERE orphaned_at_s IS NULL""",
    """\
CREATE TRIGGER intent_no_update BEFORE UPDATE OF "position", "id", "chain_id", "account", "key", "payload_hash", "protocol", "action", "arguments", "proposer", "reason", "proposed_at_s", "expires_at_s" ON "intent" FOR EACH ROW EXECUTE FUNCTION append_only()""",
    """\
CREATE TRIGGER intent_no_delete BEFORE DELETE ON "intent" FOR EACH ROW EXECUTE FUNCTION append_only()""",
    """\
CREATE TRIGGER intent_no_truncate BEFORE TRUNCATE ON "intent" FOR EACH STATEMENT EXECUTE FUNCTION append_only()""",
    """\
CREATE TRIGGER transition_no_update BEFORE UPDATE OF "id", "intent", "number", "from_state", "to_state", "why", "at_s" ON "transition" FOR EACH ROW EXECUTE FUNCTION append_only()""",
    """\
CREATE TRIGGER transition_no_delete BEFORE DELETE ON "transition" FOR EACH ROW EXECUTE FUNCTION append_only()""",
    """\
CREATE TRIGGER transition_no_truncate BEFORE TRUNCATE ON "transition" FOR EACH STATEMENT EXECUTE FUNCTION append_only()""",
    """\
CREATE TRIGGER policy_no_update BEFORE UPDATE OF "hash", "body", "first_seen_s" ON "policy" FOR EACH ROW EXECUTE FUNCTION append_only()""",
    """\
CREATE TRIGGER policy_no_delete BEFORE DELETE ON "policy" FOR EACH ROW EXECUTE FUNCTION append_only()""",
    """\
CREATE TRIGGER policy_no_truncate BEFORE TRUNCATE ON "policy" FOR EACH STATEMENT EXECUTE FUNCTION append_only()""",
    """\
CREATE TRIGGER decision_no_update BEFORE UPDATE OF "id", "intent", "at_s", "verdict", "rule", "why", "policy_hash", "payload_hash", "block_number", "block_hash", "findings" ON "decision" FOR EACH ROW EXECUTE FUNCTION append_only()""",
    """\
CREATE TRIGGER decision_no_delete BEFORE DELETE ON "decision" FOR EACH ROW EXECUTE FUNCTION append_only()""",
    """\
CREATE TRIGGER decision_no_truncate BEFORE TRUNCATE ON "decision" FOR EACH STATEMENT EXECUTE FUNCTION append_only()""",
    """\
CREATE TRIGGER nonce_slot_no_update BEFORE UPDATE OF "chain_id", "account", "nonce", "intent", "fence", "reserved_at_s" ON "nonce_slot" FOR EACH ROW EXECUTE FUNCTION append_only()""",
    """\
CREATE TRIGGER nonce_slot_no_delete BEFORE DELETE ON "nonce_slot" FOR EACH ROW EXECUTE FUNCTION append_only()""",
    """\
CREATE TRIGGER nonce_slot_no_truncate BEFORE TRUNCATE ON "nonce_slot" FOR EACH STATEMENT EXECUTE FUNCTION append_only()""",
    """\
CREATE TRIGGER reservation_no_update BEFORE UPDATE OF "intent", "protocol", "action", "amount", "value_wei", "max_fee_wei", "at_s" ON "reservation" FOR EACH ROW EXECUTE FUNCTION append_only()""",
    """\
CREATE TRIGGER reservation_no_delete BEFORE DELETE ON "reservation" FOR EACH ROW EXECUTE FUNCTION append_only()""",
    """\
CREATE TRIGGER reservation_no_truncate BEFORE TRUNCATE ON "reservation" FOR EACH STATEMENT EXECUTE FUNCTION append_only()""",
    """\
CREATE TRIGGER attempt_no_update BEFORE UPDATE OF "intent", "number", "kind", "chain_id", "nonce", "tip", "max_fee", "gas", "recipient", "value_wei", "data", "effects", "fence", "at_s" ON "attempt" FOR EACH ROW EXECUTE FUNCTION append_only()""",
    """\
CREATE TRIGGER attempt_no_delete BEFORE DELETE ON "attempt" FOR EACH ROW EXECUTE FUNCTION append_only()""",
    """\
CREATE TRIGGER attempt_no_truncate BEFORE TRUNCATE ON "attempt" FOR EACH STATEMENT EXECUTE FUNCTION append_only()""",
    """\
CREATE TRIGGER signed_tx_no_update BEFORE UPDATE OF "intent", "number", "hash", "raw", "fence", "signed_at_s" ON "signed_tx" FOR EACH ROW EXECUTE FUNCTION append_only()""",
    """\
CREATE TRIGGER signed_tx_no_delete BEFORE DELETE ON "signed_tx" FOR EACH ROW EXECUTE FUNCTION append_only()""",
    """\
CREATE TRIGGER signed_tx_no_truncate BEFORE TRUNCATE ON "signed_tx" FOR EACH STATEMENT EXECUTE FUNCTION append_only()""",
    """\
CREATE TRIGGER inclusion_no_update BEFORE UPDATE OF "id", "intent", "number", "tx_hash", "block_number", "block_hash", "tx_index", "status", "gas_used", "gas_price_wei", "effect_log_index", "seen_at_s" ON "inclusion" FOR EACH ROW EXECUTE FUNCTION append_only()""",
    """\
CREATE TRIGGER inclusion_no_delete BEFORE DELETE ON "inclusion" FOR EACH ROW EXECUTE FUNCTION append_only()""",
    """\
CREATE TRIGGER inclusion_no_truncate BEFORE TRUNCATE ON "inclusion" FOR EACH STATEMENT EXECUTE FUNCTION append_only()""",
    """\
CREATE TRIGGER command_no_update BEFORE UPDATE OF "id", "at_s", "principal", "kind", "subject", "reason", "before", "after", "payload_hash" ON "command" FOR EACH ROW EXECUTE FUNCTION append_only()""",
    """\
CREATE TRIGGER command_no_delete BEFORE DELETE ON "command" FOR EACH ROW EXECUTE FUNCTION append_only()""",
    """\
CREATE TRIGGER command_no_truncate BEFORE TRUNCATE ON "command" FOR EACH STATEMENT EXECUTE FUNCTION append_only()""",
    """\
CREATE TRIGGER principal_no_update BEFORE UPDATE OF "id", "name", "roles", "token_hash", "since_s", "command" ON "principal" FOR EACH ROW EXECUTE FUNCTION append_only()""",
    """\
CREATE TRIGGER principal_no_delete BEFORE DELETE ON "principal" FOR EACH ROW EXECUTE FUNCTION append_only()""",
    """\
CREATE TRIGGER principal_no_truncate BEFORE TRUNCATE ON "principal" FOR EACH STATEMENT EXECUTE FUNCTION append_only()""",
    """\
CREATE TRIGGER reservation_released_at_s_once BEFORE UPDATE OF "released_at_s" ON "reservation" FOR EACH ROW WHEN (OLD."released_at_s" IS NOT NULL) EXECUTE FUNCTION append_only()""",
    """\
CREATE TRIGGER reservation_why_released_once BEFORE UPDATE OF "why_released" ON "reservation" FOR EACH ROW WHEN (OLD."why_released" IS NOT NULL) EXECUTE FUNCTION append_only()""",
    """\
CREATE TRIGGER inclusion_orphaned_at_s_once BEFORE UPDATE OF "orphaned_at_s" ON "inclusion" FOR EACH ROW WHEN (OLD."orphaned_at_s" IS NOT NULL) EXECUTE FUNCTION append_only()""",
    """\
CREATE TRIGGER inclusion_final_at_s_once BEFORE UPDATE OF "final_at_s" ON "inclusion" FOR EACH ROW WHEN (OLD."final_at_s" IS NOT NULL) EXECUTE FUNCTION append_only()""",
    """\
CREATE TRIGGER principal_until_s_once BEFORE UPDATE OF "until_s" ON "principal" FOR EACH ROW WHEN (OLD."until_s" IS NOT NULL) EXECUTE FUNCTION append_only()""",
)


def upgrade() -> None:
    connection = op.get_bind()
    for text in POSTGRESQL if connection.dialect.name == "postgresql" else SQLITE:
        connection.exec_driver_sql(text)
