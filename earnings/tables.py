"""The hub's tables, all of them. Natural keys, rows only appended except where a column says otherwise.

Hashes and addresses are blobs, amounts 256-bit columns, hostile texts (contexts, signed payloads) blobs too, so that neither a NUL nor
an odd encoding in them can hurt a database.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from kit import columns

metadata = sa.MetaData()
_STRICT: dict[str, Any] = {"sqlite_strict": True}

meta = sa.Table(
    "hub_meta",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("value", sa.LargeBinary, nullable=False),
    **_STRICT,
)
"""`deployment` (32 bytes), `document` (JSON of the document last accepted), `lease_clock` and `lease_token` (8 bytes each: the time
of the last grant in milliseconds, which grows with every one, and the highest token of leases). All but the first are updated."""

statement = sa.Table(
    "hub_statement",
    metadata,
    sa.Column("digest", columns.Bytes(32), primary_key=True),
    sa.Column("stream", columns.Bytes(32), nullable=False),
    sa.Column("sequence", columns.Whole, nullable=False),
    sa.Column("revision", columns.Whole, nullable=False),
    sa.Column("config_digest", columns.Bytes(32), nullable=False),
    sa.Column("chain_id", columns.Whole, nullable=False),
    sa.Column("body_root", columns.Bytes(32), nullable=False),
    sa.Column("header", sa.LargeBinary, nullable=False),
    sa.Index("hub_statement_frame", "stream", "sequence", "revision"),
    sa.Index("hub_statement_root", "body_root"),
    **_STRICT,
)
"""One header that somebody validly signed; `header` is its wire JSON."""

vote = sa.Table(
    "hub_vote",
    metadata,
    sa.Column("signer", columns.Bytes(20), primary_key=True),
    sa.Column("stream", columns.Bytes(32), primary_key=True),
    sa.Column("sequence", columns.Whole, primary_key=True),
    sa.Column("revision", columns.Whole, primary_key=True),
    sa.Column("digest", columns.Bytes(32), primary_key=True),
    sa.Column("position", columns.Whole, nullable=False),
    sa.Column("signature", columns.Bytes(65), nullable=False),
    sa.Column("context", sa.LargeBinary, nullable=False),
    sa.Column("context_signature", columns.Bytes(65), nullable=False),
    sa.Column("at_s", columns.Whole, nullable=False),
    sa.Index("hub_vote_frame", "stream", "sequence", "revision"),
    **_STRICT,
)
"""A digest in a slot, `position` counting within the slot from 0. At most `2 + ballots` of them (`quorum`)."""

ballot = sa.Table(
    "hub_ballot",
    metadata,
    sa.Column("signer", columns.Bytes(20), primary_key=True),
    sa.Column("stream", columns.Bytes(32), primary_key=True),
    sa.Column("sequence", columns.Whole, primary_key=True),
    sa.Column("revision", columns.Whole, primary_key=True),
    sa.Column("id", columns.Bytes(32), primary_key=True),
    sa.Column("position", columns.Whole, nullable=False),
    sa.Column("ballot", columns.Whole, nullable=False),
    sa.Column("withdrawn", columns.Bytes(32), nullable=False),
    sa.Column("replacement", columns.Bytes(32), nullable=False),
    sa.Column("signature", columns.Bytes(65), nullable=False),
    sa.Column("at_s", columns.Whole, nullable=False),
    sa.Index("hub_ballot_frame", "stream", "sequence", "revision"),
    **_STRICT,
)

evidence = sa.Table(
    "hub_evidence",
    metadata,
    sa.Column("signer", columns.Bytes(20), primary_key=True),
    sa.Column("stream", columns.Bytes(32), primary_key=True),
    sa.Column("sequence", columns.Whole, primary_key=True),
    sa.Column("revision", columns.Whole, primary_key=True),
    sa.Column("first", columns.Bytes(32), nullable=False),
    sa.Column("second", columns.Bytes(32), nullable=False),
    sa.Column("repeats", columns.Whole, nullable=False),
    sa.Column("open", columns.Whole, nullable=False),
    sa.Column("at_s", columns.Whole, nullable=False),
    **_STRICT,
)
"""Equivocation, one row a slot: the first two things that exclude each other (digests, or ids of Replaces; the signatures are in `vote`
and `ballot`) and how many messages came on top (updated). `open` is 1 until a Replace links them; an open row quarantines
its signer."""

receipt = sa.Table(
    "hub_receipt",
    metadata,
    sa.Column("attester", columns.Bytes(20), primary_key=True),
    sa.Column("number", columns.Whole, primary_key=True),
    sa.Column("digest", columns.Bytes(32), nullable=False),
    sa.Column("previous", columns.Bytes(32), nullable=False),
    sa.Column("id", columns.Bytes(32), nullable=False),
    sa.Column("signature", columns.Bytes(65), nullable=False),
    sa.Column("at_s", columns.Whole, nullable=False),
    sa.UniqueConstraint("attester", "digest", name="hub_receipt_once"),
    **_STRICT,
)

sealed = sa.Table(
    "hub_sealed",
    metadata,
    sa.Column("stream", columns.Bytes(32), primary_key=True),
    sa.Column("sequence", columns.Whole, primary_key=True),
    sa.Column("number", columns.Whole, nullable=False, unique=True),
    sa.Column("revision", columns.Whole, nullable=False),
    sa.Column("digest", columns.Bytes(32), nullable=False, unique=True),
    sa.Column("carry", columns.Bytes(32), nullable=False),
    sa.Column("at_s", columns.Whole, nullable=False),
    **_STRICT,
)
"""One row a frame, ever. `number` counts seals over all streams from 1: the feed's event id."""

