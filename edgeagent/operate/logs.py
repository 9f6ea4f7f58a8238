"""Logs to stderr: JSON lines for journald and scripts, plain words on a terminal."""

import logging
import sys

import structlog
from structlog.typing import Processor


def set_up_logs(*, debug: bool = False) -> None:
    """Configure structlog for this process; libraries' own chatter stays below warnings."""
    logging.basicConfig(level=logging.ERROR, stream=sys.stderr)
    terminal = sys.stderr.isatty()
    stamp = structlog.processors.TimeStamper(fmt="iso", utc=True)
    chain: list[Processor] = [structlog.processors.add_log_level, stamp]
    chain.append(
        structlog.dev.ConsoleRenderer() if terminal else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=chain,
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.DEBUG if debug else logging.INFO
        ),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
