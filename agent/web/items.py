"""What the API answers and the pages render of the staking belt and its people: frozen values, ready to show.

Names are camelCase in JSON. Hashes, accounts and bytes are 0x-hex, amounts are decimal text in the asset's smallest unit or wei, times are
unix seconds (`…_s`). Texts that came from the chain or from people are as they were written: whoever renders them escapes them.

`agent.web.pages` has one function for each page, all of one argument, and returns HTML:

    overview(Overview)  intents(IntentsPage)  intent(IntentPage)  propose(ProposePage)  commands(CommandsPage)  people(PeoplePage)
    login(LoginPage)    refused(RefusalPage)

Forms go to the paths of the API (`POST /v1/…`), as `application/x-www-form-urlencoded` with the names of the JSON keys; an argument of an
action is `arguments.NAME`, and a role is `roles`, repeated. After a success the browser is sent on to a page with `?said=CODE`, whose text
comes in `Page.message`; a refusal is rendered at once.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from agent.web import view


class _Item(msgspec.Struct, frozen=True, rename="camel"):
    """Base of everything shown."""


class Asset(_Item, frozen=True):
    """What a protocol's amounts are of: `1.5 name` is 1.5 × 10^decimals `smallest`."""

    decimals: int
    name: str
    smallest: str


class Event(_Item, frozen=True):
    """`detail` is the event's other fields as JSON text."""

    number: int
    block_hash: str
    log_index: int
    tx_hash: str
    address: str
    time: int
    protocol: str
    kind: str | None
    validator: str | None
    delegator: str | None
    amount: str | None
    detail: str | None
    proof: str


class Intent(_Item, frozen=True):
    """`why` is the reason of the present state. `may` lists what the asking person could do now: approve, reject, cancel, settle. `approvals`
    are the principals who approved this payload."""

    id: str
    key: str
    chain_id: int
    account: str
    protocol: str
    action: str
    arguments: dict[str, str]
    payload_hash: str
    proposer: str
    reason: str
    proposed_at_s: int
    expires_at_s: int
    state: str
    final: bool
    why: str
    changed_at_s: int
    next_s: int | None
    approvals: list[str]
    may: list[str]


class Attempt(_Item, frozen=True):
    """A frozen transaction. `hash` is None until it is signed; its raw bytes are shown nowhere. `hint` is what the node said last."""

    number: int
    kind: str
    nonce: int
    tip_wei: str
    max_fee_wei: str
    gas: int
    to: str
    value_wei: str
    selector: str
    data_bytes: int
    at_s: int
    hash: str | None
    signed_at_s: int | None
    sends: int
    last_sent_s: int | None
    hint: str


class Finding(_Item, frozen=True):
    """One rule of the policy, what came of it, and its figures."""

    rule: str
    outcome: str
    detail: str


class Decision(_Item, frozen=True):
    at_s: int
    verdict: str
    rule: str
    why: str
    policy_hash: str
    payload_hash: str
    block_number: int
    block_hash: str
    findings: list[Finding]


class Transition(_Item, frozen=True):
    number: int
    from_state: str
    to_state: str
    why: str
    at_s: int


class Inclusion(_Item, frozen=True):
    """Where an attempt was mined. `fee_wei` is what it cost. Orphaned ones stay."""

    number: int
    tx_hash: str
    block_number: int
    block_hash: str
    tx_index: int
    status: int
    gas_used: int
    gas_price_wei: str
    fee_wei: str
    effect_log_index: int | None
    seen_at_s: int
    orphaned_at_s: int | None
    final_at_s: int | None


class Reservation(_Item, frozen=True):
    """What an intent holds of the budget; `released_at_s` is None while it does."""

    amount: str
    value_wei: str
    max_fee_wei: str
    at_s: int
    released_at_s: int | None
    why_released: str | None


class Change(_Item, frozen=True):
    """One line of a command's diff; None: it was not there, or is no more."""

    name: str
    before: str | None
    after: str | None


class Command(_Item, frozen=True):
    """Something a person did: who, when, why, and what changed by it."""

    id: int
    at_s: int
    principal: str
    kind: str
    subject: str
    reason: str
    changes: list[Change]
    payload_hash: str | None


