"""A fork of the tests' server is what its command would have started."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest

from conftest import wait_until
from support import processes

pytestmark = pytest.mark.skipif(not processes.forking(), reason="nothing is forked here")

IMPORTED = "'dingrelay_workers.resources' in sys.modules"
PROGRAM = """
import json, os, random, signal, sys, threading, time, uuid, warnings

main = sys.modules["__main__"]
report = {
    "arguments": sys.argv,
    "path": [entry for entry in sys.path if os.path.basename(entry) != "tests"],
    "folder": os.getcwd(),
    "variables": dict(os.environ),
    "descriptors": os.listdir("/proc/self/fd"),
    "command": open("/proc/self/cmdline").read().rstrip(chr(0)).split(chr(0)),
    "session": os.getsid(0) == os.getpid(),
    "group": os.getpgrp() == os.getpid(),
    "signals": [line for line in open("/proc/self/status") if line.startswith(("SigB", "SigI", "SigC"))],
    "interrupt": signal.getsignal(signal.SIGINT) is signal.default_int_handler,
    "mask": os.umask(0),
    "threads": threading.active_count(),
    "zone": time.tzname,
    "names": [__name__, main.__name__, repr(__builtins__), main is sys.modules[__name__]],
    "spec": [__package__, getattr(__spec__, "name", None), globals().get("__file__")],
    "warns": warnings.filters[0][0] == "ignore" and warnings.filters[0][2] is Warning,
    "streams": [
        [each.name, each.mode, each.encoding, each.errors, each.line_buffering, each.isatty()]
        for each in (sys.stdin, sys.stdout, sys.stderr)
    ],
}
print(json.dumps(report))
print(json.dumps([random.random(), str(uuid.uuid4()), 'dingrelay_workers.resources' in sys.modules]))
"""


def described(started: Any, command: list[str], **options: Any) -> tuple[Any, Any]:
    """A process's report of itself, and the values that differ each time."""
    options.setdefault("env", os.environ)
    ended = started.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True, **options
    )
    assert ended.stderr == ""
    same, others = map(json.loads, ended.stdout.splitlines())
    return same, others


@pytest.mark.parametrize("new_session", [False, True])
@pytest.mark.parametrize("option", ["-c", "-m"])
def test_it_is_the_same_process(option: str, new_session: bool, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    (tmp_path / "elsewhere").mkdir()
    program = PROGRAM if option == "-c" else "program"
    command = [sys.executable, "-W", "ignore", option, program, "one", "zwei"]
    variables = {
        **{name: value for name, value in os.environ.items() if name != "PATH"},
        "PYTHONPATH": str(tmp_path / "elsewhere"),
        "TZ": "Asia/Shanghai",
        "PYTHONFAULTHANDLER": "1",
        "DINGRELAY_ENV": "sandbox",
    }
    options = {"env": variables, "cwd": tmp_path, "start_new_session": new_session}
    real, (_, _, imported) = described(subprocess, command, **options)
    assert not imported
    fork, (number, identifier, imported) = described(processes, command, **options)
    assert imported
    assert fork == real
    assert fork["variables"] == variables
    again, (another_number, another_identifier, _) = described(processes, command, **options)
    assert again == real
    assert number != another_number
    assert identifier != another_identifier


@pytest.mark.parametrize(
    "end",
    [
        "",
        "sys.exit(3)",
        "sys.exit('why')",
        "1 / 0",
        "raise KeyboardInterrupt",
        "os._exit(7)",
        "os.abort()",
        "os.kill(os.getpid(), signal.SIGKILL)",
        "signal.raise_signal(signal.SIGINT)",
        "atexit.register(print, 'last'); sys.exit(4)",
        "threading.Thread(target=lambda: (time.sleep(0.1), print('from a thread'))).start()",
        "Path('no such module', 'x').read_text()",
    ],
)
def test_it_ends_as_another(end: str) -> None:
    code = "import atexit, os, signal, sys, threading, time\nfrom pathlib import Path\n"
    command = [sys.executable, "-c", f"{code}print('out', end='')\n{end}"]
    real, fork = (
        started.run(command, capture_output=True, text=True, check=False)
        for started in (subprocess, processes)
    )
    assert (fork.returncode, fork.stdout) == (real.returncode, real.stdout)
    assert fork.stderr.splitlines()[-1:] == real.stderr.splitlines()[-1:]


def is_fork(env: Mapping[str, str], **options: Any) -> bool:
    command = [sys.executable, "-c", f"import sys; print({IMPORTED})"]
    described = processes.run(
        command, env=env, capture_output=True, text=True, check=True, **options
    )
    return described.stdout == "True\n"


def test_variables_read_before_the_fork_need_a_new_start() -> None:
    read = {
        "PYTHONHASHSEED": "1",
        "PYTHONUTF8": "0",
        "PYTHONWARNINGS": "error",
        "LD_PRELOAD": "",
        "LC_ALL": "C.UTF-8",
        # celery, kombu and structlog read these when they are imported.
        "CELERY_CUSTOM_WORKER_POOL": "x.y:Pool",
        "KOMBU_LOG_DEBUG": "1",
        "NO_COLOR": "1",
    }
    env = {name: value for name, value in os.environ.items() if name not in read}
    assert is_fork(env)
    assert [name for name in read if is_fork(env | {name: read[name]})] == []


def test_modules_from_elsewhere_are_another_start(tmp_path: Path) -> None:
    for name in ("sitecustomize.py", "celery.py", "redis/__init__.py"):
        folder = tmp_path / name.partition(".")[0].replace("/", "-")
        (folder / "redis").mkdir(parents=True)  # which hides nothing as it is
        env = {**os.environ, "PYTHONPATH": str(folder)}
        assert is_fork(env)
        (folder / name).touch()
        assert not is_fork(env)
        assert not is_fork(dict(os.environ), cwd=folder)


def test_its_handle_is_that_of_a_child() -> None:
    code = "import sys; print(sys.stdin.readline(), end='', flush=True); sys.stdin.read()"
    with processes.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin
        assert process.stdout
        process.stdin.write("你好\n")
        process.stdin.flush()
        assert process.stdout.readline() == "你好\n"
        assert process.poll() is None
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.01)
        codes = list[int]()
        waiting = [
            threading.Thread(target=lambda: codes.append(process.wait(30))) for _ in range(3)
        ]
        for each in waiting:
            each.start()
        process.send_signal(signal.SIGSTOP)
        wait_until(lambda: psutil.Process(process.pid).status() == psutil.STATUS_STOPPED)
        assert process.poll() is None
        process.kill()
        for each in waiting:
            each.join()
        assert codes == [-signal.SIGKILL] * 3
        process.terminate()
    assert process.returncode == process.poll() == process.wait() == -signal.SIGKILL
    assert not psutil.pid_exists(process.pid)


def test_forks_end_with_the_test_process() -> None:
    # A test process of its own, which is killed.
    code = (
        "import sys, time\n"
        "from support import processes\n"
        "fork = processes.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "print(fork.pid, fork._news, flush=True); time.sleep(600)"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    env.pop(processes.ADDRESS, None)
    with subprocess.Popen(
        [sys.executable, "-c", code], env=env, stdout=subprocess.PIPE, text=True
    ) as tests:
        assert tests.stdout
        pid, news = tests.stdout.readline().split()
        assert news != "None"
        tests.kill()
    wait_until(lambda: not psutil.pid_exists(int(pid)))
