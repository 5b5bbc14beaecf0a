"""Strings that others choose, in every place of every page: they are read as text, and do nothing."""

from __future__ import annotations

import json
from urllib.parse import urlsplit

import pytest

from store import latches
from tests.browser import chromium, scene

PAGES = ("/", "/intents", "/commands", "/propose", "/people", "/login")
ALIEN = """[...document.querySelectorAll("body script, body img, body b, body i, body u, iframe, object, embed, [onerror], [onclick], [style]")]
  .map((one) => one.outerHTML.slice(0, 100))"""
INVISIBLE = r"/[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200b-\u200f\u202a-\u202e\u2066-\u2069]/.test(document.documentElement.outerHTML)"


async def assert_harmless(page: chromium.Page, agent: scene.Scene) -> None:
    assert await page.evaluate(ALIEN) == [], "an element or attribute that no page has"
    assert not await page.evaluate(INVISIBLE), "a character that cannot be seen, or turns the text around"
    assert not page.trouble.dialogs and not page.trouble.policy and not page.trouble.exceptions, page.trouble
    hosts = {urlsplit(url).netloc for url in page.requests if not url.startswith(("data:", "about:"))}
    assert hosts <= {urlsplit(agent.url).netloc}, "another host was asked"


@pytest.mark.slow
@pytest.mark.parametrize("who", [None, *scene.PEOPLE])
async def test_nothing_of_the_data_runs_or_hides_on_any_page(
    agent: scene.Scene, person: chromium.Person, who: str | None
) -> None:
    await agent.hostile()
    page = await person.page()
    if who is not None:
        await agent.sign_in(page, who)
    await page.look(chromium.PHONE)
    for path in (*PAGES, agent.page("hostile"), agent.page("waits")):
        await page.goto(agent.url + path)
        await assert_harmless(page, agent)
        assert await page.evaluate("document.scrollingElement.scrollWidth") <= chromium.PHONE[0], (
            f"{path} scrolls sideways"
        )


async def test_hostile_text_is_read_as_it_was_written(agent: scene.Scene, person: chromium.Person) -> None:
    await agent.hostile()
    page = await person.page()
    await page.goto(agent.url)
    shown = await page.text("#events")
    assert "<script>alert(1)</script><img src=x onerror=alert(2)>\\u{202e}evil" in shown
    assert len(shown) < 20_000, "ten thousand characters are cut"
    await page.goto(agent.url + agent.page("hostile"))
    assert "<b>delegate</b> on devnet" in await page.text("h1")
    assert await page.evaluate("document.title.startsWith('<b>delegate</b>')")


async def test_the_refresh_puts_hostile_text_in_as_text_too(agent: scene.Scene, person: chromium.Person) -> None:
    page = await person.page()
    await page.goto(agent.url)
    assert "nobody proposed anything yet" in await page.text()
    await agent.hostile()
    await page.evaluate("again()")
    await page.wait_for("document.querySelector('#events').innerText.includes('<script>alert(1)')")
    await assert_harmless(page, agent)


async def test_a_latch_with_a_hostile_name_can_be_cleared(agent: scene.Scene, person: chromium.Person) -> None:
    await agent.hostile()
    page = await person.page()
    await agent.sign_in(page, "olga")
    card = "details[id^='latch-submit.a/']"
    await page.click(f"{card} summary")
    await page.fill(f"{card} input[name=reason]", "its name is a riddle")
    async with page.going():
        await page.click(f"{card} button")
    assert "The latch is cleared" in await page.text(".message[role=status]")
    async with agent.book.read() as c:
        assert [one.name for one in await latches.active(c)] == ["finality"]


async def test_a_refused_proposal_gives_back_every_character_that_was_typed(
    agent: scene.Scene, person: chromium.Person
) -> None:
    page = await person.page()
    await agent.sign_in(page, "pavel")
    await page.goto(f"{agent.url}/propose")
    long = "'\"><script>alert(1)</script>&amp;" * 12
    await page.click("summary", says="delegate on devnet, adds stake")
    form = "details[open] form "
    validator = "document.querySelector(\"details[open] input[name='arguments.validator']\").value"
    await page.fill(form + "input[name='arguments.validator']", "0x")
    await page.evaluate(f"{validator} = {json.dumps(long)}")
    await page.fill(form + "input[name='arguments.amount']", "5")
    await page.fill(form + "input[name=reason]", "the plan")
    async with page.going():
        await page.click(form + "button")
    assert "validator must be an address" in await page.text(".message[role=alert]:not([hidden])")
    assert await page.evaluate(validator) == long
    assert await page.evaluate("document.querySelector('details[open] input[name=reason]').value") == "the plan"
    assert await page.path() == "/propose", "reloading sends nothing again"
    await assert_harmless(page, agent)
