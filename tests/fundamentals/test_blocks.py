"""Every block of code of every page, in both languages: `make test-docs`.

A block of a page in Chinese that has the commands of its English page, word for word, runs there.

Blocks of ``bash`` and ``python`` run in `test_documents`, programs in other languages in the tests of the pages that show them, and
everything else here: commands of a shell in a running system, files of settings as settings. What the
machine has not (docker, kubectl, root) is played by `stand_in`, which checks the words it is given.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import yaml
from openpyxl import Workbook
from redis import Redis

import dingrelay_producers
from conftest import wait_until
from dingrelay_producers import Settings, State
from dingrelay_producers.store import keys
from dingrelay_producers.testing import RecordingClient
from dingrelay_tasks import ApiCall, ApprovalCreate, RobotMessage, UserSync
from fundamentals import stand_in
from fundamentals.documents import DOCUMENTS, GUIDE, TRANSLATED, text
from fundamentals.system import System, running_system
from support import processes
from support.jobs import message
from support.servers import free_port

BLOCK = re.compile(r"^( *)(?:\d+\. )?```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
SHELL = {"console", "sh"}
ELSEWHERE = {
    "bash",
    "python",
    "java",
    "js",
    "go",
    "php",
    "py",
    "ini",
    "diff",
    "mermaid",
    "nginx",
    "json",
}
"""Languages whose blocks other tests run or compare, and what no program of a page reads."""
HERE = SHELL | {"toml", "yaml", "text"}
COMMAND = re.compile(
    r"^(?:\$ |curl |dingrelay (?!over)|export |pip |source |make |from \w+ import |import |\[\w+(?:\.\w+)*\]$)",
    re.MULTILINE,
)
OF_OTHERS = (
    "docs/samples/",
    "docs/guide/kinds.md",
    "docs/guide/zh-CN/kinds.md",
    "docs/guide/outbox.md",
    "docs/guide/zh-CN/outbox.md",
    "docs/guide/recurring.md",
    "docs/guide/zh-CN/recurring.md",
)
"""Pages that tests of their own run whole."""
URL = "http://127.0.0.1:8610"


def blocks(document: str) -> list[tuple[str, str]]:
    """Language and code of each block; one within a list without the blanks before it."""
    return [
        (
            language,
            re.sub(
                rf"^{indent or ''} {{0,3}}(?=\S)" if indent else r"^(?!)",
                "",
                code,
                flags=re.MULTILINE,
            ),
        )
        for indent, language, code in BLOCK.findall(text(document))
    ]


def commands(language: str, code: str) -> str:
    """The commands of a block; of a terminal's, what stands behind its prompts."""
    if language == "sh":
        return code
    joined = code.replace("\\\n", "\\\0")
    lines = [line[2:] for line in joined.splitlines() if line.startswith("$ ")]
    return "\n".join(lines).replace("\\\0", "\\\n")


@pytest.mark.parametrize("document", DOCUMENTS)
def test_a_block_says_its_language_and_one_of_text_is_no_code(document: str) -> None:
    for language, code in blocks(document):
        assert language in ELSEWHERE | HERE, code
        if language == "text" and not document.startswith(OF_OTHERS):
            assert not COMMAND.search(code), code


ROBOTS = {
    "DINGTALK_ROBOT_OPS1_WEBHOOK": "https://oapi.dingtalk.com/robot/send?access_token=a",
    "DINGTALK_ROBOT_OPS2_WEBHOOK": "https://oapi.dingtalk.com/robot/send?access_token=b",
}
APP = {"DINGTALK_APP_KEY": "k", "DINGTALK_APP_SECRET": "s", "DINGTALK_AGENT_ID": "1"}
HR = {"DINGTALK_APP_KEY_HR": "hr", "DINGTALK_APP_SECRET_HR": "s"}


@pytest.mark.parametrize("document", [page for page in DOCUMENTS if "```toml" in text(page)])
def test_settings_that_a_page_shows_are_taken(document: str, tmp_path: Path) -> None:
    for _, code in [block for block in blocks(document) if block[0] == "toml"]:
        path = tmp_path / "dingrelay.toml"
        path.write_text(code.replace("…", "x"), "utf-8")
        given = APP | ROBOTS | {"DINGRELAY_ENV": "sandbox", "DINGRELAY_CONFIG": str(path)}
        given |= HR if "apps.hr" in code else {}
        with mock.patch.dict(os.environ, given):
            Settings.load()


@pytest.mark.parametrize("document", [page for page in DOCUMENTS if "```yaml" in text(page)])
def test_yaml_that_a_page_shows_can_be_read(document: str) -> None:
    for _, code in [block for block in blocks(document) if block[0] == "yaml"]:
        assert yaml.safe_load(code)


@pytest.mark.parametrize("document", GUIDE["robots.md"])
def test_messages_of_robots_that_a_page_shows_are_taken(document: str) -> None:
    programs = [code for language, code in blocks(document) if language == "py"]
    assert len(programs) == 2
    with mock.patch.object(dingrelay_producers, "Client", RecordingClient):
        for code in programs:
            exec(code, {"RobotMessage": RobotMessage, "event": {"reply": {"robot": "ops1"}}})


