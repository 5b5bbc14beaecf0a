"""Whether a stored frame is still what the document yields. In: the book's headers. Out: the lowest frame that has to be derived anew.

A document only ever grows, but what it appends can reach frames that were derived already: a revision changes what later frames name
as their previous one, a signer epoch changes the configDigest. An agent that was late with the new document must end with the very
headers of one that started with it. Adopted frames are others' word and are not judged. No body is read here.
"""

from __future__ import annotations

from agent.services.plan import StreamPlan
from domain import deployment, hashing
from store import book, statements


class _Expected:
    """What the document says of each frame of one stream; an epoch's digest is worked out once."""

    def __init__(self, document: deployment.Document, stream: deployment.Stream) -> None:
        self._document = document
        self._stream = stream
        self._epochs: dict[int, tuple[bytes, bytes]] = {}

    def config(self, sequence: int) -> tuple[bytes, bytes]:
        """configDigest and ruleset."""
        number = self._document.epoch_at(self._stream, sequence).signer_epoch
        if number not in self._epochs:
            self._epochs[number] = (
                self._document.config_digest(self._stream, sequence),
                self._document.ruleset(self._stream, sequence),
            )
        return self._epochs[number]

    def agrees(self, frame: statements.Slim, before: bytes | None, superseded: bytes | None) -> bool:
        """`before` and `superseded` are the digests its `previous` and `supersedes` have to name; None: not in the book."""
        header = frame.header
        return (frame.config_digest, header.ruleset, header.previous, header.supersedes) == (
            *self.config(frame.sequence), before, superseded,
        )  # fmt: skip


async def stands(c: book.Connection, document: deployment.Document, plan: StreamPlan, frame: statements.Slim) -> bool:
    """Whether a frame of the revision in force is as the document and the frames it names have it now."""
    if frame.origin != "derived":
        return True
    sequence, revision = frame.sequence, frame.revision
    before: bytes | None = hashing.ZERO32
    superseded: bytes | None = hashing.ZERO32
    if sequence > 0:
        wanted = document.previous_revision(plan.stream, sequence, revision)
        before = await _digest(c, plan, sequence - 1, wanted)
    if revision > 0:
        superseded = await _digest(c, plan, sequence, revision - 1)
    return _Expected(document, plan.stream).agrees(frame, before, superseded)


async def first_fallen(
    c: book.Connection, document: deployment.Document, plan: StreamPlan, *, start: int
) -> int | None:
    """The lowest frame from `start` on that was derived here and no longer stands; None: all do.

    What follows a frame that was derived anew has nearly always fallen with it, so `start` itself is asked first."""
    revision = document.revision(plan.stream, start)
    lowest = await statements.first_from_header(c, plan.stream.id(), start)
    if lowest is None:
        return None
    if lowest.sequence == start and lowest.origin == "derived":
        frame = await statements.current_header(c, plan.stream.id(), start, revision)
        if frame is None or not await stands(c, document, plan, frame):
            return start
    return await _walk(c, document, plan, start)


async def _walk(c: book.Connection, document: deployment.Document, plan: StreamPlan, start: int) -> int | None:
    expected = _Expected(document, plan.stream)
    derived = await statements.derived_from(c, plan.stream.id(), max(0, start - 1))
    frames = {(frame.sequence, frame.revision): frame for frame in derived}

    async def digest(sequence: int, revision: int) -> bytes | None:
        found = frames.get((sequence, revision))
        return found.digest if found is not None else await _digest(c, plan, sequence, revision)

    for sequence in sorted({frame.sequence for frame in derived if frame.sequence >= start}):
        revision = document.revision(plan.stream, sequence)
        frame = frames.get((sequence, revision))
        if frame is None:
            if await _digest(c, plan, sequence, revision) is None:
                return sequence
            continue  # adopted in the revision in force
        wanted = document.previous_revision(plan.stream, sequence, revision)
        before = hashing.ZERO32 if sequence == 0 else await digest(sequence - 1, wanted)
        superseded = hashing.ZERO32 if revision == 0 else await digest(sequence, revision - 1)
        if not expected.agrees(frame, before, superseded):
            return sequence
    return None


async def _digest(c: book.Connection, plan: StreamPlan, sequence: int, revision: int) -> bytes | None:
    found = await statements.current_header(c, plan.stream.id(), sequence, revision)
    return None if found is None else found.digest
