"""Every value of a statement file is bound by something: change any one of them, and the verifier does not say yes.

The exceptions are written in `docs/wire/statement.md` §8 and are the exceptions here: without a node, a log's `txHash`, and a `time`
that still fits between its neighbours. The document's append-only lists need the reader's own copy, which is passed.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import verify
from tests.verify import factory

EXAMPLE = factory.example(202, count=3, size=4, most=3)
Place = tuple[str | int, ...]


def places(value: Any, path: Place = ()) -> Iterator[Place]:
    """Every value below `value`, containers included."""
    if path:
        yield path
    if isinstance(value, dict):
        for key in value:
            yield from places(value[key], (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from places(item, (*path, index))


def at(content: Any, place: Place) -> Any:
    for step in place:
        content = content[step]
    return content


def changed(place: Place, value: Any) -> dict[str, Any]:
    content = copy.deepcopy(EXAMPLE)
    at(content, place[:-1])[place[-1]] = value
    return content


def bound(place: Place) -> bool:
    return not (place[0] == "logs" and place[-1] in ("txHash", "time"))


ALL = [place for place in places(EXAMPLE) if bound(place)]
LEAVES = [place for place in ALL if not isinstance(at(EXAMPLE, place), dict | list)]


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return factory.write(tmp_path_factory.mktemp("own") / "document.json", EXAMPLE["document"])


def exit_code(folder: Path, content: object, own: Path) -> int:
    return verify.check(factory.write(folder / "statement.json", content), document_path=own).exit_code


def test_the_example_itself_verifies(tmp_path: Path, own: Path) -> None:
    assert exit_code(tmp_path, EXAMPLE, own) == 0
    assert len(LEAVES) > 500


def nudged(value: Any) -> Any:
    """A neighbour of the same type and form: one hex digit, one decimal digit, one character, one unit."""
    match value:
        case bool():
            return not value
        case int():
            return value + 1
        case None:
            return "0x"
        case str() if value.startswith("0x") and len(value) > 2:
            return value[:-1] + ("0" if value[-1] != "0" else "1")
        case str() if value.isdigit():
            return str(int(value) + 1)
        case _:
            return value + "x"


@pytest.mark.parametrize("part", range(8))
def test_nudging_any_value_is_detected(tmp_path: Path, own: Path, part: int) -> None:
    missed = [
        place for place in LEAVES[part::8] if exit_code(tmp_path, changed(place, nudged(at(EXAMPLE, place))), own) == 0
    ]
    assert missed == []


SAME_WITHOUT = {
    ("document", "chains", 0, "finality"),  # "tag" is what is meant where nothing is said
    ("document", "revisions"),  # empty in the example
    ("document", "members"),
    ("document", "receipt_keys", 0, "first_receipt"),  # 1 is
    ("document", "receipt_keys", 1),  # an older document is a document too; the reader's own decides
    ("document", "receipt_keys"),
    ("document", "epochs", 1),
}


@pytest.mark.parametrize("part", range(4))
def test_removing_any_value_is_detected(tmp_path: Path, own: Path, part: int) -> None:
    whole_receipts = [
        place for place in ALL if place[0] == "receipts" and len(place) <= 2
    ]  # there may be any number of them
    missed: list[Place] = []
    for place in [place for place in ALL if place not in SAME_WITHOUT and place not in whole_receipts][part::4]:
        content = copy.deepcopy(EXAMPLE)
        del at(content, place[:-1])[place[-1]]
        if exit_code(tmp_path, content, own) == 0:
            missed.append(place)
    assert missed == []


GAPS = ("\t", "\n", "\r", " ", "\x0b", "\x0c", "\x1f", "\x85", "\u00a0", "\u2003", "_", "٠")


def other_spellings(text: str, turn: int) -> Iterator[str]:
    """What some reader of hex takes for the same bytes: gaps, upper case, leading zeros left out or added."""
    digits, gap = text[2:], GAPS[turn % len(GAPS)]
    zeros = len(digits) - len(digits.lstrip("0"))
    yield from (
        f"0x{gap}{digits}",
        f"0x{digits}{gap}",
        f"{gap}{text}",
        f"0x{digits[:2]}{gap}{digits[2:]}",
        f"0x{gap * len(digits)}",
    )
    yield from ("0X" + digits, digits, text.upper(), f"0x00{digits}", f"0x0{digits}", text + "\0")
    if digits.upper() != digits:
        yield "0x" + digits.upper()
        letter = next(index for index, digit in enumerate(digits) if digit.isalpha())
        yield f"0x{digits[:letter]}{digits[letter].upper()}{digits[letter + 1 :]}"
    if zeros:
        yield from (
            "0x" + digits[1:],
            "0x" + digits.lstrip("0"),
            f"0x{gap * zeros}{digits[zeros:]}",
            f"0x\t{digits[1:]}",
        )
    if zeros > 1:
        yield from (
            f"0x{gap * 2}{digits[2:]}",
            "0x" + digits[2:],
            f"0x{chr(10) * (zeros // 2 * 2)}{digits[zeros // 2 * 2 :]}",
        )


HEX = [place for place in places(EXAMPLE) if str(at(EXAMPLE, place)).startswith("0x")]


@pytest.mark.parametrize("part", range(8))
def test_another_spelling_of_the_same_bytes_is_refused(tmp_path: Path, own: Path, part: int) -> None:
    """Also where nothing binds the value, and where only the reader's own copy binds it: malformed is malformed."""
    missed = [
        (place, spelling)
        for turn, place in enumerate(HEX[part::8])
        for spelling in other_spellings(at(EXAMPLE, place), turn)
        if exit_code(tmp_path, changed(place, spelling), own) == 0
    ]
    assert missed == []
    assert len(HEX) > 200


