"""Packages with kinds of jobs that are wrong: every program refuses them at its start, by their name."""

import os
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path

import pytest

from dingrelay_tasks import KindError, kinds
from support import packages

RIGHT = '''
from dingrelay_tasks import Context, Deliverable, Part, Refused, en, kind

class Ping(Deliverable):
    """Ping."""
    word: str

@kind("acme-ping", Ping, scope="pings:write", result=Part{more})
async def run(job: Ping, ctx: Context) -> dict:
    raise Refused("no_bell", en("there is no bell"), "")
'''
CATALOGUE = """
msgid ""
msgstr "Content-Type: text/plain; charset=UTF-8\\n"

msgid "there is no bell"
msgstr "没有铃"
"""
DINGRELAY = "-m dingrelay_producers.cli"


def refused(folder: Path, command: str, *, code: str) -> str:
    """Error of a program that finds the package; it must end as for a wrong setting."""
    modules = {"acme_ping/__init__.py": "", "acme_ping/ping.py": code}
    packages.install(folder, "acme_ping", modules=modules, kinds={"acme-ping": "acme_ping.ping"})
    run = in_process_of(folder, *command.split())
    assert run.returncode == 2, run.stderr
    return run.stderr.replace("\n", " ")


def in_process_of(
    folder: Path, *arguments: str, **variables: str
) -> "subprocess.CompletedProcess[str]":
    """Python's run with these arguments, where the package of a folder is installed."""
    return subprocess.run(
        [sys.executable, "-W", "ignore", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder), "COLUMNS": "1000", **variables},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("code", "value", "reason"),
    [
        (
            "import nosuch",
            "acme_ping.ping",
            "acme-ping can't be imported from acme_ping.ping: ModuleNotFoundError: No",
        ),
        ("", "acme_ping.ping", "acme_ping.ping declares no kind acme-ping"),
        ("", "acme_pong", "acme-ping can't be imported from acme_pong: ModuleNotFoundError"),
        (RIGHT.format(more=', queue="q"'), "acme_ping.ping", "queue: no worker takes from q"),
        (
            RIGHT.format(more=', rules={"*": {"calls": ""}}'),
            "acme_ping.ping",
            "rules: * must be a path",
        ),
        (
            RIGHT.replace("acme-ping", "api-call").format(more=""),
            "acme_ping.ping",
            "the kind api-call is declared twice",
        ),
    ],
)
def test_a_wrong_kind_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, value: str, reason: str
) -> None:
    modules = {"acme_ping/__init__.py": "", "acme_ping/ping.py": code}
    packages.install(tmp_path, "acme_ping", modules=modules, kinds={"acme-ping": value})
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(kinds, "_DECLARED", dict(kinds.KINDS))
    (package,) = distributions(path=[str(tmp_path)])
    (point,) = package.entry_points
    with pytest.raises(KindError) as answer:
        kinds._import_packaged(point)
    for name in ("acme_ping", "acme_ping.ping"):
        sys.modules.pop(name, None)
    assert str(answer.value).startswith("acme_ping 1.0: ")
    assert reason in str(answer.value)


@pytest.mark.parametrize(
    "command",
    [
        "-m celery -A dingrelay_workers.app worker",
        f"{DINGRELAY} worker",
        f"{DINGRELAY} gateway",
        f"{DINGRELAY} console",
    ],
)
def test_every_program_refuses_it(tmp_path: Path, command: str) -> None:
    answer = refused(tmp_path, command, code="import nosuch")
    assert "acme_ping 1.0: the kind acme-ping can't be imported" in answer


def test_a_taken_route_is_refused(tmp_path: Path) -> None:
    answer = refused(
        tmp_path, f"{DINGRELAY} gateway", code=RIGHT.format(more=', path="/v1/webhooks"')
    )
    assert "two routes have POST /v1/webhooks: createAcmePing and addWebhook" in answer


def test_a_program_that_needs_none_of_it_goes_on(tmp_path: Path) -> None:
    modules = {"acme_ping/__init__.py": "", "acme_ping/ping.py": "import nosuch"}
    packages.install(tmp_path, "acme_ping", modules=modules, kinds={"acme-ping": "acme_ping.ping"})
    assert in_process_of(tmp_path, *DINGRELAY.split(), "--version").returncode == 0


def test_its_sentences_are_translated_from_its_own_catalogue(tmp_path: Path) -> None:
    modules = {"acme_ping/__init__.py": "", "acme_ping/ping.py": RIGHT.format(more="")}
    packages.install(tmp_path, "acme_ping", modules=modules, kinds={"acme-ping": "acme_ping.ping"})
    messages = tmp_path / "acme_ping/locale/zh_CN/LC_MESSAGES/messages.po"
    messages.parent.mkdir(parents=True)
    messages.write_text(CATALOGUE, "utf-8")
    compiled = in_process_of(
        tmp_path, "-m", "babel.messages.frontend", "compile", "-d", "acme_ping/locale"
    )
    assert compiled.returncode == 0, compiled.stderr
    say = 'from dingrelay_producers.language import *; from dingrelay_tasks import en; print(translated(en("there is no bell"), "zh_CN"), translated(en("no such"), "zh_CN"))'
    said = in_process_of(tmp_path, "-c", say, PYTHONIOENCODING="utf-8")
    assert said.stdout == "没有铃 no such\n", said.stderr
