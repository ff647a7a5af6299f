"""A noun is taken out of a copy of the product: its folder and its line in the list. The rest goes on without it."""

import ast
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import HTTPCookieProcessor, build_opener, urlopen

import pytest
from sqlalchemy import create_engine, inspect

from dingrelay_workers.noun import Noun
from dingrelay_workers.nouns import NOUNS
from support.examples import either

pytestmark = pytest.mark.acceptance

ROOT = Path(__file__).parents[2]
PACKAGES = ("tasks", "producers", "workers", "ops/sandbox", "ops/demo")
TAKEN_OUT = [
    noun
    for noun in NOUNS
    if noun.name in either({"webhooks"}, {"webhooks", "campaigns", "personal_data"})
]
MAIN = "from dingrelay_producers.cli import main; main()"
IMPORT_ALL = """
import pkgutil, sys, dingrelay_workers
assert dingrelay_workers.__path__[0].startswith(sys.argv[1])
for module in pkgutil.walk_packages(dingrelay_workers.__path__, "dingrelay_workers."):
    if ".migrations" not in module.name and ".flower" not in module.name:
        __import__(module.name)
"""


class Copy:
    """The product without a noun, on a database and a Redis of its own."""

    def __init__(self, folder: Path, noun: Noun, redis_url: str) -> None:
        for package in PACKAGES:
            # With what is compiled of it, or each module would be compiled again.
            shutil.copytree(ROOT / package, folder / package)
        shutil.copy(ROOT / "pyproject.toml", folder)
        workers = folder / "workers" / "dingrelay_workers"
        shutil.rmtree(workers / noun.name)
        names = (workers / "nouns.py").read_text("utf-8")
        assert names.count(f'    "{noun.name}",\n') == 1
        (workers / "nouns.py").write_text(names.replace(f'    "{noun.name}",\n', ""), "utf-8")
        self.folder = folder
        self.database = folder / "copy.db"
        self.variables = {
            **{name: value for name, value in os.environ.items() if "DINGRELAY" not in name},
            "PYTHONPATH": os.pathsep.join(str(folder / package) for package in PACKAGES),
            "DINGRELAY_ENV": "test",
            "DINGRELAY_REDIS_URL": redis_url,
            "DINGRELAY_DATABASE_URL": f"sqlite:///{self.database}",
        }

    def run(self, *command: str) -> str:
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self.variables,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    @contextmanager
    def serving(self, door: str) -> Iterator[str]:
        """The URL of a door that serves while the block runs."""
        command = [sys.executable, "-c", MAIN, door, "--port", "0"]
        with subprocess.Popen(
            command, cwd=self.folder, env=self.variables, stdout=subprocess.PIPE, text=True
        ) as process:
            try:
                assert process.stdout is not None
                listening = re.search(r"listening on (\S+)", process.stdout.readline())
                assert listening, "it has ended"
                yield listening[1]
            finally:
                process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0

    def dangling_imports(self, name: str) -> list[str]:
        """Places that import the noun, also those that only a type checker reads."""
        return [
            f"{path.relative_to(self.folder)}:{node.lineno}"
            for path in self.folder.rglob("*.py")
            for node in ast.walk(ast.parse(path.read_text("utf-8")))
            if isinstance(node, ast.Import | ast.ImportFrom)
            for module in _imported(node)
            if f"{module}.".startswith(f"dingrelay_workers.{name}.")
        ]


def _imported(node: ast.Import | ast.ImportFrom) -> list[str]:
    if isinstance(node, ast.Import):
        return [each.name for each in node.names]
    return [f"{node.module}.{each.name}" for each in node.names]


@pytest.mark.timeout(either(180, 900))
@pytest.mark.parametrize("noun", TAKEN_OUT, ids=lambda noun: noun.name)
def test_a_noun_can_be_taken_out(noun: Noun, tmp_path: Path, valkey_url: str) -> None:
    copy = Copy(tmp_path / "copy", noun, valkey_url)
    assert copy.dangling_imports(noun.name) == []
    copy.run(str(Path(sys.executable).with_name("lint-imports")), "--no-cache")
    copy.run(sys.executable, "-c", IMPORT_ALL, str(copy.folder))

    commands = copy.run(sys.executable, "-c", MAIN, "--help")
    assert "gateway" in commands
    assert not [each.name for each in noun.commands if f" {each.name} " in commands]

    with copy.serving("gateway") as url:
        document: Any = json.load(urlopen(f"{url}/openapi.json"))
    operations = [each for path in document["paths"].values() for each in path.values()]
    assert operations
    assert not [each["operationId"] for each in operations if noun.name in each["tags"]]
    assert noun.name not in [tag["name"] for tag in document["tags"]]
    scopes = re.findall(r"[a-z]+:[a-z]+", json.dumps(document["components"]["schemas"]))
    assert "jobs:read" in scopes
    assert not noun.scopes.keys() & set(scopes)

    engine = create_engine(f"sqlite:///{copy.database}")
    tables = set(inspect(engine).get_table_names())
    engine.dispose()
    own = {row.__tablename__ for part in noun.tables for row in _rows(noun, part)}
    assert "job_history" in tables
    assert not own & tables

    link = copy.run(sys.executable, "-c", MAIN, "console", "login-link", "u1")
    link = link.partition("link=")[2].strip()
    browser = build_opener(HTTPCookieProcessor())
    browser.addheaders = [("Sec-Fetch-Site", "same-origin")]
    with copy.serving("console") as url:
        first = browser.open(f"{url}/sign-in", urlencode({"link": link}).encode()).read().decode()
        assert "/settings/audit" in first
        assert f"/{noun.name}" not in first
        for page in ("/jobs", "/people", "/settings/audit", "/settings/people"):
            assert browser.open(url + page).status == 200
        with pytest.raises(HTTPError, match="404"):
            browser.open(f"{url}/{noun.name}")


def _rows(noun: Noun, part: str) -> list[Any]:
    module = noun.load(part)
    return [
        value
        for value in vars(module).values()
        if getattr(value, "__module__", "") == module.__name__ and hasattr(value, "__tablename__")
    ]
