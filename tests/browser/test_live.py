"""Pages stay fresh without taking anything from the person who uses them."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from agent.web import metrics, server
from domain import hashing
from store import intents, latches
from tests.browser import chromium, scene

OPEN = "document.querySelector('{}').open"


@pytest.fixture
async def page(agent: scene.Scene, person: chromium.Person) -> chromium.Page:
    """An operator's, on the overview."""
    await agent.chain()
    made = await person.page()
    await agent.sign_in(made, "olga")
    return made


async def _latch(agent: scene.Scene, name: str) -> None:
    async with agent.book.write() as c:
        await latches.set(c, name, reason=f"because of {name}", at_s=scene.NOW)


async def fresh(page: chromium.Page) -> None:
    """One refresh, to its end."""
    await page.evaluate("again()")


HURRY = "const wait = setTimeout; window.setTimeout = (what, ms) => { window.asked = ms; return wait(what, 20); };"


async def test_the_page_is_fresh_every_few_seconds_by_itself(agent: scene.Scene, page: chromium.Page) -> None:
    await page.call("Page.addScriptToEvaluateOnNewDocument", source=HURRY)
    await page.goto(agent.url)
    assert await page.evaluate("window.asked") == 5000
    assert "Ready" in await page.text("#verdict")
    await _latch(agent, "finality")
    await page.wait_for("document.querySelector('#verdict').innerText.startsWith('Not ready')")
    assert "because of finality" in await page.text("#todo")


async def test_what_a_person_types_stays_while_other_parts_are_made_fresh(
    agent: scene.Scene, page: chromium.Page
) -> None:
    await _latch(agent, "finality")
    await page.reload()
    await page.click("#latch-finality summary")
    await page.fill("#latch-finality input[name=reason]", "compared with")
    await _latch(agent, "submit.nonces")
    await fresh(page)
    assert "latch submit.nonces is set" in await page.text("#verdict")
    await page.type(" two nodes")
    assert await page.evaluate("document.querySelector('#latch-finality input').value") == "compared with two nodes"
    await page.click("h1")  # elsewhere: what was begun still stays
    await fresh(page)
    assert await page.evaluate("document.querySelector('#latch-finality input').value") == "compared with two nodes"
    async with page.going():
        await page.click("#latch-finality button")
    assert "because of submit.nonces" in await page.text("#todo")


async def test_what_a_person_opened_stays_open_when_its_part_is_made_fresh(
    agent: scene.Scene, page: chromium.Page
) -> None:
    await agent.day()
    await page.goto(agent.url + agent.page("final"))
    await page.click("#decision-0 summary")
    await page.click("h1")
    async with agent.book.write() as c:
        await agent.decide_again(c, agent.intents["final"])
    await fresh(page)
    assert await page.count("#decisions details") == 3
    assert await page.evaluate(OPEN.format("#decision-0"))
    assert not await page.evaluate(OPEN.format("#decision-1"))


async def test_text_that_a_person_marks_stays_marked(agent: scene.Scene, page: chromium.Page) -> None:
    await page.evaluate("getSelection().selectAllChildren(document.querySelector('#belts dd'))")
    marked = await page.evaluate("getSelection().toString()")
    agent.index.state = "waiting"
    await _latch(agent, "finality")
    await fresh(page)
    assert marked and await page.evaluate("getSelection().toString()") == marked
    assert "Not ready" in await page.text("#verdict")


async def test_an_intent_s_page_follows_it_to_its_end(agent: scene.Scene, page: chromium.Page) -> None:
    async with agent.book.write() as c:
        await agent.propose(c, "one", "claim", {"validator": scene.VALIDATORS["south"]}, at_s=scene.NOW)
    await page.goto(agent.url + agent.page("one"))
    assert await page.count("#acts button") == 1
    async with agent.book.write() as c:
        id_ = hashing.unhex(agent.intents["one"])
        await intents.move(c, id_, expect="new", to="rejected", why="no rule allows it", at_s=scene.NOW)
    await fresh(page)
    assert "Rejected" in await page.text("#verdict") and "no rule allows it" in await page.text("#history")
    assert await page.count("#acts button") == 0


async def test_a_page_says_so_when_the_agent_is_away(browser: chromium.Chromium, tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        agent = await stack.enter_async_context(scene.served(tmp_path))
        person = await stack.enter_async_context(browser.person())
        page = await person.page()
        async with server.serve(agent.live(), metrics.Metrics(version="1"), host="127.0.0.1", port=0) as port:
            await page.goto(f"http://127.0.0.1:{port}")
            assert not await page.evaluate("document.querySelector('#away').checkVisibility()")
        await fresh(page)
        assert (
            "The agent does not answer. This page shows what it said at 2025-11-22 13:20:00 UTC." in await page.text()
        )
        async with server.serve(agent.live(), metrics.Metrics(version="1"), host="127.0.0.1", port=port):
            await fresh(page)
            assert not await page.evaluate("document.querySelector('#away').checkVisibility()")


async def test_a_page_goes_to_the_sign_in_when_its_session_has_ended(
    browser: chromium.Chromium, tmp_path: Path
) -> None:
    async with scene.served(tmp_path, read="viewer") as agent, browser.person() as person:
        page = await person.page()
        await agent.sign_in(page, "vera")
        await agent.clock.advance(9 * 3600)
        async with page.going():
            await page.evaluate("void again()")
        assert await page.path() == "/login"


async def test_a_message_is_told_once(agent: scene.Scene, page: chromium.Page) -> None:
    assert await page.text(".message[role=status]") == "You are signed in."
    await page.reload()
    assert await page.count(".message[role=status]") == 0
    await page.goto(f"{agent.url}/intents?state=pending&said=approve")
    assert await page.path() == "/intents?state=pending"
