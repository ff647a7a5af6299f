"""Every command, in both languages, on the terminals that there are: wide and narrow, poor in characters,
without colours, or none at all."""

import io
import itertools
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from redis import Redis
from rich.cells import cell_len
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from dingrelay_producers import outbox
from dingrelay_producers.cli import app, group, print_any_character
from dingrelay_producers.outbox.relay import PERHAPS_ENQUEUED
from dingrelay_workers.approvals.models import ApprovalRow, ApprovalTaskRow
from dingrelay_workers.campaigns.models import State
from dingrelay_workers.database.database import Database
from dingrelay_workers.webhooks import cli as webhook
from support import campaigns, rows
from support.command_line import Cli, end, in_folder, made
from support.databases import prepare
from support.examples import either
from support.foreign_words import TERMS, foreign_words
from support.sandboxes import sandbox_variables

CHARACTER = re.compile("[一-鿿]")
COLOUR = re.compile(r"\x1b\[[0-9;]*(3[0-7]|9[0-7])m")
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")

LASTING = {"demo", "events", "flower", "gateway", "outbox relay", "sandbox", "up", "worker"}
"""Commands that run until a signal ends them; their help, and what they refuse, is shown."""


@dataclass(frozen=True)
class Terminal:
    """A terminal for a command's output.

    Attributes:
        columns: its width; 0 for a pipe.
        encoding: of what it is sent.
        variables: of its environment.
    """

    columns: int
    encoding: str
    variables: dict[str, str] = field(hash=False)

    @property
    def chinese(self) -> bool:
        return self.encoding != "ascii" and "zh" in "".join(self.variables.values())


TERMINALS = [
    Terminal(120, "utf-8", {"DINGRELAY_LANGUAGE": "en"}),
    Terminal(80, "ascii", {"LANG": "C", "NO_COLOR": "1"}),
    Terminal(120, "utf-8", {"LC_ALL": "zh_CN.UTF-8"}),
    Terminal(80, "gbk", {"LANG": "zh_CN.GBK"}),
    Terminal(0, "utf-8", {"DINGRELAY_LANGUAGE": "zh"}),
]
POOR = [TERMINALS[1], *TERMINALS[3:]]
"""Terminals with the least room, characters and colours, in both languages: output that is whole there is whole on
the others."""


class Stream(io.TextIOWrapper):
    """A stream as Python opens it: what it can't spell is an error, unless it is set otherwise."""

    def __init__(self, terminal: Terminal) -> None:
        super().__init__(io.BytesIO(), encoding=terminal.encoding, errors="strict", newline="\n")
        self._terminal = bool(terminal.columns)

    def isatty(self) -> bool:
        return self._terminal

    def text(self) -> str:
        self.flush()
        assert isinstance(self.buffer, io.BytesIO)
        return self.buffer.getvalue().decode(self.encoding)


@dataclass
class Printed:
    """Output of a command on a terminal, and its exit code."""

    arguments: Sequence[str]
    out: str
    err: str
    code: int


