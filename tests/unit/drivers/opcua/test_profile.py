"""A profile or a link that is wrong is found before a socket opens, with the place and the mend."""

import pytest
from pydantic import ValidationError

from drivers.opcua import DRIVER
from drivers.opcua.settings import OpcUaLinkSettings
from tests.conformance.opcua.server import profile

URL = "opc.tcp://hall:4840"
FILES = {"certificate_file": "a.der", "key_file": "a.pem", "trusted_dir": "trusted"}


def said(error: ValidationError) -> list[str]:
    return [
        f"{'.'.join(map(str, line['loc']))}: {line['msg'].removeprefix('Value error, ')}"
        for line in error.errors()
    ]


def tag(**facts):
    return {"type": "FLOAT64", "s": "x"} | facts


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"node": "ns=2;i=1"}, "names a namespace by its index"),
        ({"element": -1}, "counts from 0; write the index"),
        ({"element": [0, -2]}, "counts from 0; write the index"),
        ({"array": True}, "array makes a text; write type: STRING"),
        ({"type": "STRING", "array": True, "element": 1}, "remove one of them"),
        ({"type": "BOOL", "deadband": {"absolute": 1}}, "a BOOL has no deadband; remove it"),
        ({"deadband": {}}, "is one of two; give absolute or percent"),
        ({"deadband": {"absolute": 1, "percent": 2}}, "is one of two"),
    ],
)
def test_a_tag_that_means_nothing(facts, words):
    facts = tag(**facts)
    if "node" in facts:
        del facts["s"]
    with pytest.raises(ValidationError, match=words):
        profile({"x": facts})


def test_every_unknown_namespace_is_found_at_its_place_in_one_run():
    with pytest.raises(ValidationError) as caught:
        profile(
            {"x": {"type": "BOOL", "node": "nsu=lads;i=1"}, "y": {"type": "BOOL", "node": "/di:D"}},
            identity={"serial_number": {"node": "/di:D/di:SerialNumber"}},
        )
    assert [line.split(";")[0] for line in said(caught.value)] == [
        "identity.serial_number.node: no namespace 'di'",
        "groups.all.tags.x.node: no namespace 'lads'",
        "groups.all.tags.y.node: no namespace 'di'",
    ]


def test_a_queue_that_cannot_hold_one_message_is_refused():
    group = {"publishing_interval": "1 s", "queue_size": 10}
    with pytest.raises(ValidationError, match="give more than 10"):
        profile({"x": tag()}, period="100 ms", group=group)


def test_encryption_is_what_comes_without_a_word():
    link = OpcUaLinkSettings.model_validate({"url": URL} | FILES)
    assert link.security is not None
    assert (link.security.policy, link.security.mode) == ("Basic256Sha256", "SignAndEncrypt")
    assert link.user is None


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"certificate_file": "a.der"}, "certificate_file and key_file go together; add the other"),
        ({"security": None}, "has no value; write none"),
        ({"security": {"policy": "Basic128Rsa15"}} | FILES, "Basic256Sha256"),
        ({"url": "http://hall", "security": "none"}, "is no address of a server; write e.g."),
        ({"url": "opc.tcp://me:pw@hall", "security": "none"}, "no user or password in the address"),
        ({"url": "opc.tcp://hall:99999", "security": "none"}, "is no address of a server"),
        ({"security": "none", "user": {"username": "me"}}, "is no user; give username and"),
        (
            {
                "security": "none",
                "user": {"username": "m", "password_file": "p", "key_file": "k"},
            },
            "is no user",
        ),
        ({"security": "none", "timeout": 3}, "is no duration"),
    ],
)
def test_a_link_that_cannot_be_meant(facts, words):
    with pytest.raises(ValidationError, match=words):
        OpcUaLinkSettings.model_validate({"url": URL} | facts)


def test_security_is_off_only_by_the_word():
    assert OpcUaLinkSettings.model_validate({"url": URL, "security": "none"}).security is None


@pytest.mark.parametrize("start", ["nsu=urn:acme;s=Freezer-3", "i=85", "/Server"])
def test_an_instrument_begins_where_the_site_says(start):
    assert DRIVER.instrument_settings(start=start).start == start


def test_an_instruments_start_needs_the_whole_uri():
    with pytest.raises(ValidationError, match="write the namespace as its whole URI"):
        DRIVER.instrument_settings(start="nsu=acme;s=Freezer-3")


def test_two_links_to_one_server_are_one_end():
    ends = {
        DRIVER.endpoint(link(url))
        for url in ("opc.tcp://Hall", "opc.tcp://hall:4840", "opc.tcp://hall:4840/")
    }
    assert ends == {"hall:4840"}


def link(url: str) -> OpcUaLinkSettings:
    return OpcUaLinkSettings.model_validate({"url": url, "security": "none"})
