"""Coroutines where the caller is not one."""

import asyncio
import contextvars
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

_T = TypeVar("_T")


def run(work: Coroutine[Any, Any, _T]) -> _T:
    """Run it here or, where a loop runs already (as in a notebook), in a thread."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    with ThreadPoolExecutor(1) as thread:
        # With whatever the caller has in its context, such as its trace.
        return thread.submit(contextvars.copy_context().run, asyncio.run, work).result()
