"""Importing libraries that change the process they are imported into. In: an import. Out: the process as it was before."""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import contextmanager


@contextmanager
def guarded() -> Generator[None, None, None]:
    """Around the import of eth-account or eth-keyfile: they import py_ecc, which raises the recursion limit to 100,000. With that limit
    a peer's deeply nested JSON ends the process by a stack overflow, where it would have been a RecursionError."""
    limit = sys.getrecursionlimit()
    try:
        yield
    finally:
        sys.setrecursionlimit(limit)
