"""structlog, set up once: key-value lines on a terminal, JSON elsewhere; a line per change of state, none per frame."""

from __future__ import annotations

import logging
import sys

import structlog
from structlog.typing import FilteringBoundLogger, Processor

from vethd.config import LogConfig


def logger(config: LogConfig) -> FilteringBoundLogger:
    """The daemon's logger, on standard error."""
    console = config.format == "console" or (config.format == "auto" and sys.stderr.isatty())
    renderer: Processor
    if console:  # strings quoted: who owns a namespace names its interfaces, and a terminal obeys escape sequences
        renderer = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), repr_native_str=True)
    else:
        renderer = structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=not console),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(config.level.upper())),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
    )
    log: FilteringBoundLogger = structlog.get_logger().bind()  # without it, each line would bind anew
    return log
