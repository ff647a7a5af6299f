"""Threads for the calls of an event loop: a cell that is away fills up its own only."""

import asyncio
import contextvars
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

from dingrelay_producers.cells.cells import Cells
from dingrelay_producers.settings import Settings

AT_ONCE = 8
"""Calls of one cell at the same time; more of them wait for these."""

_P = ParamSpec("_P")
_R = TypeVar("_R")


class CellThreads:
    """Runs blocking calls in threads; those for one app, where there are cells, in its cell's own."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._pid = 0
        self._pools: Cells[ThreadPoolExecutor] | None = None

    async def run(
        self, app: str | None, work: Callable[_P, _R], /, *args: _P.args, **named: _P.kwargs
    ) -> _R:
        """What a call returns.

        Args:
            app: for which it is; None where that is not known, or for several.
            work: the call.
            *args: its arguments.
            **named: its arguments.

        Raises:
            ContractError: no cell has the app.
        """
        if app is None or not self._settings.across_cells:
            return await asyncio.to_thread(work, *args, **named)
        if self._pools is None or self._pid != os.getpid():
            # The threads of a process are not in its child.
            self._pools, self._pid = Cells(self._settings, _threads), os.getpid()
        call = partial(contextvars.copy_context().run, work, *args, **named)
        return await asyncio.get_running_loop().run_in_executor(self._pools.of(app), call)

    def close(self) -> None:
        """Begin no more calls; there are new threads if they are needed again."""
        pools, self._pools = self._pools, None
        for threads in pools.made if pools and self._pid == os.getpid() else ():
            threads.shutdown(wait=False)


def _threads(settings: Settings) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(AT_ONCE, thread_name_prefix=f"dingrelay-{settings.cell}")
