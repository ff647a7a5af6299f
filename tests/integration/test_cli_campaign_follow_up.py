"""``dingrelay campaign report`` and what may follow it, on a real database and Valkey."""

import asyncio
import codecs
import csv
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from openpyxl import load_workbook
from redis import Redis as SyncRedis
from redis.asyncio import Redis

from dingrelay_producers.actor import system_user
from dingrelay_producers.publisher import Publisher
from dingrelay_producers.settings import Settings
from dingrelay_producers.store import keys, record, scripts
from dingrelay_producers.store.record import Draft
from dingrelay_producers.store.status import JobStatus
from dingrelay_sandbox.admin import SandboxAdmin
from dingrelay_tasks.campaign_chunk import CampaignChunk
from dingrelay_tasks.campaign_confirm import CampaignConfirm
from dingrelay_tasks.campaign_recall import CampaignRecall
from dingrelay_tasks.contract import Contract
from dingrelay_tasks.message_send import MessageSend
from dingrelay_workers.campaigns.chunks import ChunkEnding, Release
from dingrelay_workers.campaigns.models import CampaignRow, ChunkRow, OutcomeKind, State
from dingrelay_workers.campaigns.queue import unknown
from dingrelay_workers.database.database import Database
from dingrelay_workers.directory.models import DepartmentRow, MembershipRow, UserRow
from dingrelay_workers.jobs.executor import Executor
from dingrelay_workers.resources import Resources
from support import campaigns, rows
from support.command_line import Cli
from support.databases import prepare
from support.jobs import a_wakeup

NOW = datetime.now(UTC)


@pytest.fixture
def variables(sandbox_env: dict[str, str]) -> dict[str, str]:
    prepare(sandbox_env["DINGRELAY_DATABASE_URL"])
    return sandbox_env


def a_campaign(cli: Cli, **fields: Any) -> str:
    """Three chunks of two: u2 has had it, the second call was repeated, the third is pending."""

    async def put(database: Database) -> str:
        state = {"state": State.PAUSED, "started_at": NOW, **fields}
        campaign = await campaigns.put(database, people=6, **state)
        left_out = {OutcomeKind.DUPLICATE: ["u2"]}
        endings = (
            ChunkEnding(Release(0, 1), task_id=7, called_at=NOW, accepted=1, left_out=left_out),
            ChunkEnding(Release(1, 1), task_id=8, called_at=NOW, accepted=2, ambiguous=True),
        )
        await campaigns.end(database, campaign, *endings)
        return campaign

    return str(cli.in_database(put))


def test_a_report_counts_and_names_everybody(cli: Cli, tmp_path: Path) -> None:
    campaign = a_campaign(cli)
    report = cli.json("campaign", "report", campaign, "--csv", "r.csv", "--json-file", "r.ndjson")
    assert (report["id"], report["recipients"], report["calls"]) == (campaign, 6, 2)
    outcomes = {name: people for name, people in report["outcomes"].items() if people}
    assert outcomes == {"accepted": 3, "duplicate": 1, "pending": 2}
    duplicate = {"outcome": "duplicate", "reason": "had this content already that day", "people": 1}
    assert report["reasons"] == [duplicate]
    assert report["ambiguous"] == {"calls": 1, "people": 2}
    rows = table(tmp_path / "r.csv")
    assert [row["userid"] for row in rows] == [f"u{number}" for number in range(1, 7)]
    words = [row.pop("result") for row in rows]
    assert words == ["sent", "not sent", "sent", "sent", "not sent yet", "not sent yet"]
    lines = [json.loads(line) for line in (tmp_path / "r.ndjson").read_text().splitlines()]
    assert [{**line, "task_id": str(line["task_id"] or "")} for line in lines] == rows
    shown = cli("campaign", "report", campaign).stdout
    assert "1 call for 2 people, settled by DingTalk's same-content rule" in shown
    assert "1 duplicate: had this content already that day" in shown


