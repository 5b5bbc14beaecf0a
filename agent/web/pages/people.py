"""People: what they did, who they are, signing in, and being refused."""

from __future__ import annotations

from agent.web import items
from agent.web.pages.markup import (
    COMMAND_COLUMNS,
    command_row,
    field,
    form,
    page,
    reason,
    section,
    shell,
    text,
    when,
)


def commands(of: items.CommandsPage) -> str:
    """`GET /commands`."""
    rows = section("Newest first", COMMAND_COLUMNS, map(command_row, of.commands), "nobody changed anything yet")
    more = "" if of.next is None else f'<p><a href="/commands?before={text(of.next)}">Older ones</a></p>'
    return page(of.page, title="Commands", body=f"<h1>Commands</h1>{rows}{more}")


def people(of: items.PeoplePage) -> str:
    """`GET /people`."""
    shown = ""
    if of.token is not None:
        shown = (
            f'<div class="message good" role="status">The token of {text(of.token.principal)}, shown this once: '
            f'<code class="token">{text(of.token.token)}</code></div>'
        )
    rows = [
        (text(item.name), text(", ".join(item.roles)), when(item.since_s), when(item.until_s) or "can sign in")
        for item in of.principals
    ]
    table = section("Principals", ("name", "roles", "since (UTC)", "until (UTC)"), rows, "there is none")
    changes = "".join(_change(item) for item in of.principals if item.until_s is None)
    return page(of.page, title="People", body=f"<h1>People</h1>{shown}{table}{_add(of)}{changes}")


def _add(of: items.PeoplePage) -> str:
    boxes = "".join(
        f'<label class="check"><input type="checkbox" name="roles" value="{text(role)}">{text(role)}</label>'
        for role in of.roles
    )
    name = field("Name", "name", more=' required maxlength="64" autocomplete="off" spellcheck="false"')
    roles = f"<fieldset><legend>Roles</legend>{boxes}</fieldset>"
    return f"<h2>Add</h2>{form('/v1/principals', name, roles, reason(), button='Add', kind='act')}"


def _change(item: items.Principal) -> str:
    target = f"/v1/principals/{item.name}"
    rotate = form(f"{target}/rotate", reason("Why a new token"), button=f"New token for {item.name}")
    revoke = form(f"{target}/revoke", reason("Why no longer"), button=f"Revoke {item.name}", kind="stop")
    return f"<details><summary>Change {text(item.name)}</summary>{rotate}{revoke}</details>"


def login(of: items.LoginPage) -> str:
    """`GET /login`: it shows nothing of the agent but its name."""
    said = (
        ""
        if of.message is None
        else f'<p class="message {"good" if of.message.good else "bad"}" role="status">{text(of.message.text)}</p>'
    )
    token = field(
        "Token",
        "token",
        type_="password",
        class_="grow",
        more=' required autocomplete="current-password" maxlength="200"',
    )
    sign_in = form("/v1/session", token, button="Sign in", kind="act")
    help_ = (
        '<p class="soft">A token begins with stk_; an admin makes one with <code>stakeside principal add</code>.</p>'
    )
    body = f"<h1>Sign in</h1>{said}{sign_in}{help_}"
    return shell(title="Sign in", name=of.name, body=body, session=of.session, path="/login", guest=of.session is None)


def refused(of: items.RefusalPage) -> str:
    """Why not, and the way back."""
    body = (
        f'<h1>{text(of.title)}</h1><p class="message bad" role="alert">{text(of.detail)}</p>'
        f'<p><a href="{text(of.back)}">Back</a></p>'
    )
    return shell(title=of.title, name=of.name, body=body, session=of.session, path="")
