"""What a link and an instrument of a site may state that speak in lines of text."""

from collections.abc import Iterator
from pathlib import Path
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

_OF_THE_PORT = ("baud_rate", "parity", "data_bits", "stop_bits")


class SerialLineLinkSettings(Strict):
    """One serial line: at a port of this machine, or behind a serial device server."""

    device: str | None = Field(
        None,
        description="serial port; a path that stays the same when it is plugged in again: "
        "/dev/serial/by-id/...",
    )
    host: str | None = Field(
        None, min_length=1, description="of a serial device server (raw TCP), instead of device"
    )
    port: int = Field(4001, ge=1, le=65_535, description="of the device server")
    baud_rate: int = Field(9_600, ge=50, le=4_000_000)
    parity: Literal["even", "odd", "none"] = "none"
    data_bits: Literal[7, 8] = 8
    stop_bits: Literal[1, 2] = 1
    timeout: DurationNs = Field(
        10**9,
        description="longest wait for a connection; how long a reply may take says the profile",
    )
    echo: bool = Field(False, description="whether the adapter hears what it sends itself")

    @property
    def endpoint(self) -> str:
        """The physical end of the link: serial device, or host and port."""
        return self.device or f"{(self.host or '').lower()}:{self.port}"

    @model_validator(mode="wrap")
    @classmethod
    def _checked(
        cls, data: Any, handler: ModelWrapValidatorHandler["SerialLineLinkSettings"]
    ) -> "SerialLineLinkSettings":
        """Tell of keys that contradict each other, also where single values are wrong."""
        contradictions = list(_contradictions(data)) if isinstance(data, dict) else []
        try:
            link = handler(data)
        except ValidationError as error:
            lines = found_lines(error)
            wrong = {line["loc"][0] for line in lines if line["loc"]}
            lines += [line for line in contradictions if line["loc"][0] not in wrong]
            raise ValidationError.from_exception_data(cls.__name__, lines) from None
        if contradictions:
            raise ValidationError.from_exception_data(cls.__name__, contradictions)
        return link


def _contradictions(data: dict[str, Any]) -> Iterator[InitErrorDetails]:
    device = data.get("device")
    if "host" not in data and "device" not in data:
        yield fault_line(("device",), "the link leads nowhere; add device, or host", None)
    if "device" in data:
        for key in ("host", "port"):
            if key in data:
                text = f"a link has either a device or a host; remove {key} or device"
                yield fault_line((key,), text, data[key])
    elif "host" in data:
        for key in _OF_THE_PORT:
            if key in data:
                text = f"the device server has the {key}; set it there, and remove it here"
                yield fault_line((key,), text, data[key])
    if isinstance(device, str):
        for text in device_faults(device):
            yield fault_line(("device",), text, device)


class SerialLineInstrumentSettings(Strict):
    """Where on its line an instrument is, and the secrets that its values need."""

    address: str | None = Field(
        None, min_length=1, description="as it stands in a request; default: the profile's"
    )
    pseudonym_key_file: Path | None = Field(
        None,
        description="key of the site, 32 bytes or more, where the profile has texts of class "
        "pseudonym",
    )

    @field_validator("pseudonym_key_file")
    @classmethod
    def _whole(cls, path: Path | None) -> Path | None:
        if path is not None and not path.is_absolute():
            raise ValueError(f"{path} depends on where the agent starts; write the whole path")
        return path
