"""Random PublishResponses, made by asyncua's encoder, and what asyncua reads out of them."""

import datetime
import struct
import uuid
from random import Random
from typing import Any

from asyncua import ua
from asyncua.common.utils import Buffer
from asyncua.ua.ua_binary import struct_from_binary, struct_to_binary, variant_from_binary

V = ua.VariantType
EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
INTEGERS = {
    V.SByte: 8, V.Int16: 16, V.Int32: 32, V.Int64: 64,
}  # fmt: skip
UNSIGNED = {V.Byte: 8, V.UInt16: 16, V.UInt32: 32, V.UInt64: 64}
TEXTS = ("", "µS/cm", "a\0b", "𝄞", "x" * 70, None)
DOUBLES = (0.0, -0.0, 1.5, float("inf"), float("-inf"), float("nan"), 5e-324, 1.7e308)
STATUSES = (0, 0x4000_0000, 0x4094_0000, 0x8034_0000, 0x0000_0480, 0x808C_0000)


def decode(encoded: bytes) -> Any:
    return variant_from_binary(Buffer(encoded)).Value


def variant(random: Random) -> ua.Variant | None:
    kind = random.choice(
        (V.Boolean, *INTEGERS, *UNSIGNED, V.Float, V.Double, V.Double, V.Double, V.String,
         V.DateTime, V.ByteString, V.LocalizedText, V.Guid, V.NodeId, V.QualifiedName,
         V.StatusCode, V.Null, "array", "none")
    )  # fmt: skip
    if kind == "none":
        return None
    if kind == "array":
        return ua.Variant([random.random() for _ in range(random.randrange(4))], V.Double)
    return ua.Variant(value(kind, random), kind)


def value(kind: V, random: Random) -> Any:
    if kind in INTEGERS:
        half = 2 ** (INTEGERS[kind] - 1)
        return random.choice((-half, half - 1, 0, random.randrange(-half, half)))
    if kind in UNSIGNED:
        return random.choice((0, 2 ** UNSIGNED[kind] - 1, random.getrandbits(UNSIGNED[kind])))
    if kind is V.Boolean:
        return random.random() < 0.5
    if kind is V.Double:
        return random.choice((*DOUBLES, random.uniform(-1e6, 1e6)))
    if kind is V.Float:
        return struct.unpack("<f", struct.pack("<f", random.uniform(-1e6, 1e6)))[0]
    if kind is V.String:
        return random.choice(TEXTS)
    if kind is V.DateTime:
        return moment(random)
    if kind is V.ByteString:
        return random.choice((None, b"", random.randbytes(9)))
    if kind is V.LocalizedText:
        return ua.LocalizedText(random.choice(TEXTS), random.choice(("en", None)))
    if kind is V.Guid:
        return uuid.UUID(int=random.getrandbits(128))
    if kind is V.NodeId:
        return random.choice((ua.NodeId(7), ua.NodeId("s", 3), ua.NodeId(70_000, 2)))
    if kind is V.QualifiedName:
        return ua.QualifiedName("n", 2)
    if kind is V.StatusCode:
        return ua.StatusCode(random.choice(STATUSES))
    return None


def moment(random: Random) -> datetime.datetime:
    return EPOCH + datetime.timedelta(microseconds=random.randrange(-(10**16), 10**16))


def data_value(random: Random) -> ua.DataValue:
    shape = random.getrandbits(6)
    return ua.DataValue(
        variant(random) if shape & 1 else None,
        StatusCode=ua.StatusCode(random.choice(STATUSES)) if shape & 2 else None,
        SourceTimestamp=moment(random) if shape & 4 else None,
        ServerTimestamp=moment(random) if shape & 8 else None,
        # asyncua writes and reads these in the wrong order beside a server timestamp
        SourcePicoseconds=7 if shape & 16 and not shape & 8 else None,
        ServerPicoseconds=9 if shape & 32 else None,
    )


def items(random: Random) -> list[ua.MonitoredItemNotification]:
    """Return runs of like items between single ones of any kind."""
    found: list[ua.MonitoredItemNotification] = []
    for _ in range(random.randrange(1, 5)):
        pattern = data_value(random)
        for _ in range(random.choice((1, 1, 2, 3, 4, 5, 17, 130))):
            kind = pattern.Value.VariantType if pattern.Value is not None else V.Null
            fresh = ua.DataValue(
                pattern.Value
                if pattern.Value is None or kind not in (*INTEGERS, *UNSIGNED, V.Double)
                or isinstance(pattern.Value.Value, list)
                else ua.Variant(value(kind, random), kind),
                StatusCode=pattern.StatusCode,
                SourceTimestamp=pattern.SourceTimestamp,
                ServerTimestamp=pattern.ServerTimestamp,
                SourcePicoseconds=pattern.SourcePicoseconds,
                ServerPicoseconds=pattern.ServerPicoseconds,
            )  # fmt: skip
            handle = random.getrandbits(32)
            found.append(ua.MonitoredItemNotification(ClientHandle=handle, Value=fresh))
    return found


def body(random: Random) -> bytes:
    """Return an encoded PublishResponse."""
    message = ua.NotificationMessage(
        SequenceNumber=random.getrandbits(32), PublishTime=moment(random)
    )
    if random.random() < 0.95:
        message.NotificationData = [ua.DataChangeNotification(MonitoredItems=items(random))]
    if random.random() < 0.05:
        message.NotificationData.append(
            ua.StatusChangeNotification(Status=ua.StatusCode(0x800A0000))
        )
    result = ua.PublishResult(
        SubscriptionId=random.getrandbits(32),
        AvailableSequenceNumbers=[random.getrandbits(32) for _ in range(random.randrange(4))],
        MoreNotifications=random.random() < 0.5,
        NotificationMessage=message,
        Results=[ua.StatusCode(random.choice(STATUSES)) for _ in range(random.randrange(3))],
    )
    return bytes(struct_to_binary(ua.PublishResponse(Parameters=result)))


class Read:
    """What asyncua reads out of a body, in the columns of ours."""

    def __init__(self, encoded: bytes) -> None:
        result = struct_from_binary(ua.PublishResponse, Buffer(encoded)).Parameters
        message = result.NotificationMessage
        self.subscription = result.SubscriptionId
        self.available = tuple(result.AvailableSequenceNumbers or ())
        self.more = result.MoreNotifications
        self.sequence = message.SequenceNumber
        self.results = tuple(status.value for status in result.Results or ())
        data = message.NotificationData or ()
        changes = [part for part in data if isinstance(part, ua.DataChangeNotification)]
        states = [part for part in data if isinstance(part, ua.StatusChangeNotification)]
        self.status = states[-1].Status.value if states else None
        self.items = [item for part in changes for item in part.MonitoredItems or ()]


def microseconds(at: datetime.datetime | None) -> int | None:
    if at is None:
        return None
    aware = at if at.tzinfo else at.replace(tzinfo=datetime.UTC)
    return (aware - EPOCH) // datetime.timedelta(microseconds=1)
