"""Leases: who signs for an account."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"

TABLES = (
    """\
CREATE TABLE hub_lease (
    chain_id {whole} NOT NULL,
    account {blob} NOT NULL,
    holder {blob} NOT NULL,
    token {whole} NOT NULL,
    expires_ms {whole} NOT NULL,
    PRIMARY KEY (chain_id, account)
)
{strict}""",
    """\
CREATE INDEX hub_lease_end ON hub_lease (expires_ms)""",
    """\
CREATE TABLE hub_lease_seen (
    chain_id {whole} NOT NULL,
    account {blob} NOT NULL,
    holder {blob} NOT NULL,
    issued_at_s {whole} NOT NULL,
    PRIMARY KEY (chain_id, account, holder)
)
{strict}""",
    """\
CREATE INDEX hub_lease_seen_age ON hub_lease_seen (issued_at_s)""",
)
SQLITE = {"whole": "INTEGER", "blob": "BLOB", "strict": " STRICT"}
POSTGRESQL = {"whole": "BIGINT", "blob": "BYTEA", "strict": ""}


def upgrade() -> None:
    connection = op.get_bind()
    words = POSTGRESQL if connection.dialect.name == "postgresql" else SQLITE
    for text in TABLES:
        connection.exec_driver_sql(text.format(**words))
