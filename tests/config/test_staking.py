"""[delegator], [submit] and [policy]: together or not at all, with one way to be alone and limits that are said."""

from __future__ import annotations

from pathlib import Path

import pytest

from config import settings
from domain import errors

BASE = """\
[agent]
store = "sqlite:///book.db"
[node]
url = "http://127.0.0.1:8545"
[deployment]
document = "deployment.toml"
[[protocols]]
name = "devnet"
manifest = "devnet"
network = "devnet"
"""
DELEGATOR = '[delegator]\nkind = "keystore"\npath = "key.json"\npassword_fd = 3\n'
SUBMIT = "[submit]\nexclusive = true\n"
POLICY = """\
[policy]
max_fee_per_gas_wei = "100000000000"
max_tip_wei = "3000000000"
max_amount_per_day = "10"
max_gas_wei_per_day = "10"
"""
ALLOW = '[[policy.allow]]\nprotocol = "devnet"\naction = "delegate"\nvalidators = ["7"]\n'
WHOLE = DELEGATOR + SUBMIT + POLICY + ALLOW


def load(folder: Path, text: str = WHOLE, **env: str) -> settings.AgentSettings:
    path = folder / "agent.toml"
    path.write_text(BASE + text)
    return settings.load_agent(path, env)


def test_without_the_three_tables_nothing_is_sent(tmp_path: Path) -> None:
    loaded = load(tmp_path, "")
    assert (loaded.delegator, loaded.submit, loaded.policy) == (None, None, None)


def test_the_three_tables_are_read(tmp_path: Path) -> None:
    loaded = load(tmp_path)
    assert loaded.delegator == {"kind": "keystore", "path": f"{tmp_path}/key.json", "password_fd": 3}
    assert loaded.submit is not None and loaded.submit.exclusive
    assert loaded.policy is not None and loaded.policy.allow[0].validators == ("7",)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (DELEGATOR, r"\[delegator\] without \[submit\]"),
        (SUBMIT + POLICY, r"\[submit\] and \[policy\] without \[delegator\]"),
        (DELEGATOR + SUBMIT, r"without \[policy\]"),
        (DELEGATOR + POLICY, r"without \[submit\]"),
    ],
)
def test_one_of_them_alone_is_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(errors.BadConfig, match=said):
        load(tmp_path, text)


@pytest.mark.parametrize(
    ("submit", "said"),
    [
        ("", "one way to be the only one"),
        ('exclusive = true\nlease = "hub"', "exclude each other"),
        ('lease = "hub"', r"without \[hub\]"),
        ('exclusive = true\nlease_store = "postgresql://db/leases"', "lease_store"),
        ("exclusive = true\nlease_ttl_s = 1", "lease_ttl_s"),
        ('lease = "etcd"', "submit.lease"),
    ],
)
def test_there_is_one_way_to_be_alone(tmp_path: Path, submit: str, said: str) -> None:
    with pytest.raises(errors.BadConfig, match=said) as caught:
        load(tmp_path, DELEGATOR + f"[submit]\n{submit}\n" + POLICY)
    assert str(caught.value)


def test_who_must_choose_is_told_between_what(tmp_path: Path) -> None:
    with pytest.raises(errors.BadConfig) as caught:
        load(tmp_path, DELEGATOR + "[submit]\n" + POLICY)
    for choice in ('lease = "hub"', 'lease = "postgresql"', "exclusive = true"):
        assert choice in str(caught.value)


@pytest.mark.parametrize("key", ["max_fee_per_gas_wei", "max_tip_wei", "max_amount_per_day", "max_gas_wei_per_day"])
def test_no_limit_is_assumed(tmp_path: Path, key: str) -> None:
    lines = [line for line in POLICY.splitlines() if not line.startswith(key)]
    with pytest.raises(errors.BadConfig, match=key):
        load(tmp_path, DELEGATOR + SUBMIT + "\n".join(lines))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (('max_amount_per_day = "10"', "max_amount_per_day = 10"), "policy.max_amount_per_day"),
        (('max_amount_per_day = "10"', 'max_amount_per_day = "1e18"'), "policy.max_amount_per_day"),
        (('max_amount_per_day = "10"', 'max_amount_per_day = "-1"'), "policy.max_amount_per_day"),
        (('max_amount_per_day = "10"', 'max_amount_per_day = "007"'), "policy.max_amount_per_day"),
        (("[[policy.allow]]", "max_gas = 16777217\n[[policy.allow]]"), "policy.max_gas"),
        (("[[policy.allow]]", "approvals = 0\n[[policy.allow]]"), "policy.approvals"),
        (("max_tip_wei", "max_tipp_wei"), "did you mean max_tip_wei"),
        (("validators", "validator"), "did you mean validators"),
        (('protocol = "devnet"\naction', 'protocol = "lido"\naction'), "use a name of .* devnet"),
    ],
)
def test_a_wrong_limit_is_refused_by_its_name(tmp_path: Path, wrong: tuple[str, str], said: str) -> None:
    assert wrong[0] in WHOLE
    with pytest.raises(errors.BadConfig, match=said):
        load(tmp_path, WHOLE.replace(*wrong))


def test_a_limit_can_be_lowered_by_the_environment(tmp_path: Path) -> None:
    loaded = load(tmp_path, STAKESIDE_POLICY__MAX_AMOUNT_PER_DAY="5", STAKESIDE_SUBMIT__BUMP_AFTER_S="7")
    assert loaded.policy is not None and loaded.policy.max_amount_per_day == "5"
    assert loaded.submit is not None and loaded.submit.bump_after_s == 7


def test_a_descriptor_from_the_environment_is_a_number(tmp_path: Path) -> None:
    loaded = load(tmp_path, STAKESIDE_DELEGATOR__PASSWORD_FD="9")
    assert loaded.delegator is not None and loaded.delegator["password_fd"] == 9


def test_a_key_in_the_settings_themselves_is_refused(tmp_path: Path) -> None:
    with pytest.raises(errors.BadConfig, match="would hold a secret") as caught:
        load(tmp_path, WHOLE.replace("password_fd = 3", 'password = "canary"'))
    assert "canary" not in str(caught.value)


def test_a_misspelt_protocol_of_an_allow_list_is_refused_with_the_nearest_name(tmp_path: Path) -> None:
    with pytest.raises(errors.BadConfig, match=r"did you mean devnet\?"):
        load(tmp_path, WHOLE.replace('protocol = "devnet"\naction', 'protocol = "devnt"\naction'))


def test_an_amount_that_is_none_is_asked_for_in_words(tmp_path: Path) -> None:
    with pytest.raises(errors.BadConfig, match="decimal digits as text") as caught:
        load(tmp_path, WHOLE.replace('max_tip_wei = "3000000000"', 'max_tip_wei = "1ether"'))
    assert "regex" not in str(caught.value) and "1ether" in str(caught.value) and "line" in str(caught.value)
    with pytest.raises(errors.BadConfig, match="decimal digits as text"):
        load(tmp_path, STAKESIDE_POLICY__MAX_AMOUNT_PER_DAY="ten")