@pytest.fixture
def cli(
    valkey_url: str,
    sqlite_url: str,
    sandbox_server: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Cli:
    prepare(sqlite_url)
    for name in ("LC_ALL", "LC_MESSAGES", "LANG", "DINGRELAY_LANGUAGE", "NO_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    variables = sandbox_variables(sandbox_server, valkey_url, sqlite_url)
    variables["DINGRELAY_HISTORY"] = '{"days": 90}'
    variables["DINGRELAY_CAMPAIGNS"] = '{"reviewers": ["u3"]}'
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    found = in_folder(monkeypatch, tmp_path, {})
    found.variables["DINGRELAY_DATABASE_URL"] = sqlite_url
    return found


def run(terminal: Terminal, *arguments: str) -> Printed:
    """Be the command line on this terminal."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in terminal.variables.items():
            patch.setenv(name, value)
        if terminal.columns:
            patch.setenv("COLUMNS", str(terminal.columns))
        out, err = Stream(terminal), Stream(terminal)
        patch.setattr(sys, "stdout", out)
        patch.setattr(sys, "stderr", err)
        patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b""), encoding=terminal.encoding))
        print_any_character()
        try:
            command: Any = made(app, group.entry_points)
            code = command.main(list(arguments), prog_name="dingrelay")
        except SystemExit as end:
            code = end.code
        return Printed(arguments, out.text(), err.text(), int(code or 0))


def leaves(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The path of every command that does something."""
    if not hasattr(command, "list_commands"):
        yield path
        return
    for name in command.list_commands(None):
        yield from leaves(command.get_command(None, name), (*path, name))


def faults(terminal: Terminal, printed: Printed, *, ids: Sequence[str] = ()) -> list[str]:
    """Faults in the looks of an output."""
    found: list[str] = []
    name = " ".join(printed.arguments)
    everything = printed.out + printed.err
    if "Traceback" in everything:
        found.append(f"{name}: a traceback")
    if (terminal.columns == 0 or "NO_COLOR" in terminal.variables) and COLOUR.search(everything):
        found.append(f"{name}: colours")
    plain = ESCAPE.sub("", everything).replace("\r", "\n")
    found += [
        f"{name}: {cell_len(line)} wide: {line}"
        for line in plain.split("\n")
        if terminal.columns and cell_len(line) > terminal.columns
    ]
    words = re.sub(r"[\s│|]+", " ", plain)
    found += [f"{name}: {each} is cut" for each in ids if each[:13] in words and each not in words]
    return found


CODES = {
    *("approved", "draft", "enabled", "live", "ok", "paused", "pending", "permission"),
    *("ready", "test"),
    *("crm", "hr", "one"),
}
"""States and classes, which are the same in both languages, and names of ours."""


def english_left(printed: Printed) -> list[str]:
    """Words of English beside what was given, codes, and a usage line, on a Chinese terminal."""
    plain = ESCAPE.sub("", printed.err + printed.out).replace("\r", "\n")
    for word in sorted(printed.arguments, key=len, reverse=True):
        plain = re.sub(rf"(?<![A-Za-z]){re.escape(word)}(?![A-Za-z])", "", plain)
    if printed.arguments[0] == "audit":  # all that it lists are codes
        plain = printed.err
    plain = re.sub(r"[│╭╮╰╯─]", " ", re.sub("用法：.*|运行 '.*", "", plain))
    return [run for run in foreign_words(plain) if not CODES.union(TERMS).issuperset(run.split())]


def test_every_help_page_is_whole_on_every_terminal(cli: Cli) -> None:
    root: Any = made(app, group.entry_points)
    wrong: list[str] = []
    commands = [*leaves(root)]
    pages = sorted({path[:end] for path in commands for end in range(len(path) + 1)})
    assert len(pages) > 60
    for terminal, path in itertools.product(POOR, pages):
        printed = run(terminal, *path, "--help")
        wrong += faults(terminal, printed)
        page, where = printed.out, f"{path} on {terminal}"
        if printed.code:
            wrong.append(f"{path} exits with {printed.code}")
        translated = re.sub("「.*?」|事由|天数|出差|你好|年会", "", page)
        if bool(CHARACTER.search(translated)) != terminal.chinese:
            wrong.append(f"{where}: {page}")
        if "…" in page and not re.search(r"(drk_|drw_|PROC-|https://|\", )…", page):
            wrong.append(f"{where} is cut: {page}")
        english = r"\b(Options|Usage|Arguments|default:|required)\b"
        if terminal.chinese and re.search(english, page):
            wrong.append(f"{path}: English is left: {page}")
    assert not wrong, "\n".join(wrong)


def test_a_process_of_its_own_has_chinese_headings() -> None:
    for arguments, heading in ((["job", "list", "--help"], "选项"), (["job", "shw"], "错误")):
        ended = subprocess.run(
            [sys.executable, "-m", "dingrelay_producers.cli", *arguments],
            env={**os.environ, "DINGRELAY_LANGUAGE": "zh", "PYTHONIOENCODING": "utf-8"},
            capture_output=True,
            encoding="utf-8",
            check=False,
        )
        printed = ended.stdout + ended.stderr
        assert f"─ {heading} ─" in printed, printed
        assert not re.search(r"\b(Options|Error|Try)\b", printed), printed


MISTAKES = [
    ("nonsense",),
    ("send", "--nonsense"),
    ("send", "--to"),
    ("send", "--to", "u1"),
    ("send", "--to", "u1", "--text", "x", "--lane", "fast"),
    ("send", "--to", "u1", "--text", "x", "--at", "someday"),
    ("send", "--text", "x"),
    ("send", "--to", "u1", "--text", "x" * 6_000),
    ("send", "--jobs", "nowhere.jsonl"),
    ("media", "upload", "nowhere.png"),
    ("send", "--to", "u1", "--text", "x", "--timeout", "soon"),
    ("job", "show"),
    ("job", "show", "a", "b"),
    ("job", "list", "--limit", "0"),
    ("job", "list", "--since", "once"),
    ("job", "show", "nothing"),
    ("campaign", "create", "n", "--dry-run", "--text", "{stranger}", "--to", "u1"),
    ("campaign", "create", "n", "--dry-run", "--text", "x", "--file", "nowhere.csv"),
    ("campaign", "create", "n", "--dry-run", "--text", "x", "--file", "bad.csv"),
    ("campaign", "show", "nothing"),
    ("key", "create", "x", "--scope", "mesages:write"),
    ("key", "rotate", "drk_nothing"),
    ("webhook", "create", "http://x y", "--type", "job.*"),
    ("approval", "create", "P", "--originator", "u1", "--field", "no equals"),
    ("call", "GET", "nowhere"),
    ("call", "POST", "/x", "--body", "{"),
    ("sync", "department"),
    ("job", "requeue"),
    ("worker", "--lanes", "nonsense"),
    ("up", "--concurrency", "0"),
    ("sandbox", "--calls", "many"),
    ("gateway", "--port", "70000"),
    ("flower", "--port", "-1"),
    ("events", "--app", "stranger"),
    ("outbox", "relay"),
    ("outbox", "ddl", "oracle"),
    ("outbox", "discard"),
]


def test_errors_are_in_the_readers_language(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "bad.csv").write_text("userid\nu 1\n\n,\n" + "x" * 70 + "\n", "utf-8")
    wrong: list[str] = []
    for terminal, arguments in itertools.product(POOR, MISTAKES):
        printed = run(terminal, *arguments)
        wrong += faults(terminal, printed)
        if bool(CHARACTER.search(printed.err)) != terminal.chinese:
            wrong.append(f"{arguments} on {terminal}: {printed.err}")
        if terminal.chinese and (words := english_left(printed)):
            wrong.append(f"{arguments}: {words} in {printed.err}")
        if printed.code != 2:
            wrong.append(f"{arguments} exits with {printed.code}")
    assert not wrong, "\n".join(wrong)


def words_of(printed: Printed) -> str:
    """Words on standard error, without frames and lines."""
    return re.sub(r"[\s│|]+", " ", ESCAPE.sub("", printed.err))


def test_a_command_that_is_like_it_is_suggested(cli: Cli) -> None:
    rights = {
        ("workr",): "worker",
        ("campain", "list"): "campaign",
        ("campaign", "creat"): "create",
    }
    for terminal, (wrong, right) in itertools.product(TERMINALS, rights.items()):
        words = words_of(run(terminal, *wrong))
        assert (f"是不是 '{right}'" if terminal.chinese else f"Did you mean '{right}'") in words
        assert terminal.chinese != ("Did you mean" in words)


def test_two_sandboxes_do_not_share_a_port(cli: Cli) -> None:
    with socket.create_server(("127.0.0.1", 0), reuse_port=True) as taken:
        port = taken.getsockname()[1]
        for terminal in TERMINALS[1:3]:
            printed = run(terminal, "sandbox", "--port", str(port))
            wanted = "已被其他程序占用" if terminal.chinese else "Address already in use"
            assert (printed.code, wanted in words_of(printed)) == (2, True), printed.err


STEPS = [
    "doctor",
    "send --to u1,u2 --text 你好",
    "send --to u1 --text wait --wait --timeout 0",
    "send --jobs jobs.jsonl",
    "sync",
    "approval create PROC-1 --originator u1 --field 事由=出差",
    "call GET /topapi/v2/user/get",
    "person show u1",
    "person find 王",
    "job list",
    "job list --state dead",
    "job show {dead}",
    "job show {unknown}",
    "job show {job} --wait --timeout 0",
    "job recall {dead}",
    "media upload menu.png --timeout 0",
    "job cancel {job}",
    "job resolve {unknown} --sent --by 王芳",
    "job postpone {job} +1h",
    "job requeue {dead}",
    "job requeue {job}",
    "job discard {second}",
    "approval list",
    "approval show {approval}",
    "approval show {approval} --wait",
    "approval show {running} --wait --timeout 0",
    "approval terminate {running}",
    "approval agree {running} --user u2",
    "approval refuse {running} --user u2",
    "approval comment {running} 好 --user u2",
    "outbox ddl sqlite",
    "outbox list",
    "outbox retry nothing",
    "outbox discard {row}",
    "lane pause default:bulk --yes",
    "lane list",
    "lane resume default:bulk --yes",
    "queue",
    "queue --by kind",
    "limits",
    "campaign create 年会 --text {{name}},年会见! --file guests.csv",
    "campaign create n --dry-run --text {{name}},年会见! --file guests.csv",
    "campaign list",
    "campaign show {campaign}",
    "campaign start {campaign} --dry-run",
    "campaign freeze {campaign}",
    "campaign copy {campaign}",
    "campaign test {campaign} --to u3",
    "campaign review {campaign}",
    "campaign review {campaign} --reject 日期不对",
    "campaign review {campaign} --approve --version 1",
    "campaign start {campaign}",
    "campaign pause {campaign}",
    "campaign resume {campaign}",
    "campaign cancel {campaign}",
    "campaign resume {campaign}",
    "campaign show {campaign} --watch",
    "campaign report {campaign} --csv report.csv",
    "campaign create n --dry-run --text x --file report.csv",
    "campaign recall {campaign} --yes",
    "campaign report {campaign} --refresh --yes --timeout 0",
    "campaign delete {campaign}",
    "campaign delete {campaign} --yes",
    "template keep 年会 --message {{}} --app hr",
    'template keep one --message {{"a":1}}',
    "template list",
    "template show {template}",
    "template delete {template} --yes",
    "template show {template}",
    "key create crm --scope messages:write --app hr",
    "key list",
    "key rotate {key}",
    "key revoke {key}",
    "key rotate {key}",
    "webhook create https://crm.example.com/x --type job.* --name 客户系统",
    "webhook list",
    "webhook list {endpoint}",
    "webhook test {endpoint}",
    "webhook pause {endpoint}",
    "webhook resume {endpoint}",
    "webhook rotate {endpoint}",
    "webhook resume {endpoint} --since 2h",
    "webhook delete {endpoint}",
    "console login-link u1",
    "console sessions list",
    "console sessions end 0123456789ab",
    "console sessions end-all u1",
    "console role u1 view",
    "console role",
    "console role u1 view --revoke",
    "queue --by worker",
    "audit list",
    "send --to group=oncall --text 磁盘",
    "console login-link 王芳",
    "person export u1",
    "person erase stranger --yes",
    "person erase u1 --yes",
]
"""Commands in an order in which each has something to do; values in braces are its ids."""


ERROR = {
    "class": "permission",
    "code": "60011",
    "message": "没有调用该接口的权限",
    "hint": "Grant the app this permission in DingTalk's console, then requeue the job.",
}


async def fill(database: Database) -> str:
    """Put two approvals and the draft of a campaign into the tables; the campaign's id."""
    for instance, state in (("approval-1", "approved"), ("approval-2", "running")):
        of = {"instance": instance, "template": "PROC-1", "originator": "u1", "source": "event"}
        title = "金斌鹏提交的请假" * 4
        await rows.put(database, ApprovalRow, {**of, "state": state, "title": title, "looks": 1})
        task = {"instance": instance, "task": "1", "user": "u2", "state": "running"}
        await rows.put(database, ApprovalTaskRow, task)
    return await campaigns.put(
        database, started_at=None, state=State.DRAFT, name="春节前的年会邀请" * 5
    )


def outbox_row(monkeypatch: pytest.MonkeyPatch, folder: Path) -> str:
    """The id of a refused row in an application's outbox."""
    url = f"sqlite:///{folder / 'outbox.db'}"
    monkeypatch.setenv("DINGRELAY_OUTBOX_URL", url)
    engine = create_engine(url)
    outbox.metadata.create_all(engine)
    row = {"id": str(uuid4()), "kind": "message-send", "job": "{}", "refused": PERHAPS_ENQUEUED}
    with Session(engine) as session:
        session.add(outbox.OutboxRow(**row, written_at=0))
        session.commit()
    engine.dispose()
    return row["id"]


def test_every_command_speaks_and_ends_alike_on_every_terminal(
    cli: Cli, valkey_url: str, sqlite_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(webhook, "ANSWER", 0.05)
    (tmp_path / "guests.csv").write_text("userid,name\nu11,王芳\nu12,李明\nu12,李\n", "utf-8")
    line = {"to": {"users": ["u5"]}, "message": {"msgtype": "text", "text": {"content": "x"}}}
    (tmp_path / "menu.png").write_bytes(b"x")
    (tmp_path / "jobs.jsonl").write_text(json.dumps(line) + "\n", "utf-8")
    commands = {" ".join(path) for path in leaves(made(app, group.entry_points))}
    shown = {each for each in commands if any(f"{step} ".startswith(f"{each} ") for step in STEPS)}
    assert commands - shown == LASTING
    codes: dict[Terminal, list[tuple[str, int]]] = {}
    wrong: list[str] = []
    file = Path(sqlite_url.removeprefix("sqlite:///"))
    with Redis.from_url(valkey_url) as redis:
        for terminal in either(POOR[:2], POOR):  # the other pages are shown on all of them
            redis.flushall()
            for old in file.parent.glob(f"{file.name}*"):
                old.unlink()
            prepare(sqlite_url)
            ids = {"approval": "approval-1", "running": "approval-2"}
            ids["campaign"] = cli.in_database(fill)
            for name in ("job", "dead", "unknown", "second"):
                ids[name] = cli.json("send", "--to", "u9", "--text", name)["id"]
            for name, state in (("dead", "dead"), ("unknown", "unknown"), ("second", "dead")):
                end(redis, ids[name], state, ERROR)
            ids["row"] = outbox_row(monkeypatch, tmp_path)
            ids["key"] = cli.json("key", "create", "one", "--scope", "jobs:read")["id"]
            ids["template"] = cli.json("template", "keep", "one", "--message", "{}")["id"]
            hook = ("https://a.example/x", "--type", "*")
            ids["endpoint"] = cli.json("webhook", "create", *hook)["id"]
            for step in STEPS:
                arguments = [part.format(**ids) for part in step.split(" ")]
                printed = run(terminal, *arguments)
                wrong += faults(terminal, printed, ids=list(ids.values()))
                is_sql = printed.out.startswith("CREATE TABLE")
                if terminal.chinese and not is_sql and (words := english_left(printed)):
                    wrong.append(f"{step}: {words} in {printed.err}{printed.out}")
                codes.setdefault(terminal, []).append((step, printed.code))
    assert not wrong, "\n".join(wrong)
    first, *others = codes.values()
    for each in others:
        assert each == first
    ended = dict(first)
    assert {code for _, code in first} <= {0, 1, 2, 3, 4}
    assert ended["doctor"] == ended["job list"] == ended["campaign show {campaign}"] == 0
    # The last terminal was Chinese: a spreadsheet sees that it is UTF-8, and another campaign reads it.
    head = (tmp_path / "report.csv").read_text("utf-8").splitlines()[0]
    assert head == "\ufeffuserid,姓名,工号,手机号,部门,结果,原因,结果代码,task id"


def test_programs_read_the_same_in_both_languages(cli: Cli) -> None:
    campaign = cli.in_database(fill)
    job = cli.json("send", "--to", "u9", "--text", "你好")["id"]
    for arguments in (
        ("doctor", "--json"),
        ("job", "show", job, "--json"),
        ("job", "list", "--json"),
        ("approval", "show", "approval-1", "--json"),
        ("campaign", "show", campaign, "--json"),
        ("campaign", "report", campaign, "--json"),
        ("key", "list", "--json"),
        ("limits", "--json"),
        ("queue", "--json"),
        ("--version",),
    ):
        english, chinese = (run(terminal, *arguments) for terminal in (TERMINALS[1], TERMINALS[4]))
        assert english.code == chinese.code
        if "--json" not in arguments:
            assert english.out == chinese.out
            continue
        first, second = json.loads(english.out), json.loads(chinese.out)
        assert _without_ages(first) == _without_ages(second)


def _without_ages(value: Any) -> Any:
    """JSON values, with nothing that has grown older between two questions."""
    if isinstance(value, list):
        return [_without_ages(each) for each in value]
    if isinstance(value, dict):
        aging = {"oldest_seconds", "drain_seconds", "balance", "age_seconds"}
        return {name: _without_ages(each) for name, each in value.items() if name not in aging}
    return value
