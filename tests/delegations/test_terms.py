"""A policy's body and hash: the same meaning is the same hash, another meaning is another."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from agent.delegations import policy
from config import settings
from domain import errors, hashing
from tests.delegations import factory
from tests.delegations.factory import ACCOUNT, VALIDATOR

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "policy.md").read_text()
MIXED = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
WITHDRAW: dict[str, Any] = {"protocol": "devnet", "action": "withdraw"}


def test_order_case_and_omitted_defaults_do_not_count() -> None:
    one = factory.terms_of({**factory.ALLOW, "validators": (MIXED, "7", VALIDATOR)}, WITHDRAW)
    other = factory.terms_of(
        {**WITHDRAW, "validators": (), "arguments": {}},
        {**factory.ALLOW, "validators": (VALIDATOR, hashing.hex0x(hashing.word(7)), MIXED.lower(), MIXED)},
        max_gas=1_000_000,
        approvals=1,
    )
    assert one.text() == other.text()
    assert one.hash() == other.hash()


def test_the_body_has_one_golden_hash() -> None:
    assert factory.terms_of().hash().hex() == "c3e5993e8d42883904891ef1f9185f341f5db69042a2b7d885e6d989e62828dd"


@pytest.mark.parametrize(
    "changes",
    [
        {"max_fee_per_gas_wei": "99999999999"},
        {"max_tip_wei": "1"},
        {"max_gas": 21_000},
        {"min_balance_wei": "0"},
        {"max_in_flight": 5},
        {"max_amount_per_day": "1"},
        {"max_value_wei_per_day": "1"},
        {"max_gas_wei_per_day": "1"},
        {"approval_above": "1"},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_another_limit_is_another_hash(changes: dict[str, Any]) -> None:
    assert factory.terms_of(**changes).hash() != factory.terms_of().hash()


@pytest.mark.parametrize(
    "changes",
    [
        {"action": "undelegate"},
        {"protocol": "other"},
        {"validators": ("*",)},
        {"validators": ()},
        {"targets": (VALIDATOR,)},
        {"recipients": (VALIDATOR,)},
        {"arguments": {"verifier": ("*",)}},
        {"max_amount": None},
        {"max_amount_per_day": "1"},
        {"max_value_wei": "1"},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_another_allowance_is_another_hash(changes: dict[str, Any]) -> None:
    assert factory.terms_of({**factory.ALLOW, **changes}).hash() != factory.terms_of().hash()


def test_chain_and_account_are_part_of_the_policy() -> None:
    section = factory.section(factory.ALLOW)
    hashes = {
        policy.build(section, chain_id=chain, account=account, approval_ttl_s=1).hash()
        for chain in (1, 31337)
        for account in (ACCOUNT, bytes(20))
    }
    assert len(hashes) == 4


@pytest.mark.parametrize(
    ("allow", "said"),
    [
        (({**factory.ALLOW}, {**factory.ALLOW, "validators": ("*",)}), "lists an action twice"),
        (({**factory.ALLOW, "validators": ("*", VALIDATOR)},), r"lists \* and more"),
        (({**factory.ALLOW, "validators": (MIXED.replace("C5", "c5"),)},), "wrong checksum"),
        (({**factory.ALLOW, "validators": ("alice",)},), "no identity"),
        (({**factory.ALLOW, "validators": ("0x1234",)},), "no identity"),
        (({**factory.ALLOW, "validators": ("007",)},), "no identity"),
        (({**factory.ALLOW, "validators": (str(1 << 256),)},), "no identity"),
        (({**factory.ALLOW, "arguments": {"validator": ("*",)}},), "may not name validator"),
    ],
)
def test_a_policy_that_cannot_be_meant_is_refused(allow: tuple[dict[str, Any], ...], said: str) -> None:
    with pytest.raises(errors.BadConfig, match=said):
        factory.terms_of(*allow)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"max_tip_wei": "0"}, "max_tip_wei"),
        ({"max_tip_wei": str(101 * factory.GWEI)}, "max_tip_wei"),
    ],
)
def test_a_tip_beyond_the_fee_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(errors.BadConfig, match=said):
        factory.terms_of(**changes)


def test_the_page_lists_the_rules_in_their_order() -> None:
    table = PAGE.partition("## The rules, in their order")[2].partition("\n## ")[0]
    assert re.findall(r"^\| ([a-z_]+) \| (?!checks)", table, re.MULTILINE) == [*policy.RULES]


def examples() -> list[str]:
    """The settings in each example of the page, with what the example leaves out."""
    found: list[str] = []
    for part in PAGE.split("\n## Example: ")[1:]:
        lines = [line[4:] for line in part.splitlines() if line.startswith("    ") or not line]
        text = "\n".join(lines)
        if "[delegator]" not in text:
            text = '[delegator]\nkind = "dev"\nkey_file = "key"\n[submit]\nexclusive = true\n' + text
        protocol = re.findall(r'protocol = "(\w+)"', text)[0]
        head = '[node]\nurl = "http://127.0.0.1:1"\n[deployment]\ndocument = "d.toml"\n'
        found.append(f'{head}[[protocols]]\nname = "{protocol}"\nmanifest = "devnet"\nnetwork = "n.toml"\n{text}')
    return found


@pytest.mark.parametrize("text", examples())
def test_every_example_is_a_policy(text: str, tmp_path: Path) -> None:
    path = tmp_path / "agent.toml"
    path.write_text(text)
    section = settings.load_agent(path, {}).policy
    assert section is not None
    assert policy.build(section, chain_id=1, account=ACCOUNT, approval_ttl_s=1).allow
