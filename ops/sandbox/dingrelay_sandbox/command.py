"""The command that starts the sandbox."""

import asyncio
import signal
import socket
import sys
from typing import Annotated

import typer
from aiohttp import web

from dingrelay_sandbox.apps import App
from dingrelay_sandbox.latency import Latency
from dingrelay_sandbox.limits import Limits
from dingrelay_sandbox.server import create_app
from dingrelay_sandbox.windows import Rate
from dingrelay_sandbox.world import Start, World

if sys.platform == "win32":
    from asyncio import run as run_loop
else:
    from uvloop import run as run_loop

SHUTDOWN_SECONDS = 0.2
"""How long calls under way may take when the sandbox stops; hanging ones are then cut."""


def register(app: typer.Typer) -> None:
    """Add the command ``sandbox``."""
    app.command(name="sandbox")(sandbox)


def sandbox(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="0 takes a free one.")] = 8_601,
    users: Annotated[int, typer.Option(min=0, help="People in the organisation.")] = 2_000,
    departments: Annotated[int, typer.Option(min=1, help="Departments.")] = 60,
    seed: Annotated[int, typer.Option(help="The same seed makes the same people.")] = 1,
    calls: Annotated[str, typer.Option(help="Calls per app and API; empty: no limit.")] = "20/1s",
    window: Annotated[str, typer.Option(help="calendar, sliding or bucket.")] = "calendar",
    latency: Annotated[str, typer.Option(help="Milliseconds each way.")] = "5-30",
    app_key: Annotated[str, typer.Option(help="Key of the app.")] = "sandbox-key",
    app_secret: Annotated[str, typer.Option(help="Secret of the app.")] = "sandbox-secret",
    agent_id: Annotated[str, typer.Option(help="Agent id of the app.")] = "1000001",
    throttle_code: Annotated[
        str, typer.Option(help="Code of the answer to a call too many, such as 43004.")
    ] = "",
    quota: Annotated[
        int | None, typer.Option(min=0, help="Calls per month; none counts only.")
    ] = None,
) -> None:
    """Run a DingTalk on this machine, for development and tests."""
    try:
        limits = Limits().changed(
            {
                "calls": Rate.parse(calls) if calls else None,
                "window": window,
                "throttle_code": throttle_code,
                "quota": quota,
            }
        )
        start = Start(
            users=users,
            departments=departments,
            seed=seed,
            limits=limits,
            latency=Latency.parse(latency),
            app=App(app_key=app_key, app_secret=app_secret, agent_id=agent_id),
        )
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    run_loop(serve(World(start), host, port))


async def serve(world: World, host: str, port: int) -> None:
    """Listen until SIGTERM or SIGINT. One line on stdout tells the address."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    runner = web.AppRunner(
        create_app(world), access_log=None, shutdown_timeout=SHUTDOWN_SECONDS, handle_signals=False
    )
    await runner.setup()
    listening = socket.create_server((host, port), backlog=1_024)
    await web.SockSite(runner, listening).start()
    address = listening.getsockname()
    sys.stdout.write(f"sandbox listening on http://{address[0]}:{address[1]}\n")
    sys.stdout.flush()
    await stopping.wait()
    await runner.cleanup()