certificate = sa.Table(
    "hub_certificate",
    metadata,
    sa.Column("digest", columns.Bytes(32), primary_key=True),
    sa.Column("signer", columns.Bytes(20), primary_key=True),
    sa.Column("signature", columns.Bytes(65), nullable=False),
    **_STRICT,
)
"""Signatures of a sealed digest: those that sealed it, and equal ones that came later."""

leaf = sa.Table(
    "hub_leaf",
    metadata,
    sa.Column("stream", columns.Bytes(32), primary_key=True),
    sa.Column("subject", columns.Bytes(32), primary_key=True),
    sa.Column("asset", columns.Bytes(20), primary_key=True),
    sa.Column("kind", columns.Whole, primary_key=True),
    sa.Column("sequence", columns.Whole, primary_key=True),
    sa.Column("reward", columns.U256, nullable=False),
    sa.Column("penalty", columns.U256, nullable=False),
    sa.Column("parts", sa.LargeBinary, nullable=False),
    **_STRICT,
)
"""A leaf from sealed frame `sequence` on, until a later row of the same (subject, asset, kind): a frame costs what changed."""

carry = sa.Table(
    "hub_carry",
    metadata,
    sa.Column("hash", columns.Bytes(32), primary_key=True),
    sa.Column("packed", sa.LargeBinary, nullable=False),
    **_STRICT,
)
"""Accounting state taken into the next frame, zlib-packed canonical JSON, stored once however many frames share it."""

chunk = sa.Table(
    "hub_chunk",
    metadata,
    sa.Column("digest", columns.Bytes(32), primary_key=True),
    sa.Column("source", sa.Text, primary_key=True),
    sa.Column("part", columns.Whole, primary_key=True),
    sa.Column("parts", columns.Whole, nullable=False),
    sa.Column("payload", sa.LargeBinary, nullable=False),
    **_STRICT,
)
"""Uploaded pieces of a body that is not verified yet, apart per uploader; deleted when the frame seals, by whatever
digest, or the body proves wrong."""

hold = sa.Table(
    "hub_hold",
    metadata,
    sa.Column("digest", columns.Bytes(32), primary_key=True),
    sa.Column("stream", columns.Bytes(32), nullable=False),
    sa.Column("sequence", columns.Whole, nullable=False),
    sa.Column("reason", columns.Note, nullable=False),
    sa.Column("at_s", columns.Whole, nullable=False),
    sa.Column("released_by", columns.Note),
    sa.Column("released_at_s", columns.Whole),
    sa.Column("released_why", columns.Note),
    **_STRICT,
)
"""A plausibility cap fired; a person releases it."""

lease = sa.Table(
    "hub_lease",
    metadata,
    sa.Column("chain_id", columns.Whole, primary_key=True),
    sa.Column("account", columns.Bytes(20), primary_key=True),
    sa.Column("holder", columns.Bytes(32), nullable=False),
    sa.Column("token", columns.Whole, nullable=False),
    sa.Column("expires_ms", columns.Whole, nullable=False),
    sa.Column("ttl_ms", columns.Whole, nullable=False, server_default=sa.text("0")),
    sa.Index("hub_lease_end", "expires_ms"),
    **_STRICT,
)
"""Who signs for an account (updated). `ttl_ms` is how long the last grant lasts, 0 in rows of older hubs. A row whose time is over is kept
until room is needed."""

lease_seen = sa.Table(
    "hub_lease_seen",
    metadata,
    sa.Column("chain_id", columns.Whole, primary_key=True),
    sa.Column("account", columns.Bytes(20), primary_key=True),
    sa.Column("holder", columns.Bytes(32), primary_key=True),
    sa.Column("issued_at_s", columns.Whole, nullable=False),
    sa.Index("hub_lease_seen_age", "issued_at_s"),
    **_STRICT,
)
"""The time of each holder's last request, kept as long as one could be replayed (updated, deleted)."""
