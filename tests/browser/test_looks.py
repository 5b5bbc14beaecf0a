"""How every page looks: to axe-core's rules, on a phone and on a desktop, in light and in dark. With STAKESIDE_SCREENSHOTS=folder each of
these looks is also written there, for people."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.browser import chromium, scene
from tests.wire import node

RULES = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice")
LOOKS = [(size, dark) for size in (chromium.DESKTOP, chromium.PHONE) for dark in (False, True)]
TWO = [LOOKS[0], LOOKS[3]]
"""For pages that differ from another one in their data only."""
EVERYTHING = ("viewer", "operator", "proposer", "approver", "admin")
OPEN_ALL = "document.querySelectorAll('details').forEach((one) => one.open = true)"
WIDTHS = """(() => {
  const wide = innerWidth;
  return [...document.querySelectorAll("body *")].filter((one) => !one.closest(".skip, thead") && one.getBoundingClientRect().right > wide + 1)
    .map((one) => `${one.tagName}.${one.className} ends at ${one.getBoundingClientRect().right}`).slice(0, 5);
})()"""


@functools.cache
def axe() -> str:
    """The source of axe-core, from the package that the lock file pins."""
    return (node.installed(Path(__file__).parent / "js") / "node_modules" / "axe-core" / "axe.min.js").read_text()


TORN = """(() => [...document.querySelectorAll(".figure")].filter((one) => one.getClientRects().length > 1)
  .map((one) => one.textContent).slice(0, 5))()"""
NARROWEST = (320, 640)
"""CSS pixels: what a desktop of 1280 is at 400 % (WCAG 2.2, 1.4.10 Reflow)."""


async def violations(page: chromium.Page) -> list[str]:
    asked = {"runOnly": {"type": "tag", "values": RULES}, "resultTypes": ["violations", "incomplete"], "iframes": False}
    found: dict[str, Any] = await page.evaluate(f"axe.run(document, {json.dumps(asked)})")
    assert len(found["passes"]) > 10, "axe looked at nothing"
    unsure = [item for item in found["incomplete"] if item["id"] == "color-contrast"]
    return [
        f"{item['id']}: {one['target']} {one.get('failureSummary', '')}"
        for item in (*found["violations"], *unsure)
        for one in item["nodes"]
    ]


async def check(
    page: chromium.Page, name: str, looks: Sequence[tuple[tuple[int, int], bool]] = LOOKS, *, figures: bool = True
) -> None:
    """The page that is open, in every look, with everything unfolded. `figures`: all of them fit into a line of a phone."""
    await page.evaluate(OPEN_ALL)
    await page.evaluate(axe())
    for size, dark in looks:
        await page.look(size, dark=dark)
        look = f"{name}, {size[0]} wide, {'dark' if dark else 'light'}"
        assert await page.evaluate("document.scrollingElement.scrollWidth") <= size[0], (
            f"{look}: {await page.evaluate(WIDTHS)}"
        )
        assert await page.evaluate("innerWidth") == size[0], f"{look}: the page is wider than the window"
        assert await violations(page) == [], look
        if folder := os.environ.get("STAKESIDE_SCREENSHOTS"):
            file = f"{name.replace(' ', '-')}-{size[0]}-{'dark' if dark else 'light'}.png"
            await page.screenshot(Path(folder) / file, size, dark=dark)
        if figures:
            assert await page.evaluate(TORN) == [], look
    await page.look(NARROWEST)
    assert await page.evaluate("document.scrollingElement.scrollWidth") <= NARROWEST[0], (
        f"{name}, as narrow as can be: {await page.evaluate(WIDTHS)}"
    )
    await page.look(chromium.DESKTOP)
    assert not page.trouble, page.trouble


@pytest.fixture
async def boss(agent: scene.Scene, person: chromium.Person) -> AsyncIterator[chromium.Page]:
    """Signed in with every role, so that every form is there."""
    async with agent.book.write() as c:
        await agent.add(c, "boss", EVERYTHING)
    page = await person.page()
    await agent.sign_in(page, "boss")
    yield page


@pytest.mark.slow
async def test_the_overview_is_accessible_when_all_is_well_and_when_nothing_is(
    agent: scene.Scene, boss: chromium.Page
) -> None:
    await boss.goto(agent.url)
    await check(boss, "overview of an empty book", TWO)
    await agent.chain()
    await agent.day()
    await boss.goto(agent.url)
    await check(boss, "overview ready")
    await agent.stop()
    await boss.goto(agent.url)
    await check(boss, "overview stopped")


@pytest.mark.slow
async def test_intents_are_accessible_with_everything_that_became_of_them(
    agent: scene.Scene, boss: chromium.Page
) -> None:
    await agent.chain()
    await agent.day()
    for name in ("final", "large", "stuck"):
        await boss.goto(agent.url + agent.page(name))
        await check(boss, f"intent {name}", TWO if name == "stuck" else LOOKS)
    await boss.goto(f"{agent.url}/intents")
    await check(boss, "intents")


@pytest.mark.slow
async def test_forms_and_lists_are_accessible(agent: scene.Scene, boss: chromium.Page) -> None:
    await agent.chain()
    await agent.day()
    for path in ("propose", "commands", "people"):
        await boss.goto(f"{agent.url}/{path}")
        await check(boss, path)


@pytest.mark.slow
async def test_what_a_guest_sees_is_accessible(browser: chromium.Chromium, tmp_path: Path) -> None:
    async with scene.served(tmp_path, staking=False) as agent, browser.person() as person:
        await agent.chain()
        page = await person.page()
        await page.goto(agent.url)
        await check(page, "overview observing")
        await page.goto(f"{agent.url}/login")
        await check(page, "login")
        await page.goto(f"{agent.url}/intents/0x{'12' * 32}")
        page.trouble.console.clear()  # Chromium notes the 404
        await check(page, "refusal")


async def test_an_amount_stays_in_one_piece_however_many_digits_it_has(agent: scene.Scene, boss: chromium.Page) -> None:
    await agent.chain()
    await agent.day()
    async with agent.book.write() as c:
        for name, wei in (("fine", 450_280506841362029208), ("vast", 1_234_567 * 10**18 + 890_123)):
            arguments = {"validator": scene.VALIDATORS["north"], "amount": str(wei)}
            await agent.propose(c, name, "delegate", arguments, at_s=scene.NOW)
    for path in ("/", "/intents", "/commands", agent.page("fine"), agent.page("vast"), agent.page("final")):
        await boss.goto(agent.url + path)
        await boss.evaluate(OPEN_ALL)
        for size in (chromium.DESKTOP, chromium.PHONE):
            await boss.look(size)
            assert '{"' not in await boss.text(), "JSON is for programs"
            assert await boss.count(".figure") and await boss.evaluate(TORN) == [], (path, size)


@pytest.mark.slow
async def test_hostile_strings_do_not_break_the_look(agent: scene.Scene, boss: chromium.Page) -> None:
    await agent.hostile()
    for name, path in (("overview hostile", "/"), ("intent hostile", agent.page("hostile"))):
        await boss.goto(agent.url + path)
        await check(boss, name, TWO, figures=False)
