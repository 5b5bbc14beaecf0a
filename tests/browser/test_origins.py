"""What pages of others can do with a signed-in person's browser: nothing. The other page is served by the test, on another origin."""

from __future__ import annotations

from collections.abc import AsyncIterator
from html.parser import HTMLParser

import pytest
from aiohttp import web

from kit import http
from store import commands
from tests.browser import chromium, scene


class Stranger:
    """A page of somebody else: the same machine under the same name and another port (same site), or under another name (cross site)."""

    def __init__(self, port: int) -> None:
        self.same_site = f"http://127.0.0.1:{port}"
        self.cross_site = f"http://localhost:{port}"
        self.body = ""


@pytest.fixture
async def stranger() -> AsyncIterator[Stranger]:
    app = web.Application()

    async def answer(_request: web.Request) -> web.Response:
        return web.Response(text=f"<!doctype html><title>prize</title>{made.body}", content_type="text/html")

    app.router.add_get("/", answer)
    async with http.serving(app, host="127.0.0.1", port=0) as port:
        made = Stranger(port)
        yield made


async def _kinds(agent: scene.Scene) -> list[str]:
    async with agent.book.read() as c:
        return [item.kind for item in await commands.list_(c, limit=50) if item.principal != "console"]


@pytest.mark.parametrize("site", ["same_site", "cross_site"])
async def test_a_foreign_page_cannot_post_a_form_with_the_session(
    agent: scene.Scene, person: chromium.Person, stranger: Stranger, site: str
) -> None:
    page = await person.page()
    await agent.sign_in(page, "olga")
    stranger.body = f'<form method="post" action="{agent.url}/v1/pause"><input name="reason" value="you won"><button>Go</button></form>'
    await page.goto(getattr(stranger, site))
    async with page.going():
        await page.click("button")
    assert await page.path() == "/v1/pause" or await page.path() == "/login"
    told = await page.text()
    assert ("page of another origin" if site == "same_site" else "needs the role") in told, told
    assert await _kinds(agent) == []


async def test_a_foreign_page_cannot_send_a_change_by_script(
    agent: scene.Scene, person: chromium.Person, stranger: Stranger
) -> None:
    page = await person.page()
    await agent.sign_in(page, "olga")
    await page.goto(stranger.same_site)
    for type_ in ("application/x-www-form-urlencoded", "text/plain", "application/json"):
        body = '{"reason": "you won"}' if type_ == "application/json" else "reason=you+won"
        await page.evaluate(
            f"fetch('{agent.url}/v1/pause', {{method: 'POST', credentials: 'include', mode: '{'cors' if 'json' in type_ else 'no-cors'}', "
            f"headers: {{'Content-Type': '{type_}'}}, body: '{body}'}}).then(() => 1, () => 0)"
        )
    assert f"{agent.url}/v1/pause" in page.requests
    assert await _kinds(agent) == []


async def test_a_foreign_page_cannot_read_an_answer(
    agent: scene.Scene, person: chromium.Person, stranger: Stranger
) -> None:
    page = await person.page()
    await agent.sign_in(page, "olga")
    await page.goto(stranger.same_site)
    for path in ("/", "/status", "/v1/commands"):
        read = await page.evaluate(
            f"fetch('{agent.url}{path}', {{credentials: 'include'}}).then((a) => a.text(), () => 'refused')"
        )
        assert read == "refused"


async def test_our_own_form_works_where_the_foreign_one_does_not(agent: scene.Scene, person: chromium.Person) -> None:
    page = await person.page()
    await agent.sign_in(page, "olga")
    await page.click("#pause summary")
    await page.fill("#pause input", "the signer is moved")
    async with page.going():
        await page.click("#pause button")
    assert await _kinds(agent) == ["pause"]


@pytest.mark.parametrize("site", ["same_site", "cross_site"])
async def test_a_foreign_page_cannot_frame_ours(
    agent: scene.Scene, person: chromium.Person, stranger: Stranger, site: str
) -> None:
    page = await person.page()
    await agent.sign_in(page, "olga")
    stranger.body = f'<iframe src="{agent.url}/" width="600" height="400"></iframe>'
    await page.goto(getattr(stranger, site))
    await page.until(
        lambda: "frame-ancestors" in " ".join(page.trouble.console + page.trouble.policy), "the frame is not refused"
    )


