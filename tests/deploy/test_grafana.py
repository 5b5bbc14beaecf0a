"""The dashboard: every query names metrics and labels that the processes export, and Prometheus can parse it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, cast

import pytest
import yaml
from prometheus_client import CollectorRegistry

from agent.web import metrics as agent_metrics
from domain import intent
from earnings import metrics as hub_metrics
from tests.deploy import promtool

FILE = promtool.ROOT / "deploy" / "grafana" / "stakeside.json"
DASHBOARD: dict[str, Any] = json.loads(FILE.read_text())
PANELS: list[dict[str, Any]] = DASHBOARD["panels"]
SCRAPED = {"instance", "job"}
"""Labels that Prometheus adds."""
KEYWORDS = {"by", "without", "on", "ignoring", "group_left", "group_right"}


class Query(NamedTuple):
    title: str
    expr: str
    legend: str


def queries() -> list[Query]:
    return [
        Query(panel["title"], target["expr"], target["legendFormat"])
        for panel in PANELS
        for target in panel.get("targets", [])
    ]


def exported() -> dict[str, set[str]]:
    """Every sample name that agent and hub can export, with its labels."""
    found: dict[str, set[str]] = {}
    for registry in (agent_metrics.Metrics(version="1").registry, hub_metrics.Metrics().registry):
        for sample, labels in _samples(registry):
            assert sample not in found, f"{sample} is exported by both"
            found[sample] = labels
    return found


def _samples(registry: CollectorRegistry) -> Iterator[tuple[str, set[str]]]:
    """A metric with labels has no samples before it was used, so its declaration is asked."""
    collectors = cast("dict[Any, list[str]]", registry._collector_to_names)  # pyright: ignore[reportPrivateUsage]
    for collector in collectors:
        labels = set(cast("tuple[str, ...]", collector._labelnames))
        [family] = collector.collect()
        match family.type:
            case "counter":
                yield f"{family.name}_total", labels
            case "info":
                yield f"{family.name}_info", labels | set(family.samples[0].labels)
            case "histogram":
                yield f"{family.name}_bucket", labels | {"le"}
                yield f"{family.name}_sum", labels
                yield f"{family.name}_count", labels
            case _:
                yield family.name, labels


def names(expr: str) -> set[str]:
    return set(re.findall(r"\bstakeside_\w+", expr))


def labels_used(query: Query) -> set[str]:
    matched = {
        name for inside in re.findall(r"\{([^}]*)\}", query.expr) for name in re.findall(r"(\w+)\s*[=!]~?", inside)
    }
    grouped = {
        name.strip()
        for inside in re.findall(rf"\b(?:{'|'.join(KEYWORDS)})\s*\(([^)]*)\)", query.expr)
        for name in inside.split(",")
    }
    return {name for name in matched | grouped | set(re.findall(r"\{\{(\w+)\}\}", query.legend)) if name}


def test_the_dashboard_has_queries_for_agents_and_for_the_hub() -> None:
    used = {name for query in queries() for name in names(query.expr)}
    assert len(queries()) >= 30
    assert any(name.startswith("stakeside_hub_") for name in used)


@pytest.mark.parametrize("query", queries(), ids=lambda query: query.expr[:60])
def test_every_query_names_metrics_and_labels_that_exist(query: Query) -> None:
    known = exported()
    used = names(query.expr)
    assert used and used <= set(known), used - set(known)
    possible = SCRAPED.union(*(known[name] for name in used))
    assert labels_used(query) <= possible, labels_used(query) - possible


@pytest.mark.parametrize("query", queries(), ids=lambda query: query.expr[:60])
def test_every_legend_shows_labels_that_the_query_keeps(query: Query) -> None:
    grouped = re.findall(r"\bby\s*\(([^)]*)\)", query.expr)
    if re.match(r"(?:sum|max|min|avg|count)\b(?!\s*by)", query.expr):
        assert "{{" not in query.legend
    elif grouped:
        kept = {name.strip() for name in grouped[0].split(",")} - {"le"}
        assert set(re.findall(r"\{\{(\w+)\}\}", query.legend)) <= kept


VALUES = {
    ("stakeside_intents", "state"): set[str](intent.STATES),
    ("stakeside_belt_state", "state"): set(agent_metrics.BELT_STATES),
    ("stakeside_belt_state", "belt"): {"earning", "staking"},
    ("stakeside_node_state", "state"): set(agent_metrics.NODE_STATES),
    ("stakeside_service_state", "state"): set[str](agent_metrics.SERVICE_STATES),
    ("stakeside_logs", "chain"): {"canonical", "orphaned"},
}
"""Labels whose values are a closed set."""


def test_every_value_that_a_query_or_a_rule_asks_for_exists() -> None:
    """A misspelled state would match nothing, for ever and in silence."""
    found = 0
    for expr in [*(query.expr for query in queries()), *alert_expressions()]:
        for metric, inside in re.findall(r"\b(stakeside_\w+)\{([^}]*)\}", expr):
            for label, text in re.findall(r'(\w+)\s*(?:=~?|!~|!=)\s*"([^"]*)"', inside):
                if (metric, label) in VALUES:
                    assert set(text.split("|")) <= VALUES[metric, label], expr
                    found += 1
    assert found >= 10


def alert_expressions() -> list[str]:
    return [
        rule["expr"]
        for path in (promtool.ROOT / "deploy" / "prometheus").glob("*.yml")
        for group in yaml.safe_load(path.read_text())["groups"]
        for rule in group["rules"]
    ]


def test_every_metric_of_an_alert_is_on_the_dashboard() -> None:
    """Whoever is paged finds the number on the dashboard."""
    shown = {re.sub(r"_(bucket|sum|count)$", "", name) for query in queries() for name in names(query.expr)}
    alerted = {re.sub(r"_(bucket|sum|count)$", "", name) for expr in alert_expressions() for name in names(expr)}
    assert alerted <= shown, alerted - shown


@promtool.needed
def test_prometheus_parses_every_query(tmp_path: Path) -> None:
    """Each as a recording rule, Grafana's variables filled in."""
    filled = [
        re.sub(r"\$__rate_interval", "5m", query.expr).replace("$instance", ".*")
        for query in [*queries(), _annotation()]
    ]
    assert not [expr for expr in filled if "$" in expr]
    rules = [{"record": f"panel:query:{number}", "expr": expr} for number, expr in enumerate(filled)]
    file = tmp_path / "queries.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    done = promtool.run("check", "rules", str(file))
    assert done.returncode == 0, done.stdout + done.stderr


def _annotation() -> Query:
    [found] = DASHBOARD["annotations"]["list"]
    return Query(found["name"], found["expr"], "")


def test_every_panel_has_an_id_a_place_a_title_and_a_sentence() -> None:
    ids = [panel["id"] for panel in PANELS]
    assert len(ids) == len(set(ids))
    taken: set[tuple[int, int]] = set()
    for panel in PANELS:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24 and not cells & taken, panel["title"]
        taken |= cells
        if panel["type"] != "row":
            assert panel["title"] and panel["description"].endswith("."), panel["title"]
            assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
            letters = [target["refId"] for target in panel["targets"]]
            assert len(letters) == len(set(letters))


def test_the_variables_of_the_queries_are_the_dashboards() -> None:
    declared = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", FILE.read_text())) - {"__rate_interval", "__all"}
    assert used == declared
