"""Everything that people do, with the keyboard alone. Every step is a real key; where the focus is, it can be seen."""

from __future__ import annotations

import itertools

import pytest

from domain import hashing
from store import commands, intents, principals
from tests.browser import chromium, scene

SEEN = """(() => {
  const style = getComputedStyle(document.activeElement), box = document.activeElement.getBoundingClientRect();
  return style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2 && box.width > 0 && box.bottom > 0 && box.top < innerHeight;
})()"""


class Hands:
    """Somebody who uses only keys."""

    def __init__(self, agent: scene.Scene, page: chromium.Page) -> None:
        self.agent = agent
        self.page = page

    async def to(self, focused: str) -> list[str]:
        way = await self.page.tab_to(focused)
        assert await self.page.evaluate(SEEN), f"nobody can see that {focused} has the focus"
        return way

    async def write(self, label: str, text: str) -> None:
        await self.to(f"input {label}")
        await self.page.type(text)

    async def enter(self, button: str) -> None:
        await self.to(f"button {button}")
        async with self.page.going():
            await self.page.press("Enter")

    async def follow(self, link: str) -> None:
        await self.to(f"a {link}")
        async with self.page.going():
            await self.page.press("Enter")

    async def unfold(self, summary: str) -> None:
        await self.to(f"summary {summary}")
        await self.page.press("Space")

    async def said(self) -> str:
        return await self.page.text(".message:not([hidden])")

    async def sign_in(self, name: str) -> None:
        await self.page.goto(self.agent.url)
        await self.follow("Sign in")
        await self.write("Token", self.agent.tokens[name])
        async with self.page.going():
            await self.page.press("Enter")
        assert await self.said() == "You are signed in."

    async def sign_out(self) -> None:
        await self.enter("Sign out")
        assert await self.page.count(".who button") == 0


@pytest.fixture
async def hands(agent: scene.Scene, person: chromium.Person) -> Hands:
    await agent.chain()
    return Hands(agent, await person.page())


async def _state(agent: scene.Scene, id_: str) -> str:
    async with agent.book.read() as c:
        found = await intents.get(c, hashing.unhex(id_))
    assert found is not None
    return found.state


@pytest.mark.slow
async def test_an_intent_is_proposed_and_approved_by_somebody_else_without_a_mouse(
    agent: scene.Scene, hands: Hands
) -> None:
    await hands.sign_in("pavel")
    await hands.follow("Propose")
    await hands.unfold("delegate on devnet, adds stake")
    await hands.write("validator (address)", scene.VALIDATORS["north"])
    await hands.write("amount in wei, digits only", "1234500000000000000000")
    assert await hands.page.text("output") == "= 1,234.5 coins"
    await hands.write("Why", "the plan of the quarter")
    await hands.enter("Propose to delegate")
    assert await hands.said() == "The intent is proposed."
    path = await hands.page.path()
    assert "1,234.5 coins" in await hands.page.text("#asked")
    await hands.sign_out()
    async with agent.book.write() as c:  # as the decide service does
        id_ = path.removeprefix("/intents/")
        for at, to in (("new", "planned"), ("planned", "awaiting_approval")):
            await intents.move(
                c, hashing.unhex(id_), expect=at, to=to, why="above approval_above", at_s=scene.NOW  # type: ignore[arg-type]
            )  # fmt: skip
    await hands.sign_in("amir")
    await hands.follow("Review and decide")
    assert await hands.page.path() == path
    way = await hands.to("input Why it may go")
    assert "button Reject" not in way
    await hands.page.type("it is in the plan")
    await hands.enter("Approve")
    assert await hands.said() == "The intent is approved."
    async with agent.book.read() as c:
        found = await commands.list_(c, limit=1, kind="approve")
    assert (found[0].principal, found[0].reason) == ("amir", "it is in the plan")
    assert "You approved it already." in await hands.page.text("#acts")


async def test_an_intent_is_cancelled_without_a_mouse(agent: scene.Scene, hands: Hands) -> None:
    async with agent.book.write() as c:
        await agent.propose(c, "mine", "claim", {"validator": scene.VALIDATORS["south"]}, at_s=scene.NOW - 60)
    await hands.sign_in("pavel")
    await hands.follow("claim")
    await hands.write("Why it is taken back", "proposed by mistake")
    await hands.enter("Cancel")
    assert await _state(agent, agent.intents["mine"]) == "cancelled"
    assert (await hands.page.text("#verdict")).startswith("Cancelled")
    assert await hands.page.count("#acts form") == 0, "nothing is left to decide"