def table(path: Path) -> list[dict[str, str]]:
    """A CSV that Excel opens as UTF-8."""
    assert path.read_bytes().startswith(codecs.BOM_UTF8)
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def test_a_report_as_a_table_has_the_people_of_the_directory_and_no_formula(
    cli: Cli, tmp_path: Path
) -> None:
    campaign = a_campaign(cli)
    formulas = ["=1+1", "+1", "-1", "@a", "\ta", "\ra"]

    async def fill(database: Database) -> None:
        person = {"mobile": "13800000001", "job_number": "0012"}
        people = [
            {**person, "userid": f"u{at}", "name": name} for at, name in enumerate(formulas, 1)
        ]
        await rows.put(database, UserRow, *people)
        names = {5: "研发", 6: "平台"}
        departments = [{"id": number, "name": name} for number, name in names.items()]
        await rows.put(database, DepartmentRow, *departments)
        members = [{"department": number, "userid": "u2"} for number in names]
        await rows.put(database, MembershipRow, *members)

    cli.in_database(fill)
    cli.variables["DINGRELAY_LANGUAGE"] = "zh"
    cli.shown("campaign", "report", campaign, "--csv", "r.csv")
    lines = table(tmp_path / "r.csv")
    assert [line["姓名"] for line in lines] == [f"'{formula}" for formula in formulas]
    assert list(lines[1])[2:] == ["工号", "手机号", "部门", "结果", "原因", "结果代码", "task id"]
    why = ["未发送", "当天已收到此内容", "duplicate", ""]
    assert list(lines[1].values())[2:] == ["0012", "13800000001", "研发/平台", *why]
    cli.shown("campaign", "create", "n", "--text", "{name}", "--file", "r.csv", "--dry-run")


def test_a_report_stands_beside_the_rows_of_the_file_that_named_the_people(
    cli: Cli, tmp_path: Path
) -> None:
    campaign = a_campaign(cli)
    table = (
        ["UserID", "部门", "桌号"],
        ["u1", "财务", "007"],
        ["u 2", "人事"],
        ["u2", "+1"],
        ["u99"],
    )
    (tmp_path / "guests.xlsx").write_bytes(campaigns.xlsx(*table))
    asked = ("campaign", "report", campaign, "--input", "guests.xlsx", "--csv")
    for file in ("r.xlsx", "r.csv"):
        cli.shown(*asked, file)
    sheet: Any = load_workbook(tmp_path / "r.xlsx").active
    rows = [[cell or "" for cell in row] for row in sheet.iter_rows(values_only=True)]
    with (tmp_path / "r.csv").open(encoding="utf-8-sig", newline="") as file:
        assert [*csv.reader(file)] == rows
    assert rows[0] == ["UserID", "部门", "桌号", "result", "reason", "outcome", "task_id"]
    assert [row[:4] for row in rows[1:]] == [
        ["u1", "财务", "007", "sent"],
        ["u 2", "人事", "", "left out"],
        ["u2", "'+1", "", "not sent"],
        ["u99", "", "", "not in the campaign"],
    ]
    assert rows[2][4] == "line 3: userid: holds a comma, a blank or a control character"
    assert cli.refused("campaign", "report", campaign, "--input", "guests.xlsx")
    (tmp_path / "lines").write_text('{"userid": "u1"}', "utf-8")
    refused = cli.refused("campaign", "report", campaign, "--input", "lines", "--csv", "kept.csv")
    assert "input: must be a table with a header" in refused
    assert not (tmp_path / "kept.csv").exists()


def test_a_report_says_what_a_refresh_needs(cli: Cli) -> None:
    shown = " ".join(cli("campaign", "report", a_campaign(cli)).stdout.split())
    assert "within 24 hours of a call, with two calls for each of 2, while workers run" in shown


def test_a_report_that_is_refused_empties_no_file(cli: Cli) -> None:
    Path("r.csv").write_text("kept")
    assert "no campaign none" in cli.refused("campaign", "report", "none", "--csv", "r.csv")
    assert Path("r.csv").read_text() == "kept"
    refused = cli.refused("campaign", "report", a_campaign(cli), "--csv", "nowhere/r.csv")
    assert "nowhere/r.csv: No such file" in refused


