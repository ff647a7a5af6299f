"""`Popen` and `run` as in `subprocess`, but programs of ours begin as forks and cost no imports.

Test processes share one server: a fresh interpreter that imports our packages, starts no thread,
opens nothing and reads no setting. It ends with the process that started it, and forks a process for each command `python -m` or `python -c`.

The fork has the command's arguments, variables, folder, descriptors, session, signals and module
search path, `__main__` as Python makes it, and the end of an interpreter. It differs in its parent,
and by the flags and the seed of hashes of the server. Whatever
could make another difference starts as `subprocess` does it: other programs, variables that were
read before the fork, modules that would come from elsewhere, and all while coverage is measured.
"""

import atexit
import builtins
import ctypes
import faulthandler
import gc
import importlib
import inspect
import io
import json
import os
import pkgutil
import runpy
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import types
import warnings
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from subprocess import DEVNULL, PIPE, STDOUT, CalledProcessError, CompletedProcess, TimeoutExpired
from typing import Any, AnyStr, ClassVar, NoReturn

__all__ = [
    "DEVNULL",
    "PIPE",
    "STDOUT",
    "CalledProcessError",
    "CompletedProcess",
    "Popen",
    "Server",
    "Start",
    "TimeoutExpired",
    "address",
    "forking",
    "run",
    "running_server",
    "serve",
    "share",
    "show_command",
    "use",
    "with_packages",
]

PACKAGES = ("dingrelay_tasks", "dingrelay_producers", "dingrelay_workers", "dingrelay_sandbox")
IMPORTED_LATE = (
    *("celery.apps.worker", "celery.bin.worker", "celery.app.amqp", "celery.app.control"),
    *("celery.app.events", "celery.app.log", "celery.backends.base", "celery.fixups.django"),
    *("celery.worker.autoscale", "celery.worker.components", "celery.worker.strategy"),
    *(
        "typer._adapters",
        "typer.rich_utils",
        "rich.markdown",
        "dingrelay_demo.command",
        "encodings.idna",
    ),
)
"""Modules that a worker or a command imports once it runs."""
LEFT_OUT = (
    "dingrelay_workers.app",
    "dingrelay_workers.migrations",
    "dingrelay_workers.flower",
    "dingrelay_producers.outbox.django",
    "dingrelay_producers.tracing.provider",
)
"""The first reads settings, the next two run in programs of their own, Django's needs settings of Django, and no
process has the last that exports no traces."""
READ_BY_PYTHON = ("PYTHON", "LC_", "LANG", "LD_", "MALLOC_", "GLIBC_", "OPENSSL_", "COVERAGE_")
"""Beginnings of variables that the interpreter, a library in C or the loader reads for itself."""
HEEDED = {"PYTHONPATH", "PYTHONFAULTHANDLER", "PYTHONWARNINGS", "LANGUAGE"}
"""Variables that a fork can heed: of `PYTHONWARNINGS` only `ignore`, and `LANGUAGE` is read late."""
PLAIN: Mapping[str, Any] = {
    "executable": None,
    "preexec_fn": None,
    "close_fds": True,
    "pass_fds": (),
    "shell": False,
    "restore_signals": True,
    "gid": None,
    "gids": None,
    "uid": None,
    "umask": -1,
    "process_group": -1,
}
"""The only values of these that a fork can have."""
PIPES = ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")
NUMBER = struct.Struct("i")
"""The number that the server writes to the pipe of a process: its id, and later its status."""
ADDRESS = "FORKS_OF_TESTS"
"""The variable with the address of a server."""
MESSAGE = 1 << 20
"""Bytes of the longest request."""
LONGEST_COMMAND = 4000
"""Bytes of a command that `ps` can show."""


@dataclass(frozen=True)
class Start:
    """Specification of a process."""

    option: str  # -m or -c
    program: str
    arguments: Sequence[str]
    variables: Mapping[str, str]
    folder: str
    path: Sequence[str]
    no_warnings: bool
    new_session: bool


