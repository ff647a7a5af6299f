"""Programs that documents name and a test must not run: each checks what it is given.

A file of the program's name, first in the `PATH`, runs this with that name. What is not there, be it a target, a service, a
unit, an extra or a file of the repository, is an error.
"""

import itertools
import os
import re
import sys
import tomllib
from pathlib import Path

from support import processes

ROOT = Path(__file__).parents[2]
PROGRAMS = (
    *(
        "make",
        "sudoedit",
        "docker",
        "kubectl",
        "sudo",
        "pip",
        "rm",
        "cp",
        "redis-cli",
        "valkey-check-aof",
        "pg_dump",
        "pg_restore",
    ),
    *("pytest", "celery"),
)
SERVERS = {
    "worker": ("--metrics-port", "0"),
    "gateway": ("--port", "0"),
    "console": ("--port", "0"),
    "events": (),
}
"""Commands of ours that run until a signal → options with which they disturb no other test."""


def _make(arguments: list[str]) -> None:
    known = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    targets = {word for word in arguments if "=" not in word}
    _expect(targets <= known, f"no target {targets - known}")


def _docker(arguments: list[str]) -> None:
    import yaml

    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))["services"]
    if arguments[:2] == ["volume", "rm"]:
        volumes = {word.removeprefix("dingrelay_") for word in arguments[2:]}
        _expect(volumes <= services.keys(), f"no volumes {volumes}")
        return
    _expect(arguments[0] == "compose", "unknown")
    _expect(arguments[1] in {"run", "exec", "up", "down", "cp"}, "unknown")
    words = (word for word in arguments[2:] if not word.startswith("-"))
    # A path in a container is behind the name of its service.
    named = [word.partition(":")[0] for word in words if not re.match(r"cp$|\.?/|backup/", word)]
    if arguments[1] != "down":
        _expect({*named[:1]} <= services.keys(), f"no service {named}")


def _kubectl(arguments: list[str]) -> None:
    for option, value in itertools.pairwise(arguments):
        if option in {"--filename", "--kustomize"}:
            _expect((ROOT / value).exists(), f"no file {value}")


def _sudo(arguments: list[str]) -> None:
    if arguments[0].endswith("pip"):
        _pip(arguments[1:])
    for word in arguments:
        if word.startswith("ops/"):
            _expect(bool([*ROOT.glob(word)]), f"no file {word}")
    if arguments[:2] == ["systemctl", "enable"]:
        for unit in (word for word in arguments[2:] if not word.startswith("-")):
            name = re.sub(r"@.*", "@", unit)
            _expect((ROOT / f"ops/systemd/{name}.service").exists(), f"no unit {unit}")


def _pip(arguments: list[str]) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"][
        "optional-dependencies"
    ]
    for named in re.findall(r"\[([\w,]+)\]", " ".join(arguments)):
        _expect(set(named.split(",")) <= extras.keys(), f"no extra {named}")


def _rm(arguments: list[str]) -> None:
    _expect(arguments == ["-r", ".dingrelay"], "deletes something else")


def _redis_cli(arguments: list[str]) -> None:
    from redis import Redis

    words = arguments[2:] if arguments[0] == "-u" else arguments
    Redis.from_url(os.environ["SYSTEM_REDIS"]).execute_command(*words)


def _expect(fact: bool, otherwise: str) -> None:
    if not fact:
        raise SystemExit(f"{' '.join(sys.argv)}: {otherwise}")


def _nothing(arguments: list[str]) -> None:
    """Takes anything: the program belongs to a server that is not there."""


CHECKS = {
    "make": _make,
    "docker": _docker,
    "kubectl": _kubectl,
    "sudo": _sudo,
    "pip": _pip,
    "rm": _rm,
    "redis-cli": _redis_cli,
}


def serve(command: list[str]) -> int:
    """Start one of our servers, end it once it is ready, and give its exit code."""
    import socket
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/notify"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready:
            ready.bind(path)
            ready.settimeout(0.2)
            process = processes.Popen[bytes](command, env={**os.environ, "NOTIFY_SOCKET": path})
            while process.poll() is None:
                try:
                    if b"READY=1" in ready.recv(4096):
                        break
                except TimeoutError:
                    continue
            process.terminate()
            return process.wait(60)


def main() -> int:
    """Check the words, or run what is a server of ours."""
    program, *arguments = sys.argv[1:]
    sys.argv = [program, *arguments]
    if program != "dingrelay":
        CHECKS.get(program, _nothing)(arguments)
        return 0
    command = [sys.executable, "-m", "dingrelay_producers.cli", *arguments]
    if arguments[0] in SERVERS and all(word.startswith("-") for word in arguments[1:2]):
        return serve([*command, *SERVERS[arguments[0]]])
    code = processes.run(command).returncode
    # It reports the state of the system, which is no fault of the command.
    return 0 if arguments[0] == "doctor" and code == 1 else code


if __name__ == "__main__":
    sys.exit(main())