class Reader:
    """Types what a page says, beside a running system."""

    def __init__(self, system: System, programs: Path, gateway: str, webhook: str) -> None:
        self.system, self._programs, self._gateway, self._webhook = (
            system,
            programs,
            gateway,
            webhook,
        )
        self._numbers = iter(range(10_000))
        self._redis = Redis.from_url(system.redis_url)
        for name in ("dingrelay", *stand_in.PROGRAMS):
            program = programs / name
            program.write_text(
                f"#!{sys.executable} -IS\nimport runpy, sys\nsys.path[:0] = {sys.path!r}\n"
                f"sys.argv[1:1] = [{name!r}]\nrunpy.run_path({stand_in.__file__!r}, run_name='__main__')\n",
                "utf-8",
            )
            program.chmod(0o700)
        curl = programs / "curl"
        # A page shows the body of a refusal; here a refusal is a failure as well.
        curl.write_text(f'#!/bin/sh\nexec {shutil.which("curl")} --fail-with-body "$@"\n', "utf-8")
        curl.chmod(0o700)
        self.key = self.output("dingrelay key create reader --scope '*' --sender '*'").strip()

    def run(self, script: str) -> subprocess.CompletedProcess[str]:
        """Run commands in the system's folder."""
        known = {
            URL: self._gateway,
            "$DINGRELAY_REDIS_URL": self.system.redis_url,
            "$DINGRELAY_DATABASE_URL": "postgresql://127.0.0.1/dingrelay",
        }
        for word, value in known.items():
            script = script.replace(word, value)
        return subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=self.system.folder,
            env={
                **os.environ,
                **processes.address(),
                "PATH": os.pathsep.join(
                    [str(self._programs), str(Path(sys.executable).parent), os.environ["PATH"]]
                ),
                "KEY": getattr(self, "key", ""),
                "SYSTEM_REDIS": self.system.redis_url,
                "NEW": "new-secret",
                "DINGTALK_APP_KEY": "",
                "DINGTALK_APP_SECRET": "",
            },
            input="y\n",  # to a command that asks
            capture_output=True,
            text=True,
            timeout=110,
            check=False,
        )

    def output(self, script: str) -> str:
        """Output of commands that succeed."""
        done = self.run(script)
        assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def call(self, state: State) -> str:
        """The job of a call, in this state."""
        path = f"/v1.0/nothing/{next(self._numbers)}"
        sent = self.system.client.send(ApiCall.parse({"method": "GET", "path": path}))
        assert sent.wait(60).state is State.DEAD
        self._become(sent.id, state)
        return sent.id

    def later(self) -> str:
        """A job that waits for its time."""
        text = f"later {next(self._numbers)}"
        due = datetime.now(UTC) + timedelta(hours=1)
        return self.system.client.send(message("u40", text=text, send_at=due)).id

    def approval(self, state: State = State.DONE) -> tuple[str, str]:
        """The job, in this state, and the instance of a new approval that waits for u17."""
        job = ApprovalCreate.parse(
            {
                "process_code": "PROC-LEAVE",
                "originator": "u41",
                "form": {"事由": f"{next(self._numbers)}", "天数": 1},
                "approvers": [{"action": "AND", "users": ["u17"]}],
            }
        )
        sent = self.system.client.send(job)
        status = sent.wait(60)
        assert status.result, status
        self._become(sent.id, state)
        return sent.id, str(status.result["instance_id"])

    def approved(self) -> str:
        """The instance of an approval that is approved."""
        _, instance = self.approval()
        agree = f"dingrelay approval agree {instance} --user u17 --wait"
        self.output(f"{agree} && dingrelay approval show {instance} --look")
        return instance

    def endpoint(self) -> str:
        """An endpoint of webhooks that takes everything."""
        made = self.output(f"dingrelay --json webhook create {self._webhook} --type 'job.*'")
        return str(json.loads(made)["id"])

    def campaign(self, *, ended: bool = False) -> str:
        """A campaign that is ready, or has ended, to two people of a spreadsheet."""
        number = next(self._numbers)
        made = self.output(
            f"dingrelay --json campaign create 年会{number} --text '第 {number} 场' --file guests.xlsx"
        )
        campaign = str(json.loads(made)["id"])
        if ended:
            self.output(f"dingrelay campaign start {campaign}")
            wait_until(
                lambda: '"done"' in self.output(f"dingrelay --json campaign show {campaign}"),
                timeout=60,
                what="the campaign ends",
            )
        return campaign

    def _become(self, job_id: str, state: State) -> None:
        self._redis.hset(keys.job(job_id), "state", state)


def _unknown_approval(reader: Reader) -> dict[str, str]:
    job_id, instance = reader.approval(State.UNKNOWN)
    return {"ID": job_id, "INSTANCE": instance}


