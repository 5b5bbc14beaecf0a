"""Where requests are from, and how many are answered at a time. In: who asks, as far as it is known. Out: a place, or none.

Whoever can name themselves has places of their own, which no number of others can take.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Generator
from contextlib import contextmanager

import msgspec


class Bounds(msgspec.Struct, frozen=True):
    """Places at a time: in `total`, for all strangers together in `addresses`, and for `each` of their addresses. Who is known is bounded by
    the total alone: that one can be taken off."""

    total: int
    addresses: int
    each: int


class Slots:
    """Places that requests take while they are answered."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._strangers: dict[str, int] = {}
        self.running = 0

    @contextmanager
    def take(self, source: str, *, known: bool) -> Generator[bool, None, None]:
        """False when there is no place for this source."""
        if not self._free(source, known=known):
            yield False
            return
        self.running += 1
        if not known:
            self._strangers[source] = self._strangers.get(source, 0) + 1
        try:
            yield True
        finally:
            self.running -= 1
            if not known:
                self._strangers[source] -= 1
                if not self._strangers[source]:
                    del self._strangers[source]

    def _free(self, source: str, *, known: bool) -> bool:
        if self.running >= self._bounds.total:
            return False
        if known:
            return True
        return (
            sum(self._strangers.values()) < self._bounds.addresses
            and self._strangers.get(source, 0) < self._bounds.each
        )


def address(remote: str | None) -> str:
    """Where a request is from; of IPv6 the /64, which one host has whole."""
    text = (remote or "").partition("%")[0]
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return text[:64]
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is None:
        return str(ipaddress.ip_network((found, 64), strict=False))
    return str(found)


def loopback(host: str) -> bool:
    """Whether what is sent to `host` stays on this machine, however it is written; no when it is not certain. Only `localhost` itself is:
    names below it may be asked of a name server."""
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if bare.lower() in ("localhost", "localhost."):
        return True
    try:
        found = ipaddress.ip_address(socket.inet_aton(bare) if _SHORT.fullmatch(bare) else bare)
    except (ValueError, OSError):
        return False
    inner = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return (inner or found).is_loopback


_SHORT = re.compile(r"(?!.*(?:^|\.)0[0-9])[0-9a-fx.]+", re.ASCII | re.IGNORECASE)
"""An IPv4 address as the resolver reads it: `127.1`, `0x7f.1`. A part like `0177` is octal to some and decimal to others."""
