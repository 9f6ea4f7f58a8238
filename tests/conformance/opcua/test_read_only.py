"""Nothing leaves for an OPC UA server but what reading needs: no write, no call, no node of ours.

Method: every request of a life with a loss and a reconnect is seen where it is encoded.
"""

import pytest
from asyncua import ua
from asyncua.client.ua_client import UASocketProtocol

from edgeagent.driver import LinkLost
from tests.conformance.opcua.server import driver, instrument, profile, running, taken

ALLOWED = {
    "OpenSecureChannelRequest", "CloseSecureChannelRequest", "GetEndpointsRequest",
    "CreateSessionRequest", "ActivateSessionRequest", "CloseSessionRequest",
    "ReadRequest", "BrowseRequest", "TranslateBrowsePathsToNodeIdsRequest",
    "CreateSubscriptionRequest", "ModifySubscriptionRequest", "DeleteSubscriptionsRequest",
    "TransferSubscriptionsRequest", "CreateMonitoredItemsRequest", "PublishRequest",
    "RepublishRequest", "HistoryReadRequest",
}  # fmt: skip


@pytest.fixture(scope="module")
def server():
    with running() as made:
        yield made


async def test_only_reading_is_ever_sent(server, monkeypatch):
    seen: set[str] = set()
    send = UASocketProtocol._send_request

    def look(self, request, *arguments, **more):
        seen.add(type(request).__name__)
        return send(self, request, *arguments, **more)

    monkeypatch.setattr(UASocketProtocol, "_send_request", look)
    node = await server.add(1, ua.VariantType.Int64)
    await server.keep_history(node)
    tags = {
        "x": {"type": "INT64", "s": node},
        "no": {"type": "INT64", "node": "/Server/t:no"},
        "part": {"type": "INT64", "s": node, "field": "a"},
    }
    identity = {"state": {"node": "i=2259"}}
    of = profile(tags, identity=identity, identity_unavailable=None)
    device = instrument("device", of)
    made = driver(server.url, device)
    try:
        await made.connect()
        await taken(made, 1)
        await made.history(device.groups[0], 10**18, 2 * 10**18)
        made._channel.abort("cut")
        with pytest.raises(LinkLost, match="cut"):
            await taken(made, 100, within_s=5)
        await made.connect()
        await taken(made, 1)
    finally:
        await made.close()
    assert seen <= ALLOWED
    assert {"ReadRequest", "PublishRequest", "HistoryReadRequest", "CloseSessionRequest"} <= seen
