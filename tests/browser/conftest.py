"""One Chromium for all tests of a process, and a served agent for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.browser import chromium, scene


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[chromium.Chromium]:
    try:
        found = chromium.Chromium(tmp_path_factory.mktemp("chromium"))
    except chromium.Missing as why:
        pytest.skip(f"THE PAGES ARE NOT TESTED IN A BROWSER: {why}")
    yield found
    found.stop()


@pytest.fixture
async def agent(tmp_path: Path) -> AsyncIterator[scene.Scene]:
    """With people, a signer, and an empty chain."""
    async with scene.served(tmp_path) as made:
        yield made


@pytest.fixture
async def person(browser: chromium.Chromium) -> AsyncIterator[chromium.Person]:
    """Somebody who is not signed in."""
    async with browser.person() as made:
        yield made
