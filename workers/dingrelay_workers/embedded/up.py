"""One system in one folder, from its start to its end."""

import asyncio
import fcntl
import os
import shlex
import signal
import sys
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from rich.console import Console

from dingrelay_producers import running
from dingrelay_producers.enqueuing.connections import read_clock
from dingrelay_producers.exit_codes import DONE, OTHERWISE
from dingrelay_producers.language import tr, translated
from dingrelay_producers.settings import Settings, SettingsError
from dingrelay_tasks.sentence import en
from dingrelay_workers.embedded.child import StartFailed
from dingrelay_workers.embedded.supervisor import Screen, Supervisor
from dingrelay_workers.embedded.system import (
    System,
    choosing_ports,
    plan,
    sandbox_key,
    sign_in_link,
)

FIRST_COMMAND = 'dingrelay send --to u1,u2 --text "你好" --wait'
REMEDY = en(
    "the lines above name the cause; the guide's page on installing has the usual ones, with remedies"
)
ROOT_WARNING = "You're running the worker with superuser privileges"
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run(settings: Settings, folder: Path, *, sandbox: bool, concurrency: int) -> int:
    """Run the system until a signal ends it; the exit code.

    Raises:
        SettingsError: another system runs in this folder.
    """
    with _only_one(folder), ExitStack() as choosing:
        choosing.enter_context(choosing_ports())
        system = plan(settings, folder, sandbox=sandbox, concurrency=concurrency)
        return asyncio.run(_run_programs(system, settings, folder, started=choosing.close))


@contextmanager
def _only_one(folder: Path) -> Generator[None]:
    """Hold the folder; two servers on one append-only file would destroy it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "lock").open("w", encoding="utf-8")
    except OSError as error:
        raise SettingsError(en("{}: {}", "--data", error.strerror)) from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SettingsError(en("--data: another dingrelay up runs in {}", folder)) from None
        yield


async def _run_programs(
    system: System, settings: Settings, folder: Path, *, started: Callable[[], None]
) -> int:
    began = time.monotonic()
    screen = Screen(Console(highlight=False), system.names)
    supervisor = Supervisor(system.stages, _environment(system), screen)
    stopping = _on_signals(supervisor, screen)
    screen.say(tr("starting {count} programs, about ten seconds", count=len(system.names)))
    starting = asyncio.create_task(supervisor.start())
    first_steps: set[asyncio.Future[None]] = {starting, stopping}
    file: Path | None = None
    try:
        await asyncio.wait(first_steps, return_when=asyncio.FIRST_COMPLETED)
        if stopping.done():
            return DONE
        await starting
        started()
        await _show_ways_in(system, settings, folder)
        if system.variables["DINGRELAY_ENV"] == running.SANDBOX:
            file = running.write(folder, system.variables)
            if folder != running.FOLDER:
                # Commands join the system of the usual folder by themselves.
                line = f"set -a; source {shlex.quote(str(file))}; set +a"
                system.notes.append(tr("in another terminal first: {line}", line=line))
        running.notify_ready()
        seconds = time.monotonic() - began
        screen.banner(
            tr("dingrelay is ready in {seconds:.1f} s", seconds=seconds),
            system.facts,
            system.notes,
            FIRST_COMMAND,
        )
        why = await supervisor.failure(unless=stopping)
        if why is None:
            return DONE
        screen.say(translated(why))
        screen.say(translated(REMEDY))
    except StartFailed as error:
        screen.say(translated(str(error)))
        screen.say(translated(REMEDY))
    finally:
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        if file:
            file.unlink(missing_ok=True)
        await supervisor.stop()
        with suppress(OSError):  # the terminal may be gone
            screen.say(tr("everything has ended"))
    return OTHERWISE


async def _show_ways_in(system: System, settings: Settings, folder: Path) -> None:
    """Show a key to the gateway of a sandbox, and a way into its console; elsewhere a person makes them."""
    if system.variables["DINGRELAY_ENV"] == running.SANDBOX:
        database = system.variables.get("DINGRELAY_DATABASE_URL", settings.database)
        if settings.redis_url.get_secret_value():  # the embedded one has this machine's clock
            await read_clock(settings)
        system.facts["key"] = await sandbox_key(database, folder)
        system.facts["console"] = await sign_in_link(system.facts["console"], database)


def _on_signals(supervisor: Supervisor, screen: Screen) -> "asyncio.Future[None]":
    """Done by the first signal; the second one kills."""
    loop = asyncio.get_running_loop()
    stopping: asyncio.Future[None] = loop.create_future()

    def on_signal(number: signal.Signals) -> None:
        if stopping.done():
            supervisor.kill()
            return
        stopping.set_result(None)
        with suppress(OSError):
            screen.say(tr("{signal}: ending; once more kills", signal=number.name))

    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, on_signal, number)
    return stopping


def _environment(system: System) -> dict[str, str]:
    environment = {
        **os.environ,
        **system.variables,
        **system.private_variables,
        "PYTHONUNBUFFERED": "1",
    }
    if system.variables["DINGRELAY_ENV"] == running.SANDBOX:
        # On a developer's machine, or in a container of a trial, running as root is no news.
        environment.setdefault("PYTHONWARNINGS", f"ignore:{ROOT_WARNING}")
    if sys.stdout.isatty():
        # Its programs write into a pipe, and would take that for a log collector.
        environment.setdefault("DINGRELAY_LOG_FORMAT", "console")
    return environment