async def test_a_foreign_page_that_opened_ours_cannot_reach_into_it_or_learn_the_token_page(
    agent: scene.Scene, person: chromium.Person, stranger: Stranger
) -> None:
    page = await person.page()
    await agent.sign_in(page, "anna")
    await page.goto(stranger.same_site)
    read = await page.evaluate(
        f"(() => {{ const other = open('{agent.url}/people'); try {{ return String(other.document.title); }} catch {{ return 'refused'; }} }})()"
    )
    assert read in ("refused", "")


async def test_the_session_is_a_cookie_that_no_script_and_no_other_site_gets(
    agent: scene.Scene, person: chromium.Person
) -> None:
    page = await person.page()
    await agent.sign_in(page, "vera")
    (cookie,) = await person.cookies()
    assert (cookie["httpOnly"], cookie["sameSite"], cookie["path"]) == (True, "Strict", "/")
    assert cookie["value"] not in agent.tokens.values()
    assert await page.evaluate("document.cookie") == ""
    assert agent.tokens["vera"] not in await page.evaluate("document.documentElement.outerHTML + location.href")


async def test_after_signing_out_the_back_button_shows_nothing_of_before(
    browser: chromium.Chromium, tmp_path_factory: pytest.TempPathFactory
) -> None:
    async with scene.served(tmp_path_factory.mktemp("agent"), read="viewer") as agent, browser.person() as person:
        await agent.chain()
        await agent.day()
        page = await person.page()
        await agent.sign_in(page, "pavel")
        await page.goto(agent.url + agent.page("large"))
        assert "64.000000000123456789" in await page.text()
        async with page.going():
            await page.click(".who button")
        assert await page.path() == "/login?said=signed-out" or await page.path() == "/login"
        assert await person.cookies() == []
        await page.back()
        assert "64.000000000123456789" not in await page.text()
        assert await page.count("input[name=token]") == 1, "the way in is all there is"


async def test_signing_out_ends_the_session_and_not_only_the_cookie(
    agent: scene.Scene, person: chromium.Person, browser: chromium.Chromium
) -> None:
    page = await person.page()
    await agent.sign_in(page, "olga")
    (cookie,) = await person.cookies()
    async with page.going():
        await page.click(".who button")
    assert await page.text(".message:not([hidden])") == "You are signed out."
    async with http.client_session() as session:
        headers = {"Cookie": f"{cookie['name']}={cookie['value']}"}
        async with session.get(f"{agent.url}/v1/whoami", headers=headers) as answer:
            assert await answer.json() == {"session": None}


class Buttons(HTMLParser):
    """What the forms of a page that change something would do."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()
        self._at: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "form":
            self._at = ["form"] if ("method", "post") in attrs and ("class", "inline") not in attrs else []
        elif tag == "button":
            self._at.append("button")

    def handle_data(self, data: str) -> None:
        if self._at == ["form", "button"]:
            self.found.add(data)

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._at = []


async def test_nobody_is_offered_what_their_roles_do_not_allow(agent: scene.Scene) -> None:
    await agent.chain()
    await agent.day()
    await agent.stop()
    offered: dict[str | None, set[str]] = {}
    async with http.client_session() as session:
        for who in (None, *scene.PEOPLE):
            headers = {} if who is None else {"Authorization": f"Bearer {agent.tokens[who]}"}
            parser = Buttons()
            for path in ("/", agent.page("large"), agent.page("pending"), "/propose", "/people"):
                async with session.get(agent.url + path, headers=headers, allow_redirects=False) as answer:
                    parser.feed(await answer.text())
            offered[who] = parser.found
    assert offered[None] == offered["vera"] == set()
    assert offered["olga"] == {"Clear finality", "Clear submit.nonces", "Pause submission", "Cancel"}
    assert offered["amir"] == {"Approve", "Reject"}
    assert offered["pavel"] == {"Cancel", *(f"Propose to {action.name}" for action in scene.ACTIONS)}
    verbs = ("New token for", "Revoke")
    assert offered["anna"] == {"Add", *(f"{verb} {name}" for name in scene.PEOPLE for verb in verbs)}
