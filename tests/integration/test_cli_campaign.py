"""``dingrelay campaign`` against a real database and Valkey."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from redis import Redis

from cli_runner import Cli
from dingrelay_producers.store.keys import QUOTA_TTL_MS, quota
from dingrelay_tasks import beijing
from dingrelay_tasks.organisation import Department, Member
from dingrelay_workers.database.database import Database
from dingrelay_workers.directory.store import AppDirectory
from tables import prepare

PEOPLE = "userid,name\n" + "".join(f"u{number},n{number % 3}\n" for number in range(250))


@pytest.fixture
def variables(sandbox_env: dict[str, str], tmp_path: Path) -> dict[str, str]:
    (tmp_path / "people.csv").write_text(PEOPLE)
    (tmp_path / "bad.csv").write_text("userid,name\nu1,a\nu 2,b\nu1,c\nu3\n")
    return sandbox_env


def test_a_draft_is_created_listed_and_shown(cli: Cli) -> None:
    options = ("--text", "hello", "--file", "people.csv", "--quiet", "22:00-08:00")
    created = cli.json("campaign", "create", "Party", *options, "--except", "u0,u1")
    assert (created["recipients"], created["planned"], created["excluded"]) == (248, 3, 2)
    assert (created["state"], created["quiet"], created["skipped"]) == ("draft", "22:00-08:00", [])
    shown = cli.json("campaign", "show", created["id"])
    assert shown == {name: created[name] for name in shown}
    assert (shown["preview"]["calls"], shown["preview"]["excluded"]) == (3, 2)
    assert cli.json("campaign", "list") == [{**shown, "preview": None}]
    assert cli.json("campaign", "list", "--app", "other") == []
    people = cli("campaign", "create", "P", *options, "--to", "u0,new").stdout
    assert "people: 251, calls: 3, duplicates: 1, excluded: 0, malformed: 0" in people
    for command in (("list",), ("show", created["id"])):
        result = cli("campaign", *command)
        assert (result.exit_code, "Party" in result.stdout) == (0, True)


def test_recipients_may_come_from_standard_input(cli: Cli) -> None:
    lines = "".join(json.dumps({"userid": f"u{number}", "n": number}) + "\n" for number in range(3))
    made = cli("campaign", "create", "n", "--text", "{n}", "--file", "-", "--json", stdin=lines)
    assert json.loads(made.stdout)["planned"] == 3


def test_the_file_may_name_people_under_another_column(cli: Cli) -> None:
    table = ("--text", "你好 {姓名}", "--file", "-")
    rows = "姓名,工号\n张三,u1\n李四,u2\n"
    made = cli("campaign", "create", "n", *table, "--column", "userid=工号", "--json", stdin=rows)
    assert json.loads(made.stdout)["recipients"] == 2
    result = cli(
        "campaign",
        "create",
        "n",
        "--dry-run",
        *table,
        "--column",
        "userid=工号",
        "--json",
        stdin=rows,
    )
    assert json.loads(result.stdout)["recipients"] == 2
    refused = cli("campaign", "create", "n", *table, "--column", "编号", stdin=rows)
    assert (refused.exit_code, 'no column "编号"' in refused.stderr) == (2, True)
    alone = cli("campaign", "create", "n", "--text", "x", "--to", "u1", "--column", "工号")
    assert (alone.exit_code, "--column" in alone.stderr) == (2, True)


def test_malformed_rows_are_named_with_their_lines(cli: Cli, tmp_path: Path) -> None:
    options = ("--text", "hello", "--file", "bad.csv")
    refused = cli("campaign", "create", "n", *options)
    assert refused.exit_code == 2
    assert refused.stderr.splitlines() == [
        "bad.csv: 2 rows are malformed:",
        "line 3: userid: holds a comma, a blank or a control character",
        "line 5: columns: 1 instead of 2",
        "Correct them, or leave them out by `--malformed skip`; `--malformed-file FILE` lists them all.",
    ]
    assert cli.json("campaign", "list") == []
    skip = ("--malformed", "skip", "--malformed-file", "bad-lines.csv")
    created = cli("campaign", "create", "n", *options, *skip)
    assert created.exit_code == 0
    assert "people: 1, calls: 1, duplicates: 1, excluded: 0, malformed: 2" in created.stdout
    assert "line 5: columns: 1 instead of 2" in created.stderr
    assert (tmp_path / "bad-lines.csv").read_text().splitlines()[2] == "5,columns: 1 instead of 2"


def test_a_preview_shows_what_it_takes(cli: Cli, valkey_url: str, tmp_path: Path) -> None:
    (tmp_path / "dingrelay.toml").write_text('[quota]\nedition = "1000"')
    cli.variables["DINGRELAY_CONFIG"] = "dingrelay.toml"
    with Redis.from_url(valkey_url) as redis:
        key = quota("default", beijing.month(beijing.now()))
        redis.hset(key, "calls", 100)
        redis.pexpire(key, QUOTA_TTL_MS)
    options = ("--file", "people.csv", "--rate", "50")
    found = cli.json("campaign", "create", "n", "--dry-run", "--text", "hello {name}", *options)
    assert (found["recipients"], found["calls"], found["plain_calls"]) == (250, 3, 3)
    assert (found["minutes"], found["limit"]) == (5, "50 recipients a minute, its own rate")
    names = ("quota_used", "quota_limit", "quota_share", "fits")
    assert [found[name] for name in names] == [100, 1_000, 0.003, True]
    assert (found["duplicates"], found["excluded"], found["malformed"]) == (0, 0, 0)
    single = cli("campaign", "create", "n", "--dry-run", "--text", "{userid}", *options)
    assert "250, for the fields: without them 3" in single.stdout
    assert "25.0% of 1,000 calls; 100 are used" in single.stdout
    assert cli.json("campaign", "list") == []


def test_people_who_are_not_in_the_directory_are_counted(cli: Cli) -> None:
    """Their look-ups take longer than the calls."""

    prepare(cli.variables["DINGRELAY_DATABASE_URL"])

    async def sync() -> None:
        store = Database(cli.variables["DINGRELAY_DATABASE_URL"])
        directory, root = AppDirectory(store, "default"), Department(1, {"name": "all"})
        await directory.open_run("walk", scope="everything", roots=[root], calls=1)
        members = [Member(f"u{number}", {"dept_id_list": [1]}) for number in range(100)]
        await directory.fill("walk", root, children=[], members=members, calls=1)
        await directory.close_run("walk", confirm_removals=False)
        await store.dispose()

    plan = ("--text", "hello", "--to", ",".join(f"u{number}" for number in range(200)))
    assert cli.json("campaign", "create", "n", "--dry-run", *plan)["not_in_directory"] is None
    asyncio.run(sync())
    preview = cli.json("campaign", "create", "n", "--dry-run", *plan)
    assert (preview["not_in_directory"], preview["limit"]) == (
        100,
        "20 calls a second, for look-ups",
    )
    assert (
        "100, who are looked up before their calls"
        in cli("campaign", "create", "n", "--dry-run", *plan).stdout
    )
    draft = cli.json("campaign", "create", "n", *plan)
    assert draft["not_in_directory"] == 100
    assert cli.json("campaign", "start", "--dry-run", draft["id"])["not_in_directory"] == 100
    assert "100 people are not in the directory" in cli("campaign", "create", "n", *plan).stderr


@pytest.mark.parametrize("text", ["hello {name}", "{{ hello"])
def test_a_preview_of_a_draft_is_that_of_its_options(cli: Cli, text: str) -> None:
    options = ("--text", text, "--file", "people.csv")
    draft = cli.json("campaign", "create", "n", *options)["id"]
    before = cli.json("campaign", "create", "n", "--dry-run", *options)
    after = cli.json("campaign", "start", "--dry-run", draft)
    names = (
        "recipients",
        "calls",
        "plain_calls",
        "minutes",
        "limit",
        "quota_used",
        "quota_share",
        "fits",
    )
    assert {name: after[name] for name in names} == {name: before[name] for name in names}


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["create", "n", "--text", "x"], "--file, --to, --department, --everyone"),
        (["create", "n", "--to", "u1"], "--text, --markdown, --message"),
        (["create", "n", "--text", "x", "--file", "none.csv"], "none.csv: No such file"),
        (["create", "n", "--text", "x", "--to", "u1", "--weight", "0"], "weight: "),
        (["create", "n", "--text", "x", "--to", "u1", "--quiet", "8-22"], "quiet: must be like"),
        (["create", "n", "--text", "{", "--to", "u1"], "message.text.content: a single"),
        (["create", "n", "--text", "{x}", "--to", "u1"], "{x} is no field of the directory"),
        (["create", "n", "--text", "x", "--department", "9"], "9 is not in the directory"),
        (["create", "n", "--text", "x", "--everyone"], "no recipient is left"),
        (["start", "some", "--dry-run"], "no campaign some"),
        (["show", "some"], "no campaign some"),
    ],
)
def test_errors_are_named(cli: Cli, arguments: list[str], error: str) -> None:
    refused = cli("campaign", *arguments)
    assert (refused.exit_code, error in refused.stderr) == (2, True), refused.output


def test_services_that_are_away_are_reported(cli: Cli) -> None:
    away = cli("campaign", "list", DINGRELAY_DATABASE_URL="sqlite:////nowhere/at/all.db")
    assert (away.exit_code, away.stderr.startswith("DINGRELAY_DATABASE_URL: ")) == (3, True)
    options = ("create", "n", "--dry-run", "--text", "x", "--to", "u1")
    away = cli("campaign", *options, DINGRELAY_REDIS_URL="redis://127.0.0.1:1/0")
    assert (away.exit_code, away.stderr.startswith("DINGRELAY_REDIS_URL: ")) == (3, True)


def _take_ctrl_c() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_ctrl_c_leaves_nothing(cli: Cli, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    command = [sys.executable, "-m", "dingrelay_producers.cli", "campaign", "create", "n"]
    with subprocess.Popen(
        [*command, "--text", "x", "--file", "pipe"],
        env={**os.environ, **cli.variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # Where the tests run in the background it is ignored, and children inherit that.
        preexec_fn=_take_ctrl_c,  # noqa: PLW1509 - no thread runs here
    ) as creating:
        # Opening waits for the one who reads. What is read ends only after the signal.
        with pipe.open("w") as rows:
            rows.write("userid\n" + "".join(f"user{number}\n" for number in range(20_000)))
            creating.send_signal(signal.SIGINT)
        output, errors = creating.communicate(timeout=30)
    assert creating.returncode != 0
    assert (output, b"Traceback" in errors) == (b"", False)
    assert cli.json("campaign", "list") == []
