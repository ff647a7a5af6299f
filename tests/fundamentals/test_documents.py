"""The documents' instructions, run as a reader would, and their statements, compared."""

import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pytest

from conftest import wait_until
from dingrelay_producers import Client, Settings, State, errors
from dingrelay_producers.settings.sources import GONE
from fundamentals.documents import (
    CLOSE,
    DOCUMENTS,
    GUIDE,
    ROOT,
    RUNBOOKS,
    TRANSLATED,
    Snippet,
    blocks,
    named,
    shown,
    snippets,
    text,
)
from fundamentals.system import System
from support import processes

LINK = re.compile(r"\]\(([^)#\s]+)?(?:#([^)\s]+))?\)")
VARIABLE = re.compile(r"\bDINGRELAY_[A-Z_]+|\bDINGTALK_[A-Z_]+")
ROBOT = "DINGTALK_ROBOT_"
"""Begins the variables of a robot, whose name follows."""
LOCAL_REDIS = "redis://127.0.0.1:6379/0"
MESSAGES: Mapping[str, Mapping[str, int]] = {
    "README.md": {"u1": 2, "u2": 2},
    "docs/guide/approvals.md": {},
    "docs/guide/campaigns.md": {"u11": 1, "u12": 1, "u13": 1, "u14": 1, "u15": 1},
    "docs/guide/jobs.md": {"u3": 1, "u4": 1, "u5": 1, "u6": 1, "u8": 1},
    "docs/guide/keys.md": {},
    "docs/guide/limits.md": {},
    "docs/guide/outbox.md": {"u19": 1},
    "docs/guide/python-api.md": {"u9": 2, "u10": 1},
    "docs/guide/recurring.md": {},
    "docs/guide/robots.md": {},
    "docs/guide/settings.md": {"u7": 1},
    "docs/guide/webhooks.md": {},
}
"""The documents with snippets → who has how many messages once they have run."""


def test_every_document_with_snippets_is_run() -> None:
    assert {english for english, _ in TRANSLATED if snippets(english)} == set(MESSAGES)


@pytest.mark.parametrize("language", [0, 1])
def test_no_two_examples_send_the_same(language: int) -> None:
    # DingTalk gives a person the same text once a day, and a key is one job's.
    pages = (("README.md", "README.zh-CN.md"), GUIDE["jobs.md"], GUIDE["gateway.md"])
    code = "\n".join(each for page in pages for _, each in blocks(page[language]))
    for pattern in (r"order-\d+-\w+", r"订单 \d+ 已\w+"):
        found = Counter(re.findall(pattern, code))
        assert found.most_common(1)[0][1] == 1, found


@pytest.mark.parametrize("document", MESSAGES)
def test_every_snippet_runs(document: str, system: System) -> None:
    for number, snippet in enumerate(snippets(document)):
        answer = _run(snippet, number, system)
        assert answer.returncode == 0, f"{snippet.code}\n{answer.stdout}\n{answer.stderr}"
    expected = MESSAGES[document]
    wait_until(lambda: _received(system, expected) == expected, what="everybody has their messages")
    if document == GUIDE["jobs.md"][0]:
        originators = Counter(made["originator"] for made in system.sandbox.approvals())
        assert (originators["u3"], originators["u4"]) == (1, 1)
        (waiting,) = [job for job in system.client.recent() if job.state == State.QUEUED]
        assert waiting.lane == "bulk", "the one of --at +1h"


