"""Quality of a value: OPC UA status codes (OPC 10000-4, table 177 and section 7.39).

The full 32-bit code is kept everywhere. The two top bits are the severity; for the status of
a data value, bits 10-11 (InfoType) say that bits 8-9 (LimitBits) have a meaning.
"""

import math

GOOD = 0x0000_0000
UNCERTAIN = 0x4000_0000
UNCERTAIN_ENGINEERING_UNITS_EXCEEDED = 0x4094_0000
BAD_COMMUNICATION_ERROR = 0x8005_0000
BAD_TIMEOUT = 0x800A_0000
BAD_NO_COMMUNICATION = 0x8031_0000
BAD_NODE_ID_UNKNOWN = 0x8034_0000
BAD_OUT_OF_RANGE = 0x803C_0000
BAD_NOT_SUPPORTED = 0x803D_0000
BAD_DECODING_ERROR = 0x8007_0000
BAD_RESOURCE_UNAVAILABLE = 0x8004_0000
BAD_CONFIGURATION_ERROR = 0x8089_0000
BAD_DEVICE_FAILURE = 0x808B_0000
BAD_SENSOR_FAILURE = 0x808C_0000

INFO_DATA_VALUE = 0x0000_0400
LIMIT_LOW = 0x0000_0100
LIMIT_HIGH = 0x0000_0200

NOT_A_NUMBER = BAD_OUT_OF_RANGE | INFO_DATA_VALUE
MINUS_INFINITY = NOT_A_NUMBER | LIMIT_LOW
PLUS_INFINITY = NOT_A_NUMBER | LIMIT_HIGH

_NAMES = {
    value: name
    for name, value in sorted(globals().items())
    if isinstance(value, int) and name.isupper() and not name.startswith(("INFO_", "LIMIT_"))
}


def is_good(status: int) -> bool:
    """Return whether the severity is Good."""
    return status >> 30 == 0


def is_bad(status: int) -> bool:
    """Return whether the severity is Bad (10) or reserved (11)."""
    return status >> 31 == 1


def name(status: int) -> str:
    """Return a code as a person reads it, e.g. ``bad_timeout``."""
    return _NAMES.get(status, f"0x{status:08X}").lower()


def non_finite(value: float) -> int:
    """Return the status that says which of NaN, +infinity and -infinity stood here.

    JSON has no such numbers, so a body holds ``null`` and this status.
    """
    if math.isnan(value):
        return NOT_A_NUMBER
    return PLUS_INFINITY if value > 0 else MINUS_INFINITY