def test_a_report_onto_a_full_disk_is_one_line(cli: Cli, tmp_path: Path) -> None:
    campaign = a_campaign(cli)
    before = set(tmp_path.iterdir())
    for option in ("--csv", "--json-file"):
        refused = cli("campaign", "report", campaign, option, "/dev/full")
        assert (refused.exit_code, refused.stdout) == (2, "")
        assert "/dev/full: No space left on device" in refused.stderr
        assert set(tmp_path.iterdir()) == before


async def run_all(cli: Cli, drafts: Sequence[Draft]) -> list[JobStatus]:
    """Run jobs in a worker's resources; how they ended."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in cli.variables.items():
            patch.setenv(name, value)
        settings = Settings.load()
    async with Resources(settings, Publisher(settings)) as resources:
        for draft in drafts:
            await scripts.run_async(resources.redis, record.enqueue(draft))
            await Executor(resources).execute(a_wakeup(draft))
        return [
            JobStatus.from_record(draft.id, await resources.redis.hgetall(keys.job(draft.id)))
            for draft in drafts
        ]


def sent(cli: Cli, *, days_ago: int = 0) -> str:
    """A campaign whose two chunks DingTalk took: to u1 and u2, and to u3 and one it doesn't know."""

    async def put(database: Database) -> str:
        campaign = await campaigns.put(database, people=4, started_at=NOW)
        message = (await campaigns.read(database, campaign)).message
        parts = [["u1", "u2"], ["u3", "stranger"]]
        drafts = [
            record.draft(
                CampaignChunk(campaign=campaign, number=number, users=users, message=message),
                key=f"{campaign}/{number}/1",
            )
            for number, users in enumerate(parts)
        ]
        await campaigns.release(database, campaign, 2)
        endings = [
            ChunkEnding(
                Release(number, 1),
                task_id=(status.result or {})["call"]["task_id"],
                called_at=NOW - timedelta(days=days_ago),
                accepted=2,
            )
            for number, status in enumerate(await run_all(cli, drafts))
        ]
        await rows.change(database, ChunkRow, ChunkRow.number == 1, users="u3,stranger")
        await campaigns.settle(database, campaign, *endings)
        await rows.change(database, CampaignRow, state=State.DONE)
        return campaign

    return str(cli.in_database(put))


def run_accepted(cli: Cli, answer: dict[str, Any], contract: type[Contract]) -> list[JobStatus]:
    """Run the jobs that a command had accepted."""

    async def run() -> list[JobStatus]:
        async with Redis.from_url(cli.variables["DINGRELAY_REDIS_URL"]) as redis:
            payloads = [
                json.loads(await redis.hget(keys.job(each), "payload") or b"{}")
                for each in answer["jobs"]
            ]
        drafts = [record.draft(contract.parse(payload)) for payload in payloads]
        return await run_all(cli, drafts)

    return asyncio.run(run())


def refreshed(cli: Cli, campaign: str, *options: str) -> dict[str, Any]:
    """Queries of a report before it is shown. Nothing runs here that could answer."""
    command = ("campaign", "report", campaign, "--refresh", "--yes", "--timeout", "0", *options)
    found: dict[str, Any] = cli.json(*command, code=1)["refreshed"]
    return found


def test_a_confirmation_reports_the_people_that_it_reached(cli: Cli) -> None:
    campaign = sent(cli)
    answer = refreshed(cli, campaign)
    assert (answer["chunks"], answer["people"], answer["calls"], answer["too_old"]) == (2, 4, 4, 0)
    (status,) = run_accepted(cli, answer, CampaignConfirm)
    assert status.result == {"confirmed": [0, 1], "unfinished": []}
    report = cli.json("campaign", "report", campaign)
    assert (report["outcomes"]["accepted"], report["outcomes"]["invalid"]) == (3, 1)
    counts = {"calls": 2, "people": 4, "delivered": 3, "unread": 3, "invalid": 1}
    assert report["delivery"] == {**dict.fromkeys(("read", "forbidden", "failed"), 0), **counts}
    assert refreshed(cli, campaign, "--sample", "1")["calls"] == 2
    unread = cli.json("campaign", "report", campaign, "--outcome", "unread")["people"]
    assert [each["outcome"] for each in unread] == ["accepted"] * 3
    assert {each["reason"] for each in unread} == {"not read when DingTalk was asked"}


