"""A NodeId that leaves the driver means the same after the server's restart."""

import pytest
from asyncua import ua

from drivers.opcua.nodes import lasting

URIS = {0: "http://opcfoundation.org/UA/", 2: "urn:acme"}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (ua.NodeId(7, 2), "nsu=urn:acme;i=7"),
        (ua.NodeId("a;ns=2;b", 2), "nsu=urn:acme;s=a;ns=2;b"),
        (ua.NodeId(b"ab", 2, ua.NodeIdType.ByteString), "nsu=urn:acme;b=YWI="),
        ([ua.NodeId(7, 2), ua.NodeId(8, 2)], ["nsu=urn:acme;i=7", "nsu=urn:acme;i=8"]),
        (ua.NodeId(7, 0), ua.NodeId(7, 0)),
        (ua.NodeId(7, 9), ua.NodeId(7, 9)),
        ("ns=2;i=7", "ns=2;i=7"),
        (None, None),
    ],
)
def test_namespaces_are_named_by_their_uri(value, text):
    assert lasting(value, URIS) == text
