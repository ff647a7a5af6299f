"""A business application that gets webhooks: a small HTTP server on a thread of its own."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Generator
from concurrent.futures import Future
from contextlib import contextmanager

from aiohttp import web

START_SECONDS = 10


@contextmanager
def receiving(
    handle: Callable[[web.Request], Awaitable[web.StreamResponse]], port: int = 0
) -> Generator[str]:
    """The URL below which a function takes each POST while the block lasts; what is under way then is cut."""
    loop, stop = asyncio.new_event_loop(), asyncio.Event()
    url: Future[str] = Future()

    async def serve() -> None:
        app = web.Application(client_max_size=2**24)
        app.router.add_post("/{path:.*}", handle)
        runner = web.AppRunner(
            app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True
        )
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port, backlog=512, reuse_address=True).start()
        url.set_result(f"http://127.0.0.1:{runner.addresses[0][1]}")
        await stop.wait()
        await runner.cleanup()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()), daemon=True)
    thread.start()
    try:
        yield url.result(START_SECONDS)
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(START_SECONDS)
        loop.close()
