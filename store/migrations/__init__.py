"""The schema's history, as Alembic runs it. Nothing here imports Alembic: only a schema that is behind needs it."""

HEAD = "0004"
"""The revision that `store.tables` describes. Revisions are numbers of four digits, in order."""
