"""Things in the console are called by their names: messages, robots, groups, objects of the audit."""

from typing import Any

import pytest
from redis.asyncio import Redis

from dingrelay_producers.settings import Settings
from dingrelay_producers.store import record
from dingrelay_producers.store.record import Draft
from dingrelay_producers.store.states import State
from dingrelay_tasks import RobotMessage
from dingrelay_workers.console.titles import title_in
from dingrelay_workers.store.records import Records, Usage
from support import campaigns
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
