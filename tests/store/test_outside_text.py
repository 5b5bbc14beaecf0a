"""What a node, a signer, a hub or a contract says is kept scrubbed, bounded and on one line, wherever it is kept."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec
import pytest

from kit import logs
from store import attempts, decisions, gaps, intents, latches, outstanding, parked, reservations
from store.book import Book
from store.connection import Connection
from tests.store import belt, factory

KEY = "5e" * 32
TOKEN = "stk_" + "A" * 43
CANARY = (
    f"refused by https://user:hunter2@node/v1/{'k' * 32}?apikey=s3cret 0x{KEY} {TOKEN}\x00\n\x1b[2J\u202e\ud800"
    + "x" * 5000
)
SECRETS = (KEY, TOKEN, "hunter2", "s3cret", "k" * 32)


async def moved(c: Connection) -> str:
    one = await belt.propose(c)
    await intents.move(c, one.id, expect="new", to="planned", why=CANARY, at_s=1)
    (step,) = await intents.history(c, one.id)
    stored = await intents.get(c, one.id)
    assert stored is not None and stored.why == step.why
    return step.why


async def waiting(c: Connection) -> str:
    one = await belt.propose(c)
    await outstanding.wait(c, one.id, why=CANARY, next_s=1)
    stored = await intents.get(c, one.id)
    assert stored is not None and not await outstanding.say(c, one.id, why=CANARY, next_s=1)  # said already
    return stored.why


async def decided(c: Connection) -> str:
    one = await belt.propose(c)
    await decisions.save_policy(c, belt.POLICY_HASH, belt.POLICY, 1)
    await decisions.save(c, msgspec.structs.replace(belt.decision(one), why=CANARY))
    return (await decisions.for_intent(c, one.id))[-1].why


async def hinted(c: Connection) -> str:
    one = await belt.bring(c, "signed")
    (signed,) = await attempts.signed_of(c, one.id)
    await attempts.sent(c, signed.hash, hint=CANARY, at_s=1)
    return (await attempts.broadcasts(c, one.id))[0].hint


async def released(c: Connection) -> str:
    one = await belt.bring(c, "superseded")
    await reservations.release(c, one.id, CANARY, 1)
    found = await reservations.of_intent(c, one.id)
    assert found is not None and found.why_released is not None
    return found.why_released


async def latched(c: Connection) -> str:
    await latches.set(c, "submit.nonces", reason=CANARY, at_s=1)
    return (await latches.active(c))[0].reason


async def lacking(c: Connection) -> str:
    await gaps.open_(c, protocol=factory.PROTOCOL, first=1, last=2, reason=CANARY)
    return (await gaps.pending(c))[0].reason


async def set_aside(c: Connection) -> str:
    await belt.bring(c, "final_ok")  # a block to be of
    await parked.add(c, stream_or_protocol="main", block_hash=factory.header(5).hash, log_index=9, reason=CANARY)
    return (await parked.open_(c))[0].reason


@pytest.mark.parametrize("write", [moved, waiting, decided, hinted, released, latched, lacking, set_aside])
async def test_outside_text_is_kept_without_secrets_on_one_bounded_line(
    book: Book, write: Callable[[Connection], Awaitable[str]]
) -> None:
    async with book.write() as c:
        kept = await write(c)
    assert kept.startswith("refused by https://") and len(kept) <= logs.LONGEST
    assert kept.isprintable() and not [secret for secret in SECRETS if secret in kept]


def test_a_kept_line_stays_what_it_is_when_it_is_kept_again() -> None:
    assert logs.line(logs.line(CANARY)) == logs.line(CANARY)


def test_a_secret_across_the_bound_is_not_cut_in_half() -> None:
    assert KEY[:32] not in logs.line("y" * (logs.LONGEST - 40) + " " + KEY)
    assert KEY[:32] not in logs.line("\n" * (logs.MOST - 40) + " " + KEY)
