"""Faults of a command are reported in one sentence, before any service is used."""

import json
import re
import subprocess
import sys
import tomllib
from contextlib import suppress
from importlib.metadata import (
    EntryPoint,
    PackageNotFoundError,
    packages_distributions,
    requires,
    version,
)
from pathlib import Path

import pytest
import typer
from packaging.requirements import Requirement
from pydantic import SecretStr

from dingrelay_producers.cli import group
from dingrelay_producers.cli.output import _EXTRAS, explain
from dingrelay_producers.installation import how_to_add
from dingrelay_producers.settings import Settings
from dingrelay_workers.doctor.run_checks import check_database
from support.command_line import Cli, in_folder

ROOT = Path(__file__).parents[2]
SANDBOX = {"DINGRELAY_ENV": "sandbox", "COLUMNS": "200"}
HEAVY = {"redis", "celery", "kombu", "aiohttp", "sqlalchemy", "structlog", "flower", "uvloop"}


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Cli:
    return in_folder(monkeypatch, tmp_path, SANDBOX)


def test_help_lists_every_command(cli: Cli) -> None:
    shown = cli("--help")
    assert shown.exit_code == 0
    commands = {"send", "sync", "approval", "job", "person"}
    commands |= {"campaign", "up", "worker", "sandbox", "flower", "doctor", "limits", "key"}
    assert {name for name in commands if f" {name} " not in shown.stdout} == set()


def test_the_version_is_that_of_the_package(cli: Cli) -> None:
    shown = cli("--version")
    assert (shown.exit_code, shown.stdout) == (0, f"dingrelay {version('dingrelay')}\n")


def test_help_names_the_values_of_options_and_no_types(cli: Cli) -> None:
    shown = cli("campaign", "create", "--help").stdout
    assert not re.search(r"<\w+(\[\w+\])?>", shown)
    assert "FILE|-" in shown
    assert "<refuse|skip>" in shown


def test_help_needs_none_of_the_heavy_packages() -> None:
    code = (
        "import sys\n"
        "from dingrelay_producers.cli import app\n"
        "app(['--help'], standalone_mode=False)\n"
        f"print('loaded:', sorted({HEAVY!r} & set(sys.modules)))\n"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert shown.stdout.endswith("loaded: []\n")


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["send", "--to", "u1"], "--text, --markdown, --message"),
        (["send", "--to", "u1", "--text", "a", "--message", "{}"], "--text, --markdown"),
        (["send", "--to", "u1", "--message", "{"], "--message"),
        (["send", "--to", "u1", "--message", "@/nowhere.json"], "/nowhere.json"),
        (["send", "--to", "u1", "--text", "a", "--at", "soon"], "--at"),
        (["send", "--to", "u1", "--text", "a", "--lane", "slow"], "--lane"),
        (["send", "--jobs", "-", "--text", "a"], "--jobs"),
        (["key", "create", "crm", "--scope", "messages:send"], 'mean "messages:write"?'),
        (["key", "create", "crm", "--scope", "x"], "--scope: x: there is no such scope"),
        (["key", "create", "crm", "--scope", ","], "--scope"),
        (["key", "create", "", "--scope", "*"], "NAME"),
        (["key", "create", "a\nb", "--scope", "*"], "NAME: must be printable"),
        (["key", "create", "crm", "--scope", "*", "--expires", "0d"], "--expires: must be longer"),
        (
            ["key", "rotate", "drk_x", "--overlap", "31d"],
            "--overlap: must be like 24h or 7d, 30d at most",
        ),
        (["sync", "department"], "ID"),
        (["sync", "everything", "5"], "ID"),
        (["sync", "department", "five"], "ID"),
        (["approval", "create", "PROC-1"], "--originator"),
        (["approval", "create", "PROC-1", "--originator", "u1", "--field", "事由"], "--field"),
        (["approval", "create", "PROC-1", "--originator", "u1", "--form", "3"], "--form"),
        (["approval", "create", "PROC-1", "--originator", "u1", "--approver", "u2"], "--approver"),
        (["job", "requeue"], "JOB_IDS"),
        (["job", "requeue", "one", "--all"], "JOB_IDS"),
        (["job", "requeue", "one", "--code", "88"], "--code"),
        (["job", "discard"], "JOB_IDS"),
        (["job", "list", "--state", "lost"], "--state"),
        (["worker", "--lanes", "urgent,slow"], "no such lane: slow"),
        (["worker", "--lanes", ","], "at least one lane"),
        (["send", "--text", "a"], "to: name at least one user or department, or everyone"),
        (["send", "--to", "u\t1", "--text", "a"], "--to: users.0: "),
        (["send", "--to", "u1", "--text", ""], "message.text.content: "),
        (["send", "--to", "u1", "--message", '{"msgtype": "fax"}'], "--message: msgtype: "),
        (["approval", "create", "PROC-1", "--originator", "u1"], "form: "),
    ],
)
def test_a_wrong_job_or_option_is_named(cli: Cli, arguments: list[str], error: str) -> None:
    refused = cli(*arguments)
    assert refused.exit_code == 2
    assert error in refused.stderr
    assert "Traceback" not in refused.output


