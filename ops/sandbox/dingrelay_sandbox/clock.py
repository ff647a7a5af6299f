"""The sandbox's own clock: DingTalk's clock is not the worker's, and may be wrong."""

from collections.abc import Callable
from email.utils import formatdate


class Clock:
    """Unix seconds of the sandbox.

    Args:
        base: the time of the machine.
    """

    def __init__(self, base: Callable[[], float]) -> None:
        self._base = base
        self._second = -1
        self._date = ""
        self.offset = 0.0
        """Seconds by which it is ahead of the machine; negative: behind."""

    def __call__(self) -> float:
        """The time now, in Unix seconds."""
        return self._base() + self.offset

    def date(self) -> str:
        """The time now as the ``Date`` header of an answer, which has whole seconds."""
        second = int(self())
        if second != self._second:
            self._second, self._date = second, formatdate(second, usegmt=True)
        return self._date
