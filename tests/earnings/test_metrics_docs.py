"""The hub's metrics page, its alerts and its document name the same things."""

from __future__ import annotations

import re
from pathlib import Path

from earnings import metrics

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "hub-metrics.md").read_text()
RULES = (ROOT / "deploy" / "prometheus" / "hub-rules.yml").read_text()


def names() -> dict[str, str]:
    """Every family as Prometheus names it, with its help text."""
    families = metrics.Metrics().registry.collect()
    return {f.name + ("_total" if f.type == "counter" else ""): f.documentation for f in families}


def test_every_metric_of_the_hub_is_described_and_no_other() -> None:
    described = dict(re.findall(r"^\| `(stakeside_hub_\w+)` \|.*\| ([^|]+) \|$", PAGE, re.MULTILINE))
    assert described == names()


def test_every_alert_names_metrics_that_exist() -> None:
    used = set(re.findall(r"stakeside_hub_\w+", RULES))
    assert used and used <= set(names())


def test_every_alert_has_its_line_in_the_document_and_the_other_way_round() -> None:
    alerts = set(re.findall(r"alert: (\w+)", RULES))
    assert alerts and alerts == set(re.findall(r"^\| `(Hub\w+)` \|", PAGE, re.MULTILINE))
