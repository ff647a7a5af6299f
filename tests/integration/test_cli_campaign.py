"""``dingrelay campaign`` against a real database and Valkey."""

import json
import os
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from dingrelay_producers.store import clock, keys
from dingrelay_tasks import beijing
from dingrelay_workers.campaigns import cli_pages as watch
from dingrelay_workers.campaigns.models import State
from dingrelay_workers.database.database import Database
from dingrelay_workers.directory.models import RunRow, UserRow
from support import campaigns, processes, rows
from support.command_line import Cli
from support.databases import prepare

PEOPLE = "userid,name\n" + "".join(f"u{number},n{number % 3}\n" for number in range(250))


@pytest.fixture
def variables(sandbox_env: dict[str, str], tmp_path: Path) -> dict[str, str]:
    (tmp_path / "people.csv").write_text(PEOPLE)
    (tmp_path / "bad.csv").write_text("userid,name\nu1,a\nu 2,b\nu1,c\nu3\n")
    prepare(sandbox_env["DINGRELAY_DATABASE_URL"])
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
    assert "people: 251, calls: 3, duplicates: 1, excluded: 0, malformed: 0, unmatched: 0" in people
    for command in (("list",), ("show", created["id"])):
        assert "Party" in cli.shown("campaign", *command)


def test_a_template_is_kept_shown_and_deleted(cli: Cli, tmp_path: Path) -> None:
    message = {"msgtype": "text", "text": {"content": "{name}, come!"}}
    (tmp_path / "message.json").write_text(json.dumps(message))
    keep = ("template", "keep", "party", "--app", "hr", "--sender", "crm", "--message")
    kept = cli.json(*keep, "@message.json")
    fields = (kept["name"], kept["app"], kept["sender"], kept["message"])
    assert fields == ("party", "hr", "crm", message)
    refused = cli.refused(*keep, "{}")
    assert kept["id"] in refused
    assert "--message" in cli.refused(*keep, "{")
    assert cli.json("template", "show", kept["id"]) == kept
    changed = cli.json(*keep, "{}", "--replaces", kept["revision"])
    assert (changed["id"], changed["message"]) == (kept["id"], {})
    assert cli.json("template", "list") == [changed]
    for command in (("list",), ("show", kept["id"])):
        shown = cli.shown("template", *command)
        assert ("party" in shown, "crm" in shown) == (True, True)
    deleted = cli.json("template", "delete", kept["id"], "--yes")
    assert deleted == {"id": kept["id"], "state": "deleted"}
    assert cli.json("template", "list") == []
    assert kept["id"] in cli.refused("template", "show", kept["id"])


def test_recipients_may_come_from_standard_input(cli: Cli) -> None:
    lines = "".join(json.dumps({"userid": f"u{number}", "n": number}) + "\n" for number in range(3))
    made = cli("campaign", "create", "n", "--text", "{n}", "--file", "-", "--json", stdin=lines)
    assert json.loads(made.stdout)["planned"] == 3


def test_the_file_may_name_people_under_another_column(cli: Cli) -> None:
    table = ("--text", "你好 {姓名}", "--file", "-")
    people = "姓名,工号\n张三,u1\n李四,u2\n"
    named = ("--column", "userid=工号", "--json")
    for options in (named, (*named, "--dry-run")):
        made = cli("campaign", "create", "n", *table, *options, stdin=people)
        assert json.loads(made.stdout)["recipients"] == 2
    refused = cli.refused("campaign", "create", "n", *table, "--column", "编号", stdin=people)
    assert 'no column "编号"' in refused
    alone = ("--text", "x", "--to", "u1", "--column", "工号")
    assert "--column" in cli.refused("campaign", "create", "n", *alone)


def test_malformed_rows_are_named_with_their_lines(cli: Cli, tmp_path: Path) -> None:
    options = ("--text", "hello", "--file", "bad.csv")
    assert cli.refused("campaign", "create", "n", *options).splitlines() == [
        "bad.csv: 2 rows are malformed:",
        "line 3: userid: holds a comma, a blank or a control character",
        "line 5: columns: 1 instead of 2",
        "Correct them, or leave them out by `--malformed skip`; `--malformed-file FILE` lists them all.",
    ]
    assert cli.json("campaign", "list") == []
    skip = ("--malformed", "skip", "--malformed-file", "bad-lines.csv")
    created = cli("campaign", "create", "n", *options, *skip)
    assert created.exit_code == 0
    assert (
        "people: 1, calls: 1, duplicates: 1, excluded: 0, malformed: 2, unmatched: 0"
        in created.stdout
    )
    assert "line 5: columns: 1 instead of 2" in created.stderr
    assert (tmp_path / "bad-lines.csv").read_text().splitlines()[2] == "5,columns: 1 instead of 2"
    [made] = cli.json("campaign", "list")
    cli.json("campaign", "start", made["id"])
    named = cli.json("campaign", "report", made["id"], "--outcome", "malformed")["people"]
    assert [(row["name"], row["reason"]) for row in named][1:] == [
        ("u3", "line 5: columns: 1 instead of 2")
    ]


