"""The operator pages. In: frozen values of `agent.web.items`. Out: whole HTML pages, rendered here: no other host, one small script.

Everything works without the script, which keeps what is shown fresh and says so when it cannot. Every button is a form that posts to a
route of the API, so a page can do nothing that a program could not.
"""

from __future__ import annotations

from agent.web.pages.assets import SCRIPT, SCRIPT_PATH, STYLE, STYLE_PATH
from agent.web.pages.intents import intent, intents, propose
from agent.web.pages.markup import SHOWN, text
from agent.web.pages.overview import overview
from agent.web.pages.people import commands, login, people, refused

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
    "text",
]
