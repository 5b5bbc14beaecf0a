"""The alert rules: each fires when it should and is silent when it should not, as Prometheus itself evaluates them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from tests.deploy import promtool

FOLDER = promtool.ROOT / "deploy" / "prometheus"
FILES = sorted(FOLDER.glob("*.yml"))


class Case(NamedTuple):
    """Series in promtool's notation, a value a minute. At `minute` the alert fires with `bad` and is silent with `good`."""

    minute: int
    bad: dict[str, str]
    good: dict[str, str]


def gauge(name: str, *, bad: int, good: int, minute: int) -> Case:
    return Case(minute, {name: f"{bad}x{minute}"}, {name: f"{good}x{minute}"})


def counted(name: str, *, minute: int = 10) -> Case:
    """One more five minutes ago, against one that was counted before all this."""
    return Case(minute, {name: f"0x{minute - 5} 1x10"}, {name: f"1x{minute + 5}"})


CASES = {
    "AgentNotAlive": gauge("stakeside_alive", bad=0, good=1, minute=3),
    "AgentNotReady": Case(12, {"stakeside_ready": "0x12"}, {"stakeside_ready": "0x8 1 0x8"}),
    "LatchSet": gauge("stakeside_latches", bad=1, good=0, minute=1),
    "ServiceLatched": gauge('stakeside_service_state{service="close",state="latched"}', bad=1, good=0, minute=1),
    "WrongChain": gauge('stakeside_node_state{state="wrong-chain"}', bad=1, good=0, minute=1),
    "IndexBehind": gauge("stakeside_index_lag_blocks", bad=60, good=40, minute=12),
    "NodeHeadStuck": Case(30, {"stakeside_node_head_block": "100x30"}, {"stakeside_node_head_block": "100+5x30"}),
    "NodeLies": counted("stakeside_node_lies_total"),
    "NodeErrors": Case(
        30,
        {
            'stakeside_node_errors_total{error="Transient"}': "0+20x30",
            'stakeside_node_errors_total{error="BadAnswer"}': "0+20x30",
        },
        {'stakeside_node_errors_total{error="Transient"}': "0+20x30"},
    ),
    "DeepReorg": Case(
        10,
        {"stakeside_reorg_depth_blocks_count": "0x5 1x10", 'stakeside_reorg_depth_blocks_bucket{le="13.0"}': "0x15"},
        {
            "stakeside_reorg_depth_blocks_count": "0x5 1x10",
            'stakeside_reorg_depth_blocks_bucket{le="13.0"}': "0x5 1x10",
        },
    ),
    "ItemsParked": gauge("stakeside_parked_items", bad=1, good=0, minute=7),
    "GapOpen": Case(70, {"stakeside_gaps_open": "1x70"}, {"stakeside_gaps_open": "1x30 0x40"}),
    "OutboxOld": gauge("stakeside_outbox_oldest_seconds", bad=3700, good=3500, minute=1),
    "HubUnreachable": gauge('stakeside_hub_reachable{hub="https://hub"}', bad=0, good=1, minute=17),
    "HubRefuses": counted("stakeside_hub_refusals_total"),
    "HubAmnesia": counted("stakeside_hub_amnesia_total"),
    "IntentNeedsOperator": gauge('stakeside_intents{state="needs_operator"}', bad=1, good=0, minute=1),
    "IntentOld": gauge("stakeside_intent_oldest_seconds", bad=90_000, good=80_000, minute=7),
    "TransactionsStuck": Case(
        130,
        {'stakeside_intents{state="pending"}': "2x130", 'stakeside_intents{state="included"}': "7x130"},
        {'stakeside_intents{state="pending"}': "2x130", 'stakeside_intents{state="included"}': "7x50 8x30 9x50"},
    ),
    "IntentFailed": Case(
        10,
        {'stakeside_intents{state="final_reverted"}': "3x5 4x5"},
        {'stakeside_intents{state="final_reverted"}': "3x10", 'stakeside_intents{state="final_no_effect"}': "0x10"},
    ),
    "SubmissionBlocked": gauge("stakeside_submission_blocked", bad=1, good=0, minute=17),
    "LeaseLost": Case(20, {"stakeside_lease_held": "1x10 0x10"}, {"stakeside_lease_held": "0x20"}),
    "AccountLow": Case(
        17,
        {"stakeside_account_balance_gwei": "49000000x17", 'stakeside_belt_state{belt="staking",state="off"}': "0x17"},
        {"stakeside_account_balance_gwei": "0x17", 'stakeside_belt_state{belt="staking",state="off"}': "1x17"},
    ),
    "RequestsRefused": Case(
        12,
        {'stakeside_requests_refused_total{status="401"}': "0+5x12"},
        {'stakeside_requests_refused_total{status="401"}': "0+1x12"},
    ),
    "HubEquivocation": counted("stakeside_hub_equivocations_total"),
    "HubSignerQuarantined": gauge("stakeside_hub_quarantined_signers", bad=1, good=0, minute=12),
    "HubDiverged": gauge('stakeside_hub_diverged_frames{stream="main"}', bad=1, good=0, minute=7),
    "HubContradicted": gauge('stakeside_hub_contradicted_frames{stream="main"}', bad=1, good=0, minute=1),
    "HubHeld": gauge('stakeside_hub_held_frames{stream="main"}', bad=1, good=0, minute=1),
    "HubNotSealing": Case(
        70,
        {'stakeside_hub_last_seal_timestamp_seconds{stream="main"}': "0x70"},
        {'stakeside_hub_last_seal_timestamp_seconds{stream="main"}': "0x20 1200x50"},
    ),
    "HubBodyMissing": gauge("stakeside_hub_wanted_bodies", bad=2, good=0, minute=12),
    "HubErrors": Case(
        15,
        {'stakeside_hub_http_requests_total{route="/v1/attestations",status="503"}': "0+2x15"},
        {'stakeside_hub_http_requests_total{route="/v1/attestations",status="200"}': "0+2x15"},
    ),
    "CertificateExpiring": gauge(
        'stakeside_certificate_expires_timestamp_seconds{use="server"}', bad=1_200_000, good=1_300_000, minute=12
    ),
    "HubCertificateExpiring": gauge(
        'stakeside_hub_certificate_expires_timestamp_seconds{use="server"}', bad=1_200_000, good=1_300_000, minute=12
    ),
}


