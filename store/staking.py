"""The tables of the staking belt and of its people. In: nothing. Out: table objects in `schema.metadata`, and which are facts.

An intent is a fact, and so is everything that was reserved, frozen, signed, found on chain or said by a person; `progress` alone moves,
and every move of it is also a row of `transition`. What must never happen twice is a key: a nonce, an intent's slot, a signed
transaction's hash, an inclusion that stands.
"""

from __future__ import annotations

import sqlalchemy as sa

from kit import columns
from store.schema import KEYED, STRICT, amount, amount_checks, bytes_, id_, metadata, whole


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=False)


def _note(name: str, *, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, columns.Note, nullable=nullable)


def _of_intent(*, primary_key: bool = False) -> sa.Column[bytes]:
    return bytes_("intent", 32, primary_key=primary_key)


intent = sa.Table(
    "intent",
    metadata,
    # The order in which they were proposed: ids are hashes and say nothing about it.
    id_("position"),
    bytes_("id", 32),
    whole("chain_id"),
    bytes_("account", 20),
    _text("key"),
    bytes_("payload_hash", 32),
    _text("protocol"),
    _text("action"),
    # Canonical JSON: every value a string.
    _text("arguments"),
    _text("proposer"),
    _note("reason"),
    whole("proposed_at_s"),
    whole("expires_at_s"),
    sa.UniqueConstraint("id"),
    sa.UniqueConstraint("chain_id", "account", "key"),
    **STRICT,
)

# The one mutable row of an intent.
progress = sa.Table(
    "progress",
    metadata,
    _of_intent(primary_key=True),
    _text("state"),
    _note("why"),
    whole("changed_at_s"),
    # When to look again; NULL: at every turn.
    whole("next_s", nullable=True),
    whole("moves"),
    sa.ForeignKeyConstraint(["intent"], ["intent.id"]),
    **KEYED,
)
sa.Index("ix_progress_state_changed", progress.c.state, progress.c.changed_at_s)

transition = sa.Table(
    "transition",
    metadata,
    id_(),
    _of_intent(),
    # From 1, without a hole.
    whole("number"),
    _text("from_state"),
    _text("to_state"),
    _note("why"),
    whole("at_s"),
    sa.UniqueConstraint("intent", "number"),
    sa.ForeignKeyConstraint(["intent"], ["intent.id"]),
    **STRICT,
)

policy = sa.Table(
    "policy", metadata, bytes_("hash", 32, primary_key=True), _text("body"), whole("first_seen_s"), **KEYED
)

decision = sa.Table(
    "decision",
    metadata,
    id_(),
    _of_intent(),
    whole("at_s"),
    _text("verdict"),
    _text("rule"),
    _note("why"),
    bytes_("policy_hash", 32),
    bytes_("payload_hash", 32),
    whole("block_number"),
    bytes_("block_hash", 32),
    # Every rule with its outcome and figures.
    _text("findings"),
    sa.ForeignKeyConstraint(["intent"], ["intent.id"]),
    sa.ForeignKeyConstraint(["policy_hash"], ["policy.hash"]),
    sa.Index("ix_decision_intent", "intent", "id"),
    **STRICT,
)

# No counter exists, so nothing drifts: the next nonce is the highest slot plus one.
nonce_slot = sa.Table(
    "nonce_slot",
    metadata,
    whole("chain_id", primary_key=True),
    bytes_("account", 20, primary_key=True),
    whole("nonce", primary_key=True),
    _of_intent(),
    # The lease token it was taken under.
    whole("fence"),
    whole("reserved_at_s"),
    sa.UniqueConstraint("intent"),
    # What attempts refer to: an attempt with another nonce than its intent's cannot even be written.
    sa.UniqueConstraint("intent", "chain_id", "nonce"),
    sa.ForeignKeyConstraint(["intent"], ["intent.id"]),
    **KEYED,
)

reservation = sa.Table(
    "reservation",
    metadata,
    _of_intent(primary_key=True),
    _text("protocol"),
    _text("action"),
    # Of stake, normalised to wei.
    amount("amount"),
    amount("value_wei"),
    # Its share of the day's gas.
    amount("max_fee_wei"),
    whole("at_s"),
    whole("released_at_s", nullable=True),
    _note("why_released", nullable=True),
    *amount_checks("amount", "value_wei", "max_fee_wei"),
    sa.ForeignKeyConstraint(["intent"], ["intent.id"]),
    sa.Index("ix_reservation_at", "at_s"),
    **KEYED,
)

# Unsigned and frozen: whatever is signed later is this, or is refused.
attempt = sa.Table(
    "attempt",
    metadata,
    _of_intent(primary_key=True),
    whole("number", primary_key=True),
    _text("kind"),
    whole("chain_id"),
    whole("nonce"),
    amount("tip"),
    amount("max_fee"),
    whole("gas"),
    bytes_("recipient", 20),
    amount("value_wei"),
    sa.Column("data", sa.LargeBinary, nullable=False),
    # JSON: the events that an original must have for effect.
    _text("effects"),
    whole("fence"),
    whole("at_s"),
    *amount_checks("tip", "max_fee", "value_wei"),
    sa.ForeignKeyConstraint(
        ["intent", "chain_id", "nonce"], ["nonce_slot.intent", "nonce_slot.chain_id", "nonce_slot.nonce"]
    ),
    **KEYED,
)