@pytest.mark.parametrize("command", [["send", "--to", "u1", "--text", "a"], ["limits"], ["up"]])
def test_a_missing_setting_is_named(cli: Cli, command: list[str]) -> None:
    refused = cli(*command, DINGRELAY_ENV="production")
    assert (refused.exit_code, refused.stderr) == (
        2,
        "DINGRELAY_REDIS_URL: required in production\n",
    )


def test_another_folder_than_that_of_the_sandbox_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    refused = in_folder(monkeypatch, tmp_path, {})("send", "--to", "u1", "--text", "a")
    assert refused.exit_code == 2
    assert "no running sandbox was found here" in refused.stderr


def test_the_doctor_names_a_slip_and_creates_no_database(cli: Cli, tmp_path: Path) -> None:
    variables = {"DINGRELAY_REDIS_ULR": "x", "DINGTALK_OAPI_UTL": "x", "DINGTALK_APP_KEY_HR": "x"}
    looked = cli("doctor", "--json", DINGRELAY_ENV="production", **variables)
    assert [(each["found"], each["advice"]) for each in json.loads(looked.stdout)][:-1] == [
        ("DINGRELAY_REDIS_ULR is no setting", "did you mean DINGRELAY_REDIS_URL?"),
        ("DINGTALK_OAPI_UTL is no setting", "did you mean DINGTALK_OAPI_URL?"),
    ]
    database = f"sqlite:///{tmp_path}/none.db"
    found = check_database(Settings(env="sandbox", database_url=SecretStr(database)))
    assert (found.verdict, list(tmp_path.glob("*.db"))) == ("warning", [])


def test_a_redis_url_of_another_kind_is_refused_and_not_shown(cli: Cli) -> None:
    refused = cli("job", "list", DINGRELAY_REDIS_URL="http://:geheim@127.0.0.1:6379")
    assert refused.exit_code == 2
    assert refused.stderr.startswith("DINGRELAY_REDIS_URL: must begin with one of redis://")
    assert "geheim" not in refused.stderr


def test_the_sandbox_is_not_started_in_production(cli: Cli) -> None:
    refused = cli("up", "--sandbox", DINGRELAY_ENV="production")
    assert refused.exit_code == 2
    assert "DINGRELAY_ENV is production" in refused.stderr


@pytest.mark.parametrize(
    ("module", "extra"),
    [
        ("structlog", "worker"),
        ("prometheus_client", "worker"),
        ("flower", "flower"),
        ("psycopg", "postgres"),
        ("joserfc", "oidc"),
        ("psutil", "demo"),
    ],
)
def test_a_missing_package_is_a_sentence(module: str, extra: str) -> None:
    missing = ModuleNotFoundError(f"No module named {module!r}", name=f"{module}.part")
    code, error = explain(missing, command="worker") or (0, "")
    assert code == 2
    assert error.startswith(f"dingrelay worker needs {module}, which is not installed")
    assert error.endswith(how_to_add(extra))


