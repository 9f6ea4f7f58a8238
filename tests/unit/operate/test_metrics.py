"""Metrics: what a Prometheus server reads from the text, by the library's own parser."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from edgeagent.operate.facts import (
    BudgetFacts,
    CertificateFacts,
    ClockFacts,
    GapFacts,
    LaneLag,
    LinkFacts,
)
from edgeagent.operate.health import health
from edgeagent.operate.metrics import CONTENT_TYPE, metrics_text
from tests.unit.operate.healthy import CENTRAL, HEALTHY, LINK, facts, journal

BUSY = replace(
    journal(budget=BudgetFacts(20 * 10**9, 0.8, 80, 7200.0), full_for_s=1.0, mended=2),
    consumers=(replace(CENTRAL, lanes=(LaneLag("data", 1204, 95.5), LaneLag("event", 1, None))),),
    links=(LINK, LinkFacts("rack", ("oven",), "down", silent={"oven": (3.0, "no answer")})),
    gaps=(GapFacts("oven/all", "link_lost", 12.0), GapFacts("probe/all", "new_cause", None)),
    gaps_opened=5,
    certificates=(CertificateFacts("own", "CN=edgeagent hall", "4f1c", 86_400.0),),
    clock=ClockFacts("holdover", "chrony", 0.25, 600.0, 1, 1),
)


def samples(measured):
    """Return the value of each series, by its name and labels; a series may stand there once."""
    found = {}
    for family in text_string_to_metric_families(metrics_text(measured)):
        for sample in family.samples:
            key = (sample.name, *sorted(sample.labels.items()))
            assert key not in found, f"{key} stands there twice"
            found[key] = sample.value
    return found


def test_every_figure_arrives_under_its_name():
    found = samples(BUSY)
    both = (("consumer", "central"), ("lane", "data"))
    expected = {
        ("edgeagent_build_info", ("configuration", "c0ffee"), ("site", "berlin-1"),
         ("version", "0.1.0")): 1,
        ("edgeagent_frames_total", ("link", "gateway")): 900,
        ("edgeagent_link_up", ("link", "gateway")): 1,
        ("edgeagent_link_up", ("link", "rack")): 0,
        ("edgeagent_instrument_silent", ("instrument", "oven"), ("link", "rack")): 1,
        ("edgeagent_instrument_silent", ("instrument", "probe"), ("link", "gateway")): 0,
        ("edgeagent_poll_lateness_seconds", ("link", "gateway"), ("quantile", "0.99")): 0.001,
        ("edgeagent_poll_lateness_seconds", ("link", "gateway"), ("quantile", "1")): 0.002,
        ("edgeagent_poll_lateness_seconds_count", ("link", "gateway")): 900,
        ("edgeagent_poll_lateness_seconds_sum", ("link", "gateway")): 0.5,
        ("edgeagent_gaps_open", ("cause", "link_lost")): 1,
        ("edgeagent_gaps_open", ("cause", "new_cause")): 1,
        ("edgeagent_gaps_open", ("cause", "timeout")): 0,
        ("edgeagent_gaps_total",): 5,
        ("edgeagent_certificate_left_seconds", ("fingerprint", "4f1c"),
         ("name", "CN=edgeagent hall"), ("place", "own")): 86_400,
        ("edgeagent_gap_oldest_age_seconds",): 12,
        ("edgeagent_journal_used_bytes",): 10**6,
        ("edgeagent_journal_budget_bytes",): 20 * 10**9,
        ("edgeagent_journal_filled_ratio",): 0.8,
        ("edgeagent_journal_left_seconds",): 7200,
        ("edgeagent_journal_full",): 1,
        ("edgeagent_journal_mends_total",): 2,
        ("edgeagent_journal_commit_seconds", ("quantile", "1")): 0.01,
        ("edgeagent_broker_up",): 1,
        ("edgeagent_receipts_total",): 17,
        ("edgeagent_delivery_lag_records", *both): 1204,
        ("edgeagent_delivery_lag_seconds", *both): 95.5,
        ("edgeagent_clock_state", ("state", "holdover")): 1,
        ("edgeagent_clock_state", ("state", "synced")): 0,
        ("edgeagent_clock_error_bound_seconds",): 0.25,
        ("edgeagent_health_state",): 2,
    }  # fmt: skip
    assert {key: found.get(key) for key in expected} == expected
    event = ("edgeagent_delivery_lag_seconds", ("consumer", "central"), ("lane", "event"))
    assert event not in found, "an age that is not known is not stated"


def test_every_check_of_health_is_a_series():
    found = {dict(key[1:])["check"]: value for key, value in samples(BUSY).items()
             if key[0] == "edgeagent_health_check_state"}  # fmt: skip
    states = {"ok": 0, "warning": 1, "fault": 2}
    assert found == {check.name: states[check.state] for check in health(BUSY).checks}


@pytest.mark.parametrize("measured", [HEALTHY, BUSY, facts(links=(), consumers=())])
def test_names_follow_the_conventions(measured):
    text = metrics_text(measured)
    families = list(text_string_to_metric_families(text))
    names = [family.name for family in families]
    assert len(names) == len(set(names))
    assert text.endswith("\n")
    for family in families:
        assert family.name.startswith(("edgeagent_", "process_")), family.name
        assert family.documentation.endswith("."), family.name
        assert family.type in ("counter", "gauge", "summary"), family.name
        if family.type == "counter":
            assert f"# TYPE {family.name}_total counter" in text
    assert "version=0.0.4" in CONTENT_TYPE


def test_labels_of_any_text_arrive_unaltered():
    odd = 'a"b\\c\nd é'
    found = samples(facts(links=(replace(LINK, name=odd),), agent=odd))
    assert found["edgeagent_link_up", ("link", odd)] == 1


def test_the_manuals_and_the_series_agree():
    docs = Path(__file__).parents[3] / "docs"
    found = samples(BUSY)
    causes = (docs / "mqtt.md").read_text(encoding="utf-8").partition("\nCauses: ")[2]
    stated = set(re.findall(r"`(\w+)`", causes.partition("\n\n")[0]))
    assert stated == {dict(key[1:])["cause"] for key in found
                      if key[0] == "edgeagent_gaps_open"} - {"new_cause"}  # fmt: skip
    manual = (docs / "operating.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(edgeagent_\w+)", manual))
    assert named
    assert named <= {key[0] for key in found}
