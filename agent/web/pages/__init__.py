"""The operator pages. In: frozen values of `agent.web.items`. Out: whole HTML pages, rendered here: no other host, one small script.

Everything works without the script, which only keeps the overview fresh. Every button is a form that posts to a route of the API, so a
page can do nothing that a program could not.
"""

from __future__ import annotations

from collections.abc import Sequence

from agent.web import items, view
from agent.web.pages.assets import SCRIPT, SCRIPT_PATH, STYLE, STYLE_PATH
from agent.web.pages.intents import intent, intents, propose
from agent.web.pages.markup import SHOWN, text
from agent.web.pages.overview import overview
from agent.web.pages.people import commands, login, people, refused
from store import queries

__all__ = [
    "SCRIPT",
    "SCRIPT_PATH",
    "SHOWN",
    "STYLE",
    "STYLE_PATH",
    "commands",
    "intent",
    "intents",
    "login",
    "overview",
    "people",
    "propose",
    "refused",
    "status_page",
    "text",
]


def status_page(status: view.Status, events: Sequence[queries.EventRow], *, now_s: int) -> str:
    """The overview for a guest."""
    del events
    shown = items.Page(status=status, session=None, message=None, path="/", now_s=now_s)
    return overview(items.Overview(shown, [], [], [], None, [], []))