def rules() -> list[dict[str, Any]]:
    return [rule for path in FILES for group in yaml.safe_load(path.read_text())["groups"] for rule in group["rules"]]


def test_every_alert_has_a_case_and_the_other_way_round() -> None:
    assert sorted(CASES) == sorted(rule["alert"] for rule in rules())


def test_every_alert_says_where_and_how_bad() -> None:
    for rule in rules():
        assert rule["labels"]["severity"] in ("page", "warn"), rule["alert"]
        assert rule["annotations"]["summary"].startswith("{{ $labels.instance }}"), rule["alert"]


@promtool.needed
def test_promtool_accepts_the_rules() -> None:
    done = promtool.run("check", "rules", "--lint=all", "--lint-fatal", *map(str, FILES))
    assert done.returncode == 0, done.stdout + done.stderr


@promtool.needed
@pytest.mark.parametrize("kind", ["bad", "good"])
def test_alerts_fire_on_what_is_bad_and_on_nothing_else(kind: str, tmp_path: Path) -> None:
    """Every series has a place of its own; a case's world also holds nothing else, so an alert that fires by itself shows."""
    tests: list[dict[str, Any]] = []
    for alert, case in CASES.items():
        series = case.bad if kind == "bad" else case.good
        firing = [{"labels": "{}", "value": 1}] if kind == "bad" else []
        tests.append(
            {
                "name": alert,
                "interval": "1m",
                "input_series": [{"series": _placed(name), "values": values} for name, values in series.items()],
                "promql_expr_test": [
                    {
                        "expr": f'count(ALERTS{{alertname="{alert}",alertstate="firing",instance="here"}})',
                        "eval_time": f"{case.minute}m",
                        "exp_samples": firing,
                    }
                ],
            }
        )
    file = tmp_path / "alerts.test.yml"
    file.write_text(yaml.safe_dump({"rule_files": [str(path) for path in FILES], "tests": tests}))
    done = promtool.run("test", "rules", str(file))
    assert done.returncode == 0, done.stdout + done.stderr


