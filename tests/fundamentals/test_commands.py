"""Each command line of ours that a document shows is one that there is, with these options."""

import os
import re
import shlex
import subprocess
from functools import cache
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from dingrelay_producers.cli import app, group
from fundamentals.documents import DOCUMENTS, ROOT, text

_BLOCK = re.compile(r"^ *```(?:console|bash|sh)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`dingrelay ([a-z][^`\n]+)`")
_OURS = re.compile(r"(?:^|[\s;&|(])(?:[\w./]+/)?dingrelay ([a-z].*)$")
_END = ("|", "&&", ";", "--", "&", ">", ">>", "<")
"""Words after which there is something else than our command."""
CHANGELOGS = ("CHANGELOG.md", "CHANGELOG.zh-CN.md")
"""Documents that also describe other releases."""


@cache
def root() -> Any:
    return typer.main.get_command(app)


def lines(document: str) -> list[str]:
    """Command lines of the document, without ``dingrelay``."""
    content = text(document)
    found: list[str] = _INLINE.findall(content)
    for block in _BLOCK.findall(content):
        for line in block.replace("\\\n", " ").splitlines():
            found += _OURS.findall(re.sub(r"\s# .*", "", line.removeprefix("$ ")))
    return found


def words(line: str) -> list[str]:
    split = shlex.split(line, comments=True)
    ends = [place for place, word in enumerate(split) if word in _END]
    return split[: min(ends, default=len(split))]


def wrong(line: str) -> str:
    """Unknown parts of a command line; "" for none."""
    path: list[str] = []
    command, left = root(), words(line)
    while left and hasattr(command, "commands") and not left[0].startswith("-"):
        names = left.pop(0).split("|")
        found = [command.get_command(None, name) for name in names]
        if None in found:
            return f"{' '.join([*path, *names])}: no such command"
        path.append(names[0])
        command = found[0]
    params = command.get_params(typer.Context(command))
    options = {name for each in params for name in (*each.opts, *each.secondary_opts)}
    for word in left:
        name = word.strip("[]").partition("=")[0]
        if re.fullmatch(r"--?[a-z][a-z-]*", name) and name not in options:
            return f"{' '.join(path)} has no {name}"
    return ""


@pytest.mark.parametrize("document", [each for each in DOCUMENTS if each not in CHANGELOGS])
def test_every_command_and_option_exists(document: str) -> None:
    assert [problem for line in lines(document) if (problem := wrong(line))] == []


def test_commands_that_have_moved_name_commands_that_exist() -> None:
    for old, new in {**group.MOVED, **group.RENAMED}.items():
        assert wrong(old).endswith("no such command")
        assert wrong(new) == ""
        refused = CliRunner().invoke(app, [*old.split(), "--json"])
        assert refused.exit_code == 2
        assert new.split()[-1] in refused.stderr
        # A shell that completes it shows no errors.
        root().resolve_command(typer.Context(root(), resilient_parsing=True), old.split())


def test_commands_that_do_not_exist_are_found() -> None:
    assert wrong("campaign show ID --watch --json") == ""
    assert wrong("job requeue --all --code CODE  # those of one") == ""
    assert wrong("campaign observe ID").endswith("no such command")
    assert wrong("job requeue --each") == "job requeue has no --each"
    assert sum(len(lines(document)) for document in DOCUMENTS) > 100


def test_the_help_of_make_is_in_the_readers_language() -> None:
    def shown(language: str) -> dict[str, str]:
        command = ["make", "--no-print-directory", "help"]
        environment = os.environ | {"DINGRELAY_LANGUAGE": language}
        output = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True
        ).stdout
        return dict(re.findall(r"^  make ([\w-]+) +(.+)$", output, re.MULTILINE))

    english, chinese = shown("en"), shown("zh")
    assert len(english) > 25
    assert chinese.keys() == english.keys()
    assert [name for name, said in chinese.items() if not re.search("[一-鿿]", said)] == []