def test_a_preview_shows_what_it_takes(cli: Cli, valkey_url: str, tmp_path: Path) -> None:
    (tmp_path / "dingrelay.toml").write_text('[quota]\nedition = "1000"')
    cli.variables["DINGRELAY_CONFIG"] = "dingrelay.toml"
    with Redis.from_url(valkey_url) as redis:
        key = keys.quota("default", beijing.month(clock.now()))
        redis.hset(key, "calls", 100)
        redis.pexpire(key, keys.QUOTA_TTL_MS)
    options = ("--file", "people.csv", "--rate", "50")
    found = cli.json("campaign", "create", "n", "--dry-run", "--text", "hello {name}", *options)
    assert (found["recipients"], found["calls"], found["plain_calls"]) == (250, 3, 3)
    assert (found["minutes"], found["limit"]) == (5, "50 recipients a minute, its own rate")
    names = ("quota_used", "quota_limit", "quota_share", "fits")
    assert [found[name] for name in names] == [100, 1_000, 0.003, True]
    assert (found["duplicates"], found["excluded"], found["malformed"]) == (0, 0, 0)
    single = cli.shown("campaign", "create", "n", "--dry-run", "--text", "{userid}", *options)
    assert "make 250 calls of it. Without them it takes 3 calls" in single
    assert "25.0% of the month's calls. 100 of 1,000 are used already." in single
    assert cli.json("campaign", "list") == []


def test_people_who_are_not_in_the_directory_are_counted(cli: Cli) -> None:
    """Their look-ups take longer than the calls."""

    async def sync(database: Database) -> None:
        people = [{"userid": f"u{number}", "read_at": 1} for number in range(100)]
        await rows.put(database, UserRow, *people)
        await rows.put(
            database, RunRow, {"run": "walk", "scope": "everything", "closed_at": rows.LONG_AGO}
        )

    plan = ("n", "--text", "hello", "--to", ",".join(f"u{number}" for number in range(200)))
    assert cli.json("campaign", "create", "--dry-run", *plan)["not_in_directory"] is None
    cli.in_database(sync)
    preview = cli.json("campaign", "create", "--dry-run", *plan)
    assert preview["not_in_directory"] == 100
    assert preview["limit"] == "20 calls a second, for look-ups"
    shown = cli.shown("campaign", "create", "--dry-run", *plan)
    assert "100 people are not in the directory" in shown
    assert "The limit is 20 calls a second, for look-ups." in shown
    draft = cli.json("campaign", "create", *plan)
    assert draft["not_in_directory"] == 100
    assert cli.json("campaign", "start", "--dry-run", draft["id"])["not_in_directory"] == 100
    assert "100 people are not in the directory" in cli("campaign", "create", *plan).stderr


@pytest.mark.parametrize("text", ["hello {name}", "{{ hello"])
def test_a_preview_of_a_draft_is_that_of_its_options(cli: Cli, text: str) -> None:
    options = ("--text", text, "--file", "people.csv")
    draft = cli.json("campaign", "create", "n", *options)["id"]
    before = cli.json("campaign", "create", "n", "--dry-run", *options)
    after = cli.json("campaign", "start", "--dry-run", draft)
    counted = ("recipients", "calls", "plain_calls", "minutes")
    for name in (*counted, "limit", "quota_used", "quota_share", "fits"):
        assert after[name] == before[name], name


def test_errors_are_named(cli: Cli) -> None:
    draft = ["create", "n", "--text", "x", "--to", "u1"]
    for arguments, error in (
        (["create", "n", "--text", "x"], "--file, --to, --department, --everyone"),
        (["create", "n", "--to", "u1"], "--text, --markdown, --message"),
        (["create", "n", "--text", "x", "--file", "none.csv"], "none.csv: No such file"),
        ([*draft, "--weight", "0"], "weight: "),
        ([*draft, "--quiet", "8-22"], "quiet: must be like"),
        ([*draft, "--text", "{"], "message.text.content: a single"),
        ([*draft, "--text", "{x}"], "{x} is no field of the directory"),
        (["create", "n", "--text", "x", "--department", "9"], "9 is not in the directory"),
        (["create", "n", "--text", "x", "--everyone"], "no recipient is left"),
        (["start", "some", "--dry-run"], "no campaign some"),
        (["show", "some"], "no campaign some"),
        (["show", "--watch", "some"], "no campaign some"),
        (["start", "some"], "no campaign some"),
    ):
        assert error in cli.refused("campaign", *arguments), arguments


