"""What may go, and up to where it has gone: the guards of four tables let declared rows be deleted."""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"

SQLITE = (
    """\
CREATE TABLE pruned (
    name TEXT NOT NULL,
    below INTEGER NOT NULL,
    rows INTEGER NOT NULL,
    at_s INTEGER NOT NULL,
    CONSTRAINT pk_pruned PRIMARY KEY (name)
)
 WITHOUT ROWID,
 STRICT""",
    """\
DROP TRIGGER block_no_delete""",
    """\
CREATE TRIGGER block_no_delete BEFORE DELETE ON "block" WHEN NOT (OLD.orphaned_generation IS NOT NULL AND OLD.number < coalesce((SELECT pruned.below FROM pruned WHERE pruned.name = 'orphaned'), 0) AND OLD.number < coalesce((SELECT cursor.number FROM cursor WHERE cursor.name = 'finalized'), 0)) BEGIN SELECT RAISE(ABORT, 'append-only: rows of block cannot be changed'); END""",
    """\
DROP TRIGGER log_no_delete""",
    """\
CREATE TRIGGER log_no_delete BEFORE DELETE ON "log" WHEN NOT (OLD.number < coalesce((SELECT pruned.below FROM pruned WHERE pruned.name = 'orphaned'), 0) AND OLD.number < coalesce((SELECT cursor.number FROM cursor WHERE cursor.name = 'finalized'), 0) AND EXISTS (SELECT 1 FROM block WHERE block.number = OLD.number AND block.hash = OLD.block_hash AND block.orphaned_generation IS NOT NULL)) BEGIN SELECT RAISE(ABORT, 'append-only: rows of log cannot be changed'); END""",
    """\
DROP TRIGGER proven_no_delete""",
    """\
CREATE TRIGGER proven_no_delete BEFORE DELETE ON "proven" WHEN NOT (EXISTS (SELECT 1 FROM block WHERE block.hash = OLD.block_hash AND block.orphaned_generation IS NOT NULL AND block.number < coalesce((SELECT pruned.below FROM pruned WHERE pruned.name = 'orphaned'), 0) AND block.number < coalesce((SELECT cursor.number FROM cursor WHERE cursor.name = 'finalized'), 0))) BEGIN SELECT RAISE(ABORT, 'append-only: rows of proven cannot be changed'); END""",
    """\
DROP TRIGGER journal_no_delete""",
    """\
CREATE TRIGGER journal_no_delete BEFORE DELETE ON "journal" WHEN NOT (OLD.kind IN ('committed', 'finalized') AND OLD.id < coalesce((SELECT pruned.below FROM pruned WHERE pruned.name = 'journal'), 0)) BEGIN SELECT RAISE(ABORT, 'append-only: rows of journal cannot be changed'); END""",
)

POSTGRESQL = (
    """\
CREATE TABLE pruned (
    name TEXT NOT NULL,
    below BIGINT NOT NULL,
    rows BIGINT NOT NULL,
    at_s BIGINT NOT NULL,
    CONSTRAINT pk_pruned PRIMARY KEY (name)
)""",
    """\
DROP TRIGGER block_no_delete ON block""",
    """\
CREATE FUNCTION block_may_go() RETURNS trigger LANGUAGE plpgsql AS $body$
BEGIN IF OLD.orphaned_generation IS NOT NULL AND OLD.number < coalesce((SELECT pruned.below FROM pruned WHERE pruned.name = 'orphaned'), 0) AND OLD.number < coalesce((SELECT cursor.number FROM cursor WHERE cursor.name = 'finalized'), 0) THEN RETURN OLD; END IF; RAISE EXCEPTION 'append-only: rows of block cannot be changed by DELETE'; END $body$""",
    """\
CREATE TRIGGER block_no_delete BEFORE DELETE ON "block" FOR EACH ROW EXECUTE FUNCTION block_may_go()""",
    """\
DROP TRIGGER log_no_delete ON log""",
    """\
CREATE FUNCTION log_may_go() RETURNS trigger LANGUAGE plpgsql AS $body$
BEGIN IF OLD.number < coalesce((SELECT pruned.below FROM pruned WHERE pruned.name = 'orphaned'), 0) AND OLD.number < coalesce((SELECT cursor.number FROM cursor WHERE cursor.name = 'finalized'), 0) AND EXISTS (SELECT 1 FROM block WHERE block.number = OLD.number AND block.hash = OLD.block_hash AND block.orphaned_generation IS NOT NULL) THEN RETURN OLD; END IF; RAISE EXCEPTION 'append-only: rows of log cannot be changed by DELETE'; END $body$""",
    """\
CREATE TRIGGER log_no_delete BEFORE DELETE ON "log" FOR EACH ROW EXECUTE FUNCTION log_may_go()""",
    """\
DROP TRIGGER proven_no_delete ON proven""",
    """\
CREATE FUNCTION proven_may_go() RETURNS trigger LANGUAGE plpgsql AS $body$
BEGIN IF EXISTS (SELECT 1 FROM block WHERE block.hash = OLD.block_hash AND block.orphaned_generation IS NOT NULL AND block.number < coalesce((SELECT pruned.below FROM pruned WHERE pruned.name = 'orphaned'), 0) AND block.number < coalesce((SELECT cursor.number FROM cursor WHERE cursor.name = 'finalized'), 0)) THEN RETURN OLD; END IF; RAISE EXCEPTION 'append-only: rows of proven cannot be changed by DELETE'; END $body$""",
    """\
CREATE TRIGGER proven_no_delete BEFORE DELETE ON "proven" FOR EACH ROW EXECUTE FUNCTION proven_may_go()""",
    """\
DROP TRIGGER journal_no_delete ON journal""",
    """\
CREATE FUNCTION journal_may_go() RETURNS trigger LANGUAGE plpgsql AS $body$
BEGIN IF OLD.kind IN ('committed', 'finalized') AND OLD.id < coalesce((SELECT pruned.below FROM pruned WHERE pruned.name = 'journal'), 0) THEN RETURN OLD; END IF; RAISE EXCEPTION 'append-only: rows of journal cannot be changed by DELETE'; END $body$""",
    """\
CREATE TRIGGER journal_no_delete BEFORE DELETE ON "journal" FOR EACH ROW EXECUTE FUNCTION journal_may_go()""",
)


def upgrade() -> None:
    connection = op.get_bind()
    for text in POSTGRESQL if connection.dialect.name == "postgresql" else SQLITE:
        connection.exec_driver_sql(text)
