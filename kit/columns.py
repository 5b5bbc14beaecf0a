"""SQL column types for chain values: 256-bit integers, fixed-width bytes, chain-sized integers, hostile text.

In: Python ints, bytes and text. Out: what SQLite and PostgreSQL can hold, compare and sum without losing a digit. Every type checks
its range when a value is bound and again when it is read back.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, cast

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import GenericFunction
from sqlalchemy.types import TypeDecorator

from domain import errors

U256_LIMIT = 1 << 256
_INT64_LIMIT = 1 << 63  # both databases' widest native integer is signed
_CURE = "restore the book from a backup or index anew"


def _refuse(what: str, value: object, cure: str = "") -> errors.StoreError:
    return errors.StoreError(f"{what} is out of range for its column", value=value, cure=cure)


class U256(TypeDecorator[int]):
    """An unsigned 256-bit integer: 32 big-endian bytes in SQLite, so that it sorts as a number; NUMERIC(78,0) in PostgreSQL."""

    impl = sa.LargeBinary
    cache_ok = True

    def load_dialect_impl(self, dialect: sa.Dialect) -> sa.types.TypeEngine[Any]:
        return dialect.type_descriptor(sa.NUMERIC(78, 0) if dialect.name == "postgresql" else sa.LargeBinary(32))

    def process_bind_param(self, value: int | None, dialect: sa.Dialect) -> Any:
        if value is None:
            return None
        if not 0 <= value < U256_LIMIT:
            raise _refuse("an amount", value)
        return Decimal(value) if dialect.name == "postgresql" else value.to_bytes(32, "big")

    def process_result_value(self, value: Any, dialect: sa.Dialect) -> int | None:
        if value is None:
            return None
        found = int.from_bytes(value, "big") if isinstance(value, bytes) else int(value)
        if not 0 <= found < U256_LIMIT or (isinstance(value, bytes) and len(value) != 32):
            raise _refuse("a stored amount", value, _CURE)
        return found


class Bytes(TypeDecorator[bytes]):
    """Exactly `size` bytes: a hash (32), an address (20), a signature (65). `many` allows any number of such pieces."""

    impl = sa.LargeBinary
    cache_ok = True

    def __init__(self, size: int, *, many: bool = False) -> None:
        super().__init__()
        self.size = size
        self.many = many

    def process_bind_param(self, value: bytes | None, dialect: sa.Dialect) -> bytes | None:
        if value is not None and len(value) != self.size and not (self.many and len(value) % self.size == 0):
            raise errors.StoreError(f"a value has {len(value)} bytes where {self.size} belong", value=value)
        return value

    def process_result_value(self, value: Any, dialect: sa.Dialect) -> bytes | None:
        if value is not None and len(value) != self.size and not (self.many and len(value) % self.size == 0):
            raise errors.StoreError(f"a stored value has {len(value)} bytes where {self.size} belong", cure=_CURE)
        return value


class Whole(TypeDecorator[int]):
    """A whole number from 0 to 2**63 − 1: block numbers, seconds, indices, counts."""

    impl = sa.Integer
    cache_ok = True

    def load_dialect_impl(self, dialect: sa.Dialect) -> sa.types.TypeEngine[Any]:
        return dialect.type_descriptor(sa.BigInteger() if dialect.name == "postgresql" else sa.Integer())

    def process_bind_param(self, value: int | None, dialect: sa.Dialect) -> int | None:
        if value is not None and not 0 <= value < _INT64_LIMIT:
            raise _refuse("a number", value)
        return value

    def process_result_value(self, value: Any, dialect: sa.Dialect) -> int | None:
        if value is not None and value < 0:
            raise _refuse("a stored number", value, _CURE)
        return value


class Note(TypeDecorator[str]):
    """Free text that may quote a hostile chain or peer: bounded, and without what PostgreSQL cannot hold (NUL, lone surrogates)."""

    impl = sa.Text
    cache_ok = True
    limit = 2000

    def process_bind_param(self, value: str | None, dialect: sa.Dialect) -> str | None:
        return None if value is None else clean(value)[: self.limit]

    def process_result_value(self, value: Any, dialect: sa.Dialect) -> str | None:
        return value


def clean(text: str) -> str:
    """`text` with NUL and lone surrogates written out as escapes."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")


def bind_column(type_: sa.types.TypeEngine[Any], values: Sequence[Any], dialect: sa.Dialect) -> Sequence[Any]:
    """A column of a bulk insert that bypasses SQLAlchemy's work per value: checked as a whole, and in the driver's form."""
    match type_:
        case Bytes():
            for example in {len(value): value for value in values if value is not None}.values():
                type_.process_bind_param(example, dialect)
            return values
        case Whole():
            present = [value for value in values if value is not None]
            for extreme in (min(present), max(present)) if present else ():
                type_.process_bind_param(extreme, dialect)
            return values
        case TypeDecorator():
            return [None if value is None else type_.process_bind_param(value, dialect) for value in values]
        case _:
            return values


class _Sum(TypeDecorator[int]):
    """Decimal text of any length, read as an int."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: int | None, dialect: sa.Dialect) -> str | None:
        return None if value is None else str(value)

    def process_result_value(self, value: Any, dialect: sa.Dialect) -> int | None:
        return None if value is None else int(value)


class u256_sum(GenericFunction[int]):
    """The exact sum of a U256 column as a Python int (it may pass 2**256); None over no rows."""

    inherit_cache = True
    name = "u256_sum"
    type = _Sum()


@compiles(u256_sum, "postgresql")
def _sum_postgresql(element: u256_sum, compiler: SQLCompiler, **kw: Any) -> str:
    return f"CAST(sum({compiler.process(element.clauses, **kw)}) AS TEXT)"


class _SumAggregate:
    """SQLite has no integer wider than 64 bits, so the sum is made in Python and handed over as decimal text."""

    def __init__(self) -> None:
        self.total: int | None = None

    def step(self, value: bytes | None) -> None:
        if value is not None:
            self.total = (self.total or 0) + int.from_bytes(value, "big")

    def finalize(self) -> str | None:
        return None if self.total is None else str(self.total)


def _text(value: bytes | None) -> str | None:
    return None if value is None else str(int.from_bytes(value, "big"))


def _blob(value: str | int | None) -> bytes | None:
    return None if value is None else int(value).to_bytes(32, "big")


def register(connection: sqlite3.Connection) -> None:
    """Teach a SQLite connection `u256_sum(blob)`, `u256_text(blob)` → decimal text and `u256(decimal text)` → blob."""
    connection.create_aggregate("u256_sum", 1, cast("Any", _SumAggregate))
    connection.create_function("u256_text", 1, _text, deterministic=True)
    connection.create_function("u256", 1, _blob, deterministic=True)
