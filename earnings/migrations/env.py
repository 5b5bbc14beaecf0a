"""Alembic's entry. In: the open connection in `config.attributes`. Out: migrations run inside its transaction, or not at all."""

from __future__ import annotations

from alembic import context

context.configure(connection=context.config.attributes["connection"], transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
