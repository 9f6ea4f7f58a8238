"""What a Modbus link and a Modbus instrument of a site may state."""

from collections.abc import Iterator
from typing import Any, Literal

from pydantic import (
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import InitErrorDetails

from drivers.serial_port import device_faults
from edgeagent.model.checked import fault_line, found_lines
from edgeagent.model.profile import Strict
from edgeagent.model.quantity import DurationNs

LATE_REPLIES = 3
"""The slowest reply, in timeouts, of a link that does not say it."""

_OF_SERIAL_LINES = ("baud_rate", "parity", "stop_bits", "data_bits", "slowest_reply", "echo")


class ModbusLinkSettings(Strict):
    """One Modbus link: a TCP device or gateway, or a serial line, directly or over TCP."""

    framing: Literal["tcp", "rtu", "ascii"] = Field(
        "tcp", description="'tcp' has the MBAP header; 'rtu' and 'ascii' are those of serial lines"
    )
    host: str | None = Field(
        None,
        min_length=1,
        description="of the device or gateway; with rtu and ascii of a serial device server",
    )
    port: int = Field(502, ge=1, le=65_535)
    device: str | None = Field(
        None,
        description="serial port, instead of host; a path that stays the same when it is plugged "
        "in again: /dev/serial/by-id/...",
    )
    baud_rate: int = Field(19_200, ge=50, le=4_000_000)
    parity: Literal["even", "odd", "none"] = "even"
    stop_bits: Literal[1, 2] = Field(
        default_factory=lambda stated: 2 if stated.get("parity") == "none" else 1,
        description="default: 1, or 2 with parity none",
    )
    data_bits: Literal[7, 8] = Field(
        default_factory=lambda stated: 7 if stated.get("framing") == "ascii" else 8,
        description="default: 8, or 7 with framing ascii",
    )
    timeout: DurationNs = Field(
        10**9, description="longest wait for the connection and for each whole reply"
    )
    slowest_reply: DurationNs = Field(
        default_factory=lambda stated: LATE_REPLIES * stated.get("timeout", 0),
        description="longest time after a request at which its reply may still come; after a lost "
        "reply the line is silent for so long. Default: 3 times the timeout",
    )
    echo: bool = Field(False, description="whether the adapter hears what it sends itself")

    @property
    def endpoint(self) -> str:
        """The physical end of the link: serial device, or host and port."""
        return self.device or f"{(self.host or '').lower()}:{self.port}"

    @property
    def silence_s(self) -> float:
        """Silence between frames, in seconds: 3.5 characters, or 1.75 ms above 19200 baud.

        MODBUS over Serial Line V1.02, section 2.5.1.1.
        """
        if self.baud_rate > 19_200:
            return 0.00175
        bits = 1 + self.data_bits + (self.parity != "none") + self.stop_bits
        return 3.5 * bits / self.baud_rate

    @model_validator(mode="wrap")
    @classmethod
    def _checked(
        cls, data: Any, handler: ModelWrapValidatorHandler["ModbusLinkSettings"]
    ) -> "ModbusLinkSettings":
        """Tell of keys that contradict each other, also where single values are wrong."""
        if not isinstance(data, dict):
            return handler(data)
        try:
            link = handler(data)
        except ValidationError as error:
            lines = found_lines(error)
            wrong = {line["loc"][0] for line in lines if line["loc"]}
            lines += [line for line in _contradictions(data) if line["loc"][0] not in wrong]
            raise ValidationError.from_exception_data(cls.__name__, lines) from None
        lines = [*_contradictions(data), *_impossible(link)]
        if lines:
            raise ValidationError.from_exception_data(cls.__name__, lines)
        return link


def _contradictions(data: dict[str, Any]) -> Iterator[InitErrorDetails]:
    """Tell of keys that do not go together, whatever their values are."""
    framing, device = data.get("framing", "tcp"), data.get("device")
    if framing == "tcp":
        for key in ("device", *_OF_SERIAL_LINES):
            if key in data:
                text = f"framing tcp has no {key}; remove it, or write framing: rtu or ascii"
                yield fault_line((key,), text, data[key])
        if "host" not in data and device is None:
            yield fault_line(("host",), "a link with framing tcp has no host; add host", None)
        return
    if "host" not in data and "device" not in data:
        yield fault_line(("device",), "the link leads nowhere; add device, or host", None)
    if "device" in data:
        for key in ("host", "port"):
            if key in data:
                text = f"a link has either a device or a host; remove {key} or device"
                yield fault_line((key,), text, data[key])
    if isinstance(device, str):
        for text in device_faults(device):
            yield fault_line(("device",), text, device)
    if framing == "rtu" and data.get("data_bits") == 7:
        yield fault_line(("data_bits",), "rtu needs 8 data bits; write 8, or remove data_bits", 7)


def _impossible(link: ModbusLinkSettings) -> Iterator[InitErrorDetails]:
    if link.slowest_reply < link.timeout:
        text = "slowest_reply is shorter than timeout; write at least the timeout, or remove it"
        yield fault_line(("slowest_reply",), text, link.slowest_reply)


class ModbusInstrumentSettings(Strict):
    """Where on its link an instrument is."""

    unit_id: int = Field(
        1,
        ge=0,
        le=255,
        description="1 to 247; a device with a connection of its own may want 255 or 0 instead",
    )

    @field_validator("unit_id")
    @classmethod
    def _not_reserved(cls, unit_id: int) -> int:
        if 248 <= unit_id <= 254:
            raise ValueError(
                f"{unit_id} is reserved; write 1 to 247, or 255 or 0 for a device that has a "
                "connection of its own"
            )
        return unit_id