PLACEHOLDERS: tuple[tuple[str, Callable[[Reader], Mapping[str, str]]], ...] = (
    (r"job (show|requeue|discard) ID", lambda reader: {"ID": reader.call(State.DEAD)}),
    (r"job postpone ID", lambda reader: {"ID": reader.later()}),
    (r"job resolve ID --(instance|not-created)", _unknown_approval),
    (r"job resolve ID --sent", lambda reader: {"ID": reader.call(State.UNKNOWN)}),
    (r"approval show INSTANCE --wait", lambda reader: {"INSTANCE": reader.approved()}),
    (r"approval \w+ INSTANCE", lambda reader: {"INSTANCE": reader.approval()[1]}),
    (r"drw_…", lambda reader: {"drw_…": reader.endpoint()}),
    (r"campaign report ID", lambda reader: {"ID": reader.campaign(ended=True)}),
    (r"campaigns/\$id/", lambda reader: {"$id": reader.campaign()}),
)
"""Pattern of a line → the values of its placeholders."""


def filled(script: str, reader: Reader) -> str:
    """The commands with objects of the system in place of the placeholders."""
    lines = script.splitlines()
    for number, line in enumerate(lines):
        for pattern, make in PLACEHOLDERS:
            if re.search(pattern, line.partition("  #")[0]):
                for word, value in make(reader).items():
                    lines[number] = re.sub(rf"(?<!\w){re.escape(word)}(?!\w)", value, lines[number])
                break
    return "\n".join(lines)


class Listener(BaseHTTPRequestHandler):
    """Takes every notice."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *arguments: Any) -> None:
        """Write nothing."""


@pytest.fixture(scope="module")
def webhook() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Listener) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


PNG = (
    b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\1\0\0\0\1\x08\0\0\0\0:~\x9bU\0\0\0\nIDATx\x9cc\xf8\x0f\0\1\1\1\0"
    b"\x1b\xb6\xeeV\0\0\0\0IEND\xaeB`\x82"
)


def _put_files(folder: Path) -> None:
    """Write the files that commands of the pages read."""
    (folder / "menu.png").write_bytes(PNG)
    for name in ("报告.pdf", "report.pdf"):
        (folder / name).write_bytes(b"%PDF-1.4\n%%EOF\n")
    (folder / "guests.csv").write_text("userid,name\nu11,王芳\nu12,李明\n", "utf-8")
    book = Workbook()
    for row in (("userid", "name"), ("u11", "王芳"), ("u12", "李明")):
        book.active.append(row)
    for name in ("guests.xlsx", "名单.xlsx"):
        book.save(folder / name)


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory, webhook: str) -> Iterator[Reader]:
    with running_system(tmp_path_factory.mktemp("reader")) as system:
        _put_files(system.folder)
        port = free_port()
        command = [sys.executable, "-m", "dingrelay_producers.cli", "gateway", "--port", str(port)]
        with processes.Popen(command, cwd=system.folder, stderr=subprocess.DEVNULL) as gateway:
            url = f"http://127.0.0.1:{port}"
            wait_until(lambda: _is_ready(url), timeout=60, what="the gateway serves")
            system.client.send(UserSync()).wait(60)
            yield Reader(system, tmp_path_factory.mktemp("bin"), url, webhook)
            gateway.terminate()


def _is_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/readyz") as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


UNTYPED = {"ops/sandbox/README.md", "ops/sandbox/README.zh-CN.md", *GUIDE["robots.md"]}
"""Pages whose commands need a port of their own, or robots that the system has not: `test_commands` checks their words."""
PAGES = [
    page
    for page in DOCUMENTS
    if not page.startswith(OF_OTHERS)
    and page not in UNTYPED
    and any(language in SHELL for language, _ in blocks(page))
]
ORIGINAL = {chinese: english for english, chinese in TRANSLATED}
"""Page in Chinese → in English."""


def scripts(page: str) -> list[str]:
    """The commands of each block that is for a shell."""
    return [commands(language, code) for language, code in blocks(page) if language in SHELL]


def bare(script: str) -> str:
    """The commands without their comments, which are in the page's language."""
    return re.sub(r"(?<!\S)#.*$", "", script, flags=re.MULTILINE)


def new_scripts(page: str) -> list[str]:
    """The commands of each block but for those that are, word for word, of the page of which it is the translation."""
    of_original = {bare(script) for script in scripts(ORIGINAL[page])} if page in ORIGINAL else ()
    return [script for script in scripts(page) if bare(script) not in of_original]


@pytest.mark.acceptance
@pytest.mark.timeout(600)
@pytest.mark.parametrize("page", [page for page in PAGES if new_scripts(page)])
def test_the_commands_of_a_page_run(page: str, reader: Reader) -> None:
    for made in ("u1.json", "backup", "secrets", "audit.csv"):
        path = reader.system.folder / made
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    for script in new_scripts(page):
        assert script
        done = reader.run(filled(script, reader))
        assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
    if "person erase" in text(page):
        reader.output("dingrelay sync --wait")