def test_a_recall_takes_back_what_was_sent(cli: Cli, sandbox: SandboxAdmin) -> None:
    campaign = sent(cli)
    refused = cli("campaign", "recall", campaign)
    assert (refused.exit_code, "--yes" in refused.stderr) == (2, True)
    assert "costs: 2 calls" in refused.stdout
    answer = cli.json("campaign", "recall", campaign, "--yes")
    (status,) = run_accepted(cli, answer, CampaignRecall)
    assert status.result == {"recalled": [0, 1], "refused": [], "kept": []}
    (entry,) = sandbox.inbox("u1")["delivered"]
    assert entry["recalled"] is True
    assert cli.json("campaign", "report", campaign)["recalled"] == {"calls": 2, "people": 4}
    assert cli.json("campaign", "recall", campaign)["jobs"] == []


def test_a_recall_says_who_may_keep_the_message(cli: Cli) -> None:
    async def lose(database: Database) -> None:
        await campaigns.end(database, campaign, ChunkEnding(Release(2, 1), error=unknown("lost")))

    campaign = a_campaign(cli)
    cli.in_database(lose)
    answer = cli.json("campaign", "recall", campaign, "--yes")
    assert (answer["repeated"], answer["unknown"], answer["calls"]) == (2, 2, 4)
    shown = cli.shown("campaign", "recall", campaign, "--yes")
    for calls in ("that repeat a lost one", "whose outcome is unknown"):
        assert f"2 people are in calls {calls}" in shown


def test_recalling_a_repeat_names_who_keeps_it(cli: Cli, sandbox: SandboxAdmin) -> None:
    campaign = sent(cli)

    async def repeat(database: Database) -> None:
        """Repeat the first call as after a lost answer: DingTalk drops the repeat."""
        message = (await campaigns.read(database, campaign)).message
        to = {"users": ["u1", "u2"]}
        job = MessageSend.parse({"to": to, "message": message, "allow_duplicate": True})
        [status] = await run_all(cli, [record.draft(job)])
        task = (status.result or {})["calls"][0]["task_id"]
        repeated = {"task_id": task, "ambiguous": True}
        await rows.change(database, ChunkRow, ChunkRow.number == 0, **repeated)

    cli.in_database(repeat)
    answer = cli.json("campaign", "recall", campaign, "--yes")
    assert (answer["repeated"], answer["calls"]) == (2, 4)
    (status,) = run_accepted(cli, answer, CampaignRecall)
    assert status.result == {"recalled": [0, 1], "refused": [], "kept": ["u1", "u2"]}
    assert [entry["recalled"] for entry in sandbox.inbox("u1")["delivered"]] == [False]
    report = cli.json("campaign", "report", campaign)
    assert (report["outcomes"]["kept"], report["recalled"]["people"]) == (2, 2)


def test_chunks_that_are_too_old_are_counted_and_left_alone(cli: Cli) -> None:
    campaign = sent(cli, days_ago=2)
    report = cli.json("campaign", "report", campaign, "--refresh")
    for answer in (cli.json("campaign", "recall", campaign), report["refreshed"]):
        assert (answer["too_old"], answer["calls"], answer["jobs"]) == (2, 0, [])