class Popen(subprocess.Popen[AnyStr]):
    """`subprocess.Popen`; its process is a fork of the server where that makes no difference."""

    _news: int | None = None
    """Pipe with the server's messages on this process; None if it is no fork, or has ended."""

    @property
    def forked(self) -> bool:
        """Whether it is a fork that has not ended."""
        return self._news is not None

    # What these override is the same in CPython 3.11 to 3.14.

    def _execute_child(self, *given: Any) -> None:
        named = inspect.signature(super()._execute_child).bind(*given).arguments
        server, start = self._fork_for(named)
        if not server or not start:
            super()._execute_child(*given)
            return
        ends = (named["p2cread"], named["c2pwrite"], named["errwrite"])
        ends = [own if end == -1 else end for own, end in enumerate(ends)]
        self.pid, self._news = server.fork(start, ends)
        self._child_created = True
        self._close_pipe_fds(*(named[name] for name in PIPES))

    def _fork_for(self, named: Mapping[str, Any]) -> tuple["Server | None", Start | None]:
        """The server that can make a process with these arguments, and what it is; None if there is none."""
        server = None
        if all(named[name] == value for name, value in PLAIN.items()):
            address = (named["env"] or {}).get(ADDRESS, "")
            server = _with_packages.get(address) or running_server()
        if not server:
            return None, None
        options = (named["cwd"], named["env"], named["start_new_session"])
        return server, server.understood(named["args"], *options)

    def _try_wait(self, wait_flags: int) -> tuple[int, int]:
        """The process and its status; zeros while it runs, if that is WNOHANG."""
        if self._news is None:
            return super()._try_wait(wait_flags)
        if wait_flags & os.WNOHANG and not select.select([self._news], [], [], 0)[0]:
            return 0, 0
        (status,) = NUMBER.unpack(os.read(self._news, NUMBER.size))
        os.close(self._news)
        self._news = None
        return self.pid, status

    def _internal_poll(self, *given: Any, **named: Any) -> int | None:
        if self._news is None:
            return super()._internal_poll(*given, **named)
        # A thread that waits for the process has the lock, and writes down how it ended.
        if self._waitpid_lock.acquire(blocking=False):
            try:
                pid, status = self._try_wait(os.WNOHANG)
                if pid:
                    self._handle_exitstatus(status)
            finally:
                self._waitpid_lock.release()
        return self.returncode


