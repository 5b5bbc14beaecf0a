"""What stays on this machine, and what does not."""

from __future__ import annotations

import pytest

from kit import places


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST", "localhost.", "127.0.0.1", "127.1", "127.8.9.10", "2130706433", "0x7f.1", "0x7F000001",
     "::1", "0:0:0:0:0:0:0:1", "[::1]", "::1%lo", "::ffff:127.0.0.1", "::FFFF:7f00:1"],
)  # fmt: skip
def test_every_way_to_write_this_machine_is_this_machine(host: str) -> None:
    assert places.loopback(host)


@pytest.mark.parametrize(
    "host",
    ["", "node.example", "localhost.example", "my.localhost", "127.0.0.1.example", "127.0.0.1 node.example", "0.0.0.0", "::", "10.0.0.1", "128.1",
     "::ffff:10.0.0.1", "::127.0.0.1", "64:ff9b::7f00:1", "1270.0.0.1", "127.0.0.256", "0127.0.0.1", "0177.1", "١٢٧.0.0.1", "[::1", "0x7g.1"],
)  # fmt: skip
def test_what_may_leave_this_machine_is_not_this_machine(host: str) -> None:
    assert not places.loopback(host)
