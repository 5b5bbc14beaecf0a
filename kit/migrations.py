"""Schema versions. In: a synchronous SQLAlchemy connection (inside `greenlet_spawn`). Out: a schema at the wanted revision.

Alembic is imported only when a stored schema is behind: a process that starts on a current or new database never pays for it. A new
database is created from the metadata and stamped; a test proves that the migrations from empty give the same schema.
"""

from __future__ import annotations

import sqlalchemy as sa

_metadata = sa.MetaData()
# As Alembic creates it, so that both ways give one schema.
_version = sa.Table(
    "alembic_version",
    _metadata,
    sa.Column("version_num", sa.String(32), nullable=False),
    sa.PrimaryKeyConstraint("version_num", name="alembic_version_pkc"),
)


def version(connection: sa.Connection) -> str | None:
    """The stored revision, None in an empty database."""
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(sa.select(_version.c.version_num)).scalar()


def stamp(connection: sa.Connection, revision: str) -> None:
    """Write the revision of a schema that was just created whole."""
    _metadata.create_all(connection, checkfirst=False)
    connection.execute(_version.insert().values(version_num=revision))


def upgrade(connection: sa.Connection, *, location: str, to: str = "head") -> None:
    """Run the migrations of a package folder, e.g. `store:migrations`, in the connection's open transaction."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", location)
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, to)
