"""The units for systemd: systemd takes and enables them, and they are those of the guide."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dingrelay_producers import Settings
from dingrelay_producers.cli import app as cli
from dingrelay_workers.gateway.server import DRAIN_SECONDS
from dingrelay_workers.http.connection import SHUTDOWN_SECONDS
from support.servers import program

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "ops/systemd"
UNITS = sorted(path.name for path in FOLDER.glob("*.service"))
EXAMPLE = FOLDER / "env.example"
WORKER = "dingrelay-worker@.service"
GUIDE = ("docs/guide/operating.md", "docs/guide/zh-CN/operating.md")


def assignments(unit: str) -> list[tuple[str, str]]:
    """All of them, in their order; some names stand more than once."""
    return re.findall(r"^(\w+)=(.*)$", (FOLDER / unit).read_text("utf-8"), re.MULTILINE)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A machine on which dingrelay is installed as the guide says."""
    places = Path("etc/systemd/system"), Path("usr/lib/systemd/system"), Path("opt/dingrelay/bin")
    for place in places:
        (tmp_path / place).mkdir(parents=True)
    for target in Path("/usr/lib/systemd/system").glob("*.target"):
        shutil.copy(target, tmp_path / "usr/lib/systemd/system")
    shutil.copytree(FOLDER, tmp_path / "etc/systemd/system", dirs_exist_ok=True)
    command = tmp_path / "opt/dingrelay/bin/dingrelay"
    command.touch(0o755)
    return tmp_path


def enabled(page: str) -> list[str]:
    """The instances and units that the guide's command enables."""
    (names,) = re.findall(
        r"systemctl enable --now (.+)", (ROOT / page).read_text("utf-8").split("```ini")[0]
    )
    return shlex.split(names)


@pytest.mark.parametrize("page", GUIDE)
def test_systemd_takes_and_enables_them(root: Path, page: str) -> None:
    analyze, systemctl = program("systemd-analyze"), program("systemctl")
    names = enabled(page)
    assert {re.sub("@.*", "@", name) + ".service" for name in names} == {*UNITS}
    checked = subprocess.run(
        [analyze, "verify", f"--root={root}", *(f"{name}.service" for name in names)],
        capture_output=True,
        check=False,
        text=True,
    )
    assert (checked.returncode, checked.stderr) == (0, "")
    subprocess.run([systemctl, f"--root={root}", "enable", *names], check=True, capture_output=True)
    wanted = {path.name for path in root.glob("etc/systemd/system/multi-user.target.wants/*")}
    assert wanted == {f"{name}.service" for name in names}


def test_systemd_would_refuse_another(root: Path) -> None:
    unit = root / "etc/systemd/system/dingrelay-gateway.service"
    unit.write_text(unit.read_text("utf-8").replace("Type=notify", "Type=notified"), "utf-8")
    checked = subprocess.run(
        [program("systemd-analyze"), "verify", f"--root={root}", unit.name],
        capture_output=True,
        check=False,
        text=True,
    )
    assert "Type=notified" in checked.stderr


@pytest.mark.parametrize("unit", UNITS)
def test_its_command_exists_and_has_the_time_that_it_needs(unit: str) -> None:
    service = dict(assignments(unit))
    # It is ready when it says so, however long Redis is away at the boot.
    assert (service["Type"], service["TimeoutStartSec"]) == ("notify", "infinity")
    command, name, *options = shlex.split(service["ExecStart"])
    assert command == "/opt/dingrelay/bin/dingrelay"
    shown = CliRunner().invoke(cli, [name, "--help"])
    assert shown.exit_code == 0
    for option in options:
        assert option in {"$OPTIONS", "%i"} or option in shown.output
    needed = SHUTDOWN_SECONDS + DRAIN_SECONDS
    if unit == WORKER:
        needed = Settings(env="test").soft_shutdown + 5
    assert int(service["TimeoutStopSec"]) > needed


def test_they_differ_in_their_program_only() -> None:
    own = {"Description", "Environment", "EnvironmentFile", "ExecStart", "TimeoutStopSec"}
    alike = [[each for each in assignments(unit) if each[0] not in own] for unit in UNITS]
    assert all(each == alike[0] for each in alike)


@pytest.mark.parametrize("page", GUIDE)
def test_the_guide_has_the_worker_s_unit(page: str) -> None:
    text = (ROOT / page).read_text("utf-8")
    assert (FOLDER / WORKER).read_text("utf-8") in re.findall(r"```ini\n(.*?)```", text, re.DOTALL)
    assert f"```ini\n{EXAMPLE.read_text('utf-8')}```" in text
    for unit in UNITS:
        assert f"`{unit.removesuffix('.service').replace('@', '@PORT')}`" in text


def test_the_example_of_their_settings_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = EXAMPLE.read_text("utf-8")
    optional = dict(re.findall(r"^# ([A-Z_]+)=(.*)$", text, re.MULTILINE))
    config = tmp_path / "dingrelay.toml"
    shutil.copy(ROOT / "ops/dingrelay.toml", config)
    variables = optional | dict(re.findall(r"^([A-Z_]+)=(.*)$", text, re.MULTILINE))
    assert len(variables) > 8
    for name, value in (variables | {"DINGRELAY_CONFIG": str(config)}).items():
        monkeypatch.setenv(name, value)
    settings = Settings.load()
    assert settings.env == "production"
    assert settings.apps["default"].agent_id == variables["DINGTALK_AGENT_ID"]
    # None of them is misspelt: each of ours is a field of the settings.
    fields = {
        str(field.validation_alias or f"DINGRELAY_{name.upper()}")
        for name, field in Settings.model_fields.items()
    }
    ours = {name for name in variables if name.startswith("DINGRELAY_")} - {"DINGRELAY_CONFIG"}
    assert ours <= fields
