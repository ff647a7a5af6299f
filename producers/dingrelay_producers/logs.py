"""The lines of the gateway and of the stream: JSON or coloured text, without callers' data."""

import asyncio
import json
import logging
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import structlog
from structlog.typing import EventDict, Processor

from dingrelay_producers.settings import Settings

# `json.dumps` would make an encoder at each call.
_JSON = json.JSONEncoder(ensure_ascii=False, default=repr)


def configure(settings: Settings) -> None:
    """Send the lines of this process, and those of the libraries that it uses, to stderr."""
    send_lines(
        settings,
        finish=[renderer(settings, _as_json)],
        lines=lambda *_: Lines(),
        foreign=[structlog.stdlib.add_logger_name, _without_values],
        noisy=("kombu", "alembic", "sqlalchemy", "asyncio"),
    )


def send_lines(
    settings: Settings,
    *,
    finish: Sequence[Processor],
    lines: Callable[..., Any],
    event_fields: Sequence[Processor] = (),
    foreign: Sequence[Processor] = (),
    noisy: Sequence[str],
) -> None:
    """Send our own lines, and those of the standard library's loggers, to stderr.

    Args:
        settings: name the level.
        finish: make a line of an event.
        lines: makes what writes our own.
        event_fields: fields of our events besides level and time.
        foreign: what is done with events of the standard library's loggers before `finish`.
        noisy: loggers of which only warnings are of use.
    """
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        *event_fields,
    ]
    structlog.configure(
        processors=[*shared, *finish],
        wrapper_class=structlog.make_filtering_bound_logger(settings.log_level),
        logger_factory=lines,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, *foreign],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *finish],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level)
    for name in noisy:
        logging.getLogger(name).setLevel(logging.WARNING)


def renderer(settings: Settings, as_json: Callable[..., str]) -> Processor:
    """Makes coloured text for a terminal, and JSON for programs."""
    as_text = settings.log_format == "console" or (
        settings.log_format == "auto" and sys.stderr.isatty()
    )
    if as_text:
        return structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    return structlog.processors.JSONRenderer(as_json)


def _as_json(event: object, **_: object) -> str:
    return _JSON.encode(event)


def places(error: BaseException) -> list[str]:
    """The origin of an exception: files and lines, innermost last."""
    lines: list[str] = []
    trace = error.__traceback__
    while trace:
        code = trace.tb_frame.f_code
        lines.append(f"{code.co_filename.rpartition('/')[2]}:{trace.tb_lineno}")
        trace = trace.tb_next
    return lines[-8:]


def _without_values(_: Any, __: str, event: EventDict) -> EventDict:
    """A library's line without what an exception holds.

    Its text, and the variables of a traceback, may hold callers' data or a secret.
    """
    raised = event.pop("exc_info", None)
    error = raised[1] if isinstance(raised, tuple) and raised else raised
    if isinstance(error, BaseException):
        event.update(error=type(error).__name__, at=places(error))
    # asyncio repeats the exception in the lines behind the first.
    event["event"] = str(event["event"]).partition("\n")[0]
    return event


class Lines:
    """Writes lines to stderr, those of one turn of the event loop in one call.

    Lines that can't be written are lost: their request is answered, on a full disk too.
    """

    def __init__(self) -> None:
        self._lines: list[str] = []

    def msg(self, message: str) -> None:
        """One finished line."""
        self._lines.append(message + "\n")
        if len(self._lines) > 1:
            return
        try:
            asyncio.get_running_loop().call_soon(self._write)
        except RuntimeError:  # no loop runs in this thread
            self._write()

    log = debug = info = warning = error = critical = msg

    def _write(self) -> None:
        lines, self._lines = self._lines, []
        if sys.stderr is None:  # closed before the start: `2>&-`
            return
        with suppress(OSError, ValueError):  # full, without a reader, or closed
            sys.stderr.write("".join(lines))
            sys.stderr.flush()
