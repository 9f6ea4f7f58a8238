"""How long this disk takes to make 16 KiB durable: the floor under every commit on both sides."""

import os
import time
from pathlib import Path
from typing import NamedTuple

from bench.commits import percentile

BLOCK_BYTES = 16 * 1024


class SyncTime(NamedTuple):
    """Time of one write and fdatasync, in milliseconds."""

    p50_ms: float
    p99_ms: float


def measure_sync(folder: Path, count: int = 200) -> SyncTime:
    """Append ``count`` blocks to a new file in ``folder``, each made durable on its own."""
    path = folder / "sync-probe"
    block = os.urandom(BLOCK_BYTES)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        taken_ms = sorted(_append_ms(descriptor, block) for _ in range(count))
    finally:
        os.close(descriptor)
        path.unlink()
    return SyncTime(percentile(taken_ms, 50), percentile(taken_ms, 99))


def _append_ms(descriptor: int, block: bytes) -> float:
    start_ns = time.perf_counter_ns()
    os.write(descriptor, block)
    os.fdatasync(descriptor)
    return (time.perf_counter_ns() - start_ns) / 1e6
