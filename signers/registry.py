"""Which signer a settings table means. In: the table. Out: a Signer. Built-ins stand in a plain dictionary."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from domain import errors
from signers import base, dev, keystore


def build(table: Mapping[str, object], *, chain_id: int) -> base.Signer:
    """`table["kind"]` chooses; the other keys are that kind's own. Raises BadConfig naming key and cure."""
    kind = table.get("kind")
    factory = FACTORIES.get(kind) if isinstance(kind, str) else None
    if factory is None:
        raise errors.BadConfig("no such signer kind", value=kind, cure=f"use one of {', '.join(sorted(FACTORIES))}")
    return factory(table, chain_id)


def files_of(table: Mapping[str, object]) -> list[Path]:
    """The files with secrets in them that a table names."""
    return [Path(value) for key in SECRETS if isinstance(value := table.get(key), str | Path)]


def _path(table: Mapping[str, object], key: str) -> Path:
    value = table.get(key)
    if not isinstance(value, str | Path) or not str(value):
        raise errors.BadConfig(f"a signer of kind {table['kind']} needs `{key}`", cure=f"add {key} = a file's path")
    return Path(value)


def _dev(table: Mapping[str, object], chain_id: int) -> base.Signer:
    return dev.load(_path(table, "key_file"), chain_id=chain_id)


def _keystore(table: Mapping[str, object], chain_id: int) -> base.Signer:
    del chain_id  # an encrypted keystore may sign on any chain
    path, fd = _path(table, "path"), table.get("password_fd")
    if fd is None:
        return keystore.load(path, password_file=_path(table, "password_file"))
    if "password_file" in table or not isinstance(fd, int) or isinstance(fd, bool):
        raise errors.BadConfig(
            "a keystore's password comes from one place", cure="give either password_file or password_fd, a number"
        )
    return keystore.load(path, password_fd=fd)


SECRETS = ("key_file", "path", "password_file")
FACTORIES: dict[str, Callable[[Mapping[str, object], int], base.Signer]] = {"dev": _dev, "keystore": _keystore}
