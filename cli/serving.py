"""Running a process until a signal, and asking one how it is. In: coroutines and addresses. Out: exit codes and parsed JSON."""

from __future__ import annotations

import argparse
import asyncio
import gc
import http.client
import json
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import cast
from urllib.parse import urlsplit

from domain import errors

Subparsers = argparse._SubParsersAction  # pyright: ignore[reportPrivateUsage]
"""What `register` of a command module receives; argparse has no public name for it."""
Serve = Callable[[asyncio.Event], Awaitable[None]]


@contextmanager
def importing() -> Iterator[None]:
    """Import a process's modules without the collector looking through them again and again: a tenth of a second of a start. What
    was imported stays for ever, so it is never looked through later either."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def until_signal(serve: Serve) -> int:
    """Run `serve(stop)`: the first SIGINT or SIGTERM sets `stop`, the second cancels."""
    from kit import runtime

    async def body() -> None:
        async with runtime.signals() as stop:
            await serve(stop)

    asyncio.run(body())
    return 0


def ready(event: dict[str, object]) -> None:
    """One JSON line on stdout: whoever started this process waits for it."""
    sys.stdout.write(json.dumps({"event": "ready", **event}, default=str) + "\n")
    sys.stdout.flush()


def ask(url: str, *, timeout_s: float = 5.0) -> tuple[int, dict[str, object]]:
    """GET a JSON object: (status, object). Raises Transient when nobody answers, BadAnswer for anything but JSON."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 80, timeout=timeout_s)
    try:
        connection.request("GET", parts.path or "/", headers={"Accept": "application/json"})
        response = connection.getresponse()
        body = response.read(4 << 20)
        status = response.status
    except (OSError, http.client.HTTPException) as error:
        raise errors.Transient(
            f"nobody answers there: {type(error).__name__}", value=url, cure="is it running, with this settings file?"
        ) from None
    finally:
        connection.close()
    try:
        value: object = json.loads(body)
    except ValueError:
        raise errors.BadAnswer(
            "the answer is not JSON", value=body[:80], cure="is another program on this port?"
        ) from None
    if not isinstance(value, dict):
        raise errors.BadAnswer("the answer is not a JSON object", value=type(value).__name__)
    return status, cast("dict[str, object]", value)


def outline(value: object, indent: int = 0) -> list[str]:
    """JSON as indented lines for a person; control characters of hostile texts are escaped."""
    pad = "  " * indent
    if isinstance(value, dict):
        lines: list[str] = []
        for key, item in cast("dict[str, object]", value).items():
            if isinstance(item, dict | list) and item:
                lines += [f"{pad}{key}:", *outline(cast("object", item), indent + 1)]
            else:
                lines.append(f"{pad}{key}: {_scalar(cast('object', item))}")
        return lines
    if isinstance(value, list):
        lines = []
        for item in cast("list[object]", value):
            inner = outline(item, indent + 1)
            lines += [f"{pad}- {inner[0].strip()}", *inner[1:]] if inner else [f"{pad}-"]
        return lines
    return [f"{pad}{_scalar(value)}"]


def _scalar(value: object) -> str:
    if value is None or value == [] or value == {}:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value if value.isprintable() else repr(value)
    return str(value)
