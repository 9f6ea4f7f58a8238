"""What a site file may say of its broker, links and instruments."""

from typing import Any

import pytest
from pydantic import ValidationError

from edgeagent.model.settings import (
    BrokerSettings,
    InstrumentSettings,
    JournalSettings,
    LinkSettings,
    SiteSettings,
    driver_keys,
)


def refused(model: Any, **stated: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        model(**stated)
    return "\n".join(error["msg"] for error in caught.value.errors())


@pytest.mark.parametrize(
    ("url", "host", "port", "tls"),
    [
        ("mqtt://broker", "broker", 1883, False),
        ("mqtts://broker.example", "broker.example", 8883, True),
        ("mqtts://broker.example:443/", "broker.example", 443, True),
        ("mqtt://[::1]:1884", "::1", 1884, False),
        ("mqtt://10.0.0.7:1", "10.0.0.7", 1, False),
    ],
)
def test_broker_addresses(url, host, port, tls):
    broker = BrokerSettings(url=url)
    assert (broker.host, broker.port, broker.tls) == (host, port, tls)


@pytest.mark.parametrize(
    "url",
    [
        *("broker", "broker:1883", "//broker", "tcp://broker", "https://broker", "mqtt:broker", ""),
        *("mqtt://", "mqtt://:1883", "mqtt://broker/path", "mqtt://broker?x=1", "mqtt://broker#x"),
        *("mqtt://broker:0", "mqtt://broker:65536", "mqtt://broker:x", "mqtt://[::1"),
    ],
)
def test_what_is_no_broker_address_is_refused_with_an_example(url):
    assert "is no broker address; write e.g. mqtts://broker.example:8883" in refused(
        BrokerSettings, url=url
    )


@pytest.mark.parametrize(
    "url",
    ["mqtt://me:secret@broker", "mqtt://me:secret@broker/path", "tcp://:secret@", "me@broker"],
)
def test_secrets_do_not_stand_in_addresses_nor_in_the_refusal(url):
    words = refused(BrokerSettings, url=url)
    assert "use username and password_file" in words
    assert "secret" not in words


@pytest.mark.parametrize(
    ("stated", "words"),
    [
        ({"key_file": "k.pem"}, "go together"),
        ({"certificate_file": "c.pem"}, "go together"),
        ({"password_file": "p"}, "needs a username"),
        ({"ca_file": "ca.pem"}, "need an mqtts:// address"),
        ({"certificate_file": "c", "key_file": "k"}, "need an mqtts:// address"),
        ({"version": "4"}, "'5' or '3.1.1'"),
        ({"keepalive": 15}, "no duration"),
        ({"colour": "blue"}, "Extra inputs"),
    ],
)
def test_what_no_broker_may_say(stated, words):
    assert words in refused(BrokerSettings, url="mqtt://broker", **stated)


def site(**changes: Any) -> dict[str, Any]:
    return {
        "site": "berlin-1",
        "state_dir": "/var/lib/edgeagent",
        "broker": {"url": "mqtt://broker"},
        "links": {"gateway": {"driver": "fake", "host": "x"}},
        "instruments": {"probe-1": {"profile": "acme", "link": "gateway", "unit_id": 3}},
    } | changes


def test_defaults_are_those_of_the_documents():
    settings = SiteSettings(**site())
    assert settings.topic_root == "edge/v1"
    assert settings.stream.window_messages == 20
    assert settings.stream.head_every == 10 * 10**9
    assert settings.journal.commit_within == 12 * 10**6
    journal = settings.journal
    assert (journal.budget, journal.reserve) == (20 * 10**9, 64 * 10**6)
    day_ns = 86_400 * 10**9
    assert (journal.keep, journal.evidence_keep) == (90 * day_ns, 30 * day_ns)
    assert journal.pack_after == 3600 * 10**9
    assert settings.broker.version == "5"


@pytest.mark.parametrize(
    "change",
    [
        {"site": "Berlin 1"},
        {"site": "a/b"},
        {"site": "-a"},
        {"site": "a" * 65},
        {"topic_root": "/edge"},
        {"topic_root": "edge/#"},
        {"topic_root": "edge/+/v1"},
        {"topic_root": ""},
        {"links": {}},
        {"instruments": {}},
        {"instruments": {"Probe": {"profile": "a", "link": "b"}}},
        {"stream": {"window_messages": 0}},
        {"journal": {"commit_within": "0 s"}},
        {"brokr": {}},
    ],
)
def test_what_no_site_may_say(change):
    refused(SiteSettings, **site(**change))


@pytest.mark.parametrize(
    ("stated", "words"),
    [
        ({"budget": 20}, "no size"),
        ({"budget": "100 MB"}, "less than twice the reserve; raise budget"),
        ({"reserve": "10 GB", "budget": "19 GB"}, "less than twice the reserve; raise budget"),
        ({"reserve": "31 MB"}, "write 32 MB or more"),
        ({"keep": "90"}, "no duration"),
        ({"keep": "20 d", "evidence_keep": "21 d"}, "lower evidence_keep or raise keep"),
        ({"pack_after": "25 h"}, "write 1 d or less"),
    ],
)
def test_what_no_journal_may_say(stated, words):
    assert words in refused(JournalSettings, **stated)


def test_a_short_keep_alone_is_no_contradiction():
    assert JournalSettings(keep="7 d").keep == 7 * 86_400 * 10**9


def test_keys_of_the_driver_are_kept_for_the_driver():
    settings = SiteSettings(**site())
    assert driver_keys(settings.links["gateway"]) == {"host": "x"}
    assert driver_keys(settings.instruments["probe-1"]) == {"unit_id": 3}
    assert driver_keys(LinkSettings(driver="fake")) == {}


def test_what_was_commissioned():
    made = InstrumentSettings(profile="acme", link="l", serial_number="7", firmware="1.0")
    assert made.expected == (("serial_number", "7"), ("firmware", "1.0"))
    assert InstrumentSettings(profile="acme", link="l").expected == ()
