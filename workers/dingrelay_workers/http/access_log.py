"""One line a request: caller, route, outcome, duration. No bodies, no query, no paths."""

import logging
from typing import Any

import structlog

ENDED = "request"

log: Any = structlog.get_logger("dingrelay.gateway")
"""The gateway's logger."""


class Quiet(logging.LoggerAdapter[logging.Logger]):
    """aiohttp's own log: what it says of a request that it can't read quotes that request."""

    def process(self, msg: Any, kwargs: Any) -> tuple[Any, Any]:
        """The same with only the class of the exception."""
        error = kwargs.pop("exc_info", None)
        name = type(error).__name__ if isinstance(error, BaseException) else "an error"
        return f"a request can't be read: {name}", {**kwargs, "exc_info": None}

    def exception(self, msg: Any, *args: Any, **kwargs: Any) -> None:
        """As debug: such requests are the callers' doing, and any number of them can come."""
        self.debug("%s", *args[:0], **kwargs)