@pytest.mark.slow
async def test_submission_is_paused_resumed_and_a_latch_cleared_without_a_mouse(
    agent: scene.Scene, hands: Hands
) -> None:
    await agent.stop()
    await hands.sign_in("olga")
    await hands.unfold("Pause submission…")
    await hands.write("Why it must stop", "the signer is moved")
    await hands.enter("Pause submission")
    assert await hands.said() == "Submission is paused."
    assert "the signer is moved" in await hands.page.text("#todo")
    await hands.write("Why it may go on", "the signer is back")
    await hands.enter("Resume")
    assert await hands.said() == "Submission goes on."
    await hands.page.goto(hands.agent.url)
    await hands.unfold("Clear it…")
    await hands.write("Why it may be cleared", "compared with two other nodes")
    await hands.enter("Clear finality")
    assert await hands.said() == "The latch is cleared."
    async with agent.book.read() as c:
        done = [(item.kind, item.subject) for item in await commands.list_(c, limit=3)]
    assert done == [("clear-latch", "finality"), ("resume", "submit"), ("pause", "submit")]


@pytest.mark.slow
async def test_people_are_let_in_and_out_without_a_mouse_and_a_token_is_shown_once(
    agent: scene.Scene, hands: Hands
) -> None:
    page = hands.page
    await hands.sign_in("anna")
    await hands.follow("People")
    await hands.write("Name (a-z, 0-9, dot, dash, underscore)", "zoe")
    await hands.to("input approver")
    await page.press("Space")
    await hands.write("Why", "she joins")
    await hands.enter("Add")
    first = await page.text(".token")
    assert first.startswith("stk_") and len(first) == 47
    await page.reload()
    assert await page.path() == "/people"
    assert first not in await page.evaluate("document.documentElement.outerHTML")
    assert "zoe approver" in (await page.text("main")).replace("\n", " ")
    await hands.unfold("zoe approver")
    await hands.write("Why a new token", "she lost it")
    await hands.enter("New token for zoe")
    second = await page.text(".token")
    assert second not in ("", first)
    await page.reload()
    assert await page.count(".token") == 0, "reloading makes no third one"
    await hands.unfold("zoe approver")
    await hands.write("Why no longer", "she left")
    await hands.enter("Revoke zoe")
    async with agent.book.read() as c:
        assert await principals.by_name(c, "zoe") is None
        assert [item.kind for item in await commands.list_(c, limit=3)] == [
            "principal-revoke",
            "principal-rotate",
            "principal-add",
        ]


async def test_the_first_tab_leads_past_the_navigation(agent: scene.Scene, hands: Hands) -> None:
    await hands.page.goto(agent.url)
    await hands.page.press("Tab")
    assert await hands.page.focused() == "a To the content"
    assert await hands.page.evaluate(SEEN)
    await hands.page.press("Enter")
    await hands.page.press("Tab")
    assert await hands.page.evaluate("document.querySelector('main').contains(document.activeElement)")


async def test_the_focus_goes_down_the_page_in_the_order_one_reads(agent: scene.Scene, hands: Hands) -> None:
    await agent.day()
    await hands.sign_in("olga")
    await hands.page.goto(hands.agent.url)
    way: list[tuple[str, int]] = []
    for _ in range(200):
        await hands.page.press("Tab")
        at = await hands.page.focused()
        if at == "nothing" or (way and at == way[0][0] and len(way) > 1):
            break
        assert await hands.page.evaluate(SEEN), f"nobody can see that {at} has the focus"
        top = await hands.page.evaluate("document.activeElement.getBoundingClientRect().top + scrollY")
        way.append((at, round(top)))
    names = [name for name, _ in way]
    assert names[:3] == ["a To the content", "a Overview", "a Intents"]
    assert names[-1] == "a metrics"
    tops = [top for name, top in way if name != "a To the content"]
    # Cards stand side by side, so a step to the next one may go up by the height of a card.
    assert all(later > earlier - 350 for earlier, later in itertools.pairwise(tops)), way
