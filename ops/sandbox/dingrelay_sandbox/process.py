"""The sandbox as a process: from its start to a signal."""

import asyncio
import signal
import sys

from aiohttp import web

from dingrelay_sandbox.door import DOOR, Door
from dingrelay_sandbox.server import create_app
from dingrelay_sandbox.state import SandboxState, Start

if sys.platform == "win32":
    from asyncio import run as run_loop
else:
    from uvloop import run as run_loop

SHUTDOWN_SECONDS = 0.2
"""How long calls under way may take when the sandbox stops; hanging ones are then cut."""


def run(start: Start, host: str, port: int) -> None:
    """Serve a sandbox that starts so, until SIGTERM or SIGINT."""
    run_loop(serve(SandboxState(start), host, port))


async def serve(state: SandboxState, host: str, port: int) -> None:
    """Listen until SIGTERM or SIGINT. One line on stdout has the address."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    app = create_app(state)
    runner = web.AppRunner(
        app, access_log=None, shutdown_timeout=SHUTDOWN_SECONDS, handle_signals=False
    )
    door = Door(runner, host, port)
    app[DOOR] = door
    await runner.setup()
    await door.open()
    name, number_of_port = door.address
    sys.stdout.write(f"sandbox listening on http://{name}:{number_of_port}\n")
    sys.stdout.flush()
    await stopping.wait()
    door.close()
    await runner.cleanup()