def run(
    command: Sequence[str | os.PathLike[str]],
    *,
    input: Any = None,  # noqa: A002 - its name in `subprocess`
    capture_output: bool = False,
    timeout: float | None = None,
    check: bool = False,
    **options: Any,
) -> subprocess.CompletedProcess[Any]:
    """`subprocess.run` with our `Popen`."""
    if capture_output:
        options |= {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    if input is not None:
        options["stdin"] = subprocess.PIPE
    with Popen[Any](command, **options) as process:
        try:
            output, errors = process.communicate(input, timeout)
        except BaseException:
            process.kill()
            raise
    done = subprocess.CompletedProcess(process.args, process.returncode, output, errors)
    if check:
        done.check_returncode()
    return done


class Server:
    """The process that forks others, as a test process sees it, or a process of its own tests."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._lock = threading.Lock()
        self._channel = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._channel.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, MESSAGE)
        self._channel.connect(address)
        self.report: dict[str, Any] = {}
        """The server's state after its imports."""

    def wait(self) -> None:
        """Return once it has imported everything."""
        if self.report:
            return
        self.report = json.loads(self._channel.recv(MESSAGE))
        self._variables: dict[str, str] = self.report["variables"]
        self._read = set(self.report["read"])
        self._modules = {*self.report["modules"], "sitecustomize", "usercustomize"}
        self._path: list[str] = self.report["path"]

    def understood(
        self,
        command: Sequence[str | os.PathLike[str]],
        folder: str | os.PathLike[str] | None,
        variables: Mapping[str, str] | None,
        new_session: bool,
    ) -> Start | None:
        """The start that a command describes; None if a fork could differ."""
        match [os.fsdecode(word) for word in command]:
            case [sys.executable, "-W", "ignore", "-m" | "-c" as option, program, *arguments]:
                no_warnings = True
            case [sys.executable, "-m" | "-c" as option, program, *arguments]:
                no_warnings = False
            case _:
                return None
        given = dict(os.environ if variables is None else variables)
        if warned := given.get("PYTHONWARNINGS"):
            no_warnings = True
        here = str(Path(folder or ".").absolute())
        first = [entry for entry in given.get("PYTHONPATH", "").split(os.pathsep) if entry]
        if not Path(here).is_dir() or warned not in {None, "", "ignore"}:
            return None
        if self._would_differ(given) or self._would_hide([here, *first]):
            return None
        path = dict.fromkeys([here if option == "-m" else "", *first, *self._path])
        return Start(option, program, arguments, given, here, list(path), no_warnings, new_session)

    def _would_differ(self, variables: Mapping[str, str]) -> bool:
        """Whether what was imported saw another value of one of these variables."""
        names = {
            name
            for name in variables.keys() | self._variables.keys()
            if variables.get(name) != self._variables.get(name)
        } - HEEDED
        early = {name for name in names if name.startswith(READ_BY_PYTHON)}
        return bool(early or names & self._read)

    def _would_hide(self, folders: Iterable[str]) -> bool:
        """Whether something in these folders would be imported in the place of what has been."""
        for folder in set(folders).difference(self._path):
            with suppress(OSError):
                # A folder without `__init__` is looked at only where nothing else has the name.
                named = [path for path in Path(folder).iterdir() if self._is_known(path)]
                if any(not path.is_dir() or [*path.glob("__init__.*")] for path in named):
                    return True
        return False

    def _is_known(self, path: Path) -> bool:
        return path.name.partition(".")[0] in self._modules

    def fork(self, start: Start, ends: Sequence[int]) -> tuple[int, int]:
        """Start a process with these descriptors as 0, 1 and 2: its id, and the pipe with its news."""
        news, end = os.pipe()
        try:
            with self._lock:
                socket.send_fds(self._channel, [json.dumps(asdict(start)).encode()], [*ends, end])
        finally:
            os.close(end)
        (pid,) = NUMBER.unpack(os.read(news, NUMBER.size))
        return pid, news

    def close(self) -> None:
        """End it, if this is its test process, and what it has forked and is still there."""
        self._channel.close()


def forking() -> bool:
    """Whether anything is forked here."""
    return sys.platform == "linux" and not any(name.startswith("COVERAGE_") for name in os.environ)


def address() -> dict[str, str]:
    """The variable by which a process may have forks of this test process's server, too."""
    server = running_server()
    return {ADDRESS: server.address} if server else {}


_starting = threading.Lock()


def running_server() -> Server | None:
    """The server of this test process, which the first fork starts; None where nothing is forked."""
    if not forking():
        return None
    with _starting:
        server = _only_server()
        server.wait()
        return server


def share() -> None:
    """Start a server for the test processes that this one starts; it imports in the background."""
    os.environ[ADDRESS] = _only_server().address


@cache
def _only_server() -> Server:
    if ADDRESS in os.environ:
        server = Server(os.environ[ADDRESS])
        atexit.register(server.close)
        return server
    server, process = _start({})
    atexit.register(process.wait, 30)
    atexit.register(server.close)
    return server


def _start(variables: Mapping[str, str]) -> tuple[Server, subprocess.Popen[bytes]]:
    """A server whose interpreter has these variables."""
    heeded = {name: value for name, value in os.environ.items() if name not in HEEDED}
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(f"{tempfile.mkdtemp(prefix='forks-')}/server")
        listener.listen()
        process = subprocess.Popen(
            [sys.executable, __file__, str(listener.fileno()), " " * LONGEST_COMMAND],
            env={**heeded, **variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=[listener.fileno()],
        )
        return Server(listener.getsockname()), process


_with_packages: dict[str, Server] = {}
"""Servers of `with_packages`, by their address."""


@contextmanager
def with_packages(folder: Path) -> Generator[dict[str, str]]:
    """Variables of commands that are to know the packages in a folder, also those that are looked for on import.

    Their forks are of a server that has imported them, and end with the block.
    """
    path = {"PYTHONPATH": str(folder)}
    if not forking():
        yield path
        return
    server, process = _start(path)
    server.wait()
    _with_packages[server.address] = server
    yield {**path, ADDRESS: server.address}
    del _with_packages[server.address]
    server.close()
    process.wait(30)


def use(address: str) -> Server:
    """Have another server from now on."""
    os.environ[ADDRESS] = address
    _only_server.cache_clear()
    server = _only_server()
    server.wait()
    return server


class _Noting(type(os.environ)):
    """The variables, and which of them were asked for."""

    used: ClassVar[set[str]] = set()

    def __getitem__(self, key: str) -> str:
        self.used.add(key)
        return super().__getitem__(key)


def _import_all() -> set[str]:
    """Import what is to be forked: the variables that were read by then."""
    # It copies all variables for CGI.
    importlib.import_module("wsgiref.handlers")
    kind, os.environ.__class__ = type(os.environ), _Noting
    for name in IMPORTED_LATE:
        importlib.import_module(name)
    for package in map(importlib.import_module, PACKAGES):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.startswith(LEFT_OUT) and not module.name.endswith("__main__"):
                importlib.import_module(module.name)
    os.environ.__class__ = kind
    return _Noting.used


class _Forks:
    """The loop of the server."""

    def __init__(self, listener: socket.socket, report: bytes, *, ends_forks: bool) -> None:
        self._listener = listener
        self._report = report
        self._ends_forks = ends_forks
        self._tests: socket.socket | None = None
        self._channels: dict[int, socket.socket] = {}
        self._running: dict[int, tuple[int, int]] = {}
        self._poll = select.poll()
        self._poll.register(listener, select.POLLIN)

    def serve(self) -> Start:
        """Fork for each request until the test process is gone. Returns in the fork."""
        while True:
            for ready, _ in self._poll.poll():
                if ready == self._listener.fileno():
                    self._welcome()
                elif ready in self._running:
                    self._report_end(ready)
                elif start := self._forked(self._channels[ready]):
                    return start

    def _welcome(self) -> None:
        channel, _ = self._listener.accept()
        self._tests = self._tests or channel  # which alone knows the address at first
        with suppress(BrokenPipeError):  # who asked is gone already
            channel.send(self._report)
        self._channels[channel.fileno()] = channel
        self._poll.register(channel, select.POLLIN)

    def _report_end(self, watched: int) -> None:
        pid, news = self._running.pop(watched)
        self._poll.unregister(watched)
        os.close(watched)
        _write(news, os.waitpid(pid, 0)[1])
        os.close(news)

    def _forked(self, channel: socket.socket) -> Start | None:
        """Do what is asked for: what this process is now, if it is the fork."""
        try:
            request, received, _, _ = socket.recv_fds(channel, MESSAGE, 4)
        except ConnectionResetError:  # it ended without having read its request
            request, received = b"", []
        if not request:
            self._part_from(channel)
            return None
        *ends, news = received
        pid = os.fork()
        if not pid:
            for each in (self._listener, *self._channels.values()):
                each.detach()
            return _become(Start(**json.loads(request)), ends)
        for end in ends:
            os.close(end)
        _write(news, pid)
        watched = os.pidfd_open(pid)
        self._running[watched] = (pid, news)
        self._poll.register(watched, select.POLLIN)
        return None

    def _part_from(self, channel: socket.socket) -> None:
        if channel is self._tests:
            for pid, _ in self._running.values() if self._ends_forks else ():
                os.kill(pid, signal.SIGKILL)
            shutil.rmtree(Path(self._listener.getsockname()).parent)
            os._exit(0)
        self._poll.unregister(channel)
        del self._channels[channel.fileno()]
        channel.close()


def _write(news: int, number: int) -> None:
    with suppress(BrokenPipeError):  # it is not waited for any more
        os.write(news, NUMBER.pack(number))


def _become(start: Start, ends: Sequence[int]) -> Start:
    """Make of a fork what the command would have started, up to its first line."""
    for own, end in enumerate(ends):
        os.dup2(end, own)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    for end, name in enumerate(("stdin", "stdout", "stderr")):
        stream = _stream(end, getattr(sys, name))
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    if start.new_session:
        os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(start.variables)
    os.chdir(start.folder)
    time.tzset()
    sys.path[:] = start.path
    importlib.invalidate_caches()
    if os.environ.get("PYTHONFAULTHANDLER"):
        faulthandler.enable()
    if start.no_warnings:
        warnings.simplefilter("ignore")
    ignored = ["-W", "ignore"] if start.no_warnings else []
    show_command([sys.executable, *ignored, start.option, start.program, *start.arguments])
    gc.enable()
    return start


def show_command(words: Sequence[str]) -> None:
    """Let `/proc/self/cmdline` be these words, where the server's own command was."""
    status = Path("/proc/self/stat").read_text("ascii", "replace").rpartition(")")[2].split()
    begin, end = int(status[45]), int(status[46])  # arg_start and arg_end, fields 48 and 49
    text = b"\0".join(map(os.fsencode, words))[: end - begin - 1]
    ctypes.memmove(begin, text.ljust(end - begin, b"\0"), end - begin)


def _stream(end: int, old: io.TextIOWrapper) -> io.TextIOWrapper:
    """The stream that `sys` has for a descriptor from the start; `old` is replaced for another file."""
    raw = io.FileIO(end, "w" if end else "r", closefd=False)
    raw.name = f"<{('stdin', 'stdout', 'stderr')[end]}>"
    buffered = not isinstance(old.buffer, io.FileIO)  # PYTHONUNBUFFERED wants it otherwise
    buffer: Any = raw
    if buffered:
        buffer = io.BufferedWriter(raw) if end else io.BufferedReader(raw)
    stream = io.TextIOWrapper(
        buffer,
        old.encoding,
        old.errors,
        newline="\n" if end else None,
        line_buffering=buffered and (end == 2 or raw.isatty()),
        write_through=old.write_through,
    )
    stream.mode = "w" if end else "r"
    return stream


def _run(start: Start) -> int:
    """Run the program as `python -m` and `python -c` do: its exit code, or less a signal's number."""
    sys.argv[:] = [start.option, *start.arguments]
    main = sys.modules["__main__"] = types.ModuleType("__main__")
    main.__dict__.update(__builtins__=builtins, __annotations__={})
    try:
        if start.option == "-c":
            exec(compile(start.program, "<string>", "exec"), main.__dict__)
        else:
            runpy._run_module_as_main(start.program)
    except SystemExit as end:
        if isinstance(end.code, int | None):
            return end.code or 0
        sys.stderr.write(f"{end.code}\n")
        return 1
    except BaseException as error:  # noqa: BLE001 - whatever ends it
        sys.excepthook(type(error), error, error.__traceback__)
        return -signal.SIGINT if isinstance(error, KeyboardInterrupt) else 1
    return 0


def _end(code: int) -> NoReturn:
    """End like an interpreter, but leave all modules as they are: to clear them takes 0.1 s."""
    threading._shutdown()
    atexit._run_exitfuncs()
    gc.collect()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    if code < 0:
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code & 0xFF)


def serve(listener: socket.socket, report: bytes, *, ends_forks: bool = True) -> NoReturn:
    """Be a server until who connected first is gone; each fork ends here as its program ends.

    Forks that still run then are killed, unless they are to end by themselves.
    """
    assert len(list(Path("/proc/self/task").iterdir())) == 1, "an import started a thread"
    _end(_run(_Forks(listener, report, ends_forks=ends_forks).serve()))


if __name__ == "__main__":
    # The folder of this file is on no path.
    del sys.path[0]
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the test process ends it
    gc.disable()
    _read = _import_all()
    _report = {
        "variables": dict(os.environ),
        "read": list(_read),
        "modules": list({name.partition(".")[0] for name in sys.modules}),
        "path": sys.path,
    }
    gc.freeze()
    serve(socket.socket(fileno=int(sys.argv[1])), json.dumps(_report).encode())
