"""A command that a shell script calls loads what it needs and no more: loading is most of what it costs."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from dingrelay_producers import Client, Settings
from support.jobs import message

RUN = """
import atexit, json, sys

from dingrelay_producers.cli import main

atexit.register(lambda: sys.stderr.write(json.dumps(sorted(sys.modules))))
main()
"""
COLLECTED = """
import gc, sys

def looked(phase, info):
    if phase == "start" and len(gc.get_objects()) > 20_000:
        print(len(gc.get_objects()), file=sys.stderr)

gc.callbacks.append(looked)
from dingrelay_producers.cli import main

main()
"""
"""Prints the number of objects, some 70,000 in the end, whenever Python looks for garbage among many."""
BROKERS = {"celery", "kombu", "amqp"}
SERVICES = {
    "aiohttp",
    "sqlalchemy",
    "alembic",
    "structlog",
    "prometheus_client",
    "uvloop",
    "jinja2",
}
CONTRACTS = {
    f"dingrelay_tasks.{name}"
    for name in ("user_sync", "approval_create", "robot_message", "context")
}
HEAVY = (
    BROKERS
    | SERVICES
    | CONTRACTS
    | {"opentelemetry.metrics._internal", "tomllib", "dingrelay_workers"}
)
"""Modules that a command has no use for where Redis is the broker."""
HEAVY_FOR_TEXT = HEAVY | {"redis", "pydantic", "asyncio", "rich.table", "dingrelay_tasks.contract"}
"""The same of a command that only prints a text."""


def noted(code: str, arguments: list[str], variables: Mapping[str, str], folder: Path) -> list[str]:
    """Lines that a program which runs a command writes to standard error."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env={**os.environ, **variables},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stderr.splitlines()


def loaded(arguments: list[str], variables: Mapping[str, str], folder: Path) -> set[str]:
    """The modules that a command has loaded at its end."""
    return set(json.loads(noted(RUN, arguments, variables, folder)[-1]))


@pytest.mark.parametrize("arguments", [["--version"], ["--version", "--json"]])
def test_the_version_needs_no_library_but_that_of_commands(
    arguments: list[str], tmp_path: Path
) -> None:
    assert loaded(arguments, {}, tmp_path) & HEAVY_FOR_TEXT == set()


def test_sending_and_looking_need_redis_alone(
    settings: Settings, variables: dict[str, str], tmp_path: Path
) -> None:
    with Client(settings) as client:
        job = client.send(message()).id
    send = ["send", "--to", "u1", "--text", "你好"]
    show = ["job", "show", job]
    for arguments in (send, [*send, "--json"], show, [*show, "--json"]):
        modules = loaded(arguments, variables, tmp_path)
        assert modules & HEAVY == set(), arguments
        assert "redis" in modules
        # A page for people takes a library that a line or JSON does without.
        assert ("rich.console" in modules) == (arguments == show)


def test_a_command_looks_for_no_garbage_in_what_it_has_loaded(
    settings: Settings, variables: dict[str, str], tmp_path: Path
) -> None:
    with Client(settings) as client:
        job = client.send(message()).id
    assert noted(COLLECTED, ["job", "show", job], variables, tmp_path) == []
