"""Servers of HTTP on loopback, on a test's own loop or in a thread with one of its own."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, suppress
from typing import Any, TypeVar

from aiohttp import web

Server = TypeVar("Server")


def all_to(handler: Any) -> web.Application:
    """An application of one handler."""
    app = web.Application(client_max_size=32 * 2**20)
    app.router.add_route("*", "/{path:.*}", handler)
    return app


@asynccontextmanager
async def serving(
    app: web.Application, port: int = 0, *, cancels: bool = True
) -> AsyncGenerator[str]:
    """The URL of an application, until the block ends.

    Args:
        app: what is served.
        port: any by default.
        cancels: whether a request that its client gave up is under way no more.
    """
    runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=cancels)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, backlog=1_024).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@contextmanager
def in_thread(
    server: AbstractAsyncContextManager[Server],
) -> Generator[tuple[Server, Callable[[], object]]]:
    """The server's value, beside a waiting test, and the function that begins to stop it."""
    started: Future[tuple[Server, Callable[[], object]]] = Future()

    async def serve() -> None:
        loop, stop = asyncio.get_running_loop(), asyncio.Event()
        async with server as given:
            started.set_result((given, lambda: loop.call_soon_threadsafe(stop.set)))
            await stop.wait()

    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(asyncio.run, serve())
        wait([started, running], return_when=FIRST_COMPLETED)
        if not started.done():
            running.result()
        given, stop = started.result()
        try:
            yield given, stop
        finally:
            with suppress(RuntimeError):  # a test has stopped it, and its loop is closed
                stop()
        running.result()
