"""People: what they did, who they are, signing in, and being refused."""

from __future__ import annotations

from agent.web import items
from agent.web.pages import rows
from agent.web.pages.markup import (
    ago,
    field,
    folded,
    form,
    live,
    page,
    reason,
    section,
    segment,
    shell,
    table,
    text,
    when,
    whole,
)

MEANS = {
    "viewer": "looks at everything",
    "operator": "pauses and resumes, cancels, settles, clears latches, adopts gaps",
    "proposer": "proposes intents and cancels their own",
    "approver": "approves and rejects what others proposed",
    "admin": "lets people in and ends their tokens",
}


def commands(of: items.CommandsPage) -> str:
    """`GET /commands`."""
    found = table("Commands", rows.COMMANDS, rows.commands(of.commands, of.page.assets))
    more = "" if of.next is None else f'<p><a href="/commands?before={whole(of.next)}">Older ones</a></p>'
    lead = '<p class="soft">Everything that people changed, newest first. Nothing here can be edited.</p>'
    listed = live("commands", f"{found or '<p>Nobody changed anything yet.</p>'}{more}")
    return page(of.page, title="Commands", body=f"<h1>Commands</h1>{lead}{listed}")


def people(of: items.PeoplePage) -> str:
    """`GET /people`. Nothing here is kept fresh: a token that is shown once must not go while it is copied."""
    shown = ""
    if of.token is not None:
        shown = (
            f'<div class="message good" role="status"><strong>The token of {text(of.token.principal)}</strong>'
            f'<code class="token">{text(of.token.token)}</code>'
            "Copy it now and hand it over in a safe way: it is not kept, and not shown again.</div>"
        )
    now_s = of.page.now_s
    active = [item for item in of.principals if item.until_s is None]
    former = [item for item in of.principals if item.until_s is not None]
    who = "".join(_active(item, now_s) for item in active) or '<p class="soft">Nobody can sign in.</p>'
    ended = section(
        "Former tokens",
        ("name", "roles", "since (UTC)", "until (UTC)"),
        [(text(item.name), text(", ".join(item.roles)), when(item.since_s), when(item.until_s)) for item in former],
        "",
    )
    return page(
        of.page,
        title="People",
        at="/people",
        body=f"<h1>People</h1>{shown}<h2>Who can sign in</h2>{who}{_add(of)}{ended}",
    )


def _active(item: items.Principal, now_s: int) -> str:
    target = f"/v1/principals/{segment(item.name)}"
    rotate = form(f"{target}/rotate", reason("Why a new token"), button=f"New token for {item.name}")
    revoke = form(f"{target}/revoke", reason("Why no longer"), button=f"Revoke {item.name}", kind="stop")
    since = f'<p class="soft small">Token since {when(item.since_s)} UTC, {ago(item.since_s, now_s)}. A new token or a revocation ends it at once.</p>'
    summary = f'<strong>{text(item.name)}</strong> <span class="soft">{text(", ".join(item.roles))}</span>'
    return folded(f"principal-{item.id}", summary, since, rotate, revoke, box=True)


def _add(of: items.PeoplePage) -> str:
    boxes = "".join(
        f'<label class="check"><input type="checkbox" name="roles" value="{whole(role)}"><div>{text(role)}'
        f"<span>{MEANS.get(role, '')}</span></div></label>"
        for role in of.roles
    )
    name = field(
        "Name (a-z, 0-9, dot, dash, underscore)",
        "name",
        more=' required maxlength="63" autocomplete="off" spellcheck="false"',
    )
    roles = f"<fieldset><legend>Roles</legend>{boxes}</fieldset>"
    return (
        f"<h2>Add somebody</h2>{form('/v1/principals', name, roles, reason(), button='Add', kind='act', column=True)}"
    )


def login(of: items.LoginPage) -> str:
    """`GET /login`: it shows nothing of the agent but its name."""
    said = ""
    if of.message is not None:
        said = f'<p class="message {"good" if of.message.good else "bad"}" role="status">{text(of.message.text)}</p>'
    more = ' required autocomplete="current-password" maxlength="200"'
    token = field("Token", "token", type_="password", class_="grow", more=more)
    sign_in = form("/v1/session", token, button="Sign in", kind="act", column=True)
    help_ = (
        '<p class="soft small">A token begins with <code>stk_</code>. An admin makes one on the page People, or with '
        "<code>stakeside principal add</code>.</p>"
    )
    body = (
        f'<div class="narrow"><h1>Sign in to {text(of.name)}</h1>{said}<div class="card">{sign_in}{help_}</div></div>'
    )
    return shell(title="Sign in", name=of.name, body=body, session=of.session, path="/login", guest=of.session is None)


REFUSALS = {401: "Sign in first", 403: "You may not do that", 404: "There is no such thing", 429: "Please wait"}


def refused(of: items.RefusalPage) -> str:
    """Why not, and the way back."""
    title = REFUSALS.get(of.status, "That was not done")
    body = (
        f'<div class="narrow"><h1>{title}</h1><p class="message bad" role="alert">{text(of.detail)}</p>'
        f'<p class="soft small">{of.status} {text(of.title)}</p><p><a class="button" href="{whole(of.back)}">Back</a></p></div>'
    )
    return shell(title=title, name=of.name, body=body, session=of.session, path="", at=of.back)