def _run(snippet: Snippet, number: int, system: System) -> subprocess.CompletedProcess[str]:
    code = snippet.code.replace(LOCAL_REDIS, system.redis_url)
    if snippet.language == "toml":
        code = "true"  # the system runs with it
    elif snippet.language == "python":
        path = system.folder / f"snippet{number}.py"
        path.write_text(code, "utf-8")
        code = f"exec run-python {path}"
    folders = (system.folder / "bin", Path(sys.executable).parent)
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", code],
        cwd=system.folder,
        env={
            **os.environ,
            **processes.address(),
            "PATH": os.pathsep.join([*map(str, folders), os.environ["PATH"]]),
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def _received(system: System, users: Mapping[str, int]) -> dict[str, int]:
    return {user: len(system.sandbox.inbox(user)["delivered"]) for user in users}


@pytest.mark.parametrize(("english", "chinese"), TRANSLATED)
def test_both_languages_show_the_same(english: str, chinese: str) -> None:
    assert [each.bare for each in snippets(english)] == [each.bare for each in snippets(chinese)]
    # What a command prints is in the reader's language: the figures in it are the same.
    figures = [
        [sorted(re.findall(r"[\d][\d.,:%-]*\d|\d", each)) for each in shown(page)]
        for page in (english, chinese)
    ]
    assert figures[0] == figures[1]
    for pattern in (r"^#+ ", r"^\|", r"^```console$", r"^\$ (\S+ \S+)"):
        found = [re.findall(pattern, text(page), re.MULTILINE) for page in (english, chinese)]
        assert found[0] == found[1], pattern


@pytest.mark.parametrize(("english", "chinese"), CLOSE)
def test_a_close_translation_names_the_same(english: str, chinese: str) -> None:
    assert blocks(english) == blocks(chinese)
    assert named(english) == named(chinese)
    for pattern in (r"^\*\*", r"^ *(\d+\. |- )"):
        found = [re.findall(pattern, text(page), re.MULTILINE) for page in (english, chinese)]
        assert found[0] == found[1], pattern


@pytest.mark.parametrize(("english", "chinese"), TRANSLATED)
def test_both_languages_lead_to_each_other_and_stay_apart(english: str, chinese: str) -> None:
    languages = tuple(zip(*TRANSLATED, strict=True))
    for page, other, others in (
        (english, chinese, languages[1]),
        (chinese, english, languages[0]),
    ):
        title, blank, head, *rest = text(page).splitlines()
        assert title.startswith("# ")
        assert not blank
        name = "中文" if page == english else "English"
        assert head.startswith(f"[{name}]({os.path.relpath(other, Path(page).parent)})")
        for path, _ in LINK.findall("\n".join(rest)):
            target = os.path.normpath(Path(page).parent / path) if path else page
            assert target not in others, path


def test_every_runbook_is_translated() -> None:
    pages = {page.name for page in (ROOT / "ops/runbooks/zh-CN").glob("*.md")}
    assert pages == set(RUNBOOKS)


def test_every_page_of_the_guide_is_translated_and_in_its_index() -> None:
    pages = {page.name for page in (ROOT / "docs/guide/zh-CN").glob("*.md")}
    assert pages == set(GUIDE)
    for index in GUIDE["README.md"]:
        listed = set(re.findall(r"^\| \[[^]]+\]\(([\w-]+\.md)\)", text(index), re.MULTILINE))
        assert listed == pages - {"README.md"}


def _named(document: str) -> set[str]:
    """The variables that a document names; of a secret also the one of its file."""
    found = set(VARIABLE.findall(text(document)))
    found = {ROBOT if name.startswith(ROBOT) else name for name in found}
    return {name if name in _variables() else name.removesuffix("_FILE") for name in found}


TABLES = (
    "apps",
    "approvals",
    "campaigns",
    "groups",
    "history",
    "oidc",
    "robots",
    "rules",
    "sync",
    "quota",
    "codes",
)
"""Settings that only the file has."""


def _variables() -> set[str]:
    settings = {
        str(field.validation_alias or f"DINGRELAY_{name.upper()}")
        for name, field in Settings.model_fields.items()
        if name not in TABLES
    }
    parts = ("APP_KEY", "APP_SECRET", "AGENT_ID", "CORP_ID", "CALLBACK_TOKEN", "CALLBACK_AES_KEY")
    apps = {f"DINGTALK_{part}" for part in parts}
    hr = {"DINGTALK_APP_KEY_HR", "DINGTALK_APP_SECRET_HR", "DINGTALK_APP_SECRET_HR_FILE"}
    return settings | apps | hr | {"DINGRELAY_CONFIG", ROBOT}


@pytest.mark.parametrize("page", GUIDE["settings.md"])
def test_every_setting_is_in_the_guide(page: str) -> None:
    assert set(VARIABLE.findall(text(page))) == _variables()
    assert all(f"[{table}" in text(page) for table in TABLES)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_a_document_names_no_other_setting(document: str) -> None:
    gone = {f"DINGRELAY_{name.upper()}" for name in GONE} if document == "CHANGELOG.md" else set()
    assert _named(document) <= _variables() | gone


@pytest.mark.parametrize("page", GUIDE["settings.md"])
def test_the_defaults_in_the_guide_are_those_of_the_code(page: str) -> None:
    rows = re.findall(r"^\| `(DINGRELAY_\w+)` \| `?([\w.:/]+)`? \|", text(page), re.MULTILINE)
    defaults = {variable.removeprefix("DINGRELAY_").lower(): value for variable, value in rows}
    assert len(defaults) > 15
    for name, value in defaults.items():
        default = Settings.model_fields[name].get_default()
        shown = default.get_secret_value() if hasattr(default, "get_secret_value") else default
        assert value == f"{shown:g}" if isinstance(shown, float) else value == str(shown), name


@pytest.mark.parametrize("page", GUIDE["jobs.md"])
def test_every_state_is_in_the_guide(page: str) -> None:
    listed = set(re.findall(r"^\| `([a-z]+)` \|", text(page), re.MULTILINE))
    assert listed & set(State) == set(State)


@pytest.mark.parametrize("page", GUIDE["python-api.md"])
def test_every_method_and_error_of_the_client_is_in_the_guide(page: str) -> None:
    methods, raised = (_first_cells(page, number) for number in (0, 1))
    assert {cell.partition("(")[0] for cell in methods} == {
        name for name in vars(Client) if not name.startswith("_")
    }
    base = errors.DingrelayError
    found = {name: kind for name, kind in vars(errors).items() if isinstance(kind, type)}
    ours = {name for name, kind in found.items() if issubclass(kind, base) and kind is not base}
    assert raised == ours | {"ContractError", "SettingsError"}


def _first_cells(page: str, number: int) -> set[str]:
    """Code in the first column of the nth table."""
    tables = re.findall(r"(?:^\|.*\n)+", text(page), re.MULTILINE)
    rows = tables[number].splitlines()[2:]
    return {cell for row in rows for cell in re.findall(r"`([^`]+)`", row.split("|")[1])}


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
