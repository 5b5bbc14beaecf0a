"""Every rule of the policy: what it lets through, what it refuses, and what it only holds back."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.delegations import policy, rules
from domain import errors, hashing, transaction
from tests.delegations import factory
from tests.delegations.factory import ACCOUNT, COIN, GWEI, NOW, STAKING, STRANGER, TOKEN, VALIDATOR


def judged(
    proposal: policy.Proposal | None = None, facts: policy.Facts | None = None, terms: policy.Policy | None = None
) -> policy.Verdict:
    return policy.judge(terms or factory.terms_of(), proposal or factory.proposal(), facts or factory.facts())


def said(verdict: policy.Verdict) -> tuple[str, str]:
    return verdict.kind, verdict.rule


def outcome(verdict: policy.Verdict, rule: str) -> str:
    return next(finding.outcome for finding in verdict.findings if finding.rule == rule)


def test_what_fits_every_rule_is_allowed() -> None:
    verdict = judged()
    assert said(verdict) == ("allow", "all")
    assert [finding.rule for finding in verdict.findings] == list(policy.RULES)


def test_an_empty_policy_allows_nothing() -> None:
    terms = policy.build(factory.section(), chain_id=31337, account=ACCOUNT, approval_ttl_s=1)
    assert said(judged(terms=terms)) == ("deny", "action")


def test_every_rule_has_a_function_and_every_function_a_rule() -> None:
    assert list(rules.RULES) == list(policy.RULES)


OTHER_INTENT = msgspec.structs.replace(factory.wanted(), chain_id=1)
OTHER_ACCOUNT = msgspec.structs.replace(factory.wanted(), account=bytes(20))
PIN = factory.proposal().pin


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"asked": OTHER_INTENT}, "chain"),
        ({"asked": OTHER_ACCOUNT}, "account"),
        ({"asked": factory.wanted("undelegate")}, "action"),
        ({"asked": msgspec.structs.replace(factory.wanted(), protocol="other")}, "action"),
        ({"call_to": TOKEN}, "contract"),
        ({"pin": policy.Pin(STAKING, b"\0\0\0\0" + factory.DELEGATE[4:], COIN)}, "contract"),
        ({"pin": policy.Pin(STAKING, factory.DELEGATE[:4] + bytes(32), COIN)}, "contract"),
        ({"pin": policy.Pin(STAKING, factory.DELEGATE, 0)}, "contract"),
        ({"asked": factory.wanted(validator=STRANGER, amount="1")}, "validators"),
        ({"asked": factory.wanted(validator=VALIDATOR, target=VALIDATOR, amount="1")}, "targets"),
        ({"asked": factory.wanted(validator=VALIDATOR, recipient=STRANGER, amount="1")}, "recipients"),
        ({"asked": factory.wanted(validator=VALIDATOR, verifier=STRANGER, amount="1")}, "arguments"),
        ({"asked": factory.wanted(validator=VALIDATOR, operator_id="7", amount="1")}, "arguments"),
        ({"data": rules.APPROVE_SELECTOR + bytes(64)}, "approve"),
        ({"effects": 0}, "effects"),
        ({"gas": 1_000_001}, "gas"),
        ({"gas": 0}, "gas"),
        ({"value_wei": COIN + 1}, "value"),
        ({"amount": 4 * COIN + 1}, "amount"),
        ({"amount": None}, "amount"),
        ({"amount": -1, "value_wei": 0}, "amount"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_rule_that_is_broken_denies_and_is_named(changes: dict[str, Any], rule: str) -> None:
    assert said(judged(factory.proposal(**changes))) == ("deny", rule)


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({"chain_id": 1}, ("deny", "chain")),
        ({"account": bytes(20)}, ("deny", "account")),
        ({"simulated": policy.Simulation("failed", "NotEnough()")}, ("deny", "simulation")),
        ({"simulated": policy.Simulation("unavailable", "timeout")}, ("wait", "simulation")),
        ({"spent_day": policy.Spent(amount=9 * COIN + 1)}, ("deny", "amount_per_day")),
        ({"gas_paid_wei": COIN}, ("deny", "gas_per_day")),
        ({"gas_open_wei": COIN}, ("wait", "gas_per_day")),
        ({"balance_wei": 2 * COIN}, ("deny", "balance")),
        ({"committed_wei": 98 * COIN}, ("wait", "balance")),
        ({"latches": ("submit.nonces",)}, ("wait", "latches")),
        ({"latches": ("finality",)}, ("wait", "latches")),
        ({"paused": "fire drill"}, ("wait", "pause")),
        ({"lease_held": False, "lease_why": "bob holds it"}, ("wait", "lease")),
        ({"in_flight": 4}, ("wait", "in_flight")),
    ],
    ids=lambda value: str(value[1]) if isinstance(value, tuple) else "",
)
def test_a_fact_that_stands_against_it_is_named(changes: dict[str, Any], verdict: tuple[str, str]) -> None:
    assert said(judged(facts=factory.facts(**changes))) == verdict


def test_latches_of_the_earning_belt_do_not_stop_the_staking_belt() -> None:
    assert judged(facts=factory.facts(latches=("attest.gap", "index"))).kind == "allow"


@pytest.mark.parametrize(("max_fee", "tip"), [(100 * GWEI + 1, GWEI), (20 * GWEI, 3 * GWEI + 1), (GWEI, 2 * GWEI)])
def test_fees_beyond_the_caps_are_waited_out(max_fee: int, tip: int) -> None:
    assert said(judged(factory.proposal(max_fee=max_fee, tip=tip))) == ("wait", "fees")


def test_gas_never_passes_the_protocols_own_cap() -> None:
    terms = msgspec.structs.replace(factory.terms_of(), max_gas=transaction.MAX_GAS + 1)
    assert said(judged(factory.proposal(gas=transaction.MAX_GAS + 1), terms=terms)) == ("deny", "gas")


def test_a_denial_outranks_waiting_and_waiting_for_time_is_last() -> None:
    """Paused, over the cap and unapproved: it is refused now, and every finding is there."""
    terms = factory.terms_of(approval_above="0")
    facts = factory.facts(paused="x", spent_day=policy.Spent(amount=10 * COIN), lease_held=False)
    verdict = judged(facts=facts, terms=terms)
    assert said(verdict) == ("deny", "amount_per_day")
    assert [outcome(verdict, rule) for rule in ("approval", "pause", "lease")] == ["ask", "wait", "wait"]


def test_people_are_asked_while_it_is_paused() -> None:
    assert said(judged(facts=factory.facts(paused="x"), terms=factory.terms_of(approval_above="0"))) == (
        "ask",
        "approval",
    )


# --- arguments ---


@pytest.mark.parametrize("spelling", ["0x" + "44" * 20, VALIDATOR])
def test_an_identity_is_one_in_every_spelling(spelling: str) -> None:
    terms = factory.terms_of({**factory.ALLOW, "validators": (spelling,)})
    for name in (VALIDATOR, "0x" + "44" * 20):
        assert judged(factory.proposal(factory.wanted(validator=name, amount="1")), terms=terms).kind == "allow"


def test_a_number_is_the_word_it_makes() -> None:
    terms = factory.terms_of({**factory.ALLOW, "validators": ("7",)})
    word = hashing.hex0x(hashing.word(7))
    assert judged(factory.proposal(factory.wanted(validator=word, amount="1")), terms=terms).kind == "allow"


def test_a_star_admits_everyone() -> None:
    terms = factory.terms_of({**factory.ALLOW, "validators": ("*",)})
    assert judged(factory.proposal(factory.wanted(validator=STRANGER, amount="1")), terms=terms).kind == "allow"


def test_the_account_itself_may_always_receive() -> None:
    for own in (hashing.hex0x(ACCOUNT), hashing.hex0x(hashing.address_word(ACCOUNT))):
        asked = factory.wanted(validator=VALIDATOR, recipient=own, amount="1")
        assert outcome(judged(factory.proposal(asked)), "recipients") == "pass"


def test_a_listed_recipient_may_receive() -> None:
    terms = factory.terms_of({**factory.ALLOW, "recipients": (STRANGER,)})
    asked = factory.wanted(validator=VALIDATOR, recipient=STRANGER, amount="1")
    assert judged(factory.proposal(asked), terms=terms).kind == "allow"


def test_an_argument_of_the_manifests_own_has_to_be_named() -> None:
    asked = factory.wanted(validator=VALIDATOR, referral="7", amount="1")
    for listed, kind in (({}, "deny"), ({"referral": ("8",)}, "deny"), ({"referral": ("7",)}, "allow"), ({"referral": ("*",)}, "allow")):  # fmt: skip
        assert (
            judged(factory.proposal(asked), terms=factory.terms_of({**factory.ALLOW, "arguments": listed})).kind == kind
        )


# --- allowances ---

EXACT = rules.APPROVE_SELECTOR + hashing.address_word(STAKING) + hashing.word(COIN)


def allowance(data: bytes = EXACT, **changes: Any) -> policy.Proposal:
    given: dict[str, Any] = {
        "data": data, "value_wei": 0, "call_to": TOKEN, "pin": policy.Pin(TOKEN, data, 0), "amount": None, "direction": "none",
        "approve": policy.Approve("delegate", TOKEN, STAKING, COIN),
    }  # fmt: skip
    return factory.proposal(factory.wanted("approve", validator=VALIDATOR, amount=str(COIN)), **{**given, **changes})


def test_an_exact_allowance_for_an_allowed_action_is_allowed_and_counts_nothing() -> None:
    assert judged(allowance()).kind == "allow"
    assert allowance().stake == 0


@pytest.mark.parametrize(
    "data",
    [
        rules.APPROVE_SELECTOR + hashing.address_word(STAKING) + hashing.word(COIN + 1),
        rules.APPROVE_SELECTOR + hashing.address_word(STAKING) + b"\xff" * 32,
        rules.APPROVE_SELECTOR + hashing.address_word(TOKEN) + hashing.word(COIN),
        EXACT + b"\0",
        bytes.fromhex("39509351") + EXACT[4:],
    ],
    ids=["more", "unlimited", "spender", "longer", "increaseAllowance"],
)
def test_an_allowance_that_is_not_exact_is_denied(data: bytes) -> None:
    assert said(judged(allowance(data))) == ("deny", "approve")


def test_an_allowance_on_another_token_is_denied() -> None:
    other = allowance(call_to=STAKING, pin=policy.Pin(STAKING, EXACT, 0))
    assert said(judged(other)) == ("deny", "approve")


def test_an_allowance_for_an_action_that_is_not_listed_is_denied() -> None:
    other = allowance(approve=policy.Approve("undelegate", TOKEN, STAKING, COIN))
    assert said(judged(other)) == ("deny", "action")


def test_an_allowance_is_held_to_the_cap_and_the_threshold_of_one_transaction() -> None:
    much = 5 * COIN
    data = rules.APPROVE_SELECTOR + hashing.address_word(STAKING) + hashing.word(much)
    big = allowance(data, approve=policy.Approve("delegate", TOKEN, STAKING, much))
    assert said(judged(big)) == ("deny", "amount")
    assert said(judged(allowance(), terms=factory.terms_of(approval_above="0"))) == ("ask", "approval")


# --- amounts and budgets ---


def test_the_threshold_itself_is_within_every_cap() -> None:
    edge = factory.facts(spent_day=policy.Spent(amount=6 * COIN), gas_paid_wei=COIN - 200_000 * 20 * GWEI)
    assert judged(factory.proposal(amount=4 * COIN), edge).kind == "allow"


@given(left=st.integers(0, COIN), gas=st.integers(21_000, 1_000_000), max_fee=st.integers(1, 100 * GWEI))
def test_a_share_of_the_days_gas_fits_what_is_left_and_has_room_for_the_offer_and_a_cancel(
    left: int, gas: int, max_fee: int
) -> None:
    terms = factory.terms_of()
    facts = factory.facts(gas_paid_wei=(COIN - left) // 2, gas_open_wei=COIN - left - (COIN - left) // 2)
    verdict = judged(factory.proposal(gas=gas, max_fee=max_fee, tip=1), facts, terms)
    share = terms.share(gas=gas, max_fee=max_fee, left=left)
    assert share >= gas * max_fee and share >= 21_000 * terms.caps.max_fee
    assert share <= max(gas * terms.caps.max_fee, terms.least_share(gas=gas, max_fee=max_fee))
    assert (share <= left) == (verdict.kind == "allow"), verdict.why


def test_an_action_has_its_own_day() -> None:
    terms = factory.terms_of({**factory.ALLOW, "max_amount_per_day": str(2 * COIN)})
    assert judged(facts=factory.facts(spent_action=policy.Spent(amount=COIN)), terms=terms).kind == "allow"
    spent = factory.facts(spent_action=policy.Spent(amount=COIN + 1))
    assert said(judged(facts=spent, terms=terms)) == ("deny", "amount_per_day")


def test_native_coin_has_its_own_day() -> None:
    terms = factory.terms_of(max_value_wei_per_day=str(2 * COIN))
    assert judged(facts=factory.facts(spent_day=policy.Spent(value_wei=COIN)), terms=terms).kind == "allow"
    spent = factory.facts(spent_day=policy.Spent(value_wei=COIN + 1))
    assert said(judged(facts=spent, terms=terms)) == ("deny", "value_per_day")


def test_a_protocols_fee_may_be_sent_up_to_its_cap() -> None:
    terms = factory.terms_of({**factory.ALLOW, "max_value_wei": "5"})
    for fee, kind in ((5, "allow"), (6, "deny")):
        asked = factory.proposal(amount=COIN, value_wei=fee)
        assert judged(asked, terms=terms).kind == kind


@pytest.mark.parametrize("direction", ["out", "none"])
def test_what_comes_home_needs_no_amount_and_no_approval(direction: str) -> None:
    terms = factory.terms_of({"protocol": "devnet", "action": "withdraw"}, approval_above="0")
    asked = factory.proposal(factory.wanted("withdraw", ticket="1"), amount=None, value_wei=0, direction=direction)
    assert judged(asked, terms=terms).kind == "allow"


def test_what_moves_on_without_an_amount_is_denied() -> None:
    terms = factory.terms_of({"protocol": "devnet", "action": "redelegate", "validators": ("*",), "targets": ("*",)})
    asked = factory.wanted("redelegate", validator=VALIDATOR, target=STRANGER)
    assert said(judged(factory.proposal(asked, amount=None, direction="move"), terms=terms)) == ("deny", "amount")


def test_the_balance_is_kept_even_if_it_is_bumped_to_the_cap() -> None:
    worst = factory.terms_of().worst_case(gas=200_000, value_wei=COIN)
    assert worst == COIN + 200_000 * 100 * GWEI
    assert judged(facts=factory.facts(balance_wei=worst + COIN)).kind == "allow"
    assert said(judged(facts=factory.facts(balance_wei=worst + COIN - 1))) == ("deny", "balance")


@given(amounts=st.lists(st.integers(min_value=0, max_value=5 * COIN), max_size=40))
def test_no_order_of_intents_overruns_the_day(amounts: list[int]) -> None:
    """What a reservation counts is what the next judgement finds spent."""
    terms, spent = factory.terms_of(), 0
    for amount in amounts:
        asked = factory.proposal(factory.wanted(validator=VALIDATOR, amount=str(amount)), amount=amount)
        if judged(asked, factory.facts(spent_day=policy.Spent(amount=spent)), terms).kind == "allow":
            spent += asked.stake
    assert spent <= 10 * COIN


def test_of_fifty_at_once_exactly_ten_fit_a_cap_for_ten() -> None:
    spent = kept = 0
    for _ in range(50):
        asked = factory.proposal()
        if judged(asked, factory.facts(spent_day=policy.Spent(amount=spent))).kind == "allow":
            spent, kept = spent + asked.stake, kept + 1
    assert kept == 10


# --- people ---

HASH = factory.wanted().payload_hash


def approved(*approvals: policy.Approval, needed: int = 1) -> policy.Verdict:
    terms = factory.terms_of(approval_above=str(COIN - 1), approvals=needed)
    return judged(facts=factory.facts(approvals=approvals), terms=terms)


def test_an_amount_at_the_threshold_asks_nobody() -> None:
    assert judged(terms=factory.terms_of(approval_above=str(COIN))).kind == "allow"


def test_an_approval_by_another_person_counts() -> None:
    assert approved(policy.Approval("bob", NOW, HASH)).kind == "allow"


@pytest.mark.parametrize(
    "approval",
    [
        policy.Approval("ann", NOW, HASH),
        policy.Approval("bob", NOW - 3600, HASH),
        policy.Approval("bob", NOW, bytes(32)),
    ],
    ids=["the proposer's own", "expired", "of another payload"],
)
def test_an_approval_that_is_none_does_not_count(approval: policy.Approval) -> None:
    assert said(approved(approval)) == ("ask", "approval")


def test_one_person_approves_once() -> None:
    bob = policy.Approval("bob", NOW, HASH)
    assert approved(bob, bob, needed=2).kind == "ask"
    assert approved(bob, policy.Approval("cleo", NOW - 3599, HASH), needed=2).kind == "allow"


def test_who_is_asked_is_told_who_has_approved() -> None:
    assert "1 of 2 approvals (bob)" in approved(policy.Approval("bob", NOW, HASH), needed=2).why


# --- telling ---


def test_an_explanation_names_the_decision_and_every_rule() -> None:
    lines = policy.explain(judged(factory.proposal(amount=5 * COIN)))
    assert lines[0].startswith("deny, by the rule amount: 5000000000000000000 is above the 4000000000000000000")
    assert len(lines) == 1 + len(policy.RULES)


COINS = policy.Asset(18, "coins")
DUST = 123_456_789


def detail(verdict: policy.Verdict, rule: str) -> str:
    return next(finding.detail for finding in verdict.findings if finding.rule == rule)


def test_a_reason_names_its_setting_and_the_coins_to_the_last_digit() -> None:
    made = judged(
        factory.proposal(amount=5 * COIN + DUST, asset=COINS), terms=factory.terms_of(approval_above=str(COIN // 2))
    )
    assert made.why == "5.000000000123456789 coins is above the 4 coins of max_amount"
    assert detail(made, "approval") == (
        "5.000000000123456789 coins is above the 0.5 coins of approval_above: 0 of 1 approvals"
    )
    assert detail(made, "value") == "5.000000000123456789 coins, the stake itself"
    assert detail(made, "amount_per_day") == "0 coins + 5.000000000123456789 coins of 10 coins in 24 hours"
    assert detail(made, "fees") == "20 gwei of at most 100 gwei, tip 1 gwei of at most 3 gwei"


def test_a_token_of_few_decimals_is_told_in_its_own_units() -> None:
    allow = {**factory.ALLOW, "max_amount": "1500000"}
    made = judged(factory.proposal(amount=1_500_001, asset=policy.Asset(6, "USDX")), terms=factory.terms_of(allow))
    assert made.why == "1.500001 USDX is above the 1.5 USDX of max_amount"


def test_a_sum_over_several_assets_has_no_unit() -> None:
    made = judged(factory.proposal(asset=policy.Asset(18, "coins", only=False)))
    assert detail(made, "amount_per_day") == f"0 + {COIN} of {10 * COIN} in 24 hours"


def test_an_allowance_of_another_token_is_told_in_its_smallest_unit() -> None:
    made = judged(msgspec.structs.replace(allowance(), asset=COINS))
    assert "coins" not in detail(made, "amount")


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        (
            {"balance_wei": COIN},
            "1 coin − 1.02 coins at worst leaves -0.02 coins, below the 1 coin of min_balance_wei",
        ),
        (
            {"spent_day": policy.Spent(10 * COIN)},
            "10 coins in the last 24 hours and 1 coin more are above the 10 coins of max_amount_per_day",
        ),
        (
            {"gas_paid_wei": COIN - GWEI},
            "999,999,999 gwei in the last 24 hours and 4,000,000 gwei more are above the 1,000,000,000 gwei of max_gas_wei_per_day",
        ),
    ],
    ids=["balance", "amount per day", "gas per day"],
)
def test_what_the_money_does_not_reach_for_is_told_in_coins_or_gwei(changed: dict[str, Any], why: str) -> None:
    assert judged(factory.proposal(asset=COINS), factory.facts(**changed)).why == why


def test_findings_survive_the_book() -> None:
    findings = judged().findings
    assert policy.decode(policy.encode(findings)) == findings


def test_findings_that_are_none_are_refused() -> None:
    with pytest.raises(errors.StoreError):
        policy.decode('[{"rule": "luck", "outcome": "pass", "detail": ""}]')
