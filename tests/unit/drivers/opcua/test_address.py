"""A node is named by what stays: a namespace's URI, never its index."""

import uuid

import pytest

from drivers.opcua.address import NAMESPACE_0, BrowsePath, NodeId, parse, resolve

ALIASES = {"di": "http://opcfoundation.org/UA/DI/", "acme": "urn:acme"}


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("i=2258", NodeId(NAMESPACE_0, "i", 2258)),
        ("nsu=acme;i=7", NodeId("urn:acme", "i", 7)),
        ("nsu=urn:other:x;s=Tank 1;Level=2", NodeId("urn:other:x", "s", "Tank 1;Level=2")),
        (
            "nsu=acme;g=72962b91-fa75-4ae6-8d28-b404dc7daf63",
            NodeId("urn:acme", "g", uuid.UUID("72962b91-fa75-4ae6-8d28-b404dc7daf63")),
        ),
        ("nsu=acme;b=AAE=", NodeId("urn:acme", "b", b"\0\1")),
        ("/Server", BrowsePath(((NAMESPACE_0, "Server"),))),
        (
            "/di:DeviceSet/acme:Freezer&/1/acme:T&:x",
            BrowsePath(
                (
                    ("http://opcfoundation.org/UA/DI/", "DeviceSet"),
                    ("urn:acme", "Freezer/1"),
                    ("urn:acme", "T:x"),
                )
            ),
        ),
    ],
)
def test_what_a_text_means(text, meant):
    assert resolve(parse(text), ALIASES) == meant


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ns=2;s=Temperature", "by its index, which may change; write nsu="),
        ("Temperature", "is no node; write nsu="),
        ("nsu=acme;i=seven", "is no node"),
        ("i=4294967296", "is no node"),
        ("nsu=acme;g=1", "is no node"),
        ("nsu=acme;b=*", "is no node"),
        ("/a//b", "is no browse path"),
        ("/", "is no browse path"),
        ("", "is no node"),
    ],
)
def test_what_means_nothing_is_refused_with_a_mend(text, words):
    with pytest.raises(ValueError, match=words):
        parse(text)


@pytest.mark.parametrize("text", ["nsu=lads;i=1", "/lads:Device"])
def test_an_alias_that_nobody_defined_is_named(text):
    with pytest.raises(ValueError, match="no namespace 'lads'; add it to opcua"):
        resolve(parse(text), ALIASES)
