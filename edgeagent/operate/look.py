"""Looking into the journal of the running agent, beside its own work.

Each look has a read-only connection and a thread of its own, so that acquisition, commits and
delivery never wait for it; between two pieces it rests, so that it does not take their processor.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import apsw

from edgeagent.journal.inspect import (
    NoSuchEpoch,
    chain_is_lost,
    epoch_named,
    export,
    journal_state,
    verify,
)
from edgeagent.journal.journal import FILE_NAME
from edgeagent.journal.store import CorruptRecord, Reader
from edgeagent.model.errors import EdgeAgentError
from edgeagent.model.record import Lane

AT_ONCE_MAX = 2
REST_S = 0.005

T = TypeVar("T")


class CannotLook(EdgeAgentError):
    """A look that is not possible now, in words for the person who asked."""


class Looks:
    """Reads the journal for people; a few at a time.

    :param state_dir: where the journal is
    """

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / FILE_NAME
        self._free = AT_ONCE_MAX

    async def state(self) -> dict[str, Any]:
        """Return what :func:`~edgeagent.journal.inspect.journal_state` says."""
        async for state in self._pieces(lambda reader: iter([journal_state(reader)])):
            return state
        raise CannotLook("the journal says nothing")

    async def verify(self) -> AsyncIterator[bytes]:
        """Yield a JSON line for each piece that was verified."""
        async for piece in self._pieces(verify):
            yield json.dumps(piece._asdict()).encode() + b"\n"

    async def export(
        self, site: str, uuid: str | None, lane: Lane, first: int | None, last: int | None
    ) -> AsyncIterator[bytes]:
        """Yield batches, each with a line feed; when it cannot go on, a line that says why."""

        def pieces(reader: Reader) -> Iterator[bytes]:
            epoch = epoch_named(reader, uuid)
            try:
                yield from export(reader, site, epoch, lane, first, last)
            except CorruptRecord as error:
                text = chain_is_lost(reader, epoch, error)
                yield json.dumps({"error": text}).encode() + b"\n"

        async for piece in self._pieces(pieces):
            yield piece

    async def _pieces(self, work: Callable[[Reader], Iterator[T]]) -> AsyncIterator[T]:
        """Run a generator over a connection of its own, piece by piece in a thread of its own.

        :raises CannotLook: if too many look already, or the file cannot be read
        """
        if not self._free:
            raise CannotLook("others are looking into the journal; try again in a moment")
        self._free -= 1
        loop = asyncio.get_running_loop()
        thread = ThreadPoolExecutor(1, thread_name_prefix="journal-look")
        try:
            reader = await loop.run_in_executor(thread, lambda: Reader(self._path))
            try:
                pieces = work(reader)
                while (piece := await loop.run_in_executor(thread, next, pieces, None)) is not None:
                    yield piece
                    await asyncio.sleep(REST_S)
            finally:
                await asyncio.shield(loop.run_in_executor(thread, reader.close))
        except NoSuchEpoch as error:
            raise CannotLook(str(error)) from None
        except apsw.Error as error:
            raise CannotLook(f"{self._path}: cannot be read: {error}") from error
        finally:
            thread.shutdown(wait=False)
            self._free += 1
