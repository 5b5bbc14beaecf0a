"""What a process logs, for tests that wait for a line of it."""

from __future__ import annotations

import io
import logging
from collections.abc import Generator
from contextlib import contextmanager

import structlog

from kit import logs


@contextmanager
def heard() -> Generator[io.StringIO, None, None]:
    """Everything logged meanwhile. Afterwards logging is as in a process that has not configured it."""
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    stream = io.StringIO()
    logs.configure("json", "debug", stream=stream)
    try:
        yield stream
    finally:
        structlog.reset_defaults()
        root.handlers = handlers
        root.setLevel(level)
