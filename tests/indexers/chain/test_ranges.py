"""Sizes follow outcomes; coverage has no hole."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from indexers.chain import ranges


@given(
    limit_blocks=st.integers(1, 500),
    limit_rows=st.integers(5, 400),
    density=st.lists(st.integers(0, 30), min_size=1, max_size=400),
    suggests=st.booleans(),
)
@settings(max_examples=200, deadline=None)
def test_whatever_a_node_refuses_every_block_is_covered_once(
    limit_blocks: int, limit_rows: int, density: list[int], suggests: bool
) -> None:
    sizes = ranges.Ranges(largest=1000, rows=200)
    coverage = ranges.Coverage(-1)
    last_block = len(density) - 1
    asked = 0
    single = False
    while coverage.through < last_block:
        asked += 1
        first, last = sizes.next(first=coverage.through + 1, limit=last_block)
        assert first <= last <= last_block
        rows = sum(density[first : last + 1])
        too_long = last - first + 1 > limit_blocks
        if (too_long or rows > limit_rows) and not single:
            suggested = limit_blocks if suggests and too_long else None
            single = not sizes.refused(first=first, last=last, suggested=suggested)
            continue
        single = False
        sizes.succeeded(first=first, last=last, rows=rows, seconds=0.1)
        coverage.add(first, last)
    assert coverage.through == last_block
    assert asked < 6 * len(density) + 20


def test_an_undisturbed_backfill_reaches_the_largest_size() -> None:
    sizes = ranges.Ranges(largest=2000, rows=1000)
    first = 0
    for _ in range(10):
        first, last = sizes.next(first=first, limit=10**9)
        sizes.succeeded(first=first, last=last, rows=0, seconds=0.1)
        first = last + 1
    assert sizes.size == 2000


def test_refusals_are_rare_once_the_limit_is_known() -> None:
    sizes = ranges.Ranges(largest=10_000, rows=10**9)
    first = refused = 0
    for _ in range(200):
        first, last = sizes.next(first=first, limit=10**9)
        if last - first + 1 > 300:
            refused += 1
            sizes.refused(first=first, last=last)
            continue
        sizes.succeeded(first=first, last=last, rows=0, seconds=0.1)
        first = last + 1
    assert refused <= 12


def test_a_ceiling_is_tried_again_after_a_while() -> None:
    sizes = ranges.Ranges(largest=1000, rows=10**9)
    sizes.refused(first=0, last=63)
    first = 0
    for _ in range(40 * ranges.RELAX_EVERY):
        first, last = sizes.next(first=first, limit=10**9)
        sizes.succeeded(first=first, last=last, rows=0, seconds=0.1)
        first = last + 1
    assert sizes.size == 1000


def test_one_refused_block_is_for_the_receipts() -> None:
    sizes = ranges.Ranges(largest=10, rows=10)
    assert sizes.refused(first=5, last=6)
    assert not sizes.refused(first=5, last=5)


def test_slow_answers_halve_the_range() -> None:
    sizes = ranges.Ranges(largest=1000, rows=10**9, slow_s=5)
    sizes.succeeded(first=0, last=63, rows=0, seconds=6)
    assert sizes.size == 32


@pytest.mark.parametrize(("first", "last"), [(2, 3), (0, 3), (1, 0)])
def test_a_hole_or_an_overlap_is_an_error(first: int, last: int) -> None:
    coverage = ranges.Coverage(0)
    with pytest.raises(AssertionError):
        coverage.add(first, last)


def test_a_range_never_passes_its_limit() -> None:
    sizes = ranges.Ranges(largest=100, rows=10)
    assert sizes.next(first=10, limit=12) == (10, 12)
    with pytest.raises(AssertionError):
        sizes.next(first=13, limit=12)