def test_every_extra_that_is_named_exists() -> None:
    files = (
        *(
            path
            for room in ("tasks", "producers", "workers")
            for path in (ROOT / room).rglob("*.py")
        ),
        *(ROOT / "docs").rglob("*.md"),
    )
    named = {
        extra
        for path in files
        for found in re.findall(
            r"(?:dingrelay|\.whl\)?)\[([a-z,]+)\][\"']", path.read_text("utf-8")
        )
        for extra in found.split(",")
    }
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert {"flower", "otel", "postgres", "worker"} <= named | set(_EXTRAS)
    assert named | set(_EXTRAS) <= set(project["optional-dependencies"])


def test_the_extra_for_flower_can_run_it() -> None:
    """Without any package that neither the base nor this extra brings."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    brought = _with_requirements(
        [*project["dependencies"], *project["optional-dependencies"]["flower"]]
    )
    absent = [
        module
        for module, distributions in packages_distributions().items()
        if not any(_name(each) in brought for each in distributions)
        and not module.startswith(("dingrelay", "_"))
    ]
    code = (
        "import sys\n"
        "for name in sys.argv[1:]: sys.modules[name] = None\n"  # its import raises then
        "import dingrelay_workers.commands, dingrelay_workers.logs, dingrelay_workers.flower.server"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *absent],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr


def _with_requirements(requirements: list[str]) -> set[str]:
    found: set[str] = set()
    ahead = [Requirement(each) for each in requirements]
    while ahead:
        requirement = ahead.pop()
        name = _name(requirement.name)
        if name not in found:
            found.add(name)
            with suppress(PackageNotFoundError):
                for text in requires(name) or ():
                    needed = Requirement(text)
                    extras = [{"extra": extra} for extra in requirement.extras] or [{"extra": ""}]
                    if not needed.marker or any(needed.marker.evaluate(each) for each in extras):
                        ahead.append(needed)
    return found


def _name(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()


def test_a_module_of_nobody_is_a_bug() -> None:
    assert explain(ModuleNotFoundError(name="dingrelay_tasks.gone"), command="send") is None
    assert explain(KeyError("x"), command="send") is None


def test_a_missing_part_keeps_its_command(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(EntryPoint):
        def load(self) -> object:
            raise ModuleNotFoundError("No module named 'aiohttp'", name="aiohttp")

    point = Broken("sandbox", "dingrelay_sandbox.command:register", group.ENTRY_POINTS)
    monkeypatch.setattr(group, "entry_points", lambda **_: [point])
    refused = cli("sandbox", "--port", "0")
    assert refused.exit_code == 2
    assert "dingrelay sandbox needs aiohttp" in refused.stderr


def test_any_register_may_add_commands(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    class Other(EntryPoint):
        def load(self) -> object:
            def register(app: typer.Typer) -> None:
                app.command("hello")(lambda: typer.echo("hello"))

            return register

    monkeypatch.setattr(
        group, "entry_points", lambda **_: [Other("other", "other:register", group.ENTRY_POINTS)]
    )
    assert cli("hello").stdout == "hello\n"


INTERRUPTED_IMPORT = """
import os, signal, sys

class Finder:
    def find_spec(self, name, path, target=None):
        if name == MODULE:
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Finder())
from dingrelay_producers.cli import main
assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
main()
"""


@pytest.mark.parametrize(
    "module", ["typer", "dingrelay_producers.cli.job", "dingrelay_producers.client.client"]
)
def test_ctrl_c_while_a_command_starts_prints_nothing(module: str, tmp_path: Path) -> None:
    script = INTERRUPTED_IMPORT.replace("MODULE", repr(module))
    ended = subprocess.run(
        [sys.executable, "-c", script, "job", "list"],
        cwd=tmp_path,
        env={"DINGRELAY_ENV": "sandbox", "DINGRELAY_REDIS_URL": "redis://127.0.0.1:9"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stdout, ended.stderr.strip()) == (130, "", "")
