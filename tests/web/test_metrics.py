"""The metrics page: what it says, and that documents and rules name what is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from prometheus_client import parser

from agent.web import metrics
from kit import tls
from tests.web.conftest import World

ROOT = Path(__file__).resolve().parents[2]


async def scrape(world: World) -> dict[str, float]:
    status, headers, body = await world.get("/metrics")
    assert status == 200 and headers["Content-Type"] == metrics.CONTENT_TYPE
    found: dict[str, float] = {}
    for family in parser.text_string_to_metric_families(body.decode()):
        for sample in family.samples:
            labels = ",".join(f"{k}={v}" for k, v in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


async def test_a_scrape_shows_index_events_streams_and_services(world: World) -> None:
    await world.fill()
    await world.close_frames(2)
    world.index.counts.lies = 3
    found = await scrape(world)
    assert found["stakeside_index_head_block"] == 4
    assert found["stakeside_index_finalized_block"] == 2
    assert found["stakeside_index_lag_blocks"] == 0
    assert found["stakeside_events_total{kind=Delegated}"] == 3
    assert found["stakeside_node_lies_total"] == 3
    assert found["stakeside_frame_sequence{stream=main}"] == 1
    assert found["stakeside_statements_total{stream=main}"] == 2
    assert found["stakeside_service_state{service=index,state=ok}"] == 1
    assert found["stakeside_service_state{service=index,state=latched}"] == 0
    assert found["stakeside_ready"] == 1
    assert [value for name, value in found.items() if name.startswith("stakeside_build_info{")] == [1]


async def test_a_scrape_says_when_certificates_end(world: World) -> None:
    assert not any("certificate" in name for name in await scrape(world))
    found = {"server": tls.Term(1_700_000_000, 1_800_000_000), "client": tls.Term(1_700_000_000, 1_700_086_400)}
    world.meters.certificates(lambda: found)
    scraped = await scrape(world)
    assert scraped["stakeside_certificate_expires_timestamp_seconds{use=server}"] == 1_800_000_000
    assert scraped["stakeside_certificate_begins_timestamp_seconds{use=client}"] == 1_700_000_000
    found["server"] = tls.Term(1_700_000_001, 1_800_000_001)
    scraped = await scrape(world)
    assert scraped["stakeside_certificate_expires_timestamp_seconds{use=server}"] == 1_800_000_001
    assert scraped["stakeside_certificate_begins_timestamp_seconds{use=server}"] == 1_700_000_001


async def test_a_scrape_forgets_a_certificate_that_is_no_longer_in_use(world: World) -> None:
    found = {"server": tls.Term(1, 2), "client": tls.Term(3, 4)}
    world.meters.certificates(lambda: found)
    assert "stakeside_certificate_expires_timestamp_seconds{use=client}" in await scrape(world)
    del found["client"]
    left = [name for name in await scrape(world) if "certificate" in name]
    assert len(left) == 2 and all("use=server" in name for name in left)


async def test_a_second_scrape_counts_only_what_is_new(world: World) -> None:
    await world.fill()
    await scrape(world)
    assert (await scrape(world))["stakeside_events_total{kind=Delegated}"] == 3


async def test_observations_become_histograms(world: World) -> None:
    world.meters.index("reorg_depth", 3)
    world.meters.index("reorg_depth", 20)
    world.meters.node_exchange("eth_getLogs", 0.02, "ok")
    world.meters.node_exchange("eth_getLogs", 10.0, "Transient")
    world.meters.step("index", 0.01)
    found = await scrape(world)
    assert found["stakeside_reorgs_total"] == 2
    assert found["stakeside_reorg_depth_blocks_bucket{le=3.0}"] == 1
    assert found["stakeside_node_errors_total{error=Transient}"] == 1
    assert found["stakeside_node_request_seconds_count{method=eth_getLogs}"] == 2
    assert found["stakeside_service_step_seconds_count{service=index}"] == 1


def test_an_unknown_observation_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="no such observation"):
        metrics.Metrics(version="1").index("depth", 1)


def names() -> set[str]:
    """Every family, as Prometheus names it."""
    found: set[str] = set()
    for family in metrics.Metrics(version="1").registry.collect():
        suffix = {"counter": "_total", "info": "_info"}.get(family.type, "")
        found.add(family.name + suffix)
    return found


def test_every_metric_follows_the_naming_conventions() -> None:
    for family in metrics.Metrics(version="1").registry.collect():
        assert re.fullmatch(r"stakeside(_[a-z]+)+", family.name)
        assert family.documentation.endswith(".")


def test_the_metrics_page_describes_every_metric_and_no_other() -> None:
    text = (ROOT / "docs" / "metrics.md").read_text()
    assert set(re.findall(r"^\| `(stakeside_\w+)`", text, re.MULTILINE)) == names()


def test_every_metric_of_the_rules_exists() -> None:
    text = (ROOT / "deploy" / "prometheus" / "rules.yml").read_text()
    used = {re.sub(r"_(bucket|sum|count)$", "", name) for name in re.findall(r"\bstakeside_\w+", text)}
    assert used and used <= names()


def test_every_alert_has_one_line_in_the_runbook() -> None:
    alerts = re.findall(r"^\s*- alert: (\w+)", (ROOT / "deploy" / "prometheus" / "rules.yml").read_text(), re.MULTILINE)
    page = (ROOT / "docs" / "runbook.md").read_text().partition("## Latches")[0]
    lines = re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)
    assert alerts and sorted(alerts) == sorted(lines)


def test_every_latch_that_a_service_sets_is_in_the_runbook() -> None:
    page = (ROOT / "docs" / "runbook.md").read_text().partition("## Latches")[2]
    described = set(re.findall(r"^\| `([\w.-]+)` \|", page, re.MULTILINE))
    code = "".join(file.read_text() for file in (ROOT / "agent" / "services").glob("*.py"))
    deciders = "".join(file.read_text() for file in (ROOT / "agent" / "delegations").glob("*.py"))
    earning = set(re.findall(r'^\w*LATCH\w* = "([\w-]+)"', code, re.MULTILINE))
    assert described == earning | set(re.findall(r'^[A-Z]+ = "(submit\.\w+)"', deciders, re.MULTILINE))
