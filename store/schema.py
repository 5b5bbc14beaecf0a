"""How tables of the book are spelled, and how facts are guarded. In: names and sizes. Out: columns, checks, triggers.

What a table means is said where the table is: `store.tables` (chain, statements, delivery) and `store.staking` (intents, people).
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from kit import columns

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

STRICT: dict[str, Any] = {"sqlite_strict": True}
# A table whose rows are mostly found by key is stored in key order: one tree instead of a table and an index.
KEYED: dict[str, Any] = {"sqlite_strict": True, "sqlite_with_rowid": False}


def bytes_(name: str, size: int, *, nullable: bool = False, primary_key: bool = False) -> sa.Column[bytes]:
    # The check repeats the type's own: rows can also be written by hand, and a short hash would never be found again.
    check = sa.CheckConstraint(f"length({name}) = {size}")
    return sa.Column(name, columns.Bytes(size), check, nullable=nullable, primary_key=primary_key)


def whole(name: str, *, nullable: bool = False, primary_key: bool = False) -> sa.Column[int]:
    return sa.Column(name, columns.Whole(), nullable=nullable, primary_key=primary_key, autoincrement=False)


def id_(name: str = "id") -> sa.Column[int]:
    """A number in order of insertion, where order itself is the fact."""
    return sa.Column(name, sa.Integer().with_variant(sa.BigInteger(), "postgresql"), primary_key=True)


def amount(name: str, *, nullable: bool = False) -> sa.Column[int]:
    return sa.Column(name, columns.U256(), nullable=nullable)


def amount_checks(*names: str) -> list[Any]:
    return [
        check
        for name in names
        for check in (
            sa.CheckConstraint(f"length({name}) = 32").ddl_if(dialect="sqlite"),
            sa.CheckConstraint(f"{name} >= 0 AND {name} < {columns.U256_LIMIT}").ddl_if(dialect="postgresql"),
        )
    ]


PG_REFUSE = """\
CREATE FUNCTION append_only() RETURNS trigger LANGUAGE plpgsql AS $body$
BEGIN RAISE EXCEPTION 'append-only: rows of % cannot be changed by %', TG_TABLE_NAME, TG_OP; END $body$"""


def guards(table: sa.Table, changing: tuple[str, ...], dialect: str, *, may_go: str = "") -> list[str]:
    """`may_go` is a condition on OLD: rows that meet it may be deleted (`store.retention`), no others."""
    fixed = ", ".join(f'"{column.name}"' for column in table.columns if column.name not in changing)
    if dialect == "sqlite":
        refuse = f"BEGIN SELECT RAISE(ABORT, 'append-only: rows of {table.name} cannot be changed'); END"
        return [
            f'CREATE TRIGGER {table.name}_no_update BEFORE UPDATE OF {fixed} ON "{table.name}" {refuse}',
            *deletes(table.name, dialect, may_go=may_go),
        ]
    run = "EXECUTE FUNCTION append_only()"
    return [
        f'CREATE TRIGGER {table.name}_no_update BEFORE UPDATE OF {fixed} ON "{table.name}" FOR EACH ROW {run}',
        *deletes(table.name, dialect, may_go=may_go),
        f'CREATE TRIGGER {table.name}_no_truncate BEFORE TRUNCATE ON "{table.name}" FOR EACH STATEMENT {run}',
    ]


def deletes(table: str, dialect: str, *, may_go: str = "") -> list[str]:
    """The guard against deleting rows of a table."""
    head = f'CREATE TRIGGER {table}_no_delete BEFORE DELETE ON "{table}"'
    if dialect == "sqlite":
        when = f" WHEN NOT ({may_go})" if may_go else ""
        return [f"{head}{when} BEGIN SELECT RAISE(ABORT, 'append-only: rows of {table} cannot be changed'); END"]
    if not may_go:
        return [f"{head} FOR EACH ROW EXECUTE FUNCTION append_only()"]
    text = (
        f"append-only: rows of {table} cannot be changed by DELETE"  # a trigger's WHEN may not look at other rows there
    )
    return [
        f"CREATE FUNCTION {table}_may_go() RETURNS trigger LANGUAGE plpgsql AS $body$\n"
        f"BEGIN IF {may_go} THEN RETURN OLD; END IF; RAISE EXCEPTION '{text}'; END $body$",
        f"{head} FOR EACH ROW EXECUTE FUNCTION {table}_may_go()",
    ]


def once(table: sa.Table, changing: tuple[str, ...], dialect: str) -> list[str]:
    """What is set stays set: a column that may change changes from NULL only."""
    made: list[str] = []
    for name in changing:
        head = f'CREATE TRIGGER {table.name}_{name}_once BEFORE UPDATE OF "{name}" ON "{table.name}"'
        when = f'WHEN (OLD."{name}" IS NOT NULL)'
        if dialect == "sqlite":
            made.append(f"{head} {when} BEGIN SELECT RAISE(ABORT, 'append-only: {table.name}.{name} is set'); END")
        else:
            made.append(f"{head} FOR EACH ROW {when} EXECUTE FUNCTION append_only()")
    return made