def test_another_spelling_of_a_rulesets_name_is_refused(tmp_path: Path, own: Path) -> None:
    ((name, rules),) = EXAMPLE["rulesets"].items()
    for spelling in other_spellings(name, 0):
        assert exit_code(tmp_path, changed(("rulesets",), {spelling: rules}), own) == 2


scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=True),
    st.text(max_size=20),
    st.sampled_from(["0", "-1", "1e3", "0x", "0X00", "0x" + "00" * 32, "00", " 1", "1_0", "٣", str(2**256), "\0"]),
    st.lists(st.integers(), max_size=3),
    st.dictionaries(st.text(max_size=5), st.integers(), max_size=2),
)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.sampled_from(ALL), value=scalars)
def test_replacing_any_value_by_anything_is_detected(tmp_path: Path, own: Path, place: Place, value: Any) -> None:
    if json.dumps(at(EXAMPLE, place)) == json.dumps(value):
        return
    if place in (("receipts",), ("document", "receipt_keys")) and value == []:
        return
    assert exit_code(tmp_path, changed(place, value), own) != 0


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_swapping_two_values_of_one_kind_is_detected(tmp_path: Path, own: Path, data: st.DataObject) -> None:
    one = data.draw(st.sampled_from(LEAVES))
    twins = [p for p in LEAVES if p[-1] == one[-1] and type(at(EXAMPLE, p)) is type(at(EXAMPLE, one))]
    two = data.draw(st.sampled_from(twins))
    if at(EXAMPLE, one) == at(EXAMPLE, two) or (one[-2] == "signers" and one[:-1] == two[:-1]):
        return  # the order of an epoch's signers means nothing
    content = changed(one, at(EXAMPLE, two))
    at(content, two[:-1])[two[-1]] = at(EXAMPLE, one)
    assert exit_code(tmp_path, content, own) != 0


def test_a_log_time_that_does_not_fit_is_detected_without_a_node(tmp_path: Path, own: Path) -> None:
    for value in ("0", str(2**63)):
        assert exit_code(tmp_path, changed(("logs", 0, "time"), value), own) == 1