signed_tx = sa.Table(
    "signed_tx",
    metadata,
    _of_intent(primary_key=True),
    whole("number", primary_key=True),
    bytes_("hash", 32),
    sa.Column("raw", sa.LargeBinary, nullable=False),
    whole("fence"),
    whole("signed_at_s"),
    sa.UniqueConstraint("hash"),
    # What inclusions refer to: none can name an attempt and another one's hash.
    sa.UniqueConstraint("intent", "number", "hash"),
    sa.Index("ix_signed_tx_fence", "fence"),
    sa.ForeignKeyConstraint(["intent", "number"], ["attempt.intent", "attempt.number"]),
    **KEYED,
)

# How often something was sent and what was answered: a hint, never a verdict.
broadcast = sa.Table(
    "broadcast",
    metadata,
    bytes_("hash", 32, primary_key=True),
    whole("sends"),
    whole("first_s"),
    whole("last_s"),
    _note("hint"),
    sa.ForeignKeyConstraint(["hash"], ["signed_tx.hash"]),
    **KEYED,
)

inclusion = sa.Table(
    "inclusion",
    metadata,
    id_(),
    _of_intent(),
    whole("number"),
    bytes_("tx_hash", 32),
    whole("block_number"),
    bytes_("block_hash", 32),
    whole("tx_index"),
    whole("status"),
    whole("gas_used"),
    amount("gas_price_wei"),
    # Where in its block the expected event is; NULL: it is not there.
    whole("effect_log_index", nullable=True),
    whole("seen_at_s"),
    whole("orphaned_at_s", nullable=True),
    whole("final_at_s", nullable=True),
    *amount_checks("gas_price_wei"),
    sa.CheckConstraint("status IN (0, 1)"),
    # What is final is never put aside, and what was put aside never becomes final: if its block returns, it is found anew.
    sa.CheckConstraint("orphaned_at_s IS NULL OR final_at_s IS NULL"),
    sa.ForeignKeyConstraint(
        ["intent", "number", "tx_hash"], ["signed_tx.intent", "signed_tx.number", "signed_tx.hash"]
    ),
    sa.Index("ix_inclusion_intent", "intent", "id"),
    sa.Index("ix_inclusion_final", "final_at_s"),
    **STRICT,
)
# All attempts of an intent share its nonce, so one of them at most stands in a block.
sa.Index(
    "uq_inclusion_standing",
    inclusion.c.intent,
    unique=True,
    sqlite_where=inclusion.c.orphaned_at_s.is_(None),
    postgresql_where=inclusion.c.orphaned_at_s.is_(None),
)

# Every change that a person made.
command = sa.Table(
    "command",
    metadata,
    id_(),
    whole("at_s"),
    _text("principal"),
    _text("kind"),
    _text("subject"),
    _note("reason"),
    # JSON: what changed, as it was and as it is. Never a token or its hash.
    _text("before"),
    _text("after"),
    bytes_("payload_hash", 32, nullable=True),
    sa.Index("ix_command_subject", "subject", "id"),
    sa.Index("ix_command_kind", "kind", "id"),
    **STRICT,
)

principal = sa.Table(
    "principal",
    metadata,
    id_(),
    _text("name"),
    # Sorted, joined by commas.
    _text("roles"),
    # Of the token's text; the token itself is shown once and kept nowhere.
    bytes_("token_hash", 32),
    whole("since_s"),
    whole("until_s", nullable=True),
    sa.Column(
        "command", sa.Integer().with_variant(sa.BigInteger(), "postgresql"), sa.ForeignKey("command.id"), nullable=False
    ),
    sa.UniqueConstraint("token_hash"),
    **STRICT,
)
sa.Index(
    "uq_principal_active",
    principal.c.name,
    unique=True,
    sqlite_where=principal.c.until_s.is_(None),
    postgresql_where=principal.c.until_s.is_(None),
)

session = sa.Table(
    "session",
    metadata,
    bytes_("token_hash", 32, primary_key=True),
    _text("principal"),
    sa.Column(
        "principal_id",
        sa.Integer().with_variant(sa.BigInteger(), "postgresql"),
        sa.ForeignKey("principal.id"),
        nullable=False,
    ),
    whole("created_s"),
    whole("expires_s"),
    sa.Index("ix_session_principal_id", "principal_id"),
    **KEYED,
)

FACTS: dict[sa.Table, tuple[str, ...]] = {
    intent: (),
    transition: (),
    policy: (),
    decision: (),
    nonce_slot: (),
    reservation: ("released_at_s", "why_released"),
    attempt: (),
    signed_tx: (),
    inclusion: ("orphaned_at_s", "final_at_s"),
    command: (),
    principal: ("until_s",),
}
"""Append-only tables, and the columns of them that may be set once."""
