"""What the agent makes of backups. In: its book. Out: whether it came from a backup that no person has accepted yet.

A restored book is older than the world: nonces may be used that it does not know, votes signed that it would sign again. So nothing is
submitted from it (latch `submit.restored`) until an operator looked and cleared that latch, which is the acceptance (`store.latches`).
"""

from __future__ import annotations

import msgspec
import sqlalchemy as sa

from domain import hashing
from kit import backups, books
from store.connection import Connection
from store.staking import command
from store.tables import meta

LATCH = "submit.restored"
Restored = backups.Restored


async def restored(c: Connection) -> Restored | None:
    """The newest restore that nobody accepted."""
    return backups.pending(await _notes(c))


class Boundary(msgspec.Struct, frozen=True):
    """Between the rows that came from a backup and those written since. `command` is the number of the newest restore's command, which every
    clock leaves alone; restores of before have none, and are told by time: no earlier than their backup was taken."""

    command: int | None
    at_s: int

    def before(self, command: int | None, at_s: int) -> bool:
        """Whether a row of this command and time came from the backup."""
        if self.command is not None and command is not None:
            return command < self.command
        return at_s < self.at_s


async def boundary(c: Connection) -> Boundary:
    """The last one; nothing is before it when this book was never made from a backup. Accepting a restore changes nothing here."""
    found = [backups.restored_at_s(key, value) for key, value in (await _notes(c)).items()]
    number = await c.scalar(sa.select(sa.func.max(command.c.id)).where(command.c.kind == "restore"))
    return Boundary(number, max((at_s for at_s in found if at_s is not None), default=0))


async def before_restore(c: Connection, intent: bytes, *, proposed_at_s: int) -> bool:
    """Whether an intent came from the backup: what became of it since, this book may have forgotten."""
    proposals = (command.c.kind == "propose", command.c.subject == hashing.hex0x(intent))
    number = await c.scalar(sa.select(sa.func.min(command.c.id)).where(*proposals))
    # Within one second nobody can tell by the time, so it counts as before.
    return (await boundary(c)).before(number, proposed_at_s - 1)


async def accept_restored(c: Connection, *, by: str, at_s: float) -> bool:
    """False when there was nothing to accept. `by` stays in the book; all restores up to now are accepted."""
    found = False
    while (mark := await restored(c)) is not None:
        row = {"key": backups.accepted(mark.number), "value": backups.acceptance(by=by, at_s=int(at_s))}
        await c.change(meta.insert().values(row))
        found = True
    return found


async def _notes(c: Connection) -> dict[str, str]:
    query = sa.select(meta.c.key, meta.c.value).where(meta.c.key.startswith(books.RESTORED))
    return {row.key: row.value for row in await c.rows(query)}


def older_than_hub(own_last_receipt: int, hub_last_receipt: int, *, open_items: int) -> bool:
    """True when the hub signed for more than this book remembers sending. Each receipt beyond our last one must be the answer to an item
    that is still open here (the answer was lost on its way); more receipts than open items were answers to a newer book."""
    return hub_last_receipt - own_last_receipt > open_items
