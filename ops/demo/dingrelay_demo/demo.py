"""The demo from its start to its end, and what its exit code says."""

import asyncio
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from rich.console import Console

from dingrelay_demo import scenarios
from dingrelay_demo.context import DemoContext
from dingrelay_demo.requests import Expected
from dingrelay_demo.screen import Screen
from dingrelay_demo.system import System
from dingrelay_demo.verify import verify
from dingrelay_producers.language import tr, translated
from dingrelay_workers.embedded.child import StartFailed
from dingrelay_workers.embedded.system import choosing_ports

AGREED, DISAGREED, STOPPED = 0, 1, 130

# DingTalk's own limits and delays; only what a crash costs is shortened, so that it can be watched.
SETTINGS = {
    "DINGRELAY_ENV": "sandbox",
    "DINGRELAY_LEASE": "5",
    "DINGRELAY_LOG_FORMAT": "json",
}


def run(*, keep: bool) -> int:
    """Play the demo; its exit code.

    Args:
        keep: leave everything running after the last act until a signal comes.
    """
    screen = Screen(Console(highlight=False))
    with _own_folder() as folder, ExitStack() as choosing:
        choosing.enter_context(choosing_ports())
        code = asyncio.run(_play(screen, folder, keep=keep, started=choosing.close))
        if code == DISAGREED:
            kept = Path(tempfile.gettempdir()) / f"dingrelay-demo-{os.getpid()}.log"
            shutil.copy(System.log_of(folder), kept)
            screen.say(tr("what the programs wrote: {kept}", kept=kept))
    return code


@contextmanager
def _own_folder() -> Generator[Path]:
    """A new folder to work in, with an environment without the user's own settings."""
    for name in [name for name in os.environ if name.startswith(("DINGRELAY_", "DINGTALK_"))]:
        del os.environ[name]
    os.environ.update(SETTINGS)
    with tempfile.TemporaryDirectory(prefix="dingrelay-demo-") as folder:
        home = Path.cwd()
        os.chdir(folder)  # a .env of another folder is not read here
        try:
            yield Path(folder)
        finally:
            os.chdir(home)


async def _play(screen: Screen, folder: Path, *, keep: bool, started: Callable[[], object]) -> int:
    began = time.monotonic()
    system = System(folder)
    _stop_on_signals(system)
    try:
        screen.title()
        with screen.waiting(
            tr("starting Valkey, a DingTalk, two workers and Flower: about ten seconds")
        ):
            await system.start()
        started()
        screen.ready(system, time.monotonic() - began)
        context = DemoContext(system, screen, Expected())
        for act in scenarios.ALL:
            await act(context)
        verdict = await verify(context)
        screen.verdict(verdict, time.monotonic() - began)
        if keep:
            screen.kept(system)
            await asyncio.Event().wait()
        screen.ended()
    except StartFailed as error:
        screen.say(translated(str(error)))
        return DISAGREED
    except asyncio.CancelledError:
        screen.say(tr("stopped"))
        return STOPPED
    finally:
        with screen.waiting(tr("ending everything that was started")):
            await system.stop()
    return AGREED if verdict.agrees else DISAGREED


def _stop_on_signals(system: System) -> None:
    """The first signal ends the demo in order, the second one at once."""
    loop, play = asyncio.get_running_loop(), asyncio.current_task()
    assert play is not None

    def on_signal() -> None:
        if play.cancelling():
            system.kill()
        else:
            play.cancel()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, on_signal)
