"""Logs: JSON lines in production, coloured lines in a terminal, and no secret in either."""

import logging
import sys
from collections.abc import Mapping, MutableMapping
from contextlib import suppress
from typing import Any

import structlog
from structlog.typing import EventDict, Processor

from dingrelay_producers.settings import Settings
from dingrelay_workers.dingtalk.redact import redact


class WorkerLines(structlog.WriteLogger):
    """Writes the finished lines of one logger to stderr.

    Ours do not pass through the standard library: that would cost each twice the time. As there, a line
    that can't be written is lost: the job goes on, on a full disk too.
    """

    def __init__(self, name: str = "") -> None:
        super().__init__(sys.stderr)
        self.name = name

    def msg(self, message: str) -> None:
        """One finished line."""
        with suppress(OSError, ValueError):  # full, without a reader, or closed
            super().msg(message)

    log = debug = info = warn = warning = msg
    fatal = failure = err = error = critical = exception = msg


def configure(settings: Settings) -> None:
    """Send our own lines and those of the standard library's loggers the same way, to stderr."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    finish: list[Processor] = [
        structlog.processors.format_exc_info,
        _redact,
        _renderer(settings),
    ]
    structlog.configure(
        processors=[*shared, *finish],
        logger_factory=WorkerLines,
        wrapper_class=structlog.make_filtering_bound_logger(settings.log_level),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *finish],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level)
    # Celery logs each message that comes and goes; our own lines say more about each job.
    for noisy in (
        "celery.worker.strategy",
        "celery.app.trace",
        "kombu",
        "aiohttp.access",
        "alembic",
    ):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def _renderer(settings: Settings) -> Processor:
    as_text = settings.log_format == "console" or (
        settings.log_format == "auto" and sys.stderr.isatty()
    )
    if as_text:
        return structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    return structlog.processors.JSONRenderer(ensure_ascii=False)


def _redact(_: Any, __: str, event: EventDict) -> MutableMapping[str, Any]:
    """Take tokens and secrets out of every text of a line, tracebacks included."""
    return {name: _clean(value) for name, value in event.items()}


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return redact(value, limit=None)
    if isinstance(value, Mapping):
        return {name: _clean(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(item) for item in value]
    return value