def test_a_test_is_an_urgent_message_to_the_testers(cli: Cli) -> None:
    campaign = a_campaign(cli)
    reviewed_by(cli, "u198", "u199")
    job = cli.json("campaign", "test", campaign, "--to", "u198,u199")
    assert (job["kind"], job["lane"]) == ("message-send", "urgent")
    refused = cli.refused("campaign", "test", campaign, "--to", "u198", "--field", "name=x")
    assert "no field {name}" in refused
    refused = cli.refused("campaign", "test", campaign, "--to", "u1")
    assert "u1 is neither a writer nor a reviewer" in refused
    assert "not known which person" in cli.refused("campaign", "test", campaign)
    people = json.dumps({"reviewers": [], "shell_users": {system_user(): "u7"}})
    cli.variables["DINGRELAY_CAMPAIGNS"] = people
    assert cli.json("campaign", "test", campaign)["kind"] == "message-send"


def reviewed_by(cli: Cli, *reviewers: str) -> None:
    cli.variables["DINGRELAY_CAMPAIGNS"] = json.dumps({"reviewers": reviewers})


def test_a_test_fills_in_the_fields(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "people.csv").write_text("userid,name\nu1,Ann\nu2,Bob\n")
    options = ("--text", "Dear {name}", "--file", "people.csv")
    campaign = cli.json("campaign", "create", "n", *options)["id"]
    reviewed_by(cli, "u9")

    def text(*fields: str) -> str:
        job = cli.json("campaign", "test", campaign, "--to", "u9", *fields)["id"]
        with SyncRedis.from_url(cli.variables["DINGRELAY_REDIS_URL"]) as redis:
            message = json.loads(redis.hget(keys.job(job), "payload"))["message"]
        return str(message["text"]["content"])

    assert text() == "【测试】\nDear Ann"
    assert text("--field", "name=Cho") == "【测试】\nDear Cho"
    full = ("--field", f"name={'x' * 4_995}")
    refused = cli.refused("campaign", "test", campaign, "--to", "u9", *full)
    assert "oneself only" in refused, "there is no room for the mark"
    refused = cli.refused("campaign", "test", campaign, "--to", "u9", "--field", "name")
    assert "name=value" in refused


def test_chunks_under_way_at_a_pause_are_recalled_too(cli: Cli, sandbox: SandboxAdmin) -> None:
    campaign = a_campaign(cli, state=State.RUNNING)

    async def pause_with_a_call_under_way(database: Database) -> None:
        await campaigns.release(database, campaign, 1)
        await rows.change(database, CampaignRow, state=State.PAUSED)

    cli.in_database(pause_with_a_call_under_way)
    answer = cli.json("campaign", "recall", campaign, "--yes")
    assert (answer["chunks"], answer["people"], answer["under_way"]) == (3, 5, 1)
    assert "of these, 1 is under way" in cli("campaign", "recall", campaign, "--yes").output


def test_a_report_is_no_formula_for_a_spreadsheet(cli: Cli, tmp_path: Path) -> None:
    campaign = a_campaign(cli)

    async def rename(database: Database) -> None:
        users = "=HYPERLINK(A1),@x"
        await rows.change(database, ChunkRow, ChunkRow.number == 1, users=users)

    cli.in_database(rename)
    cli.json("campaign", "report", campaign, "--csv", "r.csv")
    text = (tmp_path / "r.csv").read_text("utf-8")
    assert [line.split(",")[0] for line in text.splitlines()][3:5] == ["'=HYPERLINK(A1)", "'@x"]


def test_recall_while_running_and_a_sample_without_refresh_are_refused(cli: Cli) -> None:
    running = a_campaign(cli, state=State.RUNNING)
    assert "pause or cancel it first" in cli.refused("campaign", "recall", running, "--yes")
    assert "--refresh" in cli.refused("campaign", "report", "c", "--sample", "1")


def test_a_dry_run_sends_nothing(cli: Cli, sandbox: SandboxAdmin) -> None:
    campaign = a_campaign(cli, state=State.DRAFT)
    plan = cli.json("campaign", "start", campaign, "--dry-run")
    assert (plan["id"], plan["recipients"], plan["calls"]) == (campaign, 6, 3)
    assert [each["userid"] for each in plan["first"]] == ["u5", "u6"]
    assert f"news {campaign}" in cli.shown("campaign", "start", campaign, "--dry-run")
    assert cli.json("campaign", "show", campaign)["state"] == "draft"
    assert sandbox.calls() == []
