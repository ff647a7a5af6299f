"""The tags of others' images, and the workflows that run on GitHub."""

import datetime as dt
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.version import Version

import image_tags

TODAY = dt.datetime.now(dt.UTC).date()


def versions() -> dict[str, Version]:
    found = {}
    for tag in image_tags.tags():
        name, _, version = tag.image.rpartition(":")
        matched = re.match(r"v?([\d.]+)", version)
        assert matched, tag.image
        found[name.rpartition("/")[2]] = Version(matched[1])
    return found


def test_every_tag_says_when_somebody_looked_at_it() -> None:
    assert versions().keys() == {
        "valkey", "postgres", "prometheus", "alertmanager", "prometheus-webhook-dingtalk",
        "grafana", "python",
    }  # fmt: skip
    # A day that has not come would never be old.
    assert all(tag.reviewed <= TODAY for tag in image_tags.tags())


def test_valkey_has_no_known_hole_in_lua() -> None:
    assert versions()["valkey"] >= Version("8.1.4"), "CVE-2025-49844"


def copied(folder: Path, day: dt.date | None) -> Path:
    """The files with this day beside each tag, or with none."""
    pattern, text = r" *# reviewed \S+", ""
    if day:
        pattern, text = r"# reviewed \S+", f"# reviewed {day}"
    for name in image_tags.FILES:
        content = (image_tags.ROOT / name).read_text("utf-8")
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(re.sub(pattern, text, content), "utf-8")
    return folder


def test_a_tag_without_a_day_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"docker-compose\.yml: valkey/valkey:\S+ has no"):
        list(image_tags.tags(copied(tmp_path, None)))


def test_tags_without_a_review_for_a_quarter_are_named_and_can_be_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    read = image_tags.tags
    for days, old in ((image_tags.OLD_DAYS, False), (image_tags.OLD_DAYS + 1, True)):
        day = TODAY - dt.timedelta(days)
        folder = tmp_path / str(days)
        folder.mkdir()
        found = list(read(copied(folder, day)))
        monkeypatch.setattr(image_tags, "tags", lambda found=found: iter(found))
        assert (image_tags.main([]), image_tags.main(["--strict"])) == (0, int(old))
        lines = capsys.readouterr().out.splitlines()
        assert len(lines) == (2 * len(found) if old else 0)
        assert all(str(day) in line for line in lines)


ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


@pytest.fixture(params=WORKFLOWS, ids=lambda path: path.name)
def workflow(request: pytest.FixtureRequest) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(request.param.read_text("utf-8"))
    return found


PUBLISHERS = {"Release": {"wheel"}, "Site": {"publish"}}
"""Workflow → its jobs that publish something."""


def test_a_workflow_may_only_read_unless_it_publishes(workflow: dict[str, Any]) -> None:
    assert workflow["permissions"] == {"contents": "read"}
    may_write = {name for name, job in workflow["jobs"].items() if "permissions" in job}
    assert may_write <= PUBLISHERS.get(workflow["name"], set())


def test_every_job_has_a_time_limit(workflow: dict[str, Any]) -> None:
    assert all(job["timeout-minutes"] <= 60 for job in workflow["jobs"].values())


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_actions_are_named_by_commit_and_release(path: Path) -> None:
    uses = re.findall(r"uses: (.+)", path.read_text("utf-8"))
    assert uses
    for each in uses:
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", each), each


def test_the_releases_of_python_are_those_that_the_package_names() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    named = re.findall(r"Python :: (3\.\d+)", "\n".join(project["classifiers"]))
    jobs = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text("utf-8"))["jobs"]
    tested = [job["strategy"]["matrix"]["python"] for job in jobs.values() if "strategy" in job]
    assert tested
    assert all(each == named for each in tested)


def test_every_hook_before_a_commit_runs_what_is_locked() -> None:
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text("utf-8"))
    assert [repo["repo"] for repo in config["repos"]] == ["local"]
    hooks = [hook for repo in config["repos"] for hook in repo["hooks"]]
    assert {hook["id"] for hook in hooks} == {"ruff", "ruff-format", "mypy"}
    assert all(hook["entry"].startswith(".venv/bin/") for hook in hooks)
