"""structlog, set up once: fields in the journal, key-value lines on a terminal, JSON elsewhere; a line per change of
state, none per frame.

The level is asked for each line, so that a reload can change it for all who hold the logger.
"""

from __future__ import annotations

import logging
import sys
from typing import Final, get_args

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

from vethd.config import Level, LogConfig
from vethd.daemon.journald import PRIORITIES, Journald, on_stderr

_LEVELS: Final[tuple[Level, ...]] = get_args(Level)  # lowest first
_threshold = 0


def logger(config: LogConfig) -> FilteringBoundLogger:
    """The daemon's logger, on standard error; where that is the journal, with fields of its own in it."""
    to_journal = on_stderr()
    fields: list[Processor] = [Journald()] if to_journal and config.format == "auto" else []
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
            structlog.processors.format_exc_info,
            *fields,
            structlog.processors.TimeStamper(fmt="iso", utc=not console),
            _with_priority(renderer) if to_journal else renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
    )
    set_level(config.level)
    log: FilteringBoundLogger = structlog.get_logger().bind()  # without it, each line would bind anew
    return log


def _with_priority(renderer: Processor) -> Processor:
    """Say a line's priority in front of it, as the journal understands it: `SyslogLevelPrefix` in systemd.exec(5)."""

    def render(wrapped: WrappedLogger, method: str, event: EventDict) -> str:
        priority = PRIORITIES[event["level"]]
        return f"<{priority}>{renderer(wrapped, method, event)!s}"

    return render


def set_level(level: Level) -> None:
    """Write lines of this level and above from now on."""
    global _threshold  # noqa: PLW0603 - there is one log
    _threshold = _LEVELS.index(level)


def _drop_below_threshold(_logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    if method in _LEVELS and _LEVELS.index(method) < _threshold:
        raise structlog.DropEvent
    return event
