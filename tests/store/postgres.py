"""A PostgreSQL server of the tests' own: a temporary folder, a unix socket, no network. Ended by whoever started it."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Missing(Exception):
    """Why no server can be started here."""


class Server:
    """`address(name)` is the URL of a database on it."""

    def __init__(self, *, synced: bool = False) -> None:
        """`synced`: every commit reaches the disk, for measuring; tests crash processes, never the machine."""
        self._bin = _binaries()
        self._user = _user()
        self.folder = Path(tempfile.mkdtemp(prefix="stakeside-pg-"))
        if self._user is not None:
            os.chown(self.folder, self._user.pw_uid, self._user.pw_gid)
        try:
            data = self.folder / "data"
            self._run(
                "initdb", "-D", str(data), "-U", "stakeside", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"
            )
            self._options = f"-c listen_addresses='' -c unix_socket_directories='{self.folder}' -c fsync={'on' if synced else 'off'}"
            self._start()
        except BaseException:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise

    def empty(self) -> str:
        """The address of the one database that tests share, emptied: making one for each test takes ten times as long."""
        self.sql("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
        return self.address("postgres")

    def cut(self) -> None:
        """End every connection that others have."""
        self._run(
            "psql", "-h", str(self.folder), "-U", "stakeside", "-d", "postgres", "-q",
            "-c", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'",
        )  # fmt: skip

    def sql(self, *texts: str, database: str = "postgres") -> None:
        """Each of its own transaction, as the server's owner."""
        commands = [part for text in texts for part in ("-c", text)]
        self._run(
            "psql", "-h", str(self.folder), "-U", "stakeside", "-d", database, "-v", "ON_ERROR_STOP=1", "-q", *commands
        )

    @contextmanager
    def recovering(self) -> Iterator[None]:
        """Inside, it runs and takes no connection yet, as after a crash."""
        signal = self.folder / "data" / "standby.signal"
        self._pg_ctl("-m", "fast", "stop")
        signal.touch()
        self._pg_ctl("-l", str(self.folder / "log"), "-o", f"{self._options} -c hot_standby=off", "-W", "start")
        try:
            while not self._refuses():
                time.sleep(0.02)
            yield
        finally:
            self._pg_ctl("-m", "fast", "stop")
            signal.unlink()
            self._start()

    @contextmanager
    def stopped(self) -> Iterator[None]:
        self._pg_ctl("-m", "fast", "stop")
        try:
            yield
        finally:
            self._start()

    def _refuses(self) -> bool:
        """Whether it answers that it takes no connections; a server that does not listen yet says nothing."""
        try:
            self.sql("SELECT 1")
        except Missing as error:
            return "the database system" in str(error)
        return False

    def replicate(self) -> None:
        """A replica of what there is now, which follows no further."""
        self._pg_ctl("-m", "fast", "stop")
        subprocess.run(["cp", "-a", self.folder / "data", self.folder / "replica"], check=True)
        self._start()

    def fail_over(self) -> None:
        """The server is lost, and its replica takes over."""
        self._pg_ctl("-m", "immediate", "stop")
        shutil.rmtree(self.folder / "data")
        (self.folder / "replica").rename(self.folder / "data")
        (self.folder / "data" / "standby.signal").touch()
        self._start()
        self._pg_ctl("promote")

    def create(self, name: str) -> str:
        self._run("createdb", "-h", str(self.folder), "-U", "stakeside", name)
        return self.address(name)

    def address(self, name: str) -> str:
        return f"postgresql://stakeside@/{name}?host={self.folder}"

    def stop(self) -> None:
        try:
            self._pg_ctl("-m", "immediate", "stop")
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _start(self) -> None:
        self._pg_ctl("-l", str(self.folder / "log"), "-o", self._options, "start")

    def _pg_ctl(self, *arguments: str) -> None:
        self._run("pg_ctl", "-D", str(self.folder / "data"), "-w", "-t", "30", *arguments)

    def _run(self, program: str, *arguments: str) -> None:
        who = self._user
        done = subprocess.run(
            [str(self._bin / program), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            # The server inherits these: a pipe would stay open as long as it runs.
            stderr=subprocess.DEVNULL if program == "pg_ctl" else subprocess.PIPE,
            timeout=60,
            cwd=self.folder,
            user=None if who is None else who.pw_uid,
            group=None if who is None else who.pw_gid,
            extra_groups=None if who is None else [],
            check=False,
        )
        if done.returncode:
            raise Missing(f"{program} failed: {(done.stderr or b'').decode(errors='replace')[-500:]}")


def _binaries() -> Path:
    found = shutil.which("initdb")
    if found:
        return Path(found).resolve().parent
    unpacked = Path(__file__).resolve().parents[2] / ".cache" / "peers" / "pgserver" / "pgserver" / "pginstall" / "bin"
    for path in [*sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True), unpacked]:
        if (path / "initdb").exists():
            return path
    raise Missing("no PostgreSQL server is installed (Debian: apt-get install postgresql)")


def _user() -> pwd.struct_passwd | None:
    """PostgreSQL refuses to run as root: then it runs as its own user."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam("postgres")
    except KeyError:
        raise Missing("running as root, and there is no user `postgres` to run a server as") from None
