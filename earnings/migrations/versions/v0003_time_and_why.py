"""How long a lease was granted for: what a hub counts on its own clock. Rows of before keep what is left of theirs. And why a person
released a frame."""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    connection = op.get_bind()
    whole = "BIGINT" if connection.dialect.name == "postgresql" else "INTEGER"
    connection.exec_driver_sql(f"ALTER TABLE hub_lease ADD COLUMN ttl_ms {whole} DEFAULT 0 NOT NULL")
    connection.exec_driver_sql("ALTER TABLE hub_hold ADD COLUMN released_why TEXT")
