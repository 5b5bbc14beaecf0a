"""What a day has spent is found by its time, and the newest lease token by its size: four indexes, one of them in place of an earlier one."""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"

BOTH = (
    """\
CREATE INDEX ix_reservation_at ON reservation (at_s)""",
    """\
CREATE INDEX ix_inclusion_final ON inclusion (final_at_s)""",
    """\
CREATE INDEX ix_progress_state_changed ON progress (state, changed_at_s)""",
    """\
DROP INDEX ix_progress_state""",
    """\
CREATE INDEX ix_signed_tx_fence ON signed_tx (fence)""",
)


def upgrade() -> None:
    connection = op.get_bind()
    for text in BOTH:
        connection.exec_driver_sql(text)
