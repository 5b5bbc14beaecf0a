from __future__ import annotations

from indexers.protocols import places

TEXT = '''name = "x"

[contracts]
pool = [ # a comment with ] and }
  ]
[views.a]
call = """
[not.a.table]
fake = 1
"""

[[events]]
emitter = "pool"

[[events]]   # the second
"signature" = 'event [['
when = { kind = 1 }
require = [
    { of = "a" },
    { of = "b", equals = 1 },
]

[[sagas]]
name = "s"

[[sagas.steps]]
action = "one"

[[sagas.steps]]
action = "two"

[protocols.other.addresses]
a.b = 1
'''


def test_keys_are_found_on_their_lines() -> None:
    found = places.Places(TEXT)
    expected: dict[places.Path, int] = {
        ("name",): 1,
        ("contracts",): 3,
        ("contracts", "pool"): 4,
        ("views", "a", "call"): 7,
        ("events", 0, "emitter"): 13,
        ("events", 1): 15,
        ("events", 1, "signature"): 16,
        ("events", 1, "when", "kind"): 17,
        ("events", 1, "require"): 18,
        ("sagas", 0, "name"): 24,
        ("sagas", 0, "steps", 0, "action"): 27,
        ("sagas", 0, "steps", 1, "action"): 30,
        ("protocols", "other", "addresses", "a", "b"): 33,
    }
    assert {path: found.line(path) for path in expected} == expected


def test_an_unknown_path_is_placed_where_it_would_belong() -> None:
    found = places.Places(TEXT)
    assert found.line(("events", 0, "signature")) == 12
    assert found.line(("nothing",)) == 1


def test_text_inside_strings_opens_no_table() -> None:
    assert places.Places(TEXT).line(("not", "a", "table")) == 1
