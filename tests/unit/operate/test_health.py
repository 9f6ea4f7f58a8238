"""Health: from what was measured to what is wrong, how badly, and what mends it.

Method: the facts of a healthy site with one thing changed, on both sides of each threshold.
"""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeagent.operate.facts import (
    BudgetFacts,
    CertificateFacts,
    ClockFacts,
    ConsumerFacts,
    Facts,
    GapFacts,
    LaneLag,
    Spread,
)
from edgeagent.operate.health import STATES, health, seconds, worst
from tests.unit.operate.healthy import BROKER, CENTRAL, HEALTHY, LINK, facts, journal, link

WEEK_S = 7 * 86_400.0


def lag(oldest_s, records=9):
    return facts(consumers=(replace(CENTRAL, lanes=(LaneLag("data", records, oldest_s),)),))


def gap(age_s, *, cause="timeout", period_s=1.0, uptime_s=WEEK_S):
    return facts(gaps=(GapFacts("probe/all", cause, age_s, period_s),), uptime_s=uptime_s)


def away(for_s, state="down"):
    return link(state=state, cause="connection refused", for_s=for_s)


def silent(for_s, uptime_s=WEEK_S):
    return replace(link(silent={"probe": (for_s, "no answer in 1 s")}), uptime_s=uptime_s)


def broker(for_s):
    return facts(broker=replace(BROKER, state="down", cause="reset by peer", for_s=for_s))


def clock(state="synced", **changes):
    return facts(clock=ClockFacts(state, **changes))


def budget(**changes):
    return journal(budget=BudgetFacts(20 * 10**9, 0.8, **changes))


def certificate(place, left_d):
    ends = CertificateFacts(place, "CN=x", "4f1c9a0b22d7" + "0" * 52, left_d * 86_400.0)
    return facts(certificates=(ends,))


def late(share):
    return link(late_p99=share, late_max=share, late=Spread(share, share, 60, share))


