"""Who gets a connection. In: the queues of listening sockets. Out: connections, while there are descriptors for them and for their address.

Whoever fills a server with connections keeps the process from nothing but serving more of them, and one address keeps no other one out. It is
decided as a connection is taken, before any handshake; one that is turned away is closed at once.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import resource
import socket
import sys
import time
from collections.abc import Callable
from typing import Any

from kit import logs, places

log = logs.logger()

RESERVED_FILES = 256
"""Descriptors that connections of guests never take: nodes, signers, hubs and the book need some. Half of them where there are few."""
EACH_SHARE = 4
"""One address has at most one part in so many: a proxy or a NAT has room, and no two or three strangers have it all."""
MOST_FILES = 1 << 16
"""As many as a process asks for, where it may have more."""
AT_ONCE = 16
"""Connections taken in one turn of the loop."""
NOISE_S = 10.0
"""What anybody can bring about is logged at most this often."""

_NONE_LEFT = (errno.EMFILE, errno.ENFILE)


class Seldom:
    """A line of the log for many like it."""

    def __init__(self, *, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._said_s = -math.inf
        self._unsaid = 0

    def warning(self, event: str, **fields: object) -> None:
        now_s = self._now()
        if now_s < self._said_s + NOISE_S:
            self._unsaid += 1
            return
        log.warning(event, **fields, unsaid=self._unsaid)
        self._said_s, self._unsaid = now_s, 0


def _open_files() -> int:
    """0 where the system does not tell."""
    try:
        return len(os.listdir("/dev/fd"))
    except OSError:
        return 0


class Files:
    """How many descriptors the process has open, for every server in it. Counting them takes longer the more there are, so it is done when
    what came since the last time could have filled the room, and takes a fiftieth of all time at most."""

    def __init__(self, *, now: Callable[[], float] = time.monotonic, count: Callable[[], int] = _open_files) -> None:
        self._now = now
        self._count = count
        self._open = sys.maxsize  # not counted yet
        self._again_s = -math.inf

    def take(self, room: int) -> bool:
        """Whether one more connection, which is open already, leaves the rest alone."""
        self._open += 1
        if self._open > room and (began_s := self._now()) >= self._again_s:
            self._open = self._count()
            ended_s = self._now()
            self._again_s = ended_s + 50 * (ended_s - began_s)
        if self._open <= room:
            return True
        self._open -= 1
        return False


_files = Files()


def _most_files() -> int:
    """How many descriptors this process may have, after asking for more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft == resource.RLIM_INFINITY:
        return MOST_FILES
    if soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (ValueError, OSError):
            return soft  # some systems allow less than they say
        return wanted
    return soft


class Door:
    """The room of one server. Of what other servers leave, one of `probes` may take half. Loopback has no bound of its own: a proxy on this
    machine speaks for everybody, and who is on it has a range of addresses."""

    def __init__(self, *, probes: bool) -> None:
        most = _most_files()
        reserved = min(RESERVED_FILES, most // 2)
        self._room = most - (reserved // 2 if probes else reserved)
        self._each = max(1, (reserved // 2 if probes else self._room) // EACH_SHARE)
        self._open: dict[str, int] = {}
        self._noise = Seldom()
        self._spare = _spare()

    def admit(self, taken: socket.socket, remote: str) -> Connection | None:
        """None when it was turned away."""
        source = places.address(remote)
        here = self._open.get(source, 0)
        if here >= self._each and not places.loopback(remote):
            self._turn_away(taken, source, "as many connections as one address may have")
        elif not _files.take(self._room):
            self._turn_away(taken, source, "as many connections as there are descriptors for")
        else:
            self._open[source] = here + 1
            connection = Connection(taken.family, taken.type, taken.proto, fileno=taken.detach())
            connection.left = lambda: self._leave(source)
            return connection
        return None

    def exhausted(self, queue: Callable[[], tuple[socket.socket, Any]]) -> bool:
        """No descriptor is left: what waits is turned away by means of one that was put aside, else the loop would turn for it until there is
        one. False when that does not help; raises what `queue` does, BlockingIOError when nobody waits."""
        spare, self._spare = self._spare, None
        if spare is not None:
            os.close(spare)
        try:
            taken, address = queue()
        except OSError as error:
            if error.errno in _NONE_LEFT:
                return False
            raise
        else:
            self._turn_away(taken, places.address(str(address[0])), "no descriptor is left")
            return True
        finally:
            self._spare = _spare()

    def close(self) -> None:
        if self._spare is not None:
            os.close(self._spare)
            self._spare = None

    def _turn_away(self, taken: socket.socket, source: str, why: str) -> None:
        taken.close()
        self._noise.warning("http.turned_away", address=source, why=why)

    def _leave(self, source: str) -> None:
        self._open[source] -= 1
        if not self._open[source]:
            del self._open[source]


def _spare() -> int | None:
    with contextlib.suppress(OSError):
        return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    return None


class Connection(socket.socket):
    """Tells once when it is closed."""

    left: Callable[[], None] | None = None

    def close(self) -> None:
        super().close()
        if self.left is not None:
            told, self.left = self.left, None
            told()


class Listener(socket.socket):
    """What asyncio takes connections from: it sees those that were admitted."""

    door: Door

    def accept(self) -> tuple[socket.socket, Any]:
        """Raises BlockingIOError when nobody waits, or many were turned away and the loop should turn first."""
        for _ in range(AT_ONCE):
            try:
                taken, address = super().accept()
            except OSError as error:
                if error.errno in _NONE_LEFT and self.door.exhausted(super().accept):
                    continue
                raise
            if (connection := self.door.admit(taken, str(address[0]))) is not None:
                return connection, address
        raise BlockingIOError


def listener(bound: socket.socket, door: Door) -> Listener:
    """The same socket, behind a door."""
    found = Listener(bound.family, bound.type, bound.proto, fileno=bound.detach())
    found.door = door
    return found