class IntentDetail(_Item, frozen=True):
    """An intent with all that became of it, oldest first. `event` is the indexed log that proves its effect, once there is one."""

    intent: Intent
    nonce: int | None
    reservation: Reservation | None
    attempts: list[Attempt]
    decisions: list[Decision]
    transitions: list[Transition]
    inclusions: list[Inclusion]
    commands: list[Command]
    event: Event | None


class Latch(_Item, frozen=True):
    """A durable stop. `belt` is what it stops: `earning`, `staking` or `both`."""

    name: str
    reason: str
    set_at_s: int
    belt: str


class Gap(_Item, frozen=True):
    """A range that this node cannot serve. `adopt`: `auto`, `ask` (a person must say so), or `asked` (a person has)."""

    id: int
    protocol: str
    first: int
    last: int
    reason: str
    adopt: str


class Principal(_Item, frozen=True):
    """`until_s` is None while it can sign in."""

    id: int
    name: str
    roles: list[str]
    since_s: int
    until_s: int | None


class Session(_Item, frozen=True):
    """Who asks. `via` is `token` or `session`; `expires_s` is a session's end, told when it begins."""

    name: str
    roles: list[str]
    via: str
    expires_s: int | None


class Pause(_Item, frozen=True):
    """`until_s` is None for a pause that only a person ends."""

    principal: str
    reason: str
    at_s: int
    until_s: int | None


class Field(_Item, frozen=True):
    """An argument of an action: `type` as the ABI spells it (`address`, `uint256`, …)."""

    name: str
    type: str


class Action(_Item, frozen=True):
    """What can be proposed. `direction` says where stake goes: in, out, move, none."""

    protocol: str
    name: str
    direction: str
    arguments: list[Field]


class Policy(_Item, frozen=True):
    """The policy in force, as it is hashed."""

    hash: str
    body: msgspec.Raw


class NewToken(_Item, frozen=True):
    """Shown once, to the admin who asked for it."""

    principal: str
    token: str


# --- pages ---


class Message(_Item, frozen=True):
    text: str
    good: bool


class Page(_Item, frozen=True):
    """What every page has. `session` is None for a guest; `path` is the page's own; `assets` are by protocol."""

    status: view.Status
    session: Session | None
    message: Message | None
    path: str
    now_s: int
    assets: Mapping[str, Asset] = {}


class Overview(_Item, frozen=True):
    """`GET /`: how the agent is. `intents` are the newest, open ones first."""

    page: Page
    intents: list[Intent]
    latches: list[Latch]
    gaps: list[Gap]
    pause: Pause | None
    commands: list[Command]
    events: list[Event]


class IntentsPage(_Item, frozen=True):
    """`GET /intents?state=&before=`: `next` is the `before` of the following page."""

    page: Page
    intents: list[Intent]
    state: str | None
    next: str | None


class IntentPage(_Item, frozen=True):
    """`GET /intents/{id}`"""

    page: Page
    detail: IntentDetail


class ProposePage(_Item, frozen=True):
    """`GET /propose`: `key` is a new one, so that a form sent twice is one intent. `filled` holds what a refused form had."""

    page: Page
    actions: list[Action]
    key: str
    account: str
    filled: dict[str, str] = {}


class CommandsPage(_Item, frozen=True):
    """`GET /commands?before=`"""

    page: Page
    commands: list[Command]
    next: str | None


class PeoplePage(_Item, frozen=True):
    """`GET /people`, for admins. `token` is set once, in the answer to the form that made it."""

    page: Page
    principals: list[Principal]
    roles: list[str]
    token: NewToken | None = None


class LoginPage(_Item, frozen=True):
    """`GET /login`: for whoever may not even see the status, so it shows nothing of it."""

    name: str
    version: str
    message: Message | None
    session: Session | None = None


class RefusalPage(_Item, frozen=True):
    """The answer to a form that was refused, or to a page one may not see. `back` is a page of ours."""

    name: str
    status: int
    title: str
    detail: str
    back: str
    session: Session | None = None
