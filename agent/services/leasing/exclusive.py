"""`exclusive = true`: a person's word that nobody else signs for the account, held to it on this machine. In: an account. Out: `Held`.

The word cannot be checked across machines: there the audit of the account's nonces halts submission at the first foreign one. On one
machine it can: a file lock, named by chain and account, in a folder of the user's own that no other user can write to. It dies with its
holder, however that dies.
"""

from __future__ import annotations

import fcntl
import os
import stat
import tempfile
from pathlib import Path

from agent.services.leasing import base
from domain import errors, hashing
from kit import runtime

FOR_S = 60
"""The lock is held until the process lets go; it is looked at again after this or `ttl_s`, like a lease."""


class ExclusiveLeases:
    """The token is the last one the book has seen (at least 1): there is no authority to count another one, and one that is set up later
    counts on from it."""

    def __init__(
        self,
        *,
        chain_id: int,
        account: bytes,
        clock: runtime.Clock,
        last_token: int = 0,
        ttl_s: int = FOR_S,
        folder: Path | None = None,
    ) -> None:
        self._name = f"{chain_id}-{account.hex()}.lock"
        self._account = account
        self._clock = clock
        self._token = max(1, last_token)
        self._for_s = max(FOR_S, ttl_s)
        self._folder = folder or runtime_folder()
        self._lock: int | None = None

    async def acquire(self) -> base.Held:
        if self._lock is None:
            self._lock = self._take()
        return base.Held(self._token, base.until(self._clock.monotonic(), self._for_s))

    async def renew(self, held: base.Held) -> base.Held:
        del held
        return await self.acquire()

    async def release(self, held: base.Held) -> None:
        del held
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    async def look(self) -> str:
        return "exclusive: nobody is asked, nobody else may have the key"

    def _take(self) -> int:
        directory = open_folder(self._folder)
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            lock = os.open(self._name, flags, 0o600, dir_fd=directory)
        except OSError as error:
            raise errors.Transient(
                f"the lock of exclusive submission cannot be opened: {error.strerror}",
                value=str(self._folder / self._name),
                cure="it must be a plain file of this user's; delete what is there",
            ) from None
        finally:
            os.close(directory)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            raise base.Taken(
                f"another agent on this machine submits for {hashing.hex0x(self._account)}",
                value=str(self._folder / self._name),
                cure="exclusive = true is for one agent alone: stop the other one, or share leases through the hub or a PostgreSQL",
                for_s=FOR_S,
            ) from None
        return lock


def runtime_folder() -> Path:
    """`$XDG_RUNTIME_DIR/stakeside`, else `stakeside-<uid>` in the folder of temporary files."""
    base_folder = os.environ.get("XDG_RUNTIME_DIR", "")
    if base_folder.startswith("/") and Path(base_folder).is_dir():
        return Path(base_folder) / "stakeside"
    return Path(tempfile.gettempdir()) / f"stakeside-{os.geteuid()}"


def open_folder(folder: Path) -> int:
    """A descriptor of the folder, which is made if it is missing. Raises BadConfig unless it is a real folder of this user's that nobody
    else can enter: in a folder for everybody, others could put a link or a file of theirs in its place."""
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise errors.BadConfig(
            f"the folder of lock files cannot be used: {error.strerror}", value=str(folder), cure=_CURE
        ) from None
    found = os.fstat(directory)
    if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
        os.close(directory)
        raise errors.BadConfig("the folder of lock files is open to others", value=str(folder), cure=_CURE)
    return directory


_CURE = "remove it, or set XDG_RUNTIME_DIR to a folder of this user's with mode 0700"
