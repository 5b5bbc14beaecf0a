"""Statements and bodies: exact at any frame, and a frame costs what changed in it."""

from __future__ import annotations

import msgspec
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from domain import errors
from store import leaves, queries, statements
from store.book import Book
from tests.store import factory


async def _save(book: Book, *frames: statements.Stored) -> None:
    async with book.write() as c:
        for frame in frames:
            await statements.save(c, frame, at_s=1)


async def _rows(book: Book) -> int:
    async with book.read() as c:
        return await c.scalar(sa.text("SELECT count(*) FROM leaf"))


def _grown(previous: statements.Stored, *who: int, salt: str = "", revision: int = 0) -> statements.Stored:
    """The next frame, with one more wei for each of `who`."""
    values = {leaf.subject: leaf for leaf in previous.body.leaves}
    for number in who:
        fresh = factory.leaf(number, 1)
        old = values.get(fresh.subject)
        values[fresh.subject] = fresh if old is None else msgspec.structs.replace(old, reward=old.reward + 1)
    return factory.frame(
        previous.sequence + 1, list(values.values()), previous=previous, salt=salt, revision=revision,
        carry=f'{{"n":"{previous.sequence + 1}{salt}"}}'.encode(),
    )  # fmt: skip


async def test_every_frame_reads_back_exactly(book: Book) -> None:
    frames = [factory.frame(0, [])]
    for number in range(1, 8):
        frames.append(_grown(frames[-1], number, number // 2))
    await _save(book, *frames)
    async with book.read() as c:
        for frame in frames:
            assert await statements.by_digest(c, frame.digest) == frame
            assert await statements.current(c, factory.STREAM, frame.sequence, 0) == frame
            assert await statements.body(c, frame.header.body_root, frame.header.carry) == frame.body
        assert await statements.latest(c, factory.STREAM) == frames[-1]
        assert await statements.first_from(c, factory.STREAM, 3) == frames[3]
        assert await statements.by_body_root(c, frames[4].header.body_root) == [frames[4]]


async def test_headers_read_without_bodies_are_those_of_the_whole_frames(
    book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = [factory.frame(0, [factory.leaf(1, 1)])]
    for number in range(1, 5):
        frames.append(_grown(frames[-1], number))
    frames[1] = msgspec.structs.replace(frames[1], origin="adopted")
    revised = _grown(frames[2], 3, 4, salt="revised", revision=1)
    await _save(book, *frames, revised)

    async def never(*_: object) -> object:
        raise AssertionError("a body was read for a header")

    monkeypatch.setattr(leaves, "read", never)
    monkeypatch.setattr(statements, "_carry", never)

    def slim(of: statements.Stored) -> statements.Slim:
        return statements.Slim(*(getattr(of, name) for name in statements.Slim.__struct_fields__))

    async with book.read() as c:
        assert await statements.latest_header(c, factory.STREAM) == slim(frames[4])
        assert await statements.latest_header(c, bytes(32)) is None
        assert await statements.current_header(c, factory.STREAM, 3, 1) == slim(revised)
        assert await statements.current_header(c, factory.STREAM, 9, 0) is None
        assert await statements.first_from_header(c, factory.STREAM, 3) == slim(revised)
        assert await statements.first_from_header(c, factory.STREAM, 5) is None
        derived = await statements.derived_from(c, factory.STREAM, 1)
        assert derived == [slim(frames[2]), slim(frames[3]), slim(revised), slim(frames[4])]
        assert await statements.headers_by_body_root(c, frames[2].header.body_root) == [slim(frames[2])]
        assert await statements.changed(c, frames[2].digest) == frames[2].changed
        assert await statements.changed(c, bytes(32)) == ()


async def test_a_frame_costs_what_changed(book: Book) -> None:
    first = factory.frame(0, [factory.leaf(n, 10) for n in range(500)])
    await _save(book, first)
    before = await _rows(book)
    second = _grown(first, 1, 2, 3)
    await _save(book, second)
    assert await _rows(book) - before == 3
    async with book.read() as c:
        assert len((await statements.by_digest(c, second.digest)).changed) == 3  # type: ignore[union-attr]


async def test_frames_without_events_share_their_carry(book: Book) -> None:
    first = factory.frame(0, [factory.leaf(1, 10)])
    second = factory.frame(1, first.body.leaves, previous=first)
    await _save(book, first, second)
    async with book.read() as c:
        assert await c.scalar(sa.text("SELECT count(*) FROM carry")) == 1
        assert await statements.by_body_root(c, first.header.body_root) == [first, second]


async def test_a_superseded_branch_leaks_no_leaf_into_the_one_in_force(book: Book) -> None:
    base = factory.frame(0, [factory.leaf(1, 10)])
    wrong = _grown(base, 1, 2, salt="wrong")
    wrong_next = _grown(wrong, 2, 3, salt="wrong")
    await _save(book, base, wrong, wrong_next)
    async with book.write() as c:
        await statements.supersede(c, wrong_next.digest)
        await statements.supersede(c, wrong.digest)
    right = _grown(base, 1, salt="right")
    right_next = _grown(right, 4, salt="right")
    await _save(book, right, right_next)
    async with book.read() as c:
        for frame in (base, wrong, wrong_next, right, right_next):
            assert await statements.by_digest(c, frame.digest) == frame
        assert await statements.latest(c, factory.STREAM) == right_next


async def test_a_frame_derived_anew_supersedes_the_old_one(book: Book) -> None:
    base = factory.frame(0, [factory.leaf(1, 10)])
    old, new = _grown(base, 1, salt="old"), _grown(base, 1, 2, salt="new")
    await _save(book, base, old, new)
    async with book.read() as c:
        assert await statements.current(c, factory.STREAM, 1, 0) == new
        assert await statements.by_digest(c, old.digest) == old
        assert [f.current for f in await queries.frames(c, limit=10, superseded=True)] == [1, 0, 1]
    await _save(book, old)
    async with book.read() as c:
        assert await statements.current(c, factory.STREAM, 1, 0) == old


async def test_revisions_are_slots_of_their_own(book: Book) -> None:
    base = factory.frame(0, [factory.leaf(1, 10)])
    plain = _grown(base, 1)
    revised = _grown(base, 1, 2, salt="revised", revision=1)
    after = _grown(revised, 3)
    await _save(book, base, plain, revised, after)
    async with book.read() as c:
        assert await statements.current(c, factory.STREAM, 1, 0) == plain
        assert await statements.current(c, factory.STREAM, 1, 1) == revised
        assert await statements.latest(c, factory.STREAM) == after
        assert await statements.first_from(c, factory.STREAM, 1) == revised


async def test_an_adopted_frame_without_a_past_stands_for_itself(book: Book) -> None:
    unknown = factory.frame(6, [factory.leaf(1, 5)])
    adopted = factory.frame(7, [factory.leaf(1, 5), factory.leaf(2, 6)], previous=unknown, origin="adopted")
    adopted = msgspec.structs.replace(adopted, changed=adopted.body.leaves)
    following = _grown(adopted, 2)
    await _save(book, adopted, following)
    async with book.read() as c:
        assert await statements.by_digest(c, adopted.digest) == adopted
        assert await statements.by_digest(c, following.digest) == following
        assert await statements.first_from(c, factory.STREAM, 0) == adopted


async def test_two_streams_do_not_touch(book: Book) -> None:
    other = factory.digest("another stream")
    mine, theirs = factory.frame(0, [factory.leaf(1, 1)]), factory.frame(0, [factory.leaf(1, 2)], stream=other)
    await _save(book, mine, theirs)
    async with book.read() as c:
        assert await statements.latest(c, factory.STREAM) == mine
        assert await statements.latest(c, other) == theirs
        assert len(await queries.tips(c)) == 2


async def test_the_same_frame_twice_is_one(book: Book) -> None:
    frame = factory.frame(0, [factory.leaf(1, 1)])
    await _save(book, frame, frame)
    assert await _rows(book) == 1


async def test_a_body_that_is_not_its_headers_is_refused(book: Book) -> None:
    frame = factory.frame(0, [factory.leaf(1, 1)])
    forged = msgspec.structs.replace(frame, body=factory.frame(0, [factory.leaf(1, 2)]).body)
    with pytest.raises(errors.StoreError, match="reward"):
        await _save(book, forged)


async def test_a_large_carry_reads_back(book: Book) -> None:
    frame = factory.frame(0, [], carry=b'{"x":"' + b"0123456789abcdef" * 20_000 + b'"}')
    await _save(book, frame)
    async with book.read() as c:
        assert await statements.by_digest(c, frame.digest) == frame


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=st.lists(
        st.tuples(st.integers(0, 8), st.lists(st.integers(0, 5), max_size=4), st.booleans()), min_size=1, max_size=14
    )
)
async def test_any_tree_of_frames_reads_back_exactly(book: Book, steps: list[tuple[int, list[int], bool]]) -> None:
    """Each step builds on an arbitrary earlier frame: forks, revisions, frames derived anew, in every mixture."""
    stream = factory.digest("tree", steps)
    tree = [factory.frame(0, [], stream=stream)]
    for place, (back, who, again) in enumerate(steps):
        grown = _grown(tree[max(0, len(tree) - 1 - back)], *who, salt=str(place))
        header = msgspec.structs.replace(grown.header, stream=stream)
        tree.append(msgspec.structs.replace(grown, stream=stream, header=header, digest=factory.digest(steps, place)))
        if again:
            tree.append(tree[-1])
    await _save(book, *tree)
    async with book.read() as c:
        for frame in tree:
            found = await statements.by_digest(c, frame.digest)
            assert found is not None
            assert (found.header, found.body) == (frame.header, frame.body)
