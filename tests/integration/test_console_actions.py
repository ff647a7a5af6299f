"""What people do in the console to jobs, approvals and webhooks: each change with its effect, once, and only from the state that was seen."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from html import escape
from typing import Any
from urllib.parse import quote

import pytest
from redis.asyncio import Redis
from sqlalchemy import insert, select, update

from console_data import HTML
from consoles import Browser, browsing
from dingrelay_producers.settings import Settings
from dingrelay_producers.store import keys, record
from dingrelay_producers.store.record import Draft
from dingrelay_producers.store.states import State
from dingrelay_workers.approvals.models import ApprovalRow, ApprovalTaskRow
from dingrelay_workers.audit.models import AuditRow
from dingrelay_workers.console import dead, webhooks
from dingrelay_workers.console.sessions import Sessions
from dingrelay_workers.console.sign_in import SESSION_COOKIE
from dingrelay_workers.console.visit import PAGE
from dingrelay_workers.directory.models import UserRow
from dingrelay_workers.history.models import JobRow, RecipientRow
from dingrelay_workers.outbox import outbox
from dingrelay_workers.outbox.models import DeliveryRow
from dingrelay_workers.outbox.notice import Notice
from dingrelay_workers.roles.service import RoleRequest, RoleService
from dingrelay_workers.store.records import Records, Usage
from jobs import cancel, claimed, enqueue, message, queued, running, state
from subscriptions import subscribe

ENGLISH = {"Accept-Language": "en"}


@pytest.fixture
async def browser(settings: Settings) -> AsyncIterator[Browser]:
    async with browsing(settings) as found:
        await found.sign_in("ops", "operate")
        yield found


async def ended(
    redis: Redis,
    records: Records,
    to: State = State.DEAD,
    code: str = "60121",
    user: str = "u1",
    **fields: Any,
) -> Draft:
    """A job that has failed, with HTML in what DingTalk said."""
    draft = record.draft(message(user, **fields))
    await enqueue(redis, draft)
    error = {"class": "not_found", "code": code, "message": HTML, "hint": HTML}
    await records.settle(await claimed(records, draft), to, usage=Usage(), error=error)
    return draft


async def audited(browser: Browser) -> list[tuple[str, str, str]]:
    """Actor, action and object of each change in the audit."""
    query = select(AuditRow.actor, AuditRow.action, AuditRow.object).where(AuditRow.kind == "job")
    async with browser.database.read() as connection:
        rows = await connection.execute(query.order_by(AuditRow.number))
        return [(actor, action, name) for actor, action, name in rows]


async def test_a_waiting_job_is_cancelled_and_a_running_one_is_not_tried_again(
    browser: Browser, redis: Redis, records: Records
) -> None:
    waiting = await queued(redis)
    page = f"/jobs/{waiting.id}"
    assert await browser.submit(page, f"{page}/cancel") == 303
    assert await state(redis, waiting) == "cancelled"
    _, text = await browser.get(browser.location, **ENGLISH)
    assert "The job is cancelled." in text
    runs, _ = await running(redis, records, text="runs")
    page = f"/jobs/{runs.id}"
    assert await browser.submit(page, f"{page}/cancel") == 303
    assert await redis.hget(keys.job(runs.id), "cancel") == b"1"
    _, text = await browser.get(browser.location, **ENGLISH)
    assert "this run goes on" in text
    assert await audited(browser) == [
        ("ops", "cancel", waiting.id),
        ("ops", "cancel", runs.id),
    ]


async def test_a_dead_job_is_requeued_once_by_a_double_click(
    browser: Browser, redis: Redis, records: Records
) -> None:
    job = await ended(redis, records)
    page = f"/jobs/{job.id}"
    form = (await browser.forms(page))[f"{page}/requeue"]
    both = await asyncio.gather(*(browser.post(f"{page}/requeue", form) for _ in range(2)))
    assert both == [303, 303]
    assert await state(redis, job) == "queued"
    assert len(await audited(browser)) == 1


async def test_a_form_of_another_state_changes_nothing_and_says_what_has_changed(
    browser: Browser, redis: Redis, records: Records
) -> None:
    job = await queued(redis)
    page = f"/jobs/{job.id}"
    form = (await browser.forms(page))[f"{page}/cancel"]
    await records.settle(await claimed(records, job), State.DONE, usage=Usage())
    status, text = await browser.send(f"{page}/cancel", form, **{"Accept-Language": "en"})
    assert status == 409
    assert "not over yet" in text
    assert await state(redis, job) == "done"
    assert f"{page}/cancel" not in await browser.forms(page)


async def test_a_job_is_discarded_after_a_question(
    browser: Browser, redis: Redis, records: Records
) -> None:
    job = await ended(redis, records)
    page = f"/jobs/{job.id}/discard"
    assert await browser.submit(page, page) == 303
    assert await state(redis, job) == "none"
    assert await audited(browser) == [("ops", "discard", job.id)]


@pytest.mark.parametrize(("happened", "after"), [("yes", "done"), ("no", "queued")])
async def test_a_job_is_resolved_with_a_reason(
    browser: Browser, redis: Redis, records: Records, happened: str, after: str
) -> None:
    job = await ended(redis, records, State.UNKNOWN, "unknown")
    page = f"/jobs/{job.id}/resolve"
    assert await browser.submit(page, page, happened=happened, reason="") == 400
    assert await browser.submit(page, page, happened="perhaps", reason="seen") == 400
    assert await state(redis, job) == "unknown"
    assert await browser.submit(page, page, happened=happened, reason=f"seen {HTML}") == 303
    assert await state(redis, job) == after
    async with browser.database.read() as connection:
        assert (
            await connection.scalar(select(AuditRow.reason).where(AuditRow.kind == "job"))
            == f"seen {HTML}"
        )
    status, text = await browser.get(f"/jobs/{job.id}")
    assert status == 200
    assert HTML not in text


@pytest.mark.parametrize(("change", "after"), [("requeue", "queued"), ("discard", "none")])
async def test_failed_jobs_of_a_code_are_changed_after_their_number_is_typed(
    browser: Browser, redis: Redis, records: Records, change: str, after: str
) -> None:
    chosen = [await ended(redis, records, text=f"text {each}") for each in range(12)]
    other = await ended(redis, records, code="33012", text="other")
    _, groups = await browser.get("/dead", **ENGLISH)
    assert escape(HTML) in groups
    page = f"/dead/{change}?state=dead&code=60121"
    assert page in groups.replace("&amp;", "&")
    _, question = await browser.get(page, **ENGLISH)
    assert question.count("<li>") == dead.EXAMPLES
    assert await browser.submit(page, page, count="11") == 400
    assert await browser.submit(page, page, count="12") == 303
    assert {await state(redis, each) for each in chosen} == {after}
    assert await state(redis, other) == "dead"
    assert sorted(await audited(browser)) == sorted(("ops", change, each.id) for each in chosen)
    _, text = await browser.get(browser.location, **ENGLISH)
    assert re.search("12 jobs are (requeued|discarded)", text)


async def test_ticked_jobs_are_requeued_and_no_others(
    browser: Browser, redis: Redis, records: Records
) -> None:
    ticked, other = [await ended(redis, records, text=f"text {each}") for each in range(2)]
    _, text = await browser.get("/jobs?q=state:dead")
    assert f'name="job" value="{ticked.id}"' in text
    page = f"/dead/requeue?job={ticked.id}"
    form = (await browser.forms(page))[page]
    # The URL of the form names the jobs: the token was made for these.
    assert await browser.post(f"/dead/requeue?job={other.id}", form | {"count": "1"}) == 409
    assert await browser.post(page, form | {"count": "1"}) == 303
    assert await state(redis, ticked) == "queued"
    assert await state(redis, other) == "dead"


async def test_more_failed_jobs_than_were_asked_about_are_not_changed(
    browser: Browser, redis: Redis, records: Records
) -> None:
    job = await ended(redis, records)
    page = "/dead/discard?state=dead&code=60121"
    form = (await browser.forms(page))[page]
    later = await ended(redis, records, text="later")
    assert await browser.post(page, form | {"count": "1"}) == 409
    assert {await state(redis, each) for each in (job, later)} == {"dead"}


async def test_who_may_only_look_is_offered_nothing_and_refused(
    browser: Browser, redis: Redis, records: Records, settings: Settings
) -> None:
    job = await ended(redis, records)
    page = f"/jobs/{job.id}"
    form = (await browser.forms(page))[f"{page}/requeue"]
    async with browsing(settings) as reader:
        await reader.sign_in("reader", "view")
        assert set(await reader.forms(page)) == {"/language", "/sign-out"}
        _, text = await reader.get("/dead")
        assert "/dead/requeue" not in text
        for path in ("requeue", "discard", "cancel", "resolve"):
            assert await reader.post(f"{page}/{path}", form) == 403
        for path in (f"{page}/resolve", "/dead/requeue?state=dead&code=60121"):
            assert (await reader.get(path))[0] == 403
    assert await state(redis, job) == "dead"


async def test_what_is_gone_or_can_not_be_changed_so_is_refused(
    browser: Browser, redis: Redis, records: Records
) -> None:
    for path in ("/jobs/none/discard", "/dead/forget?state=dead&code=1", "/dead/requeue"):
        assert (await browser.get(path))[0] == 404
    job, failed = await queued(redis), await ended(redis, records, text="failed")
    form = (await browser.forms(f"/jobs/{failed.id}"))[f"/jobs/{failed.id}/requeue"]
    await cancel(redis, job.id)
    for change in ("discard", "resolve"):
        assert (await browser.get(f"/jobs/{job.id}/{change}"))[0] == 409
    assert await browser.post(f"/jobs/{failed.id}/discard", form) == 403  # of another form
    assert await audited(browser) == []
    assert (await browser.get(f"/jobs?q={failed.id}"))[0] == 303


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ("nonsense", "nonsense"),
        ("stat:dead", "there are state, app, to"),
        ("state:", "state: a value is missing"),
        ("state:gone", "state: there is no"),
        ("lane:fast", "urgent, normal, bulk"),
        ("since:soon", "since: must be"),
        ("until:2026-99-01", "until: must be"),
        ("app:<script>", "No job fits"),
    ],
)
async def test_the_filter_names_the_field_that_it_can_not_read(
    browser: Browser, asked: str, says: str
) -> None:
    status, text = await browser.get(f"/jobs?q={asked}", **ENGLISH)
    assert status == (200 if "fits" in says else 400)
    assert says in text
    assert f'value="{escape(asked)}"' in text


async def test_the_filter_finds_by_code_person_and_time(
    browser: Browser, redis: Redis, records: Records
) -> None:
    one = await ended(redis, records, user="u/7")
    two = await ended(redis, records, code="33012", text="two")
    for asked, found in (
        ("code:60121", {one.id}),
        ("state:dead code:33012", {two.id}),
        ("to:u/7", {one.id}),
        ("since:1h", {one.id, two.id}),
        ("until:1h", set[str]()),
        ("app:other", set[str]()),
    ):
        _, text = await browser.get("/jobs?q=" + asked.replace(" ", "+"))
        assert {each for each in (one.id, two.id) if f"/jobs/{each}" in text} == found, asked
    _, text = await browser.get(f"/jobs/{one.id}")
    assert 'href="/people/u%2F7"' in text
    assert (await browser.get("/people/u%2F7"))[0] == 200


async def notices(browser: Browser, *states: str) -> list[int]:
    """Deliveries to the endpoint in these states; the numbers of their notices."""
    await subscribe(browser.database, name=HTML, url="https://a.example/<script>")
    numbers: list[int] = []
    async with browser.database.write("tests") as connection:
        for each in states:
            data = {"id": each}
            notice = Notice(type="job.dead", app="default", at=datetime.now(UTC), data=data)
            (number,) = (await outbox.record(connection, [notice])).values()
            row = {"endpoint": "drw_test", "notice": number, "state": each, "reason": HTML}
            await connection.execute(insert(DeliveryRow), row | {"attempts": 3, "code": "http_503"})
            numbers.append(number)
    return numbers


async def delivery_states(browser: Browser) -> list[str]:
    query = select(DeliveryRow.state).order_by(DeliveryRow.notice)
    async with browser.database.read() as connection:
        return list(await connection.scalars(query))


async def test_an_endpoint_is_paused_and_resumed_with_or_without_what_waits(
    browser: Browser,
) -> None:
    await notices(browser, "pending", "delivered")
    page = "/webhooks/drw_test"
    form = (await browser.forms(page))[f"{page}/pause"]
    assert await browser.post(f"{page}/pause", form) == 303
    assert await browser.post(f"{page}/pause", form | {"more": "1"}) == 409
    assert await browser.submit(f"{page}/skip", f"{page}/resume", count="7") == 400
    assert await browser.submit(page, f"{page}/resume") == 303
    assert await delivery_states(browser) == ["pending", "delivered"]
    assert await browser.submit(page, f"{page}/pause") == 303
    assert await browser.submit(f"{page}/skip", f"{page}/resume", count="1") == 303
    assert await delivery_states(browser) == ["skipped", "delivered"]


async def test_one_notice_or_those_since_a_time_are_delivered_again(browser: Browser) -> None:
    dead, delivered = await notices(browser, "dead", "delivered")
    page = "/webhooks/drw_test"
    _, text = await browser.get(page)
    assert HTML not in text
    assert text.count('name="notice"') == 2
    assert await browser.submit(page, f"{page}/replay", notice=str(dead)) == 303
    assert await delivery_states(browser) == ["pending", "delivered"]
    assert await browser.submit(page, f"{page}/replay", notice="12345") == 409
    assert await browser.submit(page, f"{page}/replay", since="soon") == 400
    assert await browser.submit(page, f"{page}/replay", since="2d") == 303
    assert await delivery_states(browser) == ["pending", "pending"]
    _, text = await browser.get(browser.location, **ENGLISH)
    assert "2 notices are delivered again" in text
    _, text = await browser.get(f"{page}?state=dead", **ENGLISH)
    assert "No delivery fits." in text
    assert (await browser.get(f"{page}?state=gone"))[0] == 400
    assert (await browser.get(f"{page}?after=x"))[0] == 400
    assert delivered


async def test_deliveries_are_shown_a_page_at_a_time(browser: Browser) -> None:
    await notices(browser, *["delivered"] * (PAGE + 1))
    path, seen = "/webhooks/drw_test", 0
    while path:
        _, text = await browser.get(path)
        seen += text.count("job.dead</td>") + text.count("job.dead<br>")
        more = re.search(r'rel="next" href="([^"]+)"', text)
        path = more[1].replace("&amp;", "&") if more else ""
    assert seen == PAGE + 1


async def test_a_test_without_a_worker_says_so(
    browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "TEST_SECONDS", 0.1)
    await notices(browser)
    page = "/webhooks/drw_test"
    assert await browser.submit(page, f"{page}/test") == 303
    _, text = await browser.get(browser.location, **ENGLISH)
    assert "No worker has sent the test yet" in text


async def an_approval(browser: Browser, instance: str = "i/1", **fields: Any) -> str:
    """An approval for which u2 has to decide; the path of its page."""
    now = datetime.now(UTC)
    names = ("job", "sender", "template", "business_id", "link")
    row = {
        **dict.fromkeys(names, ""),
        **dict.fromkeys(("created_at", "known_at", "changed_at"), now),
        "app": "default",
        "instance": instance,
        "originator": "u1",
        "title": HTML,
        "state": "running",
        "source": "event",
        "looks": 0,
    }
    task = {"app": "default", "instance": instance, "task": "t1", "user": "u2", "state": "running"}
    async with browser.database.write("tests") as connection:
        await connection.execute(insert(ApprovalRow).values(**row | fields))
        await connection.execute(insert(ApprovalTaskRow).values(**task, since=now))
    return f"/approvals/default/{quote(instance, safe='')}"


async def job_of(browser: Browser, redis: Redis) -> dict[str, Any]:
    """What the job asks for to which the last form led."""
    id_ = re.sub(r".*/jobs/|\?.*", "", browser.location)
    return json.loads(await redis.hget(keys.job(id_), "payload") or b"{}")


async def test_an_approval_is_withdrawn_or_decided_by_a_job(browser: Browser, redis: Redis) -> None:
    page = await an_approval(browser, link="javascript:alert(1)")
    _, text = await browser.get(page)
    assert HTML not in text
    assert "javascript:" not in text
    form = (await browser.forms(page))[f"{page}/decide"]
    assert form["user"] == "u2"
    agrees = form | {"decision": "agree", "reason": "ok"}
    assert [await browser.post(f"{page}/decide", agrees) for _ in range(2)] == [303, 303]
    job = await job_of(browser, redis)
    assert (job["instance"], job["user"], job["decision"]) == ("i/1", "u2", "agree")
    assert await browser.post(f"{page}/decide", form | {"user": "u9"}) == 400
    assert await browser.submit(page, f"{page}/terminate", reason="") == 400
    assert await browser.submit(page, f"{page}/terminate", reason="x" * 5_000) in {400, 422}
    assert await browser.submit(page, f"{page}/terminate", reason="by mistake") == 303
    assert (await job_of(browser, redis))["body"]["remark"] == "by mistake"
    query = select(AuditRow.action, AuditRow.reason).where(AuditRow.kind == "approval")
    async with browser.database.read() as connection:
        rows = (await connection.execute(query.order_by(AuditRow.number))).all()
    assert [tuple(row) for row in rows] == [("agree", "ok"), ("terminate", "by mistake")]


async def test_an_approval_that_has_ended_since_is_not_decided(
    browser: Browser, redis: Redis
) -> None:
    page = await an_approval(browser)
    form = (await browser.forms(page))[f"{page}/terminate"] | {"reason": "late"}
    async with browser.database.write("tests") as connection:
        await connection.execute(update(ApprovalRow).values(state="approved"))
    assert await browser.post(f"{page}/terminate", form) == 409
    assert set(await browser.forms(page)) == {"/language", "/sign-out"}
    for path in ("/approvals/other/i%2F1", "/approvals/default/none"):
        assert (await browser.get(path))[0] == 404
    _, text = await browser.get("/approvals?state=running", **ENGLISH)
    assert "No approval fits." in text
    assert (await browser.get("/approvals?state=gone"))[0] == 400
    assert not await redis.exists(keys.RECENT)


async def test_what_a_role_does_not_cover_is_neither_shown_nor_changed(
    browser: Browser, redis: Redis, records: Records
) -> None:
    other = await ended(redis, records, text="other")
    lane = await ended(redis, records, text="lane", app="hr", lane="urgent")
    own = await ended(redis, records, text="own", app="hr", lane="bulk")
    approval = await an_approval(browser)
    await notices(browser, "delivered")
    named = {"app": "default", "userid": "clerk", "name": "张三", "fields": {}, "met_in": 1}
    reads = dict.fromkeys(("read_at", "detailed_at", "placed_at"), 1)
    async with browser.database.write("tests") as connection:
        await connection.execute(insert(UserRow).values(**named, **reads))
    asked = {"subject": "clerk", "role": "operate", "apps": ["hr"], "lanes": ["bulk"]}
    await RoleService(browser.database).give(RoleRequest.parse(asked))
    session = await Sessions(browser.database).begin("default", "clerk")
    assert session is not None
    browser.session.cookie_jar.clear()
    browser.session.cookie_jar.update_cookies({SESSION_COOKIE: session.token})
    for path in ("/jobs", "/jobs?q=state:dead", "/dead/requeue?state=dead&code=60121"):
        _, text = await browser.get(path)
        assert own.id in text, path
        assert other.id not in text, path
        assert lane.id not in text, path
    for path in (f"/jobs/{other.id}", f"/jobs/{lane.id}/discard", approval, "/webhooks/drw_test"):
        assert (await browser.get(path))[0] == 404, path
    for path in ("/approvals", "/webhooks", "/limits", "/people/u2"):
        status, text = await browser.get(path)
        assert (status, escape(HTML) in text) == (200, False), path
    for person in ("one", "two"):
        async with browser.database.write("tests") as connection:
            same = {**named, "userid": person, "name": "李四"}
            await connection.execute(insert(UserRow).values(**same, **reads))
    assert (await browser.get("/jobs?q=to:李四"))[0] == 200  # of another app's directory
    _, text = await browser.get("/", **ENGLISH)
    assert "may have happened: 1, of these 1" in text
    page = "/dead/requeue?state=dead&code=60121"
    assert await browser.submit(page, page, count="1") == 303
    assert [await state(redis, each) for each in (other, lane, own)] == ["dead", "dead", "queued"]


def a_row(at: datetime, **fields: Any) -> dict[str, Any]:
    """A message in the history."""
    names = ("key", "error_class", "error_code", "sender")
    return {
        **dict.fromkeys(names, ""),
        **dict.fromkeys(("created_at", "started_at", "ended_at"), at),
        "kind": "message-send",
        "app": "default",
        "lane": "normal",
        "state": "done",
        "attempts": 1,
        "throttles": 0,
        "ids": [],
        "summary": HTML,
        "content": None,
        **fields,
    }


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ("text users=1", "a text to one person"),
        ("oa users=20 departments=1", "a notice to departments"),
        ("action_card users=20", "a card to 20 people"),
        ("markdown everyone", "a formatted text to everyone"),
        ("sticker users=20", "sticker to 20 people"),
    ],
)
async def test_a_message_to_a_person_is_in_words_with_what_to_do(
    browser: Browser, what: str, says: str
) -> None:
    now, id_ = datetime.now(UTC), "00000000-1111-4111-8111-111111111111"
    summary = f"message-send app=default lane=normal sender=hr {what}"
    row = a_row(now, job=id_, state="dead", error_class="permission", error_code="60011")
    async with browser.database.write("tests") as connection:
        await connection.execute(insert(JobRow).values(**row | {"summary": summary}))
        got = {"job": id_, "user": "u1", "outcome": "not_sent", "at": now}
        await connection.execute(insert(RecipientRow).values(**got))
    for path in ("/people/u1", f"/jobs/{id_}"):
        _, text = await browser.get(path, **ENGLISH)
        assert "Grant the app this permission" in text, path
        assert "`" not in text
        assert says in text or "/jobs/" in path


async def test_messages_to_a_person_are_shown_by_time_and_a_page_at_a_time(
    browser: Browser,
) -> None:
    now = datetime.now(UTC)
    job = a_row(now)
    jobs = [f"{number:08d}-1111-4111-8111-111111111111" for number in range(PAGE + 5)]
    async with browser.database.write("tests") as connection:
        for number, id_ in enumerate(jobs):
            at = now - timedelta(hours=number // 2)  # two at each moment
            await connection.execute(insert(JobRow).values(**job, job=id_))
            row = {"job": id_, "user": "u/1", "outcome": "duplicate", "at": at}
            await connection.execute(insert(RecipientRow).values(**row))
    path, seen = "/people/u%2F1", list[str]()
    while path:
        status, text = await browser.get(path)
        assert (status, HTML in text) == (200, False)
        seen += re.findall(r'href="/jobs/([^"]+)"', text)
        more = re.search(r'rel="next" href="([^"]+)"', text)
        path = "/people/u%2F1" + more[1].replace("&amp;", "&") if more else ""
    assert sorted(seen) == jobs
    for asked, count in (("since=90m", 4), ("until=90m", PAGE), ("since=1d&until=22h", 4)):
        _, text = await browser.get(f"/people/u%2F1?{asked}")
        assert text.count('href="/jobs/0') == count, asked
    for asked in ("since=soon", "until=x", "after=x"):
        assert (await browser.get(f"/people/u%2F1?{asked}"))[0] == 400
