"""What a site may state of a folder of run reports, and of an instrument that writes them."""

from pathlib import Path

from pydantic import Field, field_validator

from edgeagent.model.profile import Strict
from edgeagent.model.quantity import DurationNs, SizeBytes

FILE_BYTES_MAX = 256 * 10**6


class FileDropLinkSettings(Strict):
    """One folder. It is only ever read."""

    folder: Path = Field(description="where the reports appear; folders in it are not looked into")
    look_every: DurationNs = Field(5 * 10**9, description="time between two looks into the folder")
    settle: DurationNs = Field(
        10 * 10**9,
        description="a file is read when its size and its times have stood still for so long",
    )
    timeout: DurationNs = Field(
        30 * 10**9, description="longest time that the file system may take for one step"
    )
    file_bytes_max: SizeBytes = Field(16 * 10**6, description="largest file that is read")
    files_max: int = Field(10_000, ge=1, le=100_000, description="most files in the folder")

    @field_validator("folder")
    @classmethod
    def _absolute(cls, folder: Path) -> Path:
        if not folder.is_absolute():
            raise ValueError(f"{folder} depends on where the agent is started; begin with /")
        return folder

    @field_validator("file_bytes_max")
    @classmethod
    def _fits_into_memory(cls, size: int) -> int:
        if size > FILE_BYTES_MAX:
            raise ValueError("a file is held in memory while it is read; write 256 MB or less")
        return size


class FileDropInstrumentSettings(Strict):
    """Which files of the folder an instrument writes, and by which clock."""

    files: str | None = Field(
        None,
        min_length=1,
        description="pattern of the names, with * and ?; default: the profile's",
    )
    time_zone: str | None = Field(
        None,
        description="IANA zone in which this instrument writes its times; default: the profile's",
    )
