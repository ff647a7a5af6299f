"""Starts the programs of a system stage by stage, keeps them running, and ends them in order.

Process managers of the Procfile kind end all programs at once and after a few seconds by force;
here workers finish their jobs while Redis still stands, and a crashed worker is replaced.
"""

import asyncio
import time
from collections import deque
from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

from rich.cells import set_cell_size
from rich.console import Console
from rich.text import Text

from dingrelay_producers.language import tr
from dingrelay_tasks.sentence import en
from dingrelay_workers.embedded.child import Child, Program, StartFailed

COLOURS = ("cyan", "magenta", "green", "yellow", "blue", "bright_cyan", "bright_magenta")
OURS = "up"
FACT_COLUMNS = 8
"""Width of the longest name of a fact, a Chinese character being two wide."""


class Screen:
    """Prints each line with the coloured name of who wrote it."""

    def __init__(self, console: Console, names: list[str]) -> None:
        self._console = console
        self._width = max(len(name) for name in [*names, OURS])
        self._colours = dict(zip(names, cycle(COLOURS), strict=False)) | {OURS: "bold"}

    def line(self, name: str, text: str) -> None:
        """One line of a program."""
        prefix = Text(f"{name:<{self._width}} │ ", style=self._colours[name])
        self._console.print(prefix + Text.from_ansi(text), soft_wrap=True)

    def say(self, text: str) -> None:
        """Lines of ours."""
        for line in text.splitlines():
            self.line(OURS, line)

    def banner(self, title: str, facts: dict[str, str], notes: Sequence[str], command: str) -> None:
        """The programs that run, their addresses, and commands to try first."""
        self._console.print()
        self._console.print(Text(title, style="bold green"))
        for name, fact in facts.items():
            title = set_cell_size(tr(name), FACT_COLUMNS)
            self._console.print(f"  {title} {fact}", markup=False, soft_wrap=True)
        for note in notes:
            self._console.print(Text(f"  {note}", style="yellow"), soft_wrap=True)
        self._console.print(f"  {tr('In another terminal, in this folder:')}")
        self._console.print(Text(f"    {command}", style="bold"), soft_wrap=True)
        self._console.print(f"  {tr('Ctrl-C ends everything.')}")
        self._console.print()


MOST_ENDS = 3
ENDS_WITHIN = 30.0
"""A program that ends `MOST_ENDS` times within so many seconds takes the system down."""
RESTART_PAUSE = 0.5
SILENT_SECONDS = 15.0
"""Seconds of a start after which the programs that it waits for are named."""


class Supervisor:
    """The programs of one system.

    Args:
        stages: each stage starts once the one before is ready, and ends before it.
        environment: of every program.
        screen: where their output goes.
    """

    def __init__(
        self, stages: Sequence[Sequence[Program]], environment: Mapping[str, str], screen: Screen
    ) -> None:
        self._stages = [
            [Child(program, environment, screen) for program in stage] for stage in stages
        ]
        self._screen = screen
        self._keepers: list[asyncio.Task[None]] = []
        self._failed: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def start(self) -> None:
        """Start everything; returns once it is ready.

        Raises:
            StartFailed: a program did not become ready.
        """
        for stage in self._stages:
            starts = {asyncio.create_task(child.start()): child for child in stage}
            try:
                await self._ready(starts)
            finally:
                for start in starts:
                    start.cancel()
                await asyncio.gather(*starts, return_exceptions=True)
            self._keepers += [asyncio.create_task(self._keep(child)) for child in stage]

    async def _ready(self, starts: Mapping[asyncio.Task[None], Child]) -> None:
        """Wait until all programs of a stage are ready, and name those that take long.

        Raises:
            StartFailed: one did not become ready.
        """
        pending = set(starts)
        while pending:
            done, pending = await asyncio.wait(
                pending, timeout=SILENT_SECONDS, return_when=asyncio.FIRST_EXCEPTION
            )
            for start in done:
                start.result()
            if pending:
                names = ", ".join(starts[start].program.name for start in pending)
                self._screen.say(tr("still waiting for {names}", names=names))

    async def failure(self, *, unless: "asyncio.Future[None]") -> str | None:
        """Why the system cannot go on, once it cannot; None once `unless` is done first."""
        ends: set[asyncio.Future[Any]] = {self._failed, unless}
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        return None if unless.done() else self._failed.result()

    async def stop(self) -> None:
        """End everything, the last stage first."""
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        for stage in reversed(self._stages):
            await asyncio.gather(*(child.stop() for child in stage))

    def kill(self) -> None:
        """End everything at once."""
        for stage in self._stages:
            for child in stage:
                child.kill()

    async def _keep(self, child: Child) -> None:
        """Start a program again whenever it ends, unless it ends all the time."""
        ends: deque[float] = deque(maxlen=MOST_ENDS)
        name = child.program.name
        while not self._failed.done():
            code = await child.wait()
            ends.append(time.monotonic())
            if len(ends) == MOST_ENDS and ends[-1] - ends[0] < ENDS_WITHIN:
                ended = en("{} ended {} times, at last with {}", name, MOST_ENDS, code)
                self._fail(child.with_output(ended))
                return
            self._screen.say(
                tr("{name} ended with {code}; starting it again", name=name, code=code)
            )
            await asyncio.sleep(RESTART_PAUSE)
            try:
                await child.start()
            except StartFailed as error:
                self._fail(str(error))

    def _fail(self, why: str) -> None:
        if not self._failed.done():
            self._failed.set_result(why)
