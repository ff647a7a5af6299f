"""Logs: JSON lines in production, coloured lines in a terminal, and no secret in either."""

import json
import sys
from collections.abc import Mapping, MutableMapping
from contextlib import suppress
from functools import partial
from typing import Any

import structlog
from structlog.typing import EventDict

from dingrelay_producers.logs import renderer, send_lines
from dingrelay_producers.settings import Settings
from dingrelay_workers.dingtalk.errors import redact


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
    send_lines(
        settings,
        finish=[
            structlog.processors.format_exc_info,
            _redact,
            renderer(settings, partial(json.dumps, ensure_ascii=False)),
        ],
        lines=WorkerLines,
        event_fields=[structlog.stdlib.add_logger_name, structlog.processors.StackInfoRenderer()],
        # Celery logs each message that comes and goes; our own lines say more about each job.
        noisy=(
            "celery.worker.strategy",
            "celery.app.trace",
            "kombu",
            "aiohttp.access",
            "alembic",
        ),
    )


def _redact(_: Any, __: str, event: EventDict) -> MutableMapping[str, Any]:
    """Take tokens and secrets out of every text of a line, tracebacks included."""
    return {name: _clean(value) for name, value in event.items()}


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return redact(value, limit=None)
    if value is None or isinstance(value, int | float):
        return value
    if isinstance(value, Mapping):
        return {name: _clean(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(item) for item in value]
    return value
