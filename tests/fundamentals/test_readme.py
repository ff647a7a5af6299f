"""What the READMEs tell their readers to run, run as they would, and what they say, compared."""

import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from conftest import wait_until
from dingrelay_producers import Settings, State
from fundamentals.documents import DOCUMENTS, READMES, ROOT, Snippet, shown, snippets, text
from fundamentals.system import System

LINK = re.compile(r"\]\(([^)#\s]+)?(?:#([^)\s]+))?\)")
VARIABLE = re.compile(r"\bDINGRELAY_[A-Z_]+|\bDINGTALK_[A-Z_]+")
OTHERS = {"DINGRELAY_CONFIG"}
LOCAL_REDIS = "redis://127.0.0.1:6379/0"


def test_every_snippet_of_the_readme_runs(system: System) -> None:
    for number, snippet in enumerate(snippets("README.md")):
        answer = _run(snippet, number, system)
        assert answer.returncode == 0, f"{snippet.code}\n{answer.stdout}\n{answer.stderr}"
    expected = {"u1": 2, "u2": 2, "u4": 1, "u5": 1, "u6": 1, "u7": 1}
    wait_until(lambda: _received(system) == expected, what="everybody has their messages")
    created = [made["id"] for made in system.sandbox.approvals() if made["originator"] == "u1"]
    assert len(created) == 2
    (waiting,) = [job for job in system.client.recent() if job.state == State.QUEUED]
    assert waiting.lane == "bulk", "the one of --at +1h"


def _run(snippet: Snippet, number: int, system: System) -> subprocess.CompletedProcess[str]:
    code = snippet.code.replace(LOCAL_REDIS, system.redis_url)
    if snippet.language == "toml":
        code = "true"  # the system runs with it
    elif snippet.language == "python":
        path = system.folder / f"snippet{number}.py"
        path.write_text(code, "utf-8")
        code = f"set -a; source .dingrelay/env; set +a\nexec python {path}"
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", code],
        cwd=system.folder,
        env={
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            "HOME": os.environ.get("HOME", "/"),
            "LANG": "C.UTF-8",
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def _received(system: System) -> dict[str, int]:
    users = [f"u{number}" for number in range(1, 9)]
    counts = Counter({user: len(system.sandbox.inbox(user)["delivered"]) for user in users})
    return {user: count for user, count in counts.items() if count}


def test_both_readmes_show_the_same() -> None:
    english, chinese = map(snippets, READMES)
    assert [each.bare for each in english] == [each.bare for each in chinese]
    assert shown(READMES[0]) == shown(READMES[1])
    headings = [re.findall(r"^#+ ", text(readme), re.MULTILINE) for readme in READMES]
    assert headings[0] == headings[1]
    rows = [len(re.findall(r"^\|", text(readme), re.MULTILINE)) for readme in READMES]
    assert rows[0] == rows[1]


@pytest.mark.parametrize("readme", READMES)
def test_every_setting_is_in_the_readme(readme: str) -> None:
    told = set(VARIABLE.findall(text(readme)))
    fields = Settings.model_fields.items()
    tables = {"apps", "rules", "quota", "codes"}
    settings = {
        str(field.validation_alias or f"DINGRELAY_{name.upper()}")
        for name, field in fields
        if name not in tables
    }
    apps = {"DINGTALK_APP_KEY", "DINGTALK_APP_SECRET", "DINGTALK_AGENT_ID"}
    hr = {"DINGTALK_APP_KEY_HR", "DINGTALK_APP_SECRET_HR", "DINGTALK_APP_SECRET_HR_FILE"}
    assert told == settings | apps | hr | OTHERS
    assert all(f"[{table}]" in text(readme) for table in tables)


@pytest.mark.parametrize("readme", READMES)
def test_every_state_is_in_the_readme(readme: str) -> None:
    assert set(re.findall(r"^\| `([a-z]+)` \|", text(readme), re.MULTILINE)) == set(State)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_link_leads_somewhere(document: str) -> None:
    folder = (ROOT / document).parent
    for path, anchor in LINK.findall(text(document)):
        if path.startswith("http"):
            continue
        target = folder / path if path else ROOT / document
        assert target.exists(), path
        if anchor:
            headings = re.findall(r"^#+ (.+)$", target.read_text("utf-8"), re.MULTILINE)
            assert anchor in {_anchor(heading) for heading in headings}, anchor


def _anchor(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
