"""structlog, set up once: key-value lines on a terminal, JSON elsewhere; a line per change of state, none per frame.

The level is asked for each line, so that a reload can change it for all who hold the logger.
"""

from __future__ import annotations

import logging
import sys
from typing import Final, get_args

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

from vethd.config import Level, LogConfig

_LEVELS: Final[tuple[Level, ...]] = get_args(Level)  # lowest first
_threshold = 0


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
            _drop_below_threshold,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=not console),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
    )
    set_level(config.level)
    log: FilteringBoundLogger = structlog.get_logger().bind()  # without it, each line would bind anew
    return log


def set_level(level: Level) -> None:
    """Write lines of this level and above from now on."""
    global _threshold  # noqa: PLW0603 - there is one log
    _threshold = _LEVELS.index(level)


def _drop_below_threshold(_logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    if method in _LEVELS and _LEVELS.index(method) < _threshold:
        raise structlog.DropEvent
    return event
