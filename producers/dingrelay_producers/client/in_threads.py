"""Blocking objects for asyncio: the same methods, carried out in threads.

The broker's client library is synchronous, so a client written in async would only hide a thread of its own.
"""

import asyncio
import contextvars
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from functools import wraps
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar

_T = TypeVar("_T")
_P = ParamSpec("_P")
_R = TypeVar("_R")
_S = TypeVar("_S")

_Method = Callable[Concatenate[Any, _P], Coroutine[Any, Any, _R]]


class InThreads(Generic[_T]):
    """A blocking object behind one for asyncio, which is equal where it is."""

    __slots__ = ("_blocking",)

    def __init__(self, blocking: _T) -> None:
        self._blocking = blocking

    def __eq__(self, other: object) -> bool:
        return isinstance(other, InThreads) and other._blocking == self._blocking

    def __hash__(self) -> int:
        return hash(self._blocking)

    def __repr__(self) -> str:
        return f"Async{self._blocking!r}"


def in_threads(method: Callable[Concatenate[Any, _P], _R]) -> _Method[_P, _R]:
    """A method of the blocking object, for asyncio: with its arguments, result, errors and docstring."""

    @wraps(method)
    async def call(self: InThreads[Any], /, *args: _P.args, **options: _P.kwargs) -> _R:
        work: Callable[_P, _R] = getattr(self._blocking, method.__name__)  # pyright: ignore[reportPrivateUsage]
        return await asyncio.to_thread(work, *args, **options)

    return call


def in_threads_as(
    returned: Callable[[_R], _S], method: Callable[Concatenate[Any, _P], _R]
) -> _Method[_P, _S]:
    """The same where the blocking object returns another one, which is `returned` for asyncio."""
    blocking = in_threads(method)

    @wraps(method)
    async def call(self: InThreads[Any], /, *args: _P.args, **options: _P.kwargs) -> _S:
        return returned(await blocking(self, *args, **options))

    return call


def run(work: Coroutine[Any, Any, _T]) -> _T:
    """Run it here or, where a loop runs already (as in a notebook), in a thread."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    with ThreadPoolExecutor(1) as thread:
        # With whatever the caller has in its context, such as its trace.
        return thread.submit(contextvars.copy_context().run, asyncio.run, work).result()
