"""A book with rows in every table, whatever tables there are. In: a metadata. Out: rows made from column types and references.

A table that somebody adds tomorrow is filled by itself, so copying, backups and digests are tested with it.
"""

from __future__ import annotations

import ast
import hashlib
import re
from typing import Any

import sqlalchemy as sa

from kit import columns, copying, databases, rows
from store import book as book_module
from tests.store import factory

HOSTILE = ('"quoted"\t{braces} \\N \\. end\nline', "ünïcödé 🜁 ‮", "", "back\\slash \\x00 escaped", "plain")


def fill(
    sync: sa.Connection, metadata: sa.MetaData, count: int, *, skip: tuple[str, ...] = ("meta", "hub_meta")
) -> None:
    """`count` rows in each table."""
    made: dict[str, list[dict[str, Any]]] = {}
    for table in metadata.sorted_tables:
        if table.name in skip:
            continue
        made[table.name] = [_row(table, number, made) for number in range(count)]
        for parts in _parts(table, made[table.name]):
            rows.insert(sync, table, parts)
        if sync.dialect.name == "postgresql":
            copying.continue_numbers(sync, table)


def _parts(table: sa.Table, found: list[dict[str, Any]]) -> list[list[tuple[Any, ...]]]:
    return [[tuple(row[column.name] for column in table.columns)] for row in found[:3]] + [
        [tuple(row[column.name] for column in table.columns) for row in found[3:]]
    ]


def _row(table: sa.Table, number: int, made: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    row = {column.name: _value(table, column, number) for column in table.columns}
    for constraint in table.foreign_key_constraints:
        parent = constraint.referred_table.name
        if parent == table.name:
            row |= dict.fromkeys(constraint.column_keys, number or None)
            continue
        for name, element in zip(constraint.column_keys, constraint.elements, strict=True):
            row[name] = None if row[name] is None else made[parent][number][element.column.name]
    return row


def _value(table: sa.Table, column: sa.Column[Any], number: int) -> Any:
    nullable = [c.name for c in table.columns if c.nullable]
    if column.nullable and (number + nullable.index(column.name)) % 2:  # two neighbours are never both there
        return None
    if allowed := _allowed(table, column.name):
        return allowed[number % len(allowed)]
    seed = hashlib.sha256(f"{table.name}.{column.name}.{number}".encode()).digest()
    match column.type:
        case columns.Bytes() as bytes_:
            return (seed * (1 + bytes_.size // 32))[: bytes_.size]
        case columns.U256():
            return (0, columns.U256_LIMIT - 1, int.from_bytes(seed, "big"))[number % 3]
        case columns.Note():
            return columns.clean(HOSTILE[number % len(HOSTILE)])
        case sa.LargeBinary():
            return seed[: number % 32]
        case sa.Text():
            unique = [index.columns for index in table.indexes if index.unique] + [
                c.columns for c in table.constraints if isinstance(c, sa.UniqueConstraint)
            ]
            in_key = column.primary_key or any(column.name in some for some in unique)
            return f"{number:06d} {HOSTILE[number % len(HOSTILE)]}" if in_key else HOSTILE[number % len(HOSTILE)]
        case _:
            return number + 1


def _allowed(table: sa.Table, name: str) -> list[Any]:
    """The values of a check such as `status IN (0, 1)`."""
    found = [
        match[1]
        for check in table.constraints
        if isinstance(check, sa.CheckConstraint) and (match := re.fullmatch(rf"{name} IN \((.*)\)", str(check.sqltext)))
    ]
    return [ast.literal_eval(part.strip()) for part in found[0].split(",")] if found else []


async def written(url: str, count: int = 40) -> None:
    """An agent's book at `url`, closed again."""
    opened = await factory.open_book(url)
    async with opened.write() as c:
        await c.script(lambda sync: fill(sync, book_module.tables.metadata, count))
    await opened.close()


async def query(url: str, text: str) -> list[tuple[Any, ...]]:
    engine = databases.backend(url).reader()
    try:
        async with databases.transaction(engine) as sync:
            return [tuple(row) for row in await databases.run(lambda: sync.execute(sa.text(text)).all())]
    finally:
        await databases.run(engine.dispose)
