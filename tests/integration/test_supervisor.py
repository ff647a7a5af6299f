"""Programs are started in stages, kept running, and never left behind."""

import asyncio
import io
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import psutil
import pytest
from rich.console import Console

from conftest import wait_until
from dingrelay_workers.embedded.child import Program, StartFailed
from dingrelay_workers.embedded.supervisor import Screen, Supervisor
from dingrelay_workers.embedded.system import System
from support import processes

NOTIFY = """
import os, socket
socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b"READY=1", os.environ["NOTIFY_SOCKET"])
"""
SLEEPER = f"""
import os, pathlib, signal, sys, time
folder = pathlib.Path({{folder!r}})
def end(*_):
    with (folder / "ends").open("a") as file: file.write({{name!r}} + "\\n")
    sys.exit(0)
signal.signal(signal.SIGTERM, signal.SIG_IGN if {{stubborn}} else end)
with (folder / "starts").open("a") as file: file.write({{name!r}} + "\\n")
{NOTIFY}
while True: time.sleep(60)
"""


class Stage:
    """A test's running programs, and their output."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.output = io.StringIO()
        self.others = set(_children())
        self.supervisor: Supervisor | None = None

    def sleeper(self, name: str, *, stubborn: bool = False, stop_timeout: float = 5) -> Program:
        """A program that says that it is ready and sleeps; a stubborn one ignores SIGTERM."""
        code = SLEEPER.format(folder=str(self.folder), name=name, stubborn=stubborn)
        return Program(name, (sys.executable, "-c", code), stop_timeout=stop_timeout)

    def supervise(self, *stages: list[Program]) -> Supervisor:
        names = [program.name for stage in stages for program in stage]
        screen = Screen(Console(file=self.output, width=200), names)
        self.supervisor = Supervisor(stages, {}, screen)
        return self.supervisor

    def words(self, file: str) -> list[str]:
        path = self.folder / file
        return path.read_text().split() if path.exists() else []

    def pids(self) -> list[int]:
        """The processes of this test's programs that run."""
        return [pid for pid in _children() if pid not in self.others]


def _children() -> list[int]:
    children = psutil.Process().children(recursive=True)
    return [child.pid for child in children if child.status() != psutil.STATUS_ZOMBIE]


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    stage = Stage(tmp_path)
    before = set(stage.pids())
    yield stage
    if stage.supervisor:
        await stage.supervisor.stop()
    assert set(stage.pids()) <= before


async def until(predicate: Callable[[], object]) -> None:
    await asyncio.to_thread(wait_until, predicate, timeout=20)


async def test_stages_start_in_order_and_end_in_the_other(stage: Stage) -> None:
    supervisor = stage.supervise([stage.sleeper("one")], [stage.sleeper("two")])
    await supervisor.start()
    assert stage.words("starts") == ["one", "two"]
    await supervisor.stop()
    assert stage.words("ends") == ["two", "one"]


async def test_output_carries_the_name(stage: Stage) -> None:
    code = f"print('x' * 300_000); print('bye', flush=True)\n{NOTIFY}\nimport time; time.sleep(60)"
    await stage.supervise([Program("big", (sys.executable, "-c", code))]).start()
    await until(lambda: "bye" in stage.output.getvalue())
    lines = stage.output.getvalue().splitlines()
    assert lines[:2] == [f"big │ {'x' * 300_000}", "big │ bye"]


async def test_a_program_that_ends_is_started_again(stage: Stage) -> None:
    await stage.supervise([stage.sleeper("one")]).start()
    (pid,) = stage.pids()
    psutil.Process(pid).send_signal(signal.SIGKILL)
    await until(lambda: stage.words("starts") == ["one", "one"])
    assert "one ended with -9; starting it again" in stage.output.getvalue()


async def test_a_program_that_ends_all_the_time_takes_the_system_down(stage: Stage) -> None:
    code = f"{NOTIFY}\nimport time; time.sleep(0.5); raise SystemExit(7)"
    program = Program("weak", (sys.executable, "-c", code))
    supervisor = stage.supervise([stage.sleeper("one"), program])
    await supervisor.start()
    async with asyncio.timeout(20):
        why = await supervisor.failure(unless=asyncio.get_running_loop().create_future())
    assert why.startswith("weak ended")