CASES = [
    ("links", "warning", away(59), "gateway down for 59 s (connection refused)"),
    ("links", "fault", away(60), "1 of 1 not up"),
    ("links", "warning", away(1, "connecting"), "gateway connecting"),
    ("instruments", "warning", silent(59), "probe for 59 s (no answer in 1 s)"),
    ("instruments", "fault", silent(60), "1 of 2 silent"),
    ("instruments", "warning", silent(WEEK_S, uptime_s=5), "probe for 7 d"),
    ("gaps", "warning", gap(299), "1 open (timeout 1), longest: probe/all, for 4.98 min"),
    ("gaps", "fault", gap(300), "for 5 min"),
    ("gaps", "warning", gap(7199, period_s=3600), "probe/all"),
    ("gaps", "fault", gap(3 * 3600, period_s=3600), "for 3 h"),
    ("gaps", "warning", gap(WEEK_S, cause="agent_killed", uptime_s=10), "agent_killed"),
    ("gaps", "warning", gap(None, cause="first_value", uptime_s=10), "no value yet"),
    ("gaps", "fault", gap(None, cause="first_value"), "no value yet"),
    ("gaps", "ok", facts(gaps_last_hour=12), "12 opened within the last hour"),
    ("gaps", "warning", facts(gaps_last_hour=13), "13 opened within the last hour"),
    ("gaps", "ok", facts(gaps_last_hour=60, groups=30), "60 opened"),
    ("polling", "ok", late(0.09), "p99 9%"),
    ("polling", "warning", late(0.1), "gateway, p99 10% and at most 10% of the period (100 ms)"),
    ("polling", "ok", link(late_p99=0.49, late=Spread(0.049, 0.049)), "p99 49%"),
    ("polling", "warning", link(late_p99=0.5, late=Spread(0.05, 0.05)), "p99 50%"),
    ("polling", "fault", late(1.0), "p99 100%"),
    ("polling", "warning", link(missed=2), "2 ticks missed"),
    ("polling", "fault", facts(overdue=(("probe/all", 20.0),)), "neither values nor a gap"),
    ("journal", "fault", journal(full_for_s=8.0, storing="nothing"), "full for 8 s: nothing"),
    ("journal", "fault", journal(full_for_s=8.0, storing="reserved"), "only critical tags"),
    ("journal", "warning", journal(mended=4, mended_today=1), "1 writes failed and were mended"),
    ("journal", "ok", journal(mended=4), "every write succeeded"),
    ("budget", "ok", budget(), "80% used, budget 20 GB"),
    ("budget", "warning", budget(stage=80, left_s=WEEK_S), "full in 7 d without receipts"),
    ("budget", "fault", budget(stage=90), "80% used"),
    ("commits", "ok", journal(commits=Spread(0.9, 0.9)), "at most 900 ms"),
    ("commits", "warning", journal(commits=Spread(0.01, 1.0)), "at most 1 s"),
    ("commits", "fault", journal(commits=Spread(0.01, 5.0)), "at most 5 s"),
    ("broker", "warning", broker(899), "down for 15 min: reset by peer"),
    ("broker", "fault", broker(900), "mqtts://broker.example down"),
    ("consumers", "warning", facts(consumers=()), "nobody is enrolled"),
    ("consumers", "warning", facts(consumers=(replace(CENTRAL, state="suspended"),)), "suspended"),
    ("delivery", "ok", lag(59), "central: data 9 behind, oldest 59 s"),
    ("delivery", "warning", lag(60), "oldest 60 s"),
    ("delivery", "fault", lag(900), "oldest 15 min"),
    ("delivery", "warning", lag(None), "data 9 behind"),
    ("delivery", "ok", facts(consumers=()), "no consumer"),
    ("delivery", "ok", facts(consumers=(replace(CENTRAL, state="suspended"),)), "no consumer"),
    ("clock", "ok", clock(error_s=0.008), "synced, error at most 8 ms"),
    ("clock", "warning", clock("holdover", error_s=2.0), "holdover, error at most 2 s"),
    ("clock", "fault", clock("unsynced", error_s=None), "unsynced"),
    ("clock", "warning", clock("unknown", error_s=None, answered_ago_s=None), "never answered"),
    ("clock", "warning", clock(answered_ago_s=1801.0), "answered 30 min ago"),
    ("clock", "warning", clock(steps=5, steps_today=1), "moved 1 times within the last day"),
    ("certificates", "ok", certificate("trusted", 61), "first end in 61 d"),
    ("certificates", "warning", certificate("trusted", 60), "CN=x (trusted, 4f1c9a0b22d7) ends in"),
    ("certificates", "fault", certificate("own", 7), "CN=x (own, 4f1c9a0b22d7) ends in 7 d"),
    ("certificates", "fault", certificate("issuers", -3), "ended 3 d ago"),
    ("certificates", "ok", certificate("crl", 1), "none in use"),
    ("certificates", "fault", certificate("crl", -3), "(crl, 4f1c9a0b22d7) ended 3 d ago"),
    ("event_loop", "ok", facts(loop_lag=Spread(0.09, 0.9)), "p99 90 ms"),
    ("event_loop", "warning", facts(loop_lag=Spread(0.1, 0.1)), "p99 100 ms"),
    ("event_loop", "warning", facts(loop_lag=Spread(0.0, 1.0)), "late by at most 1 s"),
    ("event_loop", "fault", facts(loop_lag=Spread(1.0, 1.0)), "p99 1 s"),
]  # fmt: skip


def check_of(found, name):
    (check,) = [check for check in found.checks if check.name == name]
    return check


@pytest.mark.parametrize(("name", "state", "measured", "evidence"), CASES)
def test_each_check_states_its_evidence_and_what_mends_it(name, state, measured, evidence):
    check = check_of(health(measured), name)
    assert (check.state, evidence in check.text) == (state, True), check.text
    assert (check.mend is None) == (state == "ok"), "a mend where one is needed, and only there"


def test_nothing_is_wrong_with_a_healthy_site():
    found = health(HEALTHY)
    assert {check.state for check in found.checks} == {"ok"}
    assert (found.state, found.brief()) == ("ok", {"state": "ok", "checks": []})
    assert {name for name, *_ in CASES} == {check.name for check in found.checks}


def test_the_worst_check_counts_and_a_head_names_what_is_not_ok():
    found = health(replace(away(60), clock=ClockFacts("unknown", "none", None, None)))
    assert found.state == "fault"
    assert found.brief() == {"state": "fault", "checks": ["links", "clock"]}
    stated = json.loads(json.dumps(found.stated()))
    assert stated["state"] == "fault"
    assert set(stated["checks"][0]) == {"name", "state", "text", "mend"}


