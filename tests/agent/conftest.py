from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.agent import indexing


@pytest.fixture
async def chain() -> AsyncIterator[indexing.Chain]:
    """Eight blocks behind the head is final."""
    async with indexing.running() as it:
        yield it


@pytest.fixture
async def bench(chain: indexing.Chain, tmp_path: Path) -> AsyncIterator[indexing.Bench]:
    async with indexing.bench(chain, tmp_path) as it:
        yield it