async def test_a_program_that_cannot_start_fails_the_start(stage: Stage) -> None:
    broken = Program("broken", (sys.executable, "-c", "raise SystemExit(3)"), port=1)
    with pytest.raises(StartFailed, match="broken ended with 3"):
        await stage.supervise([stage.sleeper("one")], [broken]).start()


async def test_a_failed_start_shows_the_programs_last_lines_again(stage: Stage) -> None:
    code = "print('quiet: beside the point'); print('port 8610 is taken', flush=True); raise SystemExit(2)"
    broken = Program("broken", (sys.executable, "-c", code), hidden="quiet")
    with pytest.raises(StartFailed) as failed:
        await stage.supervise([broken]).start()
    assert str(failed.value) == "broken ended with 2. Its last lines:\n  port 8610 is taken"
    assert "beside the point" not in stage.output.getvalue()


async def test_a_start_names_the_programs_that_take_long(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dingrelay_workers.embedded.supervisor.SILENT_SECONDS", 0.05)
    gate = stage.folder / "gate"
    code = (
        f"import pathlib, time\nwhile not pathlib.Path({str(gate)!r}).exists(): time.sleep(0.01)\n"
    )
    late = Program("late", (sys.executable, "-c", f"{code}{NOTIFY}\ntime.sleep(60)"))
    start = asyncio.create_task(stage.supervise([stage.sleeper("one"), late]).start())
    await until(lambda: "still waiting for late\n" in stage.output.getvalue())
    gate.touch()
    await start


def test_a_port_of_another_program_is_named_with_the_one_instead() -> None:
    system = System()
    with socket.create_server(("127.0.0.1", 0)) as other:
        usual = other.getsockname()[1]
        port = system.pick_port("gateway", usual)
    assert port != usual
    (note,) = system.notes
    assert f"port {usual}: gateway is at {port}" in note


async def test_a_program_that_does_not_exist_fails_the_start(stage: Stage) -> None:
    missing = Program("missing", ("/nowhere/program",), port=1)
    with pytest.raises(StartFailed, match="missing"):
        await stage.supervise([missing]).start()


async def test_a_program_that_ignores_the_end_is_killed(stage: Stage) -> None:
    supervisor = stage.supervise([stage.sleeper("deaf", stubborn=True, stop_timeout=0.2)])
    await supervisor.start()
    await supervisor.stop()
    assert stage.pids() == []
    assert "deaf does not end by itself; killing it" in stage.output.getvalue()


async def test_children_of_a_program_end_with_it(stage: Stage) -> None:
    code = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'input()'], "
    code += f"stdin=subprocess.PIPE)\n{NOTIFY}\nimport time; time.sleep(60)"
    supervisor = stage.supervise([Program("parent", (sys.executable, "-c", code))])
    await supervisor.start()
    family = stage.pids()
    assert len(family) == 2
    await supervisor.stop()
    await until(lambda: not any(map(_runs, family)))


SUPERVISE = """
import asyncio, sys
from rich.console import Console
from dingrelay_workers.embedded.child import Program
from dingrelay_workers.embedded.supervisor import Screen
from dingrelay_workers.embedded.supervisor import Supervisor

PROGRAM = "print(__import__('os').getpid(), flush=True); __import__('time').sleep(600)"

async def main():
    program = Program("one", (sys.executable, "-c", PROGRAM))
    supervisor = Supervisor([[program]], {}, Screen(Console(file=sys.stderr), ["one"]))
    starting = asyncio.create_task(supervisor.start())
    await asyncio.sleep(600)

asyncio.run(main())
"""


def test_a_supervisor_that_is_killed_leaves_nothing_behind() -> None:
    with processes.Popen(
        [sys.executable, "-c", SUPERVISE], stderr=processes.PIPE, text=True
    ) as supervisor:
        assert supervisor.stderr
        pid = int(supervisor.stderr.readline().split()[-1])
        assert _runs(pid)
        supervisor.kill()
    wait_until(lambda: not _runs(pid))


def _runs(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
