"""The release before this one, built from the repository's history into an environment of its own."""

import json
import os
import re
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

import dingrelay_workers
from dingrelay_tasks.contract import Contract

REPOSITORY = Path(__file__).parents[2]

_ENQUEUE = """
import json, sys
from dingrelay_producers import Client
from dingrelay_tasks.kinds import KINDS
jobs = [KINDS[kind].contract.parse(job) for kind, job in json.load(sys.stdin)]
ids = []
with Client() as client:
    client.send_many(jobs, on_sent=lambda job: ids.append(job.id))
print(json.dumps(ids))
"""
_BROADCAST = """
import json, sys
from dingrelay_producers import Client
with Client() as client:
    campaign = client.campaign(**json.load(sys.stdin)).create()
    campaign.start()
print(json.dumps(campaign.id))
"""
_STATUSES = """
import json, sys
from dingrelay_producers import Client
with Client() as client:
    print(json.dumps([client.status(job).to_json() for job in json.load(sys.stdin)]))
"""


class PreviousRelease:
    """Programs of a release.

    Args:
        version: as the changelog names it.
        folder: for the environment.
        wheel: of it.
    """

    def __init__(self, version: str, wheel: Path, folder: Path) -> None:
        self.version = version
        self.folder = folder
        venv.create(folder)
        self.python = folder / "bin" / "python"
        installed = folder / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}"
        packages = installed / "site-packages"
        _pip("--python", self.python, "install", "--no-deps", "--no-index", wheel)
        # What it stands on is what is locked, and installed already. A path in a `.pth` file brings
        # no `.pth` files of its own, so our own package, which is installed by one, is not seen.
        (packages / "locked.pth").write_text(sysconfig.get_path("purelib"))
        where = self.run("import dingrelay_workers as it; print(it.__file__)", {}, "")
        assert where.strip() != dingrelay_workers.__file__
        assert where.startswith(str(folder))

    def environment(self, variables: Mapping[str, str]) -> dict[str, str]:
        """Environment of one of its processes: with nothing of this release on its path."""
        outer = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        return {**outer, **variables}

    def run(self, script: str, variables: Mapping[str, str], given: str) -> str:
        """Output of a script with this input."""
        done = subprocess.run(
            [self.python, "-W", "ignore", "-c", script],
            env=self.environment(variables),
            cwd=self.folder,
            input=given,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def enqueue(self, variables: Mapping[str, str], jobs: Sequence[Contract]) -> list[str]:
        """Enqueue jobs by its client; their ids in order."""
        content = json.dumps([(job.kind, job.wire()) for job in jobs])
        ids: list[str] = json.loads(self.run(_ENQUEUE, variables, content))
        return ids

    def broadcast(self, variables: Mapping[str, str], **plan: Any) -> str:
        """Start a campaign by its client; its id."""
        campaign: str = json.loads(self.run(_BROADCAST, variables, json.dumps(plan)))
        return campaign

    def statuses(self, variables: Mapping[str, str], ids: Sequence[str]) -> list[dict[str, Any]]:
        """States of jobs by its client."""
        answer: list[dict[str, Any]] = json.loads(self.run(_STATUSES, variables, json.dumps(ids)))
        return answer


def build(folder: Path) -> PreviousRelease:
    """The release that the changelog names last; the test is skipped where its source can't be had."""
    changelog = (REPOSITORY / "CHANGELOG.md").read_text()
    named = re.search(r"^## \[([0-9][^]]*)\]", changelog, re.MULTILINE)
    assert named, "the changelog names no release"
    version = named[1]
    source = folder / "source"
    source.mkdir()
    archive = folder / "source.tar"
    _git("archive", "--output", str(archive), _commit(version))
    subprocess.run(["tar", "-xf", archive, "-C", source], check=True)
    _pip("wheel", "--no-deps", "--no-index", "--no-build-isolation", "-w", folder, source)
    (wheel,) = folder.glob("*.whl")
    return PreviousRelease(version, wheel, folder / "venv")


def _commit(version: str) -> str:
    """Commit of a release: its tag, or the commit that named it in the changelog."""
    tag = _git("tag", "--list", f"v{version}").strip()
    if tag:
        return tag
    if _git("rev-parse", "--is-shallow-repository").strip() != "false":
        pytest.skip(f"this clone is shallow and has no tag v{version}")
    heading = f"## [{version}] - "
    commit = _git("log", "-1", "--format=%H", f"-S{heading}", "--", "CHANGELOG.md").strip()
    if not commit:
        pytest.skip(f"no commit of this clone has named {version} in its changelog")
    return commit


def _git(*words: str) -> str:
    try:
        done = subprocess.run(
            ["git", *words], cwd=REPOSITORY, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"the releases before are in no git repository here: {error}")
    return done.stdout


def _pip(*words: str | Path) -> None:
    quiet = ("--quiet", "--disable-pip-version-check")
    subprocess.run([sys.executable, "-m", "pip", *quiet, *words], check=True)
