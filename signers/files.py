"""Secrets in files. In: a path. Out: its bytes, or an error that names the file, never the content."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO

from domain import errors
from kit import logs

MAX_BYTES = 64 << 10
log = logs.logger()


def read(path: Path, *, what: str) -> bytes:
    """Raises BadConfig for a file that cannot be read, that everybody may change, or that is larger than any secret."""
    try:
        with path.open("rb") as file:
            _guard(file, path, what=what)
            return bounded(file, what=what, path=path)
    except OSError as error:
        raise errors.BadConfig(
            f"{what} cannot be read: {error.strerror}", value=str(path), cure=_cure(error, path)
        ) from None


def bounded(file: BinaryIO, *, what: str, path: Path | None = None) -> bytes:
    data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise errors.BadConfig(f"{what} is larger than {MAX_BYTES} bytes", value=None if path is None else str(path))
    return data


def exposed(path: Path) -> bool:
    """Whether every user of this machine may read it; no when nobody can say."""
    try:
        return bool(stat.S_IMODE(path.stat().st_mode) & stat.S_IROTH)
    except OSError:
        return False


def _guard(file: BinaryIO, path: Path, *, what: str) -> None:
    """A secret that others may replace is refused; one that they may read is said aloud, since mounted secrets often are."""
    mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
    if mode & stat.S_IWOTH:
        raise errors.BadConfig(f"{what} can be changed by every user", value=str(path), cure=f"chmod 600 {path}")
    if mode & stat.S_IROTH:
        log.warning("signer.exposed", what=what, path=str(path), cure="chmod 600 it, or mount it with mode 0400")


def _cure(error: OSError, path: Path) -> str:
    if isinstance(error, FileNotFoundError):
        return "put it there, or correct the path, which starts at the folder of the settings file"
    if isinstance(error, PermissionError):
        return f"let the user that this runs as read it: uid {os.getuid()}"
    return f"name a file with the secret in it: {path.name} is none"