def test_whoever_enrolls_nobody_is_told_how():
    assert "edgeagent consumer enrol" in check_of(health(facts(consumers=())), "consumers").mend


def test_what_waits_because_the_broker_is_away_points_at_the_broker():
    measured = replace(lag(2000), broker=broker(2000).broker)
    assert check_of(health(measured), "delivery").mend == "see broker"


def test_who_catches_up_is_left_in_peace_and_who_is_silent_is_named():
    dead = ConsumerFacts("lab", listens=False, lanes=(LaneLag("data", 9, 2000.0),))
    behind = replace(CENTRAL, catching_up=True, lanes=(LaneLag("data", 9, 3000.0),))
    assert check_of(health(facts(consumers=(behind,))), "delivery").mend.startswith("wait")
    both = check_of(health(facts(consumers=(CENTRAL, behind, dead))), "delivery")
    assert both.text.startswith("central: data 9 behind, oldest 50 min; lab (not heard lately)")
    assert both.mend.startswith("check that the receiver")


def test_a_certificate_that_ends_says_what_to_type_but_not_by_a_wrong_clock():
    check = check_of(health(certificate("own", 3)), "certificates")
    assert check.mend.startswith("edgeagent certs create --replace")
    wrong = replace(certificate("own", -300), clock=ClockFacts("unsynced", "chrony", None))
    assert check_of(health(wrong), "certificates").mend.startswith("see clock first")


def test_many_of_a_kind_stay_readable():
    links = tuple(replace(LINK, name=f"link-{n}", state="down", for_s=9.0) for n in range(40))
    text = check_of(health(facts(links=links)), "links").text
    assert text.startswith("40 of 40 not up: link-0 down")
    assert len(text) < 120


durations = st.floats(0, 1e9)
gaps = st.builds(
    GapFacts, st.just("a/b"), st.sampled_from(["timeout", "new"]), st.none() | durations
)
lanes = st.builds(LaneLag, st.just("data"), st.integers(0, 10**9), st.none() | durations)
consumers = st.builds(
    ConsumerFacts,
    st.just("central"),
    st.sampled_from(["enrolled", "suspended"]),
    st.booleans(),
    st.booleans(),
    st.lists(lanes, max_size=2).map(tuple),
)
states = st.sampled_from(["connecting", "up", "down"])
anything = st.builds(
    lambda uptime_s, gaps, consumers, state, for_s: replace(
        HEALTHY,
        uptime_s=uptime_s,
        gaps=tuple(gaps),
        consumers=tuple(consumers),
        broker=replace(BROKER, state=state, for_s=for_s),
        links=(replace(LINK, state=state, for_s=for_s),),
    ),
    durations,
    st.lists(gaps, max_size=3),
    st.lists(consumers, max_size=3),
    states,
    durations,
)


@given(anything)
def test_health_never_fails_and_is_as_bad_as_its_worst_check(measured: Facts):
    found = health(measured)
    assert found.state == worst(check.state for check in found.checks)
    assert all(check.text and (check.state == "ok" or check.mend) for check in found.checks)
    json.dumps(found.stated(), allow_nan=False)


def test_a_site_without_links_is_stated_too():
    assert health(facts(links=(), groups=0)).state == "ok"


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0 ms"), (0.0124, "12 ms"), (1, "1 s"), (119.4, "119 s"), (120, "2 min"),
     (7199, "120 min"), (7200, "2 h"), (172_800, "2 d"), (1e9, "11574 d")],
)  # fmt: skip
def test_durations_are_readable(value, text):
    assert seconds(value) == text


def test_states_are_ordered():
    assert worst([]) == "ok"
    assert worst(reversed(STATES)) == "fault"
    assert worst(["ok", "warning"]) == "warning"


def test_the_manual_names_every_check():
    manual = (Path(__file__).parents[3] / "docs/operating.md").read_text(encoding="utf-8")
    table = manual.partition("## Health")[2].partition("**Scripts")[0]
    named = re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)
    assert named == [check.name for check in health(HEALTHY).checks]