def test_services_that_are_away_are_reported(cli: Cli) -> None:
    away = cli("campaign", "list", DINGRELAY_DATABASE_URL="sqlite:////nowhere/at/all.db")
    assert (away.exit_code, away.stderr.startswith("DINGRELAY_DATABASE_URL: ")) == (3, True)
    options = ("create", "n", "--dry-run", "--text", "x", "--to", "u1")
    for command in (options, ("start", a_campaign(cli, state=State.DRAFT))):
        away = cli("campaign", *command, DINGRELAY_REDIS_URL="redis://127.0.0.1:1/0")
        assert (away.exit_code, away.stderr.startswith("DINGRELAY_REDIS_URL: ")) == (3, True)


def test_ctrl_c_leaves_nothing(cli: Cli, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    command = [sys.executable, "-m", "dingrelay_producers.cli", "campaign", "create", "n"]
    with processes.Popen(
        [*command, "--text", "x", "--file", "pipe"],
        env={**os.environ, **cli.variables},
        stdout=processes.PIPE,
        stderr=processes.PIPE,
    ) as creating:
        # Opening waits for the one who reads. What is read ends only after the signal.
        with pipe.open("w") as rows:
            rows.write("userid\n" + "".join(f"user{number}\n" for number in range(20_000)))
            creating.send_signal(signal.SIGINT)
        output, errors = creating.communicate(timeout=30)
    assert creating.returncode != 0
    assert (output, b"Traceback" in errors) == (b"", False)
    assert cli.json("campaign", "list") == []


def a_campaign(cli: Cli, **fields: Any) -> str:
    return str(cli.in_database(lambda database: campaigns.put(database, **fields)))


def test_a_campaign_is_run_and_cancelled(cli: Cli, valkey_url: str) -> None:
    campaign = a_campaign(cli, state=State.DRAFT)
    signals: set[bytes | None] = set()
    states = {"start": "running", "pause": "paused", "resume": "running", "cancel": "cancelled"}
    for command, state in states.items():
        assert cli.json("campaign", command, campaign) == {"id": campaign, "state": state}
        with Redis.from_url(valkey_url) as redis:
            signals.add(redis.get(keys.CAMPAIGNS))
    assert (len(signals), None in signals) == (4, False)
    assert "is cancelled" in cli.refused("campaign", "resume", campaign)


def test_watch_ends_with_the_campaign(cli: Cli) -> None:
    ended = {"recipients": 4, "accepted": 3, "failed": 1, "settled": 2, "calls": 2}
    campaign = a_campaign(cli, state=State.DONE, **ended)
    (line,) = cli.shown("campaign", "show", "--watch", campaign, "--json").splitlines()
    looked = {"id": campaign, "state": "done", "accepted": 3, "failed": 1, "seconds_left": None}
    assert json.loads(line).items() >= looked.items()
    (shown,) = cli("campaign", "show", "--watch", campaign).output.splitlines()
    assert shown.startswith("done, 4 of 4 people")
    assert "3 accepted, 0 left out, 1 failed" in shown


async def test_watch_prints_lines_where_no_terminal_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One for each change of state, and of progress one each ten seconds."""
    clock = count(0.0, 4.0)
    monkeypatch.setattr("dingrelay_workers.campaigns.cli_pages.time.monotonic", clock.__next__)
    base = {"recipients": 9, "left_out": 0, "failed": 0, "calls": 1, "throttles": 0, "rate": 2.0}
    base |= {"reason": "", "waits": ""}
    seen = [
        ("running", 0, None),
        ("running", 1, 4),
        ("running", 2, 4),
        ("running", 3, 3),
        ("running", 3, 3),
        ("paused", 3, None),
        ("cancelled", 3, None),
    ]

    async def looks() -> AsyncGenerator[dict[str, Any], None]:
        for state, accepted, left in seen:
            yield {**base, "state": state, "accepted": accepted, "seconds_left": left}

    await watch._print_lines(looks())
    lines = capsys.readouterr().out.splitlines()
    looked = [line.partition(" of")[0] for line in lines]
    assert looked == ["running, 0", "running, 3", "paused, 3", "cancelled, 3"]
    assert "0:03 to go" in lines[1]
    assert "to go" not in lines[2] + lines[3]


async def test_a_campaign_that_does_not_run_has_no_end(monkeypatch: pytest.MonkeyPatch) -> None:
    states = iter(("running", "running", "cancelled"))
    accepted = count(1)

    async def look(*_: object) -> dict[str, Any]:
        counts = {"recipients": 10, "accepted": next(accepted), "left_out": 0, "failed": 0}
        return {"state": next(states), **counts}

    @asynccontextmanager
    async def opened(_: object) -> AsyncGenerator[Any, None]:
        yield None

    monkeypatch.setattr(watch, "_look", look)
    monkeypatch.setattr(watch, "LOOK_SECONDS", 0.001)
    monkeypatch.setattr("dingrelay_workers.database.schema.opened", opened)
    monkeypatch.setattr("dingrelay_workers.store.connections.impatient_redis", opened)
    settings: Any = None
    found = [each["seconds_left"] async for each in watch._looks(settings, "c")]
    assert [each is None for each in found] == [True, False, True]
