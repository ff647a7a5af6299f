"""Things in the console are called by their names: messages, robots, groups, objects of the audit."""

import json
import uuid
from typing import Any

import pytest
from redis.asyncio import Redis

from dingrelay_producers import Client
from dingrelay_producers.settings import Settings
from dingrelay_producers.store import record
from dingrelay_producers.store.record import Draft
from dingrelay_producers.store.states import State
from dingrelay_tasks import MessageSend, RobotMessage
from dingrelay_workers.audit.models import AuditRow
from dingrelay_workers.console.limits import api_words
from dingrelay_workers.console.titles import title_in
from dingrelay_workers.history.models import JobRow, RecipientRow
from dingrelay_workers.store.records import Records, Usage
from support import campaigns, rows
from support.consoles import Browser
from support.jobs import claimed, enqueue, message

CARD = {"msgtype": "markdown", "markdown": {"title": "Disk of db-1", "text": "#### 93 %"}}


async def ended(redis: Redis, records: Records, draft: Draft, result: Any) -> None:
    await enqueue(redis, draft)
    await records.settle(await claimed(records, draft), State.DONE, usage=Usage(), result=result)


async def test_a_message_reads_as_its_title_and_an_alert_names_group_and_robot(
    browser: Browser, redis: Redis, records: Records
) -> None:
    alert = record.draft(RobotMessage.parse({"to": {"group": "oncall"}, "message": CARD}))
    posts = [{"robot": "alerts1", "group": "oncall", "users": [], "query_key": ""}]
    await ended(redis, records, alert, {"posts": posts})
    notice = record.draft(message("u1", message=CARD))
    await ended(redis, records, notice, {"accepted": 1})
    code = record.draft(message("u1", text="your code is 4711"))
    await ended(redis, records, code, {"accepted": 1})
    await browser.sign_in("ops", "operate")
    jobs = await browser.text("/jobs")
    assert jobs.count(">Disk of db-1</a>") == 2
    assert ("group oncall" in jobs, "alerts1" in jobs, "4711" in jobs) == (True, True, False)
    page = await browser.text(f"/jobs/{alert.id}")
    for words in ("<h1>Disk of db-1", "group oncall", "alerts1"):
        assert words in page


@pytest.mark.parametrize(
    ("payload", "title"),
    [
        (b'{"message": {"oa": {"body": {"title": "Leave"}}}}', "Leave"),
        (b'{"message": {"actionCard": {"title": " Build 7 "}}}', "Build 7"),
        (b'{"message": {"text": {"content": "secret"}}}', ""),
        (b'{"message": {"link": [1]}}', ""),
        (b'{"message": {"markdown": {"title": 7}}}', ""),
        (b"[1]", ""),
        (b"{", ""),
        (b"", ""),
    ],
)
def test_a_title_is_read_from_any_job(payload: bytes, title: str) -> None:
    assert title_in(payload) == title


async def test_the_audit_names_what_was_changed(browser: Browser, settings: Settings) -> None:
    kept = await campaigns.put(browser.database, name="Autumn")
    await campaigns.move(settings, browser.database, kept, "cancel")
    await browser.sign_in("root")
    page = await browser.text("/settings/audit")
    assert f'title="{kept}">Autumn</a>' in page


async def test_a_form_that_is_too_large_is_refused_on_a_page_in_the_readers_language(
    browser: Browser,
) -> None:
    await browser.sign_in()
    for language, words in (("zh-CN", "内容太大"), ("en", "too large for one form")):
        status, text = await browser.send(
            "/language", {"back": "x" * 30_000}, **{"Accept-Language": language}
        )
        assert (status, words in text, text.count("<nav")) == (413, True, 2)


async def test_jobs_in_the_audit_are_called_by_title_or_kind(
    browser: Browser, redis: Redis, client: Client
) -> None:
    card = {"msgtype": "markdown", "markdown": {"title": "七月工资条", "text": "请查收"}}
    titled = client.send(MessageSend.parse({"to": {"users": ["u1"]}, "message": card}))
    plain = client.send(message(text="您好"))
    gone = str(uuid.uuid4())
    kept = {"job": gone, "kind": "approval-create", "app": "default"}
    await rows.put(browser.database, JobRow, kept)
    for job_id in (titled.id, plain.id, gone):
        changed = {
            "door": "cli",
            "kind": "job",
            "action": "cancel",
            "object": job_id,
            "app": "default",
        }
        await rows.put(browser.database, AuditRow, changed)
    await browser.sign_in()
    page = await browser.text("/settings/audit?kind=job")
    for job_id, name in (
        (titled.id, "七月工资条"),
        (plain.id, "work notification"),
        (gone, "new approval"),
    ):
        assert f'title="{job_id}">{name}</a>' in page


async def test_a_title_is_read_from_the_history_once_the_record_is_gone(
    browser: Browser,
) -> None:
    await browser.sign_in()
    content = {"message": {"msgtype": "markdown", "markdown": {"title": "七月工资条", "text": ""}}}
    kept = {"kind": "message-send", "app": "default", "lane": "normal", "state": "done"}
    kept["summary"] = "message-send markdown users=1"
    for job_id, text in ((str(uuid.uuid4()), json.dumps(content)), (str(uuid.uuid4()), None)):
        await rows.put(browser.database, JobRow, {**kept, "job": job_id, "content": text})
        await rows.put(
            browser.database, RecipientRow, {"job": job_id, "user": "u1", "outcome": "accepted"}
        )
        called = "七月工资条" if text else "work notification"
        assert f"<h1>{called}" in await browser.text(f"/jobs/{job_id}")
    assert (await browser.text("/people/u1")).count("七月工资条") == 1
    assert (await browser.text("/jobs")).count("七月工资条") == 1


@pytest.mark.parametrize(
    ("api", "words"),
    [
        ("robot.webhook@0123456789ab", "robot alerts"),
        ("robot.webhook@ba9876543210", "robot ba9876…, unnamed"),
        ("message.send", "message.send"),
        ("*", "all calls of this address"),
    ],
)
def test_a_limit_names_its_robot(api: str, words: str) -> None:
    assert api_words(api, {"robot.webhook@0123456789ab": "alerts"}) == words