DAY = 86_400


class Issued(NamedTuple):
    """A certificate, in seconds from the time of the look."""

    began: int
    ends: int
    fires: bool
    says_when_it_began: bool = True


ISSUED = {
    "ninety days, of which thirty are left": Issued(-60 * DAY, 30 * DAY, False),
    "ninety days, of which two weeks are over": Issued(-77 * DAY, 13 * DAY, True),
    "ten years, of which a month is left": Issued(-3620 * DAY, 30 * DAY, False),
    "ten years, of which a week is left": Issued(-3643 * DAY, 7 * DAY, True),
    "a week, fresh": Issued(-3600, 7 * DAY - 3600, False),
    "a week, when a third is left and it is renewed": Issued(-5 * DAY, 2 * DAY, False),
    "a week, of which a day is left": Issued(-6 * DAY, DAY, True),
    "a day, fresh": Issued(-3600, DAY - 3600, False),
    "a day, when a third is left and it is renewed": Issued(-16 * 3600, 8 * 3600, False),
    "a day, of which five hours are left": Issued(-19 * 3600, 5 * 3600, True),
    "an hour, of which half is left": Issued(-1800, 1800, False),
    "over": Issued(-2 * DAY, -3600, True),
    "from an agent of before, a week left": Issued(0, 7 * DAY, True, says_when_it_began=False),
    "from an agent of before, a month left": Issued(0, 30 * DAY, False, says_when_it_began=False),
}


@promtool.needed
@pytest.mark.parametrize(("who", "alert"), [("", "CertificateExpiring"), ("hub_", "HubCertificateExpiring")])
def test_a_certificate_is_told_of_in_time_and_a_short_lived_one_only_when_nobody_renewed_it(
    who: str, alert: str, tmp_path: Path
) -> None:
    minute = 12
    tests: list[dict[str, Any]] = []
    for name, issued in ISSUED.items():
        name_of, at_s = f'stakeside_{who}certificate_VERB_timestamp_seconds{{use="server"}}', minute * 60
        series = {_placed(name_of.replace("VERB", "expires")): at_s + issued.ends}
        if issued.says_when_it_began:
            series[_placed(name_of.replace("VERB", "begins"))] = at_s + issued.began
        expr = f'count(ALERTS{{alertname="{alert}",alertstate="firing",instance="here"}})'
        samples = [{"labels": "{}", "value": 1}] if issued.fires else []
        tests.append(
            {
                "name": name,
                "interval": "1m",
                "input_series": [{"series": key, "values": f"{value}x{minute}"} for key, value in series.items()],
                "promql_expr_test": [{"expr": expr, "eval_time": f"{minute}m", "exp_samples": samples}],
            }
        )
    file = tmp_path / "certificates.test.yml"
    file.write_text(yaml.safe_dump({"rule_files": [str(path) for path in FILES], "tests": tests}))
    done = promtool.run("test", "rules", str(file))
    assert done.returncode == 0, done.stdout + done.stderr


def _placed(name: str) -> str:
    """The series as one instance exports it."""
    metric, brace, labels = name.partition("{")
    rest = f",{labels}" if brace else "}"
    return f'{metric}{{instance="here"{rest}'


def test_a_case_names_series_that_its_rule_looks_at() -> None:
    expressions = {rule["alert"]: rule["expr"] for rule in rules()}
    for alert, case in CASES.items():
        for name in {*case.bad, *case.good}:
            metric = re.split(r"[{]", name)[0]
            assert metric in expressions[alert], alert
